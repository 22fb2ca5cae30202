//! Errors as gRPC statuses, and back.
//!
//! Details of a status, in this order: `google.rpc.ErrorInfo` always, `google.rpc.RetryInfo` where a retry can help,
//! `google.rpc.BadRequest` for an invalid argument, `quorumor.v1.Receipt` where the mode is known.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use quorumor_core::{Certainty, Error, Mode, Receipt};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::pb as rpc;

use crate::pb;
use crate::receipt::{millis, receipt_to_wire};

/// `ErrorInfo.domain` of every error that a node makes.
pub const DOMAIN: &str = "quorumor.dev";

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const RECEIPT: &str = "type.googleapis.com/quorumor.v1.Receipt";

/// The gRPC code of an error.
#[must_use]
pub const fn code(error: &Error) -> Code {
    match error {
        Error::InvalidArgument { .. } | Error::TooLarge { .. } => Code::InvalidArgument,
        Error::GuaranteeUnavailable { .. }
        | Error::ModeNotServed { .. }
        | Error::TokenTooWide { .. }
        | Error::EpochChanged { .. }
        | Error::LeaseExists { .. }
        | Error::SessionExpired { .. }
        | Error::SequenceReused { .. }
        | Error::MembershipRefused { .. } => Code::FailedPrecondition,
        Error::NotLeader { .. }
        | Error::NoQuorum
        | Error::Starting
        | Error::Stopping
        | Error::TooStale { .. }
        | Error::OwnerUnreachable { .. }
        | Error::TooFewMembers { .. }
        | Error::LeaderLost => Code::Unavailable,
        Error::LeaseNotFound { .. } => Code::NotFound,
        Error::Unauthenticated { .. } => Code::Unauthenticated,
        Error::PermissionDenied { .. } => Code::PermissionDenied,
        // Generic clients retry UNAVAILABLE by themselves, which a write that may have happened must not invite.
        Error::OutcomeUnknown { .. } => Code::Unknown,
        Error::Overloaded { .. } | Error::DiskFull => Code::ResourceExhausted,
        Error::Damaged { .. } => Code::DataLoss,
        Error::TokenAhead { .. } | Error::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        Error::HistoryGone { .. } | Error::FutureRevision { .. } => Code::OutOfRange,
        Error::Internal { .. } => Code::Internal,
    }
}

