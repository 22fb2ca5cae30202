//! What was written comes back, in its order, numbered, and only that.

use std::path::Path;

use super::{filled, names, open, record, records};
use crate::segment::{SEGMENT_HEADER, segment_name};
use crate::{Change, Disk, Log, LogOptions, Lsn, RealDisk, Recovered, SimDisk, WalError};

#[test]
fn records_come_back_in_order_across_segments_and_restarts() {
    let disk = SimDisk::new(1);
    let mut written = Vec::new();
    for round in 0..5 {
        let (mut log, recovered) = open(&disk);
        assert_eq!(records(&recovered), written, "round {round}");
        assert_eq!(recovered.torn, None);
        for position in 0..20 {
            let batch = vec![
                filled(1, round * 20 + position, 100),
                filled(2, position, position as usize),
            ];
            log.append_and_sync(&batch).unwrap();
            written.extend(batch);
        }
        disk.crash();
    }
    assert!(
        names(&disk, "segment-").len() > 3,
        "the test needs several segments"
    );
}

#[test]
fn a_frame_number_rises_and_is_never_used_twice() {
    let disk = SimDisk::new(2);
    let mut last = Lsn::ZERO;
    for round in 0..20 {
        let (mut log, recovered) = open(&disk);
        if let Some((lsn, _)) = recovered.records.last() {
            assert!(*lsn <= last);
        }
        let synced = log.append(&[filled(1, round, 10)]).unwrap();
        assert!(synced > last, "{synced} after {last}");
        assert_eq!(log.sync().unwrap(), synced);
        // This one is lost or not, and its number is gone either way.
        last = log.append(&[filled(1, 1000 + round, 700)]).unwrap();
        assert!(last > synced);
        disk.crash();
    }
}

#[test]
fn each_record_comes_back_with_the_number_of_its_frame() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk);
    let first = log.append(&[filled(1, 1, 5), filled(1, 2, 5)]).unwrap();
    let second = log.append_and_sync(&[filled(1, 3, 5)]).unwrap();
    let numbers: Vec<_> = open(&disk).1.records.iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(numbers, [first, first, second]);
}

#[test]
fn at_most_one_frame_is_not_synced() {
    let disk = SimDisk::new(4);
    let (mut log, _) = open(&disk);
    let first = log.append(&[filled(1, 1, 5)]).unwrap();
    assert_eq!((log.last_lsn(), log.last_synced_lsn()), (first, Lsn::ZERO));
    let second = log.append(&[filled(1, 2, 5)]).unwrap();
    assert_eq!((log.last_lsn(), log.last_synced_lsn()), (second, first));
    let syncs = disk.syncs();
    assert_eq!(log.sync().unwrap(), second);
    assert_eq!(log.sync().unwrap(), second);
    assert_eq!(
        disk.syncs(),
        syncs + 1,
        "a durable frame isn't synced again"
    );
    assert_eq!(log.stats().frames, 2);
}

#[test]
fn an_empty_batch_writes_nothing() {
    let disk = SimDisk::new(5);
    let (mut log, _) = open(&disk);
    let lsn = log.append_and_sync(&[filled(1, 1, 5)]).unwrap();
    let operations = disk.operations();
    assert_eq!(log.append_and_sync(&[]).unwrap(), lsn);
    assert_eq!(disk.operations(), operations);
}

#[test]
fn a_batch_larger_than_a_segment_gets_a_segment_of_its_own() {
    let disk = SimDisk::new(6);
    let (mut log, _) = open(&disk);
    let batches = [filled(1, 1, 10), filled(1, 2, 20_000), filled(1, 3, 10)];
    for batch in &batches {
        log.append_and_sync(std::slice::from_ref(batch)).unwrap();
    }
    assert!(disk.len(&segment_name(2)).unwrap() > 20_000);
    disk.crash();
    assert_eq!(records(&open(&disk).1), batches);
}

