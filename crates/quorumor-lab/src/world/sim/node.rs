//! A simulated node: its disk, and while it runs its replica over its log.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use quorumor_core::{
    DataEpoch, Input, Mono, NodeId, Now, Output, Persist, Recovered, Replica, StoreId,
};
use quorumor_gossip::{GossipConfig, GossipReplica};
use quorumor_raft::{Compaction, Founder, HistoryWindow, Identity, RaftConfig, RaftReplica};
use quorumor_server::store::Store;
use quorumor_wal::{LogOptions, SimDisk};

use super::clock::Clock;
use super::{Options, Size};
use crate::history::Mode;

/// Virtual time zero on every wall clock: 2030-01-01.
const WALL_START_MS: u64 = 1_893_456_000_000;

/// A node of the simulation.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u64,
    pub(super) disk: SimDisk,
    pub(super) running: Option<Running>,
    /// Counts starts; events of an earlier life are dropped.
    pub(super) boot: u64,
    /// The process stands still until then.
    pub(super) paused_until_us: u64,
    /// How far the wall clock is off.
    pub(super) wall_offset_ms: i64,
    /// The disk is slow until then.
    pub(super) slow_until_us: u64,
    /// How much longer each write to the disk takes, by a fault of a scenario.
    pub(super) sync_us: u64,
    /// How much too fast the clocks run, in millionths.
    pub(super) rate_ppm: i64,
    /// Events that a pause held back.
    pub(super) postponed: u64,
    /// Writes to the disk that a fault made slow.
    pub(super) slow_writes: u64,
    /// The disk is full.
    pub(super) is_full: bool,
    /// It is no member any more, or never became one, and stays down.
    pub(super) retired: bool,
    /// The power fails in the middle of the next write, for so long.
    pub(super) power_fails_us: Option<u64>,
    /// The disk as it was before the last write, while [`Plant::LyingDisk`](super::Plant) is planted.
    before_write: Option<SimDisk>,
}

/// A member as the cluster says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) node: u64,
    pub(super) voter: bool,
}

/// The process of a node.
pub(super) struct Running {
    replica: Box<dyn Replica>,
    store: Store<SimDisk>,
    clock: Clock,
    /// What waits for the disk, in order.
    pub(super) queue: Vec<Persist>,
    /// Whether the disk is busy.
    pub(super) is_writing: bool,
    /// The timer event that is in the heap.
    pub(super) armed_us: Option<u64>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl Node {
    pub(super) fn new(id: u64, options: &Options) -> Self {
        let disk = SimDisk::new(options.seed.wrapping_mul(31).wrapping_add(id));
        Self {
            id,
            disk,
            running: None,
            boot: 0,
            paused_until_us: 0,
            wall_offset_ms: 0,
            slow_until_us: 0,
            sync_us: 0,
            rate_ppm: 0,
            postponed: 0,
            slow_writes: 0,
            is_full: false,
            retired: false,
            power_fails_us: None,
            before_write: None,
        }
    }

    /// Starts the process on what its disk holds. Returns whether a torn tail was cut.
    pub(super) fn start(&mut self, options: &Options, now_us: u64) -> Result<bool> {
        self.boot += 1;
        let (store, recovered) =
            Store::open(self.disk.clone(), wal_options(options, self.id, self.boot))
                .with_context(|| format!("node {} refuses its disk", self.id))?;
        let store = store.with_planted(options.planted());
        let torn = recovered.torn;
        let clock = Clock::start(now_us, self.rate_ppm);
        let now = self.clocks(now_us, &clock);
        let replica = open_replica(options, self.id, self.boot, recovered, now)
            .with_context(|| format!("node {} refuses what its log holds", self.id))?;
        self.running = Some(Running {
            replica,
            store,
            clock,
            queue: Vec::new(),
            is_writing: false,
            armed_us: None,
        });
        Ok(torn)
    }

    /// What the clocks of this node say. The wall's is off by what it jumped, and by what the process's has run ahead.
    fn clocks(&self, now_us: u64, clock: &Clock) -> Now {
        let ahead_ms = clock.ahead_us(now_us) / 1_000;
        let wall = WALL_START_MS + now_us / 1_000;
        Now {
            mono_us: clock.mono_us(now_us),
            wall_ms: wall.saturating_add_signed(self.wall_offset_ms + ahead_ms),
        }
    }

    /// From now on the clocks run too fast by so many millionths.
    pub(super) fn set_rate(&mut self, now_us: u64, rate_ppm: i64) {
        self.rate_ppm = rate_ppm;
        if let Some(running) = &mut self.running {
            running.clock.set_rate(now_us, rate_ppm);
            // The deadline that is in the heap was reckoned by the old rate.
            running.armed_us = None;
        }
    }

    /// Gives the replica one input and drains it. `None` if the node doesn't run.
    pub(super) fn handle(&mut self, now_us: u64, input: Input) -> Option<Vec<Output>> {
        let now = self.clocks(now_us, &self.running.as_ref()?.clock);
        let running = self.running.as_mut()?;
        running.replica.handle(now, input);
        Some(std::iter::from_fn(|| running.replica.poll_output()).collect())
    }

    /// Remembers the disk as it is, for the lie that a power cut brings to light.
    pub(super) fn begin_lie(&mut self) {
        self.before_write = Some(self.disk.fork(self.boot));
    }

    /// Loses the process. `disk_operations` is after how many more operations the power failed; `None` if only the
    /// process died, and everything that it had written stays.
    pub(super) fn crash(&mut self, disk_operations: Option<u64>) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let queue = std::mem::take(&mut running.queue);
        if let Some(operations) = disk_operations {
            self.disk.cut_power_at(operations);
        }
        // Whether it succeeds or the power fails in the middle: the process is gone and nobody hears of it.
        let _ = running
            .store
            .carry_out(queue)
            .and_then(|_| running.store.step());
        drop(running);
        match disk_operations {
            Some(_) => {
                // A lying disk loses what it said was durable.
                if let Some(before) = self.before_write.take() {
                    self.disk = before;
                }
                self.disk.crash();
            }
            None => self.disk.restart_process(),
        }
    }
}

