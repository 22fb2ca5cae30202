//! Exactly once (Raft dissertation, 6.3): a write under one client sequence is applied at most once, however often it was
//! sent, and each of its answers is the same; a session lives for its TTL after each write that was acknowledged.

use std::collections::BTreeMap;

use quorumor_core::{ClientId, LeaseAction, SessionAction};

use super::answers::{values, writers};
use super::evidence;
use crate::checker::{Evidence, Finding, Property};
use crate::registry::{Answer, Ask, Op, Order, Record};

/// Log time is counted in whole milliseconds.
const ROUNDING_US: u64 = 2_000;

/// Judges a record.
pub fn check(record: &Record, order: &Order<'_>) -> Finding {
    let mut found = Vec::new();
    let (mut repeated, mut expired) = (0u64, 0u64);
    for op in &record.ops {
        let answers: Vec<(&Answer, u64)> = op.answers().collect();
        repeated += answers.len().saturating_sub(1) as u64;
        if let Some((first, rest)) = answers.split_first()
            && rest.iter().any(|(answer, _)| !same(first.0, answer))
        {
            found.push(evidence("one write, different answers".to_owned(), &[op]));
        }
    }
    found.extend(applied_twice(record, order));
    found.extend(early_ends(record, &mut expired));
    let sent_again = record.ops.iter().filter(|op| op.attempts.len() > 1).count();
    let summary = format!(
        "{sent_again} requests sent more than once, {repeated} repeated answers, {expired} refused for an ended session: \
         {} contradictions",
        found.len()
    );
    Finding::from_evidence(Property::ExactlyOnce, summary, found)
}

/// The results are the same; the position may be a later one that includes the write too.
fn same(one: &Answer, other: &Answer) -> bool {
    match (one, other) {
        (Answer::Written { results: a, .. }, Answer::Written { results: b, .. }) => a == b,
        (
            Answer::Txn {
                succeeded: a,
                results: of_a,
                ..
            },
            Answer::Txn {
                succeeded: b,
                results: of_b,
                ..
            },
        ) => a == b && of_a == of_b,
        (Answer::Entries { .. }, Answer::Entries { .. }) => true,
        (one, other) => one == other,
    }
}

/// Values are unique, so a value in two revisions is a write that was applied twice.
fn applied_twice(record: &Record, order: &Order<'_>) -> Vec<Evidence> {
    let writers = writers(record);
    let mut revisions: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (revision, shown) in &record.revisions {
        let mut ops: Vec<usize> = values(&shown.events)
            .filter_map(|value| writers.get(value).copied())
            .collect();
        ops.dedup();
        for op in ops {
            revisions.entry(op).or_default().push(*revision);
        }
    }
    let twice = revisions.into_iter().filter(|(_, at)| at.len() > 1);
    twice
        .map(|(op, at)| {
            let own = order.made_by(op);
            let text = format!("one write was applied at revisions {at:?}; its own is {own:?}");
            evidence(text, &[&record.ops[op]])
        })
        .collect()
}

/// Sessions that were called ended before their time.
fn early_ends(record: &Record, expired: &mut u64) -> Vec<Evidence> {
    let mut lives: BTreeMap<ClientId, (u64, Vec<u64>)> = BTreeMap::new();
    for op in &record.ops {
        if let (
            Ask::Session(SessionAction::Open { ttl_ms }),
            Some((Answer::Opened { client_id }, _)),
        ) = (&op.ask, op.answers().next())
        {
            let life = lives.entry(*client_id).or_insert((*ttl_ms, Vec::new()));
            life.1.push(op.invoked_us);
        }
    }
    for op in &record.ops {
        let acked = op.answers().next().is_some();
        if let Some(client) = op.client.filter(|_| acked)
            && let Some(life) = lives.get_mut(&client.client_id)
        {
            life.1.push(op.invoked_us);
        }
    }
    let mut found = Vec::new();
    for op in &record.ops {
        let Some((ttl_ms, uses)) = op.client.and_then(|client| lives.get(&client.client_id)) else {
            continue;
        };
        for attempt in &op.attempts {
            let Some(ended) = &attempt.ended else {
                continue;
            };
            let Err(failure) = ended.result else { continue };
            if failure.reason != "SESSION_EXPIRED" {
                continue;
            }
            *expired += 1;
            let last = uses.iter().filter(|used| **used <= ended.at_us).max();
            let until = last.map_or(0, |used| used + ttl_ms * 1_000);
            if ended.at_us + ROUNDING_US < until {
                let text = format!("the session had {} us to live", until - ended.at_us);
                found.push(evidence(text, &[op]));
            }
        }
    }
    found
}

/// Whether a request is one under a client sequence.
pub fn is_numbered(op: &Op) -> bool {
    op.client.is_some() && !matches!(op.ask, Ask::Lease(LeaseAction::KeepAlive { .. }))
}
