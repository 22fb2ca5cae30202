//! Stories about a node's own log: when it goes on, when it may not, and that no dot is used twice.

use std::sync::Arc;

use quorumor_core::{Dot, Error, Input, LogId, Reply, Seq, Stamp, VersionVector};

use super::everyone_reads;
use crate::event::Event;
use crate::harness::{World, key, node, put, value};
use crate::message::{Part, StateChunk};
use crate::rng::Rng;
use crate::spread::offer;
use crate::vector::{Context, bucket_of};

fn log_of(vector: &VersionVector, writer: u64) -> LogId {
    let mut rows = vector.rows();
    rows.find(|row| row.0 == node(writer)).unwrap().1
}

#[test]
fn a_disk_put_back_while_nobody_can_tell_takes_writes_in_a_new_log() {
    let mut world = World::cluster(2, 30);
    let old = world.write(1, vec![put("x", "OLD 0")]);
    world.run_ms(1_500);
    let image = world.disk_image(1);
    for n in 1..=3 {
        world.write(1, vec![put("x", &format!("OLD {n}"))]);
    }
    world.until("spread", 1_000, World::agrees);
    world.partition(&[1], &[2]);
    world.crash(1);
    world.put_back(1, &image);
    world.restart(1);
    let calls: Vec<_> = (1..=3)
        .map(|n| world.begin_write(1, vec![put("y", &format!("NEW {n}"))]))
        .collect();
    world.run_ms(2_500);
    assert!(calls.iter().all(|call| world.answer(1, *call).is_none()));
    world.until("writable again", 600, |world| {
        calls.iter().all(|call| world.answer(1, *call).is_some())
    });
    let Some(Ok(Reply::Written { dot, .. })) = world.answer(1, calls[2]) else {
        panic!("{:?}", world.answer(1, calls[2]))
    };
    let dot = dot.unwrap().0;
    assert_eq!(dot.seq, Seq::new(3), "in the order in which they came");
    assert!(dot.log_id > log_of(&old, 1));
    assert_eq!(world.replica(1).counters().logs_doubted, 1);
    world.heal();
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "x", Some("OLD 3")));
    assert!(everyone_reads(&world, "y", Some("NEW 3")));
}

#[test]
fn a_node_that_restarts_among_others_goes_on_in_its_log_at_once() {
    let mut world = World::cluster(3, 31);
    let before = world.write(2, vec![put("a", "1")]);
    world.until("spread", 1_000, World::agrees);
    world.crash(2);
    world.restart(2);
    let started = world.ms();
    let after = world.write(2, vec![put("a", "2")]);
    assert!(world.ms() - started < 50, "{} ms", world.ms() - started);
    assert_eq!(log_of(&before, 2), log_of(&after, 2));
    let counters = world.replica(2).counters();
    assert_eq!((counters.logs_lost, counters.logs_doubted), (0, 0));
}

#[test]
fn a_node_without_peers_goes_on_in_its_log_at_once() {
    let mut world = World::cluster(1, 32);
    let before = world.write(1, vec![put("a", "1")]);
    world.crash(1);
    world.restart(1);
    let call = world.begin_write(1, vec![put("a", "2")]);
    world.run_ms(20);
    let Some(Ok(Reply::Written { dot, .. })) = world.answer(1, call) else {
        panic!("{:?}", world.answer(1, call))
    };
    assert_eq!(dot.unwrap().0.log_id, log_of(&before, 1));
}

#[test]
fn a_torn_end_means_a_new_log() {
    let mut world = World::cluster(2, 33);
    let before = world.write(1, vec![put("a", "1")]);
    world.until("spread", 1_000, World::agrees);
    world.crash(1);
    world.nodes.get_mut(&node(1)).unwrap().disk.torn = true;
    world.restart(1);
    let after = world.write(1, vec![put("b", "2")]);
    assert!(log_of(&after, 1) > log_of(&before, 1));
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("1")) && everyone_reads(&world, "b", Some("2")));
}

#[test]
fn a_write_that_waits_for_the_log_can_be_cancelled_and_reads_do_not_wait() {
    let mut world = World::cluster(2, 34);
    let token = world.write(2, vec![put("a", "1")]);
    world.until("spread", 1_000, World::agrees);
    world.partition(&[1], &[2]);
    world.crash(2);
    world.restart(2);
    let gone = world.begin_write(2, vec![put("a", "gone")]);
    let kept = world.begin_write(2, vec![put("b", "kept")]);
    let read = world.barrier(2, &token);
    assert!(matches!(
        world.answer(2, read),
        Some(Ok(Reply::ReadReady { .. }))
    ));
    world.input(2, Input::Cancel { call: gone });
    world.until("writable again", 3_100, |world| {
        world.answer(2, kept).is_some()
    });
    assert!(world.answer(2, gone).is_none());
    assert_eq!(world.read(2, "a").as_deref(), Some("1"));
}

