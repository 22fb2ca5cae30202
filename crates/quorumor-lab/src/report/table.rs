//! The table for the terminal: the columns one under the other for each phase, and what it means below.
//!
//! Plain text without colours, so that it reads the same in a log. Called by `compare`. With several runs each figure
//! is the median, and the range stands below it.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::column::world_words;
use super::sentences::{sentences, verdict_sentence};
use super::spread::{Spread, Unit};
use super::words::{recovery, span};
use super::{Column, Comparison, Difference};
use crate::analyse::{PhaseFigures, Recovery, RunResult};
use crate::checker::Verdict;
use crate::checker::availability::Counts;

const HEADER: [&str; 11] = [
    "phase",
    "column",
    "ok",
    "refused",
    "unknown",
    "latency from due\np50 / p99",
    "ok =\non",
    "longest gap\nall / one node",
    "stale\nreads",
    "writes lost\n/ discarded",
    "time to\nrecover",
];
/// Lines are broken here.
const WIDTH: usize = 110;

/// The table, the verdicts, the reasons if a run is void, the broken promises if there are any, and the sentences.
pub fn render_table(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEADER);
    let phases = comparison.scenario.phases.iter().enumerate();
    for (place, phase) in phases {
        add_row(&mut table, &phase.name, comparison, Some(place));
    }
    add_row(&mut table, "whole run", comparison, None);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    let mut text = format!("{}\n{table}\n", subtitle(comparison));
    text.push_str(&verdicts(comparison));
    for difference in &comparison.differences {
        text.push_str(&both_sides(difference));
    }
    text.push_str(&footnotes(comparison));
    for column in &comparison.columns {
        column
            .runs
            .iter()
            .for_each(|run| text.push_str(&doubts(column, run)));
    }
    for note in &comparison.notes {
        text.push_str(&format!("\n{}\n", wrap(&format!("NOTE: {note}"))));
    }
    for sentence in sentences(comparison) {
        text.push_str(&format!("\n{}\n", wrap(&sentence)));
    }
    text.push_str(&format!("\nAgain: {}\n", comparison.command));
    text
}

/// With and without, and what that changed.
fn both_sides(difference: &Difference) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "with", "without", "difference"]);
    for cells in difference.cells() {
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    let sentence = wrap(&difference.sentence());
    format!("\n{}\n{table}\n{sentence}\n", wrap(&difference.title()))
}

/// What was run, in one line.
pub(super) fn subtitle(comparison: &Comparison) -> String {
    let scenario = &comparison.scenario;
    format!(
        "Scenario {}: {} nodes a column, {} operations/s for {}, {}",
        scenario.name,
        scenario.nodes,
        scenario.workload.rate,
        span(scenario.duration_us()),
        seeds(comparison)
    )
}

/// "seed 7", "seeds 1, 2 and 3".
pub(super) fn seeds(comparison: &Comparison) -> String {
    let runs = comparison.columns.iter().flat_map(|column| &column.runs);
    let mut seeds: Vec<u64> = runs.map(|run| run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let texts: Vec<String> = seeds.iter().map(u64::to_string).collect();
    match texts.as_slice() {
        [] => format!("seed {}", comparison.scenario.seed),
        [one] => format!("seed {one}"),
        many => format!("seeds {}", super::words::listed(many)),
    }
}

/// One row a phase; within it, one line a column, or two where there are several runs.
fn add_row(table: &mut Table, name: &str, comparison: &Comparison, phase: Option<usize>) {
    let columns = comparison.columns.iter();
    let columns: Vec<[String; 10]> = columns.map(|column| cells(column, phase)).collect();
    let mut row = vec![Cell::new(name)];
    for place in 0..10 {
        let lines: Vec<&str> = columns.iter().map(|cells| cells[place].as_str()).collect();
        let cell = Cell::new(lines.join("\n"));
        let is_word = place == 0 || place == 5;
        row.push(if is_word {
            cell
        } else {
            cell.set_alignment(CellAlignment::Right)
        });
    }
    table.add_row(row);
}

/// A figure of a phase, if it has one.
type Figure<'a> = &'a dyn Fn(&PhaseFigures) -> Option<f64>;

/// The cells of a column in a phase. With several runs each has a second line, so that the columns stay level.
fn cells(column: &Column, phase: Option<usize>) -> [String; 10] {
    let many = column.counted().len() > 1;
    let of = |unit: Unit, of: Figure<'_>| pair(&[(column.phase_spread(phase, of), unit)], many);
    let two = |unit: Unit, figures: [Figure<'_>; 2]| {
        let spreads = figures.map(|of| (column.phase_spread(phase, of), unit));
        pair(&spreads, many)
    };
    let word = |word: &str| {
        if many {
            format!("{word}\n ")
        } else {
            word.to_owned()
        }
    };
    let figure = |n: u64| Some(n as f64);
    let refused = |counts: &Counts| counts.refused + counts.held_back;
    [
        word(&column.label),
        of(Unit::Count, &|p| figure(p.counts.ok)),
        of(Unit::Count, &|p| figure(refused(&p.counts))),
        of(Unit::Count, &|p| figure(p.counts.unknown)),
        two(
            Unit::Micros,
            [&|p| p.p50_us.map(|us| us as f64), &|p| {
                p.p99_us.map(|us| us as f64)
            }],
        ),
        word(&column.ok_means),
        two(
            Unit::Micros,
            [&|p| figure(p.gaps.everywhere_us), &|p| {
                figure(p.gaps.worst_node_us)
            }],
        ),
        of(Unit::Count, &|p| figure(p.stale_reads)),
        two(Unit::Count, [&|p| figure(p.lost), &|p| figure(p.discarded)]),
        recoveries(column, phase, many),
    ]
}

/// "a / b", and below it "[a-b] / [c-d]".
fn pair(spreads: &[(Option<Spread>, Unit)], many: bool) -> String {
    let texts = spreads.iter().map(|(spread, unit)| match spread {
        Some(spread) => spread.text(*unit),
        None => ("-".to_owned(), None),
    });
    let (medians, ranges): (Vec<String>, Vec<Option<String>>) = texts.unzip();
    let medians = medians.join(" / ");
    if many {
        let is_same = ranges.iter().all(Option::is_none);
        let ranges: Vec<String> = ranges
            .into_iter()
            .map(|range| range.unwrap_or("same".to_owned()))
            .collect();
        let below = if is_same {
            " ".to_owned()
        } else {
            ranges.join(" / ")
        };
        format!("{medians}\n{below}")
    } else {
        medians
    }
}

fn recoveries(column: &Column, phase: Option<usize>, many: bool) -> String {
    let runs = column.counted().into_iter();
    let figures = runs.filter_map(|run| match phase {
        Some(phase) => run.phases.get(phase),
        None => Some(&run.total),
    });
    let mut all: Vec<Recovery> = figures.map(|figures| figures.recovery).collect();
    // From the best to the worst, so that a run that never recovered isn't hidden between others.
    all.sort_unstable();
    let mut words: Vec<String> = all.into_iter().map(recovery).collect();
    words.dedup();
    match words.as_slice() {
        [one] if many => format!("{one}\n "),
        [] => "-".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} ..\n{last}", first[0]),
    }
}

