//! What raft wants done, as outputs, in the order that keeps its promises.
//!
//! A leader's messages leave at once, while its own disk still writes (Raft dissertation 10.2.1). Anybody else's wait until
//! what they speak of is durable, but for two that speak of nothing durable: a heartbeat's answer, and a read index for the
//! leader. Held back behind a slow disk, those would stall reads and depose a healthy leader. Entries that are committed
//! are applied here, and their waiters answered.

use quorumor_core::{
    BackupSource, Error, LogRecord, NodeId, Output, Persist, PersistToken, Position, Reply,
    StreamClass,
};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Ready, StateRole};

use crate::append;
use crate::codec::checkpoint::StateSource;
use crate::codec::message::{PeerMessage, RaftMessage};
use crate::codec::proposal::{Proposal, decode_time};
use crate::election;
use crate::log::weight;
use crate::replica::RaftReplica;
use crate::state_machine::{Mark, Results};

/// A Ready whose data isn't durable yet.
#[derive(Debug)]
pub(crate) struct Awaiting {
    /// The persist that it waits for.
    pub(crate) token: PersistToken,
    /// Raft's number for it.
    pub(crate) number: u64,
    /// Messages that may leave only then.
    pub(crate) held: Vec<Message>,
}

impl RaftReplica {
    /// Carries out whatever raft wants, feeds it what waits for it, until neither is left.
    pub(crate) fn drive(&mut self) {
        loop {
            election::settle(&mut self.raw, self.config.seed(), self.config.node());
            if self.is_damaged() {
                return;
            }
            if self.raw.has_ready() {
                self.process_ready();
                continue;
            }
            self.observe_standing();
            if !self.feed() && !self.raw.has_ready() {
                break;
            }
        }
        self.answer_reads();
        self.start_checkpoint();
        self.offer_snapshot();
    }

    /// Gives raft what waited for it; says whether there was anything.
    fn feed(&mut self) -> bool {
        if self.installing.is_some() {
            return false;
        }
        let announced = self.announce();
        let kept_up = self.keep_up();
        let renewed = self.send_keep_alives();
        let proposed = self.propose_queued();
        let asked = self.ask_reads();
        let stepped = self.step_deferred_reads();
        let handed_over = self.hand_over();
        announced || kept_up || renewed || proposed || asked || stepped || handed_over
    }

    fn process_ready(&mut self) {
        let mut ready = self.raw.ready();
        let read_states = ready.take_read_states();
        let committed = ready.take_committed_entries();
        let at_once = ready.take_messages();
        let (released, held): (Vec<_>, Vec<_>) = ready
            .take_persisted_messages()
            .into_iter()
            .partition(speaks_of_nothing_durable);
        let failed = self.send_all(at_once);
        self.send_all(released);
        let waits_for = self.persist(&mut ready);
        let number = ready.number();
        self.raw.advance_append_async(ready);
        match waits_for {
            Some(token) => self.awaiting.push_back(Awaiting {
                token,
                number,
                held,
            }),
            None => {
                self.raw.on_persist_ready(number);
                self.send_all(held);
            }
        }
        self.apply(committed);
        self.offer_snapshot();
        for state in read_states {
            self.reads.confirm(&state.request_ctx, state.index);
            self.upkeep.confirm(&state.request_ctx);
        }
        for to in failed {
            self.raw.report_snapshot(to, raft::SnapshotStatus::Failure);
        }
    }

    /// Puts entries, hard state and snapshot where raft reads them, and asks for them to be made durable. Gives what the
    /// held messages must wait for.
    fn persist(&mut self, ready: &mut Ready) -> Option<PersistToken> {
        let hard_state = ready.hs().cloned();
        if !ready.snapshot().is_empty() {
            return Some(self.install(ready, hard_state));
        }
        let mut records: Vec<LogRecord> = Vec::new();
        if self.raw.raft.state == StateRole::Leader {
            self.clock.observe_all(ready.entries());
        } else {
            self.clock.follow(ready.entries());
        }
        let log = self.raw.mut_store();
        log.append(ready.entries(), &mut records);
        if let Some(state) = hard_state {
            log.set_hard_state(state);
        }
        if ready.must_sync() {
            records.extend(log.unwritten_hard_state());
            let token = self.next_token();
            self.outputs.push_back(Output::Persist(Persist::Append {
                token,
                records,
                sync: true,
            }));
            return Some(token);
        }
        // Nothing of its own to wait for, but Readies complete in order.
        self.awaiting.back().map(|last| last.token)
    }

