//! Who leads, as this node knows it, and what follows when that changes: proposals, reads, handing over.

use quorumor_core::{Error, LeaderHint, Mono, NodeId, Plant, StreamClass};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, StateRole};

use crate::codec::message::{PeerMessage, Refusal};
use crate::codec::proposal::{Proposal, encode_time};
use crate::log::Log;
use crate::pending::{Queued, Stage};
use crate::replica::RaftReplica;
use crate::state_machine::{Mark, Results};

/// Appends of a leader that may wait for its disk at once. Writes that come meanwhile share the next: one entry each, one
/// proposal, one sync.
const APPENDS_UNSYNCED_MAX: usize = 2;

/// Bytes of writes in the leader's log that no majority has: beyond it writes are refused.
const UNCOMMITTED_WRITES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who leads, as last observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) term: u64,
    pub(crate) leader: Option<NodeId>,
    /// Whether this node leads.
    pub(crate) leads: bool,
    /// Since when.
    pub(crate) since: Mono,
    /// Whether this node led until it no longer heard a majority, and has known no leader since.
    pub(crate) lost_quorum: bool,
}

impl Standing {
    /// As raft has it now.
    pub(crate) fn new(raw: &RawNode<Log>, now: Mono) -> Self {
        Self {
            term: raw.raft.term,
            leader: NodeId::try_from(raw.raft.leader_id).ok(),
            leads: raw.raft.state == StateRole::Leader,
            since: now,
            lost_quorum: false,
        }
    }

    fn is_as(&self, other: &Self) -> bool {
        (self.term, self.leader, self.leads) == (other.term, other.leader, other.leads)
    }
}

