//! Changes of membership and of the lead, where they are asked: who waits for which, and how each ends.
//!
//! Carried out by the leader (`changing.rs`, `transfer_leader.rs`). A change is answered where it was asked once it is
//! applied there; a lead that is handed over, once the new leader is known there.

use std::collections::BTreeMap;

use quorumor_core::{CallId, ClusterAction, Error, Mono, NodeId, Position, Reply, StreamClass};

use crate::codec::conf_change::{Ask, Told, WireChange, Word};
use crate::codec::message::PeerMessage;
use crate::codec::proposal::{Body, WriteId};
use crate::conf_change::{Allowed, MemberChange};
use crate::pending::Seen;
use crate::replica::RaftReplica;

/// Changes that one node waits for. Each is an operator's.
const ASKED_MAX: usize = 64;

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
    /// What of it concerns members or the lead. The rest is an entry like any other write.
    pub(crate) fn of(action: &ClusterAction) -> Result<Self, Body> {
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
            ClusterAction::CompactHistory { through } => return Err(Body::Compact { through }),
            ClusterAction::AdvanceEpoch { above } => return Err(Body::AdvanceEpoch { above }),
        })
    }

    pub(crate) fn from_wire(ask: Ask) -> Option<Self> {
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
    pub(crate) word: Word,
    pub(crate) why: String,
}

impl No {
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        let word = Word::Refused;
        Self {
            word,
            why: why.into(),
        }
    }

    pub(crate) const fn plain(word: Word) -> Self {
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
    pub(crate) counter: u64,
    asked: BTreeMap<u64, Asked>,
    /// As leader: which questions came already, since messages may come twice.
    pub(crate) seen: Seen,
    /// Whether what was just applied made raft append an entry that it doesn't send by itself.
    pub(crate) nudge: bool,
}

impl Changes {
    /// The caller has gone.
    pub(crate) fn cancel(&mut self, call: CallId) {
        self.asked.retain(|_, asked| asked.call != call);
    }

    fn take_where(&mut self, matches: impl Fn(&Asked) -> bool) -> Vec<CallId> {
        let taken = self.extract_where(matches);
        taken.into_iter().map(|asked| asked.call).collect()
    }

    fn extract_where(&mut self, matches: impl Fn(&Asked) -> bool) -> Vec<Asked> {
        let taken = self.asked.iter().filter(|(_, asked)| matches(asked));
        let taken: Vec<u64> = taken.map(|(counter, _)| *counter).collect();
        taken
            .iter()
            .filter_map(|counter| self.asked.remove(counter))
            .collect()
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
            Word::Busy => Error::Overloaded {
                queue: "changes of the members",
                retry_after_ms: 200,
            },
        }
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
            word @ (Word::NotLeader
            | Word::Refused
            | Word::NoQuorum
            | Word::DiskFull
            | Word::Busy) => {
                let why = told.why;
                let error = self.no_error(No { word, why });
                self.reply(asked.call, Err(error));
            }
        }
    }

    /// Answers the caller of a change that was applied, if it is this node's.
    pub(crate) fn settle_change(&mut self, id: WriteId, outcome: Result<Allowed, String>) {
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

    /// The joint configuration has ended, and with it the changes that led to it are whole.
    pub(crate) fn settle_joint(&mut self) {
        let done = self.changes.take_where(|asked| asked.applied);
        done.into_iter().for_each(|call| self.reply_changed(call));
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
        let handed = self.changes.extract_where(|asked| {
            matches!(asked.asking, Asking::HandOver { .. }) && asked.leader != leader
        });
        for Asked { call, asking, .. } in handed {
            match asking {
                Asking::HandOver { to: Some(to) } if to != leader => {
                    let why = format!("node {leader} took the lead, and not node {to}: try again");
                    self.reply(call, Err(Error::MembershipRefused { why }));
                }
                Asking::HandOver { .. } | Asking::Change { .. } => self.reply_changed(call),
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
