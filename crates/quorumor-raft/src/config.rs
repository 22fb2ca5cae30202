//! What a strong replica is told before it starts, checked: a [`RaftConfig`] can't hold a contradiction.
//!
//! Not the shell's configuration: no paths, no client port, no certificates.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use quorumor_core::limits::VOTERS_MAX;
use quorumor_core::{ClusterId, DataEpoch, NodeId, Planted, StoreId};

use crate::hash::{mix, text};

/// One of the nodes that the cluster begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Founder {
    /// The node.
    pub node: NodeId,
    /// Where it talks to peers.
    pub peer_address: SocketAddr,
}

/// Who a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// Its cluster, as [`cluster_id`] gives it.
    pub cluster: ClusterId,
    /// The data epoch that a new cluster begins with; later the data itself says it.
    pub epoch: DataEpoch,
    /// The data directory.
    pub store: StoreId,
}

/// How fast raft's clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One tick, in microseconds.
    pub tick_us: u64,
    /// A leader's heartbeat comes every so many ticks.
    pub heartbeat_ticks: u32,
    /// A follower that heard no leader for this many ticks, and up to twice as many, stands for election.
    pub election_ticks: u32,
}

impl Default for Timing {
    /// Ticks of 25 ms; a heartbeat every 100 ms; elections after 1.25 to 2.5 s: a leader that stands still for a second on a
    /// busy machine keeps its lead, and 50 ticks spread so finely that two of five nodes seldom stand in the same one. A leader
    /// whose process is gone is noticed sooner, by its closed connection.
    fn default() -> Self {
        Self {
            tick_us: 25_000,
            heartbeat_ticks: 4,
            election_ticks: 50,
        }
    }
}

impl Timing {
    /// The election timeout, without its jitter, in microseconds.
    #[must_use]
    pub fn election_timeout_us(&self) -> u64 {
        self.tick_us.saturating_mul(u64::from(self.election_ticks))
    }

    /// From one heartbeat of a leader to the next, in microseconds.
    #[must_use]
    pub fn heartbeat_interval_us(&self) -> u64 {
        self.tick_us.saturating_mul(u64::from(self.heartbeat_ticks))
    }
}

/// When the log is cut, and how much of it stays for followers that are a little behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// A checkpoint comes after this many applied entries.
    pub entries_max: u64,
    /// Or after this many bytes of them, if that comes first.
    pub bytes_max: u64,
    /// Applied entries that stay in the log.
    pub keep_entries: u64,
    /// Their bytes, at most.
    pub keep_bytes: u64,
}

impl Default for Compaction {
    /// Every 20,000 entries or 64 MiB (one log segment); 5,000 entries or 16 MiB stay, so a follower that was away for
    /// seconds needs no snapshot.
    fn default() -> Self {
        Self {
            entries_max: 20_000,
            bytes_max: 64 * 1024 * 1024,
            keep_entries: 5_000,
            keep_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Compaction {
    /// After so many entries, or by the default's bytes; a quarter of them stay in the log.
    #[must_use]
    pub fn every(entries: u64) -> Self {
        Self {
            entries_max: entries,
            keep_entries: entries / 4,
            ..Self::default()
        }
    }
}

/// How much of the past stays readable. Whatever comes first ends a revision's stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryWindow {
    /// Revisions that stay.
    pub revisions: u64,
    /// How long they stay, in milliseconds of log time.
    pub age_ms: u64,
    /// The bytes of keys and values that they may hold.
    pub bytes: u64,
}

impl Default for HistoryWindow {
    /// 10,000 revisions, 10 minutes, 16 MiB.
    fn default() -> Self {
        Self {
            revisions: 10_000,
            age_ms: 10 * 60 * 1_000,
            bytes: 16 * 1024 * 1024,
        }
    }
}

/// Why a configuration is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There are no founders, or too many.
    #[error("a cluster begins with 1 to {VOTERS_MAX} members, not {found}")]
    Founders {
        /// How many were named.
        found: usize,
    },
    /// A founder is named twice, or two share an address.
    #[error("initial member {node} at {peer_address} is named twice, or shares its address")]
    Duplicate {
        /// The node.
        node: NodeId,
        /// Its address.
        peer_address: SocketAddr,
    },
    /// This node isn't a founder.
    #[error("node {node} is not among the initial members")]
    NotAMember {
        /// This node.
        node: NodeId,
    },
    /// The timing can't work.
    #[error("{field} is {found}, it must be {wanted}")]
    Timing {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is allowed.
        wanted: &'static str,
    },
}

/// A valid configuration of a strong replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftConfig {
    identity: Identity,
    founders: Vec<Founder>,
    client_address: Option<String>,
    seed: u64,
    boot_nonce: u64,
    timing: Timing,
    compaction: Compaction,
    history: HistoryWindow,
    planted: Planted,
}

