//! The virtual network: base delay and jitter for all, loss of datagrams, one partition, streams that arrive later and in order.
//!
//! Loss takes datagrams; a stream message pays for each lost segment with a retransmission. A message that meets the partition is
//! gone, whatever it is. Streams have no bandwidth limit.

use std::collections::BTreeMap;

use quorumor_core::StreamClass;
use rand_chacha::ChaCha8Rng;

use super::Options;
use crate::rng::{self, Purpose};

/// What a lost segment of a stream costs: TCP's least retransmission timeout.
const RETRANSMISSION_US: u64 = 200_000;
/// So many losses in a row at most; a stream isn't given up here.
const RETRANSMISSIONS_MAX: u64 = 6;
/// One way to open the connection, one for its answer, one for the message.
const STREAM_WAYS: u64 = 3;
/// Lanes whose last arrival is remembered before those of the past are forgotten.
const LANES_MAX: usize = 65_536;

/// All links.
#[derive(Debug)]
pub struct Network {
    latency_us: u64,
    jitter_us: u64,
    loss_ppm: u32,
    /// Each node's side while there is a partition.
    sides: Vec<bool>,
    is_split: bool,
    last_arrival: BTreeMap<(u32, u32, StreamClass), u64>,
    rng: ChaCha8Rng,
}

impl Network {
    /// Links as the options say. Everything random follows from the seed.
    #[must_use]
    pub fn new(options: &Options, seed: u64) -> Self {
        let mut sides: Vec<bool> = (0..options.nodes).map(|node| node % 2 == 0).collect();
        rng::shuffle(&mut rng::stream(seed, Purpose::Network, 1), &mut sides);
        Self {
            latency_us: options.latency_us,
            jitter_us: options.jitter_us,
            loss_ppm: options.loss_ppm,
            sides,
            is_split: false,
            last_arrival: BTreeMap::new(),
            rng: rng::stream(seed, Purpose::Network, 0),
        }
    }

    /// When a datagram arrives; `None` if it is lost.
    pub fn datagram(&mut self, now_us: u64) -> Option<u64> {
        if rng::chance_ppm(&mut self.rng, self.loss_ppm) {
            return None;
        }
        Some(now_us + self.latency_us + self.jitter())
    }

    /// When a stream message arrives, after all earlier ones of its lane.
    pub fn stream(&mut self, now_us: u64, from: u32, to: u32, class: StreamClass) -> u64 {
        let mut at_us = now_us + STREAM_WAYS * self.latency_us + self.jitter();
        for _ in 0..RETRANSMISSIONS_MAX {
            if !rng::chance_ppm(&mut self.rng, self.loss_ppm) {
                break;
            }
            at_us += RETRANSMISSION_US;
        }
        if self.last_arrival.len() >= LANES_MAX {
            self.last_arrival.retain(|_, last| *last > now_us);
        }
        let last = self.last_arrival.entry((from, to, class)).or_default();
        *last = at_us.max(*last + 1);
        *last
    }

    fn jitter(&mut self) -> u64 {
        if self.jitter_us == 0 {
            0
        } else {
            rng::below(&mut self.rng, self.jitter_us + 1)
        }
    }

    /// Begins or ends the partition.
    pub fn split(&mut self, is_split: bool) {
        self.is_split = is_split;
    }

    /// Whether messages between two nodes are swallowed.
    #[must_use]
    pub fn is_cut(&self, a: u32, b: u32) -> bool {
        self.is_split && self.are_apart(a, b)
    }

    /// Whether two nodes are on different sides of the partition that was, is or will be.
    #[must_use]
    pub fn are_apart(&self, a: u32, b: u32) -> bool {
        self.sides[a as usize] != self.sides[b as usize]
    }

    /// On which side a node is.
    #[must_use]
    pub fn side(&self, node: u32) -> bool {
        self.sides[node as usize]
    }
}
