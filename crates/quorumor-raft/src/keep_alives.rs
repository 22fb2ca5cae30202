//! Keep-alives that wait: a lane of their own, which no load of writes fills or holds up.
//!
//! All that wait go together in one entry, proposed before anything else; one round is under way at a time. They may be
//! repeated without harm, so where a write would have to be answered as unknown they are just asked again.

use std::collections::BTreeMap;

use quorumor_core::{CallId, Error, LeaseId, Mono, Reply};

/// Keep-alives that wait at one node: as many as fit one entry.
pub(crate) const KEEP_ALIVES_MAX: usize = 65_536;

/// Leases with whom to answer.
type Waiters = BTreeMap<LeaseId, Vec<CallId>>;

#[derive(Debug)]
struct Round {
    counter: u64,
    asked_at: Mono,
    waiters: Waiters,
}

/// All keep-alives of one node.
#[derive(Debug, Default)]
pub(crate) struct KeepAlives {
    waiting: Waiters,
    round: Option<Round>,
    calls: BTreeMap<CallId, LeaseId>,
    /// Not before this, after a round that was refused.
    retry_at: Mono,
}

impl KeepAlives {
    /// Whether another can't wait.
    pub(crate) fn is_full(&self) -> bool {
        self.calls.len() >= KEEP_ALIVES_MAX
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// One begins to wait.
    pub(crate) fn wait(&mut self, call: CallId, lease: LeaseId) {
        self.calls.insert(call, lease);
        self.waiting.entry(lease).or_default().push(call);
    }

    /// Whether a round can begin.
    pub(crate) fn is_ready(&self, now: Mono) -> bool {
        self.round.is_none() && !self.waiting.is_empty() && now >= self.retry_at
    }

    /// Begins a round; gives its leases.
    pub(crate) fn begin(&mut self, counter: u64, now: Mono) -> Vec<LeaseId> {
        let waiters = std::mem::take(&mut self.waiting);
        let leases = waiters.keys().copied().collect();
        self.round = Some(Round {
            counter,
            asked_at: now,
            waiters,
        });
        leases
    }

    /// Whether this is the number of the round under way.
    pub(crate) fn is_round(&self, counter: u64) -> bool {
        self.round
            .as_ref()
            .is_some_and(|round| round.counter == counter)
    }

    /// A round was applied; gives the answers, if it is the one under way.
    pub(crate) fn finish(
        &mut self,
        counter: u64,
        kept: &[(LeaseId, Option<u64>)],
    ) -> Vec<(CallId, Result<Reply, Error>)> {
        let Some(mut round) = self.round.take_if(|round| round.counter == counter) else {
            return Vec::new();
        };
        let mut answers = Vec::new();
        for (lease, ttl_ms) in kept {
            for call in round.waiters.remove(lease).unwrap_or_default() {
                self.calls.remove(&call);
                let answer = ttl_ms.map_or(Err(Error::LeaseNotFound { lease: *lease }), |ttl_ms| {
                    Ok(Reply::LeaseKept { ttl_ms })
                });
                answers.push((call, answer));
            }
        }
        answers
    }

    /// Gives the round up: who waits for it shares the next one.
    pub(crate) fn ask_again(&mut self) {
        if let Some(round) = self.round.take() {
            for (lease, calls) in round.waiters {
                self.waiting.entry(lease).or_default().extend(calls);
            }
        }
        self.retry_at = Mono::default();
    }

    /// As [`Self::ask_again`], but not before some time.
    pub(crate) fn ask_again_at(&mut self, at: Mono) {
        self.ask_again();
        self.retry_at = at;
    }

    /// As [`Self::ask_again`], if the round is older than this.
    pub(crate) fn ask_again_after(&mut self, now: Mono, patience_us: u64) {
        let asked_at = self.round.as_ref().map(|round| round.asked_at);
        if asked_at.is_some_and(|asked_at| now.since_us(asked_at) >= patience_us) {
            self.ask_again();
        }
    }

    /// Everyone who waits.
    pub(crate) fn take_all(&mut self) -> Vec<CallId> {
        self.waiting.clear();
        self.round = None;
        std::mem::take(&mut self.calls).into_keys().collect()
    }

    /// The caller has gone.
    pub(crate) fn cancel(&mut self, call: CallId) {
        let Some(lease) = self.calls.remove(&call) else {
            return;
        };
        let round = self.round.as_mut().map(|round| &mut round.waiters);
        for waiters in [Some(&mut self.waiting), round].into_iter().flatten() {
            if let Some(calls) = waiters.get_mut(&lease) {
                calls.retain(|other| *other != call);
                if calls.is_empty() {
                    waiters.remove(&lease);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_holds_all_that_wait_and_is_answered_by_its_own_number_only() {
        let mut lane = KeepAlives::default();
        let (a, b) = (LeaseId::new(1), LeaseId::new(2));
        for (call, lease) in [(1, a), (2, b), (3, a)] {
            lane.wait(CallId::new(call), lease);
        }
        assert_eq!(lane.begin(7, Mono(0)), [a, b]);
        lane.wait(CallId::new(4), b);
        assert!(!lane.is_ready(Mono(0)), "one round at a time");
        assert!(lane.finish(6, &[(a, Some(5))]).is_empty());
        lane.cancel(CallId::new(3));
        let answers = lane.finish(7, &[(a, Some(5)), (b, None)]);
        let kept = Ok(Reply::LeaseKept { ttl_ms: 5 });
        let gone = Err(Error::LeaseNotFound { lease: b });
        assert_eq!(answers, [(CallId::new(1), kept), (CallId::new(2), gone)]);
        assert_eq!(lane.begin(8, Mono(0)), [b]);
        lane.ask_again_at(Mono(100));
        assert!(!lane.is_ready(Mono(99)) && lane.is_ready(Mono(100)));
        assert_eq!(lane.take_all(), [CallId::new(4)]);
        assert!(!lane.is_ready(Mono(100)));
    }
}
