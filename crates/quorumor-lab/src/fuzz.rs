//! Random schedules against the promises: each seed a scenario, played in the simulated world, judged; a failing one is shrunk.
//!
//! A failure is what a checker calls invalid; a void or undecided run says nothing and is only counted. Called by `lab fuzz`.

mod shrink;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::analyse::{RunResult, analyse};
use crate::checker::{Finding, Verdict};
use crate::history::{History, Mode};
use crate::scenario::{Scenario, random};
use crate::world::sim::{Plant, staged};

/// What to try.
#[derive(Clone, Debug)]
pub struct FuzzOptions {
    /// A defect to plant on purpose.
    pub plant: Option<Plant>,
    /// Where histories of the run under way, and the scenarios of failures, go.
    pub out: PathBuf,
    /// How many runs the shrinking of one failure may take.
    pub shrink_runs: u32,
}

/// What one seed came to in one mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tried {
    /// Every promise was kept.
    Kept,
    /// A checker could not decide.
    Undecided,
    /// The run proves nothing, for this reason.
    Void(String),
    /// A promise was broken.
    Broken(Failure),
}

/// A failure, shrunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The mode.
    pub mode: Mode,
    /// The seed.
    pub seed: u64,
    /// What was broken, at first.
    pub finding: Finding,
    /// Faults of the scenario as it was drawn.
    pub faults: usize,
    /// Faults of the smallest that still fails.
    pub left: usize,
    /// Its file: the smallest scenario that still breaks the same promise.
    pub scenario: PathBuf,
    /// The command that runs it again.
    pub command: String,
}

/// Tries one seed in one mode.
///
/// # Errors
/// When a run can't be carried out or a file can't be written. That is no verdict.
pub fn try_seed(options: &FuzzOptions, seed: u64, mode: Mode) -> Result<Tried> {
    let scenario = random::scenario(seed);
    let result = judge(options, &scenario, mode)?;
    let Some(broken) = worst(&result.findings, Verdict::Invalid) else {
        return Ok(match result.void.first() {
            Some(why) => Tried::Void(why.text()),
            None if result.verdict == Verdict::Unknown => Tried::Undecided,
            None => Tried::Kept,
        });
    };
    let mut still_fails = |smaller: &Scenario| {
        let again = judge(options, smaller, mode)?;
        let same = |finding: &&Finding| {
            finding.verdict == Verdict::Invalid && finding.property == broken.property
        };
        Ok(again.findings.iter().any(|finding| same(&finding)))
    };
    let smallest = shrink::shrink(&scenario, options.shrink_runs, &mut still_fails)?;
    let file = options
        .out
        .join(format!("fuzz-{seed}-{}.toml", mode.name()));
    std::fs::write(&file, smallest.render())
        .with_context(|| format!("can't write `{}`", file.display()))?;
    Ok(Tried::Broken(Failure {
        mode,
        seed,
        finding: broken.clone(),
        faults: scenario.faults.len(),
        left: smallest.faults.len(),
        command: format!(
            "quorumor lab run {} --world simulated --only {}",
            file.display(),
            mode.name()
        ),
        scenario: file,
    }))
}

fn worst(findings: &[Finding], verdict: Verdict) -> Option<&Finding> {
    findings.iter().find(|finding| finding.verdict == verdict)
}

fn judge(options: &FuzzOptions, scenario: &Scenario, mode: Mode) -> Result<RunResult> {
    let path = history_path(&options.out, mode);
    let ran = staged::run(scenario, mode, options.plant, &path)
        .with_context(|| format!("seed {} in {} mode", scenario.seed, mode.name()))?;
    let history = History::read(&path)
        .with_context(|| format!("the history `{}` can't be read back", path.display()))?;
    let mut result = analyse(&history, scenario);
    if let Some(finding) = ran.finding() {
        result.add(finding);
    }
    Ok(result)
}

fn history_path(out: &Path, mode: Mode) -> PathBuf {
    out.join(format!("history-{}.jsonl", mode.name()))
}

#[cfg(test)]
mod tests;
