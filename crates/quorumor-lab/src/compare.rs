//! The main job: the same load and the same faults against both modes, as real processes, judged and reported.
//!
//! Not a judge and not a world: it runs [`crate::world::cluster`] once for each mode, lets [`mod@crate::analyse`]
//! read the histories, and writes the report. Called by the binary; progress goes to standard error, the report to
//! whoever asked.

mod progress;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::analyse::{ModeResult, analyse};
use crate::history::{History, Mode};
use crate::report::Comparison;
use crate::scenario::{Scenario, ScenarioError};
use crate::workload::Workload;
use crate::world::cluster::{self, ClusterOptions, Live, Plant};
use progress::Progress;

/// How long a key is in use: short enough that many keys are written in a fault and over before its heal, so that
/// convergence can be seen under load.
const OPS_PER_KEY: u32 = 60;

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// Load and faults follow from it.
    pub seed: u64,
    /// How long the load lasts in each mode.
    pub duration_ms: u64,
    /// Nodes of each cluster.
    pub nodes: u32,
    /// Operations per second.
    pub rate: u64,
    /// Where the histories, the logs and the reports go.
    pub out: PathBuf,
    /// The modes, in order.
    pub modes: Vec<Mode>,
    /// The program that has `serve`; none = this very program.
    pub program: Option<PathBuf>,
    /// A defect to plant on purpose.
    pub plant: Option<Plant>,
}

impl Default for CompareOptions {
    /// Five nodes, 200 operations/s, 40 s a mode: under two minutes in all.
    fn default() -> Self {
        Self {
            seed: 1,
            duration_ms: 40_000,
            nodes: 5,
            rate: 200,
            out: PathBuf::from("compare-out"),
            modes: vec![Mode::Strong, Mode::Eventual],
            program: None,
            plant: None,
        }
    }
}

impl CompareOptions {
    /// Whether a comparison like this could show anything.
    ///
    /// # Errors
    /// When it is too small or too short, or has no load.
    pub fn check(&self) -> Result<(), ScenarioError> {
        self.scenario().map(drop)
    }

    /// The command that repeats this comparison.
    pub fn command(&self) -> String {
        let (whole, rest) = (self.duration_ms / 1_000, self.duration_ms % 1_000);
        let duration = if rest == 0 {
            format!("{whole}s")
        } else {
            format!("{}ms", self.duration_ms)
        };
        let mut command = format!(
            "quorumor compare --seed {} --duration {duration} --nodes {} --rate {}",
            self.seed, self.nodes, self.rate
        );
        match self.plant {
            Some(Plant::StaleReads) => command.push_str(" --plant stale-reads"),
            None => {}
        }
        command
    }

    fn scenario(&self) -> Result<Scenario, ScenarioError> {
        let defaults = Workload::default();
        let workload = Workload {
            rate: self.rate,
            ops_per_key: OPS_PER_KEY,
            ..defaults
        };
        Scenario::compare(self.seed, self.nodes, self.duration_ms, workload)
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The figures and verdicts of both modes.
    pub comparison: Comparison,
    /// Where the page for people is.
    pub page: PathBuf,
}

/// Runs the comparison and writes `history-MODE.jsonl`, `report.json` and `report.html` into
/// [`CompareOptions::out`].
///
/// # Errors
/// When the options make no sense, a cluster can't be started, or a file can't be written. That is no verdict.
pub async fn run(options: &CompareOptions) -> Result<Compared> {
    let interrupt = CancellationToken::new();
    let run = run_modes(options, &interrupt);
    tokio::pin!(run);
    tokio::select! {
        compared = &mut run => compared,
        signal = tokio::signal::ctrl_c() => {
            signal.context("the interrupt signal can't be watched")?;
            interrupt.cancel();
            run.await
        }
    }
}

async fn run_modes(options: &CompareOptions, interrupt: &CancellationToken) -> Result<Compared> {
    let scenario = options.scenario()?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("this program can't find itself")?,
    };
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("can't make `{}`", options.out.display()))?;
    let out = std::path::absolute(&options.out)?;
    let mut notes: Vec<String> = options
        .plant
        .iter()
        .map(|plant| plant.text().to_owned())
        .collect();
    let mut modes = Vec::new();
    for &mode in &options.modes {
        let (program, out, plant) = (program.clone(), out.clone(), options.plant);
        let cluster = ClusterOptions {
            mode,
            program,
            out,
            plant,
        };
        let (result, more) = run_mode(&cluster, &scenario, interrupt).await?;
        notes.extend(more);
        modes.push(result);
    }
    let comparison = Comparison {
        scenario,
        command: options.command(),
        modes,
        notes,
    };
    comparison
        .write_to(&out)
        .with_context(|| format!("can't write to `{}`", out.display()))?;
    Ok(Compared {
        comparison,
        page: out.join("report.html"),
    })
}

async fn run_mode(
    options: &ClusterOptions,
    scenario: &Scenario,
    interrupt: &CancellationToken,
) -> Result<(ModeResult, Vec<String>)> {
    let (mode, began) = (options.mode, Instant::now());
    let live = Arc::new(Live::default());
    let progress = Progress::start(mode, Arc::clone(&live));
    let ran = cluster::run(options, scenario, &live, interrupt).await;
    progress.stop().await;
    let notes = ran.with_context(|| format!("the {} run was cut short", mode.name()))?;
    let (path, scenario) = (options.history_path(), scenario.clone());
    let judged = tokio::task::spawn_blocking(move || judge(&path, &scenario)).await??;
    progress::say(&format!(
        "{}: done in {:.1} s",
        mode.name(),
        began.elapsed().as_secs_f64()
    ));
    Ok((judged, notes))
}

fn judge(history: &Path, scenario: &Scenario) -> Result<ModeResult> {
    let read = History::read(history)
        .with_context(|| format!("the history `{}` can't be read back", history.display()))?;
    Ok(analyse(&read, scenario))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_repeats_the_comparison() {
        let options = CompareOptions {
            seed: 7,
            plant: Some(Plant::StaleReads),
            ..Default::default()
        };
        let wanted =
            "quorumor compare --seed 7 --duration 40s --nodes 5 --rate 200 --plant stale-reads";
        assert_eq!(options.command(), wanted);
    }

    #[test]
    fn many_keys_are_over_before_the_last_heal_so_that_convergence_can_be_seen() {
        let scenario = CompareOptions::default().scenario().unwrap();
        let duration_us = scenario.duration_us();
        let plan = crate::workload::Plan::new(
            &scenario.workload,
            scenario.nodes,
            scenario.seed,
            duration_us,
        );
        let cut = scenario.faults.last().unwrap();
        let before = plan.keys_retired_before(cut.start_us).len();
        let over = plan.keys_retired_before(cut.end_us).len();
        assert!(
            over >= before + 20,
            "{before} keys over before the cut, {over} before the heal"
        );
    }
}
