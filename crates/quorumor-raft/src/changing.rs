//! Changes of membership, as the leader carries them out and as every node applies them.
//!
//! The leader proposes one at a time: raft-rs replaces a second one by an empty entry without a word, so it is refused here.
//! What the rules allow is in `conf_change.rs`; here the leader also asks whether a change is wise as things stand. Who
//! waits for an answer is in `asking.rs`.

use quorumor_core::{DiskState, Mono, NodeId, StreamClass};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};
use raft::{ProgressState, StateRole};

use crate::asking::{Asking, No, Taken};
use crate::codec::conf_change::{
    Ask, ChangeEntry, Told, Word, decode_change, encode_change, leave_joint,
};
use crate::codec::message::PeerMessage;
use crate::codec::proposal::WriteId;
use crate::conf_change::{Allowed, MemberChange};
use crate::membership::Voters;
use crate::replica::RaftReplica;
use crate::state_machine::Mark;

/// A learner that misses no more entries than this has caught up: what a loaded cluster has on its way in about 50 ms.
const CAUGHT_UP_ENTRIES: u64 = 4_096;

impl RaftReplica {
    pub(crate) fn next_change_id(&mut self) -> WriteId {
        self.changes.counter += 1;
        WriteId {
            node: self.config.node(),
            boot_nonce: self.config.boot_nonce(),
            counter: self.changes.counter,
        }
    }

    /// Another node's question, for this leader.
    pub(crate) fn take_ask(&mut self, from: NodeId, ask: Ask) {
        let id = WriteId {
            node: from,
            boot_nonce: ask.boot_nonce,
            counter: ask.counter,
        };
        let term = ask.term;
        let Some(asking) = Asking::from_wire(ask) else {
            return;
        };
        if !self.changes.seen.is_new(id) {
            return;
        }
        let taken = if term == self.raw.raft.term && self.installing.is_none() {
            self.carry_out(id, &asking)
        } else {
            Err(No::plain(Word::NotLeader))
        };
        let no = match taken {
            Ok(Taken::Begun) => return,
            Ok(Taken::Already) => No::plain(Word::Already),
            Err(no) => no,
        };
        let told = Told {
            boot_nonce: id.boot_nonce,
            counter: id.counter,
            word: no.word.into(),
            why: no.why,
        };
        self.send(from, StreamClass::Control, PeerMessage::Told(told));
    }

    /// Does, as leader, what was asked.
    pub(crate) fn carry_out(&mut self, id: WriteId, asking: &Asking) -> Result<Taken, No> {
        if !self.standing.leads || self.leaving.is_some() {
            return Err(No::plain(Word::NotLeader));
        }
        if self.leads_without_quorum() {
            return Err(No::plain(Word::NoQuorum));
        }
        match asking {
            Asking::HandOver { to } => self.begin_handover(*to),
            Asking::Change {
                change,
                allow_quorum_loss,
            } => {
                if self.disk == DiskState::Full {
                    return Err(No::plain(Word::DiskFull));
                }
                if self.state.voters.is_joint() {
                    return Err(No::plain(Word::Busy));
                }
                match self.state.check_change(change).map_err(No::refused)? {
                    Allowed::Already => return Ok(Taken::Already),
                    Allowed::Change => {}
                }
                if !allow_quorum_loss {
                    self.check_wise(change).map_err(No::refused)?;
                }
                self.propose_change(id, change)?;
                Ok(Taken::Begun)
            }
        }
    }

    /// Whether a change does no harm as things stand now: a new voter has the data, and the voters that answer can still
    /// decide.
    fn check_wise(&self, change: &MemberChange) -> Result<(), String> {
        let mut voters = self.state.voters.voters.clone();
        match change {
            MemberChange::AddLearner { .. } => return Ok(()),
            MemberChange::Promote { node, replacing } => {
                self.check_caught_up(*node)?;
                voters.retain(|voter| replacing.is_none_or(|replaced| replaced.as_u64() != *voter));
                voters.push(node.as_u64());
            }
            MemberChange::Remove { node } => {
                if !voters.contains(&node.as_u64()) {
                    return Ok(());
                }
                voters.retain(|voter| node.as_u64() != *voter);
            }
        }
        let answer = voters
            .iter()
            .filter(|voter| self.silent_for_us(**voter).is_none())
            .count();
        if answer * 2 > voters.len() {
            return Ok(());
        }
        Err(format!(
            "of the {} voters that there would be only {answer} answer now, which is no majority: bring the others back \
             first, or replace them by nodes that answer. Done all the same (`--allow-quorum-loss`), the cluster may stand \
             still for good",
            voters.len()
        ))
    }

