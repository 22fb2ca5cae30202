//! Processes that stand still, for a while or over and over. Their sockets stay open: it is silence, not a reset.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::{Nemesis, Step, Trace};
use crate::history::FaultStep;
use crate::scenario::STARVE_TURN_US;

/// How often it is looked whether they do stand still.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

impl Nemesis {
    /// SIGSTOP to all; the end is SIGCONT. Hits are the looks that found one standing still.
    pub(super) async fn pause(&self, step: &Step) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        for &node in &step.nodes {
            self.cluster.still(node, step.index)?;
        }
        let mut hits = self.standing_still(step);
        self.record(step, FaultStep::Effective, Trace::hits(hits))?;
        while !self.is_over(step) {
            sleep(LOOK_INTERVAL).await;
            hits += self.standing_still(step);
        }
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.all_go_on(step)?;
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    /// Stops all for a part of each period. Hits are the looks, one each period, that found one standing still.
    pub(super) async fn starve(&self, step: &Step, cpu_percent: u32) -> Result<()> {
        let turn = Duration::from_micros(STARVE_TURN_US);
        let runs = turn * cpu_percent.min(100) / 100;
        let stands = turn.saturating_sub(runs);
        self.record(step, FaultStep::Requested, Trace::default())?;
        self.record(step, FaultStep::Effective, Trace::default())?;
        let mut hits = 0;
        while !self.is_over(step) {
            for &node in &step.nodes {
                self.cluster.still(node, step.index)?;
            }
            sleep(stands).await;
            hits += self.standing_still(step);
            self.all_go_on(step)?;
            sleep(runs).await;
        }
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.all_go_on(step)?;
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    fn standing_still(&self, step: &Step) -> u64 {
        let nodes = step.nodes.iter();
        nodes
            .filter(|&&node| self.cluster.stands_still(node))
            .count() as u64
    }

    fn all_go_on(&self, step: &Step) -> Result<()> {
        for &node in &step.nodes {
            self.cluster.go_on(node, step.index)?;
        }
        Ok(())
    }
}
