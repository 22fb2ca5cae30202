//! The lead goes from node to node, and no read is ever stale for it.

use quorumor_core::{CallId, ClusterAction, Command, Error, Input, Reply};

use crate::testing::{Net, id};

fn transfer(net: &mut Net, at: u64, to: Option<u64>) -> CallId {
    let action = ClusterAction::TransferLeader { to: to.map(id) };
    net.call(at, Command::Cluster(action), None)
}

fn transferred(net: &mut Net, at: u64, to: Option<u64>) {
    let call = transfer(net, at, to);
    let answer = net.answer(call);
    assert!(
        matches!(answer, Ok(Reply::ClusterChanged { .. })),
        "{answer:?}"
    );
}

#[test]
fn the_lead_is_handed_over_at_any_nodes_word_within_a_round_trip_or_two() {
    let mut net = Net::started(3, 81);
    for round in 0..6 {
        let old = net.leader().unwrap();
        let to = 1 + old % 3;
        let at = 1 + round % 3;
        let begun = net.now;
        transferred(&mut net, at, Some(to));
        assert!(net.now - begun < 50_000, "{} us", net.now - begun);
        net.run_until("it leads", |net| net.leader() == Some(to));
        transferred(&mut net, at, Some(to));
    }
    let old = net.leader().unwrap();
    transferred(&mut net, old, None);
    net.run_until("another leads", |net| {
        net.leader().is_some_and(|leader| leader != old)
    });
}

#[test]
fn nobody_is_given_the_lead_who_cannot_take_it() {
    let mut net = Net::started(3, 82);
    let leader = net.leader().unwrap();
    let (dead, other) = (net.follower(), 6 - leader - net.follower());
    let refused = |net: &mut Net, to: Option<u64>| {
        let call = transfer(net, other, to);
        match net.answer(call) {
            Err(Error::MembershipRefused { why }) => why,
            answer => panic!("{answer:?}"),
        }
    };
    assert!(refused(&mut net, Some(9)).contains("no voter"));
    net.crash(dead);
    net.run_for_ms(2_000);
    assert!(refused(&mut net, Some(dead)).contains("not been heard"));
    // A target that is cut off just now takes nothing, and the old leader goes on.
    net.start(dead);
    net.await_follows(dead);
    net.run_for_ms(500);
    net.cuts.insert((leader, dead));
    let call = transfer(&mut net, leader, Some(dead));
    let write = net.put(leader, "a", "1");
    let error = net.answer(call).unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    net.answer(write).unwrap();
    assert_eq!(net.leader(), Some(leader));
}

#[test]
fn writes_during_a_transfer_are_done_or_surely_not() {
    let mut net = Net::started(3, 83);
    let mut calls = Vec::new();
    for round in 0..60 {
        if round % 20 == 10 {
            let leader = net.leader().unwrap();
            transfer(&mut net, leader, None);
        }
        for node in 1..=3 {
            let key = format!("k{}", calls.len());
            calls.push((net.put(node, &key, "v"), key));
        }
        net.run_for_ms(1);
    }
    let mut refused = 0;
    for (call, key) in calls {
        match net.answer(call) {
            Ok(_) => assert!(net.value(net.leader().unwrap(), &key).is_some()),
            Err(Error::NotLeader { .. }) => refused += 1,
            Err(Error::OutcomeUnknown { .. }) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }
    assert!(refused > 0, "no transfer bit");
}

/// tikv #9351, PR #9239, PR #6340, etcd #7331: a leader that gives the lead away, or takes it, answered reads from before.
#[test]
fn no_read_is_stale_while_the_lead_wanders() {
    let mut net = Net::started(3, 84);
    let mut reads = Vec::new();
    let mut written = 0_u64;
    for round in 0..120_u64 {
        let leader = net.leader();
        if let Some(leader) = leader.filter(|_| round % 8 == 3) {
            transfer(&mut net, leader, None);
        }
        let at = 1 + round % 3;
        let call = net.put(at, "n", &format!("{}", round + 1));
        // Reads are asked while the write is under way, and while the lead changes.
        for node in 1..=3 {
            reads.push((net.read(node), written));
        }
        net.run_for_ms(3);
        if let Some(Ok(_)) = net.answers.get(&call) {
            written = round + 1;
        }
    }
    net.run_for_ms(5_000);
    let mut served = 0;
    for (call, at_least) in reads {
        if let Ok(Reply::ReadReady { .. }) = net.answer(call) {
            let seen = net.value_read(call, "n").map_or(0, |n| n.parse().unwrap());
            assert!(
                seen >= at_least,
                "read {seen} after {at_least} was acknowledged"
            );
            served += 1;
        }
    }
    assert!(served > 100, "only {served} reads were served");
    assert!(written > 40, "only {written} writes");
}

/// etcd #20418: a leader whose process stood still, and went on without noticing that another had been elected meanwhile.
#[test]
fn a_leader_that_slept_serves_no_read_from_before_its_sleep() {
    let mut net = Net::started(3, 85);
    let old = net.leader().unwrap();
    net.put_acked(old, "a", "old");
    // Asleep: nothing goes in or out, and its clock stands still as far as it is told.
    net.isolate(&[old]);
    let early = net.read(old);
    net.run_until("a new leader", |net| {
        (1..=3).any(|node| node != old && net.replica(node).standing.leads)
    });
    let new = (1..=3)
        .find(|node| *node != old && net.replica(*node).standing.leads)
        .unwrap();
    net.put_acked(new, "a", "new");
    net.cuts.clear();
    let late = net.read(old);
    for call in [early, late] {
        if net.answer(call).is_ok() {
            assert_eq!(net.value_read(call, "a").as_deref(), Some("new"));
        }
    }
}

#[test]
fn a_leader_that_shuts_down_hands_over() {
    let mut net = Net::started(3, 86);
    let leader = net.leader().unwrap();
    let other = net.follower();
    net.input(leader, Input::Leave);
    let begun = net.now;
    net.run_until("another leads", |net| {
        net.leader().is_some_and(|new| new != leader)
    });
    assert!(net.now - begun < 50_000, "{} us", net.now - begun);
    net.put_acked(other, "a", "1");
}
