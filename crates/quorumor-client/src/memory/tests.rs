//! What is remembered, and what is let go.

use quorumor_core::{
    ClusterId, DataEpoch, Key, MemberCounts, NodeId, Revision, Staleness, Term, Value, Version,
    WritePosition,
};

use super::*;

const LIMITS: LastKnownLimits = LastKnownLimits {
    entries_max: 3,
    bytes_max: 1024 * 1024,
};

fn receipt(basis: StalenessBasis, contact_age_ms: u64) -> Receipt {
    Receipt {
        mode: Mode::Strong,
        asked: Level::Linearizable,
        got: Level::Linearizable,
        degraded: None,
        cluster: ClusterId::new(1),
        node: NodeId::try_from(1).unwrap(),
        epoch: DataEpoch::new(1),
        position: WritePosition::Strong {
            revision: Revision::new(1),
            term: Term::new(1),
            leader: None,
        },
        staleness: Staleness {
            basis,
            contact_age_ms: Some(contact_age_ms),
            apply_lag: Some(0),
        },
        members: MemberCounts::default(),
        token: bytes::Bytes::new(),
        write: None,
        durability: None,
        acks: None,
        change_order: None,
    }
}

fn answer(key: &str, value: &str) -> GetAnswer {
    GetAnswer {
        entry: Some(Entry {
            siblings: None,
            key: Key::parse(key).unwrap(),
            value: Value::parse(value.to_owned().into()).unwrap(),
            version: Version::Strong {
                create: Revision::new(1),
                modify: Revision::new(1),
                count: 1,
            },
            writer: NodeId::try_from(1).unwrap(),
            lease: None,
        }),
        receipt: receipt(StalenessBasis::Exact, 40_000),
    }
}

fn subject(key: &str) -> Subject {
    Subject::Key(key.to_owned(), Some(Mode::Strong))
}

fn keep(memory: &Memory, key: &str, value: &str, limits: LastKnownLimits) {
    memory.used.store(true, Ordering::Release);
    let known = answer(key, value).into_known();
    memory.keep(subject(key), known, Instant::now(), limits);
}

fn has(memory: &Memory, key: &str) -> bool {
    let found = memory.find::<GetAnswer>(&subject(key), Duration::from_secs(60));
    found.is_some()
}

/// What is counted is what there is.
fn check(memory: &Memory) {
    let kept = memory.kept.lock();
    assert_eq!(kept.by_subject.len(), kept.by_use.len());
    let bytes: usize = kept.by_subject.values().map(|it| it.bytes).sum();
    assert_eq!(kept.bytes, bytes);
}

#[test]
fn the_least_recently_used_goes_first() {
    let memory = Memory::default();
    for key in ["a", "b", "c"] {
        keep(&memory, key, "v", LIMITS);
    }
    assert!(has(&memory, "a"));
    keep(&memory, "d", "v", LIMITS);
    assert!(!has(&memory, "b"));
    assert!(has(&memory, "a") && has(&memory, "c") && has(&memory, "d"));
    check(&memory);
}

#[test]
fn it_weighs_no_more_than_it_may() {
    let memory = Memory::default();
    let limits = LastKnownLimits {
        entries_max: 100,
        bytes_max: 8 * 1024,
    };
    for number in 0..20 {
        keep(&memory, &format!("k{number}"), &"v".repeat(3_000), limits);
        assert!(memory.kept.lock().bytes <= limits.bytes_max);
        check(&memory);
    }
    assert!(has(&memory, "k19") && !has(&memory, "k0"));
    // What is too big for all of it isn't kept.
    keep(&memory, "big", &"v".repeat(20_000), limits);
    assert!(!has(&memory, "big"));
    check(&memory);
}

#[test]
fn a_write_makes_its_keys_forgotten_when_it_begins_and_when_it_ends() {
    let memory = Memory::default();
    keep(&memory, "a", "old", LIMITS);
    keep(&memory, "b", "old", LIMITS);
    let writing = memory.writing_key("a");
    assert!(!has(&memory, "a") && has(&memory, "b"));
    keep(&memory, "a", "old", LIMITS);
    drop(writing);
    assert!(!has(&memory, "a") && has(&memory, "b"));
    keep(&memory, "a", "v", LIMITS);
    let range = KeyRange::prefix("a").unwrap();
    drop(memory.writing_all([&Operation::DeleteRange { range }]));
    assert!(!has(&memory, "a") && has(&memory, "b"));
    check(&memory);
}

#[test]
fn an_older_answer_never_replaces_a_newer_one() {
    let memory = Memory::default();
    let before = Instant::now();
    keep(&memory, "a", "new", LIMITS);
    let late = answer("a", "old").into_known();
    memory.keep(subject("a"), late, before, LIMITS);
    let found = memory.find::<GetAnswer>(&subject("a"), Duration::from_secs(60));
    let entry = found.unwrap().0.entry.unwrap();
    assert_eq!(entry.value.as_bytes().as_ref(), b"new");
}

#[test]
fn the_age_counts_what_the_node_told_of_its_own() {
    let memory = Memory::default();
    let known = |basis| {
        GetAnswer {
            entry: None,
            receipt: receipt(basis, 40_000),
        }
        .into_known()
    };
    memory.keep(
        subject("exact"),
        known(StalenessBasis::Exact),
        Instant::now(),
        LIMITS,
    );
    memory.keep(
        subject("guess"),
        known(StalenessBasis::Estimated),
        Instant::now(),
        LIMITS,
    );
    let max_age = Duration::from_secs(30);
    assert!(
        memory
            .find::<GetAnswer>(&subject("exact"), max_age)
            .is_some()
    );
    assert!(
        memory
            .find::<GetAnswer>(&subject("guess"), max_age)
            .is_none()
    );
}

#[test]
fn an_answer_from_here_says_so_in_its_receipt() {
    let told = receipt(StalenessBasis::Exact, 5);
    assert_eq!(told.last_known(), None);
    let age = Duration::from_millis(1_500);
    let shown = told.remembered(Some(Level::Linearizable), age);
    assert_eq!(shown.last_known(), Some(age));
    assert_eq!(
        (shown.asked, shown.got),
        (Level::Linearizable, Level::Local)
    );
    assert_eq!(shown.staleness.basis, StalenessBasis::Proven);
}
