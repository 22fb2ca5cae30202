//! Clients that write at the destination while data move there: nothing of theirs goes without being listed.

use bytes::Bytes;
use quorumor_core::{Entry, Key, Operation, OperationResult, Version};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_write_at_their_new_home_stays() {
    let cluster = Cluster::start(1).await;
    let (strong, eventual) = (cluster.client(Mode::Strong), cluster.client(Mode::Eventual));
    strong.put("data/1", "v").await.unwrap();
    eventual.put("left/over", "v").await.unwrap();
    let late = Writer::start(cluster.client(Mode::Strong), "late");
    until("the writer writes", async || {
        strong.get("late/03").await.unwrap().entry.is_some()
    })
    .await;
    let words = [
        "--from",
        "strong",
        "--to",
        "eventual",
        "--only-at-destination",
        "delete",
        "--rounds",
        "2",
    ];
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!(
        (code, &told["ended"]),
        (3, &"source_still_written".into()),
        "{told}"
    );
    late.end().await;
    // Cut over: what was there before is gone, and listed; what comes now is the destination's own.
    assert_eq!(told["listed"][0]["key"], "left/over", "{told}");
    told_once(|| eventual.put("orders/9", "v")).await.unwrap();
    let orders = Writer::start(cluster.client(Mode::Eventual), "orders");
    until("the writer writes", async || {
        eventual.get("orders/03").await.unwrap().entry.is_some()
    })
    .await;
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!((code, &told["ended"]), (0, &"finished".into()), "{told}");
    assert_eq!(told["listed_total"], 1, "{told}");
    let written = orders.end().await;
    let now = all(&eventual).await;
    assert!(now.contains_key("orders/9") && !now.contains_key("left/over"));
    for (key, value) in &written {
        assert_eq!(now.get(key).map(|held| &held.0), Some(value), "{key}");
    }
    cluster.stop().await;
}

/// What the mover writes in eventual mode, with a client's write between its look and its write.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_races_the_mover_shows_in_conflicts() {
    let cluster = Cluster::start(1).await;
    let eventual = cluster.client(Mode::Eventual);
    // It saw no such key, and sets it.
    eventual.put("absent", "raced").await.unwrap();
    let moved = put("absent", "moved", Some(VersionVector::new()));
    eventual.batch(&[moved]).await.unwrap();
    // It saw a value, and removes it.
    for key in ["gone", "cart/gone"] {
        eventual.put(key, "seen").await.unwrap();
        let seen = eventual.get(key).await.unwrap().entry.unwrap();
        eventual.put(key, "raced").await.unwrap();
        let delete = Operation::Delete {
            key: seen.key.clone(),
        };
        let again = put(key, "seen", Some(context(&seen)));
        let answer = eventual.batch(&[again, delete]).await.unwrap();
        assert!(eventual.get(key).await.unwrap().entry.is_none());
        let OperationResult::Deleted { previous } = &answer.results[1] else {
            panic!("{answer:?}");
        };
        // Where all values are kept the one that was written since went with the key, and the answer says so.
        let beside = previous.as_ref().and_then(|entry| entry.siblings.clone());
        let beside = beside.map_or(0, |siblings| siblings.len());
        assert_eq!(
            beside,
            usize::from(key == "cart/gone"),
            "{key}: {previous:?}"
        );
    }
    let endpoint = cluster.endpoints().remove(0);
    let listed = eventual
        .conflicts(&endpoint, &KeyRange::all(), 0, 0)
        .await
        .unwrap()
        .conflicts;
    let lost: Vec<_> = listed
        .iter()
        .map(|conflict| (conflict.key.as_str(), conflict.value.clone()))
        .collect();
    let raced = Some(Bytes::from_static(b"raced"));
    assert_eq!(lost, [("absent", raced.clone()), ("gone", raced)]);
    cluster.stop().await;
}

fn put(key: &str, value: &'static str, context: Option<VersionVector>) -> Operation {
    Operation::Put {
        key: Key::parse(key).unwrap(),
        value: quorumor_core::Value::parse(value.into()).unwrap(),
        context,
        lease: None,
    }
}

fn context(entry: &Entry) -> VersionVector {
    match &entry.version {
        Version::Eventual { context, .. } => context.clone(),
        Version::Strong { .. } => panic!("it is of eventual mode"),
    }
}

/// Clients set each key once at the destination while it moves there: what each wrote stands, is in the statement's list, or is a
/// conflict.
#[tokio::test(flavor = "multi_thread")]
async fn every_value_of_a_client_stands_or_is_listed() {
    let cluster = Cluster::start(1).await;
    let (strong, eventual) = (cluster.client(Mode::Strong), cluster.client(Mode::Eventual));
    for first in (0..KEYS).step_by(100) {
        let puts: Vec<_> = (first..first + 100)
            .map(|number| put(&format!("data/{number:05}"), "source", None))
            .collect();
        strong.batch(&puts).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("moved.jsonl");
    let words = ["--from", "strong", "--to", "eventual", "--no-cut-over"];
    let choice = [
        "--on-conflict",
        "source-wins",
        "--ledger",
        ledger.to_str().unwrap(),
    ];
    let words = [&words[..], &choice].concat();
    let mut mover = Mover(
        cluster
            .command(&words)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    until("it is under way", async || {
        step(&eventual, "strong-to-eventual").await >= 1
    })
    .await;
    let clients = (0..8).map(|nth| {
        let client = cluster.client(Mode::Eventual);
        tokio::spawn(async move {
            for number in (nth..KEYS).step_by(8) {
                let key = format!("data/{:05}", number * 7 % KEYS);
                client.put(&key, "client").await.unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    until("it has ended", async || {
        mover.0.try_wait().unwrap().is_some()
    })
    .await;
    let listed = std::fs::read_to_string(&ledger).unwrap();
    let endpoint = cluster.endpoints().remove(0);
    let conflicts = eventual
        .conflicts(&endpoint, &KeyRange::all(), 0, 10_000)
        .await
        .unwrap();
    assert_eq!((conflicts.missed, conflicts.more), (0, false));
    let lost = conflicts.conflicts.iter();
    let lost: Vec<_> = lost.map(|conflict| conflict.key.as_str()).collect();
    let now = all(&eventual).await;
    for (key, (value, _)) in &now {
        let is_listed = listed.contains(key.as_str()) || lost.contains(&key.as_str());
        assert!(value == b"client" || is_listed, "{key}");
    }
    cluster.stop().await;
}
