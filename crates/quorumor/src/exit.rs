//! How a command ends: its exit status, and for a failure what a person needs to know.

use std::fmt::Display;
use std::num::NonZeroU64;
use std::process::ExitCode;

use quorumor_client::{Certainty, ClientError};
use quorumor_core::Error;

/// The exit statuses, as the documentation lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done. An absent key is an answer, and so is this.
    Done,
    /// The command line or the configuration makes no sense.
    Usage,
    /// Nobody could serve it now; the same command may succeed later.
    Unavailable,
    /// It was understood and refused; the same command will be refused again.
    Refused,
    /// A compare-and-set lost its compare.
    Conflict,
    /// A comparison found a broken promise.
    Broken,
    /// A comparison proves nothing.
    Void,
    /// The status of a command that was run (`lock`, `elect`).
    Command(u8),
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Refused => 4,
            Self::Conflict => 5,
            Self::Broken => 1,
            Self::Void => 6,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The stable reason, for programs.
    pub(crate) reason: String,
    /// What happened.
    pub(crate) message: String,
    /// Who was asked.
    pub(crate) endpoint: Option<String>,
    /// What became of the write; `None` if nothing was to be written.
    pub(crate) certainty: Option<Certainty>,
    /// What to do about it.
    pub(crate) advice: Option<String>,
    /// The oldest revision left, where older history was asked for.
    pub(crate) oldest_revision: Option<NonZeroU64>,
    /// What the node said about its answer.
    pub(crate) receipt: Option<Box<quorumor_client::Receipt>>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        Self {
            exit,
            reason: reason.to_owned(),
            message: message.into(),
            endpoint: None,
            certainty: None,
            advice: None,
            oldest_revision: None,
            receipt: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    pub(crate) fn unavailable(what: &str, error: &dyn Display) -> Self {
        Self::new(Exit::Unavailable, "UNAVAILABLE", format!("{what}: {error}"))
    }

    /// Nobody reads on: there is nothing left to do, and nothing wrong.
    pub(crate) fn reader_gone() -> Self {
        Self::new(
            Exit::Done,
            "READER_GONE",
            "nobody reads the output any more",
        )
    }

    pub(crate) fn advising(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// A read that failed: there is no write to be certain about.
    pub(crate) fn of_read(error: ClientError) -> Self {
        let advice = advice(&error);
        Self {
            certainty: None,
            advice,
            ..Self::of_write(error)
        }
    }

    /// A write that failed.
    pub(crate) fn of_write(error: ClientError) -> Self {
        if let ClientError::Invalid(invalid) = &error {
            let advice = advice(&error);
            let failure = Self::usage(invalid.to_string());
            return Self { advice, ..failure };
        }
        Self {
            exit: exit_of(&error),
            reason: error.reason().to_owned(),
            message: error.to_string(),
            endpoint: error.endpoint().map(str::to_owned),
            certainty: Some(error.certainty()),
            advice: if error.certainty() == Certainty::Unknown {
                Some("read the key before you repeat the write: it may have happened".to_owned())
            } else {
                advice(&error)
            },
            oldest_revision: match &error {
                ClientError::Node(node) => node.oldest_revision.and_then(NonZeroU64::new),
                ClientError::Unreachable { .. }
                | ClientError::ContactLost { .. }
                | ClientError::DeadlineExceeded { .. }
                | ClientError::BadAnswer { .. }
                | ClientError::Invalid(_) => None,
            },
            receipt: error.receipt().cloned().map(Box::new),
        }
    }
}

/// The exit status of a call's error. Reasons that a later node invents count as unavailable.
fn exit_of(error: &ClientError) -> Exit {
    match error.reason() {
        "INVALID_ARGUMENT"
        | "TOO_LARGE"
        | "GUARANTEE_UNAVAILABLE"
        | "MODE_NOT_SERVED"
        | "TOKEN_TOO_WIDE"
        | "EPOCH_CHANGED"
        | "HISTORY_GONE"
        | "LEASE_NOT_FOUND"
        | "LEASE_EXISTS"
        | "MEMBERSHIP_REFUSED"
        | "UNAUTHENTICATED"
        | "PERMISSION_DENIED" => Exit::Refused,
        _ => Exit::Unavailable,
    }
}

fn advice(error: &ClientError) -> Option<String> {
    let best = match error {
        ClientError::Node(error) => error.best_available.as_deref(),
        ClientError::Invalid(invalid) => return Some(invalid_advice(invalid)),
        ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. }
        | ClientError::BadAnswer { .. } => None,
    };
    let text = match error.reason() {
        "UNREACHABLE" => {
            "check --endpoints (or QUORUMOR_ENDPOINTS) and that a node runs there; \
             `quorumor dev --mode strong` starts a cluster to try"
        }
        "CONTACT_LOST" => {
            "try again; if this goes on, check that the endpoint is a node's client address, and whether it wants TLS (--ca) or a \
             client certificate (--cert, --key): the node's log says why it refused one"
        }
        "DEADLINE_EXCEEDED" | "OUTCOME_UNKNOWN" => {
            "try again; if this goes on, check that the endpoint is a node's client address"
        }
        "NO_QUORUM" => {
            "ask a node on the majority's side, or wait until the voters reach each other again; \
             reads with `--level local` are still served, and may be stale"
        }
        "NOT_LEADER" => {
            "wait for the election to end, usually a second or two, and try again; \
             reads with `--level local` are still served, and may be stale"
        }
        "GUARANTEE_UNAVAILABLE" => {
            return Some(guarantee_advice(best));
        }
        "MODE_NOT_SERVED" => {
            "leave `--mode` away, or ask a node that serves this mode; `quorumor status` shows the modes"
        }
        "STARTING" | "STOPPING" | "OVERLOADED" => "try again in a moment, or at another node",
        "DISK_FULL" => "free space on the node's disk; reads go on meanwhile",
        "TOKEN_AHEAD" => "try again, or ask the node that gave the token",
        "EPOCH_CHANGED" | "TOKEN_TOO_WIDE" => "drop the token and read again from the start",
        "HISTORY_GONE" => "read without a revision, and watch from there",
        "FUTURE_REVISION" => "that revision hasn't come yet: wait, or read without one",
        "TOO_STALE" => {
            "allow more (--max-age, --max-lag), ask another node, or ask with `--level linearizable`"
        }
        "LEASE_NOT_FOUND" => "grant a lease again: it expired, was revoked or never was",
        "OWNER_UNREACHABLE" => {
            "try again, or at another node; while the lease's owner is away its keys are hidden: grant a lease elsewhere"
        }
        "TOO_FEW_MEMBERS" => {
            "ask for fewer members (--acks, --read sampled:N), or wait until more are there"
        }
        "LEASE_EXISTS" => "leave the id to the cluster, or choose another",
        "SESSION_EXPIRED" => "read the key, then write again: a new session is opened by itself",
        "SEQUENCE_REUSED" => "give every write a number of its own, in a session of one's own",
        "LEADER_LOST" => "watch again; the cursor of the last step is good at any node",
        "INVALID_ARGUMENT" | "TOO_LARGE" => {
            "mend the request; `quorumor status -o json` lists the limits"
        }
        "UNAUTHENTICATED" => {
            "name a token that the node knows (QUORUMOR_AUTH_TOKEN, or --auth-token), or a certificate (--cert, --key)"
        }
        "PERMISSION_DENIED" => {
            "ask with a token that has this role, or have it added to the node's tokens file"
        }
        "DAMAGED" => "ask another node, and replace this one",
        "BAD_ANSWER" => "check that the endpoint is a node's client address, not its peer address",
        _ => return None,
    };
    Some(text.to_owned())
}

