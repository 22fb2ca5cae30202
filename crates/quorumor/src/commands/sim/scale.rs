//! `quorumor sim --mode eventual` with thousands of nodes: how a large cluster behaves, measured and judged.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use quorumor_client::Mode;
use quorumor_lab::world::scale::{self, Options, Outcome, Progress, Scenario};

use super::{SimArgs, plots, scaling, tables};
use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const NODES: u64 = 1_000;

/// What only a run at scale takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "At scale (eventual mode)")]
pub(crate) struct ScaleArgs {
    /// What the run is about: sets the defaults of the options below, and of --duration
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<About>,
    /// Datagrams lost, in percent; streams only become slower
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) loss: Option<u32>,
    /// The least one-way delay [default: 1ms]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) latency: Option<Duration>,
    /// Up to so much more delay [default: 1ms]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) jitter: Option<Duration>,
    /// How long the formed cluster runs before anything happens
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) settle: Option<Duration>,
    /// Nodes that crash and come back within a minute, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) churn: Option<u32>,
    /// Nodes that stand still for 2 s in every 10, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) slow: Option<u32>,
    /// Cut half of the nodes off from the other half for so long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) partition: Option<Duration>,
    /// Start all nodes within this time, knowing three seeds, instead of a cluster that is formed
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) join: Option<Duration>,
    /// Nodes that die for good, one after the other
    #[arg(long, value_name = "N")]
    pub(crate) crash: Option<u32>,
    /// From one such crash to the next; 0s for all within a second [default: 3s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) crash_gap: Option<Duration>,
    /// Nodes that write
    #[arg(long, value_name = "N")]
    pub(crate) writers: Option<u32>,
    /// Updates of each
    #[arg(long, value_name = "N")]
    pub(crate) writes: Option<u32>,
    /// Bytes of each value [default: 64]
    #[arg(long, value_name = "BYTES")]
    pub(crate) payload: Option<usize>,
    /// Write plots into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum About {
    /// A few updates: until everyone has them
    Spread,
    /// One node dies in silence: until everyone holds it to be down
    Crash,
    /// 5 % loss and 1 % slow nodes for 10 minutes: false deaths
    Slow,
    /// Nothing happens: bytes and time
    Idle,
    /// All start within 10 s: until everyone knows everyone
    Join,
    /// Halves apart for 10 minutes, both writing, then the heal
    Partition,
    /// 5 % loss while 10 % of the nodes a minute crash and come back
    Churn,
    /// Spread at 10, 30, 100 ... nodes: hops against the logarithm
    Scaling,
}

impl About {
    /// The scenario of one run; `None` for a series of them.
    const fn scenario(self) -> Option<Scenario> {
        Some(match self {
            Self::Spread => Scenario::Spread,
            Self::Crash => Scenario::Crash,
            Self::Slow => Scenario::Slow,
            Self::Idle => Scenario::Idle,
            Self::Join => Scenario::Join,
            Self::Partition => Scenario::Partition,
            Self::Churn => Scenario::Churn,
            Self::Scaling => return None,
        })
    }
}

/// A share like `10`, `0.5` or `1%`, in a million.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok((percent * 10_000.0).round() as u32),
        Ok(_) | Err(_) => Err("a share is 0 to 100, in percent".to_owned()),
    }
}

impl ScaleArgs {
    /// Whether any of them was given.
    pub(super) fn is_given(&self) -> bool {
        let times = [
            self.latency,
            self.jitter,
            self.settle,
            self.partition,
            self.join,
            self.crash_gap,
        ];
        let counts = [
            self.loss,
            self.churn,
            self.slow,
            self.crash,
            self.writers,
            self.writes,
        ];
        self.scenario.is_some()
            || self.payload.is_some()
            || self.out.is_some()
            || times.iter().any(Option::is_some)
            || counts.iter().any(Option::is_some)
    }

    /// What the run is about if nobody said so.
    fn inferred(&self) -> Scenario {
        if self.join.is_some() {
            Scenario::Join
        } else if self.partition.is_some() {
            Scenario::Partition
        } else if self.crash.is_some() {
            Scenario::Crash
        } else if self.churn.is_some() {
            Scenario::Churn
        } else if self.slow.is_some() {
            Scenario::Slow
        } else {
            Scenario::Spread
        }
    }
}

