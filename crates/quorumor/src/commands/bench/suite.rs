//! `quorumor bench suite`: clusters of its own, the whole table, and which goals are reached.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorumor_bench::BenchError;
use quorumor_bench::cell::Settings;
use quorumor_bench::progress::Progress;
use quorumor_bench::suite::{self, SuitePlan};
use quorumor_bench::table;

use super::{Form, ShownArgs, TypedMode, TypedPlace, failure, keep, show};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Ends;

const SUITE_EXAMPLE: &str = "\
Examples:
  quorumor bench suite --etcd-binary ./etcd
  quorumor bench suite --etcd-binary ./etcd --only put,failover --rounds 5 --markdown
  quorumor bench suite --etcd-binary ./etcd --mode eventual --exchange

It starts three nodes of each program, and three echo servers, on the loopback, and stops them at the end. Only one
cluster is under load at a time. Leave the machine alone meanwhile: what others do makes turns void.";

#[derive(Args, Clone, Debug)]
#[command(after_help = SUITE_EXAMPLE)]
pub(crate) struct SuiteArgs {
    /// The etcd to compare with; `scripts/bench-etcd.sh` fetches one
    #[arg(long, value_name = "FILE", env = "QUORUMOR_BENCH_ETCD")]
    pub(crate) etcd_binary: PathBuf,
    /// The quorumor to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) quorumor_binary: Option<PathBuf>,
    /// Where the clusters keep their data, on a real disk: it must not hold anything yet
    #[arg(long, value_name = "DIR", default_value = "bench-data")]
    pub(crate) dir: PathBuf,
    /// Keep the data
    #[arg(long)]
    pub(crate) keep: bool,
    /// Which mode of Quorumor is measured
    #[arg(long, value_enum, default_value_t = TypedMode::Strong)]
    pub(crate) mode: TypedMode,
    /// Only these cells: put, get, get-leader, local-get, mix, batch, discover, discover-paced, local-discover,
    /// local-discover-paced, watch, keep-alive, failover, million-keys; in eventual mode put, local-get, batch,
    /// local-discover, local-discover-paced
    #[arg(long, value_name = "CELLS", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Measured, for each turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) seconds_per_cell: u16,
    /// Turns of each target; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// How often the leader of each is killed
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) failovers: u16,
    /// Which nodes of etcd are written to
    #[arg(long, value_enum, default_value_t = TypedPlace::All)]
    pub(crate) etcd_writes: TypedPlace,
    /// Measure Quorumor over streams too, as a target of its own
    #[arg(long)]
    pub(crate) exchange: bool,
    /// Show the table as Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
    #[command(flatten)]
    pub(crate) shown: ShownArgs,
}

pub(super) async fn run(args: SuiteArgs) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let plan = suite_plan(&args)?;
    let progress = Progress::on_terminal(suite::turns(&plan));
    let mut all = Vec::new();
    let measured = tokio::select! {
        measured = suite::run(&plan, progress.clone(), |results| {
            all.extend(results.iter().cloned());
            keep(results, &args.shown).map_err(|failure| BenchError::Usage(failure.message))
        }) => measured,
        // The nodes end with the future that holds them.
        signal = ends.next() => Err(BenchError::Usage(format!("ended by {signal}"))),
    };
    progress.finish();
    if !args.keep {
        // What can't be removed is only in the way.
        let _left = std::fs::remove_dir_all(&args.dir);
    }
    let rows = measured.map_err(failure)?;
    let exit = show(&all, args.shown.output)?;
    if args.shown.output == Form::Table {
        let style = if args.markdown {
            table::Style::Markdown
        } else {
            table::Style::Plain
        };
        output::line(&format!("\n{}", table::render_rows(&rows, style)))?;
    }
    Ok(exit)
}

fn suite_plan(args: &SuiteArgs) -> Result<SuitePlan, Failure> {
    let program = match &args.quorumor_binary {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|error| Failure::unavailable("can't tell where this program is", &error))?,
    };
    Ok(SuitePlan {
        mode: args.mode.as_mode(),
        quorumor: program,
        etcd: args.etcd_binary.clone(),
        dir: args.dir.clone(),
        settings: Settings {
            duration: Duration::from_secs(args.seconds_per_cell.into()),
            rounds: usize::from(args.rounds),
            foreign_cores_max: args.shown.foreign_max,
            seed: args.shown.seed,
            ..Settings::default()
        },
        exchange: args.exchange,
        etcd_writes: args.etcd_writes.as_writes(),
        failover_rounds: usize::from(args.failovers),
        only: args.only.clone(),
    })
}
