//! Streams as server-sent events: the step's name, its JSON, and the place to go on from as its id.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::HeaderValue;
use prost_reflect::{DynamicMessage, ReflectMessage};
use tonic::{Status, Streaming};

use crate::answer::decoded;
use crate::call::Caller;
use crate::json::to_json;
use crate::problem::Problem;
use crate::receipt;
use crate::request::Asked;
use crate::routes::{Resume, Route};
use crate::words::base64url;

/// How long the response waits for the first step: a refusal within it has its own status code.
const FIRST_STEP_WAIT: Duration = Duration::from_secs(1);
/// A comment this often, so that whatever stands between keeps the connection.
const COMMENT_INTERVAL: Duration = Duration::from_secs(15);
/// The event that tells why a stream ends.
const ERROR: &str = "error";

/// Begins a stream of events.
pub(crate) async fn stream(
    caller: &Caller,
    route: &'static Route,
    resume: Resume,
    asked: &Asked,
) -> Result<Response, Problem> {
    use prost::Message;
    let refused = |status: Status| Problem::from(&status);
    let mut steps = caller
        .stream(route.method, asked.message.encode_to_vec())
        .await
        .map_err(refused)?;
    let begun = tokio::time::timeout(FIRST_STEP_WAIT, steps.next()).await;
    let first = match begun {
        Ok(Some(step)) => Some(decoded(route, step.map_err(refused)?)?),
        Ok(None) | Err(_) => None,
    };
    let told = first.as_ref().and_then(receipt::of);
    let first = first.map(|step| event(&step, resume)).transpose()?;
    let first = stream::iter(first);
    let events = first
        .chain(rest(route, resume, steps))
        .map(Ok::<_, Infallible>);
    let comments = KeepAlive::new().interval(COMMENT_INTERVAL);
    let mut response = Sse::new(events).keep_alive(comments).into_response();
    let headers = response.headers_mut();
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(told) = told {
        receipt::tell(&told, headers);
    }
    Ok(response)
}

/// The steps until the stream ends; an error is its last event.
fn rest(
    route: &'static Route,
    resume: Resume,
    steps: Streaming<Bytes>,
) -> impl Stream<Item = Event> + Send {
    stream::unfold(Some(steps), move |steps| async move {
        let mut steps = steps?;
        let step = steps
            .next()
            .await?
            .map_err(|status| Problem::from(&status))
            .and_then(|step| event(&decoded(route, step)?, resume));
        Some(match step {
            Ok(event) => (event, Some(steps)),
            Err(problem) => (last(&problem), None),
        })
    })
}

fn event(step: &DynamicMessage, resume: Resume) -> Result<Event, Problem> {
    let event = Event::default()
        .event(name(step))
        .data(to_json(step)?.to_string());
    Ok(match id(step, resume) {
        Some(id) => event.id(id),
        None if begins_anew(step) => event.id(""),
        None => event,
    })
}

/// Whether what was seen before is void: who loses the stream here must start from the beginning, and an empty id makes a browser
/// forget the last one. Behind a part of a change the last one is still where to go on from.
fn begins_anew(step: &DynamicMessage) -> bool {
    matches!(name(step).as_str(), "resync" | "snapshot")
}

fn last(problem: &Problem) -> Event {
    let event = Event::default()
        .event(ERROR)
        .data(problem.to_json().to_string());
    match problem.retry_after() {
        Some(delay) => event.retry(delay),
        None => event,
    }
}

/// The step's kind; `conflicts` where a stream has but one.
fn name(step: &DynamicMessage) -> String {
    let kinds = step
        .descriptor()
        .oneofs()
        .find(|oneof| oneof.name() == "step");
    let Some(kinds) = kinds else {
        return "conflicts".to_owned();
    };
    let kind = kinds.fields().find(|kind| step.has_field(kind));
    kind.map_or_else(|| "progress".to_owned(), |kind| kind.name().to_owned())
}

fn id(step: &DynamicMessage, resume: Resume) -> Option<String> {
    match resume {
        Resume::Cursor => {
            let cursor = step.get_field_by_name("cursor")?;
            let cursor = cursor.as_bytes().filter(|cursor| !cursor.is_empty())?;
            Some(base64url(cursor))
        }
        Resume::Number => {
            let number = step.get_field_by_name("through_number")?;
            Some(number.as_u64()?.to_string())
        }
    }
}
