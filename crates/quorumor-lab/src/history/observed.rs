//! The lines of a history that are not operations: faults, what was seen of the cluster, final states, the lab's lag.
//!
//! Not what a client saw (that is [`super::record`]). Written by the world that runs the scenario.

use serde::{Deserialize, Serialize};

use super::record::{Dot, NodeId, ProcessId, Version};

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// The process is killed, and later started on the disk that it left.
    Kill,
    /// The machine loses power: what the disk had not synced is lost in part.
    PowerCut,
    /// The process is killed and its disk emptied; later it is started again.
    Wipe,
    /// The process is killed and the tail of its log torn.
    TearLog,
    /// The process is killed and a bit of its log flipped.
    FlipBit,
    /// The process stands still.
    Pause,
    /// The process gets only part of its CPU.
    Starve,
    /// The named nodes are cut off from the others, both ways.
    Partition,
    /// Nothing from the named nodes reaches the others.
    CutOut,
    /// Nothing from the others reaches the named nodes.
    CutIn,
    /// Two halves that only the named nodes connect.
    Bridge,
    /// Each node reaches a majority, and no two the same one.
    Ring,
    /// The named nodes are cut off and back again, over and over.
    Flap,
    /// The links of the named nodes delay, lose, double or reorder.
    Weather,
    /// Each sync of the disk takes long.
    SlowDisk,
    /// The disk has no space.
    FullDisk,
    /// The disk answers a sync with an error.
    DiskError,
    /// The wall clock jumps.
    ClockJump,
    /// The clocks run at another rate.
    ClockDrift,
    /// Nothing passes between the named nodes and their clients.
    CutClients,
    /// The node is removed as a member, and another takes its place.
    Replace,
    /// New members come.
    Join,
}

impl FaultAction {
    /// What is done to nodes, as the end of a sentence that begins with them.
    pub fn words(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::PowerCut => "without power",
            Self::Wipe => "killed, disk emptied",
            Self::TearLog => "killed, log torn",
            Self::FlipBit => "killed, a bit flipped",
            Self::Pause => "paused",
            Self::Starve => "starved of CPU",
            Self::Partition => "cut off",
            Self::CutOut => "not heard",
            Self::CutIn => "deaf",
            Self::Bridge => "the only bridge",
            Self::Ring => "in a ring of majorities",
            Self::Flap => "flapping",
            Self::Weather => "in bad weather",
            Self::SlowDisk => "slow to sync",
            Self::FullDisk => "out of disk space",
            Self::DiskError => "with a broken disk",
            Self::ClockJump => "with a clock that jumped",
            Self::ClockDrift => "with a clock that drifts",
            Self::CutClients => "cut off from clients",
            Self::Replace => "replaced",
            Self::Join => "joining",
        }
    }

    /// True if the process ends by it.
    pub fn kills(self) -> bool {
        match self {
            Self::Kill | Self::PowerCut | Self::Wipe | Self::TearLog | Self::FlipBit => true,
            Self::Pause
            | Self::Starve
            | Self::Partition
            | Self::CutOut
            | Self::CutIn
            | Self::Bridge
            | Self::Ring
            | Self::Flap
            | Self::Weather
            | Self::SlowDisk
            | Self::FullDisk
            | Self::DiskError
            | Self::ClockJump
            | Self::ClockDrift
            | Self::CutClients
            | Self::Replace
            | Self::Join => false,
        }
    }
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
    /// How often it took effect so far, as the world saw it: what a pause held back, syncs that were slow or refused, processes
    /// seen standing still, clocks seen off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hits: u64,
}

/// What a node believes about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    /// The node is out of the cluster for good, and rightly, for this reason: nobody expects it at the end.
    Out(String),
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

/// What a watcher was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WatchStep {
    /// The watch was asked for.
    Opened {
        /// The cursor to resume from; none = from the present on, after a snapshot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// The state at its beginning.
    Snapshot {
        /// Every entry under the prefix.
        entries: Vec<FinalEntry>,
        /// Strong: the revision of the state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
    },
    /// One change.
    Change {
        /// The key.
        key: String,
        /// Its values from now on, the winner first; empty = deleted.
        values: Vec<String>,
        /// The version of the change, where it is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
    /// Strong: everything up to here was told.
    Progress {
        /// The revision.
        revision: u64,
    },
    /// What lay between is gone: a new snapshot follows.
    Resync {
        /// Why.
        reason: String,
    },
    /// The stream ended.
    Closed {
        /// Why.
        reason: String,
    },
}

/// A step of one watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchRecord {
    /// When.
    pub at_us: u64,
    /// Which watcher; it may go from node to node.
    pub watch: u64,
    /// The node that it watches at.
    pub node: NodeId,
    /// The prefix watched.
    pub prefix: String,
    /// What.
    pub step: WatchStep,
}

/// A write to the lab's own resource, which a lock guards: it refuses a fencing token below one that it has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceRecord {
    /// When.
    pub at_us: u64,
    /// The lock's key.
    pub lock: String,
    /// Who holds the lock, as it believes.
    pub holder: ProcessId,
    /// The fencing token: the revision at which the lock was taken.
    pub token: u64,
    /// Whether the resource took the write.
    pub accepted: bool,
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
    /// Eventual: the dots of the writes that its conflict ledger lists as discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Vec<Dot>>,
    /// Eventual: how many distinct writes its conflict ledger counts as discarded.
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

fn is_zero(n: &u64) -> bool {
    *n == 0
}
