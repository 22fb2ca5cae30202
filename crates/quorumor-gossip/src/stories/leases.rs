//! Stories about leases that are not told in `testdata`.

use quorumor_core::{Command, LeaseAction, LeaseId};

use crate::harness::{World, put, put_under};
use crate::timers::Timer;

fn keep(world: &mut World, id: u64, leases: &[LeaseId]) {
    for lease in leases {
        let action = LeaseAction::KeepAlive { id: *lease };
        world.request(id, Command::Lease(action), None);
    }
}

fn timers(world: &World, id: u64) -> usize {
    world.replica(id).timers.count(Timer::Lease)
}

#[test]
fn many_leases_wake_their_owner_by_one_timer() {
    let mut world = World::cluster(1, 60);
    let leases: Vec<LeaseId> = (0..20).map(|_| world.grant(1, 5_000)).collect();
    assert_eq!(timers(&world, 1), 1);
    for _ in 0..20 {
        world.run_ms(1_000);
        keep(&mut world, 1, &leases);
        assert_eq!(timers(&world, 1), 1);
    }
    assert_eq!(world.view(1).leases.len(), 20);
    world.run_ms(6_000);
    assert_eq!(world.view(1).leases.len(), 0);
    assert_eq!(timers(&world, 1), 0);
}

#[test]
fn a_timer_that_a_shorter_lease_replaced_wakes_nobody_again() {
    let mut world = World::cluster(1, 61);
    let leases: Vec<LeaseId> = (0..20)
        .map(|n| world.grant(1, 30_000 - n * 1_000))
        .collect();
    for _ in 0..40 {
        world.run_ms(1_000);
        keep(&mut world, 1, &leases);
    }
    // Those that were set while the leases were granted have passed.
    assert_eq!(timers(&world, 1), 1);
    assert_eq!(world.view(1).leases.len(), 20);
}

#[test]
fn entries_of_an_owner_whom_nobody_knows_stay_as_long_as_those_of_one_who_is_away() {
    let mut world = World::new(62);
    world.reap_ms = Some(300_000);
    world.start(1);
    world.start(2);
    world.run_ms(1_000);
    let lease = world.grant(2, 60_000);
    world.write(2, vec![put_under(lease, "a", "1")]);
    world.until("seen", 1_000, |world| world.read(1, "a").is_some());
    // With an own write what others wrote is synced too.
    world.write(1, vec![put("b", "1")]);
    world.crash(2);
    world.crash(1);
    world.restart(1);
    let restarted = world.ms();
    assert_eq!(world.state(1, 2), None);
    // As if it were known to be down: hidden, and its owner may come back until then.
    assert_eq!(world.read(1, "a"), None);
    world.run_ms(400_000);
    assert_eq!((world.read(1, "a"), world.view(1).leases.len()), (None, 1));
    world.until("buried", 300_000, |world| world.view(1).leases.is_empty());
    assert!(world.ms() - restarted > 400_000);
}

#[test]
fn after_a_restart_entries_of_a_lease_are_shown_once_its_owner_is_heard_of() {
    let mut world = World::cluster(2, 64);
    let lease = world.grant(2, 600_000);
    world.write(2, vec![put_under(lease, "a", "1")]);
    world.until("seen", 2_000, |world| world.read(1, "a").is_some());
    world.write(1, vec![put("b", "1")]);
    world.partition(&[1], &[2]);
    world.crash(1);
    world.restart(1);
    world.run_ms(2_000);
    assert_eq!(world.read(1, "a"), None);
    world.heal();
    world.until("shown", 20_000, |world| {
        world.read(1, "a").as_deref() == Some("1")
    });
}

#[test]
fn the_end_of_a_lease_takes_nothing_that_was_bound_to_the_next_one_meanwhile() {
    let mut world = World::cluster(3, 63);
    let first = world.grant(1, 3_000);
    world.write(1, vec![put_under(first, "svc/web", "old")]);
    world.until("seen", 2_000, |world| world.read(2, "svc/web").is_some());
    let second = world.grant(2, 60_000);
    world.partition(&[1], &[2, 3]);
    world.write(2, vec![put_under(second, "svc/web", "new")]);
    // The first lease runs out where nobody knows of the second.
    world.run_ms(4_000);
    assert_eq!(world.read(1, "svc/web"), None);
    world.heal();
    world.until("everywhere", 20_000, |world| {
        [1, 2, 3]
            .iter()
            .all(|id| world.read(*id, "svc/web").as_deref() == Some("new"))
    });
    world.run_ms(5_000);
    assert_eq!(world.read(1, "svc/web").as_deref(), Some("new"));
}

/// The clock of the first owner had run ahead, so that only what writes had seen orders them: just above it.
#[test]
fn the_end_of_a_lease_beats_no_write_that_had_seen_what_it_removes() {
    let mut world = World::cluster(3, 64);
    world.jump_clock(3, 100_000);
    let first = world.grant(3, 3_000);
    world.write(3, vec![put_under(first, "svc/web", "old")]);
    world.jump_clock(3, -100_000);
    world.until("seen", 2_000, |world| world.read(1, "svc/web").is_some());
    let second = world.grant(1, 60_000);
    world.partition(&[3], &[1, 2]);
    world.write(1, vec![put_under(second, "svc/web", "new")]);
    world.run_ms(4_000);
    assert_eq!(world.read(3, "svc/web"), None);
    world.heal();
    world.until("everywhere", 20_000, |world| {
        [1, 2, 3]
            .iter()
            .all(|id| world.read(*id, "svc/web").as_deref() == Some("new"))
    });
}
