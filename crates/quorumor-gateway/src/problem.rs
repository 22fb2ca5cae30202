//! Refusals as RFC 9457 problem details, made of a gRPC status or of what was wrong with the request itself.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use prost::Message;
use prost_reflect::DynamicMessage;
use quorumor_proto::pb;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::pb as rpc;

use crate::json::to_json;
use crate::routes::Route;
use crate::words::shown;
use crate::{descriptors, receipt};

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// What every `type` begins with.
pub(crate) const TYPE_PREFIX: &str = "urn:quorumor:error:";

const NOT_APPLIED: &str = "not_applied";
const UNKNOWN: &str = "unknown";

/// Why a request was refused, or how it failed.
#[derive(Debug)]
pub(crate) struct Problem(Box<Details>);

#[derive(Debug)]
struct Details {
    status: StatusCode,
    reason: String,
    detail: String,
    certainty: String,
    metadata: BTreeMap<String, String>,
    violations: Vec<(String, String)>,
    retry_after: Option<Duration>,
    /// Encoded.
    receipt: Option<Vec<u8>>,
    allow: Option<String>,
}

impl Problem {
    /// Something about a request that a caller must change.
    pub(crate) fn invalid(named: &str, why: &str) -> Self {
        let mut problem = Self::new(
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            format!("{named}: {why}"),
        );
        problem.0.violations = vec![(named.to_owned(), why.to_owned())];
        problem
    }

    /// A body over a limit.
    pub(crate) fn too_large(limit: &str, bytes_max: usize) -> Self {
        let detail = format!("the request has more than {bytes_max} bytes (the limit {limit})");
        let mut problem = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", detail);
        problem.note("limit", limit.to_owned());
        problem.note("max", bytes_max.to_string());
        problem
    }

    /// A path that is none of ours.
    pub(crate) fn no_such_path(path: &str, nearest: &Route) -> Self {
        let near = format!("{} {}", nearest.verb, nearest.path.replace("{*", "{"));
        let detail = format!("there is no {}; the nearest is `{near}`", shown(path));
        let mut problem = Self::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", detail);
        problem.note("nearest", near);
        problem
    }

    /// A path of ours with a verb that it doesn't take.
    pub(crate) fn wrong_verb(why: &str, allow: String) -> Self {
        let mut problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            why.to_owned(),
        );
        problem.0.allow = Some(allow);
        problem
    }

    /// Something that isn't there any more, by an answer that was no error of the call.
    pub(crate) fn gone(reason: &str, why: &str, receipt: Option<&pb::Receipt>) -> Self {
        let mut problem = Self::new(StatusCode::NOT_FOUND, reason, why.to_owned());
        problem.0.receipt = receipt.map(Message::encode_to_vec);
        problem
    }

    /// A part of an answer that is an encoded `google.rpc.Status`, with the answer's receipt if it has none of its own.
    pub(crate) fn from_part(status: &Bytes, receipt: Option<&pb::Receipt>) -> Self {
        let mut problem = Self::from(&quorumor_proto::status::status_from_bytes(status.clone()));
        if problem.0.receipt.is_none() {
            problem.0.receipt = receipt.map(Message::encode_to_vec);
        }
        problem
    }

    fn new(status: StatusCode, reason: &str, detail: String) -> Self {
        Self(Box::new(Details {
            status,
            reason: reason.to_owned(),
            detail,
            certainty: NOT_APPLIED.to_owned(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
            receipt: None,
            allow: None,
        }))
    }

    fn note(&mut self, key: &str, value: String) {
        self.0.metadata.insert(key.to_owned(), value);
    }

    /// When a retry can help.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The body.
    pub(crate) fn to_json(&self) -> Value {
        let details = &self.0;
        let mut body = json!({
            "type": format!("{TYPE_PREFIX}{}", details.reason),
            "title": title(&details.reason),
            "status": details.status.as_u16(),
            "detail": details.detail,
            "reason": details.reason,
            "certainty": details.certainty,
            "metadata": details.metadata,
        });
        if let Some(delay) = details.retry_after {
            body["retry_after_ms"] =
                Value::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        }
        if !details.violations.is_empty() {
            let violations = details.violations.iter();
            body["violations"] = violations
                .map(|(field, why)| json!({ "field": field, "description": why }))
                .collect();
        }
        if let Some(receipt) = self.receipt_json() {
            body["receipt"] = receipt;
        }
        body
    }

    fn receipt_json(&self) -> Option<Value> {
        let bytes = self.0.receipt.as_deref()?;
        let receipt = DynamicMessage::decode(descriptors::message("Receipt"), bytes).ok()?;
        to_json(&receipt).ok()
    }

    fn headers(&self, headers: &mut HeaderMap) {
        let details = &self.0;
        let mut put = |name: http::HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(CONTENT_TYPE, PROBLEM_JSON);
        put(receipt::REASON, &details.reason);
        put(receipt::CERTAINTY, &details.certainty);
        if let Some(delay) = details.retry_after {
            let seconds = delay.as_millis().div_ceil(1_000).max(1);
            put(RETRY_AFTER, &seconds.to_string());
        }
        if let Some(allow) = &details.allow {
            put(ALLOW, allow);
        }
        if details.status == StatusCode::UNAUTHORIZED {
            put(WWW_AUTHENTICATE, "Bearer");
        }
        let held = details
            .receipt
            .as_deref()
            .and_then(|bytes| pb::Receipt::decode(bytes).ok());
        if let Some(held) = held {
            receipt::tell(&held, headers);
        }
    }

    /// The response.
    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.0.status;
        self.headers(response.headers_mut());
        response
    }
}

