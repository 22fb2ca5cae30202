//! The fault schedule, carried out: each fault at its time, with every step on record.
//!
//! Not a choice of faults (that is the scenario). Roles are resolved once, just before the fault.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::observer::Observer;
use super::processes::Cluster;
use crate::history::{
    Event, EventKind, FaultAction, FaultRecord, FaultStep, HistoryWriter, LabClock, LinkCounters,
    Mode, NodeId,
};
use crate::scenario::{Fault, FaultKind, Role, Scenario, minority};
use crate::workload::Plan;

/// How long before a fault its target is looked for.
const LOOK_AHEAD_US: u64 = 300_000;
/// How long a leader is looked for.
const LEADER_WITHIN: Duration = Duration::from_secs(3);

/// Everything that a fault needs.
pub(super) struct Nemesis {
    pub(super) cluster: Arc<Cluster>,
    pub(super) observer: Arc<Observer>,
    pub(super) scenario: Scenario,
    pub(super) plan: Arc<Plan>,
    pub(super) history: HistoryWriter,
    pub(super) clock: LabClock,
    pub(super) start_us: u64,
}

impl Nemesis {
    /// Carries out the schedule and returns once every fault is healed.
    pub(super) async fn run(self: Arc<Self>) -> Result<()> {
        let mut faults = JoinSet::new();
        for (index, fault) in (0..).zip(self.scenario.faults.clone()) {
            let nemesis = Arc::clone(&self);
            faults.spawn(async move { nemesis.carry_out(index, fault).await });
        }
        while let Some(done) = faults.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn carry_out(&self, index: u32, fault: Fault) -> Result<()> {
        self.until(fault.start_us.saturating_sub(LOOK_AHEAD_US))
            .await;
        let leader = self.leader(fault).await?;
        self.until(fault.start_us).await;
        match fault.kind {
            FaultKind::Kill(Role::Leader) => {
                let step = Step {
                    index,
                    action: FaultAction::Kill,
                    nodes: vec![leader],
                };
                self.kill(fault, leader, &step).await
            }
            FaultKind::Partition(side) => {
                let nodes = minority(&self.scenario, side, leader);
                let step = Step {
                    index,
                    action: FaultAction::Partition,
                    nodes,
                };
                self.partition(fault, &step).await
            }
        }
    }

    async fn kill(&self, fault: Fault, node: NodeId, step: &Step) -> Result<()> {
        self.record(step, FaultStep::Requested, Vec::new())?;
        self.cluster.kill(node).await?;
        self.record(step, FaultStep::Effective, Vec::new())?;
        self.until(fault.end_us).await;
        self.record(step, FaultStep::HealRequested, Vec::new())?;
        self.cluster.restart(node).await?;
        self.record(step, FaultStep::Healed, Vec::new())
    }

    async fn partition(&self, fault: Fault, step: &Step) -> Result<()> {
        let counters = || self.cluster.mesh.counters_across(&step.nodes);
        self.record(step, FaultStep::Requested, Vec::new())?;
        self.cluster.mesh.cut(&step.nodes);
        self.record(step, FaultStep::Effective, counters())?;
        self.until(fault.end_us).await;
        self.record(step, FaultStep::HealRequested, counters())?;
        self.cluster.mesh.heal();
        self.record(step, FaultStep::Healed, counters())
    }

    /// Strong: the leader that a majority names. Eventual has none: the node with most client traffic so far.
    async fn leader(&self, fault: Fault) -> Result<NodeId> {
        let busiest = self
            .plan
            .busiest_node(0, fault.start_us)
            .unwrap_or(NodeId(1));
        match self.cluster.mode {
            Mode::Eventual => Ok(busiest),
            Mode::Strong => {
                let deadline = Instant::now() + LEADER_WITHIN;
                while Instant::now() < deadline {
                    if let Some(leader) = self.observer.leader(&self.cluster.nodes).await {
                        return Ok(leader);
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                let text = format!("no majority named a leader: the fault takes {busiest}");
                let (at_us, kind) = (self.clock.now_us(), EventKind::Note(text));
                self.history.event(Event {
                    at_us,
                    node: busiest,
                    kind,
                })?;
                Ok(busiest)
            }
        }
    }

    async fn until(&self, from_zero_us: u64) {
        let at = self.clock.instant(self.start_us + from_zero_us);
        sleep_until(Instant::from_std(at)).await;
    }

    fn record(&self, of: &Step, step: FaultStep, links: Vec<LinkCounters>) -> Result<()> {
        let at_us = self.clock.now_us();
        let (fault, action, nodes) = (of.index, of.action, of.nodes.clone());
        Ok(self.history.fault(FaultRecord {
            at_us,
            fault,
            action,
            step,
            nodes,
            links,
        })?)
    }
}

/// What all records of one fault share.
struct Step {
    index: u32,
    action: FaultAction,
    nodes: Vec<NodeId>,
}
