//! What a change of membership may be, and what it does to the replicated state. Deterministic, as all of the state machine:
//! the same rules are asked by the leader before it proposes, and by every node when it applies.
//!
//! Not whether a change is wise as things stand (who has caught up, who is in contact): the leader asks that in
//! `changing.rs`, where changes are also proposed and answered.

use std::net::SocketAddr;

use quorumor_core::NodeId;
use quorumor_core::limits::VOTERS_MAX;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use crate::membership::{MemberRecord, Voters};
use crate::state_machine::StateMachine;

/// Members in all, learners with them: each costs the leader a stream of its own.
pub(crate) const MEMBERS_MAX: usize = 32;
/// Removed ids that are remembered. Beyond it nobody is added any more, rather than an id forgotten.
const REMOVED_MAX: usize = 100_000;

/// A change of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberChange {
    /// A new node listens.
    AddLearner {
        node: NodeId,
        peer_address: SocketAddr,
        promote: bool,
    },
    /// A learner votes, maybe in the place of a voter.
    Promote {
        node: NodeId,
        replacing: Option<NodeId>,
    },
    /// A node goes for good.
    Remove { node: NodeId },
}

/// One step of raft's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) kind: ConfChangeType,
    pub(crate) node: NodeId,
}

/// What the rules say of a change that they allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// It changes something.
    Change,
    /// It is so already: a repeated request.
    Already,
}

impl MemberChange {
    /// As raft's steps.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let step = |kind, node: &NodeId| Step { kind, node: *node };
        match self {
            Self::AddLearner { node, .. } => vec![step(ConfChangeType::AddLearnerNode, node)],
            Self::Promote { node, replacing } => {
                let promote = step(ConfChangeType::AddNode, node);
                let remove = replacing
                    .iter()
                    .map(|replaced| step(ConfChangeType::RemoveNode, replaced));
                std::iter::once(promote).chain(remove).collect()
            }
            Self::Remove { node } => vec![step(ConfChangeType::RemoveNode, node)],
        }
    }

    /// As raft takes it. More than one step makes a joint configuration, which raft leaves by itself.
    pub(crate) fn to_raft(&self) -> ConfChangeV2 {
        let mut raft = ConfChangeV2::default();
        raft.set_transition(ConfChangeTransition::Auto);
        let singles: Vec<ConfChangeSingle> = self
            .steps()
            .iter()
            .map(|step| {
                let mut single = ConfChangeSingle {
                    node_id: step.node.as_u64(),
                    ..ConfChangeSingle::default()
                };
                single.set_change_type(step.kind);
                single
            })
            .collect();
        raft.set_changes(singles.into());
        raft
    }
}

impl StateMachine {
    /// Whether the rules allow a change now, or why not and what to do instead.
    pub(crate) fn check_change(&self, change: &MemberChange) -> Result<Allowed, String> {
        if self.voters.is_joint() {
            return Err("another change of the members is under way: try again".to_owned());
        }
        match change {
            MemberChange::AddLearner {
                node,
                peer_address,
                promote,
            } => self.check_add(*node, *peer_address, *promote),
            MemberChange::Promote { node, replacing } => self.check_promote(*node, *replacing),
            MemberChange::Remove { node } => self.check_remove(*node),
        }
    }

    fn check_add(
        &self,
        node: NodeId,
        peer_address: SocketAddr,
        promote: bool,
    ) -> Result<Allowed, String> {
        if self.roster.removed.contains(&node) {
            return Err(format!(
                "node {node} was removed, and an id is never used again: add the node under a new id, with an empty data \
                 directory"
            ));
        }
        let promotes_already = self.roster.promoting.contains(&node);
        if let Some(record) = self.members.get(&node) {
            let learns = self.voters.learners.contains(&node.as_u64());
            return if record.peer_address != peer_address || !learns {
                Err(format!(
                    "node {node} is a member already, at {}: choose an id that was never used",
                    record.peer_address
                ))
            } else if promote == promotes_already {
                Ok(Allowed::Already)
            } else {
                self.check_room_for_voter(promote)
            };
        }
        let other = |record: &MemberRecord| record.peer_address == peer_address;
        if let Some((other, _)) = self.members.iter().find(|(_, record)| other(record)) {
            return Err(format!(
                "{peer_address} is the address of node {other}: remove that node first, or choose another address"
            ));
        }
        if self.members.len() >= MEMBERS_MAX || self.roster.removed.len() >= REMOVED_MAX {
            return Err(format!(
                "the cluster has {} members, and the most is {MEMBERS_MAX}: remove one first",
                self.members.len()
            ));
        }
        self.check_room_for_voter(promote)
    }

