//! The fault schedule, carried out on etcd: each fault at its time, with every step on record.
//!
//! Not a choice of faults (that is the scenario). What can't be done to a foreign process is refused before the run begins
//! ([`refusal`]). Roles are resolved once, just before the fault.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::cluster::{ADMIN, EtcdCluster};
use crate::history::{
    Event, EventKind, FaultAction, FaultRecord, FaultStep, HistoryWriter, LabClock, LinkCounters,
    NodeId,
};
use crate::network::Trouble;
use crate::scenario::{
    Fault, FaultKind, Link, STARVE_TURN_US, Scenario, Weather, held_links, touching_links,
};
use crate::workload::Plan;

/// How long before a fault its target is looked for.
const LOOK_AHEAD_US: u64 = 300_000;
/// How long a leader is looked for.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
/// A member that says nothing for so long stands still; one that runs answers within a few milliseconds.
const SILENT_AFTER: Duration = Duration::from_millis(200);

/// Why a fault can't be carried out on etcd; none = it can.
pub(super) fn refusal(kind: &FaultKind, nodes: u32) -> Option<&'static str> {
    match kind {
        FaultKind::Kill { .. }
        | FaultKind::RollingRestart { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Starve { .. }
        | FaultKind::Partition { .. }
        | FaultKind::CutOut { .. }
        | FaultKind::CutIn { .. }
        | FaultKind::Bridge { .. }
        | FaultKind::Flap { .. } => None,
        FaultKind::Ring => (nodes < 4).then_some("a ring of majorities takes at least four nodes"),
        FaultKind::Weather { does, .. } => {
            let delays = does.delay.0 > 0 || does.jitter.0 > 0;
            (!delays).then_some("etcd's links are streams, which can only be delayed")
        }
        FaultKind::PowerCut { .. } => Some("a foreign process can't be made to lose unsynced data"),
        FaultKind::Wipe { .. } => Some("etcd has its own procedure for a member without its disk"),
        FaultKind::TearLog { .. } | FaultKind::FlipBit { .. } => {
            Some("the lab doesn't know the layout of etcd's log")
        }
        FaultKind::SlowDisk { .. } | FaultKind::FullDisk { .. } | FaultKind::DiskError { .. } => {
            Some("the lab's faulty disk is only in its own nodes")
        }
        FaultKind::ClockJump { .. } | FaultKind::ClockDrift { .. } => {
            Some("the lab's faulty clock is only in its own nodes")
        }
        FaultKind::CutClients { .. } => {
            Some("nothing that could be cut is between the lab's clients and etcd")
        }
        FaultKind::Replace { .. } => Some("the lab doesn't change etcd's membership"),
    }
}

/// Everything that a fault needs.
pub(super) struct Nemesis {
    pub(super) cluster: Arc<EtcdCluster>,
    pub(super) scenario: Scenario,
    pub(super) plan: Arc<Plan>,
    pub(super) history: HistoryWriter,
    pub(super) clock: LabClock,
    pub(super) start_us: u64,
}

