//! From an HTTP request to a message: body first, then the path, then the query, then what every request can say.

use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};
use serde_json::Value as Json;
use tonic::Status;

use crate::fields::{claim, set};
use crate::matching::Found;
use crate::problem::Problem;
use crate::query::Query;
use crate::routes::{Answer, Body, Resume, Route};
use crate::words::{base64url, listed, short, shown};
use crate::{BODY_BYTES_MAX, descriptors, header, json};

/// The query's word for the value's bytes alone.
pub(crate) const RAW: &str = "raw";
/// What a JSON body that holds a value may say.
pub(crate) const VALUE_FIELDS: [&str; 4] = ["value", "text", "context", "lease_id"];

const OCTETS: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// What a request asks.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The gRPC request.
    pub(crate) message: DynamicMessage,
    /// Whether the answer is to be the value's bytes alone.
    pub(crate) raw: bool,
    /// How long the caller waits.
    pub(crate) timeout: Option<Duration>,
}

/// Reads a request.
pub(crate) async fn read(found: &Found, parts: &Parts, body: HttpBody) -> Result<Asked, Problem> {
    let route = found.route;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    check_query(route, &query)?;
    let raw = flag(&query, RAW)?;
    if !route.calls() {
        let message = DynamicMessage::new(descriptors::message("DescribeRequest"));
        return Ok(Asked {
            message,
            raw,
            timeout: None,
        });
    }
    header::check_names(&parts.headers)?;
    let timeout = header::timeout(&query, &parts.headers)?;
    let bytes = collect(parts, body).await?;
    let input = descriptors::method(route.method).input();
    let mut message = match route.body {
        Body::Beat => {
            let beat = from_body(route, parts, (&bytes, raw), &descriptors::message("Beat"))?;
            let beat = place(found, &query, beat)?;
            let mut message = DynamicMessage::new(input);
            message.set_field_by_name("beats", Value::List(vec![Value::Message(beat)]));
            message
        }
        Body::None | Body::Json | Body::Value => place(
            found,
            &query,
            from_body(route, parts, (&bytes, raw), &input)?,
        )?,
    };
    header::fill(&mut message, &query, &parts.headers)?;
    resume(route, parts, &mut message)?;
    let raw = raw || (route.answer == Answer::Entry && accepts_octets(parts));
    Ok(Asked {
        message,
        raw,
        timeout,
    })
}

/// Refuses parameters that the route doesn't have, and those that are given twice.
fn check_query(route: &Route, query: &Query) -> Result<(), Problem> {
    let mut known: Vec<&str> = route.query_fields().map(|(name, _)| name).collect();
    if route.takes_raw() {
        known.push(RAW);
    }
    if route.calls() {
        known.extend(header::WORDS.map(|(word, _)| word));
        known.push(header::TIMEOUT);
    }
    for (at, (name, _)) in query.pairs().iter().enumerate() {
        if !known.contains(&name.as_str()) {
            let why = format!("there is no such parameter; there are {}", listed(&known));
            return Err(Problem::invalid(&short(name), &why));
        }
        let repeated = query
            .pairs()
            .iter()
            .take(at)
            .any(|(other, _)| other == name);
        if repeated && !is_list(route, name) {
            return Err(Problem::invalid(name, "more than once"));
        }
    }
    Ok(())
}

fn is_list(route: &Route, name: &str) -> bool {
    let mut fields = route.query_fields().filter(|(found, _)| *found == name);
    fields.next().is_some_and(|(_, path)| {
        let input = descriptors::method(route.method).input();
        crate::fields::field_at(&input, path).is_list()
    })
}

fn flag(query: &Query, name: &str) -> Result<bool, Problem> {
    match query.first(name) {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(text) => {
            let why = format!("must be `true` or `false`, not {}", shown(text));
            Err(Problem::invalid(name, &why))
        }
    }
}

