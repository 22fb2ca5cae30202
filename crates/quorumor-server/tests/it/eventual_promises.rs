//! What eventual mode can be asked for beyond one node's word: acknowledged writes, sampled reads, all concurrent values, the list
//! of what was discarded, and whether all nodes hold the same.

use quorumor_proto::pb;
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_server::Settings;
use tonic::transport::{Channel, Endpoint};

use crate::support::{Cluster, eventually, failure, get, local, put, value};

async fn three(change: impl Fn(Settings) -> Settings) -> Cluster {
    let cluster = Cluster::start_with("eventual", 3, |_, settings| change(settings)).await;
    for id in 1..=3 {
        eventually("all know each other", || async {
            let about = cluster.describe(id).await?;
            (about.receipt?.members?.alive == 3 && about.health == "serving").then_some(())
        })
        .await;
    }
    cluster
}

fn operator(cluster: &Cluster, node: u64) -> ClusterServiceClient<Channel> {
    let address = cluster.nodes[&node].client_address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    ClusterServiceClient::new(endpoint.connect_lazy())
}

fn held(acks: u32, request: pb::PutRequest) -> pb::PutRequest {
    pb::PutRequest {
        header: Some(pb::RequestHeader {
            acks,
            ..pb::RequestHeader::default()
        }),
        ..request
    }
}

