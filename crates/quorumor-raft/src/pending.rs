//! Writes that wait: for their turn to be proposed, for the leader's word, for their entry to be applied.
//!
//! An answer is matched by the write's own id, which its entry carries, and never by order. A write that may be in some
//! leader's log is *unknown* once contact with that leader is lost; one that surely is in none was *not applied*.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use quorumor_core::limits::PENDING_WRITES_MAX;
use quorumor_core::{CallId, NodeId};

use crate::codec::proposal::WriteId;

/// Entries in one proposal: what one append message and one frame of the log hold well.
const PROPOSAL_ENTRIES_MAX: usize = 1_024;
/// Their bytes. A single larger entry still goes, alone.
const PROPOSAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes that wait for their turn. Twice raft's own limit on uncommitted entries.
const QUEUE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Writes at the leader that nobody has answered: half of what a stream's queue holds. A stream that overflows loses what
/// it can't name, and every write on it is *unknown*; a refusal before is *not applied*, and concerns one.
const FORWARDED_MAX: usize = 2_048;
/// Their bytes, likewise.
const FORWARDED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Urgent requests that wait, beyond any writes.
const URGENT_MAX: usize = 4_096;

/// How far a write of this node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits here to be proposed.
    Queued,
    /// It is in this node's log.
    Proposed {
        /// The term it was proposed in.
        term: u64,
        /// Its place.
        index: u64,
    },
    /// It was sent to the leader.
    Forwarded {
        /// The leader.
        to: NodeId,
        /// Its length.
        bytes: usize,
    },
}

impl Stage {
    /// Whether the write was sent to this node.
    pub(crate) fn is_with(self, peer: NodeId) -> bool {
        match self {
            Self::Forwarded { to, .. } => to == peer,
            Self::Queued | Self::Proposed { .. } => false,
        }
    }
}

/// A write of this node that has no outcome yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// Who waits; nobody for a node's word about itself.
    call: Option<CallId>,
    stage: Stage,
}

/// A write that waits to be proposed, of this node or of another.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// Whose it is.
    pub(crate) id: WriteId,
    /// Its entry's data.
    pub(crate) data: Bytes,
}

/// All waiting writes of one node.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    counter: u64,
    pending: BTreeMap<u64, Pending>,
    calls: BTreeMap<CallId, u64>,
    proposed: BTreeMap<u64, u64>,
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// What goes before all of those and is refused by no load of them: keep-alives, revocations, the leader's upkeep.
    urgent: VecDeque<Queued>,
    /// Which of the queued nobody waits for any more: they are passed over when their turn comes.
    gone: BTreeSet<WriteId>,
    forwarded: usize,
    forwarded_bytes: usize,
}

impl Writes {
    /// The next number for a write of this node.
    pub(crate) const fn next_counter(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Whether another write of this node can wait.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_WRITES_MAX || self.is_queue_full()
    }

    /// Whether another write of anyone can be queued.
    pub(crate) fn is_queue_full(&self) -> bool {
        self.queue.len() >= PENDING_WRITES_MAX || self.queue_bytes >= QUEUE_BYTES_MAX
    }

    /// Whether another urgent request of this node can't wait.
    pub(crate) fn is_urgent_full(&self) -> bool {
        self.pending.len() >= PENDING_WRITES_MAX + URGENT_MAX || self.is_urgent_queue_full()
    }

    /// Whether another urgent request of anyone can't be queued.
    pub(crate) fn is_urgent_queue_full(&self) -> bool {
        self.urgent.len() >= URGENT_MAX
    }

    /// Whether a write of this length can't be sent to the leader now.
    pub(crate) const fn is_stream_full(&self, bytes: usize) -> bool {
        self.forwarded >= FORWARDED_MAX || self.forwarded_bytes + bytes > FORWARDED_BYTES_MAX
    }

    /// How many writes of this node have no outcome yet.
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// A write of this node begins to wait.
    pub(crate) fn wait(&mut self, counter: u64, call: Option<CallId>, stage: Stage) {
        if let Stage::Forwarded { bytes, .. } = stage {
            self.forwarded += 1;
            self.forwarded_bytes += bytes;
        }
        self.pending.insert(counter, Pending { call, stage });
        if let Some(call) = call {
            self.calls.insert(call, counter);
        }
    }

    /// Puts a write in line to be proposed.
    pub(crate) fn enqueue(&mut self, queued: Queued) {
        self.queue_bytes += queued.data.len();
        self.queue.push_back(queued);
    }

    /// Puts a request in the urgent line.
    pub(crate) fn enqueue_urgent(&mut self, queued: Queued) {
        self.urgent.push_back(queued);
    }

    /// Puts a round of keep-alives before all else: what ends leases must come after it.
    pub(crate) fn enqueue_first(&mut self, queued: Queued) {
        self.urgent.push_front(queued);
    }

