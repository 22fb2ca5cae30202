//! `quorumor get`.

use clap::Args;
use quorumor_client::{Entry, Revision};
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{
    entry_json, line_text, receipt_json, receipt_lines, sibling_lines, value_text, version_text,
};

const EXAMPLE: &str = "\
Examples:
  quorumor get greeting
  quorumor get greeting --level local -o wide
  quorumor get greeting --token $TOKEN -o json
  quorumor get greeting --revision 12
  quorumor get greeting --max-age 500ms
  quorumor get greeting --read sampled:3

Where a key holds several concurrent values (`serve --siblings`), the newest goes to stdout and a note to stderr; `-o wide`
shows all, and `-o json` the context by which `put --context` replaces them. `--read sampled:3` shows at least what three other
members have (eventual mode).

The value goes to stdout as it is. An absent key is an answer: nothing on stdout, a note on stderr, exit status 0;
`-o json` says \"found\": false.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct GetArgs {
    /// The key
    pub(crate) key: String,
    /// What the key held at this revision (strong mode)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) revision: Option<u64>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: GetArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let answer = match args.revision {
        Some(revision) => client.get_at(&args.key, Revision::new(revision)).await,
        None => client.get(&args.key).await,
    };
    let answer = answer.map_err(Failure::of_read)?;
    let absent = || output::note(&format!("absent: there is no key {:?}", args.key));
    match (args.client.output, &answer.entry) {
        (Output::Json, entry) => output::json(&json!({
            "found": entry.is_some(),
            "entry": entry.as_ref().map(entry_json),
            "receipt": receipt_json(&answer.receipt),
        }))?,
        (Output::Table, Some(entry)) => {
            let mut bytes = entry.value.as_bytes().to_vec();
            bytes.push(b'\n');
            output::bytes(&bytes)?;
            note_siblings(entry);
        }
        (Output::Table, None) => absent(),
        (Output::Wide, Some(entry)) => {
            let siblings = sibling_lines(entry);
            output::line(&format!(
                "key:       {}\nvalue:     {}\nversion:   {}\nwritten:   through node {}",
                line_text(entry.key.as_str()),
                value_text(entry.value.as_bytes()),
                version_text(&entry.version),
                entry.writer
            ))?;
            for line in siblings {
                output::line(&line)?;
            }
            output::line(&receipt_lines(&answer.receipt))?;
        }
        (Output::Wide, None) => {
            absent();
            output::line(&receipt_lines(&answer.receipt))?;
        }
    }
    if answer.receipt.degraded.is_some() && args.client.output == Output::Table {
        output::note("degraded: weaker than what was asked; `-o wide` says why");
    }
    Ok(Exit::Done)
}

/// Whoever reads one value must hear that there are others.
fn note_siblings(entry: &Entry) {
    let others = entry.siblings.as_ref().map_or(0, |siblings| siblings.len());
    if others > 0 {
        output::note(&format!(
            "{others} more concurrent {}; `-o wide` shows all",
            if others == 1 { "value" } else { "values" }
        ));
    }
}
