//! Many comparisons on one page: scenarios by columns, a cell for each verdict, each leading to its report.
//!
//! Not a judge: a cell says what its column came to. Written as a page, as JSON, and as a table for documents.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::column::world_words;
use super::html::{Escaped, text};
use super::page::{class, document};
use super::{Column, Comparison, Judgement, Machine, headline};
use crate::history::World;
use crate::void::VoidReason;

/// One column of one comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The scenario.
    pub scenario: String,
    /// What the scenario teaches, in a sentence.
    pub teaches: String,
    /// The column's label.
    pub column: String,
    /// Where it ran.
    pub world: World,
    /// What it came to.
    pub verdict: Judgement,
    /// Why runs of it prove nothing, if any.
    pub void: Vec<VoidReason>,
    /// What was seen, in a few words.
    pub headline: String,
    /// The report, relative to the matrix.
    pub page: String,
}

impl Cell {
    /// The cells of a comparison, whose report is at `page`.
    pub fn of(comparison: &Comparison, teaches: &str, page: &str) -> Vec<Self> {
        let cell = |column: &Column| Self {
            scenario: comparison.scenario.name.clone(),
            teaches: teaches.to_owned(),
            column: system(&column.label, column.world),
            world: column.world,
            verdict: column.judgement(),
            void: column
                .runs
                .iter()
                .flat_map(|run| run.void.clone())
                .collect(),
            headline: headline(column),
            page: page.to_owned(),
        };
        let is_side = |column: &&Column| {
            let mut differences = comparison.differences.iter();
            differences.any(|difference| {
                difference.with == column.label || difference.without == column.label
            })
        };
        let columns = comparison.columns.iter();
        let whole = columns.filter(|column| !is_side(column)).map(cell);
        let labelled = |label: &str| {
            let column = comparison
                .columns
                .iter()
                .find(|column| column.label == label);
            column.map(cell)
        };
        // Both sides of a contrast share a cell: the column is their system's.
        let both = comparison.differences.iter().filter_map(|difference| {
            let (with, without) = (labelled(&difference.with)?, labelled(&difference.without)?);
            Some(Self {
                column: system(&difference.system, with.world),
                verdict: with.verdict.max(without.verdict),
                void: [with.void, without.void].concat(),
                headline: format!(
                    "with {}: {}; without: {}",
                    difference.contrast.words(),
                    with.headline,
                    without.headline
                ),
                ..with
            })
        });
        whole.chain(both).collect()
    }
}

/// A column that can't be carried out: neither a failure nor a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The scenario.
    pub scenario: String,
    /// What the scenario teaches, in a sentence.
    pub teaches: String,
    /// The column's label.
    pub column: String,
    /// Where it would run.
    pub world: World,
    /// Why it can't.
    pub why: String,
}

/// The verdicts of many comparisons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// In the order in which they are shown: scenarios and columns appear in order of their first cell.
    pub cells: Vec<Cell>,
    /// Columns that a scenario's world can't carry out.
    pub refusals: Vec<Refusal>,
    /// The builds under test.
    pub versions: Vec<String>,
    /// On what it ran.
    pub machine: Machine,
    /// The command that repeats it.
    pub command: String,
}

/// A column of the matrix: its label and where it ran.
type Heading = (String, World);

/// A label without the world, which is a column's own here.
fn system(label: &str, world: World) -> String {
    let suffix = format!(", {}", world_words(world));
    label.strip_suffix(&suffix).unwrap_or(label).to_owned()
}

