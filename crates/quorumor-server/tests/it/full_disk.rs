//! A disk that is full and then isn't: writes are refused by name, reads go on, and writes come back without a restart.

use std::path::Path;

use quorumor_server::Settings;

use crate::support::{Cluster, eventually, failure, get, local, put, value};

/// A file system that nothing else fills while the test runs.
const MEMORY: &str = "/dev/shm";
/// What the node may use before its reserve: a few segments.
const ROOM: u64 = 400 << 20;

fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

#[expect(
    clippy::print_stderr,
    reason = "who runs it must hear that nothing was tested"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers_without_a_restart() {
    let free = free_bytes(Path::new(MEMORY)).filter(|free| *free > 2 * ROOM);
    let Some(free) = free else {
        eprintln!("skipped: {MEMORY} has no {} MiB free", 2 * (ROOM >> 20));
        return;
    };
    let disk = tempfile::tempdir_in(MEMORY).unwrap();
    let cluster = Cluster::start_with("strong", 1, |_, settings| Settings {
        data_dir: Some(disk.path().join("node").display().to_string()),
        disk_reserve_bytes: Some(free - ROOM),
        ..settings
    })
    .await;
    let mut client = cluster.client(1);
    eventually("a write", || {
        let mut client = client.clone();
        async move { client.put(put("k", "kept")).await.ok() }
    })
    .await;

    let filler = disk.path().join("filler");
    let file = std::fs::File::create(&filler).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, ROOM).unwrap();
    let refused = eventually("a refused write", || {
        let mut client = client.clone();
        async move { client.put(put("other", "text")).await.err() }
    })
    .await;
    let refused = failure::<()>(Err(refused));
    assert_eq!(refused.reason, "DISK_FULL");
    assert_eq!(refused.certainty.as_str(), "not_applied");
    assert!(refused.retry_after.is_some(), "{refused:?}");
    let linearizable = client
        .get(get("k", quorumor_proto::pb::RequestHeader::default()))
        .await;
    assert_eq!(
        value(linearizable.unwrap().get_ref()).as_deref(),
        Some("kept")
    );
    let here = client.get(get("k", local())).await.unwrap();
    assert_eq!(value(here.get_ref()).as_deref(), Some("kept"));
    eventually("the alarm", || async {
        let alarms = cluster.describe(1).await?.alarms;
        alarms
            .iter()
            .any(|alarm| alarm.kind == "disk_full")
            .then_some(())
    })
    .await;

    std::fs::remove_file(&filler).unwrap();
    drop(file);
    eventually("writes come back", || {
        let mut client = client.clone();
        async move { client.put(put("k", "after")).await.ok() }
    })
    .await;
    assert_eq!(cluster.describe(1).await.unwrap().alarms, []);
    cluster.shutdown().await;
}
