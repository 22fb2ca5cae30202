//! What somebody saw of a server over time: calls with their starts, told apart afterwards by when they began. Pure.

use std::time::{Duration, Instant};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With an answer.
    Answered,
    /// Turned away at once, as one too many.
    Refused,
    /// Otherwise.
    Failed,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) end: End,
}

/// Calls, in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed(pub(super) Vec<Call>);

impl Observed {
    /// Those that began from one moment up to another.
    pub(super) fn within(&self, from: Instant, to: Instant) -> Self {
        let calls = self
            .0
            .iter()
            .filter(|call| from <= call.began && call.began < to);
        Self(calls.copied().collect())
    }

    pub(super) fn count(&self, end: End) -> usize {
        self.0.iter().filter(|call| call.end == end).count()
    }

    /// The latency that so many of a thousand answered calls don't exceed, in milliseconds; none of nothing.
    pub(super) fn answered_ms(&self, per_mille: usize) -> Option<f64> {
        let answered = self.0.iter().filter(|call| call.end == End::Answered);
        let mut took: Vec<Duration> = answered.map(|call| call.took).collect();
        took.sort_unstable();
        let rank = (took.len() * per_mille).div_ceil(1_000).checked_sub(1)?;
        took.get(rank).map(|took| took.as_secs_f64() * 1_000.0)
    }

    /// The median latency of the slowest of the windows from one moment up to another.
    pub(super) fn worst_half_ms(
        &self,
        (from, to): (Instant, Instant),
        window: Duration,
    ) -> Option<f64> {
        let mut start = from;
        let mut worst: Option<f64> = None;
        while start + window <= to {
            let half = self.within(start, start + window).answered_ms(500);
            worst = worst.into_iter().chain(half).reduce(f64::max);
            start += window;
        }
        worst
    }

    /// From `from` until the first of `steady` windows in a row in which every call was answered and half of them within
    /// `bound_ms`; none if that never came before `to`.
    pub(super) fn calm_after(
        &self,
        (from, to): (Instant, Instant),
        window: Duration,
        steady: usize,
        bound_ms: f64,
    ) -> Option<Duration> {
        let mut calm = 0;
        let mut start = from;
        while start + window <= to {
            let calls = self.within(start, start + window);
            let all_answered = calls.count(End::Answered) == calls.0.len();
            let quick = calls.answered_ms(500).is_some_and(|half| half <= bound_ms);
            calm = if all_answered && quick { calm + 1 } else { 0 };
            start += window;
            if calm == steady {
                let windows = u32::try_from(steady).unwrap_or(u32::MAX);
                return Some((start - window * windows).saturating_duration_since(from));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn calls(start: Instant, ends: &[(u32, u32, End)]) -> Observed {
        let call = |(at, took, end): &(u32, u32, End)| Call {
            began: start + MS * *at,
            took: MS * *took,
            end: *end,
        };
        Observed(ends.iter().map(call).collect())
    }

    #[test]
    fn only_answers_have_a_latency() {
        let start = Instant::now();
        let ends = [
            (0, 3, End::Answered),
            (1, 900, End::Failed),
            (2, 5, End::Answered),
            (3, 0, End::Refused),
        ];
        let observed = calls(start, &ends);
        assert_eq!(observed.answered_ms(500), Some(3.0));
        assert_eq!(observed.answered_ms(990), Some(5.0));
        assert_eq!(observed.within(start, start + MS).0.len(), 1);
        assert_eq!(Observed::default().answered_ms(500), None);
    }

    #[test]
    fn it_is_calm_once_no_call_is_refused_and_half_are_quick_for_a_while() {
        let start = Instant::now();
        let ends = [
            (5, 1, End::Refused),
            (15, 90, End::Answered),
            (25, 1, End::Answered),
            (35, 90, End::Answered),
            (45, 1, End::Answered),
            (55, 1, End::Answered),
        ];
        let observed = calls(start, &ends);
        let calm = |steady| observed.calm_after((start, start + MS * 60), MS * 10, steady, 10.0);
        assert_eq!(calm(1), Some(MS * 20));
        assert_eq!(calm(2), Some(MS * 40));
        assert_eq!(calm(3), None);
        let worst = |to| observed.worst_half_ms((start, start + MS * to), MS * 10);
        assert_eq!((worst(10), worst(30)), (None, Some(90.0)));
    }
}
