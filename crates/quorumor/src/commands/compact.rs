//! `quorumor compact`: forgets old revisions.

use clap::Args;
use quorumor_client::Revision;
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{receipt_json, receipt_lines};

const EXAMPLE: &str = "\
Examples:
  quorumor compact 1200

Reads at the named revision stay possible, older ones get HISTORY_GONE with the oldest revision left. Nodes compact by age
and count by themselves too. Strong mode only.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct CompactArgs {
    /// Forget what lies before this revision
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: u64,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: CompactArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let changed = client
        .compact_history(Revision::new(args.revision))
        .await
        .map_err(Failure::of_write)
        .map_err(in_words)?;
    let done = format!("ok, the oldest revision left is {}", args.revision);
    match args.client.output {
        Output::Table => output::line(&done)?,
        Output::Wide => {
            output::line(&done)?;
            output::line(&receipt_lines(&changed.receipt))?;
        }
        Output::Json => output::json(&json!({ "receipt": receipt_json(&changed.receipt) }))?,
    }
    Ok(Exit::Done)
}

/// What these refusals mean here: nothing is to be read.
fn in_words(failure: Failure) -> Failure {
    match failure.reason.as_str() {
        "FUTURE_REVISION" => Failure {
            exit: Exit::Usage,
            ..failure.advising("name a revision up to the newest; `quorumor status` shows it")
        },
        "HISTORY_GONE" => {
            failure.advising("nothing is left to do: older revisions are gone already")
        }
        _ => failure,
    }
}
