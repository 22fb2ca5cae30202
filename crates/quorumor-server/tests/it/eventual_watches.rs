//! Watches in eventual mode: a snapshot, then each writer's changes in its order, a cursor that is good at its own node, and a
//! resync that says why where it isn't.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorumor_proto::pb;
use quorumor_proto::pb::watch_response::Step;
use tonic::Streaming;

use crate::support::{Cluster, eventually, get, local, put, value};

const WRITES: u64 = 60;

async fn watch(cluster: &Cluster, node: u64, cursor: Bytes) -> Streaming<pb::WatchResponse> {
    let request = pb::WatchRequest {
        cursor,
        ..pb::WatchRequest::default()
    };
    cluster
        .client(node)
        .watch(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(steps: &mut Streaming<pb::WatchResponse>) -> pb::WatchResponse {
    steps.message().await.unwrap().expect("the watch goes on")
}

/// What a watcher has seen: each writer's last place, and the keys.
#[derive(Default)]
struct Seen {
    places: BTreeMap<u64, u64>,
    keys: BTreeMap<String, String>,
    cursor: Bytes,
    repeated: u64,
}

impl Seen {
    fn take(&mut self, step: pb::WatchResponse) {
        let receipt = step.receipt.as_ref().unwrap();
        assert_eq!(receipt.change_order(), pb::ChangeOrder::Writer);
        if !step.cursor.is_empty() {
            self.cursor = step.cursor;
        }
        match step.step.unwrap() {
            Step::Snapshot(snapshot) => {
                for entry in snapshot.entries {
                    self.keep(entry);
                }
            }
            Step::Changes(changes) => {
                for event in changes.events {
                    let Some(pb::watch_event::Event::Put(entry)) = event.event else {
                        panic!("nothing was deleted");
                    };
                    self.in_order(&entry);
                    self.keep(entry);
                }
            }
            Step::Progress(_) => {}
            Step::Resync(resync) => panic!("a resync: {}", resync.reason),
        }
    }

    fn keep(&mut self, entry: pb::Entry) {
        let value = String::from_utf8(entry.value.to_vec()).unwrap();
        self.keys.insert(entry.key, value);
    }

    /// A writer's changes may come again, but none is passed over for a later one and then told.
    fn in_order(&mut self, entry: &pb::Entry) {
        let Some(pb::version::Version::Eventual(version)) = entry
            .version
            .as_ref()
            .and_then(|version| version.version.as_ref())
        else {
            panic!("not an eventual version");
        };
        let dot = version.dot.as_ref().unwrap();
        let place = self.places.entry(dot.writer).or_default();
        if dot.seq <= *place {
            self.repeated += 1;
        }
        *place = (*place).max(dot.seq);
    }
}

async fn write(cluster: &Cluster, writer: u64, from: u64, to: u64) {
    let mut client = cluster.client(writer);
    for number in from..to {
        let key = format!("k/{writer}/{number}");
        client.put(put(&key, "v")).await.unwrap();
        // One key that all write, besides.
        let text = format!("{writer} {number}");
        client.put(put("shared", &text)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_gives_every_writers_changes_in_its_order_and_goes_on_behind_its_cursor() {
    let cluster = Cluster::start("eventual", 3).await;
    cluster.client(2).put(put("k/2/first", "v")).await.unwrap();
    eventually("all know each other", || async {
        let about = cluster.describe(1).await?;
        (about.members.len() == 3 && about.keys == 1).then_some(())
    })
    .await;
    let mut seen = Seen::default();
    let mut steps = watch(&cluster, 1, Bytes::new()).await;
    seen.take(next(&mut steps).await);
    assert!(
        seen.keys.contains_key("k/2/first"),
        "the snapshot comes first"
    );
    let half = WRITES / 2;
    let (mut told, mut broken) = (0, false);
    let writing = async {
        tokio::join!(
            write(&cluster, 1, 0, WRITES),
            write(&cluster, 2, 0, WRITES),
            write(&cluster, 3, 0, WRITES)
        )
    };
    let watching = async {
        let wanted = 3 * WRITES + 2;
        while (seen.keys.len() as u64) < wanted {
            seen.take(next(&mut steps).await);
            told += 1;
            // The connection breaks once, and what came meanwhile isn't lost.
            if !broken && seen.keys.len() as u64 > half {
                broken = true;
                steps = watch(&cluster, 1, seen.cursor.clone()).await;
            }
        }
    };
    tokio::join!(writing, watching);
    assert!(broken && told > 1);
    assert_eq!(seen.repeated, 0, "nothing was to be told twice here");
    // In the end it holds what the node holds.
    let read = cluster.client(1).get(get("shared", local())).await.unwrap();
    let last = value(&read.into_inner()).unwrap();
    while seen.keys["shared"] != last {
        seen.take(next(&mut steps).await);
    }
    cluster.shutdown().await;
}

async fn resync_reason(cluster: &Cluster, node: u64, cursor: Bytes) -> String {
    let mut steps = watch(cluster, node, cursor).await;
    let Some(Step::Resync(resync)) = next(&mut steps).await.step else {
        panic!("no resync");
    };
    // And then all of it.
    let Some(Step::Snapshot(snapshot)) = next(&mut steps).await.step else {
        panic!("no snapshot behind the resync");
    };
    assert!(snapshot.complete && snapshot.entries.len() == 1);
    resync.reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_no_good_says_why_and_a_snapshot_follows() {
    let mut cluster = Cluster::start("eventual", 2).await;
    cluster.client(1).put(put("k", "v")).await.unwrap();
    eventually("both have it", || async {
        (cluster.describe(2).await?.keys == 1).then_some(())
    })
    .await;
    let mut steps = watch(&cluster, 1, Bytes::new()).await;
    let cursor = next(&mut steps).await.cursor;
    drop(steps);
    assert_eq!(
        resync_reason(&cluster, 2, cursor.clone()).await,
        "FOREIGN_CURSOR"
    );
    // What a node keeps of changes ends with its life.
    cluster.stop_node(1).await;
    cluster.start_node(1).await;
    assert_eq!(resync_reason(&cluster, 1, cursor).await, "HISTORY_GONE");
    cluster.shutdown().await;
}
