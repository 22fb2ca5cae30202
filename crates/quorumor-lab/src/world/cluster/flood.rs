//! The flood: calls of one class in great number, from clients of its own at every node alike.
//!
//! Nobody judges them, so they aren't in the history; they are counted. A call that was turned away is made again after a pause, as a
//! client would. The flood has a thread of its own, so that it doesn't make the load late.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use quorumor_client::{
    CallOptions, Client, ClientError, KeyRange, Level as AskedLevel, RetryPolicy,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::core_mode;
use crate::analyse::FloodCounts;
use crate::history::{LabClock, Mode};
use crate::scenario::{FLOOD_IN_FLIGHT_MAX, Flood, FloodClass};

/// Calls that one connection carries; each is a client to the nodes.
const CALLS_PER_CONNECTION: usize = 200;
/// Connections to one node.
const CONNECTIONS_MAX: usize = 64;
/// After a call that wasn't answered, where the node asks for no longer; it doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// With a rate, calls are begun this often.
const TICK: Duration = Duration::from_millis(10);
/// Keys of each connection, which nobody else writes: the flood has no conflicts.
const KEYS: u64 = 16;
/// The deadline of its calls: the client's default.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where those are.
pub(super) const PREFIX: &str = "flood/";

/// What a flood is made of.
pub(super) struct Parts {
    pub(super) flood: Flood,
    pub(super) mode: Mode,
    /// Where the nodes serve.
    pub(super) endpoints: Vec<String>,
    pub(super) clock: LabClock,
    pub(super) start_us: u64,
}

/// A flood under way. Dropping it ends it.
pub(super) struct Flooding {
    counted: oneshot::Receiver<Result<FloodCounts>>,
    _stop: DropGuard,
}

impl Flooding {
    /// Lets it come at its time.
    ///
    /// # Errors
    /// When its thread can't be started.
    pub(super) fn start(parts: Parts) -> Result<Self> {
        let (done, counted) = oneshot::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let pour = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let counts = runtime
                .map_err(anyhow::Error::from)
                .map(|runtime| runtime.block_on(pour(parts, stopped)));
            // Nobody waits any more if the run was given up.
            let _ = done.send(counts.and_then(|counts| counts));
        };
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(pour);
        thread.context("the flood's thread can't be started")?;
        Ok(Self {
            counted,
            _stop: stop.drop_guard(),
        })
    }

    /// Waits for its end, and says what became of it.
    ///
    /// # Errors
    /// When it couldn't be made.
    pub(super) async fn counted(self) -> Result<FloodCounts> {
        let counted = self.counted.await;
        counted.map_err(|_| anyhow!("the flood broke down"))?
    }
}

async fn pour(parts: Parts, stop: CancellationToken) -> Result<FloodCounts> {
    let connections = connections(&parts)?;
    let at =
        |from_zero_us: u64| Instant::from_std(parts.clock.instant(parts.start_us + from_zero_us));
    tokio::select! {
        () = sleep_until(at(parts.flood.at.0)) => {}
        () = stop.cancelled() => return Ok(FloodCounts::default()),
    }
    let source = Arc::new(Source {
        class: parts.flood.class,
        connections,
        next: AtomicU64::new(0),
        tally: Tally::default(),
        over: stop.child_token(),
    });
    let tasks = TaskTracker::new();
    let end = at(parts.flood.end_us());
    let begin = async {
        match (parts.flood.in_flight, parts.flood.rate) {
            (Some(amount), _) => {
                for _ in 0..amount {
                    tasks.spawn(Arc::clone(&source).over_and_over());
                }
                std::future::pending().await
            }
            (None, rate) => source.at_rate(rate.unwrap_or(1), &tasks).await,
        }
    };
    tokio::select! {
        () = sleep_until(end) => {}
        () = stop.cancelled() => {}
        () = begin => {}
    }
    source.over.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(source.tally.counts())
}

