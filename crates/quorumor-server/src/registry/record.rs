//! How an instance stands by one side's word: its node's checks, or its own. When it went to and fro too often lately, it is held
//! critical until it has been steady for a while; that is told from the record and the clock alone.

use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;

/// What is looked back at for changes.
const WINDOW_MS: u64 = 5 * 60 * 1_000;
/// So many changes within the window are flapping: three times down and up again.
const FLAPPING_CHANGES: usize = 6;
/// How long a flapping instance must be steady.
const STEADY_MS: u64 = 60 * 1_000;
/// Changes that are remembered.
const CHANGES_MAX: usize = 32;

/// What one side says.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Record {
    /// By check.
    #[prost(message, repeated, tag = "1")]
    pub(crate) checks: Vec<pb::CheckResult>,
    /// The node that says so.
    #[prost(uint64, tag = "2")]
    pub(crate) said_by: u64,
    /// When its health changed lately, by that node's wall clock, oldest first.
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) changed_ms: Vec<u64>,
    /// When it was last told: a write of its own for each sign of life, where somebody waits for them.
    #[prost(uint64, tag = "4")]
    pub(crate) told_ms: u64,
    /// Whether it was flapping when it was told.
    #[prost(bool, tag = "5")]
    pub(crate) flapping: bool,
}

/// How bad it is.
pub(crate) const fn badness(health: InstanceHealth) -> u8 {
    match health {
        InstanceHealth::Unspecified | InstanceHealth::Passing => 0,
        InstanceHealth::Warning => 1,
        InstanceHealth::Critical => 2,
    }
}

/// The worst of some.
pub(crate) fn worst(healths: impl Iterator<Item = InstanceHealth>) -> InstanceHealth {
    healths
        .max_by_key(|health| badness(*health))
        .unwrap_or(InstanceHealth::Passing)
}

/// The seconds that a timestamp may hold: from the beginning of the year 1 to the end of the year 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A wall clock's reading, for the wire. One beyond the year 9999 is its end.
pub(crate) fn timestamp(ms: u64) -> prost_types::Timestamp {
    let ms = ms.min(SECONDS.end().unsigned_abs() * 1_000);
    prost_types::Timestamp {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000,
    }
}

impl Record {
    /// Drops the times of a record in the shared state that no encoding can show: whoever may write its key may have written any.
    pub(crate) fn tame(&mut self) {
        for check in &mut self.checks {
            let fits = |time: &prost_types::Timestamp| {
                SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
            };
            check.since_time = check.since_time.filter(fits);
        }
    }

    /// The worst of what it says, before damping.
    pub(crate) fn health(&self) -> InstanceHealth {
        worst(self.checks.iter().map(pb::CheckResult::health))
    }

    /// Takes the news of one check; whether anything that others see changed.
    pub(crate) fn tell(
        &mut self,
        check: &str,
        health: InstanceHealth,
        output: &str,
        now_ms: u64,
    ) -> bool {
        let before = self.health();
        let known = self.checks.iter_mut().find(|known| known.check_id == check);
        let changed = match known {
            Some(known) if known.health() == health => {
                let changed = known.output != output;
                output.clone_into(&mut known.output);
                changed
            }
            Some(known) => {
                known.set_health(health);
                output.clone_into(&mut known.output);
                known.since_time = Some(timestamp(now_ms));
                true
            }
            None => {
                self.checks.push(pb::CheckResult {
                    check_id: check.to_owned(),
                    health: health.into(),
                    output: output.to_owned(),
                    since_time: Some(timestamp(now_ms)),
                });
                true
            }
        };
        // The first word is no change of mind.
        if self.told_ms > 0 && self.health() != before {
            self.changed_ms.push(now_ms);
            let from = self.changed_ms.len().saturating_sub(CHANGES_MAX);
            self.changed_ms.drain(..from);
        }
        self.told_ms = now_ms;
        let flapping = self.is_flapping(now_ms);
        let damped = std::mem::replace(&mut self.flapping, flapping) != flapping;
        changed || damped
    }

