//! Why a start is refused. What a running replica refuses is [`quorumor_core::Error`].

use quorumor_core::{ClusterId, Record};

use crate::codec::CodecError;

/// Why a replica can't start from what its disk holds. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The checkpoint doesn't decode.
    #[error("the checkpoint is damaged: {why}")]
    Checkpoint {
        /// What was found.
        why: String,
    },
    /// The checkpoint belongs to another cluster.
    #[error("the checkpoint is of cluster {found}, this node is of cluster {expected}")]
    OtherCluster {
        /// The checkpoint's cluster.
        found: ClusterId,
        /// This node's.
        expected: ClusterId,
    },
    /// A record doesn't decode.
    #[error("the log record of kind {kind} at position {position} is damaged: {why}")]
    Record {
        /// Its kind.
        kind: u8,
        /// Its position.
        position: u64,
        /// What was found.
        why: String,
    },
    /// A record is of a kind that this version doesn't know.
    #[error("the log holds a record of unknown kind {kind}")]
    UnknownRecord {
        /// Its kind.
        kind: u8,
    },
    /// A record lies at another place than its entry says.
    #[error("the log record at position {position} holds the entry of index {index}")]
    Misplaced {
        /// The record's position.
        position: u64,
        /// The entry's index.
        index: u64,
    },
    /// Entries are missing.
    #[error("the log has a gap: after index {after} comes index {next}")]
    Gap {
        /// The last index before the gap.
        after: u64,
        /// The first index after it.
        next: u64,
    },
    /// Committed entries are missing: acknowledged writes were lost.
    #[error(
        "the log ends at index {last}, but index {commit} was committed: acknowledged entries are lost"
    )]
    CommitBeyondLog {
        /// The committed index.
        commit: u64,
        /// The log's last index.
        last: u64,
    },
    /// Raft refused to start.
    #[error("raft can't start: {why}")]
    Raft {
        /// What it said.
        why: String,
    },
}

impl OpenError {
    pub(crate) fn record(record: &Record, why: CodecError) -> Self {
        Self::Record {
            kind: record.kind,
            position: record.position,
            why: why.to_string(),
        }
    }
}
