//! Settings as typed, and the configuration as meant.
//!
//! [`Settings`] is what a person wrote, in flags, the environment or a file, all optional; [`Settings::or`] lays a stronger
//! source over a weaker one. [`Config`] is what a server starts with and can't hold a contradiction. Neither opens
//! anything; what contradicts the data directory is found in `data_dir.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use quorumor_core::limits::VOTERS_MAX;
use quorumor_core::{Mode, NodeId, Planted};
use quorumor_proto::PEER_PROTOCOL;
use serde::Deserialize;

use crate::admission::Limits;
use crate::data_dir::DataDir;
use crate::tls::TlsFiles;

mod doors;
mod eventual;
mod planted;
mod trust;

pub use doors::{CheckTargets, DnsSettings, DoorsConfig};
pub use eventual::EventualConfig;
pub use trust::TlsSettings;

/// The client address where none is named.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7400";
/// The peer address where none is named.
pub const PEER_LISTEN_DEFAULT: &str = "127.0.0.1:7401";
/// Free bytes that the logs leave alone where no number is named: room for a checkpoint.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 128 << 20;
/// The most that a test may move the wall clock: a day.
const WALL_SKEW_MS_MAX: i64 = 24 * 3_600 * 1_000;
const CLUSTER_BYTES_MAX: usize = 128;

/// What was typed. Every field is optional; names are kebab-case in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// `strong`, `eventual` or both, separated by a comma; the first is what a request gets that names none.
    pub mode: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// This node's id, from 1.
    pub node_id: Option<u64>,
    /// Where the node keeps its data.
    pub data_dir: Option<String>,
    /// The address that clients reach. Port 0 takes a free one.
    pub listen: Option<String>,
    /// The address that peers reach, by TCP and UDP. Port 0 takes a free one.
    pub peer_listen: Option<String>,
    /// What clients are told as this node's address, if it isn't `listen`.
    pub advertise_client: Option<String>,
    /// What peers are told as this node's address, if it isn't `peer_listen`.
    pub advertise_peer: Option<String>,
    /// The address where services and nodes are told by DNS, UDP and TCP. None: no DNS. Port 0 takes a free one.
    pub dns_listen: Option<String>,
    /// The domain that DNS answers for.
    pub dns_domain: Option<String>,
    /// The file with the bearer token by which DNS reads, where callers are asked who they are.
    pub dns_token_file: Option<String>,
    /// Origins whose pages may call this node from a browser, `https://host,https://host`; `*` for any.
    pub cors_origins: Option<String>,
    /// Where checks may go: `any`, or networks and `instance`, separated by commas.
    pub check_targets: Option<String>,
    /// Strong mode: every founding voter, `id=address,id=address`; the same list on each.
    pub initial_members: Option<String>,
    /// Strong mode: client addresses of members of a running cluster to join by, `address,address`. The data directory remembers
    /// that the node joined.
    pub join: Option<String>,
    /// The bearer token for joining, of the admin role, if the cluster asks for one.
    pub join_token: Option<String>,
    /// A node that joins stays a learner: it gets the data and never votes.
    pub stay_learner: Option<bool>,
    /// Eventual mode: peer addresses to join by, `address,address`. None: this is the first node.
    pub seeds: Option<String>,
    /// Addresses to use for peers instead of those that the cluster tells, `id=address,id=address`.
    pub peer_override: Option<String>,
    /// Seeds the node's random choices. Drawn at random if absent.
    pub seed: Option<u64>,
    /// Eventual mode: what a write survives that this node acknowledges: `fsync`, `interval` or `memory`. Strong mode always fsyncs on
    /// a majority.
    pub durability: Option<String>,
    /// With `interval`: how often the log is fsynced, in milliseconds.
    pub sync_interval_ms: Option<u64>,
    /// Eventual mode: keys with one of these prefixes keep all their concurrent values. The same on all nodes.
    pub siblings: Option<Vec<String>>,
    /// Eventual mode: a member that is down for longer isn't waited for when deletions are forgotten, in milliseconds.
    pub gc_grace_ms: Option<u64>,
    /// Eventual mode: a member that is down or left for longer is forgotten, and its leases' entries go, in milliseconds.
    pub reap_ms: Option<u64>,
    /// Strong mode: after how many entries a snapshot is taken and the log is cut; a quarter of them stay.
    pub snapshot_entries: Option<u64>,
    /// `enforcing`: each class of calls has its share, fairly divided, and less of it under load. `disabled`: all share one number of
    /// places.
    pub limits: Option<String>,
    /// Free bytes that the logs leave alone.
    pub disk_reserve_bytes: Option<u64>,
    /// For tests: how far this node's wall clock is off, in milliseconds.
    pub wall_skew_ms: Option<i64>,
    /// For tests: a file that says what this node's disk and clocks do wrong, read again whenever it changes.
    pub fault_file: Option<String>,
    /// For tests: the newest peer protocol to speak.
    pub peer_protocol_max: Option<u32>,
    /// For tests of what finds it: the defect to plant.
    #[cfg(feature = "plant")]
    pub plant: Option<String>,
    /// TLS.
    pub tls: Option<TlsSettings>,
    /// The keys that all nodes share, 64 hexadecimal digits a line, to encrypt and authenticate what passes between them: datagrams,
    /// and streams where there is no TLS. The first seals, each opens.
    pub cluster_key: Option<String>,
    /// The file that says who may call and do what: bearer tokens and names of certificates, with their roles.
    pub tokens: Option<String>,
    /// Whether to stand open to other machines without TLS, or without asking who calls.
    pub accept_unencrypted_and_unauthenticated: Option<bool>,
    /// Whether eventual mode may gossip by plain datagrams although TLS is on.
    pub accept_plain_gossip: Option<bool>,
}

