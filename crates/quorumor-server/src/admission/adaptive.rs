//! How many calls of a class may be under way, by how long they take: as long as latency is what it usually is, as many as the class
//! allows; once calls take far longer because they wait for each other, fewer, so that those that are let in are served in time.
//!
//! After Netflix' concurrency limits (Gradient2): the usual latency is a slow average, the present one that of a short window. Pure:
//! time is an argument.

use std::time::Duration;

/// What one judgement rests on: at least so long, and at least so many calls.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_CALLS: u32 = 16;
/// Calls may take so many times as long as usual.
const TOLERANCE: f64 = 2.0;
/// Nobody is turned away for the sake of less than this.
const TOLERABLE_US: f64 = 50_000.0;
/// A call counts for no more than so many times the usual.
const OUTLIER: f64 = 8.0;
/// How fast the usual follows where fewer calls make nothing faster: then it isn't load. In windows.
const USUAL_WINDOWS_AT_LEAST: f64 = 20.0;
/// How slowly the usual follows the present: about a minute of windows, and ten minutes while calls are turned away.
const USUAL_WINDOWS: f64 = 600.0;
const USUAL_WINDOWS_SHEDDING: f64 = 6_000.0;
/// A judgement takes at most a half; a quiet window gives a quarter back.
const CUT: f64 = 0.5;
const REGAIN: f64 = 1.25;

/// The limit of one class.
#[derive(Debug)]
pub(super) struct Adaptive {
    limit: f64,
    least: f64,
    most: f64,
    /// Microseconds; 0 before the first window.
    usual_us: f64,
    began: Duration,
    calls: u32,
    sum_us: f64,
    most_open: usize,
    shed: bool,
}

impl Adaptive {
    pub(super) fn new(least: usize, most: usize) -> Self {
        let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        Self {
            limit: float(most),
            least: float(least),
            most: float(most),
            usual_us: 0.0,
            began: Duration::ZERO,
            calls: 0,
            sum_us: 0.0,
            most_open: 0,
            shed: false,
        }
    }

    /// A call was turned away.
    pub(super) fn shed(&mut self) {
        self.shed = true;
    }

