//! From one history to the figures and verdicts of its mode.
//!
//! Not a judge of its own: it calls the checkers and the void rules, and counts. Called by `compare` for each mode.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checker::availability::{self, Counts, Due, Fared, Gaps};
use crate::checker::durability::{self, FateCounts, Fates};
use crate::checker::staleness::{self, Stalenesses};
use crate::checker::{Finding, Verdict, convergence, linearizable, phantom, revisions, session};
use crate::history::{FaultAction, FaultRecord, FaultStep, History, Mode, Op};
use crate::scenario::Scenario;
use crate::void::{self, VoidReason};

/// How the system came back after a fault began (or after the heal, in a phase without one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// There was nothing to recover from.
    NotNeeded,
    /// The first good second began this long after the trigger, while the fault still held.
    After(u64),
    /// It came only once the fault was healed, this long after the trigger.
    OnceHealed(u64),
    /// Not before the end of the run.
    Never,
}

/// The figures of one phase, or of the whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseFigures {
    /// The phase.
    pub name: String,
    /// What became of the operations due in it.
    pub counts: Counts,
    /// Median latency from the intended start; a timeout enters at its timeout; none = no sample.
    pub p50_us: Option<u64>,
    /// The 99th percentile of the same.
    pub p99_us: Option<u64>,
    /// The longest stretches without an answer.
    pub gaps: Gaps,
    /// Reads that missed an acknowledged write.
    pub stale_reads: u64,
    /// The oldest answer of them.
    pub stale_us_max: u64,
    /// Acknowledged writes whose loss broke a promise of the mode.
    pub lost: u64,
    /// Acknowledged writes that the conflict rule discarded for a concurrent one, as the mode allows.
    pub discarded: u64,
    /// How it recovered.
    pub recovery: Recovery,
}

/// A span of time in which a fault held, for the plots; from time zero of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// From.
    pub from_us: u64,
    /// To.
    pub to_us: u64,
    /// The nodes that the role was resolved to.
    pub who: String,
    /// What was done to them.
    pub action: FaultAction,
}

impl Band {
    /// What happened to whom, in a few words.
    pub fn label(&self) -> String {
        match self.action {
            FaultAction::Kill => format!("{} killed", self.who),
            FaultAction::Partition => format!("{} cut off", self.who),
        }
    }
}

/// One operation in the latency scatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When it was due, from time zero of the workload.
    pub due_us: u64,
    /// From then until it ended.
    pub latency_us: u64,
    /// What became of it.
    pub fared: Fared,
}

/// Everything that the report says about one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModeResult {
    /// The mode.
    pub mode: Mode,
    /// What the nodes were told about syncing.
    pub fsync: String,
    /// The build under test.
    pub build: String,
    /// The worst of the findings.
    pub verdict: Verdict,
    /// Why the run may not be judged; empty = it may.
    pub void: Vec<VoidReason>,
    /// One per phase.
    pub phases: Vec<PhaseFigures>,
    /// Over the whole run.
    pub total: PhaseFigures,
    /// From the checkers, in the order of their properties.
    pub findings: Vec<Finding>,
    /// What became of the acknowledged writes.
    pub fates: FateCounts,
    /// Eventual: what the conflict ledger lists as discarded.
    pub ledger: Option<u64>,
    /// From the last heal until all nodes were equal.
    pub converge_us: Option<u64>,
    /// When faults held.
    pub bands: Vec<Band>,
    /// The counts of each 100 ms from time zero on.
    pub windows: Vec<Counts>,
    /// How long operations were due.
    pub duration_us: u64,
    /// For the scatter; the history has them all, so the JSON leaves them out.
    #[serde(skip)]
    pub scatter: Vec<Point>,
}

impl ModeResult {
    /// True if a checker found a broken promise.
    pub fn is_broken(&self) -> bool {
        self.verdict == Verdict::Invalid
    }

    /// True if nobody can say that the promises were kept: the run is void, or a checker could not decide.
    pub fn is_void(&self) -> bool {
        !self.void.is_empty() || self.verdict == Verdict::Unknown
    }
}

/// Judges one history and counts its figures. `scenario` is the one that was run; its phases divide the figures.
pub fn analyse(history: &History, scenario: &Scenario) -> ModeResult {
    let stale = staleness::check(history);
    let fates = durability::check(history);
    let convergence = convergence::check(history, &stale.stale);
    let mut findings = Vec::new();
    if history.header.mode == Mode::Strong {
        let reads = linearizable::Reads::Claimed;
        findings.push(linearizable::check(
            history,
            reads,
            linearizable::STEP_BUDGET,
        ));
        findings.push(revisions::check(history));
    }
    findings.push(phantom::check(history));
    findings.push(fates.finding.clone());
    findings.push(session::check(history).finding);
    findings.push(stale.finding.clone());
    findings.push(convergence.finding);

    let figures = Figures::new(history, scenario, &stale, &fates);
    let spans = scenario.spans();
    let phase = |(phase, &(from, to)): (&crate::scenario::Phase, &(u64, u64))| {
        figures.span(&phase.name, from, to)
    };
    let mut total = figures.span("whole run", 0, scenario.duration_us());
    total.recovery = Recovery::NotNeeded;
    ModeResult {
        mode: history.header.mode,
        fsync: history.header.fsync.clone(),
        build: history.header.build.clone(),
        verdict: findings
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap_or(Verdict::Unknown),
        void: void::reasons(history),
        phases: scenario.phases.iter().zip(&spans).map(phase).collect(),
        total,
        findings,
        fates: fates.counts,
        ledger: fates.ledger,
        converge_us: convergence.after_heal_us,
        bands: bands(history, scenario),
        windows: availability::windows(&figures.dues, scenario.duration_us()),
        duration_us: scenario.duration_us(),
        scatter: scatter(history),
    }
}

