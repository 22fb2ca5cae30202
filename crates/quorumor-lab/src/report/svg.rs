//! The geometry of a plot: scales from data to pixels, ticks, and paths with many marks.
//!
//! Not the plots themselves ([`super::plot`]). Many marks share one path element, which keeps the page small.

use std::fmt::Write;

use super::words::duration;

/// A rectangle in pixels, with time along its width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// The time at the right edge.
    pub(super) duration_us: u64,
}

impl Panel {
    pub(super) fn x(&self, us: u64) -> f64 {
        self.left + self.width * (us.min(self.duration_us) as f64 / self.duration_us.max(1) as f64)
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.height
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// Pixels up from the bottom for a share of the height.
    pub(super) fn rise(&self, share: f64) -> f64 {
        self.height * share.clamp(0.0, 1.0)
    }
}

/// A logarithmic scale over whole decades of microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogScale {
    low: i32,
    high: i32,
}

impl LogScale {
    /// The decades that hold every value; zero counts as one microsecond.
    pub(super) fn over(values: impl Iterator<Item = u64>) -> Self {
        let (mut least, mut most) = (u64::MAX, 1);
        for value in values {
            least = least.min(value.max(1));
            most = most.max(value);
        }
        let least = if least == u64::MAX { 100 } else { least };
        let low = (least as f64).log10().floor() as i32;
        let high = (most as f64).log10().ceil() as i32;
        Self {
            low,
            high: high.max(low + 1),
        }
    }

    /// The share of the height at which a value lies.
    pub(super) fn share(&self, value: u64) -> f64 {
        let decades = f64::from(self.high - self.low);
        (((value.max(1) as f64).log10() - f64::from(self.low)) / decades).clamp(0.0, 1.0)
    }

    /// Each decade, with its label.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let tick = |exponent: i32| {
            let us = 10u64.saturating_pow(exponent.unsigned_abs());
            let label = if us < 1_000 {
                format!("{} ms", us as f64 / 1_000.0)
            } else {
                whole(us)
            };
            (self.share(us), label)
        };
        (self.low..=self.high).map(tick).collect()
    }
}

fn whole(us: u64) -> String {
    if us >= 1_000_000 {
        format!("{} s", us / 1_000_000)
    } else {
        format!("{} ms", us / 1_000)
    }
}

/// Seconds along a time axis: about ten of them.
pub(super) fn time_ticks(duration_us: u64) -> Vec<(u64, String)> {
    let seconds = duration_us / 1_000_000;
    let step = [1, 2, 5, 10, 20, 60, 120, 300, 600]
        .into_iter()
        .find(|step| seconds / step <= 10)
        .unwrap_or(3_600);
    let label = |s: u64| {
        if s == 0 {
            "0".to_owned()
        } else {
            duration(s * 1_000_000).replace(".0 s", " s")
        }
    };
    (0..=seconds / step)
        .map(|i| (i * step * 1_000_000, label(i * step)))
        .collect()
}

/// The shape of a mark; shape and colour both tell the classes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A round dot (a line of no length with round ends).
    Dot,
    /// A cross.
    Cross,
    /// An upright triangle.
    Triangle,
}

/// A path that draws a mark at each place.
pub(super) fn marks(class: &str, mark: Mark, places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in places {
        // Writing to a string cannot fail.
        let _ = match mark {
            Mark::Dot => write!(path, "M{x:.1} {y:.1}h0"),
            Mark::Cross => write!(path, "M{:.1} {:.1}l4 4m0-4l-4 4", x - 2.0, y - 2.0),
            Mark::Triangle => write!(path, "M{:.1} {:.1}h5l-2.5-5z", x - 2.5, y + 2.0),
        };
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>\n")
}

/// A path that draws a bar for each (left, width, bottom, height).
pub(super) fn bars(class: &str, bars: impl Iterator<Item = [f64; 4]>) -> String {
    let mut path = String::new();
    for [left, width, bottom, height] in bars.filter(|bar| bar[3] > 0.0) {
        let _ = write!(
            path,
            "M{left:.1} {bottom:.1}h{width:.1}v-{height:.1}h-{width:.1}z"
        );
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>\n")
}