/// One fault that is being carried out.
struct Hit {
    index: u32,
    fault: Fault,
    nodes: Vec<NodeId>,
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
        let leader = self.leader(&fault).await?;
        self.until(fault.start_us).await;
        let target = fault.kind.target();
        let nodes = target.resolve(&self.scenario, index, leader);
        let hit = Hit {
            index,
            nodes,
            fault,
        };
        match &hit.fault.kind {
            FaultKind::Kill { .. } => self.kill(&hit).await,
            FaultKind::RollingRestart { .. } => self.roll(&hit).await,
            FaultKind::Pause { .. } => self.pause(&hit).await,
            FaultKind::Starve { cpu_percent, .. } => self.starve(&hit, *cpu_percent).await,
            FaultKind::Partition { .. }
            | FaultKind::CutOut { .. }
            | FaultKind::CutIn { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring => self.cut(&hit).await,
            FaultKind::Flap { period, .. } => self.flap(&hit, period.0).await,
            FaultKind::Weather { does, .. } => self.weather(&hit, *does).await,
            FaultKind::PowerCut { .. }
            | FaultKind::Wipe { .. }
            | FaultKind::TearLog { .. }
            | FaultKind::FlipBit { .. }
            | FaultKind::SlowDisk { .. }
            | FaultKind::FullDisk { .. }
            | FaultKind::DiskError { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::CutClients { .. }
            | FaultKind::Replace { .. } => bail!("{:?} can't be carried out here", hit.fault.kind),
        }
    }

    async fn kill(&self, hit: &Hit) -> Result<()> {
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        for &node in &hit.nodes {
            self.cluster.kill(node).await?;
        }
        self.record(hit, FaultStep::Effective, Vec::new(), 0)?;
        self.until(hit.fault.end_us).await;
        self.record(hit, FaultStep::HealRequested, Vec::new(), 0)?;
        self.cluster.restart(&hit.nodes).await?;
        self.record(hit, FaultStep::Healed, Vec::new(), 0)
    }

    async fn roll(&self, hit: &Hit) -> Result<()> {
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        let Fault {
            start_us, end_us, ..
        } = hit.fault;
        let share_us = (end_us - start_us) / (hit.nodes.len() as u64).max(1);
        for (turn, &node) in (1..).zip(&hit.nodes) {
            self.cluster.kill(node).await?;
            if turn == 1 {
                self.record(hit, FaultStep::Effective, Vec::new(), 0)?;
            }
            self.until(start_us + share_us * turn).await;
            if turn == hit.nodes.len() as u64 {
                self.record(hit, FaultStep::HealRequested, Vec::new(), 0)?;
            }
            // The next one waits until this one is back: a rolling restart never takes two at a time.
            self.cluster.restart(&[node]).await?;
        }
        self.record(hit, FaultStep::Healed, Vec::new(), 0)
    }

    async fn pause(&self, hit: &Hit) -> Result<()> {
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        for &node in &hit.nodes {
            self.cluster.pause(node)?;
        }
        self.record(hit, FaultStep::Effective, Vec::new(), 0)?;
        let silent = self.silent(&hit.nodes).await;
        self.until(hit.fault.end_us).await;
        self.record(hit, FaultStep::HealRequested, Vec::new(), silent)?;
        for &node in &hit.nodes {
            self.cluster.resume(node)?;
        }
        self.record(hit, FaultStep::Healed, Vec::new(), silent)
    }

    /// How many of these members don't answer, asked all at once: a pause may be short.
    async fn silent(&self, nodes: &[NodeId]) -> u64 {
        let mut asked = JoinSet::new();
        for &node in nodes {
            let executor = Arc::clone(&self.cluster.executor);
            asked.spawn(async move { executor.status(ADMIN, node, SILENT_AFTER).await });
        }
        let answers = asked.join_all().await;
        answers.iter().filter(|answer| answer.is_err()).count() as u64
    }

    /// Lets the members run for their share of each turn and stand still for the rest.
    async fn starve(&self, hit: &Hit, cpu_percent: u32) -> Result<()> {
        let run_us = STARVE_TURN_US * u64::from(cpu_percent.min(100)) / 100;
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        self.record(hit, FaultStep::Effective, Vec::new(), 0)?;
        let mut turns = 0;
        let mut at_us = hit.fault.start_us;
        while at_us < hit.fault.end_us {
            for &node in &hit.nodes {
                self.cluster.pause(node)?;
            }
            turns += 1;
            self.until(at_us + STARVE_TURN_US - run_us).await;
            for &node in &hit.nodes {
                self.cluster.resume(node)?;
            }
            at_us += STARVE_TURN_US;
            self.until(at_us).await;
        }
        self.record(hit, FaultStep::HealRequested, Vec::new(), turns)?;
        self.record(hit, FaultStep::Healed, Vec::new(), turns)
    }

    async fn cut(&self, hit: &Hit) -> Result<()> {
        let (mesh, links) = (&self.cluster.mesh, self.links(hit));
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        mesh.begin(hit.index, &links, Trouble::CUT);
        self.record(hit, FaultStep::Effective, mesh.counters(&links), 0)?;
        self.until(hit.fault.end_us).await;
        self.record(hit, FaultStep::HealRequested, mesh.counters(&links), 0)?;
        mesh.end(hit.index);
        self.record(hit, FaultStep::Healed, mesh.counters(&links), 0)
    }

    async fn flap(&self, hit: &Hit, period_us: u64) -> Result<()> {
        let (mesh, links) = (&self.cluster.mesh, self.links(hit));
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        let mut at_us = hit.fault.start_us;
        while at_us < hit.fault.end_us {
            mesh.begin(hit.index, &links, Trouble::CUT);
            if at_us == hit.fault.start_us {
                self.record(hit, FaultStep::Effective, mesh.counters(&links), 0)?;
            }
            self.until(hit.fault.end_us.min(at_us + period_us / 2))
                .await;
            mesh.end(hit.index);
            at_us += period_us.max(1);
            self.until(hit.fault.end_us.min(at_us)).await;
        }
        self.record(hit, FaultStep::HealRequested, mesh.counters(&links), 0)?;
        self.record(hit, FaultStep::Healed, mesh.counters(&links), 0)
    }

    /// Delays whatever passes. Hits are what came late.
    async fn weather(&self, hit: &Hit, does: Weather) -> Result<()> {
        let mesh = &self.cluster.mesh;
        let links = touching_links(&hit.nodes, &self.cluster.nodes);
        self.record(hit, FaultStep::Requested, Vec::new(), 0)?;
        let before = mesh.hits(&links);
        let late = || mesh.hits(&links) - before;
        mesh.begin(hit.index, &links, Trouble::from(does));
        self.record(hit, FaultStep::Effective, mesh.counters(&links), late())?;
        self.until(hit.fault.end_us).await;
        self.record(hit, FaultStep::HealRequested, mesh.counters(&links), late())?;
        mesh.end(hit.index);
        self.record(hit, FaultStep::Healed, mesh.counters(&links), late())
    }

    fn links(&self, hit: &Hit) -> Vec<Link> {
        held_links(&hit.fault.kind, &hit.nodes, &self.cluster.nodes)
    }

    /// The leader that a majority names; if none is named for long, the node with most client traffic so far.
    async fn leader(&self, fault: &Fault) -> Result<NodeId> {
        let deadline = Instant::now() + LEADER_WITHIN;
        while Instant::now() < deadline {
            if let Some(leader) = self.cluster.leader().await {
                return Ok(leader);
            }
            sleep(Duration::from_millis(50)).await;
        }
        let busiest = self.plan.busiest_node(0, fault.start_us);
        let busiest = busiest.unwrap_or(NodeId(1));
        let text = format!("no majority named a leader: the fault takes {busiest}");
        self.history.event(Event {
            at_us: self.clock.now_us(),
            node: busiest,
            kind: EventKind::Note(text),
        })?;
        Ok(busiest)
    }

    async fn until(&self, from_zero_us: u64) {
        let at = self.clock.instant(self.start_us + from_zero_us);
        sleep_until(Instant::from_std(at)).await;
    }

    fn record(
        &self,
        hit: &Hit,
        step: FaultStep,
        links: Vec<LinkCounters>,
        hits: u64,
    ) -> Result<()> {
        let action: FaultAction = hit.fault.kind.action();
        Ok(self.history.fault(FaultRecord {
            at_us: self.clock.now_us(),
            fault: hit.index,
            action,
            step,
            nodes: hit.nodes.clone(),
            links,
            hits,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Micros, Target};

    #[test]
    fn faults_that_need_the_inside_of_a_node_are_refused_with_a_reason() {
        let on = || Target::Leader;
        let sync = Micros::millis(1);
        for kind in [
            FaultKind::PowerCut { on: on() },
            FaultKind::Wipe { on: on() },
            FaultKind::TearLog { on: on() },
            FaultKind::FlipBit { on: on() },
            FaultKind::SlowDisk { on: on(), sync },
            FaultKind::FullDisk { on: on() },
            FaultKind::DiskError { on: on() },
            FaultKind::ClockJump { on: on(), by_ms: 1 },
            FaultKind::ClockDrift {
                on: on(),
                by_ppm: 1,
            },
            FaultKind::Replace { who: on() },
        ] {
            assert!(refusal(&kind, 5).is_some(), "{kind:?}");
        }
        assert_eq!(refusal(&FaultKind::Kill { on: on() }, 3), None);
        assert!(refusal(&FaultKind::Ring, 3).is_some());
        assert_eq!(refusal(&FaultKind::Ring, 5), None);
    }

    #[test]
    fn weather_is_carried_out_where_it_delays() {
        let weather = |does| FaultKind::Weather {
            on: Target::All,
            does,
        };
        let loss = Weather {
            loss_percent: 10,
            ..Weather::default()
        };
        assert!(refusal(&weather(loss), 3).is_some());
        let delay = Weather {
            delay: Micros::millis(5),
            ..loss
        };
        assert_eq!(refusal(&weather(delay), 3), None);
    }
}
