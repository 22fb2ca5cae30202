//! Eventual mode's replica with what it counts, as numbers for metrics.

use quorumor_core::{Input, Mono, Now, Output, Replica, View, WakeReason};
use quorumor_gossip::GossipReplica;

/// A replica that tells its counters.
#[derive(Debug)]
pub(super) struct Counted(pub(super) GossipReplica);

impl Replica for Counted {
    fn handle(&mut self, now: Now, input: Input) {
        self.0.handle(now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.0.poll_output()
    }

    fn poll_timeout(&self) -> Option<(Mono, WakeReason)> {
        self.0.poll_timeout()
    }

    fn view(&self) -> View {
        self.0.view()
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        let counters = self.0.counters();
        let mut told = self.0.gauges();
        told.extend([
            ("malformed", counters.malformed),
            ("unknown_parts", counters.unknown_parts),
            ("refused_news", counters.refused_news),
            ("refutations", counters.refutations),
            ("suspicions", counters.suspicions),
            ("downs", counters.downs),
            ("reaped", counters.reaped),
            ("rumors_new", counters.rumors_new),
            ("rumors_known", counters.rumors_known),
            ("deltas_new", counters.deltas_new),
            ("states_installed", counters.states_installed),
            ("wrong_contents", counters.wrong_contents),
            ("rounds_deferred", counters.rounds_deferred),
            ("joins_deferred", counters.joins_deferred),
            ("welcomes_deferred", counters.welcomes_deferred),
            ("leases_expired", counters.leases_expired),
            ("tombstones_collected", counters.tombstones_collected),
        ]);
        told
    }
}