/// Why settings are no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("can't read `{path}`: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system or the parser said.
        why: String,
    },
    /// A setting that this start needs isn't there.
    #[error("--{flag} is missing: {why}")]
    Missing {
        /// The flag.
        flag: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// A setting has a value that isn't allowed.
    #[error("--{flag} can't be {value:?}: {why}")]
    Invalid {
        /// The flag.
        flag: &'static str,
        /// What was typed.
        value: String,
        /// What is allowed.
        why: String,
    },
}

impl ConfigError {
    fn invalid(flag: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid {
            flag,
            value: value.into(),
            why: why.into(),
        }
    }
}

impl Settings {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// If it can't be read, isn't TOML, or holds a name that is no setting.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let failed = |why: String| ConfigError::File {
            path: path.display().to_string(),
            why,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        toml::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    /// These settings, and where they say nothing, the weaker ones.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            mode: self.mode.or(weaker.mode),
            cluster: self.cluster.or(weaker.cluster),
            node_id: self.node_id.or(weaker.node_id),
            data_dir: self.data_dir.or(weaker.data_dir),
            listen: self.listen.or(weaker.listen),
            peer_listen: self.peer_listen.or(weaker.peer_listen),
            advertise_client: self.advertise_client.or(weaker.advertise_client),
            advertise_peer: self.advertise_peer.or(weaker.advertise_peer),
            dns_listen: self.dns_listen.or(weaker.dns_listen),
            dns_domain: self.dns_domain.or(weaker.dns_domain),
            dns_token_file: self.dns_token_file.or(weaker.dns_token_file),
            cors_origins: self.cors_origins.or(weaker.cors_origins),
            check_targets: self.check_targets.or(weaker.check_targets),
            initial_members: self.initial_members.or(weaker.initial_members),
            join: self.join.or(weaker.join),
            join_token: self.join_token.or(weaker.join_token),
            stay_learner: self.stay_learner.or(weaker.stay_learner),
            seeds: self.seeds.or(weaker.seeds),
            peer_override: self.peer_override.or(weaker.peer_override),
            seed: self.seed.or(weaker.seed),
            durability: self.durability.or(weaker.durability),
            sync_interval_ms: self.sync_interval_ms.or(weaker.sync_interval_ms),
            siblings: self.siblings.or(weaker.siblings),
            gc_grace_ms: self.gc_grace_ms.or(weaker.gc_grace_ms),
            reap_ms: self.reap_ms.or(weaker.reap_ms),
            snapshot_entries: self.snapshot_entries.or(weaker.snapshot_entries),
            limits: self.limits.or(weaker.limits),
            disk_reserve_bytes: self.disk_reserve_bytes.or(weaker.disk_reserve_bytes),
            wall_skew_ms: self.wall_skew_ms.or(weaker.wall_skew_ms),
            fault_file: self.fault_file.or(weaker.fault_file),
            peer_protocol_max: self.peer_protocol_max.or(weaker.peer_protocol_max),
            #[cfg(feature = "plant")]
            plant: self.plant.or(weaker.plant),
            tls: match (self.tls, weaker.tls) {
                (Some(tls), Some(weaker)) => Some(tls.or(weaker)),
                (tls, weaker) => tls.or(weaker),
            },
            cluster_key: self.cluster_key.or(weaker.cluster_key),
            tokens: self.tokens.or(weaker.tokens),
            accept_unencrypted_and_unauthenticated: self
                .accept_unencrypted_and_unauthenticated
                .or(weaker.accept_unencrypted_and_unauthenticated),
            accept_plain_gossip: self.accept_plain_gossip.or(weaker.accept_plain_gossip),
        }
    }
}

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The modes served, without repetition, the default one first. Never empty.
    pub modes: Vec<Mode>,
    /// The cluster's name.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// The client port.
    pub listen: SocketAddr,
    /// The peer port.
    pub peer_listen: SocketAddr,
    /// What clients are told, if not `listen`.
    pub advertise_client: Option<String>,
    /// What peers are told, if not `peer_listen`.
    pub advertise_peer: Option<SocketAddr>,
    /// What stands open beside gRPC and HTTP.
    pub doors: DoorsConfig,
    /// Strong mode: the founding voters by id; this node is among them. Empty for a node that joins, and for one whose data
    /// directory remembers how it came.
    pub initial_members: BTreeMap<NodeId, SocketAddr>,
    /// Strong mode: client addresses to join a running cluster by.
    pub join: Vec<String>,
    /// The bearer token for joining.
    pub join_token: Option<String>,
    /// Whether a node that joins never votes.
    pub stay_learner: bool,
    /// Eventual mode: whom to join by.
    pub seeds: Vec<SocketAddr>,
    /// Addresses that stand over all others.
    pub peer_override: BTreeMap<NodeId, SocketAddr>,
    /// Seeds the random choices, if named.
    pub seed: Option<u64>,
    /// What only eventual mode has.
    pub eventual: EventualConfig,
    /// Strong mode: after how many entries a snapshot is taken. `None`: the mode's own default.
    pub snapshot_entries: Option<u64>,
    /// Whether classes of calls are held apart.
    pub limits: Limits,
    /// Free bytes that the logs leave alone.
    pub disk_reserve_bytes: u64,
    /// How far the wall clock is off, for tests.
    pub wall_skew_ms: i64,
    /// The file that says what its disk and clocks do wrong, for tests.
    pub fault_file: Option<PathBuf>,
    /// Which defect is planted, for tests of what finds it.
    pub planted: Planted,
    /// The peer protocols that it speaks.
    pub peer_protocol: RangeInclusive<u32>,
    /// TLS, if there is any.
    pub tls: Option<TlsFiles>,
    /// The cluster key's file, if there is one.
    pub cluster_key: Option<PathBuf>,
    /// The tokens file, if there is one.
    pub tokens: Option<PathBuf>,
    /// Whether a person accepted that others can come without TLS or without being asked.
    pub accept_unencrypted_and_unauthenticated: bool,
    /// Whether a person accepted plain gossip beside TLS.
    pub accept_plain_gossip: bool,
}

