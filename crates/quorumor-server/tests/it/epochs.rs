//! The epoch of a mode's data, raised while both modes are served: old tokens and cursors end, those of the other mode don't.

use std::time::Duration;

use bytes::Bytes;
use quorumor_client::{
    Client, KeyRange, Mode, Registration, RegistrationState, ResyncReason, ServiceStep, WatchStep,
};
use quorumor_proto::pb;
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_proto::pb::watch_response::Step;
use tonic::transport::Endpoint;

use crate::support::{Cluster, eventually, failure, get, put};

fn header(mode: pb::Mode) -> pb::RequestHeader {
    pb::RequestHeader {
        mode: mode.into(),
        ..pb::RequestHeader::default()
    }
}

async fn raise(
    cluster: &Cluster,
    mode: pb::Mode,
    above: Option<u64>,
) -> Result<pb::AdvanceEpochResponse, tonic::Status> {
    let address = cluster.nodes[&1].client_address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = ClusterServiceClient::new(endpoint.connect_lazy());
    let request = pb::AdvanceEpochRequest {
        header: Some(header(mode)),
        above,
    };
    let raised = client.advance_epoch(request).await?;
    Ok(raised.into_inner())
}

/// The token of a write.
async fn token(cluster: &Cluster, mode: pb::Mode) -> Bytes {
    let write = || pb::PutRequest {
        header: Some(header(mode)),
        ..put("k", "v")
    };
    let written = eventually("a write", || async {
        let written = cluster.client(1).put(write()).await.ok()?;
        Some(written.into_inner())
    });
    written.await.receipt.unwrap().token
}

async fn read(
    cluster: &Cluster,
    node: u64,
    mode: pb::Mode,
    token: Bytes,
) -> Result<pb::GetResponse, tonic::Status> {
    let header = pb::RequestHeader {
        token,
        ..header(mode)
    };
    let answer = cluster.client(node).get(get("k", header)).await?;
    Ok(answer.into_inner())
}

/// A watch of everything: its stream, and the cursor behind what is there.
async fn watch(cluster: &Cluster, mode: pb::Mode) -> (tonic::Streaming<pb::WatchResponse>, Bytes) {
    let request = pb::WatchRequest {
        header: Some(header(mode)),
        progress_interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..pb::WatchRequest::default()
    };
    let mut steps = cluster.client(1).watch(request).await.unwrap().into_inner();
    loop {
        let step = steps.message().await.unwrap().unwrap();
        if !step.cursor.is_empty() {
            return (steps, step.cursor);
        }
    }
}

