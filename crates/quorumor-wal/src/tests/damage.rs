//! Damage: only an unfinished last frame is cut; all else is refused, by file and offset, and nothing is changed.

use std::ops::Range;

use super::{damage, filled, names, open, records, try_open};
use crate::floor::FLOOR_NAME;
use crate::format::{FileKind, header_of_version};
use crate::recovery::checkpoint_name;
use crate::segment::segment_name;
use crate::{Disk, Record, SimDisk, WalError};

/// A log of single-record frames, and where each frame stands.
struct Built {
    disk: SimDisk,
    frames: Vec<(String, Range<usize>, Record)>,
}

/// The floor stays at the beginning, so that all damage must be found in the frames themselves.
fn build(lengths: &[usize]) -> Built {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut frames = Vec::new();
    for (position, len) in lengths.iter().enumerate() {
        let record = filled(1, position as u64 + 1, *len);
        log.append_and_sync(std::slice::from_ref(&record)).unwrap();
        let name = names(&disk, "segment-").pop().unwrap();
        let start = frames
            .last()
            .filter(|(last, ..): &&(String, _, _)| *last == name)
            .map_or(512, |(_, range, _): &(_, Range<usize>, _)| range.end);
        frames.push((
            name,
            start..start + (32 + 14 + len).next_multiple_of(8),
            record,
        ));
    }
    for (name, range, _) in &frames {
        assert_eq!(
            &disk.contents(name)[range.start..range.start + 4],
            b"QFRM",
            "a frame stands there"
        );
    }
    Built { disk, frames }
}

impl Built {
    fn records(&self) -> Vec<Record> {
        self.frames
            .iter()
            .map(|(_, _, record)| record.clone())
            .collect()
    }

    /// Opens, expects all but the last frame, and sees that the log goes on as if that frame had never been.
    fn expect_cut(&self, disk: &SimDisk, what: &str) {
        let (name, range, _) = self.frames.last().unwrap();
        let mut expected = self.records();
        expected.pop();
        let nothing_left = disk.contents(name)[range.start..]
            .iter()
            .all(|byte| *byte == 0);
        let (mut log, recovered) = open(disk);
        assert_eq!(records(&recovered), expected, "{what}");
        match recovered.torn {
            Some(torn) => assert_eq!(
                (&torn.file, torn.offset),
                (name, range.start as u64),
                "{what}"
            ),
            None => assert!(nothing_left, "{what}: the cut is told"),
        }
        assert!(
            disk.contents(name)[range.start..]
                .iter()
                .all(|byte| *byte == 0),
            "{what}: the tail is zeroed"
        );
        let next = filled(1, 99, 40);
        log.append_and_sync(std::slice::from_ref(&next)).unwrap();
        disk.crash();
        expected.push(next);
        let (_, recovered) = open(disk);
        assert_eq!(
            (records(&recovered), recovered.torn),
            (expected, None),
            "{what}"
        );
    }
}

#[test]
fn a_tail_torn_at_every_byte_is_cut() {
    let built = build(&[50, 30, 700]);
    let (name, range, _) = built.frames.last().unwrap();
    let whole = built.disk.contents(name);
    for cut in range.clone() {
        let disk = built.disk.fork(cut as u64);
        disk.corrupt(name, cut as u64, &vec![0; range.end - cut]);
        if disk.contents(name) == whole {
            // Only padding was taken.
            assert_eq!(records(&open(&disk).1), built.records());
        } else {
            built.expect_cut(&disk, &format!("cut at {cut}"));
        }
    }
}

#[test]
fn any_subset_of_the_last_frames_sectors_is_cut_unless_it_is_all_of_them() {
    let built = build(&[50, 30, 2300]);
    let (name, range, _) = built.frames.last().unwrap();
    let whole = built.disk.contents(name);
    let sectors: Vec<_> = (range.start / 512..range.end.div_ceil(512)).collect();
    assert!(sectors.len() >= 5);
    for subset in 0..1_u32 << sectors.len() {
        let disk = built.disk.fork(u64::from(subset));
        for (bit, sector) in sectors.iter().enumerate() {
            if subset & (1 << bit) == 0 {
                let (from, to) = (
                    (sector * 512).max(range.start),
                    ((sector + 1) * 512).min(range.end),
                );
                disk.corrupt(name, from as u64, &vec![0; to - from]);
            }
        }
        if disk.contents(name) == whole {
            assert_eq!(records(&open(&disk).1), built.records());
        } else {
            built.expect_cut(&disk, &format!("sectors {subset:b}"));
        }
    }
}