    /// Takes what is urgent, as much as one proposal holds.
    pub(crate) fn take_urgent(&mut self) -> Vec<Queued> {
        let mut bytes = 0;
        let fits = |queued: &&Queued| {
            bytes += queued.data.len();
            bytes <= PROPOSAL_BYTES_MAX
        };
        let count = self
            .urgent
            .iter()
            .take(PROPOSAL_ENTRIES_MAX)
            .take_while(fits);
        let count = count.count().max(1).min(self.urgent.len());
        let gone = &mut self.gone;
        let group = self.urgent.drain(..count);
        group.filter(|queued| !gone.remove(&queued.id)).collect()
    }

    /// Takes as many queued writes as one proposal holds.
    pub(crate) fn take_group(&mut self) -> Vec<Queued> {
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.queue.front() {
            if self.gone.remove(&next.id) {
                self.queue_bytes -= next.data.len();
                self.queue.pop_front();
                continue;
            }
            let too_heavy = bytes + next.data.len() > PROPOSAL_BYTES_MAX;
            if group.len() >= PROPOSAL_ENTRIES_MAX || (too_heavy && !group.is_empty()) {
                break;
            }
            bytes += next.data.len();
            group.extend(self.queue.pop_front());
        }
        self.queue_bytes -= bytes;
        group
    }

    /// How many requests of anyone wait to be proposed.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len() + self.urgent.len()
    }

    /// Whether anything waits to be proposed.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty() || !self.urgent.is_empty()
    }

    /// A write of this node is in the log.
    pub(crate) fn proposed(&mut self, counter: u64, term: u64, index: u64) {
        if let Some(pending) = self.pending.get_mut(&counter) {
            pending.stage = Stage::Proposed { term, index };
            self.proposed.insert(index, counter);
        }
    }

    /// Whether somebody waits for this write's results.
    pub(crate) fn is_awaited(&self, counter: u64) -> bool {
        self.pending
            .get(&counter)
            .is_some_and(|pending| pending.call.is_some())
    }

    /// Whether any caller of this node waits.
    pub(crate) fn has_open(&self) -> bool {
        !self.calls.is_empty() || self.has_queued()
    }

    /// Whether this write was forwarded to this node and has no outcome yet.
    pub(crate) fn is_with(&self, counter: u64, peer: NodeId) -> bool {
        self.pending
            .get(&counter)
            .is_some_and(|pending| pending.stage.is_with(peer))
    }

    /// The write has its outcome; gives whom to answer.
    pub(crate) fn finish(&mut self, counter: u64) -> Option<CallId> {
        let pending = self.pending.remove(&counter)?;
        match pending.stage {
            Stage::Queued => {}
            Stage::Proposed { index, .. } => {
                self.proposed.remove(&index);
            }
            Stage::Forwarded { bytes, .. } => {
                self.forwarded -= 1;
                self.forwarded_bytes -= bytes;
            }
        }
        let call = pending.call?;
        self.calls.remove(&call);
        Some(call)
    }

    /// An entry of this term was applied at this index: a write that was proposed there in another term lost its place
    /// and never will be applied. Gives whom to answer so.
    pub(crate) fn overruled(&mut self, index: u64, term: u64) -> Option<CallId> {
        let counter = *self.proposed.get(&index)?;
        let pending = self.pending.get(&counter)?;
        match pending.stage {
            Stage::Proposed { term: own, .. } if own != term => self.finish(counter),
            Stage::Proposed { .. } | Stage::Queued | Stage::Forwarded { .. } => None,
        }
    }

    /// The caller has gone. What waits here is never proposed. What is with the leader needs no place here any more: if it was
    /// lost on the way, nothing would ever give the place back.
    pub(crate) fn cancel(&mut self, call: CallId, own: (NodeId, u64)) {
        let Some(counter) = self.calls.remove(&call) else {
            return;
        };
        let Some(pending) = self.pending.get_mut(&counter) else {
            return;
        };
        pending.call = None;
        match pending.stage {
            Stage::Proposed { .. } => {}
            Stage::Forwarded { .. } => {
                self.finish(counter);
            }
            Stage::Queued => {
                self.finish(counter);
                self.gone.insert(WriteId {
                    node: own.0,
                    boot_nonce: own.1,
                    counter,
                });
            }
        }
    }

    /// Every write at a stage that matches, finished; gives whom to answer.
    pub(crate) fn finish_where(&mut self, matches: impl Fn(Stage) -> bool) -> Vec<CallId> {
        let counters: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| matches(pending.stage))
            .map(|(counter, _)| *counter)
            .collect();
        counters
            .into_iter()
            .filter_map(|counter| self.finish(counter))
            .collect()
    }

    /// Empties the queue; gives what was in it.
    pub(crate) fn drain_queue(&mut self) -> Vec<Queued> {
        self.queue_bytes = 0;
        self.gone.clear();
        self.urgent.drain(..).chain(self.queue.drain(..)).collect()
    }
}

/// Which forwarded writes a leader has seen, so that a message that comes twice is proposed once. Counters of one sender
/// grow, and its stream keeps their order.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<NodeId, (u64, u64)>);

