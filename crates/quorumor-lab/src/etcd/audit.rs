//! What the members of etcd say and hold: who leads, when all are equal after the heal, and what each has at the end.
//!
//! Not a verdict. Every look is at the member itself, by a serializable read. Digests are over keys whose operations were over
//! before the heal, so that they can only change by catching up.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::cluster::{ADMIN, EtcdCluster};
use crate::history::{
    DigestPoll, Event, EventKind, FinalEntry, FinalState, HistoryWriter, LabClock, NodeId,
};

const ASK_INTERVAL: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Once they were equal, a later difference is looked for less often.
const POLL_INTERVAL_EQUAL: Duration = Duration::from_millis(500);
/// How long the members have to become equal after the last operation.
const QUIET_WITHIN: Duration = Duration::from_secs(15);
/// How long one look at a member may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks at the members.
#[derive(Clone)]
pub(super) struct Auditor {
    pub(super) cluster: Arc<EtcdCluster>,
    pub(super) history: HistoryWriter,
    pub(super) clock: LabClock,
}

impl Auditor {
    /// Asks every member for the leader until `stop`, and puts what changed on record.
    pub(super) async fn watch_leaders(self, stop: CancellationToken) -> io::Result<()> {
        let mut seen: BTreeMap<NodeId, u64> = BTreeMap::new();
        let mut ticks = interval(ASK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            ticks.tick().await;
            for &node in &self.cluster.nodes {
                let Some((leader, term)) = self.cluster.leader_by(node).await else {
                    continue;
                };
                if seen.insert(node, term).is_none_or(|known| known < term) {
                    let at_us = self.clock.now_us();
                    let kind = EventKind::Leader { leader, term };
                    self.history.event(Event { at_us, node, kind })?;
                }
            }
        }
        Ok(())
    }

    /// Polls digests over these keys until `stop`, and then until they are equal or the deadline passes.
    pub(super) async fn poll(
        &self,
        keys: &BTreeSet<String>,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut quiet_since = None;
        loop {
            let equal = self.poll_once(|key| keys.contains(key)).await?;
            if stop.is_cancelled() {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if equal || since.elapsed() >= QUIET_WITHIN {
                    return Ok(());
                }
            }
            let pause = if equal {
                POLL_INTERVAL_EQUAL
            } else {
                POLL_INTERVAL
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Waits until all members hold the same, or the deadline; then puts on record what each holds.
    pub(super) async fn finish(&self) -> Result<()> {
        let deadline = Instant::now() + QUIET_WITHIN;
        let mut held = self.look().await;
        while !self.are_equal(&held) && Instant::now() < deadline {
            sleep(POLL_INTERVAL).await;
            held = self.look().await;
        }
        for (node, (at_us, entries)) in held {
            self.history.final_state(FinalState {
                at_us,
                node,
                digest: digest(&entries, |_| true),
                entries,
                ledger: None,
                discarded: None,
            })?;
        }
        Ok(())
    }

    async fn poll_once(&self, wanted: impl Fn(&str) -> bool) -> Result<bool> {
        let mut digests = BTreeSet::new();
        let held = self.look().await;
        for (&node, (at_us, entries)) in &held {
            let digest = digest(entries, &wanted);
            digests.insert(digest.clone());
            self.history.digest(DigestPoll {
                at_us: *at_us,
                node,
                digest,
            })?;
        }
        Ok(held.len() == self.cluster.nodes.len() && digests.len() == 1)
    }

    /// What each member that answers holds, and when it said so.
    async fn look(&self) -> BTreeMap<NodeId, (u64, Vec<FinalEntry>)> {
        let mut held = BTreeMap::new();
        for &node in &self.cluster.nodes {
            let entries = self.cluster.executor.entries(ADMIN, node, LOOK_TIMEOUT);
            if let Ok(entries) = entries.await {
                held.insert(node, (self.clock.now_us(), entries));
            }
        }
        held
    }

    fn are_equal(&self, held: &BTreeMap<NodeId, (u64, Vec<FinalEntry>)>) -> bool {
        let mut states = held.values().map(|(_, entries)| entries);
        let first = states.next();
        held.len() == self.cluster.nodes.len() && states.all(|state| Some(state) == first)
    }
}

/// A digest of keys and values, in key order.
fn digest(entries: &[FinalEntry], wanted: impl Fn(&str) -> bool) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in entries.iter().filter(|entry| wanted(&entry.key)) {
        for part in std::iter::once(&entry.key).chain(&entry.values) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}
