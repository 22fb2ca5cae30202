//! The checks that wait for an instance's own word. A word counts when it comes, wherever it was given; silence does once it has
//! lasted for the check's interval, from the registration or from the last word on. Nobody is asked, so nothing backs off.

use std::convert::Infallible;
use std::time::Duration;

use quorumor_core::{Key, KeyRange};
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;

use super::findings::Findings;
use super::pace::{Standing, interval_ms};
use super::{LOOK_MS_MAX, PAUSE_MS_MIN, Seen, now_ms};
use crate::handle::Handle;
use crate::registry::instance::awaits;
use crate::registry::naming::Part;
use crate::registry::record::Record;
use crate::watch::Subscription;

/// What a word may be late on its way beyond the interval: a part of it, and no less than this.
const GRACE_PARTS: u64 = 10;
const GRACE_MS_MIN: u64 = 250;
/// More than all that waits in a mailbox.
const EVERYTHING: usize = usize::MAX;

/// The checks of one instance that wait for its word.
pub(super) struct Words {
    awaited: Vec<Awaited>,
    /// The last word that was seen.
    last: Option<pb::Version>,
    told: Key,
    /// Tells of the next one. `None` if nobody waits.
    bell: Option<Subscription>,
}

/// One check.
struct Awaited {
    check_id: String,
    interval_ms: u64,
    /// When silence counts, by the node's monotonic clock.
    due_ms: u64,
    standing: Standing,
}

impl Awaited {
    const fn silent_until_ms(&self, now_ms: u64) -> u64 {
        let part = self.interval_ms / GRACE_PARTS;
        let grace = if part > GRACE_MS_MIN {
            part
        } else {
            GRACE_MS_MIN
        };
        now_ms + self.interval_ms + grace
    }

    /// What a word, or the lack of one, comes to; `None` while there is nothing to say.
    fn outcome(
        &mut self,
        word: Option<InstanceHealth>,
        now_ms: u64,
    ) -> Option<(InstanceHealth, String)> {
        if word.is_none() && now_ms < self.due_ms {
            return None;
        }
        self.due_ms = self.silent_until_ms(now_ms);
        // The same words for the same silence, however long: they aren't news each time.
        let output = match word {
            Some(_) => "it gives signs of life".to_owned(),
            None => format!("no sign of life within {} ms", self.interval_ms),
        };
        let outcome = word.unwrap_or(InstanceHealth::Critical);
        Some((self.standing.take(outcome), output))
    }
}

impl Words {
    pub(super) fn new(handle: &Handle, seen: &Seen, findings: &Findings) -> Self {
        let (now, found) = (now_ms(handle), &seen.found);
        let awaited = |check: &pb::HealthCheck| {
            // A registration that says how it is counts until silence does.
            let said = match found.stored.initial() {
                InstanceHealth::Unspecified => None,
                said @ (InstanceHealth::Passing
                | InstanceHealth::Warning
                | InstanceHealth::Critical) => Some(said),
            };
            let mut awaited = Awaited {
                check_id: check.check_id.clone(),
                interval_ms: interval_ms(check),
                due_ms: 0,
                standing: Standing::new(check, findings.of(&check.check_id).or(said)),
            };
            awaited.due_ms = awaited.silent_until_ms(now);
            awaited
        };
        let checks = found.instance.checks.iter();
        let awaited: Vec<Awaited> = checks.filter(|it| awaits(it)).map(awaited).collect();
        let told = found.name.key(Part::Told);
        // When this node starts it finds a word that it judged in its life before.
        let told_ms = found.told.as_ref().map_or(0, |told| told.told_ms);
        let judged = told_ms <= findings.record.told_ms;
        Self {
            bell: (!awaited.is_empty()).then(|| listen(handle, &told)),
            awaited,
            last: seen.word.clone().filter(|_| judged),
            told,
        }
    }

    /// When silence counts next.
    pub(super) fn due_ms(&self) -> u64 {
        let due = self.awaited.iter().map(|check| check.due_ms).min();
        due.unwrap_or(u64::MAX)
    }

    /// Takes in a word that is new, or a silence that has lasted; whether there was anything to judge.
    pub(super) fn judge(&mut self, handle: &Handle, seen: &Seen, findings: &mut Findings) -> bool {
        let is_new = seen.word.is_some() && seen.word != self.last;
        self.last.clone_from(&seen.word);
        let told = seen.found.told.as_ref().filter(|_| is_new);
        let word = told.map(Record::health);
        let now = now_ms(handle);
        let mut judged = false;
        for check in &mut self.awaited {
            if let Some((health, output)) = check.outcome(word, now) {
                findings.tell(handle, &check.check_id, health, &output);
                judged = true;
            }
        }
        judged
    }