impl TryFrom<Settings> for Config {
    type Error = ConfigError;

    fn try_from(settings: Settings) -> Result<Self, ConfigError> {
        let modes = parse_modes(settings.mode.as_deref())?;
        let eventual = EventualConfig::parse(&settings, modes.contains(&Mode::Eventual))?;
        let planted = planted::parse(&settings)?;
        let doors = DoorsConfig::parse(&settings)?;
        let node = parse_node(settings.node_id)?;
        let config = Self {
            cluster: parse_cluster(settings.cluster)?,
            data_dir: parse_data_dir(settings.data_dir)?,
            listen: address(
                "listen",
                settings.listen.as_deref().unwrap_or(LISTEN_DEFAULT),
            )?,
            peer_listen: address(
                "peer-listen",
                settings
                    .peer_listen
                    .as_deref()
                    .unwrap_or(PEER_LISTEN_DEFAULT),
            )?,
            advertise_client: settings.advertise_client,
            advertise_peer: settings
                .advertise_peer
                .map(|text| address("advertise-peer", &text))
                .transpose()?,
            initial_members: by_id("initial-members", settings.initial_members.as_deref())?,
            join: list(settings.join.as_deref()).map(str::to_owned).collect(),
            join_token: settings.join_token,
            stay_learner: settings.stay_learner.unwrap_or(false),
            seeds: list(settings.seeds.as_deref())
                .map(|text| address("seeds", text))
                .collect::<Result<_, _>>()?,
            peer_override: by_id("peer-override", settings.peer_override.as_deref())?,
            seed: settings.seed,
            eventual,
            snapshot_entries: parse_snapshot_entries(settings.snapshot_entries, &modes)?,
            limits: parse_limits(settings.limits.as_deref())?,
            disk_reserve_bytes: settings
                .disk_reserve_bytes
                .unwrap_or(DISK_RESERVE_BYTES_DEFAULT),
            wall_skew_ms: parse_skew(settings.wall_skew_ms)?,
            fault_file: settings.fault_file.map(PathBuf::from),
            peer_protocol: parse_protocol(settings.peer_protocol_max)?,
            tls: trust::parse_tls(settings.tls)?,
            cluster_key: settings.cluster_key.map(PathBuf::from),
            tokens: settings.tokens.map(PathBuf::from),
            accept_unencrypted_and_unauthenticated: settings
                .accept_unencrypted_and_unauthenticated
                .unwrap_or(false),
            accept_plain_gossip: settings.accept_plain_gossip.unwrap_or(false),
            modes,
            node,
            planted,
            doors,
        };
        config.check_members()?;
        config.check_addresses()?;
        config.check_openness()?;
        Ok(config)
    }
}

