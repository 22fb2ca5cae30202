//! Convergence: once everything is quiet after the last heal, all nodes hold the same; and how long that took.
//!
//! The time is the later of two measures, both counted from the heal: the first instant from which the polled digests of all nodes
//! are equal; and the start of the last read that still missed a write acknowledged before the heal. The second is
//! a lower bound, as good as the reads are dense.

use std::collections::{BTreeMap, BTreeSet};

use super::staleness::StaleRead;
use super::{Evidence, Finding, Property, Verdict};
use crate::history::{FaultStep, FinalState, History, NodeId};

/// What became of the nodes' data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convergence {
    /// The verdict on the final states.
    pub finding: Finding,
    /// When the last fault was healed.
    pub healed_us: Option<u64>,
    /// From the heal until all were equal; none = never seen equal, or nothing to go by.
    pub after_heal_us: Option<u64>,
}

/// Judges a history; `stale` are its stale reads.
pub fn check(history: &History, stale: &[StaleRead]) -> Convergence {
    let healed = history
        .faults
        .iter()
        .filter(|fault| fault.step == FaultStep::Healed)
        .map(|fault| fault.at_us)
        .max();
    let after_heal_us = healed.and_then(|healed| {
        let by_digest = by_digest(history, healed);
        let behind = |read: &&StaleRead| read.at_us >= healed && read.missed_acked_us < healed;
        let by_read = stale
            .iter()
            .filter(behind)
            .map(|read| read.at_us - healed)
            .max()
            .unwrap_or(0);
        match by_digest {
            Polls::EqualAfter(us) => Some(us.max(by_read)),
            Polls::NeverEqual => None,
            Polls::None => (finals_equal(history) == Some(true)).then_some(by_read),
        }
    });
    Convergence {
        finding: judge(history),
        healed_us: healed,
        after_heal_us,
    }
}

enum Polls {
    None,
    NeverEqual,
    EqualAfter(u64),
}

/// The first poll after the heal from which the latest digests of all nodes stay equal.
fn by_digest(history: &History, healed: u64) -> Polls {
    let mut polls: Vec<_> = history
        .digests
        .iter()
        .filter(|poll| poll.at_us >= healed)
        .collect();
    polls.sort_by_key(|poll| poll.at_us);
    if polls.is_empty() {
        return Polls::None;
    }
    let (standing, out) = (history.standing(), history.out());
    let mut latest: BTreeMap<NodeId, &str> = BTreeMap::new();
    let mut equal_since = None;
    for poll in polls {
        if out.contains(&poll.node) {
            continue;
        }
        latest.insert(poll.node, &poll.digest);
        let all = standing.iter().all(|node| latest.contains_key(node));
        let equal = all && latest.values().collect::<BTreeSet<_>>().len() == 1;
        equal_since = if equal {
            equal_since.or(Some(poll.at_us - healed))
        } else {
            None
        };
    }
    equal_since.map_or(Polls::NeverEqual, Polls::EqualAfter)
}

fn finals_equal(history: &History) -> Option<bool> {
    let first = history.finals.first()?;
    Some(
        history
            .finals
            .iter()
            .all(|state| state.digest == first.digest && values(state) == values(first)),
    )
}

fn values(state: &FinalState) -> BTreeMap<&str, &[String]> {
    let present = state
        .entries
        .iter()
        .filter(|entry| !entry.values.is_empty());
    present
        .map(|entry| (entry.key.as_str(), entry.values.as_slice()))
        .collect()
}

fn judge(history: &History) -> Finding {
    let read: BTreeSet<NodeId> = history.finals.iter().map(|state| state.node).collect();
    let all = history.standing();
    let missing: Vec<String> = all
        .iter()
        .filter(|id| !read.contains(id))
        .map(ToString::to_string)
        .collect();
    let Some(first) = history.finals.first() else {
        return Finding::unknown(Property::Convergence, "no node was read at the end");
    };
    let mut evidence = Vec::new();
    for state in &history.finals {
        if let Some(text) = difference(first, state) {
            evidence.push(Evidence::new(text, &[]));
        }
    }
    let summary = format!(
        "{} of {} nodes read at the end, {} differ from the first",
        read.len(),
        all.len(),
        evidence.len()
    );
    let mut finding = Finding::from_evidence(Property::Convergence, summary, evidence);
    if finding.verdict == Verdict::Valid && !missing.is_empty() {
        finding.verdict = Verdict::Unknown;
        finding.summary = format!("not read at the end: {}", missing.join(", "));
    }
    finding
}

fn difference(first: &FinalState, state: &FinalState) -> Option<String> {
    let (a, b) = (values(first), values(state));
    let keys: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
    let differing: Vec<&str> = keys
        .into_iter()
        .filter(|key| a.get(key) != b.get(key))
        .collect();
    let show = |values: Option<&&[String]>| {
        values.map_or("absent".to_owned(), |values| values.join(" | "))
    };
    match differing.first() {
        Some(key) => Some(format!(
            "{} and {} differ in {} keys; {key} is {} and {}",
            first.node,
            state.node,
            differing.len(),
            show(a.get(key)),
            show(b.get(key))
        )),
        None => (first.digest != state.digest).then(|| {
            format!(
                "{} and {} show the same entries but digests {} and {}",
                first.node, state.node, first.digest, state.digest
            )
        }),
    }
}
