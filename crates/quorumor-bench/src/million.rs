//! A million keys: how fast they are loaded, what a checkpoint in progress costs writes, and how long a node takes to
//! serve again after a restart. For Quorumor only: it is compared with itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::BenchError;
use crate::cell::{Cell, Workload};
use crate::cluster::Cluster;
use crate::load::{self, Call, CallError, LoadPlan, Measured, Pace, Pattern};
use crate::machine::rss_bytes_max;
use crate::op::{Freshness, KeySpace, Op};
use crate::results::{CellResult, Turn, median};
use crate::run::{Bench, count, fill};
use crate::target::{Caller, Place, Target};

/// How many keys.
pub const KEYS: usize = 1_000_000;
/// The name of the cell that stands for all that is measured here.
pub const NAME: &str = "million-keys";
/// Puts in flight while checkpoints come and go.
const IN_FLIGHT: usize = 64;
/// Writes are counted in slices of this length, each with or without a checkpoint in progress.
const SLICE: Duration = Duration::from_millis(250);
/// Whether a checkpoint is being written is looked up so often.
const LOOK: Duration = Duration::from_millis(25);
/// What a node calls a checkpoint that it is writing.
const DRAFT_PREFIX: &str = "new-checkpoint-";
/// A restarted node that takes longer is given up.
const START_WITHIN: Duration = Duration::from_secs(120);

/// Loads, puts and restarts; four results: load, writes without and with a checkpoint in progress, start-up.
///
/// # Errors
/// If the cluster can't be reached or doesn't come back.
pub async fn measure(
    cluster: &mut Cluster,
    bench: &Bench,
    puts_for: Duration,
) -> Result<Vec<CellResult>, BenchError> {
    let target = cluster.target();
    let keys = KeySpace::new("million/", KEYS);
    bench.progress().say("loading a million keys");
    let loaded = loaded(&target, &keys, bench).await?;
    bench.progress().say("writing over a million keys");
    let [without, with] = puts(cluster, &keys, bench, puts_for).await?;
    bench.progress().say("restarting a node of a million keys");
    let start = start_up(cluster, &keys).await?;
    let result =
        |name: &str, in_flight, turn| CellResult::of(name, in_flight, &target.name, &[turn]);
    Ok(vec![
        result("million-load", 16, loaded),
        result("million-put", IN_FLIGHT, without),
        result("million-put-checkpoint", IN_FLIGHT, with),
        result("million-start", 1, start),
    ])
}

async fn loaded(target: &Target, keys: &KeySpace, bench: &Bench) -> Result<Turn, BenchError> {
    let session = target
        .connect(Place::AllNodes, bench.settings().connections, keys)
        .await?;
    let processes = bench.processes(target);
    let before = processes.sample();
    let start = Instant::now();
    let value = crate::op::Dice::new(1).bytes(bench.settings().value_bytes);
    fill(&session, keys.len(), &value)
        .await
        .map_err(|error| BenchError::Unfit {
            target: target.name.clone(),
            why: format!("a million keys can't be written: {error}"),
        })?;
    let usage = processes.sample().since(&before);
    let measured = Measured {
        calls: count_of(keys.len()),
        keys: count_of(keys.len()),
        elapsed: start.elapsed(),
        ..Measured::empty()
    };
    Ok(bench.turn(target, &measured, &usage))
}

/// Puts for a while, told apart by whether any node was writing a checkpoint.
async fn puts(
    cluster: &Cluster,
    keys: &KeySpace,
    bench: &Bench,
    puts_for: Duration,
) -> Result<[Turn; 2], BenchError> {
    let target = cluster.target();
    let session = target
        .connect(Place::AllNodes, bench.settings().connections, keys)
        .await?;
    let done = Arc::new(AtomicU64::new(0));
    let counted = |callers: &[Caller]| -> Vec<Counted> {
        let wrap = |caller: &Caller| Counted {
            caller: caller.clone(),
            done: Arc::clone(&done),
        };
        callers.iter().map(wrap).collect()
    };
    let plan = LoadPlan {
        keys: keys.len(),
        ..bench
            .settings()
            .plan(&Cell::closed(Workload::Put, IN_FLIGHT), 0)
    };
    let plan = LoadPlan {
        pattern: Pattern::Put,
        pace: Pace::Closed,
        duration: puts_for,
        ..plan
    };
    let stop = Arc::new(AtomicBool::new(false));
    let slices = tokio::spawn(slices(
        cluster.dir().to_owned(),
        Arc::clone(&done),
        Arc::clone(&stop),
        Instant::now() + plan.warm_up,
    ));
    let (readers, writers) = (counted(&session.readers), counted(&session.writers));
    let processes = bench.processes(&target);
    let (measured, usage) = load::run(&plan, &readers, &writers, &processes).await;
    stop.store(true, Ordering::Relaxed);
    let slices = slices.await.map_err(|error| BenchError::Unfit {
        target: target.name.clone(),
        why: error.to_string(),
    })?;
    let turn = bench.turn(&target, &measured, &usage);
    let of = |checkpoint: bool| {
        let slices = slices.iter().filter(|slice| slice.checkpoint == checkpoint);
        let rates: Vec<f64> = slices
            .map(|slice| count(slice.puts) / slice.lasted.as_secs_f64().max(f64::MIN_POSITIVE))
            .collect();
        // Latencies and processor time are of both kinds of slices together, so they belong to neither.
        Turn {
            ops_s: mean(&rates),
            p50_ms: None,
            p99_ms: None,
            server_cpu_s_per_kop: None,
            ..turn.clone()
        }
    };
    Ok([of(false), of(true)])
}

