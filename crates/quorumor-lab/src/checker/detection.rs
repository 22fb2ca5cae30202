//! Failure detection, held against the fault log: how long until a stopped node is held to be down, how often one that runs is, and whether
//! all agree in the end (Das, Gupta, Motivala, "SWIM", 2002: completeness, accuracy, speed).
//!
//! A `down` is *true* while the fault log says that the node is stopped; *excused* while any other fault holds and [`GRACE_US`] after
//! it, since nobody can tell slow from gone; else *false*. False ones and flaps are counted, and broken is only what must hold in the end:
//! a node stopped for longer than [`MISSED_AFTER_US`] is held to be down by some node that ran; and [`AGREED_AFTER_US`] after the last
//! heal nobody that runs holds another that runs to be down.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::disturbed::{Disturbance, disturbances};
use super::{Evidence, Finding, Property, Verdict};
use crate::history::{EventKind, FaultAction, History, MemberState, NodeId};

/// A suspicion that a fault raised may ripen after it: a probe's period of 1 s, the least suspicion of 4 s, and 1 s to spread.
pub const GRACE_US: u64 = 6_000_000;
/// The longest until somebody holds a stopped node to be down: some periods of 1 s until a probe meets it, at up to 9 times the period
/// where the prober thinks ill of itself, and the longest suspicion of 24 s.
pub const MISSED_AFTER_US: u64 = 35_000_000;
/// The longest until all have heard that a node is back: members that are down are probed once a second, one at random; the
/// grace of what was under way; and the spread.
pub const AGREED_AFTER_US: u64 = 15_000_000;

/// How one stopped node was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detected {
    /// Which fault of the schedule.
    pub fault: u32,
    /// Who was stopped.
    pub node: NodeId,
    /// For how long; none = to the end.
    pub stopped_us: Option<u64>,
    /// How many held it to be down meanwhile.
    pub observers: u64,
    /// From the fault to the first of them.
    pub first_us: Option<u64>,
    /// To the median one.
    pub median_us: Option<u64>,
    /// To the last one.
    pub last_us: Option<u64>,
}

/// What the beliefs of a history show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The verdict.
    pub finding: Finding,
    /// One for each time that a node was stopped.
    pub detected: Vec<Detected>,
    /// Nodes held to be down while they ran and nothing disturbed them.
    pub false_downs: u64,
    /// Times that a node was held to be down again by one that had just taken it for alive, within the same fault.
    pub flaps: u64,
    /// Beliefs at the end about running nodes that are wrong.
    pub disagreements: u64,
}

/// A belief that changed.
#[derive(Clone, Copy)]
struct Belief {
    at_us: u64,
    observer: NodeId,
    subject: NodeId,
    state: MemberState,
}

/// Judges a history of either mode; none = nobody's beliefs are on record.
pub fn check(history: &History) -> Option<Detection> {
    let beliefs = beliefs(history);
    if beliefs.is_empty() {
        return None;
    }
    let faults = disturbances(history);
    let end_us = end_us(history);
    let detected = detected(&beliefs, &faults);
    let (false_downs, flaps) = wrong(&beliefs, &faults);
    let wrong_at_end = wrong_at_end(&beliefs, &faults, &history.out(), end_us);
    let mut evidence = Vec::new();
    for missed in detected.iter().filter(|one| one.observers == 0) {
        let from = faults.iter().find(|fault| fault.fault == missed.fault);
        let lasted = missed
            .stopped_us
            .or_else(|| Some(end_us.saturating_sub(from?.from_us)));
        if lasted.is_some_and(|us| us > MISSED_AFTER_US) {
            let seconds = lasted.unwrap_or(0) / 1_000_000;
            let text = format!(
                "{} was stopped for {seconds} s and nobody held it to be down",
                missed.node
            );
            evidence.push(Evidence::new(text, &[]));
        }
    }
    let healed_us = faults.iter().map(|fault| fault.to_us).max().unwrap_or(0);
    let settled = end_us.saturating_sub(healed_us) > AGREED_AFTER_US;
    for belief in wrong_at_end.iter().filter(|_| settled) {
        let text = format!(
            "{} holds {} to be down at the end, though it runs",
            belief.observer, belief.subject
        );
        evidence.push(Evidence::new(text, &[]));
    }
    let summary = format!(
        "{} times a node was stopped, {} found out; {} held to be down while nothing was wrong, {flaps} flaps, {} wrong beliefs at the end",
        detected.len(),
        detected.iter().filter(|one| one.observers > 0).count(),
        false_downs.len(),
        wrong_at_end.len()
    );
    let mut finding = Finding::from_evidence(Property::FailureDetection, summary, evidence);
    if finding.verdict == Verdict::Valid && !settled && !wrong_at_end.is_empty() {
        finding.verdict = Verdict::Unknown;
        finding.summary += ": the run ended before they had to be right";
    }
    Some(Detection {
        finding,
        detected,
        false_downs: false_downs.len() as u64,
        flaps,
        disagreements: wrong_at_end.len() as u64,
    })
}

