//! The conflict ledger: every write that lost to a concurrent one, counted once, and the last of them listed.

use std::collections::VecDeque;

use quorumor_core::{Dot, Key};

use crate::register::Lost;

/// How many losers are listed by name; the count goes on beyond.
const LISTED_MAX: usize = 1_024;

/// A write that merging discarded in favour of a concurrent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key.
    pub key: Key,
    /// The discarded write.
    pub loser: Dot,
    /// The write that won over it at that moment.
    pub winner: Dot,
}

/// Counts distinct loser dots. A register counts each of its siblings at most once, and a dot never comes back.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    count: u64,
    listed: VecDeque<Conflict>,
}

impl Ledger {
    pub(crate) fn restore(&mut self, count: u64) {
        self.count = count;
    }

    pub(crate) fn add(&mut self, lost: &Lost) {
        self.count += 1;
        if self.listed.len() == LISTED_MAX {
            self.listed.pop_front();
        }
        self.listed.push_back(Conflict {
            key: lost.key.clone(),
            loser: lost.loser,
            winner: lost.winner,
        });
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn listed(&self) -> impl Iterator<Item = &Conflict> {
        self.listed.iter()
    }
}
