//! Locks, elections, exactly-once writes and the pipeline over real nodes and processes.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorumor_client::{LockOptions, Mode, Pipeline, Version};

use crate::support::{Cluster, binary, eventually, eventually_async};

fn lock(cluster: &Cluster, name: &str, script: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["lock", name, "--endpoints", &cluster.endpoints().join(",")])
        .args(["--timeout", "20s", "--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_never_hold_a_lock_together_and_their_tokens_grow() {
    let cluster = Cluster::start(Mode::Strong, 3).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    // `mkdir` fails where the directory stands already: somebody else is inside.
    let script = format!(
        "cd {} && mkdir inside && echo $QUORUMOR_FENCING_TOKEN >> tokens && rmdir inside",
        folder.path().display()
    );
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let ended = lock(&cluster, "job", &script).output().expect("it runs");
                    let said = String::from_utf8_lossy(&ended.stderr);
                    assert!(ended.status.success(), "{}: {said}", ended.status);
                }
            });
        }
    });
    let tokens = std::fs::read_to_string(folder.path().join("tokens")).expect("tokens");
    let tokens: Vec<u64> = tokens
        .lines()
        .map(|token| token.parse().expect("a number"))
        .collect();
    assert_eq!(tokens.len(), 10);
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lock_ends_its_command_and_lets_the_next_one_in() {
    let cluster = Cluster::start(Mode::Strong, 3).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runs = folder.path().join("runs");
    // It hears SIGTERM and won't end: only SIGKILL does it.
    let script = format!("trap '' TERM; echo > {}; sleep 300", runs.display());
    let started = Instant::now();
    let mut holder = lock(&cluster, "job", &script).spawn().expect("it runs");
    eventually("the command runs", || runs.exists().then_some(()));
    let client = cluster.client();
    assert!(
        client
            .try_lock("job", LockOptions::default())
            .await
            .expect("an answer")
            .is_none()
    );
    let leases = client.leases(None, 0).await.expect("leases").leases;
    assert_eq!(leases.len(), 1, "{leases:?}");
    client.revoke_lease(leases[0].id).await.expect("a revoke");
    let status = eventually("the holder ends", || holder.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(3));
    assert!(started.elapsed() < Duration::from_secs(200));
    let next = client.lock("job", LockOptions::default()).await;
    assert!(next.expect("a lock").unlock().await.expect("an unlock"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_candidate_leads_when_the_leader_resigns() {
    let cluster = Cluster::start(Mode::Strong, 3).await;
    let ttl = Duration::from_secs(30);
    let first = cluster.client().campaign("chief", "first", ttl).await;
    let first = first.expect("an election");
    let second = tokio::spawn({
        let client = cluster.client();
        async move { client.campaign("chief", "second", ttl).await }
    });
    let client = cluster.client();
    let leads = async |client: &quorumor_client::Client| {
        let leader = client.leader("chief").await.expect("an answer");
        leader.map(|leader| String::from_utf8_lossy(&leader.value).into_owned())
    };
    assert_eq!(leads(&client).await.as_deref(), Some("first"));
    first.proclaim("first again").await.expect("a proclamation");
    assert_eq!(leads(&client).await.as_deref(), Some("first again"));
    let token = first.fencing_token();
    assert!(first.resign().await.expect("a resignation"));
    let second = second.await.expect("no panic").expect("an election");
    assert!(second.fencing_token() > token);
    assert_eq!(leads(&client).await.as_deref(), Some("second"));
}

/// Writes its own key so often, through one stream: how often the key says that it was written.
async fn write_so_often(pipeline: Pipeline, key: String, times: u64, done: Arc<AtomicU64>) -> u64 {
    let mut count = 0;
    for turn in 1..=times {
        let put = pipeline.put(&key, format!("{turn}")).await;
        let put = put.unwrap_or_else(|error| panic!("write {turn} of {key}: {error}"));
        let Version::Strong { count: written, .. } = put.result else {
            panic!("strong mode has strong versions");
        };
        // An answer that was lost and asked for again is the answer of that very write.
        assert_eq!(written, turn, "of {key}");
        count = written;
        done.fetch_add(1, Ordering::Relaxed);
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_is_applied_once_though_the_leader_is_killed_under_them() {
    const WRITERS: u64 = 16;
    const TIMES: u64 = 40;
    let mut cluster = Cluster::start(Mode::Strong, 3).await;
    let client = cluster.client();
    let pipeline = client.pipeline();
    let done = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let key = format!("counter/{writer}");
            let done = Arc::clone(&done);
            tokio::spawn(write_so_often(pipeline.clone(), key, TIMES, done))
        })
        .collect();
    eventually_async("some writes are done", async || {
        done.load(Ordering::Relaxed) > WRITERS * TIMES / 4
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    // By unary calls too, through the same fault.
    for turn in 1..=20_u64 {
        let put = client.put("unary", format!("{turn}")).await;
        let put = put.unwrap_or_else(|error| panic!("write {turn}: {error}"));
        let Version::Strong { count, .. } = put.version else {
            panic!("strong mode has strong versions");
        };
        assert_eq!(count, turn);
    }
    for writer in writers {
        assert_eq!(writer.await.expect("no panic"), TIMES);
    }
    let at_end = cluster.client();
    for writer in 0..WRITERS {
        let entry = at_end.get(&format!("counter/{writer}")).await;
        let entry = entry.expect("a get").entry.expect("an entry");
        assert!(matches!(
            entry.version,
            Version::Strong { count: TIMES, .. }
        ));
    }
}
