//! The points of the latency scatter, few enough for a page.
//!
//! Not a sample of the figures: those count every operation. Called by the analysis.

use crate::checker::availability::Fared;
use crate::history::{History, Op};

/// About how many answered operations a scatter keeps.
const OK_MAX: usize = 6_000;
/// About how many of another outcome it keeps of each; far more than most runs have.
const OTHER_MAX: usize = 6_000;

/// One operation in the latency scatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it was due, from time zero of the workload.
    pub due_us: u64,
    /// From then until it ended; without an end, its timeout.
    pub latency_us: u64,
    /// What became of it.
    pub fared: Fared,
}

/// The operations to draw, in order of `due_us`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scatter {
    /// What is kept. Of the answered ones the slowest hundredth is kept whole.
    pub points: Vec<Point>,
    /// How many there were.
    pub of: usize,
}

impl Scatter {
    /// Every operation that was sent, thinned if there are very many.
    pub fn of(history: &History) -> Self {
        let point = |op: &Op| {
            let fared = Fared::of(op);
            let latency_us = op.returned_us().map_or(op.invoke.timeout_us, |at| {
                at.saturating_sub(op.invoke.due_us)
            });
            let due_us = op.invoke.due_us.saturating_sub(history.header.start_us);
            (fared != Fared::HeldBack).then_some(Point {
                due_us,
                latency_us,
                fared,
            })
        };
        thin(history.load().filter_map(point).collect())
    }
}

fn thin(points: Vec<Point>) -> Scatter {
    let of = points.len();
    let (ok, other): (Vec<Point>, Vec<Point>) = points
        .into_iter()
        .partition(|point| point.fared == Fared::Ok);
    let mut latencies: Vec<u64> = ok.iter().map(|point| point.latency_us).collect();
    latencies.sort_unstable();
    let slow_us = latencies.get(latencies.len() * 99 / 100).copied();
    let stride = ok.len().div_ceil(OK_MAX).max(1);
    let ok = ok.into_iter().enumerate();
    let ok = ok.filter(|(i, point)| i % stride == 0 || Some(point.latency_us) > slow_us);
    let mut kept: Vec<Point> = ok.map(|(_, point)| point).collect();
    for fared in [Fared::Refused, Fared::Unknown] {
        let of_it: Vec<&Point> = other.iter().filter(|point| point.fared == fared).collect();
        let stride = of_it.len().div_ceil(OTHER_MAX).max(1);
        kept.extend(of_it.into_iter().step_by(stride));
    }
    kept.sort_by_key(|point| (point.due_us, point.latency_us));
    Scatter { points: kept, of }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(count: u64, fared: Fared) -> impl Iterator<Item = Point> {
        (0..count).map(move |i| Point {
            due_us: i,
            latency_us: 1_000 + i % 1_000,
            fared,
        })
    }

    #[test]
    fn a_small_run_is_kept_whole_and_in_order() {
        let all = points(500, Fared::Unknown).chain(points(2_000, Fared::Ok));
        let scatter = thin(all.collect());
        assert_eq!((scatter.points.len(), scatter.of), (2_500, 2_500));
        assert!(scatter.points.is_sorted_by_key(|point| point.due_us));
    }

    #[test]
    fn a_huge_run_keeps_what_failed_and_what_was_slow() {
        let slowest = Point {
            due_us: 77,
            latency_us: 9_000_000,
            fared: Fared::Ok,
        };
        let all = points(600_000, Fared::Ok).chain(points(900, Fared::Refused));
        let scatter = thin(all.chain([slowest]).collect());
        let count = |fared| scatter.points.iter().filter(|p| p.fared == fared).count();
        assert_eq!(count(Fared::Refused), 900);
        assert!(
            (6_000..13_000).contains(&count(Fared::Ok)),
            "{}",
            count(Fared::Ok)
        );
        assert!(scatter.points.contains(&slowest));
        assert_eq!(scatter.of, 600_901);
    }
}
