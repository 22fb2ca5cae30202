//! Results as tables for people. Prints nothing.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, TableStyle, presets};

use crate::goal::Row;
use crate::results::CellResult;

/// A line a cell and target; where a cell has several targets, the first one's ratio to each other one stands beside it.
#[must_use]
pub fn render(results: &[CellResult]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "WORKLOAD",
            "IN FLIGHT",
            "TARGET",
            "OPS/S",
            "P50 MS",
            "P99 MS",
            "CPU S/KOP",
            "RSS MIB",
            "RATIO",
            "NOTE",
        ]);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for result in results {
        let first = first_of_cell(results, result);
        table.add_row([
            Cell::new(&result.workload),
            right(result.in_flight.to_string()),
            Cell::new(&result.target),
            right(figure(result.ops_s)),
            right(figure(result.p50_ms)),
            right(figure(result.p99_ms)),
            right(figure(result.server_cpu_s_per_kop)),
            right(figure(result.rss_mib)),
            Cell::new(ratio(first, result)),
            Cell::new(note(result)),
        ]);
    }
    lines(&table)
}

/// How a table is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// For a terminal.
    Plain,
    /// For a document.
    Markdown,
}

/// Rows with their goals: the target's figures, those that it is compared with, the ratios and the verdict.
#[must_use]
pub fn render_rows(rows: &[Row], style: Style) -> String {
    let mut table = Table::new();
    table
        .load_style(preset(style))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "workload",
            "in flight",
            "target",
            "ops/s, p50, p99 ms",
            "beside",
            "ops/s, p50, p99 ms",
            "ratio",
            "goal",
            "verdict",
        ]);
    if style == Style::Plain {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
    for row in rows {
        let goals = row.goals.iter();
        let goal: Vec<_> = goals.clone().map(|goal| goal.text()).collect();
        let ratio: Vec<_> = goals
            .map(|goal| goal.measured(&row.result, &row.other))
            .collect();
        let ratio = if ratio.is_empty() {
            format!("ops {}x", figure(by(row.result.ops_s, row.other.ops_s)))
        } else {
            ratio.join(", ")
        };
        let errors = row.result.errors_total() + row.other.errors_total();
        let verdict = match (row.verdict(), errors) {
            (verdict, 0) => verdict,
            (verdict, errors) => format!("{verdict} ({errors} errors)"),
        };
        table.add_row([
            Cell::new(&row.result.workload),
            right(row.result.in_flight.to_string()),
            Cell::new(&row.result.target),
            Cell::new(figures(&row.result)),
            Cell::new(&row.other.target),
            Cell::new(figures(&row.other)),
            Cell::new(ratio),
            Cell::new(goal.join(", ")),
            Cell::new(verdict),
        ]);
    }
    lines(&table)
}

/// Rows of cells with their header, drawn as asked.
#[must_use]
pub fn render_cells<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
    style: Style,
) -> String {
    let mut table = Table::new();
    table
        .load_style(preset(style))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    if style == Style::Plain {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
    for row in rows {
        table.add_row(row);
    }
    lines(&table)
}

const fn preset(style: Style) -> TableStyle {
    match style {
        Style::Plain => presets::NOTHING,
        Style::Markdown => presets::ASCII_MARKDOWN,
    }
}

fn figures(result: &CellResult) -> String {
    let [ops, p50, p99] = [result.ops_s, result.p50_ms, result.p99_ms].map(figure);
    format!("{ops}, {p50}, {p99}")
}

/// What went wrong, a line a cell with failed calls; empty if nothing did.
#[must_use]
pub fn render_errors(results: &[CellResult]) -> String {
    let failed = results.iter().filter(|result| !result.errors.is_empty());
    let lines: Vec<_> = failed
        .map(|result| {
            let kinds = result.errors.iter();
            let kinds: Vec<_> = kinds
                .map(|(kind, times)| format!("{times} x {kind}"))
                .collect();
            format!(
                "{} {} at {}: {}",
                result.workload,
                result.in_flight,
                result.target,
                kinds.join("; ")
            )
        })
        .collect();
    lines.join("\n")
}

/// A figure with three digits that count.
#[must_use]
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// One figure by another, if both are there.
#[must_use]
pub fn by(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) if other > 0.0 => Some(one / other),
        (Some(_) | None, Some(_) | None) => None,
    }
}

