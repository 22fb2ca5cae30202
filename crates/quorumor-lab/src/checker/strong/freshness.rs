//! Freshness: the order of revisions agrees with real time. A write stands behind everything that was shown before it began;
//! a linearizable read too; a bounded read behind all of it but what its bound allows; any read behind its caller's token. And
//! what a read of the newest state shows is the state at its revision.

use quorumor_core::{Entry, Level};

use super::evidence;
use crate::checker::{Evidence, Finding, Property};
use crate::registry::model::State;
use crate::registry::{Answer, Ask, Op, Order, Query, Record, Subject};

/// Judges a record.
pub fn check(record: &Record, order: &Order<'_>) -> Finding {
    let mut found = Vec::new();
    let mut reads = 0u64;
    for op in &record.ops {
        if let Some(revision) = order.made_by(op.id) {
            found.extend(late_write(order, op, revision));
            found.extend(early_show(record, op, revision));
        }
        for (answer, at_us) in op.answers() {
            match (&op.ask, answer) {
                (Ask::Read(query), Answer::Entries { view, entries }) => {
                    reads += 1;
                    found.extend(stale(order, op, query, *view, at_us));
                    if query.at.is_none() && *entries != expected(&order.state(*view), &query.of) {
                        let text = format!("the answer isn't the state at revision {view}");
                        found.push(evidence(text, &[op]));
                    }
                }
                (Ask::Backup, Answer::Backup { position, entries }) => {
                    reads += 1;
                    found.extend(backup(order, op, *position, entries));
                }
                _ => {}
            }
        }
    }
    let summary = format!("{reads} reads and backups: {} contradictions", found.len());
    Finding::from_evidence(Property::Freshness, summary, found)
}

/// What a read must show of a state.
pub(super) fn expected(state: &State, of: &Subject) -> Vec<Entry> {
    match of {
        Subject::Key(key) => state
            .get(key)
            .map(|entry| (**entry).clone())
            .into_iter()
            .collect(),
        Subject::Range {
            range,
            after,
            limit,
        } => state
            .values()
            .filter(|entry| range.contains(&entry.key))
            .filter(|entry| after.as_ref().is_none_or(|after| entry.key > *after))
            .take(*limit)
            .map(|entry| (**entry).clone())
            .collect(),
    }
}

fn late_write(order: &Order<'_>, op: &Op, revision: u64) -> Option<Evidence> {
    let shown = order.shown_before(op.invoked_us);
    (revision <= shown).then(|| {
        let text =
            format!("it made revision {revision}, but began after revision {shown} was shown");
        evidence(text, &[op])
    })
}

/// Applied before it was asked for: time itself is broken, in the lab or in the product.
fn early_show(record: &Record, op: &Op, revision: u64) -> Option<Evidence> {
    let shown = record.revisions.get(&revision)?;
    (shown.at_us < op.invoked_us).then(|| {
        let text = format!("revision {revision} was shown before the request that made it began");
        evidence(text, &[op])
    })
}

fn stale(order: &Order<'_>, op: &Op, query: &Query, view: u64, at_us: u64) -> Option<Evidence> {
    let after = op.after.map_or(0, quorumor_core::Revision::as_u64);
    if view < after {
        let text = format!("the caller had seen revision {after} and was shown revision {view}");
        return Some(evidence(text, &[op]));
    }
    let (needed, slack) = match query.level {
        Level::Local | Level::Sampled => return None,
        Level::Linearizable => (order.shown_before(op.invoked_us), 0),
        Level::Bounded => {
            let asked_us = at_us.saturating_sub(query.bound.max_age_us);
            (order.shown_before(asked_us), query.bound.max_lag)
        }
    };
    (view.saturating_add(slack) < needed).then(|| {
        let text = format!(
            "a {} read was shown revision {view}, but revision {needed} had been shown before it",
            query.level
        );
        evidence(text, &[op])
    })
}

fn backup(order: &Order<'_>, op: &Op, position: u64, entries: &[Entry]) -> Option<Evidence> {
    let needed = order.shown_before(op.invoked_us);
    if position < needed {
        let text =
            format!("a backup of revision {position} began after revision {needed} was shown");
        return Some(evidence(text, &[op]));
    }
    let state = order.state(position);
    let same = state.len() == entries.len()
        && state
            .values()
            .zip(entries)
            .all(|(one, other)| **one == *other);
    (!same).then(|| {
        let text = format!("a backup isn't the state at its revision {position}");
        evidence(text, &[op])
    })
}
