//! The figures of a phase, and of the whole run.
//!
//! Not a judge: stale reads and lost writes come from their checkers. Called by the analysis.

use std::collections::BTreeSet;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::bands::Band;
use crate::checker::availability::{self, Counts, Due, Fared, Gaps};
use crate::checker::durability::Fates;
use crate::checker::staleness::Stalenesses;
use crate::history::{History, NodeId, Op};
use crate::scenario::Scenario;

/// How the system came back after a fault began (or after the heal, in a phase without one); from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Recovery {
    /// There was nothing to recover from.
    NotNeeded,
    /// The first good second began this long after the trigger, while the fault still held; in microseconds.
    After(u64),
    /// It came only once the fault was healed, this long after the trigger; in microseconds.
    OnceHealed(u64),
    /// Not before the end of the run.
    Never,
}

/// Reads and writes apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ByKind {
    /// What became of the reads.
    pub reads: Counts,
    /// What became of the writes.
    pub writes: Counts,
}

impl ByKind {
    fn add(&mut self, op: &Op) {
        let counts = if op.invoke.action.is_write() {
            &mut self.writes
        } else {
            &mut self.reads
        };
        counts.add(Fared::of(op));
    }
}

/// What became of the operations due while a fault of the phase was in force, by side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Faulted {
    /// What was done, each thing once, in order of time.
    pub labels: Vec<String>,
    /// Every node that a fault of the phase was aimed at.
    pub nodes: Vec<NodeId>,
    /// At the nodes that a fault was aimed at, while it was in force.
    pub hit: ByKind,
    /// At all others at those times.
    pub rest: ByKind,
}

/// The figures of one phase, or of the whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PhaseFigures {
    /// The phase.
    pub name: String,
    /// What became of the operations due in it.
    pub counts: Counts,
    /// Median latency from the intended start, in microseconds; a timeout enters at its timeout; none = no sample.
    pub p50_us: Option<u64>,
    /// The 99th percentile of the same.
    pub p99_us: Option<u64>,
    /// The longest stretches without an answer.
    pub gaps: Gaps,
    /// Reads that missed an acknowledged write.
    pub stale_reads: u64,
    /// The oldest answer of them, in microseconds.
    pub stale_us_max: u64,
    /// Acknowledged writes whose loss broke a promise of the mode.
    pub lost: u64,
    /// Acknowledged writes that the conflict rule discarded for a concurrent one, as the mode allows.
    pub discarded: u64,
    /// How it recovered.
    pub recovery: Recovery,
    /// What the faults of the phase did, by side; none = it had no fault.
    pub faulted: Option<Faulted>,
}

/// What the figures of a history are made from.
pub(super) struct Figures<'a> {
    history: &'a History,
    scenario: &'a Scenario,
    stale: &'a Stalenesses,
    fates: &'a Fates,
    bands: &'a [Band],
    pub(super) dues: Vec<Due>,
}

impl<'a> Figures<'a> {
    pub(super) fn new(
        history: &'a History,
        scenario: &'a Scenario,
        stale: &'a Stalenesses,
        fates: &'a Fates,
        bands: &'a [Band],
    ) -> Self {
        Self {
            history,
            scenario,
            stale,
            fates,
            bands,
            dues: availability::dues(history),
        }
    }

    /// Over the whole run, as one phase without a fault of its own.
    pub(super) fn whole(&self) -> PhaseFigures {
        PhaseFigures {
            recovery: Recovery::NotNeeded,
            faulted: None,
            ..self.span("whole run", 0, self.scenario.duration_us())
        }
    }

    /// Of the operations due from `from_us` on and before `to_us`.
    pub(super) fn span(&self, name: &str, from_us: u64, to_us: u64) -> PhaseFigures {
        let start = self.history.header.start_us;
        let span = from_us..to_us;
        let inside = |due_us: u64| span.contains(&due_us.saturating_sub(start));
        let mut counts = Counts::default();
        for due in self.dues.iter().filter(|due| span.contains(&due.due_us)) {
            counts.add(due.fared);
        }
        let stale = self.stale.stale.iter().filter(|read| inside(read.due_us));
        let writes = self.fates.writes.iter();
        let writes = writes.filter(|write| inside(write.due_us));
        let ops = self.history.load();
        let latencies = latencies(ops.filter(|op| inside(op.invoke.due_us)));
        let quantile = |q| (!latencies.is_empty()).then(|| latencies.value_at_quantile(q));
        PhaseFigures {
            name: name.to_owned(),
            counts,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            gaps: availability::gaps(&self.dues, from_us, to_us),
            stale_reads: stale.clone().count() as u64,
            stale_us_max: stale.map(|read| read.t_us).max().unwrap_or(0),
            lost: writes.clone().filter(|write| write.broken).count() as u64,
            discarded: writes.filter(|write| write.discarded).count() as u64,
            recovery: self.recovery(from_us, to_us),
            faulted: self.faulted(from_us, to_us),
        }
    }