    /// Notes how far the log is committed, if only that moved since the last append. Nobody waits for it: a restart learns
    /// it from the leader, and only begins to apply earlier if it knows.
    pub(crate) fn persist_commit(&mut self) {
        if self.installing.is_some() {
            return;
        }
        let Some(record) = self.raw.mut_store().unwritten_hard_state() else {
            return;
        };
        let token = self.next_token();
        self.outputs.push_back(Output::Persist(Persist::Append {
            token,
            records: vec![record],
            sync: false,
        }));
    }

    /// Sends messages; gives the peers whose snapshot can't be sent now.
    pub(crate) fn send_all(&mut self, messages: Vec<Message>) -> Vec<u64> {
        let mut failed = Vec::new();
        for message in messages {
            let Ok(to) = NodeId::try_from(message.to) else {
                continue;
            };
            if self.repeats.is_repeat(&message, self.now) {
                continue;
            }
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let metadata = message.get_snapshot().get_metadata();
                if !self.begin_transfer(to, message.term, metadata.index) {
                    failed.push(message.to);
                }
            } else {
                for message in append::split(message)
                    .into_iter()
                    .filter_map(RaftMessage::from_raft)
                {
                    self.send(to, StreamClass::Control, PeerMessage::Raft(message));
                }
            }
        }
        failed
    }

    fn apply(&mut self, committed: Vec<Entry>) {
        let Some(last) = committed.last().map(|entry| entry.index) else {
            return;
        };
        for entry in committed {
            self.checkpointing.count(weight(&entry));
            if let Err(why) = self.apply_entry(entry) {
                self.damaged(why);
                return;
            }
        }
        self.raw.advance_apply_to(last);
        self.nudge_followers();
    }

    /// Applies one entry and answers who waits for it. An entry that this version can't read is the end: every other node
    /// would go on with another state.
    fn apply_entry(&mut self, entry: Entry) -> Result<(), String> {
        let at = Mark {
            index: entry.index,
            term: entry.term,
        };
        if let Some(call) = self.writes.overruled(at.index, at.term) {
            let hint = self.hint();
            self.reply(call, Err(Error::NotLeader { hint }));
        }
        let unreadable = |why| format!("the committed entry {} can't be read: {why}", at.index);
        let (time, proposal) = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => (None, None),
            EntryType::EntryNormal => (
                decode_time(&entry.context).map_err(unreadable)?,
                Some(Proposal::decode(entry.data).map_err(unreadable)?),
            ),
            EntryType::EntryConfChangeV2 => return self.apply_change(at, entry.data),
            EntryType::EntryConfChange => {
                return Err(format!(
                    "the committed entry {} changes the configuration in a form that no version writes",
                    at.index
                ));
            }
        };
        let own = proposal.as_ref().map(|proposal| proposal.id).filter(|id| {
            id.node == self.config.node() && id.boot_nonce == self.config.boot_nonce()
        });
        let results = match own {
            Some(id) if self.writes.is_awaited(id.counter) => Results::Wanted,
            Some(_) | None => Results::Unwanted,
        };
        let tick = proposal.as_ref().and_then(Proposal::tick);
        let applied = self.state.apply(at, time, proposal, results);
        for change in applied.changes {
            self.outputs.push_back(Output::Changed(change));
        }
        if let Some(node) = applied.member {
            self.name_peer(node);
        }
        self.watch_digests(at, tick);
        if let Some(id) = own {
            self.answer_own(id.counter, applied.answer);
        }
        Ok(())
    }

    fn answer_reads(&mut self) {
        for call in self.reads.take_ready(&self.state, self.now) {
            let position = Position::Strong(self.state.revision);
            let reply = if self.reads.take_backup(call) {
                let source = BackupSource(Box::new(StateSource::new(&self.state)));
                Reply::Backup { source, position }
            } else {
                Reply::ReadReady { position }
            };
            self.reply(call, Ok(reply));
        }
    }
}

/// Whether a message of a node that doesn't lead may leave before its Ready is durable.
fn speaks_of_nothing_durable(message: &Message) -> bool {
    matches!(
        message.get_msg_type(),
        MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex
    )
}
