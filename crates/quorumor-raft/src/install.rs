//! Checkpoints, compaction, and snapshots: how the log stays short, and how a node that was away for long catches up.
//!
//! A checkpoint is written aside while entries go on; only when it is durable may the log before it go. A snapshot from the
//! leader becomes this node's checkpoint first, and raft sees it only then, so nothing is ever acknowledged that a crash
//! could take.

use std::sync::Arc;

use quorumor_core::{
    Change, ChangeEvent, Error, NodeId, Output, Persist, PersistToken, Plant, Position, StreamClass,
};
use raft::eraftpb::{HardState, Message, MessageType};
use raft::{Ready, SnapshotStatus};

use crate::codec::checkpoint::StateSource;
use crate::codec::message::{Chunk, ChunkAck, PeerMessage, TransferState};
use crate::pending::Stage;
use crate::replica::RaftReplica;
use crate::state_machine::StateMachine;
use crate::transfer::{self, Outgoing, Pieces, Received};

/// A log of this many checkpoints' size means that the disk can't keep up: a leader refuses writes then.
const LOG_CHECKPOINTS_MAX: u64 = 8;
/// Entries between two checkpoints: at least this part of the keys, up to so many.
const CHECKPOINT_SHARE: u64 = 4;
const LOG_ENTRIES_MAX: u64 = 250_000;
/// Election timeouts without progress after which a transfer is given up.
const TRANSFER_PATIENCE: u64 = 5;

/// When the next checkpoint comes, and which is under way.
#[derive(Debug)]
pub(crate) struct Checkpointing {
    /// The last one's index, durable or under way.
    index: u64,
    /// Applied since.
    entries: u64,
    bytes: u64,
    under_way: Option<(PersistToken, u64)>,
}

impl Checkpointing {
    /// A start from the checkpoint of this index.
    pub(crate) const fn new(index: u64) -> Self {
        Self {
            index,
            entries: 0,
            bytes: 0,
            under_way: None,
        }
    }

    /// An entry was applied.
    pub(crate) const fn count(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
    }

    const fn begin(&mut self, token: PersistToken, index: u64) {
        *self = Self {
            index,
            entries: 0,
            bytes: 0,
            under_way: Some((token, index)),
        };
    }
}

/// An installed snapshot whose records aren't durable yet.
#[derive(Debug)]
pub(crate) struct Installing {
    token: PersistToken,
    index: u64,
    from: NodeId,
    transfer: u64,
}

impl RaftReplica {
    /// Starts a checkpoint if it is time, or the one of a snapshot that has come in. One at a time.
    pub(crate) fn start_checkpoint(&mut self) {
        if self.checkpointing.under_way.is_some() || self.installing.is_some() {
            return;
        }
        if self.staged.is_some() {
            self.checkpoint_staged();
            return;
        }
        let limits = self.config.compaction();
        // A checkpoint writes all keys, so it waits until a share of them may have changed.
        let share = (self.state.entries.len() as u64 / CHECKPOINT_SHARE).min(LOG_ENTRIES_MAX);
        let mut entries_max = limits.entries_max.max(share);
        // Not all nodes at the same time: while one writes, the others are a majority.
        entries_max += entries_max / 4 * (self.config.node().as_u64() % 3);
        let due = self.checkpointing.entries >= entries_max
            || self.checkpointing.bytes >= limits.bytes_max;
        if !due || self.state.applied.index <= self.checkpointing.index {
            return;
        }
        let token = self.next_token();
        self.checkpointing.begin(token, self.state.applied.index);
        self.outputs.push_back(Output::Persist(Persist::Checkpoint {
            token,
            position: self.state.applied.index,
            source: Box::new(StateSource::new(&self.state)),
        }));
    }

    fn checkpoint_staged(&mut self) {
        let committed = self.raw.raft.raft_log.committed;
        let Some(mut staged) = self.staged.take() else {
            return;
        };
        let index = staged.state.applied.index;
        if index <= committed || index <= self.checkpointing.index {
            // Meanwhile the log came as far.
            self.acknowledge(staged.from, staged.transfer, 0, TransferState::Done);
            return;
        }
        let token = self.next_token();
        staged.token = Some(token);
        self.checkpointing.begin(token, index);
        let pieces = Pieces(staged.pieces.clone().into_iter());
        self.staged = Some(staged);
        self.outputs.push_back(Output::Persist(Persist::Checkpoint {
            token,
            position: index,
            source: Box::new(pieces),
        }));
    }

    /// A checkpoint is durable: the log before it may go, or the snapshot that it holds be shown to raft.
    pub(crate) fn checkpointed(&mut self, token: PersistToken) {
        let Some((_, index)) = self
            .checkpointing
            .under_way
            .take_if(|(under_way, _)| *under_way == token)
        else {
            return;
        };
        if self
            .staged
            .as_ref()
            .is_some_and(|staged| staged.token == Some(token))
        {
            self.step_staged();
        } else {
            self.compact(index);
        }
    }