fn beliefs(history: &History) -> Vec<Belief> {
    let belief = |event: &crate::history::Event| match event.kind {
        EventKind::Member { subject, state } => Some(Belief {
            at_us: event.at_us,
            observer: event.node,
            subject,
            state,
        }),
        EventKind::Leader { .. } | EventKind::Out(_) | EventKind::Note(_) => None,
    };
    let mut beliefs: Vec<Belief> = history.events.iter().filter_map(belief).collect();
    beliefs.sort_by_key(|belief| belief.at_us);
    beliefs
}

/// The last time of which the history tells anything.
fn end_us(history: &History) -> u64 {
    let finals = history.finals.iter().map(|state| state.at_us);
    let events = history.events.iter().map(|event| event.at_us);
    let ops = history.ops.iter().map(|op| op.invoke.at_us);
    finals.chain(events).chain(ops).max().unwrap_or(0)
}

fn detected(beliefs: &[Belief], faults: &[Disturbance]) -> Vec<Detected> {
    let mut all = Vec::new();
    for fault in faults.iter().filter(|fault| fault.stops()) {
        for &node in &fault.nodes {
            let mut first = already_down(beliefs, node, fault.from_us);
            let meanwhile = beliefs.iter().filter(|belief| {
                belief.subject == node
                    && belief.observer != node
                    && belief.state == MemberState::Down
                    && (fault.from_us..=fault.to_us).contains(&belief.at_us)
            });
            for belief in meanwhile {
                let after = belief.at_us - fault.from_us;
                first.entry(belief.observer).or_insert(after);
            }
            let mut times: Vec<u64> = first.into_values().collect();
            times.sort_unstable();
            all.push(Detected {
                fault: fault.fault,
                node,
                stopped_us: (fault.to_us != u64::MAX).then(|| fault.to_us - fault.from_us),
                observers: times.len() as u64,
                first_us: times.first().copied(),
                median_us: times.get(times.len().saturating_sub(1) / 2).copied(),
                last_us: times.last().copied(),
            });
        }
    }
    all
}

/// Who held a node to be down already when it was stopped: found out at once.
fn already_down(beliefs: &[Belief], subject: NodeId, at_us: u64) -> BTreeMap<NodeId, u64> {
    let mut down = BTreeMap::new();
    let before = beliefs.iter().filter(|belief| {
        belief.subject == subject && belief.observer != subject && belief.at_us < at_us
    });
    for belief in before {
        if belief.state == MemberState::Down {
            down.insert(belief.observer, 0);
        } else {
            down.remove(&belief.observer);
        }
    }
    down
}

/// Beliefs `down` while nothing was wrong, and how many came again within one fault.
fn wrong(beliefs: &[Belief], faults: &[Disturbance]) -> (Vec<Belief>, u64) {
    let mut last_down: BTreeMap<(NodeId, NodeId), Option<u32>> = BTreeMap::new();
    let (mut false_downs, mut flaps) = (Vec::new(), 0);
    for belief in beliefs
        .iter()
        .filter(|belief| belief.state == MemberState::Down)
    {
        let since = belief.at_us.saturating_sub(GRACE_US);
        let during = faults
            .iter()
            .rfind(|fault| fault.overlaps(since, belief.at_us));
        if during.is_none() {
            false_downs.push(*belief);
        }
        let during = during.map(|fault| fault.fault);
        let pair = (belief.observer, belief.subject);
        if last_down.insert(pair, during) == Some(during) {
            flaps += 1;
        }
    }
    (false_downs, flaps)
}

/// What those that run believe wrongly at the end about others that run.
fn wrong_at_end(
    beliefs: &[Belief],
    faults: &[Disturbance],
    out: &BTreeSet<NodeId>,
    end_us: u64,
) -> Vec<Belief> {
    // Who was replaced is gone for good, and so is who is out.
    let stopped: BTreeSet<NodeId> = faults
        .iter()
        .filter(|fault| {
            fault.action == FaultAction::Replace || (fault.stops() && fault.to_us >= end_us)
        })
        .flat_map(|fault| fault.nodes.iter().copied())
        .chain(out.iter().copied())
        .collect();
    let mut last: BTreeMap<(NodeId, NodeId), Belief> = BTreeMap::new();
    for belief in beliefs {
        last.insert((belief.observer, belief.subject), *belief);
    }
    let runs = |node: &NodeId| !stopped.contains(node);
    let wrong = |belief: &Belief| {
        belief.state == MemberState::Down && runs(&belief.observer) && runs(&belief.subject)
    };
    last.into_values().filter(wrong).collect()
}
