//! A process's monotonic clock, which begins with the process and may run too fast or too slow.

const MILLION: i128 = 1_000_000;

/// A clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started_us: u64,
    /// Since when it runs at its rate.
    since_us: u64,
    /// What it said then.
    mono_us: u64,
    /// How much too fast it runs, in millionths.
    rate_ppm: i64,
}

impl Clock {
    /// The clock of a process that starts now. It begins at 1.
    pub(super) const fn start(now_us: u64, rate_ppm: i64) -> Self {
        Self {
            started_us: now_us,
            since_us: now_us,
            mono_us: 1,
            rate_ppm,
        }
    }

    /// What it says.
    pub(super) fn mono_us(&self, now_us: u64) -> u64 {
        let passed = i128::from(now_us - self.since_us);
        self.mono_us + (passed * (MILLION + i128::from(self.rate_ppm)) / MILLION) as u64
    }

    /// The first virtual time at which it says this or more.
    pub(super) fn when_us(&self, mono_us: u64) -> u64 {
        let left = i128::from(mono_us.saturating_sub(self.mono_us)) * MILLION;
        let rate = MILLION + i128::from(self.rate_ppm);
        self.since_us + ((left + rate - 1) / rate) as u64
    }

    /// From now on it runs at this rate.
    pub(super) fn set_rate(&mut self, now_us: u64, rate_ppm: i64) {
        self.mono_us = self.mono_us(now_us);
        self.since_us = now_us;
        self.rate_ppm = rate_ppm;
    }

    /// How far it has run ahead since its start, in microseconds.
    pub(super) fn ahead_us(&self, now_us: u64) -> i64 {
        self.mono_us(now_us) as i64 - 1 - (now_us - self.started_us) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_keeps_its_rate_and_its_deadlines_through_changes() {
        let mut clock = Clock::start(5_000_000, 0);
        assert_eq!(
            (clock.mono_us(6_000_000), clock.when_us(1_000_001)),
            (1_000_001, 6_000_000)
        );
        clock.set_rate(6_000_000, 10_000);
        assert_eq!(clock.mono_us(7_000_000), 2_010_001);
        assert_eq!(clock.ahead_us(7_000_000), 10_000);
        for mono in [1_000_001, 1_000_002, 2_010_001, 3_333_333] {
            let at = clock.when_us(mono);
            assert!(clock.mono_us(at) >= mono && (at == 6_000_000 || clock.mono_us(at - 1) < mono));
        }
        clock.set_rate(7_000_000, -10_000);
        assert_eq!(clock.mono_us(8_000_000), 3_000_001);
    }
}
