//! What faults do to a directed link: each on its own, and all of them together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::Weather;

/// What one fault does to a link; the default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Nothing passes: datagrams are discarded, streams stand still.
    pub cut: bool,
    /// Everything arrives this much later; streams keep their order.
    pub delay: Duration,
    /// Up to so much more, at random.
    pub jitter: Duration,
    /// How many of a million datagrams are lost. Streams are not touched.
    pub loss_ppm: u32,
    /// How many of a million datagrams arrive twice.
    pub duplicate_ppm: u32,
    /// How many of a million datagrams are held so that later ones overtake them.
    pub reorder_ppm: u32,
}

/// All of them.
const MILLION: u32 = 1_000_000;

impl Trouble {
    /// Nothing passes.
    pub const CUT: Self = Self {
        cut: true,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
    };

    /// Both at once: delays add up, and a datagram must survive each.
    fn and(self, other: Self) -> Self {
        Self {
            cut: self.cut || other.cut,
            delay: self.delay + other.delay,
            jitter: self.jitter + other.jitter,
            loss_ppm: either(self.loss_ppm, other.loss_ppm),
            duplicate_ppm: either(self.duplicate_ppm, other.duplicate_ppm),
            reorder_ppm: either(self.reorder_ppm, other.reorder_ppm),
        }
    }
}

/// The chance that at least one of two independent things happens.
fn either(a: u32, b: u32) -> u32 {
    let (a, b) = (a.min(MILLION), b.min(MILLION));
    let neither = u64::from(MILLION - a) * u64::from(MILLION - b) / u64::from(MILLION);
    MILLION - u32::try_from(neither).unwrap_or(MILLION)
}

impl From<Weather> for Trouble {
    fn from(weather: Weather) -> Self {
        let ppm = |percent: u32| percent.min(100) * (MILLION / 100);
        Self {
            cut: false,
            delay: Duration::from_micros(weather.delay.0),
            jitter: Duration::from_micros(weather.jitter.0),
            loss_ppm: ppm(weather.loss_percent),
            duplicate_ppm: ppm(weather.duplicate_percent),
            reorder_ppm: ppm(weather.reorder_percent),
        }
    }
}

/// The faults that a link suffers from right now, by their place in the schedule, so that the end of one leaves the others.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    by_fault: BTreeMap<u32, Trouble>,
    all: Trouble,
}

impl Troubles {
    /// This fault does this from now on, in place of what it did before.
    pub(super) fn begin(&mut self, fault: u32, trouble: Trouble) {
        self.by_fault.insert(fault, trouble);
        self.sum_up();
    }

    /// This fault does nothing any more.
    pub(super) fn end(&mut self, fault: u32) {
        self.by_fault.remove(&fault);
        self.sum_up();
    }

    /// All of them together.
    pub(super) const fn all(&self) -> Trouble {
        self.all
    }

    fn sum_up(&mut self) {
        let troubles = self.by_fault.values();
        self.all = troubles.fold(Trouble::default(), |sum, &trouble| sum.and(trouble));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Micros;

    #[test]
    fn the_end_of_one_fault_leaves_the_others_in_force() {
        let slow = Trouble {
            delay: Duration::from_millis(30),
            loss_ppm: 500_000,
            ..Trouble::default()
        };
        let mut troubles = Troubles::default();
        troubles.begin(0, Trouble::CUT);
        troubles.begin(1, Trouble::CUT);
        troubles.begin(2, slow);
        troubles.begin(3, slow);
        troubles.end(0);
        assert!(troubles.all().cut, "fault 1 still cuts");
        troubles.end(1);
        let all = troubles.all();
        assert_eq!((all.cut, all.delay), (false, Duration::from_millis(60)));
        assert_eq!(all.loss_ppm, 750_000, "each lets half of them pass");
        troubles.end(3);
        assert_eq!(troubles.all(), slow);
        troubles.end(2);
        assert_eq!(troubles.all(), Trouble::default());
    }

    #[test]
    fn weather_is_read_in_millionths_and_never_above_all() {
        let weather = Weather {
            delay: Micros::millis(75),
            jitter: Micros::millis(50),
            loss_percent: 30,
            duplicate_percent: 200,
            reorder_percent: 0,
        };
        let trouble = Trouble::from(weather);
        assert_eq!(
            (trouble.delay, trouble.jitter),
            (Duration::from_millis(75), Duration::from_millis(50))
        );
        assert_eq!(
            (trouble.loss_ppm, trouble.duplicate_ppm, trouble.reorder_ppm),
            (300_000, 1_000_000, 0)
        );
    }
}
