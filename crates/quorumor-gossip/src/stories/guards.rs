//! What others failed by in production, and what guards against it here: one test each. More of them are told in `testdata`.

use std::sync::Arc;

use quorumor_core::{
    Alarm, Dot, Durability, Error, Generation, Incarnation, Input, LogId, MemberState, NodeId, Now,
    Replica, Role, Seq, Stamp,
};

use crate::event::Event;
use crate::harness::{World, address, key, node, put, value};
use crate::message::{Offer, Part, Update};
use crate::vector::Context;

fn foreign(writer: u64, seq: u64, name: &str, text: &str) -> Arc<Event> {
    let dot = Dot {
        writer: node(writer),
        log_id: LogId::new(1),
        seq: Seq::new(seq),
    };
    let content = (Some(value(text)), None);
    let stamp = Stamp::from_wall_ms(1_700_000_000_000 + seq);
    Arc::new(Event::new(
        dot,
        stamp,
        key(name),
        content,
        Context::default(),
    ))
}

fn news(of: u64, state: MemberState, generation: Generation, incarnation: u64) -> Update {
    Update {
        node: node(of),
        state,
        generation,
        incarnation: Incarnation::new(incarnation),
        accuser: node(2),
        refused: false,
        address: address(of),
        client_address: None,
    }
}

fn life(world: &World, at: u64, of: u64) -> (Generation, Incarnation) {
    world.replica(at).members.life(node(of)).unwrap()
}

/// Amazon S3, 2008-07-20: what is not what it should be spreads no further.
#[test]
fn content_that_isnt_what_was_offered_is_not_taken() {
    let mut world = World::cluster(2, 1);
    let event = foreign(50, 1, "big", "the true content");
    let offer = Offer {
        dot: event.dot,
        key: key("big"),
        stamp: event.stamp,
        bytes: 16,
        hash: event.value_hash(),
    };
    world.partition(&[1], &[2]);
    world.tell(1, 2, &Part::Offers(vec![offer]));
    let other = foreign(50, 1, "big", "another content!");
    let delta = |event| Part::Delta {
        more: false,
        events: vec![event],
    };
    world.tell(1, 2, &delta(other));
    assert_eq!(world.read(1, "big"), None);
    assert_eq!(world.replica(1).counters().wrong_contents, 1);
    world.tell(1, 2, &delta(event));
    assert_eq!(world.read(1, "big").as_deref(), Some("the true content"));
}

/// quickwit PR #6653: a digest that must fit a datagram fails when there are many writers.
#[test]
fn states_of_hundreds_of_writers_are_compared_in_datagrams() {
    let mut world = World::cluster(2, 2);
    let many: Vec<_> = (100..500)
        .map(|w| foreign(w, 1, &format!("k{w}"), "1"))
        .collect();
    world.partition(&[1], &[2]);
    for id in [1, 2] {
        let events = many.clone();
        world.tell(
            id,
            3 - id,
            &Part::Delta {
                more: false,
                events,
            },
        );
    }
    assert!(world.agrees());
    let events = vec![foreign(250, 2, "new", "1")];
    world.tell(
        1,
        2,
        &Part::Delta {
            more: false,
            events,
        },
    );
    // What differs is one row of four hundred: no message comes near the size of them all.
    world.message_max = 0;
    world.heal();
    world.until("agreement", 10_000, World::agrees);
    assert_eq!(world.read(2, "new").as_deref(), Some("1"));
    assert!(
        world.message_max < 1_000,
        "{} bytes by stream",
        world.message_max
    );
}

/// memberlist #358, #359: no incarnation can be driven so high that its owner can't refute.
#[test]
fn a_life_whose_incarnations_are_used_up_becomes_another() {
    let mut world = World::cluster(3, 3);
    let (generation, _) = life(&world, 2, 1);
    for step in 1..=17 {
        let accused = news(1, MemberState::Suspect, generation, step * 65_535);
        world.tell(1, 2, &Part::Members(vec![accused]));
        world.run_ms(20);
    }
    world.until("a new life", 5_000, |world| {
        life(world, 3, 1).0 > generation
    });
    assert_eq!(world.state(3, 1), Some(MemberState::Alive));
    let beyond = news(1, MemberState::Down, generation, u64::MAX);
    world.tell(3, 2, &Part::Members(vec![beyond]));
    assert_eq!(world.state(3, 1), Some(MemberState::Alive));
    assert!(world.replica(3).counters().refused_news > 0);
}

/// One id at two addresses: the lower one writes no more.
#[test]
fn a_node_that_meets_its_double_says_so_and_writes_no_more() {
    let mut world = World::cluster(3, 4);
    let (generation, incarnation) = life(&world, 2, 1);
    let mut double = news(1, MemberState::Alive, generation, incarnation.as_u64());
    double.address = address(900);
    world.tell(1, 2, &Part::Members(vec![double]));
    let alarms = world.view(1).status.alarms.clone();
    assert_eq!(
        *alarms,
        [Alarm::DuplicateId {
            address: address(900)
        }]
    );
    let call = world.begin_write(1, vec![put("a", "1")]);
    assert!(matches!(
        world.answer(1, call),
        Some(Err(Error::Damaged { .. }))
    ));
}

