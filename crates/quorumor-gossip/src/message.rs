//! What nodes say to each other. A message is a list of parts; each stands alone.

use std::net::SocketAddr;
use std::sync::Arc;

use quorumor_core::{Dot, Generation, Incarnation, Key, MemberState, NodeId, Stamp, VersionVector};

use crate::event::Event;
use crate::forward::{Forwarded, Outcome};
use crate::member::table::BUCKETS;
use crate::register::Register;
use crate::stability::{Cut, CutId, Stable};

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
    /// Of a suspicion: whether the member's host told the accuser that nobody listens there.
    pub(crate) refused: bool,
    pub(crate) address: SocketAddr,
    pub(crate) client_address: Option<Arc<str>>,
}

/// A member's generation and incarnation.
pub(crate) type Life = (Generation, Incarnation);

/// A write that can be pulled from whoever offers it, by what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) dot: Dot,
    pub(crate) key: Key,
    pub(crate) stamp: Stamp,
    pub(crate) bytes: u64,
    /// BLAKE3 of the value.
    pub(crate) hash: [u8; 32],
}

/// Lives of members of one bucket, each by a part of its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketLives {
    pub(crate) bucket: u8,
    pub(crate) lives: Vec<u32>,
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
        life: Life,
        /// Everything about the sender, for whoever may not know it.
        me: Option<Update>,
    },
    /// I am.
    Ack {
        number: u64,
        summary: Summary,
        life: Life,
        me: Option<Update>,
    },
    /// I don't know you, or an older life of yours: who are you?
    Who,
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
    /// Writes that can be asked for: most know them by now.
    Announce(Vec<Dot>),
    /// Writes too large for a datagram: ask for them.
    Offers(Vec<Offer>),
    /// Those writes, please.
    Pull(Vec<Dot>),
    /// Over the present members, a bucket a number: answer with the lives that you know in those that differ.
    Table(Box<[u32; BUCKETS]>),
    /// All lives that the sender knows in these buckets: tell it the others, and ask for those you lack.
    TableHeld(Vec<BucketLives>),
    /// Tell the sender of these lives, please.
    TableLacked(Vec<BucketLives>),
    /// Half of the hashes over the version vector, bucket by bucket: answer with the rows of those that differ.
    Buckets { half: bool, hashes: Vec<u64> },
    /// All rows that the sender has in these buckets: answer with what they prove missing, and if `reply`, with your rows.
    Rows {
        reply: bool,
        buckets: Vec<u8>,
        vector: VersionVector,
    },
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
    /// Only you can do this for my caller.
    Forward { number: u64, request: Forwarded },
    /// This became of it.
    Outcome { number: u64, outcome: Outcome },
    /// A caller wants what you have: how far are you, if not so far?
    Catch { number: u64, summary: Summary },
    /// So far; `None` if exactly as far.
    Caught {
        number: u64,
        vector: Option<VersionVector>,
    },
    /// A cut as its sender knows it.
    Cut(Box<Cut>),
    /// The last cut by which the sender has collected.
    Stable(Box<Stable>),
    /// Who has confirmed a cut, from member `offset` of its list on.
    CutBits {
        cut: CutId,
        offset: u64,
        bits: Vec<u8>,
    },
    /// I don't know that cut: tell me.
    CutAsk,
    /// I missed too much: your whole state, please. This is how far I am.
    Whole { vector: VersionVector },
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
    /// Only in the last piece of a whole state: what the sender has collected up to.
    pub(crate) floor: Option<Floor>,
}

/// Up to where a node has collected deletes, and by which cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) vector: VersionVector,
    pub(crate) stable: Stable,
}