fn sampled(members: u32) -> pb::RequestHeader {
    pb::RequestHeader {
        level: pb::Level::Sampled.into(),
        bound: Some(pb::Bound {
            members,
            ..pb::Bound::default()
        }),
        ..pb::RequestHeader::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_all_hold_is_read_anywhere_at_once() {
    let cluster = three(|settings| settings).await;
    for round in 0..20 {
        let text = round.to_string();
        let written = cluster
            .client(1)
            .put(held(3, put("k", &text)))
            .await
            .unwrap();
        assert_eq!(written.into_inner().receipt.unwrap().acks, 3);
        for node in 1..=3 {
            let read = cluster.client(node).get(get("k", local())).await.unwrap();
            assert_eq!(
                value(&read.into_inner()),
                Some(text.clone()),
                "at node {node}"
            );
        }
    }
    let refused = failure(cluster.client(1).put(held(4, put("k", "no"))).await);
    assert_eq!(refused.reason, "TOO_FEW_MEMBERS");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_read_sees_what_the_asked_members_have() {
    let cluster = three(|settings| settings).await;
    for round in 0..20 {
        let text = round.to_string();
        cluster
            .client(1 + round % 3)
            .put(put("k", &text))
            .await
            .unwrap();
        // Both others are asked, the writer among them.
        let mut reader = cluster.client(1 + (round + 1) % 3);
        let read = reader.get(get("k", sampled(2))).await.unwrap().into_inner();
        assert_eq!(read.receipt.as_ref().unwrap().got(), pb::Level::Sampled);
        assert_eq!(value(&read), Some(text));
    }
    let refused = failure(cluster.client(1).get(get("k", sampled(9))).await);
    assert_eq!(refused.reason, "TOO_FEW_MEMBERS");
    let weaker = pb::RequestHeader {
        allow_degraded: true,
        ..sampled(9)
    };
    let read = cluster.client(1).get(get("k", weaker)).await.unwrap();
    let receipt = read.into_inner().receipt.unwrap();
    assert_eq!(receipt.got(), pb::Level::Local);
    assert_eq!(receipt.degraded, "TOO_FEW_MEMBERS");
    cluster.shutdown().await;
}

/// Two nodes write a key at the same moment, until the writes were concurrent at node 3.
async fn concurrent(cluster: &Cluster, key: &str, is_so: impl AsyncFn(u64) -> bool) {
    for round in 0..200 {
        let (mut one, mut other) = (cluster.client(1), cluster.client(2));
        let texts = (format!("one {round}"), format!("other {round}"));
        let (one, other) = tokio::join!(
            one.put(put(key, &texts.0)),
            other.put(held(3, put(key, &texts.1)))
        );
        one.unwrap();
        other.unwrap();
        if is_so(3).await {
            return;
        }
    }
    panic!("no two of 200 pairs of writes were concurrent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_merging_discards_is_counted_listed_and_watched() {
    let cluster = three(|settings| settings).await;
    let watch = operator(&cluster, 3)
        .watch_conflicts(pb::WatchConflictsRequest::default())
        .await
        .unwrap();
    let mut steps = watch.into_inner();
    assert!(steps.message().await.unwrap().unwrap().conflicts.is_empty());
    let listed = async |node| {
        let asked = pb::ListConflictsRequest::default();
        let listed = operator(&cluster, node).list_conflicts(asked).await;
        listed.unwrap().into_inner()
    };
    concurrent(&cluster, "k", async |node| listed(node).await.count > 0).await;
    let told = steps.message().await.unwrap().unwrap();
    let conflict = &told.conflicts[0];
    assert_eq!((conflict.key.as_str(), conflict.number), ("k", 1));
    let text = String::from_utf8(conflict.value.clone().unwrap().to_vec()).unwrap();
    assert!(
        text.starts_with("one") || text.starts_with("other"),
        "{text}"
    );
    assert_ne!(conflict.loser, conflict.winner);
    assert_eq!(listed(3).await.conflicts[0], *conflict);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_policy_keeps_them_shows_all_concurrent_values_until_one_replaces_them() {
    let cluster = three(|settings| Settings {
        siblings: Some(vec!["cart/".into()]),
        ..settings
    })
    .await;
    let entry = async |node| {
        let read = cluster.client(node).get(get("cart/7", local())).await;
        read.unwrap().into_inner().entry
    };
    let has_siblings = async |node| {
        entry(node)
            .await
            .is_some_and(|entry| !entry.siblings.is_empty())
    };
    concurrent(&cluster, "cart/7", has_siblings).await;
    let found = entry(3).await.unwrap();
    let Some(pb::version::Version::Eventual(version)) = found.version.unwrap().version else {
        panic!("not an eventual version");
    };
    assert_eq!(version.siblings as usize, found.siblings.len() + 1);
    let listed = cluster
        .client(3)
        .list(pb::ListRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.entries[0].siblings, found.siblings);
    let merged = pb::PutRequest {
        context: version.context,
        ..put("cart/7", "merged")
    };
    cluster.client(3).put(held(3, merged)).await.unwrap();
    for node in 1..=3 {
        eventually("one value", || async {
            let entry = entry(node).await?;
            (entry.siblings.is_empty() && entry.value == "merged").then_some(())
        })
        .await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_hold_the_same_have_the_same_digest() {
    let cluster = three(|settings| settings).await;
    for node in 1..=3 {
        for number in 0..50 {
            let key = format!("k/{number}");
            let text = format!("{node} {number}");
            cluster.client(node).put(put(&key, &text)).await.unwrap();
        }
        let delete = pb::DeleteRequest {
            header: None,
            key: format!("k/{node}"),
        };
        cluster.client(node).delete(delete).await.unwrap();
    }
    let digest = async |node| {
        let mut node = operator(&cluster, node);
        let digest = node.digest(pb::DigestRequest::default()).await;
        digest.unwrap().into_inner()
    };
    eventually("all hold the same", || async {
        let [one, two, three] = [digest(1).await, digest(2).await, digest(3).await];
        let same = one.root == two.root && two.root == three.root;
        (same && one.buckets == three.buckets && one.entries >= 47).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_says_what_a_write_survives() {
    for (asked, told) in [
        (None, pb::Durability::Fsync),
        (Some("interval"), pb::Durability::Interval),
        (Some("memory"), pb::Durability::Memory),
    ] {
        let mut cluster = Cluster::start_with("eventual", 1, |_, settings| Settings {
            durability: asked.map(str::to_owned),
            ..settings
        })
        .await;
        let written = eventually("a write", || async {
            cluster.client(1).put(put("k", "v")).await.ok()
        })
        .await;
        let receipt = written.into_inner().receipt.unwrap();
        assert_eq!(receipt.durability(), told);
        // A node that is stopped in order keeps what it acknowledged, whatever it promised.
        cluster.stop_node(1).await;
        cluster.start_node(1).await;
        eventually("the value is back", || async {
            let read = cluster.client(1).get(get("k", local())).await.ok()?;
            value(&read.into_inner())
        })
        .await;
        cluster.shutdown().await;
    }
}
