//! Answers of writes (strict serializability of whole requests, Herlihy and Wing 1990 with the order as witness): every
//! answered write and transaction gives what the model gives at its place in the order of revisions; a write that was
//! refused is nowhere; every revision was asked for, or is the end of a lease.

use std::collections::BTreeMap;

use quorumor_core::{ChangeEvent, Operation};

use super::evidence;
use crate::checker::{Evidence, Finding, Property};
use crate::registry::order::may_change;
use crate::registry::{Answer, Ask, Finish, Op, Order, Record};

/// Judges a record.
pub fn check(record: &Record, order: &Order<'_>) -> Finding {
    let mut found: Vec<Evidence> = order
        .unexplained()
        .iter()
        .map(|(op, why)| evidence(why.clone(), &[&record.ops[*op]]))
        .collect();
    let writers = writers(record);
    for revision in order.orphans() {
        let shown = &record.revisions[revision];
        let ops: Vec<&Op> = values(&shown.events)
            .filter_map(|value| writers.get(value).map(|op| &record.ops[*op]))
            .collect();
        let text = match ops.first().map(|op| op.finish()) {
            Some(Finish::Failed(_)) => {
                format!("revision {revision} shows a write that was refused")
            }
            Some(Finish::Answered(..)) => {
                format!("revision {revision} shows a write that has its place elsewhere")
            }
            Some(Finish::Unknown) | None => {
                format!(
                    "revision {revision} is nothing that was asked for: {:?}",
                    shown.events
                )
            }
        };
        found.push(evidence(text, &ops));
    }
    let answered = |op: &&Op| may_change(&op.ask) && matches!(op.finish(), Finish::Answered(..));
    let unknown = |op: &&Op| may_change(&op.ask) && matches!(op.finish(), Finish::Unknown);
    let unknown: Vec<&Op> = record.ops.iter().filter(unknown).collect();
    let seen = unknown
        .iter()
        .filter(|op| order.made_by(op.id).is_some())
        .count();
    let txns = record
        .ops
        .iter()
        .filter(|op| matches!(op.finish(), Finish::Answered(Answer::Txn { .. }, _)))
        .count();
    let summary = format!(
        "{} answered writes ({txns} transactions), {} unknown of which {seen} are in the order, {} ends of leases: {} \
         contradictions",
        record.ops.iter().filter(answered).count(),
        unknown.len(),
        order.lease_ends().len(),
        found.len()
    );
    Finding::from_evidence(Property::Answers, summary, found)
}

/// Who wrote a value: values are unique.
pub(super) fn writers(record: &Record) -> BTreeMap<&[u8], usize> {
    let mut writers = BTreeMap::new();
    for op in &record.ops {
        let operations: Vec<&Operation> = match &op.ask {
            Ask::Write(operations) => operations.iter().collect(),
            Ask::Txn(txn) => txn.success.iter().chain(&txn.failure).collect(),
            Ask::Lease(_) | Ask::Session(_) | Ask::Cluster(_) | Ask::Read(_) | Ask::Backup => {
                continue;
            }
        };
        for operation in operations {
            if let Operation::Put { value, .. } | Operation::CompareAndSet { value, .. } = operation
            {
                writers.insert(&value.as_bytes()[..], op.id);
            }
        }
    }
    writers
}

/// The values that events put.
pub(super) fn values(events: &[ChangeEvent]) -> impl Iterator<Item = &[u8]> {
    events.iter().filter_map(|event| match event {
        ChangeEvent::Put { entry, .. } => Some(&entry.value.as_bytes()[..]),
        ChangeEvent::Deleted { .. } | ChangeEvent::Reset => None,
    })
}
