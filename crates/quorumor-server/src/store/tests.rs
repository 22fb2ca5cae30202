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
