//! Fan-out: puts at a fixed rate, each to be seen by many watchers; latency from the put's *intended* start until each
//! watcher has it. Every watcher has a stream of its own, in turn over the connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::BenchError;
use crate::load::{Call, CallError, Measured, Pace, Pacer, Window};
use crate::machine::{Processes, Usage};
use crate::op::{Dice, KeySpace, Op};
use crate::target::{Caller, Place, Target};

/// The keys that are put and watched.
const PREFIX: &str = "fanout/";
/// Puts that may be under way.
const CALLERS: usize = 64;
/// Watchers in one recorder.
const WATCHERS_A_RECORDER: usize = 16;
/// After the last put, events may still come for so long.
const LATE_EVENTS_WITHIN: Duration = Duration::from_secs(5);
const LATE_EVENTS_CHECK: Duration = Duration::from_millis(20);

/// The values that a watcher sees, as they come.
pub(crate) type Values = BoxStream<'static, Result<Vec<Bytes>, CallError>>;

/// A fan-out.
#[derive(Clone, Copy, Debug)]
pub struct FanOut {
    /// How many watch.
    pub watchers: usize,
    /// Puts a second.
    pub rate: f64,
    /// Over all nodes.
    pub connections: usize,
    /// At least eight: a value carries its intended start.
    pub value_bytes: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
}

/// Measures a fan-out: calls and keys are events received.
///
/// # Errors
/// If the target can't be reached or a watch can't be opened.
pub async fn measure(
    plan: &FanOut,
    target: &Target,
    processes: &Processes,
) -> Result<(Measured, Usage), BenchError> {
    let keys = KeySpace::new(PREFIX, 100);
    let session = target
        .connect(Place::AllNodes, plan.connections, &keys)
        .await?;
    let mut watches = Vec::new();
    for index in 0..plan.watchers {
        let caller = &session.readers[index % session.readers.len()];
        let values = caller.watch(PREFIX).await;
        watches.push(values.map_err(|error| BenchError::Unfit {
            target: target.name.clone(),
            why: format!("no watch: {error}"),
        })?);
    }
    let start = Instant::now();
    let window = Window {
        start,
        from: start + plan.warm_up,
        to: start + plan.warm_up + plan.duration,
    };
    let received = Arc::new(AtomicU64::new(0));
    let mut recorders = Vec::new();
    let mut watchers = JoinSet::new();
    for (index, values) in watches.into_iter().enumerate() {
        if index.is_multiple_of(WATCHERS_A_RECORDER) {
            recorders.push(Arc::new(Mutex::new(Measured::empty())));
        }
        let recorder = Arc::clone(&recorders[index / WATCHERS_A_RECORDER]);
        watchers.spawn(watch(values, window, recorder, Arc::clone(&received)));
    }
    let puts = Arc::new(Mutex::new(Measured::empty()));
    let mut callers = JoinSet::new();
    let pacer = Pacer::start(Pace::Open { rate: plan.rate }, window);
    for index in 0..CALLERS {
        let caller = session.writers[index % session.writers.len()].clone();
        let value = Dice::new(1).bytes(plan.value_bytes);
        callers.spawn(put(caller, value, pacer.clone(), window, Arc::clone(&puts)));
    }
    tokio::time::sleep_until(window.from).await;
    let before = processes.sample();
    tokio::time::sleep_until(window.to).await;
    let usage = processes.sample().since(&before);
    while callers.join_next().await.is_some() {}
    let mut total = puts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let expected = total.calls * u64::try_from(plan.watchers).unwrap_or(u64::MAX);
    let until = Instant::now() + LATE_EVENTS_WITHIN;
    while received.load(Ordering::Relaxed) < expected && Instant::now() < until {
        tokio::time::sleep(LATE_EVENTS_CHECK).await;
    }
    watchers.abort_all();
    total.calls = 0;
    total.keys = 0;
    for recorder in recorders {
        total.merge(&recorder.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let missing = expected.saturating_sub(total.calls);
    if missing > 0 {
        total.count_errors("an event that never came", missing);
    }
    total.elapsed = plan.duration;
    Ok((total, usage))
}

/// A put's value starts with its intended start, in nanoseconds since the fan-out's.
async fn put(
    mut caller: Caller,
    value: Bytes,
    pacer: Pacer,
    window: Window,
    puts: Arc<Mutex<Measured>>,
) {
    let mut dice = Dice::new(3);
    while let Some(start) = pacer.next(window).await {
        let since = u64::try_from((start - window.start).as_nanos()).unwrap_or(u64::MAX);
        let mut stamped = BytesMut::with_capacity(value.len().max(8));
        stamped.put_u64(since);
        stamped.extend_from_slice(value.get(8..).unwrap_or_default());
        let op = Op::Put {
            key: dice.below(100),
            value: stamped.freeze(),
        };
        let answer = caller.call(op).await;
        if window.covers(start) {
            let mut puts = puts.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(()) => puts.calls += 1,
                Err(error) => puts.count_error(&error),
            }
        }
    }
}

async fn watch(
    mut values: Values,
    window: Window,
    recorder: Arc<Mutex<Measured>>,
    received: Arc<AtomicU64>,
) {
    while let Some(step) = values.next().await {
        let now = Instant::now();
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        match step {
            Ok(values) => {
                for value in values {
                    let Some(since) = value.first_chunk::<8>() else {
                        continue;
                    };
                    let since = Duration::from_nanos(u64::from_be_bytes(*since));
                    let start = window.start + since;
                    if window.covers(start) {
                        recorder.record(now.saturating_duration_since(start));
                        recorder.calls += 1;
                        recorder.keys += 1;
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            Err(error) => {
                recorder.count_error(&error);
                return;
            }
        }
    }
}
