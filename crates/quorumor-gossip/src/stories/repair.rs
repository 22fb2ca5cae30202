//! Stories about crashes, disks, partitions and loss.

use bytes::Bytes;
use quorumor_core::{Contact, Input, LogId, MemberState, Operation, Reply, Value, VersionVector};

use super::everyone_reads;
use crate::harness::{World, key, node, put};

#[test]
fn acknowledged_writes_survive_crashes_and_no_dot_is_reused() {
    for seed in 0..20 {
        let mut world = World::cluster(3, 100 + seed);
        let mut acked = Vec::new();
        let mut dots = std::collections::BTreeSet::new();
        for round in 0..5u64 {
            let calls: Vec<_> = (0..7)
                .map(|n| {
                    let name = format!("k{round}.{n}");
                    (name.clone(), world.begin_write(2, vec![put(&name, &name)]))
                })
                .collect();
            world.run_ms(1 + seed % 4);
            for (name, call) in calls {
                if let Some(Ok(Reply::Written { dot, .. })) = world.answer(2, call) {
                    assert!(dots.insert(dot.unwrap().0), "a dot was used twice");
                    acked.push(name);
                }
            }
            world.crash(2);
            world.restart(2);
            for name in &acked {
                assert_eq!(world.read(2, name).as_ref(), Some(name), "seed {seed}");
            }
        }
        world.until("agreement", 10_000, World::agrees);
        for name in &acked {
            assert!(everyone_reads(&world, name, Some(name)));
        }
    }
}

#[test]
fn both_sides_of_a_partition_write_and_converge_without_help() {
    for seed in 0..10 {
        let mut world = World::cluster(5, 200 + seed);
        world.partition(&[1, 2], &[3, 4, 5]);
        let mut expected = Vec::new();
        for n in 0..150u64 {
            for id in [1, 2, 3, 4, 5] {
                let name = format!("own.{id}.{n}");
                world.begin_write(id, vec![put(&name, &name), put("shared", &name)]);
                expected.push(name);
            }
            world.run_ms(100);
        }
        world.heal();
        let ms = world.until("agreement", 5_000, World::agrees);
        assert!(ms <= 3_000, "seed {seed}: {ms} ms");
        for name in &expected {
            assert!(
                everyone_reads(&world, name, Some(name)),
                "seed {seed}: {name}"
            );
        }
        world.until("all alive", 10_000, |world| {
            (1..=5).all(|id| world.count(id, MemberState::Alive) == 5)
        });
    }
}

#[test]
fn heavy_loss_slows_but_converges() {
    let mut world = World::cluster(7, 14);
    world.loss_permille = 300;
    for n in 0..100u64 {
        world.begin_write(
            1 + n % 7,
            vec![put(&format!("k{}", n % 30), &format!("v{n}"))],
        );
        world.run_ms(20);
    }
    world.until("agreement under loss", 6_000, World::agrees);
    world.loss_permille = 0;
    world.run_ms(60_000);
    assert!((1..=7).all(|id| world.count(id, MemberState::Alive) == 7));
}

#[test]
fn big_values_are_pulled_by_stream() {
    let mut world = World::cluster(4, 15);
    let big = Value::parse(Bytes::from(vec![7; 1024 * 1024])).unwrap();
    let operation = |name: &str| Operation::Put {
        lease: None,
        key: key(name),
        value: big.clone(),
        context: None,
    };
    world.write(2, vec![operation("big"), put("small", "1")]);
    world.write(2, vec![operation("big2")]);
    world.until("seen by all", 3_000, |world| {
        let has = |id: u64| {
            world
                .view(id)
                .entry(&key("big2"))
                .is_some_and(|entry| entry.value == big)
                && world.read(id, "small").as_deref() == Some("1")
        };
        world.ids().into_iter().all(has)
    });
}

#[test]
fn a_long_log_becomes_a_checkpoint_and_a_late_joiner_gets_the_state() {
    let mut world = World::new(19);
    for id in 1..=3 {
        let mut config = world.config(id);
        config.checkpoint_bytes = 20_000;
        config.log_bytes_max = 30_000;
        config.stream_chunk_bytes = 4_096;
        world.start_with(config, 0);
    }
    for n in 0..1_500u64 {
        world.begin_write(
            1 + n % 3,
            vec![put(&format!("key.{}", n % 400), &n.to_string())],
        );
        world.run_ms(2);
    }
    world.run_ms(1_000);
    assert!(world.agrees());
    for id in 1..=3 {
        let disk = &world.nodes[&node(id)].disk;
        assert!(
            disk.has_checkpoint() && disk.bytes() < 60_000,
            "{} bytes",
            disk.bytes()
        );
    }
    world.start(4);
    world.until("the joiner has all", 5_000, World::agrees);
    assert_eq!(world.replica(4).counters().states_installed, 1);
    world.crash(2);
    world.restart(2);
    assert_eq!(world.view(2).entries.len(), 400);
    world.until("the restarted has all", 5_000, World::agrees);
    assert_eq!(world.conflicts(2), world.conflicts(2));
}

