//! Watches that can't just go on: a slow reader, a state that was replaced, a history that is gone.

use futures_util::{FutureExt, StreamExt};
use quorumor_core::{ClusterId, NodeId, Revision};
use quorumor_proto::pb::watch_response::Step;

use super::*;
use crate::watch::cursor::{Cursor, Place};

type Steps =
    Pin<Box<dyn futures_util::Stream<Item = Result<pb::WatchResponse, tonic::Status>> + Send>>;

async fn watch(running: &Running, cursor: bytes::Bytes) -> Steps {
    let request = pb::WatchRequest {
        header: Some(pb::RequestHeader {
            level: pb::Level::Local.into(),
            ..pb::RequestHeader::default()
        }),
        cursor,
        ..pb::WatchRequest::default()
    };
    let started = running.service.watch(tonic::Request::new(request)).await;
    started.unwrap().into_inner()
}

async fn write(running: &Running, key: &str, bytes: usize) {
    let put = pb::PutRequest {
        value: vec![0; bytes].into(),
        ..put(key)
    };
    running.service.put(within(put, "5S")).await.unwrap();
}

/// The keys of a whole snapshot and its cursor.
async fn snapshot(steps: &mut Steps) -> (usize, bytes::Bytes) {
    let mut keys = 0;
    loop {
        let step = steps.next().await.unwrap().unwrap();
        let Some(Step::Snapshot(part)) = step.step else {
            panic!("no snapshot: {step:?}");
        };
        keys += part.entries.len();
        assert_eq!(step.cursor.is_empty(), !part.complete);
        if part.complete {
            return (keys, step.cursor);
        }
    }
}

async fn resync(steps: &mut Steps, reason: &str) {
    let step = steps.next().await.unwrap().unwrap();
    match step.step.unwrap() {
        Step::Resync(resync) => assert_eq!(resync.reason, reason),
        other @ (Step::Snapshot(_) | Step::Changes(_) | Step::Progress(_)) => {
            panic!("no resync: {other:?}")
        }
    }
}

/// Takes what there is: nothing. From here on the hub keeps changes for this watcher.
fn waits(steps: &mut Steps) {
    assert!(steps.next().now_or_never().is_none());
}

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_slow_watcher_catches_up_while_what_it_missed_is_kept() {
    let running = start(Scripted::new(true)).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    snapshot(&mut steps).await;
    for round in 0..2 {
        waits(&mut steps);
        // More than its mailbox holds.
        for key in 0..10 {
            write(&running, &format!("k{round}{key}"), MIB).await;
        }
        let mut seen = 0;
        while seen < 10 {
            let step = steps.next().await.unwrap().unwrap();
            let Some(Step::Changes(part)) = step.step else {
                panic!("no changes: {step:?}");
            };
            seen += part.events.len();
            assert!(!step.cursor.is_empty());
        }
        assert_eq!(seen, 10);
    }
    running.end().await;
}

#[tokio::test]
async fn a_watcher_slower_than_what_is_kept_is_told_and_gets_the_whole_state() {
    let running = start(Scripted::new(true)).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    assert_eq!(snapshot(&mut steps).await.0, 0);
    waits(&mut steps);
    for key in 0..40 {
        write(&running, &format!("k{key}"), MIB).await;
    }
    resync(&mut steps, "SLOW_WATCHER").await;
    assert_eq!(snapshot(&mut steps).await.0, 40);
    write(&running, "last", 1).await;
    let step = steps.next().await.unwrap().unwrap();
    assert!(matches!(step.step, Some(Step::Changes(changes)) if changes.events.len() == 1));
    running.end().await;
}

#[tokio::test]
async fn a_replaced_state_is_told_and_shown() {
    let running = start(Scripted::new(true)).await;
    write(&running, "a", 1).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    assert_eq!(snapshot(&mut steps).await.0, 1);
    waits(&mut steps);
    let delete = pb::DeleteRequest {
        key: "a".into(),
        header: None,
    };
    running.service.delete(within(delete, "5S")).await.unwrap();
    resync(&mut steps, "STATE_REPLACED").await;
    assert_eq!(snapshot(&mut steps).await.0, 0);
    running.end().await;
}

