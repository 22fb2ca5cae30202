//! A scenario as people write it: a TOML file, parsed into a [`Scenario`] or refused with what is wrong and where.
//!
//! `docs/lab.md` describes the schema. Everything but the name, what it teaches and the duration has a default.

use serde::{Deserialize, Serialize};

use super::{Contrast, Fault, FaultKind, Flood, Limits, Micros, Phase, Scale, Scenario, check};
use crate::workload::Workload;

/// Why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It isn't TOML, or a field is unknown, missing or of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// A fault is wrong.
    #[error("fault {number}: {what}")]
    Fault {
        /// Its place, from 1.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// The parts don't fit together.
    #[error("{0}")]
    Senseless(String),
}

/// The file. Faults are read in a second step, so that each error names its fault.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    teaches: String,
    duration: Micros,
    #[serde(default = "seed")]
    seed: u64,
    #[serde(default = "nodes")]
    nodes: u32,
    #[serde(default = "election_timeout")]
    election_timeout: Micros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    floor_rate: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot_entries: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contrast: Option<Contrast>,
    #[serde(default = "Workload::usual")]
    workload: Workload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<Scale>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flood: Option<Flood>,
    #[serde(default, rename = "fault")]
    faults: Vec<toml::Table>,
}

const fn seed() -> u64 {
    1
}

const fn nodes() -> u32 {
    5
}

const fn election_timeout() -> Micros {
    Micros::millis(1_250)
}

/// Parses a scenario.
///
/// # Errors
/// What is wrong, with the line where the parser knows it, and what is allowed.
pub(super) fn parse(text: &str) -> Result<Scenario, FileError> {
    let file: File =
        toml::from_str(text).map_err(|error| FileError::Syntax(error.to_string().trim().into()))?;
    let mut faults = Vec::new();
    for (number, table) in (1..).zip(&file.faults) {
        let wrong = |what| FileError::Fault { number, what };
        let fault = fault(table.clone()).map_err(wrong)?;
        check::fault(&fault, file.nodes, file.duration).map_err(wrong)?;
        faults.push(fault);
    }
    faults.sort_by_key(|fault| fault.start_us);
    let floor_rate = file
        .floor_rate
        .unwrap_or_else(|| (file.workload.rate / 2).min(50));
    let scenario = Scenario {
        phases: phases(&faults, file.flood.as_ref(), file.duration.0),
        name: file.name,
        teaches: file.teaches,
        seed: file.seed,
        nodes: file.nodes,
        workload: file.workload,
        faults,
        election_timeout_ms: file.election_timeout.0 / 1_000,
        floor_rate,
        snapshot_entries: file.snapshot_entries,
        scale: file.scale,
        limits: file.limits,
        flood: file.flood,
        contrast: file.contrast,
    };
    check::scenario(&scenario).map_err(FileError::Senseless)?;
    Ok(scenario)
}

/// The file of a scenario: what [`parse`] makes the same scenario of.
pub(super) fn render(scenario: &Scenario) -> String {
    let fault = |fault: &Fault| {
        let mut table =
            toml::Table::try_from(&fault.kind).expect("a fault is a table of plain values");
        let lasts = Micros(fault.end_us - fault.start_us);
        table.insert("at".to_owned(), Micros(fault.start_us).to_string().into());
        table.insert("lasts".to_owned(), lasts.to_string().into());
        table
    };
    let file = File {
        name: scenario.name.clone(),
        teaches: scenario.teaches.clone(),
        duration: Micros(scenario.duration_us()),
        seed: scenario.seed,
        nodes: scenario.nodes,
        election_timeout: Micros::millis(scenario.election_timeout_ms),
        floor_rate: Some(scenario.floor_rate),
        snapshot_entries: scenario.snapshot_entries,
        workload: scenario.workload,
        scale: scenario.scale.clone(),
        limits: scenario.limits,
        flood: scenario.flood,
        contrast: scenario.contrast,
        faults: scenario.faults.iter().map(fault).collect(),
    };
    toml::to_string(&file).expect("a scenario is of plain values")
}

fn fault(mut table: toml::Table) -> Result<Fault, String> {
    let mut span = |name: &str| -> Result<Option<Micros>, String> {
        let Some(value) = table.remove(name) else {
            return Ok(None);
        };
        let parsed = value.try_into::<Micros>();
        parsed
            .map(Some)
            .map_err(|error| format!("`{name}`: {}", error.message()))
    };
    let at = span("at")?.ok_or("`at` is missing: when it begins, such as \"5s\"")?;
    let lasts =
        span("lasts")?.ok_or("`lasts` is missing: for how long it holds, such as \"3s\"")?;
    let kind: FaultKind = toml::Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| error.message().to_owned())?;
    let end_us = at.0.checked_add(lasts.0);
    Ok(Fault {
        kind,
        start_us: at.0,
        end_us: end_us.ok_or_else(|| format!("from {at} for {lasts}: that is for ever"))?,
    })
}

/// A phase for each stretch in which the same faults hold, and the flood, named by them; stretches shorter than a second go with the next.
pub(super) fn phases(faults: &[Fault], flood: Option<&Flood>, duration_us: u64) -> Vec<Phase> {
    const SHORT_US: u64 = 1_000_000;
    let mut edges: Vec<u64> = faults
        .iter()
        .flat_map(|fault| [fault.start_us, fault.end_us])
        .chain(
            flood
                .into_iter()
                .flat_map(|flood| [flood.at.0, flood.end_us()]),
        )
        .filter(|&edge| edge < duration_us)
        .chain([0])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let mut phases: Vec<Phase> = Vec::new();
    let mut from_us = 0;
    for (place, &edge) in edges.iter().enumerate() {
        let end_us = edges.get(place + 1).copied().unwrap_or(duration_us);
        let is_last = end_us == duration_us;
        if end_us - from_us < SHORT_US && !is_last {
            continue;
        }
        // What holds at the end of the stretch: at its start a short one may have gone before.
        let name = name(faults, flood, edge.max(from_us));
        let duration_us = end_us - from_us;
        match phases.last_mut().filter(|last| last.name == name) {
            Some(last) => last.duration_us += duration_us,
            None => phases.push(Phase { name, duration_us }),
        }
        from_us = end_us;
    }
    phases
}

fn name(faults: &[Fault], flood: Option<&Flood>, at_us: u64) -> String {
    let holds = |fault: &&Fault| (fault.start_us..fault.end_us).contains(&at_us);
    let mut words: Vec<String> = faults
        .iter()
        .filter(holds)
        .map(|fault| format!("{} {}", fault.kind.target(), fault.kind.action().words()))
        .collect();
    words.dedup();
    let floods = flood.filter(|flood| (flood.at.0..flood.end_us()).contains(&at_us));
    words.extend(floods.map(Flood::words));
    let over = faults.iter().any(|fault| fault.end_us <= at_us)
        || flood.is_some_and(|flood| flood.end_us() <= at_us);
    match (words.is_empty(), over) {
        (false, _) => words.join(", "),
        (true, true) => "healed".to_owned(),
        (true, false) => "steady".to_owned(),
    }
}

#[cfg(test)]
mod tests;
