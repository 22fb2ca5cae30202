//! Stories about writes whose callers wait until others hold them.

use quorumor_core::{Operation, Reply, Value};

use crate::harness::{World, key, put};

#[test]
fn a_member_that_was_only_offered_a_value_does_not_count() {
    let mut world = World::cluster(3, 50);
    let big = Value::parse(vec![7; 4_096].into()).unwrap();
    let operation = Operation::Put {
        lease: None,
        key: key("big"),
        value: big.clone(),
        context: None,
    };
    let holds = |world: &World, id: u64| {
        let view = world.view(id);
        view.entry(&key("big"))
            .is_some_and(|entry| entry.value == big)
    };
    // Offers go by datagram, and what is asked for by stream.
    world.streams_cut = true;
    let call = world.begin_held(1, operation, 2);
    world.run_ms(1_000);
    assert!(holds(&world, 1) && !holds(&world, 2) && !holds(&world, 3));
    assert!(world.answer(1, call).is_none());
    world.streams_cut = false;
    world.until("held by another", 5_000, |world| {
        world.answer(1, call).is_some()
    });
    assert!(holds(&world, 2) || holds(&world, 3));
    assert!(matches!(
        world.answer(1, call),
        Some(Ok(Reply::Written { .. }))
    ));
}

#[test]
fn one_member_counts_once_however_often_it_says_so() {
    let mut world = World::cluster(3, 52);
    world.partition(&[3], &[1, 2]);
    let call = world.begin_held(1, put("a", "1"), 3);
    world.run_ms(2_000);
    assert_eq!(world.read(2, "a").as_deref(), Some("1"));
    assert!(world.answer(1, call).is_none());
    world.heal();
    world.until("held by all", 5_000, |world| {
        world.answer(1, call).is_some()
    });
    assert_eq!(world.read(3, "a").as_deref(), Some("1"));
}