impl RaftReplica {
    /// Compares what raft says with what it said, and settles everything that waited for the one who led before.
    pub(crate) fn observe_standing(&mut self) {
        let before = self.standing;
        let mut after = Standing::new(&self.raw, self.now);
        if before.is_as(&after) {
            return;
        }
        if before.leader == after.leader && before.leads == after.leads {
            after.since = before.since;
        }
        let stepped_down = before.leads && !after.leads && before.term == after.term;
        after.lost_quorum = after.leader.is_none() && (stepped_down || before.lost_quorum);
        self.standing = after;
        if after.leader.is_some() && !after.leads {
            self.contacts.heard_leader(self.now);
        }
        if before.leads {
            self.lose_lead();
        }
        for call in self
            .writes
            .finish_where(|stage| matches!(stage, Stage::Forwarded { .. }))
        {
            let why = "the leader changed while the write was with it";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
        self.settle_asked();
        if after.leader.is_some() {
            self.reads.ask_again();
            self.keep_alives.ask_again();
        } else {
            self.refuse_bounded_reads(0);
            let error = self.unavailable();
            let mut calls = self.reads.take_unconfirmed();
            calls.extend(self.keep_alives.take_all());
            for call in calls {
                self.reply(call, Err(error.clone()));
            }
        }
    }

    /// What was proposed may be in other logs; what was not is nowhere.
    fn lose_lead(&mut self) {
        self.deferred_reads.clear();
        self.outgoing = None;
        self.transfer_asked = false;
        for call in self
            .writes
            .finish_where(|stage| matches!(stage, Stage::Proposed { .. }))
        {
            let why = "this node lost the lead while the write was in its log";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
        for queued in self.writes.drain_queue() {
            self.refuse_queued(&queued, Refusal::NotLeader);
        }
    }

    /// Answers a write that was not proposed, whoever took it.
    fn refuse_queued(&mut self, queued: &Queued, refusal: Refusal) {
        if queued.id.node != self.config.node() {
            self.refuse_forward(queued.id, refusal);
        } else if self.keep_alives.is_round(queued.id.counter) {
            self.keep_alives_refused();
        } else if let Some(call) = self.writes.finish(queued.id.counter) {
            let error = self.refusal_error(refusal, self.standing.leader);
            self.reply(call, Err(error));
        }
    }

    /// Proposes what waits, unless the disk is behind: what is urgent, then as many writes as one message holds.
    pub(crate) fn propose_queued(&mut self) -> bool {
        // While the lead is handed over raft drops proposals: they wait, for the one who leads then to be named.
        let may = self.standing.leads
            && self.raw.raft.lead_transferee.is_none()
            && self.awaiting.len() < APPENDS_UNSYNCED_MAX;
        if !may || !self.writes.has_queued() {
            return false;
        }
        let urgent = self.writes.take_urgent();
        self.propose(&urgent, None);
        let group = self.writes.take_group();
        self.propose(&group, Some(UNCOMMITTED_WRITES_BYTES_MAX));
        true
    }

    /// Proposes a group as one message. Its first entry carries the log time. Beyond the limit on what isn't committed yet
    /// the group is refused; raft's own is above it, so that what is urgent has room.
    fn propose(&mut self, group: &[Queued], uncommitted_max: Option<usize>) {
        if group.is_empty() {
            return;
        }
        let bytes: usize = group.iter().map(|queued| queued.data.len()).sum();
        let uncommitted = self.raw.raft.uncommitted_size();
        if uncommitted > 0 && uncommitted_max.is_some_and(|max| uncommitted + bytes > max) {
            self.refuse_group(group, Refusal::Overloaded);
            return;
        }
        let mut time = encode_time(self.clock.now());
        let entries: Vec<Entry> = group
            .iter()
            .map(|queued| Entry {
                data: queued.data.clone(),
                context: std::mem::take(&mut time),
                ..Entry::default()
            })
            .collect();
        let mut message = Message {
            from: self.raw.raft.id,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(entries.into());
        if self.raw.step(message).is_err() {
            self.refuse_group(group, Refusal::Overloaded);
            return;
        }
        let term = self.raw.raft.term;
        let first = self.raw.raft.raft_log.last_index() + 1 - group.len() as u64;
        for (index, queued) in (first..).zip(group) {
            if queued.id.node == self.config.node() {
                self.writes.proposed(queued.id.counter, term, index);
            }
        }
        if self.config.planted().is(Plant::AckAtProposal) {
            self.answer_at_proposal(group);
        }
    }

    /// The planted defect: own callers are told what their writes will have done if nothing comes between.
    fn answer_at_proposal(&mut self, group: &[Queued]) {
        let mut state = self.state.clone();
        let own = self.config.node();
        for queued in group.iter().filter(|queued| queued.id.node == own) {
            let Ok(proposal) = Proposal::decode(queued.data.clone()) else {
                continue;
            };
            let at = Mark {
                index: state.applied.index + 1,
                term: self.standing.term,
            };
            let applied = state.apply(at, None, Some(proposal), Results::Wanted);
            self.answer_own(queued.id.counter, applied.answer);
        }
    }

    fn refuse_group(&mut self, group: &[Queued], refusal: Refusal) {
        for queued in group {
            self.refuse_queued(queued, refusal);
        }
    }

    /// Asks raft about the reads that wait. A leader must have committed in its own term, or raft would drop the question.
    pub(crate) fn ask_reads(&mut self) -> bool {
        let may = if self.standing.leads {
            self.raw.raft.commit_to_current_term()
        } else {
            self.standing.leader.is_some()
        };
        if !may {
            return false;
        }
        let Some(context) = self.reads.next_context(self.now) else {
            return false;
        };
        if self.standing.leads && self.config.planted().is(Plant::ReadIndexSkipped) {
            let committed = self.raw.raft.raft_log.committed;
            self.reads.confirm(&context, committed);
            return true;
        }
        self.raw.read_index(context.to_vec());
        true
    }

    /// Takes up the peers' reads that came before this leader had committed in its term.
    pub(crate) fn step_deferred_reads(&mut self) -> bool {
        if self.deferred_reads.is_empty() || !self.raw.raft.commit_to_current_term() {
            return false;
        }
        for message in std::mem::take(&mut self.deferred_reads).into_values() {
            let _ = self.raw.step(message);
        }
        true
    }

    /// When leaving, gives the lead to the follower that is furthest, once this node's own writes are answered or time is up.
    pub(crate) fn hand_over(&mut self) -> bool {
        let Some(since) = self
            .leaving
            .filter(|_| self.standing.leads && !self.transfer_asked)
        else {
            return false;
        };
        let timeout = self.config.timing().election_timeout_us();
        let waited = self.now.since_us(since) >= timeout / 2;
        if self.writes.has_open() && !waited {
            return false;
        }
        self.transfer_asked = true;
        let Some(to) = self.successor() else {
            return false;
        };
        self.raw.transfer_leader(to.as_u64());
        true
    }

    /// Tells the followers whom this leader hears.
    pub(crate) fn send_pulse(&mut self) {
        if !self.standing.leads {
            return;
        }
        let pulse = self.contacts.pulse(self.standing.term, self.now);
        let node = self.config.node();
        let others: Vec<NodeId> = self
            .state
            .members
            .keys()
            .copied()
            .filter(|member| *member != node)
            .collect();
        for to in others {
            self.send(to, StreamClass::Control, PeerMessage::Pulse(pulse.clone()));
        }
    }

    /// The leader and where it serves clients.
    pub(crate) fn hint(&self) -> Option<LeaderHint> {
        self.standing.leader.map(|node| self.hint_for(node))
    }

    pub(crate) fn hint_for(&self, node: NodeId) -> LeaderHint {
        LeaderHint {
            node,
            client_address: self
                .state
                .members
                .get(&node)
                .and_then(|record| record.client_address.clone()),
        }
    }

    /// Whether nobody is there to serve a request that comes now: no leader, or one that is not heard any more. Raft finds
    /// the latter out only after its jitter.
    pub(crate) fn is_cut_off(&self) -> bool {
        let Some(leader) = self.standing.leader else {
            return true;
        };
        if leader == self.config.node() {
            return self.leads_without_quorum();
        }
        let heard = self
            .contacts
            .heard_at(leader)
            .unwrap_or(self.standing.since);
        let silence = self.now.since_us(heard.max(self.standing.since));
        silence > self.config.timing().election_timeout_us()
    }

    /// Whether this node leads but no longer hears a majority. Raft finds that out at the end of its own period; requests
    /// that come meanwhile need not hang until then.
    pub(crate) fn leads_without_quorum(&self) -> bool {
        if !self.standing.leads || self.config.planted().is(Plant::ReadIndexSkipped) {
            return false;
        }
        let heard = self.quorum_heard_at().unwrap_or(self.standing.since);
        let fresh_at = heard.max(self.standing.since);
        self.now.since_us(fresh_at) > self.config.timing().election_timeout_us()
    }

    pub(crate) fn quorum_heard_at(&self) -> Option<Mono> {
        self.contacts
            .quorum_heard_at(self.config.node(), &self.state.voters, self.now)
    }

    /// Why nobody can serve: no leader is known, and if that lasts, or this node led until it lost its majority, no majority
    /// can be reached.
    pub(crate) fn unavailable(&self) -> Error {
        if self.standing.lost_quorum || self.leads_without_quorum() {
            return Error::NoQuorum;
        }
        let timeout = self.config.timing().election_timeout_us();
        let waited = self.now.since_us(self.standing.since) >= timeout;
        let heard = self
            .quorum_heard_at()
            .is_some_and(|at| self.now.since_us(at) < timeout);
        if waited && !heard {
            Error::NoQuorum
        } else {
            Error::NotLeader { hint: self.hint() }
        }
    }
}