    fn compact(&mut self, index: u64) {
        let limits = *self.config.compaction();
        let log = self.raw.mut_store();
        log.compact(index, limits.keep_entries, limits.keep_bytes);
        let records = log.records(index);
        let token = self.next_token();
        self.outputs
            .push_back(Output::Persist(Persist::Compact { token, records }));
    }

    /// Shows raft a snapshot that is this node's checkpoint already. Raft asks for it to be installed, unless it has come as
    /// far by itself or follows a later leader; then the checkpoint was early, and no harm.
    fn step_staged(&mut self) {
        let Some(staged) = &self.staged else {
            return;
        };
        let mut message = Message {
            from: staged.from.as_u64(),
            to: self.raw.raft.id,
            term: staged.term,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgSnapshot);
        let metadata = message.mut_snapshot().mut_metadata();
        metadata.index = staged.state.applied.index;
        metadata.term = staged.state.applied.term;
        metadata.set_conf_state(staged.state.voters.to_raft());
        let _ = self.raw.step(message);
        self.drive();
        if let Some(staged) = self.staged.take() {
            self.acknowledge(staged.from, staged.transfer, 0, TransferState::Done);
        }
    }

    /// Replaces the whole state and log by the snapshot that raft took. Its checkpoint is durable; what is persisted now is
    /// the log that begins after it.
    pub(crate) fn install(&mut self, ready: &Ready, hard_state: Option<HardState>) -> PersistToken {
        let staged = self
            .staged
            .take()
            .expect("raft is shown a snapshot only when it is staged");
        let at = staged.state.applied;
        assert_eq!(
            at.index,
            ready.snapshot().get_metadata().index,
            "raft installs the snapshot that it was shown"
        );
        let token = self.next_token();
        let log = self.raw.mut_store();
        log.install(at, &staged.state.voters);
        // The records' own form is not needed: the compaction holds all of them.
        log.append(ready.entries(), &mut Vec::new());
        if let Some(state) = hard_state {
            log.set_hard_state(state);
        }
        let records = log.records(at.index);
        self.outputs
            .push_back(Output::Persist(Persist::Compact { token, records }));
        self.take_state(staged.state);
        self.clock.observe(self.state.log_time);
        self.digests.forget();
        self.installing = Some(Installing {
            token,
            index: at.index,
            from: staged.from,
            transfer: staged.transfer,
        });
        self.tell_of_reset();
        token
    }

    fn take_state(&mut self, state: StateMachine) {
        let planted = self.config.planted();
        self.state = StateMachine { planted, ..state };
        if planted.is(Plant::HalfInstalled)
            && let Some(lost) = self.state.entries.keys().next().cloned()
        {
            self.state.entries.remove(&lost);
        }
    }

