//! Both systems side by side: a row a measure and number of agents, with the ratio, what it is to be, and whether it is.

use super::agents::System;
use super::results::GossipResult;
use crate::table::{by, figure};

/// What a figure is to be, measured by Serf's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most half.
    Half,
    /// Less.
    Less,
    /// Shown, not judged.
    Shown,
}

impl Goal {
    const fn text(self) -> &'static str {
        match self {
            Self::Half => "<= 0.500x",
            Self::Less => "< 1.00x",
            Self::Shown => "",
        }
    }

    /// Whether a ratio reaches it; one that can't be told doesn't.
    #[must_use]
    pub fn is_met(self, ratio: Option<f64>) -> bool {
        match (self, ratio) {
            (Self::Shown, _) => true,
            (Self::Half | Self::Less, None) => false,
            (Self::Half, Some(ratio)) => ratio <= 0.5,
            (Self::Less, Some(ratio)) => ratio < 1.0,
        }
    }
}

/// A line of the table: one measure of both systems at one number of agents.
#[derive(Clone, Debug, PartialEq)]
pub struct GossipRow {
    /// What is measured.
    pub measure: &'static str,
    /// How many agents.
    pub nodes: usize,
    /// Quorumor's figure.
    pub ours: Option<f64>,
    /// Serf's.
    pub serfs: Option<f64>,
    /// What the ratio is to be.
    pub goal: Goal,
    /// Whether either side is.
    pub void: bool,
}

impl GossipRow {
    /// Ours by Serf's.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        by(self.ours, self.serfs)
    }

    /// Reached, missed, void, or nothing where nothing was to be reached.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.goal {
            Goal::Shown => "",
            Goal::Half | Goal::Less if self.serfs.is_none() => "",
            Goal::Half | Goal::Less if self.void => "void",
            Goal::Half | Goal::Less if self.goal.is_met(self.ratio()) => "reached",
            Goal::Half | Goal::Less => "missed",
        }
    }

    /// Its cells, in the order of [`HEADER`].
    #[must_use]
    pub fn cells(&self) -> [String; 7] {
        let ratio = self
            .ratio()
            .map(|ratio| format!("{}x", figure(Some(ratio))));
        [
            self.measure.to_owned(),
            self.nodes.to_string(),
            figure(self.ours),
            figure(self.serfs),
            ratio.unwrap_or_default(),
            self.goal.text().to_owned(),
            self.verdict().to_owned(),
        ]
    }
}

/// What stands over the cells of a row.
pub const HEADER: [&str; 7] = [
    "measure", "nodes", "quorumor", "serf", "ratio", "goal", "verdict",
];

type Read = fn(&GossipResult) -> Option<f64>;

/// What is compared: its name, ours, Serf's, and the goal.
const MEASURES: [(&str, Read, Read, Goal); 14] = [
    (
        "put / event everywhere, p50 s",
        |it| Some(it.put?.p50_s),
        |it| Some(it.event?.p50_s),
        Goal::Half,
    ),
    (
        "put / event everywhere, p99 s",
        |it| Some(it.put?.p99_s),
        |it| Some(it.event?.p99_s),
        Goal::Half,
    ),
    (
        "put / event everywhere, max s",
        |it| Some(it.put?.max_s),
        |it| Some(it.event?.max_s),
        Goal::Shown,
    ),
    (
        "put / tag everywhere, p50 s",
        |it| Some(it.put?.p50_s),
        |it| Some(it.tag?.p50_s),
        Goal::Half,
    ),
    (
        "put / tag everywhere, p99 s",
        |it| Some(it.put?.p99_s),
        |it| Some(it.tag?.p99_s),
        Goal::Half,
    ),
    (
        "put / tag everywhere, max s",
        |it| Some(it.put?.max_s),
        |it| Some(it.tag?.max_s),
        Goal::Shown,
    ),
    (
        "killed, down everywhere, p50 s",
        |it| Some(it.down?.p50_s),
        |it| Some(it.down?.p50_s),
        Goal::Less,
    ),
    (
        "killed, down everywhere, max s",
        |it| Some(it.down?.max_s),
        |it| Some(it.down?.max_s),
        Goal::Less,
    ),
    (
        "idle CPU, % of a core a node",
        |it| it.cpu_percent,
        |it| it.cpu_percent,
        Goal::Half,
    ),
    (
        "idle bytes/s a node",
        |it| it.bytes_s,
        |it| it.bytes_s,
        Goal::Less,
    ),
    (
        "idle packets/s a node",
        |it| it.packets_s,
        |it| it.packets_s,
        Goal::Shown,
    ),
    (
        "RSS, MiB a node",
        |it| it.rss_mib,
        |it| it.rss_mib,
        Goal::Less,
    ),
    (
        "RSS of the biggest, MiB",
        |it| it.rss_mib_max,
        |it| it.rss_mib_max,
        Goal::Shown,
    ),
    (
        "started until all know all, s",
        |it| it.join_s,
        |it| it.join_s,
        Goal::Shown,
    ),
];

/// The rows of all numbers of agents, in the order in which they were measured.
#[must_use]
pub fn rows(results: &[GossipResult]) -> Vec<GossipRow> {
    let of = |system: System| {
        results
            .iter()
            .filter(move |result| result.system == system.as_str())
    };
    let mut rows = Vec::new();
    for ours in of(System::Quorumor) {
        let serf = of(System::Serf).find(|serf| serf.nodes == ours.nodes);
        for (measure, of_ours, of_serf, goal) in MEASURES {
            rows.push(GossipRow {
                measure,
                nodes: ours.nodes,
                ours: of_ours(ours),
                serfs: serf.and_then(of_serf),
                goal,
                void: ours.void || serf.is_some_and(|serf| serf.void),
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::Update;
    use super::super::results::GossipTurn;
    use super::*;

    fn result(system: System, cpu_percent: f64, put_s: f64) -> GossipResult {
        let update = match system {
            System::Quorumor => Update::Put,
            System::Serf => Update::Event,
        };
        let turn = GossipTurn {
            cpu_percent,
            updates: [(update, vec![put_s])].into(),
            down_s: vec![9.0],
            ..GossipTurn::default()
        };
        GossipResult::of(10, system, &[turn])
    }

    #[test]
    fn goals_are_judged_by_the_ratio() {
        let ours = result(System::Quorumor, 0.1, 1.0);
        let serfs = result(System::Serf, 0.19, 2.0);
        let mut both = [ours, serfs];
        let verdict = |both: &[GossipResult], measure: &str| {
            let rows = rows(both);
            let row = rows.iter().find(|row| row.measure.starts_with(measure));
            row.unwrap().verdict()
        };
        assert_eq!(verdict(&both, "put / event everywhere, p50"), "reached");
        assert_eq!(verdict(&both, "idle CPU"), "missed");
        assert_eq!(verdict(&both, "killed, down everywhere, p50"), "missed");
        // What wasn't measured reaches nothing.
        assert_eq!(verdict(&both, "put / tag everywhere, p50"), "");
        assert_eq!(verdict(&both, "idle packets"), "");
        both[1].void = true;
        assert_eq!(verdict(&both, "idle CPU"), "void");
        assert_eq!(verdict(&both[..1], "idle CPU"), "");
    }
}
