//! Reads: linearizable at any node, local as far as a token demands.

use quorumor_core::{Bound, Command, Error, Level, Reply, Revision};

use crate::testing::Net;

#[test]
fn a_linearizable_read_at_a_follower_sees_every_acknowledged_write() {
    let mut net = Net::started(3, 21);
    let leader = net.leader().unwrap();
    let follower = net.follower();
    for round in 0..20 {
        let v = format!("{round}");
        net.put_acked(leader, "a", &v);
        let call = net.read(follower);
        assert!(matches!(net.answer(call), Ok(Reply::ReadReady { .. })));
        assert_eq!(net.value_read(call, "a"), Some(v));
    }
}

#[test]
fn a_read_at_a_new_leader_waits_for_its_first_commit() {
    let mut net = Net::started(3, 22);
    let old = net.leader().unwrap();
    net.put_acked(old, "a", "1");
    net.crash(old);
    net.run_until("a candidate that leads", |net| {
        (1..=3).any(|node| node != old && net.is_up(node) && net.replica(node).standing.leads)
    });
    let new = (1..=3)
        .find(|node| *node != old && net.replica(*node).standing.leads)
        .unwrap();
    assert!(!net.replica(new).raw.raft.commit_to_current_term());
    let follower = (1..=3).find(|node| *node != old && *node != new).unwrap();
    let at_leader = net.read(new);
    net.run_until("the follower knows", |net| {
        net.replica(follower).standing.leader.is_some()
    });
    let at_follower = net.read(follower);
    for call in [at_leader, at_follower] {
        net.answer(call).unwrap();
        assert_eq!(net.value_read(call, "a").as_deref(), Some("1"));
    }
}

#[test]
fn many_reads_share_one_context() {
    let mut net = Net::started(3, 23);
    net.run_for_ms(2_000);
    let follower = net.follower();
    let before = net.sent;
    let calls: Vec<_> = (0..500).map(|_| net.read(follower)).collect();
    for call in calls {
        net.answer(call).unwrap();
    }
    let used = net.sent - before;
    assert!(used < 40, "{used} messages for 500 reads");
}

#[test]
fn a_read_whose_question_was_lost_is_asked_again() {
    let mut net = Net::started(3, 24);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.put_acked(leader, "a", "1");
    net.cuts.insert((follower, leader));
    let call = net.read(follower);
    net.run_for_ms(50);
    net.cuts.clear();
    assert!(!net.answers.contains_key(&call));
    net.answer(call).unwrap();
    assert_eq!(net.value_read(call, "a").as_deref(), Some("1"));
}

#[test]
fn a_restarted_nodes_first_read_is_not_taken_for_an_old_one() {
    let mut net = Net::started(3, 25);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.put_acked(leader, "a", "1");
    // Its first context stays open at the leader, which hears nobody's confirmation.
    let third = (1..=3)
        .find(|node| *node != leader && *node != follower)
        .unwrap();
    net.cuts.insert((third, leader));
    net.read(follower);
    net.run_for_ms(1);
    net.crash(follower);
    net.cuts.clear();
    net.start(follower);
    net.run_until("it follows again", |net| {
        net.replica(follower).standing.leader.is_some()
    });
    net.put_acked(leader, "a", "2");
    let call = net.read(follower);
    net.answer(call).unwrap();
    assert_eq!(net.value_read(call, "a").as_deref(), Some("2"));
}

#[test]
fn a_local_read_waits_for_what_its_token_has_seen_and_can_be_cancelled() {
    let mut net = Net::started(3, 26);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.cuts.insert((leader, follower));
    let revision = net.put_acked(leader, "a", "1");
    let level = Level::Local;
    let behind = net.call(
        follower,
        Command::ReadBarrier {
            level,
            bound: Bound::NONE,
        },
        None,
    );
    assert!(net.answers[&behind].is_ok(), "nothing to wait for");
    let waits = net.call(
        follower,
        Command::ReadBarrier {
            level,
            bound: Bound::NONE,
        },
        Some(revision),
    );
    let ahead = Some(Revision::new(1_000));
    let gone = net.call(
        follower,
        Command::ReadBarrier {
            level,
            bound: Bound::NONE,
        },
        ahead,
    );
    net.run_for_ms(100);
    assert!(!net.answers.contains_key(&waits));
    net.cuts.clear();
    net.answer(waits).unwrap();
    assert_eq!(net.value_read(waits, "a").as_deref(), Some("1"));
    net.input(follower, quorumor_core::Input::Cancel { call: gone });
    net.run_for_ms(1_000);
    assert!(!net.answers.contains_key(&gone));
}

