//! A scenario: how many nodes, which workload, which faults in which phase, from which seed.
//!
//! Not the thing that runs it (that is a world) and not what happened (that is the history). The same scenario runs
//! against both modes and in every world. Fault targets are roles, resolved once, by [`Target::resolve`].

pub mod catalogue;
mod check;
mod fault;
mod file;
mod links;
mod micros;
mod overload;
pub mod random;
mod scale;
mod target;

use serde::{Deserialize, Serialize};

use crate::history::NodeId;
use crate::workload::Workload;

pub(crate) use fault::STARVE_TURN_US;
pub use fault::{Fault, FaultKind, Weather};
pub use file::FileError;
pub use links::{Link, held_links, touching_links};
pub use micros::Micros;
pub(crate) use overload::FLOOD_IN_FLIGHT_MAX;
pub use overload::{Breaker, Contrast, Flood, FloodClass, Limits};
pub use scale::{Scale, Script};
pub use target::{NoTarget, Target};

/// A part of the run that the report judges on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// What people call it.
    pub name: String,
    /// How long operations are due in it.
    pub duration_us: u64,
}

/// A whole scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// What it teaches, in one sentence.
    pub teaches: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// Nodes of the cluster, numbered from 1.
    pub nodes: u32,
    /// Which operations arrive.
    pub workload: Workload,
    /// The phases, one after the other.
    pub phases: Vec<Phase>,
    /// The faults, in order of their start.
    pub faults: Vec<Fault>,
    /// The election timeout that the strong nodes run with; the lab must never be late by half of it.
    pub election_timeout_ms: u64,
    /// Below this rate of ok operations before the first fault the run says nothing. Per second.
    pub floor_rate: u64,
    /// Strong mode: after so many entries nodes take a snapshot and cut their log; none: the world's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_entries: Option<u64>,
    /// What is simulated of eventual mode at scale beside it, where a few nodes show nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// How the nodes hold classes of calls apart; none: as they do by default, enforcing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Calls of one class in great number beside the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<Flood>,
    /// What it is played with and without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
}

/// Why a scenario cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A partition needs a majority and a minority.
    #[error("{0} nodes are too few: a comparison needs at least 3")]
    TooFewNodes(u32),
    /// Nothing could be seen.
    #[error("{0} ms are too short: a comparison needs at least 4000 ms")]
    TooShort(u64),
    /// Nothing would arrive.
    #[error("the workload must have a rate, clients and processes above zero")]
    NoTraffic,
}

/// Why a scenario isn't carried out somewhere, said before anything was started. It is no failure and no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not carried out: {0}")]
pub struct NotCarriedOut(pub String);

const MS: u64 = 1_000;

impl Scenario {
    /// The default comparison: steady; kill the leader and restart it; cut off a minority; heal. The phases take
    /// 20, 30, 30 and 20 % of `duration_ms`.
    ///
    /// # Errors
    /// When it is too small or too short to show anything.
    pub fn compare(
        seed: u64,
        nodes: u32,
        duration_ms: u64,
        workload: Workload,
    ) -> Result<Self, ScenarioError> {
        if nodes < 3 {
            return Err(ScenarioError::TooFewNodes(nodes));
        }
        if duration_ms < 4_000 {
            return Err(ScenarioError::TooShort(duration_ms));
        }
        if workload.rate == 0 || workload.clients == 0 || workload.processes_per_client == 0 {
            return Err(ScenarioError::NoTraffic);
        }
        let at = |permille: u64| duration_ms * permille / 1_000 * MS;
        let phase = |name: &str, from: u64, to: u64| Phase {
            name: name.to_owned(),
            duration_us: at(to) - at(from),
        };
        let floor_rate = (workload.rate / 2).min(50);
        Ok(Self {
            name: "compare".to_owned(),
            teaches: "What a dead leader and a minority that is cut off cost in each mode."
                .to_owned(),
            seed,
            nodes,
            workload,
            phases: vec![
                phase("steady", 0, 200),
                phase("leader killed", 200, 500),
                phase("minority cut off", 500, 800),
                phase("healed", 800, 1_000),
            ],
            faults: vec![
                Fault {
                    kind: FaultKind::Kill { on: Target::Leader },
                    start_us: at(200),
                    end_us: at(380),
                },
                Fault {
                    kind: FaultKind::Partition {
                        side: Target::LeadersMinority,
                    },
                    start_us: at(500),
                    end_us: at(800),
                },
            ],
            election_timeout_ms: 1_000,
            floor_rate,
            snapshot_entries: None,
            scale: None,
            limits: None,
            flood: None,
            contrast: None,
        })
    }