fn guarantee_advice(best: Option<&str>) -> String {
    match best {
        Some("local") => "ask with `--level local`, or ask a cluster in strong mode".to_owned(),
        Some(best) if best.starts_with("a majority") => {
            "leave --acks out: in strong mode a majority always has a write before its answer"
                .to_owned()
        }
        Some(best) if best.starts_with("nothing") => "ask a cluster in strong mode".to_owned(),
        Some(best) => format!("ask a cluster in strong mode, or use {best}, which promises less"),
        None => "ask for less, or use the other mode".to_owned(),
    }
}

/// What was refused before anything was sent.
fn invalid_advice(error: &Error) -> String {
    if let Error::InvalidArgument {
        field: "endpoint", ..
    } = error
    {
        return "name endpoints as host:port, such as 127.0.0.1:7400".to_owned();
    }
    "mend the command line; `quorumor status -o json` lists the limits".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> ClientError {
        ClientError::Unreachable {
            endpoint: "a:1".into(),
            why: "refused".into(),
        }
    }

    #[test]
    fn statuses_are_the_documented_numbers() {
        let all = [
            Exit::Done,
            Exit::Usage,
            Exit::Unavailable,
            Exit::Refused,
            Exit::Conflict,
            Exit::Broken,
            Exit::Void,
        ];
        assert_eq!(all.map(Exit::code), [0, 2, 3, 4, 5, 1, 6]);
    }

    #[test]
    fn an_endpoint_that_refuses_is_unavailable_and_nothing_was_written() {
        let failure = Failure::of_write(unreachable());
        assert_eq!(failure.exit, Exit::Unavailable);
        assert_eq!(failure.certainty, Some(Certainty::NotApplied));
        assert!(failure.advice.unwrap().contains("--endpoints"));
        assert_eq!(Failure::of_read(unreachable()).certainty, None);
    }

    #[test]
    fn a_malformed_endpoint_is_a_usage_error() {
        let error = quorumor_client::Client::pinned("nowhere").unwrap_err();
        let failure = Failure::of_read(error);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.advice.unwrap().contains("host:port"));
    }
}
