//! Hedged reads: when an endpoint is slow to answer, another one is asked too, and the first good answer counts (Dean and Barroso,
//! The Tail at Scale, 2013). Reads only, and each second try is paid for from the retry budget.

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
        let began = Instant::now();
        let result = self.raced(course, turn, header, stub, send).await;
        if result.is_ok() {
            self.shared.latencies.note(began.elapsed());
        }
        result
    }

    async fn raced<A, S, F>(
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
        let one = turn.place;
        let this_try = Try::new(header.clone(), course.try_timeout());
        let first = self.take_turn(turn, this_try, stub, send);
        tokio::pin!(first);
        let after = self.hedge_after().unwrap_or(Duration::MAX);
        if let Ok(result) = tokio::time::timeout(after, &mut first).await {
            return result.map_err(|error| (one, error));
        }
        let Some(turn) = course.second_turn() else {
            return first.await.map_err(|error| (one, error));
        };
        let other = turn.place;
        let this_try = Try::new(header.clone(), course.left());
        let second = self.take_turn(turn, this_try, stub, send);
        tokio::pin!(second);
        // Whichever fails before the other one is learned from; the other one decides.
        tokio::select! {
            result = &mut first => match result {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    course.failed_beside(one, &error);
                    second.await.map_err(|error| (other, error))
                }
            },
            result = &mut second => match result {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    course.failed_beside(other, &error);
                    first.await.map_err(|error| (one, error))
                }
            },
        }
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
