//! Changes of membership on their way: asked at any node, carried out by the leader, answered where they were asked once
//! they are applied there.
//!
//! The leader proposes one at a time: raft-rs replaces a second one by an empty entry without a word, so it is refused here.
//! What the rules allow is in `conf_change.rs`; here the leader also asks whether a change is wise as things stand.

use std::collections::BTreeMap;

use quorumor_core::{
    CallId, ClusterAction, DiskState, Error, Mono, NodeId, Position, Reply, Revision, StreamClass,
};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};
use raft::{ProgressState, StateRole};

use crate::codec::conf_change::{
    Ask, ChangeEntry, Told, WireChange, Word, decode_change, encode_change, leave_joint,
};
use crate::codec::message::PeerMessage;
use crate::codec::proposal::WriteId;
use crate::conf_change::{Allowed, MemberChange};
use crate::membership::Voters;
use crate::pending::Seen;
use crate::replica::RaftReplica;
use crate::state_machine::Mark;

/// Changes that one node waits for. Each is an operator's.
const ASKED_MAX: usize = 64;
/// A learner that misses no more entries than this has caught up: what a loaded cluster has on its way in about 50 ms.
const CAUGHT_UP_ENTRIES: u64 = 4_096;

const UNDER_WAY: &str = "another change of the members is under way: try again";

/// What is asked of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// A change of membership.
    Change {
        change: MemberChange,
        allow_quorum_loss: bool,
    },
    /// To hand the lead over.
    HandOver { to: Option<NodeId> },
}

impl Asking {
    /// What of it concerns members or the lead. The rest is the revision of a compaction, which is a write like any other.
    pub(crate) fn of(action: &ClusterAction) -> Result<Self, Revision> {
        let change = |change| Self::Change {
            change,
            allow_quorum_loss: false,
        };
        Ok(match *action {
            ClusterAction::AddLearner {
                node,
                peer_address,
                promote,
            } => change(MemberChange::AddLearner {
                node,
                peer_address,
                promote,
            }),
            ClusterAction::Promote { node, replacing } => {
                change(MemberChange::Promote { node, replacing })
            }
            ClusterAction::Remove {
                node,
                allow_quorum_loss,
            } => Self::Change {
                change: MemberChange::Remove { node },
                allow_quorum_loss,
            },
            ClusterAction::TransferLeader { to } => Self::HandOver { to },
            ClusterAction::CompactHistory { through } => return Err(through),
        })
    }

    fn from_wire(ask: Ask) -> Option<Self> {
        Some(match ask.change {
            Some(change) => Self::Change {
                change: change.into_change().ok()?,
                allow_quorum_loss: ask.allow_quorum_loss,
            },
            None => Self::HandOver {
                to: ask.hand_to.map(NodeId::try_from).transpose().ok()?,
            },
        })
    }
}

/// How the leader took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is on its way.
    Begun,
    /// It is so already.
    Already,
}

/// Why the leader doesn't do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct No {
    word: Word,
    why: String,
}

impl No {
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        let word = Word::Refused;
        Self {
            word,
            why: why.into(),
        }
    }

    const fn plain(word: Word) -> Self {
        Self {
            word,
            why: String::new(),
        }
    }
}

/// One that waits for its outcome.
#[derive(Debug)]
struct Asked {
    call: CallId,
    asking: Asking,
    /// The leader that it was put to.
    leader: NodeId,
    at: Mono,
    /// Whether it is applied, and only the joint configuration has to end.
    applied: bool,
}

/// Everything that this node asked.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    counter: u64,
    asked: BTreeMap<u64, Asked>,
    /// As leader: which questions came already, since messages may come twice.
    seen: Seen,
    /// Whether what was just applied made raft append an entry that it doesn't send by itself.
    nudge: bool,
}

