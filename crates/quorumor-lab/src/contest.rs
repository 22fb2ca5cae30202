//! A contest: one scenario in every column that is asked for, over several seeds, judged and reported.
//!
//! Not a judge and not a world: it runs the worlds in alternating order, lets [`mod@crate::analyse`] read each history, and puts the
//! columns side by side. Every column gets the same operations, faults and clients of a seed. Called by `compare` and `lab`.

mod column;
mod progress;
mod scale;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::analyse::{FloodCounts, RunResult, analyse_as};
use crate::checker::Finding;
use crate::etcd::{self, EtcdOptions};
use crate::history::{History, World};
use crate::network::LinkKind;
use crate::predictions;
use crate::report::{Comparison, Difference};
use crate::scenario::Scenario;
use crate::world::cluster::{self, ClusterOptions, Live};
use crate::world::sim::staged;
use crate::world::{cluster::Plant as ClusterPlant, sim::Plant as SimPlant};
use progress::Progress;

pub use column::{Contender, Side, System};

/// What to run.
#[derive(Clone, Debug)]
pub struct Contest {
    /// The scenario; its seed is the first one.
    pub scenario: Scenario,
    /// The columns, in the order in which they are shown.
    pub contenders: Vec<Contender>,
    /// How many seeds, counted up from the scenario's.
    pub seeds: u64,
    /// Where histories, logs and the report go.
    pub out: PathBuf,
    /// The program that has `serve`; none = this very program.
    pub program: Option<PathBuf>,
    /// What links between our nodes are made of, where those are real processes.
    pub links: LinkKind,
    /// A defect to plant in real processes.
    pub cluster_plant: Option<ClusterPlant>,
    /// A defect to plant in the simulated world.
    pub sim_plant: Option<SimPlant>,
    /// The command that repeats it.
    pub command: String,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The columns and their verdicts.
    pub comparison: Comparison,
    /// Where the page for people is.
    pub page: PathBuf,
    /// Columns that their world can't carry out, said before anything was started: their heading and why.
    pub refused: Vec<(Heading, String)>,
    /// Runs that broke down, and why: no verdict, and no pass either.
    pub failed: Vec<String>,
}

/// A column's label and where it runs.
pub type Heading = (String, World);

