//! `quorumor sim`: one mode in the simulator, seed by seed, judged.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use quorumor_client::Mode;
use quorumor_lab::world::sim::{self, Options, Outcome, Plant};
use serde_json::json;

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor sim --mode strong --seeds 1000
  quorumor sim --mode eventual --seed 17
  quorumor sim --mode strong --seed 17 --output json | jq .counts

Every node runs the code that serves clients, over the log that servers use, on a virtual network and a faulty disk, in
virtual time. Crashes with loss of what wasn't synced, torn tails, partitions, one-way cuts, loss, pauses and clock jumps come
from the seed; then all heals, and the cluster must recover. The same line gives the same run, byte for byte.
In strong mode slow and full disks come too, and while all that goes on clients run transactions, sessions with retried writes,
leases, reads of every level and of the past, watches that go from node to node, backups, compactions, leader transfers and
changes of the members.

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
    /// How many seeds to run, one after the other
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first_seed: u64,
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=7))]
    pub(crate) nodes: u64,
    /// Clients, each with one operation at a time
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) clients: u32,
    /// Keys that they share
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) keys: u32,
    /// How long faults and load last, in virtual time
    #[arg(long, value_name = "TIME", default_value = "12s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Leave the faults out
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// Plant a defect, to see that it is found
    #[arg(long, value_enum, hide = true)]
    pub(crate) plant: Option<Planted>,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

/// A defect to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Planted {
    /// Strong reads are served locally and claim to be linearizable
    StaleReads,
    /// Reads don't wait for what their session token demands
    TokensIgnored,
    /// A power cut takes the last write that the disk called durable
    LyingDisk,
    /// A write that is sent again goes without its client's number
    DoubleApply,
    /// Somebody ends leases that are kept alive
    LeaseEarlyExpiry,
    /// Watchers are left without a revision now and then
    WatchGap,
    /// A read in the past shows the revision before
    StaleHistory,
}

impl From<Planted> for Plant {
    fn from(planted: Planted) -> Self {
        match planted {
            Planted::StaleReads => Self::StaleReads,
            Planted::TokensIgnored => Self::TokensIgnored,
            Planted::LyingDisk => Self::LyingDisk,
            Planted::DoubleApply => Self::DoubleApply,
            Planted::LeaseEarlyExpiry => Self::LeaseEarlyExpiry,
            Planted::WatchGap => Self::WatchGap,
            Planted::StaleHistory => Self::StaleHistory,
        }
    }
}

pub(crate) async fn run(args: SimArgs) -> Result<Exit, Failure> {
    // The simulator computes; the runtime's own threads have nothing to wait for here.
    let result = tokio::task::spawn_blocking(move || campaign(&args)).await;
    result.map_err(|error| Failure::unavailable("the simulator broke", &error))?
}

fn campaign(args: &SimArgs) -> Result<Exit, Failure> {
    let seeds = match args.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => args.first_seed..args.first_seed.saturating_add(args.seeds),
    };
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
    let duration_ms = u64::try_from(args.duration.as_millis())
        .map_err(|_| Failure::usage("--duration is longer than any run"))?;
    let mode = lab_mode(args.mode);
    Ok(Options {
        nodes: args.nodes,
        clients: args.clients,
        keys: args.keys,
        duration_ms,
        faults: !args.no_faults,
        plant: args.plant.map(Into::into),
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
