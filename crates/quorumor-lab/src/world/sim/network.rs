//! The virtual network: per directed link cuts, and for all links delay, jitter, loss and duplication.
//!
//! It decides what becomes of a message and when; the run's loop carries it out. A cut is tested when a message
//! arrives, so it takes what is under way. A datagram that is lost is lost; a stream message that meets a cut breaks its stream,
//! which both ends learn of later.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::StreamClass;
use rand_chacha::ChaCha8Rng;

use crate::rng;

/// What the links do to messages, by default and under a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weather {
    /// The least delay.
    pub(super) delay_us: u64,
    /// Up to so much more.
    pub(super) jitter_us: u64,
    /// Datagrams lost, in a million.
    pub(super) loss_ppm: u32,
    /// Datagrams doubled, in a million.
    pub(super) duplicate_ppm: u32,
}

impl Weather {
    /// A quiet local network.
    pub(super) const CALM: Self = Self {
        delay_us: 200,
        jitter_us: 800,
        loss_ppm: 0,
        duplicate_ppm: 0,
    };
    /// A bad one.
    pub(super) const STORM: Self = Self {
        delay_us: 1_000,
        jitter_us: 60_000,
        loss_ppm: 250_000,
        duplicate_ppm: 100_000,
    };
}

/// The network.
#[derive(Debug)]
pub(super) struct Network {
    /// What links do now.
    pub(super) weather: Weather,
    cut: BTreeSet<(u64, u64)>,
    broken: BTreeSet<(u64, u64)>,
    last_arrival: BTreeMap<(u64, u64, StreamClass), u64>,
    rng: ChaCha8Rng,
}

impl Network {
    pub(super) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            weather: Weather::CALM,
            cut: BTreeSet::new(),
            broken: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            rng,
        }
    }

    /// When the copies of a datagram arrive: none, one or two.
    pub(super) fn datagram(&mut self, now: u64) -> Vec<u64> {
        if rng::chance_ppm(&mut self.rng, self.weather.loss_ppm) {
            return Vec::new();
        }
        let copies = if rng::chance_ppm(&mut self.rng, self.weather.duplicate_ppm) {
            2
        } else {
            1
        };
        (0..copies).map(|_| now + self.delay()).collect()
    }

    /// When a stream message arrives, after all earlier ones of its lane; `None` if the stream is broken.
    pub(super) fn stream(
        &mut self,
        now: u64,
        from: u64,
        to: u64,
        class: StreamClass,
    ) -> Option<u64> {
        if self.is_broken(from, to) {
            return None;
        }
        let at = now + self.delay();
        let last = self.last_arrival.entry((from, to, class)).or_default();
        *last = at.max(*last + 1);
        Some(*last)
    }

    fn delay(&mut self) -> u64 {
        self.weather.delay_us + rng::below(&mut self.rng, self.weather.jitter_us + 1)
    }

    /// Cuts one direction.
    pub(super) fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Ends these cuts.
    pub(super) fn uncut(&mut self, links: &[(u64, u64)]) {
        for link in links {
            self.cut.remove(link);
        }
    }

    /// Ends every cut and every bad weather.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.weather = Weather::CALM;
    }

    /// Whether messages in this direction are swallowed.
    pub(super) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Whether a new stream could be opened: its handshake needs both directions.
    pub(super) fn can_connect(&self, a: u64, b: u64) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    /// Breaks the streams between two nodes. Returns false if they were broken already.
    pub(super) fn break_streams(&mut self, a: u64, b: u64) -> bool {
        self.broken.insert((a.min(b), a.max(b)))
    }

    /// Opens the streams between two nodes. Returns false if they were open already.
    pub(super) fn open_streams(&mut self, a: u64, b: u64) -> bool {
        self.broken.remove(&(a.min(b), a.max(b)))
    }

    /// Whether there is no stream between two nodes.
    pub(super) fn is_broken(&self, a: u64, b: u64) -> bool {
        self.broken.contains(&(a.min(b), a.max(b)))
    }

    /// The pairs without a stream.
    pub(super) fn broken_pairs(&self) -> Vec<(u64, u64)> {
        self.broken.iter().copied().collect()
    }
}
