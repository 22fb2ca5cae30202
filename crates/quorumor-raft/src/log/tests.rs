//! The log: what a restart makes of the records, and what compaction leaves.

use raft::Storage;

use super::*;

const VOTERS: Voters = Voters {
    voters: Vec::new(),
    learners: Vec::new(),
    outgoing: Vec::new(),
};

fn entry(index: u64, term: u64) -> Entry {
    Entry {
        index,
        term,
        data: vec![1; 10].into(),
        ..Entry::default()
    }
}

fn at(index: u64, term: u64) -> Mark {
    Mark { index, term }
}

fn recover(checkpoint: Mark, entries: &[(u64, u64)], commit: u64) -> Result<Log, OpenError> {
    let mut records: Vec<Record> = entries
        .iter()
        .map(|(index, term)| entry_record(&entry(*index, *term)))
        .collect();
    records.push(Record {
        kind: KIND_HARD_STATE,
        position: 0,
        bytes: encode_hard_state(&HardState {
            term: 3,
            commit,
            ..HardState::default()
        }),
    });
    Log::recover(checkpoint, &VOTERS, &records)
}

#[test]
fn a_new_node_starts_at_index_and_term_one() {
    let log = Log::recover(at(1, 1), &VOTERS, &[]).unwrap();
    assert_eq!((log.first(), log.last(), log.term_at(1)), (2, 1, Some(1)));
    assert_eq!((log.hard_state().term, log.hard_state().commit), (1, 1));
}

#[test]
fn a_later_record_of_an_index_replaces_it_and_what_follows() {
    let log = recover(at(1, 1), &[(2, 1), (3, 1), (4, 1), (3, 2)], 2).unwrap();
    assert_eq!((log.last(), log.term_at(3)), (3, Some(2)));
}

#[test]
fn an_entry_that_a_compaction_repeats_takes_nothing_from_those_behind_it() {
    let log = recover(at(1, 1), &[(2, 1), (3, 1), (4, 1), (2, 1), (3, 1)], 4).unwrap();
    assert_eq!(log.last(), 4);
}

#[test]
fn a_tail_before_the_checkpoint_is_kept_for_slow_followers() {
    let log = recover(at(5, 2), &[(3, 1), (4, 2), (5, 2), (6, 2)], 5).unwrap();
    assert_eq!((log.first(), log.last()), (4, 6));
    assert_eq!(log.term(3).unwrap(), 1);
    assert!(log.term(2).is_err());
}

#[test]
fn entries_that_a_snapshot_overruled_are_dropped_and_truncated_on_the_disk() {
    for stale in [
        &[(2, 1), (3, 1)][..],
        &[(2, 1), (3, 1), (4, 1), (5, 1), (6, 1)],
    ] {
        let mut log = recover(at(5, 2), stale, 2).unwrap();
        assert_eq!((log.first(), log.last()), (6, 5));
        assert_eq!(log.hard_state().commit, 5);
        let mut records = Vec::new();
        log.append(&[entry(6, 3)], &mut records);
        assert!(matches!(
            records[0],
            LogRecord::TruncateSuffix {
                kind: KIND_ENTRY,
                from: 2
            }
        ));
    }
    let log = recover(at(5, 2), &[(2, 1), (3, 1), (6, 3), (7, 3)], 5).unwrap();
    assert_eq!((log.first(), log.last()), (6, 7));
}

#[test]
fn lost_entries_are_refused() {
    assert!(matches!(
        recover(at(1, 1), &[(3, 1)], 1),
        Err(OpenError::Gap { after: 1, next: 3 })
    ));
    assert!(matches!(
        recover(at(1, 1), &[(2, 1), (4, 1)], 1),
        Err(OpenError::Gap { after: 2, next: 4 })
    ));
    assert!(matches!(
        recover(at(1, 1), &[(2, 1)], 3),
        Err(OpenError::CommitBeyondLog { commit: 3, last: 2 })
    ));
}

#[test]
fn compaction_keeps_a_bounded_tail_and_its_records_restart_to_the_same_log() {
    for (keep_entries, keep_bytes, first) in [
        (3, 1_000_000, 18),
        (100, 150, 19),
        (0, 0, 21),
        (100, 1_000_000, 2),
    ] {
        let mut log = Log::recover(at(1, 1), &VOTERS, &[]).unwrap();
        let entries: Vec<Entry> = (2..=25).map(|index| entry(index, 1)).collect();
        log.append(&entries, &mut Vec::new());
        log.set_hard_state(HardState {
            term: 1,
            commit: 22,
            ..HardState::default()
        });
        log.compact(20, keep_entries, keep_bytes);
        log.compact(20, keep_entries, keep_bytes);
        assert_eq!((log.first(), log.last()), (first, 25));
        let again = Log::recover(at(20, 1), &VOTERS, &log.records(20)).unwrap();
        assert_eq!(again.last(), 25);
        assert!(again.first() - log.first() <= 1);
        assert_eq!(again.hard_state().commit, 22);
        let weighed: u64 = log.entries.iter().map(weight).sum();
        assert_eq!(log.bytes(), weighed);
    }
}

#[test]
fn overwriting_is_a_truncation_on_the_disk() {
    let mut log = recover(at(1, 1), &[(2, 1), (3, 1), (4, 1)], 2).unwrap();
    let mut records = Vec::new();
    log.append(&[entry(3, 2)], &mut records);
    assert!(matches!(
        &records[..],
        [
            LogRecord::TruncateSuffix {
                kind: KIND_ENTRY,
                from: 3
            },
            LogRecord::Put(Record { position: 3, .. })
        ]
    ));
    assert_eq!((log.last(), log.term_at(4)), (3, None));
}

#[test]
fn a_read_of_entries_gives_at_least_one_and_no_more_than_asked() {
    let log = recover(at(1, 1), &[(2, 1), (3, 1), (4, 1)], 2).unwrap();
    let read = |max: u64| {
        let context = GetEntriesContext::empty(false);
        log.entries(2, 5, max, context).unwrap().len()
    };
    assert_eq!((read(0), read(150), read(u64::MAX)), (1, 2, 3));
}

#[test]
fn a_snapshot_is_offered_once() {
    let log = recover(at(1, 1), &[(2, 1)], 2).unwrap();
    assert!(log.snapshot(0, 2).is_err());
    log.set_offer(Some(at(2, 1)));
    assert_eq!(log.snapshot(0, 2).unwrap().get_metadata().index, 2);
    assert!(log.snapshot(0, 3).is_err());
}
