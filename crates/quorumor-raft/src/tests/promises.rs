//! What holds while nothing, or only a minority, is broken.

use quorumor_core::{
    ChangeEvent, Error, Expected, Health, Input, MemberState, OperationResult, Position, Reply,
    Revision, Role, Version,
};

use crate::testing::{Net, cas, id, key, put};

#[test]
fn a_cluster_elects_one_leader_that_all_follow() {
    let mut net = Net::started(3, 1);
    let leader = net.leader().unwrap();
    net.run_for_ms(500);
    for node in 1..=3 {
        assert_eq!(net.replica(node).standing.leader, Some(id(leader)));
        assert_eq!(net.health(node), Health::Serving);
    }
}

#[test]
fn a_lone_founder_leads_at_once_and_serves() {
    let mut net = Net::new(1, 1);
    net.start_all();
    net.run_for_ms(20);
    assert_eq!(net.leader(), Some(1));
    assert_eq!(net.put_acked(1, "a", "1"), Revision::new(1));
    let call = net.read(1);
    net.answer(call).unwrap();
    assert_eq!(net.value_read(call, "a").as_deref(), Some("1"));
    net.crash(1);
    net.start(1);
    net.run_for_ms(50);
    assert_eq!(net.value(1, "a").as_deref(), Some("1"));
    net.put_acked(1, "b", "2");
}

#[test]
fn a_write_at_the_leader_reaches_every_node() {
    let mut net = Net::started(3, 2);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "1");
    assert_eq!(net.value(leader, "a").as_deref(), Some("1"));
    net.await_equal();
    for node in 1..=3 {
        let entry = net.entry(node, "a").unwrap();
        assert_eq!(entry.writer, id(leader));
        assert!(
            matches!(entry.version, Version::Strong { create, modify, count: 1 } if create == modify)
        );
    }
}

#[test]
fn a_batch_has_one_revision_one_change_and_a_result_for_each_operation() {
    let mut net = Net::started(3, 3);
    let leader = net.leader().unwrap();
    let before = net.view(leader).revision().unwrap();
    let call = net.write(
        leader,
        vec![
            put("a", "1"),
            quorumor_core::Operation::Get { key: key("a") },
            quorumor_core::Operation::Delete { key: key("absent") },
            cas("a", Expected::Absent, "2"),
            cas("a", Expected::Revision(before.next()), "3"),
        ],
    );
    let Ok(Reply::Written {
        results, position, ..
    }) = net.answer(call)
    else {
        panic!("not written");
    };
    assert_eq!(position, Position::Strong(before.next()));
    let [
        OperationResult::Put { .. },
        OperationResult::Got { entry: Some(_) },
        OperationResult::Deleted { previous: None },
        OperationResult::Compared {
            succeeded: false,
            entry: Some(lost_to),
        },
        OperationResult::Compared {
            succeeded: true,
            entry: Some(won),
        },
    ] = &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!(lost_to.value.as_bytes().as_ref(), b"1");
    assert_eq!(won.value.as_bytes().as_ref(), b"3");
    let change = net.changes[&leader].last().unwrap();
    assert_eq!(change.position, position);
    assert_eq!(change.events.len(), 2);
}

#[test]
fn a_write_that_changes_nothing_takes_no_revision_and_tells_no_watcher() {
    let mut net = Net::started(3, 4);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "1");
    let changes = net.changes[&leader].len();
    let call = net.write(leader, vec![cas("a", Expected::Absent, "2")]);
    assert!(matches!(
        net.answer(call),
        Ok(Reply::Written { position: Position::Strong(at), .. }) if at == Revision::new(1)
    ));
    assert_eq!(net.changes[&leader].len(), changes);
}

