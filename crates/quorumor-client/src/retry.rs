//! When a failed call may be tried again, and after how long.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use quorumor_core::Certainty;

use crate::breaker::CallClass;
use crate::error::ClientError;

/// How often and how fast a call is tried again, always within its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included. 1 means no retries.
    pub attempts_max: usize,
    /// Tries in a row that found nobody listening, after which the call gives up.
    pub unreachable_max: usize,
    /// The first pause. Each next one doubles, with jitter.
    pub delay_min: Duration,
    /// The longest pause, before jitter. What a node asks for (`RetryInfo`) may be longer.
    pub delay_max: Duration,
}

impl Default for RetryPolicy {
    /// Rides through an election: 20 ms doubling to 500 ms, about six seconds over 16 tries.
    fn default() -> Self {
        Self {
            attempts_max: 16,
            unreachable_max: usize::MAX,
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_millis(500),
        }
    }
}

impl RetryPolicy {
    /// One try, and its error as it is.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            attempts_max: 1,
            unreachable_max: 1,
            delay_min: Duration::ZERO,
            delay_max: Duration::ZERO,
        }
    }

    pub(crate) fn backoff(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.delay_min)
            .with_max_delay(self.delay_max)
            .with_max_times(self.attempts_max.saturating_sub(1))
            .with_jitter()
            .build()
    }
}

/// What a node asked for, and up to half as much more: all whom it asked would come back together else.
pub(crate) fn with_jitter(asked: Duration) -> Duration {
    asked + asked.mul_f64(rand::random_range(0.0..0.5))
}

/// What a call does, as far as retries care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may change something.
    Write,
    /// It may change something, and sent again it changes nothing more: it has a number in a session, or sets the same again.
    NumberedWrite,
    /// It makes something that may be made twice without harm, and needs the leader.
    Open,
    /// It changes nothing, and needs the leader's word.
    LinearizableRead,
    /// It changes nothing, and any node can answer.
    LocalRead,
    /// It asks about one node, now.
    Describe,
}

impl Kind {
    /// What a call of the state or registry service is to breakers.
    pub(crate) const fn class(self) -> CallClass {
        match self {
            Self::Write | Self::NumberedWrite | Self::Open => CallClass::Write,
            Self::LinearizableRead => CallClass::LinearizableRead,
            Self::LocalRead => CallClass::LocalRead,
            Self::Describe => CallClass::Admin,
        }
    }
}

/// Whether the same call may be tried again after this error.
///
/// A write is repeated only if it was certainly not applied; a read and a numbered write also if nothing is known.
pub(crate) fn may_retry(error: &ClientError, kind: Kind) -> bool {
    let harmless = match kind {
        Kind::Write => error.certainty() == Certainty::NotApplied,
        Kind::NumberedWrite | Kind::Open | Kind::LinearizableRead | Kind::LocalRead => true,
        Kind::Describe => false,
    };
    let promising = match error {
        // No wait makes a revision of a typing error: whoever waits for one to come has a token, or a watch.
        ClientError::Node(node) if node.reason == "FUTURE_REVISION" => false,
        ClientError::Node(node) => {
            let may_have_happened = node.certainty == Certainty::Unknown;
            let settles = kind == Kind::NumberedWrite || kind == Kind::Open;
            node.retry_after.is_some() || (may_have_happened && settles)
        }
        ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. } => true,
        ClientError::BadAnswer { .. } | ClientError::Invalid(_) => false,
    };
    harmless && promising
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> ClientError {
        ClientError::ContactLost {
            endpoint: "a:1".into(),
            why: "reset".into(),
        }
    }

    fn unreachable() -> ClientError {
        ClientError::Unreachable {
            endpoint: "a:1".into(),
            why: "refused".into(),
        }
    }

    #[test]
    fn a_write_is_repeated_only_if_it_was_not_applied() {
        assert!(!may_retry(&lost(), Kind::Write));
        assert!(may_retry(&unreachable(), Kind::Write));
        assert!(may_retry(&lost(), Kind::NumberedWrite));
    }

    #[test]
    fn a_read_is_repeated_even_if_nothing_is_known() {
        assert!(may_retry(&lost(), Kind::LocalRead));
        assert!(may_retry(&lost(), Kind::LinearizableRead));
        assert!(!may_retry(&lost(), Kind::Describe));
    }
}
