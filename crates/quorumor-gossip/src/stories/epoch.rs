//! Stories about the epoch of the data: the highest that anybody raised it to is everyone's, and stays so.

use proptest::prelude::*;
use quorumor_core::{CallId, ClusterAction, Command, DataEpoch, Reply};

use crate::harness::{World, put};

fn epoch(world: &World, id: u64) -> u64 {
    world.view(id).status.epoch.as_u64()
}

fn ask(world: &mut World, id: u64, above: Option<u64>) -> CallId {
    let above = above.map(DataEpoch::new);
    world.request(
        id,
        Command::Cluster(ClusterAction::AdvanceEpoch { above }),
        None,
    )
}

/// Raises it at a node, and gives what that node shows once it is answered.
fn raise(world: &mut World, id: u64, above: Option<u64>) -> u64 {
    let call = ask(world, id, above);
    world.until("it is answered", 1_000, |world| {
        world.answer(id, call).is_some()
    });
    let answer = world.answer(id, call);
    assert!(
        matches!(answer, Some(Ok(Reply::ClusterChanged { .. }))),
        "{answer:?}"
    );
    epoch(world, id)
}

fn everywhere(world: &World, wanted: u64) -> bool {
    world.ids().into_iter().all(|id| epoch(world, id) == wanted)
}

#[test]
fn an_epoch_spreads_and_readers_see_nothing_of_its_key() {
    let mut world = World::cluster(3, 71);
    assert!(everywhere(&world, 0));
    assert_eq!(raise(&mut world, 2, Some(0)), 1);
    assert_eq!(raise(&mut world, 2, Some(0)), 1);
    world.until("everywhere", 2_000, |world| everywhere(world, 1));
    assert_eq!(raise(&mut world, 3, None), 2);
    world.until("everywhere", 2_000, |world| everywhere(world, 2));
    for id in world.ids() {
        let view = world.view(id);
        assert_eq!((view.entries.len(), view.leases.len()), (0, 0));
    }
}

#[test]
fn of_epochs_raised_on_both_sides_of_a_partition_the_highest_wins() {
    let mut world = World::cluster(4, 72);
    world.partition(&[1, 2], &[3, 4]);
    assert_eq!(raise(&mut world, 3, Some(40)), 41);
    world.run_ms(50);
    // Written later, by a clock, and lower.
    assert_eq!(raise(&mut world, 1, None), 1);
    world.run_ms(500);
    world.heal();
    world.until("everywhere", 10_000, |world| everywhere(world, 41));
    assert_eq!(raise(&mut world, 1, None), 42);
    world.until("everywhere", 2_000, |world| everywhere(world, 42));
}

#[test]
fn an_epoch_survives_crashes_and_reaches_who_comes_later() {
    let mut world = World::cluster(3, 73);
    assert_eq!(raise(&mut world, 1, Some(6)), 7);
    world.until("everywhere", 2_000, |world| everywhere(world, 7));
    // With an own write what others wrote is synced too.
    for id in world.ids() {
        world.write(id, vec![put("a", "1")]);
    }
    for id in [1, 2, 3] {
        world.crash(id);
    }
    for id in [1, 2, 3] {
        world.restart(id);
        assert_eq!(epoch(&world, id), 7, "node {id}");
    }
    world.start(4);
    world.until("the new one has it", 10_000, |world| everywhere(world, 7));
}

#[test]
fn an_epoch_is_kept_when_the_keys_of_those_before_are_collected() {
    let mut world = World::new(74);
    world.hurried = true;
    world.grace_ms = Some(1);
    for id in [1, 2, 3] {
        world.start(id);
    }
    world.run_ms(2_000);
    for round in 1..=5 {
        assert_eq!(raise(&mut world, 1 + round % 3, Some(round - 1)), round);
        world.until("everywhere", 5_000, |world| everywhere(world, round));
    }
    world.until("collected", 120_000, |world| {
        world
            .ids()
            .into_iter()
            .all(|id| world.replica(id).store.tombstones() == 0)
    });
    let kept = world.replica(1).store.registers().len();
    assert_eq!(kept, 1, "the last one's key alone");
    for id in [1, 2, 3] {
        world.write(id, vec![put("a", "1")]);
        world.crash(id);
        world.restart(id);
        assert_eq!(epoch(&world, id), 5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever raises it, cut off or not, and whoever crashes: no node's epoch goes back while it lives, and all come to agree on the
    /// highest.
    #[test]
    fn no_epoch_goes_back(
        seed in 0..1_000_u64,
        steps in prop::collection::vec((1..4_u64, prop::option::of(0..6_u64), any::<bool>()), 1..12),
    ) {
        let mut world = World::cluster(3, seed);
        let mut highest = 0;
        let mut seen = [0; 3];
        for (id, above, cut) in steps {
            if cut {
                world.partition(&[id], &[1 + id % 3, 1 + (id + 1) % 3]);
            } else {
                world.heal();
            }
            highest = raise(&mut world, id, above).max(highest);
            world.run_ms(seed % 40);
            for (at, before) in seen.iter_mut().enumerate() {
                let now = epoch(&world, at as u64 + 1);
                prop_assert!(now >= *before);
                *before = now;
            }
        }
        world.heal();
        world.until("all agree", 20_000, |world| everywhere(world, highest));
    }
}
