//! Laws of the state machine: it repeats, and a snapshot with the rest of the log is the whole log.

use bytes::Bytes;
use proptest::prelude::*;
use quorumor_core::{CheckpointSource, ClientId, ClientSeq, Expected, StoreId};

use super::*;
use crate::codec::checkpoint::{StateSource, decode};
use crate::codec::proposal::WriteId;
use crate::testing::{Net, id, key};

fn founding() -> StateMachine {
    StateMachine::founding(&Net::new(3, 1).config(1, 1))
}

fn value() -> impl Strategy<Value = Value> {
    prop::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| Value::parse(bytes.into()).unwrap())
}

fn operation() -> impl Strategy<Value = Operation> {
    let any_key = || (0..5_u8).prop_map(|k| key(&format!("k{k}")));
    let expected = prop_oneof![
        Just(Expected::Absent),
        (0..10_u64).prop_map(|revision| Expected::Revision(Revision::new(revision))),
        value().prop_map(Expected::Value),
    ];
    prop_oneof![
        3 => (any_key(), value()).prop_map(|(key, value)| Operation::Put { key, value, context: None, lease: None }),
        1 => any_key().prop_map(|key| Operation::Delete { key }),
        1 => any_key().prop_map(|key| Operation::Get { key }),
        2 => (any_key(), expected, value()).prop_map(|(key, expected, value)| {
            Operation::CompareAndSet { key, expected, value, lease: None }
        }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let client = prop::option::of((any::<u64>(), any::<u64>(), any::<u64>()).prop_map(
        |(client_id, seq, acked_through)| ClientSeq {
            client_id: ClientId::new(client_id),
            seq,
            acked_through,
        },
    ));
    let member = (
        1..5_u64,
        prop::option::of(0..3_u64),
        prop::option::of("[a-z]{1,4}"),
    )
        .prop_map(|(node, store, client_address)| Body::Member {
            node: id(node),
            record: MemberRecord {
                store: store.map(StoreId::new),
                peer_address: ([10, 0, 0, 1], 1).into(),
                client_address,
            },
        });
    prop_oneof![
        5 => (prop::collection::vec(operation(), 1..5), client)
            .prop_map(|(operations, client)| Body::Write { operations, client }),
        1 => member,
    ]
}

fn proposal() -> impl Strategy<Value = Option<Proposal>> {
    let proposal = (1..4_u64, any::<u64>(), any::<u64>(), body()).prop_map(
        |(node, boot_nonce, counter, body)| Proposal {
            id: WriteId {
                node: id(node),
                boot_nonce,
                counter,
            },
            body,
        },
    );
    prop_oneof![8 => proposal.prop_map(Some), 1 => Just(None)]
}

fn apply_all(state: &mut StateMachine, log: &[Option<Proposal>]) -> Vec<Applied> {
    log.iter()
        .map(|proposal| {
            let at = Mark {
                index: state.applied.index + 1,
                term: state.applied.term,
            };
            state.apply(at, proposal.clone(), Results::Wanted)
        })
        .collect()
}

fn through_checkpoint(state: &StateMachine) -> StateMachine {
    let mut source = StateSource::new(state);
    let pieces: Vec<Bytes> = std::iter::from_fn(|| source.next_chunk()).collect();
    decode(&pieces).unwrap()
}

proptest! {
    #[test]
    fn a_snapshot_and_the_rest_of_the_log_are_the_whole_log(
        log in prop::collection::vec(proposal(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(log.len());
        let mut whole = founding();
        let told = apply_all(&mut whole, &log);
        let mut first = founding();
        apply_all(&mut first, &log[..cut]);
        let mut resumed = through_checkpoint(&first);
        prop_assert_eq!(&resumed, &first);
        let told_rest = apply_all(&mut resumed, &log[cut..]);
        prop_assert_eq!(&told[cut..], &told_rest[..]);
        prop_assert_eq!(resumed, whole);
    }

    #[test]
    fn a_proposal_survives_its_encoding(proposal in proposal()) {
        if let Some(proposal) = proposal {
            prop_assert_eq!(Proposal::decode(proposal.encode()).unwrap(), proposal);
        }
    }

    #[test]
    fn no_bytes_panic_the_decoders(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = Proposal::decode(bytes.clone());
        let _ = decode(&[bytes]);
    }

    #[test]
    fn a_snapshot_taken_before_is_not_changed_by_what_comes_after(
        log in prop::collection::vec(proposal(), 2..30),
    ) {
        let mut state = founding();
        apply_all(&mut state, &log[..log.len() / 2]);
        let (before, copy) = (state.clone(), through_checkpoint(&state));
        apply_all(&mut state, &log[log.len() / 2..]);
        prop_assert_eq!(before, copy);
    }

    #[test]
    fn a_revision_is_spent_exactly_when_something_changed(
        log in prop::collection::vec(proposal(), 1..40),
    ) {
        let mut state = founding();
        for proposal in log {
            let before = state.revision;
            let applied = apply_all(&mut state, &[proposal]).pop().unwrap();
            match applied.change {
                Some(change) => {
                    prop_assert_eq!(state.revision, before.next());
                    prop_assert_eq!(change.position, Position::Strong(state.revision));
                    prop_assert!(!change.events.is_empty());
                }
                None => prop_assert_eq!(state.revision, before),
            }
        }
    }
}

#[test]
fn a_member_record_of_another_data_directory_does_not_replace_the_first() {
    let mut state = founding();
    let say = |store, address: &str| {
        Some(Proposal {
            id: WriteId {
                node: id(2),
                boot_nonce: 1,
                counter: 1,
            },
            body: Body::Member {
                node: id(2),
                record: MemberRecord {
                    store: Some(StoreId::new(store)),
                    peer_address: ([10, 0, 0, 1], 1).into(),
                    client_address: Some(address.to_owned()),
                },
            },
        })
    };
    apply_all(&mut state, &[say(1, "a"), say(2, "thief"), say(1, "b")]);
    let record = &state.members[&id(2)];
    assert_eq!(record.client_address.as_deref(), Some("b"));
    assert_eq!(record.store, Some(StoreId::new(1)));
}
