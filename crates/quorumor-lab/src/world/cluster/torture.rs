//! The kill loop: real processes under load, `kill -9` of all of them at once, again and again, and nothing acknowledged lost.
//!
//! Each writer owns some keys and numbers its writes in a client session, so that a write that was under way at a kill is sent
//! again to the restarted cluster. After each restart every node is read, linearizably: each key must hold its last
//! acknowledged write or a later one that was sent, at the revision that was acknowledged, and as many writes as
//! were made. A kill keeps the page cache: this is about restarts, not about `fsync`, which the simulator's disk is for.

mod judge;
mod writers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use self::judge::Judge;
use self::writers::{Ledger, Writers};
use super::ClusterOptions;
use super::live::Live;
use super::processes::Cluster;
use super::setup::DataDir;
use crate::history::Mode;
use crate::network::LinkKind;
use crate::rng::{self, Purpose};
use crate::scenario::Scenario;
use crate::workload::Workload;

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct TortureOptions {
    /// When the kills come follows from it.
    pub seed: u64,
    /// Kills of all nodes.
    pub rounds: u64,
    /// Nodes of the cluster.
    pub nodes: u32,
    /// Writers, each with one write at a time.
    pub writers: u64,
    /// Where the logs and, while it runs, the nodes' data go.
    pub out: PathBuf,
    /// The program that has `serve`.
    pub program: PathBuf,
}

impl TortureOptions {
    /// The command that repeats this run, as far as real time can be repeated.
    pub fn command(&self) -> String {
        format!(
            "quorumor torture --seed {} --rounds {} --nodes {} --writers {}",
            self.seed, self.rounds, self.nodes, self.writers
        )
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tortured {
    /// The command that repeats it.
    pub command: String,
    /// The seed.
    pub seed: u64,
    /// Kills of all nodes after which the cluster served again and was read.
    pub rounds: u64,
    /// Kills in all, those in the middle of a restart included.
    pub kills: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Of those, such that were under way at a kill and were acknowledged after it.
    pub acknowledged_across_kills: u64,
    /// Writes whose outcome stayed unknown.
    pub unknown: u64,
    /// Writes that were refused.
    pub refused: u64,
    /// Entries that were looked at after restarts.
    pub entries_checked: u64,
    /// From the start of the last process of a round until every node served: the median, in milliseconds.
    pub back_ms_median: u64,
    /// The longest of them.
    pub back_ms_max: u64,
    /// How long the whole took, in seconds.
    pub seconds: f64,
    /// What was lost or contradicts what was acknowledged; empty on success.
    pub broken: Vec<String>,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rounds that are done.
    pub rounds: u64,
    /// Of so many.
    pub of: u64,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Broken promises.
    pub broken: usize,
}

/// Acknowledged writes between two kills, at the least: a kill of an idle cluster shows nothing.
const ACKS_MIN: u64 = 100;
/// How long a restarted cluster may take for them.
const ACKS_WITHIN: Duration = Duration::from_secs(45);
/// Broken promises after which it stops.
const BROKEN_MAX: usize = 20;

/// Runs the loop. However it ends, no node is left running.
///
/// # Errors
/// When the cluster can't be started, or doesn't come back. That is for a person to look at, by the nodes' logs.
pub async fn run(options: &TortureOptions, tell: impl Fn(Progress)) -> Result<Tortured> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("can't make `{}`", options.out.display()))?;
    let data = DataDir::create(&options.out, Mode::Strong.name())?;
    let cluster_options = ClusterOptions {
        links: LinkKind::Proxies,
        mode: Mode::Strong,
        program: options.program.clone(),
        out: options.out.clone(),
        plant: None,
    };
    let scenario = Scenario::compare(options.seed, options.nodes, 60_000, Workload::default())?;
    let mut cluster = Cluster::prepare(&cluster_options, &scenario, &data.path).await?;
    let doors = cluster.fix_doors()?;
    let torture = Torture {
        cluster,
        ledger: Arc::new(Ledger::default()),
        judge: Judge::new(&doors)?,
        rng: rng::stream(options.seed, Purpose::Faults, 9),
        result: Tortured {
            command: options.command(),
            seed: options.seed,
            ..Tortured::default()
        },
        back_ms: Vec::new(),
    };
    torture.run(options, &doors, tell).await
}

struct Torture {
    cluster: Cluster,
    ledger: Arc<Ledger>,
    judge: Judge,
    rng: ChaCha8Rng,
    result: Tortured,
    back_ms: Vec<u64>,
}

impl Torture {
    async fn run(
        mut self,
        options: &TortureOptions,
        doors: &[String],
        tell: impl Fn(Progress),
    ) -> Result<Tortured> {
        let began = Instant::now();
        let live = Live::default();
        self.cluster.start(&live).await?;
        self.cluster.wait_serving(&live).await?;
        let writers = Writers::start(options.writers, doors, &self.ledger)?;
        let ran = self.rounds(options, &live, tell).await;
        writers.stop().await;
        let last = match ran {
            Ok(()) => self.judge.finish(&self.ledger, &mut self.result).await,
            Err(error) => Err(error),
        };
        let killed = self.cluster.kill_all().await;
        last?;
        killed?;
        self.ledger.count(&mut self.result);
        self.back_ms.sort_unstable();
        self.result.back_ms_median = self
            .back_ms
            .get(self.back_ms.len() / 2)
            .copied()
            .unwrap_or(0);
        self.result.back_ms_max = self.back_ms.last().copied().unwrap_or(0);
        self.result.seconds = began.elapsed().as_secs_f64();
        Ok(self.result)
    }

    async fn rounds(
        &mut self,
        options: &TortureOptions,
        live: &Live,
        tell: impl Fn(Progress),
    ) -> Result<()> {
        while self.result.rounds < options.rounds && self.result.broken.len() < BROKEN_MAX {
            self.some_load().await?;
            self.kill().await?;
            // Every fifth time they die once more while they come up.
            if rng::chance_ppm(&mut self.rng, 200_000) {
                self.cluster.start(live).await?;
                sleep(Duration::from_millis(rng::below(&mut self.rng, 900))).await;
                self.kill().await?;
            }
            let acknowledged = self.ledger.acknowledged();
            self.cluster.start(live).await?;
            let up = Instant::now();
            self.cluster.wait_serving(live).await?;
            self.back_ms
                .push(u64::try_from(up.elapsed().as_millis()).unwrap_or(u64::MAX));
            self.judge
                .check(&acknowledged, &self.ledger, &mut self.result)
                .await?;
            self.result.rounds += 1;
            tell(Progress {
                rounds: self.result.rounds,
                of: options.rounds,
                acknowledged: self.ledger.acks(),
                broken: self.result.broken.len(),
            });
        }
        Ok(())
    }

    /// Lets the load run for a while, and until it has got somewhere.
    async fn some_load(&mut self) -> Result<()> {
        let before = self.ledger.acks();
        let began = Instant::now();
        sleep(Duration::from_millis(200 + rng::below(&mut self.rng, 600))).await;
        while self.ledger.acks() < before + ACKS_MIN {
            if began.elapsed() > ACKS_WITHIN {
                let seconds = ACKS_WITHIN.as_secs();
                bail!("for {seconds} s after a restart hardly a write was acknowledged");
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        self.ledger.note_kill();
        self.result.kills += 1;
        self.cluster.kill_at_once().await
    }
}
