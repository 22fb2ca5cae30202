//! Pieces of a checkpoint: bounded, whole or refused.

use std::sync::Arc;

use quorumor_core::{Entry, Value, Version};

use super::*;
use crate::state_machine::StateMachine;
use crate::testing::{Net, id, key};

fn state(entries: u64, bytes: usize) -> StateMachine {
    let mut state = StateMachine::founding(&Net::new(3, 1).config(1, 1));
    for i in 0..entries {
        let entry = Entry {
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
