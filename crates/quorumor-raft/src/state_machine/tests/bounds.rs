//! What one entry may do at most, so that none holds up the others.

use quorumor_core::limits::{DELETE_RANGE_KEYS_MAX, LEASE_KEYS_MAX};

use super::*;

fn write(operations: Vec<Operation>) -> Body {
    Body::Write {
        operations,
        client: None,
    }
}

fn bound(name: &str, lease: LeaseId) -> Operation {
    Operation::Put {
        key: key(name),
        value: Value::parse(Bytes::new()).unwrap(),
        context: None,
        lease: Some(lease),
    }
}

/// A lease that ends after a second, with that many keys.
fn filled(state: &mut StateMachine, number: u64, keys: usize) -> LeaseId {
    let lease = LeaseId::new(number);
    let grant = Body::Grant {
        id: Some(lease),
        ttl_ms: 1_000,
        client: None,
    };
    assert!(act(state, 0, grant).result.is_ok());
    let names: Vec<usize> = (0..keys).collect();
    for names in names.chunks(4_000) {
        let puts = names
            .iter()
            .map(|i| bound(&format!("{number}/{i:05}"), lease));
        assert!(act(state, 0, write(puts.collect())).result.is_ok());
    }
    lease
}

#[test]
fn a_range_or_lease_of_too_many_keys_for_one_step_is_refused_whole() {
    let mut state = founding();
    let lease = filled(&mut state, 7, LEASE_KEYS_MAX);
    let before = state.clone();
    let more = write(vec![put("a", "1"), bound("more", lease)]);
    assert_eq!(act(&mut state, 1, more).result, Err(Denial::LeaseKeysMax));
    assert_eq!(state.entries, before.entries);
    let again = write(vec![bound("7/00000", lease)]);
    assert!(act(&mut state, 1, again).result.is_ok(), "it is in there");

    let fill = write(vec![put("8/1", "1")]);
    assert!(act(&mut state, 1, fill).result.is_ok());
    let delete = |prefix: &str| Operation::DeleteRange {
        range: KeyRange::prefix(prefix).unwrap(),
    };
    assert_eq!(DELETE_RANGE_KEYS_MAX, LEASE_KEYS_MAX);
    let before = state.clone();
    let both = write(vec![put("a", "1"), delete("7/"), delete("8/")]);
    let refused = act(&mut state, 1, both).result;
    assert_eq!(refused, Err(Denial::DeleteRangeKeysMax));
    assert_eq!(state.entries, before.entries);
    assert_eq!(state.revision, before.revision);
    assert!(act(&mut state, 1, write(vec![delete("7/")])).result.is_ok());
    assert_eq!(state.entries.len(), 1);
}

#[test]
fn leases_that_end_together_do_so_in_several_steps_if_they_have_many_keys() {
    let mut state = founding();
    let half = LEASE_KEYS_MAX / 2;
    let leases: Vec<LeaseId> = (1..=3).map(|n| filled(&mut state, n, half)).collect();
    let expire = Body::Expire {
        leases: leases.clone(),
    };
    act(&mut state, 5_000, expire.clone());
    assert_eq!(state.entries.len(), half, "two of three");
    assert!(state.leases.is_due(leases[2], state.log_time));
    act(&mut state, 5_000, expire);
    assert!(state.entries.is_empty() && state.leases.is_empty());
}
