//! Writes: proposed here by the leader, sent to it once by anybody else.
//!
//! A follower sends a write to the leader with its own write id and answers its caller when it applies the entry with that
//! id, so the caller finds its write here. The leader only speaks up if it did *not* propose the write. In between, contact
//! lost or another leader means *unknown*: nothing is ever sent twice.

use quorumor_core::limits::BATCH_BYTES_MAX;
use quorumor_core::{CallId, DiskState, Error, NodeId, Output, StreamClass};

use crate::append::ENTRY_BYTES_MAX;
use crate::codec::message::{Forward, PeerMessage, Refusal, Refused};
use crate::codec::proposal::{Body, Proposal, WriteId};
use crate::membership::MemberRecord;
use crate::pending::{Queued, Stage};
use crate::replica::RaftReplica;

impl RaftReplica {
    /// A client's request at this node that becomes an entry.
    pub(crate) fn propose_for(&mut self, call: CallId, body: Body) -> Result<(), Error> {
        if self.disk == DiskState::Full {
            return Err(Error::DiskFull);
        }
        let full = if body.is_urgent() {
            self.writes.is_urgent_full()
        } else {
            self.writes.is_full()
        };
        if full {
            return Err(Error::Overloaded {
                queue: "pending_writes_max",
                retry_after_ms: 100,
            });
        }
        if self.is_cut_off() {
            return Err(self.unavailable());
        }
        self.submit(Some(call), body)
    }

    /// Gives a write to the leader, be it this node or another.
    fn submit(&mut self, call: Option<CallId>, body: Body) -> Result<(), Error> {
        let Some(leader) = self.standing.leader else {
            return Err(self.unavailable());
        };
        let id = self.next_write_id();
        let urgent = body.is_urgent();
        let data = Proposal { id, body }.encode();
        if data.len() > ENTRY_BYTES_MAX {
            return Err(Error::too_large(
                "batch_bytes_max",
                BATCH_BYTES_MAX,
                data.len(),
            ));
        }
        if self.standing.leads {
            if self.is_log_full() && !urgent {
                return Err(Error::Overloaded {
                    queue: "log",
                    retry_after_ms: 500,
                });
            }
            self.writes.wait(id.counter, call, Stage::Queued);
            self.enqueue(Queued { id, data }, urgent);
        } else {
            let bytes = data.len();
            if self.writes.is_stream_full(bytes) && !urgent {
                return Err(Error::Overloaded {
                    queue: "writes at the leader",
                    retry_after_ms: 100,
                });
            }
            let stage = Stage::Forwarded { to: leader, bytes };
            self.writes.wait(id.counter, call, stage);
            let forward = Forward {
                term: self.standing.term,
                proposal: data,
            };
            self.send(leader, StreamClass::Control, PeerMessage::Forward(forward));
        }
        Ok(())
    }

    /// Another node's write, for this leader.
    pub(crate) fn take_forward(&mut self, from: NodeId, forward: Forward) {
        if forward.proposal.len() > ENTRY_BYTES_MAX {
            return;
        }
        let Ok(proposal) = Proposal::decode(forward.proposal.clone()) else {
            return;
        };
        let id = proposal.id;
        if id.node != from || !proposal.body.is_sound_from(from) || !self.seen.is_new(id) {
            return;
        }
        let urgent = proposal.body.is_urgent();
        let queued = Queued {
            id,
            // What is kept must not keep all that it came with.
            data: bytes::Bytes::copy_from_slice(&forward.proposal),
        };
        match self.refusal(forward.term, urgent) {
            Some(refusal) => self.refuse_forward(id, refusal),
            None if matches!(proposal.body, Body::KeepAlive { .. }) => {
                self.writes.enqueue_first(queued);
            }
            None => self.enqueue(queued, urgent),
        }
    }

    fn enqueue(&mut self, queued: Queued, urgent: bool) {
        if urgent {
            self.writes.enqueue_urgent(queued);
        } else {
            self.writes.enqueue(queued);
        }
    }

    /// Why a write that was forwarded to the leader of this term can't be proposed here.
    fn refusal(&self, term: u64, urgent: bool) -> Option<Refusal> {
        let full = if urgent {
            self.writes.is_urgent_queue_full()
        } else {
            self.writes.is_queue_full() || self.is_log_full()
        };
        if !self.standing.leads || self.raw.raft.term != term || self.installing.is_some() {
            Some(Refusal::NotLeader)
        } else if self.leaving.is_some() {
            Some(Refusal::Stopping)
        } else if self.disk == DiskState::Full {
            Some(Refusal::DiskFull)
        } else if self.leads_without_quorum() {
            Some(Refusal::NoQuorum)
        } else if full {
            Some(Refusal::Overloaded)
        } else {
            None
        }
    }

