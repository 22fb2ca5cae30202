//! `quorumor sim`: one mode in the simulator, seed by seed, judged.
//!
//! Two worlds meet here: a few nodes under every fault, below, and thousands of nodes of eventual mode (`sim/scale.rs`).

mod plots;
mod scale;
mod scaling;
mod tables;

use std::time::{Duration, Instant};

use clap::Args;
use quorumor_client::Mode;
use quorumor_lab::world::sim::{self, Mix, Options, Outcome, Plant};
use serde_json::json;

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor sim --mode strong --seeds 1000
  quorumor sim --mode eventual --seed 17
  quorumor sim --mode strong --seed 17 --output json | jq .counts
  quorumor sim --mode eventual --nodes 1000 --loss 10
  quorumor sim --mode eventual --nodes 10000 --scenario crash --out plots
  quorumor sim --mode eventual --scenario partition --nodes 100 --seeds 5 --output json

Every node runs the code that serves clients, over the log that servers use, on a virtual network and a faulty disk, in
virtual time. Crashes with loss of what wasn't synced, torn tails, partitions, one-way cuts, loss, pauses and clock jumps come
from the seed; then all heals, and the cluster must recover. The same line gives the same run, byte for byte.
In strong mode slow and full disks come too, and while all that goes on clients run transactions, sessions with retried writes,
leases, reads of every level and of the past, watches that go from node to node, backups, compactions, leader transfers and
changes of the members.

At scale: with --mode eventual and any option under that heading, or more than 7 nodes, the run is about how a large cluster
behaves. The same replicas with their codec, up to thousands of them, on a plain network in one thread; it measures how
updates spread, how crashes are found and what it costs, and judges that all agree in the end. Options set the scenario where
it isn't named (--crash 1 is --scenario crash). Bytes count 64 of envelope and headers a datagram, 52 a stream message.

Exit status: 0 every promise was kept; 1 one was broken.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SimArgs {
    /// The mode: strong or eventual
    #[arg(long, value_name = "MODE", default_value = "strong")]
    pub(crate) mode: Mode,
    /// Run this seed alone
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "first_seed"])]
    pub(crate) seed: Option<u64>,
    /// How many seeds to run, one after the other [default: 100; at scale: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first_seed: u64,
    /// Nodes of the cluster: 3 to 7; at scale 3 to 20000 [default: 5; at scale: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(3..=20_000))]
    pub(crate) nodes: Option<u64>,
    /// Clients, each with one operation at a time [default: 6]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) clients: Option<u32>,
    /// Keys that they share [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) keys: Option<u32>,
    /// How long faults and load last, in virtual time [default: 12s; at scale: the scenario's]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,
    /// Leave the faults out
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// Which faults come: every, isolation or power-cuts
    #[arg(long, value_name = "NAME", value_parser = parse_mix, default_value = "every", hide = true)]
    pub(crate) mix: Mix,
    /// Plant a defect, to see that it is found
    #[arg(long, value_name = "NAME", value_parser = plant, hide = true)]
    pub(crate) plant: Option<Plant>,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
    #[command(flatten)]
    pub(crate) scale: scale::ScaleArgs,
}

/// The most nodes of a world in which every fault comes; more are run at scale.
const SMALL_NODES_MAX: u64 = 7;
/// What a world with faults takes where nothing is said.
const SMALL: (u64, u32, u32, Duration) = (5, 6, 4, Duration::from_secs(12));
const SEEDS: u64 = 100;

impl SimArgs {
    /// Whether the run is about a large cluster.
    fn is_at_scale(&self) -> bool {
        let is_large = self.nodes.is_some_and(|nodes| nodes > SMALL_NODES_MAX);
        self.scale.is_given() || (self.mode == Mode::Eventual && is_large)
    }

    /// The seeds to run.
    fn seeds(&self, default: u64) -> std::ops::Range<u64> {
        match self.seed {
            Some(seed) => seed..seed.saturating_add(1),
            None => {
                let count = self.seeds.unwrap_or(default);
                self.first_seed..self.first_seed.saturating_add(count)
            }
        }
    }
}

/// Faults by their name.
fn parse_mix(name: &str) -> Result<Mix, String> {
    Mix::parse(name).ok_or_else(|| "say every, isolation or power-cuts".to_owned())
}

/// A defect by its name.
pub(super) fn plant(name: &str) -> Result<Plant, String> {
    Plant::parse(name).ok_or_else(|| {
        let names: Vec<_> = Plant::all().iter().map(|plant| plant.name()).collect();
        format!("say one of {}", names.join(", "))
    })
}

pub(crate) async fn run(args: SimArgs) -> Result<Exit, Failure> {
    // The simulator computes; the runtime's own threads have nothing to wait for here.
    let result = tokio::task::spawn_blocking(move || {
        if args.is_at_scale() {
            scale::campaign(&args)
        } else {
            campaign(&args)
        }
    });
    result
        .await
        .map_err(|error| Failure::unavailable("the simulator broke", &error))?
}

