//! More load than a cluster can serve: what becomes of healthy leases, of those who call as before, and of memory, and how
//! soon all is as it was.
//!
//! Three nodes share one core, the load comes from the others. First it is as much as they can serve: so many callers, each
//! with its next call as soon as it has an answer. Then many times that rate, come what may, from other connections. Then
//! again as before. All the while a few regular callers ask the same at a low rate, and hosts keep their instances alive:
//! what those see is judged, since they don't compete with the load for this program's threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use self::callers::{Asked, Pool};
use self::regulars::{Regulars, Seen};
use super::observed::Observed;
use crate::BenchError;
use crate::cluster::{Cluster, ClusterPlan};
use crate::load::{Measured, Pace};
use crate::machine::{Processes, is_void, keep_off, own_cpu, rss_bytes_max};
use crate::op::KeySpace;
use crate::progress::Progress;
use crate::run::{count, fill};
use crate::target::{Mode, Place, Protocol, Target};

mod callers;
mod regulars;
mod results;

pub use results::{OverloadResult, Standing, rows};

const NODES: usize = 3;
/// The core that the nodes share.
const CORE: usize = 0;
const KEYS: usize = 10_000;
const VALUE_BYTES: usize = 256;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// Callers of the load that can be served, over so many connections.
const CALLERS: usize = 64;
const CONNECTIONS: usize = 12;
/// Calls of the flood that may be under way, over so many connections. Beyond that they aren't sent, and counted.
const FLOOD_IN_FLIGHT: usize = 8_192;
const FLOOD_CONNECTIONS: usize = 48;
/// A caller of the flood gives up after this.
const FLOOD_DEADLINE: Duration = Duration::from_secs(2);
const RSS_EVERY: Duration = Duration::from_millis(500);
/// Everything is as before once regular callers' calls are, for this long in a row.
const CALM_WINDOW: Duration = Duration::from_millis(500);
const CALM_WINDOWS: usize = 4;
/// As before is a little more than what was usual at its worst.
const AS_BEFORE: f64 = 1.2;

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Batches of a hundred puts.
    Write,
    /// Lists of a thousand keys, at the mode's best level.
    Read,
}

impl Flood {
    /// Its name, as typed and as shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct OverloadPlan {
    /// The program `quorumor`.
    pub quorumor: PathBuf,
    /// Where the nodes keep their data: a directory on a real disk, empty or not there.
    pub dir: PathBuf,
    /// In which mode they serve.
    pub mode: Mode,
    /// What there is too much of.
    pub flood: Flood,
    /// Whether the nodes hold classes of calls apart and turn calls away.
    pub limits: bool,
    /// So many times what can be served.
    pub factor: f64,
    /// For so long.
    pub duration: Duration,
    /// What can be served is measured for so long before, and again after.
    pub around: Duration,
    /// Healthy instances.
    pub instances: usize,
    /// How long each lives without a sign of life; it gives three in that time.
    pub ttl: Duration,
    /// More foreign cores than this make the run void.
    pub foreign_cores_max: f64,
}

/// The moments that tell the parts of a run apart.
#[derive(Clone, Copy, Debug)]
struct Parts {
    usual: Instant,
    flood: Instant,
    after: Instant,
    end: Instant,
}

/// Starts the nodes, and does all that.
///
/// # Errors
/// If the cluster can't be started, or nothing can be called.
pub async fn run(plan: &OverloadPlan, progress: &Progress) -> Result<OverloadResult, BenchError> {
    if plan.factor < 1.0 || plan.around < CALM_WINDOW * 4 || plan.instances == 0 {
        let why = "an overload is once at least what can be served, with two seconds around it and an instance at least";
        return Err(BenchError::Usage(why.to_owned()));
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        let why = "the nodes have a core of their own, and whoever calls them needs another: this machine has one";
        return Err(BenchError::Usage(why.to_owned()));
    }
    progress.say("starting the cluster");
    let limits = if plan.limits { "enforcing" } else { "disabled" };
    let cluster = Cluster::start(ClusterPlan {
        protocol: Protocol::Quorumor,
        mode: plan.mode,
        program: plan.quorumor.clone(),
        dir: plan.dir.clone(),
        nodes: NODES,
        arguments: vec![format!("--limits={limits}")],
        core: Some(CORE),
    })
    .await?;
    keep_off(CORE);
    let result = overloaded(plan, &cluster.target(), progress).await;
    cluster.stop().await;
    result
}

