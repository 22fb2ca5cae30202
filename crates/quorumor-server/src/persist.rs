//! The log thread of one replica: takes everything queued, writes one frame, syncs once, reports the highest token.
//!
//! Between batches it writes a checkpoint piece by piece, as another thread makes them (`ahead.rs`), renews the log's floor each second, and watches the free space,
//! so that a replica refuses writes before an accepted one finds no room. A failed write or sync ends it, and the node.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorumor_core::{DiskState, Input, LogRecord, Mode, Persist};
use quorumor_wal::{Disk, WalError};
use tokio::sync::mpsc::UnboundedSender;

use crate::handle::LOG_BYTES_MAX;
use crate::metrics;
use crate::shutdown::Alarm;
use crate::store::Store;
use crate::weight::{Bytes, Weight};

mod ahead;

/// Requests that one batch takes from the queue.
const BATCH_MAX: usize = 4_096;
/// How often the floor is renewed and the free space read.
const RENEWAL: Duration = Duration::from_secs(1);
/// How often the next piece of a checkpoint is looked for, while no batch comes.
const PIECE_WAIT: Duration = Duration::from_millis(2);
/// How long a batch waits that found no room.
/// While nothing is written, every so many renewals are worth a look at the free space.
const QUIET_LOOKS: u32 = 10;
const SPACE_WAIT: Duration = Duration::from_millis(200);

/// Where a driver puts what must become durable. It takes everything, and says when it is too much: then writes are refused
/// and bulk messages wait.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue {
    queue: Sender<Queued>,
    bytes: Bytes,
}

/// A request, with its share of what waits until the request is done.
type Queued = (Persist, Weight);

impl LogQueue {
    pub(crate) fn push(&self, persist: Persist) {
        // A log thread that is gone has sounded its alarm, and the node stops.
        let weight = self.bytes.add(bytes(&persist));
        let _ = self.queue.send((persist, weight));
    }

    /// Whether so much waits that no more should come.
    pub(crate) fn is_behind(&self) -> bool {
        self.bytes.get() >= LOG_BYTES_MAX
    }
}

/// What a request holds in memory. A checkpoint shares the state.
fn bytes(persist: &Persist) -> usize {
    match persist {
        Persist::Append { records, .. } => records
            .iter()
            .map(|step| match step {
                LogRecord::Put(record) => record.bytes.len(),
                LogRecord::TruncateSuffix { .. } => 0,
            })
            .sum(),
        Persist::Compact { records, .. } => records.iter().map(|record| record.bytes.len()).sum(),
        Persist::Checkpoint { .. } => 0,
    }
}

/// How much must be free: below `full` writes are refused, above `available` they are taken again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpaceLimits {
    full: u64,
    available: u64,
}

impl SpaceLimits {
    /// `reserve` is what appends leave alone; a log zeroes `ahead` at a time, so refusing must begin before that.
    pub(crate) const fn new(reserve: u64, ahead: u64) -> Self {
        let full = reserve.saturating_add(ahead.saturating_mul(2));
        Self {
            full,
            available: full.saturating_add(ahead.saturating_mul(2)),
        }
    }

    const fn judge(self, before: DiskState, free: u64) -> DiskState {
        match before {
            DiskState::Available if free < self.full => DiskState::Full,
            DiskState::Full if free >= self.available => DiskState::Available,
            DiskState::Available | DiskState::Full => before,
        }
    }
}

/// A log thread's surroundings.
pub(crate) struct LogThread<D: Disk, P> {
    pub(crate) mode: Mode,
    pub(crate) store: Store<D>,
    /// Reads the free space.
    pub(crate) free_bytes: P,
    pub(crate) limits: SpaceLimits,
    pub(crate) finished: UnboundedSender<Input>,
    /// Counts what waits in the queue.
    pub(crate) bytes: Bytes,
}

impl<D, P> LogThread<D, P>
where
    D: Disk + Send + 'static,
    P: FnMut() -> std::io::Result<u64> + Send + 'static,
{
    /// Starts the thread. It ends when every clone of the queue is gone and all that was queued is done.
    pub(crate) fn spawn(self, alarm: Alarm) -> std::io::Result<(LogQueue, JoinHandle<()>)> {
        let (queue, queued) = channel();
        let bytes = self.bytes.clone();
        let thread = std::thread::Builder::new()
            .name(format!("wal-{}", self.mode))
            .spawn(move || {
                let mut running = Running {
                    thread: self,
                    disk: DiskState::Available,
                    renewed: Instant::now(),
                    syncs: 0,
                    seen_bytes: 0,
                    quiet: 0,
                    weights: Vec::new(),
                };
                match running.run(&queued) {
                    Ok(()) => alarm.disarm(),
                    Err(error) => alarm.log_failed(error.to_string()),
                }
            })?;
        Ok((LogQueue { queue, bytes }, thread))
    }
}

