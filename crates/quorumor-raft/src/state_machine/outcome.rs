//! What applying one entry led to, and how its origin answers for it. The same on every node.
//!
//! Not a reply yet: only the node that took the request makes one. A session keeps outcomes, so they have a form in bytes
//! (`codec/answer.rs`).

use quorumor_core::limits::{
    DELETE_RANGE_KEYS_MAX, LEASE_KEYS_MAX, LEASES_MAX, SESSION_ANSWER_BYTES_MAX,
    SESSION_ANSWERS_MAX, SESSION_LEAP_MAX, SESSIONS_MAX,
};
use quorumor_core::{
    Change, ClientId, Entry, Error, LeaseId, NodeId, OperationResult, Position, Reply, Revision,
};

/// What an entry did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing that anybody waits for.
    #[default]
    Nothing,
    /// A write, a revocation, a closed session.
    Written(Vec<OperationResult>),
    /// A transaction.
    TxnDone {
        succeeded: bool,
        results: Vec<OperationResult>,
    },
    /// A granted lease.
    Granted { id: LeaseId, ttl_ms: u64 },
    /// For each lease of a round of keep-alives its TTL, or `None` if it is gone.
    Kept(Vec<(LeaseId, Option<u64>)>),
    /// An opened session.
    Opened { client_id: ClientId, ttl_ms: u64 },
    /// A change of the cluster.
    ClusterChanged,
}

/// Why an entry did nothing. Decided at its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    LeaseNotFound(LeaseId),
    LeaseExists(LeaseId),
    LeasesMax,
    LeaseKeysMax,
    DeleteRangeKeysMax,
    SessionGone(ClientId),
    SessionAcknowledged(ClientId),
    SequenceReused { client: ClientId, seq: u64 },
    SequenceLeap { seq: u64 },
    SessionsMax,
    SessionAnswersMax,
    SessionsBytesMax,
    AnswerTooLarge(usize),
    HistoryGone { oldest: Revision },
    FutureRevision { asked: Revision, current: Revision },
}

/// The answer to one request, and the revision after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) revision: Revision,
    pub(crate) result: Result<Outcome, Denial>,
}

/// What applying one entry led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// For whoever waits.
    pub(crate) answer: Answer,
    /// What watchers must learn, a revision each.
    pub(crate) changes: Vec<Change>,
    /// Whose member record changed.
    pub(crate) member: Option<NodeId>,
}

impl Denial {
    /// As the caller is told.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::LeaseNotFound(lease) => Error::LeaseNotFound { lease },
            Self::LeaseExists(lease) => Error::LeaseExists { lease },
            Self::LeasesMax => Error::too_large("leases_max", LEASES_MAX, LEASES_MAX + 1),
            Self::LeaseKeysMax => {
                Error::too_large("lease_keys_max", LEASE_KEYS_MAX, LEASE_KEYS_MAX + 1)
            }
            Self::DeleteRangeKeysMax => {
                let max = DELETE_RANGE_KEYS_MAX;
                Error::too_large("delete_range_keys_max", max, max + 1)
            }
            Self::SessionGone(client) => Error::SessionExpired {
                client,
                why: "it expired, was closed, or was never opened",
            },
            Self::SessionAcknowledged(client) => Error::SessionExpired {
                client,
                why: "this number was already acknowledged, and its answer forgotten",
            },
            Self::SequenceReused { client, seq } => Error::SequenceReused { client, seq },
            Self::SequenceLeap { seq } => Error::invalid(
                "seq",
                format!(
                    "{seq} isn't above what it acknowledges, or is more than {SESSION_LEAP_MAX} above every earlier number"
                ),
            ),
            Self::SessionsMax => Error::Overloaded {
                queue: "sessions_max",
                retry_after_ms: SESSIONS_RETRY_MS,
            },
            Self::SessionAnswersMax => Error::Overloaded {
                queue: "session_answers_max",
                retry_after_ms: 100,
            },
            Self::SessionsBytesMax => Error::Overloaded {
                queue: "sessions_bytes_max",
                retry_after_ms: SESSIONS_RETRY_MS,
            },
            Self::AnswerTooLarge(bytes) => {
                Error::too_large("session_answer_bytes_max", SESSION_ANSWER_BYTES_MAX, bytes)
            }
            Self::HistoryGone { oldest } => Error::HistoryGone { oldest },
            Self::FutureRevision { asked, current } => Error::FutureRevision { asked, current },
        }
    }
}

/// How long until some of so many sessions may have expired.
const SESSIONS_RETRY_MS: u64 = 1_000;

const _: () = assert!(
    SESSION_ANSWERS_MAX > 0 && SESSIONS_MAX > 0,
    "a session can be opened and used"
);

impl Answer {
    /// The bytes that keeping it costs.
    pub(crate) fn bytes(&self) -> usize {
        let results = match &self.result {
            Ok(Outcome::Written(results) | Outcome::TxnDone { results, .. }) => &results[..],
            Ok(
                Outcome::Nothing
                | Outcome::Granted { .. }
                | Outcome::Kept(_)
                | Outcome::Opened { .. }
                | Outcome::ClusterChanged,
            )
            | Err(_) => &[],
        };
        64 + results.iter().map(result_bytes).sum::<usize>()
    }

    /// As the caller is told.
    pub(crate) fn into_reply(self) -> Result<Reply, Error> {
        let position = Position::Strong(self.revision);
        let written = |results| Reply::Written {
            results,
            position: position.clone(),
            dot: None,
        };
        Ok(match self.result.map_err(Denial::into_error)? {
            // Nobody waits for these two by a call of its own.
            Outcome::Nothing | Outcome::Kept(_) => written(Vec::new()),
            Outcome::Written(results) => written(results),
            Outcome::TxnDone { succeeded, results } => Reply::TxnDone {
                succeeded,
                results,
                position,
            },
            Outcome::Granted { id, ttl_ms } => Reply::LeaseGranted {
                id,
                ttl_ms,
                position,
            },
            Outcome::Opened { client_id, ttl_ms } => Reply::SessionOpened {
                client_id,
                ttl_ms,
                position,
            },
            Outcome::ClusterChanged => Reply::ClusterChanged { position },
        })
    }
}

fn result_bytes(result: &OperationResult) -> usize {
    let entry = match result {
        OperationResult::Put { .. } | OperationResult::RangeDeleted { .. } => None,
        OperationResult::Deleted { previous } => previous.as_ref(),
        OperationResult::Compared { entry, .. } | OperationResult::Got { entry } => entry.as_ref(),
    };
    48 + entry.map_or(0, Entry::bytes)
}
