//! Nodes that speak different peer protocols form one cluster, in both modes.

use quorumor_server::Settings;

use crate::support::{Cluster, eventually, get, http, local, put, value};

async fn write_everywhere_and_read(cluster: &Cluster, round: &str) {
    for writer in cluster.nodes.keys() {
        let (key, text) = (format!("k{writer}"), format!("{round} by {writer}"));
        eventually("a write", || async {
            cluster.client(*writer).put(put(&key, &text)).await.ok()
        })
        .await;
        for reader in cluster.nodes.keys() {
            eventually("the value arrives", || async {
                let read = cluster.client(*reader).get(get(&key, local())).await.ok()?;
                (value(&read.into_inner())? == text).then_some(())
            })
            .await;
        }
    }
}

/// Whether streams of this protocol are open somewhere in the process.
fn speak(cluster: &Cluster, protocol: u32) -> bool {
    let metrics = tokio::task::block_in_place(|| http(cluster, "/metrics"));
    let line = format!("quorumor_peer_streams{{protocol=\"{protocol}\"}} ");
    metrics.lines().any(|found| {
        let open = found.strip_prefix(&line).and_then(|open| open.parse().ok());
        open.is_some_and(|open: f64| open >= 1.0)
    })
}

async fn one_cluster_of_two_versions(mode: &str) {
    let older = |id, settings| Settings {
        peer_protocol_max: (id == 2).then_some(1),
        ..settings
    };
    let mut cluster = Cluster::start_with(mode, 3, older).await;
    // Long values go by stream in both modes.
    let long = "x".repeat(4_000);
    write_everywhere_and_read(&cluster, &long).await;
    for protocol in [1, 2] {
        eventually("streams of both protocols", || async {
            speak(&cluster, protocol).then_some(())
        })
        .await;
    }
    // The other way round: a newer node among older ones, after each was started anew.
    for id in [1, 2, 3] {
        cluster.stop_node(id).await;
        let settings = Settings {
            peer_protocol_max: (id != 2).then_some(1),
            ..cluster.settings(id)
        };
        let node = cluster.try_start(settings).await.unwrap();
        cluster.nodes.insert(id, node);
        write_everywhere_and_read(&cluster, &format!("{long} {id}")).await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_nodes_of_two_versions_form_one_cluster() {
    one_cluster_of_two_versions("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eventual_nodes_of_two_versions_form_one_cluster() {
    one_cluster_of_two_versions("eventual").await;
}
