//! The load itself: closed loop (so many calls in flight) or open loop (so many calls a second, whatever the answers do).
//!
//! Latency counts from the start of a call in a closed loop, and from its *intended* start in an open one, so that a
//! server that stalls can't hide the calls that would have been made meanwhile. Knows neither protocols nor processes'
//! names: it drives whatever implements [`Call`].

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::machine::{Processes, Usage};
use crate::op::{Dice, Freshness, Op};

/// Longest latency that is told apart from longer ones.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Workers share so many recorders: few enough for memory, enough for two cores never to wait.
const SHARDS: usize = 8;
/// Kinds of errors that are told apart.
const ERROR_KINDS_MAX: usize = 16;
/// In the mix, so many of a hundred calls are reads.
const MIX_READS_PERCENT: usize = 90;
const AFTER_ERROR: Duration = Duration::from_millis(5);
/// The pacer sleeps at least so long: below it only burns the processor that is being measured.
const PACER_SLEEP_MIN: Duration = Duration::from_micros(100);
/// Calls in flight at the end of a cell are waited for, but not for ever.
const STRAGGLERS_WITHIN: Duration = Duration::from_secs(15);

/// A call that didn't succeed, in few words: it is counted by them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// Something that can be asked. A clone is another caller on the same connection.
pub trait Call: Clone + Send + 'static {
    /// Carries out one operation. Ok only if it was really done.
    fn call(&mut self, op: Op) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// Which operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Puts.
    Put,
    /// Reads.
    Get(Freshness),
    /// Nine linearizable reads to one put.
    Mix,
    /// Batches of [`crate::op::BATCH_PUTS`] puts.
    Batch,
    /// Keep-alives, each caller of a lease of its own.
    KeepAlive,
    /// All instances of one service.
    Discover(Freshness),
}

/// When the next call is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as one was answered.
    Closed,
    /// So many a second.
    Open {
        /// Calls a second, more than zero.
        rate: f64,
    },
}

/// One load.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Which operations.
    pub pattern: Pattern,
    /// Closed loop: calls in flight, always. Open loop: at most.
    pub in_flight: usize,
    /// When.
    pub pace: Pace,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
    /// Keys to touch, all with the same chance.
    pub keys: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Which keys come when.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Calls that succeeded within the measured time.
    pub calls: u64,
    /// Keys that they touched.
    pub keys: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// Latency of every successful call that was to start within the measured time, in microseconds.
    pub latency_us: Histogram<u64>,
    /// Failed calls, by what they said.
    pub errors: BTreeMap<String, u64>,
}

impl Measured {
    /// Nothing yet.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            calls: 0,
            keys: 0,
            elapsed: Duration::ZERO,
            latency_us: histogram(),
            errors: BTreeMap::new(),
        }
    }

    /// Counts one more failure. When the kinds are too many the rest is counted together.
    pub fn count_error(&mut self, error: &CallError) {
        self.count_errors(&error.0, 1);
    }

    pub(crate) fn count_errors(&mut self, kind: &str, times: u64) {
        let known = self.errors.contains_key(kind) || self.errors.len() < ERROR_KINDS_MAX;
        let kind = if known { kind } else { "other errors" };
        *self.errors.entry(kind.to_owned()).or_default() += times;
    }

    /// Takes a latency down; beyond the scale it counts as the longest.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_us
            .saturating_record(us.clamp(1, LATENCY_US_MAX));
    }

    /// All failures.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.keys += other.keys;
        self.latency_us
            .add(&other.latency_us)
            .expect("all recorders have the same bounds");
        for (kind, times) in &other.errors {
            self.count_errors(kind, *times);
        }
    }
}

/// A histogram of microseconds.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in order")
}

/// Puts the load on, and says what was measured and what it cost. Reads go through `readers`, writes through
/// `writers`, in turn.
///
/// # Panics
/// If there are no readers or no writers.
pub async fn run<C: Call>(
    plan: &LoadPlan,
    readers: &[C],
    writers: &[C],
    processes: &Processes,
) -> (Measured, Usage) {
    assert!(!readers.is_empty() && !writers.is_empty(), "nobody to call");
    let start = Instant::now();
    let window = Window {
        start,
        from: start + plan.warm_up,
        to: start + plan.warm_up + plan.duration,
    };
    let recorders: Arc<[Mutex<Measured>]> =
        (0..SHARDS).map(|_| Mutex::new(Measured::empty())).collect();
    let pacer = Pacer::start(plan.pace, window);
    let mut workers = JoinSet::new();
    for index in 0..plan.in_flight.max(1) {
        let worker = Worker {
            reader: readers[index % readers.len()].clone(),
            writer: writers[index % writers.len()].clone(),
            pattern: plan.pattern,
            keys: plan.keys,
            value: Dice::new(plan.seed).bytes(plan.value_bytes),
            dice: Dice::new(plan.seed ^ (u64::try_from(index).unwrap_or(0) + 1)),
            window,
            recorders: Arc::clone(&recorders),
            shard: index % SHARDS,
        };
        workers.spawn(worker.run(pacer.clone()));
    }
    tokio::time::sleep_until(window.from).await;
    let before = processes.sample();
    tokio::time::sleep_until(window.to).await;
    let usage = processes.sample().since(&before);
    let late = tokio::time::timeout(STRAGGLERS_WITHIN, async {
        while workers.join_next().await.is_some() {}
    });
    let unanswered = match late.await {
        Ok(()) => 0,
        Err(_) => workers.len(),
    };
    drop(workers);
    let mut measured = Measured::empty();
    for recorder in recorders.iter() {
        measured.merge(&recorder.lock().unwrap_or_else(PoisonError::into_inner));
    }
    measured.elapsed = plan.duration;
    if unanswered > 0 {
        let times = u64::try_from(unanswered).unwrap_or(u64::MAX);
        measured.count_errors("no answer", times);
    }
    let unsent = pacer.unsent(plan.pace, window);
    if unsent > 0 {
        measured.count_errors("not sent, every caller was busy", unsent);
    }
    (measured, usage)
}

