//! The cluster key: nodes that have it form a cluster, whoever hasn't is kept out, it is exchanged without a restart, and what
//! passes between nodes can't be read.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use quorumor_server::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::{Cluster, eventually, free_address, get, http, local, put, value};

const SECRET: &str = "a value that nobody on the wire may read";

/// What passed a tap, by stream and by datagram.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl Seen {
    fn note(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend(bytes);
    }

    fn shows(&self, text: &str) -> bool {
        let seen = self.0.lock().unwrap();
        seen.windows(text.len()).any(|part| part == text.as_bytes())
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Passes on whatever comes, and notes it.
async fn tap(to: SocketAddr, seen: Seen) -> SocketAddr {
    let at = free_address();
    let streams = TcpListener::bind(at).await.unwrap();
    let datagrams = UdpSocket::bind(at).await.unwrap();
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = streams.accept().await {
            let noted = noted.clone();
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else {
                    return;
                };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::select! {
                    () = pass(near_read, far_write, noted.clone()) => {}
                    () = pass(far_read, near_write, noted) => {}
                }
            });
        }
    });
    tokio::spawn(async move {
        let mut bytes = [0; 2_048];
        while let Ok(count) = datagrams.recv(&mut bytes).await {
            seen.note(&bytes[..count]);
            let _ = datagrams.send_to(&bytes[..count], to).await;
        }
    });
    at
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, seen: Seen) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        seen.note(&bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

fn key_file(dir: &Path, node: u64, keys: &[&str]) -> PathBuf {
    let path = dir.join(format!("{node}.key"));
    let keys: Vec<_> = keys.iter().map(|key| key.repeat(32)).collect();
    std::fs::write(&path, keys.join("\n")).unwrap();
    path
}

fn shown(path: PathBuf) -> Option<String> {
    Some(path.display().to_string())
}

/// Nodes 1 and 2 of a cluster that has room for a third, with a tap on the way from 1 to 2.
async fn two_of_three(mode: &str, dir: &Path, keyed: bool) -> (Cluster, Seen) {
    let seen = Seen::default();
    let at: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
    let tapped = tap(at[1], seen.clone()).await;
    let members: Vec<_> = (1..)
        .zip(&at)
        .map(|(id, at)| format!("{id}={at}"))
        .collect();
    let cluster = Cluster::start_with(mode, 2, |id, settings| Settings {
        peer_listen: Some(at[id as usize - 1].to_string()),
        initial_members: mode.contains("strong").then(|| members.join(",")),
        seeds: (mode.contains("eventual") && id > 1).then(|| at[0].to_string()),
        peer_override: (id == 1).then(|| format!("2={tapped}")),
        cluster_key: keyed.then(|| key_file(dir, id, &["0a"])).and_then(shown),
        ..settings
    })
    .await;
    (cluster, seen)
}

async fn arrives(cluster: &Cluster, node: u64, key: &str, wanted: &str) {
    eventually("the value arrives", || async {
        let read = cluster.client(node).get(get(key, local())).await.ok()?;
        (value(&read.into_inner()).as_deref() == Some(wanted)).then_some(())
    })
    .await;
}

/// Writes at node 1 as soon as it takes writes.
async fn write(cluster: &Cluster, key: &str, text: &str) {
    eventually("a write", || async {
        cluster.client(1).put(put(key, text)).await.ok()
    })
    .await;
}

async fn counted(cluster: &Cluster, what: &str) {
    eventually(what, || async {
        let metrics = tokio::task::block_in_place(|| http(cluster, "/metrics"));
        metrics.contains(what).then_some(())
    })
    .await;
}

async fn the_key_keeps_strangers_out(mode: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (mut cluster, _) = two_of_three(mode, dir.path(), true).await;
    write(&cluster, "k", "v").await;
    arrives(&cluster, 2, "k", "v").await;
    // A third of the same cluster comes with another key, and then with none.
    let third = Settings {
        node_id: Some(3),
        data_dir: shown(cluster.dir().join("3")),
        peer_listen: Some(free_address().to_string()),
        peer_override: None,
        seeds: mode
            .contains("eventual")
            .then(|| cluster.nodes[&1].peer_address().to_string()),
        cluster_key: shown(key_file(dir.path(), 3, &["0b"])),
        ..cluster.settings(1)
    };
    let third = if mode.contains("strong") {
        // It has its place in the founding list.
        let members = third.initial_members.clone().unwrap();
        let own = members
            .split(',')
            .find_map(|member| member.strip_prefix("3="));
        Settings {
            peer_listen: own.map(str::to_owned),
            ..third
        }
    } else {
        third
    };
    let stranger = cluster.try_start(third.clone()).await.unwrap();
    if mode.contains("strong") {
        counted(&cluster, "side=\"accepted\",reason=\"wrong_key\"").await;
    } else {
        counted(&cluster, "kind=\"datagram\",reason=\"wrong_key\"").await;
    }
    stranger.shutdown().await;
    let keyless = Settings {
        cluster_key: None,
        ..third
    };
    cluster
        .nodes
        .insert(3, cluster.try_start(keyless).await.unwrap());
    if mode.contains("strong") {
        counted(&cluster, "side=\"accepted\",reason=\"no_key\"").await;
    } else {
        counted(&cluster, "kind=\"datagram\",reason=\"no_key\"").await;
    }
    let read = cluster.client(3).get(get("k", local())).await;
    assert!(read.map_or(true, |read| !read.into_inner().found));
    cluster.stop_node(3).await;
    // The new key before the old one, everywhere; then the new one alone.
    for keys in [&["0c", "0a"][..], &["0c"]] {
        for node in [1, 2] {
            key_file(dir.path(), node, keys);
            cluster.nodes[&node].reload().await;
            let text = format!("{keys:?} at {node}");
            write(&cluster, "k", &text).await;
            arrives(&cluster, 2, "k", &text).await;
        }
    }
    cluster.stop_node(2).await;
    cluster.start_node(2).await;
    write(&cluster, "k", "after").await;
    arrives(&cluster, 2, "k", "after").await;
    cluster.shutdown().await;
}

async fn the_wire_shows(mode: &str, keyed: bool) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (cluster, seen) = two_of_three(mode, dir.path(), keyed).await;
    // One that fits a datagram, and one that doesn't.
    for text in [SECRET.to_owned(), SECRET.repeat(200)] {
        write(&cluster, "k", &text).await;
        arrives(&cluster, 2, "k", &text).await;
    }
    eventually("something passes the tap", || async {
        (seen.len() > 1_000).then_some(())
    })
    .await;
    let shows = seen.shows(SECRET);
    cluster.shutdown().await;
    shows
}

#[tokio::test(flavor = "multi_thread")]
async fn in_strong_mode_the_key_keeps_strangers_out_and_is_exchanged_without_a_restart() {
    the_key_keeps_strangers_out("strong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_eventual_mode_the_key_keeps_strangers_out_and_is_exchanged_without_a_restart() {
    the_key_keeps_strangers_out("eventual").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_key_nothing_that_passes_between_nodes_can_be_read() {
    for mode in ["strong", "eventual"] {
        assert!(
            the_wire_shows(mode, false).await,
            "the tap sees nothing in {mode} mode"
        );
        assert!(!the_wire_shows(mode, true).await, "in {mode} mode");
    }
}
