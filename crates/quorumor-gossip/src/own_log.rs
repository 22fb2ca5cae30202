//! Whether this node's own log is whole, and what happens if it isn't: it goes on in a new one, so that no dot is ever
//! used twice.
//!
//! A disk may have lost the end of the log without a trace: put back to an earlier image, or damaged in its last frame,
//! which looks like a write that was under way at a crash. Only peers can tell. So after a restart writes wait until a
//! peer has said how far it knows this log; if nobody answers in time, or if the end was found torn, a new log begins.
//!
//! The limits: one peer's word counts for all, so if only an absent peer heard what was lost, dots are used twice. And a
//! node without seeds whose disk remembers no peer takes itself for the only one.

use quorumor_core::{Dot, Error, LogId, Plant, Seq};

use crate::replica::GossipReplica;
use crate::vector::Context;

impl GossipReplica {
    /// A peer's knowledge of this node's log was heard, and it is no more than what is here.
    pub(crate) fn trust_own_log(&mut self) {
        self.me.log_doubted = false;
    }

    /// A peer knows this much of this node's log. All of it, and no more: then it is whole. One that knows less may lag.
    pub(crate) fn hear_of_own_log(&mut self, seq: Seq) {
        self.check_own_seq(seq);
        if seq == self.store.known().seq(self.config.node, self.me.log_id) {
            self.trust_own_log();
        }
    }

    /// Nobody could say whether the log is whole: it isn't continued.
    pub(crate) fn give_up_doubted_log(&mut self) {
        if self.me.log_doubted {
            self.counters.logs_doubted += 1;
            self.begin_log();
        }
    }

    /// A peer knows this write.
    pub(crate) fn check_own_dot(&mut self, dot: Dot) {
        if dot.writer == self.config.node && dot.log_id == self.me.log_id {
            self.check_own_seq(dot.seq);
        }
    }

    /// A peer knows this much of this node's log. What is told is durable and shown here before, so if it is more than
    /// what is shown, the disk was put back to an earlier state.
    pub(crate) fn check_own_seq(&mut self, seq: Seq) {
        let is_more = seq > self.store.known().seq(self.config.node, self.me.log_id);
        if is_more && !self.config.planted.is(Plant::ReusedSequence) {
            self.counters.logs_lost += 1;
            self.begin_log();
        }
    }

    /// The planted defect: an own write that this node has forgotten stays forgotten.
    pub(crate) fn forgets(&self, dot: Dot) -> bool {
        let is_own = dot.writer == self.config.node && dot.log_id == self.me.log_id;
        self.config.planted.is(Plant::ReusedSequence) && is_own
    }

    /// The sequence of a write with this context. With the planted defect others' writes may have seen more of the own log than
    /// this node went on from; that isn't given again.
    pub(crate) fn next_own_seq(&self, context: &Context) -> Seq {
        let (writer, log_id) = (self.config.node, self.me.log_id);
        let mut seq = self.me.seq.next();
        let is_seen = |seq| {
            let dot = Dot {
                writer,
                log_id,
                seq,
            };
            context.covers(dot)
        };
        while self.config.planted.is(Plant::ReusedSequence) && is_seen(seq) {
            seq = seq.next();
        }
        seq
    }

    /// Goes on in a new log; the rest of the old one is pulled like anyone's.
    pub(crate) fn begin_log(&mut self) {
        let old = self.me.log_id;
        let kept = self.store.known().seq(self.config.node, old);
        for write in self.durability.abandon() {
            if let Some(call) = write.call {
                let why = "this node's log was found cut back";
                self.reply(call, Err(Error::OutcomeUnknown { why }));
            }
        }
        self.requests.clear_overlays();
        self.me.log_doubted = false;
        self.me.log_id = old.next().max(LogId::new(self.now.wall_ms));
        self.me.seq = Seq::ZERO;
        self.note_written();
        let discard = self.durability.discard_record(old, kept);
        let (token, records) = self.durability.several(vec![discard, self.meta().record()]);
        self.append(token, records, true);
    }
}
