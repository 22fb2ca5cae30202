//! Stories about a few nodes, told through the replica's contract alone.

use bytes::Bytes;
use quorumor_core::{
    Command, Error, Expected, Health, Input, Level, LogId, MemberState, Operation, OperationResult,
    Position, Reply, Replica, Role, Seq, Value, Version, VersionVector,
};

use crate::harness::{World, delete, key, node, put, value};

fn everyone_reads(world: &World, name: &str, text: Option<&str>) -> bool {
    world.ids().into_iter().all(|id| world.read(id, name).as_deref() == text)
}

#[test]
fn a_put_reaches_everyone_soon() {
    let mut world = World::cluster(5, 1);
    world.write(3, vec![put("a", "1")]);
    let ms = world.until("seen by all", 500, |world| everyone_reads(world, "a", Some("1")));
    assert!(ms < 50, "took {ms} ms");
    assert!(world.ids().iter().all(|id| world.conflicts(*id) == 0));
}

#[test]
fn nodes_join_by_one_seed_and_serve() {
    let mut world = World::cluster(3, 2);
    world.write(1, vec![put("a", "1")]);
    world.start(4);
    assert_eq!(world.view(4).status.health, Health::Starting);
    world.until("the joiner serves", 1_000, |world| world.view(4).status.health == Health::Serving);
    assert_eq!(world.read(4, "a").as_deref(), Some("1"));
    world.until("everyone knows everyone", 3_000, |world| {
        world.ids().into_iter().all(|id| world.count(id, MemberState::Alive) == 4)
    });
    let view = world.view(2);
    let joiner = view.status.members.iter().find(|member| member.node == node(4)).unwrap();
    assert_eq!(joiner.client_address.as_deref(), Some("127.0.0.1:7004"));
}

#[test]
fn without_any_seed_answering_a_node_serves_alone() {
    let mut world = World::new(3);
    world.start(2);
    world.run_ms(3_100);
    assert_eq!(world.view(2).status.health, Health::Serving);
    world.write(2, vec![put("a", "1")]);
    world.start(1);
    world.until("they meet", 5_000, |world| world.read(1, "a").as_deref() == Some("1"));
}

#[test]
fn concurrent_puts_converge_and_the_loser_is_counted_once() {
    let mut world = World::cluster(5, 4);
    world.partition(&[1, 2], &[3, 4, 5]);
    world.write(1, vec![put("a", "left")]);
    world.run_ms(10);
    world.write(4, vec![put("a", "right")]);
    world.run_ms(500);
    assert_eq!(world.read(2, "a").as_deref(), Some("left"));
    assert_eq!(world.read(5, "a").as_deref(), Some("right"));
    world.heal();
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("right")), "the later stamp wins");
    for id in world.ids() {
        assert_eq!(world.conflicts(id), 1, "node {id}");
        let conflict = world.replica(id).conflicts().next().unwrap();
        assert_eq!((conflict.loser.writer, conflict.winner.writer), (node(1), node(4)));
    }
    world.write(2, vec![put("a", "after")]);
    world.until("agreement again", 1_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("after")));
    assert!(world.ids().iter().all(|id| world.conflicts(*id) == 1));
}

#[test]
fn a_delete_and_a_concurrent_put_converge() {
    let mut world = World::cluster(3, 5);
    world.write(1, vec![put("a", "old"), put("b", "old")]);
    world.until("seen", 1_000, |world| everyone_reads(world, "b", Some("old")));
    world.partition(&[1], &[2, 3]);
    world.write(1, vec![delete("a"), put("b", "new")]);
    world.run_ms(10);
    world.write(2, vec![put("a", "new"), delete("b")]);
    world.run_ms(300);
    world.heal();
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("new")));
    assert!(everyone_reads(&world, "b", None));
    for id in world.ids() {
        let Role::Eventual { tombstones, .. } = world.view(id).status.role else {
            panic!("not eventual")
        };
        assert_eq!((tombstones, world.conflicts(id)), (1, 2), "node {id}");
    }
}

