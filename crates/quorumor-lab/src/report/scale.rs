//! Scales from figures to places in a chart, and their ticks.
//!
//! Not the charts. A chart's drawing area is [`WIDTH`] units wide whatever its width on the screen, and as many units high as
//! pixels: it is stretched along its width only, so that text beside it keeps its size on every screen.

use super::words::span;

/// Units along the width of every chart: fine enough to zoom into.
pub(super) const WIDTH: f64 = 10_000.0;

/// Where a time lies along the width.
pub(super) fn along(us: u64, duration_us: u64) -> f64 {
    WIDTH * (us.min(duration_us) as f64 / duration_us.max(1) as f64)
}

/// A mark on an axis: its share of the length, and its words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) share: f64,
    pub(super) label: String,
}

/// A logarithmic scale of microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LogScale {
    /// The exponents of ten at its two ends.
    low: f64,
    high: f64,
}

/// Air at either end, in decades, so that no mark lies on the edge.
const AIR: f64 = 0.08;

impl LogScale {
    /// A scale that holds every value from 0.1 ms on; what is shorter lies at its low end.
    pub(super) fn over(values: impl Iterator<Item = u64>) -> Self {
        let (mut least, mut most) = (u64::MAX, 100);
        for value in values {
            least = least.min(value.max(100));
            most = most.max(value);
        }
        let least = if least == u64::MAX { 1_000 } else { least };
        let exponent = |us: u64| (us as f64).log10();
        let (low, high) = (exponent(least) - AIR, exponent(most.max(least)) + AIR);
        // Two marks at least, or nobody can tell the scale.
        if high.floor() - low.ceil() >= 1.0 {
            Self { low, high }
        } else {
            let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
            Self { low, high }
        }
    }

    /// The share of the length at which a value lies.
    pub(super) fn share(&self, us: f64) -> f64 {
        ((us.max(1.0).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Each whole decade.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let tick = |exponent: i32| {
            let us = 10f64.powi(exponent);
            let label = if us < 1e6 {
                format!("{} ms", us / 1e3)
            } else {
                format!("{} s", us / 1e6)
            };
            Tick {
                share: self.share(us),
                label,
            }
        };
        (self.low.ceil() as i32..=self.high.floor() as i32)
            .map(tick)
            .collect()
    }

    /// The exponents of ten at its ends: a script reads values back from places with them.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }
}

/// Times along an axis: about ten of them at the most.
pub(super) fn time_ticks(duration_us: u64) -> Vec<Tick> {
    let seconds = duration_us / 1_000_000;
    let step = [1, 2, 5, 10, 20, 60, 120, 300, 600, 1_800]
        .into_iter()
        .find(|step| seconds / step <= 10)
        .unwrap_or(3_600);
    let tick = |i: u64| Tick {
        share: (i * step * 1_000_000) as f64 / duration_us.max(1) as f64,
        label: match i {
            0 => "0 s".to_owned(),
            _ => span(i * step * 1_000_000),
        },
    };
    (0..=seconds / step).map(tick).collect()
}

/// Round numbers from 0 up to about `most`, and the scale's end.
pub(super) fn count_ticks(most: f64) -> (f64, Vec<Tick>) {
    let rough = (most / 3.0).max(1e-9);
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade);
    let step = step
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * decade);
    let count = (most / step).ceil().max(1.0);
    let end = step * count;
    let tick = |i: u32| Tick {
        share: f64::from(i) / count,
        label: format!("{}", f64::from(i) * step),
    };
    (end, (0..=count as u32).map(tick).collect())
}

/// 0 %, 50 % and 100 %.
pub(super) fn percent_ticks() -> Vec<Tick> {
    let tick = |(share, label): (f64, &str)| Tick {
        share,
        label: label.to_owned(),
    };
    [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")]
        .map(tick)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_scale_holds_its_values_with_air_and_marks_the_decades() {
        let scale = LogScale::over([400, 35_000, 1_000_300].into_iter());
        let labels: Vec<String> = scale.ticks().into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert!(scale.share(400.0) > 0.01 && scale.share(1_000_300.0) < 0.99);
        let narrow = LogScale::over([3_000, 4_000].into_iter());
        let labels: Vec<String> = narrow.ticks().into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["1 ms", "10 ms"]);
        assert!(LogScale::over(std::iter::empty()).ticks().len() >= 2);
    }

    #[test]
    fn ticks_are_round_and_few() {
        let labels = |ticks: Vec<Tick>| ticks.into_iter().map(|t| t.label).collect::<Vec<_>>();
        assert_eq!(labels(time_ticks(40_000_000)).len(), 9);
        assert_eq!(
            labels(time_ticks(4_000_000)),
            ["0 s", "1 s", "2 s", "3 s", "4 s"]
        );
        let (end, ticks) = count_ticks(260.0);
        assert!((end - 300.0).abs() < 1e-9);
        assert_eq!(labels(ticks), ["0", "100", "200", "300"]);
    }
}
