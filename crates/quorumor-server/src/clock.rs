//! The clock of the real world, read here and nowhere else. The driver hands its readings to the replicas.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorumor_core::{Mono, Now};

use crate::fault::Faults;

/// A monotonic start, and how far the wall clock is pretended to be off.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    start: Instant,
    wall_skew_ms: i64,
    faults: Option<Arc<Faults>>,
}

impl Clock {
    pub(crate) fn new(wall_skew_ms: i64, faults: Option<Arc<Faults>>) -> Self {
        Self {
            start: Instant::now(),
            wall_skew_ms,
            faults,
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let (mono_us, off_ms) = match &self.faults {
            Some(faults) => faults.clocks(),
            None => (self.elapsed_us(), 0),
        };
        let skew_ms = self.wall_skew_ms.saturating_add(off_ms);
        Now {
            mono_us,
            wall_ms: wall_ms.saturating_add_signed(skew_ms),
        }
    }

    pub(crate) fn mono(&self) -> Mono {
        match &self.faults {
            Some(faults) => Mono(faults.clocks().0),
            None => Mono(self.elapsed_us()),
        }
    }

    /// When a monotonic instant is, for a timer.
    pub(crate) fn instant(&self, at: Mono) -> tokio::time::Instant {
        let at = match &self.faults {
            Some(faults) => faults.instant(at.0),
            None => self.start.checked_add(Duration::from_micros(at.0)),
        };
        // A deadline beyond what the clock can name is as good as none.
        at.unwrap_or_else(|| self.start + Duration::from_secs(86_400 * 365))
            .into()
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