#[test]
fn a_put_with_a_context_replaces_only_what_was_seen() {
    let mut world = World::cluster(3, 6);
    world.write(1, vec![put("a", "1")]);
    world.until("seen", 1_000, |world| everyone_reads(world, "a", Some("1")));
    let context = world.context(2, "a");
    world.write(3, vec![put("a", "unseen")]);
    world.until("seen", 1_000, |world| everyone_reads(world, "a", Some("unseen")));
    let with_context = Operation::Put {
        key: key("a"),
        value: value("2"),
        context: Some(context),
    };
    world.write(2, vec![with_context]);
    world.until("seen", 1_000, |world| everyone_reads(world, "a", Some("2")));
    for id in world.ids() {
        let view = world.view(id);
        let Version::Eventual { siblings, .. } = view.entry(&key("a")).unwrap().version else {
            panic!("not eventual")
        };
        assert_eq!((siblings, world.conflicts(id)), (2, 1));
    }
    world.write(1, vec![put("a", "3")]);
    world.until("seen", 1_000, |world| everyone_reads(world, "a", Some("3")));
    assert_eq!(world.conflicts(1), 1);
}

#[test]
fn a_batch_reads_its_own_writes_and_has_one_result_each() {
    let mut world = World::cluster(1, 7);
    let operations =
        vec![put("a", "1"), Operation::Get { key: key("a") }, delete("a"), delete("a"), put("a", "2")];
    let call = world.begin_write(1, operations);
    assert_eq!(world.read(1, "a"), None, "not shown before it is durable");
    assert!(world.answer(1, call).is_none());
    world.run_ms(10);
    let Some(Ok(Reply::Written { results, position, dot })) = world.answer(1, call) else {
        panic!("{:?}", world.answer(1, call))
    };
    assert_eq!(results.len(), 5);
    let OperationResult::Got { entry: Some(entry) } = &results[1] else {
        panic!("{:?}", results[1])
    };
    assert_eq!(entry.value, value("1"));
    assert!(matches!(&results[2], OperationResult::Deleted { previous: Some(_) }));
    assert!(matches!(&results[3], OperationResult::Deleted { previous: None }));
    assert_eq!(dot.unwrap().0.seq, Seq::new(3));
    assert!(world.view(1).position.covers(position));
    assert_eq!(world.read(1, "a").as_deref(), Some("2"));
    assert_eq!(world.conflicts(1), 0);
}

#[test]
fn what_the_mode_cannot_give_is_refused_whole() {
    let mut world = World::cluster(1, 8);
    let compare = Operation::CompareAndSet {
        key: key("a"),
        expected: Expected::Absent,
        value: value("1"),
    };
    let call = world.begin_write(1, vec![put("b", "1"), compare]);
    let refused = Error::GuaranteeUnavailable {
        mode: quorumor_core::Mode::Eventual,
        asked: "compare_and_set",
        best_available: "put",
    };
    assert_eq!(world.answer(1, call), Some(&Err(refused)));
    let level = Level::Linearizable;
    let call = world.request(1, Command::ReadBarrier { level }, None);
    assert!(matches!(world.answer(1, call), Some(Err(Error::GuaranteeUnavailable { .. }))));
    let strong = Position::Strong(quorumor_core::Revision::new(1));
    let call = world.request(1, Command::ReadBarrier { level: Level::Local }, Some(strong));
    assert!(matches!(world.answer(1, call), Some(Err(Error::InvalidArgument { .. }))));
    world.run_ms(100);
    assert_eq!(world.read(1, "b"), None);
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let mut world = World::cluster(2, 9);
    world.input(1, Input::Disk(quorumor_core::DiskState::Full));
    let call = world.begin_write(1, vec![put("a", "1")]);
    assert_eq!(world.answer(1, call), Some(&Err(Error::DiskFull)));
    world.write(2, vec![put("a", "2")]);
    world.until("peers' writes are seen", 1_000, |world| everyone_reads(world, "a", Some("2")));
    world.input(1, Input::Disk(quorumor_core::DiskState::Available));
    world.write(1, vec![put("a", "3")]);
}

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
fn a_false_suspicion_is_refuted_and_nobody_goes_down() {
    let mut world = World::cluster(4, 10);
    world.partition(&[4], &[1, 2, 3]);
    world.until("suspicion", 20_000, |world| {
        (1..=3).any(|id| world.state(id, 4) == Some(MemberState::Suspect))
    });
    world.heal();
    world.until("refutation", 10_000, |world| {
        (1..=4).all(|id| world.count(id, MemberState::Alive) == 4)
    });
    let refuted = world.replica(4).counters().refutations;
    assert!(refuted > 0);
    world.run_ms(40_000);
    assert!((1..=4).all(|id| world.count(id, MemberState::Alive) == 4));
    // A refuted suspicion has no late effect: nobody renews anything (foca 2.0.0 does).
    assert_eq!(world.replica(4).counters().refutations, refuted);
    assert!((1..=3).all(|id| world.replica(id).counters().downs == 0));
}

