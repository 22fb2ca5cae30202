//! `quorumor compare`: the same load and the same faults against both modes, judged and reported.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use quorumor_lab::compare::{self, CompareOptions};
use quorumor_lab::contest::Outcome;
use quorumor_lab::history::Mode;
use quorumor_lab::report::render_table;
use quorumor_lab::world::cluster::Plant;
use serde_json::json;

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor compare
  quorumor compare --seed 7 --duration 20s --out ./seven
  quorumor compare -o json | jq '.columns[].runs[].total.counts'

It starts five strong nodes and then five eventual ones as processes on this machine, puts the same load on each, kills
the leader, cuts off a minority, heals, and checks what every client saw. It needs nothing but this program, and takes
under two minutes. It leaves the histories, `report.json` and `report.html` in --out.

Exit status: 0 every promise was kept; 1 one was broken; 6 the run is void, so it proves nothing (a busy machine; try
again); 3 it couldn't be carried out.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CompareArgs {
    /// Load and faults follow from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How long the load lasts in each mode
    #[arg(long, value_name = "TIME", default_value = "40s", value_parser = humantime::parse_duration)]
    pub(crate) duration: Duration,
    /// Nodes of each cluster
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..=7))]
    pub(crate) nodes: u32,
    /// Operations per second, over all clients
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=5000))]
    pub(crate) rate: u64,
    /// Where the histories, the logs and the reports go
    #[arg(long, value_name = "DIR", default_value = "compare-out")]
    pub(crate) out: PathBuf,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    pub(crate) output: Form,
    /// Run only this mode
    #[arg(long, value_enum, hide = true)]
    pub(crate) only: Option<Only>,
    /// Plant a defect, to see that it is flagged
    #[arg(long, value_enum, hide = true)]
    pub(crate) plant: Option<Planted>,
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs: what is in `report.json`
    Json,
}

impl CompareArgs {
    pub(crate) const fn output(&self) -> Output {
        match self.output {
            Form::Table => Output::Table,
            Form::Json => Output::Json,
        }
    }
}

/// A mode to run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Strong mode
    Strong,
    /// Eventual mode
    Eventual,
}

/// A defect to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Planted {
    /// Strong reads are served locally and judged as linearizable
    StaleReads,
}

pub(crate) async fn run(args: CompareArgs) -> Result<Exit, Failure> {
    let form = args.output;
    let compared = compare::run(&options(args)?).await.map_err(|error| {
        let message = format!("{error:#}");
        Failure::new(Exit::Unavailable, "NOT_COMPARED", message)
            .advising("the nodes' logs are under --out; a run that was cut short is no verdict")
    })?;
    match form {
        Form::Table => output::line(&text(&compared))?,
        Form::Json => output::json(&json!(compared.comparison))?,
    }
    Ok(match compared.comparison.exit_code() {
        0 => Exit::Done,
        1 => Exit::Broken,
        _ => Exit::Void,
    })
}

fn options(args: CompareArgs) -> Result<CompareOptions, Failure> {
    let duration_ms = u64::try_from(args.duration.as_millis())
        .map_err(|_| Failure::usage("--duration is longer than any run"))?;
    let modes = match args.only {
        None => vec![Mode::Strong, Mode::Eventual],
        Some(Only::Strong) => vec![Mode::Strong],
        Some(Only::Eventual) => vec![Mode::Eventual],
    };
    let options = CompareOptions {
        seed: args.seed,
        duration_ms,
        nodes: args.nodes,
        rate: args.rate,
        out: args.out,
        modes,
        program: None,
        plant: args.plant.map(|Planted::StaleReads| Plant::StaleReads),
    };
    options
        .check()
        .map_err(|error| Failure::usage(error.to_string()))?;
    Ok(options)
}

fn text(compared: &Outcome) -> String {
    let mut text = render_table(&compared.comparison);
    text += &format!("Report: {}", compared.page.display());
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn typed(line: &str) -> CompareArgs {
        Line::try_parse_from(line.split(' ')).unwrap().args
    }

    #[test]
    fn without_arguments_it_is_the_default_comparison() {
        let (typed, default) = (
            options(typed("compare")).unwrap(),
            CompareOptions::default(),
        );
        assert_eq!(typed.command(), default.command());
        assert_eq!((typed.modes, typed.out), (default.modes, default.out));
    }

    #[test]
    fn a_comparison_that_could_show_nothing_is_a_usage_error() {
        let failure = options(typed("compare --duration 10ms")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("too short"), "{}", failure.message);
    }
}
