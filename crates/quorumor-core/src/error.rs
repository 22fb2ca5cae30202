//! Everything that a request can be refused with, by what the caller can do about it.

use std::fmt;

use crate::id::{ClientId, LeaseId, Level, Mode, NodeId, Revision};

/// Whether the write of a failed request happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// It did not, and never will.
    NotApplied,
    /// It may have, or may yet. Only a retry under the same client sequence, or a read, can tell.
    Unknown,
}

impl Certainty {
    /// `not_applied` or `unknown`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// Where the leader is, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader.
    pub node: NodeId,
    /// Where it serves clients, if it has said so.
    pub client_address: Option<String>,
}

impl fmt::Display for LeaderHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.client_address {
            Some(address) => write!(f, "node {} at {address}", self.node),
            None => write!(f, "node {}", self.node),
        }
    }
}

/// Why a request was refused or its outcome is unknown.
///
/// An absent key and a lost compare are answers, not errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request is malformed. Mend it.
    #[error("invalid {field}: {why}")]
    InvalidArgument {
        /// Which field.
        field: &'static str,
        /// What is wrong with it and what is allowed.
        why: String,
    },
    /// The request breaks a limit. Make it smaller.
    #[error("{limit} is {max}, this is {actual}")]
    TooLarge {
        /// The limit's name, as in `Describe`.
        limit: &'static str,
        /// The most that is allowed.
        max: usize,
        /// What came.
        actual: usize,
    },
    /// This mode can't honour what was asked. Ask for less, or use the other mode.
    #[error("{mode} mode can't give {asked}; the best it has is {best_available}")]
    GuaranteeUnavailable {
        /// The mode that refused.
        mode: Mode,
        /// What was asked.
        asked: &'static str,
        /// The best that it has.
        best_available: &'static str,
    },
    /// The node doesn't run this mode. Ask another node or another mode.
    #[error("this node doesn't serve {mode} mode")]
    ModeNotServed {
        /// The mode asked for.
        mode: Mode,
    },
    /// No leader could take the request. Retry, at the leader if one is named.
    #[error("this node is not the leader{}", hint_text(.hint.as_ref()))]
    NotLeader {
        /// The leader, if known.
        hint: Option<LeaderHint>,
    },
    /// A majority can't be reached, so nothing can be promised. Retry later, or on the other side of the partition.
    #[error("no quorum: this node can't reach a majority of the voters")]
    NoQuorum,
    /// The node hasn't caught up since its start. Retry.
    #[error("the node is starting")]
    Starting,
    /// The node is shutting down. Retry elsewhere.
    #[error("the node is shutting down")]
    Stopping,
    /// A queue is full. Retry after a while.
    #[error("overloaded: {queue} is full")]
    Overloaded {
        /// Which queue.
        queue: &'static str,
        /// When to try again, in milliseconds.
        retry_after_ms: u64,
    },
    /// The disk is full; reads go on. Free space.
    #[error("the disk is full, writes are refused until there is space")]
    DiskFull,
    /// This node's data is damaged or was lost; it must not go on as it is.
    #[error("damaged: {why}")]
    Damaged {
        /// What was found.
        why: String,
    },
    /// The token demands more than this node has by the deadline. Retry, or ask the node that gave it.
    #[error("the session token is ahead of this node: it needs {needed}, here is {have}")]
    TokenAhead {
        /// What the token demands.
        needed: String,
        /// What this node has.
        have: String,
    },
    /// The token spans more writers than a token can hold. Start a new session.
    #[error(
        "the session token would have {rows} rows; token_rows_max is {}",
        crate::limits::TOKEN_ROWS_MAX
    )]
    TokenTooWide {
        /// Its rows.
        rows: usize,
    },
    /// The token or cursor is of another data epoch. Read again, from the start.
    #[error("the data epoch changed: the request is of epoch {asked}, the data of epoch {current}")]
    EpochChanged {
        /// The request's epoch.
        asked: u64,
        /// The data's epoch.
        current: u64,
    },
    /// The history that was asked for is gone. Read a snapshot.
    #[error("history before revision {oldest} is gone")]
    HistoryGone {
        /// The oldest revision left.
        oldest: Revision,
    },
    /// The revision that was asked for hasn't come yet. Read again later, or without a revision.
    #[error("revision {asked} is in the future, the newest is {current}")]
    FutureRevision {
        /// The revision asked for.
        asked: Revision,
        /// The newest here.
        current: Revision,
    },
    /// The read's bound on staleness can't be proven. Allow more, or ask another node.
    #[error("the bound can't be proven: {why}")]
    TooStale {
        /// What is missing.
        why: String,
    },
    /// There is no such lease: it expired, was revoked or was never granted.
    #[error("there is no lease {lease}")]
    LeaseNotFound {
        /// The lease asked for.
        lease: LeaseId,
    },
    /// The lease id that the caller chose is taken.
    #[error("lease {lease} exists")]
    LeaseExists {
        /// The lease.
        lease: LeaseId,
    },
    /// The node that granted the lease can't be reached, and only it can do this. Retry later, or take a lease elsewhere.
    #[error("node {owner}, which owns the lease, can't be reached")]
    OwnerUnreachable {
        /// The owner.
        owner: NodeId,
    },
    /// Fewer members are there than the request demands. Demand less, or retry later.
    #[error("{needed} members are needed, this node sees {have}")]
    TooFewMembers {
        /// How many are needed, this node included.
        needed: u32,
        /// How many are there, this node included.
        have: u32,
    },
    /// The client's session is gone, and with it the memory of its writes: whether an earlier try of this one was applied
    /// can't be told any more. This try wasn't.
    #[error("session {client} is gone: {why}")]
    SessionExpired {
        /// The session.
        client: ClientId,
        /// What happened.
        why: &'static str,
    },
    /// The number names another write of this session already: one number is one write. This one was not applied. Mend the
    /// numbering, or open a session of one's own.
    #[error("number {seq} of session {client} was given to another write")]
    SequenceReused {
        /// The session.
        client: ClientId,
        /// The number.
        seq: u64,
    },
    /// The change of membership isn't allowed as things stand.
    #[error("the membership change is refused: {why}")]
    MembershipRefused {
        /// Why, and what to do instead.
        why: String,
    },
    /// The node lost its leader, and the caller asked to be told.
    #[error("this node has lost its leader")]
    LeaderLost,
    /// The caller didn't prove who it is.
    #[error("not authenticated: {why}")]
    Unauthenticated {
        /// What is missing or wrong.
        why: &'static str,
    },
    /// The caller may not do this.
    #[error("permission denied: this needs {needed}")]
    PermissionDenied {
        /// The role that is needed.
        needed: String,
    },
    /// The write was sent on, and what became of it isn't known.
    #[error("the outcome is unknown: {why}")]
    OutcomeUnknown {
        /// What happened.
        why: &'static str,
    },
    /// Time was up before the request was carried out.
    #[error("the deadline passed before {what}")]
    DeadlineExceeded {
        /// What was waited for.
        what: &'static str,
        /// Whether a write may have happened.
        certainty: Certainty,
    },
    /// A fault of our own. Report it.
    #[error("internal: {why}")]
    Internal {
        /// What broke.
        why: String,
        /// Whether a write may have happened.
        certainty: Certainty,
    },
}