/// consul #5567, #5928: one node that hears nobody accuses everyone, and takes nobody along.
#[test]
fn a_half_attached_node_takes_nobody_down_and_doubts_itself() {
    let mut world = World::cluster(10, 5);
    for other in 1..10 {
        world.cut(other, 10);
    }
    world.run_ms(60_000);
    for at in 1..10 {
        for of in (1..10).filter(|of| *of != at) {
            assert_eq!(
                world.state(at, of),
                Some(MemberState::Alive),
                "{of} at {at}"
            );
        }
        assert_eq!(
            world.replica(at).counters().downs,
            u64::from(world.state(at, 10) == Some(MemberState::Down))
        );
    }
    let Role::Eventual { isolated, .. } = world.view(10).status.role else {
        panic!("a strong role");
    };
    assert!(isolated);
    world.heal();
    world.until("all alive", 60_000, |world| {
        (1..=10).all(|id| world.count(id, MemberState::Alive) == 10)
    });
}

/// A slow node, whose answers all come late, is not flapped (consul #1212, #1337).
#[test]
fn accusations_by_one_member_are_limited() {
    let mut world = World::cluster(3, 6);
    let (generation, _) = life(&world, 2, 1);
    let mut ignored = 0;
    for id in 100..150 {
        let mut stranger = news(id, MemberState::Alive, generation, 0);
        world.tell(3, 2, &Part::Members(vec![stranger.clone()]));
        stranger.state = MemberState::Suspect;
        world.tell(3, 2, &Part::Members(vec![stranger]));
        ignored += u64::from(world.state(3, id) == Some(MemberState::Alive));
    }
    assert!(ignored > 35, "{ignored} of 50 accusations were ignored");
    assert_eq!(world.replica(3).counters().accusations_ignored, ignored);
}

/// What wasn't synced at a crash is no log to go on with; what was is.
#[test]
fn an_unsynced_log_is_not_continued_after_a_crash() {
    for (durability, goes_on) in [
        (Durability::Fsync, true),
        (Durability::Interval, false),
        (Durability::Memory, false),
    ] {
        let mut world = World::cluster(2, 7);
        let mut config = world.config(9);
        config.durability = durability;
        world.start_with(config, 0);
        world.run_ms(2_000);
        world.write(9, vec![put("a", "1")]);
        let log = |world: &World| world.replica(9).me.log_id;
        let before = log(&world);
        let Role::Eventual {
            durability: said, ..
        } = world.view(9).status.role
        else {
            panic!("a strong role");
        };
        assert_eq!(said, durability);
        world.crash(9);
        world.restart(9);
        world.write(9, vec![put("a", "2")]);
        assert_eq!(log(&world) == before, goes_on, "{durability:?}");
        world.until("agreement", 5_000, World::agrees);
        // A node that says goodbye syncs its log at the end.
        let last = log(&world);
        world.input(9, Input::Leave);
        world.run_ms(100);
        world.crash(9);
        world.restart(9);
        world.write(9, vec![put("a", "3")]);
        assert_eq!(log(&world), last, "{durability:?}");
    }
}

/// Nothing that is told by others brings a forgotten member back (chitchat #155, quickwit #5135).
#[test]
fn old_news_about_a_reaped_member_is_refused() {
    let mut world = World::new(8);
    world.reap_ms = Some(5_000);
    for id in 1..=3 {
        world.start(id);
    }
    world.run_ms(3_000);
    let (generation, _) = life(&world, 1, 3);
    world.crash(3);
    world.until("forgotten", 60_000, |world| world.state(1, 3).is_none());
    let ghost = news(3, MemberState::Alive, generation, 0);
    world.tell(1, 2, &Part::Members(vec![ghost]));
    assert_eq!(world.state(1, 3), None);
    assert_eq!(world.replica(1).counters().ghosts_refused, 1);
}

/// A consumer that asks for a lie: cuts and states out of thin air change nothing.
#[test]
fn a_stable_cut_that_nobody_made_collects_nothing_that_is_not_known() {
    let mut world = World::cluster(2, 9);
    world.write(1, vec![put("a", "1")]);
    let before = world.view(1).digest();
    for number in [1, 2, u64::MAX] {
        let mut stable = crate::stability::Stable::default();
        stable.id.number = number;
        stable.id.proposer = NodeId::try_from(2).ok();
        stable.collects = [foreign(77, 5, "x", "y").dot].into_iter().collect();
        stable.vector = stable.collects.clone();
        world.tell(1, 2, &Part::Stable(Box::new(stable)));
    }
    assert_eq!(world.view(1).digest(), before);
    let replica = world
        .nodes
        .get_mut(&node(1))
        .unwrap()
        .replica
        .as_mut()
        .unwrap();
    replica.handle(
        Now {
            mono_us: 9_000_000,
            wall_ms: 1_700_000_009_000,
        },
        Input::Timer,
    );
}
