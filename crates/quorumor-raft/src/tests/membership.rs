//! Members come, vote, lead and go, while the cluster works.

use std::net::SocketAddr;

use quorumor_core::{CallId, ClusterAction, Command, Error, Health, MemberState, Reply};

use crate::testing::{Net, id};

fn address(node: u64) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7_000 + node as u16))
}

fn add(node: u64, promote: bool) -> ClusterAction {
    ClusterAction::AddLearner {
        node: id(node),
        peer_address: address(node),
        promote,
    }
}

fn promote(node: u64, replacing: Option<u64>) -> ClusterAction {
    ClusterAction::Promote {
        node: id(node),
        replacing: replacing.map(id),
    }
}

fn remove(node: u64) -> ClusterAction {
    ClusterAction::Remove {
        node: id(node),
        allow_quorum_loss: false,
    }
}

fn ask(net: &mut Net, at: u64, action: ClusterAction) -> CallId {
    net.call(at, Command::Cluster(action), None)
}

fn change(net: &mut Net, at: u64, action: ClusterAction) {
    let call = ask(net, at, action);
    let answer = net.answer(call);
    assert!(
        matches!(answer, Ok(Reply::ClusterChanged { .. })),
        "{answer:?}"
    );
}

fn refusal(net: &mut Net, at: u64, action: ClusterAction) -> String {
    let call = ask(net, at, action);
    match net.answer(call) {
        Err(Error::MembershipRefused { why }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn voters(net: &Net, at: u64) -> Vec<u64> {
    net.replica(at).state.voters.voters.clone()
}

fn await_voters(net: &mut Net, wanted: &[u64]) {
    net.run_until("all voters agree who votes", |net| {
        wanted.iter().all(|node| {
            let state = &net.replica(*node).state.voters;
            state.voters == wanted && !state.is_joint()
        })
    });
}

fn says_it_is_removed(net: &Net, node: u64) -> bool {
    matches!(net.health(node), Health::Damaged { why } if why.contains("removed from the cluster"))
}

/// A new machine that runs, and was never told of.
fn join(net: &mut Net, node: u64) {
    net.machine(node);
    net.start(node);
}

#[test]
fn a_learner_joins_after_compaction_and_votes_by_itself_once_it_has_caught_up() {
    let mut net = Net::new(3, 71);
    net.compaction.entries_max = 10;
    net.compaction.keep_entries = 2;
    net.start_all();
    let leader = net.await_leader();
    for i in 0..40 {
        net.put_acked(leader, &format!("k{i}"), "v");
    }
    join(&mut net, 4);
    net.run_for_ms(3_000);
    assert_eq!(net.health(4), Health::Starting);
    let call = net.read(4);
    assert_eq!(net.answer(call), Err(Error::Starting));
    let follower = net.follower();
    change(&mut net, follower, add(4, true));
    await_voters(&mut net, &[1, 2, 3, 4]);
    net.run_until("it serves", |net| net.health(4) == Health::Serving);
    assert_eq!(net.value(4, "k39").as_deref(), Some("v"));
    let member = |net: &Net, at: u64| {
        let members = net.view(at).status.members.clone();
        let member = members.iter().find(|member| member.node == id(4));
        member.cloned().unwrap()
    };
    net.run_until("its record is known", |net| {
        member(net, leader).client_address.as_deref() == Some("node4:8000")
    });
    assert!(member(&net, leader).voter && !member(&net, leader).promote);
    assert_eq!(member(&net, leader).state, MemberState::Alive);
    // Its vote counts: with one of four away three are needed.
    let away = (1..=3).find(|node| *node != leader).unwrap();
    net.crash(away);
    net.put_acked(4, "with four", "v");
    net.start(away);
    net.await_equal();
    // It comes back as what it is.
    net.crash(4);
    net.start(4);
    net.await_equal();
    assert_eq!(voters(&net, 4), [1, 2, 3, 4]);
}

#[test]
fn a_dead_voter_is_replaced_in_one_step_while_writes_go_on() {
    let mut net = Net::started(3, 72);
    let leader = net.leader().unwrap();
    let dead = net.follower();
    let other = (1..=3).find(|node| ![leader, dead].contains(node)).unwrap();
    net.crash(dead);
    join(&mut net, 4);
    change(&mut net, other, add(4, false));
    let mut calls: Vec<CallId> = Vec::new();
    let load = |net: &mut Net, calls: &mut Vec<CallId>| {
        for at in [leader, other] {
            let key = format!("load{}", calls.len());
            calls.push(net.put(at, &key, "v"));
        }
        net.run_for_ms(2);
    };
    net.run_for_ms(1_000);
    let replace = ask(&mut net, other, promote(4, Some(dead)));
    for _ in 0..200 {
        load(&mut net, &mut calls);
    }
    let answer = net.answer(replace);
    assert!(
        matches!(answer, Ok(Reply::ClusterChanged { .. })),
        "{answer:?}"
    );
    for call in calls {
        net.answer(call).unwrap();
    }
    let mut now = [leader, other, 4];
    now.sort_unstable();
    await_voters(&mut net, &now);
    assert_eq!(net.leader(), Some(leader));
    net.await_equal();
    // The dead one returns, disturbs nobody, and learns what happened.
    let term = net.term(leader);
    net.start(dead);
    net.run_until("it says so", |net| says_it_is_removed(net, dead));
    net.run_for_ms(5_000);
    assert_eq!((net.leader(), net.term(leader)), (Some(leader), term));
    let call = net.put(dead, "a", "1");
    assert!(matches!(net.answer(call), Err(Error::Damaged { .. })));
    assert!(refusal(&mut net, leader, add(dead, true)).contains("never used again"));
    net.crash(dead);
    // The new one's vote is what keeps a majority now.
    net.crash(other);
    net.put_acked(4, "last", "v");
}

#[test]
fn the_leader_removes_itself_and_another_leads_at_once() {
    for at_leader in [true, false] {
        let mut net = Net::started(3, 73);
        let leader = net.leader().unwrap();
        let other = net.follower();
        net.put_acked(leader, "a", "1");
        let at = if at_leader { leader } else { other };
        change(&mut net, at, remove(leader));
        let begun = net.now;
        net.run_until("another leads", |net| {
            net.leader().is_some_and(|new| new != leader)
        });
        assert!(net.now - begun < 200_000, "{} us", net.now - begun);
        net.run_until("it says so", |net| says_it_is_removed(net, leader));
        net.put_acked(other, "a", "2");
        net.run_for_ms(5_000);
        assert!(!net.replica(leader).standing.leads);
        let rest: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
        assert_eq!(voters(&net, other), rest);
        // It stays what it is after a restart.
        net.crash(leader);
        net.start(leader);
        net.run_until("it says so again", |net| says_it_is_removed(net, leader));
    }
}

#[test]
fn a_change_that_would_cost_the_majority_is_refused_unless_forced() {
    let mut net = Net::started(3, 74);
    let leader = net.leader().unwrap();
    let (dead, other) = (net.follower(), 6 - leader - net.follower());
    net.crash(dead);
    net.run_for_ms(2_000);
    let why = refusal(&mut net, leader, remove(other));
    assert!(why.contains("only 1 answer now"), "{why}");
    change(&mut net, leader, remove(dead));
    let rest: Vec<u64> = (1..=3).filter(|node| *node != dead).collect();
    assert_eq!(voters(&net, leader), rest);
    // Of two, none can go while the other is away, but by force.
    join(&mut net, 4);
    change(&mut net, other, add(4, false));
    net.run_for_ms(1_000);
    assert!(refusal(&mut net, leader, promote(5, None)).contains("add it first"));
    change(&mut net, leader, promote(4, None));
    net.crash(other);
    net.run_for_ms(2_000);
    let why = refusal(&mut net, leader, remove(4));
    assert!(why.contains("--allow-quorum-loss"), "{why}");
    let forced = ClusterAction::Remove {
        node: id(4),
        allow_quorum_loss: true,
    };
    change(&mut net, leader, forced);
    let call = net.put(leader, "a", "1");
    net.run_for_ms(10_000);
    assert!(
        !matches!(net.answers.get(&call), Some(Ok(_))),
        "stands still"
    );
    net.start(other);
    net.run_until("a leader", |net| net.leader().is_some());
    net.await_follows(other);
    net.put_acked(other, "a", "2");
}

#[test]
fn a_learner_that_is_behind_or_silent_is_not_promoted() {
    let mut net = Net::started(3, 75);
    let leader = net.leader().unwrap();
    change(&mut net, leader, add(4, true));
    net.run_for_ms(5_000);
    assert_eq!(voters(&net, leader), [1, 2, 3], "nobody is there");
    let why = refusal(&mut net, leader, promote(4, None));
    assert!(why.contains("not been heard"), "{why}");
    // It is heard, and its snapshot does not get through.
    net.machine(4);
    net.start(4);
    net.cuts.insert((4, leader));
    net.run_for_ms(300);
    net.cuts.clear();
    let why = refusal(&mut net, leader, promote(4, None));
    assert!(why.contains("not"), "{why}");
    await_voters(&mut net, &[1, 2, 3, 4]);
}

#[test]
fn one_change_at_a_time_and_a_repeated_one_is_done_once() {
    let mut net = Net::started(3, 76);
    let leader = net.leader().unwrap();
    let follower = net.follower();
    let first = ask(&mut net, leader, add(4, false));
    let second = ask(&mut net, leader, add(5, false));
    let error = net.answer(second).unwrap_err();
    assert!(
        matches!(error, Error::Overloaded { queue, .. } if queue == "changes of the members"),
        "{error}"
    );
    assert!(matches!(
        net.answer(first),
        Ok(Reply::ClusterChanged { .. })
    ));
    change(&mut net, follower, add(4, false));
    change(&mut net, follower, remove(4));
    change(&mut net, follower, remove(4));
    assert_eq!(net.replica(leader).state.members.len(), 3);
}

#[test]
fn a_configuration_survives_restarts_and_snapshots_even_if_it_is_joint() {
    let mut net = Net::new(3, 77);
    net.compaction.entries_max = 8;
    net.compaction.keep_entries = 2;
    net.start_all();
    let leader = net.await_leader();
    let away = net.follower();
    let other = 6 - leader - away;
    join(&mut net, 4);
    change(&mut net, leader, add(4, false));
    net.run_for_ms(1_000);
    net.crash(away);
    // Everything stops in the joint configuration, whose end is in nobody's log yet but the leader's.
    let call = ask(&mut net, leader, promote(4, Some(away)));
    net.run_until("it is joint", |net| {
        net.replica(leader).state.voters.is_joint()
    });
    assert!(!net.answers.contains_key(&call));
    for node in [leader, other, 4] {
        net.crash(node);
    }
    for node in [leader, other, 4] {
        net.start(node);
    }
    let mut now = [leader, other, 4];
    now.sort_unstable();
    await_voters(&mut net, &now);
    for i in 0..40 {
        net.put_acked(other, &format!("k{i}"), "v");
    }
    for node in now {
        net.crash(node);
    }
    for node in now {
        net.start(node);
    }
    net.await_leader();
    net.await_equal();
    for node in now {
        assert_eq!(voters(&net, node), now);
        assert!(net.replica(node).state.roster.removed.contains(&id(away)));
    }
}

#[test]
fn a_leader_that_dies_in_a_joint_configuration_leaves_it_to_the_next() {
    let mut net = Net::started(3, 78);
    let leader = net.leader().unwrap();
    let (replaced, other) = (net.follower(), 6 - leader - net.follower());
    join(&mut net, 4);
    change(&mut net, leader, add(4, false));
    net.run_for_ms(1_000);
    ask(&mut net, other, promote(4, Some(replaced)));
    net.run_until("others know that it is joint", |net| {
        net.replica(other).state.voters.is_joint()
    });
    net.crash(leader);
    net.run_until("the next leader ends it", |net| {
        let voters = &net.replica(other).state.voters;
        !voters.is_joint() && voters.contains(4) && !voters.contains(replaced)
    });
    net.run_until("a leader", |net| net.leader().is_some());
    net.put_acked(other, "a", "1");
    net.start(leader);
    net.run_until("the old one knows", |net| {
        !net.replica(leader).state.voters.contains(replaced)
    });
}

#[test]
fn a_change_whose_leader_is_lost_is_unknown() {
    let mut net = Net::started(3, 79);
    let leader = net.leader().unwrap();
    let follower = net.follower();
    net.isolate(&[leader]);
    let at_leader = ask(&mut net, leader, add(4, false));
    net.cuts.clear();
    net.isolate(&[follower]);
    let at_follower = ask(&mut net, follower, add(5, false));
    net.crash(leader);
    let error = net.answer(at_follower).unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert!(!net.answers.contains_key(&at_leader));
}