fn hint_text(hint: Option<&LeaderHint>) -> String {
    hint.map_or_else(
        || ", and none is known".to_owned(),
        |hint| format!("; it is {hint}"),
    )
}

impl Error {
    /// An invalid argument.
    #[must_use]
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::InvalidArgument {
            field,
            why: why.into(),
        }
    }

    /// A broken limit.
    #[must_use]
    pub const fn too_large(limit: &'static str, max: usize, actual: usize) -> Self {
        Self::TooLarge { limit, max, actual }
    }

    /// A read level that the mode can't give.
    #[must_use]
    pub const fn level_unavailable(mode: Mode, asked: Level) -> Self {
        Self::GuaranteeUnavailable {
            mode,
            asked: asked.as_str(),
            best_available: mode.best_level().as_str(),
        }
    }

    /// The stable reason, for programs: `ErrorInfo.reason` on the wire.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::GuaranteeUnavailable { .. } => "GUARANTEE_UNAVAILABLE",
            Self::ModeNotServed { .. } => "MODE_NOT_SERVED",
            Self::NotLeader { .. } => "NOT_LEADER",
            Self::NoQuorum => "NO_QUORUM",
            Self::Starting => "STARTING",
            Self::Stopping => "STOPPING",
            Self::Overloaded { .. } => "OVERLOADED",
            Self::DiskFull => "DISK_FULL",
            Self::Damaged { .. } => "DAMAGED",
            Self::TokenAhead { .. } => "TOKEN_AHEAD",
            Self::TokenTooWide { .. } => "TOKEN_TOO_WIDE",
            Self::EpochChanged { .. } => "EPOCH_CHANGED",
            Self::HistoryGone { .. } => "HISTORY_GONE",
            Self::FutureRevision { .. } => "FUTURE_REVISION",
            Self::TooStale { .. } => "TOO_STALE",
            Self::LeaseNotFound { .. } => "LEASE_NOT_FOUND",
            Self::LeaseExists { .. } => "LEASE_EXISTS",
            Self::OwnerUnreachable { .. } => "OWNER_UNREACHABLE",
            Self::TooFewMembers { .. } => "TOO_FEW_MEMBERS",
            Self::SessionExpired { .. } => "SESSION_EXPIRED",
            Self::SequenceReused { .. } => "SEQUENCE_REUSED",
            Self::MembershipRefused { .. } => "MEMBERSHIP_REFUSED",
            Self::LeaderLost => "LEADER_LOST",
            Self::Unauthenticated { .. } => "UNAUTHENTICATED",
            Self::PermissionDenied { .. } => "PERMISSION_DENIED",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    /// Whether the write of this request happened.
    #[must_use]
    pub const fn certainty(&self) -> Certainty {
        match self {
            Self::OutcomeUnknown { .. } => Certainty::Unknown,
            Self::DeadlineExceeded { certainty, .. } | Self::Internal { certainty, .. } => {
                *certainty
            }
            Self::InvalidArgument { .. }
            | Self::TooLarge { .. }
            | Self::GuaranteeUnavailable { .. }
            | Self::ModeNotServed { .. }
            | Self::NotLeader { .. }
            | Self::NoQuorum
            | Self::Starting
            | Self::Stopping
            | Self::Overloaded { .. }
            | Self::DiskFull
            | Self::Damaged { .. }
            | Self::TokenAhead { .. }
            | Self::TokenTooWide { .. }
            | Self::EpochChanged { .. }
            | Self::HistoryGone { .. }
            | Self::FutureRevision { .. }
            | Self::TooStale { .. }
            | Self::LeaseNotFound { .. }
            | Self::LeaseExists { .. }
            | Self::OwnerUnreachable { .. }
            | Self::TooFewMembers { .. }
            | Self::SessionExpired { .. }
            | Self::SequenceReused { .. }
            | Self::MembershipRefused { .. }
            | Self::LeaderLost
            | Self::Unauthenticated { .. }
            | Self::PermissionDenied { .. } => Certainty::NotApplied,
        }
    }

    /// When a retry of the same request may help, in milliseconds; `None` if it can't.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotLeader { .. } => Some(50),
            Self::NoQuorum
            | Self::Starting
            | Self::TokenAhead { .. }
            | Self::FutureRevision { .. }
            | Self::TooStale { .. }
            | Self::LeaderLost => Some(200),
            Self::Stopping | Self::OwnerUnreachable { .. } | Self::TooFewMembers { .. } => {
                Some(1_000)
            }
            Self::DiskFull => Some(5_000),
            Self::Overloaded { retry_after_ms, .. } => Some(*retry_after_ms),
            Self::InvalidArgument { .. }
            | Self::TooLarge { .. }
            | Self::GuaranteeUnavailable { .. }
            | Self::ModeNotServed { .. }
            | Self::Damaged { .. }
            | Self::TokenTooWide { .. }
            | Self::EpochChanged { .. }
            | Self::HistoryGone { .. }
            | Self::LeaseNotFound { .. }
            | Self::LeaseExists { .. }
            | Self::SessionExpired { .. }
            | Self::SequenceReused { .. }
            | Self::MembershipRefused { .. }
            | Self::Unauthenticated { .. }
            | Self::PermissionDenied { .. }
            | Self::OutcomeUnknown { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Internal { .. } => None,
        }
    }
}
