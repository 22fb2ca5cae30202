//! The real world: nodes as child processes on loopback, real time, a fault proxy on every directed link.
//!
//! Not a simulator: a run can't be repeated byte for byte, only its load and its faults come from the seed. A run
//! starts the cluster, waits until it serves, sends the plan open-loop while the fault schedule is carried out,
//! waits until all is quiet, reads every node, and leaves a history. It judges nothing.
//!
//! Each operation has one deadline (the workload's, 1 s by default): shorter than the outages that are to be seen,
//! so that a gap shows as operations without an answer, and longer than an answer takes in a healthy cluster.

mod doors;
mod faults;
mod finish;
mod lag;
mod live;
mod load;
mod node;
mod observer;
mod outcome;
mod processes;
pub mod torture;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use quorumor_core as core;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use live::Live;

use crate::history::{
    ClientId, Event, EventKind, Header, HistoryWriter, LabClock, Mode, NodeId, World,
};
use crate::scenario::Scenario;
use crate::workload::Plan;
use faults::Nemesis;
use finish::Auditor;
use load::Load;
use observer::Observer;
use processes::Cluster;

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
}

impl ClusterOptions {
    /// Where the history goes.
    pub fn history_path(&self) -> PathBuf {
        self.out.join(format!("history-{}.jsonl", self.mode.name()))
    }
}

/// Runs a scenario against a cluster of real processes and leaves its history at
/// [`ClusterOptions::history_path`]. Gives back what a person should know beside it, such as nodes that ended by
/// themselves. However it ends, no node is left running.
///
/// # Errors
/// When the cluster can't be started, a fault can't be carried out, the history can't be written, or `interrupt`
/// came. That says nothing about the system's promises.
pub async fn run(
    options: &ClusterOptions,
    scenario: &Scenario,
    live: &Arc<Live>,
    interrupt: &CancellationToken,
) -> Result<Vec<String>> {
    let data = DataDir::create(&options.out, options.mode)?;
    let cluster = Arc::new(Cluster::prepare(options, scenario, &data.path).await?);
    let ran = tokio::select! {
        ran = run_on(&cluster, options, scenario, live) => ran,
        () = interrupt.cancelled() => Err(anyhow!("interrupted")),
    };
    let killed = cluster.kill_all().await;
    let notes = ran?;
    killed.map(|()| notes)
}

async fn run_on(
    cluster: &Arc<Cluster>,
    options: &ClusterOptions,
    scenario: &Scenario,
    live: &Arc<Live>,
) -> Result<Vec<String>> {
    cluster.start(live).await?;
    cluster.wait_serving(live).await?;
    Run::new(options, scenario, Arc::clone(cluster), live)
        .await?
        .carry_out()
        .await
}