impl Contest {
    /// Runs every column over every seed, and writes the report into [`Contest::out`], if any column was run.
    ///
    /// # Errors
    /// When it is interrupted, or a file can't be written. That is no verdict.
    pub async fn run(&self, interrupt: &CancellationToken) -> Result<Outcome> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("can't make `{}`", self.out.display()))?;
        let contest = self.both_sides();
        contest.run_all(interrupt).await
    }

    /// The same with a column for each side of the scenario's contrast.
    fn both_sides(&self) -> Self {
        let contenders = self.contenders.iter();
        let sides = contenders.flat_map(|contender| contender.sides(&self.scenario));
        Self {
            contenders: sides.collect(),
            ..self.clone()
        }
    }

    async fn run_all(&self, interrupt: &CancellationToken) -> Result<Outcome> {
        let out = std::path::absolute(&self.out)?;
        let mut going = Going::new(self.contenders.len());
        let plants = self.cluster_plant.map(|plant| plant.text().to_owned());
        going.notes.extend(plants);
        let refusals: Vec<Option<String>> = self
            .contenders
            .iter()
            .map(|contender| self.refusal(*contender))
            .collect();
        for turn in 0..self.seeds.max(1) {
            let scenario = Scenario {
                seed: self.scenario.seed.saturating_add(turn),
                ..self.scenario.clone()
            };
            for place in order(self.contenders.len(), turn) {
                if refusals[place].is_none() {
                    let run = self.run_one(place, &scenario, &out, interrupt);
                    going.take(place, &self.contenders[place].label(), run.await);
                    ensure!(!interrupt.is_cancelled(), "interrupted");
                }
            }
        }
        self.report(going, refusals, &out)
    }

    /// Why a column can't be carried out, if it can't.
    fn refusal(&self, contender: Contender) -> Option<String> {
        let refused = match (contender.world, contender.system.mode()) {
            (World::Simulated, Some(_)) => {
                let why = self.scenario.real_only()?;
                return Some(format!("not carried out: {why}; --world real plays it"));
            }
            (World::Simulated, None) => return Some("etcd can't be simulated".to_owned()),
            (World::Cluster, Some(mode)) => {
                cluster::can_carry_out(&self.scenario, mode, self.links)
            }
            (World::Cluster, None) if self.links == LinkKind::Namespaces => {
                return Some("etcd's members are cut by proxies only".to_owned());
            }
            (World::Cluster, None) => etcd::can_carry_out(&self.scenario),
        };
        refused.err().map(|why| why.to_string())
    }

    async fn run_one(
        &self,
        place: usize,
        scenario: &Scenario,
        out: &Path,
        interrupt: &CancellationToken,
    ) -> Result<(RunResult, Vec<String>)> {
        let (contender, began) = (self.contenders[place], Instant::now());
        let scenario = contender.scenario(scenario);
        let label = contender.label();
        let path = out.join(format!(
            "history-{}-{}.jsonl",
            contender.slug(),
            scenario.seed
        ));
        let live = Arc::new(Live::default());
        let progress = Progress::start(&label, Arc::clone(&live));
        let played = self.play(contender, &scenario, &path, out, &live, interrupt);
        let played = played.await;
        progress.stop().await;
        let played = played.with_context(|| format!("{label} broke down"))?;
        let (mut notes, reads) = (played.notes, contender.reads());
        let mut result = unless_interrupted(interrupt, {
            let (path, scenario) = (path.clone(), scenario.clone());
            move || judge(&path, &scenario, reads)
        })
        .await?;
        if let Some(finding) = played.finding {
            result.add(finding);
        }
        if let Some(flood) = played.flood {
            result.add_flood(flood);
        }
        if let (World::Simulated, Some(planned)) = (contender.world, &scenario.scale)
            && contender.system == System::Eventual
        {
            let options = planned.options(scenario.seed);
            let (finding, note) =
                unless_interrupted(interrupt, move || scale::run(&options)).await?;
            result.add(finding);
            notes.push(note);
        }
        progress::say(&format!(
            "{} {label}, seed {}: done in {:.1} s",
            scenario.name,
            scenario.seed,
            began.elapsed().as_secs_f64()
        ));
        Ok((result, notes))
    }

    async fn play(
        &self,
        contender: Contender,
        scenario: &Scenario,
        path: &Path,
        out: &Path,
        live: &Arc<Live>,
        interrupt: &CancellationToken,
    ) -> Result<Played> {
        match (contender.world, contender.system.mode()) {
            (World::Simulated, Some(mode)) => {
                let (scenario, path, plant) = (scenario.clone(), path.to_owned(), self.sim_plant);
                let ran = unless_interrupted(interrupt, move || {
                    staged::run(&scenario, mode, plant, &path)
                });
                let ran = ran.await?;
                Ok(Played {
                    finding: ran.finding(),
                    notes: ran.notes,
                    flood: None,
                })
            }
            (World::Cluster, Some(mode)) => {
                let program = match &self.program {
                    Some(program) => program.clone(),
                    None => std::env::current_exe().context("this program can't find itself")?,
                };
                let options = ClusterOptions {
                    mode,
                    program,
                    out: out.to_owned(),
                    plant: self.cluster_plant,
                    links: self.links,
                };
                let ran = cluster::run(&options, scenario, live, interrupt).await?;
                std::fs::rename(options.history_path(), path)?;
                Ok(Played {
                    finding: None,
                    notes: ran.notes,
                    flood: ran.flood,
                })
            }
            (World::Cluster, None) => {
                let program = etcd::find_program()
                    .context("no etcd was found: name its binary in ETCD, or put it into PATH")?;
                let reads = contender.etcd_reads();
                let options = EtcdOptions {
                    program,
                    out: out.to_owned(),
                    reads,
                };
                let notes = etcd::run(&options, scenario, live, interrupt).await?;
                std::fs::rename(options.history_path(), path)?;
                Ok(Played {
                    finding: None,
                    notes,
                    flood: None,
                })
            }
            (World::Simulated, None) => anyhow::bail!("etcd can't be simulated"),
        }
    }

    fn report(&self, going: Going, refusals: Vec<Option<String>>, out: &Path) -> Result<Outcome> {
        let (mut columns, mut predictions) = (Vec::new(), Vec::new());
        for (contender, runs) in self.contenders.iter().zip(going.runs) {
            if !runs.is_empty() {
                let column = contender.column(runs, &self.contenders);
                let scenario = contender.scenario(&self.scenario);
                predictions.extend(predictions::of(&scenario, contender.system, &column));
                columns.push(column);
            }
        }
        let mut comparison = Comparison::new(self.scenario.clone(), self.command.clone(), columns);
        comparison.predictions = predictions;
        comparison.differences = self.differences(&comparison);
        comparison.notes = going.notes;
        let heading = |contender: &Contender| (contender.shown(&self.contenders), contender.world);
        let refused: Vec<(Heading, String)> = self
            .contenders
            .iter()
            .zip(refusals)
            .filter_map(|(contender, why)| Some((heading(contender), why?)))
            .collect();
        let lines = refused
            .iter()
            .map(|((label, _), why)| format!("{label}: {why}"));
        comparison.notes.extend(lines);
        comparison.notes.extend(going.failed.iter().cloned());
        if !comparison.columns.is_empty() {
            comparison
                .write_to(out)
                .with_context(|| format!("can't write to `{}`", out.display()))?;
        }
        Ok(Outcome {
            comparison,
            page: out.join("report.html"),
            refused,
            failed: going.failed,
        })
    }
}

