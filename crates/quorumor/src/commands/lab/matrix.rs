//! `quorumor lab matrix`: the whole catalogue, on one page.

use std::path::PathBuf;

use clap::Args;
use quorumor_lab::contest;
use quorumor_lab::report::matrix::{Matrix, Refusal};
use quorumor_lab::scenario::{Scenario, catalogue};
use serde_json::json;

use super::list::unknown;
use super::run::exit;
use super::trying::TryingArgs;
use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor lab matrix
  quorumor lab matrix --world both --out both
  quorumor lab matrix --scenarios steady,kill-leader --seeds 5

It plays every scenario of the catalogue, leaves a report for each in --out, and `index.html`, `matrix.json` and `matrix.md` beside
them: scenarios by columns, a cell for each verdict. Simulated it takes some minutes; as real processes more than an hour.

Exit status: 0 every promise was kept; 1 one was broken; 6 some run was void or undecided; 3 it couldn't be carried out.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct MatrixArgs {
    /// Only these scenarios
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    pub(crate) scenarios: Vec<String>,
    #[command(flatten)]
    pub(crate) trying: TryingArgs,
    /// Where the reports go
    #[arg(long, value_name = "DIR", default_value = "lab-matrix")]
    pub(crate) out: PathBuf,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

pub(crate) async fn run(args: MatrixArgs) -> Result<Exit, Failure> {
    let mut command = "matrix".to_owned();
    if !args.scenarios.is_empty() {
        command += &format!(" --scenarios {}", args.scenarios.join(","));
    }
    let (mut comparisons, mut refusals, mut broke_down) = (Vec::new(), Vec::new(), false);
    for scenario in chosen(&args.scenarios)? {
        let (name, out) = (scenario.name.clone(), args.out.join(&scenario.name));
        let contest = args.trying.contest(&format!("run {name}"), scenario, out)?;
        let outcome = contest::until_interrupted(&contest).await;
        let outcome = outcome.map_err(super::run::failed)?;
        broke_down |= !outcome.failed.is_empty();
        let refused = outcome.refused.into_iter();
        refusals.extend(refused.map(|((column, world), why)| Refusal {
            scenario: name.clone(),
            teaches: contest.scenario.teaches.clone(),
            column,
            world,
            why,
        }));
        comparisons.push(outcome.comparison);
    }
    let seed = args.trying.seed.unwrap_or(1);
    let command = args.trying.command(&command, seed);
    let matrix = Matrix::of(comparisons.iter(), refusals, command);
    matrix.write_to(&args.out).map_err(|error| {
        super::run::failed(format!("can't write to `{}`: {error}", args.out.display()))
    })?;
    match args.output {
        Report::Text => {
            let page = args.out.join("index.html");
            output::line(&format!(
                "{}\nPage: {}",
                matrix.render_markdown(),
                page.display()
            ))?;
        }
        Report::Json => output::json(&json!(matrix))?,
    }
    Ok(exit(matrix.exit_code(), broke_down))
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>, Failure> {
    if names.is_empty() {
        return Ok(catalogue::all());
    }
    let find = |name: &String| catalogue::find(name).ok_or_else(|| unknown(name));
    names.iter().map(find).collect()
}