/// What is measured: from `from` up to, not including, `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Window {
    pub(crate) fn covers(&self, instant: Instant) -> bool {
        self.from <= instant && instant < self.to
    }
}

/// Hands out intended starts.
#[derive(Clone, Debug)]
pub(crate) enum Pacer {
    Closed,
    Open {
        due: Arc<Semaphore>,
        next: Arc<AtomicU64>,
        start: Instant,
        rate: f64,
    },
}

impl Pacer {
    pub(crate) fn start(pace: Pace, window: Window) -> Self {
        let rate = match pace {
            Pace::Closed => return Self::Closed,
            Pace::Open { rate } => rate,
        };
        let due = Arc::new(Semaphore::new(0));
        let permits = Arc::clone(&due);
        // A thread of its own: the runtime's timer knows only whole milliseconds, too coarse for an intended start.
        tokio::task::spawn_blocking(move || {
            let mut given: u64 = 0;
            loop {
                let now = Instant::now();
                if now >= window.to {
                    permits.close();
                    return;
                }
                let next = intended(window.start, given, rate);
                if next > now {
                    std::thread::sleep((next - now).max(PACER_SLEEP_MIN));
                    continue;
                }
                permits.add_permits(1);
                given += 1;
            }
        });
        Self::Open {
            due,
            next: Arc::new(AtomicU64::new(0)),
            start: window.start,
            rate,
        }
    }

    /// The intended start of the caller's next call; `None` once the time is up.
    pub(crate) async fn next(&self, window: Window) -> Option<Instant> {
        match self {
            Self::Closed => {
                let now = Instant::now();
                (now < window.to).then_some(now)
            }
            Self::Open {
                due,
                next,
                start,
                rate,
            } => {
                due.acquire().await.ok()?.forget();
                let index = next.fetch_add(1, Ordering::Relaxed);
                Some(intended(*start, index, *rate))
            }
        }
    }

    /// Calls that were due in the measured time and that nobody was free to make.
    fn unsent(&self, pace: Pace, window: Window) -> u64 {
        let (Self::Open { next, .. }, Pace::Open { rate }) = (self, pace) else {
            return 0;
        };
        let sent = next.load(Ordering::Relaxed);
        let first_unsent = intended(window.start, sent, rate).max(window.from);
        let rest = window.to.saturating_duration_since(first_unsent);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounded down on purpose, and never negative"
        )]
        let unsent = (rest.as_secs_f64() * rate) as u64;
        unsent
    }
}

/// When the call with this number is to start.
fn intended(start: Instant, index: u64, rate: f64) -> Instant {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a run has far fewer calls than 2^52"
    )]
    let after = index as f64 / rate.max(f64::MIN_POSITIVE);
    start + Duration::try_from_secs_f64(after).unwrap_or(STRAGGLERS_WITHIN)
}

/// One caller, with at most one call in flight.
struct Worker<C> {
    reader: C,
    writer: C,
    pattern: Pattern,
    keys: usize,
    value: Bytes,
    dice: Dice,
    window: Window,
    recorders: Arc<[Mutex<Measured>]>,
    shard: usize,
}

impl<C: Call> Worker<C> {
    async fn run(mut self, pacer: Pacer) {
        while let Some(start) = pacer.next(self.window).await {
            let op = self.op();
            let keys = op.keys();
            let answer = if op.is_write() {
                self.writer.call(op).await
            } else {
                self.reader.call(op).await
            };
            let end = Instant::now();
            if answer.is_err() {
                // Whoever is refused waits a little, as clients do; else refusals would fill the machine.
                tokio::time::sleep(AFTER_ERROR).await;
            }
            let mut recorder = self.recorders[self.shard]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(()) => {
                    if self.window.covers(start) {
                        recorder.record(end - start);
                    }
                    if self.window.covers(end) {
                        recorder.calls += 1;
                        recorder.keys += keys;
                    }
                }
                // Also one that began before: a call that took so long to fail is no warm-up.
                Err(error) if self.window.from <= end => recorder.count_error(&error),
                Err(_) => {}
            }
        }
    }

    fn op(&mut self) -> Op {
        let key = self.dice.below(self.keys);
        let put = |value: &Bytes| Op::Put {
            key,
            value: value.clone(),
        };
        match self.pattern {
            Pattern::Put => put(&self.value),
            Pattern::Get(freshness) => Op::Get { key, freshness },
            Pattern::Mix if self.dice.below(100) < MIX_READS_PERCENT => Op::Get {
                key,
                freshness: Freshness::Linearizable,
            },
            Pattern::Mix => put(&self.value),
            Pattern::Batch => Op::Batch {
                first: key,
                value: self.value.clone(),
            },
            Pattern::KeepAlive => Op::KeepAlive,
            Pattern::Discover(freshness) => Op::Discover { freshness },
        }
    }
}

#[cfg(test)]
mod tests;
