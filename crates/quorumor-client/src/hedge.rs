//! Hedged reads: when an endpoint is slow to answer, another one is asked too, and the first good answer counts (Dean and Barroso,
//! The Tail at Scale, 2013). Reads only, and each second try is paid for from the retry budget.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_proto::pb;
use tokio::time::Instant;
use tonic::{Response, Status};

use crate::answer::Answer;
use crate::call::Try;
use crate::client::Client;
use crate::course::{Course, Turn};
use crate::endpoints::{Place, Target};
use crate::error::ClientError;

/// When a read that isn't answered is asked of another endpoint too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hedge {
    /// After so long.
    After(Duration),
    /// After what 95 of a hundred of this client's last hedged reads took; not before 20 were answered.
    P95,
}

/// How long the last reads took.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    samples: Vec<Duration>,
    next: usize,
}

/// Reads that are remembered, and fewer than which say nothing.
const SAMPLES: usize = 128;
const SAMPLES_MIN: usize = 20;

impl Latencies {
    pub(crate) fn note(&self, took: Duration) {
        let mut ring = self.0.lock();
        let next = ring.next;
        match ring.samples.get_mut(next) {
            Some(sample) => *sample = took,
            None => ring.samples.push(took),
        }
        ring.next = (next + 1) % SAMPLES;
    }

    #[cfg(test)]
    pub(crate) fn longest(&self) -> Duration {
        self.0
            .lock()
            .samples
            .iter()
            .max()
            .copied()
            .unwrap_or_default()
    }

    /// `None` until there are enough.
    fn p95(&self) -> Option<Duration> {
        let mut samples = self.0.lock().samples.clone();
        if samples.len() < SAMPLES_MIN {
            return None;
        }
        let place = samples.len() * 95 / 100;
        let (_, found, _) = samples.select_nth_unstable(place);
        Some(*found)
    }
}

impl Client {
    /// How long a read waits before another endpoint is asked; `None` for never.
    fn hedge_after(&self) -> Option<Duration> {
        match self.options.hedge? {
            Hedge::After(after) => Some(after),
            Hedge::P95 => self.shared.latencies.p95(),
        }
    }

    /// One try, and a second one elsewhere if it takes too long. What fails comes with where.
    pub(crate) async fn hedged<A, S, F>(
        &self,
        course: &mut Course<'_>,
        turn: Turn,
        header: &pb::RequestHeader,
        stub: &impl Fn(&Target) -> S,
        send: &impl Fn(S, Try) -> F,
    ) -> Result<A, (Place, ClientError)>
    where
        A: Answer,
        F: Future<Output = Result<Response<A::Wire>, Status>>,
    {
        let attempt = |runner: &Runner| {
            let (target, had) = (Arc::clone(&runner.turn.target), runner.had);
            let this_try = Try::new(header.clone(), had);
            async move { self.attempt::<A, S, F>(&target, this_try, stub, send).await }
        };
        let one = Runner::start(turn, course.try_timeout());
        let first = attempt(&one);
        tokio::pin!(first);
        let after = self.hedge_after().unwrap_or(Duration::MAX);
        if let Ok(result) = tokio::time::timeout(after, &mut first).await {
            return self.came_in(one, result);
        }
        let Some(turn) = course.second_turn() else {
            return self.came_in(one, first.await);
        };
        let other = Runner::start(turn, course.left());
        let second = attempt(&other);
        tokio::pin!(second);
        // Whichever fails before the other one is learned from; the other one decides.
        tokio::select! {
            result = &mut first => match self.came_in(one, result) {
                Err((place, error)) => {
                    course.failed_beside(place, &error);
                    self.came_in(other, second.await)
                }
                answer => answer,
            },
            result = &mut second => match self.came_in(other, result) {
                Err((place, error)) => {
                    course.failed_beside(place, &error);
                    self.came_in(one, first.await)
                }
                answer => {
                    self.overtaken(one);
                    answer
                }
            },
        }
    }

    /// A try came to its end. Its own time is what counts, and not what another one waited for before it began.
    fn came_in<A: Answer>(
        &self,
        runner: Runner,
        result: Result<A, ClientError>,
    ) -> Result<A, (Place, ClientError)> {
        let (place, took) = (runner.turn.place, runner.began.elapsed());
        self.settle(runner.turn, took, runner.had, &result);
        if result.is_ok() {
            self.shared.latencies.note(took);
        }
        result.map_err(|error| (place, error))
    }

    /// A try was given up since the other one was answered. An endpoint that was only slow took so long at least; one that is silent
    /// says nothing of how long reads take, and isn't asked first again.
    fn overtaken(&self, runner: Runner) {
        let (place, took) = (runner.turn.place, runner.began.elapsed());
        let waited = self.waited(runner.turn.permit.class(), took);
        if runner.turn.permit.overtaken(waited) {
            self.shared.endpoints.leave(place);
        } else {
            self.shared.latencies.note(took);
        }
    }
}

/// One of two tries.
struct Runner {
    turn: Turn,
    began: Instant,
    had: Duration,
}

impl Runner {
    fn start(turn: Turn, had: Duration) -> Self {
        let began = Instant::now();
        Self { turn, began, had }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_twentieth_is_what_a_hedge_waits_for() {
        let latencies = Latencies::default();
        (1..20).for_each(|ms| latencies.note(Duration::from_millis(ms)));
        assert_eq!(latencies.p95(), None);
        latencies.note(Duration::from_millis(20));
        assert_eq!(latencies.p95(), Some(Duration::from_millis(20)));
        // Old ones are forgotten.
        (0..SAMPLES).for_each(|_| latencies.note(Duration::from_millis(7)));
        assert_eq!(latencies.p95(), Some(Duration::from_millis(7)));
    }
}