fn lines(table: &Table) -> String {
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn first_of_cell<'a>(results: &'a [CellResult], result: &CellResult) -> Option<&'a CellResult> {
    results
        .iter()
        .find(|other| other.workload == result.workload && other.in_flight == result.in_flight)
        .filter(|first| first.target != result.target)
}

/// What the first target is, measured by this one: throughput and p99.
fn ratio(first: Option<&CellResult>, result: &CellResult) -> String {
    let Some(first) = first else {
        return String::new();
    };
    let throughput = by(first.ops_s, result.ops_s);
    let p99 = by(first.p99_ms, result.p99_ms);
    format!(
        "{} is {}x ops, {}x p99",
        first.target,
        figure(throughput),
        figure(p99)
    )
}

fn note(result: &CellResult) -> String {
    let mut notes = Vec::new();
    if result.void {
        notes.push(format!("void: {:.2} foreign cores", result.foreign_cores));
    }
    if result.errors_total() > 0 {
        notes.push(format!("{} errors", result.errors_total()));
    }
    notes.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::results::Turn;

    fn result(target: &str, ops_s: f64, p99_ms: f64) -> CellResult {
        let turn = Turn {
            ops_s: Some(ops_s),
            p50_ms: Some(1.0),
            p99_ms: Some(p99_ms),
            ..Turn::default()
        };
        CellResult::of("put", 64, target, &[turn])
    }

    #[test]
    fn the_first_targets_ratio_stands_beside_each_other_one() {
        let text = render(&[
            result("quorumor", 30_000.0, 10.0),
            result("etcd", 10_000.0, 25.0),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[1].starts_with("put") && lines[1].contains("30000"),
            "{text}"
        );
        assert!(
            lines[2].contains("quorumor is 3.00x ops, 0.400x p99"),
            "{text}"
        );
    }

    #[test]
    fn what_is_void_or_failed_is_said() {
        let turn = Turn {
            void: true,
            foreign_cores: 0.7,
            errors: BTreeMap::from([("Unavailable: no leader".to_owned(), 3)]),
            ..Turn::default()
        };
        let results = [CellResult::of("get", 1, "etcd", &[turn])];
        let text = render(&results);
        assert!(
            text.contains("void: 0.70 foreign cores, 3 errors"),
            "{text}"
        );
        assert_eq!(
            render_errors(&results),
            "get 1 at etcd: 3 x Unavailable: no leader"
        );
    }

    #[test]
    fn a_row_with_a_goal_shows_the_ratio_and_the_verdict() {
        let row = Row {
            result: result("quorumor", 30_000.0, 10.0),
            other: result("etcd", 10_000.0, 25.0),
            goals: vec![crate::goal::Goal::AtLeast(crate::goal::Figure::Ops, 2.5)],
        };
        let text = render_rows(std::slice::from_ref(&row), Style::Plain);
        assert!(text.contains("30000, 1.00, 10.0"), "{text}");
        assert!(text.contains("ops 3.00x"), "{text}");
        assert!(text.contains("ops >= 2.50x  reached"), "{text}");
        let text = render_rows(&[row], Style::Markdown);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines.len() == 3 && lines.iter().all(|line| line.starts_with('|')),
            "{text}"
        );
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(figure(Some(12_345.6)), "12346");
        assert_eq!(figure(Some(1.234)), "1.23");
        assert_eq!(figure(Some(0.1234)), "0.123");
        assert_eq!(figure(None), "-");
        assert_eq!(by(Some(1.0), Some(0.0)), None);
    }
}
