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
    eventual.forget_session();
    eventual.put("orders/9", "v").await.unwrap();
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
