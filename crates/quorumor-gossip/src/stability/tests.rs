//! What a node confirms, and that cuts are told apart by all of their names.

use std::sync::Arc;

use quorumor_core::{Dot, LogId, Seq, Stamp, VersionVector};

use super::{Cut, CutId, Stable};
use crate::durability::confirmed_record;
use crate::event::Event;
use crate::harness::{World, key, node, put, value};
use crate::message::{Part, StateChunk};
use crate::vector::Context;

fn named(number: u64, proposer: u64) -> CutId {
    CutId {
        number,
        proposer: Some(node(proposer)),
        nonce: 1,
    }
}

/// A cut that asks nodes 1 and 2.
fn cut(id: CutId, base: Stable, vector: VersionVector) -> Cut {
    Cut {
        id,
        base,
        vector,
        members: vec![node(1), node(2)],
        bits: vec![0],
    }
}

fn stable(id: CutId, before: CutId) -> Stable {
    Stable {
        id,
        before,
        ..Stable::default()
    }
}

/// Node 2 hears of this cut from node 1.
fn propose(world: &mut World, cut: &Cut) {
    world.tell(2, 1, &Part::Cut(Box::new(cut.clone())));
}

/// Node 1 says that it has confirmed this cut.
fn confirm(world: &mut World, cut: CutId) {
    let part = Part::CutBits {
        cut,
        offset: 0,
        bits: vec![0b01],
    };
    world.tell(2, 1, &part);
}

/// Whether node 2 has confirmed this cut.
fn is_confirmed(world: &World, id: CutId) -> bool {
    let open = world.replica(2).stability.open.as_ref();
    open.is_some_and(|open| open.cut.id == id && open.cut.is_set(1))
}

/// A pair of which node 2 hears only what the test says, and knows no more than its disk.
fn pair(seed: u64) -> World {
    let mut world = World::cluster(2, seed);
    world.write(1, vec![put("before", "1")]);
    world.until("spread", 1_000, World::agrees);
    world.write(2, vec![put("synced", "1")]);
    world.until("spread", 1_000, World::agrees);
    world.partition(&[1], &[2]);
    world
}

fn known(world: &World) -> VersionVector {
    world.replica(2).store.known().vector().clone()
}

fn foreign(seq: u64) -> Arc<Event> {
    let dot = Dot {
        writer: node(9),
        log_id: LogId::new(1),
        seq: Seq::new(seq),
    };
    let stamp = Stamp::from_wall_ms(1_700_000_000_000 + seq);
    let content = (Some(value("1")), None);
    Arc::new(Event::new(
        dot,
        stamp,
        key("foreign"),
        content,
        Context::default(),
    ))
}

/// Node 2 learns a write of another node, which goes to its disk some time.
fn learn(world: &mut World, seq: u64) {
    let part = Part::Delta {
        more: false,
        events: vec![foreign(seq)],
    };
    world.tell(2, 1, &part);
}

#[test]
fn bits_are_joined_and_the_missing_are_named() {
    let mut cut = Cut {
        id: CutId::default(),
        base: Stable::default(),
        vector: VersionVector::new(),
        members: (1..=10).map(node).collect(),
        bits: vec![0; 2],
    };
    cut.confirm(node(3));
    assert!(cut.merge(1, &[0b11]) || !cut.is_full());
    assert!(cut.merge(0, &[0]), "it has a bit that the sender lacks");
    assert!(!cut.merge(0, &[0xff]));
    assert!(cut.is_full());
    let mut other = cut.clone();
    other.bits = vec![0xff, 0b01];
    assert_eq!(other.missing().collect::<Vec<_>>(), vec![node(10)]);
}

#[test]
fn a_cut_is_confirmed_once_all_of_it_is_durable() {
    let mut world = pair(80);
    learn(&mut world, 1);
    let cut = cut(named(1, 1), Stable::default(), known(&world));
    propose(&mut world, &cut);
    assert!(!is_confirmed(&world, cut.id));
    world.run_ms(50);
    assert!(is_confirmed(&world, cut.id));
    world.crash(2);
    world.restart(2);
    assert!(known(&world).covers(&cut.vector));
}

#[test]
fn a_restarted_node_confirms_no_cut_without_its_own_earlier_writes() {
    let mut world = pair(81);
    let before = known(&world);
    world.write(2, vec![put("own", "1")]);
    world.crash(2);
    world.restart(2);
    let without = cut(named(1, 1), Stable::default(), before);
    propose(&mut world, &without);
    world.run_ms(50);
    assert!(!is_confirmed(&world, without.id));
    let with = cut(named(2, 1), Stable::default(), known(&world));
    propose(&mut world, &with);
    world.run_ms(50);
    assert!(is_confirmed(&world, with.id));
}

