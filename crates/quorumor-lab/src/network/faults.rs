//! What is wrong with one directed link right now, and what it has carried.
//!
//! Shared by every connection and datagram that travels in that direction, and by whoever injects faults.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use crate::rng::{self, Purpose, below, chance_ppm};

/// The state of one directed link. All settings can be changed at any time; they hold for whatever is delivered from then on.
#[derive(Debug)]
pub struct LinkFaults {
    cut: watch::Sender<bool>,
    delay_us: AtomicU64,
    jitter_us: AtomicU64,
    loss_ppm: AtomicU32,
    duplicate_ppm: AtomicU32,
    reorder_ppm: AtomicU32,
    bytes: AtomicU64,
    messages: AtomicU64,
    drops: AtomicU64,
    held: AtomicU64,
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
}

/// What happens to one datagram.
pub(super) struct Fate {
    /// How often it arrives; 0 = lost.
    pub(super) copies: u32,
    /// Further copies are a little late.
    pub(super) delay: Duration,
}

/// How late a datagram is that others are to overtake, beyond the link's delay.
const REORDER_US: u64 = 10_000;

impl LinkFaults {
    /// A sound link. `id` tells its randomness from that of other links with the same seed.
    pub fn new(seed: u64, id: u64) -> Self {
        Self {
            cut: watch::Sender::new(false),
            delay_us: AtomicU64::new(0),
            jitter_us: AtomicU64::new(0),
            loss_ppm: AtomicU32::new(0),
            duplicate_ppm: AtomicU32::new(0),
            reorder_ppm: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            held: AtomicU64::new(0),
            rng: Mutex::new(rng::stream(seed, Purpose::Network, id)),
        }
    }

    /// Nothing passes until [`LinkFaults::open`]: datagrams are discarded, streams stand still.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Ends a cut.
    pub fn open(&self) {
        self.cut.send_replace(false);
    }

    /// True while the link is cut.
    pub fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Everything arrives this much later, plus up to `jitter`; streams keep their order.
    pub fn delay_by(&self, delay: Duration, jitter: Duration) {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.delay_us.store(us(delay), Ordering::Relaxed);
        self.jitter_us.store(us(jitter), Ordering::Relaxed);
    }

    /// How many of a million datagrams are lost. Streams are not touched.
    pub fn lose_ppm(&self, ppm: u32) {
        self.loss_ppm.store(ppm, Ordering::Relaxed);
    }

    /// How many of a million datagrams arrive twice.
    pub fn duplicate_ppm(&self, ppm: u32) {
        self.duplicate_ppm.store(ppm, Ordering::Relaxed);
    }

    /// How many of a million datagrams are held so that later ones overtake them.
    pub fn reorder_ppm(&self, ppm: u32) {
        self.reorder_ppm.store(ppm, Ordering::Relaxed);
    }

    /// Everything set back to a sound link; the counters go on.
    pub fn heal(&self) {
        self.delay_by(Duration::ZERO, Duration::ZERO);
        for setting in [&self.loss_ppm, &self.duplicate_ppm, &self.reorder_ppm] {
            setting.store(0, Ordering::Relaxed);
        }
        self.open();
    }

    /// What it has carried so far.
    pub fn counts(&self) -> LinkCounts {
        LinkCounts {
            bytes: self.bytes.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            drops: self.drops.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
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
        let jitter_us = self.jitter_us.load(Ordering::Relaxed);
        let extra = if jitter_us == 0 {
            0
        } else {
            below(&mut self.rng.lock(), jitter_us)
        };
        Duration::from_micros(self.delay_us.load(Ordering::Relaxed) + extra)
    }

    /// What happens to the next datagram.
    pub(super) fn draw_fate(&self) -> Fate {
        let delay = self.draw_delay();
        let mut rng = self.rng.lock();
        if chance_ppm(&mut rng, self.loss_ppm.load(Ordering::Relaxed)) {
            return Fate { copies: 0, delay };
        }
        let copies = 1 + u32::from(chance_ppm(
            &mut rng,
            self.duplicate_ppm.load(Ordering::Relaxed),
        ));
        let late = chance_ppm(&mut rng, self.reorder_ppm.load(Ordering::Relaxed));
        Fate {
            copies,
            delay: delay + Duration::from_micros(if late { REORDER_US } else { 0 }),
        }
    }
}