#[test]
fn a_lost_disk_means_a_new_log() {
    let mut world = World::cluster(3, 20);
    let first = world.write(2, vec![put("a", "1")]);
    world.until("spread", 1_000, World::agrees);
    world.crash(2);
    world.wipe(2);
    world.restart(2);
    let second = world.write(2, vec![put("b", "2")]);
    world.until("agreement", 5_000, World::agrees);
    let log = |vector: &VersionVector| -> LogId { vector.rows().next().unwrap().1 };
    assert!(log(&second) > log(&first));
    assert!(everyone_reads(&world, "a", Some("1")) && everyone_reads(&world, "b", Some("2")));
}

#[test]
fn a_disk_put_back_to_an_earlier_image_reuses_no_dot() {
    let mut world = World::cluster(3, 21);
    world.write(2, vec![put("a", "1")]);
    let image = world.disk_image(2);
    let lost = world.write(2, vec![put("a", "2")]);
    world.until("spread", 1_000, World::agrees);
    world.crash(2);
    world.put_back(2, &image);
    world.restart(2);
    world.until("the loss is noticed", 3_000, |world| {
        world.replica(2).counters().logs_lost == 1
    });
    let next = world.write(2, vec![put("b", "3")]);
    assert!(!lost.covers(&next));
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("2")) && everyone_reads(&world, "b", Some("3")));
    world.crash(2);
    world.restart(2);
    world.write(2, vec![put("b", "4")]);
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "b", Some("4")));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = World::cluster(5, seed);
        world.loss_permille = 100;
        for n in 0..50u64 {
            world.begin_write(1 + n % 5, vec![put(&format!("k{}", n % 7), &n.to_string())]);
            world.run_ms(30);
        }
        world.crash(3);
        world.run_ms(8_000);
        world.restart(3);
        world.run_ms(5_000);
        (world.trace, world.datagrams)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn a_dropped_message_does_not_end_the_use_of_a_stream() {
    let mut world = World::cluster(2, 37);
    let contact = Contact::Dropped;
    world.input(
        1,
        Input::Contact {
            peer: node(2),
            contact,
        },
    );
    assert!(!world.replica(1).sync.peers[&node(2)].stream_broken());
    let big = Value::parse(Bytes::from(vec![7; 512 * 1024])).unwrap();
    let operation = |name: &str| Operation::Put {
        lease: None,
        key: key(name),
        value: big.clone(),
        context: None,
    };
    world.partition(&[1], &[2]);
    for n in 0..4 {
        world.write(1, vec![operation(&format!("big{n}"))]);
    }
    world.run_ms(100);
    world.heal();
    let contact = Contact::Dropped;
    world.input(
        1,
        Input::Contact {
            peer: node(2),
            contact,
        },
    );
    world.until("agreement", 3_000, World::agrees);
    assert!(!world.replica(1).sync.peers[&node(2)].stream_broken());
}

#[test]
fn a_slow_disk_is_not_given_more_and_more() {
    let mut world = World::cluster(2, 39);
    world.nodes.get_mut(&node(2)).unwrap().disk.stall_us = 5_000_000;
    let big = Value::parse(Bytes::from(vec![7; 1024 * 1024])).unwrap();
    for n in 0..12 {
        let operation = Operation::Put {
            lease: None,
            key: key(&format!("big{n}")),
            value: big.clone(),
            context: None,
        };
        world.write(1, vec![operation]);
    }
    world.until("seen by both", 3_000, World::agrees);
    let bytes = world.nodes[&node(2)].disk.bytes();
    assert!(bytes < 4 * 1024 * 1024, "{bytes} bytes are under way");
    world.nodes.get_mut(&node(2)).unwrap().disk.stall_us = 0;
    world.until("a checkpoint holds what wasn't appended", 40_000, |world| {
        world.replica(2).counters().checkpoints > 0
    });
    world.run_ms(100);
    world.partition(&[1], &[2]);
    world.crash(2);
    world.restart(2);
    let kept = world.view(2).entries.len();
    assert!(kept >= 9, "only {kept} survived");
}
