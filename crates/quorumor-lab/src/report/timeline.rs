//! A witness as a figure: a lane for each process, a bar for each operation from its start to its end.
//!
//! Times keep their order, not their distances: a gap of ten seconds would hide a race of a millisecond. An SVG of its
//! own, which takes its colours from the page's style where there is one. Called by the page.

use std::fmt::Write;

use super::html::Escaped;
use crate::analyse::{Bar, Lane, Witness};
use crate::checker::availability::Fared;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 118.0;
const TOP: f64 = 8.0;
const LANE: f64 = 40.0;
const BAR: f64 = 20.0;
const FOOT: f64 = 30.0;
/// A time at every place would overlap.
const TIMES_MAX: usize = 8;
/// About how wide a letter is.
const LETTER: f64 = 6.6;

/// The figure of a witness.
pub fn svg(witness: &Witness) -> String {
    let places = Places::of(witness);
    let height = TOP + LANE * witness.lanes.len() as f64 + FOOT;
    let mut body = String::new();
    for (i, lane) in witness.lanes.iter().enumerate() {
        let top = TOP + LANE * i as f64;
        let _ = write!(
            body,
            "<text class=\"who\" x=\"0\" y=\"{:.0}\">{}</text><path class=\"grid\" d=\"M{LEFT} {mid:.1}H{:.0}\"/>",
            top + 24.0,
            lane.process,
            WIDTH - RIGHT,
            mid = top + LANE / 2.0
        );
        draw_lane(&mut body, lane, top, &places);
    }
    let foot = TOP + LANE * witness.lanes.len() as f64;
    places.axis(&mut body, foot);
    format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">{body}</svg>",
        Escaped(&spoken(witness))
    )
}

/// Where each time of a witness lies: in order, a step for each different one, wider steps for longer gaps.
struct Places(Vec<(u64, f64)>);

impl Places {
    fn of(witness: &Witness) -> Self {
        let bars = || witness.lanes.iter().flat_map(|lane| &lane.bars);
        let starts = bars().map(|bar| bar.from_us);
        let mut times: Vec<u64> = starts.chain(bars().filter_map(|bar| bar.to_us)).collect();
        times.sort_unstable();
        times.dedup();
        let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
        let steps: Vec<f64> = gaps.map(|us| (1.0 + us / 1_000.0).ln() + 1.5).collect();
        // What never returned reaches beyond the last time.
        let whole = steps.iter().sum::<f64>() + 1.5;
        let mut so_far = 0.0;
        let mut places = Vec::new();
        for (i, &us) in times.iter().enumerate() {
            places.push((us, LEFT + (WIDTH - LEFT - RIGHT) * so_far / whole));
            so_far += steps.get(i).copied().unwrap_or(0.0);
        }
        Self(places)
    }

    fn x(&self, us: u64) -> f64 {
        let place = self.0.partition_point(|(time, _)| *time < us);
        self.0.get(place).map_or(WIDTH - RIGHT, |(_, x)| *x)
    }

    fn axis(&self, body: &mut String, top: f64) {
        let stride = self.0.len().div_ceil(TIMES_MAX).max(1);
        let mut last = f64::NEG_INFINITY;
        for (us, x) in self.0.iter().step_by(stride) {
            if x - last < 72.0 {
                continue;
            }
            last = *x;
            let _ = write!(
                body,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{top:.1}\"/><text class=\"when\" x=\"{x:.1}\" y=\"{:.1}\">{:.4} s</text>",
                top + 16.0,
                *us as f64 / 1_000_000.0
            );
        }
    }
}

fn draw_lane(body: &mut String, lane: &Lane, top: f64, places: &Places) {
    let y = top + (LANE - BAR) / 2.0;
    for (i, bar) in lane.bars.iter().enumerate() {
        let left = places.x(bar.from_us);
        let right = bar
            .to_us
            .map_or(WIDTH - RIGHT, |to| places.x(to))
            .max(left + 3.0);
        let _ = write!(
            body,
            "<rect class=\"op {}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\"><title>{}</title></rect>",
            class(bar),
            right - left,
            Escaped(&full(bar))
        );
        // A label may run over the end of its bar, up to the next one.
        let next = lane
            .bars
            .get(i + 1)
            .map_or(WIDTH, |next| places.x(next.from_us));
        let room = ((next.max(right) - left - 8.0) / LETTER).max(0.0) as usize;
        let _ = write!(
            body,
            "<text class=\"what\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 5.0,
            y + 14.0,
            Escaped(&shortened(&words(bar), room))
        );
    }
}

fn class(bar: &Bar) -> &'static str {
    match bar.fared {
        Fared::Ok => "ok",
        Fared::Refused => "refused",
        Fared::Unknown => "unknown",
        Fared::HeldBack => "held",
    }
}

fn words(bar: &Bar) -> String {
    let how = match bar.fared {
        Fared::Ok => "",
        Fared::Refused => " (refused)",
        Fared::Unknown => " (unknown)",
        Fared::HeldBack => " (never sent)",
    };
    format!("{}{how} @{}", bar.label, bar.node.0)
}

fn full(bar: &Bar) -> String {
    let seconds = |us: u64| format!("{:.6} s", us as f64 / 1_000_000.0);
    let end = bar.to_us.map_or("no return".to_owned(), seconds);
    format!(
        "{} at {}: {} to {end} ({})",
        words(bar),
        bar.node,
        seconds(bar.from_us),
        bar.op
    )
}

fn shortened(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
    format!("{kept}\u{2026}")
}

fn spoken(witness: &Witness) -> String {
    let bars = witness.lanes.iter().flat_map(|lane| &lane.bars);
    let bars: Vec<String> = bars.take(12).map(full).collect();
    format!("{}. {}", witness.text, bars.join("; "))
}
