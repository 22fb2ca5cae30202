//! What a gossip replica is told at its start, checked once.

use std::net::SocketAddr;

use quorumor_core::limits::DATAGRAM_BYTES_MAX;
use quorumor_core::{ClusterId, DataEpoch, Durability, Mode, NodeId, Planted};

/// The least datagram budget: the largest part fits, the hashes of a table of members.
const DATAGRAM_BYTES_MIN: usize = 1_040;

/// Less, and the hashes of a table never fit the budget's burst.
const MEMBER_BYTES_PER_S_MIN: u64 = 8_192;

/// The longest client address that is told to others.
pub(crate) const CLIENT_ADDRESS_BYTES_MAX: usize = 128;

/// The cluster id of an eventual cluster: a hash of its name.
#[must_use]
pub fn cluster_id(name: &str) -> ClusterId {
    let hash = blake3::derive_key("quorumor 2026 cluster id of eventual mode", name.as_bytes());
    let head = hash[..8]
        .try_into()
        .expect("a hash has at least eight bytes");
    ClusterId::new(u64::from_le_bytes(head))
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {field}: {why}")]
pub struct ConfigError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub why: &'static str,
}

/// The settings of one node. Begin with [`GossipConfig::new`]; [`GossipReplica::open`](crate::GossipReplica::open)
/// checks the rest.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// This node.
    pub node: NodeId,
    /// The cluster, for the status.
    pub cluster: ClusterId,
    /// The data epoch, for the status.
    pub epoch: DataEpoch,
    /// Where peers reach this node: told to everyone.
    pub peer_address: SocketAddr,
    /// Where clients reach this node: told to everyone.
    pub client_address: Option<String>,
    /// Addresses of any members, to join by. None: this is the first node.
    pub seeds: Vec<SocketAddr>,
    /// Seeds every random choice.
    pub seed: u64,
    /// A datagram's payload, what the shell's envelope leaves of it. In bytes.
    pub datagram_bytes_max: usize,
    /// A probe begins each period T, stretched by the local health up to nine times. In milliseconds.
    pub probe_interval_ms: u64,
    /// A direct probe's time before others are asked; less than the interval. In milliseconds.
    pub probe_timeout_ms: u64,
    /// How many members are asked to probe on this node's behalf.
    pub indirect_probes: usize,
    /// The least suspicion is this many times max(1, log10 n) periods.
    pub suspicion_multiplier: u64,
    /// The longest suspicion, without any confirmation, is this many times the least.
    pub suspicion_max_multiplier: u64,
    /// Members that are held to be down are probed one at random in each such interval, so that a healed partition is
    /// found without help. In milliseconds.
    pub down_probe_interval_ms: u64,
    /// A member that is down for longer isn't probed any more. In milliseconds.
    pub down_probe_ms_max: u64,
    /// Rumors go out in this rhythm; a write's first push goes at once. In milliseconds.
    pub gossip_interval_ms: u64,
    /// To how many members at a time.
    pub fanout: usize,
    /// A rumor is sent at most this many times ceil(log10(n + 1)).
    pub rumor_multiplier: u64,
    /// A rumor dies after so many consecutive pushes to members that knew it.
    pub rumor_useless_max: u8,
    /// So many of a rumor's sends carry the write itself; later ones only name it, and whoever lacks it asks.
    pub payload_sends: u64,
    /// Rumors held at a time; beyond it the most told are dropped, and anti-entropy carries them.
    pub rumors_max: usize,
    /// A longer value isn't sent as a rumor: its dot is, and it is pulled by stream. In bytes.
    pub inline_value_bytes_max: usize,
    /// More missing than this is sent by stream instead of datagrams. In bytes.
    pub datagram_sync_bytes_max: usize,
    /// One message of a stream transfer. In bytes; a single larger event travels alone.
    pub stream_chunk_bytes: usize,
    /// The writers' recent logs that are held as events. In bytes.
    pub log_bytes_max: usize,
    /// A checkpoint is made after so many bytes of records.
    pub checkpoint_bytes: u64,
    /// Without an answer from any seed the node serves after this time. In milliseconds.
    pub starting_ms_max: u64,
    /// Once joined, a seed is called on in each such interval. In milliseconds.
    pub seed_interval_ms: u64,
    /// Bytes a second of news about members, half by rumor and half by tables: what keeps a mass join from flooding the network.
    /// Probes, joiners' welcomes, and what corrects a peer come on top.
    pub member_bytes_per_s: u64,
    /// Bytes a second of datagrams that carry writes; beyond it they wait for the next round.
    pub datagram_bytes_per_s: u64,
    /// Joiners a second that this node answers. Of more it tells its peers, so that they are met by others.
    pub joins_per_s: u64,
    /// Joiners a second that are given the members and the state by this node; others get the names of a few members to ask.
    pub welcomes_per_s: u64,
    /// A member that is down or left for longer is forgotten, and the entries of its leases go. In milliseconds.
    pub reap_ms: u64,
    /// A member that is down for longer isn't waited for by the collection of tombstones. In milliseconds.
    pub gc_grace_ms: u64,
    /// How often a collection of tombstones is tried. In milliseconds.
    pub cut_interval_ms: u64,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// With [`Durability::Interval`], how often the log is synced. In milliseconds.
    pub sync_interval_ms: u64,
    /// Keys with one of these prefixes keep all their concurrent values, until a write that has seen them. The same on all nodes.
    pub siblings: Vec<String>,
    /// Whether to note what happens to members, for [`GossipReplica::take_notices`](crate::GossipReplica::take_notices).
    pub notices: bool,
    /// Which defect is planted, for tests of what finds it.
    pub planted: Planted,
}

