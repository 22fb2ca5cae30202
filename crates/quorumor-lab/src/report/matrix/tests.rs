//! The matrix: each verdict in its cell, in every form.

use super::*;
use crate::history::Mode;

fn cell(scenario: &str, column: &str, world: World, verdict: Judgement) -> Cell {
    Cell {
        scenario: scenario.to_owned(),
        teaches: format!("what {scenario} costs <here>"),
        column: column.to_owned(),
        world,
        verdict,
        void: Vec::new(),
        headline: "99.1 % answered | 3 stale reads".to_owned(),
        page: format!("{scenario}/report.html"),
    }
}

/// Two scenarios by three columns, one cell missing, every verdict there.
pub(in crate::report) fn catalogue() -> Matrix {
    use Judgement::{Broken, Kept, Undecided, Void};
    use World::{Cluster, Simulated};
    Matrix {
        refusals: Vec::new(),
        cells: vec![
            cell("steady", "strong", Simulated, Kept),
            cell("steady", "eventual", Simulated, Undecided),
            cell("steady", "strong", Cluster, Void),
            cell("pause", "strong", Simulated, Broken),
            cell("pause", "eventual", Simulated, Kept),
        ],
        versions: vec!["0.1.0".to_owned()],
        machine: Machine::here(),
        command: "quorumor lab matrix --seeds 3".to_owned(),
    }
}

#[test]
fn the_page_has_a_cell_for_each_verdict_with_a_word_a_sign_and_a_way_to_its_report() {
    let page = catalogue().render_html();
    for wanted in [
        "<a href=\"steady/report.html\">\u{2713} kept</a>",
        "<a href=\"steady/report.html\">? undecided</a>",
        "<a href=\"steady/report.html\">\u{2205} void</a>",
        "<a href=\"pause/report.html\">\u{2717} BROKEN</a>",
        "not run",
        "what pause costs &lt;here&gt;",
        "2 of 5 kept every promise, 1 broke one, 1 void, 1 undecided.",
        "quorumor lab matrix --seeds 3",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert_eq!(
        page.matches("<td").count(),
        6,
        "two scenarios by three columns"
    );
    assert!(!page.contains("<script") && !page.contains("http"));
}

#[test]
fn the_table_for_documents_keeps_its_columns() {
    let text = catalogue().render_markdown();
    let rows: Vec<&str> = text.lines().take(4).collect();
    let columns = |row: &str| row.replace("\\|", "").matches('|').count();
    assert_eq!(
        rows.iter().map(|row| columns(row)).collect::<Vec<_>>(),
        [5, 5, 4 + 1, 5]
    );
    assert!(rows[0].contains("strong, real processes"));
    assert!(rows[3].contains("\u{2717} BROKEN") && rows[3].contains("not run"));
}

#[test]
fn a_broken_promise_wins_and_nothing_is_no_pass() {
    let mut matrix = catalogue();
    assert_eq!(matrix.exit_code(), 1);
    matrix
        .cells
        .retain(|cell| cell.verdict != Judgement::Broken);
    assert_eq!(matrix.exit_code(), 6);
    matrix.cells.retain(|cell| cell.verdict == Judgement::Kept);
    assert_eq!(matrix.exit_code(), 0);
    matrix.cells.clear();
    assert_eq!(matrix.exit_code(), 6);
}

#[test]
fn it_is_written_in_three_forms_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let matrix = catalogue();
    matrix.write_to(folder.path()).unwrap();
    let json = fs::read(folder.path().join("matrix.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Matrix>(&json).unwrap(), matrix);
    assert!(folder.path().join("index.html").exists() && folder.path().join("matrix.md").exists());
}

#[test]
fn a_comparison_gives_a_cell_for_each_column() {
    let columns = vec![Column::new(Mode::Strong, World::Simulated, vec![])];
    let scenario =
        crate::scenario::Scenario::compare(1, 3, 4_000, crate::workload::Workload::default());
    let comparison = Comparison::new(scenario.unwrap(), String::new(), columns);
    let cells = Cell::of(&comparison, "nothing", "compare/report.html");
    assert_eq!(cells.len(), 1);
    assert_eq!(
        (cells[0].verdict, cells[0].headline.as_str()),
        (Judgement::Void, "nothing was run")
    );
}
