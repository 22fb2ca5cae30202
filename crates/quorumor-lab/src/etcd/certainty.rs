//! What an error of etcd says about the operation: whether it certainly was not applied, or nobody knows.
//!
//! Not a judge. Only what etcd decides before it proposes, or deterministically when it applies, is certain (`api/v3rpc/rpctypes`):
//! a wrong request, a missing lease, a full store. Everything that it says `UNAVAILABLE` about may concern a request that is
//! already in the log, `no leader` too, and so is unknown for a write. That is the side on which no verdict can be wrong:
//! a write called unknown may still be judged applied or not.

use std::error::Error as StdError;

use tonic::{Code, ConnectError, Status, TimeoutExpired};

use crate::history::{Action, Cause, Outcome};

/// What etcd's own errors begin with; what doesn't comes from the transport.
const OWN: &str = "etcdserver: ";
/// What a member says when the deadline passes while it waits, under whatever code.
const LATE: &str = "context deadline exceeded";

/// Whether a failed operation may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// It was not.
    NotApplied,
    /// Nobody knows.
    Unknown,
}

/// Why a call failed, and what that proves.
pub(super) fn of(status: &Status) -> (Cause, Certainty) {
    if let Some(message) = status.message().strip_prefix(OWN) {
        return of_etcd(status.code(), message);
    }
    // tonic hands a request to a connection only once there is one, so this one was never sent.
    if caused_by::<ConnectError>(status) {
        return (Cause::Unreachable, Certainty::NotApplied);
    }
    let late = caused_by::<TimeoutExpired>(status)
        || status.code() == Code::DeadlineExceeded
        || status.message() == LATE;
    if late {
        return (Cause::TimedOut, Certainty::Unknown);
    }
    (Cause::Broken, Certainty::Unknown)
}

fn of_etcd(code: Code, message: &str) -> (Cause, Certainty) {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated
        // A member that found its data corrupt applies nothing.
        | Code::DataLoss => (Cause::Refused, Certainty::NotApplied),
        Code::DeadlineExceeded => (Cause::TimedOut, Certainty::Unknown),
        Code::Unavailable if message.starts_with("request timed out") => {
            (Cause::TimedOut, Certainty::Unknown)
        }
        // It answered, but on whose behalf can't be said: no leader, leader changed, stopped.
        Code::Unavailable => (Cause::Refused, Certainty::Unknown),
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Aborted | Code::Internal => {
            (Cause::Broken, Certainty::Unknown)
        }
    }
}

/// How an operation ended that failed so. A read changes nothing, so one that was refused has failed for certain; one that
/// waited in vain, or lost its connection, got no answer.
pub(super) fn outcome(action: &Action, (cause, certainty): (Cause, Certainty)) -> Outcome {
    match (certainty, cause) {
        (Certainty::NotApplied, _) => Outcome::Fail,
        (Certainty::Unknown, Cause::Refused) if action.is_read() => Outcome::Fail,
        (
            Certainty::Unknown,
            Cause::Refused | Cause::Unreachable | Cause::Broken | Cause::TimedOut | Cause::HeldBack,
        ) => Outcome::Unknown,
    }
}

fn caused_by<E: StdError + 'static>(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<E>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Cas;

    /// Code, message, cause, what a write and what a read come to.
    const TABLE: [(Code, &str, Cause, Outcome, Outcome); 19] = {
        use Cause::{Broken, Refused, TimedOut};
        use Outcome::{Fail, Unknown};
        [
            (
                Code::InvalidArgument,
                "etcdserver: key is not provided",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: lease already exists",
                Refused,
                Fail,
                Fail,
            ),
            (
                Code::Unavailable,
                "etcdserver: no leader",
                Refused,
                Unknown,
                Fail,
            ),
            (
                Code::Unavailable,
                "etcdserver: leader changed",
                Refused,
                Unknown,
                Fail,
            ),
            (
                Code::Unavailable,
                "etcdserver: server stopped",
                Refused,
                Unknown,
                Fail,
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                TimedOut,
                Unknown,
                Unknown,
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                TimedOut,
                Unknown,
                Unknown,
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
                TimedOut,
                Unknown,
                Unknown,
            ),
            (
                Code::Unknown,
                "etcdserver: request cancelled",
                Broken,
                Unknown,
                Unknown,
            ),
            (
                Code::Unknown,
                "raft proposal dropped",
                Broken,
                Unknown,
                Unknown,
            ),
            (
                Code::DeadlineExceeded,
                "context deadline exceeded",
                TimedOut,
                Unknown,
                Unknown,
            ),
            (
                Code::Unknown,
                "context deadline exceeded",
                TimedOut,
                Unknown,
                Unknown,
            ),
            (
                Code::Cancelled,
                "context canceled",
                Broken,
                Unknown,
                Unknown,
            ),
            // A code that proves something only in etcd's own words.
            (
                Code::ResourceExhausted,
                "message too large",
                Broken,
                Unknown,
                Unknown,
            ),
        ]
    };

    #[test]
    fn only_what_etcd_decides_before_or_in_applying_is_certain() {
        let writes = [
            Action::Put("v".to_owned()),
            Action::Delete,
            Action::Cas(Cas {
                expected: None,
                value: "v".to_owned(),
            }),
            Action::Grant { ttl_ms: 1 },
            Action::Revoke,
            Action::KeepAlive,
        ];
        for (code, message, cause, write, read) in TABLE {
            let told = of(&Status::new(code, message));
            assert_eq!(told.0, cause, "{message}");
            for action in &writes {
                assert_eq!(outcome(action, told), write, "{message} {action:?}");
            }
            for action in [Action::Get, Action::List] {
                assert_eq!(outcome(&action, told), read, "{message} {action:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_refused_connection_proves_that_nothing_was_sent() {
        use quorumor_bench::etcdpb::{PutRequest, kv_client::KvClient};
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let mut client = KvClient::new(endpoint.unwrap().connect_lazy());
        let status = client.put(PutRequest::default()).await.unwrap_err();
        let told = of(&status);
        assert_eq!(
            told,
            (Cause::Unreachable, Certainty::NotApplied),
            "{status:?}"
        );
        assert_eq!(outcome(&Action::Put(String::new()), told), Outcome::Fail);
    }
}
