//! Exactly once, and what ends a session.

use quorumor_core::limits::SESSION_ANSWERS_MAX;

use super::*;
use crate::state_machine::sessions::Session;

fn open(state: &mut StateMachine, time: u64, ttl_ms: u64) -> ClientId {
    match act(state, time, Body::OpenSession { ttl_ms, nonce: 0 }).result {
        Ok(Outcome::Opened { client_id, .. }) => client_id,
        other => panic!("not opened: {other:?}"),
    }
}

fn seq(client_id: ClientId, seq: u64, acked_through: u64) -> Option<ClientSeq> {
    Some(ClientSeq {
        client_id,
        seq,
        acked_through,
    })
}

fn write(client: Option<ClientSeq>, value: &str) -> Body {
    Body::Write {
        operations: vec![put("a", value), Operation::Get { key: key("a") }],
        client,
    }
}

#[test]
fn a_write_that_comes_again_is_answered_as_the_first_time_and_changes_nothing() {
    let mut state = founding();
    let client = open(&mut state, 0, 10_000);
    let first = act(&mut state, 1, write(seq(client, 1, 0), "1"));
    let grant = Body::Grant {
        id: Some(LeaseId::new(7)),
        ttl_ms: 500,
        client: seq(client, 2, 0),
    };
    let granted = act(&mut state, 2, grant.clone());
    let revoke = Body::Revoke {
        id: LeaseId::new(8),
        client: seq(client, 3, 0),
    };
    let denied = act(&mut state, 3, revoke.clone());
    assert_eq!(denied.result, Err(Denial::LeaseNotFound(LeaseId::new(8))));
    act(&mut state, 4, write(None, "other"));

    // Also after a snapshot, and also an error, although it would succeed by now.
    let mut state = through_checkpoint(&state);
    let eight = Body::Grant {
        id: Some(LeaseId::new(8)),
        ttl_ms: 500,
        client: None,
    };
    assert!(act(&mut state, 5, eight).result.is_ok());
    let before = state.revision;
    assert_eq!(act(&mut state, 5, write(seq(client, 1, 0), "1")), first);
    assert_eq!(act(&mut state, 5, grant), granted);
    assert_eq!(act(&mut state, 5, revoke), denied);
    assert_eq!(state.revision, before);
    assert!(state.leases.contains(LeaseId::new(8)));
}

#[test]
fn what_was_acknowledged_is_forgotten_and_refused() {
    let mut state = founding();
    let client = open(&mut state, 0, 10_000);
    act(&mut state, 1, write(seq(client, 1, 0), "1"));
    act(&mut state, 1, write(seq(client, 2, 1), "2"));
    let session = state.sessions.table().get(&client).unwrap();
    assert_eq!(session.answers.keys().copied().collect::<Vec<_>>(), [2]);
    let again = act(&mut state, 1, write(seq(client, 1, 0), "1"));
    assert_eq!(again.result, Err(Denial::SessionAcknowledged(client)));
    assert_eq!(state.revision, Revision::new(2));
}

#[test]
fn a_session_that_expired_refuses_and_writes_nothing() {
    let mut state = founding();
    let client = open(&mut state, 0, 1_000);
    // Each write lets it live on.
    for (number, time) in [(1, 900), (2, 1_800), (3, 2_700)] {
        let answer = act(&mut state, time, write(seq(client, number, 0), "x"));
        assert!(answer.result.is_ok());
    }
    let late = act(&mut state, 3_700, write(seq(client, 4, 0), "late"));
    assert_eq!(late.result, Err(Denial::SessionGone(client)));
    let repeated = act(&mut state, 3_700, write(seq(client, 3, 0), "x"));
    assert_eq!(repeated.result, Err(Denial::SessionGone(client)));
    assert_eq!(state.revision, Revision::new(3));
    assert!(state.sessions.is_empty());
    let unknown = act(&mut state, 3_700, write(seq(ClientId::new(99), 1, 0), "x"));
    assert_eq!(unknown.result, Err(Denial::SessionGone(ClientId::new(99))));
}

#[test]
fn a_session_keeps_no_more_answers_than_its_limits_and_says_so() {
    let mut state = founding();
    let client = open(&mut state, 0, 10_000);
    let cheap = |number| Body::Write {
        operations: vec![put("a", "1")],
        client: seq(client, number, 0),
    };
    for number in 1..=SESSION_ANSWERS_MAX as u64 {
        assert!(act(&mut state, 1, cheap(number)).result.is_ok());
    }
    let before = state.revision;
    let full = act(&mut state, 1, cheap(5_000)).result;
    assert_eq!(full, Err(Denial::SessionAnswersMax));
    assert_eq!(state.revision, before);
    assert!(
        act(&mut state, 1, cheap(1)).result.is_ok(),
        "a repeated one still is"
    );
    let acked = Body::Write {
        operations: vec![put("a", "1")],
        client: seq(client, 5_000, 10),
    };
    assert!(act(&mut state, 1, acked).result.is_ok());
}

