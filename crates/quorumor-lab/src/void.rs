//! When a run says nothing: too little traffic, a fault that never bit, a lab that was late itself.
//!
//! Not a verdict about the system. A void run is never a pass; the reasons are printed in place of a verdict.

use serde::{Deserialize, Serialize};

use crate::checker::availability::{Fared, dues};
use crate::history::{EventKind, FaultAction, FaultRecord, FaultStep, History, Mode, World};

/// The overshoot of a 10 ms sleeper that 99 % of the samples must stay below.
const OVERSHOOT_P99_US_MAX: u64 = 20_000;
/// How late 99 % of the operations may have been sent.
const SEND_DELAY_P99_US_MAX: u64 = 10_000;

/// Why a run may not be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum VoidReason {
    /// The run did not reach its end.
    Incomplete,
    /// Too few operations succeeded before the first fault.
    TooLittleTraffic {
        /// Per second.
        rate: u64,
        /// What was needed.
        floor: u64,
    },
    /// A fault of the schedule never came into force, or left no trace.
    FaultNeverBit {
        /// Its place in the schedule.
        fault: u32,
        /// What is missing.
        missing: String,
    },
    /// No call of the flood was answered or turned away.
    NoFlood,
    /// Nobody measured whether the lab itself was late.
    LagNotMeasured,
    /// The lab was starved: it slept too long.
    LabOverslept {
        /// 99 % of the overshoots were below.
        p99_us: u64,
        /// The longest.
        max_us: u64,
    },
    /// The lab was starved: it sent too late.
    LabSentLate {
        /// 99 % were sent within.
        p99_us: u64,
    },
}

impl VoidReason {
    /// The reason for a person.
    pub fn text(&self) -> String {
        match self {
            Self::Incomplete => "the run was cut short: its history has no last line".to_owned(),
            Self::TooLittleTraffic { rate, floor } => {
                format!(
                    "only {rate} operations/s succeeded before the first fault; at least {floor} are needed"
                )
            }
            Self::FaultNeverBit { fault, missing } => {
                format!("fault {} never bit: {missing}", fault + 1)
            }
            Self::NoFlood => {
                "the flood never came: none of its calls was answered or turned away".to_owned()
            }
            Self::LagNotMeasured => "nobody measured whether the lab itself was late".to_owned(),
            Self::LabOverslept { p99_us, max_us } => format!(
                "the machine was too busy: the lab's 10 ms sleeps overshot by {} ms (p99) and {} ms (worst)",
                p99_us / 1_000,
                max_us / 1_000
            ),
            Self::LabSentLate { p99_us } => {
                format!(
                    "the machine was too busy: operations were sent {} ms late (p99)",
                    p99_us / 1_000
                )
            }
        }
    }
}

/// Every reason why this run may not be judged; none = it may.
pub fn reasons(history: &History) -> Vec<VoidReason> {
    let mut reasons = Vec::new();
    if !history.is_complete() {
        reasons.push(VoidReason::Incomplete);
    }
    reasons.extend(traffic(history));
    for (fault, planned) in (0..).zip(&history.header.scenario.faults) {
        let missing = missing(history, fault, planned.kind.action());
        reasons.extend(missing.map(|missing| VoidReason::FaultNeverBit {
            fault,
            missing: missing.to_owned(),
        }));
    }
    match history.header.world {
        World::Simulated => {}
        World::Cluster => lag(history, &mut reasons),
    }
    reasons
}

fn traffic(history: &History) -> Option<VoidReason> {
    let scenario = &history.header.scenario;
    let before_us = scenario
        .trouble_us()
        .map_or(scenario.duration_us(), |(from_us, _)| from_us);
    let ok = dues(history)
        .iter()
        .filter(|due| due.due_us < before_us && due.fared == Fared::Ok)
        .count() as u64;
    let rate = ok * 1_000_000 / before_us.max(1);
    (rate < scenario.floor_rate).then_some(VoidReason::TooLittleTraffic {
        rate,
        floor: scenario.floor_rate,
    })
}

fn step(
    history: &History,
    fault: u32,
    action: FaultAction,
    step: FaultStep,
) -> Option<&FaultRecord> {
    history
        .faults
        .iter()
        .find(|record| record.fault == fault && record.action == action && record.step == step)
}

