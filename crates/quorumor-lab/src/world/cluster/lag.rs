//! The lab's own lag: how late a 10 ms sleeper wakes up on the runtime that sends the load.
//!
//! Not a measure of the system. A run in which this sleeper overslept measured the machine, and is void.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::history::{HistoryWriter, LabClock, Lag};

const SLEEP: Duration = Duration::from_millis(10);
const SAMPLES_PER_LINE: usize = 100;

/// Samples until `stop`, a line for about each second.
pub(crate) async fn sample(
    history: HistoryWriter,
    clock: LabClock,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let mut overshoot_us = Vec::with_capacity(SAMPLES_PER_LINE);
    while !stop.is_cancelled() {
        let before = Instant::now();
        sleep(SLEEP).await;
        let over = before.elapsed().saturating_sub(SLEEP);
        overshoot_us.push(u64::try_from(over.as_micros()).unwrap_or(u64::MAX));
        if overshoot_us.len() == SAMPLES_PER_LINE {
            let overshoot_us = std::mem::take(&mut overshoot_us);
            history.lag(Lag {
                at_us: clock.now_us(),
                overshoot_us,
            })?;
        }
    }
    history.lag(Lag {
        at_us: clock.now_us(),
        overshoot_us,
    })
}
