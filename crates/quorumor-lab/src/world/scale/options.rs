//! What to simulate: a scenario sets the defaults, each option may be set by itself.

use std::fmt::Write;

use quorumor_core::limits::VALUE_BYTES_MAX;

/// The most nodes of one run: each knows all others, so memory grows with the square.
pub const NODES_MAX: u32 = 20_000;

const SECOND: u64 = 1_000_000;

/// What a run is about. It only sets the defaults of the other options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A few updates at random nodes of a quiet cluster: how soon does everyone have them?
    Spread,
    /// One node dies in silence: how soon is it suspected, and held to be down everywhere?
    Crash,
    /// Loss, and nodes that stand still now and then: is anyone falsely held to be dead?
    Slow,
    /// Nothing happens: what does that cost?
    Idle,
    /// All nodes start within seconds, knowing three seeds: how soon does everyone know everyone?
    Join,
    /// Half of the nodes can't reach the other half, both write and delete; then it heals.
    Partition,
    /// Loss, and nodes that crash and come back all the time, under writes.
    Churn,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Spread,
        Self::Crash,
        Self::Slow,
        Self::Idle,
        Self::Join,
        Self::Partition,
        Self::Churn,
    ];

    /// Its word on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Crash => "crash",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Join => "join",
            Self::Partition => "partition",
            Self::Churn => "churn",
        }
    }
}

/// What to simulate. Everything random follows from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the run is about.
    pub scenario: Scenario,
    /// Nodes of the cluster.
    pub nodes: u32,
    /// The seed.
    pub seed: u64,
    /// Datagrams lost, in a million.
    pub loss_ppm: u32,
    /// The least one-way delay of a datagram, in microseconds.
    pub latency_us: u64,
    /// Up to so much more, in microseconds.
    pub jitter_us: u64,
    /// How long the formed cluster runs before anything happens, in microseconds.
    pub settle_us: u64,
    /// How long it is watched, in microseconds; then it may take [`Self::patience_us`] to come to rest.
    pub duration_us: u64,
    /// How long the run waits after that until everyone agrees, in microseconds.
    pub patience_us: u64,
    /// Nodes that crash and restart within a minute, in a million.
    pub churn_ppm: u32,
    /// Nodes that stand still for 2 s in every 10, in a million.
    pub slow_ppm: u32,
    /// How long half of the nodes can't reach the others, in microseconds; 0 for never.
    pub partition_us: u64,
    /// All nodes start within this time and join by three seeds, in microseconds; 0 for a cluster that is formed already.
    pub join_us: u64,
    /// Bytes of each value.
    pub payload: usize,
    /// Nodes that write.
    pub writers: u32,
    /// Updates of each.
    pub writes: u32,
    /// Nodes that crash for good.
    pub crashes: u32,
    /// From one such crash to the next, in microseconds; 0 for all at once.
    pub crash_gap_us: u64,
}

impl Options {
    /// A scenario with its defaults.
    #[must_use]
    pub const fn new(scenario: Scenario, nodes: u32, seed: u64) -> Self {
        let quiet = Self {
            scenario,
            nodes,
            seed,
            loss_ppm: 0,
            latency_us: 1_000,
            jitter_us: 1_000,
            settle_us: 5 * SECOND,
            duration_us: 10 * SECOND,
            patience_us: 120 * SECOND,
            churn_ppm: 0,
            slow_ppm: 0,
            partition_us: 0,
            join_us: 0,
            payload: 64,
            writers: 0,
            writes: 1,
            crashes: 0,
            crash_gap_us: 3 * SECOND,
        };
        match scenario {
            Scenario::Spread => Self {
                writers: 3,
                duration_us: 15 * SECOND,
                ..quiet
            },
            Scenario::Crash => Self {
                crashes: 1,
                duration_us: 30 * SECOND,
                ..quiet
            },
            Scenario::Slow => Self {
                loss_ppm: 50_000,
                slow_ppm: 10_000,
                duration_us: 600 * SECOND,
                ..quiet
            },
            Scenario::Idle => Self {
                settle_us: 15 * SECOND,
                duration_us: 60 * SECOND,
                ..quiet
            },
            Scenario::Join => Self {
                settle_us: 0,
                join_us: 10 * SECOND,
                duration_us: 60 * SECOND,
                ..quiet
            },
            Scenario::Partition => Self {
                writers: 8,
                writes: 4,
                partition_us: 600 * SECOND,
                duration_us: 600 * SECOND,
                ..quiet
            },
            Scenario::Churn => Self {
                loss_ppm: 50_000,
                churn_ppm: 100_000,
                writers: 10,
                writes: 3,
                duration_us: 60 * SECOND,
                ..quiet
            },
        }
    }