#[test]
fn a_dead_node_is_down_everywhere_and_comes_back_in_a_new_life() {
    let mut world = World::cluster(5, 11);
    let before = life(&world, 1, 5);
    world.crash(5);
    let ms = world.until("down", 30_000, |world| {
        (1..=4).all(|id| world.state(id, 5) == Some(MemberState::Down))
    });
    assert!(ms >= 4_000, "not before the least suspicion: {ms} ms");
    assert!(ms <= 16_000, "confirmations shorten it: {ms} ms");
    world.restart(5);
    world.until("alive again", 5_000, |world| {
        (1..=5).all(|id| world.count(id, MemberState::Alive) == 5)
    });
    assert!(life(&world, 1, 5) > before);
}

fn life(world: &World, at: u64, of: u64) -> u64 {
    let view = world.view(at);
    let member = view.status.members.iter().find(|member| member.node == node(of)).unwrap();
    member.generation.as_u64()
}

#[test]
fn a_goodbye_is_heard_and_refuses_callers() {
    let mut world = World::cluster(4, 12);
    world.input(2, Input::Leave);
    let call = world.begin_write(2, vec![put("a", "1")]);
    assert_eq!(world.answer(2, call), Some(&Err(Error::Stopping)));
    world.until("left", 1_000, |world| {
        [1, 3, 4].iter().all(|id| world.state(*id, 2) == Some(MemberState::Left))
    });
    world.crash(2);
    world.run_ms(30_000);
    assert!([1, 3, 4].iter().all(|id| world.state(*id, 2) == Some(MemberState::Left)));
    assert!([1, 3, 4].iter().all(|id| world.replica(*id).counters().downs == 0));
    world.restart(2);
    world.until("back", 5_000, |world| world.count(1, MemberState::Alive) == 4);
}

#[test]
fn one_cut_link_makes_nobody_down_and_stops_no_write() {
    let mut world = World::cluster(5, 13);
    world.cut(1, 2);
    world.cut(2, 1);
    world.cut(3, 4);
    world.run_ms(5_000);
    world.write(1, vec![put("a", "1")]);
    world.until("seen around the cut", 3_000, |world| everyone_reads(world, "a", Some("1")));
    world.run_ms(60_000);
    for id in world.ids() {
        assert_eq!(world.replica(id).counters().downs, 0, "node {id}");
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
            assert!(everyone_reads(&world, name, Some(name)), "seed {seed}: {name}");
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
        world.begin_write(1 + n % 7, vec![put(&format!("k{}", n % 30), &format!("v{n}"))]);
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
        key: key(name),
        value: big.clone(),
        context: None,
    };
    world.write(2, vec![operation("big"), put("small", "1")]);
    world.write(2, vec![operation("big2")]);
    world.until("seen by all", 3_000, |world| {
        let has = |id: u64| {
            world.view(id).entry(&key("big2")).is_some_and(|entry| entry.value == big)
                && world.read(id, "small").as_deref() == Some("1")
        };
        world.ids().into_iter().all(has)
    });
}

