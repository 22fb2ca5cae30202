//! Availability: what share of the operations was answered, by the time at which they were due.
//!
//! Not a verdict but a measure, for both modes alike. An operation that the client's in-flight bound kept back counts
//! as unavailable. Clients stay at their node, so the operations sent to a killed node fail in either mode; gaps and
//! recovery are therefore measured at the *live* nodes, those that no kill had stopped when the operation was due.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::history::{Cause, FaultStep, History, NodeId, Op, Outcome};

/// The width of a window.
pub const WINDOW_US: u64 = 100_000;
/// The stretch that must be good for the system to count as recovered.
pub const GOOD_US: u64 = 1_000_000;

/// What became of an operation, for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Fared {
    /// Answered.
    Ok,
    /// Certainly not applied.
    Refused,
    /// Nobody knows.
    Unknown,
    /// Never sent.
    HeldBack,
}

impl Fared {
    /// Of one operation.
    pub fn of(op: &Op) -> Self {
        let held = op
            .ret
            .as_ref()
            .is_some_and(|ret| ret.cause == Some(Cause::HeldBack));
        match op.outcome() {
            Outcome::Ok => Self::Ok,
            Outcome::Fail if held => Self::HeldBack,
            Outcome::Fail => Self::Refused,
            Outcome::Unknown => Self::Unknown,
        }
    }
}

/// Counts of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Counts {
    /// Answered.
    pub ok: u64,
    /// Certainly not applied.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// Never sent.
    pub held_back: u64,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, fared: Fared) {
        let counter = match fared {
            Fared::Ok => &mut self.ok,
            Fared::Refused => &mut self.refused,
            Fared::Unknown => &mut self.unknown,
            Fared::HeldBack => &mut self.held_back,
        };
        *counter += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.ok + self.refused + self.unknown + self.held_back
    }

    /// Answered, in percent; 100 when there were none.
    pub fn ok_percent(&self) -> f64 {
        if self.total() == 0 {
            100.0
        } else {
            self.ok as f64 * 100.0 / self.total() as f64
        }
    }
}

/// One operation, as availability sees it.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When it was due, from time zero of the workload.
    pub due_us: u64,
    /// To whom.
    pub node: NodeId,
    /// What became of it.
    pub fared: Fared,
    /// When it was answered, if it was; from time zero of the workload.
    pub answered_us: Option<u64>,
    /// Whether its node was up.
    pub live: bool,
}

/// Every operation of a history, in order of `due_us`.
pub fn dues(history: &History) -> Vec<Due> {
    let start = history.header.start_us;
    let down = downtimes(history);
    let is_down = |node: NodeId, at: u64| {
        down.iter()
            .any(|&(who, from, to)| who == node && (from..to).contains(&at))
    };
    let due = |op: &Op| Due {
        due_us: op.invoke.due_us.saturating_sub(start),
        node: op.invoke.node,
        fared: Fared::of(op),
        answered_us: op.answer().map(|ret| ret.at_us.saturating_sub(start)),
        live: !is_down(op.invoke.node, op.invoke.due_us),
    };
    let mut dues: Vec<Due> = history.load().map(due).collect();
    dues.sort_by_key(|due| due.due_us);
    dues
}

/// When each killed node was down, on the lab's clock: from the request of the kill to the end of the restart.
fn downtimes(history: &History) -> Vec<(NodeId, u64, u64)> {
    let mut down = Vec::new();
    let kills = history.faults.iter().filter(|fault| fault.action.kills());
    for begin in kills
        .clone()
        .filter(|fault| fault.step == FaultStep::Requested)
    {
        let healed = kills
            .clone()
            .find(|fault| fault.fault == begin.fault && fault.step == FaultStep::Healed);
        let end = healed.map_or(u64::MAX, |fault| fault.at_us);
        down.extend(begin.nodes.iter().map(|&node| (node, begin.at_us, end)));
    }
    down
}

/// The counts of each [`WINDOW_US`] from time zero on.
pub fn windows(dues: &[Due], duration_us: u64) -> Vec<Counts> {
    let mut windows = vec![Counts::default(); duration_us.div_ceil(WINDOW_US) as usize];
    for due in dues {
        if let Some(window) = windows.get_mut((due.due_us / WINDOW_US) as usize) {
            window.add(due.fared);
        }
    }
    windows
}

