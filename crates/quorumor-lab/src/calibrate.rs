//! Is the instrument right? The simulator, held against published results and closed forms ([`crate::theory`]).
//!
//! Each row says what was measured, by which law it was expected, and how far it may be off and why. A row that differs stays in the
//! table: either its difference is known and explained (in `docs/calibration.md`), or the calibration has failed.
//!
//! Reading order: `row.rs` (a row, and when it agrees), `instrument.rs` (the network's own dice), `reference.rs` (textbook protocols on
//! that network), then the real replicas: `detection.rs`, `probing.rs`, `spreading.rs`, `election.rs`, `serving.rs`; `table.rs`
//! prints.

mod detection;
mod election;
mod instrument;
mod probing;
mod reference;
mod row;
mod serving;
mod spreading;
mod table;

use anyhow::Result;
use serde::Serialize;

pub use row::{Part, Relation, Row};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalibrateOptions {
    /// Seeds from 0; most rows are means over them.
    pub seeds: u64,
    /// Smaller clusters only, for a look in less than a minute.
    pub quick: bool,
}

impl CalibrateOptions {
    /// What `docs/calibration.md` shows: a minute or two of computing.
    pub const WHOLE: Self = Self {
        seeds: 20,
        quick: false,
    };
    /// A look: less than a minute.
    pub const QUICK: Self = Self {
        seeds: 10,
        quick: true,
    };
}

/// Every row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Seeds that each mean is over, or a multiple of them.
    pub seeds: u64,
    /// Whether only smaller clusters were run.
    pub quick: bool,
    /// In the order of their parts.
    pub rows: Vec<Row>,
}

impl Calibration {
    /// The rows that differ, and whose difference nobody has explained: the calibration has failed if there are any.
    pub fn unexplained(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_unexplained())
    }
}

/// Runs every part, telling each one's name as it begins.
///
/// # Errors
/// If a simulation can't be run: a fault of the lab, not of a law.
pub fn run(options: &CalibrateOptions, told: &mut dyn FnMut(Part)) -> Result<Calibration> {
    let mut rows = Vec::new();
    for part in Part::ALL {
        told(part);
        rows.extend(rows_of(part, options)?);
    }
    Ok(Calibration {
        seeds: options.seeds,
        quick: options.quick,
        rows,
    })
}

fn rows_of(part: Part, options: &CalibrateOptions) -> Result<Vec<Row>> {
    match part {
        Part::Instrument => Ok(instrument::rows(options)),
        Part::Reference => Ok(reference::rows(options)),
        Part::Detection => detection::rows(options),
        Part::Probing => probing::rows(options),
        Part::Spreading => spreading::rows(options),
        Part::Election => election::rows(options),
        Part::Serving => serving::rows(options),
    }
}

#[cfg(test)]
mod tests;
