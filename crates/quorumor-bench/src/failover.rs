//! How long nobody can write after the leader was killed.
//!
//! An open loop of puts over all nodes goes on while the leader's process is killed with `kill -9`. Writes are back when
//! the first put has been acknowledged whose intended start lies after the kill. No call is retried; a call that met
//! the dead node has failed and is counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::BenchError;
use crate::cluster::Cluster;
use crate::load::{Call, Measured, Pace, Pacer, Window};
use crate::op::{Dice, KeySpace, Op};
use crate::results::Turn;
use crate::run::quantile_ms;
use crate::target::{Place, Writes};

/// Puts a second: a put every five milliseconds is the precision of the result.
const RATE: f64 = 200.0;
/// Enough for every put that is due within the patience of a call.
const CALLERS: usize = 600;
/// Whoever waits longer gives up.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(6);
/// The pause after a node was restarted, for it to catch up.
const SETTLE: Duration = Duration::from_secs(2);

/// When a put was to start and when it was acknowledged.
type Acknowledged = (Instant, Instant);

/// Kills the leader once, under load, and starts it again.
///
/// # Errors
/// If the cluster can't be reached, or doesn't recover.
pub async fn turn(
    cluster: &mut Cluster,
    keys: &KeySpace,
    value_bytes: usize,
) -> Result<Turn, BenchError> {
    let mut target = cluster.target();
    let leader = target.leader().await?;
    target.writes = Writes::AllNodes;
    let session = target
        .connect(Place::AllNodes, target.endpoints.len(), keys)
        .await?;
    let start = Instant::now();
    let window = Window {
        start,
        from: start,
        to: start + BEFORE + AFTER,
    };
    let pacer = Pacer::start(Pace::Open { rate: RATE }, window);
    let measured = Arc::new(Mutex::new(Measured::empty()));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for index in 0..CALLERS {
        let caller = Caller {
            call: session.writers[index % session.writers.len()].clone(),
            dice: Dice::new(u64::try_from(index).unwrap_or(0) + 1),
            keys: keys.len(),
            value_bytes,
            measured: Arc::clone(&measured),
            acknowledged: Arc::clone(&acknowledged),
        };
        callers.spawn(caller.run(pacer.clone(), window));
    }
    tokio::time::sleep_until(start + BEFORE).await;
    let killed = cluster.kill(leader).await?;
    while callers.join_next().await.is_some() {}
    cluster.restart(leader).await?;
    tokio::time::sleep(SETTLE).await;

    let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
    let measured = measured.lock().unwrap_or_else(PoisonError::into_inner);
    let back = back_after(killed, &acknowledged).ok_or_else(|| BenchError::Unfit {
        target: target.name.clone(),
        why: format!("no write was acknowledged within {AFTER:?} after the leader was killed"),
    })?;
    Ok(Turn {
        p50_ms: Some(back.as_secs_f64() * 1000.0),
        p99_ms: quantile_ms(&measured, 0.99),
        errors: measured.errors.clone(),
        ..Turn::default()
    })
}

/// From the kill to the first acknowledgement of a put that was to start after it.
fn back_after(killed: Instant, acknowledged: &[Acknowledged]) -> Option<Duration> {
    let after = acknowledged.iter().filter(|(start, _)| *start > killed);
    after.map(|(_, end)| *end - killed).min()
}

struct Caller<C> {
    call: C,
    dice: Dice,
    keys: usize,
    value_bytes: usize,
    measured: Arc<Mutex<Measured>>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

impl<C: Call> Caller<C> {
    async fn run(mut self, pacer: Pacer, window: Window) {
        while let Some(start) = pacer.next(window).await {
            let op = Op::Put {
                key: self.dice.below(self.keys),
                value: self.dice.bytes(self.value_bytes),
            };
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.call.call(op)).await;
            let end = Instant::now();
            let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(Ok(())) => {
                    measured.record(end - start);
                    let mut acknowledged = self
                        .acknowledged
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    acknowledged.push((start, end));
                }
                Ok(Err(error)) => measured.count_error(&error),
                Err(_) => measured.count_errors("no answer in time", 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_puts_that_were_to_start_after_the_kill_show_that_writes_are_back() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let killed = at(100);
        // The first was under way when the leader died; the second waited for the new one; the third came later.
        let acknowledged = [(at(90), at(110)), (at(120), at(400)), (at(395), at(402))];
        let back = back_after(killed, &acknowledged);
        assert_eq!(back, Some(Duration::from_millis(300)));
        assert_eq!(back_after(at(500), &acknowledged), None);
    }
}
