//! What nodes say to each other. A message is a list of parts; each stands alone.

use std::net::SocketAddr;
use std::sync::Arc;

use quorumor_core::{Dot, Generation, Incarnation, MemberState, NodeId, VersionVector};

use crate::event::Event;
use crate::register::Register;

/// What two nodes compare to see whether they agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Over the version vector.
    pub(crate) state: u64,
    /// Over the members.
    pub(crate) members: u64,
}

/// What someone says about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) node: NodeId,
    pub(crate) state: MemberState,
    pub(crate) generation: Generation,
    pub(crate) incarnation: Incarnation,
    /// Who says so first: counts as a confirmation of a suspicion.
    pub(crate) accuser: NodeId,
    pub(crate) address: SocketAddr,
    pub(crate) client_address: Option<Arc<str>>,
}

/// One part of a message.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Are you there? (SWIM)
    Ping {
        number: u64,
        /// Whom it is meant for; `None` for a seed whose id isn't known.
        target: Option<NodeId>,
        /// Whether the sender wants the members and the state.
        join: bool,
        summary: Summary,
        me: Update,
    },
    /// I am.
    Ack {
        number: u64,
        summary: Summary,
        me: Update,
    },
    /// Ask that member for me.
    IndirectPing { number: u64, target: NodeId },
    /// It answered me.
    IndirectAck { number: u64 },
    /// It didn't, but I am here (Lifeguard).
    Nack { number: u64 },
    /// News about members.
    Members(Vec<Update>),
    /// Writes, spread as rumors.
    Rumors(Vec<Arc<Event>>),
    /// Writes too large for a datagram: ask for them.
    Announce(Vec<Dot>),
    /// Which of the sent rumors were news.
    Feedback(Vec<(Dot, bool)>),
    /// This is how far I am, compare.
    Beacon(Summary),
    /// This is what I know: answer with what it lacks, and if `reply`, with what you know.
    Vector { reply: bool, vector: VersionVector },
    /// Writes that your vector lacked. If `more`, ask again.
    Delta { more: bool, events: Vec<Arc<Event>> },
    /// A piece of the sender's state for a peer too far behind for events.
    State(StateChunk),
    /// The next piece, please.
    StatePull { transfer: u64, index: u64 },
}

/// A piece of a state transfer.
#[derive(Clone, Debug)]
pub(crate) struct StateChunk {
    /// Names the transfer at its sender.
    pub(crate) transfer: u64,
    /// Counts the pieces from 0.
    pub(crate) index: u64,
    pub(crate) registers: Vec<Register>,
    /// Only in the last piece: everything that the state includes.
    pub(crate) vector: Option<VersionVector>,
}