    /// Why these options can't be run.
    ///
    /// # Errors
    /// A sentence for whoever gave them.
    pub fn check(&self) -> Result<(), String> {
        if !(3..=NODES_MAX).contains(&self.nodes) {
            return Err(format!("a cluster at scale has 3 to {NODES_MAX} nodes"));
        }
        if self.loss_ppm > 900_000 || self.churn_ppm > 1_000_000 || self.slow_ppm > 1_000_000 {
            return Err("loss is at most 90 %, churn and slow nodes at most 100 %".to_owned());
        }
        if self.payload < 16 || self.payload > VALUE_BYTES_MAX {
            return Err(format!("a payload has 16 to {VALUE_BYTES_MAX} bytes"));
        }
        if self.writers > self.nodes || self.crashes > self.nodes / 2 {
            return Err(
                "there are more writers than nodes, or more crashes than half of them".to_owned(),
            );
        }
        if u64::from(self.writers) * u64::from(self.writes) > 10_000 {
            return Err("at most 10000 updates, writers times writes".to_owned());
        }
        if self.partition_us > 0 && (self.churn_ppm > 0 || self.crashes > 0 || self.join_us > 0) {
            return Err("a partition goes with no churn, crash or mass join: its verdict would mean nothing".to_owned());
        }
        if self.partition_us > self.duration_us {
            return Err("the partition is longer than the run".to_owned());
        }
        Ok(())
    }

    /// Updates that are spread.
    #[must_use]
    pub const fn updates(&self) -> u32 {
        self.writers * self.writes
    }

    /// The command that repeats this run.
    #[must_use]
    pub fn command(&self) -> String {
        let preset = Self::new(self.scenario, self.nodes, self.seed);
        let mut line = format!(
            "quorumor sim --mode eventual --scenario {} --nodes {} --seed {}",
            self.scenario.name(),
            self.nodes,
            self.seed
        );
        let times = [
            ("latency", self.latency_us, preset.latency_us),
            ("jitter", self.jitter_us, preset.jitter_us),
            ("settle", self.settle_us, preset.settle_us),
            ("duration", self.duration_us, preset.duration_us),
            ("partition", self.partition_us, preset.partition_us),
            ("join", self.join_us, preset.join_us),
            ("crash-gap", self.crash_gap_us, preset.crash_gap_us),
        ];
        for (name, value, _) in times.iter().filter(|(_, value, preset)| value != preset) {
            let _ = write!(line, " --{name} {}", time(*value));
        }
        let shares = [
            ("loss", self.loss_ppm, preset.loss_ppm),
            ("churn", self.churn_ppm, preset.churn_ppm),
            ("slow", self.slow_ppm, preset.slow_ppm),
        ];
        for (name, ppm, _) in shares.iter().filter(|(_, value, preset)| value != preset) {
            let _ = write!(line, " --{name} {}%", f64::from(*ppm) / 10_000.0);
        }
        let counts = [
            ("writers", self.writers, preset.writers),
            ("writes", self.writes, preset.writes),
            ("crash", self.crashes, preset.crashes),
        ];
        for (name, value, _) in counts.iter().filter(|(_, value, preset)| value != preset) {
            let _ = write!(line, " --{name} {value}");
        }
        if self.payload != preset.payload {
            let _ = write!(line, " --payload {}", self.payload);
        }
        line
    }
}

/// A time in the largest unit that holds it whole.
fn time(us: u64) -> String {
    if us.is_multiple_of(SECOND) {
        format!("{}s", us / SECOND)
    } else if us.is_multiple_of(1_000) {
        format!("{}ms", us / 1_000)
    } else {
        format!("{us}us")
    }
}
