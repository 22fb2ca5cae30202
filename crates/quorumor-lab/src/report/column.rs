//! A column of the report: one system in one world, one run for each seed, and what to say of them together.
//!
//! Not a judge: a column is as good as the worst of its runs. Called by the table, the page and the matrix.

use serde::{Deserialize, Serialize};

use super::spread::Spread;
use crate::analyse::{PhaseFigures, RunResult};
use crate::checker::Verdict;
use crate::history::{Mode, World};

/// What a column, or a run, comes to; from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Judgement {
    /// Every promise was kept.
    Kept,
    /// A checker could not decide.
    Undecided,
    /// The run proves nothing.
    Void,
    /// A promise was broken, with evidence.
    Broken,
}

impl Judgement {
    /// Of one run. A broken promise wins over void: its evidence stands whatever the lab did.
    pub fn of(run: &RunResult) -> Self {
        match (run.verdict, run.void.is_empty()) {
            (Verdict::Invalid, _) => Self::Broken,
            (Verdict::Valid | Verdict::Unknown, false) => Self::Void,
            (Verdict::Unknown, true) => Self::Undecided,
            (Verdict::Valid, true) => Self::Kept,
        }
    }

    /// One word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Undecided => "undecided",
            Self::Void => "void",
            Self::Broken => "BROKEN",
        }
    }

    /// A sign that stands for the word, without colour.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Kept => "\u{2713}",
            Self::Undecided => "?",
            Self::Void => "\u{2205}",
            Self::Broken => "\u{2717}",
        }
    }

    /// What a program that ran it ends with.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::Undecided | Self::Void => 6,
            Self::Broken => 1,
        }
    }
}

/// One system in one world: a run for each seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Column {
    /// What people call it; unique in the comparison.
    pub label: String,
    /// By whose promises it is judged.
    pub mode: Mode,
    /// Where it ran.
    pub world: World,
    /// What an ok answer means, in a few words: latencies of two columns buy different things.
    pub ok_means: String,
    /// What it promises, one clause each.
    pub promises: Vec<String>,
    /// One run for each seed.
    pub runs: Vec<RunResult>,
}

impl Column {
    /// A column of one of our own modes, with the mode's name and promises.
    pub fn new(mode: Mode, world: World, runs: Vec<RunResult>) -> Self {
        Self {
            label: mode.name().to_owned(),
            mode,
            world,
            ok_means: ok_means(mode).to_owned(),
            promises: promises(mode).map(str::to_owned).to_vec(),
            runs,
        }
    }

    /// The worst of its runs; without a run it proves nothing.
    pub fn judgement(&self) -> Judgement {
        let worst = self.runs.iter().map(Judgement::of).max();
        worst.unwrap_or(Judgement::Void)
    }

    /// The runs that figures are made from: those that aren't void, or all if every one is.
    pub fn counted(&self) -> Vec<&RunResult> {
        let sound: Vec<&RunResult> = self.runs.iter().filter(|run| run.void.is_empty()).collect();
        if sound.is_empty() {
            self.runs.iter().collect()
        } else {
            sound
        }
    }

    /// The run that charts are drawn from: the worst that isn't void, of equals the first.
    pub fn shown(&self) -> Option<&RunResult> {
        let counted = self.counted();
        let broken = counted.iter().find(|run| run.is_broken());
        broken.or(counted.first()).copied()
    }

    /// A figure of every counted run, if it has one.
    pub(super) fn spread(&self, of: impl Fn(&RunResult) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.counted().into_iter().filter_map(of))
    }

    /// A figure of a phase of every counted run; no phase = the whole run.
    pub(super) fn phase_spread(
        &self,
        phase: Option<usize>,
        of: impl Fn(&PhaseFigures) -> Option<f64>,
    ) -> Option<Spread> {
        self.spread(|run| match phase {
            Some(phase) => run.phases.get(phase).and_then(&of),
            None => of(&run.total),
        })
    }
}

/// What an ok answer means in a mode.
fn ok_means(mode: Mode) -> &'static str {
    match mode {
        Mode::Strong => "a majority",
        Mode::Eventual => "one node",
    }
}

fn promises(mode: Mode) -> [&'static str; 4] {
    match mode {
        Mode::Strong => [
            "An acknowledged write is fsynced on a majority.",
            "A default read is linearizable, at any node.",
            "In a minority partition it refuses, at once and with a typed error.",
            "After the heal there is nothing to do.",
        ],
        Mode::Eventual => [
            "An acknowledged write is in this node's log and spreading.",
            "A default read is this node's view, never older than the caller's session token.",
            "In a minority partition it keeps reading and writing.",
            "After the heal it converges; concurrent writes are resolved by one rule, each discarded value counted.",
        ],
    }
}

/// The word for where a column ran.
pub(super) fn world_words(world: World) -> &'static str {
    match world {
        World::Cluster => "real processes",
        World::Simulated => "simulated",
    }
}
