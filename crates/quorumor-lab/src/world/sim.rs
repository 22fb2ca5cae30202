//! The simulated world: both replicas on one virtual network, with virtual time, from one seed.
//!
//! Not a model of the replicas: they are the very state machines that serve clients, over the very log, on a faulty
//! disk. One thread, one heap of events. The same options give the same trace, byte for byte ([`Outcome::trace`]).
//!
//! A run has two phases. In the first, faults come from the seed: crashes with loss of what wasn't synced, torn tails,
//! restarts, partitions, one-way cuts, loss, duplication, delay, pauses, clock jumps. Then all heals, every node runs,
//! and the cluster must become useful and equal within a bounded time (faults that always heal hide livelocks:
//! TigerBeetle, 2023).

mod clients;
mod clock;
mod faults;
mod inflict;
mod network;
mod node;
mod run;
mod serve;
pub mod staged;
mod strong;
mod trace;
mod trial;
mod verdict;

pub use run::run;
pub use trial::{Ending, Placing, Served, serving, succession};

/// The least delay of a link while nothing is wrong, in milliseconds.
pub(crate) const CALM_DELAY_MS: f64 = network::Weather::CALM.delay_us as f64 / 1_000.0;
/// Up to so much more, evenly, in milliseconds.
pub(crate) const CALM_JITTER_MS: f64 = network::Weather::CALM.jitter_us as f64 / 1_000.0;
/// From a client of a scenario to its node, in milliseconds; the answer takes no time.
pub(crate) const READ_TRAVELS_MS: f64 = staged::calls::ROUND_TRIP_US as f64 / 1_000.0;

use quorumor_core::Planted;

use crate::checker::Finding;
use crate::history::{History, Mode};
use crate::registry::Record;

/// What to simulate. Everything random follows from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The mode.
    pub mode: Mode,
    /// The seed.
    pub seed: u64,
    /// Nodes of the cluster, from 1.
    pub nodes: u64,
    /// Clients, each with one operation at a time.
    pub clients: u32,
    /// Keys that they share.
    pub keys: u32,
    /// How long faults and load last, in virtual milliseconds.
    pub duration_ms: u64,
    /// Whether faults come at all.
    pub faults: bool,
    /// How much of log and history strong nodes keep.
    pub size: Size,
    /// Which faults come.
    pub mix: Mix,
    /// A defect planted on purpose, to see that the checkers find it.
    pub plant: Option<Plant>,
}

/// How much of log and history strong nodes keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So little that a run of seconds meets every edge.
    Small,
    /// What a scenario runs with: history as in production, a log that is cut after a thousand entries, or as it says.
    Scenario {
        /// After how many entries.
        snapshot_entries: Option<u64>,
    },
}

/// Which faults come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Every kind that the mode knows, at random.
    Every,
    /// The leader, or in eventual mode some node, is cut off alone for seconds, and then another.
    Isolation,
    /// The power of all nodes fails at once, again and again.
    PowerCuts,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Every, Self::Isolation, Self::PowerCuts];

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Every => "every",
            Self::Isolation => "isolation",
            Self::PowerCuts => "power-cuts",
        }
    }

    /// The mix of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mix| mix.name() == name)
    }
}

/// A defect that a run can plant: outside the replicas, or with the feature `plant` inside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Strong reads are answered from the node's own view, and claim to be linearizable.
    StaleReads,
    /// Reads don't wait for what their session token demands.
    TokensIgnored,
    /// Every disk says that a write is durable before it is: a power cut takes the last one.
    LyingDisk,
    /// A write that is sent again goes without its client's number.
    DoubleApply,
    /// Somebody ends leases that are kept alive.
    LeaseEarlyExpiry,
    /// Watchers are left without a revision now and then.
    WatchGap,
    /// A read in the past shows the revision before.
    StaleHistory,
    /// One inside the replicas and their log, in every node.
    #[cfg(feature = "plant")]
    Inside(quorumor_core::Plant),
}

