//! One key: its concurrent values and everything that they replaced (a dotted version vector set; Preguica et al.
//! 2010, Almeida et al. 2014).
//!
//! A register is a function of the *set* of events merged into it: `superseded` is the union of their contexts, the
//! siblings are the events that it doesn't cover. So merging is commutative, associative and idempotent, and no clock of
//! the merging node has a say. Among siblings the highest stored stamp wins, tie by writer.
//!
//! Of the siblings that lost only the dots are kept. None of them can win later: a write's stamp exceeds those of all
//! that it replaces, so whatever replaces the winner ranks above every loser too. That bounds a register's bytes: one
//! value, its context, and a few bytes for each loser.

use std::sync::Arc;

use quorumor_core::{Dot, Entry, Key, LogId, NodeId, Seq, Stamp, Version, VersionVector};

use crate::event::{Event, Rank};
use crate::vector::Context;

/// What a loser takes when it is written: three numbers, a stamp and a flag.
const LOSER_BYTES_MAX: usize = 41;
/// What a row of a context takes when it is written.
const ROW_BYTES_MAX: usize = 30;

/// A concurrent value or delete that isn't the winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loser {
    pub(crate) dot: Dot,
    pub(crate) stamp: Stamp,
    /// Whether this node's ledger has counted it as discarded. Local: no part of the merge.
    pub(crate) counted: bool,
}

impl Loser {
    const fn rank(&self) -> Rank {
        rank(self.stamp, self.dot)
    }
}

const fn rank(stamp: Stamp, dot: Dot) -> (Stamp, NodeId, LogId, Seq) {
    (stamp, dot.writer, dot.log_id, dot.seq)
}

/// A write that lost to a concurrent one, counted for the first time here.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) key: Key,
    pub(crate) loser: Dot,
    pub(crate) winner: Dot,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    superseded: Context,
    /// The sibling that readers see. `None` only before anything was merged.
    winner: Option<Arc<Event>>,
    /// The other siblings, by rank.
    losers: Vec<Loser>,
    /// The highest stamp ever merged: a later write here exceeds it.
    stamp_max: Stamp,
}

impl Register {
    /// From its parts, as read from a disk or a peer.
    pub(crate) fn from_parts(
        superseded: Context,
        winner: Arc<Event>,
        losers: Vec<Loser>,
        stamp_max: Stamp,
    ) -> Self {
        let mut register = Self {
            superseded,
            winner: None,
            losers: Vec::new(),
            stamp_max,
        };
        for loser in losers {
            register.insert(loser);
        }
        register.merge_event(&winner);
        register
    }

    /// Merges one event.
    pub(crate) fn merge_event(&mut self, event: &Arc<Event>) {
        self.superseded.merge(&event.context);
        self.offer(event);
        self.settle();
    }

    /// The join of both, in place.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.superseded.merge(&other.superseded);
        self.stamp_max = self.stamp_max.max(other.stamp_max);
        for loser in &other.losers {
            self.insert(Loser {
                counted: false,
                ..*loser
            });
        }
        if let Some(winner) = &other.winner {
            self.offer(winner);
        }
        self.settle();
    }

    /// Chooses between the winner and another event; the one that isn't chosen is a loser.
    fn offer(&mut self, event: &Arc<Event>) {
        self.stamp_max = self.stamp_max.max(event.stamp);
        let Some(winner) = self.winner.take() else {
            self.winner = Some(Arc::clone(event));
            return;
        };
        // A peer that breaks the rule on stamps could make both replaced; something must be shown even then.
        let standing = |event: &Event| (!self.superseded.covers(event.dot), event.rank());
        let (chosen, other) = if standing(event) > standing(&winner) {
            (Arc::clone(event), winner)
        } else {
            (winner, Arc::clone(event))
        };
        if other.dot != chosen.dot {
            self.insert(Loser {
                dot: other.dot,
                stamp: other.stamp,
                counted: false,
            });
        }
        self.winner = Some(chosen);
    }

    fn insert(&mut self, loser: Loser) {
        self.stamp_max = self.stamp_max.max(loser.stamp);
        if let Err(at) = self.losers.binary_search_by_key(&loser.rank(), Loser::rank) {
            self.losers.insert(at, loser);
        }
    }

    fn settle(&mut self) {
        let (superseded, winner) = (&self.superseded, self.winner.as_ref());
        self.losers.retain(|loser| {
            !superseded.covers(loser.dot) && winner.is_none_or(|winner| winner.dot != loser.dot)
        });
    }

    /// Marks the siblings that lost and weren't counted yet, and names them.
    pub(crate) fn count_losers(&mut self) -> Vec<Lost> {
        let Some(winner) = &self.winner else {
            return Vec::new();
        };
        self.losers
            .iter_mut()
            .filter(|loser| !loser.counted)
            .map(|loser| {
                loser.counted = true;
                Lost {
                    key: winner.key.clone(),
                    loser: loser.dot,
                    winner: winner.dot,
                }
            })
            .collect()
    }

    pub(crate) const fn winner(&self) -> Option<&Arc<Event>> {
        self.winner.as_ref()
    }

    pub(crate) fn losers(&self) -> &[Loser] {
        &self.losers
    }

    /// How many concurrent values and deletes there are.
    pub(crate) fn sibling_count(&self) -> usize {
        self.losers.len() + usize::from(self.winner.is_some())
    }

    /// How many siblings a write with this context would leave beside itself.
    pub(crate) fn left_by(&self, context: &VersionVector) -> usize {
        let dots = self.losers.iter().map(|loser| loser.dot);
        dots.chain(self.winner.iter().map(|winner| winner.dot))
            .filter(|dot| !context.covers_dot(*dot))
            .count()
    }

    /// What it takes when it is written, at most.
    pub(crate) fn weight(&self) -> usize {
        let winner = self.winner.as_ref();
        winner.map_or(0, |winner| winner.encoded().len())
            + self.losers.len() * LOSER_BYTES_MAX
            + self.superseded.rows().len() * ROW_BYTES_MAX
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
        for loser in &self.losers {
            seen.add_dot(loser.dot);
        }
        if let Some(winner) = &self.winner {
            seen.add_dot(winner.dot);
        }
        seen
    }

    /// Whether whoever knows this vector has merged all of it.
    pub(crate) fn is_within(&self, vector: &VersionVector) -> bool {
        self.superseded.is_within(vector) && self.left_by(vector) == 0
    }

    /// The version that this sibling, or a reader of it, has.
    pub(crate) fn version(&self, event: &Event) -> Version {
        Version::Eventual {
            dot: event.dot,
            stamp: event.stamp,
            context: self.seen().to_vector(),
            siblings: u32::try_from(self.sibling_count()).unwrap_or(u32::MAX),
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
            lease: None,
        })
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.winner().is_some_and(|winner| winner.value.is_none())
    }
}

#[cfg(test)]
mod tests;
