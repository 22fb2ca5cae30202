//! What a call can fail with, and whether its write happened.

use std::error::Error as StdError;
use std::time::Duration;

use quorumor_core::{Certainty, Error};
use quorumor_proto::status::{Failure, from_status};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use crate::answer::Receipt;

/// How [`ClientError::from_status`] begins what it says of an unknown call.
const UNIMPLEMENTED: &str = "Unimplemented";

/// The reason of [`CircuitOpen`].
const CIRCUIT_OPEN: &str = "CIRCUIT_OPEN";

/// Between endpoints that are named together. No address has it.
const LISTED: &str = ", ";

/// Why a call failed, by what the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// A node answered with an error, and said what became of the write. With the reason `CIRCUIT_OPEN` the client's own breakers
    /// answered in the nodes' place: [`Self::circuit_open`].
    #[error("{}", .0.message)]
    Node(Box<NodeError>),
    /// No connection could be made. Nothing was sent.
    #[error("can't connect to {endpoint}: {why}")]
    Unreachable {
        /// Whom.
        endpoint: String,
        /// What the system said.
        why: String,
    },
    /// The connection broke while the request was under way.
    #[error("contact with {endpoint} was lost: {why}")]
    ContactLost {
        /// Whom.
        endpoint: String,
        /// What the transport said.
        why: String,
    },
    /// The caller's time was up before an answer came.
    #[error("no answer from {endpoint} before the deadline")]
    DeadlineExceeded {
        /// Whom.
        endpoint: String,
    },
    /// Whoever answered is no node of ours, or speaks another version.
    #[error("{endpoint} answered as no quorumor node does: {why}")]
    BadAnswer {
        /// Whom.
        endpoint: String,
        /// What came.
        why: String,
    },
    /// The call or the configuration makes no sense. Nothing was sent.
    #[error("{0}")]
    Invalid(Error),
}

/// An error as a node reported it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeError {
    /// The endpoint that answered.
    pub endpoint: String,
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, such as `NO_QUORUM`.
    pub reason: String,
    /// What happened, for people.
    pub message: String,
    /// Whether the write happened.
    pub certainty: Certainty,
    /// When the same request may succeed; `None` if a retry can't help.
    pub retry_after: Option<Duration>,
    /// The leader's node id and client address, where they were named.
    pub leader: Option<(u64, Option<String>)>,
    /// The best level available, where a guarantee was refused.
    pub best_available: Option<String>,
    /// The oldest revision left, where older history was asked for.
    pub oldest_revision: Option<u64>,
    /// Which field of the request was refused, where one was named.
    pub field: Option<String>,
    /// What the answer says about itself.
    pub receipt: Option<Receipt>,
}

impl ClientError {
    /// Whether the write of this call happened. For a read it says nothing.
    #[must_use]
    pub const fn certainty(&self) -> Certainty {
        match self {
            Self::Node(error) => error.certainty,
            Self::Unreachable { .. } | Self::Invalid(_) => Certainty::NotApplied,
            Self::ContactLost { .. } | Self::DeadlineExceeded { .. } | Self::BadAnswer { .. } => {
                Certainty::Unknown
            }
        }
    }

    /// That nothing was sent, since the circuit breaker of each endpoint is open; `None` for any other error.
    #[must_use]
    pub fn circuit_open(&self) -> Option<CircuitOpen> {
        match self {
            Self::Node(node) if node.reason == CIRCUIT_OPEN => Some(CircuitOpen {
                endpoints: node.endpoint.split(LISTED).map(str::to_owned).collect(),
                retry_after: node.retry_after.unwrap_or_default(),
            }),
            Self::Node(_)
            | Self::Unreachable { .. }
            | Self::ContactLost { .. }
            | Self::DeadlineExceeded { .. }
            | Self::BadAnswer { .. }
            | Self::Invalid(_) => None,
        }
    }

