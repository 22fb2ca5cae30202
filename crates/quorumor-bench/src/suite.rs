//! The whole table, from nothing: starts a cluster of each program on a real disk, measures every cell in alternation,
//! and holds the ratios against the goals.

use std::path::PathBuf;
use std::time::Duration;

use crate::BenchError;
use crate::cell::{Cell, Settings, Workload};
use crate::cluster::{Cluster, ClusterPlan};
use crate::failover;
use crate::goal::{Figure, Goal, Row};
use crate::million;
use crate::progress::Progress;
use crate::results::{CellResult, Turn};
use crate::run::Bench;
use crate::suite::cells::planned;
use crate::target::{CallStyle, Mode, Protocol, Target, Writes};
use crate::watch::FanOut;

pub mod cells;

const NODES: usize = 3;
const WATCHERS: usize = 100;
const WATCHED_PUTS_S: f64 = 500.0;
/// Writes over a million keys last so many cells' time: checkpoints must come and go meanwhile.
const CHECKPOINT_CELLS: u32 = 6;
/// A node of a million keys must serve within this time.
const START_MS_MAX: f64 = 10_000.0;
/// The name of Quorumor called over streams, in results.
const EXCHANGE_NAME: &str = "quorumor-exchange";

/// What to measure.
#[derive(Clone, Debug)]
pub struct SuitePlan {
    /// Which mode of Quorumor is measured.
    pub mode: Mode,
    /// The program `quorumor`: its nodes, and the echo.
    pub quorumor: PathBuf,
    /// The program `etcd`.
    pub etcd: PathBuf,
    /// Where the clusters keep their data: a directory on a real disk, empty or not there.
    pub dir: PathBuf,
    /// How.
    pub settings: Settings,
    /// Whether Quorumor is also called over streams, as a target of its own.
    pub exchange: bool,
    /// Where etcd's writes go.
    pub etcd_writes: Writes,
    /// How often the leader of each is killed.
    pub failover_rounds: usize,
    /// Only cells whose name is one of these; all if empty.
    pub only: Vec<String>,
}

/// Measures everything. Each row is handed out when it is done, so that a run that is cut short has shown something.
///
/// # Errors
/// If a cluster can't be started or stops answering. What single calls answer is in the rows.
pub async fn run(
    plan: &SuitePlan,
    progress: Progress,
    mut on_cell: impl FnMut(&[CellResult]) -> Result<(), BenchError>,
) -> Result<Vec<Row>, BenchError> {
    check(plan)?;
    progress.say("starting the clusters");
    let mut clusters = Clusters::start(plan).await?;
    let measured = measure(plan, &mut clusters, progress, &mut on_cell).await;
    clusters.stop().await;
    measured
}

/// How many turns there will be, for a progress bar.
#[must_use]
pub fn turns(plan: &SuitePlan) -> usize {
    let targets = 2 + usize::from(plan.exchange);
    let cells = planned(plan.mode)
        .into_iter()
        .filter(|planned| wanted(plan, &planned.cell.name()));
    let turns: usize = cells
        .map(|planned| (targets + usize::from(planned.by_echo)) * plan.settings.rounds)
        .sum();
    let watch = usize::from(wanted(plan, "watch")) * 2 * plan.settings.rounds;
    let failover = usize::from(wanted(plan, "failover")) * 2 * plan.failover_rounds;
    turns + watch + failover
}

fn wanted(plan: &SuitePlan, name: &str) -> bool {
    let known = cells::names(plan.mode).contains(&name);
    known && (plan.only.is_empty() || plan.only.iter().any(|only| only == name))
}

fn check(plan: &SuitePlan) -> Result<(), BenchError> {
    let known = cells::names(plan.mode);
    let mut named = plan.only.iter();
    if let Some(name) = named.find(|name| !known.contains(&name.as_str())) {
        let (mode, known) = (plan.mode.as_str(), known.join(", "));
        return Err(BenchError::Usage(format!(
            "`{name}` is none of the cells of {mode} mode: {known}"
        )));
    }
    for (what, program) in [("quorumor", &plan.quorumor), ("etcd", &plan.etcd)] {
        if !program.is_file() {
            return Err(BenchError::Usage(format!(
                "there is no {what} at {}",
                program.display()
            )));
        }
    }
    let in_use = std::fs::read_dir(&plan.dir).is_ok_and(|mut entries| entries.next().is_some());
    if in_use {
        return Err(BenchError::Usage(format!(
            "{} isn't empty: a cluster that is measured starts from nothing",
            plan.dir.display()
        )));
    }
    Ok(())
}