    fn tell_of_reset(&mut self) {
        let position = Position::Strong(self.state.revision);
        self.outputs.push_back(Output::Changed(Change {
            position,
            events: Arc::from([ChangeEvent::Reset]),
        }));
        self.keep_alives.ask_again();
        // Their entries may be inside the snapshot, or not.
        for call in self
            .writes
            .finish_where(|stage| matches!(stage, Stage::Forwarded { .. } | Stage::Proposed { .. }))
        {
            let why = "the log was replaced by a snapshot while the write was with the leader";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
        self.forget_asked(
            "the log was replaced by a snapshot while the cluster was asked to change",
        );
        self.name_peers();
    }

    /// The persists up to this token are durable: an installation among them is complete.
    pub(crate) fn installed(&mut self, token: PersistToken) {
        if let Some(done) = self
            .installing
            .take_if(|installing| installing.token <= token)
        {
            self.raw.advance_apply_to(done.index);
            self.acknowledge(done.from, done.transfer, 0, TransferState::Done);
        }
    }

    /// Offers the applied state to whoever needs a snapshot, unless one is under way.
    pub(crate) fn offer_snapshot(&mut self) {
        let free = self.standing.leads && self.outgoing.is_none();
        let offer = free.then_some(self.state.applied);
        self.raw.store().set_offer(offer);
    }

    /// Raft wants this follower to have a snapshot. False if it can't be sent now.
    pub(crate) fn begin_transfer(&mut self, to: NodeId, term: u64, index: u64) -> bool {
        if self.outgoing.is_some() || index != self.state.applied.index {
            return false;
        }
        self.transfers += 1;
        self.outgoing = Some(Outgoing::new(
            to,
            self.transfers,
            term,
            &self.state,
            self.now,
        ));
        self.send_chunks();
        true
    }

    fn send_chunks(&mut self) {
        while let Some((to, chunk)) = self
            .outgoing
            .as_mut()
            .and_then(|outgoing| Some((outgoing.to, outgoing.next_chunk()?)))
        {
            self.send(to, StreamClass::Bulk, PeerMessage::Chunk(chunk));
        }
    }

    /// How a snapshot that this leader sends stands.
    pub(crate) fn take_chunk_ack(&mut self, from: NodeId, ack: &ChunkAck) {
        let now = self.now;
        let state = self
            .outgoing
            .as_mut()
            .filter(|outgoing| outgoing.to == from)
            .and_then(|outgoing| outgoing.acked(ack, now));
        match state {
            Some(TransferState::Going) => self.send_chunks(),
            Some(TransferState::Done) => self.end_transfer(SnapshotStatus::Finish),
            Some(TransferState::Failed) => self.end_transfer(SnapshotStatus::Failure),
            None => {}
        }
    }

    fn end_transfer(&mut self, status: SnapshotStatus) {
        if let Some(outgoing) = self.outgoing.take() {
            self.raw.report_snapshot(outgoing.to.as_u64(), status);
        }
    }

    /// Contact with this peer was lost. If its process is gone, so is what it had got; otherwise missing pieces are sent
    /// again.
    pub(crate) fn fail_transfer_to(&mut self, peer: NodeId) {
        let gone = self.contacts.is_gone(peer);
        match self
            .outgoing
            .as_mut()
            .filter(|outgoing| outgoing.to == peer)
        {
            Some(_) if gone => self.end_transfer(SnapshotStatus::Failure),
            Some(outgoing) => outgoing.lose(),
            None => {}
        }
    }

    /// Whoever is no member any more needs no snapshot, and others may be waiting for one.
    pub(crate) fn drop_transfer_to_stranger(&mut self) {
        let voters = &self.state.voters;
        self.outgoing
            .take_if(|outgoing| !voters.contains(outgoing.to.as_u64()));
    }

    pub(crate) fn give_up_stuck_transfers(&mut self) {
        let patience = self
            .config
            .timing()
            .election_timeout_us()
            .saturating_mul(TRANSFER_PATIENCE);
        let now = self.now;
        if self
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| outgoing.is_stuck(now, patience))
        {
            self.end_transfer(SnapshotStatus::Failure);
        }
        transfer::forget_stuck(&mut self.incoming, now, patience);
        let half = self.config.timing().election_timeout_us() / 2;
        let missing = self
            .outgoing
            .as_mut()
            .map(|outgoing| (outgoing.to, outgoing.send_again(now, half)));
        if let Some((to, chunks)) = missing {
            for chunk in chunks {
                self.send(to, StreamClass::Bulk, PeerMessage::Chunk(chunk));
            }
        }
    }

    /// A piece of a snapshot from a leader.
    pub(crate) fn take_chunk(&mut self, from: NodeId, chunk: Chunk) {
        let (id, seq) = (chunk.transfer, chunk.seq);
        if let Some(staged) = &self.staged {
            let same = staged.from == from && staged.transfer == id;
            let state = if same {
                TransferState::Going
            } else {
                TransferState::Failed
            };
            self.acknowledge(from, id, seq, state);
            return;
        }
        if self.standing.leads || chunk.term < self.raw.raft.term || self.installing.is_some() {
            self.acknowledge(from, id, 0, TransferState::Failed);
            return;
        }
        match transfer::receive(&mut self.incoming, from, chunk, self.now) {
            Received::Going(received) => {
                self.acknowledge(from, id, received, TransferState::Going);
            }
            Received::Broken => self.acknowledge(from, id, 0, TransferState::Failed),
            Received::Whole(staged) => {
                let ours = staged.state.cluster == self.state.cluster
                    && staged.state.voters.contains(self.raw.raft.id);
                if ours {
                    self.acknowledge(from, id, seq + 1, TransferState::Going);
                    self.staged = Some(staged);
                } else {
                    self.acknowledge(from, id, 0, TransferState::Failed);
                }
            }
        }
    }

    /// Tells the leader that its snapshot is still being written.
    pub(crate) fn tell_staged(&mut self) {
        if let Some(staged) = &self.staged {
            let (from, transfer) = (staged.from, staged.transfer);
            let received = staged.pieces.len() as u64;
            self.acknowledge(from, transfer, received, TransferState::Going);
        }
    }

    fn acknowledge(&mut self, to: NodeId, transfer: u64, received: u64, state: TransferState) {
        let ack = ChunkAck {
            transfer,
            received,
            state: state.into(),
        };
        self.send(to, StreamClass::Control, PeerMessage::ChunkAck(ack));
    }

    /// Whether the log outgrew what checkpoints can keep short.
    pub(crate) fn is_log_full(&self) -> bool {
        let limits = self.config.compaction();
        let max = limits
            .bytes_max
            .saturating_mul(LOG_CHECKPOINTS_MAX)
            .saturating_add(limits.keep_bytes);
        self.raw.store().bytes() > max
    }
}
