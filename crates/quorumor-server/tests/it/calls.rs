//! Strong mode's calls beyond single keys: transactions, past revisions, streams, leases, sessions, bounded reads, compaction;
//! and that eventual mode refuses each by name.

use std::time::{Duration, Instant};

use quorumor_proto::pb;
use quorumor_proto::pb::batch_operation::Operation;
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_proto::status::{Failure, from_status};
use tonic::transport::{Channel, Endpoint};

use crate::support::{Client, Cluster, eventually, failure, get, local, put, value};

pub(crate) fn operator(cluster: &Cluster, id: u64) -> ClusterServiceClient<Channel> {
    let address = cluster.nodes[&id].client_address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    ClusterServiceClient::new(endpoint.timeout(Duration::from_secs(10)).connect_lazy())
}

pub(crate) fn prefix(text: &str) -> Option<pb::KeyRange> {
    Some(pb::KeyRange {
        range: Some(pb::key_range::Range::Prefix(text.into())),
    })
}

fn operation(operation: Operation) -> pb::BatchOperation {
    pb::BatchOperation {
        operation: Some(operation),
    }
}

fn put_operation(key: &str, value: &str) -> pb::BatchOperation {
    operation(Operation::Put(pb::PutOperation {
        key: key.into(),
        value: value.to_owned().into(),
        ..pb::PutOperation::default()
    }))
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn revision(receipt: Option<&pb::Receipt>) -> u64 {
    match receipt.unwrap().position.as_ref().unwrap() {
        pb::receipt::Position::Strong(strong) => strong.revision,
        pb::receipt::Position::Eventual(_) => panic!("a position of the other mode"),
    }
}

async fn write(client: &mut Client, key: &str, text: &str) -> u64 {
    let written = client.put(put(key, text)).await.unwrap().into_inner();
    revision(written.receipt.as_ref())
}

/// Takes a lock that nobody holds, and clears what was before; else tells who holds it.
fn take_the_lock() -> pb::TxnRequest {
    pb::TxnRequest {
        header: None,
        compares: vec![pb::Compare {
            key: "lock".into(),
            relation: pb::Relation::Equal.into(),
            target: Some(pb::compare::Target::CreateRevision(0)),
        }],
        success: vec![
            put_operation("lock", "mine"),
            put_operation("log", "taken"),
            operation(Operation::DeleteRange(pb::DeleteRangeOperation {
                range: prefix("old/"),
            })),
        ],
        failure: vec![operation(Operation::Get(pb::GetOperation {
            key: "lock".into(),
        }))],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_does_one_of_its_lists_at_one_revision() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    cluster.client(1).put(put("old/1", "x")).await.unwrap();
    let txn = take_the_lock();
    let done = cluster
        .client(2)
        .txn(txn.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(done.succeeded);
    let versions: Vec<u64> = done
        .results
        .iter()
        .filter_map(|result| match result.result.as_ref().unwrap() {
            pb::batch_result::Result::Put(put) => put.version.as_ref(),
            pb::batch_result::Result::DeleteRange(deleted) => {
                assert_eq!(deleted.count, 1);
                None
            }
            other => panic!("{other:?}"),
        })
        .map(|version| match version.version.as_ref().unwrap() {
            pb::version::Version::Strong(strong) => strong.mod_revision,
            pb::version::Version::Eventual(_) => panic!("a version of the other mode"),
        })
        .collect();
    assert_eq!(versions, [revision(done.receipt.as_ref()); 2]);
    let again = cluster
        .client(3)
        .txn(txn.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(!again.succeeded);
    match again.results[0].result.as_ref().unwrap() {
        pb::batch_result::Result::Get(got) => assert_eq!(got.entry.as_ref().unwrap().value, "mine"),
        other => panic!("{other:?}"),
    }
    assert_ne!(
        again.receipt.unwrap().write_outcome(),
        pb::WriteOutcome::Applied,
        "it only read"
    );
    let many = pb::TxnRequest {
        success: vec![put_operation("k", "v"); 129],
        ..txn
    };
    let refused = failure(cluster.client(1).txn(many).await);
    assert!(
        refused.message.contains("txn_operations_max"),
        "{refused:?}"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_can_be_read_until_it_is_compacted() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let mut client = cluster.client(1);
    let first = write(&mut client, "a", "1").await;
    let second = write(&mut client, "a", "2").await;
    write(&mut client, "b", "1").await;
    let delete = pb::DeleteRequest {
        key: "a".into(),
        header: None,
    };
    client.delete(delete).await.unwrap();
    let at = |revision| pb::GetRequest {
        revision,
        ..get("a", pb::RequestHeader::default())
    };
    let list_at = |revision, page_token| pb::ListRequest {
        revision,
        limit: 1,
        page_token,
        ..pb::ListRequest::default()
    };
    for id in 1..=3 {
        let mut client = cluster.client(id);
        let read = client.get(at(first)).await.unwrap().into_inner();
        assert_eq!(value(&read).as_deref(), Some("1"));
        assert_eq!(revision(read.receipt.as_ref()), first);
        let read = client.get(at(second)).await.unwrap().into_inner();
        assert_eq!(value(&read).as_deref(), Some("2"));
        assert!(!client.get(at(0)).await.unwrap().into_inner().found);
        let refused = failure(client.get(at(1_000)).await);
        assert_eq!(refused.reason, "FUTURE_REVISION");
        // Pages of one state, whatever happens between them.
        let page = client
            .list(list_at(second + 1, Default::default()))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.entries[0].value, "2");
        write(&mut client, "ab", "between the pages").await;
        let rest = client
            .list(list_at(
                revision(page.receipt.as_ref()),
                page.next_page_token,
            ))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(rest.entries[0].key, "b");
    }
    let compact = pb::CompactHistoryRequest {
        revision: second,
        ..pb::CompactHistoryRequest::default()
    };
    let mut operator = operator(&cluster, 3);
    operator.compact_history(compact).await.unwrap();
    for id in 1..=3 {
        let refused = failure(cluster.client(id).get(at(first)).await);
        assert_eq!(refused.reason, "HISTORY_GONE");
        assert!(refused.message.contains(&second.to_string()), "{refused:?}");
        let read = cluster.client(id).get(at(second)).await.unwrap();
        assert_eq!(value(&read.into_inner()).as_deref(), Some("2"));
    }
    cluster.shutdown().await;
}

/// etcd #12342: a large range is streamed from one state, in parts, while writes go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_listing_is_streamed_from_one_state() {
    const KEYS: usize = 50_000;
    let cluster = Cluster::start("strong", 1).await;
    cluster.leader().await;
    let mut client = cluster.client(1);
    let keys: Vec<String> = (0..KEYS).map(|number| format!("k/{number:06}")).collect();
    for chunk in keys.chunks(128) {
        let operations = chunk.iter().map(|key| put_operation(key, &"v".repeat(100)));
        let batch = pb::BatchRequest {
            header: None,
            operations: operations.collect(),
        };
        client.batch(batch).await.unwrap();
    }
    let list = pb::ListStreamRequest {
        range: prefix("k/"),
        ..pb::ListStreamRequest::default()
    };
    let mut parts = client.list_stream(list).await.unwrap().into_inner();
    let mut seen = 0;
    let mut messages = 0;
    let mut receipt = None;
    while let Some(part) = parts.message().await.unwrap() {
        assert!(receipt.is_none(), "the receipt ends it");
        let bytes: usize = part.entries.iter().map(|entry| entry.value.len()).sum();
        assert!(bytes <= 1024 * 1024 && part.entries.len() <= 1_000);
        for entry in &part.entries {
            assert_eq!((&entry.key, entry.value.len()), (&keys[seen], 100));
            seen += 1;
        }
        receipt = part.receipt;
        messages += 1;
        // A write isn't held up, and isn't seen.
        let began = Instant::now();
        client.put(put(&keys[KEYS - 1], "later")).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(seen, KEYS);
    assert!(messages >= 50);
    assert_eq!(receipt.unwrap().got(), pb::Level::Linearizable);
    cluster.shutdown().await;
}

async fn keep_alive(client: &mut Client, leases: &[u64]) -> Vec<pb::LeaseKeepAliveResponse> {
    let requests: Vec<_> = leases
        .iter()
        .map(|lease| pb::LeaseKeepAliveRequest {
            header: None,
            lease_id: *lease,
        })
        .collect();
    let requests = futures_util::stream::iter(requests);
    let mut answers = client
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    let mut got = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        got.push(answer);
    }
    got
}

async fn grant(client: &mut Client, id: u64, ttl: i64) -> pb::LeaseGrantResponse {
    let grant = pb::LeaseGrantRequest {
        header: None,
        lease_id: id,
        ttl: seconds(ttl),
    };
    client.lease_grant(grant).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lives_by_its_keep_alives_and_takes_its_keys_along() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let mut client = cluster.client(1);
    let lease = grant(&mut client, 0, 60).await.lease_id;
    assert_ne!(lease, 0);
    assert_eq!(grant(&mut client, 77, 3_600).await.lease_id, 77);
    let again = pb::LeaseGrantRequest {
        header: None,
        lease_id: 77,
        ttl: seconds(60),
    };
    assert_eq!(
        failure(client.lease_grant(again).await).reason,
        "LEASE_EXISTS"
    );
    let bound = |lease_id| pb::PutRequest {
        lease_id,
        ..put("l/a", "v")
    };
    client.put(bound(lease)).await.unwrap();
    let refused = failure(client.put(bound(123_456)).await);
    assert_eq!(refused.reason, "LEASE_NOT_FOUND");

    let mut other = cluster.client(2);
    let asked = pb::LeaseTimeToLiveRequest {
        header: None,
        lease_id: lease,
        include_keys: true,
    };
    let told = other.lease_time_to_live(asked).await.unwrap().into_inner();
    let told = told.lease.unwrap();
    assert_eq!(told.keys, ["l/a"]);
    let left = told.remaining_ttl.unwrap().seconds;
    assert!((30..=60).contains(&left), "{left} s left");
    let listed = other
        .lease_list(pb::LeaseListRequest {
            limit: 1,
            ..pb::LeaseListRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert!(listed.leases.len() == 1 && listed.more);

    // One answer a request, in order, whatever became of it.
    let kept = keep_alive(&mut other, &[77, 123_456, lease, 0]).await;
    let ids: Vec<u64> = kept.iter().map(|answer| answer.lease_id).collect();
    assert_eq!(ids, [77, 123_456, lease, 0]);
    assert_eq!(kept[0].ttl, seconds(3_600));
    assert_eq!((kept[1].ttl, kept[1].status.len()), (None, 0), "it is gone");
    assert_eq!(kept[2].ttl, seconds(60));
    assert!(kept[3].ttl.is_none() && !kept[3].status.is_empty(), "no id");

    let revoke = pb::LeaseRevokeRequest {
        header: None,
        lease_id: lease,
    };
    let revoked = cluster
        .client(3)
        .lease_revoke(revoke.clone())
        .await
        .unwrap();
    let token = revoked.into_inner().receipt.unwrap().token;
    let header = pb::RequestHeader { token, ..local() };
    let read = cluster.client(2).get(get("l/a", header)).await.unwrap();
    assert!(!read.into_inner().found, "it went with its lease");
    assert_eq!(
        failure(cluster.client(1).lease_revoke(revoke).await).reason,
        "LEASE_NOT_FOUND"
    );
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_deleted_for_watchers_as_anything_else() {
    use pb::watch_response::Step;
    let cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader % 3 + 1);
    let lease = grant(&mut client, 0, 1).await.lease_id;
    let bound = pb::PutRequest {
        lease_id: lease,
        ..put("l/a", "v")
    };
    client.put(bound).await.unwrap();
    let watch = pb::WatchRequest {
        range: prefix("l/"),
        previous: true,
        ..pb::WatchRequest::default()
    };
    let mut steps = client.watch(watch).await.unwrap().into_inner();
    loop {
        match steps.message().await.unwrap().unwrap().step.unwrap() {
            Step::Snapshot(snapshot) => assert_eq!(snapshot.entries.len(), 1),
            Step::Progress(_) => {}
            Step::Changes(changes) => {
                let [event] = &changes.events[..] else {
                    panic!("{changes:?}");
                };
                assert!(matches!(
                    event.event.as_ref().unwrap(),
                    pb::watch_event::Event::Deletion(deletion) if deletion.key == "l/a"
                ));
                assert_eq!(event.previous.as_ref().unwrap().value, "v");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_of_a_session_is_done_once_at_any_node() {
    let cluster = Cluster::start("strong", 3).await;
    cluster.leader().await;
    let opened = cluster
        .client(1)
        .open_session(pb::OpenSessionRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(opened.ttl, seconds(600));
    let numbered = |seq| pb::PutRequest {
        header: Some(pb::RequestHeader {
            client_id: opened.client_id,
            seq,
            ..pb::RequestHeader::default()
        }),
        ..put("k", "v")
    };
    let first = cluster.client(1).put(numbered(1)).await.unwrap();
    let version = first.into_inner().version;
    for id in 1..=3 {
        let again = cluster.client(id).put(numbered(1)).await.unwrap();
        assert_eq!(again.into_inner().version, version, "applied once");
    }
    let close = pb::CloseSessionRequest {
        header: None,
        client_id: opened.client_id,
    };
    cluster.client(2).close_session(close).await.unwrap();
    let refused = failure(cluster.client(3).put(numbered(2)).await);
    assert_eq!(refused.reason, "SESSION_EXPIRED");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_read_proves_its_bound_or_is_refused() {
    let mut cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    let follower = leader % 3 + 1;
    cluster.client(leader).put(put("k", "v")).await.unwrap();
    let bounded = |bound| pb::RequestHeader {
        level: pb::Level::Bounded.into(),
        bound: Some(bound),
        ..pb::RequestHeader::default()
    };
    let recent = || {
        bounded(pb::Bound {
            members: 0,
            max_lag: Some(0),
            max_age: seconds(20),
        })
    };
    for id in [leader, follower] {
        for _ in 0..3 {
            let read = cluster
                .client(id)
                .get(get("k", recent()))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(value(&read).as_deref(), Some("v"));
            let receipt = read.receipt.unwrap();
            assert_eq!(receipt.got(), pb::Level::Bounded);
            let staleness = receipt.staleness.unwrap();
            assert_eq!(staleness.basis(), pb::StalenessBasis::Proven);
            assert_eq!(staleness.apply_lag, Some(0));
            assert!(staleness.contact_age.unwrap().seconds <= 20);
        }
    }
    let no_bound = get("k", bounded(pb::Bound::default()));
    let refused = failure(cluster.client(leader).get(no_bound).await);
    assert_eq!(refused.reason, "INVALID_ARGUMENT");
    // Cut off from the others, it can prove nothing new.
    for id in (1..=3).filter(|id| *id != follower) {
        cluster.stop_node(id).await;
    }
    let now = bounded(pb::Bound {
        members: 0,
        max_lag: None,
        max_age: Some(prost_types::Duration {
            seconds: 0,
            nanos: 1_000_000,
        }),
    });
    let refused = failure(cluster.client(follower).get(get("k", now.clone())).await);
    assert!(
        matches!(
            refused.reason.as_str(),
            "TOO_STALE" | "NO_QUORUM" | "NOT_LEADER" | "DEADLINE_EXCEEDED"
        ),
        "{refused:?}"
    );
    let weaker = pb::RequestHeader {
        allow_degraded: true,
        ..now
    };
    let read = cluster
        .client(follower)
        .get(get("k", weaker))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(value(&read).as_deref(), Some("v"));
    assert_eq!(read.receipt.unwrap().got(), pb::Level::Local);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eventual_mode_refuses_by_name_what_it_cannot_give() {
    let cluster = Cluster::start("eventual", 1).await;
    let mut client = cluster.client(1);
    eventually("it serves", || async {
        let found = cluster.client(1).get(get("k", local())).await;
        found.ok().map(|_| ())
    })
    .await;
    let mut refusals: Vec<(&str, Failure)> = Vec::new();
    let mut note = |what, status: tonic::Status| refusals.push((what, from_status(&status)));
    let txn = pb::TxnRequest {
        success: vec![put_operation("k", "v")],
        ..pb::TxnRequest::default()
    };
    note("txn", client.txn(txn).await.unwrap_err());
    let past = pb::GetRequest {
        revision: 1,
        ..get("k", local())
    };
    note("past", client.get(past).await.unwrap_err());
    let grant = pb::LeaseGrantRequest {
        lease_id: 7,
        ttl: seconds(60),
        ..pb::LeaseGrantRequest::default()
    };
    note("grant", client.lease_grant(grant).await.unwrap_err());
    let opened = client.open_session(pb::OpenSessionRequest::default()).await;
    note("session", opened.unwrap_err());
    let watch = pb::WatchRequest {
        start_revision: 1,
        ..pb::WatchRequest::default()
    };
    note("watch", client.watch(watch).await.map(|_| ()).unwrap_err());
    let mut operator = operator(&cluster, 1);
    let members = operator.member_list(pb::MemberListRequest::default()).await;
    note("members", members.unwrap_err());
    let saved = operator
        .snapshot_save(pb::SnapshotSaveRequest::default())
        .await;
    note("save", saved.map(|_| ()).unwrap_err());
    for (what, refusal) in &refusals {
        assert_eq!(
            refusal.reason, "GUARANTEE_UNAVAILABLE",
            "{what}: {refusal:?}"
        );
        assert!(refusal.best_available.is_some(), "{what}");
    }
    cluster.shutdown().await;
}

/// A saturating write load must expire no healthy lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_kept_alive_outlives_a_flood_of_writes() {
    const WRITERS: usize = 256;
    let cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader % 3 + 1);
    let lease = grant(&mut client, 0, 3).await.lease_id;
    let bound = pb::PutRequest {
        lease_id: lease,
        ..put("l/a", "v")
    };
    client.put(bound).await.unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let writer = cluster.client(leader);
    let flood: Vec<_> = (0..WRITERS)
        .map(|number| {
            let mut writer = writer.clone();
            tokio::spawn(async move {
                let value = "v".repeat(256);
                while Instant::now() < until {
                    // Refused or late, it comes again.
                    let _ = writer.put(put(&format!("flood/{number}"), &value)).await;
                }
            })
        })
        .collect();
    while Instant::now() < until {
        let kept = keep_alive(&mut client, &[lease]).await;
        assert!(
            kept[0].ttl.is_some() || !kept[0].status.is_empty(),
            "the lease is gone"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    for writer in flood {
        writer.await.unwrap();
    }
    let read = client.get(get("l/a", pb::RequestHeader::default())).await;
    assert!(read.unwrap().into_inner().found);
    cluster.shutdown().await;
}
