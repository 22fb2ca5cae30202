//! Conflict accounting (eventual mode): every write that the conflict rule discarded for a concurrent one is in a ledger.
//!
//! Discarded is what the contexts on record prove ([`super::durability::WriteFate::discarded`]); where a context is missing a write counts as replaced, so
//! this never asks too much. Where the final states list dots, each discarded write's dot must be among them; where they only
//! count, or where a bounded list is full, all counts together must reach the number proven: each discarded write was seen beside its winner by some node, which
//! must have counted it, but not by every node. That node may be gone for good, and its ledger with it: what was acknowledged before a
//! node was put out isn't asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::durability::Fates;
use super::{Evidence, Finding, Property};
use crate::history::{Dot, EventKind, FinalState, History, Mode, Op, OpId, Version};

/// A node lists so many of the last discarded writes (`quorumor-gossip`, `ledger.rs`); its count goes on.
const LISTED_MAX: usize = 1_024;

/// Judges a history whose acknowledged writes met these fates; none = strong mode, or no node shows its ledger.
pub fn check(history: &History, fates: &Fates) -> Option<Finding> {
    if history.header.mode != Mode::Eventual {
        return None;
    }
    let ops: BTreeMap<OpId, &Op> = history.ops.iter().map(|op| (op.id(), op)).collect();
    let gone_us = last_out(history);
    let asked = |op: &&Op| op.returned_us() > gone_us;
    let discarded: Vec<&Op> = fates
        .writes
        .iter()
        .filter(|write| write.discarded)
        .filter_map(|write| ops.get(&write.op).copied())
        .filter(asked)
        .collect();
    // A list is bounded, a count isn't: where a list is full, or one is missing, only counts can be compared.
    let is_whole = |state: &FinalState| {
        let listed = state.ledger.as_ref().map(Vec::len);
        listed.is_some_and(|listed| listed < LISTED_MAX)
    };
    if !history.finals.is_empty() && history.finals.iter().all(is_whole) {
        let dots = history
            .finals
            .iter()
            .filter_map(|state| state.ledger.as_ref());
        let listed: BTreeSet<Dot> = dots.flatten().copied().collect();
        return Some(by_dots(&discarded, &listed));
    }
    let counts: Vec<u64> = history
        .finals
        .iter()
        .filter_map(|state| state.discarded)
        .collect();
    // The count of a node that doesn't say it may be the one that is missing.
    if counts.is_empty() || counts.len() < history.finals.len() {
        return None;
    }
    let (listed, proven) = (counts.iter().sum::<u64>(), discarded.len() as u64);
    let summary = format!("{proven} discarded writes proven, the ledgers count {listed}");
    let short = format!(
        "the conflict ledgers count {listed} discarded writes in all; the contexts prove {proven}"
    );
    let evidence = (listed < proven).then(|| Evidence::new(short, &[]));
    let evidence = evidence.into_iter().collect();
    Some(Finding::from_evidence(
        Property::ConflictAccounting,
        summary,
        evidence,
    ))
}

/// When the last node was put out for good; none = all are there.
fn last_out(history: &History) -> Option<u64> {
    let out = history.events.iter().filter_map(|event| match event.kind {
        EventKind::Out(_) => Some(event.at_us),
        EventKind::Leader { .. } | EventKind::Member { .. } | EventKind::Note(_) => None,
    });
    out.max()
}

fn by_dots(discarded: &[&Op], listed: &BTreeSet<Dot>) -> Finding {
    let mut evidence = Vec::new();
    for op in discarded {
        if dot(op).is_some_and(|dot| !listed.contains(&dot)) {
            let text = "a write lost to a concurrent one, and no ledger lists it";
            evidence.push(Evidence::new(text, &[op]));
        }
    }
    let summary = format!(
        "{} discarded writes proven, {} listed in the ledgers, {} missing there",
        discarded.len(),
        listed.len(),
        evidence.len()
    );
    Finding::from_evidence(Property::ConflictAccounting, summary, evidence)
}

fn dot(op: &Op) -> Option<Dot> {
    match op.answer()?.version {
        Some(Version::Eventual { dot, .. }) => Some(dot),
        Some(Version::Strong { .. }) | None => None,
    }
}