    /// The scenario that a TOML file describes.
    ///
    /// # Errors
    /// What is wrong, with the line where the parser knows it, and what is allowed.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        file::parse(text)
    }

    /// The TOML file of this scenario: [`Scenario::parse`] makes the same of it, phases named anew.
    pub fn render(&self) -> String {
        file::render(self)
    }

    /// The same with these faults, and its phases named by them.
    #[must_use]
    pub fn with_faults(&self, faults: Vec<Fault>) -> Self {
        Self {
            phases: file::phases(&faults, self.flood.as_ref(), self.duration_us()),
            faults,
            ..self.clone()
        }
    }

    /// How long operations are due.
    pub fn duration_us(&self) -> u64 {
        self.phases.iter().map(|phase| phase.duration_us).sum()
    }

    /// Start and end of each phase, from time zero of the workload.
    pub fn spans(&self) -> Vec<(u64, u64)> {
        let mut start = 0;
        let span = |phase: &Phase| {
            let from = start;
            start += phase.duration_us;
            (from, start)
        };
        self.phases.iter().map(span).collect()
    }

    /// The phase in which an operation is due; the last one for anything later.
    pub fn phase_at(&self, due_us: u64) -> usize {
        let last = self.phases.len().saturating_sub(1);
        self.spans()
            .iter()
            .position(|&(_, end)| due_us < end)
            .unwrap_or(last)
    }

    /// Why the simulator can't play it; none = it can.
    pub fn real_only(&self) -> Option<&'static str> {
        let cut = |fault: &Fault| matches!(fault.kind, FaultKind::CutClients { .. });
        if self.flood.is_some() {
            return Some(
                "a flood needs real processes: the simulator's nodes have no load of their own",
            );
        }
        if self.limits.is_some() || self.contrast == Some(Contrast::Limits) {
            return Some("the simulator's nodes have no limits of classes");
        }
        if self.workload.breaker.is_some() || self.contrast == Some(Contrast::Breaker) {
            return Some("the simulator's clients have no circuit breaker");
        }
        self.faults
            .iter()
            .any(cut)
            .then_some("the simulator's clients are at their node: nothing is between them to cut")
    }

    /// Why it says nothing about another's cluster; none = it can be played on one.
    pub(crate) fn ours_only(&self) -> Option<&'static str> {
        let ours = self.limits.is_some() || self.workload.breaker.is_some();
        let ours = ours || self.flood.is_some() || self.contrast.is_some();
        ours.then_some("floods, limits and breakers are those of our own nodes and clients")
    }

    /// Whether something must stand between real nodes and their clients.
    pub(crate) fn needs_fronts(&self) -> bool {
        let cut = |fault: &Fault| matches!(fault.kind, FaultKind::CutClients { .. });
        let roaming = self.workload.breaker.is_some() || self.contrast == Some(Contrast::Breaker);
        roaming || self.faults.iter().any(cut)
    }

    /// From when until when something is wrong, from time zero of the workload: the faults and the flood together.
    pub fn trouble_us(&self) -> Option<(u64, u64)> {
        let faults = self
            .faults
            .iter()
            .map(|fault| (fault.start_us, fault.end_us));
        let flood = self.flood.iter().map(|flood| (flood.at.0, flood.end_us()));
        faults
            .chain(flood)
            .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
    }

    /// Every node's id.
    pub fn node_ids(&self) -> Vec<NodeId> {
        (1..=u64::from(self.nodes)).map(NodeId).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_comparison_covers_its_duration_and_keeps_faults_inside_their_phases() {
        let scenario = Scenario::compare(1, 5, 40_000, Workload::default()).unwrap();
        assert_eq!(scenario.duration_us(), 40_000_000);
        for (fault, phase) in scenario.faults.iter().zip([1, 2]) {
            let (start, end) = scenario.spans()[phase];
            assert!(
                start <= fault.start_us && fault.start_us < fault.end_us && fault.end_us <= end
            );
        }
        assert_eq!(scenario.phase_at(0), 0);
        assert_eq!(scenario.phase_at(8_000_000), 1);
        assert_eq!(scenario.phase_at(u64::MAX), 3);
    }

    #[test]
    fn a_scenario_that_could_show_nothing_is_refused() {
        let workload = Workload::default;
        assert_eq!(
            Scenario::compare(1, 2, 40_000, workload()),
            Err(ScenarioError::TooFewNodes(2))
        );
        assert_eq!(
            Scenario::compare(1, 5, 10, workload()),
            Err(ScenarioError::TooShort(10))
        );
        let idle = Workload {
            rate: 0,
            ..workload()
        };
        assert_eq!(
            Scenario::compare(1, 5, 40_000, idle),
            Err(ScenarioError::NoTraffic)
        );
    }
}
