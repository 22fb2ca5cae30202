//! Reads that wait: for a read index, and then for the state to reach it.
//!
//! One context is in flight at a time, and all reads that come meanwhile share the next one, so a thousand reads cost the
//! messages of one (Raft dissertation 6.4). A context is never used twice: raft drops one that it already knows.
//!
//! A bounded read is served by an answer that another read got, if that is fresh enough; otherwise it waits with the rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorumor_core::limits::PENDING_READS_MAX;
use quorumor_core::{Bound, CallId, Confirmed, LogIndex, Mono, NodeId, Revision};

use crate::state_machine::StateMachine;

/// A context that raft was asked about.
#[derive(Debug)]
struct InFlight {
    context: Bytes,
    asked_at: Mono,
    waiters: Waiters,
}

/// Readers, each with what its answer must be like.
type Waiters = BTreeMap<CallId, Wish>;

/// What a reader demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    /// What its caller has seen.
    after: Revision,
    /// How much may be missing, and how old the proof may be; `None` for a linearizable read.
    bound: Option<Bound>,
}

/// All waiting reads of one node. Each is found by its call wherever it waits, so a caller that goes costs no scan.
#[derive(Debug)]
pub(crate) struct Reads {
    node: NodeId,
    boot_nonce: u64,
    counter: u64,
    waiting: Waiters,
    in_flight: Option<InFlight>,
    /// Their index is known, and the state has to reach it and their revision.
    confirmed: BTreeMap<CallId, Goal>,
    /// Of these, the ones whose index wasn't seen applied yet.
    by_index: BTreeSet<(u64, CallId)>,
    /// The others.
    by_revision: BTreeSet<(Revision, CallId)>,
    /// Of all of them the bounded ones, and since when each waits.
    bounded: BTreeMap<CallId, Mono>,
    /// Of all of them the ones that want the whole state.
    backups: BTreeSet<CallId>,
    /// The newest answer, whoever asked.
    last: Option<Confirmed>,
}

/// What the state must have come to.
#[derive(Clone, Copy, Debug)]
struct Goal {
    index: u64,
    wish: Wish,
}

impl Reads {
    /// No reads.
    pub(crate) const fn new(node: NodeId, boot_nonce: u64) -> Self {
        Self {
            node,
            boot_nonce,
            counter: 0,
            waiting: BTreeMap::new(),
            in_flight: None,
            confirmed: BTreeMap::new(),
            by_index: BTreeSet::new(),
            by_revision: BTreeSet::new(),
            bounded: BTreeMap::new(),
            backups: BTreeSet::new(),
            last: None,
        }
    }

    /// The last read index that was confirmed to this node. It stays true for ever, whoever leads later.
    pub(crate) const fn last_confirmed(&self) -> Option<Confirmed> {
        self.last
    }

    /// Whether a bounded read can be served from what is applied here and confirmed already.
    pub(crate) fn is_proven(&self, bound: Bound, applied: u64, now: Mono) -> bool {
        let applied = LogIndex::new(applied);
        self.last
            .is_some_and(|confirmed| bound.is_met(confirmed, applied, now))
    }

