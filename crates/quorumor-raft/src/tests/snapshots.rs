//! Compaction, and how a node that was away for long catches up.

use quorumor_core::{ChangeEvent, Recovered};

use crate::testing::{Net, id};
use crate::{OpenError, RaftReplica};

fn compacting(nodes: u64, seed: u64) -> Net {
    let mut net = Net::new(nodes, seed);
    net.compaction.entries_max = 10;
    net.compaction.keep_entries = 3;
    net.start_all();
    net.await_leader();
    net
}

#[test]
fn the_log_stays_short_in_memory_and_on_disk() {
    let mut net = compacting(3, 51);
    let leader = net.leader().unwrap();
    for i in 0..200 {
        net.put_acked(leader, &format!("k{}", i % 7), "v");
    }
    net.run_for_ms(500);
    for node in 1..=3 {
        let log = net.replica(node).raw.store();
        assert!(log.last() - log.first() < 30);
        let records = net.nodes[&node].durable.records.len();
        assert!(records < 90, "{records} records");
    }
}

#[test]
fn a_slow_follower_catches_up_by_a_snapshot_after_compaction() {
    let mut net = compacting(3, 52);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.isolate(&[follower]);
    for i in 0..60 {
        net.put_acked(leader, &format!("k{i}"), "v");
    }
    assert!(net.replica(leader).raw.store().first() > net.replica(follower).raw.store().last());
    net.cuts.clear();
    net.await_equal();
    assert!(net.value(follower, "k59").is_some());
    let resets = net.changes[&follower]
        .iter()
        .filter(|change| change.events[..] == [ChangeEvent::Reset]);
    assert_eq!(resets.count(), 1);
    // What was installed is durable.
    net.crash(follower);
    net.start(follower);
    assert!(net.value(follower, "k50").is_some());
    net.await_equal();
    net.await_follows(follower);
    net.put_acked(follower, "after", "v");
    net.await_equal();
}

#[test]
fn a_large_snapshot_goes_in_pieces_and_entries_go_on_meanwhile() {
    let mut net = compacting(3, 53);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.isolate(&[follower]);
    let big = "x".repeat(400_000);
    for i in 0..30 {
        net.put_acked(leader, &format!("k{i}"), &big);
    }
    net.cuts.clear();
    for i in 0..10 {
        net.put_acked(leader, &format!("meanwhile{i}"), "v");
    }
    net.await_equal();
    assert_eq!(net.value(follower, "k29").map(|v| v.len()), Some(400_000));
}

#[test]
fn a_snapshot_whose_pieces_are_lost_is_sent_again() {
    let mut net = compacting(3, 54);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.isolate(&[follower]);
    let big = "x".repeat(400_000);
    for i in 0..30 {
        net.put_acked(leader, &format!("k{i}"), &big);
    }
    net.cuts.clear();
    net.run_until("a transfer", |net| net.replica(leader).outgoing.is_some());
    net.isolate(&[follower]);
    net.run_for_ms(500);
    net.cuts.clear();
    net.await_equal();
    // And once with the receiver crashing in the middle.
    net.isolate(&[follower]);
    for i in 0..30 {
        net.put_acked(leader, &format!("l{i}"), &big);
    }
    net.cuts.clear();
    net.run_until("a transfer", |net| net.replica(leader).outgoing.is_some());
    net.run_for_ms(1);
    net.crash(follower);
    net.start(follower);
    net.await_equal();
}

#[test]
fn a_crash_anywhere_in_an_installation_leaves_a_node_that_catches_up() {
    for work in 1..12 {
        let mut net = compacting(3, 55);
        let (leader, follower) = (net.leader().unwrap(), net.follower());
        net.isolate(&[follower]);
        for i in 0..60 {
            net.put_acked(leader, &format!("k{i}"), "v");
        }
        let node = net.nodes.get_mut(&follower).unwrap();
        node.crash_at = Some(node.works + work);
        net.cuts.clear();
        for i in 0..20 {
            net.put_acked(leader, &format!("l{i}"), "v");
            net.run_for_ms(50);
            if !net.is_up(follower) {
                net.start(follower);
            }
        }
        net.await_equal();
        assert!(net.value(follower, "l19").is_some(), "crash at work {work}");
    }
}

#[test]
fn a_new_leader_can_bring_up_a_node_that_was_down_since_the_beginning() {
    let mut net = Net::new(3, 56);
    net.compaction.entries_max = 10;
    net.compaction.keep_entries = 3;
    net.start(1);
    net.start(2);
    let leader = net.await_leader();
    for i in 0..40 {
        net.put_acked(leader, &format!("k{i}"), "v");
    }
    net.start(3);
    net.await_equal();
    net.crash(leader);
    net.await_leader();
    net.put_acked(3, "with the late one", "v");
}

#[test]
fn a_start_is_refused_when_acknowledged_entries_are_missing_or_the_cluster_is_another() {
    let mut net = compacting(3, 57);
    let leader = net.leader().unwrap();
    for i in 0..25 {
        net.put_acked(leader, &format!("k{i}"), "v");
    }
    net.run_for_ms(500);
    let image = net.nodes[&leader].durable.clone();
    let open = |records: Vec<_>, checkpoint| {
        let config = net.config(leader, 99);
        let recovered = Recovered {
            checkpoint,
            records,
            torn: false,
        };
        RaftReplica::open(config, recovered, quorumor_core::Now::default())
    };
    assert!(open(image.records.clone(), image.checkpoint.clone()).is_ok());
    let without_checkpoint = open(image.records.clone(), None);
    assert!(
        matches!(without_checkpoint, Err(OpenError::Gap { .. })),
        "{without_checkpoint:?}"
    );
    let last = image
        .records
        .iter()
        .filter(|record| record.kind == 1)
        .count();
    let mut entries = 0;
    let mut holed = image.records.clone();
    holed.retain(|record| {
        entries += usize::from(record.kind == 1);
        record.kind != 1 || entries < last - 1
    });
    assert!(open(holed, image.checkpoint.clone()).is_err());
    let mut cut = image.checkpoint.clone().unwrap();
    cut.pop();
    assert!(matches!(
        open(image.records.clone(), Some(cut)),
        Err(OpenError::Checkpoint { .. })
    ));
    let other = Net::new(1, 57).config(1, 1);
    let recovered = Recovered {
        checkpoint: image.checkpoint,
        records: image.records,
        torn: false,
    };
    assert!(matches!(
        RaftReplica::open(other, recovered, quorumor_core::Now::default()),
        Err(OpenError::OtherCluster { .. })
    ));
    assert_ne!(id(1), id(2));
}

#[test]
fn a_snapshot_whose_stream_breaks_goes_on_where_it_stood() {
    let mut net = compacting(3, 58);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.isolate(&[follower]);
    let heavy = "x".repeat(1024 * 1024);
    for i in 0..24 {
        net.put_acked(leader, &format!("k{i}"), &heavy);
    }
    net.cuts.clear();
    let pieces = |net: &Net| {
        let incoming = net.replica(follower).incoming.as_ref();
        incoming.map_or(0, |incoming| incoming.pieces())
    };
    net.run_until("a part of it has come", |net| pieces(net) > 4);
    let before = pieces(&net);
    net.cuts.insert((leader, follower));
    net.run_for_ms(3);
    let (peer, contact) = (id(follower), quorumor_core::Contact::Closed);
    net.input(leader, quorumor_core::Input::Contact { peer, contact });
    net.run_for_ms(300);
    net.cuts.clear();
    assert!(pieces(&net) >= before);
    net.await_equal();
    assert_eq!(net.replica(leader).transfers, 1, "it did not begin anew");
}
