//! Watches (as etcd documents them): ordered, unique, atomic and without a gap. A watcher that goes from node to node by its
//! cursor is given every revision that touches its range, whole, once, in order; or is told to read the state again.

use quorumor_core::{ChangeEvent, KeyRange};

use crate::checker::{Evidence, Finding, Property};
use crate::registry::{Delivery, Record, Watched};

/// Judges a record.
pub fn check(record: &Record) -> Finding {
    let mut found = Vec::new();
    let (mut given, mut resyncs, mut moves) = (0u64, 0u64, 0u64);
    for (number, watch) in record.watches.iter().enumerate() {
        moves += watch.moves;
        for delivery in &watch.deliveries {
            match delivery {
                Delivery::Events { .. } => given += 1,
                Delivery::Resync { .. } => resyncs += 1,
            }
        }
        if let Some(text) = wrong(record, watch) {
            found.push(Evidence::new(format!("watch {number}: {text}"), &[]));
        }
    }
    let summary = format!(
        "{} watches at {moves} nodes in turn were given {given} revisions and {resyncs} resyncs: {} contradictions",
        record.watches.len(),
        found.len()
    );
    Finding::from_evidence(Property::Watches, summary, found)
}

/// The events of a revision that a range sees.
pub fn seen(range: &KeyRange, events: &[ChangeEvent]) -> Vec<ChangeEvent> {
    let inside = |event: &&ChangeEvent| match event {
        ChangeEvent::Put { entry, .. } => range.contains(&entry.key),
        ChangeEvent::Deleted { key, .. } => range.contains(key),
        ChangeEvent::Reset => false,
    };
    events.iter().filter(inside).cloned().collect()
}

fn wrong(record: &Record, watch: &Watched) -> Option<String> {
    let mut at = watch.from;
    for delivery in &watch.deliveries {
        match delivery {
            Delivery::Resync { revision } => {
                if *revision < at {
                    return Some(format!("told to go back from revision {at} to {revision}"));
                }
                at = *revision;
            }
            Delivery::Events { revision, events } => {
                if *revision <= at {
                    return Some(format!("given revision {revision} after revision {at}"));
                }
                if let Some(missed) = missed(record, watch, at, *revision) {
                    return Some(format!("not given revision {missed}, then {revision}"));
                }
                let whole = record.revisions.get(revision);
                let expected = whole.map(|shown| seen(&watch.range, &shown.events));
                if expected.as_ref() != Some(events) {
                    return Some(format!(
                        "given {events:?} for revision {revision}, it is {expected:?}"
                    ));
                }
                at = *revision;
            }
        }
    }
    let missed = missed(record, watch, at, watch.reached + 1)?;
    Some(format!(
        "never given revision {missed}, though it came to {}",
        watch.reached
    ))
}

/// A revision strictly between two that the range sees.
fn missed(record: &Record, watch: &Watched, after: u64, before: u64) -> Option<u64> {
    if after + 1 >= before {
        return None;
    }
    let mut between = record.revisions.range(after + 1..before);
    between
        .find(|(_, shown)| !seen(&watch.range, &shown.events).is_empty())
        .map(|(revision, _)| *revision)
}
