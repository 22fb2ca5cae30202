//! What theory says about a comparison: the laws of [`mod@crate::theory`], put to a column's scenario, workload and faults.
//!
//! Not a law and not a judgement: a curve is drawn only where a law holds, and left out elsewhere. Called by the contest when it
//! reports.

mod availability;
mod freshness;
#[cfg(test)]
mod tests;

use crate::contest::System;
use crate::report::{Charted, Column, Prediction};
use crate::scenario::Scenario;

/// What theory says about one column of this system; `scenario` is the one that the column played.
pub(crate) fn of(scenario: &Scenario, system: System, column: &Column) -> Vec<Prediction> {
    let mut predictions = freshness::of(scenario, system, column);
    predictions.extend(availability::of(scenario, system, column));
    predictions
}

fn about(
    column: &Column,
    chart: Charted,
    label: &str,
    source: String,
    points: Vec<(f64, f64)>,
) -> Prediction {
    Prediction {
        chart,
        column: Some(column.label.clone()),
        label: label.to_owned(),
        source,
        points,
    }
}
