//! Stories about writes, conflicts, tokens and refusals.

use quorumor_core::{
    Bound, Command, Error, Expected, Input, Level, Operation, OperationResult, Position, Reply,
    Role, Seq, Version,
};

use super::everyone_reads;
use crate::harness::{World, delete, key, node, put, value};

#[test]
fn a_put_reaches_everyone_soon() {
    let mut world = World::cluster(5, 1);
    world.write(3, vec![put("a", "1")]);
    let ms = world.until("seen by all", 500, |world| {
        everyone_reads(world, "a", Some("1"))
    });
    assert!(ms < 50, "took {ms} ms");
    assert!(world.ids().iter().all(|id| world.conflicts(*id) == 0));
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
    assert!(
        everyone_reads(&world, "a", Some("right")),
        "the later stamp wins"
    );
    for id in world.ids() {
        assert_eq!(world.conflicts(id), 1, "node {id}");
        let conflicts = world.view(id).conflicts;
        let conflict = conflicts.listed.front().unwrap();
        assert_eq!(conflict.value, Some(value("left")));
        assert_eq!(
            (conflict.loser.writer, conflict.winner.writer),
            (node(1), node(4))
        );
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
    world.until("seen", 1_000, |world| {
        everyone_reads(world, "b", Some("old"))
    });
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
    world.until("seen", 1_000, |world| {
        everyone_reads(world, "a", Some("unseen"))
    });
    let with_context = Operation::Put {
        lease: None,
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
    let operations = vec![
        put("a", "1"),
        Operation::Get { key: key("a") },
        delete("a"),
        delete("a"),
        put("a", "2"),
    ];
    let call = world.begin_write(1, operations);
    assert_eq!(world.read(1, "a"), None, "not shown before it is durable");
    assert!(world.answer(1, call).is_none());
    world.run_ms(10);
    let Some(Ok(Reply::Written {
        results,
        position,
        dot,
    })) = world.answer(1, call)
    else {
        panic!("{:?}", world.answer(1, call))
    };
    assert_eq!(results.len(), 5);
    let OperationResult::Got { entry: Some(entry) } = &results[1] else {
        panic!("{:?}", results[1])
    };
    assert_eq!(entry.value, value("1"));
    assert!(matches!(
        &results[2],
        OperationResult::Deleted { previous: Some(_) }
    ));
    assert!(matches!(
        &results[3],
        OperationResult::Deleted { previous: None }
    ));
    assert_eq!(dot.unwrap().0.seq, Seq::new(3));
    assert!(world.view(1).position.covers(position));
    assert_eq!(world.read(1, "a").as_deref(), Some("2"));
    assert_eq!(world.conflicts(1), 0);
}

#[test]
fn what_the_mode_cannot_give_is_refused_whole() {
    let mut world = World::cluster(1, 8);
    let compare = Operation::CompareAndSet {
        lease: None,
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
    let call = world.request(
        1,
        Command::ReadBarrier {
            level,
            bound: Bound::NONE,
        },
        None,
    );
    assert!(matches!(
        world.answer(1, call),
        Some(Err(Error::GuaranteeUnavailable { .. }))
    ));
    let strong = Position::Strong(quorumor_core::Revision::new(1));
    let call = world.request(
        1,
        Command::ReadBarrier {
            bound: Bound::NONE,
            level: Level::Local,
        },
        Some(strong),
    );
    assert!(matches!(
        world.answer(1, call),
        Some(Err(Error::InvalidArgument { .. }))
    ));
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
    world.until("peers' writes are seen", 1_000, |world| {
        everyone_reads(world, "a", Some("2"))
    });
    world.input(1, Input::Disk(quorumor_core::DiskState::Available));
    world.write(1, vec![put("a", "3")]);
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
    world.until("the token is covered", 3_000, |world| {
        world.answer(2, write).is_some()
    });
    assert!(matches!(
        world.answer(2, waiting),
        Some(Ok(Reply::ReadReady { .. }))
    ));
    assert!(world.answer(2, cancelled).is_none());
    world.until("agreement", 3_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("2")));
    assert_eq!(
        world.conflicts(1),
        0,
        "the second write came after the first"
    );
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
        assert!(
            everyone_reads(&world, "a", Some(&n.to_string())),
            "a write that saw all others wins"
        );
    }
    world.jump_clock(1, -3_600_000);
    world.write(1, vec![put("a", "back")]);
    assert_eq!(world.read(1, "a").as_deref(), Some("back"));
    assert_eq!(world.conflicts(1), 0);
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
        .flat_map(|change| change.events.iter())
        .map(|event| match event {
            quorumor_core::ChangeEvent::Put { entry, .. } => {
                String::from_utf8(entry.value.as_bytes().to_vec()).unwrap()
            }
            quorumor_core::ChangeEvent::Deleted { .. } => "deleted".to_owned(),
            quorumor_core::ChangeEvent::Reset => "reset".to_owned(),
        })
        .collect();
    assert_eq!(told, ["1", "2", "deleted"]);
}

#[test]
fn puts_that_replace_nothing_are_bounded_and_travel_whole() {
    let mut world = World::new(36);
    for id in 1..=2 {
        let mut config = world.config(id);
        config.log_bytes_max = 1024 * 1024;
        world.start_with(config, 0);
    }
    world.run_ms(1_000);
    let big = quorumor_core::Value::parse(vec![7; 1024 * 1024].into()).unwrap();
    let blind = |text: &str| Operation::Put {
        lease: None,
        key: key("a"),
        value: value(text),
        context: Some(quorumor_core::VersionVector::new()),
    };
    for _ in 0..18 {
        let put = Operation::Put {
            lease: None,
            key: key("a"),
            value: big.clone(),
            context: Some(quorumor_core::VersionVector::new()),
        };
        world.write(1, vec![put]);
    }
    world.start(3);
    world.until("the late one has it", 5_000, World::agrees);
    world.write(1, (18..128).map(|n| blind(&n.to_string())).collect());
    let refused = Error::too_large("siblings_max", 128, 129);
    let call = world.begin_write(1, vec![put("b", "no"), blind("128")]);
    assert_eq!(world.answer(1, call), Some(&Err(refused)));
    world.write(1, vec![put("a", "all replaced")]);
    world.write(1, vec![blind("beside it")]);
    world.until("agreement", 5_000, World::agrees);
    assert!(everyone_reads(&world, "a", Some("beside it")));
    assert!(everyone_reads(&world, "b", None));
    assert_eq!(world.conflicts(1), 128, "127 of the first, then one");
    let longest = world.nodes.values().map(|node| node.disk.piece_max()).max();
    assert!(longest.unwrap() < 2 * 1024 * 1024, "{longest:?}");
    assert!(world.message_max < 2 * 1024 * 1024, "{}", world.message_max);
}

#[test]
fn waiting_callers_are_bounded_by_their_bytes() {
    let mut world = World::cluster(2, 38);
    world.partition(&[1], &[2]);
    let token = world.write(1, vec![put("a", "1")]);
    let big = quorumor_core::Value::parse(vec![7; 1024 * 1024].into()).unwrap();
    let mut calls = Vec::new();
    for n in 0..70 {
        let operation = Operation::Put {
            lease: None,
            key: key(&format!("big{n}")),
            value: big.clone(),
            context: None,
        };
        let command = Command::write(vec![operation], None).unwrap();
        calls.push(world.request(2, command, Some(Position::Eventual(token.clone()))));
    }
    let is_refused = |world: &World, call| {
        matches!(
            world.answer(2, call),
            Some(Err(Error::Overloaded {
                queue: "pending_reads",
                ..
            }))
        )
    };
    let refused = calls.iter().filter(|call| is_refused(&world, **call));
    assert_eq!(refused.count(), 7, "64 MiB hold 63 of them");
    world.input(2, Input::Cancel { call: calls[0] });
    let command = Command::write(vec![put("b", "1")], None).unwrap();
    let after = Some(Position::Eventual(token));
    let call = world.request(2, command, after);
    assert!(world.answer(2, call).is_none(), "there is room again");
    world.heal();
    world.until("all are answered", 5_000, |world| {
        calls[1..]
            .iter()
            .chain([&call])
            .all(|call| world.answer(2, *call).is_some())
    });
}
