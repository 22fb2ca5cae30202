//! One key: its concurrent values and everything that they replaced (a dotted version vector set; Preguica et al.
//! 2010, Almeida et al. 2014).
//!
//! A register is a function of the *set* of events merged into it: `superseded` is the union of their contexts, the
//! siblings are the events that it doesn't cover. So merging is commutative, associative and idempotent, and no clock of
//! the merging node has a say. Among siblings the highest stored stamp wins, tie by writer.

use std::sync::Arc;

use quorumor_core::{Dot, Entry, Stamp, Version, VersionVector};

use crate::event::Event;
use crate::vector::Context;

/// A concurrent value or delete.
#[derive(Clone, Debug)]
pub(crate) struct Sibling {
    pub(crate) event: Arc<Event>,
    /// Whether this node's ledger has counted it as discarded. Local: no part of the merge.
    pub(crate) counted: bool,
}

/// A write that lost to a concurrent one, counted for the first time here.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) loser: Arc<Event>,
    pub(crate) winner: Dot,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    superseded: Context,
    /// By rank, so the last one is the winner.
    siblings: Vec<Sibling>,
    /// The highest stamp ever merged: a later write here exceeds it.
    stamp_max: Stamp,
}

impl Register {
    /// From its parts, as read from a disk or a peer.
    pub(crate) fn from_parts(
        superseded: Context,
        siblings: Vec<Sibling>,
        stamp_max: Stamp,
    ) -> Self {
        let mut register = Self {
            superseded,
            siblings: Vec::new(),
            stamp_max,
        };
        for sibling in siblings {
            register.superseded.merge(&sibling.event.context);
            register.insert(sibling);
        }
        register.settle();
        register
    }

    /// Merges one event.
    pub(crate) fn merge_event(&mut self, event: &Arc<Event>) {
        self.superseded.merge(&event.context);
        self.insert(Sibling {
            event: Arc::clone(event),
            counted: false,
        });
        self.settle();
    }

    /// The join of both, in place.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.superseded.merge(&other.superseded);
        self.stamp_max = self.stamp_max.max(other.stamp_max);
        for sibling in &other.siblings {
            self.insert(Sibling {
                event: Arc::clone(&sibling.event),
                counted: false,
            });
        }
        self.settle();
    }

    fn insert(&mut self, sibling: Sibling) {
        self.stamp_max = self.stamp_max.max(sibling.event.stamp);
        let rank = sibling.event.rank();
        if let Err(at) = self
            .siblings
            .binary_search_by_key(&rank, |known| known.event.rank())
        {
            self.siblings.insert(at, sibling);
        }
    }

    fn settle(&mut self) {
        let superseded = &self.superseded;
        self.siblings
            .retain(|sibling| !superseded.covers(sibling.event.dot));
    }

    /// Marks the siblings that lost and weren't counted yet, and names them.
    pub(crate) fn count_losers(&mut self) -> Vec<Lost> {
        let Some((winner, losers)) = self.siblings.split_last_mut() else {
            return Vec::new();
        };
        let winner = winner.event.dot;
        losers
            .iter_mut()
            .filter(|loser| !loser.counted)
            .map(|loser| {
                loser.counted = true;
                Lost {
                    loser: Arc::clone(&loser.event),
                    winner,
                }
            })
            .collect()
    }

    pub(crate) fn winner(&self) -> Option<&Arc<Event>> {
        self.siblings.last().map(|sibling| &sibling.event)
    }

    pub(crate) fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    pub(crate) const fn superseded(&self) -> &Context {
        &self.superseded
    }

    pub(crate) const fn stamp_max(&self) -> Stamp {
        self.stamp_max
    }

    /// Every write of this key that was merged: what a put without a context replaces.
    pub(crate) fn seen(&self) -> Context {
        let mut seen = self.superseded.clone();
        for sibling in &self.siblings {
            seen.add_dot(sibling.event.dot);
        }
        seen
    }

    /// Whether whoever knows this vector has merged all of it.
    pub(crate) fn is_within(&self, vector: &VersionVector) -> bool {
        self.superseded.is_within(vector)
            && self
                .siblings
                .iter()
                .all(|sibling| vector.covers_dot(sibling.event.dot))
    }

    /// The version that this sibling, or a reader of it, has.
    pub(crate) fn version(&self, event: &Event) -> Version {
        Version::Eventual {
            dot: event.dot,
            stamp: event.stamp,
            context: self.seen().to_vector(),
            siblings: u32::try_from(self.siblings.len()).unwrap_or(u32::MAX),
        }
    }

    /// What readers see: the winner, unless it is a delete.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let winner = self.winner()?;
        let value = winner.value.clone()?;
        Some(Entry {
            key: winner.key.clone(),
            value,
            version: self.version(winner),
            writer: winner.dot.writer,
        })
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.winner().is_some_and(|winner| winner.value.is_none())
    }
}

#[cfg(test)]
mod tests;