/// What is missing of the trace that a fault must leave.
fn missing(history: &History, fault: u32, action: FaultAction) -> Option<&'static str> {
    match action {
        // A node that refuses its disk stays down, and is right to.
        FaultAction::Wipe | FaultAction::TearLog | FaultAction::FlipBit => {
            let hit = step(history, fault, action, FaultStep::Effective);
            hit.is_none().then_some("no disk was damaged")
        }
        FaultAction::Kill | FaultAction::PowerCut => kill_missing(history, fault, action),
        FaultAction::Partition
        | FaultAction::CutOut
        | FaultAction::CutIn
        | FaultAction::Bridge
        | FaultAction::Ring
        | FaultAction::Flap => cut_missing(history, fault, action),
        FaultAction::Weather
        | FaultAction::Pause
        | FaultAction::Starve
        | FaultAction::SlowDisk
        | FaultAction::FullDisk
        | FaultAction::DiskError
        | FaultAction::ClockJump
        | FaultAction::ClockDrift
        | FaultAction::CutClients
        | FaultAction::Replace
        | FaultAction::Join => hits_missing(history, fault, action),
    }
}

fn hits_missing(history: &History, fault: u32, action: FaultAction) -> Option<&'static str> {
    let records = history.faults.iter();
    let hits = records
        .filter(|record| record.fault == fault && record.action == action)
        .map(|record| record.hits);
    match hits.max() {
        None => Some("it was never carried out"),
        Some(0) => Some("it left no trace"),
        Some(_) => None,
    }
}

fn kill_missing(history: &History, fault: u32, action: FaultAction) -> Option<&'static str> {
    let Some(killed) = step(history, fault, action, FaultStep::Effective) else {
        return Some("no node was killed");
    };
    let healed = step(history, fault, action, FaultStep::Healed);
    let Some(healed) = healed else {
        return Some("the killed node did not come back");
    };
    let span = killed.at_us..=healed.at_us;
    let refused = history.ops.iter().any(|op| {
        let at_node = killed.nodes.contains(&op.invoke.node);
        at_node && span.contains(&op.invoke.at_us) && Fared::of(op) != Fared::Ok
    });
    let new_leader = history.events.iter().any(|event| match event.kind {
        EventKind::Leader { leader, .. } => {
            event.at_us >= killed.at_us && !killed.nodes.contains(&leader)
        }
        EventKind::Member { .. } | EventKind::Out(_) | EventKind::Note(_) => false,
    });
    match history.header.mode {
        Mode::Strong if !new_leader && !refused => {
            Some("no other leader was seen and nothing was refused")
        }
        Mode::Eventual if !refused => Some("no client of the killed node noticed"),
        Mode::Strong | Mode::Eventual => None,
    }
}

fn cut_missing(history: &History, fault: u32, action: FaultAction) -> Option<&'static str> {
    let Some(cut) = step(history, fault, action, FaultStep::Effective) else {
        return Some("no link was cut");
    };
    let Some(end) = step(history, fault, action, FaultStep::HealRequested)
        .or_else(|| step(history, fault, action, FaultStep::Healed))
    else {
        return Some("the cut was never healed");
    };
    let stopped = |record: &FaultRecord| {
        record
            .links
            .iter()
            .map(|link| link.drops + link.held)
            .sum::<u64>()
    };
    (stopped(end) <= stopped(cut)).then_some("the cut links had nothing to drop")
}

fn lag(history: &History, reasons: &mut Vec<VoidReason>) {
    let overshoots: Vec<u64> = history
        .lag
        .iter()
        .flat_map(|lag| lag.overshoot_us.iter().copied())
        .collect();
    let max_us = overshoots.iter().copied().max().unwrap_or(0);
    let half_election_us = history.header.scenario.election_timeout_ms * 1_000 / 2;
    match p99(overshoots) {
        None => reasons.push(VoidReason::LagNotMeasured),
        Some(p99_us) if p99_us > OVERSHOOT_P99_US_MAX || max_us > half_election_us => {
            reasons.push(VoidReason::LabOverslept { p99_us, max_us });
        }
        Some(_) => {}
    }
    let sent = history
        .ops
        .iter()
        .filter(|op| Fared::of(op) != Fared::HeldBack);
    let late = p99(sent
        .map(|op| op.invoke.at_us.saturating_sub(op.invoke.due_us))
        .collect());
    if let Some(p99_us) = late.filter(|&p99_us| p99_us > SEND_DELAY_P99_US_MAX) {
        reasons.push(VoidReason::LabSentLate { p99_us });
    }
}

fn p99(mut samples: Vec<u64>) -> Option<u64> {
    samples.sort_unstable();
    let last = samples.len().checked_sub(1)?;
    samples.get(last * 99 / 100).copied()
}

#[cfg(test)]
mod tests;