impl RaftConfig {
    /// A configuration with default timing and compaction. `seed` is the source of all randomness; `boot_nonce` is a
    /// number that no earlier start of this node used.
    ///
    /// # Errors
    /// If the founders are none, too many, or twice the same, or this node isn't one of them.
    pub fn new(
        identity: Identity,
        founders: &[Founder],
        seed: u64,
        boot_nonce: u64,
    ) -> Result<Self, ConfigError> {
        let founders = check_founders(founders)?;
        if founders.iter().all(|founder| founder.node != identity.node) {
            return Err(ConfigError::NotAMember {
                node: identity.node,
            });
        }
        Ok(Self {
            identity,
            founders,
            client_address: None,
            seed,
            boot_nonce,
            timing: Timing::default(),
            compaction: Compaction::default(),
            history: HistoryWindow::default(),
            planted: Planted::default(),
        })
    }

    /// A configuration of a node that joins a cluster which runs already: it knows no founders, waits as a listener for the
    /// leader's snapshot and never stands for election before it is made a voter. The members must have been told of it
    /// ([`AddLearner`](quorumor_core::ClusterAction::AddLearner)), or nobody will talk to it. Later starts of the same node
    /// take the same configuration: what it has learned is on its disk.
    #[must_use]
    pub fn joining(identity: Identity, seed: u64, boot_nonce: u64) -> Self {
        Self {
            identity,
            founders: Vec::new(),
            client_address: None,
            seed,
            boot_nonce,
            timing: Timing::default(),
            compaction: Compaction::default(),
            history: HistoryWindow::default(),
            planted: Planted::default(),
        }
    }

    /// Whether this node joins a cluster that runs already.
    #[must_use]
    pub const fn joins(&self) -> bool {
        self.founders.is_empty()
    }

    /// With the address where this node serves clients: leader hints name it.
    #[must_use]
    pub fn with_client_address(mut self, address: Option<String>) -> Self {
        self.client_address = address;
        self
    }

    /// With another timing.
    ///
    /// # Errors
    /// If a tick is nothing, or an election timeout isn't at least three heartbeats.
    pub fn with_timing(mut self, timing: Timing) -> Result<Self, ConfigError> {
        let bad = |field, found, wanted| {
            Err(ConfigError::Timing {
                field,
                found,
                wanted,
            })
        };
        if timing.tick_us == 0 {
            return bad("tick_us", 0, "at least 1");
        }
        if timing.heartbeat_ticks == 0 {
            return bad("heartbeat_ticks", 0, "at least 1");
        }
        if u64::from(timing.election_ticks) < 3 * u64::from(timing.heartbeat_ticks) {
            return bad(
                "election_ticks",
                u64::from(timing.election_ticks),
                "at least three heartbeats",
            );
        }
        self.timing = timing;
        Ok(self)
    }

    /// With another compaction. Zero limits count as one.
    #[must_use]
    pub fn with_compaction(mut self, compaction: Compaction) -> Self {
        self.compaction = Compaction {
            entries_max: compaction.entries_max.max(1),
            bytes_max: compaction.bytes_max.max(1),
            ..compaction
        };
        self
    }

    /// With another window of history. The leader's counts; the nodes of a cluster should have the same.
    #[must_use]
    pub const fn with_history(mut self, window: HistoryWindow) -> Self {
        self.history = window;
        self
    }

    /// With a defect, for tests of what finds it.
    #[must_use]
    pub const fn with_planted(mut self, planted: Planted) -> Self {
        self.planted = planted;
        self
    }

    /// Which defect is planted.
    #[must_use]
    pub const fn planted(&self) -> Planted {
        self.planted
    }