/// The longest stretches without an ok answer while somebody wanted one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gaps {
    /// Nobody at any live node got an answer.
    pub everywhere_us: u64,
    /// Nobody at one live node got an answer, at the worst of them.
    pub worst_node_us: u64,
}

/// The longest gaps of the operations due in a span: from the first that waits, or fails, after an answer until the
/// next answer, or the end of the span. Where all is well that is about one latency.
pub fn gaps(dues: &[Due], from_us: u64, to_us: u64) -> Gaps {
    let live: Vec<&Due> = dues
        .iter()
        .filter(|due| due.live && (from_us..to_us).contains(&due.due_us))
        .collect();
    let nodes: BTreeSet<NodeId> = live.iter().map(|due| due.node).collect();
    let at = |node: NodeId| gap(live.iter().copied().filter(|due| due.node == node), to_us);
    Gaps {
        everywhere_us: gap(live.iter().copied(), to_us),
        worst_node_us: nodes.into_iter().map(at).max().unwrap_or(0),
    }
}

fn gap<'a>(dues: impl Iterator<Item = &'a Due>, end_us: u64) -> u64 {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for due in dues {
        match due.answered_us {
            Some(answered) => answers.push((answered, due.due_us)),
            None => failures.push(due.due_us),
        }
    }
    answers.sort_unstable();
    // For each answer, the earliest due time of those that came with it or later: who was waiting for it.
    let mut waiting_since = u64::MAX;
    let mut waits = vec![0; answers.len()];
    for (wait, &(_, due)) in waits.iter_mut().zip(&answers).rev() {
        waiting_since = waiting_since.min(due);
        *wait = waiting_since;
    }
    let (mut longest, mut last_answer) = (0, 0);
    let failed_after = |at: u64| {
        failures
            .get(failures.partition_point(|&due| due < at))
            .copied()
    };
    for (&(answered, _), &wait) in answers.iter().zip(&waits) {
        let wanted = failed_after(last_answer)
            .unwrap_or(u64::MAX)
            .min(wait)
            .max(last_answer);
        longest = longest.max(answered.saturating_sub(wanted));
        last_answer = answered;
    }
    longest.max(failed_after(last_answer).map_or(0, |due| end_us.saturating_sub(due)))
}

/// From `from_us` to the start of the first second in which at least 99 % of the operations at live nodes were
/// answered; none = not before the end of the run.
pub fn recovery_us(dues: &[Due], from_us: u64, duration_us: u64) -> Option<u64> {
    let mut windows: BTreeMap<u64, Counts> = BTreeMap::new();
    for due in dues.iter().filter(|due| due.live && due.due_us >= from_us) {
        windows
            .entry((due.due_us - from_us) / WINDOW_US)
            .or_default()
            .add(due.fared);
    }
    let last = duration_us.saturating_sub(from_us).saturating_sub(GOOD_US) / WINDOW_US;
    let good = |start: &u64| {
        let span = windows.range(*start..*start + GOOD_US / WINDOW_US);
        let (ok, total) = span.fold((0, 0), |(ok, total), (_, counts)| {
            (ok + counts.ok, total + counts.total())
        });
        total > 0 && ok * 100 >= total * 99
    };
    (0..=last).find(good).map(|window| window * WINDOW_US)
}

/// From `from_us` until all is well for good: the start of the first second from which on, at live nodes, at least 99 % of the operations
/// of every second until the end of the run were answered; none = the last second isn't good. Unlike [`recovery_us`] it isn't taken in
/// by a good second before a trouble that comes slowly, such as a queue that fills up.
pub fn well_for_good_us(dues: &[Due], from_us: u64, duration_us: u64) -> Option<u64> {
    let span_us = duration_us.saturating_sub(from_us);
    let count = (span_us / WINDOW_US) as usize;
    let mut windows = vec![Counts::default(); count];
    for due in dues.iter().filter(|due| due.live && due.due_us >= from_us) {
        if let Some(window) = windows.get_mut(((due.due_us - from_us) / WINDOW_US) as usize) {
            window.add(due.fared);
        }
    }
    let good = |second: &[Counts]| {
        let (ok, total) = second.iter().fold((0, 0), |(ok, total), counts| {
            (ok + counts.ok, total + counts.total())
        });
        ok * 100 >= total * 99
    };
    let seconds = windows.windows((GOOD_US / WINDOW_US) as usize).enumerate();
    let well = seconds.rev().take_while(|(_, second)| good(second));
    well.last().map(|(start, _)| start as u64 * WINDOW_US)
}

#[cfg(test)]
mod tests;
