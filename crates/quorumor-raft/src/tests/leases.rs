//! Leases: they end when nobody renews them, and for no other reason. Time is what leaders counted, whatever clocks say.

use quorumor_core::{DiskState, Error, Input, LeaseAction, LeaseId, Reply};

use crate::testing::{Net, put};
use crate::{Compaction, HistoryWindow};

const SECOND: u64 = 1_000_000;

#[test]
fn a_lease_that_nobody_renews_ends_with_its_keys_at_one_revision_on_all_nodes() {
    let mut net = Net::started(3, 61);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let id = net.grant(follower, 3_000);
    for k in ["a", "b"] {
        net.put_leased(follower, k, id).unwrap();
    }
    let call = net.write(leader, vec![put("b", "mine")]);
    net.answer(call).unwrap();
    net.put_leased(leader, "c", id).unwrap();
    let granted_at = net.now;
    let before = net.view(leader).revision().unwrap();
    for _ in 0..5 {
        net.run_for_ms(1_000);
        assert_eq!(net.kept_alive(follower, id), Ok(3_000));
    }
    let renewed_at = net.now;
    assert!(renewed_at > granted_at + 5 * SECOND);
    net.run_until("it ends everywhere", |net| {
        (1..=3).all(|node| net.lease(node, id).is_none())
    });
    let lived = net.now - renewed_at;
    assert!((2_900_000..4 * SECOND).contains(&lived), "{lived}");
    net.await_equal();
    let view = net.view(follower);
    assert_eq!(view.revision(), Some(before.next()));
    let gone: Vec<_> = view.history.since(before).unwrap().collect();
    assert_eq!((gone.len(), gone[0].events.len()), (1, 2));
    assert_eq!(net.value(follower, "b").as_deref(), Some("mine"));
    let late = net.kept_alive(leader, id);
    assert_eq!(late, Err(Error::LeaseNotFound { lease: id }));
    let bound = net.put_leased(leader, "d", id);
    assert_eq!(bound, Err(Error::LeaseNotFound { lease: id }));
}

#[test]
fn grants_and_revocations_say_what_is_wrong_with_them() {
    let mut net = Net::started(3, 62);
    let follower = net.follower();
    let mut ask = |action| {
        let call = net.call(follower, quorumor_core::Command::Lease(action), None);
        net.answer(call)
    };
    let grant = |id: u64, ttl_ms| LeaseAction::Grant {
        id: Some(LeaseId::new(id)),
        ttl_ms,
        client: None,
    };
    let revoke = |id: u64| LeaseAction::Revoke {
        id: LeaseId::new(id),
        client: None,
    };
    let lease = LeaseId::new(5);
    // Raised to what survives an election.
    let granted = ask(grant(5, 1));
    assert!(matches!(granted, Ok(Reply::LeaseGranted { id, ttl_ms: 1_875, .. }) if id == lease));
    assert_eq!(ask(grant(5, 9_000)), Err(Error::LeaseExists { lease }));
    assert!(matches!(
        ask(grant(0, 9_000)),
        Err(Error::InvalidArgument { .. })
    ));
    assert!(matches!(
        ask(grant(6, u64::MAX)),
        Err(Error::TooLarge {
            limit: "lease_ttl_ms_max",
            ..
        })
    ));
    assert!(matches!(ask(revoke(5)), Ok(Reply::Written { .. })));
    assert_eq!(ask(revoke(5)), Err(Error::LeaseNotFound { lease }));
}

/// etcd #9395, #13294, #20273: each election gave every lease its whole TTL again.
#[test]
fn repeated_elections_do_not_extend_a_lease_for_ever() {
    let mut net = Net::started(3, 63);
    let leader = net.leader().unwrap();
    let id = net.grant(leader, 8_000);
    net.put_leased(leader, "a", id).unwrap();
    let granted_at = net.now;
    let mut elections = 0;
    while net
        .leader()
        .is_none_or(|leader| net.lease(leader, id).is_some())
    {
        elections += 1;
        assert!(elections < 40, "the lease outlived 40 elections");
        let leader = net.await_leader();
        net.crash(leader);
        net.run_for_ms(200);
        net.start(leader);
        net.await_leader();
        net.run_for_ms(500);
    }
    assert!(elections > 3, "elections came before the end");
    assert!(net.now - granted_at >= 7_900_000, "and none cut it short");
}

