//! etcd in the same ring: the lab's scenarios against a system that the project didn't write, over its v3 gRPC.
//!
//! Reading order: [`run`] starts a cluster, sends the same [`Plan`] as to the project's own nodes, carries out the faults that
//! make sense for a foreign process, and leaves a history in the same format. It judges nothing. [`EtcdCluster`] and
//! [`EtcdExecutor`] are what a run is made of, for whoever wants to drive etcd otherwise.
//!
//! What differs from the lab's own nodes: a link has an HTTP hop more; there are no session tokens; etcd passes a
//! request on to its leader itself; nobody watches; and faults of disk and clock are refused.

mod audit;
mod calls;
mod certainty;
mod cluster;
mod executor;
mod front;
mod member;
mod nemesis;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio_util::sync::CancellationToken;

pub use cluster::{EtcdCluster, EtcdPlan};
pub use executor::{Ask, EtcdExecutor, Reads};

use crate::history::{
    Event, EventKind, Header, HistoryWriter, LabClock, Mode, NodeId, System, World,
};
use crate::scenario::{NotCarriedOut, Scenario};
use crate::workload::Plan;
use crate::world::cluster::caller::{self, Caller};
use crate::world::cluster::load::load_and_ride;
use crate::world::cluster::setup::DataDir;
use crate::world::cluster::{Live, lag, spawn};
use audit::Auditor;
use calls::EtcdCalls;
use nemesis::Nemesis;

/// From the header to time zero of the workload.
const LEAD: Duration = Duration::from_millis(300);
/// What names the binary, in this order, before it is looked for on the path.
const NAMED_BY: [&str; 2] = ["ETCD", "QUORUMOR_TEST_ETCD"];
/// How long a client may take to connect before time zero.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The etcd binary.
    pub program: PathBuf,
    /// Where the history, the logs and, while it runs, the members' data go.
    pub out: PathBuf,
    /// How reads are asked.
    pub reads: Reads,
}

impl EtcdOptions {
    /// Where the history goes.
    pub fn history_path(&self) -> PathBuf {
        let name = match self.reads {
            Reads::Linearizable => "history-etcd.jsonl",
            Reads::Serializable => "history-etcd-serializable.jsonl",
        };
        self.out.join(name)
    }
}

/// The etcd binary of this machine: what `ETCD` or `QUORUMOR_TEST_ETCD` names, else `etcd` on the path.
pub fn find_program() -> Option<PathBuf> {
    let named = NAMED_BY.iter().find_map(std::env::var_os);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|dir| dir.join("etcd"));
        places.find(|place| place.is_file())
    };
    named.map(PathBuf::from).or_else(on_path)
}

/// Says whether a scenario can be carried out on etcd.
///
/// # Errors
/// The first of its faults that can't be, and why.
pub fn can_carry_out(scenario: &Scenario) -> Result<(), NotCarriedOut> {
    if let Some(why) = scenario.ours_only() {
        return Err(NotCarriedOut(why.to_owned()));
    }
    for (number, fault) in (1..).zip(&scenario.faults) {
        if let Some(why) = nemesis::refusal(&fault.kind, scenario.nodes) {
            return Err(NotCarriedOut(format!("fault {number}: {why}")));
        }
    }
    Ok(())
}

/// Runs a scenario against a cluster of etcd and leaves its history at [`EtcdOptions::history_path`]. Gives back what a person
/// should know beside it. However it ends, no member is left running.
///
/// # Errors
/// [`NotCarriedOut`] before anything is started; when the cluster can't be started, a fault can't be carried out, the history can't
/// be written, or `interrupt` came. That says nothing about etcd's promises.
pub async fn run(
    options: &EtcdOptions,
    scenario: &Scenario,
    live: &Arc<Live>,
    interrupt: &CancellationToken,
) -> Result<Vec<String>> {
    can_carry_out(scenario)?;
    let data = DataDir::create(&options.out, "etcd")?;
    let plan = EtcdPlan {
        program: options.program.clone(),
        data_dir: data.path.clone(),
        log_dir: options.out.join("logs"),
        nodes: scenario.node_ids(),
        seed: scenario.seed,
        election_timeout_ms: scenario.election_timeout_ms,
    };
    let cluster = Arc::new(EtcdCluster::prepare(&plan).await?);
    let ran = tokio::select! {
        ran = run_on(&cluster, options, scenario, live) => ran,
        () = interrupt.cancelled() => Err(anyhow!("interrupted")),
    };
    let killed = cluster.kill_all().await;
    let notes = ran?;
    killed.map(|()| notes)
}

async fn run_on(
    cluster: &Arc<EtcdCluster>,
    options: &EtcdOptions,
    scenario: &Scenario,
    live: &Arc<Live>,
) -> Result<Vec<String>> {
    live.set_stage("waiting for etcd to serve");
    cluster.start().await?;
    let run = Run::new(options, scenario, Arc::clone(cluster), live).await?;
    run.carry_out().await
}

/// One run from the header to the footer.
struct Run {
    scenario: Scenario,
    plan: Arc<Plan>,
    caller: Arc<Caller>,
    start_us: u64,
    auditor: Auditor,
    live: Arc<Live>,
}