impl Contest {
    /// What both sides of a contrast come to, for each system that was run on both.
    fn differences(&self, comparison: &Comparison) -> Vec<Difference> {
        let all = &self.contenders;
        let column = |contender: Contender| {
            let label = contender.shown(all);
            comparison
                .columns
                .iter()
                .find(|column| column.label == label)
        };
        let difference = |&with: &Contender| {
            let (system, without) = with.both()?;
            let (with, without) = (column(with)?, column(without)?);
            Difference::of(&self.scenario, system.shown(all), with, without)
        };
        all.iter().filter_map(difference).collect()
    }
}

/// What a world leaves beside the history.
struct Played {
    notes: Vec<String>,
    /// What the world itself saw go wrong with the system.
    finding: Option<Finding>,
    /// What became of the flood.
    flood: Option<FloodCounts>,
}

/// Computes aside, and stops waiting for it when the person wants no more.
async fn unless_interrupted<T: Send + 'static>(
    interrupt: &CancellationToken,
    compute: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::select! {
        computed = tokio::task::spawn_blocking(compute) => computed?,
        () = interrupt.cancelled() => Err(anyhow!("interrupted")),
    }
}

/// Runs a contest until it ends or this process is interrupted, which ends every node that it started.
///
/// # Errors
/// See [`Contest::run`].
pub async fn until_interrupted(contest: &Contest) -> Result<Outcome> {
    let interrupt = CancellationToken::new();
    let run = contest.run(&interrupt);
    tokio::pin!(run);
    tokio::select! {
        outcome = &mut run => outcome,
        signal = tokio::signal::ctrl_c() => {
            signal.context("the interrupt signal can't be watched")?;
            interrupt.cancel();
            run.await
        }
    }
}

/// The order of the columns in one turn: forward and back by turns, so that none always comes first.
fn order(columns: usize, turn: u64) -> Vec<usize> {
    let forward = 0..columns;
    if turn.is_multiple_of(2) {
        forward.collect()
    } else {
        forward.rev().collect()
    }
}

/// What has come so far.
struct Going {
    runs: Vec<Vec<RunResult>>,
    notes: Vec<String>,
    failed: Vec<String>,
}

impl Going {
    fn new(columns: usize) -> Self {
        Self {
            runs: vec![Vec::new(); columns],
            notes: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn take(&mut self, place: usize, label: &str, ran: Result<(RunResult, Vec<String>)>) {
        match ran {
            Ok((result, notes)) => {
                self.runs[place].push(result);
                for note in notes {
                    let note = format!("{label}: {note}");
                    if !self.notes.contains(&note) {
                        self.notes.push(note);
                    }
                }
            }
            Err(error) => {
                let why = format!("{error:#}");
                progress::say(&why);
                self.failed.push(why);
            }
        }
    }
}

fn judge(
    path: &Path,
    scenario: &Scenario,
    reads: crate::checker::linearizable::Reads,
) -> Result<RunResult> {
    let history = History::read(path)
        .with_context(|| format!("the history `{}` can't be read back", path.display()))?;
    Ok(analyse_as(&history, scenario, reads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contrast_makes_two_columns_of_each_and_both_play_their_side() {
        let mut scenario = crate::scenario::catalogue::find("flood-writes").unwrap();
        let both = Contender::new(System::Strong, World::Cluster).sides(&scenario);
        let labels: Vec<String> = both.iter().map(|side| side.shown(&both)).collect();
        assert_eq!(
            labels,
            ["strong, limits enforcing", "strong, limits disabled"]
        );
        let limits: Vec<_> = both
            .iter()
            .map(|side| side.scenario(&scenario).limits)
            .collect();
        let wanted = [
            crate::scenario::Limits::Enforcing,
            crate::scenario::Limits::Disabled,
        ];
        assert_eq!(limits, wanted.map(Some));
        assert_eq!(both[0].both().map(|(_, without)| without), Some(both[1]));
        assert_eq!(both[1].slug(), "strong-limits-disabled-real");
        scenario.contrast = None;
        assert_eq!(
            Contender::new(System::Strong, World::Cluster)
                .sides(&scenario)
                .len(),
            1
        );
    }

    #[test]
    fn columns_take_turns_in_being_first() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
    }
}
