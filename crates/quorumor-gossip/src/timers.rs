//! Timers: one ordered set of deadlines, first by time, then by the order in which they were set.
//!
//! A timer isn't cancelled: whoever is woken checks that its reason still holds.

use std::collections::BTreeMap;

use quorumor_core::{Mono, NodeId, WakeReason};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Begin the next probe and judge the last.
    Probe,
    /// The direct probe with this number had its time: ask others.
    ProbeAck(u64),
    /// The probe that was made for another node had its time.
    Relay(u64),
    /// A suspicion of this member may have run out.
    Suspicion(NodeId),
    /// A member that this node accused may have refuted; else everyone hears of it.
    Accuse(NodeId),
    /// Push rumors.
    Gossip,
    /// Look whether a member that is held to be down answers.
    DownProbe,
    /// Call on the seeds.
    Seed,
    /// Persist what may be persisted lazily.
    Flush,
    /// Fetch again what waiting callers need.
    Fetch,
    /// Compare the members with another peer: the last one knew more than it could tell.
    Exchange,
    /// Waiting for the first sync ends.
    Starting,
    /// Tell others that this node has news beyond its rumors.
    Beacon,
    /// An own lease may have expired.
    Lease,
    /// Tell writes again whose callers wait until others hold them.
    Acks,
    /// Ask others again how far they are.
    Sample,
    /// Sync what was acknowledged unsynced.
    Sync,
}

impl Timer {
    const fn reason(self) -> WakeReason {
        match self {
            Self::Probe | Self::ProbeAck(_) | Self::Relay(_) | Self::DownProbe => WakeReason::Probe,
            Self::Suspicion(_) | Self::Accuse(_) => WakeReason::Suspicion,
            Self::Gossip => WakeReason::Rumor,
            Self::Seed | Self::Beacon | Self::Exchange | Self::Starting => WakeReason::Sync,
            Self::Flush | Self::Fetch | Self::Lease | Self::Acks | Self::Sample | Self::Sync => {
                WakeReason::Limit
            }
        }
    }
}

/// All deadlines of one replica.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<(Mono, u64), Timer>,
    set: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Mono, timer: Timer) {
        self.set += 1;
        self.due.insert((at, self.set), timer);
    }

    /// The next timer that is due by now.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<Timer> {
        let entry = self.due.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// How often this timer is set.
    #[cfg(test)]
    pub(crate) fn count(&self, timer: Timer) -> usize {
        self.due.values().filter(|due| **due == timer).count()
    }

    pub(crate) fn next(&self) -> Option<(Mono, WakeReason)> {
        let ((at, _), timer) = self.due.first_key_value()?;
        Some((*at, timer.reason()))
    }
}
