//! Properties: the codec reads what it wrote and nothing else; replay equals the plain meaning of the changes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{open, records};
use crate::frame::{self, BadFrame, Chain, ChangeRef};
use crate::{Change, Lsn, Record, SimDisk, checkpoint};

fn change(positions: u64, bytes: usize) -> impl Strategy<Value = Change> {
    let put =
        (0..3_u8, 0..positions, vec(any::<u8>(), 0..bytes)).prop_map(|(kind, position, bytes)| {
            Change::Put(Record {
                kind,
                position,
                bytes: Bytes::from(bytes),
            })
        });
    let truncate =
        (0..3_u8, 0..positions).prop_map(|(kind, from)| Change::TruncateSuffix { kind, from });
    prop_oneof![4 => put, 1 => truncate]
}

fn encoded(salt: u64, previous: Chain, lsn: Lsn, changes: &[Change]) -> (Vec<u8>, Chain) {
    let mut buffer = Vec::new();
    let chain = frame::encode(
        &mut buffer,
        salt,
        previous,
        lsn,
        changes.iter().map(ChangeRef::from),
    );
    (buffer, chain)
}

/// What the changes mean, done the slow way.
pub(super) fn model<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for change in changes {
        match change {
            Change::Put(record) => records.push(record.clone()),
            Change::TruncateSuffix { kind, from } => {
                records.retain(|record| record.kind != *kind || record.position < *from);
            }
        }
    }
    records
}

proptest! {
    #[test]
    fn a_frame_comes_back_as_it_was(
        salt: u64, crc: u32, before in 0..u64::MAX - 9, step in 1..9_u64, changes in vec(change(u64::MAX, 200), 1..20),
        rest in vec(any::<u8>(), 0..50),
    ) {
        let previous = Chain { lsn: Lsn::new(before), crc };
        let (mut bytes, chain) = encoded(salt, previous, Lsn::new(before + step), &changes);
        prop_assert_eq!(bytes.len() as u64, frame::frame_len(changes.iter().map(ChangeRef::from)));
        prop_assert_eq!(bytes.len() % 8, 0);
        let len = bytes.len();
        bytes.extend(rest);
        let frame = frame::decode(&bytes, salt, previous).expect("it was just written");
        prop_assert_eq!((frame.chain, frame.len, frame.changes), (chain, len, changes));
    }

    #[test]
    fn a_frame_with_any_bit_flipped_or_in_another_place_is_none(
        salt: u64, crc: u32, changes in vec(change(9, 60), 1..5), at: prop::sample::Index, bit in 0..8_u32,
    ) {
        let previous = Chain { lsn: Lsn::new(7), crc };
        let (bytes, _) = encoded(salt, previous, Lsn::new(8), &changes);
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1 << bit;
        prop_assert!(matches!(frame::decode(&flipped, salt, previous), Err(BadFrame::Unreadable(_))));
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(matches!(frame::decode(cut, salt, previous), Err(BadFrame::Unreadable(_))));
        prop_assert!(matches!(frame::decode(&bytes, salt ^ 1, previous), Err(BadFrame::Unreadable(_))));
        for wrong in [Chain { crc: crc ^ 1, ..previous }, Chain { lsn: Lsn::new(8), crc }] {
            prop_assert!(matches!(frame::decode(&bytes, salt, wrong), Err(BadFrame::Impossible(_))));
        }
        prop_assert_eq!(frame::find_header(&[&[0; 16][..], &bytes].concat(), salt, Lsn::new(7)), Some((16, Lsn::new(8))));
        prop_assert_eq!(frame::find_header(&bytes, salt, Lsn::new(8)), None);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in vec(any::<u8>(), 0..300), salt: u64, valid_header: bool) {
        let mut bytes = bytes;
        if valid_header && bytes.len() >= 64 {
            // Past the checksums of the header, into the lengths.
            let (frame, _) = encoded(salt, Chain::default(), Lsn::new(1), &[]);
            bytes[..32].copy_from_slice(&frame[..32]);
        }
        let _ = frame::decode(&bytes, salt, Chain::default());
        let _ = frame::find_header(&bytes, salt, Lsn::ZERO);
        let _ = checkpoint::parse("checkpoint", Bytes::from(bytes.clone()));
        let mut file = crate::format::header(crate::format::FileKind::Checkpoint, [1; 6]).to_vec();
        file.extend(bytes);
        let _ = checkpoint::parse("checkpoint", Bytes::from(file));
    }

    #[test]
    fn replay_means_what_the_changes_mean(batches in vec(vec(change(12, 120), 1..8), 1..30), seed: u64) {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk);
        for (index, batch) in batches.iter().enumerate() {
            log.append_changes(batch).unwrap();
            if index % 7 == 6 {
                log.sync().unwrap();
                disk.crash();
                log = open(&disk).0;
            }
        }
        log.sync().unwrap();
        disk.crash();
        prop_assert_eq!(records(&open(&disk).1), model(batches.iter().flatten()));
    }
}
