//! `quorumor lab list` and `lab show`: the catalogue.

use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use quorumor_lab::scenario::{Scenario, catalogue};
use serde_json::json;

use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const LIST_EXAMPLE: &str = "\
Examples:
  quorumor lab list
  quorumor lab list -o json | jq -r '.scenarios[].name'";

const SHOW_EXAMPLE: &str = "\
Examples:
  quorumor lab show isolated-leader
  quorumor lab show isolated-leader > mine.toml; quorumor lab run mine.toml";

#[derive(Args, Clone, Debug)]
#[command(after_help = LIST_EXAMPLE)]
pub(crate) struct ListArgs {
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = SHOW_EXAMPLE)]
pub(crate) struct ShowArgs {
    /// Its name, as `lab list` has it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

pub(crate) fn run(args: &ListArgs) -> Result<Exit, Failure> {
    let scenarios = catalogue::all();
    match args.output {
        Report::Text => output::line(&table(&scenarios))?,
        Report::Json => {
            let listed = scenarios.iter().map(|scenario| {
                json!({
                    "name": scenario.name,
                    "teaches": scenario.teaches,
                    "nodes": scenario.nodes,
                    "duration_us": scenario.duration_us(),
                })
            });
            output::json(&json!({ "scenarios": listed.collect::<Vec<_>>() }))?;
        }
    }
    Ok(Exit::Done)
}

fn table(scenarios: &[Scenario]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["SCENARIO", "WHAT IT TEACHES"]);
    for scenario in scenarios {
        table.add_row([scenario.name.as_str(), scenario.teaches.as_str()]);
    }
    table.to_string()
}

pub(crate) fn show(args: &ShowArgs) -> Result<Exit, Failure> {
    let file = catalogue::file(&args.name).ok_or_else(|| unknown(&args.name))?;
    output::line(file.trim_end())?;
    Ok(Exit::Done)
}

/// There is no such scenario; the names that are nearest may be meant.
pub(super) fn unknown(name: &str) -> Failure {
    let all = catalogue::all();
    let words: Vec<&str> = name.split('-').filter(|word| word.len() > 2).collect();
    let near = |scenario: &&Scenario| words.iter().any(|word| scenario.name.contains(word));
    let near: Vec<&str> = all
        .iter()
        .filter(near)
        .map(|scenario| scenario.name.as_str())
        .collect();
    let failure = Failure::usage(format!(
        "`{name}` is neither a scenario of the catalogue nor a file"
    ));
    if near.is_empty() {
        failure.advising("`quorumor lab list` has their names")
    } else {
        failure.advising(format!("did you mean {}?", near.join(" or ")))
    }
}
