//! Measures cells on targets that serve already: each cell in turns, A B A B, so that whatever the machine does
//! meanwhile meets all targets alike. Starts no server.

use std::collections::BTreeSet;

use crate::BenchError;
use crate::cell::{Cell, Settings};
use crate::load::{self, Call, CallError, Measured};
use crate::machine::{Processes, Usage, is_void};
use crate::op::{BATCH_PUTS, Dice, KeySpace, Op};
use crate::progress::Progress;
use crate::results::{CellResult, Turn};
use crate::target::{Caller, Place, Session, Target};
use crate::watch::{self, FanOut};

/// Where all keys of a measurement lie.
const KEY_PREFIX: &str = "bench/";
/// A key space is filled by so many batches at a time.
const FILL_IN_FLIGHT: usize = 8;
/// A batch that fails while a key space is filled is repeated.
const FILL_TRIES: usize = 10;

/// What a measurement remembers between cells.
#[derive(Debug)]
pub struct Bench {
    settings: Settings,
    keys: KeySpace,
    /// Processes of ours that are not under load.
    waiting: Vec<u32>,
    filled: BTreeSet<Vec<String>>,
    /// Who has the service that is discovered.
    registered: BTreeSet<Vec<String>>,
    progress: Progress,
}

/// Measures cells on targets, and gives a result for each cell and target, in this order.
///
/// # Errors
/// If a target can't be reached, or its keys can't be written.
pub async fn run(
    targets: &[Target],
    cells: &[Cell],
    settings: Settings,
    progress: Progress,
) -> Result<Vec<CellResult>, BenchError> {
    let mut bench = Bench::new(settings, progress);
    let mut results = Vec::new();
    for cell in cells {
        results.extend(bench.cell(cell, targets).await?);
    }
    Ok(results)
}

impl Bench {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(settings: Settings, progress: Progress) -> Self {
        Self {
            keys: KeySpace::new(KEY_PREFIX, settings.keys),
            settings,
            waiting: Vec::new(),
            filled: BTreeSet::new(),
            registered: BTreeSet::new(),
            progress,
        }
    }

    /// How it measures.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keys that it touches.
    #[must_use]
    pub const fn keys(&self) -> &KeySpace {
        &self.keys
    }

    /// Where a person looks.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// These processes belong to the measurement too, though they are not under load now.
    pub fn count_as_ours(&mut self, pids: Vec<u32>) {
        self.waiting = pids;
    }

    /// Everything of ours, with this target under load.
    #[must_use]
    pub fn processes(&self, target: &Target) -> Processes {
        let is_server = |pid: &u32| target.pids.contains(pid);
        Processes {
            servers: target.pids.clone(),
            waiting: self
                .waiting
                .iter()
                .copied()
                .filter(|pid| !is_server(pid))
                .collect(),
        }
    }

    /// Measures a cell: every target in turn, round by round.
    ///
    /// # Errors
    /// If a target can't be reached, or its keys can't be written.
    pub async fn cell(
        &mut self,
        cell: &Cell,
        targets: &[Target],
    ) -> Result<Vec<CellResult>, BenchError> {
        for target in targets {
            self.fill(target).await?;
            if cell.workload.discovers() {
                self.register(target).await?;
            }
        }
        let name = cell.name();
        self.alternate(
            &name,
            cell.in_flight,
            targets,
            async |bench, target, round| {
                let session = target
                    .connect(
                        cell.place,
                        bench.settings.connections.max(cell.connections),
                        &bench.keys,
                    )
                    .await?;
                let plan = bench.settings.plan(cell, round);
                let processes = bench.processes(target);
                Ok(load::run(&plan, &session.readers, &session.writers, &processes).await)
            },
        )
        .await
    }

    /// Measures a fan-out: every target in turn, round by round.
    ///
    /// # Errors
    /// If a target can't be reached, or can't be watched.
    pub async fn fan_out(
        &mut self,
        plan: &FanOut,
        targets: &[Target],
    ) -> Result<Vec<CellResult>, BenchError> {
        self.alternate("watch", plan.watchers, targets, async |bench, target, _| {
            watch::measure(plan, target, &bench.processes(target)).await
        })
        .await
    }

    /// Gives every target its turn in each round, and again while a turn is void, within bounds.
    async fn alternate(
        &mut self,
        name: &str,
        in_flight: usize,
        targets: &[Target],
        measure: impl AsyncFn(&Self, &Target, u64) -> Result<(Measured, Usage), BenchError>,
    ) -> Result<Vec<CellResult>, BenchError> {
        let known = self.waiting.clone();
        let of_targets = targets.iter().flat_map(|target| target.pids.clone());
        self.waiting.extend(of_targets);
        let mut turns = vec![Vec::new(); targets.len()];
        for round in 0..self.settings.rounds.max(1) {
            for (target, turns) in targets.iter().zip(&mut turns) {
                let say = format!("{name} {in_flight} at {target}, round {}", round + 1);
                self.progress.say(say);
                let round = u64::try_from(round).unwrap_or(u64::MAX);
                for _ in 0..=self.settings.void_repeats_max {
                    let (measured, usage) = measure(&*self, target, round).await?;
                    let turn = self.turn(target, &measured, &usage);
                    let void = turn.void;
                    turns.push(turn);
                    if !void {
                        break;
                    }
                }
                self.progress.step();
            }
        }
        self.waiting = known;
        let results = targets.iter().zip(&turns);
        Ok(results
            .map(|(target, turns)| CellResult::of(name, in_flight, &target.name, turns))
            .collect())
    }

