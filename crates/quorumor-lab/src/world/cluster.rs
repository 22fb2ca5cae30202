//! The real world: nodes as child processes on this machine, real time, every directed link the lab's to cut.
//!
//! Not a simulator: a run can't be repeated byte for byte, only its load and its faults come from the seed. A run
//! starts the cluster, waits until it serves, sends the plan open-loop while the fault schedule is carried out,
//! waits until all is quiet, reads every node, and leaves a history. It judges nothing.
//!
//! Each operation has one deadline (the workload's, 1 s by default): shorter than the outages that are to be seen,
//! so that a gap shows as operations without an answer, and longer than an answer takes in a healthy cluster.

pub(crate) mod caller;
mod doors;
mod executor;
mod faults;
mod finish;
mod flood;
mod fronts;
mod hooks;
pub(crate) mod lag;
mod live;
pub(crate) mod load;
mod node;
mod numbers;
mod observer;
mod outcome;
mod processes;
mod recipes;
pub(crate) mod riders;
mod serving;
pub(crate) mod setup;
pub mod torture;
mod watchers;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use quorumor_core as core;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use live::Live;

use crate::analyse::FloodCounts;
use crate::history::{
    ClientId, Event, EventKind, Header, HistoryWriter, LabClock, Mode, NodeId, World,
};
use crate::network::{LinkKind, namespaces};
use crate::scenario::{NotCarriedOut, Scenario};
use crate::workload::{Arrivals, Plan};
use caller::Caller;
use executor::Ours;
use faults::Nemesis;
use finish::Auditor;
use flood::Flooding;
use numbers::Numbers;
use observer::Observer;
use processes::Cluster;
use setup::{DataDir, connect_clients, settings};
use watchers::Watchers;

/// The client id under which the lab itself talks to nodes.
const ADMIN: ClientId = ClientId(u32::MAX);
/// From the header to time zero of the workload.
const LEAD: Duration = Duration::from_millis(300);

/// A defect that the lab plants on purpose, to show that it is flagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Strong reads are asked at local level and go on record as linearizable.
    StaleReads,
}

impl Plant {
    /// What the report says about it.
    pub fn text(self) -> &'static str {
        match self {
            Self::StaleReads => {
                "planted defect: strong reads were served locally and judged as linearizable"
            }
        }
    }
}

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The mode.
    pub mode: Mode,
    /// The program that has `serve`.
    pub program: PathBuf,
    /// Where the history, the logs and, while it runs, the nodes' data go.
    pub out: PathBuf,
    /// A defect to plant.
    pub plant: Option<Plant>,
    /// What the links between nodes are made of.
    pub links: LinkKind,
}

impl ClusterOptions {
    /// Where the history goes.
    pub fn history_path(&self) -> PathBuf {
        self.out.join(format!("history-{}.jsonl", self.mode.name()))
    }
}

/// What a run leaves beside the history.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// What a person should know, such as nodes that ended by themselves.
    pub notes: Vec<String>,
    /// What became of the flood, if there was one.
    pub flood: Option<FloodCounts>,
}

/// Says whether a mode's processes can suffer a scenario's faults.
///
/// # Errors
/// The first fault that they can't, and why.
pub fn can_carry_out(
    scenario: &Scenario,
    mode: Mode,
    links: LinkKind,
) -> Result<(), NotCarriedOut> {
    match (links, namespaces::unavailable()) {
        (LinkKind::Namespaces, Some(why)) => Err(NotCarriedOut(why.to_owned())),
        (LinkKind::Namespaces, None) | (LinkKind::Proxies, _) => {
            faults::can_carry_out(scenario, mode, links)
        }
    }
}

/// Runs a scenario against a cluster of real processes and leaves its history at
/// [`ClusterOptions::history_path`]. However it ends, no node is left running.
///
/// # Errors
/// When the cluster can't be started, a fault can't be carried out, the history can't be written, or `interrupt`
/// came. That says nothing about the system's promises.
pub async fn run(
    options: &ClusterOptions,
    scenario: &Scenario,
    live: &Arc<Live>,
    interrupt: &CancellationToken,
) -> Result<Ran> {
    can_carry_out(scenario, options.mode, options.links)?;
    let data = DataDir::create(&options.out, options.mode.name())?;
    let cluster = Arc::new(Cluster::prepare(options, scenario, &data.path).await?);
    let ran = tokio::select! {
        ran = run_on(&cluster, options, scenario, live) => ran,
        () = interrupt.cancelled() => Err(anyhow!("interrupted")),
    };
    let killed = cluster.kill_all().await;
    let ran = ran?;
    killed.map(|()| ran)
}

async fn run_on(
    cluster: &Arc<Cluster>,
    options: &ClusterOptions,
    scenario: &Scenario,
    live: &Arc<Live>,
) -> Result<Ran> {
    cluster.start(live).await?;
    cluster.wait_serving(live).await?;
    Run::new(options, scenario, Arc::clone(cluster), live)
        .await?
        .carry_out()
        .await
}

/// One run from the header to the footer.
struct Run {
    mode: Mode,
    scenario: Scenario,
    plan: Arc<Plan>,
    cluster: Arc<Cluster>,
    observer: Arc<Observer>,
    caller: Arc<Caller>,
    history: HistoryWriter,
    clock: LabClock,
    start_us: u64,
    live: Arc<Live>,
}