#[tokio::test]
async fn a_cursor_resumes_while_its_history_is_kept_and_resyncs_after() {
    let running = start(Scripted::new(true)).await;
    write(&running, "a", 1).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    let (_, cursor) = snapshot(&mut steps).await;
    write(&running, "b", 1).await;
    let mut resumed = watch(&running, cursor.clone()).await;
    let step = resumed.next().await.unwrap().unwrap();
    assert!(matches!(step.step, Some(Step::Changes(changes)) if changes.events.len() == 1));
    for key in 0..40 {
        write(&running, &format!("k{key}"), MIB).await;
    }
    let mut gone = watch(&running, cursor).await;
    resync(&mut gone, "HISTORY_GONE").await;
    assert_eq!(snapshot(&mut gone).await.0, 42);
    let bad = pb::WatchRequest {
        cursor: bytes::Bytes::from_static(b"nonsense"),
        ..pb::WatchRequest::default()
    };
    let status = running
        .service
        .watch(tonic::Request::new(bad))
        .await
        .err()
        .unwrap();
    assert!(status.message().contains("cursor"), "{status}");
    running.end().await;
}

/// After a restore the cluster is another one, after a migration the mode is: who comes back is shown the state that there is.
#[tokio::test]
async fn a_cursor_of_elsewhere_starts_over() {
    let running = start(Scripted::new(true)).await;
    write(&running, "a", 1).await;
    let own = cursor_now(&running).await;
    let other_cluster = Cursor {
        cluster: ClusterId::new(own.cluster.as_u64() + 1),
        ..own
    };
    let other_mode = Cursor {
        place: Place::Local {
            node: NodeId::try_from(1_u64).unwrap(),
            hub: 1,
            number: 1,
        },
        ..own
    };
    for cursor in [other_cluster, other_mode] {
        let mut steps = watch(&running, cursor.encode()).await;
        resync(&mut steps, "FOREIGN_CURSOR").await;
        assert_eq!(snapshot(&mut steps).await.0, 1);
    }
    running.end().await;
}

#[tokio::test]
async fn a_watcher_that_resumes_gets_all_that_is_kept_however_much_it_is() {
    let running = start(Scripted::new(true)).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    let (_, cursor) = snapshot(&mut steps).await;
    drop(steps);
    for key in 0..20 {
        write(&running, &format!("k{key}"), MIB).await;
    }
    let mut steps = watch(&running, cursor).await;
    let mut seen = 0;
    while seen < 20 {
        let step = steps.next().await.unwrap().unwrap();
        match step.step.unwrap() {
            Step::Changes(changes) => seen += changes.events.len(),
            other @ (Step::Snapshot(_) | Step::Resync(_) | Step::Progress(_)) => {
                panic!("no changes: {other:?}")
            }
        }
    }
    assert_eq!(seen, 20);
    running.end().await;
}

/// The cursor of a watch that has seen everything so far.
async fn cursor_now(running: &Running) -> Cursor {
    let mut steps = watch(running, bytes::Bytes::new()).await;
    let (_, bytes) = snapshot(&mut steps).await;
    Cursor::decode(&bytes).unwrap()
}

#[tokio::test]
async fn a_cursor_of_another_epoch_is_told_and_shown_the_state() {
    let running = start(Scripted::new(true)).await;
    write(&running, "a", 1).await;
    let mut cursor = cursor_now(&running).await;
    cursor.epoch = DataEpoch::new(9);
    let mut steps = watch(&running, cursor.encode()).await;
    resync(&mut steps, "EPOCH_CHANGED").await;
    assert_eq!(snapshot(&mut steps).await.0, 1);
    running.end().await;
}

/// etcd #15271: a cursor from a node that is ahead waits here for what was seen there, and shows none of it again.
#[tokio::test]
async fn a_cursor_from_a_node_that_is_ahead_sees_nothing_twice() {
    let running = start(Scripted::new(true)).await;
    let mut cursor = cursor_now(&running).await;
    cursor.place = Place::Revision(Revision::new(3));
    let mut steps = watch(&running, cursor.encode()).await;
    waits(&mut steps);
    for key in ["one", "two", "three", "four"] {
        write(&running, key, 1).await;
    }
    let step = steps.next().await.unwrap().unwrap();
    let Some(Step::Changes(changes)) = step.step else {
        panic!("{step:?}");
    };
    assert_eq!(changes.events.len(), 1);
    running.end().await;
}