#[test]
fn a_flipped_bit_in_any_earlier_frame_is_refused_by_file_and_offset() {
    // Two segments, so that the frame before a segment's end is tried too.
    let built = build(&[50, 61, 1500, 1200, 900, 10, 33]);
    assert_eq!(names(&built.disk, "segment-").len(), 2);
    let (_, earlier) = built.frames.split_last().unwrap();
    for (name, range, _) in earlier {
        for at in range.clone() {
            let disk = built.disk.fork(1);
            disk.flip_bit(name, at as u64);
            let operations = disk.operations();
            let (file, offset, why) = damage(try_open(&disk));
            assert_eq!(
                (&file, offset),
                (name, range.start as u64),
                "byte {at}: {why}"
            );
            assert_eq!(disk.operations(), operations, "nothing is changed");
        }
    }
}

#[test]
fn an_earlier_frame_that_reads_as_zeros_is_refused() {
    let built = build(&[50, 700, 700, 10]);
    for (name, range, _) in &built.frames[..3] {
        let disk = built.disk.fork(1);
        disk.corrupt(name, range.start as u64, &vec![0; range.len()]);
        let (file, offset, _) = damage(try_open(&disk));
        assert_eq!((&file, offset), (name, range.start as u64));
    }
}

#[test]
fn the_last_frame_damaged_above_the_floor_looks_torn_and_below_it_is_refused() {
    let built = build(&[50, 30, 100]);
    let (name, range, _) = built.frames.last().unwrap();
    let floored = built.disk.fork(1);
    open(&floored).0.renew_floor().unwrap();
    for at in range.clone() {
        let disk = built.disk.fork(2);
        disk.flip_bit(name, at as u64);
        built.expect_cut(&disk, &format!("byte {at}"));
        let disk = floored.fork(3);
        disk.flip_bit(name, at as u64);
        let (file, offset, why) = damage(try_open(&disk));
        assert_eq!(
            (&file, offset),
            (name, range.start as u64),
            "byte {at}: {why}"
        );
    }
}

#[test]
fn the_floor_follows_the_log_and_stands_still_when_idle() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    log.append_and_sync(&[filled(1, 1, 20)]).unwrap();
    log.renew_floor().unwrap();
    let operations = disk.operations();
    log.renew_floor().unwrap();
    assert_eq!(disk.operations(), operations);
    log.append(&[filled(1, 2, 20)]).unwrap();
    log.renew_floor().unwrap();
    assert_eq!(
        disk.operations(),
        operations + 1,
        "an un-synced frame raises no floor"
    );
    log.sync().unwrap();
    log.renew_floor().unwrap();
    drop(log);
    // All frames vanish, in a way that no checksum shows.
    disk.corrupt(&segment_name(1), 512, &vec![0; 512]);
    let (file, offset, why) = damage(try_open(&disk));
    assert_eq!((file, offset), (segment_name(1), 512));
    assert!(why.contains("was synced"), "{why}");
}