    /// The stable reason, for programs: the node's, `CIRCUIT_OPEN`, or `UNREACHABLE`, `CONTACT_LOST`, `DEADLINE_EXCEEDED`,
    /// `BAD_ANSWER`, `INVALID_ARGUMENT`.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Node(error) => &error.reason,
            Self::Unreachable { .. } => "UNREACHABLE",
            Self::ContactLost { .. } => "CONTACT_LOST",
            Self::DeadlineExceeded { .. } => "DEADLINE_EXCEEDED",
            Self::BadAnswer { .. } => "BAD_ANSWER",
            Self::Invalid(error) => error.reason(),
        }
    }

    /// The receipt, where a node gave one.
    #[must_use]
    pub const fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Node(error) => error.receipt.as_ref(),
            Self::Unreachable { .. }
            | Self::ContactLost { .. }
            | Self::DeadlineExceeded { .. }
            | Self::BadAnswer { .. }
            | Self::Invalid(_) => None,
        }
    }

    /// When a node says that the same request may succeed.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Node(error) => error.retry_after,
            Self::Unreachable { .. }
            | Self::ContactLost { .. }
            | Self::DeadlineExceeded { .. }
            | Self::BadAnswer { .. }
            | Self::Invalid(_) => None,
        }
    }

    /// Whether the session's token, or what else the caller knew, is of data that were restored or replaced since.
    pub(crate) fn is_of_other_data(&self) -> bool {
        matches!(self, Self::Node(node) if node.reason == "EPOCH_CHANGED"
            || (node.reason == "INVALID_ARGUMENT" && node.field.as_deref() == Some("token")))
    }

    /// An answer that no node of ours gives.
    pub(crate) fn bad_answer(why: &str) -> Self {
        Self::BadAnswer {
            endpoint: "the node".to_owned(),
            why: why.to_owned(),
        }
    }

    /// Whether the endpoint doesn't know the call at all: an older version.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::BadAnswer { why, .. } if why.starts_with(UNIMPLEMENTED))
    }

    /// The endpoint that was asked last; `None` if none was.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Node(error) => Some(&error.endpoint),
            Self::Unreachable { endpoint, .. }
            | Self::ContactLost { endpoint, .. }
            | Self::DeadlineExceeded { endpoint }
            | Self::BadAnswer { endpoint, .. } => Some(endpoint),
            Self::Invalid(_) => None,
        }
    }

    /// Reads a status that came from `endpoint`, or from the transport on the way there.
    ///
    /// Only an error of the connector, or of a handshake, proves that nothing was sent: tonic hands a request to a
    /// connection only once there is one, and under TLS 1.3 the node judges the client's certificate after that, but before
    /// it reads. Everything else that no node made is unknown.
    pub(crate) fn from_status(endpoint: &str, status: &Status) -> Self {
        let failure = from_status(status);
        let endpoint = endpoint.to_owned();
        if !failure.reason.is_empty() {
            return Self::Node(Box::new(NodeError::new(endpoint, failure)));
        }
        if let Some(why) = tls_refusal(status) {
            return Self::Unreachable { endpoint, why };
        }
        if let Some(connect) = caused_by::<ConnectError>(status) {
            let why = deepest(connect).to_string();
            return Self::Unreachable { endpoint, why };
        }
        if caused_by::<TimeoutExpired>(status).is_some() || status.code() == Code::DeadlineExceeded
        {
            return Self::DeadlineExceeded { endpoint };
        }
        match status.source() {
            Some(source) => Self::ContactLost {
                endpoint,
                why: deepest(source).to_string(),
            },
            // What a proxy says when it has no node behind it.
            None if status.code() == Code::Unavailable => Self::ContactLost {
                endpoint,
                why: status.message().to_owned(),
            },
            None => Self::BadAnswer {
                endpoint,
                why: format!("{:?}: {}", status.code(), status.message()),
            },
        }
    }
}

/// No endpoint was tried, since each has failed too often lately. The write was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every endpoint failed too often lately ({}); next try in {retry_after:?}", .endpoints.join(LISTED))]
pub struct CircuitOpen {
    /// Those that were passed over.
    pub endpoints: Vec<String>,
    /// When the first of them will be tried again.
    pub retry_after: Duration,
}

impl From<CircuitOpen> for ClientError {
    fn from(open: CircuitOpen) -> Self {
        Self::Node(Box::new(NodeError {
            code: Code::Unavailable,
            reason: CIRCUIT_OPEN.to_owned(),
            message: open.to_string(),
            certainty: Certainty::NotApplied,
            retry_after: Some(open.retry_after),
            endpoint: open.endpoints.join(LISTED),
            leader: None,
            best_available: None,
            oldest_revision: None,
            field: None,
            receipt: None,
        }))
    }
}

impl NodeError {
    fn new(endpoint: String, failure: Failure) -> Self {
        Self {
            endpoint,
            code: failure.code,
            reason: failure.reason,
            message: failure.message,
            certainty: failure.certainty,
            retry_after: failure.retry_after,
            leader: failure.leader,
            best_available: failure.best_available,
            oldest_revision: failure.oldest_revision,
            field: failure.field,
            receipt: failure
                .receipt
                .and_then(|receipt| Receipt::from_wire(receipt).ok()),
        }
    }
}

fn caused_by<E: StdError + 'static>(status: &Status) -> Option<&E> {
    let mut next = status.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Why there is no encrypted connection. A certificate is refused before any request is read, even where the client hears
/// of it only after it has sent one.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls has many more, and may add to them"
)]
fn tls_refusal(status: &Status) -> Option<String> {
    use rustls::{AlertDescription as Alert, Error};
    let error = tls_error(status)?;
    if let Error::AlertReceived(alert) = error {
        let why = match alert {
            Alert::CertificateRequired => "the node wants a client certificate (--cert, --key)",
            Alert::CertificateExpired => {
                "the node refused the client's certificate: it has expired, or isn't valid yet"
            }
            Alert::UnknownCA | Alert::DecryptError => {
                "the node refused the client's certificate: it doesn't trust its authority"
            }
            Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate => "the node refused the client's certificate",
            _ => return None,
        };
        return Some(why.to_owned());
    }
    match error {
        Error::InvalidCertificate(wrong) => Some(format!(
            "the node's certificate is no good: {wrong}; check --ca, and that the certificate has the endpoint's name"
        )),
        Error::InvalidMessage(_) => Some("the endpoint doesn't speak TLS".to_owned()),
        _ => None,
    }
}

fn tls_error(status: &Status) -> Option<&rustls::Error> {
    let mut next = status.source();
    while let Some(error) = next {
        // An I/O error keeps its cause where `source` doesn't lead.
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref());
        if let Some(found) = inner.or_else(|| error.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn deepest<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest
}
