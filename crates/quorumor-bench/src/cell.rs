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
    /// All instances of a service of a thousand, linearizable.
    Discover,
    /// The same, as the asked node has them.
    LocalDiscover,
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
            Self::Discover => "discover",
            Self::LocalDiscover => "local-discover",
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
            Self::Discover => Pattern::Discover(Freshness::Linearizable),
            Self::LocalDiscover => Pattern::Discover(Freshness::Local),
        }
    }

    /// Whether it reads the instances of a service, so that they must be there.
    pub(crate) const fn discovers(self) -> bool {
        match self {
            Self::Discover | Self::LocalDiscover => true,
            Self::Put | Self::Get | Self::LocalGet | Self::Mix | Self::Batch | Self::KeepAlive => {
                false
            }
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
    /// Connections, if more than usual.
    pub connections: usize,
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
            connections: 0,
        }
    }

    /// The same, each call in flight on a connection of its own.
    #[must_use]
    pub const fn on_own_connections(self) -> Self {
        Self {
            connections: self.in_flight,
            ..self
        }
    }

    /// The same at so many calls a second, come what may.
    #[must_use]
    pub const fn paced(self, rate: f64) -> Self {
        Self {
            pace: Pace::Open { rate },
            ..self
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
        let place = match self.place {
            Place::AllNodes => "",
            Place::Leader => "-leader",
        };
        let pace = match self.pace {
            Pace::Closed => "",
            Pace::Open { .. } => "-paced",
        };
        format!("{}{place}{pace}", self.workload.as_str())
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