impl Seen {
    /// Whether this write comes for the first time. Remembers it.
    pub(crate) fn is_new(&mut self, id: WriteId) -> bool {
        let (nonce, highest) = self.0.entry(id.node).or_insert((id.boot_nonce, 0));
        if *nonce != id.boot_nonce {
            *nonce = id.boot_nonce;
            *highest = 0;
        }
        let new = id.counter > *highest;
        *highest = (*highest).max(id.counter);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(counter: u64) -> WriteId {
        WriteId {
            node: NodeId::try_from(1).unwrap(),
            boot_nonce: 9,
            counter,
        }
    }

    fn queued(counter: u64, bytes: usize) -> Queued {
        Queued {
            id: id(counter),
            data: vec![0; bytes].into(),
        }
    }

    #[test]
    fn a_group_is_bounded_by_entries_and_by_bytes_but_holds_at_least_one() {
        let mut writes = Writes::default();
        writes.enqueue(queued(1, PROPOSAL_BYTES_MAX + 1));
        writes.enqueue(queued(2, PROPOSAL_BYTES_MAX));
        writes.enqueue(queued(3, 1));
        assert_eq!(writes.take_group().len(), 1);
        assert_eq!(writes.take_group().len(), 1);
        assert_eq!(writes.take_group().len(), 1);
        for counter in 0..2_000 {
            writes.enqueue(queued(counter, 1));
        }
        assert_eq!(writes.take_group().len(), PROPOSAL_ENTRIES_MAX);
        assert_eq!(writes.queue_bytes, 2_000 - PROPOSAL_ENTRIES_MAX);
    }

    #[test]
    fn a_write_whose_place_another_term_took_was_not_applied() {
        let mut writes = Writes::default();
        let call = CallId::new(4);
        writes.wait(1, Some(call), Stage::Queued);
        writes.proposed(1, 3, 10);
        assert_eq!(writes.overruled(10, 3), None);
        assert_eq!(writes.overruled(9, 4), None);
        assert_eq!(writes.overruled(10, 4), Some(call));
        assert_eq!(writes.len(), 0);
    }

    #[test]
    fn a_cancelled_write_answers_nobody() {
        let mut writes = Writes::default();
        let call = CallId::new(4);
        writes.wait(1, Some(call), Stage::Queued);
        writes.proposed(1, 3, 10);
        writes.cancel(call, own());
        assert!(!writes.is_awaited(1));
        assert_eq!(writes.finish(1), None);
    }

    #[test]
    fn a_write_whose_caller_has_gone_before_its_turn_is_never_proposed() {
        let mut writes = Writes::default();
        for counter in 1..=3 {
            writes.wait(counter, Some(CallId::new(counter)), Stage::Queued);
            writes.enqueue(queued(counter, 10));
        }
        writes.wait(4, Some(CallId::new(4)), Stage::Queued);
        writes.enqueue_urgent(queued(4, 10));
        // Another node's write has the same number.
        let mut other = queued(2, 10);
        other.id.boot_nonce += 1;
        writes.enqueue(other.clone());
        writes.cancel(CallId::new(2), own());
        writes.cancel(CallId::new(4), own());
        assert_eq!(writes.len(), 2);
        assert!(writes.take_urgent().is_empty());
        let taken: Vec<WriteId> = writes.take_group().iter().map(|next| next.id).collect();
        assert_eq!(taken, [id(1), id(3), other.id]);
        assert_eq!((writes.queue_bytes, writes.gone.len()), (0, 0));
    }

    fn own() -> (NodeId, u64) {
        (id(1).node, id(1).boot_nonce)
    }

    #[test]
    fn a_forwarded_write_that_comes_twice_is_seen_once() {
        let mut seen = Seen::default();
        assert!(seen.is_new(id(1)));
        assert!(!seen.is_new(id(1)));
        assert!(seen.is_new(id(3)));
        assert!(!seen.is_new(id(2)));
        let restarted = WriteId {
            boot_nonce: 10,
            ..id(1)
        };
        assert!(seen.is_new(restarted));
    }

    #[test]
    fn forwarded_writes_are_bounded_and_give_their_place_back_however_they_end() {
        let mut writes = Writes::default();
        let forwarded = |bytes| Stage::Forwarded {
            to: NodeId::try_from(2).unwrap(),
            bytes,
        };
        for end in 0..3 {
            for counter in 0..FORWARDED_MAX as u64 {
                assert!(!writes.is_stream_full(100));
                writes.wait(counter, Some(CallId::new(counter)), forwarded(100));
            }
            assert!(writes.is_stream_full(0));
            match end {
                0 => (0..FORWARDED_MAX as u64).for_each(|i| writes.cancel(CallId::new(i), own())),
                1 => drop(writes.finish_where(|stage| matches!(stage, Stage::Forwarded { .. }))),
                _ => assert!((0..FORWARDED_MAX as u64).all(|i| writes.finish(i).is_some())),
            }
            assert_eq!((writes.forwarded, writes.forwarded_bytes), (0, 0));
            assert_eq!(writes.len(), 0);
        }
        writes.wait(1, None, forwarded(FORWARDED_BYTES_MAX));
        assert!(writes.is_stream_full(1));
    }
}