/// An error as a status, with the receipt in its details.
#[must_use]
pub fn to_status(error: &Error, mode: Option<Mode>, receipt: Option<&Receipt>) -> Status {
    let code = code(error);
    let message = error.to_string();
    let mut details = vec![any(ERROR_INFO, &error_info(error, mode))];
    let retry_after_ms = error.retry_after_ms();
    if let Some(ms) = retry_after_ms {
        details.push(any(
            RETRY_INFO,
            &rpc::RetryInfo {
                retry_delay: Some(millis(ms)),
            },
        ));
    }
    if let Error::InvalidArgument { field, why } = error {
        let violation = rpc::bad_request::FieldViolation {
            field: (*field).to_owned(),
            description: why.clone(),
            ..rpc::bad_request::FieldViolation::default()
        };
        details.push(any(
            BAD_REQUEST,
            &rpc::BadRequest {
                field_violations: vec![violation],
            },
        ));
    }
    if let Some(receipt) = receipt.and_then(|receipt| receipt_to_wire(receipt).ok()) {
        details.push(any(RECEIPT, &receipt));
    }
    let body = rpc::Status {
        code: code.into(),
        message: message.clone(),
        details,
    };
    let mut metadata = MetadataMap::new();
    if let (Error::Overloaded { .. }, Some(ms)) = (error, retry_after_ms) {
        metadata.insert("grpc-retry-pushback-ms", ms.into());
    }
    Status::with_details_and_metadata(code, message, body.encode_to_vec().into(), metadata)
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

fn error_info(error: &Error, mode: Option<Mode>) -> rpc::ErrorInfo {
    let mut metadata = HashMap::from([(
        "certainty".to_owned(),
        error.certainty().as_str().to_owned(),
    )]);
    let mut note = |key: &str, value: String| {
        metadata.insert(key.to_owned(), value);
    };
    if let Some(mode) = mode {
        note("mode", mode.to_string());
    }
    match error {
        Error::NotLeader { hint: Some(hint) } => {
            note("leader", hint.node.to_string());
            if let Some(address) = &hint.client_address {
                note("leader_address", address.clone());
            }
        }
        Error::GuaranteeUnavailable {
            best_available,
            asked,
            ..
        } => {
            note("asked", (*asked).to_owned());
            note("best_available", (*best_available).to_owned());
        }
        Error::TooLarge { limit, max, .. } => {
            note("limit", (*limit).to_owned());
            note("max", max.to_string());
        }
        Error::Overloaded { queue, .. } => note("limit", (*queue).to_owned()),
        Error::HistoryGone { oldest } => note("oldest", oldest.to_string()),
        Error::EpochChanged { current, .. } => note("data_epoch", current.to_string()),
        Error::FutureRevision { current, .. } => note("newest", current.to_string()),
        Error::OwnerUnreachable { owner } => note("owner", owner.to_string()),
        Error::TooFewMembers { needed, have } => {
            note("needed", needed.to_string());
            note("have", have.to_string());
        }
        Error::InvalidArgument { .. }
        | Error::TooStale { .. }
        | Error::LeaseNotFound { .. }
        | Error::LeaseExists { .. }
        | Error::SessionExpired { .. }
        | Error::SequenceReused { .. }
        | Error::MembershipRefused { .. }
        | Error::LeaderLost
        | Error::Unauthenticated { .. }
        | Error::PermissionDenied { .. }
        | Error::ModeNotServed { .. }
        | Error::NotLeader { hint: None }
        | Error::NoQuorum
        | Error::Starting
        | Error::Stopping
        | Error::DiskFull
        | Error::Damaged { .. }
        | Error::TokenAhead { .. }
        | Error::TokenTooWide { .. }
        | Error::OutcomeUnknown { .. }
        | Error::DeadlineExceeded { .. }
        | Error::Internal { .. } => {}
    }
    rpc::ErrorInfo {
        reason: error.reason().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata,
    }
}

/// The status of one part of an answer, from its encoded `google.rpc.Status`.
#[must_use]
pub fn status_from_bytes(bytes: Bytes) -> Status {
    match rpc::Status::decode(bytes.as_ref()) {
        Ok(body) => Status::with_details(Code::from_i32(body.code), body.message, bytes),
        Err(error) => Status::internal(format!("a status that can't be read: {error}")),
    }
}

/// What a client can know about a failed call.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason; empty where the status came from no node (a broken connection, a proxy).
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// Whether the write happened. Unknown where no node said.
    pub certainty: Certainty,
    /// When a retry can help.
    pub retry_after: Option<Duration>,
    /// The leader's node id and client address, where the error named them.
    pub leader: Option<(u64, Option<String>)>,
    /// The best level available, where a guarantee was refused.
    pub best_available: Option<String>,
    /// The oldest revision left, where older history was asked for.
    pub oldest_revision: Option<u64>,
    /// Which field of the request was refused, where the error named one.
    pub field: Option<String>,
    /// The receipt.
    pub receipt: Option<pb::Receipt>,
}

/// Reads a status. Details that can't be read count as absent.
#[must_use]
pub fn from_status(status: &Status) -> Failure {
    let mut failure = Failure {
        code: status.code(),
        reason: String::new(),
        message: status.message().to_owned(),
        certainty: Certainty::Unknown,
        retry_after: None,
        leader: None,
        best_available: None,
        oldest_revision: None,
        field: None,
        receipt: None,
    };
    let Ok(body) = rpc::Status::decode(status.details()) else {
        return failure;
    };
    for detail in body.details {
        read_detail(&mut failure, &detail);
    }
    failure
}

fn read_detail(failure: &mut Failure, detail: &Any) {
    match detail.type_url.as_str() {
        ERROR_INFO => {
            if let Ok(info) = rpc::ErrorInfo::decode(detail.value.as_slice())
                && info.domain == DOMAIN
            {
                read_error_info(failure, info);
            }
        }
        RETRY_INFO => {
            if let Ok(info) = rpc::RetryInfo::decode(detail.value.as_slice()) {
                failure.retry_after = info
                    .retry_delay
                    .and_then(|delay| Duration::try_from(delay).ok());
            }
        }
        BAD_REQUEST => {
            if let Ok(bad) = rpc::BadRequest::decode(detail.value.as_slice()) {
                failure.field = bad.field_violations.into_iter().next().map(|it| it.field);
            }
        }
        RECEIPT => failure.receipt = pb::Receipt::decode(detail.value.as_slice()).ok(),
        _ => {}
    }
}

fn read_error_info(failure: &mut Failure, mut info: rpc::ErrorInfo) {
    if info.metadata.get("certainty").map(String::as_str) == Some(Certainty::NotApplied.as_str()) {
        failure.certainty = Certainty::NotApplied;
    }
    let leader = info.metadata.get("leader").and_then(|id| id.parse().ok());
    failure.leader = leader.map(|id| (id, info.metadata.remove("leader_address")));
    failure.best_available = info.metadata.remove("best_available");
    let oldest = info.metadata.get("oldest");
    failure.oldest_revision = oldest.and_then(|oldest| oldest.parse().ok());
    failure.reason = info.reason;
}

#[cfg(test)]
mod tests;
