//! The virtual network: per directed link cuts, and for all links delay, jitter, loss and duplication.
//!
//! It decides what becomes of a message and when; the run's loop carries it out. A cut is tested when a message
//! arrives, so it takes what is under way. A datagram that is lost is lost; a stream message that meets a cut breaks its stream,
//! which both ends learn of later.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::StreamClass;
use rand_chacha::ChaCha8Rng;

use crate::rng;
use crate::scenario;

/// How far a datagram that is out of order comes behind.
const REORDERED_US: u64 = 20_000;
/// To a stream loss is delay: what a retransmission takes.
const RETRANSMIT_US: u64 = 200_000;

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

/// What the links of some nodes do more, for as long as a fault of a scenario holds.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// The fault.
    pub(super) fault: u32,
    /// Whose links, both ways.
    pub(super) nodes: BTreeSet<u64>,
    /// What they do.
    pub(super) weather: scenario::Weather,
    /// Messages that met it.
    pub(super) hits: u64,
}

/// What one directed link carried and what it didn't.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    /// Messages that arrived.
    pub(super) messages: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// Messages that a cut took, or a crash.
    pub(super) drops: u64,
}

impl Carried {
    pub(super) fn count(&mut self, bytes: u64, is_lost: bool) {
        if is_lost {
            self.drops += 1;
        } else {
            self.messages += 1;
            self.bytes += bytes;
        }
    }
}

/// The network.
#[derive(Debug)]
pub(super) struct Network {
    /// What links do now.
    pub(super) weather: Weather,
    cut: BTreeSet<(u64, u64)>,
    /// Links that faults of a scenario hold, by how many of them.
    held: BTreeMap<(u64, u64), u32>,
    /// Where the weather is worse.
    pub(super) regions: Vec<Region>,
    /// What each link carried.
    pub(super) carried: BTreeMap<(u64, u64), Carried>,
    broken: BTreeSet<(u64, u64)>,
    last_arrival: BTreeMap<(u64, u64, StreamClass), u64>,
    rng: ChaCha8Rng,
}

impl Network {
    pub(super) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            weather: Weather::CALM,
            cut: BTreeSet::new(),
            held: BTreeMap::new(),
            regions: Vec::new(),
            carried: BTreeMap::new(),
            broken: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            rng,
        }
    }

    /// When the copies of a datagram arrive: none, one or two.
    pub(super) fn datagram(&mut self, now: u64, from: u64, to: u64) -> Vec<u64> {
        let mut arrivals = self.plain_datagram(now);
        for place in 0..self.regions.len() {
            if self.meets(place, from, to) {
                arrivals = self.weathered(place, arrivals);
            }
        }
        arrivals
    }

    /// Whether a message meets the weather of a region; it counts.
    fn meets(&mut self, place: usize, from: u64, to: u64) -> bool {
        let region = &mut self.regions[place];
        let met = region.nodes.contains(&from) || region.nodes.contains(&to);
        region.hits += u64::from(met);
        met
    }

    /// What a region's weather makes of the copies of a datagram.
    fn weathered(&mut self, place: usize, arrivals: Vec<u64>) -> Vec<u64> {
        let weather = self.regions[place].weather;
        let mut weathered = Vec::new();
        for at in arrivals {
            let chance =
                |rng: &mut ChaCha8Rng, percent: u32| rng::chance_ppm(rng, percent * 10_000);
            if chance(&mut self.rng, weather.loss_percent) {
                continue;
            }
            let mut at = at + weather.delay.0 + rng::below(&mut self.rng, weather.jitter.0 + 1);
            if chance(&mut self.rng, weather.reorder_percent) {
                at += REORDERED_US + weather.jitter.0;
            }
            weathered.push(at);
            if chance(&mut self.rng, weather.duplicate_percent) {
                weathered.push(at + 1 + rng::below(&mut self.rng, REORDERED_US));
            }
        }
        weathered
    }

    fn plain_datagram(&mut self, now: u64) -> Vec<u64> {
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
        let mut at = now + self.delay();
        for place in 0..self.regions.len() {
            if self.meets(place, from, to) {
                let weather = self.regions[place].weather;
                at += weather.delay.0 + rng::below(&mut self.rng, weather.jitter.0 + 1);
                if rng::chance_ppm(&mut self.rng, weather.loss_percent * 10_000) {
                    at += RETRANSMIT_US;
                }
            }
        }
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

    /// Holds these links, beside whatever else holds them.
    pub(super) fn hold(&mut self, links: &[(u64, u64)]) {
        for link in links {
            *self.held.entry(*link).or_default() += 1;
        }
    }

    /// Lets these links go again, as far as nothing else holds them.
    pub(super) fn release(&mut self, links: &[(u64, u64)]) {
        for link in links {
            match self.held.get_mut(link) {
                Some(holds) if *holds > 1 => *holds -= 1,
                Some(_) | None => {
                    self.held.remove(link);
                }
            }
        }
    }

    /// Ends every cut and every bad weather.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.held.clear();
        self.regions.clear();
        self.weather = Weather::CALM;
    }

    /// Whether messages in this direction are swallowed.
    pub(super) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to)) || self.held.contains_key(&(from, to))
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
