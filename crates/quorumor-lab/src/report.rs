//! The report: both modes side by side, as a table for the terminal, JSON for programs, one HTML page for people.
//!
//! Not a judge: every figure comes from [`mod@crate::analyse`], every sentence from the figures. Called by `compare`.

mod html;
mod page;
mod plot;
mod svg;
mod table;
mod words;

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::analyse::ModeResult;
use crate::scenario::Scenario;

pub use page::render_html;
pub use table::render_table;
pub use words::sentences;

/// Everything that one comparison showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was run.
    pub scenario: Scenario,
    /// The command that repeats it.
    pub command: String,
    /// One result per mode, in the order in which they are shown.
    pub modes: Vec<ModeResult>,
    /// What a reader must know beside the figures: a defect that was planted, a node that ended by itself.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Comparison {
    /// 1 if a promise was broken; else 6 if a run was void or a checker could not decide; else 0. A broken promise
    /// comes with evidence that a busy machine does not excuse, so it wins over void.
    pub fn exit_code(&self) -> u8 {
        if self.modes.iter().any(ModeResult::is_broken) {
            1
        } else if self.modes.is_empty() || self.modes.iter().any(ModeResult::is_void) {
            6
        } else {
            0
        }
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
