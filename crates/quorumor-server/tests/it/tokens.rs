//! Session tokens of eventual mode where links are cut: a node fetches what the token has seen from whoever has it, and says at
//! the deadline what it lacks if nobody can be reached.

use std::time::{Duration, Instant};

use quorumor_proto::pb;
use quorumor_server::Settings;

use crate::support::{Cluster, eventually, failure, free_address, get, local, put, value};

/// Three nodes of which these can't reach each other, in either direction.
async fn cut(pairs: &'static [(u64, u64)]) -> Cluster {
    let nowhere = free_address();
    Cluster::start_with("eventual", 3, move |id, settings| {
        let lost = pairs.iter().filter_map(|(one, other)| match id {
            _ if id == *one => Some(other),
            _ if id == *other => Some(one),
            _ => None,
        });
        let overrides: Vec<_> = lost.map(|lost| format!("{lost}={nowhere}")).collect();
        Settings {
            peer_override: (!overrides.is_empty()).then(|| overrides.join(",")),
            // The seed is the node in the middle.
            seeds: None,
            ..settings
        }
    })
    .await
}

async fn token_of_a_write(cluster: &Cluster, node: u64, text: &str) -> bytes::Bytes {
    let written = cluster.client(node).put(put("k", text)).await.unwrap();
    written.into_inner().receipt.unwrap().token
}

fn read_with(token: bytes::Bytes, timeout: Duration) -> tonic::Request<pb::GetRequest> {
    let header = pb::RequestHeader { token, ..local() };
    let mut request = tonic::Request::new(get("k", header));
    request.set_timeout(timeout);
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_fetches_what_a_token_has_seen_past_a_link_that_is_cut() {
    // Nodes 1 and 2 only meet through node 3.
    let nowhere = free_address();
    let middle = free_address();
    let cluster = Cluster::start_with("eventual", 3, move |id, settings| Settings {
        peer_listen: (id == 3)
            .then(|| middle.to_string())
            .or(settings.peer_listen.clone()),
        seeds: (id != 3).then(|| middle.to_string()),
        peer_override: match id {
            1 => Some(format!("2={nowhere}")),
            2 => Some(format!("1={nowhere}")),
            _ => None,
        },
        ..settings
    })
    .await;
    for id in 1..=3 {
        eventually("all know each other", || async {
            (cluster.describe(id).await?.members.len() == 3).then_some(())
        })
        .await;
    }
    for round in 0..5 {
        let text = format!("round {round}");
        let token = token_of_a_write(&cluster, 1, &text).await;
        let began = Instant::now();
        let read = cluster
            .client(2)
            .get(read_with(token, Duration::from_secs(10)))
            .await
            .unwrap();
        assert_eq!(value(&read.into_inner()), Some(text));
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_what_a_token_has_seen_it_is_said_at_the_deadline() {
    let cluster = cut(&[(1, 2), (1, 3), (2, 3)]).await;
    let token = token_of_a_write(&cluster, 1, "v").await;
    let timeout = Duration::from_secs(1);
    let began = Instant::now();
    let refused = failure(cluster.client(2).get(read_with(token, timeout)).await);
    assert_eq!(refused.reason, "TOKEN_AHEAD");
    let took = began.elapsed();
    assert!(took > timeout / 2 && took < 2 * timeout, "{took:?}");
    cluster.shutdown().await;
}