/// etcd #17132, PR #13491: what was left of a TTL was forgotten by restarts and snapshots.
#[test]
fn what_is_left_of_a_ttl_survives_a_restart_of_all_nodes_and_a_snapshot() {
    let mut net = Net::new(3, 64);
    net.compaction = Compaction {
        entries_max: 5,
        keep_entries: 1,
        ..Compaction::default()
    };
    net.start_all();
    let leader = net.await_leader();
    let id = net.grant(leader, 10_000);
    net.put_leased(leader, "a", id).unwrap();
    for round in 0..12 {
        net.put_acked(leader, "b", &format!("{round}"));
        net.run_for_ms(500);
    }
    let left = net.remaining_ms(leader, id).unwrap();
    assert!((3_500..=4_200).contains(&left), "{left}");
    for node in 1..=3 {
        net.crash(node);
    }
    // What was down doesn't count.
    net.now += 3_600 * SECOND;
    net.start_all();
    let leader = net.await_leader();
    net.put_acked(leader, "c", "up again");
    for node in 1..=3 {
        net.run_until("it has caught up", |net| net.value(node, "c").is_some());
        let now = net.remaining_ms(node, id).unwrap();
        // What the leader counted since its last entry is lost with it: a second at most.
        assert!((500..=left + 1_000).contains(&now), "{now} left of {left}");
    }
    let up_at = net.now;
    net.run_until("it ends", |net| net.lease(leader, id).is_none());
    assert!(net.now - up_at < 5 * SECOND);
}

/// etcd #15247: a leader that was stopped wakes up, takes every lease for expired, and revokes them all.
#[test]
fn a_leader_that_was_stopped_and_deposed_ends_no_lease() {
    let mut net = Net::started(3, 65);
    let old = net.leader().unwrap();
    let id = net.grant(old, 3_000);
    net.put_leased(old, "lock", id).unwrap();
    net.pause(old);
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    net.run_until("another leads", |net| {
        others.iter().any(|node| net.replica(*node).standing.leads)
    });
    let new = *others
        .iter()
        .find(|node| net.replica(**node).standing.leads)
        .unwrap();
    for _ in 0..20 {
        net.run_for_ms(1_000);
        assert_eq!(net.kept_alive(new, id), Ok(3_000));
    }
    net.resume(old);
    for _ in 0..5 {
        net.run_for_ms(1_000);
        assert_eq!(net.kept_alive(new, id), Ok(3_000));
    }
    for node in 1..=3 {
        assert_eq!(
            net.value(node, "lock").as_deref(),
            Some("leased"),
            "at {node}"
        );
    }
}

/// The same without anybody else to lead: a stall of the whole cluster costs no lease either.
#[test]
fn a_leader_that_was_stopped_counts_no_more_than_an_election_timeout() {
    let mut net = Net::started(1, 66);
    let id = net.grant(1, 3_000);
    net.pause(1);
    net.run_for_ms(60_000);
    net.resume(1);
    net.run_for_ms(500);
    assert_eq!(net.kept_alive(1, id), Ok(3_000));
}

#[test]
fn a_leader_cut_off_from_its_majority_ends_no_lease() {
    let mut net = Net::started(3, 67);
    let old = net.leader().unwrap();
    let id = net.grant(old, 2_000);
    net.put_leased(old, "lock", id).unwrap();
    net.isolate(&[old]);
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    net.run_until("another leads", |net| {
        others.iter().any(|node| {
            net.replica(*node).raw.raft.commit_to_current_term()
                && net.replica(*node).standing.leads
        })
    });
    let new = *others
        .iter()
        .find(|node| net.replica(**node).standing.leads)
        .unwrap();
    for _ in 0..10 {
        assert_eq!(net.kept_alive(new, id), Ok(2_000));
        net.run_for_ms(600);
        assert!(
            net.lease(old, id).is_some(),
            "the old leader ended it by itself"
        );
    }
    net.cuts.clear();
    assert_eq!(
        net.kept_alive(old, id).or(net.kept_alive(new, id)),
        Ok(2_000)
    );
    assert_eq!(net.value(new, "lock").as_deref(), Some("leased"));
}

