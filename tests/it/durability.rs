//! What was acknowledged is there after `kill -9`, and what is damaged is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorumor_client::{CallOptions, Client, Level, Mode};

use crate::support::{Cluster, eventually_async};

/// Writes at each node until it is gone; gives back what was acknowledged.
async fn write_until_broken(
    client: Client,
    name: String,
    done: Arc<AtomicU64>,
) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    for i in 0u64.. {
        let (key, value) = (format!("{name}/{i}"), format!("v{i}"));
        if client.put(&key, value.clone()).await.is_err() {
            break;
        }
        acknowledged.insert(key, value);
        done.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// Kills every node in the middle of writes, restarts all, and looks for each acknowledged write.
async fn acknowledged_writes_survive_kill_of_all(mode: Mode) {
    let mut cluster = Cluster::start(mode, 3).await;
    let done = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = cluster
        .ids()
        .flat_map(|id| (0..4).map(move |writer| (id, writer)))
        .map(|(id, writer)| {
            let client = cluster.pinned(id);
            tokio::spawn(write_until_broken(
                client,
                format!("{id}-{writer}"),
                Arc::clone(&done),
            ))
        })
        .collect();
    eventually_async("some hundred writes are acknowledged", async || {
        done.load(Ordering::Relaxed) > 300
    })
    .await;
    for id in cluster.ids() {
        cluster.node(id).signal("KILL");
    }
    for id in cluster.ids() {
        cluster.kill_ended(id);
    }
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer doesn't panic"));
    }
    assert!(acknowledged.len() > 300, "{}", acknowledged.len());

    for id in cluster.ids() {
        cluster.start_node(id);
    }
    cluster.serves().await;
    for id in cluster.ids() {
        let client = cluster.pinned(id);
        let expected = &acknowledged;
        // Strong mode shows all at once, since the read is linearizable; eventual mode once the nodes have met.
        eventually_async(
            &format!("node {id} shows every acknowledged write"),
            async || {
                for (key, value) in expected {
                    let Ok(answer) = client.get(key).await else {
                        return false;
                    };
                    let found = answer.entry.map(|entry| entry.value.as_bytes().clone());
                    let right = found.as_deref() == Some(value.as_bytes());
                    assert!(
                        right || mode == Mode::Eventual,
                        "{key} is {found:?}, acknowledged was {value}"
                    );
                    if !right {
                        return false;
                    }
                }
                true
            },
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_every_strong_node_is_killed() {
    acknowledged_writes_survive_kill_of_all(Mode::Strong).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_every_eventual_node_is_killed() {
    acknowledged_writes_survive_kill_of_all(Mode::Eventual).await;
}

#[tokio::test]
async fn a_damaged_log_is_refused_by_file_and_offset() {
    for mode in Mode::ALL {
        let mut cluster = Cluster::start(mode, 1).await;
        let client = cluster.client();
        for i in 0..20 {
            client
                .put(&format!("k{i}"), vec![b'x'; 1_000])
                .await
                .expect("a put");
        }
        cluster.kill(1);
        let folder = cluster.data_dir(1).join(mode.as_str());
        let segment = std::fs::read_dir(&folder)
            .expect("the log's folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 100_000))
            .min()
            .expect("a segment");
        let mut bytes = std::fs::read(&segment).expect("the segment can be read");
        bytes[5_000] ^= 1;
        std::fs::write(&segment, bytes).expect("the segment can be written");
        let (code, said) = cluster.refused_start(&cluster.arguments(1), &cluster.data_dir(1));
        let file = segment
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(code.is_some_and(|code| code != 0), "{code:?}: {said}");
        assert!(said.contains(&file) && said.contains("offset"), "{said}");
    }
}

#[tokio::test]
async fn another_identity_on_an_old_data_directory_is_refused_by_both_names() {
    for mode in Mode::ALL {
        let mut cluster = Cluster::start(mode, 3).await;
        cluster.kill(2);
        let (code, said) = cluster.refused_start(&cluster.arguments(3), &cluster.data_dir(2));
        assert!(code.is_some_and(|code| code != 0), "{said}");
        assert!(
            said.contains("node") && said.contains('2') && said.contains('3'),
            "{said}"
        );
        let mut other: Vec<String> = cluster.arguments(2);
        let at = other
            .iter()
            .position(|word| word == "tests")
            .expect("the cluster's name");
        other[at] = "others".to_owned();
        let (code, said) = cluster.refused_start(&other, &cluster.data_dir(2));
        assert!(code.is_some_and(|code| code != 0), "{said}");
        assert!(said.contains("tests") && said.contains("others"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_is_refused_under_its_old_id() {
    let mut cluster = Cluster::start(Mode::Strong, 3).await;
    cluster.client().put("k", "v").await.expect("a put");
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data_dir(3)).expect("the disk is lost");
    cluster.start_node(3);
    let client = cluster.pinned(3);
    let local = client.with(CallOptions {
        level: Some(Level::Local),
        ..CallOptions::default()
    });
    eventually_async("a peer says why it refuses the newcomer", async || {
        [1, 2, 3]
            .iter()
            .any(|id| cluster.log(*id).contains("store"))
    })
    .await;
    // It gets nothing, so it can't vote with a log that it lost; it hears why, and shows nothing that it doesn't have.
    assert!(client.get("k").await.is_err());
    eventually_async("it calls itself damaged", async || {
        let refused = local.get("k").await.err();
        refused.is_some_and(|error| error.reason() == "DAMAGED")
    })
    .await;
    assert!(cluster.log(3).contains("new node id"));
    // The lost node may have led; a write that was with it is unknown, so another is tried.
    let others = cluster.client();
    eventually_async("the others go on", async || {
        others.put("k2", "v2").await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_past_the_log_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::start(Mode::Strong, 3).await;
    cluster.client().put("before", "1").await.expect("a put");
    cluster.kill(3);
    // It may have led: a write that was with it would be unknown.
    cluster.serves().await;
    // A checkpoint comes after 64 MiB of entries, and 16 MiB of them stay in the log.
    let client = cluster.client();
    for i in 0..90u8 {
        let value = vec![i; 1_000_000];
        client
            .put(&format!("large/{}", i % 4), value)
            .await
            .expect("a put");
    }
    let folder = cluster.data_dir(1).join("strong");
    eventually_async("a node that stayed has a checkpoint", async || {
        let mut files = std::fs::read_dir(&folder).expect("the log's folder");
        files.any(|file| {
            let name = file.expect("an entry").file_name();
            name.to_string_lossy().contains("checkpoint")
        })
    })
    .await;
    cluster.start_node(3);
    cluster.serves().await;
    let digest = async |id: u64| {
        let endpoint = &cluster.node(id).endpoint;
        let told = cluster.pinned(id).describe_with_digest(endpoint).await;
        told.expect("a description").digest.expect("a digest")
    };
    let expected = digest(1).await;
    eventually_async("the returner holds what the others hold", async || {
        digest(3).await == expected
    })
    .await;
    let returner = cluster.pinned(3);
    let entry = returner.get("large/1").await.expect("a get").entry;
    assert_eq!(
        entry.expect("the key exists").value.as_bytes()[..],
        vec![89u8; 1_000_000][..]
    );
}
