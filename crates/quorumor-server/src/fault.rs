//! Faults for tests: a file says what this node's disk and clocks do wrong, and is read again whenever it changes.
//!
//! Not a part of any promise, and off unless `--fault-file` names the file. Who writes it replaces it as a whole; the node
//! answers in a file beside it, `PATH.status`: the serial number of what it has taken in, and how often each fault bit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

mod disk;

pub(crate) use disk::NodeDisk;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the file says; what it leaves out is sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Wanted {
    /// Another one with each change.
    serial: u64,
    /// How much longer each sync takes.
    sync_delay_us: u64,
    /// No byte is free.
    disk_full: bool,
    /// The next sync fails; once for each serial.
    sync_error: bool,
    /// How far the wall clock is off.
    wall_offset_ms: i64,
    /// By how many millionths both clocks run too fast.
    rate_ppm: i64,
}

/// What the node answers: how often each fault bit, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Told {
    serial: u64,
    slow_syncs: u64,
    full_answers: u64,
    sync_errors: u64,
    clock_reads: u64,
}

/// The faults of this node, shared by its disks and its clock.
#[derive(Debug)]
pub(crate) struct Faults {
    path: PathBuf,
    wanted: Mutex<Wanted>,
    sync_error: AtomicBool,
    slow_syncs: AtomicU64,
    full_answers: AtomicU64,
    sync_errors: AtomicU64,
    clock_reads: AtomicU64,
    drift: Mutex<Drift>,
    /// What was told last; nothing at the start, when the status of an earlier life may lie there.
    told: Mutex<Option<Told>>,
}

/// Since when the clocks run at another rate, and what they said then.
#[derive(Clone, Copy, Debug)]
struct Drift {
    origin: Instant,
    since_us: u64,
    said_us: u64,
    rate_ppm: i64,
}

impl Drift {
    fn real_us(&self) -> u64 {
        micros(self.origin.elapsed())
    }

    fn mono_us(&self, real_us: u64) -> u64 {
        let passed = real_us.saturating_sub(self.since_us);
        self.said_us + scaled(passed, 1_000_000 + self.rate_ppm, 1_000_000)
    }

    /// When the clock will say so, in real time.
    fn real_at(&self, mono_us: u64) -> u64 {
        let ahead = mono_us.saturating_sub(self.said_us);
        self.since_us
            .saturating_add(scaled(ahead, 1_000_000, 1_000_000 + self.rate_ppm))
    }

    fn set_rate(&mut self, rate_ppm: i64) {
        let real_us = self.real_us();
        self.said_us = self.mono_us(real_us);
        (self.since_us, self.rate_ppm) = (real_us, rate_ppm);
    }
}

fn scaled(us: u64, by: i64, of: i64) -> u64 {
    let scaled = i128::from(us) * i128::from(by) / i128::from(of.max(1));
    u64::try_from(scaled.max(0)).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Faults {
    /// Reads the file, and follows it in a thread that ends with the last holder. A file that isn't there is sound.
    ///
    /// # Errors
    /// If the file makes no sense, or the thread can't be started.
    pub(crate) fn follow(path: &Path) -> io::Result<Arc<Self>> {
        let drift = Drift {
            origin: Instant::now(),
            since_us: 0,
            said_us: 0,
            rate_ppm: 0,
        };
        let faults = Arc::new(Self {
            path: path.to_owned(),
            wanted: Mutex::default(),
            sync_error: AtomicBool::new(false),
            slow_syncs: AtomicU64::new(0),
            full_answers: AtomicU64::new(0),
            sync_errors: AtomicU64::new(0),
            clock_reads: AtomicU64::new(0),
            drift: Mutex::new(drift),
            told: Mutex::default(),
        });
        faults.look()?;
        faults.tell()?;
        let weak = Arc::downgrade(&faults);
        std::thread::Builder::new()
            .name("faults".to_owned())
            .spawn(move || {
                while let Some(faults) = weak.upgrade() {
                    if let Err(error) = faults.look().and_then(|()| faults.tell()) {
                        tracing::warn!(%error, "the fault file can't be followed");
                    }
                    drop(faults);
                    std::thread::sleep(LOOK_INTERVAL);
                }
            })?;
        Ok(faults)
    }

    fn look(&self) -> io::Result<()> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let fresh: Wanted = toml::from_str(&text).map_err(io::Error::other)?;
        let before = std::mem::replace(&mut *self.wanted.lock(), fresh);
        if before == fresh {
            return Ok(());
        }
        tracing::info!(?fresh, "the fault file changed");
        self.sync_error.store(fresh.sync_error, Ordering::Relaxed);
        if before.rate_ppm != fresh.rate_ppm {
            self.drift.lock().set_rate(fresh.rate_ppm);
        }
        Ok(())
    }

    /// Writes the status, if it changed.
    fn tell(&self) -> io::Result<()> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = Told {
            serial: self.wanted.lock().serial,
            slow_syncs: count(&self.slow_syncs),
            full_answers: count(&self.full_answers),
            sync_errors: count(&self.sync_errors),
            clock_reads: count(&self.clock_reads),
        };
        let mut told = self.told.lock();
        let (status, fresh) = (
            self.path.with_extension("status"),
            self.path.with_extension("new"),
        );
        if *told == Some(now) {
            return Ok(());
        }
        let text = toml::to_string(&now).map_err(io::Error::other)?;
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, &status)?;
        *told = Some(now);
        Ok(())
    }

    /// How much longer a sync takes now; counts it.
    fn sync_delay(&self) -> Option<Duration> {
        let us = self.wanted.lock().sync_delay_us;
        if us == 0 {
            return None;
        }
        self.slow_syncs.fetch_add(1, Ordering::Relaxed);
        Some(Duration::from_micros(us))
    }

    /// Whether this sync fails. Told at once: the node is about to stop.
    fn takes_sync_error(&self) -> bool {
        if !self.sync_error.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.sync_errors.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.tell() {
            tracing::warn!(%error, "the status of the faults can't be told");
        }
        true
    }

    /// Whether nothing is free; counts it.
    fn is_full(&self) -> bool {
        let full = self.wanted.lock().disk_full;
        self.full_answers
            .fetch_add(u64::from(full), Ordering::Relaxed);
        full
    }

    /// What the monotonic clock says, and how far the wall clock is off by then. It is set right when it drifts no more; the
    /// monotonic clock can't be.
    pub(crate) fn clocks(&self) -> (u64, i64) {
        let drift = *self.drift.lock();
        let offset_ms = self.wanted.lock().wall_offset_ms;
        let real_us = drift.real_us();
        let mono_us = drift.mono_us(real_us);
        if drift.rate_ppm == 0 && offset_ms == 0 {
            return (mono_us, 0);
        }
        self.clock_reads.fetch_add(1, Ordering::Relaxed);
        let ahead_us = i64::try_from(scaled(
            real_us.saturating_sub(drift.since_us),
            drift.rate_ppm.abs(),
            1_000_000,
        ));
        let drifted_ms = ahead_us.unwrap_or(i64::MAX) / 1_000 * drift.rate_ppm.signum();
        (mono_us, offset_ms.saturating_add(drifted_ms))
    }

    /// When the monotonic clock will say so, as long as its rate stays.
    pub(crate) fn instant(&self, mono_us: u64) -> Option<Instant> {
        let drift = *self.drift.lock();
        drift
            .origin
            .checked_add(Duration::from_micros(drift.real_at(mono_us)))
    }
}

#[cfg(test)]
mod tests;