/// Runs every seed.
pub(super) fn campaign(args: &SimArgs) -> Result<Exit, Failure> {
    if args.mode != Mode::Eventual {
        return Err(Failure::usage("a run at scale is --mode eventual"));
    }
    if args.clients.is_some() || args.keys.is_some() || args.no_faults || args.plant.is_some() {
        return Err(Failure::usage(
            "--clients, --keys and --no-faults are for the 3 to 7 nodes of a run with every fault",
        ));
    }
    if args.scale.scenario == Some(About::Scaling) {
        return scaling::series(args);
    }
    let mut outcomes = Vec::new();
    for seed in args.seeds(1) {
        let outcome = simulate(&options(args, seed)?)?;
        if args.output == Report::Json {
            output::json(&as_json(&outcome)?)?;
        }
        outcomes.push(outcome);
    }
    if args.output == Report::Text {
        tables::show(&outcomes)?;
    }
    if let Some(directory) = &args.scale.out {
        plots::curves_of(directory, &outcomes)?;
    }
    Ok(exit(&outcomes))
}

/// The exit status of runs.
pub(super) fn exit(outcomes: &[Outcome]) -> Exit {
    if outcomes.iter().all(|outcome| outcome.complete) {
        Exit::Done
    } else {
        Exit::Broken
    }
}

/// The options of one seed's run.
pub(super) fn options(args: &SimArgs, seed: u64) -> Result<Options, Failure> {
    let said = &args.scale;
    let scenario = said.scenario.and_then(About::scenario);
    let scenario = scenario.unwrap_or_else(|| said.inferred());
    let nodes = u32::try_from(args.nodes.unwrap_or(NODES))
        .map_err(|_| Failure::usage("--nodes is 3 to 20000"))?;
    let mut options = Options::new(scenario, nodes, seed);
    let set = |to: &mut u64, time: Option<Duration>| match time {
        Some(time) => match u64::try_from(time.as_micros()) {
            Ok(us) => {
                *to = us;
                Ok(())
            }
            Err(_) => Err(Failure::usage("a time is longer than any run")),
        },
        None => Ok(()),
    };
    set(&mut options.latency_us, said.latency)?;
    set(&mut options.jitter_us, said.jitter)?;
    set(&mut options.settle_us, said.settle)?;
    set(&mut options.partition_us, said.partition)?;
    set(&mut options.join_us, said.join)?;
    set(&mut options.crash_gap_us, said.crash_gap)?;
    set(&mut options.duration_us, args.duration.or(said.partition))?;
    options.loss_ppm = said.loss.unwrap_or(options.loss_ppm);
    options.churn_ppm = said.churn.unwrap_or(options.churn_ppm);
    options.slow_ppm = said.slow.unwrap_or(options.slow_ppm);
    options.crashes = said.crash.unwrap_or(options.crashes);
    options.writers = said.writers.unwrap_or(options.writers).min(nodes);
    options.writes = said.writes.unwrap_or(options.writes);
    options.payload = said.payload.unwrap_or(options.payload);
    options.check().map_err(Failure::usage)?;
    Ok(options)
}

/// Runs one seed, telling on stderr how far a long run is.
pub(super) fn simulate(options: &Options) -> Result<Outcome, Failure> {
    let mut told = Instant::now();
    let mut tell = |progress: Progress| {
        if told.elapsed() > Duration::from_secs(2) {
            let (done, updates) = progress.spread;
            output::note(&format!(
                "{} nodes, seed {}: {} of {} virtual seconds, {} messages, {done} of {updates} updates everywhere",
                options.nodes, options.seed, progress.sim_s, progress.of_s, progress.delivered
            ));
            told = Instant::now();
        }
    };
    scale::run(options, &mut tell)
        .map_err(|error| Failure::usage(format!("this can't be simulated: {error:#}")))
}

/// An outcome as JSON.
pub(super) fn as_json(outcome: &Outcome) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(outcome)
        .map_err(|error| Failure::unavailable("the outcome can't be written as JSON", &error))
}