#[test]
fn a_saturating_load_of_writes_expires_no_lease_that_is_renewed() {
    let mut net = Net::started(3, 68);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let leases = [net.grant(leader, 2_000), net.grant(follower, 2_000)];
    for node in 1..=3 {
        net.nodes.get_mut(&node).unwrap().disk_us = 20_000;
    }
    let load = "x".repeat(200);
    let mut refused = 0;
    let mut written = Vec::new();
    for _ in 0..5 {
        for _ in 0..17_500 {
            written.push(net.put(leader, "load", &load));
        }
        for (node, lease) in [(leader, leases[0]), (follower, leases[1])] {
            let asked_at = net.now;
            assert_eq!(net.kept_alive(node, lease), Ok(2_000));
            let took = net.now - asked_at;
            assert!(took < SECOND, "a keep-alive took {took} us");
        }
        net.run_for_ms(500);
    }
    for call in written {
        let full = matches!(net.answers.get(&call), Some(Err(Error::Overloaded { .. })));
        refused += usize::from(full);
    }
    assert!(refused > 1_000, "the queue was full");
    assert!(
        leases
            .iter()
            .all(|lease| net.lease(leader, *lease).is_some())
    );
}

#[test]
fn no_jump_of_a_wall_clock_moves_a_lease() {
    let mut net = Net::started(3, 69);
    let leader = net.leader().unwrap();
    let id = net.grant(leader, 5_000);
    let granted_at = net.now;
    let day = 24 * 3_600 * 1_000;
    for offset in [day, -day, 400 * day, -30 * 365 * day] {
        net.wall_offset_ms = offset;
        net.run_for_ms(1_000);
        assert!(
            net.lease(leader, id).is_some(),
            "ended by a jump of {offset}"
        );
        let left = net.remaining_ms(leader, id).unwrap();
        let truth = 5_000 - (net.now - granted_at) / 1_000;
        assert!(left.abs_diff(truth) < 100, "{left} left, not {truth}");
    }
    net.run_until("it ends", |net| net.lease(leader, id).is_none());
    assert!(net.now - granted_at < 7 * SECOND);
}

#[test]
fn a_keep_alive_asked_of_a_follower_outlives_the_leader_that_it_was_sent_to() {
    let mut net = Net::started(3, 70);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let id = net.grant(leader, 20_000);
    let call = net.keep_alive(follower, id);
    net.crash_told(leader, &[]);
    net.run_until("it is answered", |net| net.answers.contains_key(&call));
    match net.answers.remove(&call).unwrap() {
        // Nobody led for a moment.
        Err(Error::NotLeader { .. } | Error::NoQuorum) => {}
        answer => assert!(matches!(answer, Ok(Reply::LeaseKept { ttl_ms: 20_000 }))),
    }
    net.await_leader();
    assert_eq!(net.kept_alive(follower, id), Ok(20_000));
}

#[test]
fn while_the_leaders_disk_is_full_time_stands_still_and_an_alarm_says_why() {
    let mut net = Net::started(3, 71);
    let leader = net.leader().unwrap();
    let id = net.grant(leader, 3_000);
    net.input(leader, Input::Disk(DiskState::Full));
    let alarms = net.view(leader).status.alarms.clone();
    assert_eq!(alarms[..], [quorumor_core::Alarm::DiskFull]);
    assert_eq!(net.kept_alive(leader, id), Err(Error::DiskFull));
    net.run_for_ms(30_000);
    assert!(net.lease(leader, id).is_some());
    net.input(leader, Input::Disk(DiskState::Available));
    assert!(net.view(leader).status.alarms.is_empty());
    assert_eq!(net.kept_alive(leader, id), Ok(3_000));
}

#[test]
fn the_history_window_ages_in_log_time() {
    let mut net = Net::new(3, 72);
    net.history = HistoryWindow {
        age_ms: 4_000,
        ..HistoryWindow::default()
    };
    net.start_all();
    let leader = net.await_leader();
    // Something that lets time go on.
    net.grant(leader, 60_000);
    net.put_acked(leader, "a", "1");
    net.run_for_ms(3_000);
    assert_eq!(net.view(leader).history.len(), 1);
    net.run_for_ms(4_000);
    assert_eq!(net.view(leader).history.len(), 0);
    net.await_equal();
}