impl Plant {
    /// Those outside the replicas.
    const OUTSIDE: [Self; 7] = [
        Self::StaleReads,
        Self::TokensIgnored,
        Self::LyingDisk,
        Self::DoubleApply,
        Self::LeaseEarlyExpiry,
        Self::WatchGap,
        Self::StaleHistory,
    ];

    /// All that this build knows.
    pub fn all() -> Vec<Self> {
        let all = Self::OUTSIDE.to_vec();
        #[cfg(feature = "plant")]
        let all = [all, quorumor_core::Plant::ALL.map(Self::Inside).to_vec()].concat();
        all
    }

    /// The defect of this name, if this build knows it.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|plant| plant.name() == name)
    }

    /// What a replica and its log are given.
    pub fn inside(self) -> Planted {
        match self {
            Self::StaleReads
            | Self::TokensIgnored
            | Self::LyingDisk
            | Self::DoubleApply
            | Self::LeaseEarlyExpiry
            | Self::WatchGap
            | Self::StaleHistory => Planted::default(),
            #[cfg(feature = "plant")]
            Self::Inside(plant) => plant.into(),
        }
    }

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::StaleReads => "stale-reads",
            Self::TokensIgnored => "tokens-ignored",
            Self::LyingDisk => "lying-disk",
            Self::DoubleApply => "double-apply",
            Self::LeaseEarlyExpiry => "lease-early-expiry",
            Self::WatchGap => "watch-gap",
            Self::StaleHistory => "stale-history",
            #[cfg(feature = "plant")]
            Self::Inside(plant) => plant.name(),
        }
    }
}

impl Options {
    /// What `cargo test` runs: five nodes, six clients on four keys, twelve virtual seconds of faults.
    pub fn new(mode: Mode, seed: u64) -> Self {
        Self {
            mode,
            seed,
            nodes: 5,
            clients: 6,
            keys: 4,
            duration_ms: 12_000,
            faults: true,
            size: Size::Small,
            mix: Mix::Every,
            plant: None,
        }
    }

    /// What the nodes are given of the planted defect.
    fn planted(&self) -> Planted {
        self.plant.map(Plant::inside).unwrap_or_default()
    }

    /// The command that repeats this run.
    pub fn command(&self) -> String {
        let faults = match (self.faults, self.mix) {
            (false, _) => " --no-faults".to_owned(),
            (true, Mix::Every) => String::new(),
            (true, mix @ (Mix::Isolation | Mix::PowerCuts)) => format!(" --mix {}", mix.name()),
        };
        let plant = self
            .plant
            .map(|plant| format!(" --plant {}", plant.name()))
            .unwrap_or_default();
        format!(
            "quorumor sim --mode {} --seed {} --nodes {} --clients {} --keys {} --duration {}ms{faults}{plant}",
            self.mode.name(),
            self.seed,
            self.nodes,
            self.clients,
            self.keys,
            self.duration_ms
        )
    }
}

/// How often something happened: a run in which nothing did says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages delivered.
    pub delivered: u64,
    /// Messages lost to a fault.
    pub dropped: u64,
    /// Crashes.
    pub crashes: u64,
    /// Crashes in the middle of a write to the disk.
    pub power_cuts: u64,
    /// Starts that found a torn tail.
    pub torn_tails: u64,
    /// Partitions and one-way cuts.
    pub cuts: u64,
    /// Pauses of a whole process.
    pub pauses: u64,
    /// Jumps of a wall clock.
    pub clock_jumps: u64,
    /// Checkpoints that became durable.
    pub checkpoints: u64,
    /// Operations of plain clients that were answered.
    pub ok: u64,
    /// Operations of plain clients that were refused.
    pub refused: u64,
    /// Operations of plain clients whose outcome is unknown.
    pub unknown: u64,
    /// Disks that became slow.
    pub slow_disks: u64,
    /// Disks that ran full and got space again.
    pub full_disks: u64,
    /// Tries of actors that were answered.
    pub answers: u64,
    /// Transactions that were answered.
    pub txns: u64,
    /// Writes that were answered again under the same number.
    pub repeated: u64,
    /// Tries that were refused because their session had ended.
    pub sessions_ended: u64,
    /// Leases that a keep-alive or a write no longer found.
    pub leases_expired: u64,
    /// Reads at a revision that were answered.
    pub past_reads: u64,
    /// Reads at a revision that was compacted.
    pub history_gone: u64,
    /// Revisions given to watchers.
    pub watched: u64,
    /// Watchers that were told to read the state again.
    pub resyncs: u64,
    /// Whole states that a node took in.
    pub installs: u64,
    /// Backups that were taken and read back.
    pub backups: u64,
    /// Compactions by request, transfers and changes of the members that were answered.
    pub cluster_changes: u64,
    /// Nodes that joined with an empty disk and became voters.
    pub joined: u64,
    /// Nodes whose removal was acknowledged.
    pub removed: u64,
}

