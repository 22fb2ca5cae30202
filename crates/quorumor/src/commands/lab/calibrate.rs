//! `quorumor lab calibrate`: is the instrument right?

use clap::{Args, ValueEnum};
use quorumor_lab::calibrate::{self, CalibrateOptions, Calibration, Part};
use serde_json::json;

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::output;

const EXAMPLE: &str = "\
Examples:
  quorumor lab calibrate
  quorumor lab calibrate --quick
  quorumor lab calibrate --seeds 100 -o json | jq '.rows[] | select(.agrees | not)'
  quorumor lab calibrate -o markdown

Each row holds the simulator against a law: a closed form or a published figure, with its source, how far off what was measured may
be, and why. Means are over seeds, so the same line gives the same table. Where a difference is known, the row says why; see
docs/calibration.md.

Exit status: 0 every row agrees, or differs as is known and explained; 1 one differs unexplained.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CalibrateArgs {
    /// Seeds that each mean is over [default: 20; with --quick: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=10_000))]
    seeds: Option<u64>,
    /// Smaller clusters only: less than a minute
    #[arg(long)]
    quick: bool,
    /// How to show the result
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For a terminal
    Table,
    /// For programs
    Json,
    /// For documentation
    Markdown,
}

impl CalibrateArgs {
    /// In which form the command fails.
    pub(super) const fn output(&self) -> Output {
        match self.output {
            Form::Table | Form::Markdown => Output::Table,
            Form::Json => Output::Json,
        }
    }

    fn options(&self) -> CalibrateOptions {
        let usual = if self.quick {
            CalibrateOptions::QUICK
        } else {
            CalibrateOptions::WHOLE
        };
        CalibrateOptions {
            seeds: self.seeds.unwrap_or(usual.seeds),
            ..usual
        }
    }
}

pub(crate) async fn run(args: CalibrateArgs) -> Result<Exit, Failure> {
    let options = args.options();
    let measuring = tokio::task::spawn_blocking(move || {
        let mut tell = |part: Part| output::note(&format!("measuring: {}", part.title()));
        calibrate::run(&options, &mut tell)
    });
    let measured = tokio::select! {
        measured = measuring => measured,
        _ = tokio::signal::ctrl_c() => return Err(Failure::usage("interrupted")),
    };
    let calibration = measured
        .map_err(|error| Failure::unavailable("the calibration ended early", &error))?
        .map_err(|error| Failure::usage(format!("this can't be simulated: {error:#}")))?;
    match args.output {
        Form::Table => output::line(&text(&calibration))?,
        Form::Json => output::json(&json!(calibration))?,
        Form::Markdown => output::line(&calibration.markdown())?,
    }
    Ok(if calibration.unexplained().next().is_none() {
        Exit::Done
    } else {
        Exit::Broken
    })
}

fn text(calibration: &Calibration) -> String {
    let mut text = String::new();
    for part in Part::ALL {
        let mut table = output::plain_table(["WHAT", "EXPECTED", "MEASURED", "MAY BE OFF BY", ""]);
        for row in calibration.rows.iter().filter(|row| row.part == part) {
            let [expected, measured, tolerance, verdict] = row.cells();
            table.add_row([row.what.clone(), expected, measured, tolerance, verdict]);
        }
        text += &format!("{}\n{}\n\n", part.title(), output::table_text(&table));
    }
    text + &calibration.summary()
}
