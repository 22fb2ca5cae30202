//! Eventual mode: writes anywhere, seen everywhere, kept over restarts, and what it refuses.

use quorumor_proto::pb;
use quorumor_proto::status::from_status;
use tonic::Code;

use crate::support::{Cluster, eventually, failure, get, local, put, value};

async fn all_see(cluster: &Cluster, key: &str, wanted: &str) {
    for id in cluster.nodes.keys() {
        eventually("every node has the value", || async {
            let read = cluster.client(*id).get(get(key, local())).await.ok()?;
            (value(&read.into_inner()).as_deref() == Some(wanted)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_any_node_is_seen_at_all() {
    let cluster = Cluster::start("eventual", 3).await;
    for id in 1..=3 {
        let key = format!("k/{id}");
        let written = cluster
            .client(id)
            .put(put(&key, "v"))
            .await
            .unwrap()
            .into_inner();
        let receipt = written.receipt.unwrap();
        assert_eq!(receipt.write_outcome(), pb::WriteOutcome::Applied);
        assert_eq!(receipt.got(), pb::Level::Local);
        all_see(&cluster, &key, "v").await;
    }
    let listed = cluster
        .client(2)
        .list(pb::ListRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.entries.len(), 3);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gives_read_your_writes_at_another_node() {
    let cluster = Cluster::start("eventual", 3).await;
    eventually("all know each other", || async {
        let described = cluster.describe(3).await?;
        (described.members.len() == 3).then_some(())
    })
    .await;
    for round in 0..10 {
        let text = round.to_string();
        let written = cluster
            .client(1 + round % 3)
            .put(put("k", &text))
            .await
            .unwrap()
            .into_inner();
        let token = written.receipt.unwrap().token;
        let header = pb::RequestHeader { token, ..local() };
        let read = cluster
            .client(1 + (round + 1) % 3)
            .get(get("k", header))
            .await
            .unwrap();
        assert_eq!(value(&read.into_inner()), Some(text));
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_survive_a_restart_and_a_lonely_node_goes_on() {
    let mut cluster = Cluster::start("eventual", 3).await;
    cluster.client(2).put(put("k", "before")).await.unwrap();
    all_see(&cluster, "k", "before").await;
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    cluster.start_node(2).await;
    all_see(&cluster, "k", "before").await;
    cluster.client(2).put(put("k", "alone")).await.unwrap();
    cluster.start_node(1).await;
    cluster.start_node(3).await;
    all_see(&cluster, "k", "alone").await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_promise_it_refuses_by_name() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut client = cluster.client(1);
    client.put(put("k", "v")).await.unwrap();
    let cas = pb::CompareAndSetRequest {
        key: "k".into(),
        expected: Some(pb::Expected {
            expected: Some(pb::expected::Expected::Absent(true)),
        }),
        value: "w".into(),
        header: None,
        lease_id: 0,
    };
    let refused = failure(client.compare_and_set(cas).await);
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert_eq!(refused.reason, "GUARANTEE_UNAVAILABLE");
    let linearizable = pb::RequestHeader {
        level: pb::Level::Linearizable.into(),
        ..pb::RequestHeader::default()
    };
    let refused = failure(client.get(get("k", linearizable.clone())).await);
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert_eq!(refused.best_available.as_deref(), Some("local"));
    let weaker = pb::RequestHeader {
        allow_degraded: true,
        ..linearizable
    };
    let receipt = client
        .get(get("k", weaker))
        .await
        .unwrap()
        .into_inner()
        .receipt
        .unwrap();
    assert_eq!(receipt.degraded, "MODE_CANNOT");
    assert_eq!(receipt.got(), pb::Level::Local);
    let strong = pb::RequestHeader {
        mode: pb::Mode::Strong.into(),
        ..pb::RequestHeader::default()
    };
    let refused = failure(client.get(get("k", strong)).await);
    assert_eq!(refused.reason, "MODE_NOT_SERVED");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_at_its_own_node_and_resyncs_at_another() {
    use pb::watch_response::Step;
    let cluster = Cluster::start("eventual", 2).await;
    let mut steps = cluster
        .client(1)
        .watch(pb::WatchRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = steps.message().await.unwrap().unwrap();
    assert!(matches!(first.step, Some(Step::Snapshot(snapshot)) if snapshot.complete));
    cluster.client(2).put(put("k", "v")).await.unwrap();
    let second = loop {
        let step = steps.message().await.unwrap().unwrap();
        match step.step.as_ref().unwrap() {
            Step::Progress(_) => {}
            Step::Changes(changes) => {
                assert_eq!(changes.events.len(), 1);
                break step;
            }
            other => panic!("{other:?}"),
        }
    };
    drop(steps);
    let resumed = |cursor| pb::WatchRequest {
        cursor,
        ..pb::WatchRequest::default()
    };
    let elsewhere = cluster
        .client(2)
        .watch(resumed(second.cursor.clone()))
        .await
        .unwrap();
    let step = elsewhere.into_inner().message().await.unwrap().unwrap();
    assert!(matches!(step.step, Some(Step::Resync(resync)) if resync.reason == "FOREIGN_CURSOR"));
    let mut steps = cluster
        .client(1)
        .watch(resumed(second.cursor))
        .await
        .unwrap()
        .into_inner();
    cluster.client(1).put(put("l", "v")).await.unwrap();
    let step = steps.message().await.unwrap().unwrap();
    assert!(matches!(step.step, Some(Step::Changes(changes)) if changes.events.len() == 1));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_modes_of_one_node_hold_separate_data() {
    let cluster = Cluster::start("eventual,strong", 1).await;
    let mut client = cluster.client(1);
    client.put(put("k", "eventual")).await.unwrap();
    let strong = || pb::RequestHeader {
        mode: pb::Mode::Strong.into(),
        ..pb::RequestHeader::default()
    };
    let absent = eventually("a strong read", || async {
        cluster.client(1).get(get("k", strong())).await.ok()
    })
    .await;
    assert!(!absent.into_inner().found);
    let both = cluster.describe(1).await.unwrap().modes;
    assert_eq!(
        both,
        [i32::from(pb::Mode::Eventual), pb::Mode::Strong.into()]
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_cannot_come_back_under_its_old_id() {
    let mut cluster = Cluster::start("eventual", 2).await;
    cluster.client(2).put(put("k", "v")).await.unwrap();
    all_see(&cluster, "k", "v").await;
    cluster.stop_node(2).await;
    std::fs::remove_dir_all(cluster.dir().join("2")).unwrap();
    cluster.start_node(2).await;
    // A write here would spread to nobody, so soon there are none.
    eventually("it hears that it is refused", || async {
        let answer = cluster.client(2).put(put("k", "from the new disk")).await;
        let refused = answer.err()?;
        (from_status(&refused).reason == "DAMAGED").then_some(())
    })
    .await;
    let read = failure(cluster.client(2).get(get("k", local())).await);
    assert_eq!(read.reason, "DAMAGED");
    assert!(read.message.contains("new node id"), "{}", read.message);
    eventually("the old node refuses the new store", || async {
        let metrics = tokio::task::block_in_place(|| crate::support::http(&cluster, "/metrics"));
        metrics.contains("reason=\"store_conflict\"").then_some(())
    })
    .await;
    let read = cluster.client(1).get(get("k", local())).await.unwrap();
    assert_eq!(value(&read.into_inner()).as_deref(), Some("v"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_value_reaches_every_node_in_both_modes() {
    let cluster = Cluster::start("eventual,strong", 3).await;
    cluster.leader_of(pb::Mode::Strong).await;
    let large = "x".repeat(1024 * 1024);
    for mode in [pb::Mode::Eventual, pb::Mode::Strong] {
        let header = || pb::RequestHeader {
            mode: mode.into(),
            ..local()
        };
        let asked = pb::PutRequest {
            header: Some(header()),
            ..put("large", &large)
        };
        cluster.client(1).put(asked).await.unwrap();
        for id in 1..=3 {
            eventually("the value arrives", || async {
                let read = cluster.client(id).get(get("large", header())).await.ok()?;
                (value(&read.into_inner())?.len() == large.len()).then_some(())
            })
            .await;
        }
    }
    cluster.shutdown().await;
}
