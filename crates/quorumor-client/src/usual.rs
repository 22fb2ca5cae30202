//! How long answers usually take, by class of call. It tells an endpoint that is silent from a caller who is in a hurry: whoever
//! waited for less than a few times as long knows nothing of the endpoint.

use std::time::Duration;

use parking_lot::Mutex;

use crate::breaker::CallClass;

/// A moving average for each class.
#[derive(Debug, Default)]
pub(crate) struct Usual([Mutex<Option<Duration>>; CallClass::ALL.len()]);

/// Each answer counts for one in so many.
const WEIGHT: u32 = 8;

/// An answer that takes so many times as long as usual isn't late: it is missing.
const TIMES: u32 = 8;

/// Below this a pause of the caller's own process looks the same.
const PATIENCE_MIN: Duration = Duration::from_millis(10);

/// Above this nobody has to know what is usual.
const PATIENCE_MAX: Duration = Duration::from_secs(1);

/// While nothing was answered yet.
const PATIENCE_UNKNOWN: Duration = Duration::from_millis(100);

impl Usual {
    /// An answer took so long.
    pub(crate) fn note(&self, class: CallClass, took: Duration) {
        let mut usual = self.0[class as usize].lock();
        *usual = Some(match *usual {
            Some(usual) => (usual * (WEIGHT - 1) + took) / WEIGHT,
            None => took,
        });
    }

    /// How long an endpoint must have said nothing for that to mean something.
    pub(crate) fn patience(&self, class: CallClass) -> Duration {
        let usual = *self.0[class as usize].lock();
        usual.map_or(PATIENCE_UNKNOWN, |usual| {
            usual
                .saturating_mul(TIMES)
                .clamp(PATIENCE_MIN, PATIENCE_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_what_is_usual_within_its_bounds() {
        let usual = Usual::default();
        let class = CallClass::LocalRead;
        assert_eq!(usual.patience(class), PATIENCE_UNKNOWN);
        usual.note(class, Duration::from_millis(4));
        assert_eq!(usual.patience(class), Duration::from_millis(32));
        // One answer in eight that took 12 ms more.
        usual.note(class, Duration::from_millis(12));
        assert_eq!(usual.patience(class), Duration::from_millis(40));
        (0..99).for_each(|_| usual.note(class, Duration::from_micros(100)));
        assert_eq!(usual.patience(class), PATIENCE_MIN);
        (0..99).for_each(|_| usual.note(class, Duration::from_secs(60)));
        assert_eq!(usual.patience(class), PATIENCE_MAX);
        assert_eq!(usual.patience(CallClass::Write), PATIENCE_UNKNOWN);
    }
}
