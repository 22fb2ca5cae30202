//! `quorumor bench`: the same load on Quorumor, etcd and a bare echo, in alternation, with the ratio.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use quorumor_bench::BenchError;
use quorumor_bench::cell::{Cell, Settings, Workload};
use quorumor_bench::echo::EchoListener;
use quorumor_bench::load::Pace;
use quorumor_bench::progress::Progress;
use quorumor_bench::results::{self, CellResult};
use quorumor_bench::run::Bench;
use quorumor_bench::table;
use quorumor_bench::target::{CallStyle, Place, Target};
use quorumor_bench::watch::FanOut;
use serde_json::json;

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::output;

mod gossip;
mod instances;
mod overload;
mod suite;
mod typed;

pub(crate) use typed::{Form, Typed, TypedCall, TypedMode, TypedPlace};
use typed::{parse_pids, parse_writes};

/// Puts a second that are watched, unless told otherwise.
const WATCHED_PUTS_S: f64 = 500.0;

const EXAMPLE: &str = "\
Examples:
  quorumor bench put get --in-flight 64,256 --target quorumor=127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420
  quorumor bench put --compare etcd=127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379 --pids etcd=11,12,13
  quorumor bench mix --rate 5000 --duration 30s --json mix.jsonl
  quorumor bench suite --etcd-binary ./etcd --json bench.jsonl
  quorumor bench gossip --nodes 10,50,100 --json gossip.jsonl
  quorumor bench instances --etcd-binary ./etcd
  quorumor bench overload --flood read

It writes keys under `bench/` and leaves them there. With several targets each cell is measured in turns, A B A B, and
the median of the turns is shown. A turn during which other programs took more than a quarter of a core is void and
repeated. Latency counts from the start of a call, with --rate from its intended start.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE, args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) what: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Start a cluster of each, measure the whole table, and say which goals are reached
    Suite(Box<suite::SuiteArgs>),
    /// Start agents of eventual mode and of Serf, and compare how they spread news, notice deaths and idle
    Gossip(Box<gossip::GossipArgs>),
    /// Keep many instances alive in each mode, and at etcd, and say what that takes
    Instances(Box<instances::InstancesArgs>),
    /// Put many times the load on that can be served, and judge what healthy users still get
    Overload(Box<overload::OverloadArgs>),
    /// Serve the bare echo that is compared with
    #[command(hide = true)]
    EchoServer(EchoArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// What is done, one after the other [default: put]
    #[arg(value_enum, value_name = "WORKLOAD")]
    pub(crate) workloads: Vec<Typed>,
    /// `PROTOCOL[:NAME]=ADDRESS,ADDRESS` with protocol quorumor, etcd or echo; repeatable
    /// [default: quorumor=127.0.0.1:7400]
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Vec<Target>,
    /// One more target, whose figures the first one's are compared with
    #[arg(long, value_name = "TARGET")]
    pub(crate) compare: Vec<Target>,
    /// The processes of a target's nodes, NAME=PID,PID, to measure their processor time and memory; repeatable
    #[arg(long, value_name = "NAME=PIDS", value_parser = parse_pids)]
    pub(crate) pids: Vec<(String, Vec<u32>)>,
    /// Calls in flight; several are measured one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) in_flight: Vec<u32>,
    /// Calls a second, come what may, instead of a closed loop
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// Watchers of the workload `watch`, each on a stream of its own
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) watchers: u32,
    /// Which nodes are asked
    #[arg(long, value_enum, default_value_t = TypedPlace::All)]
    pub(crate) place: TypedPlace,
    /// Which nodes are written to, all or leader, or NAME=leader for one target; repeatable
    /// [default: all; of Quorumor in strong mode the leader]
    #[arg(long, value_name = "[NAME=]NODES", value_parser = parse_writes)]
    pub(crate) writes: Vec<(Option<String>, TypedPlace)>,
    /// In which mode Quorumor is asked
    #[arg(long, value_enum, default_value_t = TypedMode::Strong)]
    pub(crate) mode: TypedMode,
    /// How Quorumor is called
    #[arg(long, value_enum, default_value_t = TypedCall::Unary)]
    pub(crate) call: TypedCall,
    /// Connections to each target
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) connections: u16,
    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(..=1_048_576))]
    pub(crate) value_size: u32,
    /// Keys to touch
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,
    /// How long each turn is measured
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How long each turn runs before that
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,
    /// Turns of each target [default: 1, with several targets 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,
    #[command(flatten)]
    pub(crate) shown: ShownArgs,
}

