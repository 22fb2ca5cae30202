//! The answers that sessions keep, as bytes: in checkpoints only.

use quorumor_core::{Entry, LeaseId, OperationResult, Revision};

use super::CodecError;
use super::operation::{
    Nothing, WireKeyValue, entry_of, strong_version, version_numbers, wire_entry,
};
use crate::state_machine::outcome::{Answer, Denial, Outcome};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireAnswer {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(oneof = "WireKind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<WireKind>,
    #[prost(message, repeated, tag = "15")]
    results: Vec<WireResult>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireKind {
    #[prost(message, tag = "2")]
    Written(Nothing),
    /// Whether it succeeded.
    #[prost(bool, tag = "3")]
    Txn(bool),
    #[prost(message, tag = "4")]
    Granted(WireGranted),
    #[prost(uint64, tag = "5")]
    NotFound(u64),
    #[prost(uint64, tag = "6")]
    Exists(u64),
    #[prost(message, tag = "7")]
    LeasesMax(Nothing),
    #[prost(message, tag = "8")]
    Nothing(Nothing),
    #[prost(message, tag = "9")]
    LeaseKeysMax(Nothing),
    #[prost(message, tag = "10")]
    DeleteRangeKeysMax(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireGranted {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    ttl_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireResult {
    #[prost(oneof = "WireResultKind", tags = "1, 2, 3, 4, 5")]
    kind: Option<WireResultKind>,
    #[prost(message, optional, tag = "6")]
    entry: Option<WireKeyValue>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
enum WireResultKind {
    #[prost(message, tag = "1")]
    Put(WireVersion),
    #[prost(message, tag = "2")]
    Deleted(Nothing),
    /// How many.
    #[prost(uint64, tag = "3")]
    RangeDeleted(u64),
    /// Whether it held.
    #[prost(bool, tag = "4")]
    Compared(bool),
    #[prost(message, tag = "5")]
    Got(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireVersion {
    #[prost(uint64, tag = "1")]
    create: u64,
    #[prost(uint64, tag = "2")]
    modify: u64,
    #[prost(uint64, tag = "3")]
    count: u64,
}

/// An answer, to bytes.
pub(crate) fn wire_answer(answer: &Answer) -> WireAnswer {
    let none: &[OperationResult] = &[];
    let (kind, results) = match &answer.result {
        Ok(Outcome::Written(results)) => (WireKind::Written(Nothing {}), &results[..]),
        Ok(Outcome::TxnDone { succeeded, results }) => (WireKind::Txn(*succeeded), &results[..]),
        Ok(Outcome::Granted { id, ttl_ms }) => {
            let granted = WireGranted {
                id: id.as_u64(),
                ttl_ms: *ttl_ms,
            };
            (WireKind::Granted(granted), none)
        }
        Err(Denial::LeaseNotFound(lease)) => (WireKind::NotFound(lease.as_u64()), none),
        Err(Denial::LeaseExists(lease)) => (WireKind::Exists(lease.as_u64()), none),
        Err(Denial::LeasesMax) => (WireKind::LeasesMax(Nothing {}), none),
        Err(Denial::LeaseKeysMax) => (WireKind::LeaseKeysMax(Nothing {}), none),
        Err(Denial::DeleteRangeKeysMax) => (WireKind::DeleteRangeKeysMax(Nothing {}), none),
        // No session keeps one of these: they are no answers to writes.
        Ok(
            Outcome::Nothing | Outcome::Kept(_) | Outcome::Opened { .. } | Outcome::ClusterChanged,
        )
        | Err(
            Denial::SessionGone(_)
            | Denial::SessionAcknowledged(_)
            | Denial::SequenceReused { .. }
            | Denial::SequenceLeap { .. }
            | Denial::SessionsMax
            | Denial::SessionAnswersMax
            | Denial::SessionsBytesMax
            | Denial::AnswerTooLarge(_)
            | Denial::HistoryGone { .. }
            | Denial::FutureRevision { .. },
        ) => (WireKind::Nothing(Nothing {}), none),
    };
    WireAnswer {
        revision: answer.revision.as_u64(),
        kind: Some(kind),
        results: results.iter().map(wire_result).collect(),
    }
}

fn wire_result(result: &OperationResult) -> WireResult {
    let (kind, entry) = match result {
        OperationResult::Put { version } => {
            let (create, modify, count) = version_numbers(version);
            let version = WireVersion {
                create,
                modify,
                count,
            };
            (WireResultKind::Put(version), None)
        }
        OperationResult::Deleted { previous } => {
            (WireResultKind::Deleted(Nothing {}), previous.as_ref())
        }
        OperationResult::RangeDeleted { count } => (WireResultKind::RangeDeleted(*count), None),
        OperationResult::Compared { succeeded, entry } => {
            (WireResultKind::Compared(*succeeded), entry.as_ref())
        }
        OperationResult::Got { entry } => (WireResultKind::Got(Nothing {}), entry.as_ref()),
    };
    WireResult {
        kind: Some(kind),
        entry: entry.map(wire_entry),
    }
}

/// An answer, from bytes.
pub(crate) fn answer_of(wire: WireAnswer) -> Result<Answer, CodecError> {
    let results = wire
        .results
        .into_iter()
        .map(result_of)
        .collect::<Result<Vec<_>, _>>()?;
    let kind = wire
        .kind
        .ok_or(CodecError::Invalid("an answer of an unknown kind"))?;
    let result = match kind {
        WireKind::Written(Nothing {}) => Ok(Outcome::Written(results)),
        WireKind::Txn(succeeded) => Ok(Outcome::TxnDone { succeeded, results }),
        WireKind::Granted(WireGranted { id, ttl_ms }) => Ok(Outcome::Granted {
            id: LeaseId::new(id),
            ttl_ms,
        }),
        WireKind::NotFound(lease) => Err(Denial::LeaseNotFound(LeaseId::new(lease))),
        WireKind::Exists(lease) => Err(Denial::LeaseExists(LeaseId::new(lease))),
        WireKind::LeasesMax(Nothing {}) => Err(Denial::LeasesMax),
        WireKind::LeaseKeysMax(Nothing {}) => Err(Denial::LeaseKeysMax),
        WireKind::DeleteRangeKeysMax(Nothing {}) => Err(Denial::DeleteRangeKeysMax),
        WireKind::Nothing(Nothing {}) => Ok(Outcome::Nothing),
    };
    Ok(Answer {
        revision: Revision::new(wire.revision),
        result,
    })
}

fn result_of(wire: WireResult) -> Result<OperationResult, CodecError> {
    let entry: Option<Entry> = wire.entry.as_ref().map(entry_of).transpose()?;
    let kind = wire
        .kind
        .ok_or(CodecError::Invalid("a result of an unknown kind"))?;
    Ok(match kind {
        WireResultKind::Put(version) => OperationResult::Put {
            version: strong_version(version.create, version.modify, version.count),
        },
        WireResultKind::Deleted(Nothing {}) => OperationResult::Deleted { previous: entry },
        WireResultKind::RangeDeleted(count) => OperationResult::RangeDeleted { count },
        WireResultKind::Compared(succeeded) => OperationResult::Compared { succeeded, entry },
        WireResultKind::Got(Nothing {}) => OperationResult::Got { entry },
    })
}
