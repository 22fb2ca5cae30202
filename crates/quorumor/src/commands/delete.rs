//! `quorumor delete`.

use clap::Args;
use quorumor_client::{Client, KeyRange};
use serde_json::json;

use crate::args::{ClientArgs, Output, WriteArgs};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{entry_json, receipt_json, receipt_lines, value_text};

const EXAMPLE: &str = "\
Examples:
  quorumor delete greeting
  quorumor delete session/ --prefix
  quorumor delete log/2024 --range-end log/2025

Removing an absent key is no error. A prefix or range goes at one revision (strong mode).";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DeleteArgs {
    /// The key, or where a prefix or range begins
    pub(crate) key: String,
    /// Remove every key that starts with KEY
    #[arg(long, conflicts_with = "range_end")]
    pub(crate) prefix: bool,
    /// Remove every key from KEY up to, not including, this one
    #[arg(long, value_name = "END")]
    pub(crate) range_end: Option<String>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: DeleteArgs) -> Result<Exit, Failure> {
    let client = args.write.connect(&args.client)?;
    if let Some(range) = range(&args)? {
        return remove_range(&args, &client, range).await;
    }
    let answer = client.delete(&args.key).await.map_err(Failure::of_write)?;
    let told = answer.previous.as_ref().map_or_else(
        || "ok, there was no such key".to_owned(),
        |entry| format!("ok, it held {}", value_text(entry.value.as_bytes())),
    );
    match args.client.output {
        Output::Table => output::line(&told)?,
        Output::Wide => {
            output::line(&told)?;
            output::line(&receipt_lines(&answer.receipt))?;
        }
        Output::Json => output::json(&json!({
            "found": answer.previous.is_some(),
            "previous": answer.previous.as_ref().map(entry_json),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

fn range(args: &DeleteArgs) -> Result<Option<KeyRange>, Failure> {
    let range = match (&args.range_end, args.prefix) {
        (Some(end), _) => KeyRange::between(&args.key, Some(end)),
        // An empty argument is a variable that wasn't set more often than a wish to remove everything.
        (None, true) if args.key.is_empty() => {
            let why = "an empty prefix is every key; name a range from the first key on for that";
            return Err(Failure::usage(why));
        }
        (None, true) => KeyRange::prefix(&args.key),
        (None, false) => return Ok(None),
    };
    range
        .map(Some)
        .map_err(|error| Failure::usage(error.to_string()))
}

async fn remove_range(
    args: &DeleteArgs,
    client: &Client,
    range: KeyRange,
) -> Result<Exit, Failure> {
    let answer = client
        .delete_range(range)
        .await
        .map_err(Failure::of_write)?;
    let told = match answer.count {
        1 => "ok, 1 key removed".to_owned(),
        count => format!("ok, {count} keys removed"),
    };
    match args.client.output {
        Output::Table => output::line(&told)?,
        Output::Wide => {
            output::line(&told)?;
            output::line(&receipt_lines(&answer.receipt))?;
        }
        Output::Json => output::json(&json!({
            "count": answer.count,
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}
