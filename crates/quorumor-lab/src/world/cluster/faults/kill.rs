//! Processes that are killed and come back on the disk that they left, whole or damaged.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use super::damage::{self, Damage};
use super::{Nemesis, Step, Trace};
use crate::history::{FaultStep, NodeId};
use crate::world::cluster::processes::Up;

/// How long a node with a fresh disk may take until it serves, or says that its peers refuse it.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(5);
/// In a rolling restart: how long a node may take to serve again before the next one goes.
const BACK_WITHIN: Duration = Duration::from_secs(10);

impl Nemesis {
    /// Kills all at once; the end is a restart of all.
    pub(super) async fn kill(&self, step: &Step) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        self.all_down(step).await?;
        let hits = step.nodes.len() as u64;
        self.record(step, FaultStep::Effective, Trace::hits(hits))?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.all_up(step).await?;
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    /// Kills one after the other. Of its share of the time each is down for two thirds; the rest is for coming back, and the
    /// next one waits for it.
    pub(super) async fn rolling_restart(&self, step: &Step) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        let share_us = (step.end_us - step.start_us) / (step.nodes.len() as u64).max(1);
        for (turn, &node) in (0..).zip(&step.nodes) {
            self.until(step.start_us + turn * share_us).await;
            self.cluster.down(node, step.index).await?;
            if turn == 0 {
                self.record(step, FaultStep::Effective, Trace::hits(1))?;
            }
            self.note(node, format!("{node} goes in the rolling restart"))?;
            self.until(step.start_us + turn * share_us + share_us * 2 / 3)
                .await;
            self.let_up(step, node).await?;
            if !self.cluster.answers_within(node, BACK_WITHIN).await {
                let limit = BACK_WITHIN.as_secs();
                self.note(
                    node,
                    format!("{node} does not answer {limit} s after its start"),
                )?;
            }
        }
        self.until(step.end_us).await;
        let hits = step.nodes.len() as u64;
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    /// Kills, and damages what they left; the end is a restart on that. A node may refuse it, and is right to.
    pub(super) async fn damage(&self, step: &Step, damage: Damage) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        self.all_down(step).await?;
        let mut hits = 0;
        for &node in &step.nodes {
            let folder = self.cluster.data_dir(node);
            let did = match damage {
                Damage::Wipe => damage::wipe(&folder)?,
                Damage::Tear => damage::tear(&folder, self.cluster.mode)?,
                Damage::Flip => damage::flip(&folder, self.cluster.mode, self.scenario.seed)?,
            };
            if let Some(what) = did {
                hits += 1;
                self.note(node, format!("{node}: {what}"))?;
            }
        }
        if hits > 0 {
            self.record(step, FaultStep::Effective, Trace::hits(hits))?;
        }
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.all_up(step).await?;
        if damage == Damage::Wipe {
            for &node in &step.nodes {
                self.replace_if_refused(node).await?;
            }
        }
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    /// A node that lost its disk is refused under its old id: it could vote, or number its writes, twice. So it is replaced, as
    /// its operator would do.
    async fn replace_if_refused(&self, node: NodeId) -> Result<()> {
        let Some(why) = self.cluster.refused_within(node, ACCEPTED_WITHIN).await else {
            return Ok(());
        };
        self.note(node, format!("{node} is refused: {why}"))?;
        self.cluster.retire(node, "it lost its disk").await?;
        self.put_in_place_of(node).await.map(drop)
    }

    async fn all_down(&self, step: &Step) -> Result<()> {
        let mut going = JoinSet::new();
        for &node in &step.nodes {
            let (cluster, fault) = (Arc::clone(&self.cluster), step.index);
            going.spawn(async move { cluster.down(node, fault).await });
        }
        while let Some(gone) = going.join_next().await {
            gone??;
        }
        Ok(())
    }

    /// Lets all of a fault's nodes up, at once.
    pub(super) async fn all_up(&self, step: &Step) -> Result<()> {
        let mut coming = JoinSet::new();
        for &node in &step.nodes {
            let (cluster, fault) = (Arc::clone(&self.cluster), step.index);
            coming.spawn(async move { (node, cluster.up(node, fault).await) });
        }
        while let Some(came) = coming.join_next().await {
            let (node, up) = came?;
            self.note_refusal(node, up?)?;
        }
        Ok(())
    }

    async fn let_up(&self, step: &Step, node: NodeId) -> Result<()> {
        let up = self.cluster.up(node, step.index).await?;
        self.note_refusal(node, up)
    }

    fn note_refusal(&self, node: NodeId, up: Up) -> Result<()> {
        match up {
            Up::Ready | Up::Unchanged => Ok(()),
            Up::Refused(how) => self.note(node, format!("{node} stays down: {how}")),
        }
    }
}
