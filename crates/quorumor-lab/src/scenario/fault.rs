//! What a fault does, and when. Not how: a world carries it out.

use serde::{Deserialize, Serialize};

use super::{Micros, Target};
use crate::history::FaultAction;

/// One turn of a starved process, in every world: it runs for part of it, and stands still for the rest.
pub(crate) const STARVE_TURN_US: u64 = 20_000;

/// What links do to messages while a [`FaultKind::Weather`] holds. Streams are only delayed: to them loss is delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weather {
    /// The least delay that is added, one way.
    pub delay: Micros,
    /// Up to so much more, at random.
    pub jitter: Micros,
    /// Datagrams lost, in a hundred.
    pub loss_percent: u32,
    /// Datagrams doubled, in a hundred.
    pub duplicate_percent: u32,
    /// Datagrams held back behind later ones, in a hundred.
    pub reorder_percent: u32,
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// The processes are killed; the end of the fault is a restart on the same disks.
    Kill {
        /// Whose.
        on: Target,
    },
    /// The machines lose power: what their disks had not synced is lost in part.
    PowerCut {
        /// Whose.
        on: Target,
    },
    /// One after the other is killed and started again; each is down for an equal share of the fault's time.
    RollingRestart {
        /// Whose.
        on: Target,
    },
    /// Killed, and started again with an empty disk under the same id.
    Wipe {
        /// Whose.
        on: Target,
    },
    /// Killed, and started again with the last bytes of its log cut off.
    TearLog {
        /// Whose.
        on: Target,
    },
    /// Killed, and started again with a bit of its log flipped.
    FlipBit {
        /// Whose.
        on: Target,
    },
    /// The process stands still, as under SIGSTOP.
    Pause {
        /// Whose.
        on: Target,
    },
    /// The process runs only part of the time.
    Starve {
        /// Whose.
        on: Target,
        /// What it gets of the CPU, in a hundred.
        cpu_percent: u32,
    },
    /// These nodes are cut off from the others, both ways. Clients stay where they are.
    Partition {
        /// Who.
        side: Target,
    },
    /// Nothing from these nodes reaches the others; what the others send arrives.
    CutOut {
        /// Who.
        side: Target,
    },
    /// Nothing from the others reaches these nodes; what these send arrives.
    CutIn {
        /// Who.
        side: Target,
    },
    /// Two halves that only this node connects.
    Bridge {
        /// Who; of several the first.
        over: Target,
    },
    /// Every node reaches a majority, and no two the same one (Jepsen's majorities ring).
    Ring,
    /// These nodes are cut off for half of each period and back for the other half.
    Flap {
        /// Who.
        side: Target,
        /// How long a turn of both takes.
        period: Micros,
    },
    /// The links of these nodes, both ways, do this to messages.
    Weather {
        /// Whose links.
        on: Target,
        /// What they do.
        does: Weather,
    },
    /// Each sync of the disk takes so long.
    SlowDisk {
        /// Whose.
        on: Target,
        /// How long.
        sync: Micros,
    },
    /// The disk has no space.
    FullDisk {
        /// Whose.
        on: Target,
    },
    /// The disk answers the next sync with an I/O error: the node must stop. The end of the fault is a restart on a good disk.
    DiskError {
        /// Whose.
        on: Target,
    },
    /// The wall clock jumps, and back at the fault's end.
    ClockJump {
        /// Whose.
        on: Target,
        /// By so many milliseconds.
        by_ms: i64,
    },
    /// The clocks run too fast or too slow.
    ClockDrift {
        /// Whose.
        on: Target,
        /// By so many millionths; 10,000 is one in a hundred too fast.
        by_ppm: i64,
    },
    /// Nothing passes between these nodes and their clients, though connections are accepted; their peers notice nothing.
    CutClients {
        /// Whose.
        on: Target,
    },
    /// Strong: the node is replaced as a member by a new one. Eventual: it leaves, and a new one joins.
    Replace {
        /// Whom; of several the first.
        who: Target,
    },
}

impl FaultKind {
    /// What a history calls it.
    pub fn action(&self) -> FaultAction {
        match self {
            Self::Kill { .. } | Self::RollingRestart { .. } => FaultAction::Kill,
            Self::PowerCut { .. } => FaultAction::PowerCut,
            Self::Wipe { .. } => FaultAction::Wipe,
            Self::TearLog { .. } => FaultAction::TearLog,
            Self::FlipBit { .. } => FaultAction::FlipBit,
            Self::Pause { .. } => FaultAction::Pause,
            Self::Starve { .. } => FaultAction::Starve,
            Self::Partition { .. } => FaultAction::Partition,
            Self::CutOut { .. } => FaultAction::CutOut,
            Self::CutIn { .. } => FaultAction::CutIn,
            Self::Bridge { .. } => FaultAction::Bridge,
            Self::Ring => FaultAction::Ring,
            Self::Flap { .. } => FaultAction::Flap,
            Self::Weather { .. } => FaultAction::Weather,
            Self::SlowDisk { .. } => FaultAction::SlowDisk,
            Self::FullDisk { .. } => FaultAction::FullDisk,
            Self::DiskError { .. } => FaultAction::DiskError,
            Self::ClockJump { .. } => FaultAction::ClockJump,
            Self::ClockDrift { .. } => FaultAction::ClockDrift,
            Self::CutClients { .. } => FaultAction::CutClients,
            Self::Replace { .. } => FaultAction::Replace,
        }
    }

    /// Whom it hits.
    pub fn target(&self) -> &Target {
        match self {
            Self::Kill { on }
            | Self::PowerCut { on }
            | Self::RollingRestart { on }
            | Self::Wipe { on }
            | Self::TearLog { on }
            | Self::FlipBit { on }
            | Self::Pause { on }
            | Self::Starve { on, .. }
            | Self::Weather { on, .. }
            | Self::SlowDisk { on, .. }
            | Self::FullDisk { on }
            | Self::CutClients { on }
            | Self::DiskError { on }
            | Self::ClockJump { on, .. }
            | Self::ClockDrift { on, .. }
            | Self::Bridge { over: on }
            | Self::Partition { side: on }
            | Self::CutOut { side: on }
            | Self::CutIn { side: on }
            | Self::Flap { side: on, .. }
            | Self::Replace { who: on } => on,
            Self::Ring => &Target::All,
        }
    }
}

/// A fault and when it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What it does.
    pub kind: FaultKind,
    /// When it begins, from time zero of the workload.
    pub start_us: u64,
    /// When its end is asked for, from time zero of the workload.
    pub end_us: u64,
}
