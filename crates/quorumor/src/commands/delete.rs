//! `quorumor delete`.

use clap::Args;
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{entry_json, receipt_json, receipt_lines, value_text};

const EXAMPLE: &str = "\
Examples:
  quorumor delete greeting

Removing an absent key is no error.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DeleteArgs {
    /// The key
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: DeleteArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
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