fn verdicts(comparison: &Comparison) -> String {
    let mut text = format!("\n{}\n", verdict_sentence(comparison));
    for column in &comparison.columns {
        let counted = column.counted().len();
        let runs = match column.runs.len() {
            1 => String::new(),
            all => format!(", {counted} of {all} runs counted"),
        };
        text.push_str(&format!(
            "  {} {}: {} ({}{runs})\n",
            column.judgement().symbol(),
            column.label,
            column.judgement().word(),
            world_words(column.world)
        ));
    }
    text
}

fn footnotes(comparison: &Comparison) -> String {
    let mut text = String::from(
        "  refused: certainly not applied, kept back by the client's own bound included. Gaps and recovery are those of\n  \
         the live nodes; * = only once the fault was over. discarded: at least so many, by the conflict rule, for a write that\n  had not seen it, as eventual mode says.\n",
    );
    if comparison
        .columns
        .iter()
        .any(|column| column.runs.len() > 1)
    {
        text.push_str("  Figures of several runs: the median, below it [least\u{2013}greatest] where runs differ.\n");
    }
    let converged = |column: &Column| {
        let spread = column.spread(|run| run.converge_us.map(|us| us as f64));
        let text = spread.map_or("not seen".to_owned(), |spread| spread.line(Unit::Micros));
        let runs = column.counted();
        let unseen = runs.iter().filter(|run| run.converge_us.is_none()).count();
        match unseen {
            0 => format!("{} {text}", column.label),
            all if all == runs.len() => format!("{} not seen", column.label),
            some => format!(
                "{} {text} (not seen in {some} of {})",
                column.label,
                runs.len()
            ),
        }
    };
    let converged: Vec<String> = comparison.columns.iter().map(converged).collect();
    text.push_str(&format!(
        "  Time to converge after the heal: {}.\n",
        converged.join(", ")
    ));
    let widest = comparison
        .columns
        .iter()
        .map(|column| column.label.chars().count())
        .max();
    let widest = widest.unwrap_or(0) + 2;
    for column in &comparison.columns {
        for (i, promise) in column.promises.iter().take(2).enumerate() {
            let name = match i {
                0 => format!("{}:", column.label),
                _ => String::new(),
            };
            text.push_str(&format!("  {name:<widest$}{promise}\n"));
        }
    }
    text
}

/// Why a run proves nothing, and every finding that isn't valid, with its first evidence.
fn doubts(column: &Column, run: &RunResult) -> String {
    let name = match column.runs.len() {
        1 => column.label.clone(),
        _ => format!("{}, seed {}", column.label, run.seed),
    };
    let mut text = String::new();
    for reason in &run.void {
        text.push_str(&format!("\nVOID, {name}: {}\n", reason.text()));
    }
    let findings = run.findings.iter();
    for finding in findings.filter(|finding| finding.verdict != Verdict::Valid) {
        text.push_str(&format!(
            "\n{}, {name}, {}: {}\n",
            finding.verdict.name().to_uppercase(),
            finding.property.name(),
            finding.summary
        ));
        for evidence in finding.evidence.iter().take(1) {
            text.push_str(&format!("  {}\n", evidence.text));
            for line in evidence.lines.iter().take(8) {
                text.push_str(&format!("    {line}\n"));
            }
        }
    }
    text
}

fn wrap(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + word.len() >= WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}
