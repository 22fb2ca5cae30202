//! Log time as this node knows it: the newest that it has seen in its log, and what its own monotonic clock counted since.
//!
//! It never goes faster than real time and never ahead of the leader's. It stands still without a leader, so that no lease
//! runs out while nobody could have renewed it; and one step is no longer than an election timeout, so that a process that
//! was stopped doesn't wake up to find every lease expired (etcd #15247). No wall clock is asked anywhere.

use quorumor_core::{LogTime, Mono};
use raft::eraftpb::{Entry, EntryType};

use crate::codec::proposal::decode_time;

/// This node's log time.
#[derive(Debug)]
pub(crate) struct LogClock {
    time_us: u64,
    at: Mono,
    step_max_us: u64,
    pace: Pace,
    /// The newest time that an entry carried.
    told_us: u64,
}

/// How time goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It doesn't: nobody leads, or the leader can't write.
    Still,
    /// Another node leads. While anything lives by log time, its entries carry it every second; if none comes, time may well
    /// stand still there, and this node counts no further than [`AHEAD_US`] and a step.
    Following,
    /// This node leads a majority and can write.
    Leading,
}

/// How far a follower counts beyond what it was told, beside one step: one tick of the leader's upkeep.
const AHEAD_US: u64 = 1_000_000;

impl LogClock {
    /// A clock that goes on from the newest log time known.
    pub(crate) const fn new(time: LogTime, at: Mono, step_max_us: u64) -> Self {
        let time_us = time.0.saturating_mul(1_000);
        Self {
            time_us,
            at,
            step_max_us,
            pace: Pace::Still,
            told_us: time_us,
        }
    }

    /// A clock that goes on from the newest log time of a state and of the log after it.
    pub(crate) fn recovered<'a>(
        time: LogTime,
        entries: impl IntoIterator<Item = &'a Entry>,
        at: Mono,
        step_max_us: u64,
    ) -> Self {
        let mut clock = Self::new(time, at, step_max_us);
        clock.observe_all(entries);
        clock
    }

    /// Counts the time since the last call, if it counts.
    pub(crate) fn advance(&mut self, now: Mono) {
        let step = now.since_us(self.at).min(self.step_max_us);
        self.at = now;
        let next = self.time_us.saturating_add(step);
        self.time_us = match self.pace {
            Pace::Still => self.time_us,
            Pace::Following => {
                let ahead = AHEAD_US.saturating_add(self.step_max_us);
                next.min(self.told_us.saturating_add(ahead).max(self.time_us))
            }
            Pace::Leading => next,
        };
    }

    /// How time goes on from now.
    pub(crate) const fn go(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Some entry carries this time, so it has come.
    pub(crate) const fn observe(&mut self, time: LogTime) {
        let time_us = time.0.saturating_mul(1_000);
        if time_us > self.time_us {
            self.time_us = time_us;
        }
        if time_us > self.told_us {
            self.told_us = time_us;
        }
    }

    /// The leader's word, to go on from: also back, if this node's own count was ahead of it (the leader stood still, or an
    /// earlier one's entries were replaced). A node that kept its own count and led next would end leases before their time.
    pub(crate) fn follow(&mut self, entries: &[Entry]) {
        for time in times(entries) {
            self.time_us = time.0.saturating_mul(1_000);
            self.told_us = self.time_us;
        }
    }

    /// As [`Self::observe`], for entries of a log.
    pub(crate) fn observe_all<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        for time in times(entries) {
            self.observe(time);
        }
    }

    /// The time.
    pub(crate) const fn now(&self) -> LogTime {
        LogTime(self.time_us / 1_000)
    }
}

/// The times that entries carry, in their order.
fn times<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> impl Iterator<Item = LogTime> {
    let carries = |entry: &&Entry| {
        !entry.context.is_empty() && entry.get_entry_type() == EntryType::EntryNormal
    };
    let entries = entries.into_iter().filter(carries);
    entries.filter_map(|entry| decode_time(&entry.context).ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_only_while_it_runs_and_no_long_step() {
        let mut clock = LogClock::new(LogTime(500), Mono(0), 1_000_000);
        clock.advance(Mono(700_000));
        assert_eq!(clock.now(), LogTime(500));
        clock.go(Pace::Leading);
        clock.advance(Mono(900_000));
        assert_eq!(clock.now(), LogTime(700));
        clock.advance(Mono(60_000_000));
        assert_eq!(clock.now(), LogTime(1_700), "a pause of a minute");
        clock.observe(LogTime(1_000));
        assert_eq!(clock.now(), LogTime(1_700), "it never goes back");
        clock.observe(LogTime(2_000));
        clock.advance(Mono(60_100_000));
        assert_eq!(clock.now(), LogTime(2_100));
    }

    #[test]
    fn a_follower_goes_on_from_its_leaders_count_and_not_from_its_own() {
        let entry = |ms| Entry {
            context: crate::codec::proposal::encode_time(LogTime(ms)),
            ..Entry::default()
        };
        let mut clock = LogClock::new(LogTime(0), Mono(0), 1_000_000);
        clock.go(Pace::Following);
        clock.advance(Mono(900_000));
        clock.follow(&[entry(100), entry(200)]);
        assert_eq!(clock.now(), LogTime(200), "the leader stood still");
        clock.advance(Mono(1_000_000));
        clock.observe_all(&[entry(250)]);
        assert_eq!(clock.now(), LogTime(300));
        for second in 2..60 {
            clock.advance(Mono(second * 1_000_000));
        }
        assert_eq!(
            clock.now(),
            LogTime(2_250),
            "no word of the leader's for a minute"
        );
    }
}
