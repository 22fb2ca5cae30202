//! The fault schedule, carried out: each fault at its time, with every step on record.
//!
//! Not a choice of faults (that is the scenario). Roles are resolved once, just before the fault. Faults overlap freely: what
//! one does to a link, a process or a disk it does under its own number, and takes back alone. A file a family.

mod clients;
mod damage;
mod hook;
mod kill;
mod link;
mod member;
mod process;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use self::damage::Damage;
use super::hooks::Hook;
use super::observer::Observer;
use super::processes::Cluster;
use crate::history::{
    Event, EventKind, FaultAction, FaultRecord, FaultStep, HistoryWriter, LabClock, LinkCounters,
    Mode, NodeId,
};
use crate::network::LinkKind;
use crate::scenario::{Fault, FaultKind, FloodClass, NotCarriedOut, Scenario};
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

/// What all records of one fault share.
struct Step {
    index: u32,
    action: FaultAction,
    nodes: Vec<NodeId>,
    start_us: u64,
    end_us: u64,
}

/// What a record says beside its step.
#[derive(Default)]
struct Trace {
    links: Vec<LinkCounters>,
    hits: u64,
}

impl Trace {
    fn hits(hits: u64) -> Self {
        Self {
            hits,
            ..Self::default()
        }
    }

    fn links(links: Vec<LinkCounters>) -> Self {
        Self { links, hits: 0 }
    }
}

/// Says whether a mode's processes can suffer a scenario's faults.
///
/// # Errors
/// The first fault that they can't, and why.
pub(super) fn can_carry_out(
    scenario: &Scenario,
    mode: Mode,
    links: LinkKind,
) -> Result<(), NotCarriedOut> {
    if let (Some(flood), Mode::Eventual) = (&scenario.flood, mode)
        && flood.class == FloodClass::LinearizableRead
    {
        let why = "eventual mode has no linearizable reads to flood it with";
        return Err(NotCarriedOut(why.to_owned()));
    }
    for (number, fault) in (1..).zip(&scenario.faults) {
        if let Some(why) = refusal(&fault.kind, mode, links) {
            return Err(NotCarriedOut(format!("fault {number}: {why}")));
        }
    }
    Ok(())
}

fn refusal(kind: &FaultKind, mode: Mode, links: LinkKind) -> Option<&'static str> {
    if let FaultKind::PowerCut { .. } = kind {
        return Some(
            "a power cut needs the simulated disk: real processes can only be killed, and SIGKILL keeps the page cache, so nothing un-synced is lost",
        );
    }
    let FaultKind::Weather { does, .. } = kind else {
        return None;
    };
    let is_late = does.delay.0 > 0 || does.jitter.0 > 0;
    if links == LinkKind::Namespaces {
        let more = is_late || does.duplicate_percent > 0 || does.reorder_percent > 0;
        return more.then_some(
            "between network namespaces packets can only be lost: late, doubled and reordered ones need proxies",
        );
    }
    (mode == Mode::Strong && !is_late).then_some(
        "strong mode talks over streams, which a proxy can only delay: its datagrams can't be lost or doubled, since it sends none",
    )
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
        let nodes = self.resolve(index, &fault).await?;
        self.until(fault.start_us).await;
        let step = Step {
            index,
            action: fault.kind.action(),
            nodes,
            start_us: fault.start_us,
            end_us: fault.end_us,
        };
        let kind = &fault.kind;
        match *kind {
            FaultKind::PowerCut { .. } => bail!("a power cut was let through"),
            FaultKind::Kill { .. } => self.kill(&step).await,
            FaultKind::RollingRestart { .. } => self.rolling_restart(&step).await,
            FaultKind::Wipe { .. } => self.damage(&step, Damage::Wipe).await,
            FaultKind::TearLog { .. } => self.damage(&step, Damage::Tear).await,
            FaultKind::FlipBit { .. } => self.damage(&step, Damage::Flip).await,
            FaultKind::Pause { .. } => self.pause(&step).await,
            FaultKind::Starve { cpu_percent, .. } => self.starve(&step, cpu_percent).await,
            FaultKind::Partition { .. }
            | FaultKind::CutOut { .. }
            | FaultKind::CutIn { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring => self.cut(&step, kind).await,
            FaultKind::Flap { period, .. } => self.flap(&step, kind, period).await,
            FaultKind::Weather { does, .. } => self.weather(&step, does).await,
            FaultKind::SlowDisk { sync, .. } => self.hook(&step, Hook::slow(sync)).await,
            FaultKind::FullDisk { .. } => self.hook(&step, Hook::full()).await,
            FaultKind::DiskError { .. } => self.disk_error(&step).await,
            FaultKind::ClockJump { by_ms, .. } => self.hook(&step, Hook::jump(by_ms)).await,
            FaultKind::ClockDrift { by_ppm, .. } => self.hook(&step, Hook::drift(by_ppm)).await,
            FaultKind::CutClients { .. } => self.cut_clients(&step).await,
            FaultKind::Replace { .. } => self.replace(&step).await,
        }
    }

    /// The nodes that a fault hits: those in whose place others stand by now are hit in their stead.
    async fn resolve(&self, index: u32, fault: &Fault) -> Result<Vec<NodeId>> {
        let doors = &self.cluster.doors;
        let leader = doors.place_of(self.leader(fault).await?);
        let target = fault.kind.target();
        let nodes = target.resolve(&self.scenario, index, leader);
        Ok(nodes.into_iter().map(|node| doors.stand_in(node)).collect())
    }

    /// Strong: the leader that a majority names. Eventual has none: the node with most client traffic so far.
    async fn leader(&self, fault: &Fault) -> Result<NodeId> {
        let busiest = self
            .plan
            .busiest_node(0, fault.start_us)
            .unwrap_or(NodeId(1));
        match self.cluster.mode {
            Mode::Eventual => Ok(busiest),
            Mode::Strong => {
                let deadline = Instant::now() + LEADER_WITHIN;
                while Instant::now() < deadline {
                    if let Some(leader) = self.observer.leader(&self.cluster.members()).await {
                        return Ok(leader);
                    }
                    sleep(Duration::from_millis(50)).await;
                }
                let text = format!("no majority named a leader: the fault takes {busiest}");
                self.note(busiest, text)?;
                Ok(busiest)
            }
        }
    }

    async fn until(&self, from_zero_us: u64) {
        let at = self.clock.instant(self.start_us + from_zero_us);
        sleep_until(Instant::from_std(at)).await;
    }

    /// Whether the time of a fault is over.
    fn is_over(&self, step: &Step) -> bool {
        self.clock.now_us() >= self.start_us + step.end_us
    }

    fn record(&self, of: &Step, step: FaultStep, trace: Trace) -> Result<()> {
        let at_us = self.clock.now_us();
        let (fault, action, nodes) = (of.index, of.action, of.nodes.clone());
        Ok(self.history.fault(FaultRecord {
            at_us,
            fault,
            action,
            step,
            nodes,
            links: trace.links,
            hits: trace.hits,
        })?)
    }

    fn note(&self, node: NodeId, text: String) -> Result<()> {
        let (at_us, kind) = (self.clock.now_us(), EventKind::Note(text));
        Ok(self.history.event(Event { at_us, node, kind })?)
    }
}
