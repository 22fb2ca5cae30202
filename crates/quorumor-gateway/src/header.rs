//! What every request can say: the fields of `RequestHeader` as query parameters or as HTTP headers, and the deadline.

use std::time::Duration;

use http::HeaderMap;
use prost_reflect::DynamicMessage;

use crate::fields::set;
use crate::problem::Problem;
use crate::query::Query;
use crate::receipt;
use crate::words::{duration, listed, shown};

/// Name and field. As an HTTP header each is called `quorumor-` and its name, with `-` for `_`.
pub(crate) const WORDS: [(&str, &str); 13] = [
    ("mode", "header.mode"),
    ("level", "header.level"),
    ("token", "header.token"),
    ("allow_degraded", "header.allow_degraded"),
    ("client_id", "header.client_id"),
    ("seq", "header.seq"),
    ("acked_through", "header.acked_through"),
    ("data_epoch", "header.data_epoch"),
    ("request_id", "header.request_id"),
    ("acks", "header.acks"),
    ("max_age", "header.bound.max_age"),
    ("max_lag", "header.bound.max_lag"),
    ("members", "header.bound.members"),
];

/// How long the caller waits.
pub(crate) const TIMEOUT: &str = "timeout";
/// The longest that a caller may wait.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const PREFIX: &str = "quorumor-";

/// The HTTP header of a word.
pub(crate) fn header_name(word: &str) -> String {
    format!("{PREFIX}{}", word.replace('_', "-"))
}

/// Sets the words that a request gives; where the query and a header both do, the query wins.
pub(crate) fn fill(
    message: &mut DynamicMessage,
    query: &Query,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    for (word, field) in WORDS {
        let name = header_name(word);
        if let Some(text) = query.first(word) {
            set(message, field, (word, text))?;
        } else if let Some(text) = text(headers, &name)? {
            set(message, field, (&name, text))?;
        }
    }
    Ok(())
}

/// Refuses a header of ours that isn't there: a misspelt guarantee must not go unheard.
pub(crate) fn check_names(headers: &HeaderMap) -> Result<(), Problem> {
    let known: Vec<String> = WORDS
        .iter()
        .map(|(word, _)| header_name(word))
        .chain([header_name(TIMEOUT)])
        .collect();
    for name in headers.keys().map(http::HeaderName::as_str) {
        // Whoever sends back what an answer said does no harm.
        let is_answer = receipt::NAMES.iter().any(|(told, _)| *told == name);
        if name.starts_with(PREFIX) && !is_answer && !known.iter().any(|known| known == name) {
            let why = format!("there is no such header; there are {}", listed(&known));
            return Err(Problem::invalid(name, &why));
        }
    }
    Ok(())
}

/// How long the caller waits, if it says so.
pub(crate) fn timeout(query: &Query, headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let name = header_name(TIMEOUT);
    let (named, text) = match (query.first(TIMEOUT), text(headers, &name)?) {
        (Some(text), _) => (TIMEOUT, text),
        (None, Some(text)) => (name.as_str(), text),
        (None, None) => return Ok(None),
    };
    duration(text)
        .filter(|found| !found.is_zero() && *found <= TIMEOUT_MAX)
        .map(Some)
        .ok_or_else(|| {
            let why = format!(
                "must be a duration such as `500ms`, `2s` or `1m`, up to a day, not {}",
                shown(text)
            );
            Problem::invalid(named, &why)
        })
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::invalid(name, "more than once"));
    }
    let text = value
        .to_str()
        .map_err(|_| Problem::invalid(name, "must be visible ASCII"))?;
    Ok(Some(text.trim()))
}