/// One run from the header to the footer.
struct Run {
    scenario: Scenario,
    plan: Arc<Plan>,
    cluster: Arc<Cluster>,
    observer: Arc<Observer>,
    load: Arc<Load>,
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
        let mode = options.mode;
        let duration_us = scenario.duration_us();
        let plan = Plan::new(
            &scenario.workload,
            scenario.nodes,
            scenario.seed,
            duration_us,
        );
        let plan = Arc::new(plan);
        let build = connect_clients(&cluster, scenario, &plan).await?;
        let clock = LabClock::new();
        let start_us = u64::try_from(LEAD.as_micros()).unwrap_or(0);
        let mut header = Header::new(mode, World::Cluster, scenario.clone(), start_us);
        header.build = build;
        header.fsync = "fsync before every acknowledgement".to_owned();
        header.config = settings(options.plant);
        let path = options.history_path();
        let history = HistoryWriter::create(&path, header)
            .with_context(|| format!("can't write `{}`", path.display()))?;
        let doors = Arc::clone(&cluster.doors);
        let observer = Observer::new(mode, history.clone(), clock, Arc::clone(&doors));
        let observer = Arc::new(observer);
        let load = Arc::new(Load::new(load::Parts {
            mode,
            plant: options.plant,
            history: history.clone(),
            clock,
            start_us,
            timeout_us: scenario.workload.timeout_us,
            doors,
            observer: Arc::clone(&observer),
            live: Arc::clone(live),
        }));
        live.begin(plan.ops.len() as u64);
        let (scenario, live) = (scenario.clone(), Arc::clone(live));
        Ok(Self {
            scenario,
            plan,
            cluster,
            observer,
            load,
            history,
            clock,
            start_us,
            live,
        })
    }

    async fn carry_out(self) -> Result<Vec<String>> {
        let (stop, load_over) = (CancellationToken::new(), CancellationToken::new());
        let lag = spawn(lag::sample(self.history.clone(), self.clock, stop.clone()));
        let watching = {
            let (observer, nodes, stop) = (
                Arc::clone(&self.observer),
                self.cluster.nodes.clone(),
                stop.clone(),
            );
            spawn(async move { observer.run(&nodes, stop).await })
        };
        let faults_and_polls = spawn(self.faults_then_polls(load_over.clone()));
        self.live.set_stage("load and faults");
        let loaded = Arc::clone(&self.load).run(&self.plan).await;
        // The lab's lag says whether the load was sent in time; what comes after the load is not judged by it.
        stop.cancel();
        load_over.cancel();
        loaded.context("the history could not be written")?;
        lag.await??;
        watching.await??;
        self.live.set_stage("waiting until all nodes are equal");
        faults_and_polls.await??;
        self.auditor().finish(&self.live).await?;
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
        Ok(notes)
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
        let healed_us = self
            .scenario
            .faults
            .iter()
            .map(|fault| fault.end_us)
            .max()
            .unwrap_or(0);
        async move {
            nemesis.run().await?;
            let keys: BTreeSet<String> = plan.keys_retired_before(healed_us).into_iter().collect();
            auditor.poll(&keys, load_over).await
        }
    }

    fn auditor(&self) -> Auditor {
        Auditor {
            cluster: Arc::clone(&self.cluster),
            history: self.history.clone(),
            clock: self.clock,
        }
    }
}

/// A task that ends with whoever started it.
fn spawn<T: Send + 'static>(
    task: impl Future<Output = T> + Send + 'static,
) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Connects every client to its node before time zero, so that no operation pays for it. Gives the nodes' version.
async fn connect_clients(cluster: &Cluster, scenario: &Scenario, plan: &Plan) -> Result<String> {
    let pairs: BTreeSet<_> = plan.ops.iter().map(|op| (op.client, op.node)).collect();
    let mut build = String::new();
    for (client, node) in pairs {
        let endpoint = cluster.doors.endpoint(node).unwrap_or_default();
        let connection = cluster.doors.client(client, node)?;
        let mut options = connection.options().clone();
        options.mode = Some(core_mode(cluster.mode));
        options.timeout = Duration::from_micros(scenario.workload.timeout_us) * 5;
        let told = connection.with(options).describe(&endpoint).await;
        build = told
            .with_context(|| format!("{node} can't be reached"))?
            .version;
    }
    Ok(build)
}

fn settings(plant: Option<Plant>) -> std::collections::BTreeMap<String, String> {
    let mut settings: std::collections::BTreeMap<_, _> = [
        (
            "links",
            "a userspace TCP and UDP proxy on every directed link between nodes",
        ),
        (
            "clients",
            "directly at one node each; no retries, only not-applied redirects",
        ),
        (
            "kill",
            "SIGKILL keeps the page cache: it does not test fsync",
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if let Some(plant) = plant {
        settings.insert("plant".to_owned(), plant.text().to_owned());
    }
    settings
}

/// The product's word for a mode.
fn core_mode(mode: Mode) -> core::Mode {
    match mode {
        Mode::Strong => core::Mode::Strong,
        Mode::Eventual => core::Mode::Eventual,
    }
}

/// The nodes' data, beside the report and on its disk, so that syncs are real ones; removed at the end.
struct DataDir {
    path: PathBuf,
}

impl DataDir {
    fn create(out: &Path, mode: Mode) -> Result<Self> {
        let path = out.join(format!("data-{}-{}", mode.name(), std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("can't make `{}`", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Nothing else is lost if this fails: the person finds the directory named after what it holds.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