struct Running<D: Disk, P> {
    thread: LogThread<D, P>,
    disk: DiskState,
    renewed: Instant,
    syncs: u64,
    /// Bytes written when the free space was last thought of, and renewals since that changed.
    seen_bytes: u64,
    quiet: u32,
    /// Of what was handed to the store and isn't written yet.
    weights: Vec<Weight>,
}

enum Next {
    Batch(Vec<Queued>),
    End,
}

impl<D: Disk, P: FnMut() -> std::io::Result<u64>> Running<D, P> {
    fn run(&mut self, queued: &Receiver<Queued>) -> Result<(), WalError> {
        self.check_space();
        loop {
            let Next::Batch(batch) = self.next(queued) else {
                return self.wind_up();
            };
            let before = self.thread.store.stats().bytes;
            if !batch.is_empty() || self.thread.store.is_waiting_for_space() {
                self.carry_out(batch)?;
            }
            let appended = self.thread.store.stats().bytes - before;
            // A checkpoint gains on the appends, however many there are.
            if let Some(done) = self.thread.store.step_by(2 * appended)? {
                metrics::checkpoint(self.thread.mode);
                self.tell(done.into());
            }
            if self.renewed.elapsed() >= RENEWAL {
                self.renewed = Instant::now();
                self.thread.store.renew_floor()?;
                self.look_at_space();
            }
        }
    }

    fn next(&self, queued: &Receiver<Queued>) -> Next {
        let first = if self.disk == DiskState::Full || self.thread.store.is_waiting_for_space() {
            queued.recv_timeout(SPACE_WAIT)
        } else if self.thread.store.is_writing_checkpoint() {
            queued.recv_timeout(PIECE_WAIT)
        } else {
            queued.recv_timeout(RENEWAL.saturating_sub(self.renewed.elapsed()))
        };
        match first {
            Ok(first) => {
                let mut batch = vec![first];
                batch.extend(queued.try_iter().take(BATCH_MAX - 1));
                Next::Batch(batch)
            }
            Err(RecvTimeoutError::Timeout) => Next::Batch(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    fn carry_out(&mut self, batch: Vec<Queued>) -> Result<(), WalError> {
        let began = Instant::now();
        let ahead = batch
            .into_iter()
            .map(|(persist, weight)| (ahead::made(persist), weight));
        let (batch, weights): (Vec<_>, Vec<_>) = ahead.unzip();
        self.weights.extend(weights);
        let done = self.thread.store.carry_out(batch)?;
        let syncs = self.thread.store.stats().syncs;
        metrics::log_batch(self.thread.mode, syncs - self.syncs, began.elapsed());
        self.syncs = syncs;
        let is_waiting = self.thread.store.is_waiting_for_space();
        if !is_waiting {
            self.weights.clear();
        }
        for done in done {
            self.tell(done.into());
        }
        if is_waiting {
            self.check_space();
        }
        Ok(())
    }

    /// Nobody asks any more: what is left is made durable. An unfinished checkpoint counts for nothing.
    fn wind_up(&mut self) -> Result<(), WalError> {
        self.thread.store.renew_floor()
    }

    /// Looks at the free space at each renewal while something is written, and now and then while nothing is.
    fn look_at_space(&mut self) {
        let bytes = self.thread.store.stats().bytes;
        self.quiet = if bytes == self.seen_bytes {
            self.quiet + 1
        } else {
            0
        };
        self.seen_bytes = bytes;
        if self.disk == DiskState::Full || self.quiet.is_multiple_of(QUIET_LOOKS) {
            self.check_space();
        }
    }

    fn check_space(&mut self) {
        let mode = self.thread.mode;
        let free = match (self.thread.free_bytes)() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%mode, %error, "can't read the free space");
                return;
            }
        };
        let waiting = self.thread.store.is_waiting_for_space();
        let state = if waiting {
            DiskState::Full
        } else {
            self.thread.limits.judge(self.disk, free)
        };
        if state != self.disk {
            self.disk = state;
            tracing::warn!(%mode, free, ?state, "the disk's state changed");
            self.tell(Input::Disk(state));
        }
        metrics::log_space(mode, free, self.thread.store.bytes_on_disk());
    }

    fn tell(&self, input: Input) {
        // A driver that is gone needs no completions.
        let _ = self.thread.finished.send(input);
    }
}

#[cfg(test)]
mod tests;
