//! The past: a read at a revision shows the state at that revision, at any node, however late, or is told that it is gone.

use super::evidence;
use super::freshness::expected;
use crate::checker::{Finding, Property};
use crate::registry::{Answer, Ask, Order, Record};

/// Judges a record.
pub fn check(record: &Record, order: &Order<'_>) -> Finding {
    let mut found = Vec::new();
    let (mut reads, mut gone) = (0u64, 0u64);
    for op in &record.ops {
        let Ask::Read(query) = &op.ask else { continue };
        let Some(at) = query.at.map(quorumor_core::Revision::as_u64) else {
            continue;
        };
        for ended in op.attempts.iter().filter_map(|one| one.ended.as_ref()) {
            match &ended.result {
                Ok(Answer::Entries { view, entries }) => {
                    reads += 1;
                    if at > *view || *entries != expected(&order.state(at), &query.of) {
                        let text = format!("the answer isn't the state at revision {at}");
                        found.push(evidence(text, &[op]));
                    }
                }
                Err(failure) if failure.reason == "HISTORY_GONE" => gone += 1,
                Ok(_) | Err(_) => {}
            }
        }
    }
    let summary = format!(
        "{reads} reads in the past, {gone} told that it is gone: {} contradictions",
        found.len()
    );
    Finding::from_evidence(Property::Past, summary, found)
}
