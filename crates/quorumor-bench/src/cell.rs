//! One cell of the table: a workload, how much of it is in flight, and where it goes; and how all cells are measured.

use std::time::Duration;

use crate::load::{LoadPlan, Pace, Pattern};
use crate::machine::FOREIGN_CORES_MAX;
use crate::op::Freshness;
use crate::target::Place;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Puts.
    Put,
    /// Linearizable reads.
    Get,
    /// Local reads.
    LocalGet,
    /// Nine linearizable reads to one put.
    Mix,
    /// Batches of a hundred puts, counted in keys.
    Batch,
    /// Keep-alives of leases, one for each call in flight, each on a stream of its own.
    KeepAlive,
}

impl Workload {
    /// Its name, as typed and as shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::LocalGet => "local-get",
            Self::Mix => "mix",
            Self::Batch => "batch",
            Self::KeepAlive => "keep-alive",
        }
    }

    const fn pattern(self) -> Pattern {
        match self {
            Self::Put => Pattern::Put,
            Self::Get => Pattern::Get(Freshness::Linearizable),
            Self::LocalGet => Pattern::Get(Freshness::Local),
            Self::Mix => Pattern::Mix,
            Self::Batch => Pattern::Batch,
            Self::KeepAlive => Pattern::KeepAlive,
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// What is done.
    pub workload: Workload,
    /// Calls in flight; in an open loop the most.
    pub in_flight: usize,
    /// Which nodes are asked.
    pub place: Place,
    /// When calls are made.
    pub pace: Pace,
}

impl Cell {
    /// A closed loop over all nodes.
    #[must_use]
    pub const fn closed(workload: Workload, in_flight: usize) -> Self {
        Self {
            workload,
            in_flight,
            place: Place::AllNodes,
            pace: Pace::Closed,
        }
    }

    /// The same, asked of the leader only.
    #[must_use]
    pub const fn at_leader(self) -> Self {
        Self {
            place: Place::Leader,
            ..self
        }
    }

    /// How the cell is called in results.
    #[must_use]
    pub fn name(&self) -> String {
        match self.place {
            Place::AllNodes => self.workload.as_str().to_owned(),
            Place::Leader => format!("{}-leader", self.workload.as_str()),
        }
    }
}

/// How cells are measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections of a target.
    pub connections: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Keys to touch.
    pub keys: usize,
    /// Measured, for each cell and target.
    pub duration: Duration,
    /// Before that, not measured.
    pub warm_up: Duration,
    /// So often each target has its turn; the median counts.
    pub rounds: usize,
    /// A turn with more foreign cores than this is void.
    pub foreign_cores_max: f64,
    /// A void turn is repeated at most so often.
    pub void_repeats_max: usize,
    /// Which keys come when.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 12,
            value_bytes: 256,
            keys: 10_000,
            duration: Duration::from_secs(5),
            warm_up: Duration::from_secs(1),
            rounds: 3,
            foreign_cores_max: FOREIGN_CORES_MAX,
            void_repeats_max: 2,
            seed: 1,
        }
    }
}

impl Settings {
    pub(crate) const fn plan(&self, cell: &Cell, round: u64) -> LoadPlan {
        LoadPlan {
            pattern: cell.workload.pattern(),
            in_flight: cell.in_flight,
            pace: cell.pace,
            warm_up: self.warm_up,
            duration: self.duration,
            keys: self.keys,
            value_bytes: self.value_bytes,
            seed: self.seed.wrapping_add(round),
        }
    }
}