async fn told(mut steps: tonic::Streaming<pb::WatchResponse>) -> String {
    loop {
        if let Some(Step::Resync(resync)) = steps.message().await.unwrap().unwrap().step {
            return resync.reason;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raised_in_one_mode_it_ends_that_modes_sessions_and_watches_at_every_node() {
    let cluster = Cluster::start("strong,eventual", 3).await;
    for (mode, other) in [
        (pb::Mode::Strong, pb::Mode::Eventual),
        (pb::Mode::Eventual, pb::Mode::Strong),
    ] {
        let (old, others) = (token(&cluster, mode).await, token(&cluster, other).await);
        let (live, cursor) = watch(&cluster, mode).await;
        let before = read(&cluster, 1, mode, old.clone()).await.unwrap();
        let before = before.receipt.unwrap().data_epoch;
        let raised = raise(&cluster, mode, Some(before)).await.unwrap();
        assert_eq!(raised.data_epoch, before + 1);
        // The same once more does no more.
        let again = raise(&cluster, mode, Some(before)).await.unwrap();
        assert_eq!(again.data_epoch, before + 1);
        for node in 1..=3 {
            eventually("every node refuses the old token", || async {
                let refused = read(&cluster, node, mode, old.clone()).await.err()?;
                let reason = quorumor_proto::status::from_status(&refused).reason;
                (reason == "EPOCH_CHANGED").then_some(())
            })
            .await;
        }
        assert_eq!(told(live).await, "EPOCH_CHANGED");
        let request = pb::WatchRequest {
            header: Some(header(mode)),
            cursor,
            ..pb::WatchRequest::default()
        };
        let resumed = cluster.client(1).watch(request).await.unwrap();
        assert_eq!(told(resumed.into_inner()).await, "EPOCH_CHANGED");
        let new = token(&cluster, mode).await;
        let found = read(&cluster, 3, mode, new).await.unwrap();
        assert_eq!(found.receipt.unwrap().data_epoch, before + 1);
        assert!(read(&cluster, 2, other, others.clone()).await.is_ok());
        // A token of the other mode was never one for here.
        let refused = failure(read(&cluster, 1, mode, others).await);
        assert_eq!(refused.reason, "INVALID_ARGUMENT");
        assert!(
            refused.message.contains("start a new session"),
            "{refused:?}"
        );
    }
    let refused = failure(raise(&cluster, pb::Mode::Eventual, Some(u64::MAX)).await);
    assert_eq!(refused.reason, "INVALID_ARGUMENT");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_epoch_that_has_not_come_here_yet_is_ahead() {
    let cluster = Cluster::start("eventual", 1).await;
    let mode = pb::Mode::Eventual;
    let bytes = token(&cluster, mode).await;
    let mut ahead = quorumor_core::Token::decode(&bytes).unwrap();
    ahead.epoch = ahead.epoch.next();
    let refused = failure(read(&cluster, 1, mode, ahead.encode().unwrap()).await);
    assert_eq!(refused.reason, "TOKEN_AHEAD");
    assert!(refused.message.contains("data epoch 1"), "{refused:?}");
    cluster.shutdown().await;
}

/// Why a watch has a gap, once it says so.
async fn gap(mut step: impl AsyncFnMut() -> Option<ResyncReason>) -> ResyncReason {
    loop {
        if let Some(reason) = step().await {
            return reason;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_at_work_is_told_once_and_keeps_what_it_holds() {
    let cluster = Cluster::start("strong,eventual", 3).await;
    for (wire, mode) in [
        (pb::Mode::Strong, Mode::Strong),
        (pb::Mode::Eventual, Mode::Eventual),
    ] {
        token(&cluster, wire).await;
        let nodes = cluster.nodes.values();
        let client = Client::builder()
            .endpoints(nodes.map(|node| node.client_address().to_string()))
            .mode(mode)
            .connect()
            .unwrap();
        client.put("mine", "1").await.unwrap();
        let ttl = Duration::from_secs(3);
        let lease = client.lease(ttl).await.unwrap();
        client.put_leased("held", "1", lease.id()).await.unwrap();
        let registration = Registration::new("web", "web-1", "10.0.0.1", 80).ttl(ttl);
        let registered = client.register(registration).await.unwrap();
        let (mut keys, mut services) = (client.watch(KeyRange::all()), client.watch_service("web"));
        keys.next().await.unwrap().unwrap();
        services.next().await.unwrap().unwrap();

        let raised = raise(&cluster, wire, None).await.unwrap().data_epoch;
        let of_keys = gap(async || match keys.next().await.unwrap().unwrap().step {
            WatchStep::Resync { reason } => Some(reason),
            _ => None,
        });
        assert_eq!(of_keys.await, ResyncReason::EpochChanged);
        let of_services = gap(
            async || match services.next().await.unwrap().unwrap().step {
                ServiceStep::Resync { reason } => Some(reason),
                _ => None,
            },
        );
        assert_eq!(of_services.await, ResyncReason::EpochChanged);
        for node in 1..=3 {
            eventually("every node has heard", || async {
                let heard = read(&cluster, node, wire, Bytes::new()).await.ok()?;
                (heard.receipt?.data_epoch >= raised).then_some(())
            })
            .await;
        }
        let (held, sure) = (lease.state(), registered.state());
        eventually("keep-alives are taken", || async {
            (lease.state() != held && registered.state() != sure).then_some(())
        })
        .await;
        assert!(lease.is_held(), "{mode}: {:?}", lease.state());
        let state = registered.state();
        let is_registered = matches!(state, RegistrationState::Registered { .. });
        assert!(is_registered, "{mode}: {state:?}");
        let told = client.put("mine", "2").await.unwrap_err();
        assert_eq!(told.reason(), "EPOCH_CHANGED", "{mode}");
        client.put("mine", "2").await.unwrap();
        assert!(client.get("held").await.unwrap().entry.is_some());
        assert!(client.session_token().is_some());
        assert!(lease.revoke().await.unwrap());
        assert!(registered.leave().await.unwrap());
    }
    cluster.shutdown().await;
}
