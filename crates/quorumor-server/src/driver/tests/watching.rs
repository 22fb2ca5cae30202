//! Watches that can't just go on: a slow reader, a state that was replaced, a history that is gone.

use futures_util::{FutureExt, StreamExt};
use quorumor_proto::pb::watch_response::Step;

use super::*;

type Steps = std::pin::Pin<
    Box<dyn futures_util::Stream<Item = Result<pb::WatchResponse, tonic::Status>> + Send>,
>;

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
async fn a_slow_watcher_is_told_and_gets_the_whole_state() {
    let running = start(Scripted::new(true)).await;
    let mut steps = watch(&running, bytes::Bytes::new()).await;
    assert_eq!(snapshot(&mut steps).await.0, 0);
    waits(&mut steps);
    for key in 0..10 {
        write(&running, &format!("k{key}"), MIB).await;
    }
    resync(&mut steps, "SLOW_WATCHER").await;
    assert_eq!(snapshot(&mut steps).await.0, 10);
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
