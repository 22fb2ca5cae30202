//! Strong mode: three nodes, a leader lost, a restart from disk, a minority.

use quorumor_core::Certainty;
use quorumor_proto::pb;
use tonic::Code;

use crate::support::{Cluster, eventually, failure, get, local, put, value};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_served_at_every_node() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    for id in 1..=3 {
        let mut client = cluster.client(id);
        let key = format!("k/{id}");
        let written = client.put(put(&key, "one")).await.unwrap().into_inner();
        let receipt = written.receipt.unwrap();
        assert_eq!(receipt.write_outcome(), pb::WriteOutcome::Applied);
        assert_eq!(receipt.got(), pb::Level::Linearizable);
        let read = client
            .get(get(&key, pb::RequestHeader::default()))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(value(&read).as_deref(), Some("one"));
        let basis = read.receipt.unwrap().staleness.unwrap().basis();
        assert_eq!(basis, pb::StalenessBasis::Exact);
        let cas = pb::CompareAndSetRequest {
            key: key.clone(),
            expected: Some(pb::Expected {
                expected: Some(pb::expected::Expected::Value("one".into())),
            }),
            value: "two".into(),
            header: None,
            lease_id: 0,
        };
        let won = client
            .compare_and_set(cas.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(won.succeeded);
        let lost = client.compare_and_set(cas).await.unwrap().into_inner();
        assert!(!lost.succeeded);
        assert_eq!(lost.entry.unwrap().value, "two");
    }
    let listed = cluster
        .client(2)
        .list(pb::ListRequest {
            limit: 2,
            ..pb::ListRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.entries.len(), 2);
    let rest = cluster
        .client(3)
        .list(pb::ListRequest {
            page_token: listed.next_page_token,
            ..pb::ListRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(rest.entries.len(), 1);
    assert!(rest.next_page_token.is_empty());
    let deleted = cluster
        .client(1)
        .delete(pb::DeleteRequest {
            key: "k/1".into(),
            header: None,
        })
        .await
        .unwrap()
        .into_inner();
    assert!(deleted.found);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_carries_a_session_to_any_node() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    for round in 0..20 {
        let text = format!("{round}");
        let written = cluster
            .client(1 + round % 3)
            .put(put("k", &text))
            .await
            .unwrap();
        let token = written.into_inner().receipt.unwrap().token;
        assert!(!token.is_empty());
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
async fn a_batch_answers_each_operation_in_order() {
    use pb::batch_operation::Operation;
    use pb::batch_result::Result as Done;
    let cluster = Cluster::start("strong", 1).await;
    cluster.leader().await;
    let operation = |operation| pb::BatchOperation {
        operation: Some(operation),
    };
    let read = || operation(Operation::Get(pb::GetOperation { key: "a".into() }));
    let batch = pb::BatchRequest {
        header: None,
        operations: vec![
            read(),
            operation(Operation::Put(pb::PutOperation {
                key: "a".into(),
                value: "1".into(),
                context: bytes::Bytes::new(),
                lease_id: 0,
            })),
            read(),
        ],
    };
    let done = cluster
        .client(1)
        .batch(batch)
        .await
        .unwrap()
        .into_inner()
        .results;
    let found = |result: &pb::BatchResult| match result.result.as_ref().unwrap() {
        Done::Get(get) => get.found,
        other => panic!("{other:?}"),
    };
    assert!(!found(&done[0]) && found(&done[2]));
    let reads = pb::BatchRequest {
        header: None,
        operations: vec![read(), read()],
    };
    let done = cluster.client(1).batch(reads).await.unwrap().into_inner();
    assert!(done.results.iter().all(found));
    assert_eq!(done.receipt.unwrap().got(), pb::Level::Linearizable);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_a_snapshot_then_changes_and_resumes_at_another_node() {
    use pb::watch_response::Step;
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    cluster.client(1).put(put("w/a", "1")).await.unwrap();
    cluster
        .client(1)
        .put(put("x", "not watched"))
        .await
        .unwrap();
    let range = Some(pb::KeyRange {
        range: Some(pb::key_range::Range::Prefix("w/".into())),
    });
    let request = pb::WatchRequest {
        range: range.clone(),
        ..pb::WatchRequest::default()
    };
    let mut steps = cluster.client(2).watch(request).await.unwrap().into_inner();
    let first = steps.message().await.unwrap().unwrap();
    match first.step.unwrap() {
        Step::Snapshot(snapshot) => {
            assert!(snapshot.complete);
            assert_eq!(snapshot.entries.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    cluster.client(3).put(put("w/b", "2")).await.unwrap();
    cluster.client(3).put(put("x", "again")).await.unwrap();
    let second = steps.message().await.unwrap().unwrap();
    match second.step.unwrap() {
        Step::Changes(changes) => assert_eq!(changes.events.len(), 1),
        other => panic!("{other:?}"),
    }
    drop(steps);
    cluster.client(1).put(put("w/c", "3")).await.unwrap();
    let request = pb::WatchRequest {
        range,
        cursor: second.cursor,
        ..pb::WatchRequest::default()
    };
    let mut steps = cluster.client(3).watch(request).await.unwrap().into_inner();
    let third = steps.message().await.unwrap().unwrap();
    match third.step.unwrap() {
        Step::Changes(changes) => match changes.events[0].event.as_ref().unwrap() {
            pb::watch_event::Event::Put(entry) => assert_eq!(entry.key, "w/c"),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    cluster.shutdown().await;
    let end = steps.message().await;
    assert!(
        matches!(end, Err(_) | Ok(None)),
        "a watch ends with its node"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_comes_back_from_its_disk() {
    let mut cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    cluster
        .client(leader)
        .put(put("k", "before"))
        .await
        .unwrap();
    cluster.stop_node(leader).await;
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    let read = cluster
        .client(next)
        .get(get("k", pb::RequestHeader::default()))
        .await
        .unwrap();
    assert_eq!(value(&read.into_inner()).as_deref(), Some("before"));
    cluster
        .client(next)
        .put(put("k", "meanwhile"))
        .await
        .unwrap();
    cluster.start_node(leader).await;
    let read = eventually("the node that was away serves", || async {
        let asked = get("k", pb::RequestHeader::default());
        cluster.client(leader).get(asked).await.ok()
    })
    .await;
    assert_eq!(value(&read.into_inner()).as_deref(), Some("meanwhile"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_restarts_with_everything_acknowledged() {
    let mut cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    for round in 0..50 {
        cluster
            .client(leader)
            .put(put(&format!("k/{round}"), "v"))
            .await
            .unwrap();
    }
    for id in 1..=3 {
        cluster.stop_node(id).await;
    }
    for id in 1..=3 {
        cluster.start_node(id).await;
    }
    cluster.leader().await;
    let listed = cluster
        .client(2)
        .list(pb::ListRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.into_inner().entries.len(), 50);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_refuses_and_says_so_and_answers_weaker_only_when_allowed() {
    let mut cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let written = cluster
        .client(1)
        .put(put("k", "v"))
        .await
        .unwrap()
        .into_inner();
    let token = written.receipt.unwrap().token;
    let header = pb::RequestHeader { token, ..local() };
    cluster.client(3).get(get("k", header)).await.unwrap();
    cluster.stop_node(1).await;
    cluster.stop_node(2).await;
    let mut client = cluster.client(3);
    let refused = failure(client.put(put("k", "w")).await);
    let receipt = refused.receipt.expect("an error has a receipt");
    assert_ne!(receipt.write_outcome(), pb::WriteOutcome::Applied);
    assert_eq!(receipt.node_id, 3);
    // Once it knows that there is no majority, it refuses at once and for certain.
    eventually("a certain refusal", || async {
        let refused = failure(cluster.client(3).put(put("k", "w")).await);
        (refused.code == Code::Unavailable && refused.certainty == Certainty::NotApplied)
            .then_some(())
    })
    .await;
    let refused = failure(client.get(get("k", pb::RequestHeader::default())).await);
    assert!(
        matches!(refused.code, Code::Unavailable | Code::DeadlineExceeded),
        "{refused:?}"
    );
    let allowed = pb::RequestHeader {
        allow_degraded: true,
        ..pb::RequestHeader::default()
    };
    let read = client.get(get("k", allowed)).await.unwrap().into_inner();
    assert_eq!(value(&read).as_deref(), Some("v"));
    let receipt = read.receipt.unwrap();
    assert_eq!(receipt.degraded, "LEADER_UNREACHABLE");
    assert_eq!(
        (receipt.asked(), receipt.got()),
        (pb::Level::Linearizable, pb::Level::Local)
    );
    let read = client.get(get("k", local())).await.unwrap().into_inner();
    assert_eq!(value(&read).as_deref(), Some("v"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictions_with_the_disk_are_refused() {
    let mut cluster = Cluster::start("strong", 1).await;
    cluster.leader().await;
    let other = cluster.settings(1);
    let busy = cluster
        .try_start(other.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(busy.contains("in use"), "{busy}");
    cluster.stop_node(1).await;
    let renamed = quorumor_server::Settings {
        cluster: Some("other".into()),
        ..other.clone()
    };
    let refused = cluster.try_start(renamed).await.unwrap_err().to_string();
    assert!(
        refused.contains("\"test\"") && refused.contains("\"other\""),
        "{refused}"
    );
    std::fs::remove_dir_all(cluster.dir().join("1/strong")).unwrap();
    let refused = cluster.try_start(other).await.unwrap_err().to_string();
    assert!(refused.contains("is gone"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_that_begin_amid_writes_see_every_revision_once() {
    use pb::watch_response::Step;
    const WRITES: u64 = 150;
    let cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    let watchers: Vec<_> = (0..12u64)
        .map(|number| {
            let mut client = cluster.client(1 + number % 3);
            let mut reader = cluster.client(leader);
            tokio::spawn(async move {
                // Each begins when a certain write is done.
                let begin = format!("k/{:03}", number * 10);
                let header = pb::RequestHeader::default;
                while !reader
                    .get(get(&begin, header()))
                    .await
                    .unwrap()
                    .into_inner()
                    .found
                {}
                let mut steps = client
                    .watch(pb::WatchRequest::default())
                    .await
                    .unwrap()
                    .into_inner();
                let mut seen = std::collections::BTreeSet::new();
                while (seen.len() as u64) < WRITES {
                    let entries: Vec<pb::Entry> =
                        match steps.message().await.unwrap().unwrap().step.unwrap() {
                            Step::Snapshot(part) => part.entries,
                            Step::Changes(changes) => changes
                                .events
                                .into_iter()
                                .map(|event| match event.event.unwrap() {
                                    pb::watch_event::Event::Put(entry) => entry,
                                    other => panic!("{other:?}"),
                                })
                                .collect(),
                            Step::Progress(_) => continue,
                            other => panic!("{other:?}"),
                        };
                    for entry in entries {
                        assert!(seen.insert(entry.key.clone()), "{} came twice", entry.key);
                    }
                }
            })
        })
        .collect();
    for number in 0..WRITES {
        cluster
            .client(leader)
            .put(put(&format!("k/{number:03}"), "v"))
            .await
            .unwrap();
    }
    for watcher in watchers {
        tokio::time::timeout(std::time::Duration::from_secs(30), watcher)
            .await
            .unwrap()
            .unwrap();
    }
    cluster.shutdown().await;
}