#[test]
fn a_batch_above_the_limit_is_refused_and_the_log_works_on() {
    let disk = SimDisk::new(7);
    let (mut log, _) = open(&disk);
    let refused = log.append(&[filled(1, 1, 2 << 20)]);
    assert!(
        matches!(refused, Err(WalError::TooLarge { limit, .. }) if limit == 1 << 20),
        "{refused:?}"
    );
    log.append_and_sync(&[filled(1, 2, 10)]).unwrap();
    assert_eq!(records(&open(&disk).1), [filled(1, 2, 10)]);
}

#[test]
fn a_truncation_reaches_its_own_kind_and_only_what_came_before() {
    let disk = SimDisk::new(8);
    let (mut log, _) = open(&disk);
    log.append(&[
        record(1, 1, "a"),
        record(1, 2, "b"),
        record(2, 2, "other"),
        record(1, 3, "c"),
    ])
    .unwrap();
    log.truncate_suffix(1, 2).unwrap();
    let batch = [
        Change::Put(record(1, 2, "B")),
        Change::Put(record(1, 3, "C")),
        Change::TruncateSuffix { kind: 1, from: 3 },
        Change::Put(record(1, 3, "D")),
    ];
    log.append_changes(&batch).unwrap();
    log.sync().unwrap();
    let expected = [
        record(1, 1, "a"),
        record(2, 2, "other"),
        record(1, 2, "B"),
        record(1, 3, "D"),
    ];
    assert_eq!(records(&open(&disk).1), expected);
}

#[test]
fn released_segments_are_recycled_and_their_frames_never_come_back() {
    let disk = SimDisk::new(9);
    let (mut log, _) = open(&disk);
    let mut position = 0;
    let mut kept = Vec::new();
    while log.stats().recycled < 5 {
        position += 1;
        let lsn = log.append_and_sync(&[filled(1, position, 300)]).unwrap();
        kept.push((lsn, filled(1, position, 300)));
        log.renew_floor().unwrap();
        if position % 10 == 0 {
            log.release_before(lsn).unwrap();
        }
        if position % 7 == 0 {
            let found = open(&disk.fork(position)).1.records;
            let first = kept
                .iter()
                .position(|each| *each == found[0])
                .expect("the first one was written");
            assert_eq!(found, kept[first..], "a suffix of what was written");
            kept.drain(..first);
        }
        assert!(position < 1000, "segments are recycled before long");
    }
    assert!(names(&disk, "segment-").len() < 5);
}

#[test]
fn a_frame_of_an_earlier_life_put_back_into_a_recycled_segment_is_no_frame() {
    let disk = SimDisk::new(10);
    let (mut log, _) = open(&disk);
    log.append_and_sync(&[filled(1, 1, 1500)]).unwrap();
    log.append_and_sync(&[filled(1, 2, 1500)]).unwrap();
    let earlier = disk.contents(&segment_name(1));
    let second = log.append_and_sync(&[filled(1, 3, 1500)]).unwrap();
    assert_eq!(log.release_before(second).unwrap(), 1);
    for _ in 0..4 {
        log.renew_floor().unwrap();
    }
    log.append_and_sync(&[filled(1, 4, 1500)]).unwrap();
    log.append_and_sync(&[filled(1, 5, 700)]).unwrap();
    assert_eq!(log.stats().recycled, 1);
    let name = segment_name(3);
    let used = disk
        .contents(&name)
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap() as u64
        + 1;
    let end = used.next_multiple_of(8) as usize;
    assert!(
        disk.contents(&name)[end..].iter().all(|byte| *byte == 0),
        "the recycled segment was zeroed"
    );
    let expected = records(&open(&disk.fork(1)).1);

    let stale = earlier[end..].to_vec();
    disk.corrupt(&name, end as u64, &stale);
    let (_, recovered) = open(&disk);
    assert_eq!(records(&recovered), expected);
    assert_eq!(recovered.torn.map(|torn| torn.offset), Some(end as u64));
    assert!(
        disk.contents(&name)[end..].iter().all(|byte| *byte == 0),
        "the tail was zeroed"
    );
}

