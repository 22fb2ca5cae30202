//! `quorumor conflicts`: what merging discarded in eventual mode.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use quorumor_client::{Client, ClientError, Conflict, KeyRange};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{line_text, receipt_json, receipt_lines, set_value, value_text};
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  quorumor conflicts
  quorumor conflicts --prefix cart/ -o json
  quorumor conflicts --watch
  quorumor conflicts --watch --after 120

Of concurrent writes to a key one wins at every node; each that loses is counted where the merge is made, and the last ones are
listed: the key, the write that lost and what it wrote, the write that won. Each node counts for itself, so the list is that of
the first endpoint that answers. In strong mode there are none. `serve --siblings PREFIX` keeps concurrent values instead.
A node lists its last conflicts only; how many of them were missed is said. Ctrl-C ends --watch.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ConflictsArgs {
    /// Only of keys that start with this
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Only those above this number
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) after: u64,
    /// Go on with those that come
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: ConflictsArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let range =
        KeyRange::prefix(&args.prefix).map_err(|error| Failure::usage(error.to_string()))?;
    if args.watch {
        return watch(&client, &range, &args).await;
    }
    let endpoint = answering(&client).await?;
    list(&client, &endpoint, &range, &args).await
}

/// The first endpoint that answers: numbers mean something at one node only.
async fn answering(client: &Client) -> Result<String, Failure> {
    let mut failed: Option<ClientError> = None;
    for endpoint in client.endpoints() {
        match client.describe(&endpoint).await {
            Ok(_) => return Ok(endpoint),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.map_or_else(
        || Failure::usage("there is no endpoint to ask"),
        Failure::of_read,
    ))
}

async fn list(
    client: &Client,
    endpoint: &str,
    range: &KeyRange,
    args: &ConflictsArgs,
) -> Result<Exit, Failure> {
    let (mut all, mut after, mut missed) = (Vec::new(), args.after, 0);
    let last = loop {
        let page = client.conflicts(endpoint, range, after, 0).await;
        let mut page = page.map_err(Failure::of_read)?;
        all.append(&mut page.conflicts);
        missed += page.missed;
        // A page that leads no further would be asked for again.
        if !page.more || page.through <= after {
            break page;
        }
        after = page.through;
    };
    match args.client.output {
        Output::Json => output::json(&json!({
            "conflicts": all.iter().map(conflict_json).collect::<Vec<_>>(),
            "count": last.count,
            "missed": missed,
            "through": last.through,
            "receipt": receipt_json(&last.receipt),
        }))?,
        Output::Table | Output::Wide => {
            let mut table =
                output::plain_table(["NUMBER", "WHEN", "KEY", "DISCARDED", "LOSER", "WINNER"]);
            table.add_rows(all.iter().map(row));
            output::table(&table)?;
            note_missed(missed);
            output::note(&format!(
                "node {} has counted {} since its data began",
                last.receipt.node, last.count
            ));
            if args.client.output == Output::Wide {
                output::line(&receipt_lines(&last.receipt))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn watch(client: &Client, range: &KeyRange, args: &ConflictsArgs) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let endpoint = answering(client).await?;
    let watch = client.watch_conflicts(&endpoint, range, args.after).await;
    let mut watch = watch.map_err(Failure::of_read)?;
    loop {
        let step = tokio::select! {
            step = watch.next() => step.map_err(Failure::of_read)?,
            _ = ends.next() => return Ok(Exit::Done),
        };
        let Some(step) = step else {
            let message = "the node ended the watch";
            return Err(Failure::new(Exit::Unavailable, "STOPPING", message));
        };
        match args.client.output {
            Output::Json => output::json(&json!({
                "conflicts": step.conflicts.iter().map(conflict_json).collect::<Vec<_>>(),
                "missed": step.missed,
                "through": step.through,
                "receipt": receipt_json(&step.receipt),
            }))?,
            Output::Table | Output::Wide => {
                note_missed(step.missed);
                for conflict in &step.conflicts {
                    output::line(&row(conflict).join("  "))?;
                }
            }
        }
    }
}

fn note_missed(missed: u64) {
    if missed > 0 {
        output::note(&format!("{missed} more aren't listed any more"));
    }
}

fn row(conflict: &Conflict) -> [String; 6] {
    [
        conflict.number.to_string(),
        time_text(conflict.at),
        line_text(conflict.key.as_str()),
        conflict
            .value
            .as_ref()
            .map_or_else(|| "-".to_owned(), |value| value_text(value)),
        conflict.loser.to_string(),
        conflict.winner.to_string(),
    ]
}

fn time_text(since_epoch: Duration) -> String {
    let at = UNIX_EPOCH.checked_add(since_epoch);
    at.map_or_else(
        || "-".to_owned(),
        |at| humantime::format_rfc3339_millis(at).to_string(),
    )
}

fn conflict_json(conflict: &Conflict) -> Value {
    let mut object = json!({
        "number": conflict.number,
        "key": conflict.key.as_str(),
        "loser": conflict.loser.to_string(),
        "loser_stamp": conflict.loser_stamp.as_u64(),
        "winner": conflict.winner.to_string(),
        "wall_ms": u64::try_from(conflict.at.as_millis()).ok(),
    });
    if let Some(value) = &conflict.value {
        set_value(&mut object, value);
    }
    object
}