#[test]
fn one_spoiled_floor_slot_is_a_torn_write_and_two_are_damage() {
    let built = build(&[50, 30]);
    let (mut log, _) = open(&built.disk);
    log.append_and_sync(&[filled(1, 3, 10)]).unwrap();
    log.renew_floor().unwrap();
    for at in [0_u64, 9, 13, 20, 63, 4096, 4105, 4120] {
        let disk = built.disk.fork(1);
        disk.flip_bit(FLOOR_NAME, at);
        assert_eq!(open(&disk).1.records.len(), 3, "byte {at}");
        let disk = built.disk.fork(1);
        disk.flip_bit(FLOOR_NAME, at % 4096);
        disk.flip_bit(FLOOR_NAME, 4096 + at % 4096);
        assert_eq!(damage(try_open(&disk)).0, FLOOR_NAME);
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    for position in 0..30 {
        log.append_and_sync(&[filled(1, position, 500)]).unwrap();
    }
    log.write_checkpoint(3, []).unwrap();
    let segments = names(&disk, "segment-");
    assert!(segments.len() >= 4);
    let missing: Vec<_> = segments
        .iter()
        .cloned()
        .chain([FLOOR_NAME.to_owned(), checkpoint_name(1)])
        .collect();
    for name in missing {
        let mut disk = disk.fork(1);
        disk.remove(&name).unwrap();
        let (file, ..) = damage(try_open(&disk));
        // A missing first segment shows in the second one, a missing last one in the one before.
        let named = match segments.iter().position(|each| *each == name) {
            Some(0) => segments[1].clone(),
            Some(index) if index + 1 == segments.len() => segments[index - 1].clone(),
            Some(_) | None => name.clone(),
        };
        assert_eq!(file, named, "without {name}");
    }
    let mut empty = disk.fork(2);
    for name in &segments {
        empty.remove(name).unwrap();
    }
    damage(try_open(&empty));
    empty.remove(&checkpoint_name(1)).unwrap();
    assert_eq!(damage(try_open(&empty)).0, FLOOR_NAME);
}

#[test]
fn a_released_prefix_is_not_missed_but_one_more_segment_is() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk);
    for position in 0..40 {
        log.append_and_sync(&[filled(1, position, 500)]).unwrap();
    }
    log.release_before(log.last_lsn()).unwrap();
    for position in 0..20 {
        log.append_and_sync(&[filled(1, position, 500)]).unwrap();
    }
    open(&disk.fork(1));
    let mut disk = disk;
    disk.remove(&names(&disk, "segment-")[0]).unwrap();
    let (_, _, why) = damage(try_open(&disk));
    assert!(why.contains("segments before it are missing"), "{why}");
}

#[test]
fn an_unknown_version_is_refused_in_every_kind_of_file() {
    let built = build(&[50]);
    open(&built.disk).0.write_checkpoint(7, []).unwrap();
    let files = [
        (FileKind::Segment, segment_name(1), 0),
        (FileKind::Floor, FLOOR_NAME.to_owned(), 0),
        (FileKind::Floor, FLOOR_NAME.to_owned(), 4096),
        (FileKind::Checkpoint, checkpoint_name(1), 0),
    ];
    for (kind, name, offset) in files {
        let disk = built.disk.fork(1);
        disk.corrupt(&name, offset, &header_of_version(kind, 2, [0; 6]));
        match try_open(&disk) {
            Err(WalError::Format {
                file,
                found: 2,
                supported: 1,
            }) => assert_eq!(file, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_foreign_file_under_a_name_of_ours_is_refused() {
    let built = build(&[50]);
    let floor = built.disk.contents(FLOOR_NAME);
    for name in [segment_name(1), segment_name(2), checkpoint_name(1)] {
        for contents in [
            &b"#!/bin/sh\necho this is something quite different, and long enough for a header\n"[..],
            b"",
            &floor,
        ] {
            let mut disk = built.disk.fork(1);
            let _ = disk.remove(&name);
            disk.corrupt(&name, 0, contents);
            assert_eq!(damage(try_open(&disk)).0, name);
        }
    }
    // A segment under the name of another.
    let mut disk = built.disk.fork(1);
    disk.rename(&segment_name(1), &segment_name(4)).unwrap();
    assert_eq!(damage(try_open(&disk)).0, segment_name(4));
}

#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    let built = build(&[50]);
    for at in 0..64 {
        let disk = built.disk.fork(1);
        disk.flip_bit(&segment_name(1), at);
        let (file, offset, _) = damage(try_open(&disk));
        assert_eq!((file, offset), (segment_name(1), 0), "byte {at}");
    }
}