#[test]
fn every_segment_has_a_salt_of_its_own() {
    let mut salts = std::collections::BTreeSet::new();
    for seed in 0..10 {
        let disk = SimDisk::new(1);
        let (mut log, _) = Log::open(disk.clone(), LogOptions::small(seed)).unwrap();
        for position in 0..20 {
            let lsn = log.append_and_sync(&[filled(1, position, 1500)]).unwrap();
            log.release_before(lsn).unwrap();
            log.renew_floor().unwrap();
            let name = names(&disk, "segment-").pop().unwrap();
            salts.insert(crate::format::u64_at(&disk.contents(&name), 24));
        }
    }
    assert_eq!(salts.len(), 10 * 10, "two batches a segment");
}

#[test]
fn the_sum_of_the_files_is_what_is_told() {
    let disk = SimDisk::new(11);
    let (mut log, _) = open(&disk);
    for position in 0..50 {
        let lsn = log.append_and_sync(&[filled(1, position, 300)]).unwrap();
        if position % 20 == 19 {
            log.write_checkpoint(position, [filled(0, position, 900).bytes])
                .unwrap();
            log.release_before(lsn).unwrap();
        }
        let sum: u64 = disk
            .list()
            .unwrap()
            .iter()
            .map(|name| disk.len(name).unwrap())
            .sum();
        assert_eq!(log.bytes_on_disk(), sum);
    }
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let disk = SimDisk::new(12);
    for name in [
        "README",
        "segment-1",
        "segment-000000000000000G",
        "new-segment-x",
        "LOCK.tmp",
    ] {
        disk.corrupt(name, 0, b"mine");
    }
    let (mut log, _) = open(&disk);
    log.append_and_sync(&[filled(1, 1, 10)]).unwrap();
    assert_eq!(records(&open(&disk).1), [filled(1, 1, 10)]);
    assert_eq!(disk.contents("README"), b"mine");
    assert_eq!(disk.contents("segment-000000000000000G"), b"mine");
    assert_eq!(disk.contents("new-segment-x"), b"mine");
}

#[test]
fn a_new_log_fills_its_segment_with_zeros_step_by_step() {
    let disk = SimDisk::new(13);
    let (mut log, _) = open(&disk);
    let name = segment_name(1);
    assert_eq!(disk.len(&name).unwrap(), 1024);
    log.append(&[filled(1, 1, 600)]).unwrap();
    assert_eq!(disk.len(&name).unwrap(), 2048);
    assert!(
        disk.contents(&name)[64..SEGMENT_HEADER as usize]
            .iter()
            .all(|byte| *byte == 0)
    );
}

fn open_real(directory: &Path) -> (Log<RealDisk>, Recovered) {
    Log::open(
        RealDisk::open(directory).unwrap(),
        LogOptions {
            reserve_bytes: 0,
            ..LogOptions::small(1)
        },
    )
    .unwrap()
}

#[test]
fn the_real_disk_keeps_a_log_with_truncations_checkpoints_and_releases() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("below/wal");
    let mut expected = Vec::new();
    let (mut log, recovered) = open_real(&path);
    assert_eq!(recovered, Recovered::default());
    for position in 1..=40 {
        let lsn = log.append_and_sync(&[filled(1, position, 200)]).unwrap();
        expected.push((lsn, filled(1, position, 200)));
    }
    log.write_checkpoint(30, [filled(9, 1, 5000).bytes, filled(9, 2, 10).bytes])
        .unwrap();
    log.truncate_suffix(1, 39).unwrap();
    log.sync().unwrap();
    expected.retain(|(_, record)| record.position < 39);
    assert!(log.release_before(expected[30].0).unwrap() > 0);
    for _ in 0..5 {
        log.renew_floor().unwrap();
    }
    drop(log);
    let (_, recovered) = open_real(&path);
    let checkpoint = recovered.checkpoint.unwrap();
    assert_eq!((checkpoint.position, checkpoint.chunks.len()), (30, 2));
    assert_eq!(checkpoint.chunks[0], filled(9, 1, 5000).bytes);
    assert!(recovered.records.len() >= 8 && recovered.records.len() < 30);
    assert_eq!(
        recovered.records,
        expected[expected.len() - recovered.records.len()..]
    );
}

