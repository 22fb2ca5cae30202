//! The window of past revisions: one for every node. And the comparison of states in the background.

use std::sync::Arc;

use quorumor_core::{Alarm, ClusterAction, Command, Error, Reply, Revision, Value};

use crate::testing::{Net, key};
use crate::{Compaction, HistoryWindow};

#[test]
fn the_window_is_the_same_on_all_nodes_also_after_a_snapshot() {
    let mut net = Net::new(3, 91);
    net.history = HistoryWindow {
        revisions: 20,
        ..HistoryWindow::default()
    };
    net.compaction = Compaction {
        entries_max: 30,
        keep_entries: 2,
        ..Compaction::default()
    };
    net.start_all();
    let leader = net.await_leader();
    let lagging = net.follower();
    net.crash(lagging);
    for round in 0..100 {
        net.put_acked(leader, "a", &format!("{round}"));
        net.run_for_ms(30);
    }
    net.start(lagging);
    net.run_until("it catches up", |net| {
        net.value(lagging, "a").as_deref() == Some("99")
    });
    net.run_for_ms(100);
    net.await_equal();
    let (view, other) = (net.view(leader), net.view(lagging));
    assert_eq!(view.history, other.history);
    assert!(
        (20..=22).contains(&view.history.len()),
        "{}",
        view.history.len()
    );
    let oldest = view.history.oldest();
    let past = other
        .entry_at(&key("a"), Revision::new(90))
        .unwrap()
        .unwrap();
    assert_eq!(past.value.as_bytes(), &b"89"[..]);
    assert_eq!(
        other.entry_at(&key("a"), Revision::new(50)),
        Err(Error::HistoryGone { oldest })
    );
}

#[test]
fn history_is_forgotten_by_request_and_the_future_is_refused() {
    let mut net = Net::started(3, 92);
    let follower = net.follower();
    for round in 0..10 {
        net.put_acked(follower, "a", &format!("{round}"));
    }
    let mut compact = |through: u64| {
        let through = Revision::new(through);
        let command = Command::Cluster(ClusterAction::CompactHistory { through });
        let call = net.call(follower, command, None);
        net.answer(call)
    };
    assert!(matches!(compact(6), Ok(Reply::ClusterChanged { .. })));
    let (asked, current) = (Revision::new(11), Revision::new(10));
    assert_eq!(compact(11), Err(Error::FutureRevision { asked, current }));
    let oldest = Revision::new(6);
    assert_eq!(compact(5), Err(Error::HistoryGone { oldest }));
    assert!(compact(6).is_ok());
    net.await_equal();
    let history = net.view(follower).history;
    assert_eq!((history.oldest(), history.len()), (oldest, 4));
}

#[test]
fn watchers_and_the_history_share_one_copy_of_the_events() {
    let mut net = Net::started(3, 93);
    let follower = net.follower();
    net.put_acked(follower, "a", "1");
    let change = &net.changes[&follower][0];
    let history = net.view(follower).history;
    assert!(Arc::ptr_eq(
        &change.events,
        &history.first().unwrap().events
    ));
}

#[test]
fn a_state_that_differs_raises_an_alarm_that_stays() {
    let mut net = Net::started(3, 94);
    let (leader, follower) = (net.leader().unwrap(), net.follower());
    net.put_acked(leader, "a", "1");
    net.put_acked(leader, "b", "1");
    net.run_for_ms(20_000);
    assert!((1..=3).all(|node| net.view(node).status.alarms.is_empty()));
    // A bit rots in one node's memory. The next write of that key takes another entry out than it should.
    let state = &mut net
        .nodes
        .get_mut(&follower)
        .unwrap()
        .replica
        .as_mut()
        .unwrap()
        .state;
    let mut rotten = (**state.entries.get(&key("a")).unwrap()).clone();
    rotten.value = Value::parse(bytes::Bytes::from_static(b"2")).unwrap();
    state.entries.insert(key("a"), Arc::new(rotten));
    net.put_acked(leader, "a", "3");
    net.run_until("an alarm", |net| {
        !net.view(follower).status.alarms.is_empty()
    });
    assert!(matches!(
        net.view(follower).status.alarms[..],
        [Alarm::Diverged { .. }]
    ));
    net.run_for_ms(20_000);
    assert!(!net.view(follower).status.alarms.is_empty());
    let sound: Vec<u64> = (1..=3).filter(|node| *node != follower).collect();
    assert!(
        sound
            .iter()
            .all(|node| net.view(*node).status.alarms.is_empty())
    );
}
