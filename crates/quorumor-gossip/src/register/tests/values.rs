//! Which values a register holds, and which of them stand again when what they lost to is collected.

use std::sync::Arc;

use quorumor_core::{Dot, LogId, Seq, Stamp, Value, VersionVector};

use super::{Replica, essence, joined};
use crate::event::Event;
use crate::harness::{key, node};
use crate::register::{Policy, Register};
use crate::vector::Context;

#[test]
fn a_register_keeps_one_value_however_many_are_concurrent() {
    let big = Value::parse(vec![7; 100_000].into()).unwrap();
    let mut register = Register::default();
    for seq in 1..=100 {
        let dot = Dot {
            writer: node(1),
            log_id: LogId::new(1),
            seq: Seq::new(seq),
        };
        let stamp = Stamp::from_u64(seq);
        let value = Some(big.clone());
        let event = Event::new(dot, stamp, key("k"), (value, None), Context::default());
        register.merge_event(&Arc::new(event));
    }
    register.tidy(Policy::Lww, &VersionVector::new());
    assert_eq!(register.sibling_count(), 100);
    assert!(register.weight() < 110_000, "{} bytes", register.weight());
}

/// A write of the key by a writer that has seen nothing.
fn unseen(writer: u64, stamp: u64, value: Option<Value>) -> Arc<Event> {
    let dot = Dot {
        writer: node(writer),
        log_id: LogId::new(1),
        seq: Seq::new(1),
    };
    let content = (value, None);
    Arc::new(Event::new(
        dot,
        Stamp::from_u64(stamp),
        key("k"),
        content,
        Context::default(),
    ))
}

fn vector(events: &[&Arc<Event>]) -> VersionVector {
    events.iter().map(|event| event.dot).collect()
}

/// A register that merged these, as a store keeps it.
fn kept(events: &[&Arc<Event>]) -> Replica {
    let mut replica = Replica::default();
    for event in events {
        replica.write(event);
        replica.register.tidy(Policy::Lww, &VersionVector::new());
    }
    replica
}

/// The value's length, if one is shown.
fn shown_bytes(replica: &Replica) -> Option<usize> {
    let shown = replica.register.shown(Policy::Lww)?;
    Some(shown.value_bytes().len())
}

fn bytes(count: usize) -> Option<Value> {
    Some(Value::parse(vec![7; count].into()).unwrap())
}

#[test]
fn a_value_that_lost_to_a_delete_stands_again_when_only_the_delete_is_collected() {
    for size in [1, 100_000] {
        let value = unseen(1, 1, bytes(size));
        let delete = unseen(2, 2, None);
        let mut replica = kept(&[&value, &delete]);
        assert_eq!(shown_bytes(&replica), None);
        // Whoever collected before the value came shows it.
        let deletes = vector(&[&delete]);
        replica.register.collect(Policy::Lww, &deletes, &deletes);
        assert_eq!(shown_bytes(&replica), Some(size));
        assert_eq!(replica.register.sibling_count(), 1);
        let all = vector(&[&delete, &value]);
        let mut other = kept(&[&value, &delete]);
        other.register.collect(Policy::Lww, &deletes, &all);
        assert!(other.register.is_empty());
    }
}

#[test]
fn a_delete_stays_while_the_next_value_is_not_held() {
    let lower = unseen(1, 1, bytes(100_000));
    let higher = unseen(2, 2, bytes(1));
    let delete = unseen(3, 3, None);
    let deletes = vector(&[&delete]);
    let settled = vector(&[&delete, &higher]);
    let mut replica = kept(&[&lower, &higher, &delete]);
    assert!(replica.register.losers()[0].event.is_none());
    replica.register.collect(Policy::Lww, &deletes, &settled);
    assert_eq!(shown_bytes(&replica), None);
    assert_eq!(replica.register.sibling_count(), 2);
    // A peer that holds it brings it, and the delete can go.
    replica.join(&kept(&[&lower]));
    replica.register.collect(Policy::Lww, &deletes, &settled);
    assert_eq!(shown_bytes(&replica), Some(100_000));
    assert_eq!(replica.register.sibling_count(), 1);
}

#[test]
fn a_peer_that_collected_the_delete_brings_the_value_that_stands_again() {
    let lower = unseen(1, 1, bytes(100_000));
    let higher = unseen(2, 2, bytes(1));
    let delete = unseen(3, 3, None);
    let bare = kept(&[&lower, &higher, &delete]);
    let mut collected = kept(&[&higher, &delete]);
    let settled = vector(&[&delete, &higher]);
    let deletes = vector(&[&delete]);
    collected.register.collect(Policy::Lww, &deletes, &settled);
    collected.write(&lower);
    assert_eq!(shown_bytes(&collected), Some(100_000));
    let once = joined(&bare, &collected);
    assert_eq!(shown_bytes(&once), Some(100_000));
    assert_eq!(essence(&joined(&once, &collected)), essence(&once));
    assert_eq!(essence(&joined(&collected, &bare)), essence(&once));
}
