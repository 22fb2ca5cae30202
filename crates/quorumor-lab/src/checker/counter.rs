//! Counters: keys `counter/...` whose values are `number:unique`, raised by one by a read and a compare-and-set of what was read
//! (eventual: by a read and a put, which is known to lose counts).
//!
//! At the end a counter stands between the number of acknowledged additions and that number plus the unknown ones. Above is broken in
//! both modes: something was added twice. Below is broken in strong mode, where besides no two acknowledged additions may have led to the
//! same number; in eventual mode the lost counts are counted. The counter's end is what the nodes hold at last; without that, the
//! highest number that a linearizable answer showed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Evidence, Finding, Property, is_linearizable};
use crate::history::{History, Mode, Op, Outcome};

/// Keys that are counters begin so.
pub const COUNTER_PREFIX: &str = "counter/";

/// All counters of a history, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterFigures {
    /// Counters.
    pub counters: u64,
    /// Acknowledged additions.
    pub acknowledged: u64,
    /// Additions of unknown outcome.
    pub unknown: u64,
    /// Where the counters stand at the end.
    pub stands: u64,
    /// Acknowledged additions that the end misses.
    pub lost: u64,
}

/// What the counters of a history show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The verdict.
    pub finding: Finding,
    /// The counts.
    pub figures: CounterFigures,
}

#[derive(Default)]
struct Counter<'a> {
    acked: Vec<(u64, &'a Op)>,
    unknown: u64,
    shown: Option<(u64, &'a Op)>,
}

/// Judges a history of either mode; none = it has no counter.
pub fn check(history: &History) -> Option<Counters> {
    let counters = counters(history);
    if counters.is_empty() {
        return None;
    }
    let strong = history.header.mode == Mode::Strong;
    let (mut figures, mut evidence, mut open) = (CounterFigures::default(), Vec::new(), 0u64);
    for (key, counter) in &counters {
        let acked = counter.acked.len() as u64;
        figures.counters += 1;
        figures.acknowledged += acked;
        figures.unknown += counter.unknown;
        if strong {
            evidence.extend(same_number(key, &counter.acked));
        }
        let Some(stands) = stands(history, key, counter) else {
            open += 1;
            continue;
        };
        figures.stands = figures.stands.saturating_add(stands);
        figures.lost += acked.saturating_sub(stands);
        let too_many = stands > acked + counter.unknown;
        if too_many || (strong && stands < acked) {
            let text = format!(
                "{key} stands at {stands} after {acked} acknowledged additions and {} unknown ones",
                counter.unknown
            );
            let last = counter.acked.last().map(|&(_, op)| op);
            let ops: Vec<&Op> = last.into_iter().collect();
            evidence.push(Evidence::new(text, &ops));
        }
    }
    let summary = format!(
        "{} counters, {} acknowledged additions, {} unknown, {} lost",
        figures.counters, figures.acknowledged, figures.unknown, figures.lost
    );
    let mut finding = Finding::from_evidence(Property::Counters, summary, evidence);
    if finding.evidence.is_empty() && open > 0 {
        finding = Finding::unknown(
            Property::Counters,
            format!("{open} counters were not read at the end"),
        );
    }
    Some(Counters { finding, figures })
}

/// The number that a value stands for.
fn number(value: &str) -> Option<u64> {
    value.split(':').next()?.parse().ok()
}

fn counters(history: &History) -> BTreeMap<&str, Counter<'_>> {
    let mut counters: BTreeMap<&str, Counter<'_>> = BTreeMap::new();
    for op in &history.ops {
        let key = op.invoke.key.as_str();
        if !key.starts_with(COUNTER_PREFIX) {
            continue;
        }
        let counter = counters.entry(key).or_default();
        let to = op.invoke.action.written().and_then(number);
        if let Some(to) = to.filter(|_| op.is_acked_write()) {
            counter.acked.push((to, op));
        } else if to.is_some() && op.outcome() == Outcome::Unknown {
            counter.unknown += 1;
        }
        let Some(ret) = op.answer() else { continue };
        let seen = ret.values.first().and_then(|value| number(value));
        if let Some(seen) = seen.filter(|_| is_linearizable(history.header.mode, op, ret))
            && counter.shown.is_none_or(|(highest, _)| seen > highest)
        {
            counter.shown = Some((seen, op));
        }
    }
    counters
}

/// Where a counter stands at the end; none = nobody knows.
fn stands(history: &History, key: &str, counter: &Counter<'_>) -> Option<u64> {
    if history.finals.is_empty() {
        let acked = counter.acked.iter().map(|&(to, _)| to).max();
        return counter
            .shown
            .map(|(seen, _)| seen)
            .max(acked.filter(|_| counter.shown.is_some()));
    }
    let entries = history.finals.iter().flat_map(|state| &state.entries);
    let here = entries.filter(|entry| entry.key == key);
    let numbers = here.filter_map(|entry| number(entry.values.first()?));
    // A counter that no node holds was never raised, or is lost altogether.
    Some(numbers.max().unwrap_or(0))
}

/// Two acknowledged additions that led to the same number: the second one missed the first.
fn same_number(key: &str, acked: &[(u64, &Op)]) -> Vec<Evidence> {
    let mut by_number: BTreeMap<u64, &Op> = BTreeMap::new();
    let mut evidence = Vec::new();
    for &(to, op) in acked {
        if let Some(other) = by_number.insert(to, op) {
            let text = format!("two acknowledged additions led {key} to {to}");
            evidence.push(Evidence::new(text, &[other, op]));
        }
    }
    evidence
}
