//! The plots of runs at scale, as SVG files.

use std::path::Path;

use quorumor_lab::report::chart::{Axis, Chart, Line, Scale, Stroke};
use quorumor_lab::world::scale::{Curve, Outcome};

use crate::exit::Failure;
use crate::output;

/// One chart of convergence and one of detection, where there is something to draw.
pub(super) fn curves_of(directory: &Path, outcomes: &[Outcome]) -> Result<(), Failure> {
    let spread = |outcome: &Outcome| outcome.spread_curve.clone();
    let down = |outcome: &Outcome| outcome.down_curve.clone();
    let charts = [
        (
            "convergence.svg",
            curves("Nodes that have an update", outcomes, &spread),
        ),
        (
            "detection.svg",
            curves("Nodes that hold a crashed one to be down", outcomes, &down),
        ),
    ];
    for (name, chart) in charts {
        if let Some(chart) = chart {
            write(directory, name, &chart)?;
        }
    }
    Ok(())
}

/// Writes a chart and says where it is.
pub(super) fn write(directory: &Path, name: &str, chart: &Chart) -> Result<(), Failure> {
    let path = directory.join(name);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&path, chart.render()))
        .map_err(|error| Failure::usage(format!("can't write {}: {error}", path.display())))?;
    output::note(&format!("wrote {}", path.display()));
    Ok(())
}

/// One line a seed.
fn curves(
    title: &str,
    outcomes: &[Outcome],
    curve: &dyn Fn(&Outcome) -> Option<Curve>,
) -> Option<Chart> {
    let lines: Vec<Line> = outcomes
        .iter()
        .filter_map(|outcome| {
            Some(Line {
                name: format!("seed {}", outcome.seed),
                stroke: Stroke::Plain,
                points: curve(outcome)?,
            })
        })
        .collect();
    let first = outcomes.first().filter(|_| !lines.is_empty())?;
    let axis = |label: &str, range| Axis {
        label: label.to_owned(),
        scale: Scale::Linear,
        range,
    };
    Some(Chart {
        title: title.to_owned(),
        subtitle: format!("{} nodes, {} % loss", first.nodes, first.loss),
        x: axis("seconds", None),
        y: axis("share of the nodes", Some((0.0, 1.0))),
        lines,
    })
}
