//! The table for the terminal: the modes one under the other for each phase, and what it means below.
//!
//! Plain text without colours, so that it reads the same in a log. Called by `compare`.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::Comparison;
use super::words::{count, duration, guarantee, judgement, maybe, promises, recovery, sentences};
use crate::analyse::{ModeResult, PhaseFigures};

const HEADER: [&str; 10] = [
    "phase",
    "mode",
    "operations\nok / refused / unknown",
    "latency from due\np50 / p99",
    "ok =\non",
    "longest gap\nall / one node",
    "stale\nreads",
    "writes lost\n/ discarded",
    "time to\nrecover",
    "promises",
];

/// The table, the reasons if a run is void, the broken promises if there are any, and the sentences.
pub fn render_table(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEADER);
    for (phase, planned) in comparison.scenario.phases.iter().enumerate() {
        let rows = comparison
            .modes
            .iter()
            .filter_map(|result| Some((result, result.phases.get(phase)?)));
        add_row(
            &mut table,
            &planned.name,
            rows.map(|(result, figures)| cells(result, figures, "")),
        );
    }
    let whole = comparison
        .modes
        .iter()
        .map(|result| cells(result, &result.total, judgement(result)));
    add_row(&mut table, "whole run", whole);
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    let scenario = &comparison.scenario;
    let mut text = format!(
        "{} nodes a mode, {} operations/s for {}, seed {}\n{table}\n",
        scenario.nodes,
        scenario.workload.rate,
        duration(scenario.duration_us()),
        scenario.seed
    );
    text.push_str(&footnotes(comparison));
    for note in &comparison.notes {
        text.push_str(&format!("\n{}\n", wrap(&format!("NOTE: {note}"), 110)));
    }
    for sentence in sentences(comparison) {
        text.push_str(&format!("\n{}\n", wrap(&sentence, 110)));
    }
    text.push_str(&format!("\nAgain: {}\n", comparison.command));
    text
}

/// One row a phase; within it, one line a mode.
fn add_row(table: &mut Table, name: &str, modes: impl Iterator<Item = [String; 9]>) {
    let modes: Vec<[String; 9]> = modes.collect();
    let mut row = vec![Cell::new(name)];
    for column in 0..9 {
        let lines: Vec<&str> = modes.iter().map(|cells| cells[column].as_str()).collect();
        let cell = Cell::new(lines.join("\n"));
        let is_word = column == 0 || column == 3;
        row.push(if is_word {
            cell
        } else {
            cell.set_alignment(CellAlignment::Right)
        });
    }
    table.add_row(row);
}

fn cells(result: &ModeResult, figures: &PhaseFigures, judgement: &str) -> [String; 9] {
    let counts = &figures.counts;
    let refused = counts.refused + counts.held_back;
    [
        result.mode.name().to_owned(),
        format!(
            "{} / {} / {}",
            count(counts.ok),
            count(refused),
            count(counts.unknown)
        ),
        format!("{} / {}", maybe(figures.p50_us), maybe(figures.p99_us)),
        guarantee(result.mode).to_owned(),
        format!(
            "{} / {}",
            duration(figures.gaps.everywhere_us),
            duration(figures.gaps.worst_node_us)
        ),
        count(figures.stale_reads),
        format!("{} / {}", count(figures.lost), count(figures.discarded)),
        recovery(figures.recovery),
        judgement.to_owned(),
    ]
}

fn footnotes(comparison: &Comparison) -> String {
    let mut text = String::from(
        "  refused: certainly not applied, kept back by the client's own bound included. Gaps and recovery are those of\n  \
         the live nodes; * = only once the fault was over. discarded: at least so many, by the conflict rule, for a write that\n  had not seen it, as eventual mode says.\n",
    );
    let converged = |result: &ModeResult| match result.converge_us {
        Some(us) => format!("{} {}", result.mode.name(), duration(us)),
        None => format!("{} not seen", result.mode.name()),
    };
    let converged: Vec<String> = comparison.modes.iter().map(converged).collect();
    text.push_str(&format!(
        "  Time to converge after the heal: {}.\n",
        converged.join(", ")
    ));
    for result in &comparison.modes {
        let promises: Vec<&str> = promises(result.mode).into_iter().take(2).collect();
        for (i, promise) in promises.iter().enumerate() {
            let name = if i == 0 {
                format!("{}:", result.mode.name())
            } else {
                String::new()
            };
            text.push_str(&format!("  {name:<10}{promise}\n"));
        }
    }
    for result in &comparison.modes {
        for reason in &result.void {
            text.push_str(&format!(
                "\nVOID, {}: {}\n",
                result.mode.name(),
                reason.text()
            ));
        }
        for finding in result
            .findings
            .iter()
            .filter(|finding| finding.verdict != crate::checker::Verdict::Valid)
        {
            let head = format!(
                "{}, {}",
                finding.verdict.name().to_uppercase(),
                result.mode.name()
            );
            text.push_str(&format!(
                "\n{head}, {}: {}\n",
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
    }
    text
}

fn wrap(text: &str, width: usize) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + word.len() >= width {
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
