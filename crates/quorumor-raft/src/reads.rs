//! Reads that wait: for a read index, and then for the state to reach it.
//!
//! One context is in flight at a time, and all reads that come meanwhile share the next one, so a thousand reads cost the
//! messages of one (Raft dissertation 6.4). A context is never used twice: raft drops one that it already knows.

use bytes::Bytes;
use quorumor_core::limits::PENDING_READS_MAX;
use quorumor_core::{CallId, Mono, NodeId, Revision};

use crate::state_machine::StateMachine;

/// A reader.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    call: CallId,
    after: Revision,
}

/// A context that raft was asked about.
#[derive(Debug)]
struct InFlight {
    context: Bytes,
    asked_at: Mono,
    waiters: Vec<Waiter>,
}

/// All waiting reads of one node.
#[derive(Debug)]
pub(crate) struct Reads {
    node: NodeId,
    boot_nonce: u64,
    counter: u64,
    waiting: Vec<Waiter>,
    in_flight: Option<InFlight>,
    /// Their index is known, and the state has to reach it.
    confirmed: Vec<(u64, Waiter)>,
}

impl Reads {
    /// No reads.
    pub(crate) const fn new(node: NodeId, boot_nonce: u64) -> Self {
        Self {
            node,
            boot_nonce,
            counter: 0,
            waiting: Vec::new(),
            in_flight: None,
            confirmed: Vec::new(),
        }
    }

    /// Whether another read can wait.
    pub(crate) fn is_full(&self) -> bool {
        let asked = self
            .in_flight
            .as_ref()
            .map_or(0, |asked| asked.waiters.len());
        self.waiting.len() + asked + self.confirmed.len() >= PENDING_READS_MAX
    }

    /// A linearizable read begins to wait.
    pub(crate) fn wait(&mut self, call: CallId, after: Revision) {
        self.waiting.push(Waiter { call, after });
    }

    /// A local read waits until the state covers what it has seen.
    pub(crate) fn wait_local(&mut self, call: CallId, after: Revision) {
        self.confirmed.push((0, Waiter { call, after }));
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
            self.confirmed
                .extend(asked.waiters.into_iter().map(|waiter| (index, waiter)));
        }
    }

    /// Gives up the context in flight: its reads share the next one.
    pub(crate) fn ask_again(&mut self) {
        if let Some(asked) = self.in_flight.take() {
            let later = std::mem::replace(&mut self.waiting, asked.waiters);
            self.waiting.extend(later);
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
        let mut ready = Vec::new();
        self.confirmed.retain(|(index, waiter)| {
            let fit = *index <= state.applied.index && waiter.after <= state.revision;
            if fit {
                ready.push(waiter.call);
            }
            !fit
        });
        ready
    }

    /// Every read that has no index yet: the leader is lost.
    pub(crate) fn take_unconfirmed(&mut self) -> Vec<CallId> {
        self.ask_again();
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|waiter| waiter.call)
            .collect()
    }

    /// Every read.
    pub(crate) fn take_all(&mut self) -> Vec<CallId> {
        let mut calls = self.take_unconfirmed();
        calls.extend(self.confirmed.drain(..).map(|(_, waiter)| waiter.call));
        calls
    }

    /// The caller has gone.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.waiting.retain(|waiter| waiter.call != call);
        self.confirmed.retain(|(_, waiter)| waiter.call != call);
        if let Some(asked) = &mut self.in_flight {
            asked.waiters.retain(|waiter| waiter.call != call);
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
}
