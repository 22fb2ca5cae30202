//! A checkpoint is there whole or the one before it is.

use bytes::Bytes;

use super::{damage, filled, names, open, records, try_open};
use crate::recovery::checkpoint_name;
use crate::{Disk, MAX_CHUNK_BYTES, SimDisk, WalError};

fn chunks(position: u64) -> Vec<Bytes> {
    (0..position % 5)
        .map(|chunk| filled(9, position + chunk, 200 * chunk as usize).bytes)
        .collect()
}

fn checked(disk: &SimDisk) -> Option<u64> {
    let checkpoint = open(disk).1.checkpoint?;
    assert_eq!(checkpoint.chunks, chunks(checkpoint.position), "whole");
    Some(checkpoint.position)
}

#[test]
fn the_newest_checkpoint_comes_back_and_the_older_one_is_gone() {
    let disk = SimDisk::new(1);
    assert_eq!(checked(&disk), None);
    // Positions are the caller's: the last one written counts.
    for position in [4, 9, 5, 3] {
        open(&disk)
            .0
            .write_checkpoint(position, chunks(position))
            .unwrap();
        disk.crash();
        assert_eq!(checked(&disk), Some(position));
        assert_eq!(names(&disk, "checkpoint-").len(), 1);
    }
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_or_the_new_checkpoint() {
    let before = SimDisk::new(1);
    open(&before).0.write_checkpoint(4, chunks(4)).unwrap();
    let (mut seen_old, mut seen_new) = (0, 0);
    for seed in 0..10 {
        for operation in 1.. {
            let disk = before.fork(seed * 1000 + operation);
            let (mut log, _) = open(&disk);
            disk.cut_power_at(operation);
            let written = log.write_checkpoint(9, chunks(9));
            disk.crash();
            // The cleaning up after the crash is cut short too.
            disk.cut_power_at(1 + operation % 4);
            let _ = try_open(&disk);
            disk.crash();
            match checked(&disk) {
                Some(4) => {
                    seen_old += 1;
                    assert!(
                        written.is_err(),
                        "operation {operation}: a finished checkpoint stays"
                    );
                }
                Some(9) => seen_new += 1,
                other => panic!("operation {operation}: {other:?}"),
            }
            assert_eq!(names(&disk, "checkpoint-").len(), 1);
            assert_eq!(
                names(&disk, "new-checkpoint-").len(),
                0,
                "leftovers are removed"
            );
            if written.is_ok() {
                break;
            }
        }
    }
    assert!(
        seen_old > 20 && seen_new > 20,
        "{seen_old} old, {seen_new} new"
    );
}

#[test]
fn appends_go_on_beside_a_checkpoint() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut draft = log.begin_checkpoint(9).unwrap();
    let mut written = Vec::new();
    for (position, chunk) in chunks(9).iter().enumerate() {
        log.add_chunk(&mut draft, chunk).unwrap();
        written.push(filled(1, position as u64, 400));
        log.append_and_sync(&written[position..]).unwrap();
    }
    assert!(draft.bytes_written() > 1000);
    log.finish_checkpoint(&mut draft).unwrap();
    disk.crash();
    let (_, recovered) = open(&disk);
    assert_eq!(records(&recovered), written);
    assert_eq!(recovered.checkpoint.unwrap().chunks, chunks(9));
}

#[test]
fn of_two_drafts_the_one_finished_last_counts() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut first = log.begin_checkpoint(5).unwrap();
    let mut second = log.begin_checkpoint(10).unwrap();
    let third = log.begin_checkpoint(15).unwrap();
    log.finish_checkpoint(&mut second).unwrap();
    log.finish_checkpoint(&mut first).unwrap();
    log.discard_checkpoint(third).unwrap();
    assert_eq!(names(&disk, "new-checkpoint-").len(), 0);
    disk.crash();
    assert_eq!(checked(&disk), Some(5));
}

#[test]
fn a_full_disk_or_a_chunk_too_large_leaves_the_old_checkpoint_and_a_working_log() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    log.write_checkpoint(4, chunks(4)).unwrap();
    let files = disk.list().unwrap();
    let refused = log.write_checkpoint(8, [Bytes::from(vec![0; MAX_CHUNK_BYTES as usize + 1])]);
    assert!(
        matches!(refused, Err(WalError::TooLarge { .. })),
        "{refused:?}"
    );
    assert_eq!(disk.list().unwrap(), files);
    for room in [0, 10, 64, 70, 300, 1000] {
        let used: u64 = files.iter().map(|name| disk.len(name).unwrap()).sum();
        disk.set_capacity(used + room);
        assert!(
            matches!(
                log.write_checkpoint(9, chunks(9)),
                Err(WalError::Full { .. })
            ),
            "room for {room}"
        );
        assert_eq!(disk.list().unwrap(), files);
    }
    disk.set_capacity(1 << 20);
    assert_eq!(checked(&disk.fork(1)), Some(4));
    log.append_and_sync(&[filled(1, 1, 10)]).unwrap();
    log.write_checkpoint(9, chunks(9)).unwrap();
    assert_eq!(checked(&disk), Some(9));
}

#[test]
fn a_flipped_bit_anywhere_in_a_checkpoint_is_refused() {
    let disk = SimDisk::new(1);
    open(&disk).0.write_checkpoint(3, chunks(3)).unwrap();
    let name = checkpoint_name(1);
    let len = disk.len(&name).unwrap();
    for at in 0..len {
        let disk = disk.fork(1);
        disk.flip_bit(&name, at);
        assert_eq!(damage(try_open(&disk)).0, name, "byte {at}");
    }
    disk.corrupt(&name, len, b"more");
    assert_eq!(
        damage(try_open(&disk)),
        (name, len, "bytes after the footer".to_owned())
    );
}

#[test]
fn a_damaged_new_checkpoint_is_not_replaced_by_an_older_one() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    log.write_checkpoint(3, chunks(3)).unwrap();
    let older = disk.contents(&checkpoint_name(1));
    log.write_checkpoint(4, chunks(4)).unwrap();
    disk.corrupt(&checkpoint_name(1), 0, &older);
    disk.flip_bit(&checkpoint_name(2), 70);
    assert_eq!(damage(try_open(&disk)).0, checkpoint_name(2));
    let mut disk = disk;
    disk.remove(&checkpoint_name(2)).unwrap();
    assert_eq!(damage(try_open(&disk)).0, checkpoint_name(2));
}