fn campaign(args: &SimArgs) -> Result<Exit, Failure> {
    let seeds = args.seeds(SEEDS);
    let count = seeds.end - seeds.start;
    let mut sum = sim::Counts::default();
    let (mut broken, mut told) = (0u64, Instant::now());
    for (done, seed) in (1u64..).zip(seeds) {
        let options = options(args, seed)?;
        let outcome = sim::run(&options)
            .map_err(|error| Failure::usage(format!("this can't be simulated: {error:#}")))?;
        sum.add(outcome.counts);
        if !outcome.broken().is_empty() {
            broken += 1;
            show_broken(args.output, &options, &outcome)?;
        } else if count == 1 {
            show_kept(args.output, &options, &outcome)?;
        }
        if told.elapsed() > Duration::from_secs(2) {
            output::note(&format!("{done} of {count} seeds, {broken} broken so far"));
            told = Instant::now();
        }
    }
    if count > 1 {
        show_sum(args, count, broken, sum)?;
    }
    Ok(if broken == 0 {
        Exit::Done
    } else {
        Exit::Broken
    })
}

fn options(args: &SimArgs, seed: u64) -> Result<Options, Failure> {
    let nodes = args.nodes.unwrap_or(SMALL.0);
    if nodes > SMALL_NODES_MAX {
        return Err(Failure::usage(
            "--nodes is 3 to 7, but for a cluster at scale, which is --mode eventual",
        ));
    }
    let duration = args.duration.unwrap_or(SMALL.3);
    let duration_ms = u64::try_from(duration.as_millis())
        .map_err(|_| Failure::usage("--duration is longer than any run"))?;
    let mode = lab_mode(args.mode);
    Ok(Options {
        nodes,
        clients: args.clients.unwrap_or(SMALL.1),
        keys: args.keys.unwrap_or(SMALL.2),
        duration_ms,
        faults: !args.no_faults,
        mix: args.mix,
        plant: args.plant,
        ..Options::new(mode, seed)
    })
}

const fn lab_mode(mode: Mode) -> quorumor_lab::history::Mode {
    match mode {
        Mode::Strong => quorumor_lab::history::Mode::Strong,
        Mode::Eventual => quorumor_lab::history::Mode::Eventual,
    }
}

fn show_kept(form: Report, options: &Options, outcome: &Outcome) -> Result<(), Failure> {
    match form {
        Report::Json => output::json(&as_json(options, outcome)),
        Report::Text => {
            for finding in &outcome.findings {
                output::line(&format!(
                    "{:9} {}: {}",
                    finding.verdict.name(),
                    finding.property.name(),
                    finding.summary
                ))?;
            }
            for (what, count) in outcome.counts.named(options.mode) {
                output::line(&format!("{count:>9} {what}"))?;
            }
            output::line(&format!(
                "trace {:016x}: {}",
                outcome.trace,
                options.command()
            ))
        }
    }
}

fn show_broken(form: Report, options: &Options, outcome: &Outcome) -> Result<(), Failure> {
    if form == Report::Json {
        return output::json(&as_json(options, outcome));
    }
    output::line(&format!("BROKEN: {}", options.command()))?;
    for finding in outcome.broken() {
        output::line(&format!(
            "  {} {}: {}",
            finding.verdict.name(),
            finding.property.name(),
            finding.summary
        ))?;
        for evidence in &finding.evidence {
            output::line(&format!("    {}", evidence.text))?;
            for line in &evidence.lines {
                output::line(&format!("      {line}"))?;
            }
        }
    }
    Ok(())
}

fn show_sum(args: &SimArgs, seeds: u64, broken: u64, sum: sim::Counts) -> Result<(), Failure> {
    let counts = sum.named(lab_mode(args.mode));
    if args.output == Report::Json {
        let counts: serde_json::Map<_, _> = counts
            .iter()
            .map(|(what, count)| ((*what).to_owned(), json!(count)))
            .collect();
        return output::json(
            &json!({ "mode": args.mode.as_str(), "seeds": seeds, "broken": broken, "counts": counts }),
        );
    }
    let happened: Vec<String> = counts
        .iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    output::line(&format!(
        "{} mode, {seeds} seeds: {broken} broke a promise",
        args.mode
    ))?;
    output::line(&format!("in all: {}", happened.join(", ")))
}

fn as_json(options: &Options, outcome: &Outcome) -> serde_json::Value {
    let counts: serde_json::Map<_, _> = outcome
        .counts
        .named(options.mode)
        .iter()
        .map(|(what, count)| ((*what).to_owned(), json!(count)))
        .collect();
    json!({
        "command": options.command(),
        "seed": options.seed,
        "trace": format!("{:016x}", outcome.trace),
        "broken": !outcome.broken().is_empty(),
        "recovered_us": outcome.recovered_us,
        "findings": outcome.findings,
        "counts": counts,
    })
}