/// etcd #15220, #18089: progress goes through the same queue, so it never stands before an event that it covers, and what a
/// compaction removed is told.
#[tokio::test]
async fn progress_never_overtakes_an_event() {
    let running = start(Scripted::new(true)).await;
    let request = pb::WatchRequest {
        header: Some(pb::RequestHeader {
            level: pb::Level::Local.into(),
            ..pb::RequestHeader::default()
        }),
        range: Some(pb::KeyRange {
            range: Some(pb::key_range::Range::Prefix("w/".into())),
        }),
        progress_interval: Some(quorumor_proto::receipt::millis(100)),
        ..pb::WatchRequest::default()
    };
    let started = running.service.watch(tonic::Request::new(request)).await;
    let mut steps = started.unwrap().into_inner();
    assert_eq!(snapshot(&mut steps).await.0, 0);
    let mut told = 0;
    let mut events = 0;
    let mut progress = 0;
    for round in 0..40u64 {
        write(
            &running,
            &format!("{}/{round}", if round % 4 == 0 { "w" } else { "x" }),
            1,
        )
        .await;
        if round % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(110)).await;
        }
        while let Some(step) = steps.next().now_or_never() {
            let step = step.unwrap().unwrap();
            let at = match step.receipt.unwrap().position.unwrap() {
                pb::receipt::Position::Strong(strong) => strong.revision,
                pb::receipt::Position::Eventual(_) => panic!("the other mode"),
            };
            match step.step.unwrap() {
                Step::Changes(changes) => {
                    for event in changes.events {
                        let Some(pb::watch_event::Event::Put(entry)) = event.event else {
                            panic!("a deletion");
                        };
                        let Some(pb::version::Version::Strong(version)) =
                            entry.version.unwrap().version
                        else {
                            panic!("the other mode");
                        };
                        assert!(version.mod_revision > told, "progress stood before it");
                        events += 1;
                    }
                }
                Step::Progress(_) => progress += 1,
                other @ (Step::Snapshot(_) | Step::Resync(_)) => panic!("{other:?}"),
            }
            assert!(at >= told, "back in time");
            told = at;
        }
    }
    assert_eq!(events, 10);
    assert!(progress > 0);
    running.end().await;
}

#[tokio::test]
async fn many_slow_watchers_hold_what_one_holds() {
    let running = start(Scripted::new(true)).await;
    let mut all = Vec::new();
    for _ in 0..500 {
        let mut steps = watch(&running, bytes::Bytes::new()).await;
        snapshot(&mut steps).await;
        waits(&mut steps);
        all.push(steps);
    }
    for key in 0..7 {
        write(&running, &format!("k{key}"), MIB).await;
    }
    let hub = running.handle.hub();
    tokio::task::yield_now().await;
    assert!(hub.buffered_bytes() < 8 * MIB, "{}", hub.buffered_bytes());
    for steps in &mut all {
        let step = steps.next().await.unwrap().unwrap();
        assert!(matches!(step.step, Some(Step::Changes(_))));
    }
    drop(all);
    assert_eq!(hub.buffered_bytes(), 0);
    running.end().await;
}

#[tokio::test]
async fn a_revision_too_heavy_for_a_message_comes_in_parts_and_its_cursor_with_the_last() {
    let running = start(Scripted::new(true)).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    snapshot(&mut steps).await;
    waits(&mut steps);
    let event = |number: u64| quorumor_core::ChangeEvent::Put {
        entry: Arc::new(Entry {
            siblings: None,
            key: Key::parse(&format!("k{number}")).unwrap(),
            value: Value::parse(vec![0; MIB].into()).unwrap(),
            version: Version::Strong {
                create: Revision::new(1),
                modify: Revision::new(1),
                count: 1,
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
        }),
        previous: None,
    };
    running.handle.hub().append(vec![Change {
        position: Position::Strong(Revision::new(1)),
        events: (0..4).map(event).collect(),
    }]);
    let mut keys = Vec::new();
    for (count, more) in [(3, true), (1, false)] {
        let step = steps.next().await.unwrap().unwrap();
        let Some(Step::Changes(part)) = step.step else {
            panic!("no changes: {step:?}");
        };
        assert_eq!((part.events.len(), part.more), (count, more));
        assert_eq!(step.cursor.is_empty(), more);
        keys.extend(part.events.into_iter().map(|event| match event.event {
            Some(pb::watch_event::Event::Put(entry)) => entry.key,
            other => panic!("no put: {other:?}"),
        }));
    }
    assert_eq!(keys, ["k0", "k1", "k2", "k3"]);
    running.end().await;
}
