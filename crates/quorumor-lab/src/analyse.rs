//! From one history to the figures, series and verdicts of its run.
//!
//! Not a judge of its own: it calls the checkers and the void rules, and counts. Called by `compare` for each run.

mod bands;
mod converging;
mod figures;
mod freshness;
mod scatter;
mod strain;
mod views;
mod witness;

use serde::{Deserialize, Serialize};

use crate::checker::availability::{self, Counts};
use crate::checker::durability::FateCounts;
use crate::checker::linearizable::Reads;
use crate::checker::{self, Finding, Judged, Verdict};
use crate::history::{History, Mode};
use crate::scenario::{Phase, Scenario};
use crate::void::{self, VoidReason};

pub use bands::{Band, fault_label, nodes_text};
pub use converging::Converging;
pub use figures::{ByKind, Faulted, PhaseFigures, Recovery};
pub use freshness::{FreshBin, Freshness};
pub use scatter::{Point, Scatter};
pub use strain::{FloodCounts, LeaseCounts, Strain};
pub use views::{Belief, LeaderSeen};
pub use witness::{Bar, Lane, Witness};

/// Everything that the report says about one run of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunResult {
    /// Load and faults followed from it.
    pub seed: u64,
    /// The mode by whose promises it was judged.
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
    /// The evidence of the findings, with the interval of each operation.
    pub witnesses: Vec<Witness>,
    /// What became of the acknowledged writes.
    pub fates: FateCounts,
    /// Eventual: what the conflict ledger lists as discarded.
    pub ledger: Option<u64>,
    /// From the last heal until all nodes were equal, in microseconds.
    pub converge_us: Option<u64>,
    /// When faults held.
    pub bands: Vec<Band>,
    /// The counts of each 100 ms from time zero on.
    pub windows: Vec<Counts>,
    /// Reads that saw the newest acknowledged write, by the time since its acknowledgement.
    pub freshness: Freshness,
    /// How long nodes and writes took to converge.
    pub converging: Converging,
    /// Changes of what a node believed about another, in order of time.
    pub beliefs: Vec<Belief>,
    /// Changes of whom a node took for the leader, in order of time.
    pub leaders: Vec<LeaderSeen>,
    /// How the load fared while something was wrong; none = the scenario isn't about overload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strain: Option<Strain>,
    /// How long operations were due, in microseconds.
    pub duration_us: u64,
    /// For the scatter; the history has every operation, so the JSON leaves them out.
    #[serde(skip)]
    pub scatter: Scatter,
}

impl RunResult {
    /// Adds what was judged beside the history.
    pub fn add(&mut self, finding: Finding) {
        self.verdict = self.verdict.max(finding.verdict);
        self.findings.push(finding);
    }

    /// Adds what became of the flood, which isn't in the history. One that never came makes the run void.
    pub fn add_flood(&mut self, flood: FloodCounts) {
        if flood.answered + flood.shed == 0 {
            self.void.push(VoidReason::NoFlood);
        }
        if let Some(strain) = &mut self.strain {
            strain.flood = Some(flood);
        }
    }

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
pub fn analyse(history: &History, scenario: &Scenario) -> RunResult {
    analyse_as(history, scenario, Reads::Claimed)
}

/// As [`analyse`]; with [`Reads::All`] every read is judged as if it had claimed to be linearizable.
pub fn analyse_as(history: &History, scenario: &Scenario, reads: Reads) -> RunResult {
    let Judged {
        findings,
        stale,
        fates,
        convergence,
        ..
    } = checker::judge_reads(history, reads);
    let bands = bands::bands(history, scenario);
    let figures = figures::Figures::new(history, scenario, &stale, &fates, &bands);
    let phase = |(phase, (from, to)): (&Phase, (u64, u64))| figures.span(&phase.name, from, to);
    let phases = scenario.phases.iter().zip(scenario.spans());
    let phases: Vec<PhaseFigures> = phases.map(phase).collect();
    let total = figures.whole();
    let windows = availability::windows(&figures.dues, scenario.duration_us());
    RunResult {
        seed: history.header.scenario.seed,
        mode: history.header.mode,
        fsync: history.header.fsync.clone(),
        build: history.header.build.clone(),
        verdict: findings
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap_or(Verdict::Unknown),
        void: void::reasons(history),
        phases,
        total,
        witnesses: witness::witnesses(history, &findings),
        findings,
        fates: fates.counts,
        ledger: fates.ledger,
        converge_us: convergence.after_heal_us,
        freshness: freshness::freshness(history, &bands),
        converging: converging::converging(history, convergence.healed_us),
        beliefs: views::beliefs(history),
        leaders: views::leaders(history),
        strain: strain::strain(history, scenario, &figures),
        bands,
        windows,
        duration_us: scenario.duration_us(),
        scatter: Scatter::of(history),
    }
}

#[cfg(test)]
mod tests;
