//! What was measured, in the form that is kept: one line of JSON a cell and target, the median of its turns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One turn of one target in one cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Operations a second; keys a second where one call has many.
    pub ops_s: Option<f64>,
    /// Half were at most so slow.
    pub p50_ms: Option<f64>,
    /// Ninety-nine of a hundred were at most so slow.
    pub p99_ms: Option<f64>,
    /// Processor seconds of all servers for a thousand operations, if their processes are known.
    pub server_cpu_s_per_kop: Option<f64>,
    /// Cores that the servers kept busy, if known.
    pub server_cores: Option<f64>,
    /// Memory of the biggest server, if known.
    pub rss_mib: Option<f64>,
    /// Failed calls, by what they said.
    pub errors: BTreeMap<String, u64>,
    /// Cores that others kept busy.
    pub foreign_cores: f64,
    /// Whether that was too much for the turn to count.
    pub void: bool,
}

/// A cell of a target: a line of the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// The workload.
    pub workload: String,
    /// Calls in flight, or what stands for them (watchers).
    pub in_flight: usize,
    /// The target's name.
    pub target: String,
    /// Operations a second.
    pub ops_s: Option<f64>,
    /// Half were at most so slow.
    pub p50_ms: Option<f64>,
    /// Ninety-nine of a hundred were at most so slow.
    pub p99_ms: Option<f64>,
    /// Processor seconds of all servers for a thousand operations.
    pub server_cpu_s_per_kop: Option<f64>,
    /// Cores that the servers kept busy.
    pub server_cores: Option<f64>,
    /// Memory of the biggest server.
    pub rss_mib: Option<f64>,
    /// Turns that count.
    pub turns: usize,
    /// Whether no turn counts: the figures are then the void turns', for orientation only.
    pub void: bool,
    /// The most that others kept busy in a turn that counts, in cores.
    pub foreign_cores: f64,
    /// Failed calls of the turns that count, by what they said.
    pub errors: BTreeMap<String, u64>,
}

impl CellResult {
    /// The median of the turns that count; of all if none does, and then void.
    #[must_use]
    pub fn of(workload: &str, in_flight: usize, target: &str, turns: &[Turn]) -> Self {
        let valid: Vec<&Turn> = turns.iter().filter(|turn| !turn.void).collect();
        let void = valid.is_empty();
        let counted = if void { turns.iter().collect() } else { valid };
        let median_of = |figure: fn(&Turn) -> Option<f64>| {
            median(counted.iter().filter_map(|turn| figure(turn)).collect())
        };
        let mut errors = BTreeMap::new();
        for (kind, times) in counted.iter().flat_map(|turn| &turn.errors) {
            *errors.entry(kind.clone()).or_default() += times;
        }
        Self {
            workload: workload.to_owned(),
            in_flight,
            target: target.to_owned(),
            ops_s: median_of(|turn| turn.ops_s),
            p50_ms: median_of(|turn| turn.p50_ms),
            p99_ms: median_of(|turn| turn.p99_ms),
            server_cpu_s_per_kop: median_of(|turn| turn.server_cpu_s_per_kop),
            server_cores: median_of(|turn| turn.server_cores),
            rss_mib: median_of(|turn| turn.rss_mib),
            turns: counted.len(),
            void,
            foreign_cores: counted
                .iter()
                .map(|turn| turn.foreign_cores)
                .fold(0.0, f64::max),
            errors,
        }
    }

    /// All failures.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// The middle one; of an even number the mean of the two in the middle.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.is_empty() {
        None
    } else if figures.len().is_multiple_of(2) {
        Some(f64::midpoint(figures[middle - 1], figures[middle]))
    } else {
        Some(figures[middle])
    }
}

/// Results as lines of JSON.
#[must_use]
pub fn json_lines(results: &[CellResult]) -> String {
    results.iter().fold(String::new(), |mut text, result| {
        text += &serde_json::json!(result).to_string();
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(ops_s: f64, void: bool) -> Turn {
        Turn {
            ops_s: Some(ops_s),
            errors: BTreeMap::from([("no".to_owned(), 1)]),
            foreign_cores: if void { 0.9 } else { 0.1 },
            void,
            ..Turn::default()
        }
    }

    #[test]
    fn void_turns_dont_count() {
        let turns = [turn(1.0, true), turn(10.0, false), turn(30.0, false)];
        let result = CellResult::of("put", 64, "etcd", &turns);
        assert_eq!(result.ops_s, Some(20.0));
        assert_eq!((result.turns, result.void), (2, false));
        assert_eq!(result.errors_total(), 2);
        assert!((result.foreign_cores - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_cell_of_void_turns_is_void_and_says_so() {
        let result = CellResult::of("put", 64, "etcd", &[turn(1.0, true), turn(3.0, true)]);
        assert!(result.void);
        assert_eq!(result.ops_s, Some(2.0));
    }

    #[test]
    fn a_line_of_json_has_the_promised_names() {
        let result = CellResult::of("put", 64, "etcd", &[turn(5.0, false)]);
        let line = json_lines(std::slice::from_ref(&result));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        for name in [
            "workload",
            "in_flight",
            "target",
            "ops_s",
            "p50_ms",
            "p99_ms",
            "server_cpu_s_per_kop",
            "rss_mib",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
        assert_eq!(serde_json::from_str::<CellResult>(&line).unwrap(), result);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    }
}
