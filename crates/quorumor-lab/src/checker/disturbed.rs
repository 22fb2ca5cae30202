//! When faults held: what the checkers of leases and of failure detection make allowance for.
//!
//! Not a checker.

use crate::history::{FaultAction, FaultStep, History, NodeId};

/// One fault, from its effect to its end.
#[derive(Clone, Debug)]
pub(super) struct Disturbance {
    /// Its place in the schedule.
    pub(super) fault: u32,
    pub(super) action: FaultAction,
    pub(super) nodes: Vec<NodeId>,
    pub(super) from_us: u64,
    /// [`u64::MAX`] if it never ended.
    pub(super) to_us: u64,
}

impl Disturbance {
    /// Whether it held at some time between.
    pub(super) fn overlaps(&self, from_us: u64, to_us: u64) -> bool {
        self.from_us <= to_us && from_us <= self.to_us
    }

    /// Whether the process of its nodes doesn't run meanwhile.
    pub(super) fn stops(&self) -> bool {
        self.action.kills() || self.action == FaultAction::Pause
    }
}

/// Every fault that took effect, or may have: one that was asked for counts from then.
pub(super) fn disturbances(history: &History) -> Vec<Disturbance> {
    let mut all: Vec<Disturbance> = Vec::new();
    for record in &history.faults {
        let same = |other: &&mut Disturbance| {
            other.fault == record.fault
                && other.to_us == u64::MAX
                && (other.nodes == record.nodes || record.nodes.is_empty())
        };
        let open = all.iter_mut().find(same);
        match (record.step, open) {
            (FaultStep::Requested | FaultStep::Effective, None) => all.push(Disturbance {
                fault: record.fault,
                action: record.action,
                nodes: record.nodes.clone(),
                from_us: record.at_us,
                to_us: u64::MAX,
            }),
            (FaultStep::Healed, Some(open)) => open.to_us = record.at_us,
            (FaultStep::Requested | FaultStep::Effective, Some(_))
            | (FaultStep::HealRequested, _)
            | (FaultStep::Healed, None) => {}
        }
    }
    all
}
