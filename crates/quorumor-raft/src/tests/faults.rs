//! Crashes and partitions: what was acknowledged stays, and who can't promise refuses.

use std::collections::BTreeMap;

use quorumor_core::{Certainty, Contact, Error, Health, Position, Reply, Revision};

use crate::testing::Net;

#[test]
fn acked_put_survives_a_leader_crash_and_the_next_leader_comes_fast() {
    let mut net = Net::started(3, 31);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "1");
    net.crash(leader);
    let begun = net.now;
    net.run_until("another leader", |net| net.leader().is_some());
    let took = net.now - begun;
    assert!(took < 1_200_000, "{took} us without a leader");
    let new = net.leader().unwrap();
    assert_eq!(net.value(new, "a").as_deref(), Some("1"));
    net.put_acked(new, "b", "2");
    net.start(leader);
    net.await_equal();
    assert_eq!(net.value(leader, "b").as_deref(), Some("2"));
}

/// A busy machine stops everything for a moment: with the default timing that is no reason for an election.
#[test]
fn a_leader_that_stands_still_for_a_second_keeps_its_lead() {
    for seed in 300..320 {
        let mut net = Net::started(3, seed);
        let leader = net.leader().unwrap();
        net.run_for_ms(seed);
        let term = net.term(leader);
        net.pause(leader);
        net.run_for_ms(1_000);
        net.resume(leader);
        net.run_for_ms(3_000);
        assert_eq!(
            (net.leader(), net.term(leader)),
            (Some(leader), term),
            "seed {seed}"
        );
    }
}

#[test]
fn acked_puts_survive_a_crash_of_all_nodes() {
    let mut net = Net::started(3, 32);
    for round in 0..3 {
        let leader = net.leader().unwrap();
        for i in 0..10 {
            net.put_acked(leader, &format!("{round}-{i}"), "v");
        }
        for node in 1..=3 {
            net.crash(node);
        }
        net.start_all();
        net.await_leader();
        net.await_equal();
        for done in 0..=round {
            for i in 0..10 {
                assert!(net.value(1, &format!("{done}-{i}")).is_some());
            }
        }
    }
}

/// Every place where a node can be between two disk works: crash one node, or all, before that work is durable.
#[test]
fn nothing_acked_is_lost_wherever_a_crash_falls_between_two_disk_works() {
    for victims in [vec![1], vec![1, 2, 3]] {
        for work in 1..40 {
            let mut net = Net::new(3, 33);
            net.compaction.entries_max = 6;
            net.compaction.keep_entries = 2;
            for victim in &victims {
                net.nodes.get_mut(victim).unwrap().crash_at = Some(work);
            }
            net.start_all();
            let acked = load(&mut net, 25);
            for victim in &victims {
                net.nodes.get_mut(victim).unwrap().crash_at = None;
            }
            net.await_leader();
            net.await_equal();
            for (k, v) in acked {
                assert_eq!(
                    net.value(1, &k),
                    Some(v),
                    "crash at work {work} of {victims:?}"
                );
            }
        }
    }
}

/// Writes one key after another at whatever nodes are up, restarting what crashed; gives what was acknowledged.
fn load(net: &mut Net, writes: u64) -> BTreeMap<String, String> {
    let mut calls = Vec::new();
    for i in 0..writes {
        net.run_for_ms(120);
        for node in 1..=3 {
            if !net.is_up(node) {
                net.start(node);
            }
        }
        let k = format!("k{i}");
        calls.push((net.put(1 + i % 3, &k, "v"), k));
    }
    net.run_for_ms(5_000);
    for node in 1..=3 {
        if !net.is_up(node) {
            net.start(node);
        }
    }
    calls
        .into_iter()
        .filter(|(call, _)| net.answers.get(call).is_some_and(Result::is_ok))
        .map(|(_, k)| (k, "v".to_owned()))
        .collect()
}

#[test]
fn a_minority_refuses_at_once_and_by_type_while_the_majority_serves() {
    let mut net = Net::started(5, 34);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "1");
    let minority = [leader, 1 + leader % 5];
    net.isolate(&minority);
    let in_flight = net.put(leader, "lost", "?");
    let forwarded = net.put(minority[1], "lost too", "?");
    net.run_for_ms(6_000);
    for call in [in_flight, forwarded] {
        let error = net.answers.remove(&call).unwrap().unwrap_err();
        assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
    }
    for node in minority {
        let write = net.put(node, "b", "2");
        let read = net.read(node);
        for call in [write, read] {
            assert_eq!(net.answers.get(&call), Some(&Err(Error::NoQuorum)));
        }
    }
    let new = net.leader().unwrap();
    assert!(!minority.contains(&new));
    net.put_acked(new, "a", "2");
    net.cuts.clear();
    net.await_leader();
    net.await_equal();
    assert_eq!(net.value(leader, "a").as_deref(), Some("2"));
}

#[test]
fn one_cut_link_does_not_unseat_a_leader_that_a_majority_hears() {
    for contacts in [
        vec![],
        vec![Contact::Closed],
        vec![Contact::Refused],
        vec![Contact::Closed, Contact::Refused],
    ] {
        let mut net = Net::started(3, 35);
        net.run_for_ms(2_000);
        let (leader, follower) = (net.leader().unwrap(), net.follower());
        let term = net.term(leader);
        net.cuts.insert((leader, follower));
        net.cuts.insert((follower, leader));
        for contact in contacts {
            let peer = crate::testing::id(leader);
            net.input(follower, quorumor_core::Input::Contact { peer, contact });
        }
        for i in 0..20 {
            net.run_for_ms(500);
            net.put_acked(leader, &format!("k{i}"), "v");
        }
        assert_eq!((net.leader(), net.term(leader)), (Some(leader), term));
        net.cuts.clear();
        net.await_equal();
        assert_eq!(net.term(leader), term);
    }
}

