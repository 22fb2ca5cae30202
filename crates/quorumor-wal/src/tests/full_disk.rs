//! A full disk refuses and recovers; any other failure ends the log's life.

use super::{filled, open, records, try_open};
use crate::{Disk, Log, LogOptions, SimDisk, WalError};

#[test]
fn a_full_disk_refuses_cleanly_and_writes_return_when_space_does() {
    let disk = SimDisk::new(1);
    disk.set_capacity(40_000);
    let (mut log, _) = open(&disk);
    let mut written = Vec::new();
    let refused = loop {
        let record = filled(1, written.len() as u64, 300);
        match log.append_and_sync(std::slice::from_ref(&record)) {
            Ok(lsn) => written.push((lsn, record)),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, WalError::Full { free, needed } if free < needed),
        "{refused:?}"
    );
    assert!(
        disk.free_bytes().unwrap() >= 4096 - 1024,
        "the reserve is left alone"
    );
    let operations = disk.operations();
    assert!(matches!(
        log.append(&[filled(1, 1000, 300)]),
        Err(WalError::Full { .. })
    ));
    assert_eq!(disk.operations(), operations, "a refusal writes nothing");
    log.renew_floor().unwrap();
    assert_eq!(open(&disk.fork(1)).1.records, written);

    // The checkpoint may use the reserve; what it makes needless makes room.
    let last = written.last().unwrap().0;
    log.write_checkpoint(written.len() as u64, [filled(9, 1, 2000).bytes])
        .unwrap();
    assert!(log.release_before(last).unwrap() > 2);
    let first_kept = written.len();
    for position in 0..20 {
        let record = filled(1, 2000 + position, 300);
        written.push((
            log.append_and_sync(std::slice::from_ref(&record)).unwrap(),
            record,
        ));
    }
    disk.crash();
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.checkpoint.unwrap().position, first_kept as u64);
    assert_eq!(
        recovered.records,
        written[written.len() - recovered.records.len()..]
    );
    assert!(recovered.records.len() >= 20);
}

#[test]
fn a_log_on_a_full_disk_still_opens() {
    let disk = SimDisk::new(2);
    let (mut log, _) = open(&disk);
    log.append_and_sync(&[filled(1, 1, 10)]).unwrap();
    disk.set_full(true);
    disk.crash();
    let (mut log, recovered) = open(&disk);
    assert_eq!(records(&recovered), [filled(1, 1, 10)]);
    let refused = log.append(&[filled(1, 2, 1000)]);
    assert!(
        matches!(refused, Err(WalError::Full { free: 0, .. })),
        "{refused:?}"
    );
    log.append_and_sync(&[filled(1, 3, 10)])
        .expect("what is zeroed ahead can be written");
    disk.set_full(false);
    log.append_and_sync(&[filled(1, 4, 1000)]).unwrap();
    assert_eq!(
        records(&open(&disk).1),
        [filled(1, 1, 10), filled(1, 3, 10), filled(1, 4, 1000)]
    );
}

#[test]
fn a_new_log_on_a_full_disk_is_refused_and_can_be_opened_later() {
    let disk = SimDisk::new(3);
    disk.set_full(true);
    assert!(matches!(try_open(&disk), Err(WalError::Full { .. })));
    disk.set_full(false);
    disk.set_capacity(9000);
    assert!(
        matches!(try_open(&disk), Err(WalError::Full { .. })),
        "there's no room beside the reserve"
    );
    disk.set_capacity(40_000);
    open(&disk).0.append_and_sync(&[filled(1, 1, 10)]).unwrap();
    assert_eq!(records(&open(&disk).1), [filled(1, 1, 10)]);
}

