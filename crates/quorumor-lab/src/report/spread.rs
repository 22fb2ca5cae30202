//! A figure over several runs: its median, its least and its greatest.
//!
//! Not a statistic of a sample of one run. Called by the tables and the sentences.

use super::words::{count, duration};

/// The figure of some runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Spread {
    /// None without a value.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let upper = values[values.len() / 2];
        let lower = values[(values.len() - 1) / 2];
        Some(Self {
            median: f64::midpoint(lower, upper),
            least,
            greatest,
        })
    }

    /// The median, and the range if there was more than one run and they differ as far as the unit shows.
    pub(super) fn text(&self, unit: Unit) -> (String, Option<String>) {
        let (least, greatest) = (unit.text(self.least), unit.text(self.greatest));
        let differ = least != greatest;
        let range = differ.then(|| format!("[{least}\u{2013}{greatest}]"));
        (unit.text(self.median), range)
    }

    /// The same as one text.
    pub(super) fn line(&self, unit: Unit) -> String {
        match self.text(unit) {
            (median, None) => median,
            (median, Some(range)) => format!("{median} {range}"),
        }
    }
}

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Count,
    Percent,
    Micros,
}

impl Unit {
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Self::Count => count(value.round() as u64),
            Self::Percent => format!("{value:.1} %"),
            Self::Micros => duration(value.round() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_no_range_and_several_have_a_median() {
        let one = Spread::of([1_500.0].into_iter()).unwrap();
        assert_eq!(one.line(Unit::Micros), "1.5 ms");
        let three = Spread::of([9.0, 1.0, 4.0].into_iter()).unwrap();
        assert_eq!(three.line(Unit::Count), "4 [1\u{2013}9]");
        let two = Spread::of([99.0, 98.0].into_iter()).unwrap();
        assert_eq!(two.line(Unit::Percent), "98.5 % [98.0 %\u{2013}99.0 %]");
        let same = Spread::of([0.0, 0.0].into_iter()).unwrap();
        assert_eq!(same.line(Unit::Count), "0");
        assert!(Spread::of([].into_iter()).is_none());
    }
}