#[test]
fn many_writes_share_few_syncs() {
    let mut net = Net::started(3, 5);
    let leader = net.leader().unwrap();
    let works = net.nodes[&leader].works;
    let calls: Vec<_> = (0..200)
        .map(|i| net.put(leader, &format!("k{i}"), "v"))
        .collect();
    for call in calls {
        net.answer(call).unwrap();
    }
    let used = net.nodes[&leader].works - works;
    assert!(used < 20, "{used} disk works for 200 writes");
}

#[test]
fn members_become_known_with_their_client_addresses_and_leader_hints_name_them() {
    let mut net = Net::started(3, 6);
    net.run_for_ms(3_000);
    let leader = net.leader().unwrap();
    for node in 1..=3 {
        let status = net.view(node).status;
        assert_eq!(status.counts.alive, 3, "as node {node} sees it");
        for member in status.members.iter() {
            let address = format!("node{}:8000", member.node);
            assert_eq!(member.client_address, Some(address));
            assert_eq!(member.state, MemberState::Alive);
        }
        let Role::Strong {
            leader: Some(hint), ..
        } = &status.role
        else {
            panic!("no leader");
        };
        assert_eq!(hint.client_address, Some(format!("node{leader}:8000")));
    }
}

#[test]
fn a_dead_member_is_seen_as_down_by_all() {
    let mut net = Net::started(3, 7);
    let dead = net.follower();
    net.crash(dead);
    net.run_for_ms(6_000);
    for node in (1..=3).filter(|node| *node != dead) {
        let status = net.view(node).status;
        assert_eq!((status.counts.alive, status.counts.down), (2, 1));
    }
}

#[test]
fn a_leaving_leader_hands_over_without_an_election_timeout() {
    let mut net = Net::started(3, 8);
    let leader = net.leader().unwrap();
    net.run_for_ms(500);
    net.put_acked(leader, "a", "1");
    net.input(leader, Input::Leave);
    let begun = net.now;
    net.run_until("another leader", |net| {
        net.leader().is_some_and(|other| other != leader)
    });
    assert!(net.now - begun < 700_000, "took {} us", net.now - begun);
    let call = net.put(leader, "b", "2");
    assert_eq!(net.answer(call), Err(Error::Stopping));
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let mut net = Net::started(3, 9);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "1");
    net.input(leader, Input::Disk(quorumor_core::DiskState::Full));
    let call = net.put(leader, "b", "2");
    assert_eq!(net.answer(call), Err(Error::DiskFull));
    let follower = net.follower();
    let call = net.put(follower, "b", "2");
    assert_eq!(net.answer(call), Err(Error::DiskFull));
    let call = net.read(leader);
    net.answer(call).unwrap();
    net.input(leader, Input::Disk(quorumor_core::DiskState::Available));
    net.put_acked(leader, "b", "2");
}

#[test]
fn the_same_seed_gives_the_same_outputs() {
    let run = |seed| {
        let mut net = Net::started(3, seed);
        for i in 0..20 {
            net.put(1 + i % 3, &format!("k{i}"), "v");
            net.run_for_ms(30);
        }
        let leader = net.leader().unwrap();
        net.crash(leader);
        net.run_for_ms(3_000);
        net.start(leader);
        net.run_for_ms(3_000);
        net.trace
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
}

#[test]
fn deletions_are_told_with_the_revision_that_made_them() {
    let mut net = Net::started(3, 13);
    let leader = net.leader().unwrap();
    net.put_acked(leader, "a", "1");
    let call = net.write(
        leader,
        vec![quorumor_core::Operation::Delete { key: key("a") }],
    );
    net.answer(call).unwrap();
    assert_eq!(net.value(leader, "a"), None);
    let change = net.changes[&leader].last().unwrap();
    assert!(matches!(
        &change.events[..],
        [ChangeEvent::Deleted { version: Version::Strong { modify, .. }, .. }] if *modify == Revision::new(2)
    ));
}

#[test]
fn a_replica_can_be_handed_to_a_drivers_thread() {
    const fn is_send<T: Send>() {}
    is_send::<crate::RaftReplica>();
}
