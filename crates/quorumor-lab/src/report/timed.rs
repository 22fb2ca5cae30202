//! Charts over time: the frame that all share, with one panel a column on one time axis and the faults shaded.
//!
//! Not what is drawn inside (`strips`, `views`). Axes and names are text of the page, not of the figure, so they keep
//! their size on a phone. A script may change what part of the time is seen; without it the whole run is.

use std::fmt::Write;

use super::html::Escaped;
use super::scale::{LogScale, Tick, WIDTH, along, time_ticks};
use super::words::duration;
use super::{Charted, Column, Comparison, Prediction};
use crate::analyse::RunResult;

/// The height of a line of words on a panel, in pixels.
const LINE: f64 = 15.0;

/// A panel without its column's name and the faults: what a chart draws.
pub(super) struct Drawn {
    /// How high, in pixels.
    pub(super) height: f64,
    /// Along the height.
    pub(super) ticks: Vec<Tick>,
    /// The marks, as elements of an SVG.
    pub(super) marks: String,
    /// What it shows, for those who can't see it.
    pub(super) spoken: String,
    /// The decades of a logarithmic height and the pixels above it, for the script.
    pub(super) decades: Option<(LogScale, f64)>,
    /// Words on the panel itself: from, to (microseconds), top (pixels), text.
    pub(super) words: Vec<(u64, u64, f64, String)>,
}

/// A chart: a panel for each column that has something to show, or nothing if none has.
pub(super) fn figure(
    comparison: &Comparison,
    title: &str,
    explained: &str,
    draw: impl Fn(&Column, &RunResult) -> Option<Drawn>,
) -> String {
    let mut panels = String::new();
    for (place, column) in comparison.columns.iter().enumerate() {
        let Some(run) = column.shown() else { continue };
        if let Some(drawn) = draw(column, run) {
            panels.push_str(&panel(comparison, (place, column), run, &drawn));
        }
    }
    if panels.is_empty() {
        return String::new();
    }
    format!(
        "<figure class=\"timed\"><figcaption><h3>{}</h3><p class=\"note\">{explained}</p></figcaption>\
         {}{panels}{}</figure>\n",
        Escaped(title),
        phases(comparison),
        axis(comparison.scenario.duration_us())
    )
}

/// The names of the phases over their part of the time.
fn phases(comparison: &Comparison) -> String {
    let duration_us = comparison.scenario.duration_us();
    let mut text = String::new();
    let spans = comparison.scenario.spans();
    for (phase, (from, to)) in comparison.scenario.phases.iter().zip(spans) {
        let _ = write!(
            text,
            "<span data-from=\"{from}\" data-to=\"{to}\" style=\"{}\">{}</span>",
            place(from, to, duration_us),
            Escaped(&phase.name)
        );
    }
    format!("<div class=\"phases over\">{text}</div>")
}

fn axis(duration_us: u64) -> String {
    let ticks = time_ticks(duration_us);
    let mut text = String::new();
    for tick in &ticks {
        let class = if tick.share > 0.97 {
            " class=\"end\""
        } else {
            ""
        };
        let _ = write!(
            text,
            "<span{class} style=\"left:{:.2}%\">{}</span>",
            tick.share * 100.0,
            tick.label
        );
    }
    format!(
        "<div class=\"x over time\" data-duration=\"{duration_us}\">{text}</div>\
         <p class=\"unit over\">time since the workload began</p>"
    )
}

/// Where a span of time lies over the panels.
fn place(from_us: u64, to_us: u64, duration_us: u64) -> String {
    let percent = |us: u64| along(us, duration_us) * 100.0 / WIDTH;
    format!(
        "left:{:.2}%;width:{:.2}%",
        percent(from_us),
        percent(to_us) - percent(from_us)
    )
}

fn panel(
    comparison: &Comparison,
    (number, column): (usize, &Column),
    run: &RunResult,
    drawn: &Drawn,
) -> String {
    let (height, duration_us) = (drawn.height, run.duration_us);
    let mut ticks = String::new();
    let mut lines = bands(run, height);
    for tick in &drawn.ticks {
        let y = height * (1.0 - tick.share);
        let _ = write!(
            ticks,
            "<span style=\"top:{y:.1}px\">{}</span>",
            Escaped(&tick.label)
        );
        let _ = write!(lines, "<path class=\"grid\" d=\"M0 {y:.1}H{WIDTH}\"/>");
    }
    let mut words = String::new();
    for (from, to, top, text) in &drawn.words {
        let _ = write!(
            words,
            "<span class=\"word\" data-from=\"{from}\" data-to=\"{to}\" style=\"{};top:{top:.0}px\">{}</span>",
            place(*from, *to, duration_us),
            Escaped(text)
        );
    }
    let decades = drawn.decades.map_or(String::new(), |(scale, room)| {
        let (low, high) = scale.ends();
        format!(" data-low=\"{low:.4}\" data-high=\"{high:.4}\" data-room=\"{room}\"")
    });
    let seed = match comparison
        .columns
        .iter()
        .any(|column| column.runs.len() > 1)
    {
        true => format!(", seed {}", run.seed),
        false => String::new(),
    };
    format!(
        "<div class=\"panel\"><p class=\"name\"><i class=\"chip c{}\"></i><b>{label}</b>{seed}</p>\
         <div class=\"y\" aria-hidden=\"true\" style=\"height:{height}px\">{ticks}</div>\
         <div class=\"plot\" style=\"height:{height}px\"{decades}>\
         <svg viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{lines}{}</svg>\
         {words}</div></div>",
        number % 6,
        Escaped(&format!("{}: {}", column.label, drawn.spoken)),
        drawn.marks,
        label = Escaped(&column.label),
    )
}

