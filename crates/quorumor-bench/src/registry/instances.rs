//! Many instances that are kept alive: how fast they are registered, what keeping them costs processors and memory, and
//! whether any is lost. Quorumor in each mode beside etcd, one cluster after the other.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::hosts::{Host, Life, Stop, shown};
use super::observed::{End, Observed};
use crate::BenchError;
use crate::cluster::{Cluster, ClusterPlan};
use crate::machine::{Processes, Usage, is_void, rss_bytes};
use crate::progress::Progress;
use crate::run::count;
use crate::target::{Mode, Protocol, Target};

/// Nodes of what has a leader.
const NODES: usize = 3;
/// Hosts that register at the same time.
const SETTLING: usize = 16;
/// What was registered must be known everywhere within this.
const KNOWN_WITHIN: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(50);
const MIB: f64 = 1_048_576.0;

/// Which registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Quorumor in strong mode.
    Strong,
    /// Quorumor in eventual mode.
    Eventual,
    /// etcd, with a lease and a key for each instance.
    Etcd,
}

impl System {
    /// Its name, as typed and as shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
            Self::Etcd => "etcd",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct InstancesPlan {
    /// The program `quorumor`.
    pub quorumor: PathBuf,
    /// The program `etcd`, if it is measured.
    pub etcd: Option<PathBuf>,
    /// Where the clusters keep their data: a directory on a real disk, empty or not there.
    pub dir: PathBuf,
    /// Which of Quorumor's modes.
    pub modes: Vec<Mode>,
    /// How many nodes there are in eventual mode.
    pub eventual_nodes: usize,
    /// How many instances.
    pub instances: usize,
    /// Over how many hosts: each has a connection and one stream for all that it has.
    pub hosts: usize,
    /// How often an instance is kept alive.
    pub every: Duration,
    /// How long it lives without.
    pub ttl: Duration,
    /// For how long that is watched.
    pub duration: Duration,
    /// More foreign cores than this make a system's figures void.
    pub foreign_cores_max: f64,
}

/// What one system came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstancesResult {
    /// Which.
    pub system: System,
    /// Its nodes.
    pub nodes: usize,
    /// Instances that were registered.
    pub instances: usize,
    /// Registrations a second, all hosts together.
    pub registered_per_s: f64,
    /// From the last registration until every node showed all instances.
    pub everywhere_s: f64,
    /// Instances kept alive a second.
    pub beats_per_s: f64,
    /// Half the hosts' beats, each for all that the host has, were answered within so long.
    pub beat_p50_ms: Option<f64>,
    /// Ninety-nine of a hundred.
    pub beat_p99_ms: Option<f64>,
    /// Cores that all nodes kept busy together.
    pub cores: f64,
    /// Resident memory of a node, the mean.
    pub rss_mib: f64,
    /// Of the biggest.
    pub rss_mib_max: f64,
    /// Instances that ended though they were kept alive.
    pub lost: u64,
    /// Instances that the node which shows fewest shows in the end.
    pub shown: usize,
    /// Beats that failed, and why; the first few.
    pub errors: Vec<String>,
    /// Cores that others kept busy.
    pub foreign_cores: f64,
    /// Whether that was too much.
    pub void: bool,
}

impl InstancesResult {
    /// Nothing was lost, and everything is shown.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.lost == 0 && self.shown == self.instances
    }
}

/// Measures each system, one after the other.
///
/// # Errors
/// If a cluster can't be started, or its instances can't be registered.
pub async fn run(
    plan: &InstancesPlan,
    progress: &Progress,
) -> Result<Vec<InstancesResult>, BenchError> {
    check(plan)?;
    let mut results = Vec::new();
    for system in systems(plan) {
        results.push(measure(plan, system, progress).await?);
        progress.step();
    }
    Ok(results)
}

/// The systems that are measured, in their order.
#[must_use]
pub fn systems(plan: &InstancesPlan) -> Vec<System> {
    let modes = plan.modes.iter().map(|mode| match mode {
        Mode::Strong => System::Strong,
        Mode::Eventual => System::Eventual,
    });
    modes
        .chain(plan.etcd.as_ref().map(|_| System::Etcd))
        .collect()
}