#[test]
fn a_deposed_leader_serves_no_stale_read() {
    let mut net = Net::started(3, 27);
    let old = net.leader().unwrap();
    net.put_acked(old, "a", "old");
    net.isolate(&[old]);
    // It still believes that it leads, and must not answer.
    let early = net.read(old);
    net.run_until("a new leader", |net| {
        net.leader().is_some_and(|leader| leader != old)
    });
    let new = net.leader().unwrap();
    net.put_acked(new, "a", "new");
    let late = net.read(old);
    for call in [early, late] {
        assert!(matches!(
            net.answer(call),
            Err(Error::NoQuorum | Error::NotLeader { .. })
        ));
    }
    net.cuts.clear();
    net.run_until("it follows", |net| {
        net.replica(old).standing.leader == net.leader().map(crate::testing::id)
            && !net.replica(old).standing.leads
    });
    let call = net.read(old);
    net.answer(call).unwrap();
    assert_eq!(net.value_read(call, "a").as_deref(), Some("new"));
}

#[test]
fn a_slow_follower_disk_neither_stalls_reads_nor_deposes_the_leader() {
    let mut net = Net::started(3, 28);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let third = (1..=3)
        .find(|node| *node != leader && *node != follower)
        .unwrap();
    let term = net.term(leader);
    net.run_for_ms(2_000);
    // Both followers hang in a sync for longer than any timeout.
    for node in [follower, third] {
        net.nodes.get_mut(&node).unwrap().disk_us = 5_000_000;
    }
    net.put(leader, "a", "1");
    net.run_for_ms(100);
    for node in [leader, follower] {
        let begun = net.now;
        let call = net.read(node);
        net.answer(call).unwrap();
        assert!(
            net.now - begun < 50_000,
            "a read took {} us",
            net.now - begun
        );
    }
    net.run_for_ms(4_000);
    assert_eq!((net.leader(), net.term(leader)), (Some(leader), term));
}

fn bounded(net: &mut Net, node: u64, max_lag: u64, max_age_ms: u64) -> quorumor_core::CallId {
    let bound = Bound {
        members: 0,
        max_lag,
        max_age_us: max_age_ms * 1_000,
    };
    let level = Level::Bounded;
    net.call(node, Command::ReadBarrier { level, bound }, None)
}

#[test]
fn a_bounded_read_is_served_at_once_by_a_fresh_proof_and_else_by_a_new_one() {
    let mut net = Net::started(3, 29);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.put_acked(leader, "a", "1");
    let call = bounded(&mut net, follower, 0, 500);
    assert!(!net.answers.contains_key(&call), "no proof yet");
    net.answer(call).unwrap();
    assert_eq!(net.value_read(call, "a").as_deref(), Some("1"));
    let sent = net.sent;
    for _ in 0..100 {
        let call = bounded(&mut net, follower, 0, 500);
        assert!(net.answers[&call].is_ok());
    }
    assert_eq!(net.sent, sent, "the proof is shared");
    // It gets old; what was acknowledged since need not be here before, and must be after.
    net.cuts.insert((leader, follower));
    net.put_acked(leader, "a", "2");
    net.run_for_ms(400);
    let call = bounded(&mut net, follower, 0, 500);
    assert!(net.answers[&call].is_ok());
    assert_eq!(net.value_read(call, "a").as_deref(), Some("1"));
    net.run_for_ms(200);
    let late = bounded(&mut net, follower, 0, 500);
    assert!(!net.answers.contains_key(&late));
    net.cuts.clear();
    net.answer(late).unwrap();
    assert_eq!(net.value_read(late, "a").as_deref(), Some("2"));
}

#[test]
fn a_bounded_read_without_contact_is_served_as_long_as_the_bound_allows_and_then_refused() {
    let mut net = Net::started(3, 30);
    let follower = net.follower();
    let call = net.read(follower);
    net.answer(call).unwrap();
    net.isolate(&[follower]);
    let waits = bounded(&mut net, follower, 0, 0);
    net.run_for_ms(3_000);
    let loose = bounded(&mut net, follower, 0, 10_000);
    assert!(net.answers[&loose].is_ok());
    let tight = bounded(&mut net, follower, 0, 1_000);
    for call in [waits, tight] {
        let error = net.answer(call).unwrap_err();
        assert!(matches!(error, Error::TooStale { .. }), "{error}");
    }
    // One that no proof can satisfy doesn't wait for ever either.
    net.cuts.clear();
    net.await_follows(follower);
    let never = bounded(&mut net, follower, 0, 0);
    let error = net.answer(never).unwrap_err();
    assert!(matches!(error, Error::TooStale { .. }), "{error}");
}
