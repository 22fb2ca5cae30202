//! The plan repeats by seed, keeps its rate and mix, and never lets too many processes meet on a key.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SECONDS: u64 = 1_000_000;

#[test]
fn the_same_seed_gives_the_same_plan_and_another_does_not() {
    let plan = |seed| Plan::new(&Workload::default(), 5, seed, 10 * SECONDS);
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1).ops, plan(2).ops);
}

#[test]
fn rate_mix_and_clients_are_as_asked() {
    let workload = Workload {
        mix: Mix {
            put: 300,
            delete: 100,
            cas: 100,
            ..Mix::default()
        },
        ..Workload::default()
    };
    let plan = Plan::new(&workload, 5, 3, 100 * SECONDS);
    assert_eq!(plan.ops.len(), 20_000);
    assert!(plan.ops.is_sorted_by_key(|op| op.due_us));
    let share = |is: fn(&Action) -> bool| plan.ops.iter().filter(|op| is(&op.action)).count();
    let puts = share(|action| matches!(action, Action::Put(_)));
    let gets = share(|action| matches!(action, Action::Get));
    assert!((5_700..6_300).contains(&puts), "{puts}");
    assert!((9_600..10_400).contains(&gets), "{gets}");
    let clients: BTreeSet<_> = plan.ops.iter().map(|op| op.client).collect();
    assert_eq!(clients.len(), 20);
    let nodes: BTreeSet<_> = plan.ops.iter().map(|op| op.node).collect();
    assert_eq!(nodes.len(), 5);
}

#[test]
fn values_are_unique_and_few_processes_share_a_key() {
    let plan = Plan::new(&Workload::default(), 5, 4, 40 * SECONDS);
    let mut values = BTreeSet::new();
    let mut users: BTreeMap<&str, BTreeSet<(ClientId, u32)>> = BTreeMap::new();
    let mut nodes: BTreeMap<&str, BTreeSet<NodeId>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for op in &plan.ops {
        assert!(
            op.action
                .written()
                .is_none_or(|value| values.insert(value.to_owned()))
        );
        users
            .entry(&op.key)
            .or_default()
            .insert((op.client, op.lane));
        nodes.entry(&op.key).or_default().insert(op.node);
        *counts.entry(&op.key).or_default() += 1;
    }
    assert!(
        users
            .values()
            .all(|users| users.len() <= PROCESSES_PER_KEY as usize)
    );
    assert!(
        counts
            .values()
            .all(|&count| count <= Workload::default().ops_per_key)
    );
    assert!(
        nodes.values().filter(|nodes| nodes.len() == 5).count() * 2 > nodes.len(),
        "keys must be shared widely"
    );
    assert!(plan.keys().len() > 16, "keys must rotate");
}

#[test]
fn fixed_arrivals_are_evenly_spaced() {
    let workload = Workload {
        arrivals: Arrivals::Fixed,
        rate: 100,
        ..Workload::default()
    };
    let plan = Plan::new(&workload, 3, 1, SECONDS);
    assert_eq!(plan.ops.len(), 100);
    assert!(
        plan.ops
            .windows(2)
            .all(|pair| pair[1].due_us - pair[0].due_us == 10_000)
    );
}

#[test]
fn a_key_is_retired_only_when_its_last_operation_must_be_over() {
    let plan = Plan::new(&Workload::default(), 5, 4, 40 * SECONDS);
    assert!(plan.keys_retired_before(0).is_empty());
    let at = 35 * SECONDS;
    let retired: BTreeSet<_> = plan.keys_retired_before(at).into_iter().collect();
    assert!(!retired.is_empty());
    let later = plan
        .ops
        .iter()
        .filter(|op| op.due_us + Workload::default().timeout_us >= at);
    assert!(later.into_iter().all(|op| !retired.contains(&op.key)));
}

#[test]
fn the_busiest_node_is_the_one_with_most_operations() {
    let plan = Plan::new(&Workload::default(), 5, 4, 10 * SECONDS);
    let busiest = plan.busiest_node(0, 5 * SECONDS).unwrap();
    let count = |node| {
        plan.ops
            .iter()
            .filter(|op| op.node == node && op.due_us < 5 * SECONDS)
            .count()
    };
    assert!((1..=5).all(|node| count(NodeId(node)) <= count(busiest)));
    assert_eq!(plan.busiest_node(0, 0), None);
}
