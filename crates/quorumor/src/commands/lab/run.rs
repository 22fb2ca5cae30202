//! `quorumor lab run`: one scenario, in the columns that are asked for.

use std::path::{Path, PathBuf};

use clap::Args;
use quorumor_lab::contest;
use quorumor_lab::report::render_table;
use quorumor_lab::scenario::{Scenario, catalogue};
use serde_json::json;

use super::list::unknown;
use super::trying::TryingArgs;
use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor lab run isolated-leader
  quorumor lab run mine.toml --world simulated --seeds 20
  quorumor lab run minority-partition --world real --only strong,eventual,etcd
  quorumor lab run loss-10 --world real --links namespaces
  quorumor lab run steady --world both -o json | jq '.columns[].label'

It plays the scenario's load and faults against each mode, checks what every client saw, and leaves the histories, `report.json` and
`report.html` in --out. In the simulated world the same seed gives the same history, byte for byte.

Exit status: 0 every promise was kept; 1 one was broken; 2 the scenario is wrong; 3 it couldn't be carried out; 6 void or undecided:
it proves nothing.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct RunArgs {
    /// A scenario of the catalogue, or a TOML file
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) trying: TryingArgs,
    /// Where histories, logs and the report go
    #[arg(long, value_name = "DIR", default_value = "lab-out")]
    pub(crate) out: PathBuf,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

pub(crate) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let scenario = read(&args.scenario)?;
    let contest = args
        .trying
        .contest(&format!("run {}", args.scenario), scenario, args.out)?;
    let outcome = contest::until_interrupted(&contest).await.map_err(failed)?;
    if outcome.comparison.columns.is_empty() {
        return Err(failed(outcome.comparison.notes.join("; ")));
    }
    match args.output {
        Report::Text => {
            let mut text = render_table(&outcome.comparison);
            text += &format!("Report: {}", outcome.page.display());
            output::line(&text)?;
        }
        Report::Json => output::json(&json!(outcome.comparison))?,
    }
    Ok(exit(
        outcome.comparison.exit_code(),
        !outcome.failed.is_empty(),
    ))
}

/// The scenario of this name, or in this file.
fn read(name: &str) -> Result<Scenario, Failure> {
    if let Some(scenario) = catalogue::find(name) {
        return Ok(scenario);
    }
    let path = Path::new(name);
    if !path.exists() {
        return Err(unknown(name));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("`{name}` can't be read: {error}")))?;
    Scenario::parse(&text).map_err(|error| Failure::usage(format!("{name}: {error}")))
}

/// It couldn't be carried out, which is no verdict.
pub(super) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unavailable, "NOT_PLAYED", format!("{error:#}"))
        .advising("the nodes' logs are under --out; a run that was cut short is no verdict")
}

/// What a report's code means for this process. A run that broke down is no pass.
pub(super) fn exit(code: u8, broke_down: bool) -> Exit {
    match code {
        0 if broke_down => Exit::Unavailable,
        0 => Exit::Done,
        1 => Exit::Broken,
        _ => Exit::Void,
    }
}
