//! `quorumor bench gossip`: agents of eventual mode and of Serf, one after the other, and which goals are reached.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorumor_bench::BenchError;
use quorumor_bench::gossip::{self, GossipPlan, GossipResult, HEADER};
use quorumor_bench::progress::Progress;
use quorumor_bench::table;

use super::{Form, TableArgs, append, failure};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Ends;

const GOSSIP_EXAMPLE: &str = "\
Examples:
  quorumor bench gossip --nodes 10,50,100 --turns 2
  quorumor bench gossip --nodes 100 --idle 60s --markdown --json gossip.jsonl
  quorumor bench gossip --nodes 50 --without-serf

It starts so many nodes in eventual mode, and then as many agents of Serf with its default profile, on the loopback, and
ends them again. Of each it measures the time from the start of an update until the last agent has it (a put; a user event
and a tag of Serf), from a `kill -9` until all others count one more dead, and what idle agents take: processor time,
bytes on the loopback with all headers from IP on, resident memory. Leave the machine alone meanwhile: what others do makes
turns void, and what they send over this loopback is counted (`scripts/bench-serf.sh` gives the run a loopback of its own).";

#[derive(Args, Clone, Debug)]
#[command(after_help = GOSSIP_EXAMPLE)]
pub(crate) struct GossipArgs {
    /// How many agents, one after the other
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10,50,100", value_parser = clap::value_parser!(u16).range(3..=1000))]
    pub(crate) nodes: Vec<u16>,
    /// Turns of each system; times count together, of the rest the median
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) turns: u16,
    /// Updates of each kind in a turn
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) updates: u16,
    /// Agents that are killed in a turn, at most a third of them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(..=100))]
    pub(crate) kills: u16,
    /// For how long idle agents are watched
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) idle: Duration,
    /// The Serf to compare with: a path, or a name to look for
    #[arg(
        long,
        value_name = "FILE",
        env = "QUORUMOR_BENCH_SERF",
        default_value = "serf"
    )]
    pub(crate) serf_binary: PathBuf,
    /// Measure Quorumor alone
    #[arg(long)]
    pub(crate) without_serf: bool,
    /// The quorumor to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) quorumor_binary: Option<PathBuf>,
    /// Where agents keep their data, on a real disk: it must not hold anything yet
    #[arg(long, value_name = "DIR", default_value = "bench-gossip-data")]
    pub(crate) dir: PathBuf,
    /// Keep the data and the logs
    #[arg(long)]
    pub(crate) keep: bool,
    /// A void turn is repeated at most so often
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=100))]
    pub(crate) void_repeats: u16,
    #[command(flatten)]
    pub(crate) table: TableArgs,
}

pub(super) async fn run(args: GossipArgs) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let plan = plan(&args)?;
    let progress = Progress::on_terminal(gossip::turns(&plan));
    let keep = |result: &GossipResult| match &args.table.json {
        Some(path) => append(path, &gossip::json_lines(std::slice::from_ref(result)))
            .map_err(|failure| BenchError::Usage(failure.message)),
        None => Ok(()),
    };
    let measured = tokio::select! {
        measured = gossip::run(&plan, &progress, keep) => measured,
        // The agents end with the future that holds them.
        signal = ends.next() => Err(BenchError::Usage(format!("ended by {signal}"))),
    };
    progress.finish();
    if !args.keep {
        // What can't be removed is only in the way.
        let _left = std::fs::remove_dir_all(&args.dir);
    }
    show(&args, &measured.map_err(failure)?)
}

fn show(args: &GossipArgs, results: &[GossipResult]) -> Result<Exit, Failure> {
    match args.table.output {
        Form::Json => output::bytes(gossip::json_lines(results).as_bytes())?,
        Form::Table => {
            let style = args.table.style();
            let rows = gossip::rows(results);
            let rows: Vec<_> = rows.iter().map(gossip::GossipRow::cells).collect();
            output::line(&table::render_cells(HEADER, &rows, style))?;
        }
    }
    for result in results {
        let (nodes, system) = (result.nodes, &result.system);
        if result.void {
            let cores = result.foreign_cores;
            output::note(&format!(
                "{nodes} of {system}: void, {cores:.2} foreign cores"
            ));
        }
        for (error, times) in &result.errors {
            output::note(&format!("{nodes} of {system}: {times} x {error}"));
        }
    }
    Ok(if results.iter().any(|result| result.void) {
        Exit::Void
    } else {
        Exit::Done
    })
}

fn plan(args: &GossipArgs) -> Result<GossipPlan, Failure> {
    let program = match &args.quorumor_binary {
        Some(program) => program.clone(),
        None => std::env::current_exe()
            .map_err(|error| Failure::unavailable("can't tell where this program is", &error))?,
    };
    Ok(GossipPlan {
        quorumor: program,
        serf: (!args.without_serf).then(|| args.serf_binary.clone()),
        dir: args.dir.clone(),
        keep: args.keep,
        nodes: args.nodes.iter().copied().map(usize::from).collect(),
        turns: usize::from(args.turns),
        updates: usize::from(args.updates),
        kills: usize::from(args.kills),
        idle: args.idle,
        foreign_cores_max: args.table.foreign_max,
        void_repeats_max: usize::from(args.void_repeats),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::commands::bench::BenchCommand;

    fn typed(line: &str) -> GossipArgs {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Bench(args) = cli.command else {
            panic!("not bench: {line}");
        };
        let Some(BenchCommand::Gossip(args)) = args.what else {
            panic!("not gossip: {line}");
        };
        *args
    }

    #[test]
    fn numbers_of_agents_come_as_a_list() {
        let args = typed("quorumor bench gossip --nodes 3,7 --idle 2s --without-serf");
        let plan = plan(&args).unwrap();
        assert_eq!(plan.nodes, [3, 7]);
        assert_eq!(plan.idle, Duration::from_secs(2));
        assert_eq!(plan.serf, None);
    }

    #[test]
    fn serf_is_looked_for_by_name() {
        let plan = plan(&typed("quorumor bench gossip")).unwrap();
        assert_eq!(plan.serf, Some("serf".into()));
        assert_eq!(plan.nodes, [10, 50, 100]);
    }
}