    /// Who this replica is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.identity.node
    }

    /// The founders, by id; none for a node that joins.
    #[must_use]
    pub fn founders(&self) -> &[Founder] {
        &self.founders
    }

    /// Where this node serves clients.
    #[must_use]
    pub fn client_address(&self) -> Option<&str> {
        self.client_address.as_deref()
    }

    /// The source of all randomness.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of this start.
    #[must_use]
    pub const fn boot_nonce(&self) -> u64 {
        self.boot_nonce
    }

    /// How fast raft's clock goes.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// How much of the past stays readable.
    #[must_use]
    pub const fn history(&self) -> HistoryWindow {
        self.history
    }

    /// The least that a lease or a session lives: an election must not end one that is renewed in time.
    #[must_use]
    pub fn ttl_ms_min(&self) -> u64 {
        (self.timing.election_timeout_us().saturating_mul(3) / 2).div_ceil(1_000)
    }

    /// When the log is cut.
    #[must_use]
    pub const fn compaction(&self) -> &Compaction {
        &self.compaction
    }
}

pub(crate) fn check_founders(founders: &[Founder]) -> Result<Vec<Founder>, ConfigError> {
    if founders.is_empty() || founders.len() > VOTERS_MAX {
        return Err(ConfigError::Founders {
            found: founders.len(),
        });
    }
    let mut sorted = founders.to_vec();
    sorted.sort();
    let (mut nodes, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for founder in &sorted {
        if !nodes.insert(founder.node) || !addresses.insert(founder.peer_address) {
            return Err(ConfigError::Duplicate {
                node: founder.node,
                peer_address: founder.peer_address,
            });
        }
    }
    Ok(sorted)
}

/// The id of a cluster: a hash of its name and of its founders, in whatever order they were named. Never zero.
#[must_use]
pub fn cluster_id(name: &str, founders: &[Founder]) -> ClusterId {
    let mut sorted = founders.to_vec();
    sorted.sort();
    let mut hash = text(name);
    for founder in sorted {
        hash = mix(&[
            hash,
            founder.node.as_u64(),
            text(&founder.peer_address.to_string()),
        ]);
    }
    ClusterId::new(hash.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founder(node: u64, port: u16) -> Founder {
        Founder {
            node: NodeId::try_from(node).unwrap(),
            peer_address: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    fn config(node: u64, founders: &[Founder]) -> Result<RaftConfig, ConfigError> {
        let identity = Identity {
            node: founder(node, 0).node,
            cluster: cluster_id("c", founders),
            epoch: DataEpoch::ZERO,
            store: StoreId::new(7),
        };
        RaftConfig::new(identity, founders, 1, 1)
    }

    #[test]
    fn the_cluster_id_depends_on_name_and_members_and_not_on_their_order() {
        let (a, b) = (founder(1, 10), founder(2, 20));
        assert_eq!(cluster_id("x", &[a, b]), cluster_id("x", &[b, a]));
        assert_ne!(cluster_id("x", &[a, b]), cluster_id("y", &[a, b]));
        assert_ne!(cluster_id("x", &[a, b]), cluster_id("x", &[a]));
        assert_ne!(
            cluster_id("x", &[a, b]),
            cluster_id("x", &[a, founder(2, 21)])
        );
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(config(1, &[founder(1, 10), founder(2, 20)]).is_ok());
        assert_eq!(config(1, &[]), Err(ConfigError::Founders { found: 0 }));
        assert!(matches!(
            config(3, &[founder(1, 10)]),
            Err(ConfigError::NotAMember { .. })
        ));
        for twice in [founder(1, 20), founder(2, 10)] {
            assert!(matches!(
                config(1, &[founder(1, 10), twice]),
                Err(ConfigError::Duplicate { .. })
            ));
        }
        let many: Vec<_> = (1..=8).map(|id| founder(id, 10 + id as u16)).collect();
        assert_eq!(config(1, &many), Err(ConfigError::Founders { found: 8 }));
        let slow = Timing {
            tick_us: 1,
            heartbeat_ticks: 4,
            election_ticks: 8,
        };
        assert!(
            config(1, &[founder(1, 10)])
                .unwrap()
                .with_timing(slow)
                .is_err()
        );
    }
}