/// The faults as shades with an edge where they begin and end.
fn bands(run: &RunResult, height: f64) -> String {
    let mut text = String::new();
    for band in &run.bands {
        let (from, to) = (
            along(band.from_us, run.duration_us),
            along(band.to_us, run.duration_us),
        );
        let _ = write!(
            text,
            "<path class=\"band\" d=\"M{from:.0} 0H{to:.0}V{height}H{from:.0}z\"/>\
             <path class=\"edge\" d=\"M{from:.0} 0V{height}M{to:.0} 0V{height}\"/>"
        );
    }
    text
}

/// How much room the words of the faults take at the top of a panel, in pixels.
pub(super) fn fault_room(runs: impl Iterator<Item = Vec<(u64, u64, f64, String)>>) -> f64 {
    let lowest = runs.flatten().map(|(_, _, top, _)| top + LINE);
    lowest.fold(0.0, f64::max) + 5.0
}

/// The words of the faults, for the top of a panel; one below the other where they overlap.
/// A word may run on until the next one begins.
pub(super) fn fault_words(run: &RunResult) -> Vec<(u64, u64, f64, String)> {
    const LINES: usize = 4;
    let mut words: Vec<(u64, u64, f64, String)> = Vec::new();
    // Of each line: when its last fault ends, and the place of its word.
    let mut lines: [(u64, Option<usize>); LINES] = [(0, None); LINES];
    for band in &run.bands {
        let Some(free) = lines.iter().position(|(end, _)| *end <= band.from_us) else {
            continue;
        };
        if let Some(before) = lines[free].1 {
            if words[before].3 == band.label {
                // The same once more, as of a link that flaps: one word stands for all.
                lines[free].0 = band.to_us;
                continue;
            }
            words[before].1 = band.from_us;
        }
        lines[free] = (band.to_us, Some(words.len()));
        let top = 2.0 + LINE * free as f64;
        words.push((band.from_us, run.duration_us, top, band.label.clone()));
    }
    words
}

/// The faults of a run in words.
pub(super) fn faults_spoken(run: &RunResult) -> String {
    let spoken = |band: &crate::analyse::Band| {
        format!(
            "{} from {} to {}",
            band.label,
            duration(band.from_us),
            duration(band.to_us)
        )
    };
    match run.bands.len() {
        0 => "no fault".to_owned(),
        1..=4 => {
            let bands: Vec<String> = run.bands.iter().map(spoken).collect();
            super::words::listed(&bands)
        }
        many => format!("{many} faults"),
    }
}

/// The predictions about a column in a chart.
pub(super) fn predicted<'a>(
    comparison: &'a Comparison,
    chart: Charted,
    column: &str,
) -> Vec<&'a Prediction> {
    let about = |prediction: &&Prediction| {
        let column_is = |named: &String| named == column;
        prediction.chart == chart && prediction.column.as_ref().is_none_or(column_is)
    };
    comparison.predictions.iter().filter(about).collect()
}

/// The key of what theory says in a chart over time, with its source.
pub(super) fn predicted_keys(comparison: &Comparison, chart: Charted) -> String {
    let key = |prediction: &Prediction| {
        let about = prediction.column.as_deref().unwrap_or("every column");
        format!(
            " <span class=\"key\"><i class=\"mark predicted\"></i>{}, {} ({})</span>",
            Escaped(&prediction.label),
            Escaped(about),
            Escaped(&prediction.source)
        )
    };
    let of_it = comparison.predictions.iter().filter(|p| p.chart == chart);
    of_it.map(key).collect()
}

/// A predicted curve over time; `height_at` turns its y into pixels from the top.
pub(super) fn predicted_path(
    prediction: &Prediction,
    duration_us: u64,
    height_at: impl Fn(f64) -> f64,
) -> String {
    let mut path = String::new();
    for (i, (seconds, y)) in prediction.points.iter().enumerate() {
        let command = if i == 0 { 'M' } else { 'L' };
        let x = along((seconds * 1_000_000.0).max(0.0) as u64, duration_us);
        let _ = write!(path, "{command}{x:.0} {:.1}", height_at(*y));
    }
    format!("<path class=\"predicted\" d=\"{path}\"/>")
}
