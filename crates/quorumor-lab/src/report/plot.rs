//! The figure of the report: for both modes, on one time axis, every operation's latency and the availability, with
//! the faults shaded.
//!
//! Not a plotting library: it draws this figure. Called by the page.

use std::fmt::Write;

use super::Comparison;
use super::html::Escaped;
use super::svg::{LogScale, Mark, Panel, bars, marks, time_ticks};
use crate::analyse::{ModeResult, Point};
use crate::checker::availability::{Counts, Fared, WINDOW_US};

const WIDTH: f64 = 1_120.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 34.0;
const SCATTER_HEIGHT: f64 = 190.0;
const STRIP_HEIGHT: f64 = 84.0;
const GAP: f64 = 40.0;
/// More marks than this are thinned out, the answered ones first.
const MARKS_MAX: usize = 20_000;

/// The whole figure.
pub(super) fn render(comparison: &Comparison) -> String {
    let modes = &comparison.modes;
    let duration_us = comparison.scenario.duration_us();
    let scale = LogScale::over(
        modes
            .iter()
            .flat_map(|mode| mode.scatter.iter().map(|point| point.latency_us)),
    );
    let panel = |top, height| Panel {
        left: LEFT,
        top,
        width: WIDTH - LEFT - RIGHT,
        height,
        duration_us,
    };
    let mut top = TOP;
    let mut body = phase_names(comparison, &panel(TOP, 0.0));
    for mode in modes {
        let place = panel(top, SCATTER_HEIGHT);
        body.push_str(&scatter(mode, &place, &scale, modes.len()));
        top = place.bottom() + GAP;
    }
    for mode in modes {
        let place = panel(top, STRIP_HEIGHT);
        body.push_str(&strip(mode, &place));
        top = place.bottom() + GAP;
    }
    let last = panel(top - GAP, 0.0);
    body.push_str(&time_axis(&last));
    let height = top + 8.0;
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Latency of every operation and availability \
         over time, both modes on one time axis\">\n{body}</svg>\n"
    )
}

fn phase_names(comparison: &Comparison, panel: &Panel) -> String {
    let mut text = String::new();
    for (phase, (from, to)) in comparison
        .scenario
        .phases
        .iter()
        .zip(comparison.scenario.spans())
    {
        let middle = (panel.x(from) + panel.x(to)) / 2.0;
        let _ = writeln!(
            text,
            "<text class=\"phase\" x=\"{middle:.1}\" y=\"12\">{}</text>",
            Escaped(&phase.name)
        );
    }
    text
}

/// The frame of a panel: title, fault bands, horizontal grid.
fn frame(mode: &ModeResult, panel: &Panel, title: &str, ticks: &[(f64, String)]) -> String {
    let mut text = String::new();
    for band in &mode.bands {
        let (from, to) = (panel.x(band.from_us), panel.x(band.to_us));
        let _ = writeln!(
            text,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            panel.top,
            to - from,
            panel.height
        );
    }
    for (share, label) in ticks {
        let y = panel.bottom() - panel.rise(*share);
        let _ = writeln!(
            text,
            "<path class=\"grid\" d=\"M{:.1} {y:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            panel.left,
            panel.right(),
            panel.left - 6.0,
            y + 4.0
        );
    }
    let name = mode.mode.name();
    let _ = writeln!(
        text,
        "<text class=\"title\" x=\"{:.1}\" y=\"{:.1}\"><tspan class=\"mode\">{name}</tspan> {title}</text>",
        panel.left,
        panel.top - 5.0
    );
    text
}

fn scatter(mode: &ModeResult, panel: &Panel, scale: &LogScale, modes: usize) -> String {
    let mut text = frame(
        mode,
        panel,
        "latency from the intended start",
        &scale.ticks(),
    );
    for band in &mode.bands {
        let _ = writeln!(
            text,
            "<text class=\"fault\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            panel.x(band.to_us) - 4.0,
            panel.top + 14.0,
            Escaped(&band.label())
        );
    }
    let stride = mode.scatter.len().div_ceil(MARKS_MAX / modes.max(1)).max(1);
    let place = |point: &Point| {
        (
            panel.x(point.due_us),
            panel.bottom() - panel.rise(scale.share(point.latency_us)),
        )
    };
    let of = |fared: Fared| {
        mode.scatter
            .iter()
            .filter(move |point| point.fared == fared)
    };
    text.push_str(&marks(
        "dot ok",
        Mark::Dot,
        of(Fared::Ok).step_by(stride).map(place),
    ));
    text.push_str(&marks(
        "cross refused",
        Mark::Cross,
        of(Fared::Refused).step_by(stride).map(place),
    ));
    text.push_str(&marks(
        "triangle unknown",
        Mark::Triangle,
        of(Fared::Unknown).step_by(stride).map(place),
    ));
    if stride > 1 {
        let _ = writeln!(
            text,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">every {stride}th shown</text>",
            panel.right(),
            panel.bottom() + 12.0
        );
    }
    text
}

/// A colour of the stacked bars, and its share of a window.
type Class = (&'static str, fn(&Counts) -> u64);

fn strip(mode: &ModeResult, panel: &Panel) -> String {
    let ticks = [
        (0.0, "0 %".to_owned()),
        (0.5, "50 %".to_owned()),
        (1.0, "100 %".to_owned()),
    ];
    let mut text = frame(
        mode,
        panel,
        "share of the operations due in each 100 ms",
        &ticks,
    );
    let classes: [Class; 4] = [
        ("bar ok", |counts| counts.ok),
        ("bar unknown", |counts| counts.unknown),
        ("bar refused", |counts| counts.refused),
        ("bar held", |counts| counts.held_back),
    ];
    let mut below = vec![0u64; mode.windows.len()];
    for (class, of) in classes {
        let mut class_bars = Vec::new();
        for (i, (window, below)) in (0u64..).zip(mode.windows.iter().zip(&mut below)) {
            let total = window.total().max(1) as f64;
            let (left, right) = (panel.x(i * WINDOW_US), panel.x((i + 1) * WINDOW_US));
            let bottom = panel.bottom() - panel.rise(*below as f64 / total);
            class_bars.push([
                left,
                right - left,
                bottom,
                panel.rise(of(window) as f64 / total),
            ]);
            *below += of(window);
        }
        text.push_str(&bars(class, class_bars.into_iter()));
    }
    // The bars hide the shade, so the faults show here as their edges.
    for us in mode
        .bands
        .iter()
        .flat_map(|band| [band.from_us, band.to_us])
    {
        let _ = writeln!(
            text,
            "<path class=\"edge\" d=\"M{:.1} {:.1}v{:.1}\"/>",
            panel.x(us),
            panel.top - 3.0,
            panel.height + 3.0
        );
    }
    text
}

fn time_axis(panel: &Panel) -> String {
    let mut text = String::new();
    for (us, label) in time_ticks(panel.duration_us) {
        let x = panel.x(us);
        let _ = writeln!(
            text,
            "<path class=\"axis\" d=\"M{x:.1} {:.1}v5\"/><text class=\"time\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
            panel.top,
            panel.top + 18.0
        );
    }
    text
}