impl Changes {
    /// The caller has gone.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.asked.retain(|_, asked| asked.call != call);
    }

    fn take_where(&mut self, matches: impl Fn(&Asked) -> bool) -> Vec<CallId> {
        let taken = self.asked.extract_if(.., |_, asked| matches(asked));
        taken.map(|(_, asked)| asked.call).collect()
    }
}

impl RaftReplica {
    /// A caller's change of membership or leadership.
    pub(crate) fn change_cluster(&mut self, call: CallId, asking: Asking) -> Result<(), Error> {
        if self.changes.asked.len() >= ASKED_MAX {
            return Err(Error::Overloaded {
                queue: "changes of the cluster",
                retry_after_ms: 1_000,
            });
        }
        let Some(leader) = self.standing.leader.filter(|_| !self.is_cut_off()) else {
            return Err(self.unavailable());
        };
        let id = self.next_change_id();
        if self.standing.leads {
            match self.carry_out(id, &asking) {
                Ok(Taken::Begun) => {}
                Ok(Taken::Already) => {
                    self.reply_changed(call);
                    return Ok(());
                }
                Err(no) => return Err(self.no_error(no)),
            }
        } else {
            let ask = Ask {
                term: self.standing.term,
                boot_nonce: id.boot_nonce,
                counter: id.counter,
                ..question(&asking)
            };
            self.send(leader, StreamClass::Control, PeerMessage::Ask(ask));
        }
        let asked = Asked {
            call,
            asking,
            leader,
            at: self.now,
            applied: false,
        };
        self.changes.asked.insert(id.counter, asked);
        Ok(())
    }

    fn next_change_id(&mut self) -> WriteId {
        self.changes.counter += 1;
        WriteId {
            node: self.config.node(),
            boot_nonce: self.config.boot_nonce(),
            counter: self.changes.counter,
        }
    }

    fn reply_changed(&mut self, call: CallId) {
        let position = Position::Strong(self.state.revision);
        self.reply(call, Ok(Reply::ClusterChanged { position }));
    }

