//! The epoch of the data: raised for everyone, and it stays so.

use quorumor_core::{ClusterAction, Command, DataEpoch, Reply};

use crate::testing::Net;

fn epoch(net: &Net, node: u64) -> DataEpoch {
    net.view(node).status.epoch
}

/// Raises it at a node, and gives what that node shows once it is answered.
fn raise(net: &mut Net, node: u64, above: Option<DataEpoch>) -> DataEpoch {
    let command = Command::Cluster(ClusterAction::AdvanceEpoch { above });
    let call = net.call(node, command, None);
    let answer = net.answer(call);
    assert!(
        matches!(answer, Ok(Reply::ClusterChanged { .. })),
        "{answer:?}"
    );
    epoch(net, node)
}

#[test]
fn an_epoch_is_raised_at_any_node_once_however_often_it_is_asked_for() {
    let mut net = Net::started(3, 101);
    let first = epoch(&net, 1);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    assert_eq!(raise(&mut net, follower, Some(first)), first.next());
    assert_eq!(raise(&mut net, leader, Some(first)), first.next());
    assert_eq!(raise(&mut net, leader, None), first.next().next());
    let far = DataEpoch::new(70);
    assert_eq!(raise(&mut net, follower, Some(far)), far.next());
    assert_eq!(raise(&mut net, leader, Some(first)), far.next());
    net.await_equal();
    assert!((1..=3).all(|node| epoch(&net, node) == far.next()));
}

#[test]
fn an_epoch_survives_a_restart_of_all_and_comes_with_a_snapshot() {
    let mut net = Net::new(3, 102);
    net.compaction.entries_max = 10;
    net.compaction.keep_entries = 3;
    net.start_all();
    let leader = net.await_leader();
    let lagging = net.follower();
    net.crash(lagging);
    let raised = raise(&mut net, leader, Some(DataEpoch::new(8)));
    for round in 0..60 {
        net.put_acked(leader, "a", &format!("{round}"));
    }
    net.start(lagging);
    assert_ne!(epoch(&net, lagging), raised);
    net.run_until("it hears of it", |net| epoch(net, lagging) == raised);
    net.await_equal();
    for node in 1..=3 {
        net.crash(node);
    }
    net.start_all();
    net.await_leader();
    net.await_equal();
    assert!((1..=3).all(|node| epoch(&net, node) == raised));
}
