//! A node that missed a lot, while the leader's log still holds all of it: what comes over the streams, and how fast.

use quorumor_core::limits::STREAM_MESSAGE_BYTES_MAX;
use quorumor_core::{ChangeEvent, Contact, Input};
use raft::ProgressState;

use crate::testing::{Net, id, put};

/// A cluster whose log keeps all that these stories write.
fn keeping_all(nodes: u64, seed: u64) -> Net {
    let mut net = Net::new(nodes, seed);
    net.compaction.bytes_max = 1 << 30;
    net.compaction.keep_bytes = 1 << 30;
    net.start_all();
    net.await_leader();
    net
}

/// How long a follower takes to have a key, in milliseconds.
fn await_key_ms(net: &mut Net, node: u64, key: &str) -> u64 {
    let begun = net.now;
    net.run_until("it has caught up", |net| {
        net.is_up(node) && net.value(node, key).is_some()
    });
    (net.now - begun) / 1_000
}

#[test]
fn fifty_heavy_entries_come_in_few_round_trips_and_none_in_a_message_too_long() {
    for crashed in [false, true] {
        let mut net = keeping_all(3, 61);
        let (leader, follower) = (net.leader().unwrap(), net.follower());
        if crashed {
            net.crash(follower);
        } else {
            net.isolate(&[follower]);
        }
        let heavy = "x".repeat(1024 * 1024);
        for i in 0..50 {
            net.put_acked(leader, &format!("k{i}"), &heavy);
        }
        if crashed {
            net.start(follower);
        } else {
            net.cuts.clear();
        }
        let took = await_key_ms(&mut net, follower, "k49");
        // The leader's next heartbeat finds the follower; then a window a round trip, and no waits for heartbeats.
        assert!(took < 300, "{took} ms, crashed: {crashed}");
        let reset = net.changes[&follower]
            .iter()
            .any(|change| change.events[..] == [ChangeEvent::Reset]);
        assert!(!reset, "no snapshot is needed");
        let longest = net.lanes.longest;
        assert!(longest <= STREAM_MESSAGE_BYTES_MAX / 2, "{longest} bytes");
        let fullest = net.lanes.fullest;
        assert!(fullest <= 3 * STREAM_MESSAGE_BYTES_MAX, "{fullest} bytes");
        net.await_equal();
    }
}

#[test]
fn the_largest_batches_fit_a_message_from_a_follower_to_the_leader_and_back() {
    let mut net = keeping_all(3, 62);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let away = (1..=3)
        .find(|node| ![leader, follower].contains(node))
        .unwrap();
    net.isolate(&[away]);
    // 128 operations, 2 MiB in all.
    let keys: Vec<String> = (0..128).map(|i| format!("{i:01024}")).collect();
    let value = "x".repeat(16 * 1024 - 1024);
    for _ in 0..30 {
        let batch = keys.iter().map(|key| put(key, &value)).collect();
        let call = net.write(follower, batch);
        net.answer(call).unwrap();
    }
    net.cuts.clear();
    let took = await_key_ms(&mut net, away, &keys[0]);
    assert!(took < 2_000, "{took} ms");
    net.await_equal();
    assert!(net.lanes.longest > 2 * 1024 * 1024);
    assert!(net.lanes.longest <= STREAM_MESSAGE_BYTES_MAX / 2);
    assert!(net.lanes.fullest <= 3 * STREAM_MESSAGE_BYTES_MAX);
}

#[test]
fn small_entries_that_were_missed_share_messages() {
    let mut net = keeping_all(3, 63);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.isolate(&[follower]);
    let calls: Vec<_> = (0..2_000)
        .map(|i| net.put(leader, &format!("k{i}"), "v"))
        .collect();
    for call in calls {
        net.answer(call).unwrap();
    }
    net.run_for_ms(50);
    net.cuts.clear();
    let before = net.sent;
    let took = await_key_ms(&mut net, follower, "k1999");
    let sent = net.sent - before;
    assert!(took < 300, "{took} ms");
    assert!(sent < 60, "{sent} messages for 2,000 entries");
}

#[test]
fn a_follower_that_a_message_was_dropped_for_is_back_with_the_next_write_or_heartbeat() {
    let mut net = Net::started(3, 64);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.put_acked(leader, "before", "v");
    net.await_equal();
    let dropped = |net: &mut Net| {
        let (peer, contact) = (id(follower), Contact::Dropped);
        net.input(leader, Input::Contact { peer, contact });
    };
    dropped(&mut net);
    net.put_acked(leader, "next", "v");
    assert!(await_key_ms(&mut net, follower, "next") < 20);
    // And if what was lost is the last for now, a heartbeat's answer brings it.
    net.cuts.insert((leader, follower));
    net.put_acked(leader, "lost", "v");
    net.run_for_ms(5);
    net.cuts.clear();
    dropped(&mut net);
    let begun = net.now;
    await_key_ms(&mut net, follower, "lost");
    net.run_until("it is sent entries as they come", |net| {
        let progress = net.replica(leader).raw.raft.prs().get(follower);
        progress.is_some_and(|progress| progress.state == ProgressState::Replicate)
    });
    assert!(net.now - begun < 150_000, "{} us", net.now - begun);
}
