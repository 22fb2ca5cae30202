//! The clock of the real world, read here and nowhere else. The driver hands its readings to the replicas.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorumor_core::{Mono, Now};

/// A monotonic start, and how far the wall clock is pretended to be off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall_skew_ms: i64,
}

impl Clock {
    pub(crate) fn new(wall_skew_ms: i64) -> Self {
        Self {
            start: Instant::now(),
            wall_skew_ms,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Now {
            mono_us: self.mono().0,
            wall_ms: wall_ms.saturating_add_signed(self.wall_skew_ms),
        }
    }

    pub(crate) fn mono(&self) -> Mono {
        Mono(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// When a monotonic instant is, for a timer.
    pub(crate) fn instant(&self, at: Mono) -> tokio::time::Instant {
        let at = self.start.checked_add(Duration::from_micros(at.0));
        // A deadline beyond what the clock can name is as good as none.
        at.unwrap_or_else(|| self.start + Duration::from_secs(86_400 * 365))
            .into()
    }
}