    /// The faults of a phase: those that began in it, and those that held for at least half of it.
    fn bands_of(&self, from_us: u64, to_us: u64) -> Vec<&'a Band> {
        let held = |band: &Band| {
            band.to_us
                .min(to_us)
                .saturating_sub(band.from_us.max(from_us))
        };
        let belongs = |band: &&Band| {
            (from_us..to_us).contains(&band.from_us) || held(band) * 2 >= to_us - from_us
        };
        self.bands.iter().filter(belongs).collect()
    }

    fn faulted(&self, from_us: u64, to_us: u64) -> Option<Faulted> {
        let bands = self.bands_of(from_us, to_us);
        let mut faulted = Faulted::default();
        for band in &bands {
            if !faulted.labels.contains(&band.label) {
                faulted.labels.push(band.label.clone());
            }
            faulted.nodes.extend(&band.nodes);
        }
        faulted.nodes.sort_unstable();
        faulted.nodes.dedup();
        let aimed: Vec<(&Band, BTreeSet<NodeId>)> = bands
            .iter()
            .map(|band| (*band, band.nodes.iter().copied().collect()))
            .collect();
        for op in self.history.load() {
            let start = self.history.header.start_us;
            let due = op.invoke.due_us.saturating_sub(start);
            let in_force = |band: &Band| (band.from_us..band.to_us).contains(&due);
            let mut held = aimed.iter().filter(|(band, _)| in_force(band)).peekable();
            if !(from_us..to_us).contains(&due) || held.peek().is_none() {
                continue;
            }
            let side = if held.any(|(_, nodes)| nodes.contains(&op.invoke.node)) {
                &mut faulted.hit
            } else {
                &mut faulted.rest
            };
            side.add(op);
        }
        (!bands.is_empty()).then_some(faulted)
    }

    /// From the first fault that began in the span; where none did, from the heal of one that ended in it.
    fn recovery(&self, from_us: u64, to_us: u64) -> Recovery {
        let span = from_us..to_us;
        let recovered =
            |at_us| availability::recovery_us(&self.dues, at_us, self.scenario.duration_us());
        let begun = self.bands.iter();
        let begun = begun.filter(|band| span.contains(&band.from_us));
        if let Some(first) = begun.clone().next() {
            let healed = begun
                .map(|band| band.heal_us)
                .max()
                .unwrap_or(first.heal_us);
            return match recovered(first.asked_us) {
                None => Recovery::Never,
                // The whole good second must lie in the fault: one at its very end is the heal's doing.
                Some(us) if first.asked_us + us + availability::GOOD_US <= healed => {
                    Recovery::After(us)
                }
                Some(us) => Recovery::OnceHealed(us),
            };
        }
        let ended = self.bands.iter().filter(|band| span.contains(&band.to_us));
        let Some(asked_us) = ended.map(|band| band.heal_us).max() else {
            return Recovery::NotNeeded;
        };
        recovered(asked_us).map_or(Recovery::Never, Recovery::After)
    }
}

/// Anything longer counts as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// From the intended start. Answers count as long as they took, an unknown outcome at least its timeout; refusals
/// and what was held back are no latencies.
fn latencies<'a>(ops: impl Iterator<Item = &'a Op>) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
        .expect("the bounds are in order and three digits are allowed");
    for op in ops {
        let waited = op
            .returned_us()
            .map_or(0, |at| at.saturating_sub(op.invoke.due_us));
        match Fared::of(op) {
            Fared::Ok => histogram.saturating_record(waited),
            Fared::Unknown => histogram.saturating_record(waited.max(op.invoke.timeout_us)),
            Fared::Refused | Fared::HeldBack => {}
        }
    }
    histogram
}
