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
        self.cluster.mesh.begin(step.index, &links, Trouble::CUT);
        self.record(step, FaultStep::Effective, self.counters(&links))?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, self.counters(&links))?;
        self.cluster.mesh.end(step.index);
        self.record(step, FaultStep::Healed, self.counters(&links))
    }

    /// Cuts for half of each period, beginning with a cut.
    pub(super) async fn flap(&self, step: &Step, kind: &FaultKind, period: Micros) -> Result<()> {
        let links = self.links(step, kind);
        self.record(step, FaultStep::Requested, Trace::default())?;
        let mut turn_us = step.start_us;
        while turn_us < step.end_us {
            self.cluster.mesh.begin(step.index, &links, Trouble::CUT);
            if turn_us == step.start_us {
                self.record(step, FaultStep::Effective, self.counters(&links))?;
            }
            self.until(step.end_us.min(turn_us + period.0 / 2)).await;
            self.cluster.mesh.end(step.index);
            turn_us += period.0.max(1);
            self.until(step.end_us.min(turn_us)).await;
        }
        self.record(step, FaultStep::HealRequested, self.counters(&links))?;
        self.record(step, FaultStep::Healed, self.counters(&links))
    }

    /// Does this to whatever passes. Hits are what was delayed, lost or doubled.
    pub(super) async fn weather(&self, step: &Step, does: Weather) -> Result<()> {
        let links = touching_links(&step.nodes, &self.cluster.mesh.nodes());
        let mesh = &self.cluster.mesh;
        self.record(step, FaultStep::Requested, Trace::default())?;
        let before = mesh.hits(&links);
        let trace = || Trace {
            links: mesh.counters(&links),
            hits: mesh.hits(&links) - before,
        };
        mesh.begin(step.index, &links, Trouble::from(does));
        self.record(step, FaultStep::Effective, trace())?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, trace())?;
        mesh.end(step.index);
        self.record(step, FaultStep::Healed, trace())
    }

    /// A side is cut off from those too who may become members; a shape of all nodes is one of the members.
    fn links(&self, step: &Step, kind: &FaultKind) -> Vec<Link> {
        let is_of_all = matches!(kind, FaultKind::Bridge { .. } | FaultKind::Ring);
        let among = if is_of_all {
            self.cluster.members()
        } else {
            self.cluster.mesh.nodes()
        };
        held_links(kind, &step.nodes, &among)
    }

    fn counters(&self, links: &[Link]) -> Trace {
        Trace::links(self.cluster.mesh.counters(links))
    }
}
