//! Whether this node's state is what the leader's was at the same place in the log.
//!
//! Each node remembers its digest at the last few ticks of the log. A tick carries what its leader remembers of an earlier
//! one; a node that remembers something else raises an alarm, which stays until it is started anew. Costs no pass over the
//! state.

use std::collections::VecDeque;

use crate::codec::proposal::DigestAt;

/// Digests that are remembered: a tick comes every few seconds.
const REMEMBERED: usize = 16;
/// Ticks that are owed after a change: one to take a digest after it, and one to compare it.
const OWED: u8 = 2;

/// Digests of this node's own state.
#[derive(Debug, Default)]
pub(crate) struct Digests {
    ring: VecDeque<DigestAt>,
    owed: u8,
    diverged: Option<u64>,
}

impl Digests {
    /// An entry that isn't a tick was applied.
    pub(crate) const fn changed(&mut self) {
        self.owed = OWED;
    }

    /// A tick was applied here; it carried what its leader remembers.
    pub(crate) fn tick(&mut self, own: DigestAt, leaders: Option<DigestAt>) {
        if let Some(leaders) = leaders {
            let differs = self
                .ring
                .iter()
                .any(|own| own.index == leaders.index && own.digest != leaders.digest);
            if differs && self.diverged.is_none() {
                self.diverged = Some(leaders.index);
            }
        }
        if self.ring.len() >= REMEMBERED {
            self.ring.pop_front();
        }
        self.ring.push_back(own);
        self.owed = self.owed.saturating_sub(1);
    }

    /// The state was replaced.
    pub(crate) fn forget(&mut self) {
        self.ring.clear();
    }

    /// Whether some change hasn't been compared yet.
    pub(crate) const fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// What a leader lets the others compare.
    pub(crate) fn last(&self) -> Option<DigestAt> {
        self.ring.back().copied()
    }

    /// Where this node's state was found to differ.
    pub(crate) const fn diverged(&self) -> Option<u64> {
        self.diverged
    }
}