impl Running {
    /// When the replica wants to be woken.
    pub(super) fn deadline_us(&self) -> Option<u64> {
        let (Mono(at), _) = self.replica.poll_timeout()?;
        Some(self.clock.when_us(at))
    }

    /// What readers see.
    pub(super) fn view(&self) -> quorumor_core::View {
        self.replica.view()
    }

    /// Carries out everything that waits for the disk, and one piece of a checkpoint. Returns what to tell the replica.
    pub(super) fn write(&mut self) -> Result<Vec<Input>> {
        self.is_writing = false;
        let mut completions = self.store.carry_out(std::mem::take(&mut self.queue))?;
        completions.extend(self.store.step()?);
        Ok(completions.into_iter().map(Into::into).collect())
    }

    /// Whether something waits for the disk.
    pub(super) fn has_to_write(&self) -> bool {
        !self.queue.is_empty() || self.store.is_writing_checkpoint() || self.waits_for_space()
    }

    /// Whether something found no room.
    pub(super) fn waits_for_space(&self) -> bool {
        self.store.is_waiting_for_space()
    }

    /// Renews the log's floor.
    pub(super) fn renew_floor(&mut self) -> Result<()> {
        Ok(self.store.renew_floor()?)
    }
}

/// Where a node says that it lives.
pub(super) fn address(id: u64) -> SocketAddr {
    let [.., high, low] = id.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7_401))
}

/// A core id for a node's number.
pub(super) fn node_id(id: u64) -> NodeId {
    NodeId::try_from(id).expect("nodes are numbered from 1")
}

/// Small segments, so that a run of seconds recycles some.
fn wal_options(options: &Options, id: u64, boot: u64) -> LogOptions {
    LogOptions::small(options.seed ^ (id << 32) ^ boot)
}

/// How much of log and history strong nodes keep.
fn kept(size: Size) -> (Compaction, HistoryWindow) {
    let (compaction, history) = (Compaction::default(), HistoryWindow::default());
    match size {
        // Small, so that readers and watchers meet its edge.
        Size::Small => (
            Compaction {
                entries_max: 60,
                keep_entries: 20,
                ..compaction
            },
            HistoryWindow {
                revisions: 120,
                age_ms: 8_000,
                ..history
            },
        ),
        // A node that was away for some seconds under load needs a snapshot.
        Size::Scenario { snapshot_entries } => (
            Compaction::every(snapshot_entries.unwrap_or(1_000)),
            history,
        ),
    }
}

/// The configuration of a node of strong mode: of a founder, or of one that joins.
pub(super) fn strong_config(options: &Options, id: u64, boot: u64) -> Result<RaftConfig> {
    let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(id);
    let founders: Vec<Founder> = (1..=options.nodes)
        .map(|id| Founder {
            node: node_id(id),
            peer_address: address(id),
        })
        .collect();
    let identity = Identity {
        node: node_id(id),
        cluster: quorumor_raft::cluster_id("simulated", &founders),
        epoch: DataEpoch::ZERO,
        store: StoreId::new(id),
    };
    let (compaction, history) = kept(options.size);
    let config = if id > options.nodes {
        RaftConfig::joining(identity, seed, boot)
    } else {
        RaftConfig::new(identity, &founders, seed, boot)?
    };
    Ok(config
        .with_compaction(compaction)
        .with_history(history)
        .with_planted(options.planted()))
}

fn open_replica(
    options: &Options,
    id: u64,
    boot: u64,
    recovered: Recovered,
    now: Now,
) -> Result<Box<dyn Replica>> {
    match options.mode {
        Mode::Strong => {
            let config = strong_config(options, id, boot)?;
            Ok(Box::new(RaftReplica::open(config, recovered, now)?))
        }
        Mode::Eventual => {
            let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(id);
            let cluster = quorumor_gossip::cluster_id("simulated");
            let config = GossipConfig {
                seeds: seeds(options, id),
                seed: seed ^ (boot << 48),
                checkpoint_bytes: 8 * 1024,
                planted: options.planted(),
                ..GossipConfig::new(node_id(id), cluster, address(id))
            };
            Ok(Box::new(GossipReplica::open(config, recovered, now)?))
        }
    }
}

/// Every node but the first joins by one seed; one that comes later by any founder.
fn seeds(options: &Options, id: u64) -> Vec<SocketAddr> {
    if id > options.nodes {
        (1..=options.nodes).map(address).collect()
    } else if id == 1 {
        Vec::new()
    } else {
        vec![address(1)]
    }
}