/// As many to each node as its calls need.
fn connections(parts: &Parts) -> Result<Vec<Client>> {
    let amount = parts.flood.in_flight.or(parts.flood.rate).unwrap_or(1) as usize;
    let a_node = amount.div_ceil(parts.endpoints.len().max(1) * CALLS_PER_CONNECTION);
    let level = match parts.flood.class {
        FloodClass::LocalRead => Some(AskedLevel::Local),
        FloodClass::LinearizableRead => Some(AskedLevel::Linearizable),
        FloodClass::Write | FloodClass::Watch => None,
    };
    let options = CallOptions {
        mode: Some(core_mode(parts.mode)),
        level,
        token: Some(Bytes::new()),
        timeout: TIMEOUT,
        ..CallOptions::default()
    };
    let mut connections = Vec::new();
    for _ in 0..a_node.clamp(1, CONNECTIONS_MAX) {
        for endpoint in &parts.endpoints {
            let client = Client::builder()
                .endpoints([endpoint])
                .follow_hints(false)
                .retries(RetryPolicy::none())
                .without_breaker()
                .session(false)
                .watch_patience(Duration::ZERO)
                .options(options.clone())
                .connect()?;
            connections.push(client);
        }
    }
    Ok(connections)
}

/// Where the calls come from.
struct Source {
    class: FloodClass,
    connections: Vec<Client>,
    /// The number of the next call.
    next: AtomicU64,
    tally: Tally,
    over: CancellationToken,
}

impl Source {
    /// One call after the other, until the flood is over.
    async fn over_and_over(self: Arc<Self>) {
        let mut pause = PAUSE;
        while !self.over.is_cancelled() {
            let Some(asked) = self.call().await else {
                pause = PAUSE;
                continue;
            };
            tokio::select! {
                () = sleep(asked.max(pause)) => {}
                () = self.over.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// So many calls a second, whatever becomes of them, as long as memory holds them.
    async fn at_rate(self: &Arc<Self>, rate: u32, tasks: &TaskTracker) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut owed = 0;
        loop {
            ticks.tick().await;
            owed += u64::from(rate) * u64::try_from(TICK.as_millis()).unwrap_or(0);
            for _ in 0..owed / 1_000 {
                if tasks.len() < FLOOD_IN_FLIGHT_MAX as usize {
                    let source = Arc::clone(self);
                    tasks.spawn(async move {
                        source.call().await;
                    });
                }
            }
            owed %= 1_000;
        }
    }

    /// Makes one call and counts it; if it wasn't answered, gives the pause that the node asks for.
    async fn call(&self) -> Option<Duration> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(number).unwrap_or(0) % self.connections.len().max(1);
        let client = self.connections.get(place)?;
        self.tally.offered.fetch_add(1, Ordering::Relaxed);
        let turn = number / (self.connections.len().max(1) as u64);
        let key = format!("{PREFIX}{place}/{}", turn % KEYS);
        let result = tokio::select! {
            result = self.make(client, &key) => result,
            // What is still under way then is neither answered nor turned away.
            () = self.over.cancelled() => return None,
        };
        match result {
            Ok(()) => {
                // A watch was counted when it began.
                if self.class != FloodClass::Watch {
                    self.tally.answered.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
            Err(error) => {
                let counter = if is_shed(&error) {
                    &self.tally.shed
                } else {
                    &self.tally.failed
                };
                counter.fetch_add(1, Ordering::Relaxed);
                Some(asked_pause(&error))
            }
        }
    }

    async fn make(&self, client: &Client, key: &str) -> Result<(), ClientError> {
        match self.class {
            FloodClass::LocalRead | FloodClass::LinearizableRead => client.get(key).await.map(drop),
            FloodClass::Write => client.put(key, "flood").await.map(drop),
            FloodClass::Watch => watch(client, &self.tally).await,
        }
    }
}

/// Opens a watch and holds it as long as it goes on.
async fn watch(client: &Client, tally: &Tally) -> Result<(), ClientError> {
    let mut watch = client.watch(KeyRange::Prefix(PREFIX.into()));
    let mut begun = false;
    while let Some(item) = watch.next().await {
        item?;
        if !std::mem::replace(&mut begun, true) {
            tally.answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
/// As long as the node asks for.
fn asked_pause(error: &ClientError) -> Duration {
    let asked = match error {
        ClientError::Node(node) => node.retry_after,
        ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. }
        | ClientError::BadAnswer { .. }
        | ClientError::Invalid(_) => None,
    };
    asked.unwrap_or_default()
}

fn is_shed(error: &ClientError) -> bool {
    error.reason() == "OVERLOADED"
}

#[derive(Default)]
struct Tally {
    offered: AtomicU64,
    answered: AtomicU64,
    shed: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    fn counts(&self) -> FloodCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FloodCounts {
            offered: read(&self.offered),
            answered: read(&self.answered),
            shed: read(&self.shed),
            failed: read(&self.failed),
        }
    }
}
