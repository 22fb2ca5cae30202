//! What follows when a node is removed: it is told, its messages count no more, and if it led it steps down.
//!
//! A removed node still answers votes and appends of members that don't know of its removal yet: they may need its vote
//! to find a leader. It stands for no election and serves nobody.

use quorumor_core::{Error, Health, NodeId, StreamClass};
use raft::{INVALID_ID, StateRole};

use crate::codec::conf_change::Removed;
use crate::codec::message::PeerMessage;
use crate::replica::RaftReplica;

/// What a removed node says of itself, and what to do.
pub(crate) const REMOVED: &str = "this node was removed from the cluster, and its id is never used again: stop it; to bring \
                                  the machine back, start it as a new node, with a new id and an empty data directory, \
                                  after `quorumor member add`";

impl RaftReplica {
    /// Whether this node was a member and is none any more.
    pub(crate) fn is_removed(&self) -> bool {
        self.told_removed || self.state.roster.removed.contains(&self.config.node())
    }

    /// This node's health as others should see it.
    pub(crate) fn shown_health(&self) -> Health {
        if self.is_removed() && !self.is_damaged() {
            let why = REMOVED.to_owned();
            Health::Damaged { why }
        } else {
            self.health.clone()
        }
    }

    /// Whether a message of this sender counts. Of a removed node's none does, and it is told so once an election timeout;
    /// but for the last words of a leader that was removed.
    pub(crate) fn hears(&mut self, from: NodeId) -> bool {
        let removed = self.state.roster.removed.contains(&from);
        if !removed || self.standing.leader == Some(from) {
            return true;
        }
        self.tell_removed(from);
        false
    }

    fn tell_removed(&mut self, node: NodeId) {
        let timeout = self.config.timing().election_timeout_us();
        let now = self.now;
        let early = |at: &quorumor_core::Mono| now.since_us(*at) < timeout;
        if self.removal_told.get(&node).is_some_and(early) {
            return;
        }
        self.removal_told.insert(node, now);
        let word = PeerMessage::Removed(Removed {});
        self.send(node, StreamClass::Control, word);
    }

    /// As leader: tells whoever has just left the configuration. They get no entries any more, and might never learn it.
    pub(crate) fn tell_the_removed(&mut self) {
        let node = self.config.node();
        let removed = self.state.roster.removed.iter().copied();
        let news: Vec<NodeId> = removed
            .filter(|removed| *removed != node && self.contacts.knows(*removed))
            .collect();
        for removed in news {
            if self.standing.leads {
                self.tell_removed(removed);
            }
            self.contacts.forget(removed);
        }
    }

    /// A member's word that this node was removed. Only who is a member as far as this node knows is believed.
    pub(crate) fn take_removed(&mut self, from: NodeId) {
        let known = self.state.members.is_empty() || self.state.members.contains_key(&from);
        if !known || self.standing.leads || self.told_removed {
            return;
        }
        self.told_removed = true;
        self.settle_own_removal();
        self.leave_callers();
    }

    /// A leader that was removed lets go. It hands over first, so that nobody waits for an election timeout.
    pub(crate) fn step_down_if_removed(&mut self) {
        if self.state.voters.contains(self.raw.raft.id) || !self.is_removed() {
            return;
        }
        if self.raw.raft.state == StateRole::Leader {
            if let Some(to) = self.successor() {
                self.raw.raft.send_timeout_now(to.as_u64());
            }
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, INVALID_ID);
        }
        self.leave_callers();
    }

    /// Nobody is served here any more.
    fn leave_callers(&mut self) {
        let why = "this node was removed from the cluster";
        for call in self.writes.finish_where(|_| true) {
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
        let mut readers = self.reads.take_all();
        readers.extend(self.keep_alives.take_all());
        for call in readers {
            let why = REMOVED.to_owned();
            self.reply(call, Err(Error::Damaged { why }));
        }
        self.forget_asked(why);
    }

    /// A node that was told of its removal, and can't see it in its own log, doesn't stand for election, and follows nobody
    /// that it would keep its vote back for.
    pub(crate) fn rest(&mut self) -> bool {
        if self.told_removed {
            self.raw.raft.leader_id = INVALID_ID;
        }
        self.told_removed
    }
}