#[test]
fn a_token_makes_another_node_wait_and_fetch() {
    let mut world = World::cluster(3, 16);
    world.partition(&[1], &[2, 3]);
    let token = world.write(1, vec![put("a", "1")]);
    let waiting = world.barrier(2, &token);
    let after = Some(Position::Eventual(token.clone()));
    let command = Command::write(vec![put("a", "2")], None).unwrap();
    let write = world.request(2, command, after);
    let cancelled = world.barrier(2, &token);
    world.run_ms(1_000);
    assert!(world.answer(2, waiting).is_none() && world.answer(2, write).is_none());
    world.input(2, Input::Cancel { call: cancelled });
    world.heal();
    world.until("the token is covered", 3_000, |world| world.answer(2, write).is_some());
    assert!(matches!(world.answer(2, waiting), Some(Ok(Reply::ReadReady { .. }))));
    assert!(world.answer(2, cancelled).is_none());
    world.until("agreement", 3_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("2")));
    assert_eq!(world.conflicts(1), 0, "the second write came after the first");
}

#[test]
fn a_token_is_fetched_from_the_writer_at_once() {
    let mut world = World::cluster(5, 17);
    world.loss_permille = 1_000;
    let token = world.write(1, vec![put("a", "1")]);
    world.loss_permille = 0;
    let waiting = world.barrier(4, &token);
    world.until("fetched", 200, |world| world.answer(4, waiting).is_some());
    assert_eq!(world.read(4, "a").as_deref(), Some("1"));
}

#[test]
fn stamps_hold_when_clocks_differ_and_jump() {
    let mut world = World::cluster(3, 18);
    world.jump_clock(2, 600_000);
    world.jump_clock(3, -600_000);
    for n in 0..10 {
        let id = 1 + n % 3;
        world.write(id, vec![put("a", &n.to_string())]);
        world.until("agreement", 1_000, World::agrees);
        assert!(everyone_reads(&world, "a", Some(&n.to_string())), "a write that saw all others wins");
    }
    world.jump_clock(1, -3_600_000);
    world.write(1, vec![put("a", "back")]);
    assert_eq!(world.read(1, "a").as_deref(), Some("back"));
    assert_eq!(world.conflicts(1), 0);
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
        world.begin_write(1 + n % 3, vec![put(&format!("key.{}", n % 400), &n.to_string())]);
        world.run_ms(2);
    }
    world.run_ms(1_000);
    assert!(world.agrees());
    for id in 1..=3 {
        let disk = &world.nodes[&node(id)].disk;
        assert!(disk.has_checkpoint() && disk.bytes() < 60_000, "{} bytes", disk.bytes());
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
    world.until("the loss is noticed", 3_000, |world| world.replica(2).counters().logs_lost == 1);
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
fn watchers_hear_every_visible_change_in_order() {
    let mut world = World::cluster(2, 22);
    world.write(1, vec![put("a", "1")]);
    world.write(1, vec![put("a", "2")]);
    world.write(1, vec![delete("a")]);
    world.run_ms(1_000);
    let told: Vec<String> = world.nodes[&node(2)]
        .changes
        .iter()
        .flat_map(|change| &change.events)
        .map(|event| match event {
            quorumor_core::ChangeEvent::Put { entry } => {
                String::from_utf8(entry.value.as_bytes().to_vec()).unwrap()
            }
            quorumor_core::ChangeEvent::Deleted { .. } => "deleted".to_owned(),
            quorumor_core::ChangeEvent::Reset => "reset".to_owned(),
        })
        .collect();
    assert_eq!(told, ["1", "2", "deleted"]);
}

#[test]
fn an_idle_cluster_says_little() {
    let mut world = World::cluster(5, 23);
    world.run_ms(10_000);
    let before = world.datagrams;
    world.run_ms(10_000);
    let per_node_second = (world.datagrams - before) / 50;
    assert!(per_node_second <= 3, "{per_node_second} datagrams per node and second");
}

#[test]
fn nothing_is_said_before_the_life_is_durable() {
    let mut world = World::new(24);
    world.start(2);
    assert_eq!(world.datagrams, 0);
    world.run_ms(20);
    assert!(world.datagrams > 0);
    assert!(world.replica(2).poll_timeout().is_some());
}
