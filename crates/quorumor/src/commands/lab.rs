//! `quorumor lab`: the instrument behind `compare`, one command a file.

mod calibrate;
mod check;
mod fuzz;
mod list;
mod matrix;
mod run;
mod trying;

use clap::{Args, Subcommand};

use crate::args::Output;
use crate::exit::{Exit, Failure};

const EXAMPLE: &str = "\
Examples:
  quorumor lab list
  quorumor lab show isolated-leader > mine.toml
  quorumor lab run mine.toml --world simulated --seeds 5
  quorumor lab matrix --world simulated
  quorumor lab fuzz --time 10m
  quorumor lab check lab-out/history-strong-simulated-1.jsonl";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct LabArgs {
    #[command(subcommand)]
    what: LabCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum LabCommand {
    /// The scenarios that come with this program, and what each teaches
    List(list::ListArgs),
    /// The file of a scenario, to begin one's own with
    Show(list::ShowArgs),
    /// Play a scenario, from the catalogue or a file, in both modes, and report
    Run(run::RunArgs),
    /// Play the whole catalogue, and report on one page
    Matrix(matrix::MatrixArgs),
    /// Play schedules at random, and shrink what fails
    Fuzz(fuzz::FuzzArgs),
    /// Judge a history file, ours or anybody's
    Check(check::CheckArgs),
    /// Hold the simulator against published results and closed forms
    Calibrate(calibrate::CalibrateArgs),
}

impl LabArgs {
    /// In which form the command answers, and so in which form it fails.
    pub(crate) fn output(&self) -> Output {
        match &self.what {
            LabCommand::List(args) => args.output.as_output(),
            LabCommand::Show(_) => Output::Table,
            LabCommand::Run(args) => args.output.as_output(),
            LabCommand::Matrix(args) => args.output.as_output(),
            LabCommand::Fuzz(args) => args.output.as_output(),
            LabCommand::Check(args) => args.output.as_output(),
            LabCommand::Calibrate(args) => args.output(),
        }
    }
}

pub(crate) async fn run(args: LabArgs) -> Result<Exit, Failure> {
    match args.what {
        LabCommand::List(args) => list::run(&args),
        LabCommand::Show(args) => list::show(&args),
        LabCommand::Run(args) => run::run(args).await,
        LabCommand::Matrix(args) => matrix::run(args).await,
        LabCommand::Fuzz(args) => fuzz::run(args).await,
        LabCommand::Check(args) => check::run(args).await,
        LabCommand::Calibrate(args) => calibrate::run(args).await,
    }
}
