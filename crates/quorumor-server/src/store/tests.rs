//! The contract of persisting, over the faulty disk.

use quorumor_wal::SimDisk;

use super::*;

fn put(kind: u8, position: u64, text: &'static str) -> core::Record {
    core::Record {
        kind,
        position,
        bytes: Bytes::from_static(text.as_bytes()),
    }
}

fn append(token: u64, records: Vec<LogRecord>) -> Persist {
    Persist::Append {
        token: PersistToken(token),
        records,
        sync: true,
    }
}

fn open(disk: &SimDisk) -> (Store<SimDisk>, core::Recovered) {
    Store::open(disk.clone(), LogOptions::small(3)).unwrap()
}

#[derive(Debug)]
struct Pieces(Vec<Bytes>);

impl CheckpointSource for Pieces {
    fn next_chunk(&mut self) -> Option<Bytes> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}

#[test]
fn a_batch_reports_its_highest_token_and_survives_a_crash() {
    let disk = SimDisk::new(1);
    let (mut store, found) = open(&disk);
    assert_eq!(found, core::Recovered::default());
    let batch = vec![
        append(1, vec![LogRecord::Put(put(1, 1, "a"))]),
        append(2, vec![LogRecord::Put(put(1, 2, "b"))]),
    ];
    let syncs = store.stats().syncs;
    assert_eq!(
        store.carry_out(batch).unwrap(),
        [Completion::Persisted(PersistToken(2))]
    );
    assert_eq!(store.stats().syncs, syncs + 1);
    disk.crash();
    assert_eq!(open(&disk).1.records, [put(1, 1, "a"), put(1, 2, "b")]);
}

#[test]
fn later_records_replace_and_truncations_hold() {
    let disk = SimDisk::new(2);
    let (mut store, _) = open(&disk);
    let steps = vec![
        LogRecord::Put(put(2, 0, "term 1")),
        LogRecord::Put(put(1, 1, "a")),
        LogRecord::Put(put(1, 2, "b")),
        LogRecord::TruncateSuffix { kind: 1, from: 2 },
        LogRecord::Put(put(1, 2, "c")),
        LogRecord::Put(put(2, 0, "term 2")),
    ];
    store.carry_out(vec![append(1, steps)]).unwrap();
    disk.crash();
    assert_eq!(
        open(&disk).1.records,
        [put(1, 1, "a"), put(1, 2, "c"), put(2, 0, "term 2")]
    );
}

#[test]
fn a_compaction_forgets_what_came_before_even_in_the_same_segment() {
    let disk = SimDisk::new(3);
    let (mut store, _) = open(&disk);
    let batch = vec![
        append(1, vec![LogRecord::Put(put(1, 1, "old"))]),
        Persist::Compact {
            token: PersistToken(2),
            records: vec![put(2, 0, "kept")],
        },
        append(3, vec![LogRecord::Put(put(1, 9, "new"))]),
    ];
    assert_eq!(
        store.carry_out(batch).unwrap(),
        [Completion::Persisted(PersistToken(3))]
    );
    disk.crash();
    assert_eq!(open(&disk).1.records, [put(2, 0, "kept"), put(1, 9, "new")]);
}

#[test]
fn appends_go_on_while_a_checkpoint_is_written() {
    let disk = SimDisk::new(4);
    let (mut store, _) = open(&disk);
    let pieces = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let checkpoint = Persist::Checkpoint {
        token: PersistToken(1),
        position: 7,
        source: Box::new(Pieces(pieces.clone())),
    };
    assert_eq!(store.carry_out(vec![checkpoint]).unwrap(), []);
    assert_eq!(store.step().unwrap(), None);
    store
        .carry_out(vec![append(2, vec![LogRecord::Put(put(1, 1, "a"))])])
        .unwrap();
    let mut done = None;
    while done.is_none() {
        assert!(store.is_writing_checkpoint());
        done = store.step().unwrap();
    }
    assert_eq!(done, Some(Completion::Checkpointed(PersistToken(1))));
    disk.crash();
    let found = open(&disk).1;
    assert_eq!(found.checkpoint, Some(pieces));
    assert_eq!(found.records, [put(1, 1, "a")]);
}

#[test]
fn an_unfinished_checkpoint_counts_for_nothing() {
    let disk = SimDisk::new(5);
    let (mut store, _) = open(&disk);
    let checkpoint = Persist::Checkpoint {
        token: PersistToken(1),
        position: 7,
        source: Box::new(Pieces(vec![Bytes::from_static(b"one")])),
    };
    store.carry_out(vec![checkpoint]).unwrap();
    store.step().unwrap();
    disk.crash();
    assert_eq!(open(&disk).1.checkpoint, None);
}

/// A record of some size, told apart by its position.
fn large(position: u64, bytes: usize) -> core::Record {
    core::Record {
        kind: 1,
        position,
        bytes: vec![position as u8; bytes].into(),
    }
}

fn compact(token: u64, records: Vec<core::Record>) -> Persist {
    Persist::Compact {
        token: PersistToken(token),
        records,
    }
}