    /// Whether another read can wait.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= PENDING_READS_MAX
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        let asked = self
            .in_flight
            .as_ref()
            .map_or(0, |asked| asked.waiters.len());
        self.waiting.len() + asked + self.confirmed.len()
    }

    /// A linearizable read begins to wait.
    pub(crate) fn wait(&mut self, call: CallId, after: Revision) {
        self.waiting.insert(call, Wish { after, bound: None });
    }

    /// A bounded read begins to wait for a fresh proof.
    pub(crate) fn wait_bounded(&mut self, call: CallId, after: Revision, bound: Bound, now: Mono) {
        let bound = Some(bound);
        self.waiting.insert(call, Wish { after, bound });
        self.bounded.insert(call, now);
    }

    /// A backup begins to wait, as a linearizable read does.
    pub(crate) fn wait_backup(&mut self, call: CallId, after: Revision) {
        self.wait(call, after);
        self.backups.insert(call);
    }

    /// Whether a read that is ready is a backup. Forgets it.
    pub(crate) fn take_backup(&mut self, call: CallId) -> bool {
        self.backups.remove(&call)
    }

    /// The bounded reads that have waited longer than this; 0 for all of them. They wait no more.
    pub(crate) fn take_late(&mut self, now: Mono, patience_us: u64) -> Vec<CallId> {
        let late: Vec<CallId> = self
            .bounded
            .iter()
            .filter(|(_, since)| now.since_us(**since) >= patience_us)
            .map(|(call, _)| *call)
            .collect();
        for call in &late {
            self.cancel(*call);
        }
        late
    }

    /// A local read waits until the state covers what it has seen.
    pub(crate) fn wait_local(&mut self, call: CallId, after: Revision) {
        let wish = Wish { after, bound: None };
        self.wait_for_state(call, Goal { index: 0, wish });
    }

    fn wait_for_state(&mut self, call: CallId, goal: Goal) {
        self.confirmed.insert(call, goal);
        self.by_index.insert((goal.index, call));
    }

    /// The context to ask raft about now, if there is one to ask.
    pub(crate) fn next_context(&mut self, now: Mono) -> Option<Bytes> {
        if self.in_flight.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.counter += 1;
        let mut context = Vec::with_capacity(24);
        for number in [self.node.as_u64(), self.boot_nonce, self.counter] {
            context.extend_from_slice(&number.to_be_bytes());
        }
        let context = Bytes::from(context);
        self.in_flight = Some(InFlight {
            context: context.clone(),
            asked_at: now,
            waiters: std::mem::take(&mut self.waiting),
        });
        Some(context)
    }

    /// Raft answered a context. An answer to any but the one in flight is old and means nothing.
    pub(crate) fn confirm(&mut self, context: &[u8], index: u64) {
        if let Some(asked) = self.in_flight.take_if(|asked| asked.context == context) {
            self.last = Some(Confirmed {
                asked_at: asked.asked_at,
                index: LogIndex::new(index),
            });
            for (call, wish) in asked.waiters {
                let missing = wish.bound.map_or(0, |bound| bound.max_lag);
                let index = index.saturating_sub(missing);
                self.wait_for_state(call, Goal { index, wish });
            }
        }
    }

    /// Gives up the context in flight: its reads share the next one.
    pub(crate) fn ask_again(&mut self) {
        if let Some(mut asked) = self.in_flight.take() {
            self.waiting.append(&mut asked.waiters);
        }
    }

    /// As [`Self::ask_again`], if the context is older than this.
    pub(crate) fn ask_again_after(&mut self, now: Mono, patience_us: u64) {
        let asked_at = self.in_flight.as_ref().map(|asked| asked.asked_at);
        if asked_at.is_some_and(|asked_at| now.since_us(asked_at) >= patience_us) {
            self.ask_again();
        }
    }

    /// The reads that the state is fit for now.
    pub(crate) fn take_ready(&mut self, state: &StateMachine, now: Mono) -> Vec<CallId> {
        self.take_reached(state.applied.index, state.revision, now)
    }

    /// A bounded read whose proof has become too old while the state came up to it asks for a new one.
    fn take_reached(&mut self, applied: u64, revision: Revision, now: Mono) -> Vec<CallId> {
        while let Some((index, call)) = self.by_index.first().copied() {
            if index > applied {
                break;
            }
            self.by_index.pop_first();
            if let Some(goal) = self.confirmed.get(&call) {
                self.by_revision.insert((goal.wish.after, call));
            }
        }
        let mut ready = Vec::new();
        while let Some((after, call)) = self.by_revision.first().copied() {
            if after > revision {
                break;
            }
            self.by_revision.pop_first();
            let Some(goal) = self.confirmed.remove(&call) else {
                continue;
            };
            let proven = |bound| self.is_proven(bound, applied, now);
            if goal.wish.bound.is_none_or(proven) {
                self.bounded.remove(&call);
                ready.push(call);
            } else {
                self.waiting.insert(call, goal.wish);
            }
        }
        ready
    }

    /// Every read that has no index yet: the leader is lost.
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<CallId> {
        self.ask_again();
        let calls: Vec<CallId> = std::mem::take(&mut self.waiting).into_keys().collect();
        for call in &calls {
            self.bounded.remove(call);
            self.backups.remove(call);
        }
        calls
    }

    /// Every read.
    pub(crate) fn take_all(&mut self) -> Vec<CallId> {
        let mut calls = self.take_unconfirmed();
        self.by_index.clear();
        self.by_revision.clear();
        calls.extend(std::mem::take(&mut self.confirmed).into_keys());
        self.bounded.clear();
        self.backups.clear();
        calls
    }

    /// The caller has gone.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.bounded.remove(&call);
        self.backups.remove(&call);
        if self.waiting.remove(&call).is_some() {
            return;
        }
        if let Some(asked) = &mut self.in_flight
            && asked.waiters.remove(&call).is_some()
        {
            return;
        }
        if let Some(goal) = self.confirmed.remove(&call) {
            self.by_index.remove(&(goal.index, call));
            self.by_revision.remove(&(goal.wish.after, call));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_share_a_context_and_each_context_is_new() {
        let mut reads = Reads::new(NodeId::try_from(1).unwrap(), 77);
        assert_eq!(reads.next_context(Mono(0)), None);
        reads.wait(CallId::new(1), Revision::ZERO);
        reads.wait(CallId::new(2), Revision::ZERO);
        let first = reads.next_context(Mono(0)).unwrap();
        reads.wait(CallId::new(3), Revision::ZERO);
        assert_eq!(reads.next_context(Mono(1)), None, "one in flight");
        reads.ask_again_after(Mono(5), 10);
        assert_eq!(reads.next_context(Mono(5)), None, "not yet too old");
        reads.ask_again_after(Mono(10), 10);
        let second = reads.next_context(Mono(10)).unwrap();
        assert_ne!(first, second);
        reads.confirm(&first, 5);
        assert!(reads.confirmed.is_empty(), "an old answer means nothing");
        reads.confirm(&second, 5);
        assert_eq!(reads.confirmed.len(), 3);
    }

    #[test]
    fn a_bounded_read_is_served_by_another_reads_proof_while_that_is_fresh() {
        let mut reads = Reads::new(NodeId::try_from(1).unwrap(), 77);
        let bound = Bound {
            members: 0,
            max_lag: 2,
            max_age_us: 100,
        };
        assert!(!reads.is_proven(bound, 1_000, Mono(0)), "no proof yet");
        reads.wait(call(1), Revision::ZERO);
        let context = reads.next_context(Mono(50)).unwrap();
        reads.confirm(&context, 40);
        let confirmed = Confirmed {
            asked_at: Mono(50),
            index: LogIndex::new(40),
        };
        assert_eq!(reads.last_confirmed(), Some(confirmed));
        assert!(reads.is_proven(bound, 38, Mono(150)));
        assert!(!reads.is_proven(bound, 37, Mono(150)), "too far behind");
        assert!(!reads.is_proven(bound, 38, Mono(151)), "too old");
        // One that waits is served two entries early, but not by a proof that has become too old meanwhile.
        reads.wait_bounded(call(2), Revision::ZERO, bound, Mono(160));
        let context = reads.next_context(Mono(160)).unwrap();
        reads.confirm(&context, 50);
        assert_eq!(reads.take_reached(47, Revision::ZERO, Mono(170)), [call(1)]);
        assert_eq!(reads.take_reached(48, Revision::ZERO, Mono(270)), []);
        let context = reads.next_context(Mono(270)).unwrap();
        reads.confirm(&context, 50);
        assert_eq!(reads.take_reached(48, Revision::ZERO, Mono(280)), [call(2)]);
        assert_eq!(reads.take_late(Mono(9_999), 0), []);
    }

    fn call(number: u64) -> CallId {
        CallId::new(number)
    }

    #[test]
    fn a_caller_that_goes_is_answered_nowhere_wherever_it_waits() {
        let mut reads = Reads::new(NodeId::try_from(1).unwrap(), 77);
        for number in 0..8 {
            reads.wait(call(number), Revision::new(number));
        }
        let context = reads.next_context(Mono(0)).unwrap();
        reads.wait(call(8), Revision::ZERO);
        reads.wait_local(call(9), Revision::new(5));
        // Before it is asked about, while it is, and while the state is behind its index or its revision.
        reads.cancel(call(8));
        reads.cancel(call(1));
        reads.confirm(&context, 40);
        reads.cancel(call(2));
        assert_eq!(reads.take_reached(39, Revision::new(3), Mono(0)), []);
        assert_eq!(
            reads.take_reached(40, Revision::new(3), Mono(0)),
            [call(0), call(3)]
        );
        reads.cancel(call(4));
        reads.cancel(call(9));
        reads.cancel(call(100));
        assert_eq!(reads.len(), 3);
        assert_eq!(
            reads.take_reached(40, Revision::new(6), Mono(0)),
            [call(5), call(6)]
        );
        assert_eq!(reads.take_all(), [call(7)]);
        assert_eq!(reads.len(), 0);
        assert!(reads.by_index.is_empty() && reads.by_revision.is_empty());
    }
}
