//! Nodes that are cut off from their clients alone: well to their peers, silent to everybody else.

use anyhow::{Context, Result};

use super::{Nemesis, Step, Trace};
use crate::history::FaultStep;

impl Nemesis {
    /// Cuts until the end. Hits are the times that something was held back.
    pub(super) async fn cut_clients(&self, step: &Step) -> Result<()> {
        let fronts = self.cluster.doors.fronts();
        let fronts = fronts.context("nothing stands between the nodes and their clients")?;
        let before = fronts.held(&step.nodes);
        let hits = || Trace::hits(fronts.held(&step.nodes) - before);
        self.record(step, FaultStep::Requested, Trace::default())?;
        fronts.cut(step.index, &step.nodes);
        self.record(step, FaultStep::Effective, hits())?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, hits())?;
        fronts.end(step.index, &step.nodes);
        self.record(step, FaultStep::Healed, hits())
    }
}