impl Counts {
    /// Each count with its name, for a mode.
    pub fn named(self, mode: Mode) -> Vec<(&'static str, u64)> {
        let mut named = vec![
            ("messages delivered", self.delivered),
            ("messages lost", self.dropped),
            ("crashes", self.crashes),
            ("power cuts in a write", self.power_cuts),
            ("torn tails", self.torn_tails),
            ("cuts", self.cuts),
            ("pauses", self.pauses),
            ("clock jumps", self.clock_jumps),
            ("checkpoints", self.checkpoints),
            ("answers", self.ok),
            ("refusals", self.refused),
            ("unknown outcomes", self.unknown),
        ];
        if mode == Mode::Strong {
            named.extend([
                ("slow disks", self.slow_disks),
                ("full disks", self.full_disks),
                ("answers to actors", self.answers),
                ("transactions", self.txns),
                ("repeated answers", self.repeated),
                ("ended sessions", self.sessions_ended),
                ("expired leases", self.leases_expired),
                ("reads in the past", self.past_reads),
                ("reads of a past that is gone", self.history_gone),
                ("watched revisions", self.watched),
                ("resyncs", self.resyncs),
                ("installed snapshots", self.installs),
                ("backups", self.backups),
                ("cluster changes", self.cluster_changes),
                ("nodes that joined", self.joined),
                ("nodes removed", self.removed),
            ]);
        }
        named
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.dropped += other.dropped;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.torn_tails += other.torn_tails;
        self.cuts += other.cuts;
        self.pauses += other.pauses;
        self.clock_jumps += other.clock_jumps;
        self.checkpoints += other.checkpoints;
        self.ok += other.ok;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.slow_disks += other.slow_disks;
        self.full_disks += other.full_disks;
        self.answers += other.answers;
        self.txns += other.txns;
        self.repeated += other.repeated;
        self.sessions_ended += other.sessions_ended;
        self.leases_expired += other.leases_expired;
        self.past_reads += other.past_reads;
        self.history_gone += other.history_gone;
        self.watched += other.watched;
        self.resyncs += other.resyncs;
        self.installs += other.installs;
        self.backups += other.backups;
        self.cluster_changes += other.cluster_changes;
        self.joined += other.joined;
        self.removed += other.removed;
    }
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A hash over every delivery, durable write and reply: equal for equal options, on every machine.
    pub trace: u64,
    /// What the clients saw.
    pub history: History,
    /// What the actors of strong mode saw.
    pub record: Record,
    /// What the checkers say.
    pub findings: Vec<Finding>,
    /// How often something happened.
    pub counts: Counts,
    /// Virtual microseconds from the heal until all nodes were equal and, in strong mode, a write went through.
    pub recovered_us: Option<u64>,
}

impl Outcome {
    /// The findings that are not valid.
    pub fn broken(&self) -> Vec<&Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.verdict != crate::checker::Verdict::Valid)
            .collect()
    }
}

#[cfg(test)]
mod tests;
