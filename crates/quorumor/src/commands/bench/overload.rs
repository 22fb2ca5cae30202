//! `quorumor bench overload`: many times the load that three nodes can serve, and what they still owe their users.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use quorumor_bench::BenchError;
use quorumor_bench::progress::Progress;
use quorumor_bench::registry::overload::{self, Flood, OverloadPlan, OverloadResult};
use quorumor_bench::table;

use super::{Form, TableArgs, TypedMode, append, failure};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  quorumor bench overload
  quorumor bench overload --flood read --mode eventual --factor 20 --duration 60s
  quorumor bench overload --limits disabled          # what the nodes' limits are for

Three nodes share one core, all that calls them the others. As much as they can serve is measured first; then so many times
that rate comes from other connections; then again as before. A few regular callers ask the same all the while at a low
rate, and hosts keep instances alive: what those see is judged. The exit status is 1 if something wasn't kept, 6 if the
run is void: others used the machine, or the flood could not be made.";

const HEADER: [&str; 4] = ["what", "is", "to be", "verdict"];

/// A flood as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypedFlood {
    /// Batches of a hundred puts
    #[default]
    Write,
    /// Lists of a thousand keys, at the mode's best level
    Read,
}

/// Whether nodes hold classes of calls apart, as typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypedLimits {
    /// Each class of calls has its share
    #[default]
    Enforcing,
    /// All share one number of places
    Disabled,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct OverloadArgs {
    /// In which mode the nodes serve
    #[arg(long, value_enum, default_value_t = TypedMode::Strong)]
    pub(crate) mode: TypedMode,
    /// What there is too much of
    #[arg(long, value_enum, default_value_t = TypedFlood::Write)]
    pub(crate) flood: TypedFlood,
    /// Whether the nodes hold classes of calls apart
    #[arg(long, value_enum, default_value_t = TypedLimits::Enforcing)]
    pub(crate) limits: TypedLimits,
    /// So many times what can be served
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) factor: u16,
    /// How long the flood lasts
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// How long before and after it as much as can be served is
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    pub(crate) around: Duration,
    /// Healthy instances
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) instances: u16,
    /// How long each lives without a sign of life
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// Where the nodes keep their data, on a real disk: it must not hold anything yet
    #[arg(long, value_name = "DIR", default_value = "bench-overload-data")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) table: TableArgs,
}

pub(super) async fn run(args: OverloadArgs) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let plan = plan(&args)?;
    let progress = Progress::on_terminal(3);
    let measured = tokio::select! {
        measured = overload::run(&plan, &progress) => measured,
        // The nodes end with the future that holds them.
        signal = ends.next() => Err(BenchError::Usage(format!("ended by {signal}"))),
    };
    progress.finish();
    // What can't be removed is only in the way.
    let _left = std::fs::remove_dir_all(&args.dir);
    let result = measured.map_err(failure)?;
    let line = format!("{}\n", serde_json::json!(result));
    if let Some(path) = &args.table.json {
        append(path, &line)?;
    }
    show(&args, &result, &line)
}

fn show(args: &OverloadArgs, result: &OverloadResult, line: &str) -> Result<Exit, Failure> {
    match args.table.output {
        Form::Json => output::bytes(line.as_bytes())?,
        Form::Table => {
            let style = args.table.style();
            output::line(&table::render_cells(HEADER, &overload::rows(result), style))?;
        }
    }
    for (error, times) in &result.turned_away {
        output::note(&format!("the flood heard {times} x {error}"));
    }
    Ok(if result.is_void() {
        let cores = result.foreign_cores;
        output::note(&format!(
            "void: {cores:.2} foreign cores, or too small a flood"
        ));
        Exit::Void
    } else if result.is_kept() {
        Exit::Done
    } else {
        Exit::Broken
    })
}

fn plan(args: &OverloadArgs) -> Result<OverloadPlan, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::unavailable("can't tell where this program is", &error))?;
    Ok(OverloadPlan {
        quorumor: program,
        dir: args.dir.clone(),
        mode: args.mode.as_mode(),
        flood: match args.flood {
            TypedFlood::Write => Flood::Write,
            TypedFlood::Read => Flood::Read,
        },
        limits: args.limits == TypedLimits::Enforcing,
        factor: f64::from(args.factor),
        duration: args.duration,
        around: args.around,
        instances: usize::from(args.instances),
        ttl: args.ttl,
        foreign_cores_max: args.table.foreign_max,
    })
}
