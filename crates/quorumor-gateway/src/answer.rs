//! From a gRPC answer to an HTTP response, for everything that isn't a stream of events.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use prost::Message;
use prost_reflect::DynamicMessage;
use quorumor_proto::pb;
use serde_json::Value;
use tonic::Status;

use crate::call::Caller;
use crate::json::to_json;
use crate::problem::Problem;
use crate::request::Asked;
use crate::routes::Route;
use crate::words::base64url;
use crate::{descriptors, receipt};

/// A document of JSON.
pub(crate) fn json(document: &Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The answer as JSON.
pub(crate) async fn message(
    caller: &Caller,
    route: &Route,
    asked: &Asked,
) -> Result<Response, Problem> {
    shown(&unary(caller, route, asked).await?)
}

/// The answer as JSON, with 404 if it says that nothing was found.
pub(crate) async fn found(
    caller: &Caller,
    route: &Route,
    asked: &Asked,
) -> Result<Response, Problem> {
    shown_if_found(&unary(caller, route, asked).await?)
}

/// An entry as JSON, or its value alone.
pub(crate) async fn entry(
    caller: &Caller,
    route: &Route,
    asked: &Asked,
) -> Result<Response, Problem> {
    let answer = unary(caller, route, asked).await?;
    let got: pb::GetResponse = typed(&answer)?;
    let (true, Some(entry)) = (asked.raw, got.entry) else {
        return shown_if_found(&answer);
    };
    let mut response = Response::new(Body::from(entry.value));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    // A stranger's bytes must not be taken for a page.
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    if let Some(pb::version::Version::Eventual(version)) =
        entry.version.and_then(|version| version.version)
        && let Ok(context) = HeaderValue::try_from(base64url(&version.context))
    {
        headers.insert(receipt::CONTEXT, context);
    }
    if let Some(receipt) = &got.receipt {
        receipt::tell(receipt, headers);
    }
    Ok(response)
}

/// What became of one keep-alive of a lease.
pub(crate) async fn lease_beat(
    caller: &Caller,
    route: &Route,
    asked: &Asked,
) -> Result<Response, Problem> {
    let answer = first(caller, route, asked).await?;
    let kept: pb::LeaseKeepAliveResponse = typed(&answer)?;
    let receipt = kept.receipt.as_ref();
    if !kept.status.is_empty() {
        return Err(Problem::from_part(&kept.status, receipt));
    }
    if kept.ttl.is_none() {
        let why = format!("there is no lease {} any more", kept.lease_id);
        return Err(Problem::gone("LEASE_NOT_FOUND", &why, receipt));
    }
    Ok(json_with_receipt(
        without_status(to_json(&answer)?),
        receipt,
    ))
}

/// What became of one sign of life of one instance.
pub(crate) async fn instance_beat(
    caller: &Caller,
    route: &Route,
    asked: &Asked,
) -> Result<Response, Problem> {
    let answer = first(caller, route, asked).await?;
    let kept: pb::KeepAliveResponse = typed(&answer)?;
    let receipt = kept.receipt.as_ref();
    let result = kept.results.first();
    let failed = [Some(&kept.status), result.map(|result| &result.status)];
    if let Some(status) = failed
        .into_iter()
        .flatten()
        .find(|status| !status.is_empty())
    {
        return Err(Problem::from_part(status, receipt));
    }
    if result.is_none_or(|result| result.ttl.is_none()) {
        let why = "the instance isn't registered any more: register it again";
        return Err(Problem::gone("INSTANCE_NOT_FOUND", why, receipt));
    }
    let mut whole = to_json(&answer)?;
    let mut body = without_status(whole["results"][0].take());
    body["receipt"] = whole["receipt"].take();
    Ok(json_with_receipt(body, receipt))
}

/// What became of many signs of life: each that failed has its problem.
pub(crate) async fn beats(
    caller: &Caller,
    route: &Route,
    asked: &Asked,
) -> Result<Response, Problem> {
    let answer = first(caller, route, asked).await?;
    let kept: pb::KeepAliveResponse = typed(&answer)?;
    let receipt = kept.receipt.as_ref();
    if !kept.status.is_empty() {
        return Err(Problem::from_part(&kept.status, receipt));
    }
    let mut body = without_status(to_json(&answer)?);
    for (at, result) in kept.results.iter().enumerate() {
        let mut shown = without_status(body["results"][at].take());
        if !result.status.is_empty() {
            shown["problem"] = Problem::from_part(&result.status, receipt).to_json();
        }
        body["results"][at] = shown;
    }
    Ok(json_with_receipt(body, receipt))
}

/// An encoded status is nothing to read in JSON.
fn without_status(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.remove("status");
    }
    body
}

fn shown_if_found(answer: &DynamicMessage) -> Result<Response, Problem> {
    let mut response = shown(answer)?;
    let found = answer.get_field_by_name("found");
    if found.and_then(|found| found.as_bool()) == Some(false) {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

fn shown(answer: &DynamicMessage) -> Result<Response, Problem> {
    Ok(json_with_receipt(
        to_json(answer)?,
        receipt::of(answer).as_ref(),
    ))
}

/// JSON, with what the receipt says in headers.
pub(crate) fn json_with_receipt(body: Value, receipt: Option<&pb::Receipt>) -> Response {
    let mut response = json(&body);
    if let Some(receipt) = receipt {
        receipt::tell(receipt, response.headers_mut());
    }
    response
}

async fn unary(caller: &Caller, route: &Route, asked: &Asked) -> Result<DynamicMessage, Problem> {
    let answer = caller
        .unary(route.method, asked.message.encode_to_vec())
        .await
        .map_err(|status| Problem::from(&status))?;
    decoded(route, answer)
}

async fn first(caller: &Caller, route: &Route, asked: &Asked) -> Result<DynamicMessage, Problem> {
    let mut answers = caller
        .stream(route.method, asked.message.encode_to_vec())
        .await
        .map_err(|status| Problem::from(&status))?;
    let ended = || Err(Status::unavailable("the stream ended without an answer"));
    let answer = answers.next().await.unwrap_or_else(ended);
    decoded(route, answer.map_err(|status| Problem::from(&status))?)
}

/// An answer by its descriptor.
pub(crate) fn decoded(route: &Route, answer: Bytes) -> Result<DynamicMessage, Problem> {
    let output = descriptors::method(route.method).output();
    DynamicMessage::decode(output, answer).map_err(|error| unreadable(&error))
}

fn typed<M: Message + Default>(answer: &DynamicMessage) -> Result<M, Problem> {
    answer.transcode_to().map_err(|error| unreadable(&error))
}

/// Only a defect of the node makes an answer that its own descriptor can't read.
pub(crate) fn unreadable(error: &prost::DecodeError) -> Problem {
    let status = Status::internal(format!("an answer that can't be read: {error}"));
    Problem::from(&status)
}