    /// A call went well; the limit now, if it was judged anew.
    pub(super) fn took(&mut self, now: Duration, latency: Duration, open: usize) -> Option<usize> {
        self.calls += 1;
        // One that waited for something of its own tells little of all.
        let most_us = if self.usual_us > 0.0 {
            (self.usual_us * OUTLIER).max(TOLERABLE_US * OUTLIER)
        } else {
            f64::MAX
        };
        self.sum_us += (latency.as_secs_f64() * 1e6).min(most_us);
        self.most_open = self.most_open.max(open);
        if self.calls < WINDOW_CALLS || now.saturating_sub(self.began) < WINDOW {
            return None;
        }
        let present_us = self.sum_us / f64::from(self.calls);
        self.judge(present_us);
        self.began = now;
        self.calls = 0;
        self.sum_us = 0.0;
        self.most_open = 0;
        self.shed = false;
        Some(self.limit())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a limit lies between two small counts"
    )]
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    fn judge(&mut self, present_us: f64) {
        if self.usual_us == 0.0 {
            // What is first seen may be a flood already.
            self.usual_us = present_us.min(TOLERABLE_US);
        }
        let bearable_us = (self.usual_us * TOLERANCE).max(TOLERABLE_US);
        let open = f64::from(u32::try_from(self.most_open).unwrap_or(u32::MAX));
        if present_us > bearable_us {
            // Waiting is made by those that are under way: fewer than those must be let in.
            let cut = (bearable_us / present_us).max(CUT);
            self.limit = (self.limit.min(open) * cut).max(self.least);
        } else if self.shed {
            self.limit += self.limit.sqrt();
        } else {
            self.limit *= REGAIN;
        }
        self.limit = self.limit.min(self.most);
        let is_least = self.limit <= self.least;
        let windows = if self.shed {
            USUAL_WINDOWS_SHEDDING
        } else if is_least && present_us > bearable_us {
            USUAL_WINDOWS_AT_LEAST
        } else {
            USUAL_WINDOWS
        };
        // What is faster than usual is believed at once: it can't be the fault of too many.
        if present_us < self.usual_us {
            self.usual_us = present_us.max(self.usual_us * 0.9);
        } else {
            self.usual_us += (present_us - self.usual_us) / windows;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is shipped.
    const LEAST: usize = crate::admission::LEAST;

    /// A server that serves a call at a time in `serve_us`: who finds `open` before it waits for all of them.
    fn windows(
        adaptive: &mut Adaptive,
        count: u64,
        from: u64,
        serve_us: u64,
        offered: usize,
    ) -> Vec<usize> {
        let mut limits = Vec::new();
        for window in from..from + count {
            let open = offered.min(adaptive.limit());
            if offered > open {
                adaptive.shed();
            }
            let latency = Duration::from_micros(serve_us * open as u64);
            let now = WINDOW * u32::try_from(window + 1).unwrap();
            for _ in 0..WINDOW_CALLS {
                limits.extend(adaptive.took(now, latency, open));
            }
        }
        limits
    }

    #[test]
    fn a_usual_load_is_never_limited() {
        let mut adaptive = Adaptive::new(LEAST, 8_192);
        let limits = windows(&mut adaptive, 100, 0, 50, 100);
        assert!(limits.iter().all(|limit| *limit == 8_192), "{limits:?}");
    }

    #[test]
    fn a_flood_is_cut_to_what_is_served_in_a_bearable_time_and_given_back_after_it() {
        let mut adaptive = Adaptive::new(LEAST, 8_192);
        windows(&mut adaptive, 50, 0, 500, 80);
        let flooded = windows(&mut adaptive, 600, 50, 500, 100_000);
        // Usual is 40 ms: 80 ms are bearable, which 160 calls take.
        let settled = &flooded[20..];
        assert!(
            settled.iter().all(|limit| (LEAST..=240).contains(limit)),
            "{settled:?}"
        );
        let after = windows(&mut adaptive, 30, 650, 100, 20);
        assert_eq!(after.last(), Some(&8_192), "{after:?}");
    }

    #[test]
    fn a_flood_that_was_there_first_is_cut_too() {
        let mut adaptive = Adaptive::new(LEAST, 8_192);
        let flooded = windows(&mut adaptive, 600, 0, 500, 100_000);
        // Nothing is known of better times: what is tolerable anyway counts as usual, and twice that is bearable.
        let settled = &flooded[20..];
        assert!(
            settled.iter().all(|limit| (LEAST..=300).contains(limit)),
            "{settled:?}"
        );
    }

    #[test]
    fn who_is_slow_without_a_flood_turns_nobody_away() {
        let mut adaptive = Adaptive::new(LEAST, 8_192);
        // A disk that takes 200 ms, whoever asks: the usual follows it.
        for window in 0..200 {
            let now = WINDOW * (window + 1);
            for _ in 0..WINDOW_CALLS {
                adaptive.took(now, Duration::from_millis(200), 40);
            }
        }
        assert_eq!(adaptive.limit(), 8_192);
    }

    #[test]
    fn what_takes_a_few_milliseconds_is_not_worth_a_refusal() {
        let mut adaptive = Adaptive::new(LEAST, 8_192);
        windows(&mut adaptive, 50, 0, 10, 10);
        let busy = windows(&mut adaptive, 100, 50, 10, 900);
        assert!(busy.iter().all(|limit| *limit == 8_192), "{busy:?}");
    }

    proptest! {
        #[test]
        fn a_limit_stays_between_its_bounds(calls in prop::collection::vec((0_u64..10_000_000, 0_usize..20_000, any::<bool>()), 0..400)) {
            let mut adaptive = Adaptive::new(LEAST, 8_192);
            for (at, (latency, open, shed)) in calls.into_iter().enumerate() {
                if shed {
                    adaptive.shed();
                }
                let now = Duration::from_millis(at as u64 * 10);
                adaptive.took(now, Duration::from_micros(latency), open);
                prop_assert!((LEAST..=8_192).contains(&adaptive.limit()));
            }
        }
    }
}
