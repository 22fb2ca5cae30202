//! Group commit, full disks, and that a failure ends it all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorumor_core::{LogRecord, PersistToken, Record};
use quorumor_wal::{LogOptions, SimDisk};
use tokio::sync::mpsc;

use super::*;
use crate::shutdown::FatalError;

fn append(token: u64) -> Persist {
    Persist::Append {
        token: PersistToken(token),
        records: vec![LogRecord::Put(Record {
            kind: 1,
            position: token,
            bytes: bytes::Bytes::from_static(b"x"),
        })],
        sync: true,
    }
}

struct Started {
    queue: LogQueue,
    thread: JoinHandle<()>,
    finished: mpsc::UnboundedReceiver<Input>,
    fatal: mpsc::Receiver<FatalError>,
    free: Arc<AtomicU64>,
}

fn start(disk: SimDisk) -> Started {
    let (store, _) = Store::open(disk, LogOptions::small(1)).unwrap();
    let (finished, told) = mpsc::unbounded_channel();
    let (fatal, failed) = mpsc::channel(4);
    let free = Arc::new(AtomicU64::new(1_000_000));
    let reading = Arc::clone(&free);
    let log = LogThread {
        mode: Mode::Strong,
        store,
        free_bytes: move || Ok(reading.load(Ordering::SeqCst)),
        limits: SpaceLimits::new(1_000, 1_000),
        finished,
        bytes: Bytes::default(),
    };
    let alarm = Alarm::new("log", Mode::Strong, fatal);
    let (queue, thread) = log.spawn(alarm).unwrap();
    Started {
        queue,
        thread,
        finished: told,
        fatal: failed,
        free,
    }
}

#[tokio::test]
async fn everything_queued_is_durable_before_it_is_reported() {
    let disk = SimDisk::new(1);
    let mut started = start(disk.clone());
    for token in 1..=100 {
        started.queue.push(append(token));
    }
    let mut reached = 0;
    while reached < 100 {
        let Some(Input::Persisted { token }) = started.finished.recv().await else {
            panic!("something else was told");
        };
        assert!(token.0 > reached);
        reached = token.0;
    }
    drop(started.queue);
    started.thread.join().unwrap();
    disk.crash();
    let (_, found) = Store::open(disk, LogOptions::small(2)).unwrap();
    assert_eq!(found.records.len(), 100);
}

#[tokio::test]
async fn a_disk_that_runs_low_is_told_and_told_again_when_there_is_space() {
    let mut started = start(SimDisk::new(2));
    started.free.store(10, Ordering::SeqCst);
    assert!(matches!(
        started.finished.recv().await,
        Some(Input::Disk(DiskState::Full))
    ));
    started.free.store(1_000_000, Ordering::SeqCst);
    assert!(matches!(
        started.finished.recv().await,
        Some(Input::Disk(DiskState::Available))
    ));
    drop(started.queue);
    started.thread.join().unwrap();
    assert!(
        started.fatal.recv().await.is_none(),
        "an orderly end is no failure"
    );
}

#[test]
fn the_space_limits_have_a_gap_so_that_they_do_not_flap() {
    let limits = SpaceLimits::new(100, 10);
    assert_eq!(
        limits.judge(DiskState::Available, 120),
        DiskState::Available
    );
    assert_eq!(limits.judge(DiskState::Available, 119), DiskState::Full);
    assert_eq!(limits.judge(DiskState::Full, 139), DiskState::Full);
    assert_eq!(limits.judge(DiskState::Full, 140), DiskState::Available);
}

#[tokio::test]
async fn a_failed_sync_ends_the_thread_and_nothing_more_is_reported() {
    let disk = SimDisk::new(3);
    let mut started = start(disk.clone());
    disk.fail_next_sync(1);
    started.queue.push(append(1));
    let error = started.fatal.recv().await.unwrap();
    assert!(matches!(error, FatalError::Log { .. }), "{error}");
    started.thread.join().unwrap();
    assert!(
        started.finished.recv().await.is_none(),
        "nothing was reported"
    );
}

#[tokio::test]
async fn a_batch_without_room_waits_and_is_done_when_there_is_some() {
    let disk = SimDisk::new(4);
    let mut started = start(disk.clone());
    disk.set_full(true);
    let mut told_full = false;
    let mut pushed = 0;
    while !told_full {
        pushed += 1;
        started.queue.push(append(pushed));
        let told = started.finished.recv().await.unwrap();
        told_full = matches!(told, Input::Disk(DiskState::Full));
        assert!(
            told_full || matches!(told, Input::Persisted { .. }),
            "{told:?}"
        );
    }
    disk.set_full(false);
    let mut reached = 0;
    while reached < pushed {
        if let Input::Persisted { token } = started.finished.recv().await.unwrap() {
            reached = token.0;
        }
    }
    drop(started.queue);
    started.thread.join().unwrap();
}

#[tokio::test]
async fn what_waits_for_the_disk_is_counted_until_it_is_written() {
    let disk = SimDisk::new(5);
    let mut started = start(disk.clone());
    disk.set_full(true);
    let large = |token| Persist::Append {
        token: PersistToken(token),
        records: vec![LogRecord::Put(Record {
            kind: 1,
            position: token,
            bytes: vec![1; 500_000].into(),
        })],
        sync: true,
    };
    let count = 1 + LOG_BYTES_MAX as u64 / 500_000;
    for token in 1..=count {
        started.queue.push(large(token));
    }
    assert!(started.queue.is_behind());
    disk.set_full(false);
    let mut reached = 0;
    while reached < count {
        if let Input::Persisted { token } = started.finished.recv().await.unwrap() {
            reached = token.0;
        }
    }
    drop(started.queue.clone());
    let queue = started.queue;
    while queue.is_behind() {
        tokio::task::yield_now().await;
    }
    drop(queue);
    started.thread.join().unwrap();
}