struct Figures<'a> {
    history: &'a History,
    scenario: &'a Scenario,
    stale: &'a Stalenesses,
    fates: &'a Fates,
    dues: Vec<Due>,
}

impl<'a> Figures<'a> {
    fn new(
        history: &'a History,
        scenario: &'a Scenario,
        stale: &'a Stalenesses,
        fates: &'a Fates,
    ) -> Self {
        Self {
            history,
            scenario,
            stale,
            fates,
            dues: availability::dues(history),
        }
    }

    fn span(&self, name: &str, from_us: u64, to_us: u64) -> PhaseFigures {
        let start = self.history.header.start_us;
        let inside = |due_us: u64| (from_us..to_us).contains(&due_us.saturating_sub(start));
        let mut counts = Counts::default();
        for due in self
            .dues
            .iter()
            .filter(|due| (from_us..to_us).contains(&due.due_us))
        {
            counts.add(due.fared);
        }
        let stale: Vec<_> = self
            .stale
            .stale
            .iter()
            .filter(|read| inside(read.due_us))
            .collect();
        let writes: Vec<_> = self
            .fates
            .writes
            .iter()
            .filter(|write| inside(write.due_us))
            .collect();
        let latencies = latencies(
            self.history
                .ops
                .iter()
                .filter(|op| inside(op.invoke.due_us)),
        );
        let quantile = |q| (!latencies.is_empty()).then(|| latencies.value_at_quantile(q));
        PhaseFigures {
            name: name.to_owned(),
            counts,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            gaps: availability::gaps(&self.dues, from_us, to_us),
            stale_reads: stale.len() as u64,
            stale_us_max: stale.iter().map(|read| read.t_us).max().unwrap_or(0),
            lost: writes.iter().filter(|write| write.broken).count() as u64,
            discarded: writes.iter().filter(|write| write.discarded).count() as u64,
            recovery: self.recovery(from_us, to_us),
        }
    }

    /// From the fault that began in the span; where none did, from the heal of the one that ended at its start.
    fn recovery(&self, from_us: u64, to_us: u64) -> Recovery {
        let duration_us = self.scenario.duration_us();
        let begun = (0..)
            .zip(&self.scenario.faults)
            .find(|(_, fault)| (from_us..to_us).contains(&fault.start_us));
        if let Some((fault, planned)) = begun {
            let began = self
                .step_us(fault, FaultStep::Requested)
                .unwrap_or(planned.start_us);
            let healed = self
                .step_us(fault, FaultStep::HealRequested)
                .unwrap_or(planned.end_us);
            return match availability::recovery_us(&self.dues, began, duration_us) {
                None => Recovery::Never,
                // The whole good second must lie in the fault: one at its very end is the heal's doing.
                Some(us) if began + us + availability::GOOD_US <= healed => Recovery::After(us),
                Some(us) => Recovery::OnceHealed(us),
            };
        }
        let ended = (0..)
            .zip(&self.scenario.faults)
            .find(|(_, fault)| fault.end_us == from_us);
        let Some((fault, planned)) = ended else {
            return Recovery::NotNeeded;
        };
        let asked = self
            .step_us(fault, FaultStep::HealRequested)
            .unwrap_or(planned.end_us);
        availability::recovery_us(&self.dues, asked, duration_us)
            .map_or(Recovery::Never, Recovery::After)
    }

    /// When a fault reached a step, from time zero of the workload.
    fn step_us(&self, fault: u32, step: FaultStep) -> Option<u64> {
        let record = self
            .history
            .faults
            .iter()
            .find(|record| record.fault == fault && record.step == step)?;
        Some(record.at_us.saturating_sub(self.history.header.start_us))
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

fn scatter(history: &History) -> Vec<Point> {
    let point = |op: &Op| {
        let fared = Fared::of(op);
        let waited = op.returned_us().map_or(op.invoke.timeout_us, |at| {
            at.saturating_sub(op.invoke.due_us)
        });
        let due_us = op.invoke.due_us.saturating_sub(history.header.start_us);
        (fared != Fared::HeldBack).then_some(Point {
            due_us,
            latency_us: waited,
            fared,
        })
    };
    let mut points: Vec<Point> = history.ops.iter().filter_map(point).collect();
    points.sort_by_key(|point| point.due_us);
    points
}

fn bands(history: &History, scenario: &Scenario) -> Vec<Band> {
    let start = history.header.start_us;
    let mut bands = Vec::new();
    for begun in history
        .faults
        .iter()
        .filter(|record| record.step == FaultStep::Effective)
    {
        let healed = history
            .faults
            .iter()
            .find(|r| r.fault == begun.fault && r.step == FaultStep::Healed);
        let to_us = healed.map_or(scenario.duration_us(), |record| {
            record.at_us.saturating_sub(start)
        });
        bands.push(Band {
            from_us: begun.at_us.saturating_sub(start),
            to_us,
            who: who(begun),
            action: begun.action,
        });
    }
    bands
}

fn who(record: &FaultRecord) -> String {
    let nodes: Vec<String> = record.nodes.iter().map(|node| node.0.to_string()).collect();
    let noun = if nodes.len() == 1 { "node" } else { "nodes" };
    format!("{noun} {}", nodes.join(" and "))
}
