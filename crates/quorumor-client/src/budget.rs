//! The retry budget: keeps retries from multiplying an outage.
//!
//! A bucket of tokens, one a retry. Each call puts a share of a token in, so that retries are at most that share of calls; a trickle
//! lets a client that calls rarely retry at all. With the bucket empty a call fails with its last error (Finagle's and tower's
//! retry budgets work alike). Hedged reads spend from it too.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;

/// How many retries a client allows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of a hundred calls, how many may be retries on top.
    pub percent: u32,
    /// Retries a second that are allowed however few calls there are.
    pub per_second_min: u32,
    /// The most that can be saved up, and what a new client begins with.
    pub burst: u32,
}

impl Default for RetryBudget {
    /// A fifth of calls, ten a second at least, a hundred in a row.
    fn default() -> Self {
        Self {
            percent: 20,
            per_second_min: 10,
            burst: 100,
        }
    }
}

impl RetryBudget {
    /// No bound: every retry that the policy allows is made.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self {
            percent: u32::MAX,
            per_second_min: u32::MAX,
            burst: u32::MAX,
        }
    }
}

/// A token in the bucket's unit: a second's trickle is then its number of microseconds.
const TOKEN: u64 = 1_000_000;
const PERCENT: u64 = TOKEN / 100;

/// The bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    policy: RetryBudget,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: u64,
    /// Up to when the trickle was put in.
    micros: u64,
}

impl Bucket {
    pub(crate) fn full(policy: RetryBudget, clock: Clock) -> Self {
        let state = Mutex::new(State {
            tokens: most(&policy),
            micros: micros(clock.now()),
        });
        Self {
            policy,
            clock,
            state,
        }
    }

    /// A call begins, and gives its share.
    pub(crate) fn earn(&self) {
        let share = u64::from(self.policy.percent) * PERCENT;
        let mut state = self.state.lock();
        state.tokens = (state.tokens.saturating_add(share)).min(most(&self.policy));
    }

    /// Whether one more retry is within the budget; if so it is spent.
    pub(crate) fn spend(&self) -> bool {
        let now = micros(self.clock.now());
        let mut state = self.state.lock();
        let passed = now.saturating_sub(state.micros);
        let trickle = passed.saturating_mul(u64::from(self.policy.per_second_min));
        state.micros = now;
        state.tokens = state.tokens.saturating_add(trickle).min(most(&self.policy));
        let left = state.tokens.checked_sub(TOKEN);
        state.tokens = left.unwrap_or(state.tokens);
        left.is_some()
    }
}

fn most(policy: &RetryBudget) -> u64 {
    u64::from(policy.burst) * TOKEN
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryBudget = RetryBudget {
        percent: 20,
        per_second_min: 10,
        burst: 5,
    };

    fn spent(bucket: &Bucket) -> usize {
        std::iter::repeat_with(|| bucket.spend())
            .take_while(|ok| *ok)
            .count()
    }

    #[test]
    fn it_begins_full_and_refuses_once_spent() {
        let bucket = Bucket::full(POLICY, Clock::by_hand().0);
        assert_eq!(spent(&bucket), 5);
        assert!(!bucket.spend());
    }

    #[test]
    fn five_calls_pay_for_one_retry() {
        let bucket = Bucket::full(POLICY, Clock::by_hand().0);
        spent(&bucket);
        (0..4).for_each(|_| bucket.earn());
        assert!(!bucket.spend());
        bucket.earn();
        assert_eq!(spent(&bucket), 1);
        (0..100).for_each(|_| bucket.earn());
        assert_eq!(spent(&bucket), 5, "no more than the burst is saved up");
    }

    #[test]
    fn a_second_brings_its_trickle_without_any_call() {
        let (clock, now) = Clock::by_hand();
        let bucket = Bucket::full(POLICY, clock);
        spent(&bucket);
        *now.lock() += Duration::from_millis(299);
        assert_eq!(spent(&bucket), 2);
        // What was over isn't lost.
        *now.lock() += Duration::from_millis(1);
        assert_eq!(spent(&bucket), 1);
        *now.lock() += Duration::from_secs(3_600);
        assert_eq!(spent(&bucket), 5);
    }
}