#[test]
fn space_that_vanishes_behind_the_reserve_is_refused_as_cleanly() {
    // Without a reserve the check passes and the write itself meets the full disk.
    let disk = SimDisk::new(4);
    disk.set_capacity(8192 + 4096 + 700);
    let options = LogOptions {
        reserve_bytes: 0,
        segment_bytes: 4096,
        zero_step: 4096,
        ..LogOptions::small(1)
    };
    let (mut log, _) = Log::open(LyingDisk(disk.clone()), options).unwrap();
    for position in 0..3 {
        log.append_and_sync(&[filled(1, position, 1000)]).unwrap();
    }
    for _ in 0..3 {
        assert!(matches!(
            log.append(&[filled(1, 9, 1000)]),
            Err(WalError::Full { .. })
        ));
    }
    assert!(!log.is_poisoned());
    disk.set_capacity(100_000);
    log.append_and_sync(&[filled(1, 3, 1000)]).unwrap();
    disk.crash();
    assert_eq!(open(&disk).1.records.len(), 4);
}

/// Says that there is room when there's none, as when another process takes it in between.
struct LyingDisk(SimDisk);

impl Disk for LyingDisk {
    fn create(&mut self, name: &str) -> std::io::Result<()> {
        self.0.create(name)
    }
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(name, offset, bytes)
    }
    fn sync(&mut self, name: &str) -> std::io::Result<()> {
        self.0.sync(name)
    }
    fn sync_dir(&mut self) -> std::io::Result<()> {
        self.0.sync_dir()
    }
    fn rename(&mut self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> std::io::Result<()> {
        self.0.remove(name)
    }
    fn list(&self) -> std::io::Result<Vec<String>> {
        self.0.list()
    }
    fn len(&self, name: &str) -> std::io::Result<u64> {
        self.0.len(name)
    }
    fn read_at(&self, name: &str, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        self.0.read_at(name, offset, len)
    }
    fn free_bytes(&self) -> std::io::Result<u64> {
        Ok(1 << 40)
    }
}

#[test]
fn a_failed_sync_poisons_the_log_and_is_never_retried() {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk);
    log.append_and_sync(&[filled(1, 1, 10)]).unwrap();
    log.append(&[filled(1, 2, 10)]).unwrap();
    disk.fail_next_sync(1);
    assert!(matches!(
        log.sync(),
        Err(WalError::Io {
            operation: "sync",
            ..
        })
    ));
    let operations = disk.operations();
    assert!(log.is_poisoned());
    assert!(matches!(log.sync(), Err(WalError::Poisoned)));
    assert!(matches!(
        log.append(&[filled(1, 3, 10)]),
        Err(WalError::Poisoned)
    ));
    assert!(matches!(log.append(&[]), Err(WalError::Poisoned)));
    assert!(matches!(log.truncate_suffix(1, 0), Err(WalError::Poisoned)));
    assert!(matches!(
        log.write_checkpoint(1, []),
        Err(WalError::Poisoned)
    ));
    assert!(matches!(
        log.release_before(log.last_lsn()),
        Err(WalError::Poisoned)
    ));
    assert!(matches!(log.renew_floor(), Err(WalError::Poisoned)));
    assert_eq!(
        disk.operations(),
        operations,
        "a poisoned log touches nothing"
    );
}

#[test]
fn a_frame_that_only_the_page_cache_holds_is_durable_once_it_was_recovered() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk);
        log.append_and_sync(&[filled(1, 1, 10)]).unwrap();
        log.append(&[filled(1, 2, 900)]).unwrap();
        disk.fail_next_sync(1);
        log.sync().unwrap_err();
        // The process restarts, the machine doesn't: the cache shows a frame that the disk never got.
        let (_, recovered) = open(&disk);
        assert_eq!(recovered.records.len(), 2);
        disk.crash();
        assert_eq!(open(&disk).1.records, recovered.records, "seed {seed}");
    }
}

#[test]
fn a_failed_write_poisons_the_log() {
    let disk = SimDisk::new(6);
    let (mut log, _) = open(&disk);
    log.append_and_sync(&[filled(1, 1, 10)]).unwrap();
    disk.fail_next_write(1);
    assert!(matches!(
        log.append(&[filled(1, 2, 100)]),
        Err(WalError::Io {
            operation: "write",
            ..
        })
    ));
    assert!(matches!(log.sync(), Err(WalError::Poisoned)));
    let (_, recovered) = open(&disk);
    assert_eq!(records(&recovered), [filled(1, 1, 10)]);
    assert!(recovered.torn.is_some());
}
