//! The hybrid logical clock (Kulkarni et al. 2014) that stamps this node's writes.
//!
//! It decides nothing: merges compare stored stamps only, so no local clock has a say in them.

use quorumor_core::Stamp;

/// How far a remote stamp may pull this clock ahead of the wall, in milliseconds. Causal context may pull it further.
const ADVANCE_MS_MAX: u64 = 500;

/// The last stamp given, or seen and accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hlc {
    last: Stamp,
}

impl Hlc {
    pub(crate) const fn last(self) -> Stamp {
        self.last
    }

    /// Goes on from a stamp that an earlier life gave.
    pub(crate) fn restore(&mut self, last: Stamp) {
        self.last = self.last.max(last);
    }

    /// A stamp above the wall clock, above every stamp given before and above `context`, cap or not.
    pub(crate) fn stamp(&mut self, wall_ms: u64, context: Stamp) -> Stamp {
        let floor = self.last.max(context).next();
        self.last = floor.max(from_wall(wall_ms));
        self.last
    }

    /// Follows a remote stamp, but not beyond the cap.
    pub(crate) fn observe(&mut self, wall_ms: u64, remote: Stamp) {
        let cap = from_wall(wall_ms.saturating_add(ADVANCE_MS_MAX));
        self.last = self.last.max(remote.min(cap));
    }
}

/// A wall clock that is absurdly far ahead must not wrap around in the 48 bits that a stamp has for it.
fn from_wall(wall_ms: u64) -> Stamp {
    Stamp::from_wall_ms(wall_ms.min((1 << 48) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_when_the_wall_clock_goes_back() {
        let mut clock = Hlc::default();
        let first = clock.stamp(10_000, Stamp::default());
        let second = clock.stamp(1_000, Stamp::default());
        assert!(second > first);
    }

    #[test]
    fn a_put_exceeds_its_context_beyond_the_cap() {
        let mut clock = Hlc::default();
        let ahead = Stamp::from_wall_ms(10_000_000);
        assert!(clock.stamp(1_000, ahead) > ahead);
    }

    #[test]
    fn passive_advance_stops_at_the_cap() {
        let mut clock = Hlc::default();
        clock.observe(1_000, Stamp::from_wall_ms(10_000_000));
        assert_eq!(clock.last(), Stamp::from_wall_ms(1_500));
        clock.observe(1_000, Stamp::from_wall_ms(1_200));
        assert_eq!(clock.last(), Stamp::from_wall_ms(1_500));
    }
}
