//! Clients' sessions: a retried write is applied once, whatever happened in between.

use quorumor_core::{ClientId, ClientSeq, Command, Error, Expected, Operation, Reply, Txn};

use crate::Compaction;
use crate::testing::{Net, cas, key, put};

const fn client(client_id: ClientId, seq: u64, acked_through: u64) -> ClientSeq {
    ClientSeq {
        client_id,
        seq,
        acked_through,
    }
}

/// Appends to a list of keys: applied twice it would show.
fn step(seq: u64) -> Vec<Operation> {
    let name = format!("s{seq}");
    vec![
        cas(&name, Expected::Absent, "once"),
        put("count", &format!("{seq}")),
        Operation::Get { key: key("count") },
    ]
}

/// Tries until there is an answer that says what became of it.
fn retry(net: &mut Net, seed: u64, write: ClientSeq) -> Reply {
    for attempt in 0.. {
        assert!(attempt < 50, "never answered");
        let up: Vec<u64> = (1..=3).filter(|node| net.is_up(*node)).collect();
        let node = up[(seed + attempt) as usize % up.len()];
        let call = net.write_once(node, step(write.seq), write);
        let end = net.now + 2_000_000;
        while !net.answers.contains_key(&call) && net.now < end {
            net.step();
        }
        match net.answers.remove(&call) {
            Some(Ok(reply)) => return reply,
            Some(Err(error @ Error::SessionExpired { .. })) => panic!("{error}"),
            Some(Err(_)) | None => net.run_for_ms(200),
        }
    }
    unreachable!("attempts end above");
}

#[test]
fn a_retried_write_is_applied_once_across_leader_changes_restarts_and_snapshots() {
    for seed in 0..6 {
        let mut net = Net::new(3, 800 + seed);
        net.compaction = Compaction {
            entries_max: 7,
            keep_entries: 1,
            ..Compaction::default()
        };
        net.repeats = true;
        net.start_all();
        let leader = net.await_leader();
        let id = net.open_session(leader, 3_600_000);
        let mut first = Vec::new();
        for seq in 1..=12 {
            let write = client(id, seq, 0);
            let asked = (seed + seq) % 3 + 1;
            // The first try, whose answer is lost with whoever leads.
            if net.is_up(asked) {
                net.write_once(asked, step(seq), write);
            }
            net.run_for_ms(seq % 4);
            if seq % 3 == 0
                && let Some(leader) = net.leader()
            {
                net.crash(leader);
                first.push(retry(&mut net, seed, write));
                net.start(leader);
            } else {
                first.push(retry(&mut net, seed, write));
            }
        }
        for node in 1..=3 {
            if net.is_up(node) {
                net.crash(node);
            }
        }
        net.start_all();
        let leader = net.await_leader();
        for (seq, first) in (1..).zip(&first) {
            assert_eq!(&retry(&mut net, seed, client(id, seq, 0)), first);
        }
        for seq in 1..=12 {
            let entry = net.entry(leader, &format!("s{seq}")).unwrap();
            let quorumor_core::Version::Strong { count, .. } = entry.version else {
                panic!("not strong");
            };
            assert_eq!(count, 1);
        }
        let entry = net.entry(leader, "count").unwrap();
        assert!(
            matches!(
                entry.version,
                quorumor_core::Version::Strong { count: 12, .. }
            ),
            "{:?}",
            entry.version
        );
        net.await_equal();
    }
}

#[test]
fn a_transaction_that_comes_again_gets_the_same_answer_at_any_node() {
    let mut net = Net::started(3, 81);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let id = net.open_session(follower, 10_000);
    let txn = Txn {
        compares: Vec::new(),
        success: vec![put("a", "1"), Operation::Get { key: key("a") }],
        failure: Vec::new(),
    };
    let mut answers = Vec::new();
    for node in [leader, follower, leader] {
        let command = Command::txn(txn.clone(), Some(client(id, 1, 0))).unwrap();
        let call = net.call(node, command, None);
        answers.push(net.answer(call).unwrap());
    }
    assert!(
        matches!(&answers[0], Reply::TxnDone { succeeded: true, results, .. } if results.len() == 2)
    );
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(net.view(leader).revision().unwrap().as_u64(), 1);
}

#[test]
fn a_session_that_nobody_uses_expires_everywhere_and_its_writes_are_refused() {
    let mut net = Net::started(3, 82);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    let id = net.open_session(leader, 4_000);
    for seq in 1..=4 {
        net.run_for_ms(2_000);
        let call = net.write_once(follower, step(seq), client(id, seq, seq - 1));
        net.answer(call).unwrap();
    }
    net.run_for_ms(6_000);
    let call = net.write_once(follower, step(5), client(id, 5, 4));
    assert!(matches!(net.answer(call), Err(Error::SessionExpired { client, .. }) if client == id));
    assert_eq!(net.value(leader, "s5"), None);
    net.await_equal();
}
