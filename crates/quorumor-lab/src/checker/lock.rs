//! Locks with fencing (strong mode): a lock is a key taken by a compare-and-set from absent, under a lease; its fencing token is the revision
//! of that write (Kleppmann, "How to do distributed locking", 2016; Jepsen etcd 3.4.3).
//!
//! Tokens are unique and rise in the order in which the lock was granted, and every token that reaches the guarded resource was granted.
//! The resource refuses a token below one that it has seen: a stale token that it *accepted* is broken. That two believe
//! to hold the lock at once can't be helped, since a lease may end while its holder is paused; such writes are only counted.

use std::collections::BTreeMap;

use super::{Evidence, Finding, Property};
use crate::history::{Action, FenceRecord, History, Mode, Op, Outcome, Version};

struct Grant<'a> {
    op: &'a Op,
    token: u64,
    acked_us: u64,
}

/// Judges a history of strong mode; none = nobody took a lock.
pub fn check(history: &History) -> Option<Finding> {
    let grants = grants(history);
    if history.header.mode != Mode::Strong || (grants.is_empty() && history.fences.is_empty()) {
        return None;
    }
    let mut evidence = Vec::new();
    for (lock, grants) in &grants {
        in_order(lock, grants, &mut evidence);
    }
    fences(history, &grants, &mut evidence);
    let overlaps = history
        .fences
        .iter()
        .filter(|fence| overlaps(fence, &grants))
        .count();
    let refused = history
        .fences
        .iter()
        .filter(|fence| !fence.accepted)
        .count();
    let summary = format!(
        "{} locks granted {} times, {} writes under them: {overlaps} by a holder who had been followed by another, {refused} refused by the resource",
        grants.len(),
        grants.values().map(Vec::len).sum::<usize>(),
        history.fences.len()
    );
    Some(Finding::from_evidence(Property::Locks, summary, evidence))
}

/// Each lock's grants, in order of their acknowledgement.
fn grants(history: &History) -> BTreeMap<&str, Vec<Grant<'_>>> {
    let mut grants: BTreeMap<&str, Vec<Grant<'_>>> = BTreeMap::new();
    for op in &history.ops {
        let takes = matches!(&op.invoke.action, Action::Cas(cas) if cas.expected.is_none());
        if !takes || op.invoke.lease.is_none() || !op.is_acked_write() {
            continue;
        }
        let Some(ret) = op.answer() else { continue };
        if let Some(Version::Strong { revision }) = ret.version {
            let grant = Grant {
                op,
                token: revision,
                acked_us: ret.at_us,
            };
            grants.entry(&op.invoke.key).or_default().push(grant);
        }
    }
    for all in grants.values_mut() {
        all.sort_by_key(|grant| grant.acked_us);
    }
    grants
}

fn in_order(lock: &str, grants: &[Grant<'_>], evidence: &mut Vec<Evidence>) {
    let mut by_token: BTreeMap<u64, &Op> = BTreeMap::new();
    let mut highest: Option<&Grant<'_>> = None;
    let mut acked = grants.iter().peekable();
    let mut by_call: Vec<&Grant<'_>> = grants.iter().collect();
    by_call.sort_by_key(|grant| grant.op.invoke.at_us);
    for grant in by_call {
        while let Some(before) = acked.next_if(|other| other.acked_us < grant.op.invoke.at_us) {
            if highest.is_none_or(|highest| before.token > highest.token) {
                highest = Some(before);
            }
        }
        if let Some(before) = highest.filter(|before| before.token > grant.token) {
            let text = format!(
                "{lock} was granted with token {} after token {}",
                grant.token, before.token
            );
            evidence.push(Evidence::new(text, &[before.op, grant.op]));
        }
        if let Some(other) = by_token.insert(grant.token, grant.op) {
            let text = format!("{lock} was granted twice with token {}", grant.token);
            evidence.push(Evidence::new(text, &[other, grant.op]));
        }
    }
}

fn fences(
    history: &History,
    grants: &BTreeMap<&str, Vec<Grant<'_>>>,
    evidence: &mut Vec<Evidence>,
) {
    let mut highest: BTreeMap<&str, &FenceRecord> = BTreeMap::new();
    for fence in &history.fences {
        let lock = fence.lock.as_str();
        let granted = grants.get(lock).and_then(|grants| {
            grants
                .iter()
                .find(|grant| grant.token == fence.token && grant.acked_us <= fence.at_us)
        });
        let mine = granted.filter(|grant| grant.op.invoke.process == fence.holder);
        if mine.is_none() && !has_unknown(history, fence) {
            let text = format!(
                "{} wrote under {lock} with token {}, which it was never granted",
                fence.holder, fence.token
            );
            let ops: Vec<&Op> = granted.map(|grant| grant.op).into_iter().collect();
            evidence.push(Evidence::new(text, &ops));
        }
        let before = highest
            .get(lock)
            .filter(|before| before.token > fence.token);
        if let Some(before) = before.filter(|_| fence.accepted) {
            let text = format!(
                "the resource took {lock}'s stale token {} of {} after token {} of {}",
                fence.token, fence.holder, before.token, before.holder
            );
            let ops: Vec<&Op> = granted.map(|grant| grant.op).into_iter().collect();
            evidence.push(Evidence::new(text, &ops));
        }
        if before.is_none() {
            highest.insert(lock, fence);
        }
    }
}

/// Whether the holder may have learnt of a grant of its own, of unknown outcome, by reading the lock.
fn has_unknown(history: &History, fence: &FenceRecord) -> bool {
    let holder = history
        .ops
        .iter()
        .find(|op| op.invoke.process == fence.holder);
    let Some(client) = holder.map(|op| op.invoke.client) else {
        return false;
    };
    let takes = |op: &&Op| {
        let asked = &op.invoke;
        (asked.client, &asked.key) == (client, &fence.lock)
            && matches!(asked.action, Action::Cas(_))
    };
    let mut unknown = history
        .ops
        .iter()
        .filter(takes)
        .filter(|op| op.outcome() == Outcome::Unknown);
    unknown.any(|op| op.invoke.at_us <= fence.at_us)
}

/// Whether somebody else had been granted the lock by then.
fn overlaps(fence: &FenceRecord, grants: &BTreeMap<&str, Vec<Grant<'_>>>) -> bool {
    let later = |grant: &Grant<'_>| grant.token > fence.token && grant.acked_us <= fence.at_us;
    grants
        .get(fence.lock.as_str())
        .is_some_and(|grants| grants.iter().any(later))
}
