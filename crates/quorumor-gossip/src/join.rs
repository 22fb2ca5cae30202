//! Coming and going: seeds, the welcome of a joiner, tables of members, the goodbye.

use std::net::SocketAddr;

use quorumor_core::{Destination, Mono, NodeId, StreamClass};

use crate::anti_entropy::is_recent;
use crate::durability::peers_record;
use crate::message::Part;
use crate::replica::GossipReplica;
use crate::timers::Timer;

/// The first and the longest pause between calls on seeds that don't answer, in milliseconds.
const SEED_BACKOFF_MS: (u64, u64) = (100, 2_000);
/// Calls on seeds whose answer is still waited for.
const SEED_CALLS_MAX: usize = 64;
/// Peers that are written down.
const REMEMBERED_MAX: usize = 64;
/// Up to so many members, each seed is looked for among them.
const SMALL_CLUSTER: usize = 64;
/// Seeds called on at a time.
const SEEDS_AT_ONCE: usize = 3;
/// Members that hear a goodbye by datagram, and by stream.
const GOODBYES: (usize, usize) = (32, 4);
/// One welcome to one peer at most each so many milliseconds.
const WELCOME_PAUSE_MS: u64 = 500;
/// Members that a joiner hears of at once: all of a small cluster. It learns the others from several of them.
const WELCOME_MEMBERS: usize = 48;
/// Members that it hears of when many come at once.
const DEFERRED_MEMBERS: usize = 4;
/// And of those that are gone.
const DEFERRED_GONE: usize = 16;
/// About so many greet a newcomer if all hear of it at once.
const GREETERS: u64 = 10;
/// The peers are written down at most each so many milliseconds.
const PEERS_PAUSE_MS: u64 = 5_000;

impl GossipReplica {
    /// Calls on the seeds: often while some aren't found among the members, now and then afterwards.
    fn call_seeds(&mut self) {
        if self.me.silent_until.is_some() {
            return;
        }
        let mut seeds = self.unanswered_seeds();
        let alone = self.members.present() == 0;
        let unanswered = !seeds.is_empty();
        if !unanswered {
            seeds.clone_from(&self.config.seeds);
        }
        self.rng.shuffle(&mut seeds);
        let count = if alone { SEEDS_AT_ONCE } else { 1 };
        for seed in seeds.into_iter().take(count) {
            let number = self.probes.number();
            let ping = self.ping(number, None, unanswered);
            self.outbox.push_bare(Destination::Seed(seed), &ping);
            self.sync.seed_calls.insert(number, seed);
            if self.sync.seed_calls.len() > SEED_CALLS_MAX {
                self.sync.seed_calls.pop_first();
            }
        }
        let pause_ms = if unanswered {
            let pause_ms = self.sync.seed_backoff_ms.max(SEED_BACKOFF_MS.0);
            self.sync.seed_backoff_ms = (pause_ms * 2).min(SEED_BACKOFF_MS.1);
            pause_ms
        } else {
            self.sync.seed_backoff_ms = SEED_BACKOFF_MS.0;
            self.config.seed_interval_ms
        };
        let jitter = self.rng.below(pause_ms * 500);
        self.schedule_seeds(self.now.mono().after_us(pause_ms * 750 + jitter));
    }

    pub(crate) fn schedule_seeds(&mut self, at: Mono) {
        self.sync.seeds_due = Some(at);
        self.timers.set(at, Timer::Seed);
    }

    pub(crate) fn handle_seed_timer(&mut self) {
        // A timer that another one replaced has no effect.
        if self
            .sync
            .seeds_due
            .is_some_and(|due| due <= self.now.mono())
        {
            self.sync.seeds_due = None;
            self.call_seeds();
        }
    }

    /// Seeds, and peers of an earlier life, where no present member is: perhaps another island after a partition in which
    /// everyone restarted. In a large cluster only while alone; there, someone always remembers.
    fn unanswered_seeds(&self) -> Vec<SocketAddr> {
        let mut unanswered = self.config.seeds.clone();
        unanswered.extend(
            self.sync
                .remembered
                .iter()
                .filter(|peer| !self.config.seeds.contains(peer)),
        );
        if self.members.len() > SMALL_CLUSTER {
            if self.members.present() > 0 {
                unanswered.clear();
            }
            return unanswered;
        }
        // A seed's address may be a proxy's: who answered there counts.
        let answered = |seed: &SocketAddr| self.sync.seed_nodes.get(seed).copied();
        unanswered.retain(|seed| !answered(seed).is_some_and(|node| self.members.is_present(node)));
        for node in self.members.first_present(SMALL_CLUSTER) {
            let address = self.members.address(node);
            unanswered.retain(|seed| Some(*seed) != address);
        }
        unanswered
    }

    /// An answer came; if it was to a call on a seed, that is who is there.
    pub(crate) fn note_seed(&mut self, from: NodeId, number: u64) {
        if let Some(seed) = self.sync.seed_calls.remove(&number) {
            self.sync.seed_nodes.insert(seed, from);
        }
    }

