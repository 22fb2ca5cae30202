//! The lines of a history that are not operations: faults, what was seen of the cluster, final states, the lab's lag.
//!
//! Not what a client saw (that is [`super::record`]). Written by the world that runs the scenario.

use serde::{Deserialize, Serialize};

use super::record::{NodeId, Version};

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// SIGKILL, later a restart.
    Kill,
    /// The named nodes are cut off from the others, both ways.
    Partition,
}

/// Where a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultStep {
    /// The schedule asked for it.
    Requested,
    /// It is in force.
    Effective,
    /// The schedule asked for its end.
    HealRequested,
    /// It is over: links open, or the restarted node ready.
    Healed,
}

/// What a directed link has carried so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkCounters {
    /// From.
    pub from: NodeId,
    /// To.
    pub to: NodeId,
    /// Bytes passed on.
    pub bytes: u64,
    /// Datagrams and stream chunks passed on.
    pub messages: u64,
    /// Datagrams discarded by a fault.
    pub drops: u64,
    /// Times that a stream or a new connection was held back by a cut.
    pub held: u64,
}

/// A step of a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRecord {
    /// When.
    pub at_us: u64,
    /// Its place in [`crate::scenario::Scenario::faults`], from 0.
    pub fault: u32,
    /// What it does.
    pub action: FaultAction,
    /// Where it stands.
    pub step: FaultStep,
    /// The nodes that the role was resolved to: the killed one, or the minority.
    pub nodes: Vec<NodeId>,
    /// The counters of the links it concerns, cumulative.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkCounters>,
}

/// What a node believes about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Answers.
    Alive,
    /// Did not answer lately.
    Suspect,
    /// Held to be gone.
    Down,
    /// Said goodbye.
    Left,
}

/// What was observed about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The node reports this leader in this term.
    Leader {
        /// The leader.
        leader: NodeId,
        /// Its term.
        term: u64,
    },
    /// The node's belief about a member changed.
    Member {
        /// About whom.
        subject: NodeId,
        /// The belief.
        state: MemberState,
    },
    /// Anything else worth keeping, for people only.
    Note(String),
}

/// Something observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub at_us: u64,
    /// By asking whom.
    pub node: NodeId,
    /// What.
    pub kind: EventKind,
}

/// A digest of one node's data, polled after the heal to find when all are equal. The lab takes it over keys whose
/// operations are over ([`crate::workload::Plan::keys_retired_before`]), so that load does not hide the convergence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestPoll {
    /// When the answer came.
    pub at_us: u64,
    /// From whom.
    pub node: NodeId,
    /// The digest.
    pub digest: String,
}

/// One entry of a node's final state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalEntry {
    /// The key.
    pub key: String,
    /// Its values, the winner first; empty = absent.
    pub values: Vec<String>,
    /// The winner's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// What one node holds after quiescence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalState {
    /// When it was read.
    pub at_us: u64,
    /// From whom.
    pub node: NodeId,
    /// A digest over all of its data.
    pub digest: String,
    /// Every key of the workload that is present there.
    pub entries: Vec<FinalEntry>,
    /// Eventual: how many distinct writes its conflict ledger lists as discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discarded: Option<u64>,
}

/// How late the lab itself was: samples of a 10 ms sleeper's overshoot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lag {
    /// When the samples were written.
    pub at_us: u64,
    /// Each overshoot.
    pub overshoot_us: Vec<u64>,
}
