//! Leases: one that was granted, or kept alive, lives for its TTL from the moment at which that request was sent, if it was
//! acknowledged (etcd #15247: a stuck leader revoked all of them); and once nobody keeps it alive it ends within a bound
//! (etcd #9395, #20273: elections that extended it for ever), together with its keys.

use std::collections::BTreeMap;

use quorumor_core::{LeaseAction, LeaseId};

use super::evidence;
use crate::checker::{Evidence, Finding, Property};
use crate::registry::{Answer, Ask, Finish, Op, Order, Record};

/// Log time is counted in whole milliseconds.
const ROUNDING_US: u64 = 2_000;

/// A time at which a lease was certainly alive for so long.
struct Promise<'a> {
    op: &'a Op,
    sent_us: u64,
    ends_us: u64,
}

/// Judges a record.
pub fn check(record: &Record, order: &Order<'_>) -> Finding {
    let promises = promises(record);
    let mut found = Vec::new();
    let mut expired = 0u64;
    for (revision, leases) in order.lease_ends() {
        let at_us = record.revisions[revision].at_us;
        for lease in leases {
            expired += 1;
            let text = format!("lease {lease} ended at revision {revision}");
            found.extend(early(&promises, *lease, at_us, &text));
        }
    }
    found.extend(lost_early(record, &promises));
    found.extend(left_over(record));
    let summary = format!(
        "{} leases, {} keep-alives, {expired} seen to expire with their keys: {} contradictions",
        promises.len(),
        promises
            .values()
            .map(|all| all.len().saturating_sub(1))
            .sum::<usize>(),
        found.len()
    );
    Finding::from_evidence(Property::Leases, summary, found)
}

fn promises(record: &Record) -> BTreeMap<LeaseId, Vec<Promise<'_>>> {
    let mut promises: BTreeMap<LeaseId, Vec<Promise<'_>>> = BTreeMap::new();
    for op in &record.ops {
        for (answer, _) in op.answers() {
            let (lease, ttl_ms) = match (&op.ask, answer) {
                (Ask::Lease(LeaseAction::Grant { .. }), Answer::Granted { id, ttl_ms }) => {
                    (*id, *ttl_ms)
                }
                (Ask::Lease(LeaseAction::KeepAlive { id }), Answer::Kept { ttl_ms }) => {
                    (*id, *ttl_ms)
                }
                _ => continue,
            };
            promises.entry(lease).or_default().push(Promise {
                op,
                sent_us: op.invoked_us,
                ends_us: op.invoked_us + ttl_ms * 1_000,
            });
        }
    }
    promises
}

/// The promise that an end at this time breaks.
fn early(
    promises: &BTreeMap<LeaseId, Vec<Promise<'_>>>,
    lease: LeaseId,
    at_us: u64,
    what: &str,
) -> Option<Evidence> {
    let broken = promises
        .get(&lease)?
        .iter()
        .filter(|promise| promise.sent_us <= at_us && at_us + ROUNDING_US < promise.ends_us)
        .max_by_key(|promise| promise.ends_us)?;
    let left = (broken.ends_us - at_us) / 1_000;
    let at = at_us as f64 / 1e6;
    let text = format!("{what} at {at:.3} s, {left} ms before its time");
    Some(evidence(text, &[broken.op]))
}

/// Leases that a keep-alive no longer found, though nobody revoked them and their time wasn't up.
fn lost_early(record: &Record, promises: &BTreeMap<LeaseId, Vec<Promise<'_>>>) -> Vec<Evidence> {
    let mut revoked: BTreeMap<LeaseId, u64> = BTreeMap::new();
    for op in &record.ops {
        if let Ask::Lease(LeaseAction::Revoke { id, .. }) = &op.ask
            && !matches!(op.finish(), Finish::Failed(_))
        {
            let first = revoked.entry(*id).or_insert(op.invoked_us);
            *first = op.invoked_us.min(*first);
        }
    }
    let mut found = Vec::new();
    for op in &record.ops {
        let Ask::Lease(LeaseAction::KeepAlive { id }) = &op.ask else {
            continue;
        };
        for ended in op.attempts.iter().filter_map(|one| one.ended.as_ref()) {
            let Err(failure) = ended.result else { continue };
            let by_hand = revoked.get(id).is_some_and(|at| *at <= ended.at_us);
            if failure.reason == "LEASE_NOT_FOUND" && !by_hand {
                let text = format!("lease {id} was gone");
                found.extend(early(promises, *id, ended.at_us, &text));
            }
        }
    }
    found
}

fn left_over(record: &Record) -> Vec<Evidence> {
    let mut found = Vec::new();
    for end in &record.finals {
        if record.leases_over_us.is_some() && !end.leases.is_empty() {
            let text = format!(
                "node {} still has leases that nobody kept alive for longer than any TTL: {:?}",
                end.node, end.leases
            );
            found.push(Evidence::new(text, &[]));
        }
        for entry in &end.entries {
            if let Some(lease) = entry.lease.filter(|lease| !end.leases.contains(lease)) {
                let text = format!(
                    "node {}: {:?} outlives its lease {lease}",
                    end.node, entry.key
                );
                found.push(Evidence::new(text, &[]));
            }
        }
    }
    found
}
