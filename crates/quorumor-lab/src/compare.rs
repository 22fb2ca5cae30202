//! The main job: the same load and the same faults against both modes, as real processes, judged and reported.
//!
//! It is the [`mod@crate::contest`] of one scenario that everybody runs first. Called by the binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::contest::{self, Contender, Contest, Outcome, System};
use crate::history::{Mode, World};
use crate::network::LinkKind;
use crate::scenario::{Scenario, ScenarioError};
use crate::workload::Workload;
use crate::world::cluster::Plant;

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

/// Runs the comparison and writes a history for each mode, `report.json` and `report.html` into [`CompareOptions::out`].
///
/// # Errors
/// When the options make no sense, a cluster can't be started, or a file can't be written. That is no verdict.
pub async fn run(options: &CompareOptions) -> Result<Outcome> {
    let contender = |&mode: &Mode| {
        let system = match mode {
            Mode::Strong => System::Strong,
            Mode::Eventual => System::Eventual,
        };
        Contender::new(system, World::Cluster)
    };
    let contest = Contest {
        links: LinkKind::Proxies,
        scenario: options.scenario()?,
        contenders: options.modes.iter().map(contender).collect(),
        seeds: 1,
        out: options.out.clone(),
        program: options.program.clone(),
        cluster_plant: options.plant,
        sim_plant: None,
        command: options.command(),
    };
    let outcome = contest::until_interrupted(&contest).await?;
    if let Some(why) = outcome.failed.first() {
        anyhow::bail!("{why}");
    }
    Ok(outcome)
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
