//! Whom a fault hits: a role, resolved once to nodes just before the fault.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Scenario;
use crate::history::NodeId;
use crate::rng::{self, Purpose};

/// Whom a fault hits. In files it is text: `leader`, `follower`, `minority`, `leader's minority`, `majority`, `half`, `all`,
/// `node 3`, `nodes 1 2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// Strong: the leader. Eventual has none: the node with most client traffic ([`crate::workload::Plan::busiest_node`]).
    Leader,
    /// One node that isn't the leader, chosen by the seed.
    Follower,
    /// The largest minority without the leader.
    Minority,
    /// The largest minority with the leader, so that the majority must go on without it.
    LeadersMinority,
    /// The smallest majority, the leader in it.
    Majority,
    /// Half of the nodes, rounded down, without the leader.
    Half,
    /// Every node.
    All,
    /// These nodes.
    Nodes(Vec<NodeId>),
}

/// The words of [`Target`] that aren't lists of nodes.
const WORDS: [(&str, Target); 7] = [
    ("leader", Target::Leader),
    ("follower", Target::Follower),
    ("minority", Target::Minority),
    ("leader's minority", Target::LeadersMinority),
    ("majority", Target::Majority),
    ("half", Target::Half),
    ("all", Target::All),
];

/// What is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is nobody: a fault hits \"leader\", \"follower\", \"minority\", \"leader's minority\", \"majority\", \"half\", \"all\", \"node 3\" or \"nodes 1 2\""
)]
pub struct NoTarget(String);

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        if let Some((_, target)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(target.clone());
        }
        let listed = text
            .strip_prefix("nodes ")
            .or_else(|| text.strip_prefix("node "));
        let nodes = listed.map(|listed| {
            let numbers = listed.split([' ', ',']).filter(|part| !part.is_empty());
            numbers
                .map(|number| number.parse().map(NodeId))
                .collect::<Result<Vec<_>, _>>()
        });
        match nodes {
            Some(Ok(nodes)) if !nodes.is_empty() => Ok(Self::Nodes(nodes)),
            Some(_) | None => Err(NoTarget(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = NoTarget;

    fn try_from(text: String) -> Result<Self, NoTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => {
                let numbers: Vec<String> = nodes.iter().map(|node| node.0.to_string()).collect();
                let noun = if nodes.len() == 1 { "node" } else { "nodes" };
                write!(f, "{noun} {}", numbers.join(" "))
            }
            Self::Leader
            | Self::Follower
            | Self::Minority
            | Self::LeadersMinority
            | Self::Majority
            | Self::Half
            | Self::All => {
                let word = WORDS.iter().find(|(_, target)| target == self);
                f.write_str(word.map_or("", |(word, _)| word))
            }
        }
    }
}

impl Target {
    /// The nodes, in order. `leader` is the strong leader, or the busiest node where there is none; `fault` is the fault's place
    /// in the schedule, so that two faults needn't choose alike.
    pub fn resolve(&self, scenario: &Scenario, fault: u32, leader: NodeId) -> Vec<NodeId> {
        let nodes = scenario.nodes as usize;
        let minority = nodes.saturating_sub(1) / 2;
        let mut others: Vec<NodeId> = scenario.node_ids();
        others.retain(|&id| id != leader);
        let stream = rng::stream(scenario.seed, Purpose::Faults, u64::from(fault));
        rng::shuffle(&mut { stream }, &mut others);
        let mut hit = match self {
            Self::Leader => vec![leader],
            Self::Follower => others.into_iter().take(1).collect(),
            Self::Minority => others.into_iter().take(minority).collect(),
            Self::Half => others.into_iter().take(nodes / 2).collect(),
            Self::LeadersMinority => with(leader, others, minority),
            Self::Majority => with(leader, others, nodes / 2 + 1),
            Self::All => scenario.node_ids(),
            Self::Nodes(nodes) => nodes.clone(),
        };
        hit.sort_unstable();
        hit.dedup();
        hit
    }
}

fn with(leader: NodeId, others: Vec<NodeId>, size: usize) -> Vec<NodeId> {
    let rest = others.into_iter().take(size.saturating_sub(1));
    std::iter::once(leader).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn every_target_is_read_back_from_its_words() {
        let lists = [vec![NodeId(3)], vec![NodeId(1), NodeId(2)]].map(Target::Nodes);
        for target in WORDS.into_iter().map(|(_, target)| target).chain(lists) {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        for text in ["", "leaders", "node", "node x", "nodes "] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn sides_have_their_sizes_and_hold_the_leader_only_where_they_say_so() {
        for nodes in 3..=7 {
            let scenario = Scenario::compare(9, nodes, 40_000, Workload::default()).unwrap();
            let nodes = nodes as usize;
            for leader in scenario.node_ids() {
                let side = |target: Target| target.resolve(&scenario, 0, leader);
                for (target, size, leads) in [
                    (Target::Leader, 1, true),
                    (Target::Follower, 1, false),
                    (Target::Minority, (nodes - 1) / 2, false),
                    (Target::LeadersMinority, (nodes - 1) / 2, true),
                    (Target::Majority, nodes / 2 + 1, true),
                    (Target::Half, nodes / 2, false),
                    (Target::All, nodes, true),
                ] {
                    let hit = side(target.clone());
                    assert_eq!(
                        (hit.len(), hit.contains(&leader)),
                        (size, leads),
                        "{target}"
                    );
                }
            }
        }
    }
}
