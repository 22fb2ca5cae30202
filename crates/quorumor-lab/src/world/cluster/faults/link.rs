//! Links that are cut, one way or both, for a while or over and over, and links in bad weather.

use anyhow::Result;

use super::{Nemesis, Step, Trace};
use crate::history::FaultStep;
use crate::network::Trouble;
use crate::scenario::{FaultKind, Link, Micros, Weather, held_links, touching_links};

impl Nemesis {
    /// Cuts until the end.
    pub(super) async fn cut(&self, step: &Step, kind: &FaultKind) -> Result<()> {
        let links = self.links(step, kind);
        self.record(step, FaultStep::Requested, Trace::default())?;
        self.hold(step, &links).await?;
        self.record(step, FaultStep::Effective, self.counters(&links).await?)?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, self.counters(&links).await?)?;
        self.cluster.links.end(step.index).await?;
        self.record(step, FaultStep::Healed, self.counters(&links).await?)
    }

    /// Cuts for half of each period, beginning with a cut.
    pub(super) async fn flap(&self, step: &Step, kind: &FaultKind, period: Micros) -> Result<()> {
        let links = self.links(step, kind);
        self.record(step, FaultStep::Requested, Trace::default())?;
        let mut turn_us = step.start_us;
        while turn_us < step.end_us {
            self.hold(step, &links).await?;
            if turn_us == step.start_us {
                self.record(step, FaultStep::Effective, self.counters(&links).await?)?;
            }
            self.until(step.end_us.min(turn_us + period.0 / 2)).await;
            self.cluster.links.end(step.index).await?;
            turn_us += period.0.max(1);
            self.until(step.end_us.min(turn_us)).await;
        }
        self.record(step, FaultStep::HealRequested, self.counters(&links).await?)?;
        self.record(step, FaultStep::Healed, self.counters(&links).await?)
    }

    /// Does this to whatever passes. Hits are what was delayed, lost or doubled.
    pub(super) async fn weather(&self, step: &Step, does: Weather) -> Result<()> {
        let network = &self.cluster.links;
        let links = touching_links(&step.nodes, &network.nodes());
        self.record(step, FaultStep::Requested, Trace::default())?;
        let before = network.hits(&links).await?;
        let trace = async || -> Result<Trace> {
            let hits = network.hits(&links).await? - before;
            let links = network.counters(&links).await?;
            Ok(Trace { links, hits })
        };
        let trouble = Trouble::from(does);
        network.begin(step.index, &links, trouble).await?;
        self.record(step, FaultStep::Effective, trace().await?)?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, trace().await?)?;
        network.end(step.index).await?;
        self.record(step, FaultStep::Healed, trace().await?)
    }

    /// A side is cut off from those too who may become members; a shape of all nodes is one of the members.
    fn links(&self, step: &Step, kind: &FaultKind) -> Vec<Link> {
        let is_of_all = matches!(kind, FaultKind::Bridge { .. } | FaultKind::Ring);
        let among = if is_of_all {
            self.cluster.members()
        } else {
            self.cluster.links.nodes()
        };
        held_links(kind, &step.nodes, &among)
    }

    async fn hold(&self, step: &Step, links: &[Link]) -> Result<()> {
        let network = &self.cluster.links;
        network.begin(step.index, links, Trouble::CUT).await
    }

    async fn counters(&self, links: &[Link]) -> Result<Trace> {
        let counters = self.cluster.links.counters(links).await?;
        Ok(Trace::links(counters))
    }
}
