//! One key: its concurrent values and everything that they replaced (a dotted version vector set; Preguica et al.
//! 2010, Almeida et al. 2014).
//!
//! A register is a function of the *set* of events merged into it: `superseded` is the union of their contexts, the
//! siblings are the events that it doesn't cover. So merging is commutative, associative and idempotent, and no clock of
//! the merging node has a say. Among siblings the highest stored stamp wins, tie by writer.
//!
//! Of the siblings that lost mostly only the dots are kept. None of them can win later: a write's stamp exceeds those of all
//! that it replaces, so whatever replaces the winner ranks above every loser too. That bounds a register's bytes: one
//! value, its context, and a few bytes for each loser. The exceptions: a key whose policy is to keep **siblings** keeps all
//! values; and some bytes of losers are kept until everyone has seen them lose, since what they lost to may be deleted and
//! collected where they weren't known, and then they stand.

use std::sync::Arc;

use quorumor_core::{
    Conflict, Dot, Entry, LogId, NodeId, Seq, Sibling, Stamp, Version, VersionVector,
};

use crate::event::{Event, Rank};
use crate::vector::Context;

/// What a loser takes when it is written, beside its event: three numbers, a stamp and flags.
const LOSER_BYTES_MAX: usize = 41;
/// Values of losers that a key keeps until everyone has seen them lose.
const LOSERS_BYTES_MAX: usize = 64 * 1024;
/// A wider context is looked through at each collection.
const WIDE_ROWS: usize = 8;
/// What a row of a context takes when it is written.
const ROW_BYTES_MAX: usize = 30;

/// What a key does with concurrent values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The last writer wins.
    #[default]
    Lww,
    /// All are kept, until a write that has seen them.
    Siblings,
}

/// A concurrent value or delete that isn't the winner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loser {
    pub(crate) dot: Dot,
    pub(crate) stamp: Stamp,
    /// Whether it is a delete.
    pub(crate) deleted: bool,
    /// Whether this node's ledger has counted it as discarded. Local: no part of the merge.
    pub(crate) counted: bool,
    /// All of it, where it is kept.
    pub(crate) event: Option<Arc<Event>>,
}

impl Loser {
    fn of(event: &Arc<Event>) -> Self {
        Self {
            dot: event.dot,
            stamp: event.stamp,
            deleted: event.value.is_none(),
            counted: false,
            event: Some(Arc::clone(event)),
        }
    }

    const fn rank(&self) -> Rank {
        rank(self.stamp, self.dot)
    }
}

