//! The page's table of figures: each phase, the columns one under the other.
//!
//! Not the terminal's (`table`). With several runs each figure is a median with its range in small print below.

use super::html::{Escaped, element, text};
use super::spread::{Spread, Unit};
use super::words::{count, recovery};
use super::{Column, Comparison};
use crate::analyse::{PhaseFigures, Recovery};

const HEADS: [&str; 12] = [
    "phase",
    "column",
    "answered",
    "refused",
    "unknown",
    "p50 latency",
    "p99 latency",
    "longest gap, all nodes",
    "longest gap, one node",
    "stale reads",
    "acknowledged writes lost / discarded",
    "time to recover",
];

const NOTES: &str = "<p class=\"note\">Latency counts from the moment at which an operation was due, not from when it was \
    sent; an unknown outcome enters with its timeout. Latencies of two columns buy different things: the small print under a \
    column's name says who had to agree before an ok. Gaps and recovery are those of live nodes: clients stay at their node, so \
    those of a killed node fail in any mode. A stale read missed a write that had been acknowledged before it began. \
    <b>Lost</b> breaks a promise; <b>discarded</b> writes lost by the conflict rule to one that had not seen them, as eventual \
    mode says. * = only once the fault was over. With several runs: the median, and below it [least\u{2013}greatest] where runs differ.</p>\n";

/// The table and what its words mean.
pub(super) fn table(comparison: &Comparison) -> String {
    let head: String = HEADS
        .iter()
        .map(|name| format!("<th scope=\"col\">{name}</th>"))
        .collect();
    let phases = comparison.scenario.phases.iter().enumerate();
    let mut body: String = phases
        .map(|(place, phase)| group(&phase.name, comparison, Some(place)))
        .collect();
    body.push_str(&group("whole run", comparison, None));
    format!(
        "<div class=\"wide\" role=\"group\" tabindex=\"0\" aria-label=\"Figures phase by phase\"><table class=\"figures\">\
         <thead><tr>{head}</tr></thead>{body}</table></div>{NOTES}"
    )
}

fn group(name: &str, comparison: &Comparison, phase: Option<usize>) -> String {
    let mut rows = String::new();
    for (number, column) in comparison.columns.iter().enumerate() {
        let first = match number {
            0 => format!(
                "<th class=\"phase\" scope=\"rowgroup\" rowspan=\"{}\">{}</th>",
                comparison.columns.len(),
                Escaped(name)
            ),
            _ => String::new(),
        };
        rows.push_str(&element("tr", "", &(first + &row(number, column, phase))));
    }
    element("tbody", "", &rows)
}

fn row(number: usize, column: &Column, phase: Option<usize>) -> String {
    let of = |unit: Unit, of: &dyn Fn(&PhaseFigures) -> Option<f64>| {
        cell(&[column.phase_spread(phase, of)], unit)
    };
    let figure = |n: u64| Some(n as f64);
    let name = format!(
        "<th scope=\"row\" class=\"column\"><i class=\"chip c{}\"></i>{} <small>ok = on {}</small></th>",
        number % 6,
        Escaped(&column.label),
        Escaped(&column.ok_means)
    );
    let cells = [
        of(Unit::Percent, &|p| Some(p.counts.ok_percent())),
        of(Unit::Count, &|p| {
            figure(p.counts.refused + p.counts.held_back)
        }),
        of(Unit::Count, &|p| figure(p.counts.unknown)),
        of(Unit::Micros, &|p| p.p50_us.map(|us| us as f64)),
        of(Unit::Micros, &|p| p.p99_us.map(|us| us as f64)),
        of(Unit::Micros, &|p| figure(p.gaps.everywhere_us)),
        of(Unit::Micros, &|p| figure(p.gaps.worst_node_us)),
        of(Unit::Count, &|p| figure(p.stale_reads)),
        cell(
            &[
                column.phase_spread(phase, |p| figure(p.lost)),
                column.phase_spread(phase, |p| figure(p.discarded)),
            ],
            Unit::Count,
        ),
        recoveries(column, phase),
    ];
    name + &cells.concat()
}