    fn no_error(&self, no: No) -> Error {
        match no.word {
            Word::NotLeader => Error::NotLeader { hint: None },
            Word::Refused | Word::Already => Error::MembershipRefused { why: no.why },
            Word::NoQuorum => Error::NoQuorum,
            Word::DiskFull => Error::DiskFull,
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

    /// The leader's word that a question of this node comes to nothing.
    pub(crate) fn take_told(&mut self, from: NodeId, told: Told) {
        let ours = told.boot_nonce == self.config.boot_nonce();
        let asked = self.changes.asked.get(&told.counter);
        if !ours || asked.is_none_or(|asked| asked.leader != from || asked.applied) {
            return;
        }
        let Some(asked) = self.changes.asked.remove(&told.counter) else {
            return;
        };
        match told.word() {
            Word::Already => self.reply_changed(asked.call),
            word @ (Word::NotLeader | Word::Refused | Word::NoQuorum | Word::DiskFull) => {
                let why = told.why;
                let error = self.no_error(No { word, why });
                self.reply(asked.call, Err(error));
            }
        }
    }

    /// Does, as leader, what was asked.
    fn carry_out(&mut self, id: WriteId, asking: &Asking) -> Result<Taken, No> {
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

    fn check_caught_up(&self, node: NodeId) -> Result<(), String> {
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
            return Err(No::refused("the lead is being handed over: try again"));
        }
        if self.raw.raft.has_pending_conf() {
            return Err(No::refused(UNDER_WAY));
        }
        let data = encode_change(id, change);
        if self.propose_entry(data) {
            Ok(())
        } else {
            Err(No::refused(UNDER_WAY))
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
                let done = self.changes.take_where(|asked| asked.applied);
                done.into_iter().for_each(|call| self.reply_changed(call));
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
    }

    /// Answers the caller of a change that was applied, if it is this node's.
    fn settle_change(&mut self, id: WriteId, outcome: Result<Allowed, String>) {
        let ours = id.node == self.config.node() && id.boot_nonce == self.config.boot_nonce();
        let joint = self.state.voters.is_joint();
        let Some(asked) = self.changes.asked.get_mut(&id.counter).filter(|_| ours) else {
            return;
        };
        let call = asked.call;
        if joint && outcome.is_ok() {
            asked.applied = true;
            return;
        }
        self.changes.asked.remove(&id.counter);
        match outcome {
            Ok(_) => self.reply_changed(call),
            Err(why) => self.reply(call, Err(Error::MembershipRefused { why })),
        }
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

    /// The leader changed: what was put to the one before may be in some log or in none. Who waits for another leader is
    /// answered.
    pub(crate) fn settle_asked(&mut self) {
        let why = "the leader changed while it was asked to change the cluster";
        let lost = self
            .changes
            .take_where(|asked| !asked.applied && matches!(asked.asking, Asking::Change { .. }));
        for call in lost {
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
        let Some(leader) = self.standing.leader else {
            return;
        };
        let handed: Vec<(CallId, Option<NodeId>)> = self
            .changes
            .asked
            .extract_if(.., |_, asked| {
                matches!(asked.asking, Asking::HandOver { .. }) && asked.leader != leader
            })
            .map(|(_, asked)| match asked.asking {
                Asking::HandOver { to } => (asked.call, to),
                Asking::Change { .. } => (asked.call, None),
            })
            .collect();
        for (call, to) in handed {
            match to {
                Some(to) if to != leader => {
                    let why = format!("node {leader} took the lead, and not node {to}: try again");
                    self.reply(call, Err(Error::MembershipRefused { why }));
                }
                Some(_) | None => self.reply_changed(call),
            }
        }
    }

    /// Contact with this peer was lost: what was put to it may have been proposed or not. A lead that is handed over is
    /// known by who leads.
    pub(crate) fn lose_asked(&mut self, peer: NodeId) {
        let why = "contact with the leader was lost while it was asked to change the cluster";
        let lost = self.changes.take_where(|asked| {
            asked.leader == peer && !asked.applied && matches!(asked.asking, Asking::Change { .. })
        });
        for call in lost {
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
    }

    /// The log was replaced by a snapshot, or the node is damaged: changes may be inside it, or not.
    pub(crate) fn forget_asked(&mut self, why: &'static str) {
        let joint = self.state.voters.is_joint();
        let done = self.changes.take_where(|asked| asked.applied && !joint);
        done.into_iter().for_each(|call| self.reply_changed(call));
        let lost = self
            .changes
            .take_where(|asked| !asked.applied && matches!(asked.asking, Asking::Change { .. }));
        for call in lost {
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
    }

    /// Nobody took the lead in time.
    pub(crate) fn give_up_handovers(&mut self) {
        let patience = self.config.timing().election_timeout_us().saturating_mul(2);
        let now = self.now;
        let late = self.changes.take_where(|asked| {
            matches!(asked.asking, Asking::HandOver { .. }) && now.since_us(asked.at) > patience
        });
        let why = "no other node has taken the lead in time; it may yet";
        for call in late {
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
    }

    /// A member said that this node was removed: so was what it asked for.
    pub(crate) fn settle_own_removal(&mut self) {
        let node = self.config.node();
        let own = self.changes.take_where(|asked| {
            matches!(
                &asked.asking,
                Asking::Change {
                    change: MemberChange::Remove { node: removed },
                    ..
                } if *removed == node
            )
        });
        own.into_iter().for_each(|call| self.reply_changed(call));
    }
}

/// What is asked, without who asks.
fn question(asking: &Asking) -> Ask {
    match asking {
        Asking::Change {
            change,
            allow_quorum_loss,
        } => Ask {
            change: Some(WireChange::new(change)),
            allow_quorum_loss: *allow_quorum_loss,
            ..Ask::default()
        },
        Asking::HandOver { to } => Ask {
            hand_to: to.map(NodeId::as_u64),
            ..Ask::default()
        },
    }
}
