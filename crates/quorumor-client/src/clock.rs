//! The clock of breakers and budgets: how long ago something was. Tests turn it by hand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tells the time since some beginning, never going back.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// This machine's monotonic clock.
    pub(crate) fn monotonic() -> Self {
        let began = Instant::now();
        Self(Arc::new(move || began.elapsed()))
    }

    /// A clock that stands until it is turned, and what turns it.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (Self, Arc<parking_lot::Mutex<Duration>>) {
        let now = Arc::new(parking_lot::Mutex::new(Duration::ZERO));
        let shown = Arc::clone(&now);
        (Self(Arc::new(move || *shown.lock())), now)
    }

    pub(crate) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}
