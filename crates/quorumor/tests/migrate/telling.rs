//! What the statement says: until it was delivered it comes again, whole; and it counts what couldn't be seen.

use quorumor_client::migrate::{Ended, MigrateOptions, Migration};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_was_not_delivered_comes_again_whole() {
    let cluster = Cluster::start(1).await;
    let (strong, eventual) = (cluster.client(Mode::Strong), cluster.at(0, Mode::Eventual));
    let none = VersionVector::new();
    eventual.put_after("cart/1", "one", &none).await.unwrap();
    eventual.put_after("cart/1", "other", &none).await.unwrap();
    let granted = eventual
        .grant_lease(Duration::from_secs(300))
        .await
        .unwrap();
    eventual
        .put_leased("leased", "held", granted.lease)
        .await
        .unwrap();
    let migration = Migration::new(&eventual, MigrateOptions::new(Mode::Eventual)).unwrap();
    // As one that is killed when it has finished, before anybody has read what it says.
    let unread = migration.run(&mut |_| {}).await.unwrap();
    assert_eq!(unread.ended, Ended::Finished);
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("moved.jsonl");
    let words = [&FORTH[..], &["--ledger", ledger.to_str().unwrap()]].concat();
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!(
        (code, &told["ended"], &told["listed_total"]),
        (0, &"already_finished".into(), &1.into()),
        "{told}"
    );
    assert_eq!(told["listed"][0]["key"], "cart/1", "{told}");
    assert_eq!(
        (&told["moved"], &told["siblings_discarded"]),
        (&2.into(), &1.into())
    );
    assert_eq!(told["leases"][0]["from"], granted.lease.as_u64(), "{told}");
    let listed = std::fs::read_to_string(&ledger).unwrap();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(listed.contains("cart/1"), "{listed}");
    assert_eq!(
        (left_behind(&strong).await, left_behind(&eventual).await),
        (1, 0)
    );
    // Delivered: the next run says that it is finished, and leaves the ledger that has the list.
    let (code, told) = cluster.migrate(&words).await;
    assert_eq!((code, &told["listed_total"]), (0, &0.into()), "{told}");
    assert_eq!(std::fs::read_to_string(&ledger).unwrap(), listed);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_at_the_source_is_counted() {
    let mut cluster = Cluster::start(3).await;
    let (owner, first) = (cluster.at(2, Mode::Eventual), cluster.at(0, Mode::Eventual));
    let granted = owner.grant_lease(Duration::from_secs(600)).await.unwrap();
    for key in ["leased/1", "leased/2"] {
        owner.put_leased(key, "held", granted.lease).await.unwrap();
    }
    first.put("data/1", "v").await.unwrap();
    until("the leased keys are everywhere", async || {
        first.get("leased/2").await.unwrap().entry.is_some()
    })
    .await;
    cluster.nodes.remove(2).shutdown().await;
    until("they are hidden", async || {
        let read = async |key| first.get(key).await.unwrap().entry;
        read("leased/1").await.is_none() && read("leased/2").await.is_none()
    })
    .await;
    let (code, told) = cluster.migrate(&FORTH).await;
    assert_eq!(
        (code, &told["ended"], &told["keys"]),
        (0, &"finished".into(), &1.into()),
        "{told}"
    );
    assert_eq!(told["hidden_at_source"], 2, "{told}");
    assert_eq!(
        told["hidden_leases"],
        serde_json::json!([{"lease": granted.lease.as_u64(), "owner": 3, "keys": 2}])
    );
    cluster.stop().await;
}