impl Matrix {
    /// Of many comparisons, each with its report at `SCENARIO/report.html`.
    pub fn of<'a>(
        comparisons: impl Iterator<Item = &'a Comparison>,
        refusals: Vec<Refusal>,
        command: String,
    ) -> Self {
        let (mut cells, mut versions) = (Vec::new(), Vec::new());
        for comparison in comparisons {
            let scenario = &comparison.scenario;
            let page = format!("{}/report.html", scenario.name);
            cells.extend(Cell::of(comparison, &scenario.teaches, &page));
            let runs = comparison.columns.iter().flat_map(|column| &column.runs);
            versions.extend(runs.map(|run| run.build.clone()));
        }
        versions.sort_unstable();
        versions.dedup();
        let mut refusals = refusals;
        for refusal in &mut refusals {
            refusal.column = system(&refusal.column, refusal.world);
        }
        Self {
            cells,
            refusals,
            versions,
            machine: Machine::here(),
            command,
        }
    }

    /// As of a single comparison: a broken promise wins over void, and nothing run is void.
    pub fn exit_code(&self) -> u8 {
        let worst = self.cells.iter().map(|cell| cell.verdict).max();
        worst.map_or(6, Judgement::exit_code)
    }

    /// Writes `index.html`, `matrix.json` and `matrix.md` into a directory that exists.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join("index.html"), self.render_html())?;
        fs::write(directory.join("matrix.md"), self.render_markdown())?;
        fs::write(
            directory.join("matrix.json"),
            serde_json::to_vec_pretty(self)?,
        )
    }

    /// The page.
    pub fn render_html(&self) -> String {
        let (columns, scenarios) = (self.columns(), self.scenarios());
        let mut head = String::from("<th scope=\"col\">scenario</th>");
        for (label, world) in &columns {
            let _ = write!(
                head,
                "<th scope=\"col\">{} <small>{}</small></th>",
                Escaped(label),
                world_words(*world)
            );
        }
        let mut rows = String::new();
        for (scenario, teaches) in &scenarios {
            let cells = columns
                .iter()
                .map(|column| self.html_cell(scenario, column));
            let _ = write!(
                rows,
                "<tr><th scope=\"row\">{} {}</th>{}</tr>",
                Escaped(scenario),
                text("small", "", teaches),
                cells.collect::<String>()
            );
        }
        let worst = self.worst();
        let main = format!(
            "<header class=\"{}\"><p class=\"sub\">What consistency costs: the catalogue</p><h1><span aria-hidden=\"true\">{}</span> {}</h1>\
             <p class=\"sub\">{} scenarios by {} columns. Each cell leads to its report, with the evidence.</p></header>\
             <section aria-label=\"Verdicts\"><p class=\"note\">{}</p><div class=\"wide\" role=\"group\" tabindex=\"0\" aria-label=\"Scenarios by columns\">\
             <table class=\"matrix\"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>\
             <section><h2>Repeat it</h2><pre>{}</pre><p class=\"note\">Made on {}. Builds: {}.</p></section>",
            class(worst),
            worst.symbol(),
            Escaped(&self.sentence()),
            scenarios.len(),
            columns.len(),
            LEGEND,
            Escaped(&self.command),
            Escaped(&self.machine.text()),
            Escaped(&self.versions.join(", "))
        );
        document("Quorumor: the catalogue", &main, "")
    }

    /// A table for documents.
    pub fn render_markdown(&self) -> String {
        let columns = self.columns();
        let mut text = String::from("| scenario |");
        for (label, world) in &columns {
            let _ = write!(text, " {}, {} |", piped(label), world_words(*world));
        }
        text.push_str("\n|---|");
        text.push_str(&"---|".repeat(columns.len()));
        text.push('\n');
        for (scenario, teaches) in self.scenarios() {
            let _ = write!(text, "| **{}**: {} |", piped(&scenario), piped(&teaches));
            for column in &columns {
                let cell = self.at(&scenario, column);
                let cell = cell.map_or_else(
                    || piped(&self.missing(&scenario, column)),
                    |cell| {
                        let verdict = cell.verdict;
                        format!(
                            "{} {}: {}",
                            verdict.symbol(),
                            verdict.word(),
                            piped(&cell.headline)
                        )
                    },
                );
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        let _ = write!(
            text,
            "\nBy `{}`, on {}.\n",
            self.command,
            self.machine.text()
        );
        text
    }

    /// A table for the terminal: a line for each cell.
    pub fn render_table(&self) -> String {
        let mut text = String::new();
        let widest = |of: fn(&Cell) -> &str| {
            self.cells
                .iter()
                .map(|cell| of(cell).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (first, second) = (widest(|cell| &cell.scenario), widest(|cell| &cell.column));
        for cell in &self.cells {
            let _ = writeln!(
                text,
                "{} {:<first$}  {:<second$}  {:<14}  {:<9}  {}",
                cell.verdict.symbol(),
                cell.scenario,
                cell.column,
                world_words(cell.world),
                cell.verdict.word(),
                cell.headline
            );
        }
        let _ = writeln!(text, "\n{}\n\nAgain: {}", self.sentence(), self.command);
        text
    }

    fn worst(&self) -> Judgement {
        let worst = self.cells.iter().map(|cell| cell.verdict).max();
        worst.unwrap_or(Judgement::Void)
    }

    /// How many cells came to what.
    fn sentence(&self) -> String {
        let of = |wanted: Judgement| {
            self.cells
                .iter()
                .filter(|cell| cell.verdict == wanted)
                .count()
        };
        let mut text = format!(
            "{} of {} kept every promise",
            of(Judgement::Kept),
            self.cells.len()
        );
        for (judgement, words) in [
            (Judgement::Broken, "broke one"),
            (Judgement::Void, "void"),
            (Judgement::Undecided, "undecided"),
        ] {
            if of(judgement) > 0 {
                let _ = write!(text, ", {} {words}", of(judgement));
            }
        }
        text.push('.');
        text
    }

    fn columns(&self) -> Vec<Heading> {
        let run = self.cells.iter().map(|cell| (&cell.column, cell.world));
        let refused = self
            .refusals
            .iter()
            .map(|refusal| (&refusal.column, refusal.world));
        let mut columns: Vec<Heading> = Vec::new();
        for (label, world) in run.chain(refused) {
            if !columns
                .iter()
                .any(|column| column.0 == *label && column.1 == world)
            {
                columns.push((label.clone(), world));
            }
        }
        columns
    }

    /// Each scenario, with what it teaches.
    fn scenarios(&self) -> Vec<(String, String)> {
        let run = self
            .cells
            .iter()
            .map(|cell| (&cell.scenario, &cell.teaches));
        let refused = self.refusals.iter();
        let refused = refused.map(|refusal| (&refusal.scenario, &refusal.teaches));
        let mut scenarios: Vec<(String, String)> = Vec::new();
        for (name, teaches) in run.chain(refused) {
            if scenarios.iter().all(|(known, _)| known != name) {
                scenarios.push((name.clone(), teaches.clone()));
            }
        }
        scenarios
    }

    /// What stands in place of a verdict where there is none.
    fn missing(&self, scenario: &str, (label, world): &Heading) -> String {
        let refused = self.refusals.iter().find(|refusal| {
            refusal.scenario == scenario && refusal.column == *label && refusal.world == *world
        });
        refused.map_or("not run".to_owned(), |refusal| refusal.why.clone())
    }

    fn html_cell(&self, scenario: &str, column: &Heading) -> String {
        match self.at(scenario, column) {
            Some(cell) => html_cell(cell),
            None => format!(
                "<td>{}</td>",
                text("span", "note", &self.missing(scenario, column))
            ),
        }
    }

    fn at(&self, scenario: &str, (label, world): &Heading) -> Option<&Cell> {
        let mut cells = self.cells.iter();
        cells
            .find(|cell| cell.scenario == scenario && cell.column == *label && cell.world == *world)
    }
}

const LEGEND: &str = "\u{2713} kept: every promise held. \u{2717} BROKEN: a promise was broken, with evidence. \
    \u{2205} void: the run proves nothing, and is never a pass. ? undecided: a checker ran out of steps.";

fn html_cell(cell: &Cell) -> String {
    format!(
        "<td class=\"{}\"><a href=\"{}\">{} {}</a><br><small>{}</small></td>",
        class(cell.verdict),
        Escaped(&cell.page),
        cell.verdict.symbol(),
        cell.verdict.word(),
        Escaped(&cell.headline)
    )
}

/// Text in a cell of a table in Markdown.
fn piped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
pub(in crate::report) mod tests;
