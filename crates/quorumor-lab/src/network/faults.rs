//! What is wrong with one directed link right now, and what it has carried.
//!
//! Shared by every connection and datagram that travels in that direction, and by whoever injects faults.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::trouble::{Trouble, Troubles};
use crate::rng::{self, Purpose, below, chance_ppm};

/// The state of one directed link. Faults can begin and end at any time, in any order; they hold for whatever is delivered
/// from then on.
#[derive(Debug)]
pub struct LinkFaults {
    troubles: Mutex<Troubles>,
    cut: watch::Sender<bool>,
    bytes: AtomicU64,
    messages: AtomicU64,
    drops: AtomicU64,
    held: AtomicU64,
    delayed: AtomicU64,
    doubled: AtomicU64,
    rng: Mutex<ChaCha8Rng>,
}

/// What a link has carried since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Bytes passed on.
    pub bytes: u64,
    /// Datagrams and stream chunks passed on.
    pub messages: u64,
    /// Datagrams discarded by a fault.
    pub drops: u64,
    /// Times that a stream with something to say, or a new connection, was held back by a cut.
    pub held: u64,
    /// Datagrams and stream chunks that a fault made late.
    pub delayed: u64,
    /// Datagrams that a fault doubled.
    pub doubled: u64,
}

impl LinkCounts {
    /// How often a fault did something to what passed.
    pub const fn hits(&self) -> u64 {
        self.drops + self.held + self.delayed + self.doubled
    }
}

/// What happens to one datagram.
pub(super) struct Fate {
    /// How often it arrives; 0 = lost.
    pub(super) copies: u32,
    /// Further copies are a little late.
    pub(super) delay: Duration,
}

/// How late a datagram is that others are to overtake, beyond the link's delay.
const REORDER: Duration = Duration::from_millis(10);

impl LinkFaults {
    /// A sound link. `id` tells its randomness from that of other links with the same seed.
    pub fn new(seed: u64, id: u64) -> Self {
        Self {
            troubles: Mutex::default(),
            cut: watch::Sender::new(false),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            held: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            rng: Mutex::new(rng::stream(seed, Purpose::Network, id)),
        }
    }

    /// This fault of the schedule does this to the link from now on, beside what the others do.
    pub fn begin(&self, fault: u32, trouble: Trouble) {
        self.change(|troubles| troubles.begin(fault, trouble));
    }

    /// This fault does nothing to the link any more; the others go on, and so do the counters.
    pub fn end(&self, fault: u32) {
        self.change(|troubles| troubles.end(fault));
    }

    fn change(&self, change: impl FnOnce(&mut Troubles)) {
        // Under one lock, so that two changes can't leave the older word about the cut.
        let mut troubles = self.troubles.lock();
        change(&mut troubles);
        self.cut.send_replace(troubles.all().cut);
    }

    /// True while the link is cut.
    pub fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// What it has carried so far.
    pub fn counts(&self) -> LinkCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkCounts {
            bytes: count(&self.bytes),
            messages: count(&self.messages),
            drops: count(&self.drops),
            held: count(&self.held),
            delayed: count(&self.delayed),
            doubled: count(&self.doubled),
        }
    }

    pub(super) fn count_passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_drop(&self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns once the link is open; counts if it had to wait.
    pub(super) async fn pass(&self) {
        if self.is_cut() {
            self.held.fetch_add(1, Ordering::Relaxed);
            let mut cut = self.cut.subscribe();
            // The sender lives in self, so this ends only when the link is open.
            let _ = cut.wait_for(|cut| !*cut).await;
        }
    }

    /// How long the next chunk travels.
    pub(super) fn draw_delay(&self) -> Duration {
        let all = self.troubles.lock().all();
        self.delay(all)
    }

    fn delay(&self, all: Trouble) -> Duration {
        let jitter_us = u64::try_from(all.jitter.as_micros()).unwrap_or(u64::MAX);
        let extra_us = match jitter_us {
            0 => 0,
            most => below(&mut self.rng.lock(), most),
        };
        let delay = all.delay + Duration::from_micros(extra_us);
        let late = u64::from(!delay.is_zero());
        self.delayed.fetch_add(late, Ordering::Relaxed);
        delay
    }

    /// What happens to the next datagram.
    pub(super) fn draw_fate(&self) -> Fate {
        let all = self.troubles.lock().all();
        let chance = |ppm: u32| chance_ppm(&mut self.rng.lock(), ppm);
        if chance(all.loss_ppm) {
            let delay = Duration::ZERO;
            return Fate { copies: 0, delay };
        }
        let delay = self.delay(all);
        let doubled = chance(all.duplicate_ppm);
        self.doubled
            .fetch_add(u64::from(doubled), Ordering::Relaxed);
        let late = chance(all.reorder_ppm);
        // A delay was counted already.
        let counted = u64::from(late && delay.is_zero());
        self.delayed.fetch_add(counted, Ordering::Relaxed);
        Fate {
            copies: 1 + u32::from(doubled),
            delay: delay + if late { REORDER } else { Duration::ZERO },
        }
    }
}