    /// Judges what comes, while its task is busy otherwise.
    pub(super) async fn go_on(
        &mut self,
        handle: &Handle,
        seen: &Seen,
        findings: &mut Findings,
    ) -> Infallible {
        loop {
            let silent_ms = self.due_ms().saturating_sub(now_ms(handle));
            let pause = Duration::from_millis(silent_ms.clamp(PAUSE_MS_MIN, LOOK_MS_MAX));
            tokio::select! {
                () = self.heard(handle) => {}
                () = tokio::time::sleep(pause) => {}
            }
            let now = Seen::of(handle, &seen.found.name);
            let same = now.filter(|now| now.found.version == seen.found.version);
            if let Some(now) = same
                && self.judge(handle, &now, findings)
            {
                findings.write(handle, &now.found).await;
            }
        }
    }

    /// Resolves when there may be a new word; never if nobody waits for one.
    pub(super) async fn heard(&mut self, handle: &Handle) {
        let Some(bell) = &self.bell else {
            return std::future::pending().await;
        };
        bell.ready().await;
        // What it says is looked up in the view. A bell that lost something rings no more.
        if bell.take(EVERYTHING).is_err() {
            self.bell = Some(listen(handle, &self.told));
        }
    }
}

/// The changes of one key.
fn listen(handle: &Handle, key: &Key) -> Subscription {
    let next = format!("{key}\u{1}");
    let range = KeyRange::between(key.as_str(), Some(&next)).expect("a name leaves a key room");
    handle.hub().join(range)
}

#[cfg(test)]
mod tests {
    use quorumor_proto::receipt::millis;

    use super::*;

    const PASSING: InstanceHealth = InstanceHealth::Passing;
    const CRITICAL: InstanceHealth = InstanceHealth::Critical;

    fn awaited(failures: u32, successes: u32, health: Option<InstanceHealth>) -> Awaited {
        let check = pb::HealthCheck {
            interval: Some(millis(1_000)),
            failures,
            successes,
            ..pb::HealthCheck::default()
        };
        let mut awaited = Awaited {
            check_id: "word".to_owned(),
            interval_ms: interval_ms(&check),
            due_ms: 0,
            standing: Standing::new(&check, health),
        };
        awaited.due_ms = awaited.silent_until_ms(0);
        awaited
    }

    fn health(
        check: &mut Awaited,
        word: Option<InstanceHealth>,
        now: u64,
    ) -> Option<InstanceHealth> {
        check.outcome(word, now).map(|(health, _)| health)
    }

    #[test]
    fn silence_counts_after_the_interval_and_no_later_however_long_it_lasted() {
        let mut check = awaited(1, 1, Some(PASSING));
        assert_eq!(health(&mut check, None, 1_249), None);
        assert_eq!(health(&mut check, None, 1_250), Some(CRITICAL));
        let mut now = 1_250;
        for _ in 0..10 {
            assert_eq!(health(&mut check, None, now + 1_249), None);
            now += 1_250;
            assert_eq!(health(&mut check, None, now), Some(CRITICAL));
        }
        // The word that ends it counts at once, and the next silence from there on.
        assert_eq!(health(&mut check, Some(PASSING), now + 1), Some(PASSING));
        assert_eq!(health(&mut check, None, now + 1_250), None);
        assert_eq!(health(&mut check, None, now + 1_251), Some(CRITICAL));
    }

    #[test]
    fn a_word_counts_when_it_comes() {
        let mut check = awaited(1, 1, None);
        for (word, now) in [(PASSING, 3), (CRITICAL, 4), (PASSING, 5)] {
            assert_eq!(health(&mut check, Some(word), now), Some(word));
        }
    }

    #[test]
    fn thresholds_hold_for_words_and_for_silence() {
        let mut check = awaited(2, 2, Some(PASSING));
        assert_eq!(health(&mut check, None, 1_250), Some(PASSING));
        assert_eq!(health(&mut check, None, 2_500), Some(CRITICAL));
        assert_eq!(health(&mut check, Some(PASSING), 2_600), Some(CRITICAL));
        assert_eq!(health(&mut check, Some(PASSING), 2_700), Some(PASSING));
    }
}