#[test]
fn an_answer_that_a_session_has_no_room_for_undoes_its_write() {
    let mut state = founding();
    let client = open(&mut state, 0, 10_000);
    let mut operations = vec![Operation::Put {
        key: key("big"),
        value: Value::parse(vec![1; 1 << 20].into()).unwrap(),
        context: None,
        lease: None,
    }];
    operations.extend((0..8).map(|_| Operation::Get { key: key("big") }));
    let body = Body::Write {
        operations,
        client: seq(client, 1, 0),
    };
    let before = state.clone();
    let refused = act(&mut state, 0, body);
    assert!(matches!(refused.result, Err(Denial::AnswerTooLarge(_))));
    assert_eq!(state.entries, before.entries);
    assert_eq!(state.revision, before.revision);
    assert_eq!(state.digest(), through_checkpoint(&state).digest());
}

#[test]
fn a_number_is_one_write_and_another_under_it_changes_nothing_also_after_a_snapshot() {
    let mut state = founding();
    let client = open(&mut state, 0, 10_000);
    let first = act(&mut state, 1, write(seq(client, 3, 0), "mine"));
    let mut state = through_checkpoint(&state);
    let before = state.clone();
    let theirs = act(&mut state, 1, write(seq(client, 3, 2), "theirs"));
    let reused = Denial::SequenceReused { client, seq: 3 };
    assert_eq!(theirs.result, Err(reused));
    let txn = Body::Txn {
        txn: Txn {
            compares: Vec::new(),
            success: vec![put("a", "mine"), Operation::Get { key: key("a") }],
            failure: Vec::new(),
        },
        client: seq(client, 3, 2),
    };
    assert_eq!(act(&mut state, 1, txn).result, Err(reused));
    assert_eq!(state.entries, before.entries);
    assert_eq!(state.sessions, before.sessions, "nor is it acknowledged");
    assert_eq!(act(&mut state, 1, write(seq(client, 3, 2), "mine")), first);
}

#[test]
fn a_number_that_would_spend_the_session_is_refused() {
    let mut state = founding();
    let client = open(&mut state, 0, 10_000);
    let leap = quorumor_core::limits::SESSION_LEAP_MAX;
    act(&mut state, 1, write(seq(client, 1, 0), "1"));
    let before = state.sessions.clone();
    for (number, acked_through) in [(u64::MAX, u64::MAX - 1), (leap + 2, 0), (7, 7)] {
        let poison = act(
            &mut state,
            1,
            write(seq(client, number, acked_through), "x"),
        );
        assert_eq!(poison.result, Err(Denial::SequenceLeap { seq: number }));
    }
    assert_eq!(state.sessions, before);
    for (number, acked_through) in [(2, 1), (leap + 2, 2)] {
        let next = act(
            &mut state,
            1,
            write(seq(client, number, acked_through), "x"),
        );
        assert!(next.result.is_ok());
    }
}

#[test]
fn a_sessions_id_takes_its_nonce_and_never_that_of_a_live_one() {
    let mut sessions = Sessions::default();
    let mut open = |index, nonce| sessions.open(index, nonce, 1_000, LogTime(0)).unwrap().0;
    let first = open(5, 0xabcd_ef01);
    assert_eq!(first, ClientId::new(0xabcd_ef01_0000_0005));
    assert_eq!(open(6, 0xabcd_ef01), ClientId::new(0xabcd_ef01_0000_0006));
    let same_bits = open(5 + (1 << 32), 0xabcd_ef01);
    assert_ne!(same_bits, first);
    assert_ne!(open(1 << 32, 0), ClientId::new(0));
}

#[test]
fn all_sessions_together_keep_no_more_than_their_limit_and_give_room_back() {
    use quorumor_core::limits::SESSIONS_BYTES_MAX;
    let mut sessions = Sessions::default();
    let numbered = |client, number, acked| Numbered {
        client: seq(client, number, acked).unwrap(),
        fingerprint: 1,
    };
    let heavy = || {
        let entry = Entry {
            siblings: None,
            key: key("a"),
            value: Value::parse(vec![0; 1 << 20].into()).unwrap(),
            version: Version::Strong {
                create: Revision::new(1),
                modify: Revision::new(1),
                count: 1,
            },
            writer: id(1),
            lease: None,
        };
        Answer {
            revision: Revision::new(1),
            result: Ok(Outcome::Written(vec![OperationResult::Got {
                entry: Some(entry),
            }])),
        }
    };
    let answer = heavy();
    let count = SESSIONS_BYTES_MAX / answer.bytes() + 1;
    let clients: Vec<ClientId> = (1..=count as u64)
        .map(|index| sessions.open(index, 0, index, LogTime(0)).unwrap().0)
        .collect();
    for client in &clients {
        let write = numbered(*client, 1, 0);
        assert!(matches!(
            sessions.judge(write, LogTime(0)),
            Ok(Verdict::New { .. })
        ));
        sessions.keep(write, answer.clone());
    }
    let (first, last) = (clients[0], clients[count - 1]);
    let refused = sessions.judge(numbered(last, 2, 0), LogTime(0));
    assert!(
        matches!(refused, Err(Denial::SessionsBytesMax)),
        "{refused:?}"
    );
    let own_room = sessions.judge(numbered(last, 2, 1), LogTime(0));
    assert!(matches!(own_room, Ok(Verdict::New { .. })), "{own_room:?}");
    sessions.close(first);
    let mut again = Sessions::default();
    for (client, session) in sessions.table() {
        again.insert(*client, Session::clone(session));
    }
    assert_eq!(
        again, sessions,
        "the total is the same when it is counted anew"
    );
    for client in clients {
        sessions.close(client);
    }
    assert_eq!(sessions, Sessions::default());
}
