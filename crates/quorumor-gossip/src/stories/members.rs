//! Stories about coming, going, suspicion and silence.

use quorumor_core::{Error, Generation, Health, Input, MemberState, Replica};

use super::everyone_reads;
use crate::codec::encode_part;
use crate::harness::{World, address, node, put};
use crate::message::Part;

#[test]
fn nodes_join_by_one_seed_and_serve() {
    let mut world = World::cluster(3, 2);
    world.write(1, vec![put("a", "1")]);
    world.start(4);
    assert_eq!(world.view(4).status.health, Health::Starting);
    world.until("the joiner serves", 1_000, |world| {
        world.view(4).status.health == Health::Serving
    });
    assert_eq!(world.read(4, "a").as_deref(), Some("1"));
    world.until("everyone knows everyone", 3_000, |world| {
        world
            .ids()
            .into_iter()
            .all(|id| world.count(id, MemberState::Alive) == 4)
    });
    let members = world.replica(2).list_members();
    let joiner = members
        .iter()
        .find(|member| member.node == node(4))
        .unwrap();
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
    world.until("they meet", 5_000, |world| {
        world.read(1, "a").as_deref() == Some("1")
    });
}

#[test]
fn a_false_suspicion_is_refuted_and_nobody_goes_down() {
    let mut world = World::cluster(4, 10);
    world.partition(&[4], &[1, 2, 3]);
    world.until("suspicion", 20_000, |world| {
        (1..=3).any(|id| world.state(id, 4) == Some(MemberState::Suspect))
    });
    // Until then whoever suspects it has told nobody.
    world.run_ms(1_500);
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
    // The host itself says that the process is gone, which halves the least suspicion.
    assert!(ms >= 2_000, "not before half the least suspicion: {ms} ms");
    assert!(ms <= 16_000, "confirmations shorten it: {ms} ms");
    world.restart(5);
    world.until("alive again", 5_000, |world| {
        (1..=5).all(|id| world.count(id, MemberState::Alive) == 5)
    });
    assert!(life(&world, 1, 5) > before);
}

fn life(world: &World, at: u64, of: u64) -> u64 {
    let members = world.replica(at).list_members();
    let member = members
        .iter()
        .find(|member| member.node == node(of))
        .unwrap();
    member.generation.as_u64()
}

#[test]
fn a_goodbye_is_heard_and_refuses_callers() {
    let mut world = World::cluster(4, 12);
    world.input(2, Input::Leave);
    let call = world.begin_write(2, vec![put("a", "1")]);
    assert_eq!(world.answer(2, call), Some(&Err(Error::Stopping)));
    world.until("left", 1_000, |world| {
        [1, 3, 4]
            .iter()
            .all(|id| world.state(*id, 2) == Some(MemberState::Left))
    });
    world.crash(2);
    world.run_ms(30_000);
    assert!(
        [1, 3, 4]
            .iter()
            .all(|id| world.state(*id, 2) == Some(MemberState::Left))
    );
    assert!(
        [1, 3, 4]
            .iter()
            .all(|id| world.replica(*id).counters().downs == 0)
    );
    world.restart(2);
    world.until("back", 5_000, |world| {
        world.count(1, MemberState::Alive) == 4
    });
}

#[test]
fn one_cut_link_makes_nobody_down_and_stops_no_write() {
    let mut world = World::cluster(5, 13);
    world.cut(1, 2);
    world.cut(2, 1);
    world.cut(3, 4);
    world.run_ms(5_000);
    world.write(1, vec![put("a", "1")]);
    world.until("seen around the cut", 3_000, |world| {
        everyone_reads(world, "a", Some("1"))
    });
    world.run_ms(60_000);
    for id in world.ids() {
        assert_eq!(world.replica(id).counters().downs, 0, "node {id}");
    }
}

#[test]
fn an_idle_cluster_says_little() {
    let mut world = World::cluster(5, 23);
    world.run_ms(10_000);
    let before = world.datagrams;
    world.run_ms(10_000);
    let per_node_second = (world.datagrams - before) / 50;
    assert!(
        per_node_second <= 3,
        "{per_node_second} datagrams per node and second"
    );
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

#[test]
fn two_islands_that_all_restarted_find_each_other() {
    let mut world = World::cluster(4, 25);
    world.partition(&[1, 2], &[3, 4]);
    world.run_ms(2_000);
    for id in 1..=4 {
        world.crash(id);
        world.restart(id);
    }
    world.run_ms(20_000);
    assert_eq!(world.count(3, MemberState::Alive), 2);
    world.heal();
    world.until("all found", 5_000, |world| {
        (1..=4).all(|id| world.count(id, MemberState::Alive) == 4)
    });
}

#[test]
fn a_seed_behind_another_address_is_answered_while_who_answered_there_is_present() {
    let mut world = World::new(26);
    world.proxies.insert(address(900), node(1));
    world.start(1);
    let mut config = world.config(2);
    config.seeds = vec![address(900)];
    world.start_with(config, 0);
    world.run_ms(5_000);
    assert_eq!(world.count(2, MemberState::Alive), 2);
    let calls = |world: &mut World| {
        let before = world.seed_calls;
        world.run_ms(60_000);
        world.seed_calls - before
    };
    let answered = calls(&mut world);
    assert!(answered <= 3, "{answered} calls");
    world.crash(1);
    world.until("down", 60_000, |world| {
        world.state(2, 1) == Some(MemberState::Down)
    });
    // The call after the last that was answered.
    world.run_ms(40_000);
    let unanswered = calls(&mut world);
    assert!(unanswered >= 20, "{unanswered} calls");
}

#[test]
fn seeds_are_called_on_in_one_rhythm_however_often_a_life_begins() {
    let mut world = World::new(40);
    world.start(2);
    world.run_ms(10_000);
    let calls = |world: &mut World| {
        let before = world.datagrams;
        world.run_ms(20_000);
        world.datagrams - before
    };
    let usual = calls(&mut world);
    for generation in 1..=5 {
        // Someone remembers a later life of this id each time.
        let mut update = world.replica(2).my_update();
        update.generation = Generation::new(update.generation.as_u64() + generation);
        update.accuser = node(3);
        world.input(
            2,
            Input::Datagram {
                from: node(3),
                payload: encode_part(&Part::Members(vec![update])),
            },
        );
        world.run_ms(100);
    }
    let later = calls(&mut world);
    assert!(later <= usual + 3, "{later} calls instead of {usual}");
}

#[test]
fn an_answer_from_another_than_was_probed_is_none() {
    let mut world = World::cluster(3, 41);
    world.cut(2, 1);
    world.cut(2, 3);
    let probed = |world: &World| {
        let probe = world.replica(1).probes.current.as_ref()?;
        (probe.target == node(2)).then_some((probe.number, probe.acked))
    };
    world.until("a probe of the silent one", 5_000, |world| {
        probed(world).is_some_and(|(_, acked)| !acked)
    });
    let (number, _) = probed(&world).unwrap();
    let ack = |world: &World, from: u64| Part::Ack {
        number,
        summary: world.replica(from).summary(),
        life: world.replica(from).my_life(),
        me: None,
    };
    let other = ack(&world, 3);
    world.tell(1, 3, &other);
    assert_eq!(probed(&world), Some((number, false)));
    let itself = ack(&world, 2);
    world.tell(1, 2, &itself);
    assert_eq!(probed(&world), Some((number, true)));
}