#[test]
fn a_compaction_larger_than_any_frame_becomes_several() {
    let disk = SimDisk::new(6);
    let (mut store, _) = open(&disk);
    // A batch may hold 1 MiB here.
    let records: Vec<_> = (1..=40).map(|position| large(position, 100_000)).collect();
    let old = append(1, vec![LogRecord::Put(put(3, 1, "old"))]);
    let before = store.stats().frames;
    let done = store
        .carry_out(vec![old, compact(2, records.clone())])
        .unwrap();
    assert_eq!(done, [Completion::Persisted(PersistToken(2))]);
    assert!(store.stats().frames - before >= 5);
    disk.crash();
    assert_eq!(open(&disk).1.records, records);
}

#[test]
fn appends_that_wait_together_never_exceed_a_frame() {
    let disk = SimDisk::new(7);
    let (mut store, _) = open(&disk);
    let batch = (1..=40)
        .map(|position| append(position, vec![LogRecord::Put(large(position, 100_000))]))
        .collect();
    assert_eq!(
        store.carry_out(batch).unwrap(),
        [Completion::Persisted(PersistToken(40))]
    );
    disk.crash();
    assert_eq!(open(&disk).1.records.len(), 40);
}

#[test]
fn a_compaction_that_a_crash_broke_off_counts_for_nothing() {
    let compacted: Vec<_> = (5..=30).map(|position| large(position, 100_000)).collect();
    let (mut broken_off, mut whole) = (0, 0);
    for cut in 1.. {
        let disk = SimDisk::new(cut);
        let (mut store, _) = open(&disk);
        let written: Vec<_> = (1..=30).map(|position| put(1, position, "old")).collect();
        let steps = written.iter().cloned().map(LogRecord::Put).collect();
        store.carry_out(vec![append(1, steps)]).unwrap();
        disk.cut_power_at(disk.operations() + cut);
        let survived = store.carry_out(vec![compact(2, compacted.clone())]).is_ok();
        disk.crash();
        let (mut store, found) = open(&disk);
        if found.records == compacted {
            whole += 1;
        } else {
            assert_eq!(found.records, written, "cut at {cut}");
            broken_off += 1;
        }
        // What comes later stands behind either.
        store
            .carry_out(vec![append(3, vec![LogRecord::Put(put(2, 9, "new"))])])
            .unwrap();
        disk.crash();
        assert_eq!(open(&disk).1.records.last(), Some(&put(2, 9, "new")));
        if survived {
            break;
        }
    }
    assert!(
        broken_off > 5 && whole > 0,
        "{broken_off} broken off, {whole} whole"
    );
}

#[test]
fn a_compaction_goes_through_when_the_disk_is_full_and_appends_wait() {
    let disk = SimDisk::new(8);
    disk.set_capacity(60_000);
    let (mut store, _) = open(&disk);
    let mut token = 0;
    while !store.is_waiting_for_space() {
        token += 1;
        let step = LogRecord::Put(large(token, 500));
        store.carry_out(vec![append(token, vec![step])]).unwrap();
    }
    // The last append waits, and the compaction stands behind it in the queue: it holds what is needed of it.
    let kept = vec![large(token - 1, 500), large(token, 500)];
    let done = store
        .carry_out(vec![compact(token + 1, kept.clone())])
        .unwrap();
    assert_eq!(done, [Completion::Persisted(PersistToken(token + 1))]);
    assert!(!store.is_waiting_for_space());
    let next = append(token + 2, vec![LogRecord::Put(put(1, token + 2, "next"))]);
    assert_eq!(
        store.carry_out(vec![next]).unwrap(),
        [Completion::Persisted(PersistToken(token + 2))]
    );
    disk.crash();
    let found = open(&disk).1.records;
    assert_eq!(found[..2], kept);
    assert_eq!(found[2], put(1, token + 2, "next"));
}

#[test]
fn a_checkpoint_that_finds_no_room_for_its_end_is_finished_later() {
    let disk = SimDisk::new(9);
    let (mut store, _) = open(&disk);
    let pieces = vec![Bytes::from_static(b"one")];
    let checkpoint = Persist::Checkpoint {
        token: PersistToken(1),
        position: 7,
        source: Box::new(Pieces(pieces.clone())),
    };
    store.carry_out(vec![checkpoint]).unwrap();
    assert_eq!(store.step().unwrap(), None);
    disk.set_full(true);
    for _ in 0..3 {
        assert_eq!(store.step().unwrap(), None);
        assert!(store.is_writing_checkpoint());
    }
    disk.set_full(false);
    let done = store.step().unwrap();
    assert_eq!(done, Some(Completion::Checkpointed(PersistToken(1))));
    disk.crash();
    assert_eq!(open(&disk).1.checkpoint, Some(pieces));
}

#[test]
fn a_checkpoint_is_written_as_fast_as_asked() {
    let disk = SimDisk::new(10);
    let (mut store, _) = open(&disk);
    let checkpoint = Persist::Checkpoint {
        token: PersistToken(1),
        position: 7,
        source: Box::new(Pieces(vec![vec![1; 1_000].into(); 20])),
    };
    store.carry_out(vec![checkpoint]).unwrap();
    assert_eq!(store.step_by(5_000).unwrap(), None);
    assert!((5_000..7_000).contains(&store.checkpoint_bytes()));
    assert_eq!(store.step_by(0).unwrap(), None);
    assert!(store.checkpoint_bytes() < 8_000);
    let done = store.step_by(u64::MAX).unwrap();
    assert_eq!(done, Some(Completion::Checkpointed(PersistToken(1))));
}