#[test]
fn a_restarted_node_confirms_again_only_what_is_durable_now() {
    let mut world = pair(82);
    let mut image = world.disk_image(2);
    learn(&mut world, 1);
    let cut = cut(named(1, 1), Stable::default(), known(&world));
    // A confirmation is written anew with each compaction, whether what it needs is durable by then or not.
    image.records.push(confirmed_record(cut.id));
    world.crash(2);
    world.put_back(2, &image);
    world.restart(2);
    assert!(!known(&world).covers(&cut.vector));
    learn(&mut world, 1);
    propose(&mut world, &cut);
    assert!(!is_confirmed(&world, cut.id));
    world.run_ms(50);
    assert!(is_confirmed(&world, cut.id));
    world.crash(2);
    world.restart(2);
    assert!(known(&world).covers(&cut.vector));
}

#[test]
fn what_is_confirmed_at_the_end_of_a_checkpoint_survives_a_crash() {
    let mut world = pair(83);
    learn(&mut world, 1);
    let two = world.nodes.get_mut(&node(2)).unwrap();
    two.replica.as_mut().unwrap().sync.checkpoint_wanted = true;
    // The checkpoint begins with this one, and lacks the next.
    learn(&mut world, 2);
    learn(&mut world, 3);
    let cut = cut(named(1, 1), Stable::default(), known(&world));
    propose(&mut world, &cut);
    assert!(!is_confirmed(&world, cut.id));
    world.run_ms(100);
    assert_eq!(world.replica(2).counters().checkpoints, 1);
    assert!(is_confirmed(&world, cut.id));
    world.crash(2);
    world.restart(2);
    assert!(known(&world).covers(&cut.vector));
}

#[test]
fn a_state_that_was_installed_is_durable_with_a_checkpoint_that_began_later() {
    let mut world = pair(87);
    let two = world.nodes.get_mut(&node(2)).unwrap();
    two.replica.as_mut().unwrap().sync.checkpoint_wanted = true;
    learn(&mut world, 1);
    let vector = [foreign(5).dot].into_iter().collect();
    let chunk = StateChunk {
        transfer: 1,
        index: 0,
        registers: Vec::new(),
        vector: Some(vector),
        floor: None,
    };
    world.tell(2, 1, &Part::State(chunk));
    let cut = cut(named(1, 1), Stable::default(), known(&world));
    assert!(cut.vector.covers_dot(foreign(5).dot));
    propose(&mut world, &cut);
    world.until("confirmed", 100, |world| is_confirmed(world, cut.id));
    world.crash(2);
    world.restart(2);
    assert!(known(&world).covers(&cut.vector));
}

#[test]
fn bits_of_another_cut_of_the_same_number_confirm_nothing() {
    let mut world = pair(84);
    let cut = cut(named(1, 1), Stable::default(), known(&world));
    propose(&mut world, &cut);
    world.run_ms(50);
    assert!(is_confirmed(&world, cut.id));
    confirm(&mut world, named(1, 3));
    assert_eq!(world.replica(2).stability.stable.id, CutId::default());
    confirm(&mut world, cut.id);
    assert_eq!(world.replica(2).stability.stable.id, cut.id);
}

#[test]
fn a_node_confirms_one_cut_of_a_number_in_all_its_lives() {
    let mut world = pair(85);
    let first = cut(named(1, 1), Stable::default(), known(&world));
    let second = cut(named(1, 3), Stable::default(), known(&world));
    propose(&mut world, &first);
    world.run_ms(50);
    assert!(is_confirmed(&world, first.id));
    world.crash(2);
    world.restart(2);
    propose(&mut world, &second);
    world.run_ms(50);
    assert!(!is_confirmed(&world, second.id));
}

#[test]
fn nobody_collects_by_a_cut_that_follows_another_of_the_same_number() {
    let mut world = pair(86);
    let own = cut(named(1, 1), Stable::default(), known(&world));
    propose(&mut world, &own);
    world.run_ms(50);
    confirm(&mut world, own.id);
    assert_eq!(world.replica(2).stability.stable.id, own.id);
    let (theirs, next) = (named(1, 3), named(2, 3));
    let following = cut(next, stable(theirs, CutId::default()), known(&world));
    propose(&mut world, &following);
    let two = &world.replica(2).stability;
    assert!(two.open.is_none() && two.whole_asked_at.is_some());
    world.tell(2, 1, &Part::Stable(Box::new(stable(next, theirs))));
    assert_eq!(world.replica(2).stability.stable.id, own.id);
    world.tell(2, 1, &Part::Stable(Box::new(stable(next, own.id))));
    assert_eq!(world.replica(2).stability.stable.id, next);
}