fn parse_limits(word: Option<&str>) -> Result<Limits, ConfigError> {
    match word {
        None | Some("enforcing") => Ok(Limits::Enforcing),
        Some("disabled") => Ok(Limits::Disabled),
        Some(other) => {
            let why = "it is enforcing or disabled";
            Err(ConfigError::invalid("limits", other, why))
        }
    }
}

/// Fewer would write snapshots without end, more would keep a log that no disk wants.
const SNAPSHOT_ENTRIES: RangeInclusive<u64> = 100..=10_000_000;

fn parse_snapshot_entries(
    entries: Option<u64>,
    modes: &[Mode],
) -> Result<Option<u64>, ConfigError> {
    let Some(count) = entries else {
        return Ok(None);
    };
    let refused = |why: String| {
        let flag = "snapshot-entries";
        Err(ConfigError::invalid(flag, count.to_string(), why))
    };
    if !modes.contains(&Mode::Strong) {
        return refused("only strong mode has a log of entries".to_owned());
    }
    if !SNAPSHOT_ENTRIES.contains(&count) {
        let (least, most) = (SNAPSHOT_ENTRIES.start(), SNAPSHOT_ENTRIES.end());
        return refused(format!("it is {least} to {most}"));
    }
    Ok(entries)
}

impl Config {
    fn check_members(&self) -> Result<(), ConfigError> {
        let members = &self.initial_members;
        let shown = || {
            let pairs: Vec<_> = members
                .iter()
                .map(|(id, address)| format!("{id}={address}"))
                .collect();
            pairs.join(",")
        };
        let invalid = |why: String| Err(ConfigError::invalid("initial-members", shown(), why));
        if !self.modes.contains(&Mode::Strong) {
            if !self.join.is_empty() {
                let why = "only strong mode joins by clients' addresses; name seeds instead";
                return Err(ConfigError::invalid("join", self.join.join(","), why));
            }
            if members.is_empty() {
                return Ok(());
            }
            return invalid("only strong mode has founding members; name seeds instead".into());
        }
        if !self.join.is_empty() && !members.is_empty() {
            return invalid("a node founds a cluster or joins one by --join, not both".into());
        }
        if members.is_empty() {
            // A directory that was in use remembers how its node came.
            if !self.join.is_empty() || DataDir::is_made(&self.data_dir) {
                return Ok(());
            }
            return Err(ConfigError::Missing {
                flag: "initial-members",
                why: "a strong cluster begins with every founding voter, as id=address,id=address; a node that comes later has --join",
            });
        }
        if members.len() > VOTERS_MAX {
            return invalid(format!("at most {VOTERS_MAX} voters are allowed"));
        }
        if !members.contains_key(&self.node) {
            return invalid(format!("this node, {}, must be among them", self.node));
        }
        let addresses: BTreeSet<_> = members.values().collect();
        if addresses.len() < members.len() {
            return invalid("two members have the same address".into());
        }
        if members.values().any(|address| address.port() == 0) {
            return invalid("a member's port can't be 0".into());
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        if !self.seeds.is_empty() && !self.modes.contains(&Mode::Eventual) {
            let seeds: Vec<_> = self.seeds.iter().map(ToString::to_string).collect();
            return Err(ConfigError::invalid(
                "seeds",
                seeds.join(","),
                "only eventual mode joins by seeds; strong mode has --initial-members",
            ));
        }
        if let Some(address) = self.peer_override.get(&self.node) {
            return Err(ConfigError::invalid(
                "peer-override",
                format!("{}={address}", self.node),
                "a node doesn't dial itself; name other nodes only",
            ));
        }
        let known = self
            .advertise_peer
            .or(self.initial_members.get(&self.node).copied());
        if self.peer_listen.ip().is_unspecified() && known.is_none() {
            return Err(ConfigError::Missing {
                flag: "advertise-peer",
                why: "peers can't reach the unspecified address in --peer-listen; name the one they can",
            });
        }
        Ok(())
    }
}

fn parse_modes(text: Option<&str>) -> Result<Vec<Mode>, ConfigError> {
    let Some(text) = text else {
        return Err(ConfigError::Missing {
            flag: "mode",
            why: "say strong, eventual or strong,eventual",
        });
    };
    let invalid = |why: String| ConfigError::invalid("mode", text, why);
    let mut modes = Vec::new();
    for name in list(Some(text)) {
        let mode: Mode = name.parse().map_err(|_| {
            invalid(format!(
                "{name:?} is no mode; say strong, eventual or strong,eventual"
            ))
        })?;
        if modes.contains(&mode) {
            return Err(invalid(format!("{mode} is named twice")));
        }
        modes.push(mode);
    }
    if modes.is_empty() {
        return Err(invalid("say strong, eventual or strong,eventual".into()));
    }
    Ok(modes)
}

fn parse_node(id: Option<u64>) -> Result<NodeId, ConfigError> {
    let id = id.ok_or(ConfigError::Missing {
        flag: "node-id",
        why: "every node has a number of its own, from 1",
    })?;
    NodeId::try_from(id)
        .map_err(|_| ConfigError::invalid("node-id", id.to_string(), "node ids begin at 1"))
}

fn parse_cluster(name: Option<String>) -> Result<String, ConfigError> {
    let name = name.ok_or(ConfigError::Missing {
        flag: "cluster",
        why: "the cluster's name keeps nodes of different clusters apart",
    })?;
    let fits = (1..=CLUSTER_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(name);
    }
    let why =
        format!("a name is 1 to {CLUSTER_BYTES_MAX} printable ASCII characters without spaces");
    Err(ConfigError::invalid("cluster", name, why))
}

fn parse_data_dir(path: Option<String>) -> Result<PathBuf, ConfigError> {
    match path {
        Some(path) if !path.is_empty() => Ok(path.into()),
        Some(_) | None => Err(ConfigError::Missing {
            flag: "data-dir",
            why: "the node keeps its log and its identity there",
        }),
    }
}

fn parse_skew(ms: Option<i64>) -> Result<i64, ConfigError> {
    let ms = ms.unwrap_or(0);
    if ms
        .checked_abs()
        .is_some_and(|size| size <= WALL_SKEW_MS_MAX)
    {
        return Ok(ms);
    }
    let why = format!("at most {WALL_SKEW_MS_MAX} to either side");
    Err(ConfigError::invalid("wall-skew-ms", ms.to_string(), why))
}

fn parse_protocol(max: Option<u32>) -> Result<RangeInclusive<u32>, ConfigError> {
    let (oldest, newest) = (*PEER_PROTOCOL.start(), *PEER_PROTOCOL.end());
    match max {
        None => Ok(PEER_PROTOCOL),
        Some(max) if PEER_PROTOCOL.contains(&max) => Ok(oldest..=max),
        Some(other) => {
            let why = format!("this version speaks {oldest} to {newest}");
            Err(ConfigError::invalid(
                "peer-protocol-max",
                other.to_string(),
                why,
            ))
        }
    }
}

fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// An address, or the first that a host name stands for.
fn address(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let invalid = |why: String| ConfigError::invalid(flag, text, why);
    text.to_socket_addrs()
        .map_err(|error| invalid(format!("it must be host:port ({error})")))?
        .next()
        .ok_or_else(|| invalid("the host has no address".into()))
}

fn by_id(
    flag: &'static str,
    text: Option<&str>,
) -> Result<BTreeMap<NodeId, SocketAddr>, ConfigError> {
    let mut addresses = BTreeMap::new();
    for item in list(text) {
        let invalid = |why: &str| ConfigError::invalid(flag, item, why);
        let (id, at) = item
            .split_once('=')
            .ok_or_else(|| invalid("it must be id=host:port"))?;
        let id: NodeId = id
            .trim()
            .parse()
            .map_err(|_| invalid("the id is a number from 1"))?;
        if addresses.insert(id, address(flag, at.trim())?).is_some() {
            return Err(invalid("this id is named twice"));
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests;