struct Clusters {
    quorumor: Cluster,
    etcd: Cluster,
    echo: Cluster,
}

impl Clusters {
    async fn start(plan: &SuitePlan) -> Result<Self, BenchError> {
        let start = |protocol: Protocol, program: &PathBuf| {
            Cluster::start(ClusterPlan {
                protocol,
                mode: plan.mode,
                program: program.clone(),
                dir: plan.dir.join(protocol.as_str()),
                nodes: NODES,
                arguments: Vec::new(),
                core: None,
            })
        };
        Ok(Self {
            quorumor: start(Protocol::Quorumor, &plan.quorumor).await?,
            etcd: start(Protocol::Etcd, &plan.etcd).await?,
            echo: start(Protocol::Echo, &plan.quorumor).await?,
        })
    }

    async fn stop(self) {
        self.quorumor.stop().await;
        self.etcd.stop().await;
        self.echo.stop().await;
    }

    fn pids(&self) -> Vec<u32> {
        [&self.quorumor, &self.etcd, &self.echo]
            .into_iter()
            .flat_map(|cluster| cluster.target().pids)
            .collect()
    }

    fn etcd_target(&self, plan: &SuitePlan) -> Target {
        Target {
            writes: plan.etcd_writes,
            ..self.etcd.target()
        }
    }

    /// Quorumor as it is called: always in single calls, over streams too if wanted and if that makes a difference.
    fn quorumor_targets(&self, plan: &SuitePlan, cell: &Cell) -> Vec<Target> {
        let unary = self.quorumor.target();
        let differs = match cell.workload {
            Workload::Put | Workload::Get | Workload::LocalGet | Workload::Mix => true,
            Workload::Batch
            | Workload::KeepAlive
            | Workload::Discover
            | Workload::LocalDiscover => false,
        };
        let exchange = (plan.exchange && differs).then(|| Target {
            name: EXCHANGE_NAME.to_owned(),
            call: CallStyle::Exchange,
            ..unary.clone()
        });
        std::iter::once(unary).chain(exchange).collect()
    }
}

async fn measure(
    plan: &SuitePlan,
    clusters: &mut Clusters,
    progress: Progress,
    on_cell: &mut impl FnMut(&[CellResult]) -> Result<(), BenchError>,
) -> Result<Vec<Row>, BenchError> {
    let mut bench = Bench::new(plan.settings.clone(), progress);
    bench.count_as_ours(clusters.pids());
    let mut rows = Vec::new();
    for planned in planned(plan.mode) {
        if !wanted(plan, &planned.cell.name()) {
            continue;
        }
        let mut targets = clusters.quorumor_targets(plan, &planned.cell);
        let ours = targets.len();
        targets.push(clusters.etcd_target(plan));
        if planned.by_echo {
            targets.push(clusters.echo.target());
        }
        let results = bench.cell(&planned.cell, &targets).await?;
        on_cell(&results)?;
        let other = if planned.by_echo { ours + 1 } else { ours };
        for result in &results[..ours] {
            rows.push(Row {
                result: result.clone(),
                other: results[other].clone(),
                goals: planned.goals.clone(),
            });
        }
    }
    if wanted(plan, "watch") {
        let results = fan_out(plan, clusters, &mut bench).await?;
        on_cell(&results)?;
        let third = 1.0 / 3.0;
        let goals = [
            Goal::AtMost(Figure::P99, 0.5),
            Goal::AtMost(Figure::Cores, third),
        ];
        rows.extend(row(&results, &goals));
    }
    if wanted(plan, "failover") {
        let results = failovers(plan, clusters, &bench).await?;
        on_cell(&results)?;
        rows.extend(row(&results, &[Goal::AtMost(Figure::P50, 0.5)]));
    }
    if wanted(plan, million::NAME) {
        let results = a_million(plan, &bench).await?;
        on_cell(&results)?;
        if let [load, without, with, start] = &results[..] {
            let pair = [with.clone(), without.clone()];
            rows.extend(row(&pair, &[Goal::AtLeast(Figure::Ops, 0.8)]));
            let pair = [start.clone(), load.clone()];
            rows.extend(row(&pair, &[Goal::Within(Figure::P50, START_MS_MAX)]));
        }
    }
    Ok(rows)
}

