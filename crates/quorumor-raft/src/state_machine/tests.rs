//! Laws of the state machine: it repeats, a snapshot with the rest of the log is the whole log, and a list of operations does
//! what a naive model does.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use quorumor_core::{
    CheckpointSource, ClientId, ClientSeq, Compare, CompareTarget, Expected, KeyRange,
    OperationResult, Position, Relation, StoreId, Value, Version,
};

use super::*;
use crate::codec::checkpoint::{StateSource, decode};
use crate::codec::proposal::{DigestAt, WriteId};
use crate::testing::{Net, id, key, put};

mod bounds;
mod laws;
mod model;
mod sessions;

fn founding() -> StateMachine {
    StateMachine::founding(&Net::new(3, 1).config(1, 1))
}

/// What a leader proposes, and when.
type Step = (Option<u64>, Option<Proposal>);

fn apply(state: &mut StateMachine, (time, proposal): Step) -> Applied {
    let at = Mark {
        index: state.applied.index + 1,
        term: state.applied.term,
    };
    state.apply(at, time.map(LogTime), proposal, Results::Wanted)
}

fn apply_all(state: &mut StateMachine, log: &[Step]) -> Vec<Applied> {
    log.iter().map(|step| apply(state, step.clone())).collect()
}

/// Applies a body at a log time.
fn act(state: &mut StateMachine, time: u64, body: Body) -> Answer {
    let id = WriteId {
        node: id(1),
        boot_nonce: 1,
        counter: 1,
    };
    apply(state, (Some(time), Some(Proposal { id, body }))).answer
}

fn through_checkpoint(state: &StateMachine) -> StateMachine {
    let mut source = StateSource::new(state);
    let pieces: Vec<Bytes> = std::iter::from_fn(|| source.next_chunk()).collect();
    decode(&pieces).unwrap()
}

fn value() -> impl Strategy<Value = Value> {
    prop::collection::vec(any::<u8>(), 0..6).prop_map(|bytes| Value::parse(bytes.into()).unwrap())
}

fn any_key() -> impl Strategy<Value = Key> {
    (0..5_u8).prop_map(|k| key(&format!("k{k}")))
}

fn lease() -> impl Strategy<Value = Option<LeaseId>> {
    prop_oneof![
        4 => Just(None),
        1 => (1..4_u64).prop_map(|lease| Some(LeaseId::new(lease))),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        1 => Just(KeyRange::all()),
        2 => (0..5_u8).prop_map(|k| KeyRange::prefix(&format!("k{k}")).unwrap()),
        2 => (0..4_u8, 1..4_u8).prop_map(|(from, more)| {
            KeyRange::between(&format!("k{from}"), Some(&format!("k{}", from + more))).unwrap()
        }),
        1 => Just(KeyRange::between("k2", None).unwrap()),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let expected = prop_oneof![
        Just(Expected::Absent),
        (0..10_u64).prop_map(|revision| Expected::Revision(Revision::new(revision))),
        value().prop_map(Expected::Value),
    ];
    prop_oneof![
        4 => (any_key(), value(), lease()).prop_map(|(key, value, lease)| Operation::Put {
            key,
            value,
            context: None,
            lease,
        }),
        1 => any_key().prop_map(|key| Operation::Delete { key }),
        1 => range().prop_map(|range| Operation::DeleteRange { range }),
        1 => any_key().prop_map(|key| Operation::Get { key }),
        2 => (any_key(), expected, value(), lease()).prop_map(|(key, expected, value, lease)| {
            Operation::CompareAndSet { key, expected, value, lease }
        }),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop::sample::select(vec![
        Relation::Equal,
        Relation::NotEqual,
        Relation::Greater,
        Relation::Less,
    ]);
    let target = prop_oneof![
        (0..8_u64).prop_map(|at| CompareTarget::CreateRevision(Revision::new(at))),
        (0..8_u64).prop_map(|at| CompareTarget::ModRevision(Revision::new(at))),
        (0..4_u64).prop_map(CompareTarget::Count),
        value().prop_map(CompareTarget::Value),
        (0..4_u64).prop_map(|lease| CompareTarget::Lease(LeaseId::new(lease))),
    ];
    (any_key(), relation, target).prop_map(|(key, relation, target)| Compare {
        key,
        relation,
        target,
    })
}

fn txn() -> impl Strategy<Value = Txn> {
    let list = || prop::collection::vec(operation(), 0..4);
    (prop::collection::vec(compare(), 0..3), list(), list()).prop_map(
        |(compares, success, failure)| Txn {
            compares,
            success,
            failure,
        },
    )
}
