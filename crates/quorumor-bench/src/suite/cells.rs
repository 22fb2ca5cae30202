//! The cells of the table and what each is to reach, for each mode. Measures nothing.

use crate::cell::{Cell, Workload};
use crate::goal::{Figure, Goal};
use crate::million;
use crate::target::Mode;

/// Clients that discover, and how often they do all together where they don't as fast as they can.
const DISCOVERERS: usize = 50;
const DISCOVERIES_S: f64 = 100.0;
/// Discovering a thousand instances takes no longer.
const DISCOVER_P99_MS_MAX: f64 = 5.0;

/// The names of all cells in strong mode, in their order.
const STRONG_NAMES: [&str; 14] = [
    "put",
    "get",
    "get-leader",
    "local-get",
    "mix",
    "batch",
    "discover",
    "discover-paced",
    "local-discover",
    "local-discover-paced",
    "watch",
    "keep-alive",
    "failover",
    million::NAME,
];

/// The same in eventual mode: without those that need a leader, an agreement or a log of all nodes.
const EVENTUAL_NAMES: [&str; 5] = [
    "put",
    "local-get",
    "batch",
    "local-discover",
    "local-discover-paced",
];

/// The names of all cells of a mode, in their order.
#[must_use]
pub const fn names(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Strong => &STRONG_NAMES,
        Mode::Eventual => &EVENTUAL_NAMES,
    }
}

/// A cell of the table with its goals.
pub(super) struct Planned {
    pub(super) cell: Cell,
    pub(super) goals: Vec<Goal>,
    /// Compared with the echo, not with etcd.
    pub(super) by_echo: bool,
}

impl Planned {
    fn new(cell: Cell, goals: &[Goal]) -> Self {
        Self {
            cell,
            goals: goals.to_vec(),
            by_echo: cell.workload == Workload::LocalGet,
        }
    }
}

/// The cells that are measured alike, in their order.
pub(super) fn planned(mode: Mode) -> Vec<Planned> {
    match mode {
        Mode::Strong => strong(),
        Mode::Eventual => eventual(),
    }
}

fn strong() -> Vec<Planned> {
    let (least, most) = (Goal::AtLeast, Goal::AtMost);
    let half_p99 = most(Figure::P99, 0.5);
    let third = 1.0 / 3.0;
    vec![
        Planned::new(
            Cell::closed(Workload::Put, 256),
            &[
                least(Figure::Ops, 2.5),
                half_p99,
                most(Figure::Cpu, third),
                most(Figure::Rss, 0.5),
            ],
        ),
        Planned::new(
            Cell::closed(Workload::Put, 64),
            &[least(Figure::Ops, 2.5), half_p99],
        ),
        Planned::new(Cell::closed(Workload::Put, 1), &[most(Figure::P50, 0.7)]),
        Planned::new(
            Cell::closed(Workload::Get, 64),
            &[least(Figure::Ops, 2.3), half_p99],
        ),
        Planned::new(
            Cell::closed(Workload::Get, 256),
            &[least(Figure::Ops, 1.8), half_p99],
        ),
        Planned::new(
            Cell::closed(Workload::Get, 256).at_leader(),
            &[least(Figure::Ops, 1.3)],
        ),
        Planned::new(
            Cell::closed(Workload::LocalGet, 64),
            &[least(Figure::Ops, 0.7)],
        ),
        Planned::new(
            Cell::closed(Workload::LocalGet, 256),
            &[least(Figure::Ops, 0.7)],
        ),
        Planned::new(
            Cell::closed(Workload::Mix, 256),
            &[least(Figure::Ops, 2.3), half_p99],
        ),
        Planned::new(
            Cell::closed(Workload::Batch, 16),
            &[least(Figure::Ops, 3.0)],
        ),
        Planned::new(discover(Workload::Discover), &[most(Figure::P99, 1.0)]),
        Planned::new(
            discover(Workload::Discover).paced(DISCOVERIES_S),
            &in_five_ms(),
        ),
        Planned::new(discover(Workload::LocalDiscover), &[most(Figure::P99, 1.0)]),
        Planned::new(
            discover(Workload::LocalDiscover).paced(DISCOVERIES_S),
            &in_five_ms(),
        ),
        Planned::new(Cell::closed(Workload::KeepAlive, 64), &[]),
    ]
}

/// All instances of a service, by clients each with a connection of its own.
const fn discover(workload: Workload) -> Cell {
    Cell::closed(workload, DISCOVERERS).on_own_connections()
}

const fn in_five_ms() -> [Goal; 2] {
    [
        Goal::Within(Figure::P99, DISCOVER_P99_MS_MAX),
        Goal::AtMost(Figure::P99, 1.0),
    ]
}

/// A write is kept by the node that took it, with its own fsync; a read is whatever that node has. So writes are held
/// against etcd's, and reads against what the transport leaves.
fn eventual() -> Vec<Planned> {
    let least = Goal::AtLeast;
    let of_the_echo = [least(Figure::Ops, 0.7)];
    vec![
        Planned::new(Cell::closed(Workload::Put, 64), &[least(Figure::Ops, 3.0)]),
        Planned::new(Cell::closed(Workload::Put, 256), &[]),
        Planned::new(Cell::closed(Workload::Put, 1), &[]),
        Planned::new(Cell::closed(Workload::LocalGet, 64), &of_the_echo),
        Planned::new(Cell::closed(Workload::LocalGet, 256), &of_the_echo),
        Planned::new(Cell::closed(Workload::Batch, 16), &[]),
        Planned::new(
            discover(Workload::LocalDiscover),
            &[Goal::AtMost(Figure::P99, 1.0)],
        ),
        Planned::new(
            discover(Workload::LocalDiscover).paced(DISCOVERIES_S),
            &in_five_ms(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planned_cell_has_a_known_name() {
        for mode in [Mode::Strong, Mode::Eventual] {
            for planned in planned(mode) {
                assert!(names(mode).contains(&planned.cell.name().as_str()));
            }
        }
    }
}