impl From<&Status> for Problem {
    fn from(status: &Status) -> Self {
        let code = status.code();
        let mut problem = Self::new(
            http_status(code),
            code_name(code),
            status.message().to_owned(),
        );
        // Where no node said, nothing is known, but for a method that isn't there.
        if code != Code::Unimplemented {
            problem.0.certainty = UNKNOWN.to_owned();
        }
        let body = rpc::Status::decode(status.details()).unwrap_or_default();
        if body.details.is_empty() && code == Code::OutOfRange {
            // The transport refused the request by its size, before the service saw it.
            problem.0.reason = "TOO_LARGE".to_owned();
            problem.0.certainty = NOT_APPLIED.to_owned();
        }
        for detail in body.details {
            problem.read(&detail.type_url, &detail.value);
        }
        match problem.0.reason.as_str() {
            "TOO_LARGE" => problem.0.status = StatusCode::PAYLOAD_TOO_LARGE,
            // It may have happened: that is no fault of the server, as 500 would say, and nothing to repeat blindly.
            "OUTCOME_UNKNOWN" => problem.0.status = StatusCode::GATEWAY_TIMEOUT,
            _ => {}
        }
        problem
    }
}

impl Problem {
    fn read(&mut self, type_url: &str, value: &[u8]) {
        let details = &mut self.0;
        match type_url.rsplit('/').next() {
            Some("google.rpc.ErrorInfo") => {
                if let Ok(info) = rpc::ErrorInfo::decode(value) {
                    details.reason = info.reason;
                    details.metadata = info.metadata.into_iter().collect();
                    if let Some(certainty) = details.metadata.remove("certainty") {
                        details.certainty = certainty;
                    }
                }
            }
            Some("google.rpc.RetryInfo") => {
                details.retry_after = rpc::RetryInfo::decode(value)
                    .ok()
                    .and_then(|info| info.retry_delay)
                    .and_then(|delay| Duration::try_from(delay).ok());
            }
            Some("google.rpc.BadRequest") => {
                if let Ok(bad) = rpc::BadRequest::decode(value) {
                    let violations = bad.field_violations.into_iter();
                    details.violations = violations
                        .map(|violation| (violation.field, violation.description))
                        .collect();
                }
            }
            Some("quorumor.v1.Receipt") => details.receipt = Some(value.to_vec()),
            Some(_) | None => {}
        }
    }
}

/// `NOT_LEADER` as `Not leader`.
fn title(reason: &str) -> String {
    let words = reason.replace('_', " ").to_lowercase();
    let mut rest = words.chars();
    rest.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(rest).collect()
    })
}

/// The HTTP status that `google.rpc.Code` names for a code.
const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Google's 499 has no name in HTTP; who cancelled reads no answer.
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// The name of a code, for a status that gives no reason of its own.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
