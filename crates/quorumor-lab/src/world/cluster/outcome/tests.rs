//! What an answer or an error of the client becomes in the history.

use quorumor_client::NodeError;
use quorumor_core::{
    ClusterId, DataEpoch, Level as CoreLevel, LogId, Mode, Revision, Seq, Stamp, Term,
    WritePosition,
};

use super::*;

fn receipt(position: WritePosition) -> Receipt {
    Receipt {
        mode: Mode::Strong,
        asked: CoreLevel::Linearizable,
        got: CoreLevel::Linearizable,
        degraded: None,
        cluster: ClusterId::new(1),
        node: core::NodeId::try_from(3).unwrap(),
        epoch: DataEpoch::ZERO,
        position,
        staleness: core::Staleness {
            basis: core::StalenessBasis::Exact,
            contact_age_ms: None,
            apply_lag: None,
        },
        members: core::MemberCounts {
            alive: 5,
            suspect: 0,
            down: 0,
        },
        token: vec![0xab, 0x01].into(),
        write: None,
        durability: None,
        acks: None,
        change_order: None,
    }
}

fn at_revision(revision: u64) -> WritePosition {
    WritePosition::Strong {
        revision: Revision::new(revision),
        term: Term::new(2),
        leader: None,
    }
}

fn node_error(reason: &str, certainty: Certainty) -> ClientError {
    ClientError::Node(Box::new(NodeError {
        endpoint: "a:1".to_owned(),
        code: tonic_code(),
        reason: reason.to_owned(),
        message: String::new(),
        certainty,
        retry_after: None,
        leader: None,
        best_available: None,
        oldest_revision: None,
        field: None,
        receipt: Some(receipt(at_revision(7))),
    }))
}

fn tonic_code() -> tonic::Code {
    tonic::Code::Unavailable
}

fn ended(error: ClientError) -> (Outcome, Option<Cause>) {
    let ret = of(OpId(1), 10, Kind::Write, &Err(error));
    (ret.outcome, ret.cause)
}

#[test]
fn only_what_certainly_was_not_applied_is_a_failure() {
    let (endpoint, why) = ("a:1".to_owned(), "why".to_owned());
    let unreachable = ClientError::Unreachable {
        endpoint: endpoint.clone(),
        why: why.clone(),
    };
    let lost = ClientError::ContactLost {
        endpoint: endpoint.clone(),
        why: why.clone(),
    };
    let odd = ClientError::BadAnswer {
        endpoint: endpoint.clone(),
        why,
    };
    let late = ClientError::DeadlineExceeded { endpoint };
    assert_eq!(
        ended(unreachable),
        (Outcome::Fail, Some(Cause::Unreachable))
    );
    assert_eq!(ended(lost), (Outcome::Unknown, Some(Cause::Broken)));
    assert_eq!(ended(odd), (Outcome::Unknown, Some(Cause::Broken)));
    assert_eq!(ended(late), (Outcome::Unknown, Some(Cause::TimedOut)));
    let refused = node_error("NO_QUORUM", Certainty::NotApplied);
    assert_eq!(ended(refused), (Outcome::Fail, Some(Cause::Refused)));
    let forward = node_error("OUTCOME_UNKNOWN", Certainty::Unknown);
    assert_eq!(ended(forward), (Outcome::Unknown, Some(Cause::Broken)));
    let deadline = node_error("DEADLINE_EXCEEDED", Certainty::Unknown);
    assert_eq!(ended(deadline), (Outcome::Unknown, Some(Cause::TimedOut)));
}

#[test]
fn a_read_that_waited_in_vain_is_unknown_and_a_refused_one_is_not() {
    let ended = |error| of(OpId(1), 10, Kind::Read, &Err(error)).outcome;
    let deadline = node_error("DEADLINE_EXCEEDED", Certainty::NotApplied);
    assert_eq!(ended(deadline), Outcome::Unknown);
    let refused = node_error("NO_QUORUM", Certainty::NotApplied);
    assert_eq!(ended(refused), Outcome::Fail);
}

#[test]
fn an_error_keeps_its_reason_and_its_receipt_but_claims_no_level() {
    let ret = of(
        OpId(1),
        10,
        Kind::Write,
        &Err(node_error("NO_QUORUM", Certainty::NotApplied)),
    );
    assert_eq!(ret.reason.as_deref(), Some("NO_QUORUM"));
    assert_eq!(
        ret.position,
        Some(Position {
            revision: 7,
            term: 2,
            leader: 0
        })
    );
    assert_eq!((ret.got, ret.node), (None, Some(NodeId(3))));
}

#[test]
fn an_absent_key_is_an_answer_with_its_receipt() {
    let got = GetAnswer {
        entry: None,
        receipt: receipt(at_revision(9)),
    };
    let ret = of(OpId(1), 10, Kind::Write, &Ok(Answer::Get(got)));
    assert_eq!(
        (ret.outcome, ret.got),
        (Outcome::Ok, Some(Level::Linearizable))
    );
    assert!(ret.values.is_empty() && ret.version.is_none());
    let exact = Staleness {
        bound_us: 0,
        basis: StalenessBasis::Exact,
    };
    assert_eq!(ret.staleness, Some(exact));
    assert_eq!(ret.token.as_deref(), Some("ab01"));
}

#[test]
fn a_delete_has_the_version_of_its_tombstone_where_the_receipt_tells_it() {
    let dot = core::Dot {
        writer: core::NodeId::try_from(2).unwrap(),
        log_id: LogId::new(8),
        seq: Seq::new(4),
    };
    let position = WritePosition::Eventual {
        write: Some((dot, Stamp::from_u64(77))),
    };
    let delete = DeleteAnswer {
        previous: None,
        receipt: receipt(position),
    };
    let ret = of(OpId(1), 10, Kind::Write, &Ok(Answer::Delete(delete)));
    let expected = Dot {
        writer: 2,
        log_id: 8,
        seq: 4,
    };
    assert_eq!(
        ret.version,
        Some(Version::Eventual {
            dot: expected,
            stamp: 77,
            context: None
        })
    );
    let nothing = DeleteAnswer {
        previous: None,
        receipt: receipt(at_revision(5)),
    };
    let ret = of(OpId(1), 10, Kind::Write, &Ok(Answer::Delete(nothing)));
    assert_eq!((ret.found, ret.version), (Some(false), None));
}

#[test]
fn tokens_survive_the_way_through_the_history() {
    assert_eq!(unhex(&hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
    assert_eq!(unhex("abc"), None);
    assert_eq!(unhex("zz"), None);
}