    /// Where peers are, to be found there after a restart.
    pub(crate) fn peer_addresses(&self) -> Vec<SocketAddr> {
        self.members
            .first_present(REMEMBERED_MAX)
            .filter_map(|node| self.members.address(node))
            .collect()
    }

    /// Notes the peers on the disk if they changed, so that a node whose seeds are away finds the others after a restart.
    pub(crate) fn write_down_peers(&mut self) {
        let now = self.now.mono();
        if self.disk_full
            || !self.sync.peers_changed
            || is_recent(self.sync.peers_written_at, now, PEERS_PAUSE_MS)
        {
            return;
        }
        self.sync.peers_changed = false;
        self.sync.peers_written_at = Some(now);
        let record = peers_record(&self.peer_addresses());
        let (token, records) = self.durability.several(vec![record]);
        self.append(token, records, true);
    }

    /// Says goodbye, and tells nobody's writes but those that wait for their disk.
    pub(crate) fn leave(&mut self) {
        if self.me.has_left {
            return;
        }
        self.push_round();
        self.flush_outbox();
        self.me.has_left = true;
        self.published.changed = true;
        let goodbye = Part::Members(vec![self.my_update()]);
        let peers = self.members.some(GOODBYES.0, None, &mut self.rng);
        for (count, peer) in peers.into_iter().enumerate() {
            self.outbox.push_bare(Destination::Node(peer), &goodbye);
            if count < GOODBYES.1 {
                self.send_stream(peer, StreamClass::Control, std::slice::from_ref(&goodbye));
            }
        }
        self.refuse_waiting();
        self.give_up_acks();
        self.give_up_samples();
        if !self.syncs_writes() {
            // Synced at the end, the log is as good as any.
            let record = self.meta().record();
            let (token, records) = self.durability.several(vec![record]);
            self.append(token, records, true);
        }
    }

    /// Whether this node has time for one more joiner. It asks again, and who hears of it meanwhile speaks to it.
    pub(crate) fn admit_joiner(&mut self, joiner: NodeId) -> bool {
        let now = self.now.mono();
        // One that asks again and again takes nobody's turn; one that isn't answered takes no peer's place.
        let known = self.sync.peers.get(&joiner);
        let welcomed_at = known.and_then(|peer| peer.welcomed_at);
        let admitted =
            is_recent(welcomed_at, now, WELCOME_PAUSE_MS) || self.budgets.joins.take(now, 1);
        if !admitted {
            self.counters.joins_deferred += 1;
        }
        admitted
    }

    /// Tells others of a joiner that gets no answer here, again if it asks again.
    pub(crate) fn introduce(&mut self, node: NodeId) {
        let is_stranger = self.members.is_present(node) && !self.members.is_met(node, false);
        if is_stranger && !self.member_rumors.contains(node) {
            self.spread_news_of(node);
        }
    }

    /// Who is new may know nobody yet, for its seeds are busy: of those who hear of it, a few speak to it. Who hears it from a
    /// seed is likely to be one of them.
    pub(crate) fn greet(&mut self, node: NodeId, teller: NodeId) {
        let among = if self.sync.seed_nodes.values().any(|seed| *seed == teller) {
            2 * GREETERS
        } else {
            self.cluster_size() as u64
        };
        if self.rng.below(among) < GREETERS
            && self.members.is_present(node)
            && self.budgets.greetings.take(self.now.mono(), 1)
        {
            let number = self.probes.number();
            let ping = self.ping(number, Some(node), false);
            self.outbox.push(Destination::Node(node), &ping);
        }
    }

    /// A joiner hears who is here and what is known here. When many come at once, the rest hear of a few members to ask.
    pub(crate) fn welcome(&mut self, to: NodeId) {
        let now = self.now.mono();
        let peer = self.sync.peer(to, now);
        if is_recent(peer.welcomed_at, now, WELCOME_PAUSE_MS) {
            return;
        }
        peer.welcomed_at = Some(now);
        let has_time = self.budgets.welcomes.take(now, 1);
        let (count, gone) = if has_time {
            (WELCOME_MEMBERS, WELCOME_MEMBERS)
        } else {
            (DEFERRED_MEMBERS, DEFERRED_GONE)
        };
        let some = self.members.some(count, Some(to), &mut self.rng);
        // The absent too: it must wait for them with collections, and hide what they own.
        let absent = self.members.absent(gone);
        let about = some
            .iter()
            .chain(&absent)
            .filter_map(|node| self.update_about(*node))
            .collect();
        self.tell_joiner(to, about);
        if !has_time {
            self.counters.welcomes_deferred += 1;
            return;
        }
        if self.members.present() > WELCOME_MEMBERS {
            self.send_table_hashes(to);
        }
        let part = Part::Vector {
            reply: true,
            vector: self.store.known().vector().clone(),
        };
        self.send_stream(to, StreamClass::Bulk, &[part]);
    }
}