    fn check_room_for_voter(&self, wanted: bool) -> Result<Allowed, String> {
        let to_be = self.voters.voters.len() + self.roster.promoting.len();
        if wanted && to_be >= VOTERS_MAX {
            return Err(format!(
                "there are {to_be} voters, those with them that are to be promoted, and the most is {VOTERS_MAX}: remove \
                 one first, or add the node to stay a learner"
            ));
        }
        Ok(Allowed::Change)
    }

    fn check_promote(&self, node: NodeId, replacing: Option<NodeId>) -> Result<Allowed, String> {
        let is_voter = |node: NodeId| self.voters.voters.contains(&node.as_u64());
        if is_voter(node) {
            return match replacing {
                Some(replaced) if replaced == node => Err("a node can't replace itself".to_owned()),
                Some(replaced) if is_voter(replaced) => Err(format!(
                    "node {node} votes already: remove node {replaced} by itself"
                )),
                Some(_) | None => Ok(Allowed::Already),
            };
        }
        if !self.voters.learners.contains(&node.as_u64()) {
            return Err(format!("node {node} is no member: add it first"));
        }
        match replacing {
            Some(replaced) if !is_voter(replaced) => Err(format!(
                "node {replaced} is no voter, so nobody can take its place: promote node {node} without replacing"
            )),
            None if self.voters.voters.len() >= VOTERS_MAX => Err(format!(
                "there are {VOTERS_MAX} voters, and that is the most: replace one, or remove one first"
            )),
            Some(_) | None => Ok(Allowed::Change),
        }
    }

    fn check_remove(&self, node: NodeId) -> Result<Allowed, String> {
        if self.roster.removed.contains(&node) {
            return Ok(Allowed::Already);
        }
        if !self.members.contains_key(&node) {
            return Err(format!("there is no member {node}"));
        }
        if self.voters.voters == [node.as_u64()] {
            return Err(format!(
                "node {node} is the only voter, and without it there is no cluster: promote another first"
            ));
        }
        Ok(Allowed::Change)
    }

    /// Takes a change that raft took, and the configuration that it led to.
    pub(crate) fn change_members(&mut self, change: &MemberChange, voters: Voters) {
        match change {
            MemberChange::AddLearner {
                node,
                peer_address,
                promote,
            } => {
                let fresh = MemberRecord {
                    store: None,
                    peer_address: *peer_address,
                    client_address: None,
                };
                self.members.entry(*node).or_insert(fresh);
                if *promote {
                    self.roster.promoting.insert(*node);
                } else {
                    self.roster.promoting.remove(node);
                }
            }
            MemberChange::Promote { node, .. } => {
                self.roster.promoting.remove(node);
            }
            MemberChange::Remove { .. } => {}
        }
        self.take_voters(voters);
    }

    /// Takes a configuration. Whoever isn't in it any more is no member, and never will be again. A voter that is being
    /// replaced stays in it for as long as it is joint.
    pub(crate) fn take_voters(&mut self, voters: Voters) {
        self.voters = voters;
        let gone: Vec<NodeId> = self
            .members
            .keys()
            .copied()
            .filter(|node| !self.voters.contains(node.as_u64()))
            .collect();
        for node in gone {
            self.members.remove(&node);
            self.roster.promoting.remove(&node);
            self.roster.removed.insert(node);
        }
    }
}

#[cfg(test)]
mod tests;