    pub(crate) fn refuse_forward(&mut self, id: WriteId, refusal: Refusal) {
        let refused = Refused {
            boot_nonce: id.boot_nonce,
            counter: id.counter,
            refusal: refusal.into(),
            leader: self.standing.leader.map_or(0, NodeId::as_u64),
        };
        self.send(id.node, StreamClass::Control, PeerMessage::Refused(refused));
    }

    /// The leader's word that a write of this node was not proposed.
    pub(crate) fn take_refused(&mut self, from: NodeId, refused: &Refused) {
        if refused.boot_nonce != self.config.boot_nonce() {
            return;
        }
        if self.keep_alives.is_round(refused.counter) {
            self.keep_alives_refused();
            return;
        }
        if !self.writes.is_with(refused.counter, from) {
            return;
        }
        if let Some(call) = self.writes.finish(refused.counter) {
            let leader = NodeId::try_from(refused.leader).ok();
            let error = match refused.refusal() {
                // It is the leader that stops, not this node.
                Refusal::Stopping => Error::NotLeader { hint: None },
                refusal @ (Refusal::NotLeader
                | Refusal::Overloaded
                | Refusal::DiskFull
                | Refusal::NoQuorum) => self.refusal_error(refusal, leader),
            };
            self.reply(call, Err(error));
        }
    }

    pub(crate) fn refusal_error(&self, refusal: Refusal, leader: Option<NodeId>) -> Error {
        match refusal {
            Refusal::NotLeader => Error::NotLeader {
                hint: leader.map(|leader| self.hint_for(leader)),
            },
            Refusal::Overloaded => Error::Overloaded {
                queue: "the leader's queue",
                retry_after_ms: 200,
            },
            Refusal::DiskFull => Error::DiskFull,
            Refusal::Stopping => Error::Stopping,
            Refusal::NoQuorum => Error::NoQuorum,
        }
    }

    /// Contact with this peer was lost: what was sent to it may have been proposed or not.
    pub(crate) fn lose_forwards(&mut self, peer: NodeId) {
        if self.standing.leader == Some(peer) {
            self.keep_alives.ask_again_at(self.now);
        }
        for call in self.writes.finish_where(|stage| stage.is_with(peer)) {
            let why = "contact with the leader was lost while the write was with it";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
    }

    /// Says where this node is reached, if the replicated record doesn't say so yet. At most once an election timeout.
    pub(crate) fn announce(&mut self) -> bool {
        let node = self.config.node();
        let Some(known) = self.state.members.get(&node) else {
            return false;
        };
        let record = MemberRecord {
            store: Some(self.config.identity().store),
            peer_address: self.own_peer_address(known),
            client_address: self.config.client_address().map(str::to_owned),
        };
        if *known == record || self.standing.leader.is_none() || self.leaving.is_some() {
            return false;
        }
        if known.store.is_some() && known.store != record.store {
            self.damaged(format!(
                "node {node} is known with another data directory: an id is never used again for a new one"
            ));
            return true;
        }
        let timeout = self.config.timing().election_timeout_us();
        let early = |at| self.now.since_us(at) < timeout;
        if self.disk == DiskState::Full || self.announced_at.is_some_and(early) {
            return false;
        }
        self.announced_at = Some(self.now);
        self.submit(None, Body::Member { node, record }).is_ok()
    }

    fn own_peer_address(&self, known: &MemberRecord) -> std::net::SocketAddr {
        let node = self.config.node();
        self.config
            .founders()
            .iter()
            .find(|founder| founder.node == node)
            .map_or(known.peer_address, |founder| founder.peer_address)
    }

    /// Tells the shell where every other member is.
    pub(crate) fn name_peers(&mut self) {
        let nodes: Vec<NodeId> = self.state.members.keys().copied().collect();
        for node in nodes {
            self.name_peer(node);
        }
    }

    pub(crate) fn name_peer(&mut self, peer: NodeId) {
        if peer == self.config.node() {
            return;
        }
        if let Some(record) = self.state.members.get(&peer) {
            self.outputs.push_back(Output::PeerAddress {
                peer,
                address: record.peer_address,
            });
        }
    }
}
