//! A node: opens its data, binds its ports, starts a driver a mode, and stops them all in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorumor_core::{ClusterId, DataEpoch, Mode, NodeId, Recovered, Replica, Role};
use quorumor_dns::{Dns, DnsConfig};
use quorumor_gossip::{GossipConfig, GossipReplica};
use quorumor_raft::{Compaction, RaftConfig, RaftReplica};
use quorumor_wal::{Disk, WalError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::admission::Client;
use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::driver::{Arrivals, Driver, Inbox, Surroundings, lanes};
use crate::envelope::DATAGRAM_PAYLOAD_BYTES_MAX;
use crate::fault::{Faults, NodeDisk};
use crate::handle::Handle;
use crate::http::Doors;
use crate::join::JoinError;
use crate::metrics;
use crate::origin::{Origin, Way};
use crate::peers::{Book, Guards, Identity, Peers, Sockets};
use crate::persist::{LogThread, SpaceLimits};
use crate::service::Service;
use crate::shutdown::{Alarm, FatalError, FatalSender};
use crate::store::Store;
use crate::trust::{Trust, TrustError};
use crate::weight;

mod counted;
mod opening;

use counted::Counted;
use opening::{
    bind, bind_dns, client_told, clusters, find_origin, founders, load_trust, log_options,
    open_data,
};

/// All who ask by DNS are one client, apart from every connection.
const DNS_CLIENT: Client = Client(u64::MAX);
/// How long calls that are under way may take once the node leaves.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a leader waits for another to take over.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long a goodbye may take to leave the sockets.
const GOODBYE: Duration = Duration::from_millis(50);
/// Fatal errors that are kept: one for each part of each mode, and the port.
const FATAL_MAX: usize = 8;

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its certificates, its cluster key or its tokens file can't be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It can't join its cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The configuration doesn't fit how the node came to its cluster.
    #[error("{why}")]
    Origin {
        /// What doesn't fit, and what to do.
        why: String,
    },
    /// A log can't be opened.
    #[error("the {mode} log can't be opened: {source}")]
    Log {
        /// Whose log.
        mode: Mode,
        /// What was found.
        source: WalError,
    },
    /// A replica can't go on from what the log holds.
    #[error("the {mode} replica can't start: {why}")]
    Replica {
        /// Which.
        mode: Mode,
        /// What was found.
        why: String,
    },
    /// A port can't be bound.
    #[error("can't listen on {address} (--{flag}): {source}")]
    Bind {
        /// The flag that names it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The token by which DNS reads can't be used.
    #[error("the token in `{path}` (--dns-token-file) can't be used: {why}")]
    DnsToken {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The system refused a thread or a file.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

/// A running node.
#[derive(Debug)]
pub struct Server {
    client_address: SocketAddr,
    peer_address: SocketAddr,
    dns_address: Option<SocketAddr>,
    running: Running,
    serving: tokio::task::JoinHandle<()>,
    trust: Trust,
    /// Whoever drops a server without shutting it down still stops its tasks.
    _guard: DropGuard,
}

/// What one mode was found with.
struct Found {
    mode: Mode,
    store: Store<NodeDisk>,
    probe: NodeDisk,
    recovered: Recovered,
}

impl Server {
    /// Starts a node. When this returns, its ports are bound and its replicas run.
    ///
    /// # Errors
    /// If the data directory, a log, a replica or a port refuses.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        metrics::recorder();
        let trust = load_trust(config.clone()).await?;
        let guards = Guards {
            tls: trust.tls.clone(),
            key: trust.key.clone(),
        };
        let (listener, sockets) = bind(&config, guards).await?;
        let client_address = listener.local_addr()?;
        let peer_address = sockets.tcp.local_addr()?;
        let dns = bind_dns(&config).await?;
        let dns_address = dns.as_ref().map(|(dns, _)| dns.local_address());
        let origin = find_origin(&config, peer_address.port()).await?;
        let clusters = clusters(&config, origin.as_ref());
        let faults = config.fault_file.as_deref().map(Faults::follow);
        let faults = faults.transpose()?;
        let (data_dir, found) = open_data(
            config.clone(),
            clusters.clone(),
            origin.clone(),
            faults.clone(),
        )
        .await?;
        let node = Node {
            client_address: client_told(&config, client_address),
            peer_address: config
                .advertise_peer
                .or(config.initial_members.get(&config.node).copied())
                .unwrap_or(peer_address),
            clusters,
            origin,
            clock: Clock::new(config.wall_skew_ms, faults),
            seed: config.seed.unwrap_or_else(rand::random),
            data_dir: Arc::new(data_dir),
            config,
        };
        let (mut running, arrivals) = Running::start(node, sockets)?;
        let guard = running.stop.clone().drop_guard();
        for (found, arrivals) in found.into_iter().zip(arrivals) {
            running.start_mode(found, arrivals)?;
        }
        let serving = running.serve(listener, trust.clone(), dns);
        tokio::spawn(trust.clone().follow(running.stop.clone()));
        tracing::info!(node = %running.node.config.node, client = %client_address, peer = %peer_address, "the node runs");
        Ok(Self {
            client_address,
            peer_address,
            dns_address,
            running,
            serving,
            trust,
            _guard: guard,
        })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where peers reach it.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Where it answers DNS, if it does.
    #[must_use]
    pub fn dns_address(&self) -> Option<SocketAddr> {
        self.dns_address
    }

    /// The modes that it serves, the default one first.
    #[must_use]
    pub fn modes(&self) -> &[Mode] {
        &self.running.node.config.modes
    }

    /// Its id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.running.node.config.node
    }

    /// Whether it has certificates, tokens or a cluster key, which [`Self::reload`] reads again.
    #[must_use]
    pub fn has_trust_files(&self) -> bool {
        self.trust.has_files()
    }

    /// Reads certificates, tokens and the cluster key again, now rather than within two seconds. Files that are no good are logged, and the
    /// older ones stay in use.
    pub async fn reload(&self) {
        let trust = self.trust.clone();
        // A panic in there has been told by its hook.
        let _ = tokio::task::spawn_blocking(move || trust.reload()).await;
    }

    /// Resolves when something broke that the node can't go on without: shut it down, don't restart it in place.
    pub async fn failed(&mut self) -> FatalError {
        match self.running.fatal.recv().await {
            Some(error) => error,
            // The server holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// Leaves its clusters, lets calls that are under way finish, makes everything durable, and stops every task and
    /// thread.
    pub async fn shutdown(mut self) {
        let node = self.node();
        tracing::info!(%node, "the node leaves");
        self.running.leave.cancel();
        let served = tokio::time::timeout(DRAIN, &mut self.serving).await;
        if served.is_err() {
            tracing::warn!(%node, "calls are still open, closing their connections");
            self.serving.abort();
        }
        self.hand_over().await;
        tokio::time::sleep(GOODBYE).await;
        self.running.stop.cancel();
        self.running.drivers.close();
        self.running.drivers.wait().await;
        self.running.peers.stopped().await;
        for log in std::mem::take(&mut self.running.logs) {
            // A thread that panicked has sounded its alarm.
            let _ = tokio::task::spawn_blocking(move || log.join()).await;
        }
        tracing::info!(%node, "the node stopped");
    }

    /// Waits while this node still leads, but not for long: others can elect without it.
    async fn hand_over(&self) {
        let began = Instant::now();
        while self.leads() && began.elapsed() < HAND_OVER {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn leads(&self) -> bool {
        self.running.handles.iter().any(|handle| {
            let published = handle.published();
            let status = &published.view.status;
            let others = status.counts.alive > 1;
            others
                && match &status.role {
                    Role::Strong { leader, .. } => leader
                        .as_ref()
                        .is_some_and(|leader| leader.node == self.node()),
                    Role::Eventual { .. } => false,
                }
        })
    }
}

/// What every mode of the node shares.
#[derive(Debug)]
struct Node {
    /// Holds the lock.
    data_dir: Arc<DataDir>,
    config: Config,
    clusters: Vec<(Mode, ClusterId)>,
    /// How it came to its strong cluster, if it is no founder.
    origin: Option<Origin>,
    clock: Clock,
    seed: u64,
    client_address: Option<String>,
    peer_address: SocketAddr,
}

impl Node {
    fn identity(&self) -> Identity {
        Identity {
            cluster_name: self.config.cluster.clone(),
            node: self.config.node,
            store: self.data_dir.store(),
            modes: self.clusters.clone(),
            protocol: self.config.peer_protocol.clone(),
        }
    }

    fn lanes(&self) -> (BTreeMap<Mode, Inbox>, Vec<Arrivals>) {
        let mut inboxes = BTreeMap::new();
        let mut arrivals = Vec::new();
        for mode in &self.config.modes {
            let (inbox, arrived) = lanes();
            inboxes.insert(*mode, inbox);
            arrivals.push(arrived);
        }
        (inboxes, arrivals)
    }

    fn cluster(&self, mode: Mode) -> ClusterId {
        let found = self.clusters.iter().find(|(served, _)| *served == mode);
        found.map(|(_, cluster)| *cluster).unwrap_or_default()
    }

    /// Whom to talk to before the cluster has told more.
    fn first_peers(&self) -> &BTreeMap<NodeId, SocketAddr> {
        match &self.origin {
            Some(origin) => &origin.members,
            None => &self.config.initial_members,
        }
    }

    fn open_strong(&self, recovered: Recovered) -> Result<RaftReplica, String> {
        let identity = quorumor_raft::Identity {
            node: self.config.node,
            cluster: self.cluster(Mode::Strong),
            epoch: self
                .origin
                .as_ref()
                .map_or(DataEpoch::ZERO, |origin| origin.epoch),
            store: self.data_dir.store(),
        };
        let nonce = rand::random();
        let config = match self.origin.as_ref().map(|origin| origin.way) {
            Some(Way::Joined) => Ok(RaftConfig::joining(identity, self.seed, nonce)),
            Some(Way::Restored) | None => {
                RaftConfig::new(identity, &founders(self.first_peers()), self.seed, nonce)
            }
        };
        let every = self.config.snapshot_entries;
        let compaction = every.map_or_else(Compaction::default, Compaction::every);
        let config = config
            .map_err(|error| error.to_string())?
            .with_client_address(self.client_address.clone())
            .with_compaction(compaction)
            .with_planted(self.config.planted);
        RaftReplica::open(config, recovered, self.clock.now()).map_err(|error| error.to_string())
    }

    fn open_eventual(&self, recovered: Recovered) -> Result<GossipReplica, String> {
        let cluster = self.cluster(Mode::Eventual);
        let mut config = GossipConfig::new(self.config.node, cluster, self.peer_address);
        config.client_address = self.client_address.clone();
        config.seeds = self.config.seeds.clone();
        config.seed = self.seed;
        let eventual = &self.config.eventual;
        config.durability = eventual.durability;
        config.siblings = eventual.siblings.clone();
        if let Some(ms) = eventual.sync_interval_ms {
            config.sync_interval_ms = ms;
        }
        if let Some(ms) = eventual.gc_grace_ms {
            config.gc_grace_ms = ms;
        }
        if let Some(ms) = eventual.reap_ms {
            config.reap_ms = ms;
        }
        config.datagram_bytes_max = DATAGRAM_PAYLOAD_BYTES_MAX;
        config.planted = self.config.planted;
        GossipReplica::open(config, recovered, self.clock.now()).map_err(|error| error.to_string())
    }
}

/// The parts that run.
#[derive(Debug)]
struct Running {
    node: Node,
    peers: Peers,
    drivers: TaskTracker,
    logs: Vec<JoinHandle<()>>,
    handles: Vec<Handle>,
    leave: CancellationToken,
    stop: CancellationToken,
    /// Kept, so that the channel never closes.
    alarm: FatalSender,
    fatal: mpsc::Receiver<FatalError>,
}

impl Running {
    /// Starts what the modes share; the lanes are for their drivers.
    fn start(node: Node, sockets: Sockets) -> Result<(Self, Vec<Arrivals>), StartError> {
        let (alarm, fatal) = mpsc::channel(FATAL_MAX);
        let stop = CancellationToken::new();
        let (inboxes, arrivals) = node.lanes();
        let config = &node.config;
        let peers = Peers::spawn(
            node.identity(),
            sockets,
            Book::new(config.peer_override.clone(), node.first_peers().clone()),
            node.data_dir.peer_stores()?,
            inboxes,
            stop.clone(),
        );
        if config.modes.contains(&Mode::Strong) {
            let others = node.first_peers().keys().copied();
            peers.keep_connected(others);
        }
        let running = Self {
            node,
            peers,
            drivers: TaskTracker::new(),
            logs: Vec::new(),
            handles: Vec::new(),
            leave: CancellationToken::new(),
            stop,
            alarm,
            fatal,
        };
        Ok((running, arrivals))
    }

    fn serve(
        &self,
        listener: TcpListener,
        trust: Trust,
        dns: Option<(Dns, DnsConfig)>,
    ) -> tokio::task::JoinHandle<()> {
        let (handles, leave) = (self.handles.clone(), self.leave.clone());
        let name = self.node.config.cluster.clone();
        let service = Service::new(
            name,
            handles.clone(),
            leave.clone(),
            Arc::clone(&trust.auth),
        );
        let targets = &self.node.config.doors.check_targets;
        service.start_registries(&self.drivers, targets);
        let alarm = self.alarm.clone();
        let origins = self.node.config.doors.cors_origins.clone();
        let doors = Doors::new(service, trust, handles, origins);
        if let Some((dns, config)) = dns {
            let serving = dns.serve(doors.inside_as(DNS_CLIENT), config, leave.clone());
            self.drivers.spawn(serving);
        }
        tokio::spawn(serve(listener, doors, leave, alarm))
    }

    fn start_mode(&mut self, found: Found, arrivals: Arrivals) -> Result<(), StartError> {
        let Found {
            mode,
            store,
            probe,
            recovered,
        } = found;
        let refused = |why| StartError::Replica { mode, why };
        let log = (store, probe);
        match mode {
            Mode::Strong => {
                let replica = self.node.open_strong(recovered).map_err(refused)?;
                self.start_replica(mode, replica, log, arrivals)
            }
            Mode::Eventual => {
                let replica = self.node.open_eventual(recovered).map_err(refused)?;
                self.start_replica(mode, Counted(replica), log, arrivals)
            }
        }
    }

    fn start_replica<R: Replica + Send + 'static>(
        &mut self,
        mode: Mode,
        replica: R,
        (store, probe): (Store<NodeDisk>, NodeDisk),
        arrivals: Arrivals,
    ) -> Result<(), StartError> {
        let clock = self.node.clock.clone();
        let standing = self.peers.standing();
        let bytes = weight::Bytes::default();
        let hub_id = rand::random();
        let (handle, requests) = Handle::new(
            mode,
            clock.clone(),
            replica.view(),
            hub_id,
            bytes.clone(),
            standing,
            self.node.config.limits,
        );
        // The log must never wait for the driver that waits for it. What is told is at most what the replica asked for.
        let (finished, told) = mpsc::unbounded_channel();
        let reserve = self.node.config.disk_reserve_bytes;
        // The lock is held until the last thread that writes has ended.
        let held = Arc::clone(&self.node.data_dir);
        let thread = LogThread {
            mode,
            store,
            free_bytes: move || {
                let _held = &held;
                probe.free_bytes()
            },
            limits: SpaceLimits::new(reserve, log_options(reserve).zero_step),
            finished,
            bytes,
        };
        let alarm = |part| Alarm::new(part, mode, self.alarm.clone());
        let (log, joined) = thread.spawn(alarm("log"))?;
        let around = Surroundings {
            clock,
            handle: handle.clone(),
            requests,
            arrivals,
            finished: told,
            log,
            peers: self.peers.clone(),
        };
        let (leave, stop) = (self.leave.clone(), self.stop.clone());
        let driver = Driver::new(replica, around);
        self.drivers.spawn(driver.run(leave, stop, alarm("driver")));
        self.logs.push(joined);
        self.handles.push(handle);
        Ok(())
    }
}

async fn serve(listener: TcpListener, doors: Doors, leave: CancellationToken, alarm: FatalSender) {
    let leaving = leave.clone();
    let why = match doors.serve(listener, leave).await {
        Ok(()) if leaving.is_cancelled() => return,
        Ok(()) => "it stopped accepting".to_owned(),
        Err(error) => error.to_string(),
    };
    // If the channel is full, the node stops already.
    let _ = alarm.try_send(FatalError::ClientPort { why });
}
