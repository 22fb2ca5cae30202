//! `quorumor bench instances`: many instances kept alive, in each mode and at etcd.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorumor_bench::progress::Progress;
use quorumor_bench::registry::instances::{self, InstancesPlan, InstancesResult};
use quorumor_bench::table::{self, figure};
use quorumor_bench::{BenchError, target::Mode};

use super::{Form, TableArgs, TypedMode, append, failure};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  quorumor bench instances --etcd-binary ./etcd
  quorumor bench instances --mode eventual --eventual-nodes 100 --duration 2m --json instances.jsonl

It starts three nodes in strong mode, then so many in eventual mode, then three of etcd, and registers the instances with each:
every host has a connection, and one stream that keeps all its instances alive (etcd: a lease for each). It measures how
fast they are registered, how soon every node shows them, what keeping them alive takes, and whether one is lost.
Leave the machine alone meanwhile: what others do makes figures void.";

const HEADER: [&str; 12] = [
    "system",
    "nodes",
    "instances",
    "registered/s",
    "everywhere after s",
    "kept alive/s",
    "a host's beat, p50 / p99 ms",
    "cores, all nodes",
    "a node, % of a core",
    "RSS MiB, mean / biggest",
    "lost",
    "verdict",
];

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct InstancesArgs {
    /// Which modes of Quorumor
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [TypedMode::Strong, TypedMode::Eventual])]
    pub(crate) mode: Vec<TypedMode>,
    /// How many instances
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) instances: u32,
    /// Over how many hosts
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) hosts: u16,
    /// Nodes in eventual mode
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) eventual_nodes: u16,
    /// How often each instance is kept alive
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) every: Duration,
    /// How long an instance lives without
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// For how long that is watched
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// The etcd to compare with; `scripts/bench-etcd.sh` fetches one [default: none]
    #[arg(long, value_name = "FILE", env = "QUORUMOR_BENCH_ETCD")]
    pub(crate) etcd_binary: Option<PathBuf>,
    /// Where the clusters keep their data, on a real disk: it must not hold anything yet
    #[arg(long, value_name = "DIR", default_value = "bench-instances-data")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) table: TableArgs,
}

pub(super) async fn run(args: InstancesArgs) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let plan = plan(&args)?;
    let progress = Progress::on_terminal(instances::systems(&plan).len());
    let measured = tokio::select! {
        measured = instances::run(&plan, &progress) => measured,
        // The nodes end with the future that holds them.
        signal = ends.next() => Err(BenchError::Usage(format!("ended by {signal}"))),
    };
    progress.finish();
    // What can't be removed is only in the way.
    let _left = std::fs::remove_dir_all(&args.dir);
    let results = measured.map_err(failure)?;
    if let Some(path) = &args.table.json {
        append(path, &instances::json_lines(&results))?;
    }
    show(&args, &results)
}

fn show(args: &InstancesArgs, results: &[InstancesResult]) -> Result<Exit, Failure> {
    match args.table.output {
        Form::Json => output::bytes(instances::json_lines(results).as_bytes())?,
        Form::Table => {
            let rows: Vec<_> = results.iter().map(row).collect();
            let style = args.table.style();
            output::line(&table::render_cells(HEADER, &rows, style))?;
        }
    }
    for result in results {
        for error in &result.errors {
            output::note(&format!("{}: {error}", result.system));
        }
    }
    Ok(if results.iter().any(|result| result.void) {
        Exit::Void
    } else if results.iter().all(InstancesResult::is_whole) {
        Exit::Done
    } else {
        Exit::Broken
    })
}

fn row(result: &InstancesResult) -> [String; 12] {
    let f = |value: f64| figure(Some(value));
    let nodes = u32::try_from(result.nodes.max(1)).unwrap_or(u32::MAX);
    let verdict = match (result.void, result.is_whole()) {
        (true, _) => format!("void: {:.2} foreign cores", result.foreign_cores),
        (false, true) => "whole".to_owned(),
        (false, false) => format!("{} of {} are shown", result.shown, result.instances),
    };
    [
        result.system.to_string(),
        result.nodes.to_string(),
        result.instances.to_string(),
        f(result.registered_per_s),
        f(result.everywhere_s),
        f(result.beats_per_s),
        format!(
            "{} / {}",
            figure(result.beat_p50_ms),
            figure(result.beat_p99_ms)
        ),
        f(result.cores),
        f(result.cores / f64::from(nodes) * 100.0),
        format!("{} / {}", f(result.rss_mib), f(result.rss_mib_max)),
        result.lost.to_string(),
        verdict,
    ]
}

fn plan(args: &InstancesArgs) -> Result<InstancesPlan, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("can't tell where this program is", &error))?;
    let mut modes: Vec<Mode> = args.mode.iter().map(|mode| mode.as_mode()).collect();
    modes.dedup();
    Ok(InstancesPlan {
        quorumor: program,
        etcd: args.etcd_binary.clone(),
        dir: args.dir.clone(),
        modes,
        eventual_nodes: usize::from(args.eventual_nodes),
        instances: usize::try_from(args.instances).unwrap_or(usize::MAX),
        hosts: usize::from(args.hosts),
        every: args.every,
        ttl: args.ttl,
        duration: args.duration,
        foreign_cores_max: args.table.foreign_max,
    })
}
