//! What every answer, an error too, says about itself.

use crate::error::{Certainty, LeaderHint};
use crate::id::{ClusterId, DataEpoch, Level, Mode, NodeId, Revision, Term};
use crate::token::Token;
use crate::version::{Dot, Stamp};

/// Who answered, with what guarantee, from which position, how stale it can be, and what to send with the next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The mode that answered.
    pub mode: Mode,
    /// The guarantee asked.
    pub asked: Level,
    /// The guarantee given. Weaker than `asked` only with `degraded` set.
    pub got: Level,
    /// Why the answer is weaker than asked; only when the request allowed it.
    pub degraded: Option<Degraded>,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that answered.
    pub node: NodeId,
    /// The data epoch.
    pub epoch: DataEpoch,
    /// The position of the answer.
    pub position: WritePosition,
    /// How stale the answer can be.
    pub staleness: Staleness,
    /// Whom this node sees.
    pub members: MemberCounts,
    /// The session token for the next request. `None` on errors that read nothing.
    pub token: Option<Token>,
    /// What became of the write; `None` where the request wrote nothing.
    pub write: Option<WriteOutcome>,
    /// What an applied write survives; `None` where nothing was written.
    pub durability: Option<Durability>,
    /// How many members hold the applied write at least, as the request demanded; 0 where it demanded nothing.
    pub acks: u32,
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Strong mode: it is fsynced on a majority.
    Majority,
    /// It is fsynced at the node that took it.
    #[default]
    Fsync,
    /// It is in the log of the node that took it, which is fsynced at intervals: a power cut may take what came since.
    Interval,
    /// It is in the memory of the node that took it, and of those that it has spread to.
    Memory,
}

impl Durability {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Fsync => "fsync",
            Self::Interval => "interval",
            Self::Memory => "memory",
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It was applied, as the mode promises.
    Applied,
    /// It was not, or it isn't known.
    Failed(Certainty),
}

/// Why an answer is weaker than was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// No leader confirmed the read, so this node's own view answered.
    LeaderUnreachable,
    /// The mode has nothing as strong as what was asked, so this node's own view answered.
    ModeCannot,
    /// Fewer members than were to be asked are there, or answered in time.
    TooFewMembers,
}

/// The position of an answer in its mode's own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WritePosition {
    /// Strong mode.
    Strong {
        /// The revision of the answer.
        revision: Revision,
        /// The term as this node knows it.
        term: Term,
        /// The leader as this node knows it.
        leader: Option<LeaderHint>,
    },
    /// Eventual mode.
    Eventual {
        /// The write's dot and stamp; `None` for an answer that wrote nothing.
        write: Option<(Dot, Stamp)>,
    },
}

/// How stale an answer can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// What the rest rests on.
    pub basis: StalenessBasis,
    /// Strong: since the leader was last heard. Eventual: since the least recently heard live member was heard. In
    /// milliseconds; `None` if there was no contact.
    pub contact_age_ms: Option<u64>,
    /// Strong: entries known as committed and not applied here.
    pub apply_lag: Option<u64>,
}

/// What a statement about staleness rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StalenessBasis {
    /// Not stale: the read was confirmed as current.
    Exact,
    /// A bound that can be proven.
    Proven,
    /// A guess from what was heard. Gossip gives no better.
    Estimated,
    /// Nothing is known.
    Unknown,
}

/// How many members this node sees, itself included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// Members that answer.
    pub alive: u32,
    /// Members under suspicion.
    pub suspect: u32,
    /// Members believed down.
    pub down: u32,
}
