//! A receipt as response headers, for those who read no body.

use http::{HeaderMap, HeaderName, HeaderValue};
use prost_reflect::DynamicMessage;
use quorumor_proto::pb;
use quorumor_proto::pb::receipt::Position;

use crate::words::base64url;

/// Why a request failed.
pub(crate) const REASON: HeaderName = HeaderName::from_static("quorumor-reason");
/// Whether a failed request was applied.
pub(crate) const CERTAINTY: HeaderName = HeaderName::from_static("quorumor-certainty");
/// A raw value's causal context, for the put that replaces it.
pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("quorumor-context");

/// The response headers that say what a receipt says, with what they say.
pub(crate) const NAMES: [(&str, &str); 11] = [
    ("quorumor-mode", "The mode that answered."),
    ("quorumor-asked", "The guarantee asked."),
    ("quorumor-got", "The guarantee given."),
    (
        "quorumor-degraded",
        "Why the answer is weaker than asked. Absent if it isn't.",
    ),
    ("quorumor-node", "The node that answered."),
    ("quorumor-epoch", "The data epoch."),
    (
        "quorumor-token",
        "The session token for the next request, in base64url.",
    ),
    (
        "quorumor-revision",
        "Strong mode: the revision of the answer.",
    ),
    ("quorumor-term", "Strong mode: Raft's term."),
    (
        "quorumor-staleness",
        "What the statement about staleness rests on: exact, proven, estimated or unknown.",
    ),
    (
        "quorumor-members",
        "How many members the node sees: `3 alive, 0 suspect, 0 down`.",
    ),
];

/// Every response header of the gateway's own.
pub(crate) fn headers() -> impl Iterator<Item = HeaderName> {
    let told = NAMES.map(|(name, _)| HeaderName::from_static(name));
    told.into_iter().chain([REASON, CERTAINTY, CONTEXT])
}

/// The receipt of an answer.
pub(crate) fn of(answer: &DynamicMessage) -> Option<pb::Receipt> {
    let field = answer
        .get_field_by_name("receipt")
        .filter(|_| answer.has_field_by_name("receipt"))?;
    field.as_message()?.transcode_to().ok()
}

/// Says it in headers.
pub(crate) fn tell(receipt: &pb::Receipt, headers: &mut HeaderMap) {
    let mut put = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("quorumor-mode", word(receipt.mode().as_str_name(), "MODE_"));
    put(
        "quorumor-asked",
        word(receipt.asked().as_str_name(), "LEVEL_"),
    );
    put("quorumor-got", word(receipt.got().as_str_name(), "LEVEL_"));
    if !receipt.degraded.is_empty() {
        put("quorumor-degraded", receipt.degraded.clone());
    }
    put("quorumor-node", receipt.node_id.to_string());
    put("quorumor-epoch", receipt.data_epoch.to_string());
    if !receipt.token.is_empty() {
        put("quorumor-token", base64url(&receipt.token));
    }
    if let Some(Position::Strong(strong)) = &receipt.position {
        put("quorumor-revision", strong.revision.to_string());
        put("quorumor-term", strong.term.to_string());
    }
    if let Some(staleness) = &receipt.staleness {
        put(
            "quorumor-staleness",
            word(staleness.basis().as_str_name(), "STALENESS_BASIS_"),
        );
    }
    if let Some(members) = &receipt.members {
        put(
            "quorumor-members",
            format!(
                "{} alive, {} suspect, {} down",
                members.alive, members.suspect, members.down
            ),
        );
    }
}

fn word(full: &str, prefix: &str) -> String {
    full.strip_prefix(prefix)
        .unwrap_or(full)
        .to_ascii_lowercase()
}