fn check(plan: &InstancesPlan) -> Result<(), BenchError> {
    let usage = |why: &str| Err(BenchError::Usage(why.to_owned()));
    if plan.hosts == 0 || plan.instances < plan.hosts {
        return usage("each host has one instance at least");
    }
    if plan.every >= plan.ttl {
        return usage("who is kept alive less often than its time to live ends anyway");
    }
    if plan.duration < plan.every {
        return usage("a run shorter than the time between two keep-alives shows none of them");
    }
    Ok(())
}

async fn measure(
    plan: &InstancesPlan,
    system: System,
    progress: &Progress,
) -> Result<InstancesResult, BenchError> {
    progress.say(format!("{system}: starting"));
    let (protocol, mode, nodes) = match system {
        System::Strong => (Protocol::Quorumor, Mode::Strong, NODES),
        System::Eventual => (Protocol::Quorumor, Mode::Eventual, plan.eventual_nodes),
        System::Etcd => (Protocol::Etcd, Mode::Strong, NODES),
    };
    let program = match (system, &plan.etcd) {
        (System::Etcd, Some(etcd)) => etcd.clone(),
        (System::Strong | System::Eventual | System::Etcd, _) => plan.quorumor.clone(),
    };
    let cluster = Cluster::start(ClusterPlan {
        protocol,
        mode,
        program,
        dir: plan.dir.join(system.as_str()),
        nodes,
        arguments: Vec::new(),
        core: None,
    })
    .await?;
    let measured = kept_alive(plan, system, &cluster.target(), progress).await;
    cluster.stop().await;
    measured
}

async fn kept_alive(
    plan: &InstancesPlan,
    system: System,
    target: &Target,
    progress: &Progress,
) -> Result<InstancesResult, BenchError> {
    progress.say(format!("{system}: registering"));
    let began = Instant::now();
    let (mut lives, stop) = (JoinSet::new(), Stop::new());
    settle(plan, target, &mut lives, &stop).await?;
    let registered = began.elapsed();
    progress.say(format!("{system}: spreading"));
    let everywhere = everywhere(target, plan.instances).await?;
    progress.say(format!("{system}: kept alive"));
    let processes = Processes {
        servers: target.pids.clone(),
        waiting: Vec::new(),
    };
    let before = processes.sample();
    let from = Instant::now();
    tokio::time::sleep(plan.duration).await;
    let usage = processes.sample().since(&before);
    let (rss, to) = (rss_bytes(&target.pids), Instant::now());
    let shown = least_shown(target).await?;
    stop.cancel();
    let life = ended(lives).await?;
    let beats = life.beats.within(from, to);
    Ok(InstancesResult {
        registered_per_s: count_of(plan.instances) / registered.as_secs_f64(),
        everywhere_s: everywhere.as_secs_f64(),
        lost: life.lost,
        shown,
        errors: life.errors,
        ..figures(plan, system, target, &beats, &usage, &rss)
    })
}

/// What the watched time came to.
fn figures(
    plan: &InstancesPlan,
    system: System,
    target: &Target,
    beats: &Observed,
    usage: &Usage,
    rss: &[u64],
) -> InstancesResult {
    let seconds = plan.duration.as_secs_f64();
    let a_beat = count_of(plan.instances) / count_of(plan.hosts);
    let total: u64 = rss.iter().sum();
    InstancesResult {
        system,
        nodes: target.endpoints.len(),
        instances: plan.instances,
        registered_per_s: 0.0,
        everywhere_s: 0.0,
        beats_per_s: count_of(beats.count(End::Answered)) * a_beat / seconds,
        beat_p50_ms: beats.answered_ms(500),
        beat_p99_ms: beats.answered_ms(990),
        cores: usage.server_cpu.as_secs_f64() / seconds,
        rss_mib: count(total) / count_of(rss.len().max(1)) / MIB,
        rss_mib_max: count(usage.rss_bytes_max) / MIB,
        lost: 0,
        shown: 0,
        errors: Vec::new(),
        foreign_cores: usage.foreign_cores,
        void: is_void(usage.foreign_cores, plan.foreign_cores_max),
    }
}

