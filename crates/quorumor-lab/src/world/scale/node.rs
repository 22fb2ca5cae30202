//! A node: its disk, while it runs its replica, and what it sent.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use quorumor_core::{Generation, NodeId, Now};
use quorumor_gossip::{Counters, GossipConfig, GossipReplica};

use super::disk::Disk;

/// Virtual time zero on every wall clock: 2030-01-01.
const WALL_START_MS: u64 = 1_893_456_000_000;
/// Nodes that all others are told to join by.
const SEEDS: u32 = 3;
/// What a datagram weighs beside its payload: our envelope, and the headers of IP and UDP.
pub(super) const DATAGRAM_OVERHEAD_BYTES: u64 = 36 + 28;
/// What a stream message weighs beside its payload: our frame, and the headers of IP and TCP.
pub(super) const STREAM_OVERHEAD_BYTES: u64 = 12 + 40;

/// What a node sent since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) datagrams: u64,
    pub(super) datagram_bytes: u64,
    pub(super) stream_messages: u64,
    pub(super) stream_bytes: u64,
}

impl Traffic {
    pub(super) const fn bytes(self) -> u64 {
        self.datagram_bytes + self.stream_bytes
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.datagram_bytes += other.datagram_bytes;
        self.stream_messages += other.stream_messages;
        self.stream_bytes += other.stream_bytes;
    }

    /// What was sent since an earlier sum.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            datagrams: self.datagrams - earlier.datagrams,
            datagram_bytes: self.datagram_bytes - earlier.datagram_bytes,
            stream_messages: self.stream_messages - earlier.stream_messages,
            stream_bytes: self.stream_bytes - earlier.stream_bytes,
        }
    }
}

/// A node of the simulation.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) replica: Option<GossipReplica>,
    /// Counts starts; events of an earlier life are dropped.
    pub(super) boot: u32,
    /// The earliest timer event of this life in the queue; `u64::MAX` if there is none.
    pub(super) armed_us: u64,
    pub(super) started_us: u64,
    /// It is paused when (time + phase) falls into the first part of the cycle; `None` for a node that never is.
    pub(super) pause_phase_us: Option<u64>,
    pub(super) sent: Traffic,
    /// Writes that repair had brought when this was last looked at.
    repaired: u64,
    /// What earlier lives counted.
    pub(super) past: Copies,
    pub(super) disk: Disk,
}

/// How often writes came, by way and by whether they were news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    pub(super) rumors: u64,
    pub(super) deltas: u64,
    pub(super) deltas_new: u64,
}

impl Copies {
    fn of(counters: Counters) -> Self {
        Self {
            rumors: counters.rumors_new + counters.rumors_known,
            deltas: counters.deltas_new + counters.deltas_known,
            deltas_new: counters.deltas_new,
        }
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.rumors += other.rumors;
        self.deltas += other.deltas;
        self.deltas_new += other.deltas_new;
    }

    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            rumors: self.rumors - earlier.rumors,
            deltas: self.deltas - earlier.deltas,
            deltas_new: self.deltas_new - earlier.deltas_new,
        }
    }
}

impl Node {
    pub(super) fn new(pause_phase_us: Option<u64>) -> Self {
        Self {
            replica: None,
            boot: 0,
            armed_us: u64::MAX,
            started_us: 0,
            pause_phase_us,
            sent: Traffic::default(),
            repaired: 0,
            past: Copies::default(),
            disk: Disk::default(),
        }
    }

    /// Starts the process on what its disk holds. The outputs are to be drained, and the timer armed.
    pub(super) fn start(&mut self, node: u32, seed: u64, now_us: u64) -> Result<()> {
        self.boot += 1;
        self.armed_us = u64::MAX;
        self.started_us = now_us;
        let config = config(node, seed ^ u64::from(self.boot) << 48);
        let replica = GossipReplica::open(config, self.disk.recovered(), clock(now_us))
            .with_context(|| format!("node {node} refuses what its log holds"))?;
        self.replica = Some(replica);
        Ok(())
    }

    /// The process is gone.
    pub(super) fn stop(&mut self) {
        if let Some(replica) = self.replica.take() {
            self.past.add(Copies::of(replica.counters()));
            self.repaired = 0;
        }
    }

    /// Whether repair has brought a write since this was last asked.
    pub(super) fn was_repaired(&mut self) -> bool {
        let now = self
            .replica
            .as_ref()
            .map_or(0, |replica| replica.counters().deltas_new);
        std::mem::replace(&mut self.repaired, now) < now
    }

    /// What it received in all its lives.
    pub(super) fn copies(&self) -> Copies {
        let mut copies = self.past;
        if let Some(replica) = &self.replica {
            copies.add(Copies::of(replica.counters()));
        }
        copies
    }
}

/// The clocks, the same on every node.
pub(super) const fn clock(now_us: u64) -> Now {
    Now {
        mono_us: now_us + 1,
        wall_ms: WALL_START_MS + now_us / 1_000,
    }
}

/// The generation of a node that started first at this time.
pub(super) const fn first_generation(started_us: u64) -> Generation {
    Generation::new(clock(started_us).wall_ms)
}

/// A core id for a node's place.
pub(super) fn node_id(node: u32) -> NodeId {
    NodeId::try_from(u64::from(node) + 1).expect("one above a place is never 0")
}

/// A node's place.
pub(super) fn place(id: NodeId) -> u32 {
    u32::try_from(id.as_u64() - 1).expect("ids are made of places")
}

/// Where a node says that it lives.
pub(super) fn address(node: u32) -> SocketAddr {
    let [high, middle, low, _] = (node << 8).to_be_bytes();
    SocketAddr::from(([10, high, middle, low], 7_401))
}

/// Who lives there.
pub(super) fn at_address(address: SocketAddr) -> Option<u32> {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [_, high, middle, low] = ip.octets();
            Some(u32::from_be_bytes([0, high, middle, low]))
        }
        IpAddr::V6(_) => None,
    }
}

fn config(node: u32, seed: u64) -> GossipConfig {
    let cluster = quorumor_gossip::cluster_id("simulated");
    GossipConfig {
        seeds: (0..SEEDS)
            .filter(|seed| *seed != node)
            .map(address)
            .collect(),
        notices: true,
        seed: seed.wrapping_mul(1_000_003).wrapping_add(u64::from(node)),
        ..GossipConfig::new(node_id(node), cluster, address(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_node() {
        for node in [0, 1, 255, 256, 9_999, 65_536] {
            assert_eq!(at_address(address(node)), Some(node));
            assert_eq!(place(node_id(node)), node);
        }
    }
}
