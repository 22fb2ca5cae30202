//! Charts of operations over time: the latency of every one, what became of them in each 100 ms, and the share answered.
//!
//! Draws what the analysis counted. Called by the page.

use std::fmt::Write;

use super::Comparison;
use super::prediction::Charted;
use super::scale::{LogScale, Tick, WIDTH, along, count_ticks, percent_ticks};
use super::timed::{
    Drawn, fault_room, fault_words, faults_spoken, figure, predicted, predicted_keys,
    predicted_path,
};
use super::words::{count, maybe, span};
use crate::analyse::{Point, RunResult};
use crate::checker::availability::{Counts, Fared, WINDOW_US};

const SCATTER_HEIGHT: f64 = 190.0;
const STRIP_HEIGHT: f64 = 110.0;
const SHARE_HEIGHT: f64 = 72.0;
/// More bars than this can't be told apart; windows are put together then.
const BARS_MAX: usize = 600;

/// The latency of every operation.
pub(super) fn latency(comparison: &Comparison) -> String {
    let runs = comparison
        .columns
        .iter()
        .filter_map(|column| column.shown());
    let points = runs.clone().flat_map(|run| &run.scatter.points);
    let scale = LogScale::over(points.map(|point| point.latency_us));
    let thinned = runs
        .clone()
        .any(|run| run.scatter.points.len() < run.scatter.of);
    let explained = format!(
        "Each mark is an operation, placed when it was due and as high as it waited; ten times longer is one line up. \
         <span class=\"keys\"><span class=\"key\"><i class=\"mark ok\"></i>answered</span> \
         <span class=\"key\"><i class=\"mark refused\"></i>refused, certainly not applied</span> \
         <span class=\"key\"><i class=\"mark unknown\"></i>outcome unknown</span> \
         <span class=\"key\"><i class=\"mark shade\"></i>fault in force</span>{}</span>{}",
        predicted_keys(comparison, Charted::Latency),
        if thinned {
            " Of the answered ones a part is drawn, evenly, and all of the slowest hundredth."
        } else {
            ""
        }
    );
    let room = fault_room(runs.map(fault_words));
    figure(
        comparison,
        "Latency of every operation",
        &explained,
        |column, run| {
            let height = room + SCATTER_HEIGHT;
            let height_at = |share: f64| room + SCATTER_HEIGHT * (1.0 - share);
            let mut marks = scatter(run, |us| height_at(scale.share(us as f64)));
            let tick = |tick: Tick| Tick {
                share: tick.share * SCATTER_HEIGHT / height,
                ..tick
            };
            for prediction in predicted(comparison, Charted::Latency, &column.label) {
                let at = |ms: f64| height_at(scale.share(ms * 1_000.0));
                marks.push_str(&predicted_path(prediction, run.duration_us, at));
            }
            Some(Drawn {
                height,
                ticks: scale.ticks().into_iter().map(tick).collect(),
                marks,
                spoken: format!(
                    "latency of {} operations, median {}, 99th percentile {}; {}",
                    count(run.total.counts.total()),
                    maybe(run.total.p50_us),
                    maybe(run.total.p99_us),
                    faults_spoken(run)
                ),
                decades: Some((scale, room)),
                words: fault_words(run),
            })
        },
    )
}

