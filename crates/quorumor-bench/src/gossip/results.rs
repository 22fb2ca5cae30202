//! What the turns of a system come to, in the form that is kept. How it stands beside the other is in `rows.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agents::System;
use super::door::Update;
use crate::load::CallError;
use crate::results::median;

/// One turn of one system.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GossipTurn {
    /// From the start of the first process until every agent knew all others.
    pub(super) join_s: f64,
    /// Until the last agent had each update.
    pub(super) updates: BTreeMap<Update, Vec<f64>>,
    /// Until the last agent held each killed one for dead.
    pub(super) down_s: Vec<f64>,
    pub(super) cpu_percent: f64,
    pub(super) bytes_s: f64,
    pub(super) packets_s: f64,
    pub(super) rss_mib: f64,
    pub(super) rss_mib_max: f64,
    pub(super) errors: BTreeMap<String, u64>,
    /// The most in any of its parts.
    pub(super) foreign_cores: f64,
    pub(super) void: bool,
}

impl GossipTurn {
    pub(super) fn count_error(&mut self, error: &CallError) {
        *self.errors.entry(error.0.clone()).or_default() += 1;
    }

    pub(super) const fn note_foreign(&mut self, cores: f64) {
        self.foreign_cores = self.foreign_cores.max(cores);
    }
}

/// Where the middle, the hundredth from the top and the top of some times lie, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many there are.
    pub count: usize,
    /// Half are at most so long.
    pub p50_s: f64,
    /// Ninety-nine of a hundred are at most so long.
    pub p99_s: f64,
    /// The longest.
    pub max_s: f64,
}

impl Times {
    /// Of some times; none of nothing.
    #[must_use]
    pub fn of(mut seconds: Vec<f64>) -> Option<Self> {
        seconds.sort_by(f64::total_cmp);
        // The nearest rank: of fewer than a hundred the longest.
        let rank = (seconds.len() * 99).div_ceil(100).checked_sub(1)?;
        Some(Self {
            count: seconds.len(),
            p50_s: median(seconds.clone())?,
            p99_s: *seconds.get(rank)?,
            max_s: *seconds.last()?,
        })
    }
}

/// A system at one number of agents: a line of the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GossipResult {
    /// How many agents.
    pub nodes: usize,
    /// Whose.
    pub system: String,
    /// Turns that count.
    pub turns: usize,
    /// Whether no turn counts: the figures are then the void turns', for orientation only.
    pub void: bool,
    /// The most that others kept busy in a turn that counts, in cores.
    pub foreign_cores: f64,
    /// From the start of the first process until every agent knew all others.
    pub join_s: Option<f64>,
    /// From the start of a put until the last node's watch had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put: Option<Times>,
    /// The same of a user event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Times>,
    /// The same of a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Times>,
    /// From a kill until the last agent held the victim for dead.
    pub down: Option<Times>,
    /// Of one core, for each idle agent.
    pub cpu_percent: Option<f64>,
    /// Bytes a second on the loopback, headers from IP on counted, for each idle agent.
    pub bytes_s: Option<f64>,
    /// Packets a second, likewise.
    pub packets_s: Option<f64>,
    /// Resident memory, on average.
    pub rss_mib: Option<f64>,
    /// Resident memory of the biggest agent.
    pub rss_mib_max: Option<f64>,
    /// What went wrong in the turns that count.
    pub errors: BTreeMap<String, u64>,
}

impl GossipResult {
    /// Times of all turns that count together, and the median of what a turn has one of; if no turn counts, of all, and void.
    pub(super) fn of(nodes: usize, system: System, turns: &[GossipTurn]) -> Self {
        let valid: Vec<&GossipTurn> = turns.iter().filter(|turn| !turn.void).collect();
        let void = valid.is_empty();
        let counted = if void { turns.iter().collect() } else { valid };
        let median_of =
            |of: fn(&GossipTurn) -> f64| median(counted.iter().map(|turn| of(turn)).collect());
        let times_of = |update: Update| {
            let times = counted.iter().filter_map(|turn| turn.updates.get(&update));
            Times::of(times.flatten().copied().collect())
        };
        let downs = counted.iter().flat_map(|turn| &turn.down_s);
        let mut errors = BTreeMap::new();
        for (kind, times) in counted.iter().flat_map(|turn| &turn.errors) {
            *errors.entry(kind.clone()).or_default() += times;
        }
        Self {
            nodes,
            system: system.to_string(),
            turns: counted.len(),
            void,
            foreign_cores: counted
                .iter()
                .map(|turn| turn.foreign_cores)
                .fold(0.0, f64::max),
            join_s: median_of(|turn| turn.join_s),
            put: times_of(Update::Put),
            event: times_of(Update::Event),
            tag: times_of(Update::Tag),
            down: Times::of(downs.copied().collect()),
            cpu_percent: median_of(|turn| turn.cpu_percent),
            bytes_s: median_of(|turn| turn.bytes_s),
            packets_s: median_of(|turn| turn.packets_s),
            rss_mib: median_of(|turn| turn.rss_mib),
            rss_mib_max: median_of(|turn| turn.rss_mib_max),
            errors,
        }
    }
}

/// Results as lines of JSON.
#[must_use]
pub fn json_lines(results: &[GossipResult]) -> String {
    results.iter().fold(String::new(), |mut text, result| {
        text += &serde_json::json!(result).to_string();
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(cpu_percent: f64, times: &[f64], void: bool) -> GossipTurn {
        GossipTurn {
            cpu_percent,
            updates: BTreeMap::from([
                (Update::Put, times.to_vec()),
                (Update::Event, times.to_vec()),
            ]),
            down_s: vec![9.0],
            void,
            ..GossipTurn::default()
        }
    }

    #[test]
    fn times_of_all_turns_count_together_and_void_ones_not() {
        let turns = [
            turn(0.1, &[1.0, 2.0], false),
            turn(0.3, &[3.0], false),
            turn(9.0, &[9.0], true),
        ];
        let result = GossipResult::of(10, System::Quorumor, &turns);
        assert_eq!((result.turns, result.void), (2, false));
        assert_eq!(result.cpu_percent, Some(0.2));
        let put = result.put.unwrap();
        assert_eq!(
            (put.count, put.p50_s, put.p99_s, put.max_s),
            (3, 2.0, 3.0, 3.0)
        );
        assert_eq!(result.tag, None);
        assert!(GossipResult::of(10, System::Serf, &turns[2..]).void);
    }

    #[test]
    fn the_hundredth_from_the_top_is_told_from_the_top() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        let times = Times::of(times).unwrap();
        assert_eq!(
            (times.p50_s, times.p99_s, times.max_s),
            (100.5, 198.0, 200.0)
        );
        assert_eq!(Times::of(Vec::new()), None);
    }

    #[test]
    fn a_line_of_json_has_the_promised_names() {
        let result = GossipResult::of(10, System::Serf, &[turn(0.1, &[1.0], false)]);
        let line = json_lines(std::slice::from_ref(&result));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"]["p99_s"], 1.0);
        for name in [
            "nodes",
            "system",
            "turns",
            "void",
            "down",
            "cpu_percent",
            "bytes_s",
            "rss_mib",
        ] {
            assert!(value.get(name).is_some(), "{name}");
        }
        assert_eq!(serde_json::from_str::<GossipResult>(&line).unwrap(), result);
    }
}
