//! Clusters whose members come and go, and one that is restored from a backup: whole nodes over real sockets.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use quorumor_core::NodeId;
use quorumor_proto::pb;
use quorumor_proto::pb::cluster_service_client::ClusterServiceClient;
use quorumor_server::{RestoreOptions, Settings, inspect_backup, restore_backup};
use tonic::transport::{Channel, Endpoint};

use crate::support::{Cluster, eventually, failure, free_address, get, put, value};

fn operator(cluster: &Cluster, id: u64) -> ClusterServiceClient<Channel> {
    let address = cluster.nodes[&id].client_address();
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    ClusterServiceClient::new(endpoint.timeout(Duration::from_secs(10)).connect_lazy())
}

/// Settings of a node that joins by every node that runs.
fn joiner(cluster: &Cluster, id: u64) -> Settings {
    let doors: Vec<_> = cluster
        .nodes
        .values()
        .map(|node| node.client_address().to_string())
        .collect();
    Settings {
        mode: Some("strong".into()),
        cluster: Some("test".into()),
        node_id: Some(id),
        data_dir: Some(cluster.dir().join(id.to_string()).display().to_string()),
        listen: Some("127.0.0.1:0".into()),
        peer_listen: Some(free_address().to_string()),
        join: Some(doors.join(",")),
        seed: Some(id),
        ..Settings::default()
    }
}

async fn is_voter(cluster: &Cluster, at: u64, id: u64) -> Option<bool> {
    let listed = operator(cluster, at)
        .member_list(pb::MemberListRequest::default())
        .await
        .ok()?;
    let members = listed.into_inner().members;
    Some(members.iter().find(|member| member.node_id == id)?.voter)
}

async fn reads(cluster: &Cluster, at: u64, key: &str) -> Option<String> {
    let linearizable = pb::RequestHeader::default();
    let found = cluster.client(at).get(get(key, linearizable)).await.ok()?;
    value(found.get_ref())
}

async fn write(cluster: &Cluster, at: u64, key: &str, text: &str) -> pb::PutResponse {
    eventually("a write", || async {
        let put = cluster.client(at).put(put(key, text)).await.ok()?;
        Some(put.into_inner())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_is_made_a_voter_remembers_it_and_replaces_a_dead_one() {
    let mut cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    write(&cluster, leader, "k", "before").await;

    let settings = joiner(&cluster, 4);
    let node = cluster.try_start(settings.clone()).await.unwrap();
    cluster.nodes.insert(4, node);
    eventually("node 4 votes", || async {
        is_voter(&cluster, 4, 4).await.filter(|votes| *votes)
    })
    .await;
    assert_eq!(reads(&cluster, 4, "k").await.as_deref(), Some("before"));

    // Its directory remembers how it came.
    cluster.stop_node(4).await;
    let again = Settings {
        join: None,
        ..settings
    };
    let node = cluster.try_start(again).await.unwrap();
    cluster.nodes.insert(4, node);
    eventually("node 4 reads again", || reads(&cluster, 4, "k")).await;

    // One of the founders dies with its disk.
    let dead = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop_node(dead).await;
    std::fs::remove_dir_all(cluster.dir().join(dead.to_string())).unwrap();
    let taken = cluster
        .try_start(joiner(&cluster, dead))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        taken.contains(&format!("quorumor member remove {dead}")),
        "{taken}"
    );
    let remove = pb::MemberRemoveRequest {
        node_id: dead,
        ..pb::MemberRemoveRequest::default()
    };
    operator(&cluster, 4).member_remove(remove).await.unwrap();
    write(&cluster, 4, "k", "after").await;
    let used = cluster
        .try_start(joiner(&cluster, dead))
        .await
        .unwrap_err()
        .to_string();
    assert!(used.contains("refuses"), "{used}");

    let node = cluster.try_start(joiner(&cluster, 5)).await.unwrap();
    cluster.nodes.insert(5, node);
    eventually("node 5 votes", || async {
        is_voter(&cluster, 5, 5).await.filter(|votes| *votes)
    })
    .await;
    assert_eq!(reads(&cluster, 5, "k").await.as_deref(), Some("after"));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_on_request() {
    let cluster = Cluster::start("strong", 3).await;
    let leader = cluster.leader().await;
    let next = leader % 3 + 1;
    let transfer = pb::TransferLeaderRequest {
        node_id: next,
        ..pb::TransferLeaderRequest::default()
    };
    operator(&cluster, next)
        .transfer_leader(transfer)
        .await
        .unwrap();
    eventually("the new leader", || async {
        (cluster.leader().await == next).then_some(())
    })
    .await;
    cluster.shutdown().await;
}

async fn save(cluster: &Cluster, at: u64, file: &Path) {
    let saved = operator(cluster, at)
        .snapshot_save(pb::SnapshotSaveRequest::default())
        .await
        .unwrap();
    let mut stream = saved.into_inner();
    let mut out = std::fs::File::create(file).unwrap();
    while let Some(part) = stream.message().await.unwrap() {
        out.write_all(&part.data).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_becomes_another_cluster_that_refuses_the_old_ones_tokens() {
    let old = Cluster::start("strong", 1).await;
    let written = write(&old, 1, "k", "kept").await;
    let token = written.receipt.unwrap().token;
    let file = old.dir().join("test.backup");
    save(&old, 1, &file).await;
    assert_eq!(inspect_backup(&file).unwrap().summary.keys, 1);

    let dir = tempfile::tempdir().unwrap();
    let members: BTreeMap<NodeId, _> = (1..=3)
        .map(|id| (NodeId::try_from(id).unwrap(), free_address()))
        .collect();
    let options = |id: u64| RestoreOptions {
        file: file.clone(),
        data_dir: dir.path().join(id.to_string()),
        node: NodeId::try_from(id).unwrap(),
        cluster: None,
        members: members.clone(),
        epoch: None,
        revision_step: 1_000,
    };
    let mut restored = Cluster::empty();
    for (id, address) in &members {
        let id = id.as_u64();
        restore_backup(&options(id)).unwrap();
        let settings = Settings {
            mode: Some("strong".into()),
            cluster: Some("test".into()),
            node_id: Some(id),
            data_dir: Some(dir.path().join(id.to_string()).display().to_string()),
            listen: Some("127.0.0.1:0".into()),
            peer_listen: Some(address.to_string()),
            ..Settings::default()
        };
        let node = restored.try_start(settings).await.unwrap();
        restored.nodes.insert(id, node);
    }
    let again = restore_backup(&options(1)).unwrap_err().to_string();
    assert!(again.contains("name an empty --data-dir"), "{again}");
    let leader = restored.leader().await;
    assert_eq!(reads(&restored, leader, "k").await.as_deref(), Some("kept"));
    let later = write(&restored, leader, "k", "new").await;
    let Some(pb::version::Version::Strong(version)) = later.version.unwrap().version else {
        panic!("not a strong version");
    };
    assert!(version.mod_revision > 1_000, "{version:?}");
    let stale = pb::RequestHeader {
        token,
        ..pb::RequestHeader::default()
    };
    let refused = failure(restored.client(leader).get(get("k", stale)).await);
    assert!(
        ["EPOCH_CHANGED", "INVALID_ARGUMENT"].contains(&refused.reason.as_str()),
        "{refused:?}"
    );

    // A byte that rots is found.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    inspect_backup(&file).unwrap_err();
    restored.shutdown().await;
    old.shutdown().await;
}
