//! When faults held, and what to call them: the one place that gives a fault its words.
//!
//! Not the schedule: only what the history says was in force. Called by the analysis; the report shows the bands.

use serde::{Deserialize, Serialize};

use crate::history::{FaultAction, FaultStep, History, NodeId};
use crate::scenario::Scenario;

/// A span of time in which a fault held; from time zero of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Band {
    /// Its place in the schedule, from 0; a flood is behind all faults.
    pub fault: u32,
    /// When it was asked for, in microseconds.
    pub asked_us: u64,
    /// From when it was in force, in microseconds.
    pub from_us: u64,
    /// When its end was asked for, in microseconds.
    pub heal_us: u64,
    /// Until when it was in force, in microseconds.
    pub to_us: u64,
    /// The nodes that it was aimed at; of a flood none, since it comes to all.
    pub nodes: Vec<NodeId>,
    /// What happened to whom, in a few words.
    pub label: String,
}

/// What a fault does to these nodes, in a few words.
pub fn fault_label(action: FaultAction, nodes: &[NodeId]) -> String {
    format!("{} {}", nodes_text(nodes), action.words())
}

/// "node 3", "nodes 2 and 3", "nodes 1, 2 and 5"; of many nodes, how many.
pub fn nodes_text(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| node.0.to_string()).collect();
    match names.as_slice() {
        [] => "the network".to_owned(),
        [one] => format!("node {one}"),
        [first @ .., last] if names.len() <= 7 => {
            format!("nodes {} and {last}", first.join(", "))
        }
        many => format!("{} nodes", many.len()),
    }
}

/// The faults that came into force, and the flood, in order of that. One that was never healed holds until the end.
pub(super) fn bands(history: &History, scenario: &Scenario) -> Vec<Band> {
    let since_start = |at_us: u64| at_us.saturating_sub(history.header.start_us);
    let step = |fault: u32, step: FaultStep| {
        let mut records = history.faults.iter();
        let record = records.find(|record| record.fault == fault && record.step == step)?;
        Some(since_start(record.at_us))
    };
    let effective = history.faults.iter();
    let effective = effective.filter(|record| record.step == FaultStep::Effective);
    let mut bands: Vec<Band> = effective
        .map(|record| {
            let from_us = since_start(record.at_us);
            let to_us = step(record.fault, FaultStep::Healed).unwrap_or(scenario.duration_us());
            Band {
                fault: record.fault,
                asked_us: step(record.fault, FaultStep::Requested).unwrap_or(from_us),
                from_us,
                heal_us: step(record.fault, FaultStep::HealRequested).unwrap_or(to_us),
                to_us,
                nodes: record.nodes.clone(),
                label: fault_label(record.action, &record.nodes),
            }
        })
        .collect();
    bands.extend(scenario.flood.iter().map(|flood| Band {
        fault: scenario.faults.len() as u32,
        asked_us: flood.at.0,
        from_us: flood.at.0,
        heal_us: flood.end_us(),
        to_us: flood.end_us(),
        nodes: Vec::new(),
        label: flood.words(),
    }));
    bands.sort_by_key(|band| (band.from_us, band.fault));
    bands
}