impl Run {
    async fn new(
        options: &EtcdOptions,
        scenario: &Scenario,
        cluster: Arc<EtcdCluster>,
        live: &Arc<Live>,
    ) -> Result<Self> {
        let duration_us = scenario.duration_us();
        let plan = Arc::new(Plan::new(
            &scenario.workload,
            scenario.nodes,
            scenario.seed,
            duration_us,
        ));
        let build = connect_clients(&cluster, &plan).await?;
        let clock = LabClock::new();
        let start_us = u64::try_from(LEAD.as_micros()).unwrap_or(0);
        let mut header = Header::new(Mode::Strong, World::Cluster, scenario.clone(), start_us);
        header.system = System::Etcd;
        header.build = build;
        header.fsync = "etcd's default: its log is synced before every acknowledgement".to_owned();
        header.config = settings(options, scenario);
        let path = options.history_path();
        let history = HistoryWriter::create(&path, header)
            .with_context(|| format!("can't write `{}`", path.display()))?;
        let caller = Caller::new(caller::Parts {
            executor: Arc::new(EtcdCalls {
                executor: Arc::clone(&cluster.executor),
                reads: options.reads,
                clock,
            }),
            history: history.clone(),
            clock,
            timeout_us: scenario.workload.timeout_us,
            // etcd has none.
            tokens: false,
        });
        Ok(Self {
            scenario: scenario.clone(),
            plan,
            caller: Arc::new(caller),
            start_us,
            auditor: Auditor {
                cluster,
                history,
                clock,
            },
            live: Arc::clone(live),
        })
    }

    async fn carry_out(self) -> Result<Vec<String>> {
        let (stop, load_over) = (CancellationToken::new(), CancellationToken::new());
        let (history, clock) = (self.auditor.history.clone(), self.auditor.clock);
        let lag = spawn(lag::sample(history.clone(), clock, stop.clone()));
        let leaders = spawn(self.auditor.clone().watch_leaders(stop.clone()));
        let faults_and_polls = spawn(self.faults_then_polls(load_over.clone()));
        self.live.set_stage("load and faults");
        let riding = load_and_ride(
            &self.caller,
            &self.live,
            self.start_us,
            &self.plan,
            &self.scenario,
            Mode::Strong,
        );
        let loaded = riding.await;
        // The lab's lag says whether the load was sent in time; what comes after the load is not judged by it.
        stop.cancel();
        load_over.cancel();
        loaded.context("the history could not be written")?;
        lag.await??;
        leaders.await??;
        self.live.set_stage("waiting until all nodes are equal");
        faults_and_polls.await??;
        self.auditor.finish().await?;
        let mut notes = self.auditor.cluster.fallen();
        notes.extend(left_out(&self.scenario));
        for note in &notes {
            history.event(Event {
                at_us: clock.now_us(),
                node: NodeId(0),
                kind: EventKind::Note(note.clone()),
            })?;
        }
        history.finish()?;
        Ok(notes)
    }

    /// Carries out the faults, and from the last heal on looks whether the members are equal.
    fn faults_then_polls(
        &self,
        load_over: CancellationToken,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let nemesis = Arc::new(Nemesis {
            cluster: Arc::clone(&self.auditor.cluster),
            scenario: self.scenario.clone(),
            plan: Arc::clone(&self.plan),
            history: self.auditor.history.clone(),
            clock: self.auditor.clock,
            start_us: self.start_us,
        });
        let (auditor, plan) = (self.auditor.clone(), Arc::clone(&self.plan));
        let ends = self.scenario.faults.iter().map(|fault| fault.end_us);
        let healed_us = ends.max().unwrap_or(0);
        async move {
            nemesis.run().await?;
            let keys: BTreeSet<String> = plan.keys_retired_before(healed_us).into_iter().collect();
            auditor.poll(&keys, load_over).await
        }
    }
}

/// Connects every client to its node before time zero, so that no operation pays for it. Gives etcd's version.
async fn connect_clients(cluster: &EtcdCluster, plan: &Plan) -> Result<String> {
    let pairs: BTreeSet<_> = plan.ops.iter().map(|op| (op.client, op.node)).collect();
    let mut version = String::new();
    for (client, node) in pairs {
        let told = cluster.executor.status(client, node, CONNECT_TIMEOUT).await;
        version = told
            .with_context(|| format!("{node} can't be reached"))?
            .version;
    }
    Ok(format!("etcd {version}"))
}

/// What of the scenario etcd's column doesn't have.
fn left_out(scenario: &Scenario) -> Option<String> {
    let watched = scenario.workload.riders.watchers > 0;
    watched.then(|| "the watchers were left out for etcd".to_owned())
}

fn settings(options: &EtcdOptions, scenario: &Scenario) -> BTreeMap<String, String> {
    let reads = match options.reads {
        Reads::Linearizable => "linearizable, etcd's default",
        Reads::Serializable => "serializable: what the asked member holds",
    };
    let election = format!(
        "election timeout {} ms, heartbeat a tenth of it",
        scenario.election_timeout_ms
    );
    [
        ("reads", reads),
        (
            "links",
            "a userspace TCP proxy on every directed link between members, behind an HTTP hop",
        ),
        (
            "clients",
            "directly at one member each; no retries; a member passes requests on to its leader itself",
        ),
        ("timing", &election),
        (
            "kill",
            "SIGKILL keeps the page cache: it does not test fsync",
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
