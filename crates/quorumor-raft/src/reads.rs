//! Reads that wait: for a read index, and then for the state to reach it.
//!
//! One context is in flight at a time, and all reads that come meanwhile share the next one, so a thousand reads cost the
//! messages of one (Raft dissertation 6.4). A context is never used twice: raft drops one that it already knows.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorumor_core::limits::PENDING_READS_MAX;
use quorumor_core::{CallId, Mono, NodeId, Revision};

use crate::state_machine::StateMachine;

/// A context that raft was asked about.
#[derive(Debug)]
struct InFlight {
    context: Bytes,
    asked_at: Mono,
    waiters: Waiters,
}

/// Readers, each with what its answer must cover.
type Waiters = BTreeMap<CallId, Revision>;

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
}

/// What the state must have come to.
#[derive(Clone, Copy, Debug)]
struct Goal {
    index: u64,
    after: Revision,
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
        }
    }

    /// Whether another read can wait.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= PENDING_READS_MAX
    }

    /// How many wait.
    fn len(&self) -> usize {
        let asked = self
            .in_flight
            .as_ref()
            .map_or(0, |asked| asked.waiters.len());
        self.waiting.len() + asked + self.confirmed.len()
    }

    /// A linearizable read begins to wait.
    pub(crate) fn wait(&mut self, call: CallId, after: Revision) {
        self.waiting.insert(call, after);
    }

    /// A local read waits until the state covers what it has seen.
    pub(crate) fn wait_local(&mut self, call: CallId, after: Revision) {
        self.wait_for_state(call, Goal { index: 0, after });
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
            for (call, after) in asked.waiters {
                self.wait_for_state(call, Goal { index, after });
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
    pub(crate) fn take_ready(&mut self, state: &StateMachine) -> Vec<CallId> {
        self.take_reached(state.applied.index, state.revision)
    }

    fn take_reached(&mut self, applied: u64, revision: Revision) -> Vec<CallId> {
        while let Some((index, call)) = self.by_index.first().copied() {
            if index > applied {
                break;
            }
            self.by_index.pop_first();
            if let Some(goal) = self.confirmed.get(&call) {
                self.by_revision.insert((goal.after, call));
            }
        }
        let mut ready = Vec::new();
        while let Some((after, call)) = self.by_revision.first().copied() {
            if after > revision {
                break;
            }
            self.by_revision.pop_first();
            self.confirmed.remove(&call);
            ready.push(call);
        }
        ready
    }

    /// Every read that has no index yet: the leader is lost.
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<CallId> {
        self.ask_again();
        std::mem::take(&mut self.waiting).into_keys().collect()
    }

    /// Every read.
    pub(crate) fn take_all(&mut self) -> Vec<CallId> {
        let mut calls = self.take_unconfirmed();
        self.by_index.clear();
        self.by_revision.clear();
        calls.extend(std::mem::take(&mut self.confirmed).into_keys());
        calls
    }

    /// The caller has gone.
    pub(crate) fn cancel(&mut self, call: CallId) {
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
            self.by_revision.remove(&(goal.after, call));
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
        assert_eq!(reads.take_reached(39, Revision::new(3)), []);
        assert_eq!(reads.take_reached(40, Revision::new(3)), [call(0), call(3)]);
        reads.cancel(call(4));
        reads.cancel(call(9));
        reads.cancel(call(100));
        assert_eq!(reads.len(), 3);
        assert_eq!(reads.take_reached(40, Revision::new(6)), [call(5), call(6)]);
        assert_eq!(reads.take_all(), [call(7)]);
        assert_eq!(reads.len(), 0);
        assert!(reads.by_index.is_empty() && reads.by_revision.is_empty());
    }
}