#[test]
fn a_state_that_knows_more_of_this_log_than_this_node_ends_the_log() {
    let mut world = World::cluster(2, 35);
    let before = world.write(1, vec![put("a", "1")]);
    world.until("spread", 1_000, World::agrees);
    let log = log_of(&before, 1);
    let open = world.begin_write(1, vec![put("b", "open")]);
    let mut vector = before.clone();
    vector.raise(node(1), log, Seq::new(2));
    let chunk = StateChunk {
        floor: None,
        transfer: 1,
        index: 0,
        registers: Vec::new(),
        vector: Some(vector),
    };
    world.tell(1, 2, &Part::State(chunk));
    assert!(matches!(
        world.answer(1, open),
        Some(Err(Error::OutcomeUnknown { .. }))
    ));
    assert_eq!(world.replica(1).counters().logs_lost, 1);
    let after = world.write(1, vec![put("b", "2")]);
    assert!(log_of(&after, 1) > log);
    assert_eq!(world.read(1, "b").as_deref(), Some("2"));
}

#[test]
fn a_peer_that_lags_does_not_say_that_the_log_is_whole() {
    let mut world = World::cluster(2, 40);
    world.run_ms(1_500);
    let less = world.write(1, vec![put("a", "1")]);
    let all = world.write(1, vec![put("a", "2")]);
    world.partition(&[1], &[2]);
    world.crash(1);
    world.restart(1);
    let call = world.begin_write(1, vec![put("a", "3")]);
    let knows = |vector: &VersionVector| Part::Vector {
        reply: false,
        vector: vector.clone(),
    };
    world.tell(1, 2, &knows(&less));
    world.run_ms(500);
    assert!(world.answer(1, call).is_none());
    world.tell(1, 2, &knows(&all));
    world.run_ms(500);
    let Some(Ok(Reply::Written { dot, .. })) = world.answer(1, call) else {
        panic!("{:?}", world.answer(1, call))
    };
    assert_eq!(dot.unwrap().0.log_id, log_of(&all, 1));
}

#[test]
fn however_a_peer_shows_more_of_this_log_than_this_node_has_the_log_ends() {
    let shown: [fn(&Arc<Event>) -> Part; 6] = [
        |event| Part::Rumors(vec![Arc::clone(event)]),
        |event| Part::Announce(vec![event.dot]),
        |event| Part::Offers(vec![offer(event)]),
        |event| Part::Delta {
            more: false,
            events: vec![Arc::clone(event)],
        },
        |event| Part::Vector {
            reply: false,
            vector: [event.dot].into_iter().collect(),
        },
        |event| Part::Rows {
            reply: false,
            buckets: vec![bucket_of(event.dot.writer, event.dot.log_id)],
            vector: [event.dot].into_iter().collect(),
        },
    ];
    for (at, part) in shown.into_iter().enumerate() {
        let mut world = World::cluster(2, 41);
        let before = world.write(1, vec![put("a", "1")]);
        let log_id = log_of(&before, 1);
        let dot = Dot {
            writer: node(1),
            log_id,
            seq: Seq::new(2),
        };
        let stamp = Stamp::from_wall_ms(1_700_000_000_000);
        let lost = (Some(value("lost")), None);
        let event = Arc::new(Event::new(dot, stamp, key("b"), lost, Context::default()));
        world.tell(1, 2, &part(&event));
        assert_eq!(world.replica(1).counters().logs_lost, 1, "part {at}");
        let after = world.write(1, vec![put("b", "2")]);
        assert!(log_of(&after, 1) > log_id, "part {at}");
    }
}

#[test]
fn disks_put_back_at_random_leave_all_nodes_equal() {
    let mut begun = 0;
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut world = World::cluster(3, 700 + seed);
        for round in 0..6 {
            let id = 1 + rng.below(3);
            // Long enough for the addresses of peers to be on the disk.
            world.run_ms(1_100);
            let image = world.disk_image(id);
            for n in 0..1 + rng.below(5) {
                world.write(id, vec![put("x", &format!("old {round}.{n}"))]);
            }
            world.until("spread", 1_000, World::agrees);
            let others: Vec<u64> = (1..=3).filter(|other| *other != id).collect();
            let cut = 1 + rng.index(2);
            world.partition(&[id], &others[..cut]);
            world.crash(id);
            world.put_back(id, &image);
            world.restart(id);
            for n in 0..rng.below(7) {
                world.begin_write(id, vec![put("x", &format!("new {round}.{n}"))]);
                world.run_ms(rng.below(600));
            }
            world.heal();
            world.until("agreement", 10_000, World::agrees);
        }
        let counters = world.ids().into_iter().map(|id| {
            let counters = world.replica(id).counters();
            counters.logs_lost + counters.logs_doubted
        });
        begun += counters.sum::<u64>();
    }
    assert!(begun > 20, "only {begun} logs were begun");
}
