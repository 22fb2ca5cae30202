//! Watches of strong mode: from a revision, over restarts and at other nodes, past compaction, and when the leader is lost.

use quorumor_proto::pb;
use quorumor_proto::pb::watch_response::Step;
use quorumor_proto::status::from_status;
use tonic::Streaming;

use crate::calls::{operator, prefix};
use crate::support::{Cluster, eventually, put};

type Steps = Streaming<pb::WatchResponse>;

async fn watch(cluster: &Cluster, id: u64, request: pb::WatchRequest) -> Steps {
    let watch = pb::WatchRequest {
        range: prefix("w/"),
        ..request
    };
    cluster.client(id).watch(watch).await.unwrap().into_inner()
}

/// The next step that isn't progress.
async fn next(steps: &mut Steps) -> pb::WatchResponse {
    loop {
        let step = steps.message().await.unwrap().unwrap();
        if !matches!(step.step, Some(Step::Progress(_))) {
            return step;
        }
    }
}

/// The next so many changes, as key, value or nothing, and what was before; and the last cursor.
async fn changes(steps: &mut Steps, count: usize) -> (Vec<String>, bytes::Bytes) {
    let mut seen = Vec::new();
    let mut cursor = bytes::Bytes::new();
    while seen.len() < count {
        let step = next(steps).await;
        let Some(Step::Changes(changes)) = step.step else {
            panic!("no changes: {step:?}");
        };
        cursor = step.cursor;
        for event in changes.events {
            let text = |entry: &pb::Entry| String::from_utf8(entry.value.to_vec()).unwrap();
            let now = match event.event.unwrap() {
                pb::watch_event::Event::Put(entry) => format!("{}={}", entry.key, text(&entry)),
                pb::watch_event::Event::Deletion(deletion) => format!("{} gone", deletion.key),
            };
            let before = event.previous.as_ref().map(text).unwrap_or_default();
            seen.push(format!("{now} was {before}"));
        }
    }
    (seen, cursor)
}

