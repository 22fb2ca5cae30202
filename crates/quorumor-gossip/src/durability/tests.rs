//! What is asked of a disk at a time is bounded, however slow it is; and what is durable is no more than it holds.

use std::sync::Arc;

use quorumor_core::{CallId, Dot, LogId, PersistToken, Record, Seq, Stamp, Value, VersionVector};

use super::{Durability, OpenWrite, SINCE_BYTES_MAX};
use crate::event::Event;
use crate::harness::{key, node};
use crate::stability::CutId;
use crate::vector::Context;

const MIB: usize = 1024 * 1024;

fn event(seq: u64, bytes: usize) -> Arc<Event> {
    let dot = Dot {
        writer: node(1),
        log_id: LogId::new(1),
        seq: Seq::new(seq),
    };
    let value = Some(Value::parse(vec![7; bytes].into()).unwrap());
    let stamp = Stamp::from_u64(seq);
    Arc::new(Event::new(
        dot,
        stamp,
        key("k"),
        (value, None),
        Context::default(),
    ))
}

fn write(call: u64, bytes: usize) -> OpenWrite {
    OpenWrite {
        events: vec![event(call, bytes)],
        ..OpenWrite::new(Some(CallId::new(call)))
    }
}

fn bytes(records: &[Record]) -> usize {
    records.iter().map(|record| record.bytes.len()).sum()
}

#[test]
fn a_compaction_rewrites_a_bounded_amount() {
    let mut durability = Durability::new(0, 0, VersionVector::new());
    let checkpoint = durability.begin_checkpoint(&VersionVector::new());
    for call in 1..=40 {
        durability.queue(write(call, MIB));
    }
    let mut done = 0;
    while let Some((token, _)) = durability.next_group() {
        done += durability.persisted(token).len();
    }
    assert!((16..24).contains(&done), "{done} writes went on");
    durability.add_lazy(event(41, MIB));
    assert!(durability.next_lazy().is_none());
    let since = durability.checkpointed(checkpoint).unwrap();
    assert!(bytes(&since) < SINCE_BYTES_MAX + 6 * MIB);
    while let Some((token, _)) = durability.next_group() {
        done += durability.persisted(token).len();
    }
    assert_eq!(done, 40);
}

#[test]
fn one_lazy_append_is_under_way_at_a_time() {
    let mut durability = Durability::new(0, 0, VersionVector::new());
    durability.add_lazy(event(1, 100));
    let (first, _) = durability.next_lazy().unwrap();
    durability.add_lazy(event(2, 100));
    durability.add_lazy(event(3, 100));
    assert!(durability.next_lazy().is_none());
    durability.persisted(PersistToken(first.0 - 1));
    assert!(durability.next_lazy().is_none());
    durability.persisted(first);
    let (_, records) = durability.next_lazy().unwrap();
    assert_eq!(records.len(), 2);
}

#[test]
fn callers_who_went_are_forgotten_wherever_their_writes_are() {
    let mut durability = Durability::new(0, 0, VersionVector::new());
    durability.queue(write(1, 10));
    durability.queue(write(2, 10));
    let (token, _) = durability.next_group().unwrap();
    durability.queue(write(3, 10));
    durability.queue(write(4, 10));
    for call in [2, 3, 99] {
        durability.cancel(CallId::new(call));
    }
    let calls =
        |writes: Vec<OpenWrite>| -> Vec<_> { writes.into_iter().map(|write| write.call).collect() };
    assert_eq!(
        calls(durability.persisted(token)),
        [Some(CallId::new(1)), None]
    );
    assert_eq!(calls(durability.abandon()), [None, Some(CallId::new(4))]);
    assert!(durability.callers.is_empty());
}

fn dots(seqs: std::ops::RangeInclusive<u64>) -> VersionVector {
    seqs.map(|seq| event(seq, 0).dot).collect()
}

fn cut(number: u64) -> CutId {
    CutId {
        number,
        ..CutId::default()
    }
}

#[test]
fn a_promise_is_durable_with_its_append_and_not_before() {
    let mut durability = Durability::new(0, 0, VersionVector::new());
    durability.add_lazy(event(1, 10));
    let (token, records) = durability.promise(&dots(1..=1), cut(1)).unwrap();
    assert_eq!(records.len(), 2, "the write, and the cut's name");
    // What comes later isn't in it.
    durability.add_lazy(event(2, 10));
    assert!(durability.promise(&dots(1..=2), cut(1)).is_none());
    durability.persisted(PersistToken(token.0 - 1));
    assert!(!durability.is_durable(&dots(1..=1)));
    assert_eq!(durability.durable_cut(), None);
    durability.persisted(token);
    assert!(durability.is_durable(&dots(1..=1)));
    assert!(!durability.is_durable(&dots(1..=2)));
    assert_eq!(durability.durable_cut(), Some(cut(1)));
}

#[test]
fn what_only_a_checkpoint_under_way_holds_is_promised_by_no_append() {
    let mut durability = Durability::new(0, 0, VersionVector::new());
    durability.add_lazy(event(1, 10));
    let checkpoint = durability.begin_checkpoint(&dots(1..=1));
    assert!(durability.promise(&dots(1..=1), cut(1)).is_none());
    assert!(!durability.is_durable(&dots(1..=1)));
    durability.checkpointed(checkpoint).unwrap();
    assert!(durability.is_durable(&dots(1..=1)));
    assert!(durability.promise(&dots(1..=1), cut(1)).is_some());
}

#[test]
fn what_was_left_out_of_the_log_is_promised_after_a_checkpoint_that_began_later() {
    let mut durability = Durability::new(0, 0, VersionVector::new());
    let first = durability.begin_checkpoint(&VersionVector::new());
    durability.add_lazy(event(1, 10));
    durability.forget_lazy();
    assert!(durability.promise(&dots(1..=1), cut(1)).is_none());
    durability.checkpointed(first).unwrap();
    assert!(durability.needs_checkpoint());
    assert!(durability.promise(&dots(1..=1), cut(1)).is_none());
    let second = durability.begin_checkpoint(&dots(1..=1));
    assert!(durability.promise(&dots(1..=1), cut(1)).is_none());
    durability.checkpointed(second).unwrap();
    assert!(durability.promise(&dots(1..=1), cut(1)).is_some());
}