impl GossipConfig {
    /// The defaults around what every node must say for itself.
    #[must_use]
    pub fn new(node: NodeId, cluster: ClusterId, peer_address: SocketAddr) -> Self {
        Self {
            node,
            cluster,
            epoch: DataEpoch::ZERO,
            peer_address,
            client_address: None,
            seeds: Vec::new(),
            seed: node.as_u64(),
            datagram_bytes_max: DATAGRAM_BYTES_MAX - 100,
            probe_interval_ms: 1_000,
            probe_timeout_ms: 500,
            indirect_probes: 3,
            suspicion_multiplier: 4,
            suspicion_max_multiplier: 6,
            down_probe_interval_ms: 1_000,
            down_probe_ms_max: 24 * 3_600 * 1_000,
            gossip_interval_ms: 200,
            fanout: 3,
            rumor_multiplier: 4,
            rumor_useless_max: 5,
            rumors_max: 4_096,
            inline_value_bytes_max: 512,
            datagram_sync_bytes_max: 16 * 1024,
            stream_chunk_bytes: 256 * 1024,
            log_bytes_max: 32 * 1024 * 1024,
            checkpoint_bytes: 8 * 1024 * 1024,
            starting_ms_max: 3_000,
            seed_interval_ms: 30_000,
            payload_sends: 4,
            member_bytes_per_s: 24 * 1024,
            datagram_bytes_per_s: 8 * 1024 * 1024,
            joins_per_s: 32,
            welcomes_per_s: 8,
            reap_ms: 72 * 3_600 * 1_000,
            gc_grace_ms: 24 * 3_600 * 1_000,
            cut_interval_ms: 10_000,
            durability: Durability::Fsync,
            sync_interval_ms: 100,
            siblings: Vec::new(),
            notices: false,
            planted: Planted::default(),
        }
    }

    /// The mode that this crate is.
    pub const MODE: Mode = Mode::Eventual;

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, why| Err(ConfigError { field, why });
        if !(DATAGRAM_BYTES_MIN..=65_507).contains(&self.datagram_bytes_max) {
            return refuse("datagram_bytes_max", "a datagram holds 1040 to 65507 bytes");
        }
        if self.probe_interval_ms == 0
            || self.gossip_interval_ms == 0
            || self.down_probe_interval_ms == 0
        {
            return refuse("probe_interval_ms", "an interval is at least 1 ms");
        }
        if self.probe_timeout_ms == 0 || self.probe_timeout_ms >= self.probe_interval_ms {
            return refuse(
                "probe_timeout_ms",
                "a probe's time is less than its interval, and not 0",
            );
        }
        if self.suspicion_multiplier == 0 || self.suspicion_max_multiplier == 0 {
            return refuse("suspicion_multiplier", "a multiplier is at least 1");
        }
        if self.fanout == 0 || self.rumor_multiplier == 0 || self.rumors_max == 0 {
            return refuse("fanout", "rumors go to at least one member");
        }
        if self.member_bytes_per_s < MEMBER_BYTES_PER_S_MIN
            || self.joins_per_s == 0
            || self.welcomes_per_s == 0
        {
            return refuse(
                "member_bytes_per_s",
                "at least 8192 bytes of members a second, one join and one welcome",
            );
        }
        if self.stream_chunk_bytes < 1_024 || self.stream_chunk_bytes > 4 * 1024 * 1024 {
            return refuse("stream_chunk_bytes", "a chunk is 1 KiB to 4 MiB");
        }
        if self.seed_interval_ms == 0 || self.checkpoint_bytes == 0 {
            return refuse(
                "seed_interval_ms",
                "an interval is at least 1 ms, a checkpoint at least 1 byte",
            );
        }
        match &self.client_address {
            Some(address) if address.len() > CLIENT_ADDRESS_BYTES_MAX => {
                refuse("client_address", "a client address has at most 128 bytes")
            }
            Some(_) | None => Ok(()),
        }
    }
}
