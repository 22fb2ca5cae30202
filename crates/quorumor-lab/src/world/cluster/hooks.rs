//! What the lab makes a node's disk and clocks do wrong, through the file that `serve --fault-file` follows.
//!
//! Not a fault by itself: several faults may hold at once on a node, and the file says what comes of all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::history::NodeId;

/// How long a node may take to notice; one that stands still never does.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What one fault does to a node's disk and clocks; the default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hook {
    /// How much longer each sync takes.
    pub(super) sync_delay_us: u64,
    /// No byte is free.
    pub(super) disk_full: bool,
    /// The next sync fails.
    pub(super) sync_error: bool,
    /// How far the wall clock is off.
    pub(super) wall_offset_ms: i64,
    /// By how many millionths the clocks run too fast.
    pub(super) rate_ppm: i64,
}

/// The file, as the node reads it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Wanted {
    serial: u64,
    sync_delay_us: u64,
    disk_full: bool,
    sync_error: bool,
    wall_offset_ms: i64,
    rate_ppm: i64,
}

/// What the node says: what it has taken in, and how often each fault bit since it was started.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Told {
    serial: u64,
    slow_syncs: u64,
    full_answers: u64,
    sync_errors: u64,
    clock_reads: u64,
}

impl Told {
    /// How often what this fault does has bitten.
    pub(super) fn hits(&self, of: Hook) -> u64 {
        let counts = [
            (of.sync_delay_us > 0, self.slow_syncs),
            (of.disk_full, self.full_answers),
            (of.sync_error, self.sync_errors),
            (of.wall_offset_ms != 0 || of.rate_ppm != 0, self.clock_reads),
        ];
        let counted = counts.into_iter().filter(|(counts, _)| *counts);
        counted.map(|(_, count)| count).sum()
    }
}

/// The files of all nodes.
#[derive(Debug)]
pub(super) struct Hooks {
    folder: PathBuf,
    nodes: Mutex<BTreeMap<NodeId, Node>>,
}

#[derive(Debug, Default)]
struct Node {
    serial: u64,
    by_fault: BTreeMap<u32, Hook>,
}

impl Node {
    fn wanted(&self) -> Wanted {
        let mut wanted = Wanted {
            serial: self.serial,
            sync_delay_us: 0,
            disk_full: false,
            sync_error: false,
            wall_offset_ms: 0,
            rate_ppm: 0,
        };
        for hook in self.by_fault.values() {
            wanted.sync_delay_us += hook.sync_delay_us;
            wanted.disk_full |= hook.disk_full;
            wanted.sync_error |= hook.sync_error;
            wanted.wall_offset_ms += hook.wall_offset_ms;
            wanted.rate_ppm += hook.rate_ppm;
        }
        wanted
    }
}

impl Hooks {
    /// The files lie here, beside the data directories and not in them.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            nodes: Mutex::default(),
        }
    }

    /// The file of a node.
    pub(super) fn path(&self, node: NodeId) -> PathBuf {
        self.folder.join(format!("node-{}.faults.toml", node.0))
    }

    /// This fault does this to the node from now on. Gives the serial number of the file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) fn begin(&self, node: NodeId, fault: u32, hook: Hook) -> Result<u64> {
        self.change(node, |hooks| {
            hooks.insert(fault, hook);
        })
    }

    /// This fault does nothing to the node any more; the others go on.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(super) fn end(&self, node: NodeId, fault: u32) -> Result<u64> {
        self.change(node, |hooks| {
            hooks.remove(&fault);
        })
    }

    fn change(&self, node: NodeId, change: impl FnOnce(&mut BTreeMap<u32, Hook>)) -> Result<u64> {
        let mut nodes = self.nodes.lock();
        let of = nodes.entry(node).or_default();
        change(&mut of.by_fault);
        of.serial += 1;
        let path = self.path(node);
        let text = toml::to_string(&of.wanted()).context("a fault file is TOML")?;
        // As a whole, so that the node never reads half of it.
        let fresh = path.with_extension("fresh");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("can't write `{}`", path.display()))?;
        Ok(of.serial)
    }

    /// Returns once the node has taken this serial number in. One that doesn't run will when it starts. After a while this
    /// returns anyway, with `false`.
    pub(super) async fn taken(&self, node: NodeId, serial: u64, runs: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + TAKEN_WITHIN;
        while self.told(node).serial < serial && runs() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_INTERVAL).await;
        }
        true
    }

    /// What the node says; nothing at all if it hasn't said anything.
    pub(super) fn told(&self, node: NodeId) -> Told {
        let text = std::fs::read_to_string(self.path(node).with_extension("status"));
        text.ok()
            .and_then(|text| toml::from_str(&text).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_comes_of_all_faults_of_a_node() {
        let folder = tempfile::tempdir().unwrap();
        let (hooks, node) = (Hooks::new(folder.path()), NodeId(2));
        let read = || -> toml::Table {
            let text = std::fs::read_to_string(hooks.path(node)).unwrap();
            text.parse().unwrap()
        };
        let slow = Hook {
            sync_delay_us: 3_000,
            ..Hook::default()
        };
        let late = Hook {
            wall_offset_ms: -60_000,
            ..Hook::default()
        };
        hooks.begin(node, 0, slow).unwrap();
        hooks.begin(node, 1, late).unwrap();
        assert_eq!(hooks.begin(node, 2, slow).unwrap(), 3);
        assert_eq!(read()["sync-delay-us"].as_integer(), Some(6_000));
        assert_eq!(read()["wall-offset-ms"].as_integer(), Some(-60_000));
        hooks.end(node, 1).unwrap();
        hooks.end(node, 0).unwrap();
        assert_eq!(read()["sync-delay-us"].as_integer(), Some(3_000));
        assert_eq!(read()["wall-offset-ms"].as_integer(), Some(0));
        assert_eq!(read()["serial"].as_integer(), Some(5));
    }

    #[test]
    fn hits_are_those_of_the_fault_asked_about() {
        let text = "serial = 4\nslow-syncs = 7\nfull-answers = 1\nsync-errors = 0\nclock-reads = 9";
        let told: Told = toml::from_str(text).unwrap();
        let slow = Hook {
            sync_delay_us: 1,
            ..Hook::default()
        };
        let fast = Hook {
            rate_ppm: 10_000,
            ..Hook::default()
        };
        assert_eq!((told.hits(slow), told.hits(fast)), (7, 9));
    }
}