    /// Whether a node has the data, but for what is on its way.
    pub(crate) fn check_caught_up(&self, node: NodeId) -> Result<(), String> {
        if let Some(silence) = self.silent_for_us(node.as_u64()) {
            return Err(format!(
                "node {node} has not been heard for {} s: start it, or see why it can't be reached",
                silence / 1_000_000
            ));
        }
        let last = self.raw.raft.raft_log.last_index();
        let progress = self.raw.raft.prs().get(node.as_u64());
        let (matched, replicates) = progress.map_or((0, false), |progress| {
            let replicates = progress.state == ProgressState::Replicate;
            (progress.matched, replicates)
        });
        let behind = last.saturating_sub(matched);
        if replicates && behind <= CAUGHT_UP_ENTRIES {
            return Ok(());
        }
        Err(format!(
            "node {node} has not caught up: it has {matched} of {last} entries and is {behind} behind; wait for it"
        ))
    }

    /// For how long this node hasn't heard another; `None` if it is in contact, or is this node.
    pub(crate) fn silent_for_us(&self, node: u64) -> Option<u64> {
        let node = NodeId::try_from(node).ok()?;
        if node == self.config.node() {
            return None;
        }
        let heard = self.contacts.heard_at(node);
        let silence = self.now.since_us(heard.unwrap_or(Mono(0)));
        let gone = self.contacts.is_gone(node);
        (gone || silence >= self.config.timing().election_timeout_us()).then_some(silence)
    }

    fn propose_change(&mut self, id: WriteId, change: &MemberChange) -> Result<(), No> {
        if self.raw.raft.lead_transferee.is_some() {
            return Err(No::plain(Word::Busy));
        }
        if self.raw.raft.has_pending_conf() {
            return Err(No::plain(Word::Busy));
        }
        let data = encode_change(id, change);
        if self.propose_entry(data) {
            Ok(())
        } else {
            Err(No::plain(Word::Busy))
        }
    }

    /// Proposes an entry that changes the configuration. False if raft didn't take it for one: then it is in the log as an
    /// empty entry, or not at all.
    fn propose_entry(&mut self, data: bytes::Bytes) -> bool {
        let mut entry = Entry {
            data,
            ..Entry::default()
        };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        let mut message = Message {
            from: self.raw.raft.id,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![entry].into());
        self.raw.step(message).is_ok()
            && self.raw.raft.pending_conf_index == self.raw.raft.raft_log.last_index()
    }

    /// What a leader does for its members now and then: makes voters of learners that have caught up, and ends a joint
    /// configuration that raft forgot to end (it does if the lead changed at a bad moment).
    pub(crate) fn tend_members(&mut self) {
        let free = self.standing.leads
            && self.installing.is_none()
            && self.raw.raft.commit_to_current_term()
            && !self.raw.raft.has_pending_conf()
            && self.raw.raft.lead_transferee.is_none();
        if !free {
            return;
        }
        if self.state.voters.is_joint() {
            self.propose_entry(bytes::Bytes::new());
            return;
        }
        let promoting: Vec<NodeId> = self.state.roster.promoting.iter().copied().collect();
        for node in promoting {
            let change = MemberChange::Promote {
                node,
                replacing: None,
            };
            let wise = self.state.check_change(&change) == Ok(Allowed::Change)
                && self.check_wise(&change).is_ok();
            if wise {
                let id = self.next_change_id();
                let _ = self.propose_change(id, &change);
                return;
            }
        }
    }

    /// Applies an entry that changes the configuration. The rules are asked once more: every node comes to the same answer.
    pub(crate) fn apply_change(&mut self, at: Mark, data: bytes::Bytes) -> Result<(), String> {
        let entry = decode_change(data)
            .map_err(|why| format!("the committed entry {} can't be read: {why}", at.index))?;
        self.state.move_to(at, None);
        self.watch_digests(at, None);
        match entry {
            ChangeEntry::Leave => {
                if let Ok(conf) = self.raw.apply_conf_change(&leave_joint()) {
                    self.state.take_voters(Voters::from_raft(&conf));
                    self.configured();
                }
                self.settle_joint();
            }
            ChangeEntry::Change { id, change } => {
                let outcome = self.try_change(&change);
                if outcome == Ok(Allowed::Change) {
                    self.configured();
                }
                self.settle_change(id, outcome);
            }
        }
        self.step_down_if_removed();
        Ok(())
    }

    fn try_change(&mut self, change: &MemberChange) -> Result<Allowed, String> {
        let allowed = self.state.check_change(change)?;
        if allowed == Allowed::Change {
            let conf: ConfState = self
                .raw
                .apply_conf_change(&change.to_raft())
                .map_err(|why| why.to_string())?;
            self.state.change_members(change, Voters::from_raft(&conf));
        }
        Ok(allowed)
    }

    /// Another configuration holds from here on.
    fn configured(&mut self) {
        let voters = self.state.voters.clone();
        self.raw.mut_store().set_voters(&voters);
        self.changes.nudge = true;
        self.name_peers();
        self.tell_the_removed();
        self.drop_transfer_to_stranger();
    }

    /// Raft has been told how far entries are applied. If that made it append the end of a joint configuration, the
    /// followers get it now and not with some later heartbeat.
    pub(crate) fn nudge_followers(&mut self) {
        if std::mem::take(&mut self.changes.nudge)
            && self.raw.raft.state == StateRole::Leader
            && self.state.voters.is_joint()
        {
            self.raw.raft.bcast_append();
        }
    }
}
