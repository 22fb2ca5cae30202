//! The report: columns side by side, as a table for the terminal, JSON for programs, one HTML page for people.
//!
//! Not a judge: every figure comes from [`mod@crate::analyse`], every sentence from the figures. Called by `compare`.
//! A column is one system in one world with one run for each seed; [`matrix`] puts many comparisons on one page.

pub mod chart;
mod column;
mod curves;
mod difference;
mod evidence;
mod figures;
mod html;
mod machine;
pub mod matrix;
mod page;
mod prediction;
mod scale;
mod sentences;
mod spread;
mod strips;
mod table;
mod timed;
pub mod timeline;
mod views;
mod words;

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

pub use column::{Column, Judgement};
pub use difference::{Compared, Difference, Measure};
pub use machine::Machine;
pub use page::render_html;
pub use prediction::{Charted, Prediction};
pub use sentences::{headline, sentences, verdict_sentence};
pub use table::render_table;

/// The version of `report.json`; its schema is `docs/report.schema.json`.
pub const REPORT_VERSION: u32 = 2;

/// Everything that one comparison showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Comparison {
    /// Always [`REPORT_VERSION`].
    pub version: u32,
    /// What was run, seed of the first run included.
    #[cfg_attr(
        test,
        schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")
    )]
    pub scenario: Scenario,
    /// The command that repeats it.
    pub command: String,
    /// On what it ran.
    pub machine: Machine,
    /// The columns, in the order in which they are shown.
    pub columns: Vec<Column>,
    /// What a reader must know beside the figures: a defect that was planted, a node that ended by itself.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What theory says, drawn beside what was measured.
    #[serde(default)]
    pub predictions: Vec<Prediction>,
    /// What a contrast comes to, one for each system that was played on both sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// A comparison on this machine, without notes and predictions.
    pub fn new(scenario: Scenario, command: String, columns: Vec<Column>) -> Self {
        Self {
            version: REPORT_VERSION,
            scenario,
            command,
            machine: Machine::here(),
            columns,
            notes: Vec::new(),
            predictions: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// 1 if a promise was broken; else 6 if a run was void or a checker could not decide; else 0. A broken promise
    /// comes with evidence that a busy machine does not excuse, so it wins over void. Nothing run is nothing shown: 6.
    pub fn exit_code(&self) -> u8 {
        let worst = self.columns.iter().map(Column::judgement).max();
        worst.map_or(6, Judgement::exit_code)
    }

    /// Writes `report.json` and `report.html` into a directory that exists.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        fs::write(
            directory.join("report.json"),
            serde_json::to_vec_pretty(self)?,
        )?;
        fs::write(directory.join("report.html"), render_html(self))
    }
}

#[cfg(test)]
mod tests;
