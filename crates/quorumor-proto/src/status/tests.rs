//! Each error goes out as a status and comes back with its reason, its certainty and what helps.

use quorumor_core::{
    ClusterId, DataEpoch, LeaderHint, Level, MemberCounts, NodeId, Revision, Staleness,
    StalenessBasis, Term, WriteOutcome, WritePosition,
};

use super::*;

fn every_error() -> Vec<Error> {
    let node = NodeId::try_from(3).unwrap();
    vec![
        Error::invalid("key", "why"),
        Error::too_large("key_bytes_max", 1, 2),
        Error::level_unavailable(Mode::Eventual, Level::Linearizable),
        Error::ModeNotServed { mode: Mode::Strong },
        Error::NotLeader { hint: None },
        Error::NotLeader {
            hint: Some(LeaderHint {
                node,
                client_address: Some("127.0.0.1:1".into()),
            }),
        },
        Error::NoQuorum,
        Error::Starting,
        Error::Stopping,
        Error::Overloaded {
            queue: "driver_queue",
            retry_after_ms: 25,
        },
        Error::DiskFull,
        Error::Damaged { why: "bits".into() },
        Error::TokenAhead {
            needed: "revision 9".into(),
            have: "revision 3".into(),
        },
        Error::TokenTooWide { rows: 2_000 },
        Error::EpochChanged {
            asked: 1,
            current: 2,
        },
        Error::HistoryGone {
            oldest: Revision::new(7),
        },
        Error::OutcomeUnknown {
            why: "contact lost",
        },
        Error::DeadlineExceeded {
            what: "the write was applied",
            certainty: Certainty::Unknown,
        },
        Error::DeadlineExceeded {
            what: "the read was confirmed",
            certainty: Certainty::NotApplied,
        },
        Error::Internal {
            why: "broken".into(),
            certainty: Certainty::Unknown,
        },
    ]
}

fn receipt() -> Receipt {
    Receipt {
        durability: None,
        acks: 0,
        mode: Mode::Strong,
        asked: Level::Linearizable,
        got: Level::Linearizable,
        degraded: None,
        cluster: ClusterId::new(1),
        node: NodeId::try_from(2).unwrap(),
        epoch: DataEpoch::new(1),
        position: WritePosition::Strong {
            revision: Revision::new(4),
            term: Term::new(5),
            leader: None,
        },
        staleness: Staleness {
            basis: StalenessBasis::Unknown,
            contact_age_ms: Some(1_500),
            apply_lag: None,
        },
        members: MemberCounts {
            alive: 1,
            suspect: 0,
            down: 2,
        },
        token: None,
        write: Some(WriteOutcome::Failed(Certainty::NotApplied)),
    }
}

#[test]
fn every_error_keeps_its_reason_certainty_and_retry_time() {
    for error in every_error() {
        let failure = from_status(&to_status(&error, Some(Mode::Strong), Some(&receipt())));
        assert_eq!(failure.reason, error.reason());
        assert_eq!(failure.certainty, error.certainty(), "{error}");
        assert_eq!(failure.code, code(&error), "{error}");
        assert_eq!(failure.message, error.to_string());
        assert_eq!(
            failure.retry_after,
            error.retry_after_ms().map(Duration::from_millis),
            "{error}"
        );
        assert_eq!(failure.receipt.unwrap().node_id, 2);
    }
}

#[test]
fn the_leader_and_the_best_level_are_named() {
    let hint = LeaderHint {
        node: NodeId::try_from(3).unwrap(),
        client_address: Some("127.0.0.1:1".into()),
    };
    let failure = from_status(&to_status(
        &Error::NotLeader { hint: Some(hint) },
        None,
        None,
    ));
    assert_eq!(failure.leader, Some((3, Some("127.0.0.1:1".into()))));

    let refused = Error::level_unavailable(Mode::Eventual, Level::Linearizable);
    let failure = from_status(&to_status(&refused, Some(Mode::Eventual), None));
    assert_eq!(failure.code, Code::FailedPrecondition);
    assert_eq!(failure.best_available.as_deref(), Some("local"));
}

#[test]
fn the_field_that_was_refused_is_named() {
    let failure = from_status(&to_status(&Error::invalid("token", "no"), None, None));
    assert_eq!(failure.field.as_deref(), Some("token"));
    let failure = from_status(&to_status(&Error::NoQuorum, None, None));
    assert_eq!(failure.field, None);
}

#[test]
fn a_status_that_no_node_made_is_unknown() {
    let failure = from_status(&Status::unavailable("connection reset"));
    assert_eq!(
        (failure.certainty, failure.reason.as_str()),
        (Certainty::Unknown, "")
    );
    let garbled = Status::with_details(Code::Internal, "x", vec![1, 2, 3].into());
    assert_eq!(from_status(&garbled).certainty, Certainty::Unknown);
}