async fn write(cluster: &Cluster, id: u64, key: &str, text: &str) -> u64 {
    let written = cluster.client(id).put(put(key, text)).await.unwrap();
    match written.into_inner().receipt.unwrap().position.unwrap() {
        pb::receipt::Position::Strong(strong) => strong.revision,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_revision_shows_every_change_with_what_it_replaced_at_any_node() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let first = write(&cluster, 1, "w/a", "1").await;
    write(&cluster, 2, "x", "not watched").await;
    write(&cluster, 2, "w/a", "2").await;
    let delete = pb::DeleteRequest {
        key: "w/a".into(),
        header: None,
    };
    cluster.client(3).delete(delete).await.unwrap();
    let expected = ["w/a=1 was ", "w/a=2 was 1", "w/a gone was 2"];
    for id in 1..=3 {
        let request = pb::WatchRequest {
            start_revision: first,
            previous: true,
            ..pb::WatchRequest::default()
        };
        let mut steps = watch(&cluster, id, request).await;
        assert_eq!(changes(&mut steps, 3).await.0, expected);
    }
    // From a revision that is yet to come: nothing before it.
    let request = pb::WatchRequest {
        start_revision: first + 6,
        ..pb::WatchRequest::default()
    };
    let mut steps = watch(&cluster, 1, request).await;
    for round in 0..4 {
        write(&cluster, 1, "w/b", &round.to_string()).await;
    }
    assert_eq!(changes(&mut steps, 2).await.0, ["w/b=2 was ", "w/b=3 was "]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_outlives_every_node_and_compaction_is_told_with_the_oldest_revision() {
    let mut cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let first = write(&cluster, 1, "w/a", "1").await;
    let request = pb::WatchRequest {
        start_revision: first,
        ..pb::WatchRequest::default()
    };
    let mut steps = watch(&cluster, 1, request).await;
    let (_, cursor) = changes(&mut steps, 1).await;
    drop(steps);
    write(&cluster, 2, "w/b", "2").await;
    // The history is in the state: no node needs to have been there.
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    for id in 1..=3 {
        cluster.start_node(id).await;
    }
    cluster.leader().await;
    let last = write(&cluster, 2, "w/c", "3").await;
    for id in 1..=3 {
        let request = pb::WatchRequest {
            cursor: cursor.clone(),
            ..pb::WatchRequest::default()
        };
        let mut steps = watch(&cluster, id, request).await;
        assert_eq!(changes(&mut steps, 2).await.0, ["w/b=2 was ", "w/c=3 was "]);
    }
    // tikv/pd #11033: never resume at the compaction point; say so, then show the state.
    let compact = pb::CompactHistoryRequest {
        revision: last,
        ..pb::CompactHistoryRequest::default()
    };
    operator(&cluster, 1)
        .compact_history(compact)
        .await
        .unwrap();
    for end_on_resync in [false, true] {
        let request = pb::WatchRequest {
            cursor: cursor.clone(),
            end_on_resync,
            ..pb::WatchRequest::default()
        };
        let mut steps = watch(&cluster, 1, request).await;
        match next(&mut steps).await.step.unwrap() {
            Step::Resync(resync) => {
                assert_eq!(resync.reason, "HISTORY_GONE");
                assert_eq!(resync.oldest_revision, last);
            }
            other => panic!("{other:?}"),
        }
        if end_on_resync {
            assert_eq!(steps.message().await.unwrap(), None, "it ends");
        } else {
            match next(&mut steps).await.step.unwrap() {
                Step::Snapshot(snapshot) => assert_eq!(snapshot.entries.len(), 3),
                other => panic!("{other:?}"),
            }
        }
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_leader_if_asked_and_else_goes_on() {
    let mut cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    let follower = leader % 3 + 1;
    let watch_with = |end_on_leader_lost| pb::WatchRequest {
        end_on_leader_lost,
        ..pb::WatchRequest::default()
    };
    let mut ends = watch(&cluster, follower, watch_with(true)).await;
    let mut stays = watch(&cluster, follower, watch_with(false)).await;
    for steps in [&mut ends, &mut stays] {
        assert!(matches!(next(steps).await.step, Some(Step::Snapshot(_))));
    }
    for id in (1..=3).filter(|id| *id != follower) {
        cluster.stop_node(id).await;
    }
    let lost = loop {
        match ends.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break from_status(&status),
        }
    };
    assert_eq!(lost.reason, "LEADER_LOST");
    for id in (1..=3).filter(|id| *id != follower) {
        cluster.start_node(id).await;
    }
    cluster.leader().await;
    eventually("a write", || async {
        let written = cluster.client(leader).put(put("w/a", "1")).await;
        written.ok().map(|_| ())
    })
    .await;
    assert_eq!(changes(&mut stays, 1).await.0, ["w/a=1 was "]);
    cluster.shutdown().await;
}

/// etcd #17507, #20242: each watch hears of progress for itself, a new and an idle one too, and may resume from it.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_watch_makes_progress_through_what_does_not_concern_it() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let request = pb::WatchRequest {
        progress_interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..pb::WatchRequest::default()
    };
    let mut steps = watch(&cluster, 2, request).await;
    assert!(matches!(
        next(&mut steps).await.step,
        Some(Step::Snapshot(_))
    ));
    let mut last = 0;
    for round in 0..20 {
        last = write(&cluster, 1, "x", &round.to_string()).await;
    }
    let cursor = loop {
        let step = steps.message().await.unwrap().unwrap();
        assert!(matches!(step.step, Some(Step::Progress(_))), "{step:?}");
        match step.receipt.unwrap().position.unwrap() {
            pb::receipt::Position::Strong(strong) if strong.revision >= last => break step.cursor,
            _ => {}
        }
    };
    let compact = pb::CompactHistoryRequest {
        revision: last,
        ..pb::CompactHistoryRequest::default()
    };
    operator(&cluster, 1)
        .compact_history(compact)
        .await
        .unwrap();
    let request = pb::WatchRequest {
        cursor,
        ..pb::WatchRequest::default()
    };
    let mut resumed = watch(&cluster, 3, request).await;
    write(&cluster, 1, "w/a", "1").await;
    assert_eq!(changes(&mut resumed, 1).await.0, ["w/a=1 was "]);
    assert_eq!(changes(&mut steps, 1).await.0, ["w/a=1 was "]);
    cluster.shutdown().await;
}
