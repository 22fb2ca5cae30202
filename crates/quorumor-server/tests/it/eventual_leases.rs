//! Leases in eventual mode: granted anywhere, answered for by their owner alone, gone with it.

use std::time::Duration;

use quorumor_proto::pb;
use quorumor_server::Settings;

use crate::support::{Client, Cluster, eventually, failure, get, local, put, value};

async fn three() -> Cluster {
    let cluster = Cluster::start_with("eventual", 3, |_, settings| Settings {
        reap_ms: Some(3_600_000),
        ..settings
    })
    .await;
    for id in 1..=3 {
        eventually("all know each other", || async {
            let about = cluster.describe(id).await?;
            (about.receipt?.members?.alive == 3 && about.health == "serving").then_some(())
        })
        .await;
    }
    cluster
}

async fn grant(client: &mut Client, seconds: i64) -> u64 {
    let request = pb::LeaseGrantRequest {
        ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..pb::LeaseGrantRequest::default()
    };
    client
        .lease_grant(request)
        .await
        .unwrap()
        .into_inner()
        .lease_id
}

async fn look(
    client: &mut Client,
    lease_id: u64,
    include_keys: bool,
) -> Result<pb::LeaseTimeToLiveResponse, tonic::Status> {
    let request = pb::LeaseTimeToLiveRequest {
        header: None,
        lease_id,
        include_keys,
    };
    Ok(client.lease_time_to_live(request).await?.into_inner())
}

async fn keep_alive(client: &mut Client, lease_id: u64) -> pb::LeaseKeepAliveResponse {
    let request = pb::LeaseKeepAliveRequest {
        header: None,
        lease_id,
    };
    let kept = client
        .lease_keep_alive(futures_util::stream::iter([request]))
        .await;
    kept.unwrap().into_inner().message().await.unwrap().unwrap()
}

fn leased(key: &str, lease_id: u64) -> pb::PutRequest {
    pb::PutRequest {
        lease_id,
        ..put(key, "v")
    }
}

async fn present(cluster: &Cluster, node: u64, key: &str, wanted: bool) {
    eventually("the key comes or goes", || async {
        let read = cluster.client(node).get(get(key, local())).await.ok()?;
        (value(&read.into_inner()).is_some() == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_passes_calls_on_to_the_owner_and_the_keys_go_with_the_lease() {
    let cluster = three().await;
    let mut client = cluster.client(1);
    let lease = grant(&mut client, 60).await;
    let mut elsewhere = cluster.client(2);
    elsewhere.put(leased("service/web", lease)).await.unwrap();
    for node in 1..=3 {
        present(&cluster, node, "service/web", true).await;
    }
    let seen = look(&mut elsewhere, lease, true)
        .await
        .unwrap()
        .lease
        .unwrap();
    assert_eq!(seen.owner_node_id, 1);
    assert_eq!(seen.keys, ["service/web"]);
    assert!(seen.remaining_ttl.unwrap().seconds >= 50);
    let kept = keep_alive(&mut elsewhere, lease).await;
    assert!(kept.ttl.unwrap().seconds >= 50, "{kept:?}");
    for node in 1..=3 {
        let mut client = cluster.client(node);
        let listed = client.lease_list(pb::LeaseListRequest::default()).await;
        let leases = listed.unwrap().into_inner().leases;
        let found = leases.iter().find(|found| found.lease_id == lease).unwrap();
        assert_eq!((found.owner_node_id, found.key_count), (1, 1));
        assert_eq!(found.remaining_ttl.is_some(), node == 1);
    }
    let revoke = pb::LeaseRevokeRequest {
        header: None,
        lease_id: lease,
    };
    cluster.client(3).lease_revoke(revoke).await.unwrap();
    for node in 1..=3 {
        present(&cluster, node, "service/web", false).await;
    }
    assert!(!look(&mut elsewhere, lease, false).await.unwrap().found);
    let refused = failure(elsewhere.put(leased("k", lease)).await);
    assert_eq!(refused.reason, "LEASE_NOT_FOUND");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_keeps_alive_expires_with_its_keys() {
    let cluster = three().await;
    let lease = grant(&mut cluster.client(2), 1).await;
    cluster.client(2).put(leased("brief", lease)).await.unwrap();
    present(&cluster, 1, "brief", true).await;
    for node in 1..=3 {
        present(&cluster, node, "brief", false).await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_its_owner_is_away_a_leases_keys_are_hidden_and_nobody_answers_for_it() {
    let mut cluster = three().await;
    let lease = grant(&mut cluster.client(3), 600).await;
    cluster
        .client(3)
        .put(leased("service/db", lease))
        .await
        .unwrap();
    present(&cluster, 1, "service/db", true).await;
    let mut client = cluster.client(1);
    let watch = client.watch(pb::WatchRequest::default()).await;
    let mut steps = watch.unwrap().into_inner();
    cluster.stop_node(3).await;
    present(&cluster, 1, "service/db", false).await;
    // Watchers hear of it as of any deletion.
    loop {
        let step = steps.message().await.unwrap().unwrap();
        if let Some(pb::watch_response::Step::Changes(changes)) = step.step {
            let Some(pb::watch_event::Event::Deletion(deletion)) = &changes.events[0].event else {
                panic!("{changes:?}");
            };
            assert_eq!(deletion.key, "service/db");
            break;
        }
    }
    let mut request = tonic::Request::new(pb::LeaseTimeToLiveRequest {
        lease_id: lease,
        ..pb::LeaseTimeToLiveRequest::default()
    });
    request.set_timeout(Duration::from_secs(5));
    let refused = failure(client.lease_time_to_live(request).await);
    assert_eq!(refused.reason, "OWNER_UNREACHABLE", "{refused:?}");
    let kept = keep_alive(&mut client, lease).await;
    let status = quorumor_proto::status::status_from_bytes(kept.status);
    let told = quorumor_proto::status::from_status(&status);
    assert_eq!(told.reason, "OWNER_UNREACHABLE");
    cluster.shutdown().await;
}
