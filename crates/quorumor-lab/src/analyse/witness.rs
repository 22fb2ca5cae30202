//! The operations behind a finding, with their intervals, so that a report shows them without the history.
//!
//! Not a search: which operations are evidence is the checker's choice. Called by the analysis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checker::availability::Fared;
use crate::checker::{Evidence, Finding, Property};
use crate::history::{Action, History, NodeId, Op, OpId, ProcessId};

/// A witness with more operations shows the last ones: what is wrong shows at the end.
const BARS_MAX: usize = 40;

/// One operation: who asked what of whom, from when to when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bar {
    /// Its id in the history.
    pub op: OpId,
    /// The node asked.
    pub node: NodeId,
    /// When it began, from time zero of the workload, in microseconds.
    pub from_us: u64,
    /// When it returned; none = it never did.
    pub to_us: Option<u64>,
    /// What was asked and what came of it, in a few words.
    pub label: String,
    /// What became of it.
    pub fared: Fared,
}

/// One process: its operations one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lane {
    /// The process.
    pub process: ProcessId,
    /// Its operations, in order of their start.
    pub bars: Vec<Bar>,
}

/// A piece of evidence, to be drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Witness {
    /// What it is evidence about.
    pub property: Property,
    /// What is wrong, for a person.
    pub text: String,
    /// The processes, in order of their first operation.
    pub lanes: Vec<Lane>,
    /// Operations of the evidence that are left out, because there were very many.
    pub left_out: u64,
}

/// One for each piece of evidence that names operations.
pub(super) fn witnesses(history: &History, findings: &[Finding]) -> Vec<Witness> {
    if findings.iter().all(|finding| finding.evidence.is_empty()) {
        return Vec::new();
    }
    let ops: BTreeMap<OpId, &Op> = history.ops.iter().map(|op| (op.id(), op)).collect();
    let of = |finding: &Finding| {
        let evidence = finding.evidence.iter();
        let drawn = evidence.filter_map(|evidence| {
            let named = evidence.ops.iter();
            let named: Vec<&Op> = named.filter_map(|id| ops.get(id).copied()).collect();
            witness(finding.property, evidence, named, history.header.start_us)
        });
        drawn.collect::<Vec<_>>()
    };
    findings.iter().flat_map(of).collect()
}

fn witness(
    property: Property,
    evidence: &Evidence,
    mut ops: Vec<&Op>,
    start_us: u64,
) -> Option<Witness> {
    ops.sort_by_key(|op| (op.invoke.at_us, op.id()));
    ops.dedup_by_key(|op| op.id());
    let left_out = ops.len().saturating_sub(BARS_MAX);
    let mut lanes: Vec<Lane> = Vec::new();
    for op in ops.into_iter().skip(left_out) {
        let bar = bar(op, start_us);
        match lanes
            .iter_mut()
            .find(|lane| lane.process == op.invoke.process)
        {
            Some(lane) => lane.bars.push(bar),
            None => lanes.push(Lane {
                process: op.invoke.process,
                bars: vec![bar],
            }),
        }
    }
    (!lanes.is_empty()).then(|| Witness {
        property,
        text: evidence.text.clone(),
        lanes,
        left_out: left_out as u64,
    })
}

fn bar(op: &Op, start_us: u64) -> Bar {
    Bar {
        op: op.id(),
        node: op.invoke.node,
        from_us: op.invoke.at_us.saturating_sub(start_us),
        to_us: op.returned_us().map(|at| at.saturating_sub(start_us)),
        label: label(op),
        fared: Fared::of(op),
    }
}

/// What was asked, and what an answer showed: "put c3-7", "get: c3-7", "get: absent".
fn label(op: &Op) -> String {
    let saw = || {
        let values = op.answer().map(|ret| ret.values.as_slice());
        values.map(|values| values.first().map_or("absent", String::as_str))
    };
    match &op.invoke.action {
        Action::Get => saw().map_or("get".to_owned(), |saw| format!("get: {saw}")),
        Action::Put(value) => format!("put {value}"),
        Action::Delete => "delete".to_owned(),
        Action::List => {
            let seen = op.answer().map(|ret| ret.entries.len());
            seen.map_or("list".to_owned(), |seen| format!("list: {seen} entries"))
        }
        Action::Grant { .. } => "grant".to_owned(),
        Action::KeepAlive => "keep alive".to_owned(),
        Action::Revoke => "revoke".to_owned(),
        Action::Cas(cas) => {
            let asked = format!(
                "cas {} to {}",
                cas.expected.as_deref().unwrap_or("absent"),
                cas.value
            );
            let lost = op.answer().is_some_and(|ret| ret.succeeded == Some(false));
            match saw().filter(|_| lost) {
                Some(saw) => format!("{asked}: saw {saw}"),
                None => asked,
            }
        }
    }
}
