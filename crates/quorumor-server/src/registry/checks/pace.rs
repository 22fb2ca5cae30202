//! When a check comes next and what its outcomes amount to: thresholds, jitter, back-off. Pure; time and luck are arguments.

use std::time::Duration;

use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;
use quorumor_proto::request::parse_millis;

use super::probe;
use crate::config::CheckTargets;

/// How much longer the pauses of a check become that goes on failing, at most.
const BACK_OFF_MAX: u32 = 4;
/// The first check comes soon: within this, in milliseconds.
const FIRST_WITHIN_MS: u64 = 200;
/// Where a check names no interval, which no registration leaves out.
const INTERVAL_MS: u64 = 10_000;

/// The interval of a check, in milliseconds.
pub(crate) fn interval_ms(check: &pb::HealthCheck) -> u64 {
    parse_millis("interval", check.interval).unwrap_or(INTERVAL_MS)
}

/// What a check's outcomes amount to.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// So many failures in a row make it critical, so many successes passing again.
    failures: u32,
    successes: u32,
    failed: u32,
    succeeded: u32,
    /// What it amounts to; `None` before the first outcome.
    health: Option<InstanceHealth>,
}

impl Standing {
    pub(crate) const fn new(check: &pb::HealthCheck, health: Option<InstanceHealth>) -> Self {
        Self {
            failures: check.failures,
            successes: check.successes,
            failed: 0,
            succeeded: 0,
            health,
        }
    }

    /// Takes an outcome; what the check amounts to now. A first outcome counts at once; later ones once there were enough in a row.
    pub(crate) fn take(&mut self, outcome: InstanceHealth) -> InstanceHealth {
        let health = match outcome {
            InstanceHealth::Critical => {
                self.failed = self.failed.saturating_add(1);
                self.succeeded = 0;
                match self.health {
                    Some(health) if self.failed < self.failures => health,
                    Some(_) | None => InstanceHealth::Critical,
                }
            }
            InstanceHealth::Unspecified | InstanceHealth::Passing | InstanceHealth::Warning => {
                self.succeeded = self.succeeded.saturating_add(1);
                self.failed = 0;
                let was_critical = self.health == Some(InstanceHealth::Critical);
                if was_critical && self.succeeded < self.successes {
                    InstanceHealth::Critical
                } else {
                    outcome
                }
            }
        };
        self.health = Some(health);
        health
    }
}

/// The course of one check that asks over the network.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) check: pb::HealthCheck,
    interval_ms: u64,
    timeout: Duration,
    /// By the node's monotonic clock, in milliseconds.
    pub(crate) due_ms: u64,
    standing: Standing,
}

impl Course {
    /// A check that begins. `luck` is anything.
    pub(crate) fn new(
        check: pb::HealthCheck,
        health: Option<InstanceHealth>,
        now_ms: u64,
        luck: u64,
    ) -> Self {
        let timeout_ms = parse_millis("timeout", check.timeout).unwrap_or(INTERVAL_MS);
        Self {
            interval_ms: interval_ms(&check),
            timeout: Duration::from_millis(timeout_ms),
            due_ms: now_ms + luck % FIRST_WITHIN_MS,
            standing: Standing::new(&check, health),
            check,
        }
    }

    /// Carries the check out.
    pub(crate) async fn probe(
        &self,
        instance: &pb::Instance,
        targets: &CheckTargets,
    ) -> probe::Outcome {
        let asker = probe::Asker { instance, targets };
        asker.probe(&self.check, self.timeout).await
    }

    /// Takes an outcome; what the check amounts to now.
    pub(crate) fn take(
        &mut self,
        outcome: InstanceHealth,
        now_ms: u64,
        luck: u64,
    ) -> InstanceHealth {
        let health = self.standing.take(outcome);
        self.due_ms = now_ms + jittered(self.pause_ms(), luck);
        health
    }

    /// The longer it has failed beyond its threshold, the longer it pauses: a service that is down isn't helped by more questions.
    fn pause_ms(&self) -> u64 {
        let beyond = self.standing.failed.saturating_sub(self.check.failures);
        self.interval_ms * u64::from((1 + beyond / 2).min(BACK_OFF_MAX))
    }
}

/// A tenth more or less.
fn jittered(ms: u64, luck: u64) -> u64 {
    let tenth = ms / 10;
    ms - tenth + luck % (2 * tenth + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorumor_proto::receipt::millis;

    use super::*;

    const PASSING: InstanceHealth = InstanceHealth::Passing;
    const CRITICAL: InstanceHealth = InstanceHealth::Critical;

    fn course(failures: u32, successes: u32) -> Course {
        let check = pb::HealthCheck {
            interval: Some(millis(1_000)),
            timeout: Some(millis(500)),
            failures,
            successes,
            ..pb::HealthCheck::default()
        };
        Course::new(check, None, 0, 77)
    }

    #[test]
    fn thresholds_hold_both_ways() {
        let mut course = course(3, 2);
        let outcomes = [
            PASSING, CRITICAL, CRITICAL, CRITICAL, PASSING, CRITICAL, PASSING, PASSING,
        ];
        let healths = outcomes.map(|outcome| course.take(outcome, 0, 0));
        let expected = [
            PASSING, PASSING, PASSING, CRITICAL, CRITICAL, CRITICAL, CRITICAL, PASSING,
        ];
        assert_eq!(healths, expected);
    }

    #[test]
    fn a_first_failure_counts_at_once() {
        assert_eq!(course(3, 1).take(CRITICAL, 0, 0), CRITICAL);
    }

    #[test]
    fn who_goes_on_failing_is_asked_less_often_and_at_once_normally_again() {
        let mut course = course(1, 1);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            course.take(CRITICAL, 0, 100);
            pauses.push(course.due_ms);
        }
        assert_eq!(pauses.first(), Some(&1_000));
        assert!(pauses.is_sorted());
        assert!(
            pauses
                .last()
                .is_some_and(|pause| (3_600..=4_400).contains(pause))
        );
        course.take(PASSING, 0, 100);
        assert_eq!(course.due_ms, 1_000);
    }

    proptest! {
        #[test]
        fn jitter_is_a_tenth(ms in 1_u64..1_000_000, luck: u64) {
            let pause = jittered(ms, luck);
            prop_assert!(pause >= ms - ms / 10 && pause <= ms + ms / 10);
        }
    }
}
