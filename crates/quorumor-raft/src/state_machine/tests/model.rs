//! Transactions against a naive model: a map of keys to what they hold.

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Held {
    value: Value,
    create: u64,
    modify: u64,
    count: u64,
    lease: Option<LeaseId>,
}

type Model = BTreeMap<Key, Held>;

fn is_equal(held: Option<&Held>, compare: &Compare) -> bool {
    let number = |of: fn(&Held) -> u64| held.map_or(0, of);
    let order = match &compare.target {
        CompareTarget::CreateRevision(at) => number(|held| held.create).cmp(&at.as_u64()),
        CompareTarget::ModRevision(at) => number(|held| held.modify).cmp(&at.as_u64()),
        CompareTarget::Count(count) => number(|held| held.count).cmp(count),
        CompareTarget::Lease(lease) => {
            number(|held| held.lease.map_or(0, LeaseId::as_u64)).cmp(&lease.as_u64())
        }
        CompareTarget::Value(value) => match held {
            Some(held) => held.value.as_bytes().cmp(value.as_bytes()),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    }
}

fn set(model: &mut Model, revision: u64, key: &Key, value: &Value, lease: Option<LeaseId>) {
    let before = model.get(key);
    let held = Held {
        value: value.clone(),
        create: before.map_or(revision, |held| held.create),
        modify: revision,
        count: before.map_or(0, |held| held.count) + 1,
        lease,
    };
    model.insert(key.clone(), held);
}

/// Carries a list out; says whether anything changed.
fn run(model: &mut Model, revision: u64, list: &[Operation]) -> bool {
    let mut changed = false;
    for operation in list {
        changed |= match operation {
            Operation::Put {
                key, value, lease, ..
            } => {
                set(model, revision, key, value, *lease);
                true
            }
            Operation::Delete { key } => model.remove(key).is_some(),
            Operation::DeleteRange { range } => {
                let before = model.len();
                model.retain(|key, _| !range.contains(key));
                model.len() < before
            }
            Operation::CompareAndSet {
                key,
                expected,
                value,
                lease,
            } => {
                let held = model.get(key);
                let holds = match expected {
                    Expected::Absent => held.is_none(),
                    Expected::Revision(at) => held.is_some_and(|held| held.modify == at.as_u64()),
                    Expected::Value(value) => held.is_some_and(|held| held.value == *value),
                };
                if holds {
                    set(model, revision, key, value, *lease);
                }
                holds
            }
            Operation::Get { .. } => false,
        };
    }
    changed
}

fn names(list: &[Operation], lease: LeaseId) -> bool {
    list.iter().any(|operation| {
        matches!(
            operation,
            Operation::Put { lease: named, .. } | Operation::CompareAndSet { lease: named, .. }
                if *named == Some(lease)
        )
    })
}

fn held(state: &StateMachine) -> Model {
    let entries = state.entries.values().map(|entry| {
        let Version::Strong {
            create,
            modify,
            count,
        } = entry.version
        else {
            panic!("an entry of the other mode");
        };
        let held = Held {
            value: entry.value.clone(),
            create: create.as_u64(),
            modify: modify.as_u64(),
            count,
            lease: entry.lease,
        };
        (entry.key.clone(), held)
    });
    entries.collect()
}

proptest! {
    #[test]
    fn transactions_do_what_a_naive_model_does(txns in prop::collection::vec(txn(), 1..40)) {
        let mut state = founding();
        let mut model = Model::new();
        for lease in [1, 2] {
            act(&mut state, 0, Body::Grant {
                id: Some(LeaseId::new(lease)),
                ttl_ms: 1_000,
                client: None,
            });
        }
        for txn in txns {
            let holds = txn.compares.iter().all(|one| is_equal(model.get(&one.key), one));
            let list = if holds { &txn.success } else { &txn.failure };
            let before = state.revision;
            let revision = before.next().as_u64();
            let answer = act(&mut state, 0, Body::Txn { txn: txn.clone(), client: None });
            if names(list, LeaseId::new(3)) {
                prop_assert_eq!(answer.result, Err(Denial::LeaseNotFound(LeaseId::new(3))));
                prop_assert_eq!(state.revision, before);
            } else {
                let changed = run(&mut model, revision, list);
                prop_assert_eq!(state.revision.as_u64(), before.as_u64() + u64::from(changed));
                let Ok(Outcome::TxnDone { succeeded, results }) = answer.result else {
                    panic!("not done");
                };
                prop_assert_eq!(succeeded, holds);
                prop_assert_eq!(results.len(), list.len());
            }
            prop_assert_eq!(held(&state), model.clone());
        }
    }
}

#[test]
fn results_show_what_each_operation_found_at_its_place_in_the_list() {
    let mut state = founding();
    let list = vec![
        put("a", "1"),
        Operation::Get { key: key("a") },
        put("a", "2"),
        Operation::Delete { key: key("a") },
        Operation::Get { key: key("a") },
        put("b", "3"),
        put("c", "4"),
        Operation::DeleteRange {
            range: KeyRange::all(),
        },
    ];
    let answer = act(
        &mut state,
        0,
        Body::Txn {
            txn: Txn {
                compares: Vec::new(),
                success: list,
                failure: Vec::new(),
            },
            client: None,
        },
    );
    let Ok(Outcome::TxnDone {
        succeeded: true,
        results,
    }) = answer.result
    else {
        panic!("not done");
    };
    let text = |entry: &Option<Entry>| {
        let entry = entry.as_ref().unwrap();
        String::from_utf8(entry.value.as_bytes().to_vec()).unwrap()
    };
    assert!(matches!(&results[1], OperationResult::Got { entry } if text(entry) == "1"));
    assert!(matches!(&results[3], OperationResult::Deleted { previous } if text(previous) == "2"));
    assert!(matches!(&results[4], OperationResult::Got { entry: None }));
    assert_eq!(results[7], OperationResult::RangeDeleted { count: 2 });
    assert_eq!(state.revision, Revision::new(1));
    assert_eq!(state.history.first().unwrap().events.len(), 7);
}