/// Writes within a slice of time.
#[derive(Clone, Copy, Debug)]
struct Slice {
    puts: u64,
    lasted: Duration,
    /// Whether some node was writing a checkpoint during most of it.
    checkpoint: bool,
}

async fn slices(
    dir: std::path::PathBuf,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    from: Instant,
) -> Vec<Slice> {
    sleep_until(from).await;
    let mut slices = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (start, before) = (Instant::now(), done.load(Ordering::Relaxed));
        let (mut looks, mut drafts) = (0_u32, 0_u32);
        while start.elapsed() < SLICE {
            looks += 1;
            drafts += u32::from(is_drafting(&dir, 3));
            tokio::time::sleep(LOOK).await;
        }
        slices.push(Slice {
            puts: done.load(Ordering::Relaxed) - before,
            lasted: start.elapsed(),
            checkpoint: drafts * 2 > looks,
        });
    }
    // The load may have ended within the last one.
    slices.pop();
    slices
}

/// Whether a draft of a checkpoint lies somewhere below.
fn is_drafting(dir: &Path, depth: usize) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name();
        name.to_string_lossy().starts_with(DRAFT_PREFIX)
            || (is_dir && depth > 0 && is_drafting(&entry.path(), depth - 1))
    })
}

/// From the start of the process until it serves a key of its own, `p50_ms`.
async fn start_up(cluster: &mut Cluster, keys: &KeySpace) -> Result<Turn, BenchError> {
    let mut target = cluster.target();
    let node = (target.leader().await? + 1) % target.endpoints.len();
    cluster.kill(node).await?;
    let start = Instant::now();
    cluster.restart(node).await?;
    target.endpoints = vec![target.endpoints[node].clone()];
    target.writes = crate::target::Writes::AllNodes;
    loop {
        if let Ok(session) = target.connect(Place::AllNodes, 1, keys).await {
            let mut caller = session.readers[0].clone();
            let get = Op::Get {
                key: KEYS - 1,
                freshness: Freshness::Local,
            };
            if caller.call(get).await.is_ok() {
                break;
            }
        }
        if start.elapsed() > START_WITHIN {
            return Err(BenchError::Unfit {
                target: target.name,
                why: format!("a restarted node served nothing within {START_WITHIN:?}"),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    let rss = count(rss_bytes_max(&cluster.target().pids));
    Ok(Turn {
        p50_ms: median(vec![took.as_secs_f64() * 1000.0]),
        rss_mib: Some(rss / f64::from(1 << 20)),
        ..Turn::default()
    })
}

/// Counts what succeeds, for all its clones.
#[derive(Clone, Debug)]
struct Counted {
    caller: Caller,
    done: Arc<AtomicU64>,
}

impl Call for Counted {
    async fn call(&mut self, op: Op) -> Result<(), CallError> {
        let answer = self.caller.call(op).await;
        if answer.is_ok() {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

fn mean(figures: &[f64]) -> Option<f64> {
    let number = count(count_of(figures.len()));
    (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / number)
}

fn count_of(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_found_below_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("node-1/strong");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("checkpoint-1"), "").unwrap();
        assert!(!is_drafting(dir.path(), 3));
        std::fs::write(deep.join("new-checkpoint-0"), "").unwrap();
        assert!(is_drafting(dir.path(), 3));
    }

    #[test]
    fn the_mean_of_nothing_is_nothing() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 3.0]), Some(2.0));
    }
}
