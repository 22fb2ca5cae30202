//! The load of the kill loop, and the ledger of what was sent and acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use quorumor_client::{Certainty, Client, Mode, RetryPolicy};
use quorumor_core::Version;
use tokio::task::JoinSet;

use super::Tortured;

/// Keys of each writer.
const KEYS: u64 = 8;
/// A value's length, filled up behind its number.
const VALUE_BYTES: usize = 256;
/// A write is tried for so long before its outcome counts as unknown: longer than any restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key's writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// The number of the last write that was sent; numbers go up from 1.
    pub(super) sent: u64,
    /// The number of the last one that was acknowledged.
    pub(super) acked: u64,
    /// The revision that it was acknowledged with.
    pub(super) revision: u64,
    /// Writes that were certainly not applied.
    pub(super) refused: u64,
    /// Those of them that came before the last one that was acknowledged.
    pub(super) refused_before: u64,
    /// Writes whose outcome nobody knows.
    pub(super) unknown: u64,
}

/// What was sent and acknowledged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    keys: Mutex<BTreeMap<String, Written>>,
    acks: AtomicU64,
    kills: AtomicU64,
    across: AtomicU64,
    /// Two acknowledgements that contradict each other.
    contradictions: Mutex<Vec<String>>,
}

impl Ledger {
    /// Acknowledged writes so far.
    pub(super) fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    /// What is acknowledged by now.
    pub(super) fn acknowledged(&self) -> BTreeMap<String, Written> {
        self.keys.lock().clone()
    }

    pub(super) fn note_kill(&self) {
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_contradictions(&self) -> Vec<String> {
        std::mem::take(&mut *self.contradictions.lock())
    }

    pub(super) fn count(&self, result: &mut Tortured) {
        result.acknowledged = self.acks();
        result.acknowledged_across_kills = self.across.load(Ordering::Relaxed);
        for written in self.keys.lock().values() {
            result.unknown += written.unknown;
            result.refused += written.refused;
        }
    }

    fn begin(&self, key: &str) -> (u64, u64) {
        let mut keys = self.keys.lock();
        let written = keys.entry(key.to_owned()).or_default();
        written.sent += 1;
        (written.sent, self.kills.load(Ordering::Relaxed))
    }

    fn acknowledge(&self, key: &str, number: u64, kills: u64, revision: u64) {
        let mut keys = self.keys.lock();
        let written = keys.entry(key.to_owned()).or_default();
        if revision <= written.revision {
            let text = format!(
                "{key}: write {number} was acknowledged at revision {revision}, write {} before it at {}",
                written.acked, written.revision
            );
            self.contradictions.lock().push(text);
        }
        (written.acked, written.revision) = (number, revision);
        written.refused_before = written.refused;
        self.acks.fetch_add(1, Ordering::Relaxed);
        if self.kills.load(Ordering::Relaxed) > kills {
            self.across.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fail(&self, key: &str, certainty: Certainty) {
        let mut keys = self.keys.lock();
        let written = keys.entry(key.to_owned()).or_default();
        match certainty {
            Certainty::NotApplied => written.refused += 1,
            Certainty::Unknown => written.unknown += 1,
        }
    }
}

/// The writers under way.
pub(super) struct Writers {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Writers {
    pub(super) fn start(count: u64, doors: &[String], ledger: &Arc<Ledger>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            // Each begins at another node.
            let mut endpoints = doors.to_vec();
            endpoints.rotate_left(usize::try_from(number)? % doors.len());
            let retries = RetryPolicy {
                attempts_max: 100_000,
                unreachable_max: usize::MAX,
                delay_min: Duration::from_millis(10),
                delay_max: Duration::from_millis(250),
            };
            let client = Client::builder()
                .endpoints(endpoints)
                .mode(Mode::Strong)
                .timeout(PATIENCE)
                .follow_hints(false)
                .retries(retries)
                .connect()
                .context("a writer can't connect")?;
            let (ledger, stop) = (Arc::clone(ledger), Arc::clone(&stop));
            tasks.spawn(async move { write(number, &client, &ledger, &stop).await });
        }
        Ok(Self { tasks, stop })
    }

    /// Lets each writer end its last write.
    pub(super) async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn write(writer: u64, client: &Client, ledger: &Ledger, stop: &AtomicBool) {
    for turn in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("w{writer}/{}", turn % KEYS);
        let (number, kills) = ledger.begin(&key);
        match client.put(&key, value(number)).await {
            Ok(answer) => {
                let Version::Strong { modify, .. } = answer.version else {
                    return;
                };
                ledger.acknowledge(&key, number, kills, modify.as_u64());
            }
            Err(error) => ledger.fail(&key, error.certainty()),
        }
    }
}

fn value(number: u64) -> String {
    format!("{number:<VALUE_BYTES$}")
}

/// The number of a write, by its value.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim_end().parse().ok()
}