    /// What a turn comes to.
    #[must_use]
    pub fn turn(&self, target: &Target, measured: &Measured, usage: &Usage) -> Turn {
        let seconds = measured.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let keys = count(measured.keys);
        let known = !target.pids.is_empty();
        let cpu = usage.server_cpu.as_secs_f64();
        Turn {
            ops_s: Some(keys / seconds),
            p50_ms: quantile_ms(measured, 0.50),
            p99_ms: quantile_ms(measured, 0.99),
            server_cpu_s_per_kop: (known && keys > 0.0).then(|| cpu / keys * 1000.0),
            server_cores: known.then(|| cpu / seconds),
            rss_mib: known.then(|| count(usage.rss_bytes_max) / f64::from(1 << 20)),
            errors: measured.errors.clone(),
            foreign_cores: usage.foreign_cores,
            void: is_void(usage.foreign_cores, self.settings.foreign_cores_max),
        }
    }

    /// Registers the instances of the service that is discovered, once.
    async fn register(&mut self, target: &Target) -> Result<(), BenchError> {
        if !self.registered.insert(target.endpoints.clone()) {
            return Ok(());
        }
        self.progress
            .say(format!("registering a service at {target}"));
        let session = target.connect(Place::AllNodes, 1, &self.keys).await?;
        let registered = session.writers[0].register_service().await;
        registered.map_err(|error| BenchError::Unfit {
            target: target.name.clone(),
            why: format!("its instances can't be registered: {error}"),
        })
    }

    /// Writes every key once, so that no read misses.
    async fn fill(&mut self, target: &Target) -> Result<(), BenchError> {
        // Two names can stand for one cluster that is called in two ways.
        if !self.filled.insert(target.endpoints.clone()) {
            return Ok(());
        }
        self.progress.say(format!("filling {target}"));
        let session = target
            .connect(Place::AllNodes, self.settings.connections, &self.keys)
            .await?;
        let value = Dice::new(self.settings.seed).bytes(self.settings.value_bytes);
        fill(&session, self.keys.len(), &value)
            .await
            .map_err(|error| BenchError::Unfit {
                target: target.name.clone(),
                why: format!("its keys can't be written: {error}"),
            })
    }
}

/// A count as a figure to reckon with.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "figures are shown with three digits"
)]
pub const fn count(number: u64) -> f64 {
    number as f64
}

/// A quantile in milliseconds; none of nothing.
#[must_use]
pub fn quantile_ms(measured: &Measured, quantile: f64) -> Option<f64> {
    (!measured.latency_us.is_empty())
        .then(|| count(measured.latency_us.value_at_quantile(quantile)) / 1000.0)
}

pub(crate) async fn fill(
    session: &Session,
    keys: usize,
    value: &bytes::Bytes,
) -> Result<(), CallError> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..FILL_IN_FLIGHT {
        let caller = session.writers[lane % session.writers.len()].clone();
        let firsts = (lane * BATCH_PUTS..keys).step_by(BATCH_PUTS * FILL_IN_FLIGHT);
        tasks.spawn(fill_lane(caller, firsts.collect(), value.clone()));
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| CallError(error.to_string()))??;
    }
    Ok(())
}

async fn fill_lane(
    mut caller: Caller,
    firsts: Vec<usize>,
    value: bytes::Bytes,
) -> Result<(), CallError> {
    for first in firsts {
        let mut tries = 0;
        loop {
            tries += 1;
            let op = Op::Batch {
                first,
                value: value.clone(),
            };
            match caller.call(op).await {
                Ok(()) => break,
                Err(error) if tries == FILL_TRIES => return Err(error),
                // A leader that has just been elected, most likely.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cell::Workload;
    use crate::echo::EchoListener;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cell_is_measured_against_an_echo_in_this_process() {
        let listener = EchoListener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let mut target: Target = format!("echo={}", listener.address()).parse().unwrap();
        target.pids = vec![std::process::id()];
        let server = tokio::spawn(listener.serve());
        let settings = Settings {
            duration: Duration::from_millis(200),
            warm_up: Duration::from_millis(50),
            rounds: 2,
            keys: 10,
            // Whatever else the machine does: this is about the figures.
            foreign_cores_max: f64::INFINITY,
            ..Settings::default()
        };
        let cells = [Cell::closed(Workload::LocalGet, 4)];
        let results = run(&[target], &cells, settings, Progress::hidden())
            .await
            .unwrap();
        server.abort();
        let [result] = &results[..] else {
            panic!("{results:?}");
        };
        assert_eq!((result.turns, result.in_flight), (2, 4));
        assert!(result.ops_s.unwrap() > 100.0, "{result:?}");
        assert!(result.p50_ms.unwrap() <= result.p99_ms.unwrap());
        assert!(result.rss_mib.unwrap() > 1.0);
        assert!(result.errors.is_empty(), "{:?}", result.errors);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_turn_on_a_machine_that_is_never_quiet_enough_is_repeated_and_then_void() {
        let listener = EchoListener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let target: Target = format!("echo={}", listener.address()).parse().unwrap();
        let server = tokio::spawn(listener.serve());
        let settings = Settings {
            duration: Duration::from_millis(50),
            warm_up: Duration::ZERO,
            rounds: 1,
            keys: 10,
            // Nothing is quiet enough for this.
            foreign_cores_max: -1.0,
            void_repeats_max: 2,
            ..Settings::default()
        };
        let cells = [Cell::closed(Workload::Put, 1)];
        let results = run(&[target], &cells, settings, Progress::hidden())
            .await
            .unwrap();
        server.abort();
        assert!(results[0].void);
        assert_eq!(results[0].turns, 3);
    }
}