    /// Whether it went to and fro too often lately, and hasn't been steady since.
    pub(crate) fn is_flapping(&self, now_ms: u64) -> bool {
        let (Some(last), Some(first)) = (
            self.changed_ms.last(),
            self.changed_ms.iter().rev().nth(FLAPPING_CHANGES - 1),
        ) else {
            return false;
        };
        last.saturating_sub(*first) <= WINDOW_MS && now_ms < last.saturating_add(STEADY_MS)
    }

    /// Changes within the window.
    pub(crate) fn recent_changes(&self, now_ms: u64) -> usize {
        let from = now_ms.saturating_sub(WINDOW_MS);
        self.changed_ms.iter().filter(|at| **at >= from).count()
    }

    /// Since when it stands as it does.
    pub(crate) fn since_ms(&self) -> u64 {
        let changed = self.changed_ms.last().copied();
        changed.unwrap_or(self.told_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSING: InstanceHealth = InstanceHealth::Passing;
    const CRITICAL: InstanceHealth = InstanceHealth::Critical;

    #[test]
    fn only_news_counts_as_a_change() {
        let mut record = Record::default();
        assert!(record.tell("a", PASSING, "", 10));
        assert!(!record.tell("a", PASSING, "", 20));
        assert!(record.tell("a", PASSING, "slow", 30));
        assert_eq!(record.recent_changes(30), 0);
        assert!(record.tell("a", CRITICAL, "gone", 40));
        assert_eq!((record.health(), record.since_ms()), (CRITICAL, 40));
        assert!(record.tell("b", InstanceHealth::Warning, "", 50));
        assert_eq!(record.health(), CRITICAL);
        assert!(record.tell("a", PASSING, "", 60));
        assert_eq!(record.health(), InstanceHealth::Warning);
    }

    fn to_and_fro(times: u64, step_ms: u64) -> (Record, u64) {
        let mut record = Record::default();
        let mut now = 1_000;
        for turn in 0..=times {
            now += step_ms;
            let health = if turn % 2 == 0 { PASSING } else { CRITICAL };
            record.tell("a", health, "", now);
        }
        (record, now)
    }

    #[test]
    fn who_goes_to_and_fro_is_flapping_until_it_has_been_steady() {
        let (record, now) = to_and_fro(5, 1_000);
        assert!(!record.is_flapping(now));
        let (mut record, now) = to_and_fro(6, 1_000);
        assert!(record.is_flapping(now) && record.flapping);
        assert!(record.is_flapping(now + STEADY_MS - 1));
        assert!(!record.is_flapping(now + STEADY_MS));
        // The end of it is news.
        assert!(!record.tell("a", PASSING, "", now + 1));
        assert!(record.tell("a", PASSING, "", now + STEADY_MS));
    }

    #[test]
    fn whatever_times_were_written_can_be_shown() {
        let (last, good) = (*SECONDS.end(), timestamp(5));
        assert_eq!(timestamp(u64::MAX).seconds, last);
        assert_eq!(timestamp(1_500).nanos, 500_000_000);
        let odd = [(last + 1, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)];
        let odd = odd.map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos });
        let check = |since| pb::CheckResult {
            since_time: Some(since),
            ..pb::CheckResult::default()
        };
        let mut record = Record {
            checks: odd.into_iter().chain([good]).map(check).collect(),
            ..Record::default()
        };
        record.tame();
        let times: Vec<_> = record.checks.iter().map(|it| it.since_time).collect();
        assert_eq!(times, [None, None, None, None, Some(good)]);
    }

    #[test]
    fn slow_changes_are_not_flapping() {
        let (record, now) = to_and_fro(12, WINDOW_MS / 4);
        assert!(!record.is_flapping(now));
        assert!(record.changed_ms.len() <= CHANGES_MAX);
    }
}