impl Run {
    async fn new(
        options: &ClusterOptions,
        scenario: &Scenario,
        cluster: Arc<Cluster>,
        live: &Arc<Live>,
    ) -> Result<Self> {
        let (mode, workload) = (options.mode, scenario.workload);
        let duration_us = scenario.duration_us();
        let plan = Plan::new(&workload, scenario.nodes, scenario.seed, duration_us);
        let plan = Arc::new(plan);
        let build = connect_clients(&cluster, scenario, &plan).await?;
        let numbers = match mode {
            Mode::Strong if workload.retries > 0 => Numbers::open(&cluster, &workload).await?,
            Mode::Strong | Mode::Eventual => Numbers::default(),
        };
        let clock = LabClock::new();
        let start_us = u64::try_from(LEAD.as_micros()).unwrap_or(0);
        let mut header = Header::new(mode, World::Cluster, scenario.clone(), start_us);
        header.build = build;
        header.fsync = "fsync before every acknowledgement".to_owned();
        header.config = settings(options.links, options.plant, scenario.workload.breaker);
        let path = options.history_path();
        let history = HistoryWriter::create(&path, header)
            .with_context(|| format!("can't write `{}`", path.display()))?;
        let (doors, founders) = (Arc::clone(&cluster.doors), cluster.founders.clone());
        let observer = Observer::new(mode, history.clone(), clock, doors, founders);
        let observer = Arc::new(observer);
        let ours = Ours {
            mode,
            plant: options.plant,
            acks: workload.acks,
            clock,
            doors: Arc::clone(&cluster.doors),
            observer: Arc::clone(&observer),
            retries: workload.retries,
            numbers,
            founders: cluster.founders.clone(),
        };
        let caller = Caller::new(caller::Parts {
            executor: Arc::new(ours),
            history: history.clone(),
            clock,
            timeout_us: workload.timeout_us,
            tokens: workload.tokens,
        });
        Ok(Self {
            mode,
            scenario: scenario.clone(),
            plan,
            cluster,
            observer,
            caller: Arc::new(caller),
            history,
            clock,
            start_us,
            live: Arc::clone(live),
        })
    }

    async fn carry_out(self) -> Result<Ran> {
        let (stop, load_over) = (CancellationToken::new(), CancellationToken::new());
        let observed = CancellationToken::new();
        let lag = spawn(lag::sample(self.history.clone(), self.clock, stop.clone()));
        let observer = Arc::clone(&self.observer);
        let observing = spawn(observer.run(Arc::clone(&self.cluster), observed.clone()));
        let watchers = self.watchers();
        let flooding = self.flooding()?;
        let faults_and_polls = spawn(self.faults_then_polls(load_over.clone()));
        self.live.set_stage("load and faults");
        let loaded = load::load_and_ride(
            &self.caller,
            &self.live,
            self.start_us,
            &self.plan,
            &self.scenario,
            self.mode,
        );
        let loaded = loaded.await;
        load_over.cancel();
        loaded.context("the history could not be written")?;
        // The lab's lag says whether the load was sent in time; what comes after the load is not judged by it.
        stop.cancel();
        lag.await??;
        let flood = match flooding {
            Some(flooding) => Some(flooding.counted().await?),
            None => None,
        };
        self.live.set_stage("waiting until all nodes are equal");
        faults_and_polls.await??;
        self.auditor().finish(watchers, &self.live).await?;
        observed.cancel();
        observing.await??;
        let notes = self.cluster.fallen();
        for note in &notes {
            let (at_us, kind) = (self.clock.now_us(), EventKind::Note(note.clone()));
            self.history.event(Event {
                at_us,
                node: NodeId(0),
                kind,
            })?;
        }
        self.history.finish()?;
        Ok(Ran { notes, flood })
    }

    fn flooding(&self) -> Result<Option<Flooding>> {
        let Some(flood) = self.scenario.flood else {
            return Ok(None);
        };
        let founders = self.cluster.founders.iter();
        let endpoints = founders.filter_map(|&node| self.cluster.doors.endpoint(node));
        let parts = flood::Parts {
            flood,
            mode: self.mode,
            endpoints: endpoints.collect(),
            clock: self.clock,
            start_us: self.start_us,
        };
        Flooding::start(parts).map(Some)
    }

    fn watchers(&self) -> Watchers {
        let parts = watchers::Parts {
            mode: self.mode,
            history: self.history.clone(),
            clock: self.clock,
            doors: Arc::clone(&self.cluster.doors),
            founders: self.cluster.founders.clone(),
        };
        Watchers::start(self.scenario.workload.riders.watchers, &parts)
    }

    /// Carries out the faults, and from the last heal on looks whether the nodes are equal.
    fn faults_then_polls(
        &self,
        load_over: CancellationToken,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let nemesis = Arc::new(Nemesis {
            cluster: Arc::clone(&self.cluster),
            observer: Arc::clone(&self.observer),
            scenario: self.scenario.clone(),
            plan: Arc::clone(&self.plan),
            history: self.history.clone(),
            clock: self.clock,
            start_us: self.start_us,
        });
        let (auditor, plan) = (self.auditor(), Arc::clone(&self.plan));
        let faults = self.scenario.faults.iter();
        let healed_us = faults.map(|fault| fault.end_us).max().unwrap_or(0);
        let closed = self.scenario.workload.arrivals == Arrivals::Closed;
        async move {
            nemesis.run().await?;
            // In a closed loop nobody knows when a key is over, but at the end.
            if closed {
                load_over.cancelled().await;
            }
            let keys: BTreeSet<String> = plan.keys_retired_before(healed_us).into_iter().collect();
            auditor.poll(&keys, load_over).await
        }
    }

    fn auditor(&self) -> Auditor {
        Auditor {
            cluster: Arc::clone(&self.cluster),
            observer: Arc::clone(&self.observer),
            history: self.history.clone(),
            clock: self.clock,
        }
    }
}

/// A task that ends with whoever started it.
pub(crate) fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// The product's word for a mode.
fn core_mode(mode: Mode) -> core::Mode {
    match mode {
        Mode::Strong => core::Mode::Strong,
        Mode::Eventual => core::Mode::Eventual,
    }
}
