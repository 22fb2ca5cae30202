//! Disks and clocks that go wrong, through the fault file of each node.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Nemesis, Step, Trace};
use crate::history::{FaultStep, NodeId};
use crate::scenario::Micros;
use crate::world::cluster::hooks::Hook;

/// How often it is looked whether a node has ended by its broken disk.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long a node whose disk is broken may go on after the fault's time: it syncs at least once a second.
const ENDS_WITHIN_US: u64 = 3_000_000;

impl Hook {
    /// Each sync takes so much longer.
    pub(super) fn slow(sync: Micros) -> Self {
        Self {
            sync_delay_us: sync.0,
            ..Self::default()
        }
    }

    /// No byte is free.
    pub(super) fn full() -> Self {
        Self {
            disk_full: true,
            ..Self::default()
        }
    }

    /// The next sync fails.
    fn error() -> Self {
        Self {
            sync_error: true,
            ..Self::default()
        }
    }

    /// The wall clock is off by this.
    pub(super) fn jump(by_ms: i64) -> Self {
        Self {
            wall_offset_ms: by_ms,
            ..Self::default()
        }
    }

    /// The clocks run too fast by so many millionths.
    pub(super) fn drift(by_ppm: i64) -> Self {
        Self {
            rate_ppm: by_ppm,
            ..Self::default()
        }
    }
}

impl Nemesis {
    /// Does this to the nodes until the end. Hits are what the nodes themselves counted.
    pub(super) async fn hook(&self, step: &Step, hook: Hook) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        let before = self.counted(step, hook);
        self.hook_all(step, hook).await?;
        let hits = || {
            let counted = self.counted(step, hook).into_iter().zip(&before);
            // A node that was started anew counts from zero.
            let bitten = counted.map(|(now, &before)| now.checked_sub(before).unwrap_or(now));
            bitten.sum()
        };
        self.record(step, FaultStep::Effective, Trace::hits(hits()))?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, Trace::hits(hits()))?;
        self.unhook_all(step).await?;
        self.record(step, FaultStep::Healed, Trace::hits(hits()))
    }

    /// Breaks the disks. A node must stop at the error; the end is a restart on a good disk.
    pub(super) async fn disk_error(&self, step: &Step) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        self.hook_all(step, Hook::error()).await?;
        self.record(step, FaultStep::Effective, Trace::default())?;
        let mut ended: Vec<NodeId> = Vec::new();
        let last_us = self.start_us + step.end_us + ENDS_WITHIN_US;
        while ended.len() < step.nodes.len() && self.clock.now_us() < last_us {
            for &node in &step.nodes {
                if !ended.contains(&node) && self.cluster.has_ended(node, step.index) {
                    self.note(node, format!("{node} ended by itself at the disk's error"))?;
                    ended.push(node);
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
        let hits = ended.len() as u64;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.unhook_all(step).await?;
        self.all_up(step).await?;
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    fn counted(&self, step: &Step, hook: Hook) -> Vec<u64> {
        let counted = |&node: &NodeId| self.cluster.hooks.told(node).hits(hook);
        step.nodes.iter().map(counted).collect()
    }

    async fn hook_all(&self, step: &Step, hook: Hook) -> Result<()> {
        let begin = |&node: &NodeId| {
            let serial = self.cluster.hooks.begin(node, step.index, hook);
            serial.map(|serial| (node, serial))
        };
        let begun = step.nodes.iter().map(begin).collect::<Result<Vec<_>>>()?;
        self.taken(begun).await
    }

    async fn unhook_all(&self, step: &Step) -> Result<()> {
        let end = |&node: &NodeId| {
            let serial = self.cluster.hooks.end(node, step.index);
            serial.map(|serial| (node, serial))
        };
        let ended = step.nodes.iter().map(end).collect::<Result<Vec<_>>>()?;
        self.taken(ended).await
    }

    async fn taken(&self, changes: Vec<(NodeId, u64)>) -> Result<()> {
        for (node, serial) in changes {
            // One that stands still takes it in when it goes on.
            let runs = || self.cluster.runs(node);
            if !self.cluster.hooks.taken(node, serial, runs).await {
                self.note(node, format!("{node} hasn't read its fault file in time"))?;
            }
        }
        Ok(())
    }
}