/// On a cluster of its own, so that no other figure is about so many keys.
async fn a_million(plan: &SuitePlan, bench: &Bench) -> Result<Vec<CellResult>, BenchError> {
    let mut cluster = Cluster::start(ClusterPlan {
        protocol: Protocol::Quorumor,
        mode: plan.mode,
        program: plan.quorumor.clone(),
        dir: plan.dir.join(million::NAME),
        nodes: NODES,
        arguments: Vec::new(),
        core: None,
    })
    .await?;
    let puts_for = plan.settings.duration * CHECKPOINT_CELLS;
    let results = million::measure(&mut cluster, bench, puts_for).await;
    cluster.stop().await;
    results
}

/// The first result beside the second.
fn row(results: &[CellResult], goals: &[Goal]) -> Option<Row> {
    let [result, other] = results else {
        return None;
    };
    Some(Row {
        result: result.clone(),
        other: other.clone(),
        goals: goals.to_vec(),
    })
}

async fn fan_out(
    plan: &SuitePlan,
    clusters: &Clusters,
    bench: &mut Bench,
) -> Result<Vec<CellResult>, BenchError> {
    let fan_out = FanOut {
        watchers: WATCHERS,
        rate: WATCHED_PUTS_S,
        connections: plan.settings.connections,
        value_bytes: plan.settings.value_bytes,
        warm_up: plan.settings.warm_up,
        duration: plan.settings.duration,
    };
    let targets = [clusters.quorumor.target(), clusters.etcd_target(plan)];
    bench.fan_out(&fan_out, &targets).await
}

async fn failovers(
    plan: &SuitePlan,
    clusters: &mut Clusters,
    bench: &Bench,
) -> Result<Vec<CellResult>, BenchError> {
    let keys = bench.keys();
    let value_bytes = plan.settings.value_bytes;
    let mut turns: [Vec<Turn>; 2] = [Vec::new(), Vec::new()];
    for round in 0..plan.failover_rounds.max(1) {
        let pair = [&mut clusters.quorumor, &mut clusters.etcd];
        for (cluster, turns) in pair.into_iter().zip(&mut turns) {
            let say = format!("failover of {}, round {}", cluster.target(), round + 1);
            bench.progress().say(say);
            turns.push(failover::turn(cluster, keys, value_bytes).await?);
            bench.progress().step();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let [quorumor, etcd] = &turns;
    Ok(vec![
        CellResult::of("failover", 1, Protocol::Quorumor.as_str(), quorumor),
        CellResult::of("failover", 1, Protocol::Etcd.as_str(), etcd),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> SuitePlan {
        SuitePlan {
            mode: Mode::Strong,
            quorumor: "/nowhere/quorumor".into(),
            etcd: "/nowhere/etcd".into(),
            dir: "/nowhere".into(),
            settings: Settings::default(),
            exchange: false,
            etcd_writes: Writes::AllNodes,
            failover_rounds: 5,
            only: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_program_that_isnt_there_is_a_usage_error() {
        let error = run(&plan(), Progress::hidden(), |_| Ok(()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no quorumor at"), "{error}");
    }

    #[test]
    fn an_unknown_cell_is_named_with_the_known_ones() {
        let plan = SuitePlan {
            only: vec!["puts".into()],
            ..plan()
        };
        let error = check(&plan).unwrap_err().to_string();
        assert!(
            error.contains("`puts`") && error.contains("local-get"),
            "{error}"
        );
    }

    #[test]
    fn a_cell_that_a_mode_lacks_is_no_cell_of_it() {
        let plan = SuitePlan {
            mode: Mode::Eventual,
            ..plan()
        };
        assert!(wanted(&plan, "put") && !wanted(&plan, "failover"));
        let plan = SuitePlan {
            only: vec!["failover".into()],
            ..plan
        };
        assert!(check(&plan).unwrap_err().to_string().contains("eventual"));
    }

    #[test]
    fn every_turn_is_counted() {
        assert!(turns(&plan()) > 60);
    }
}
