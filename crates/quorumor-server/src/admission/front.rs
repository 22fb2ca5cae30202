//! How many calls may be under way at all, of those that load can turn away: asked before a call's message is read, so that one
//! too many costs little. What it goes by is how long the process takes to come round to a task that is ready: everything on this
//! node waits as long, signs of life and the words of other members too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quorumor_core::Error;

use super::gate::{Client, Gate, Shut, Slot};
use super::{Limits, RETRY_AFTER_MS, Standing};
use crate::metrics;

/// As many as the classes behind it take together at most, about.
const MOST: usize = 16_384;
/// Down to how many it comes: enough to keep a core busy and to share a sync of the log.
const LEAST: usize = 32;
/// A judgement rests on so long at least, and on so many looks.
const WINDOW: Duration = Duration::from_millis(50);
const WINDOW_LOOKS: u32 = 4;
/// A task that is ready may wait for its turn so long. A write takes some five turns on the leader and the followers; elections begin
/// after a hundred.
const BEARABLE: Duration = Duration::from_millis(10);
/// A judgement takes at most a half, and gives a quarter back.
const CUT: f64 = 0.5;
const REGAIN: f64 = 1.25;
const REGAIN_MIN: f64 = 4.0;
/// One call of so many looks how long its turn takes to come.
const LOOK_EVERY: u32 = 8;

/// The door in front of all classes.
#[derive(Debug)]
pub(crate) struct Front {
    gate: Arc<Gate>,
    pace: Mutex<Pace>,
    calls: AtomicU32,
    began: Instant,
}

impl Front {
    /// None without limits.
    pub(crate) fn new(limits: Limits) -> Option<Arc<Self>> {
        match limits {
            Limits::Disabled => None,
            Limits::Enforcing => Some(Arc::new(Self {
                gate: Arc::new(Gate::new(MOST, None)),
                pace: Mutex::new(Pace::default()),
                calls: AtomicU32::new(0),
                began: Instant::now(),
            })),
        }
    }

    /// A place for a call whose message isn't read yet.
    ///
    /// # Errors
    /// `Overloaded`, counted.
    pub(crate) async fn enter(&self, client: Client) -> Result<Slot, Error> {
        let entered = self.gate.enter(client);
        let slot = entered.map_err(|shut| {
            metrics::shed_in_front();
            Error::Overloaded {
                queue: match shut {
                    Shut::Full => "calls_max",
                    Shut::Unfair => "calls_of_one_client",
                },
                retry_after_ms: RETRY_AFTER_MS,
            }
        })?;
        if self
            .calls
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(LOOK_EVERY)
        {
            let ready = Instant::now();
            tokio::task::yield_now().await;
            self.waited(ready.elapsed());
        }
        Ok(slot)
    }

    fn waited(&self, wait: Duration) {
        let judged = self
            .pace
            .lock()
            .waited(self.began.elapsed(), wait, self.gate.open());
        if let Some(limit) = judged {
            self.gate.set_limit(limit);
        }
    }

    pub(crate) fn standing(&self) -> (Standing, usize) {
        (self.gate.standing(), MOST)
    }
}

/// The judgement. Pure: time is an argument.
#[derive(Debug)]
struct Pace {
    limit: f64,
    since: Duration,
    looks: u32,
    waits: Duration,
    most_open: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            limit: float(MOST),
            since: Duration::ZERO,
            looks: 0,
            waits: Duration::ZERO,
            most_open: 0,
        }
    }
}

impl Pace {
    /// A ready task waited so long for its turn; the limit, if it was judged anew.
    fn waited(&mut self, now: Duration, wait: Duration, open: usize) -> Option<usize> {
        self.looks += 1;
        self.waits += wait;
        self.most_open = self.most_open.max(open);
        if self.looks < WINDOW_LOOKS || now.saturating_sub(self.since) < WINDOW {
            return None;
        }
        let present = self.waits / self.looks;
        self.limit = if present > BEARABLE {
            let cut = (BEARABLE.as_secs_f64() / present.as_secs_f64()).max(CUT);
            (self.limit.min(float(self.most_open)) * cut).max(float(LEAST))
        } else {
            (self.limit * REGAIN)
                .max(self.limit + REGAIN_MIN)
                .min(float(MOST))
        };
        *self = Self {
            limit: self.limit,
            since: now,
            ..Self::default()
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a limit lies between two small counts"
        )]
        let limit = self.limit as usize;
        Some(limit)
    }
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A process that takes `each` for a call that is under way: who becomes ready waits for all of them.
    fn limits(
        pace: &mut Pace,
        windows: std::ops::Range<u32>,
        each: Duration,
        offered: usize,
    ) -> Vec<usize> {
        let mut limits = Vec::new();
        let mut limit = pace.limit as usize;
        for window in windows {
            let open = offered.min(limit);
            for _ in 0..WINDOW_LOOKS {
                let now = WINDOW * (window + 1);
                let judged = pace.waited(now, each * u32::try_from(open).unwrap(), open);
                limit = judged.unwrap_or(limit);
                limits.extend(judged);
            }
        }
        limits
    }

    #[test]
    fn what_is_done_in_time_is_never_limited() {
        let mut pace = Pace::default();
        let limits = limits(&mut pace, 0..100, MS / 100, 1_000);
        assert!(limits.iter().all(|limit| *limit == MOST), "{limits:?}");
    }

    #[test]
    fn a_flood_is_cut_until_the_others_have_their_turn_in_time_and_given_back_after_it() {
        let mut pace = Pace::default();
        let flooded = limits(&mut pace, 0..400, MS / 10, 100_000);
        // A hundred of a tenth of a millisecond.
        let settled = &flooded[20..];
        assert!(
            settled.iter().all(|limit| (LEAST..=140).contains(limit)),
            "{settled:?}"
        );
        let after = limits(&mut pace, 400..460, MS / 10, 10);
        assert_eq!(after.last(), Some(&MOST), "{after:?}");
    }

    #[test]
    fn some_are_let_in_however_slow_it_is() {
        let mut pace = Pace::default();
        let limits = limits(&mut pace, 0..50, MS * 100, 100_000);
        assert_eq!(limits.last(), Some(&LEAST));
    }

    #[tokio::test]
    async fn a_full_front_refuses_by_name() {
        let front = Front::new(Limits::Enforcing).unwrap();
        front.gate.set_limit(1);
        let held = front.enter(Client::default()).await.unwrap();
        let refused = front.enter(Client::default()).await.unwrap_err();
        assert!(refused.to_string().contains("calls_max"), "{refused}");
        assert_eq!(front.standing().0.shed, 1);
        drop(held);
        assert!(front.enter(Client::default()).await.is_ok());
        assert!(Front::new(Limits::Disabled).is_none());
    }
}
