//! A scenario: how many nodes, which workload, which faults in which phase, from which seed.
//!
//! Not the thing that runs it (that is a world) and not what happened (that is the history). The same scenario runs
//! against both modes. Fault targets are roles, resolved once, by [`Role`] and [`minority`].

use serde::{Deserialize, Serialize};

use crate::history::NodeId;
use crate::rng::{self, Purpose};
use crate::workload::Workload;

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Strong: the leader. Eventual has none: the node with most client traffic ([`crate::workload::Plan::busiest_node`]).
    Leader,
}

/// Who is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MinoritySide {
    /// The leader (eventual: the busiest node) and others, so that the majority must go on without it.
    WithLeader,
    /// Only others.
    WithoutLeader,
}

/// What a fault does, by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// SIGKILL; the end of the fault is a restart on the same disk.
    Kill(Role),
    /// A minority is cut off from the rest, both ways. Clients stay where they are.
    Partition(MinoritySide),
}

/// A fault and when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What it does.
    pub kind: FaultKind,
    /// When it begins, from time zero of the workload.
    pub start_us: u64,
    /// When its end is asked for, from time zero of the workload.
    pub end_us: u64,
}

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
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
                    kind: FaultKind::Kill(Role::Leader),
                    start_us: at(200),
                    end_us: at(380),
                },
                Fault {
                    kind: FaultKind::Partition(MinoritySide::WithLeader),
                    start_us: at(500),
                    end_us: at(800),
                },
            ],
            election_timeout_ms: 1_000,
            floor_rate,
        })
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

    /// Every node's id.
    pub fn node_ids(&self) -> Vec<NodeId> {
        (1..=u64::from(self.nodes)).map(NodeId).collect()
    }
}

/// The nodes that a partition cuts off: the largest minority, chosen by the seed. `leader` is the strong leader, or
/// the busiest node where there is none; it is resolved once, just before the fault.
pub fn minority(scenario: &Scenario, side: MinoritySide, leader: NodeId) -> Vec<NodeId> {
    let size = (scenario.nodes as usize).saturating_sub(1) / 2;
    let mut others: Vec<NodeId> = scenario
        .node_ids()
        .into_iter()
        .filter(|&id| id != leader)
        .collect();
    rng::shuffle(
        &mut rng::stream(scenario.seed, Purpose::Faults, 0),
        &mut others,
    );
    let mut cut = match side {
        MinoritySide::WithLeader => vec![leader],
        MinoritySide::WithoutLeader => Vec::new(),
    };
    cut.extend(others.into_iter().take(size - cut.len().min(size)));
    cut.sort_unstable();
    cut
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

    #[test]
    fn a_minority_is_less_than_half_and_holds_the_leader_only_if_asked() {
        for nodes in 3..=7 {
            let scenario = Scenario::compare(9, nodes, 40_000, Workload::default()).unwrap();
            for leader in scenario.node_ids() {
                let with = minority(&scenario, MinoritySide::WithLeader, leader);
                let without = minority(&scenario, MinoritySide::WithoutLeader, leader);
                assert!(with.len() * 2 < nodes as usize && without.len() * 2 < nodes as usize);
                assert!(with.contains(&leader) && !without.contains(&leader));
                assert!(!without.is_empty());
            }
        }
    }
}