const fn rank(stamp: Stamp, dot: Dot) -> (Stamp, NodeId, LogId, Seq) {
    (stamp, dot.writer, dot.log_id, dot.seq)
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    superseded: Context,
    /// The sibling of the highest rank. `None` only before anything was merged.
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
        register.superseded.merge(&winner.context);
        register.offer(&winner);
        register.settle();
        register
    }

    /// Merges one event.
    pub(crate) fn merge_event(&mut self, event: &Arc<Event>) {
        self.superseded.merge(&event.context);
        self.offer(event);
        self.settle();
    }

    /// The join of two registers, each with everything that its node knew: what one knows and doesn't have any more is gone
    /// (the optimised OR-set of Bieniusa et al. 2012). So nothing that was deleted and collected comes back.
    pub(crate) fn join(&mut self, other: &Self, mine: &VersionVector, theirs: &VersionVector) {
        self.superseded.merge(&other.superseded);
        self.stamp_max = self.stamp_max.max(other.stamp_max);
        let gone = |dot: Dot| theirs.covers_dot(dot) && !other.holds(dot);
        let had: Vec<Dot> = self.dots().collect();
        for event in other.winner.iter() {
            if had.contains(&event.dot) || !mine.covers_dot(event.dot) {
                self.superseded.merge(&event.context);
                self.offer(event);
            }
        }
        for loser in &other.losers {
            if had.contains(&loser.dot) || !mine.covers_dot(loser.dot) {
                self.insert(Loser {
                    counted: false,
                    ..loser.clone()
                });
            }
        }
        self.settle();
        // Last, for what goes may have kept a value from standing that only the other holds whole.
        self.drop_siblings(gone);
        self.settle();
    }

    /// Drops the siblings that a peer's whole state lacks though it covers them: for keys that the peer doesn't have at all.
    pub(crate) fn drop_covered(&mut self, theirs: &VersionVector) {
        self.drop_siblings(|dot| theirs.covers_dot(dot));
        self.settle();
    }

    /// Collects: deletes that `everyone` has, and what lost to them and was written before everyone had them, go.
    pub(crate) fn collect(
        &mut self,
        policy: Policy,
        everyone: &VersionVector,
        settled: &VersionVector,
    ) {
        let winner = self.winner.iter().map(|winner| {
            let rank = winner.rank();
            (winner.dot, rank, winner.value.is_none())
        });
        let losers = self
            .losers
            .iter()
            .map(|loser| (loser.dot, loser.rank(), loser.deleted));
        let deletes = winner
            .chain(losers)
            .filter(|(dot, _, deleted)| *deleted && everyone.covers_dot(*dot));
        match policy {
            Policy::Lww => {
                let Some((_, highest, _)) = deletes.max_by_key(|(_, rank, _)| *rank) else {
                    return;
                };
                self.drop_ranked(|dot, rank| rank <= highest && settled.covers_dot(dot));
            }
            Policy::Siblings => {
                let dots: Vec<Dot> = deletes.map(|(dot, _, _)| dot).collect();
                self.drop_ranked(|dot, _| dots.contains(&dot));
            }
        }
        self.settle();
    }

    fn drop_siblings(&mut self, gone: impl Fn(Dot) -> bool) {
        self.drop_ranked(|dot, _| gone(dot));
    }

    /// Drops siblings. The winner only if none is left, or if the next one is held whole: something must be shown.
    fn drop_ranked(&mut self, gone: impl Fn(Dot, Rank) -> bool) {
        self.losers.retain(|loser| !gone(loser.dot, loser.rank()));
        let Some(winner) = self
            .winner
            .take_if(|winner| gone(winner.dot, winner.rank()))
        else {
            return;
        };
        match self.losers.pop() {
            None => {}
            Some(Loser {
                event: Some(next), ..
            }) => self.winner = Some(next),
            Some(bare) => {
                self.losers.push(bare);
                self.winner = Some(winner);
            }
        }
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
            self.insert(Loser::of(&other));
        }
        self.winner = Some(chosen);
    }

    fn insert(&mut self, loser: Loser) {
        self.stamp_max = self.stamp_max.max(loser.stamp);
        match self.losers.binary_search_by_key(&loser.rank(), Loser::rank) {
            Err(at) => self.losers.insert(at, loser),
            Ok(at) if self.losers[at].event.is_none() => self.losers[at].event = loser.event,
            Ok(_) => {}
        }
    }

    fn settle(&mut self) {
        let (superseded, winner) = (&self.superseded, self.winner.as_ref());
        self.losers.retain(|loser| {
            !superseded.covers(loser.dot) && winner.is_none_or(|winner| winner.dot != loser.dot)
        });
        if self.winner.is_none()
            && let Some(best) = self.losers.pop_if(|loser| loser.event.is_some())
        {
            self.winner = best.event;
        }
    }

    /// Counts the siblings that lost and weren't counted yet, forgets the values that the policy doesn't keep, and the rows of
    /// the context below the floor: who lacks any of those gets whole states. Above it they say which peers lack this register.
    pub(crate) fn tidy(&mut self, policy: Policy, floor: &VersionVector) -> Vec<Conflict> {
        self.superseded.retain_beyond(floor);
        let Some(winner) = self.winner.clone() else {
            return Vec::new();
        };
        let mut lost = Vec::new();
        for loser in &mut self.losers {
            if policy == Policy::Lww && !loser.counted {
                lost.push(conflict(&winner, loser));
            }
            loser.counted = true;
        }
        if policy == Policy::Lww {
            self.forget_values(floor);
        }
        lost
    }

    /// Whether a delete that this vector covers is among the siblings.
    pub(crate) fn has_delete_within(&self, vector: &VersionVector) -> bool {
        let winner = self.winner.iter();
        winner
            .filter(|winner| winner.value.is_none())
            .map(|winner| winner.dot)
            .chain(
                self.losers
                    .iter()
                    .filter(|loser| loser.deleted)
                    .map(|loser| loser.dot),
            )
            .any(|dot| vector.covers_dot(dot))
    }

    /// Forgets the values of losers that everyone has seen lose, and of others beyond some bytes: should whatever they lost to
    /// be collected, those that it didn't cover stand again.
    fn forget_values(&mut self, floor: &VersionVector) {
        let mut bytes = 0;
        // A delete holds no value: the highest one below it is kept in its place, whatever it weighs.
        let mut spare = self.is_tombstone();
        for loser in self.losers.iter_mut().rev() {
            if floor.covers_dot(loser.dot) {
                loser.event = None;
            } else if loser.deleted || !std::mem::take(&mut spare) {
                let event = loser.event.as_ref();
                bytes += event.map_or(0, |event| event.encoded().len());
                if bytes > LOSERS_BYTES_MAX {
                    loser.event = None;
                }
            }
        }
    }

    fn holds(&self, dot: Dot) -> bool {
        self.dots().any(|held| held == dot)
    }

    /// The dots of all siblings.
    pub(crate) fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        let winner = self.winner.iter().map(|winner| winner.dot);
        self.losers.iter().map(|loser| loser.dot).chain(winner)
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
        self.dots().filter(|dot| !context.covers_dot(*dot)).count()
    }

    /// What it takes when it is written, at most.
    pub(crate) fn weight(&self) -> usize {
        let events = self.losers.iter().filter_map(|loser| loser.event.as_ref());
        let bytes = |event: &Arc<Event>| event.encoded().len();
        events.chain(self.winner.as_ref()).map(bytes).sum::<usize>()
            + self.losers.len() * LOSER_BYTES_MAX
            + self.superseded.rows().len() * ROW_BYTES_MAX
    }

    pub(crate) const fn superseded(&self) -> &Context {
        &self.superseded
    }

    pub(crate) const fn stamp_max(&self) -> Stamp {
        self.stamp_max
    }

    /// Every write of this key that a write of now replaces.
    pub(crate) fn seen(&self) -> Context {
        let mut seen = self.superseded.clone();
        for dot in self.dots() {
            seen.add_dot(dot);
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

    /// The event that readers see: the winner, or where siblings are kept the highest value; `None` if the key is absent.
    pub(crate) fn shown(&self, policy: Policy) -> Option<&Arc<Event>> {
        let winner = self.winner.as_ref()?;
        if winner.value.is_some() || policy == Policy::Lww {
            return Some(winner).filter(|winner| winner.value.is_some());
        }
        self.values().next()
    }

    /// The siblings that are held whole.
    pub(crate) fn events(&self) -> impl Iterator<Item = &Arc<Event>> {
        let losers = self.losers.iter().filter_map(|loser| loser.event.as_ref());
        losers.chain(self.winner.as_ref())
    }

    /// The losers that are values and are held whole, highest rank first.
    fn values(&self) -> impl Iterator<Item = &Arc<Event>> {
        let events = self
            .losers
            .iter()
            .rev()
            .filter_map(|loser| loser.event.as_ref());
        events.filter(|event| event.value.is_some())
    }

    /// What readers see; `None` if the key is absent.
    pub(crate) fn entry(&self, policy: Policy) -> Option<Entry> {
        let shown = self.shown(policy)?;
        Some(Entry {
            key: shown.key.clone(),
            value: shown.value.clone()?,
            version: self.version(shown),
            writer: shown.dot.writer,
            lease: shown.lease,
            siblings: match policy {
                Policy::Lww => None,
                Policy::Siblings => self.siblings_beside(shown.dot),
            },
        })
    }

    fn siblings_beside(&self, shown: Dot) -> Option<Arc<[Sibling]>> {
        let others = self.values().filter(|event| event.dot != shown);
        let siblings: Vec<Sibling> = others
            .filter_map(|event| {
                Some(Sibling {
                    dot: event.dot,
                    stamp: event.stamp,
                    value: event.value.clone()?,
                })
            })
            .collect();
        (!siblings.is_empty()).then(|| siblings.into())
    }

    /// Whether the key is absent, and remembered only so that it stays so.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.winner
            .as_ref()
            .is_some_and(|winner| winner.value.is_none())
    }

    /// Whether nothing is left of it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.winner.is_none()
    }

    /// Whether its context is so wide that it should be looked through for what can be forgotten.
    pub(crate) fn is_wide(&self) -> bool {
        self.superseded.rows().len() > WIDE_ROWS
    }
}

fn conflict(winner: &Event, loser: &Loser) -> Conflict {
    let value = loser.event.as_ref().and_then(|event| event.value.clone());
    Conflict {
        number: 0,
        key: winner.key.clone(),
        loser: loser.dot,
        loser_stamp: loser.stamp,
        value,
        winner: winner.dot,
        wall_ms: 0,
    }
}

#[cfg(test)]
mod tests;
