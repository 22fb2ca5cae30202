//! What a cell is to reach, as ratios of two targets in the same run, and whether it did. Absolute figures are no goal:
//! they change with the machine.

use crate::results::CellResult;
use crate::table::{by, figure};

/// A figure of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Operations a second.
    Ops,
    /// The median latency.
    P50,
    /// The latency that one of a hundred exceeds.
    P99,
    /// Server processor time for a thousand operations.
    Cpu,
    /// Cores that the servers keep busy.
    Cores,
    /// Memory of the biggest server.
    Rss,
}

impl Figure {
    /// Its name in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ops => "ops",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Cpu => "cpu",
            Self::Cores => "cores",
            Self::Rss => "rss",
        }
    }

    const fn of(self, result: &CellResult) -> Option<f64> {
        match self {
            Self::Ops => result.ops_s,
            Self::P50 => result.p50_ms,
            Self::P99 => result.p99_ms,
            Self::Cpu => result.server_cpu_s_per_kop,
            Self::Cores => result.server_cores,
            Self::Rss => result.rss_mib,
        }
    }
}

/// What a ratio must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least so much of the other's.
    AtLeast(Figure, f64),
    /// At most so much of the other's.
    AtMost(Figure, f64),
    /// At most so much, whatever the other has: for what nobody else is measured in.
    Within(Figure, f64),
}

impl Goal {
    /// The goal in few signs, as `ops >= 2.50x`.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::AtLeast(which, bound) => {
                format!("{} >= {}x", which.as_str(), figure(Some(bound)))
            }
            Self::AtMost(which, bound) => format!("{} <= {}x", which.as_str(), figure(Some(bound))),
            Self::Within(which, bound) => format!("{} <= {}", which.as_str(), figure(Some(bound))),
        }
    }

    /// The ratio (or the figure, where only that counts), if it can be told.
    #[must_use]
    pub fn ratio(self, result: &CellResult, other: &CellResult) -> Option<f64> {
        match self {
            Self::AtLeast(which, _) | Self::AtMost(which, _) => {
                by(which.of(result), which.of(other))
            }
            Self::Within(which, _) => which.of(result),
        }
    }

    /// Whether it is reached; a ratio that can't be told isn't.
    #[must_use]
    pub fn is_met(self, result: &CellResult, other: &CellResult) -> bool {
        match (self, self.ratio(result, other)) {
            (_, None) => false,
            (Self::AtLeast(_, bound), Some(ratio)) => ratio >= bound,
            (Self::AtMost(_, bound) | Self::Within(_, bound), Some(ratio)) => ratio <= bound,
        }
    }

    /// The measured ratio in few signs, as `ops 2.61x`.
    #[must_use]
    pub fn measured(self, result: &CellResult, other: &CellResult) -> String {
        let ratio = figure(self.ratio(result, other));
        match self {
            Self::AtLeast(which, _) | Self::AtMost(which, _) => {
                format!("{} {ratio}x", which.as_str())
            }
            Self::Within(which, _) => format!("{} {ratio}", which.as_str()),
        }
    }
}

/// A cell of one target beside another's, and what it is to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The target's own figures.
    pub result: CellResult,
    /// The figures that it is compared with.
    pub other: CellResult,
    /// What it is to reach; may be nothing.
    pub goals: Vec<Goal>,
}

impl Row {
    /// What is said of the goals: reached, missed (and which), or nothing that can be said.
    #[must_use]
    pub fn verdict(&self) -> String {
        if self.result.void || self.other.void {
            return "void".to_owned();
        }
        let missed = self
            .goals
            .iter()
            .filter(|goal| !goal.is_met(&self.result, &self.other));
        let missed: Vec<_> = missed.map(|goal| goal.text()).collect();
        match (self.goals.is_empty(), missed.is_empty()) {
            (true, _) => String::new(),
            (false, true) => "reached".to_owned(),
            (false, false) => format!("missed: {}", missed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Turn;

    fn result(target: &str, ops_s: f64, p99_ms: Option<f64>) -> CellResult {
        let turn = Turn {
            ops_s: Some(ops_s),
            p99_ms,
            ..Turn::default()
        };
        CellResult::of("put", 64, target, &[turn])
    }

    #[test]
    fn a_row_says_which_goals_it_missed() {
        let mut row = Row {
            result: result("quorumor", 25.0, Some(6.0)),
            other: result("etcd", 10.0, Some(10.0)),
            goals: vec![
                Goal::AtLeast(Figure::Ops, 2.5),
                Goal::AtMost(Figure::P99, 0.5),
            ],
        };
        assert_eq!(row.verdict(), "missed: p99 <= 0.500x");
        row.result.p99_ms = Some(5.0);
        assert_eq!(row.verdict(), "reached");
        row.other.void = true;
        assert_eq!(row.verdict(), "void");
    }

    #[test]
    fn a_ratio_that_cant_be_told_is_not_reached() {
        let goal = Goal::AtMost(Figure::P99, 0.5);
        let (one, other) = (result("a", 1.0, None), result("b", 1.0, Some(1.0)));
        assert!(!goal.is_met(&one, &other));
        assert_eq!(goal.measured(&one, &other), "p99 -x");
        let alone = Goal::Within(Figure::P99, 2.0);
        assert!(alone.is_met(&other, &one) && !alone.is_met(&one, &other));
        assert_eq!(alone.measured(&other, &one), "p99 1.00");
    }
}