async fn overloaded(
    plan: &OverloadPlan,
    target: &Target,
    progress: &Progress,
) -> Result<OverloadResult, BenchError> {
    progress.say("writing keys");
    let keys = KeySpace::new("overload/", KEYS);
    let session = target.connect(Place::AllNodes, CONNECTIONS, &keys).await?;
    let value = crate::op::Dice::new(1).bytes(VALUE_BYTES);
    fill(&session, KEYS, &value)
        .await
        .map_err(|error| BenchError::Unfit {
            target: target.name.clone(),
            why: format!("its keys can't be written: {error}"),
        })?;
    let asked = Arc::new(Asked::of(plan.flood, plan.mode, &keys));
    let few = Pool::connect(target, CONNECTIONS, &asked).await?;
    let many = Pool::connect(target, FLOOD_CONNECTIONS, &asked).await?;
    let processes = Processes {
        servers: target.pids.clone(),
        waiting: Vec::new(),
    };
    let whole = WARM_UP + plan.around * 2 + plan.duration;
    let regulars = Regulars::start(plan, target, &asked, whole + CALM_WINDOW)?;
    let memory = memory(target.pids.clone(), whole);
    progress.say("as much as can be served");
    few.load(CALLERS, Pace::Closed, WARM_UP, None).await;
    let before = processes.sample();
    let usual = Instant::now();
    let served = few.load(CALLERS, Pace::Closed, plan.around, None).await;
    let sustainable = count(served.calls) / plan.around.as_secs_f64();
    progress.step();
    progress.say(format!("{} times as much", plan.factor));
    let rate = (sustainable * plan.factor).max(1.0);
    let (flood, own_before) = (Instant::now(), own_cpu());
    let pace = Pace::Open { rate };
    let flooded = many
        .load(FLOOD_IN_FLIGHT, pace, plan.duration, Some(FLOOD_DEADLINE))
        .await;
    let after = Instant::now();
    let own_cores = (own_cpu() - own_before).as_secs_f64() / (after - flood).as_secs_f64();
    progress.step();
    progress.say("as much as can be served");
    let served_after = few.load(CALLERS, Pace::Closed, plan.around, None).await;
    let parts = Parts {
        usual,
        flood,
        after,
        end: Instant::now(),
    };
    let usage = processes.sample().since(&before);
    let seen = regulars.end().await?;
    progress.step();
    let rss = memory
        .await
        .map_err(|error| BenchError::Usage(error.to_string()))?;
    Ok(OverloadResult {
        sustainable_per_s: sustainable,
        wanted_per_s: rate,
        generator_cores: own_cores / count_of_others(),
        after_per_s: count(served_after.calls) / plan.around.as_secs_f64(),
        void: is_void(usage.foreign_cores, plan.foreign_cores_max),
        foreign_cores: usage.foreign_cores,
        ..judged(plan, &parts, &flooded, &seen, &rss)
    })
}

/// What regular callers, hosts and memory came to in each part.
fn judged(
    plan: &OverloadPlan,
    parts: &Parts,
    flooded: &Measured,
    seen: &Seen,
    rss: &[(Instant, u64)],
) -> OverloadResult {
    let seconds = (parts.after - parts.flood).as_secs_f64();
    let usual = (parts.usual, parts.flood);
    let usual_worst_ms = seen.calls.worst_half_ms(usual, CALM_WINDOW);
    let calm = seen.calls.calm_after(
        (parts.after, parts.end),
        CALM_WINDOW,
        CALM_WINDOWS,
        usual_worst_ms.unwrap_or(0.0) * AS_BEFORE,
    );
    let standing =
        |calls: &Observed, (from, to): (Instant, Instant)| Standing::of(calls, peak(rss, from, to));
    let of = |from, to| standing(&seen.calls.within(from, to), (from, to));
    let quarter = (parts.after - parts.flood) / 4;
    OverloadResult {
        flood: plan.flood.as_str().to_owned(),
        mode: plan.mode.as_str().to_owned(),
        limits: plan.limits,
        factor: plan.factor,
        sustainable_per_s: 0.0,
        wanted_per_s: 0.0,
        generator_cores: 0.0,
        offered_per_s: count(flooded.calls + flooded.errors_total()) / seconds,
        admitted_per_s: count(flooded.calls) / seconds,
        admitted_p50_ms: crate::run::quantile_ms(flooded, 0.5),
        admitted_p99_ms: crate::run::quantile_ms(flooded, 0.99),
        after_per_s: 0.0,
        turned_away: flooded.errors.clone(),
        usual: of(parts.usual, parts.flood),
        flooded: of(parts.flood, parts.after),
        after: of(parts.after, parts.end),
        calm_after_s: calm.map(|calm| calm.as_secs_f64()),
        instances: seen.instances,
        lost: seen.lost,
        beat_p99_ms: seen.beats.within(parts.flood, parts.after).answered_ms(990),
        beats_failed: seen.beats_failed(),
        rss_early_mib: peak(rss, parts.flood + quarter, parts.flood + quarter * 2),
        rss_late_mib: peak(rss, parts.flood + quarter * 3, parts.after),
        foreign_cores: 0.0,
        void: false,
    }
}

/// Cores that the load has for itself.
fn count_of_others() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    count(u64::try_from(cores).unwrap_or(1)).max(1.0)
}

/// The most memory that a node had from one moment up to another, in MiB.
fn peak(rss: &[(Instant, u64)], from: Instant, to: Instant) -> f64 {
    let within = rss.iter().filter(|(at, _)| from <= *at && *at < to);
    count(within.map(|(_, bytes)| *bytes).max().unwrap_or(0)) / 1_048_576.0
}

/// Looks every so often how much memory the biggest node has.
fn memory(pids: Vec<u32>, lasts: Duration) -> JoinHandle<Vec<(Instant, u64)>> {
    let until = Instant::now() + lasts;
    tokio::spawn(async move {
        let mut looks = Vec::new();
        while Instant::now() < until {
            looks.push((Instant::now(), rss_bytes_max(&pids)));
            tokio::time::sleep(RSS_EVERY).await;
        }
        looks
    })
}
