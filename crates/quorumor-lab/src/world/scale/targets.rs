//! What a run is to reach, where there is an aim: set for 10,000 nodes, so that fewer must reach it too.

use serde::Serialize;

use super::options::{Options, Scenario};
use super::outcome::Outcome;

/// One aim, and what was reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Target {
    /// The figure's name.
    pub figure: &'static str,
    /// At most this.
    pub at_most: f64,
    /// What it was; `None` if it was never reached.
    pub was: Option<f64>,
    /// Whether it was reached.
    pub met: bool,
}

impl Target {
    fn new(figure: &'static str, at_most: f64, was: Option<f64>) -> Self {
        Self {
            figure,
            at_most,
            was,
            met: was.is_some_and(|was| was <= at_most),
        }
    }
}

/// The aims of a scenario whose options are no harder than those the aims were set for.
pub(super) fn of(options: &Options, outcome: &Outcome) -> Vec<Target> {
    let mut targets = Vec::new();
    if options.nodes > 10_000 {
        return targets;
    }
    let mut add = |figure, at_most, was| targets.push(Target::new(figure, at_most, was));
    let is_calm = options.churn_ppm == 0 && options.slow_ppm == 0;
    if let Some(spread) = outcome
        .spread_s
        .filter(|_| is_calm && options.loss_ppm <= 300_000)
    {
        let (p99, last) = if options.loss_ppm == 0 {
            (1.9, 2.3)
        } else {
            (2.4, 6.0)
        };
        add("spread_s.p99", p99, spread.p99);
        add("spread_s.last", last, spread.last);
        add("copies_per_node", 7.0, outcome.copies_per_node);
        if outcome.repair_rounds.is_some() {
            add("repair_rounds", 3.0, outcome.repair_rounds);
        }
    }
    if options.crashes > 0 && is_calm {
        add(
            "first_suspicion_periods",
            2.1,
            outcome.first_suspicion_periods,
        );
        add("all_down_s", 24.0, outcome.all_down_s);
    }
    let wall = match options.scenario {
        Scenario::Idle => {
            add("bytes_per_node_s", 240.0, Some(outcome.bytes_per_node_s));
            Some(0.2)
        }
        Scenario::Slow => {
            add("false_downs", 0.0, Some(outcome.false_downs as f64));
            None
        }
        Scenario::Join => {
            add(
                "join_s.last",
                60.0,
                outcome.join_s.and_then(|join| join.last),
            );
            add("bytes_per_node_s", 32_768.0, Some(outcome.bytes_per_node_s));
            None
        }
        Scenario::Partition => {
            add("equal_s", 10.0, outcome.equal_s);
            None
        }
        Scenario::Churn => Some(2.0),
        Scenario::Spread | Scenario::Crash => None,
    };
    if let Some(wall) = wall {
        add("wall_s_per_sim_s", wall, Some(outcome.wall_s_per_sim_s));
    }
    if let Some(rss) = outcome.rss_mib {
        add("rss_mib", 6.0 * 1_024.0, Some(rss as f64));
    }
    targets
}