/// A body may be refused while it comes in, by name; else the connection broke.
fn unread(error: axum::Error) -> Problem {
    let why = format!("it can't be read: {error}");
    match Status::try_from_error(error.into_inner()) {
        Ok(status) if !status.details().is_empty() => Problem::from(&status),
        Ok(_) | Err(_) => Problem::invalid("body", &why),
    }
}

async fn collect(parts: &Parts, body: HttpBody) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large("body_bytes_max", BODY_BYTES_MAX);
    let announced = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(unread)?;
        if whole.len() + piece.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn from_body(
    route: &Route,
    parts: &Parts,
    (bytes, raw): (&Bytes, bool),
    of: &MessageDescriptor,
) -> Result<DynamicMessage, Problem> {
    match route.body {
        Body::None if bytes.is_empty() => Ok(DynamicMessage::new(of.clone())),
        Body::None => Err(Problem::invalid("body", "this call takes none")),
        Body::Json | Body::Beat if bytes.is_empty() => Ok(DynamicMessage::new(of.clone())),
        Body::Json | Body::Beat => json::to_message(&json::parse(bytes)?, of, ""),
        Body::Value if !raw && is_json(parts) => {
            json::to_message(&value_in(&json::parse(bytes)?)?, of, "")
        }
        Body::Value => {
            let mut message = DynamicMessage::new(of.clone());
            message.set_field_by_name("value", Value::Bytes(bytes.clone()));
            Ok(message)
        }
    }
}

/// A put in JSON: `text` is a value that needs no base64.
fn value_in(body: &Json) -> Result<Json, Problem> {
    let mut put = json::object(body, "")?.clone();
    let other = put
        .keys()
        .find(|name| name.as_str() != "leaseId" && !VALUE_FIELDS.contains(&name.as_str()));
    if let Some(name) = other {
        return Err(json::unknown(
            name,
            VALUE_FIELDS.map(str::to_owned).into_iter(),
        ));
    }
    match (put.remove("text"), put.contains_key("value")) {
        (None, true) => {}
        (None, false) => return Err(Problem::invalid("value", "`value` or `text` is needed")),
        (Some(_), true) => return Err(Problem::invalid("text", "not together with `value`")),
        (Some(Json::String(text)), false) => {
            put.insert("value".to_owned(), Json::String(base64url(text.as_bytes())));
        }
        (Some(_), false) => return Err(Problem::invalid("text", "must be a string")),
    }
    Ok(Json::Object(put))
}

fn place(
    found: &Found,
    query: &Query,
    mut message: DynamicMessage,
) -> Result<DynamicMessage, Problem> {
    for (name, field) in found.route.path_fields() {
        let mut named = found.path.iter().filter(|(held, _)| *held == name);
        let (_, text) = named.next().expect("a route's path holds what it names");
        claim(&mut message, field, (name, text))?;
    }
    for (name, field) in found.route.query_fields() {
        for (_, text) in query.pairs().iter().filter(|(given, _)| given == name) {
            set(&mut message, field, (name, text))?;
        }
    }
    Ok(message)
}

/// A browser that lost its stream asks again for the same URL, and says which event it saw last.
fn resume(route: &Route, parts: &Parts, message: &mut DynamicMessage) -> Result<(), Problem> {
    const LAST: &str = "last-event-id";
    let Answer::Events(resume) = route.answer else {
        return Ok(());
    };
    let Some(last) = parts.headers.get(LAST).filter(|last| !last.is_empty()) else {
        return Ok(());
    };
    let text = last
        .to_str()
        .map_err(|_| Problem::invalid(LAST, "must be visible ASCII"))?;
    match resume {
        Resume::Cursor => {
            set(message, "cursor", (LAST, text))?;
            // Where the stream began first is behind it.
            message.clear_field_by_name("start_revision");
            Ok(())
        }
        Resume::Number => set(message, "after_number", (LAST, text)),
    }
}

fn is_json(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
}

fn accepts_octets(parts: &Parts) -> bool {
    let accepted = parts.headers.get_all(ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim() == OCTETS)
}
