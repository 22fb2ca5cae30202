//! `quorumor watch`.

use bytes::Bytes;
use clap::Args;
use quorumor_client::{Entry, KeyRange, WatchEvent, WatchItem, WatchStep};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output, parse_hex};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{
    entry_json, hex, line_text, receipt_json, value_text, version_json, version_text,
};
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  quorumor watch app/
  quorumor watch app/ -o json
  quorumor watch app/ --cursor $CURSOR

First what is there (`=`), then what changes: `+` a key was set, `-` a key was removed. A line `!` says that changes may
have been missed: forget what was seen, what is there follows again. Ctrl-C ends it.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WatchArgs {
    /// Only keys that start with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Go on behind this cursor of an earlier watch, in hexadecimal, without showing what is there
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(crate) cursor: Option<Bytes>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: WatchArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let range =
        KeyRange::prefix(&args.prefix).map_err(|error| Failure::usage(error.to_string()))?;
    let mut ends = Ends::listen()?;
    let mut watch = match args.cursor {
        Some(cursor) => client.watch_from(range, cursor),
        None => client.watch(range),
    };
    loop {
        let item = tokio::select! {
            item = watch.next() => item,
            _ = ends.next() => return Ok(Exit::Done),
        };
        let item = match item {
            Some(item) => item.map_err(Failure::of_read)?,
            None => return Ok(Exit::Done),
        };
        match args.client.output {
            Output::Json => output::json(&item_json(&item))?,
            Output::Table | Output::Wide => {
                for line in item_lines(&item, args.client.output == Output::Wide) {
                    output::line(&line)?;
                }
            }
        }
    }
}

fn item_lines(item: &WatchItem, wide: bool) -> Vec<String> {
    let mut lines: Vec<String> = match &item.step {
        WatchStep::Snapshot { entries, .. } => {
            let entries = entries.iter();
            entries.map(|entry| entry_line('=', entry, wide)).collect()
        }
        WatchStep::Changes(events) => events
            .iter()
            .map(|event| match event {
                WatchEvent::Put(entry) => entry_line('+', entry, wide),
                WatchEvent::Deleted { key, version } => {
                    let version = wide.then(|| format!("  {}", version_text(version)));
                    format!(
                        "- {}{}",
                        line_text(key.as_str()),
                        version.unwrap_or_default()
                    )
                }
            })
            .collect(),
        WatchStep::Resync { reason } => vec![format!(
            "! changes may have been missed ({}); what is there follows again",
            line_text(reason)
        )],
        WatchStep::Progress => Vec::new(),
    };
    if let (true, Some(cursor)) = (wide, &item.cursor) {
        lines.push(format!("# cursor {}", hex(cursor)));
    }
    lines
}

fn entry_line(sign: char, entry: &Entry, wide: bool) -> String {
    let version = wide.then(|| format!("  {}", version_text(&entry.version)));
    format!(
        "{sign} {} {}{}",
        line_text(entry.key.as_str()),
        value_text(entry.value.as_bytes()),
        version.unwrap_or_default()
    )
}

fn item_json(item: &WatchItem) -> Value {
    let step = match &item.step {
        WatchStep::Snapshot { entries, complete } => json!({
            "snapshot": entries.iter().map(entry_json).collect::<Vec<_>>(),
            "complete": complete,
        }),
        WatchStep::Changes(events) => json!({
            "changes": events.iter().map(event_json).collect::<Vec<_>>(),
        }),
        WatchStep::Resync { reason } => json!({ "resync": reason }),
        WatchStep::Progress => json!({ "progress": true }),
    };
    let mut object = step;
    object["cursor"] = json!(item.cursor.as_ref().map(|cursor| hex(cursor)));
    object["receipt"] = receipt_json(&item.receipt);
    object
}

fn event_json(event: &WatchEvent) -> Value {
    match event {
        WatchEvent::Put(entry) => json!({ "put": entry_json(entry) }),
        WatchEvent::Deleted { key, version } => json!({
            "deleted": { "key": key.as_str(), "version": version_json(version) },
        }),
    }
}