/// The marks of a run; `height_at` turns microseconds into pixels from the top.
fn scatter(run: &RunResult, height_at: impl Fn(u64) -> f64) -> String {
    let place = |point: &Point| {
        (
            along(point.due_us, run.duration_us),
            height_at(point.latency_us),
        )
    };
    let mut text = String::new();
    for (fared, class) in [
        (Fared::Ok, "dot ok"),
        (Fared::Refused, "tick refused"),
        (Fared::Unknown, "square unknown"),
    ] {
        let mut path = String::new();
        for point in run
            .scatter
            .points
            .iter()
            .filter(|point| point.fared == fared)
        {
            let (x, y) = place(point);
            // A stroke keeps its width however the chart is stretched; what is drawn along the height keeps its length.
            let _ = match fared {
                Fared::Refused => write!(path, "M{x:.0} {:.1}v8", y - 4.0),
                Fared::Ok | Fared::Unknown | Fared::HeldBack => write!(path, "M{x:.0} {y:.1}h0"),
            };
        }
        let _ = write!(text, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    text
}

/// Windows put together so that there are few enough to draw, and how long each is.
fn grouped(windows: &[Counts]) -> (Vec<Counts>, u64) {
    let together = windows.len().div_ceil(BARS_MAX).max(1);
    let sum = |windows: &[Counts]| {
        let mut sum = Counts::default();
        for window in windows {
            sum.ok += window.ok;
            sum.refused += window.refused;
            sum.unknown += window.unknown;
            sum.held_back += window.held_back;
        }
        sum
    };
    let grouped = windows.chunks(together).map(sum).collect();
    (grouped, together as u64 * WINDOW_US)
}

/// A colour of the stacked bars, and its count in a window.
type Class = (&'static str, fn(&Counts) -> u64);

const CLASSES: [Class; 4] = [
    ("bar ok", |counts| counts.ok),
    ("bar unknown", |counts| counts.unknown),
    ("bar refused", |counts| counts.refused),
    ("bar held", |counts| counts.held_back),
];

/// What became of the operations, as a rate.
pub(super) fn throughput(comparison: &Comparison) -> String {
    let runs = comparison
        .columns
        .iter()
        .filter_map(|column| column.shown());
    let windows: Vec<(Vec<Counts>, u64)> = runs.map(|run| grouped(&run.windows)).collect();
    let rate = |counts: u64, each_us: u64| counts as f64 * 1_000_000.0 / each_us as f64;
    let rates = windows.iter().flat_map(|(windows, each_us)| {
        windows
            .iter()
            .map(move |window| rate(window.total(), *each_us))
    });
    let (end, ticks) = count_ticks(rates.fold(1.0, f64::max));
    let each_us = windows
        .iter()
        .map(|(_, each_us)| *each_us)
        .max()
        .unwrap_or(WINDOW_US);
    let explained = format!(
        "Operations per second that were due in each {}, and what became of them. \
         <span class=\"keys\"><span class=\"key\"><i class=\"mark bar ok\"></i>answered</span> \
         <span class=\"key\"><i class=\"mark bar unknown\"></i>outcome unknown</span> \
         <span class=\"key\"><i class=\"mark bar refused\"></i>refused</span> \
         <span class=\"key\"><i class=\"mark bar held\"></i>never sent: the client was full</span>{}</span>",
        span(each_us),
        predicted_keys(comparison, Charted::Throughput)
    );
    figure(comparison, "Throughput", &explained, |column, run| {
        let (windows, each_us) = grouped(&run.windows);
        let height_at = |ops: f64| STRIP_HEIGHT * (1.0 - (ops / end).clamp(0.0, 1.0));
        let mut marks = stacked(&windows, each_us, run.duration_us, |n| {
            height_at(rate(n, each_us))
        });
        for prediction in predicted(comparison, Charted::Throughput, &column.label) {
            marks.push_str(&predicted_path(prediction, run.duration_us, height_at));
        }
        let counts = &run.total.counts;
        Some(Drawn {
            height: STRIP_HEIGHT,
            ticks: ticks.clone(),
            marks,
            spoken: format!(
                "{} operations answered, {} refused, {} unknown, {} never sent; {}",
                count(counts.ok),
                count(counts.refused),
                count(counts.unknown),
                count(counts.held_back),
                faults_spoken(run)
            ),
            decades: None,
            words: Vec::new(),
        })
    })
}

fn stacked(
    windows: &[Counts],
    each_us: u64,
    duration_us: u64,
    height_at: impl Fn(u64) -> f64,
) -> String {
    let mut text = String::new();
    let mut below = vec![0u64; windows.len()];
    for (class, of) in CLASSES {
        let mut path = String::new();
        for (i, (window, below)) in (0u64..).zip(windows.iter().zip(&mut below)) {
            let (bottom, top) = (height_at(*below), height_at(*below + of(window)));
            *below += of(window);
            if of(window) == 0 {
                continue;
            }
            let (left, right) = (
                along(i * each_us, duration_us),
                along((i + 1) * each_us, duration_us),
            );
            let _ = write!(
                path,
                "M{left:.0} {bottom:.1}H{right:.0}V{top:.1}H{left:.0}z"
            );
        }
        if !path.is_empty() {
            let _ = write!(text, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    text
}

/// The share of the operations that was answered.
pub(super) fn availability(comparison: &Comparison) -> String {
    let explained = format!(
        "The share of the operations due in that time that was answered; what the client could not even send counts as not \
         answered. Clients stay at their node, so those of a killed node fail in any mode.{}",
        predicted_keys(comparison, Charted::Availability)
    );
    figure(comparison, "Availability", &explained, |column, run| {
        let (windows, each_us) = grouped(&run.windows);
        let height_at = |share: f64| SHARE_HEIGHT * (1.0 - share.clamp(0.0, 1.0));
        let mut path = format!("M0 {SHARE_HEIGHT}");
        for (i, window) in (0u64..).zip(&windows) {
            let y = height_at(window.ok_percent() / 100.0);
            let (left, right) = (
                along(i * each_us, run.duration_us),
                along((i + 1) * each_us, run.duration_us),
            );
            let _ = write!(path, "L{left:.0} {y:.1}H{right:.0}");
        }
        let mut marks = format!("<path class=\"area\" d=\"{path}L{WIDTH} {SHARE_HEIGHT}z\"/>");
        for prediction in predicted(comparison, Charted::Availability, &column.label) {
            marks.push_str(&predicted_path(prediction, run.duration_us, height_at));
        }
        Some(Drawn {
            height: SHARE_HEIGHT,
            ticks: percent_ticks(),
            marks,
            spoken: format!(
                "{:.1} % of the operations answered over the whole run; {}",
                run.total.counts.ok_percent(),
                faults_spoken(run)
            ),
            decades: None,
            words: Vec::new(),
        })
    })
}
