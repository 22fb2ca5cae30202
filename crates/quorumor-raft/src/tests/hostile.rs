//! Peers that send what no peer should: a replica refuses, or is damaged, and never panics.

use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use proptest::prelude::*;
use quorumor_core::{Health, Input, Output, Persist, Replica, StreamClass};

use crate::codec::conf_change::{Ask, Removed, Told, WireChange, encode_change};
use crate::codec::message::{Chunk, PeerMessage, RaftKind, RaftMessage};
use crate::codec::proposal::WriteId;
use crate::codec::record::WireEntry;
use crate::conf_change::MemberChange;
use crate::testing::{Net, id};

/// A replica in the middle of its life: some entries, a compacted log, its role as wished.
fn live(role: u64) -> Net {
    let mut net = Net::new(3, 61);
    net.compaction.entries_max = 8;
    net.compaction.keep_entries = 3;
    net.start_all();
    let leader = net.await_leader();
    for i in 0..20 {
        net.put_acked(leader, &format!("k{i}"), "v");
    }
    net.run_for_ms(100);
    match role {
        0 => {}
        1 => {
            // The first node stands alone, and for election.
            net.isolate(&[1]);
            net.run_for_ms(3_000);
        }
        _ => {
            let follower = net.follower();
            net.nodes.get_mut(&follower).unwrap().disk_us = 10_000_000;
            net.put(leader, "unsynced", "v");
            net.run_for_ms(5);
        }
    }
    net
}

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        1..5_u64,
        15..40_u64,
        Just(1 << 61),
        Just(u64::MAX),
        any::<u64>()
    ]
}

fn entry() -> impl Strategy<Value = WireEntry> {
    (
        small(),
        small(),
        0..4_u32,
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..8).prop_map(Bytes::from),
            change().prop_map(|change| encode_change(asker(), &change)),
        ],
    )
        .prop_map(|(term, index, kind, data)| WireEntry {
            term,
            index,
            kind,
            data,
            context: Bytes::new(),
        })
}

fn asker() -> WriteId {
    WriteId {
        node: id(2),
        boot_nonce: 1,
        counter: 1,
    }
}

fn change() -> impl Strategy<Value = MemberChange> {
    let node = || (1..6_u64).prop_map(id);
    prop_oneof![
        (node(), 7_001..7_009_u16, any::<bool>()).prop_map(|(node, port, promote)| {
            MemberChange::AddLearner {
                node,
                peer_address: ([127, 0, 0, 1], port).into(),
                promote,
            }
        }),
        (node(), prop::option::of(node()))
            .prop_map(|(node, replacing)| MemberChange::Promote { node, replacing }),
        node().prop_map(|node| MemberChange::Remove { node }),
    ]
}

/// What concerns membership beside entries.
fn word() -> impl Strategy<Value = PeerMessage> {
    let ask = (
        small(),
        prop::option::of(change()),
        any::<bool>(),
        prop::option::of(small()),
    );
    let ask = ask.prop_map(|(term, change, allow_quorum_loss, hand_to)| Ask {
        term: term.min(2),
        boot_nonce: 1,
        counter: term,
        change: change.as_ref().map(WireChange::new),
        allow_quorum_loss,
        hand_to,
    });
    prop_oneof![
        4 => ask.prop_map(PeerMessage::Ask),
        1 => (0..6_i32, small()).prop_map(|(word, counter)| {
            let why = "why".to_owned();
            PeerMessage::Told(Told { boot_nonce: 1, counter, word, why })
        }),
        1 => Just(PeerMessage::Removed(Removed {})),
    ]
}

fn message() -> impl Strategy<Value = RaftMessage> {
    (
        0..13_i32,
        (small(), small(), small()),
        prop::collection::vec(entry(), 0..3),
        (small(), small(), any::<bool>(), small()),
        prop::collection::vec(any::<u8>(), 0..80),
    )
        .prop_map(
            |(
                kind,
                (term, log_term, index),
                entries,
                (commit, commit_term, reject, reject_hint),
                context,
            )| {
                RaftMessage {
                    kind,
                    term,
                    log_term,
                    index,
                    entries,
                    commit,
                    commit_term,
                    reject,
                    reject_hint,
                    context: context.into(),
                }
            },
        )
}

/// An append that fits a live replica's log, so that it gets past the first checks.
fn fitting(net: &Net, node: u64, mut message: RaftMessage) -> RaftMessage {
    let raft = &net.replica(node).raw.raft;
    message.term = raft.term;
    message.index = raft.raft_log.last_index() - message.index % 3;
    message.log_term = net
        .replica(node)
        .raw
        .store()
        .term_at(message.index)
        .unwrap_or(1);
    message.commit = raft.raft_log.committed + message.commit % 3;
    for (offset, entry) in (1..).zip(&mut message.entries) {
        entry.index = message.index + offset;
        entry.term = raft.term;
        entry.kind &= 2;
    }
    message
}