fn cell(spreads: &[Option<Spread>], unit: Unit) -> String {
    let texts = spreads.iter().map(|spread| match spread {
        Some(spread) => spread.text(unit),
        None => ("-".to_owned(), None),
    });
    let (medians, ranges): (Vec<String>, Vec<Option<String>>) = texts.unzip();
    let differ = ranges.iter().any(Option::is_some);
    let ranges: Vec<String> = ranges
        .into_iter()
        .map(|range| range.unwrap_or("same".to_owned()))
        .collect();
    let small = if differ {
        format!(" <small>{}</small>", ranges.join(" / "))
    } else {
        String::new()
    };
    format!("<td>{}{small}</td>", medians.join(" / "))
}

fn recoveries(column: &Column, phase: Option<usize>) -> String {
    let runs = column.counted().into_iter();
    let figures = runs.filter_map(|run| match phase {
        Some(phase) => run.phases.get(phase),
        None => Some(&run.total),
    });
    let mut all: Vec<Recovery> = figures.map(|figures| figures.recovery).collect();
    all.sort_unstable();
    let mut words: Vec<String> = all.into_iter().map(recovery).collect();
    words.dedup();
    text("td", "", &words.join(", "))
}

/// The figures of a column's card.
pub(super) fn card(column: &Column) -> String {
    let whole = |of: fn(&PhaseFigures) -> f64| column.phase_spread(None, |p| Some(of(p)));
    let gap = column.spread(|run| {
        let gaps = run.phases.iter().map(|phase| phase.gaps.worst_node_us);
        gaps.max().map(|us| us as f64)
    });
    let figures = [
        ("answered", whole(|p| p.counts.ok_percent()), Unit::Percent),
        (
            "median latency",
            column.phase_spread(None, |p| p.p50_us.map(|us| us as f64)),
            Unit::Micros,
        ),
        ("longest gap at a live node", gap, Unit::Micros),
        ("stale reads", whole(|p| p.stale_reads as f64), Unit::Count),
        (
            "acknowledged writes lost",
            whole(|p| p.lost as f64),
            Unit::Count,
        ),
        (
            "discarded for concurrent writes",
            whole(|p| p.discarded as f64),
            Unit::Count,
        ),
        (
            "to be equal after the heal",
            column.spread(|run| run.converge_us.map(|us| us as f64)),
            Unit::Micros,
        ),
    ];
    let figure = |(name, spread, unit): (&str, Option<Spread>, Unit)| {
        let (median, range) = spread.map_or(("-".to_owned(), None), |spread| spread.text(unit));
        let range = range.map_or(String::new(), |range| text("small", "", &range));
        format!("<div><dt>{name}</dt><dd>{median} {range}</dd></div>")
    };
    element("dl", "", &figures.map(figure).concat())
}

/// A line of the table of fates: its name, and its figure in a run.
type Fate = (&'static str, fn(&crate::analyse::RunResult) -> Option<u64>);

/// What became of the acknowledged writes, summed over the counted runs.
pub(super) fn fates(comparison: &Comparison) -> String {
    let rows: [Fate; 7] = [
        ("1. visible", |r| Some(r.fates.visible)),
        (
            "2. superseded by a write that saw it or began after its acknowledgement",
            |r| Some(r.fates.superseded),
        ),
        ("3. lost to a concurrent write", |r| {
            Some(r.fates.lost_to_concurrent)
        }),
        (
            "4. lost to a write that had ended before it began (a clock)",
            |r| Some(r.fates.lost_to_earlier),
        ),
        ("5. gone without a successor (durability)", |r| {
            Some(r.fates.no_successor)
        }),
        ("not judged: version unknown", |r| Some(r.fates.unjudged)),
        (
            "conflict ledger: writes listed as discarded, those replaced by then included",
            |r| r.ledger,
        ),
    ];
    let head: String = comparison
        .columns
        .iter()
        .map(|column| format!("<th scope=\"col\">{}</th>", Escaped(&column.label)))
        .collect();
    let row = |(name, of): &Fate| {
        let cells = comparison.columns.iter().map(|column| {
            let figures: Vec<u64> = column.counted().into_iter().filter_map(of).collect();
            let sum = (!figures.is_empty()).then(|| figures.iter().sum());
            text("td", "", &sum.map_or("-".to_owned(), count))
        });
        let name = format!("<th scope=\"row\" class=\"phase\">{name}</th>");
        element("tr", "", &(name + &cells.collect::<String>()))
    };
    let body: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\" role=\"group\" tabindex=\"0\" aria-label=\"Fates of acknowledged writes\"><table class=\"fates\">\
         <thead><tr><th scope=\"col\">fate</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
}