/// What every measurement takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShownArgs {
    /// More foreign cores than this make a turn void
    #[arg(long, value_name = "CORES", default_value_t = 0.25)]
    pub(crate) foreign_max: f64,
    /// Which keys come when
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Append the results to this file, one line of JSON a cell and target
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// How to show the results
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub(crate) output: Form,
}

/// What a measurement with a table of its own takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct TableArgs {
    /// More foreign cores than this make figures void
    #[arg(long, value_name = "CORES", default_value_t = 0.25)]
    pub(crate) foreign_max: f64,
    /// Show the table as Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Append the results to this file, as lines of JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// How to show the results
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub(crate) output: Form,
}

impl TableArgs {
    const fn style(&self) -> table::Style {
        if self.markdown {
            table::Style::Markdown
        } else {
            table::Style::Plain
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct EchoArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

impl BenchArgs {
    pub(crate) const fn output(&self) -> Output {
        let form = match &self.what {
            Some(BenchCommand::EchoServer(_)) => return Output::Json,
            Some(BenchCommand::Suite(args)) => args.shown.output,
            Some(BenchCommand::Gossip(args)) => args.table.output,
            Some(BenchCommand::Instances(args)) => args.table.output,
            Some(BenchCommand::Overload(args)) => args.table.output,
            None => self.run.shown.output,
        };
        match form {
            Form::Table => Output::Table,
            Form::Json => Output::Json,
        }
    }
}

pub(crate) async fn run(args: BenchArgs) -> Result<Exit, Failure> {
    match args.what {
        Some(BenchCommand::EchoServer(args)) => echo(args).await,
        Some(BenchCommand::Suite(args)) => suite::run(*args).await,
        Some(BenchCommand::Gossip(args)) => gossip::run(*args).await,
        Some(BenchCommand::Instances(args)) => instances::run(*args).await,
        Some(BenchCommand::Overload(args)) => overload::run(*args).await,
        None => cells(args.run).await,
    }
}

async fn echo(args: EchoArgs) -> Result<Exit, Failure> {
    let listener = EchoListener::bind(args.listen).await.map_err(failure)?;
    let endpoint = listener.address().to_string();
    output::json(&json!({"event": "ready", "endpoint": endpoint, "pid": std::process::id()}))?;
    listener.serve().await.map_err(failure)?;
    Ok(Exit::Done)
}

async fn cells(args: RunArgs) -> Result<Exit, Failure> {
    let targets = targets(&args)?;
    let settings = settings(&args, targets.len());
    let cells = planned(&args);
    let steps = (cells.len() + fan_outs(&args)) * targets.len() * settings.rounds;
    let progress = Progress::on_terminal(steps);
    let mut bench = Bench::new(settings, progress.clone());
    let mut all = Vec::new();
    for cell in &cells {
        all.extend(bench.cell(cell, &targets).await.map_err(failure)?);
    }
    for _ in 0..fan_outs(&args) {
        let plan = fan_out(&args);
        all.extend(bench.fan_out(&plan, &targets).await.map_err(failure)?);
    }
    progress.finish();
    keep(&all, &args.shown)?;
    show(&all, args.shown.output)
}

fn keep(results: &[CellResult], shown: &ShownArgs) -> Result<(), Failure> {
    match &shown.json {
        Some(path) => append(path, &results::json_lines(results)),
        None => Ok(()),
    }
}

fn show(results: &[CellResult], form: Form) -> Result<Exit, Failure> {
    match form {
        Form::Table => output::line(&table::render(results))?,
        Form::Json => output::bytes(results::json_lines(results).as_bytes())?,
    }
    let errors = table::render_errors(results);
    if !errors.is_empty() {
        output::note(&format!("failed calls:\n{errors}"));
    }
    Ok(if results.iter().any(|result| result.void) {
        Exit::Void
    } else {
        Exit::Done
    })
}

fn append(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::unavailable(&path.display().to_string(), &error))
}

fn targets(args: &RunArgs) -> Result<Vec<Target>, Failure> {
    let mut targets = args.target.clone();
    if targets.is_empty() {
        targets.push("quorumor=127.0.0.1:7400".parse().map_err(Failure::usage)?);
    }
    targets.extend(args.compare.iter().cloned());
    targets = targets
        .into_iter()
        .map(|target| target.in_mode(args.mode.as_mode()))
        .collect();
    for target in &mut targets {
        for (name, writes) in &args.writes {
            if name.as_ref().is_none_or(|name| *name == target.name) {
                target.writes = writes.as_writes();
            }
        }
        target.call = match args.call {
            TypedCall::Unary => CallStyle::Unary,
            TypedCall::Exchange => CallStyle::Exchange,
        };
    }
    for (name, pids) in &args.pids {
        let target = targets.iter_mut().find(|target| target.name == *name);
        let target = target.ok_or_else(|| {
            Failure::usage(format!("--pids names {name}, and no target has this name"))
        })?;
        target.pids.clone_from(pids);
    }
    let mut names: Vec<_> = targets.iter().map(|target| &target.name).collect();
    names.sort();
    names.dedup();
    if names.len() < targets.len() {
        let why = "two targets have one name; write PROTOCOL:NAME=ADDRESSES to tell them apart";
        return Err(Failure::usage(why));
    }
    Ok(targets)
}

fn workloads(args: &RunArgs) -> &[Typed] {
    if args.workloads.is_empty() {
        &[Typed::Put]
    } else {
        &args.workloads
    }
}

fn planned(args: &RunArgs) -> Vec<Cell> {
    let workloads = workloads(args)
        .iter()
        .filter_map(|workload| match workload {
            Typed::Put => Some(Workload::Put),
            Typed::Get => Some(Workload::Get),
            Typed::LocalGet => Some(Workload::LocalGet),
            Typed::Mix => Some(Workload::Mix),
            Typed::Batch => Some(Workload::Batch),
            Typed::KeepAlive => Some(Workload::KeepAlive),
            Typed::Discover => Some(Workload::Discover),
            Typed::LocalDiscover => Some(Workload::LocalDiscover),
            Typed::Watch => None,
        });
    let place = match args.place {
        TypedPlace::All => Place::AllNodes,
        TypedPlace::Leader => Place::Leader,
    };
    let pace = args.rate.map_or(Pace::Closed, |rate| Pace::Open {
        rate: f64::from(rate),
    });
    workloads
        .flat_map(|workload| {
            args.in_flight.iter().map(move |in_flight| Cell {
                workload,
                in_flight: usize::try_from(*in_flight).unwrap_or(usize::MAX),
                place,
                pace,
                connections: 0,
            })
        })
        .collect()
}

fn fan_outs(args: &RunArgs) -> usize {
    let watches = workloads(args).iter();
    watches
        .filter(|workload| **workload == Typed::Watch)
        .count()
}

fn fan_out(args: &RunArgs) -> FanOut {
    FanOut {
        watchers: usize::try_from(args.watchers).unwrap_or(usize::MAX),
        rate: args.rate.map_or(WATCHED_PUTS_S, f64::from),
        connections: usize::from(args.connections),
        value_bytes: usize::try_from(args.value_size).unwrap_or(usize::MAX),
        warm_up: args.warm_up,
        duration: args.duration,
    }
}

fn settings(args: &RunArgs, targets: usize) -> Settings {
    let rounds = args.rounds.unwrap_or(if targets > 1 { 3 } else { 1 });
    Settings {
        connections: usize::from(args.connections),
        value_bytes: usize::try_from(args.value_size).unwrap_or(usize::MAX),
        keys: usize::try_from(args.keys).unwrap_or(usize::MAX),
        duration: args.duration,
        warm_up: args.warm_up,
        rounds: usize::from(rounds),
        foreign_cores_max: args.shown.foreign_max,
        seed: args.shown.seed,
        ..Settings::default()
    }
}

fn failure(error: BenchError) -> Failure {
    let message = error.to_string();
    match error {
        BenchError::Usage(_) => Failure::usage(message),
        BenchError::Unreachable { .. } => Failure::new(Exit::Unavailable, "UNREACHABLE", message)
            .advising("check the addresses and that the cluster runs; `quorumor bench suite` starts its own"),
        BenchError::Unfit { .. } => Failure::new(Exit::Unavailable, "UNFIT", message),
        BenchError::Start { .. } => Failure::new(Exit::Unavailable, "NOT_STARTED", message),
        BenchError::File { .. } => Failure::new(Exit::Unavailable, "FILE", message),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use quorumor_bench::target::{Mode, Writes};

    use super::*;
    use crate::args::{Cli, Command};

    fn typed(line: &str) -> BenchArgs {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Bench(args) = cli.command else {
            panic!("not bench: {line}");
        };
        *args
    }

    #[test]
    fn workloads_and_counts_make_cells() {
        let args = typed("quorumor bench put local-get --in-flight 1,64 --place leader").run;
        let cells = planned(&args);
        let names: Vec<_> = cells
            .iter()
            .map(|cell| (cell.name(), cell.in_flight))
            .collect();
        assert_eq!(names[0], ("put-leader".to_owned(), 1));
        assert_eq!(names[3], ("local-get-leader".to_owned(), 64));
    }

    #[test]
    fn without_a_target_it_is_the_default_node() {
        let args = typed("quorumor bench").run;
        assert_eq!(targets(&args).unwrap()[0].endpoints, ["127.0.0.1:7400"]);
        assert_eq!(planned(&args), [Cell::closed(Workload::Put, 64)]);
    }

    #[test]
    fn pids_belong_to_a_target_by_its_name() {
        let line = "quorumor bench --target etcd:old=a:1 --pids old=4,5";
        assert_eq!(targets(&typed(line).run).unwrap()[0].pids, [4, 5]);
        let line = "quorumor bench --target etcd:old=a:1 --pids new=4";
        let failure = targets(&typed(line).run).unwrap_err();
        assert!(failure.message.contains("no target"), "{}", failure.message);
    }

    #[test]
    fn one_targets_writes_can_go_elsewhere() {
        let line = "quorumor bench --target etcd=a:1 --target etcd:led=a:1 --writes led=leader";
        let targets = targets(&typed(line).run).unwrap();
        assert_eq!(targets[0].writes, Writes::AllNodes);
        assert_eq!(targets[1].writes, Writes::Leader);
    }

    #[test]
    fn in_eventual_mode_every_node_is_written_to() {
        let line = "quorumor bench put --mode eventual --target quorumor=a:1,b:1";
        let targets = targets(&typed(line).run).unwrap();
        assert_eq!(targets[0].mode, Mode::Eventual);
        assert_eq!(targets[0].writes, Writes::AllNodes);
    }

    #[test]
    fn targets_with_one_name_are_a_usage_error() {
        let line = "quorumor bench --target etcd=a:1 --compare etcd=b:1";
        assert_eq!(targets(&typed(line).run).unwrap_err().exit, Exit::Usage);
    }
}