/// Spare segments that were being made ahead, as the directory lists them.
fn made_ahead(directory: &Path) -> Vec<String> {
    let names = RealDisk::open(directory).unwrap().list().unwrap();
    let ahead = |name: &String| name.starts_with("spare-new-");
    names.into_iter().filter(ahead).collect()
}

/// Whoever is killed while a spare segment is made leaves it behind, under the name that the next start would give.
#[test]
fn a_spare_segment_that_was_being_made_is_gone_after_a_restart_and_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut written = 0;
    for _ in 0..3 {
        let (mut log, recovered) = open_real(directory.path());
        assert_eq!(recovered.records.len() as u64, written);
        assert_eq!(made_ahead(directory.path()), Vec::<String>::new());
        while made_ahead(directory.path()).is_empty() {
            assert!(written < 200, "no spare segment is ever made ahead");
            written += 1;
            log.append_and_sync(&[filled(1, written, 200)]).unwrap();
            log.renew_floor().unwrap();
        }
    }
}

#[test]
fn both_disks_keep_the_contract_of_a_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut real = RealDisk::open(directory.path()).unwrap();
    std::fs::create_dir(directory.path().join("lost+found")).unwrap();
    check_contract(&mut real);
    check_contract(&mut SimDisk::new(1));
    for name in ["", ".", "..", "a/b", "/etc/passwd"] {
        assert!(real.create(name).is_err(), "`{name}` isn't a plain name");
    }
}

fn check_contract(disk: &mut impl Disk) {
    disk.create("b").unwrap();
    disk.create("a").unwrap();
    assert_eq!(
        disk.create("a").unwrap_err().kind(),
        std::io::ErrorKind::AlreadyExists
    );
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    assert_eq!(disk.len("a").unwrap(), 0);
    disk.write_at("a", 3, b"xyz").unwrap();
    disk.write_at("a", 1, b"1").unwrap();
    assert_eq!(disk.read_at("a", 0, 100).unwrap(), b"\x001\0xyz");
    assert_eq!(disk.read_at("a", 4, 1).unwrap(), b"y");
    assert_eq!(disk.read_at("a", 6, 5).unwrap(), b"");
    assert_eq!(disk.read_at("a", u64::MAX, 5).unwrap(), b"");
    disk.sync("a").unwrap();
    disk.rename("a", "b").unwrap();
    assert_eq!(disk.list().unwrap(), ["b"]);
    assert_eq!(disk.read_at("b", 3, 3).unwrap(), b"xyz");
    disk.write_at("b", 0, b"0").unwrap();
    disk.sync("b").unwrap();
    assert_eq!(disk.len("b").unwrap(), 6);
    disk.sync_dir().unwrap();
    disk.remove("b").unwrap();
    disk.sync_dir().unwrap();
    for result in [
        disk.sync("b"),
        disk.rename("b", "c"),
        disk.remove("b"),
        disk.write_at("b", 0, b"x"),
    ] {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
    assert!(disk.read_at("b", 0, 1).is_err());
    assert!(disk.len("b").is_err());
    assert!(disk.free_bytes().unwrap() > 0);
}

#[test]
fn a_spare_segment_is_zeroed_behind_the_appends_and_then_written_to() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, _) = open_real(directory.path());
    let mut written = Vec::new();
    // The zeros take their time; appends go on meanwhile, into segments that are made at once.
    for position in 0..20_000 {
        let batch = [filled(1, position, 300)];
        log.append_and_sync(&batch).unwrap();
        written.extend(batch);
        log.renew_floor().unwrap();
        if log.stats().recycled >= 2 {
            break;
        }
    }
    assert!(log.stats().recycled >= 2, "no spare segment was ever ready");
    drop(log);
    let (_log, recovered) = open_real(directory.path());
    assert_eq!(records(&recovered), written);
}