/// All hosts with their instances, in turn over the nodes, some at a time. Each keeps its own alive from when it has them.
async fn settle(
    plan: &InstancesPlan,
    target: &Target,
    lives: &mut JoinSet<Result<Life, BenchError>>,
    stop: &Stop,
) -> Result<(), BenchError> {
    let turns = Arc::new(Semaphore::new(SETTLING));
    let (tell, mut settled) = mpsc::channel(plan.hosts);
    for index in 0..plan.hosts {
        let numbers =
            plan.instances * index / plan.hosts..plan.instances * (index + 1) / plan.hosts;
        let (target, ttl, every) = (target.clone(), plan.ttl, plan.every);
        let (turns, tell, stop) = (Arc::clone(&turns), tell.clone(), stop.clone());
        lives.spawn(async move {
            let turn = turns.acquire().await;
            let host = Host::settle(&target, index, numbers, ttl).await?;
            drop(turn);
            // Who waits for it has gone only if another host failed.
            let _unheard = tell.send(()).await;
            Ok(host.live(Instant::now() + every / 2, every, stop).await)
        });
    }
    for _ in 0..plan.hosts {
        tokio::select! {
            biased;
            Some(()) = settled.recv() => {}
            Some(ended) = lives.join_next() => {
                ended.map_err(|error| BenchError::Usage(error.to_string()))??;
            }
        }
    }
    Ok(())
}

async fn ended(mut lives: JoinSet<Result<Life, BenchError>>) -> Result<Life, BenchError> {
    let mut all = Life::default();
    while let Some(life) = lives.join_next().await {
        let life = life.map_err(|error| BenchError::Usage(error.to_string()))??;
        all.beats.0.extend(life.beats.0);
        all.lost += life.lost;
        all.errors.extend(life.errors);
    }
    all.errors.truncate(8);
    Ok(all)
}

/// How long it took until every node showed all instances.
async fn everywhere(target: &Target, instances: usize) -> Result<Duration, BenchError> {
    let began = Instant::now();
    for node in 0..target.endpoints.len() {
        loop {
            let shown = shown(target, node).await?;
            if shown == instances {
                break;
            }
            if began.elapsed() > KNOWN_WITHIN {
                return Err(BenchError::Unfit {
                    target: target.name.clone(),
                    why: format!("node {} shows {shown} of {instances} instances", node + 1),
                });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
    Ok(began.elapsed())
}

async fn least_shown(target: &Target) -> Result<usize, BenchError> {
    let mut least = usize::MAX;
    for node in 0..target.endpoints.len() {
        least = least.min(shown(target, node).await?);
    }
    Ok(least)
}

fn count_of(number: usize) -> f64 {
    count(u64::try_from(number).unwrap_or(u64::MAX))
}

/// Results as lines of JSON.
#[must_use]
pub fn json_lines(results: &[InstancesResult]) -> String {
    let lines = results
        .iter()
        .map(|result| format!("{}\n", serde_json::json!(result)));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> InstancesPlan {
        InstancesPlan {
            quorumor: "/nowhere".into(),
            etcd: None,
            dir: "/nowhere".into(),
            modes: vec![Mode::Strong, Mode::Eventual],
            eventual_nodes: 100,
            instances: 100,
            hosts: 10,
            every: Duration::from_secs(10),
            ttl: Duration::from_secs(30),
            duration: Duration::from_secs(60),
            foreign_cores_max: 0.25,
        }
    }

    #[test]
    fn a_plan_that_would_show_nothing_is_refused() {
        assert!(check(&plan()).is_ok());
        let refused = |plan: InstancesPlan| check(&plan).unwrap_err().to_string();
        let hosts = refused(InstancesPlan {
            hosts: 101,
            ..plan()
        });
        assert!(hosts.contains("one instance"), "{hosts}");
        let every = Duration::from_secs(30);
        let rare = refused(InstancesPlan { every, ..plan() });
        assert!(rare.contains("time to live"), "{rare}");
        let duration = Duration::from_secs(1);
        let short = refused(InstancesPlan { duration, ..plan() });
        assert!(short.contains("shorter"), "{short}");
    }

    #[test]
    fn etcd_is_measured_if_it_is_there() {
        assert_eq!(systems(&plan()), [System::Strong, System::Eventual]);
        let etcd = Some("/nowhere".into());
        assert_eq!(
            systems(&InstancesPlan { etcd, ..plan() }).last(),
            Some(&System::Etcd)
        );
    }
}
