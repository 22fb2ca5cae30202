//! Pieces of a checkpoint: bounded, whole or refused.

use std::sync::Arc;

use quorumor_core::{ClientSeq, Entry, History, KeyRange, LogTime, Operation, Value, Version};

use super::*;
use crate::codec::proposal::{Body, Proposal, WriteId};
use crate::state_machine::{Mark, Results, StateMachine};
use crate::testing::{Net, id, key};

fn state(entries: u64, bytes: usize) -> StateMachine {
    let mut state = StateMachine::founding(&Net::new(3, 1).config(1, 1));
    for i in 0..entries {
        let entry = Entry {
            siblings: None,
            key: key(&format!("k{i:06}")),
            value: Value::parse(vec![7; bytes].into()).unwrap(),
            version: Version::Strong {
                create: Revision::new(i),
                modify: Revision::new(i),
                count: 1,
            },
            writer: id(2),
            lease: None,
        };
        state.restore(Arc::new(entry));
    }
    state
}

fn pieces(state: &StateMachine) -> Vec<Bytes> {
    let mut source = StateSource::new(state);
    std::iter::from_fn(|| source.next_chunk()).collect()
}

#[test]
fn pieces_are_bounded_and_give_the_state_back() {
    for (entries, bytes) in [(0, 0), (1, 10), (5_000, 1_000), (4, 1_048_576)] {
        let state = state(entries, bytes);
        let pieces = pieces(&state);
        assert!(
            pieces
                .iter()
                .all(|piece| piece.len() < 3 * CHECKPOINT_CHUNK_BYTES)
        );
        assert!(pieces.len() as u64 <= 1 + entries * bytes as u64 / CHECKPOINT_CHUNK_BYTES as u64);
        assert_eq!(decode(&pieces).unwrap(), state);
    }
}

#[test]
fn missing_repeated_and_reordered_pieces_are_refused() {
    let whole = pieces(&state(4_000, 1_000));
    assert!(whole.len() > 3);
    for missing in 0..whole.len() {
        let mut holed = whole.clone();
        holed.remove(missing);
        assert!(decode(&holed).is_err(), "without piece {missing}");
    }
    let mut swapped = whole.clone();
    swapped.swap(0, 1);
    assert!(decode(&swapped).is_err());
    let mut longer = whole;
    longer.push(longer[1].clone());
    assert!(decode(&longer).is_err());
    assert!(decode(&[]).is_err());
}

#[test]
fn a_configuration_that_raft_would_assert_on_is_refused() {
    let mut state = state(1, 1);
    for voters in [vec![], vec![0], vec![1, 1], (1..20).collect()] {
        state.voters.voters = voters;
        assert!(decode(&pieces(&state)).is_err());
    }
    state.voters.voters = vec![1];
    state.voters.learners = vec![1];
    assert!(decode(&pieces(&state)).is_err());
}

fn act(state: &mut StateMachine, body: Body) {
    let id = WriteId {
        node: id(1),
        boot_nonce: 1,
        counter: 1,
    };
    let at = Mark {
        index: state.applied.index + 1,
        term: 1,
    };
    let proposal = Some(Proposal { id, body });
    let applied = state.apply(at, Some(LogTime(7)), proposal, Results::Unwanted);
    assert!(applied.answer.result.is_ok(), "{:?}", applied.answer);
}

#[test]
fn one_revision_of_many_events_and_the_answers_of_sessions_are_cut_too() {
    let mut state = state(6_000, 1_000);
    state.revision = Revision::new(6_000);
    state.history = History::starting_at(state.revision);
    let range = KeyRange::all();
    let operations = vec![Operation::DeleteRange { range }];
    act(
        &mut state,
        Body::Write {
            operations,
            client: None,
        },
    );
    act(
        &mut state,
        Body::OpenSession {
            ttl_ms: 9_000,
            nonce: 0,
        },
    );
    let client_id = ClientId::new(state.applied.index);
    for seq in 1..=3 {
        let value = Value::parse(vec![9; 500_000].into()).unwrap();
        let key = key("a");
        let put = Operation::Put {
            key: key.clone(),
            value,
            context: None,
            lease: None,
        };
        let client = Some(ClientSeq {
            client_id,
            seq,
            acked_through: 0,
        });
        let operations = vec![put, Operation::Get { key: key.clone() }];
        act(&mut state, Body::Write { operations, client });
    }
    let pieces = pieces(&state);
    assert!(pieces.len() > 6, "{}", pieces.len());
    let longest = pieces.iter().map(Bytes::len).max().unwrap();
    assert!(longest < 2 * CHECKPOINT_CHUNK_BYTES, "{longest}");
    assert_eq!(decode(&pieces).unwrap(), state);
}

#[test]
fn a_format_of_a_later_version_is_refused_and_the_first_one_is_read() {
    let whole = pieces(&state(3, 10));
    let with_format = |format| {
        let mut piece = WirePiece::decode(whole[0].clone()).unwrap();
        let header = piece.header.as_mut().unwrap();
        header.format = format;
        header.digest = 0;
        decode(&[Bytes::from(piece.encode_to_vec())])
    };
    let later = with_format(FORMAT + 1).unwrap_err();
    assert!(later.to_string().contains("later version"), "{later}");
    let first = with_format(1).unwrap();
    assert_eq!(first.entries.len(), 3);
    assert_eq!(first.history.oldest(), first.revision);
    assert!(with_format(FORMAT).is_err(), "without its digest");
}