fn feed(net: &mut Net, node: u64, from: u64, message: PeerMessage) {
    let (from, class) = (id(from), StreamClass::Control);
    let payload = message.into_bytes();
    net.input(
        node,
        Input::Stream {
            from,
            class,
            payload,
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_message_of_a_peer_panics_a_replica(
        role in 0..3_u64,
        messages in prop::collection::vec((1..5_u64, any::<bool>(), message()), 1..12),
    ) {
        let mut net = live(role);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            for (from, fits, message) in messages {
                for node in 1..=3 {
                    let message = message.clone();
                    let message = if fits { fitting(&net, node, message) } else { message };
                    if from != node {
                        feed(&mut net, node, from, PeerMessage::Raft(message));
                    }
                }
                // Alone, without what honest peers would say to it.
                for node in 1..=3 {
                    net.input(node, Input::Timer);
                }
            }
        }));
        prop_assert!(outcome.is_ok());
    }

    #[test]
    fn no_word_about_members_panics_a_replica(
        role in 0..3_u64,
        words in prop::collection::vec((1..5_u64, word()), 1..10),
    ) {
        let mut net = live(role);
        for (from, word) in words {
            for node in 1..=3 {
                if from != node {
                    feed(&mut net, node, from, word.clone());
                }
            }
            net.run_for_ms(20);
        }
        net.run_for_ms(3_000);
    }

    #[test]
    fn no_bytes_of_a_peer_panic_a_replica(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut net = Net::started(1, 62);
        let (from, class) = (id(9), StreamClass::Bulk);
        net.input(1, Input::Stream { from, class, payload: bytes.into() });
        prop_assert_eq!(net.health(1), Health::Serving);
    }

    #[test]
    fn mutated_honest_messages_panic_nobody(at in any::<prop::sample::Index>(), bit in 0..8_u32, skip in 0..30_usize) {
        let (mut net, mut messages) = (live(0), Vec::new());
        let leader = net.leader().unwrap();
        let now = quorumor_core::Now { mono_us: net.now + 110_000, wall_ms: 0 };
        let replica = net.nodes.get_mut(&leader).unwrap().replica.as_mut().unwrap();
        for _ in 0..4 {
            replica.handle(now, Input::Timer);
        }
        while let Some(output) = replica.poll_output() {
            if let Output::Stream { to, payload, .. } = output {
                messages.push((to, payload));
            }
        }
        prop_assume!(!messages.is_empty());
        let (to, payload) = &messages[skip % messages.len()];
        let mut bytes = payload.to_vec();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let (from, class) = (id(leader), StreamClass::Control);
        net.input(to.as_u64(), Input::Stream { from, class, payload: bytes.into() });
        net.run_for_ms(50);
    }
}

#[test]
fn a_heartbeat_beyond_the_log_makes_a_replica_damaged_and_not_dead() {
    let mut net = live(0);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let message = RaftMessage {
        kind: RaftKind::Heartbeat.into(),
        term: net.term(leader),
        commit: 1_000,
        ..RaftMessage::default()
    };
    feed(&mut net, follower, leader, PeerMessage::Raft(message));
    assert!(matches!(net.health(follower), Health::Damaged { .. }));
    net.run_for_ms(3_000);
}

#[test]
fn the_gate_counts_what_it_refuses() {
    let mut net = live(0);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let term = net.term(leader);
    for (kind, why) in [
        (
            RaftKind::ReadIndex,
            "a read index for a node that doesn't lead",
        ),
        (
            RaftKind::Unspecified,
            "a message or entry of an unknown kind",
        ),
        (RaftKind::Append, "an append to a place that can't be"),
        (
            RaftKind::TimeoutNow,
            "a word of the leader from a node that doesn't lead",
        ),
    ] {
        let from = 6 - leader - follower;
        let message = RaftMessage {
            kind: kind.into(),
            term,
            ..RaftMessage::default()
        };
        feed(&mut net, follower, from, PeerMessage::Raft(message));
        let refused: Vec<_> = net.replica(follower).refusals().collect();
        assert!(refused.contains(&(why, 1)), "{refused:?}");
    }
}

#[test]
fn a_snapshot_of_another_cluster_or_with_a_bad_checksum_is_refused() {
    let mut net = live(0);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let before = net.view(follower).digest();
    let mut other = net.replica(leader).state.clone();
    other.cluster = quorumor_core::ClusterId::new(1);
    other.applied.index += 1_000;
    let mut source = crate::codec::checkpoint::StateSource::new(&other);
    let bytes = quorumor_core::CheckpointSource::next_chunk(&mut source).unwrap();
    for crc in [crc32c::crc32c(&bytes), 7] {
        let chunk = Chunk {
            transfer: 1,
            term: net.term(leader),
            seq: 0,
            last: true,
            crc,
            bytes: bytes.clone(),
        };
        feed(&mut net, follower, leader, PeerMessage::Chunk(chunk));
        assert!(net.replica(follower).staged.is_none());
    }
    net.run_for_ms(500);
    assert_eq!(net.view(follower).digest(), before);
}

#[test]
fn a_vote_that_nobody_was_asked_for_does_not_make_a_leader() {
    let mut net = live(1);
    let raft = &net.replica(1).raw.raft;
    let term = raft.term + 1;
    // It has won its pre-vote and writes its vote; the answers come before the question.
    net.nodes.get_mut(&1).unwrap().disk_us = 10_000_000;
    for (kind, term) in [
        (RaftKind::PreVoteResponse, term),
        (RaftKind::VoteResponse, term),
    ] {
        for from in [2, 3] {
            let message = RaftMessage {
                kind: kind.into(),
                term,
                ..RaftMessage::default()
            };
            feed(&mut net, 1, from, PeerMessage::Raft(message));
        }
    }
    assert!(!net.replica(1).standing.leads);
    let held = net.replica(1).awaiting.len();
    assert!(held > 0, "the vote request waits for the disk");
}

#[test]
fn a_persist_that_was_never_asked_for_changes_nothing() {
    let mut net = live(2);
    let follower = net.follower();
    let token = quorumor_core::PersistToken(0);
    net.input(follower, Input::Persisted { token });
    net.input(follower, Input::Checkpointed { token });
    let replica = net
        .nodes
        .get_mut(&follower)
        .unwrap()
        .replica
        .as_mut()
        .unwrap();
    while let Some(output) = replica.poll_output() {
        assert!(!matches!(output, Output::Persist(Persist::Compact { .. })));
    }
}
