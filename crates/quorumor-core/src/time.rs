//! Time as an argument.

use std::fmt;

/// The two clocks as the shell, or the simulator, reads them at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of a clock that never goes back, from an arbitrary start. All timers use this one.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch. May jump. Only stamps, generations and log ids use this one.
    pub wall_ms: u64,
}

impl Now {
    /// The monotonic part.
    #[must_use]
    pub const fn mono(self) -> Mono {
        Mono(self.mono_us)
    }
}

/// An instant of the monotonic clock, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and so many microseconds more.
    #[must_use]
    pub const fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// This instant and so many milliseconds more.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        self.after_us(ms.saturating_mul(1_000))
    }

    /// Microseconds since an earlier instant; 0 if it isn't earlier.
    #[must_use]
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Log time: milliseconds that leaders counted on their monotonic clocks and carried in entries, since the data began. The
/// same on every node at the same place of the log, never behind what was committed before, and it stands still while there
/// is no leader. Leases and sessions live by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub u64);

impl LogTime {
    /// This time and so many milliseconds more.
    #[must_use]
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since an earlier time; 0 if it isn't earlier.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

impl fmt::Display for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}
