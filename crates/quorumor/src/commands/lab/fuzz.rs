//! `quorumor lab fuzz`: schedules at random, and what fails shrunk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use quorumor_lab::fuzz::{self, Failure as Found, FuzzOptions, Tried};
use quorumor_lab::history::Mode;
use quorumor_lab::world::sim::Plant;
use serde_json::json;

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor lab fuzz
  quorumor lab fuzz --time 1h
  quorumor lab fuzz --seed 4711 --seeds 1 --mode strong

Each seed is a schedule of faults that overlap as they please, played in the simulated world and judged. One that breaks a promise is
shrunk to the smallest that still does, and left as a scenario file in --out.

Exit status: 0 every promise was kept, in the runs that could be judged; 1 one was broken; 3 it couldn't be carried out; 6 no run could be
judged.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct FuzzArgs {
    /// Only this mode [default: both]
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<quorumor_core::Mode>,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: u64,
    /// Go on with further seeds for so long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) time: Option<Duration>,
    /// Plant a defect, to see that it is found
    #[arg(long, value_name = "DEFECT", value_parser = super::super::sim::plant, hide = true)]
    pub(crate) plant: Option<Plant>,
    /// Runs that shrinking one failure may take
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub(crate) shrink: u32,
    /// Where scenario files of failures go
    #[arg(long, value_name = "DIR", default_value = "lab-fuzz")]
    pub(crate) out: PathBuf,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

/// How often a person is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What came of all seeds.
#[derive(Default)]
struct Tally {
    kept: u64,
    undecided: u64,
    void: u64,
    broken: Vec<Found>,
}

pub(crate) async fn run(args: FuzzArgs) -> Result<Exit, Failure> {
    let output = args.output;
    let tally = tokio::task::spawn_blocking(move || fuzz(&args))
        .await
        .map_err(super::run::failed)??;
    let tried = tally.kept + tally.undecided + tally.void + tally.broken.len() as u64;
    match output {
        Report::Text => {
            for found in &tally.broken {
                output::line(&describe(found))?;
            }
            let text = format!(
                "{tried} runs: {} kept every promise, {} undecided, {} void, {} broken",
                tally.kept,
                tally.undecided,
                tally.void,
                tally.broken.len()
            );
            output::line(&text)?;
        }
        Report::Json => output::json(&json!({
            "runs": tried,
            "kept": tally.kept,
            "undecided": tally.undecided,
            "void": tally.void,
            "broken": tally.broken,
        }))?,
    }
    Ok(if !tally.broken.is_empty() {
        Exit::Broken
    } else if tally.kept == 0 {
        Exit::Void
    } else {
        Exit::Done
    })
}

fn fuzz(args: &FuzzArgs) -> Result<Tally, Failure> {
    std::fs::create_dir_all(&args.out)
        .map_err(|error| Failure::usage(format!("can't make `{}`: {error}", args.out.display())))?;
    let options = FuzzOptions {
        plant: args.plant,
        out: args.out.clone(),
        shrink_runs: args.shrink,
    };
    let modes = match args.mode {
        Some(quorumor_core::Mode::Strong) => vec![Mode::Strong],
        Some(quorumor_core::Mode::Eventual) => vec![Mode::Eventual],
        None => vec![Mode::Strong, Mode::Eventual],
    };
    let mut tally = Tally::default();
    let began = Instant::now();
    let mut told = Instant::now();
    for seed in args.seed.. {
        let enough = seed - args.seed >= args.seeds;
        if args.time.map_or(enough, |time| began.elapsed() >= time) {
            break;
        }
        for &mode in &modes {
            match fuzz::try_seed(&options, seed, mode).map_err(super::run::failed)? {
                Tried::Kept => tally.kept += 1,
                Tried::Undecided => tally.undecided += 1,
                Tried::Void(_) => tally.void += 1,
                Tried::Broken(found) => {
                    output::note(&describe(&found));
                    tally.broken.push(found);
                }
            }
        }
        if told.elapsed() > TELL_EVERY {
            let tried = seed - args.seed + 1;
            output::note(&format!("{tried} seeds, {} broken", tally.broken.len()));
            told = Instant::now();
        }
    }
    Ok(tally)
}

fn describe(found: &Found) -> String {
    let mut text = format!(
        "seed {} broke {} mode ({}): {}\n  {} of {} faults left: {}",
        found.seed,
        found.mode.name(),
        found.finding.property.name(),
        found.finding.summary,
        found.left,
        found.faults,
        found.command
    );
    if let Some(evidence) = found.finding.evidence.first() {
        text += &format!("\n  {}", evidence.text);
    }
    text
}
