//! Every planted defect, who must find it, and what provokes it: what shows that the checkers check.
//!
//! Only in builds with the feature `plant`. Most defects sit in the real replicas and their log ([`quorumor_core::plant`]), some in
//! the lab's own clients, watchers and disks ([`sim::Plant`]). Here is the table of which checker's property each breaks, and
//! which scenario of the catalogue brings it to light within a few seeds; `docs/lab.md` shows it to people. Where no scenario
//! can, the simulator's random faults do, and the case says why.

use std::path::Path;

use anyhow::{Context, Result};
use quorumor_core::Plant as Inside;

use crate::analyse::analyse;
use crate::checker::{Finding, Property, Verdict};
use crate::history::{History, Mode};
use crate::scenario::catalogue;
use crate::world::sim::{self, Mix, Options, Plant, staged};

/// A defect in a mode, and who must find it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The defect.
    pub plant: Plant,
    /// The mode that it is planted in.
    pub mode: Mode,
    /// The property whose checker must call it broken.
    pub property: Property,
    /// What brings it to light.
    pub shown: Shown,
}

/// What brings a defect to light.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// This scenario of the catalogue, with one of these many seeds, from 1.
    Scenario(&'static str, u64),
    /// The simulator's random faults; and why no scenario does.
    Campaign(Provocation, &'static str),
}

/// A run of the simulator that brings a defect to light.
#[derive(Clone, Copy, Debug)]
pub struct Provocation {
    /// Which faults come.
    pub mix: Mix,
    /// Keys of the clients: few, so that they meet, or many, so that what is wrong isn't soon overwritten.
    pub keys: u32,
    /// How long faults and load last, in virtual milliseconds.
    pub duration_ms: u64,
    /// So many seeds, from 0, must be enough.
    pub seeds: u64,
}

impl Provocation {
    const FEW_KEYS: u32 = 4;
    const MANY_KEYS: u32 = 1_000;

    const fn any(seeds: u64) -> Self {
        Self {
            mix: Mix::Every,
            keys: Self::FEW_KEYS,
            duration_ms: 12_000,
            seeds,
        }
    }

    fn options(&self, mode: Mode, seed: u64, plant: Option<Plant>) -> Options {
        Options {
            keys: self.keys,
            duration_ms: self.duration_ms,
            mix: self.mix,
            plant,
            ..Options::new(mode, seed)
        }
    }

    const fn with_many_keys(self) -> Self {
        Self {
            keys: Self::MANY_KEYS,
            ..self
        }
    }
}

/// A defect in the replicas or their log.
const fn inside(
    (plant, mode): (Inside, Mode),
    property: Property,
    scenario: &'static str,
    seeds: u64,
) -> Case {
    outside((Plant::Inside(plant), mode), property, scenario, seeds)
}

/// A defect of the lab's own.
const fn outside(
    (plant, mode): (Plant, Mode),
    property: Property,
    scenario: &'static str,
    seeds: u64,
) -> Case {
    Case {
        plant,
        mode,
        property,
        shown: Shown::Scenario(scenario, seeds),
    }
}

const STRONG: Mode = Mode::Strong;
const EVENTUAL: Mode = Mode::Eventual;

/// All cases. Every defect is in one of them, at least.
pub const CASES: [Case; 28] = [
    outside(
        (Plant::StaleReads, STRONG),
        Property::Linearizability,
        "isolated-leader",
        2,
    ),
    outside(
        (Plant::TokensIgnored, STRONG),
        Property::Session,
        "read-local",
        2,
    ),
    outside(
        (Plant::TokensIgnored, EVENTUAL),
        Property::Session,
        "minority-partition",
        2,
    ),
    outside(
        (Plant::LyingDisk, STRONG),
        Property::Durability,
        "power-cut",
        10,
    ),
    outside(
        (Plant::LyingDisk, EVENTUAL),
        Property::Durability,
        "power-cut",
        3,
    ),
    outside(
        (Plant::DoubleApply, STRONG),
        Property::Linearizability,
        "retries",
        5,
    ),
    outside((Plant::WatchGap, STRONG), Property::Watches, "watches", 2),
    inside(
        (Inside::StaleRead, STRONG),
        Property::Linearizability,
        "isolated-leader",
        2,
    ),
    inside(
        (Inside::ReadIndexSkipped, STRONG),
        Property::Linearizability,
        "isolated-leader",
        2,
    ),
    inside(
        (Inside::AckAtProposal, STRONG),
        Property::Durability,
        "isolated-leader",
        2,
    ),
    inside(
        (Inside::AckBeforeFsync, STRONG),
        Property::Durability,
        "power-cut",
        10,
    ),
    inside(
        (Inside::AckBeforeFsync, EVENTUAL),
        Property::Durability,
        "power-cut",
        10,
    ),
    inside(
        (Inside::AppliedTwice, STRONG),
        Property::Linearizability,
        "retries",
        5,
    ),
    inside(
        (Inside::CompareIgnored, STRONG),
        Property::Linearizability,
        "compare-and-set",
        2,
    ),
    inside(
        (Inside::HistoryHole, STRONG),
        Property::Watches,
        "watches",
        10,
    ),
    Case {
        plant: Plant::Inside(Inside::HalfInstalled),
        mode: STRONG,
        property: Property::Agreement,
        shown: Shown::Campaign(
            Provocation::any(10),
            "the campaign keeps twenty entries of log, so that snapshots are common in it; `snapshot-catch-up`, with hundreds, didn't show it",
        ),
    },
    inside(
        (Inside::LeaseCutShort, STRONG),
        Property::Leases,
        "leases",
        2,
    ),
    inside(
        (Inside::RefusalApplied, STRONG),
        Property::NoPhantoms,
        "steady",
        2,
    ),
    inside(
        (Inside::TokenIgnored, STRONG),
        Property::Session,
        "read-local",
        2,
    ),
    inside(
        (Inside::RefusalApplied, EVENTUAL),
        Property::NoPhantoms,
        "steady",
        2,
    ),
    inside(
        (Inside::TokenIgnored, EVENTUAL),
        Property::Session,
        "minority-partition",
        2,
    ),
    inside(
        (Inside::WallClockOrder, EVENTUAL),
        Property::Durability,
        "clock-jumps",
        2,
    ),
    inside(
        (Inside::DroppedTombstone, EVENTUAL),
        Property::NoResurrection,
        "partition-deletes",
        2,
    ),
    inside(
        (Inside::ForgottenRefutation, EVENTUAL),
        Property::FailureDetection,
        "presumed-dead",
        2,
    ),
    inside(
        (Inside::LeaseCutShort, EVENTUAL),
        Property::Leases,
        "leases",
        2,
    ),
    inside(
        (Inside::SilentLedger, EVENTUAL),
        Property::ConflictAccounting,
        "hot-key",
        2,
    ),
    inside(
        (Inside::ReusedSequence, EVENTUAL),
        Property::Convergence,
        "kill-one",
        10,
    ),
    Case {
        plant: Plant::Inside(Inside::HalfInstalled),
        mode: EVENTUAL,
        property: Property::Convergence,
        shown: Shown::Campaign(
            Provocation::any(40).with_many_keys(),
            "a node asks for a whole state only when its peers' logs no longer reach back to it, and a scenario writes far less than \
             they keep",
        ),
    },
];

impl Case {
    /// What provokes the case, in words: the scenario, or `campaign`.
    pub fn provoked_by(&self) -> &'static str {
        match self.shown {
            Shown::Scenario(name, _) => name,
            Shown::Campaign(..) => "campaign",
        }
    }

    /// The seeds that must be enough.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        match self.shown {
            Shown::Scenario(_, seeds) => 1..seeds + 1,
            Shown::Campaign(provoked, _) => 0..provoked.seeds,
        }
    }

    /// What the checkers say of one seed, with the defect or without it.
    ///
    /// # Errors
    /// When it can't be simulated, or its history not be kept in the directory.
    pub fn play(&self, seed: u64, plant: Option<Plant>, directory: &Path) -> Result<Vec<Finding>> {
        match self.shown {
            Shown::Scenario(name, _) => {
                let mut scenario = catalogue::find(name).context("no such scenario")?;
                scenario.seed = seed;
                let path = directory.join("history.jsonl");
                staged::run(&scenario, self.mode, plant, &path)?;
                Ok(analyse(&History::read(&path)?, &scenario).findings)
            }
            Shown::Campaign(provoked, _) => {
                Ok(sim::run(&provoked.options(self.mode, seed, plant))?.findings)
            }
        }
    }

    /// The first seed in which the checker of the property finds the defect.
    ///
    /// # Errors
    /// As [`Case::play`].
    pub fn hunt(&self, directory: &Path) -> Result<Option<u64>> {
        for seed in self.seeds() {
            let findings = self.play(seed, Some(self.plant), directory)?;
            let found = findings.iter().any(|finding| {
                finding.property == self.property && finding.verdict == Verdict::Invalid
            });
            if found {
                return Ok(Some(seed));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