#[test]
fn a_returning_node_from_a_long_partition_unseats_nobody() {
    let mut net = Net::started(3, 36);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let term = net.term(leader);
    net.isolate(&[follower]);
    net.run_for_ms(20_000);
    net.cuts.clear();
    net.run_for_ms(5_000);
    assert_eq!((net.leader(), net.term(leader)), (Some(leader), term));
}

#[test]
fn an_old_leaders_unreplicated_entries_give_way() {
    let mut net = Net::started(3, 37);
    let old = net.leader().unwrap();
    net.isolate(&[old]);
    for i in 0..5 {
        net.put(old, &format!("lost{i}"), "?");
    }
    net.run_until("a new leader", |net| {
        net.leader().is_some_and(|leader| leader != old)
    });
    let new = net.leader().unwrap();
    for i in 0..3 {
        net.put_acked(new, &format!("kept{i}"), "v");
    }
    net.cuts.clear();
    net.await_equal();
    // What overruled the old entries is durable, too.
    for node in 1..=3 {
        net.crash(node);
    }
    net.start_all();
    net.await_leader();
    net.await_equal();
    assert!(net.value(old, "kept2").is_some());
    assert!(net.value(old, "lost0").is_none());
}

#[test]
fn a_node_that_lost_acknowledged_entries_says_so_and_stays_up() {
    let mut net = Net::started(3, 38);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.run_for_ms(1_000);
    for i in 0..5 {
        net.put_acked(leader, &format!("k{i}"), "v");
    }
    net.await_equal();
    // Its acknowledged entries vanish, but not its connection to the leader.
    let node = net.nodes.get_mut(&follower).unwrap();
    let term_only = node
        .durable
        .records
        .iter()
        .position(|record| record.kind == 2);
    let mut keep = node.durable.records[term_only.unwrap()].clone();
    keep.bytes = crate::codec::record::encode_hard_state(&raft::eraftpb::HardState {
        term: 1,
        commit: 1,
        ..Default::default()
    });
    node.durable.records = vec![keep];
    node.replica = None;
    net.start(follower);
    net.run_until("it knows", |net| {
        matches!(net.health(follower), Health::Damaged { .. })
    });
    let call = net.put(follower, "b", "2");
    assert!(matches!(net.answer(call), Err(Error::Damaged { .. })));
    net.run_for_ms(3_000);
    assert_eq!(net.put_acked(leader, "still", "serving"), Revision::new(6));
}

#[test]
fn a_random_storm_of_crashes_and_cuts_loses_nothing_acknowledged() {
    let seeds = std::env::var("QUORUMOR_STORMS").map_or(12, |seeds| seeds.parse().unwrap());
    let checked: u64 = (0..seeds).map(storm).sum();
    assert!(
        checked > 20 * seeds,
        "too few answers to say anything: {checked}"
    );
}

/// Gives how many answers were checked.
fn storm(seed: u64) -> u64 {
    let nodes = if seed.is_multiple_of(3) { 5 } else { 3 };
    let mut net = Net::new(nodes, 100 + seed);
    net.repeats = seed.is_multiple_of(2);
    net.compaction.entries_max = 15;
    net.compaction.keep_entries = 3;
    net.start_all();
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for step in 0..150u64 {
        let dice = crate::hash::mix(&[seed, step]);
        let node = 1 + dice / 7 % nodes;
        match dice % 22 {
            0 if net.is_up(node) => net.crash(node),
            1 => net.isolate(&[node]),
            2 | 3 => net.cuts.clear(),
            4 => {
                net.cuts.insert((node, 1 + node % nodes));
            }
            5 => net.nodes.get_mut(&node).unwrap().disk_us = 300 + dice / 11 % 200_000,
            6..=8 if !net.is_up(node) => net.start(node),
            9..=12 if net.is_up(node) => {
                let floor = acked_revision(&net);
                reads.push((net.read(node), floor));
            }
            _ => {
                if net.is_up(node) {
                    let k = format!("k{step}");
                    writes.push((net.put(node, &k, "v"), k));
                }
            }
        }
        net.run_for_ms(20 + dice / 13 % 300);
    }
    heal(&mut net);
    let mut acked = 0;
    for (call, k) in writes {
        match net.answers.get(&call) {
            Some(Ok(_)) => {
                acked += 1;
                assert!(net.value(1, &k).is_some(), "seed {seed} lost {k}");
            }
            Some(Err(error)) if error.certainty() == Certainty::NotApplied => {
                let held = net.value(1, &k);
                assert!(held.is_none(), "seed {seed}: {k} was applied after {error}");
            }
            Some(Err(_)) | None => {}
        }
    }
    let mut read = 0;
    for (call, floor) in reads {
        if let Some(Ok(_)) = net.answers.get(&call) {
            read += 1;
            let seen = net.views[&call].revision().unwrap();
            assert!(
                seen >= floor,
                "seed {seed}: read at {seen}, written {floor}"
            );
        }
    }
    acked + read
}

fn heal(net: &mut Net) {
    net.cuts.clear();
    net.repeats = false;
    let nodes: Vec<u64> = net.nodes.keys().copied().collect();
    for node in nodes {
        net.nodes.get_mut(&node).unwrap().disk_us = 500;
        if !net.is_up(node) {
            net.start(node);
        }
    }
    net.await_leader();
    net.await_equal();
}

/// The highest revision that anyone was told.
fn acked_revision(net: &Net) -> Revision {
    net.answers
        .values()
        .filter_map(|answer| match answer {
            Ok(Reply::Written {
                position: Position::Strong(revision),
                ..
            }) => Some(*revision),
            Ok(_) | Err(_) => None,
        })
        .max()
        .unwrap_or_default()
}
