//! `quorumor watch`.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use quorumor_client::{
    Entry, KeyRange, ResyncReason, Revision, WatchEvent, WatchItem, WatchOptions, WatchStep,
};
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
  quorumor watch app/ --from-revision 120 --previous

First what is there (`=`), then what changes: `+` a key was set, `-` a key was removed. A line `!` says that changes may
have been missed, and why: forget what was seen, what is there follows again. Ctrl-C ends it.

In strong mode each change comes once, in the order of revisions, and a cursor is good at any node. In eventual mode each writer's
changes come in its order, at least once, and a cursor is good at the node that gave it; elsewhere what is there follows again.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WatchArgs {
    /// Only keys that start with this
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Go on behind this cursor of an earlier watch, in hexadecimal, without showing what is there
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(crate) cursor: Option<Bytes>,
    /// Show the changes from this revision on, without showing what is there (strong mode)
    #[arg(long, value_name = "N", conflicts_with = "cursor", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from_revision: Option<u64>,
    /// Show what each change replaced, too (strong mode)
    #[arg(long)]
    pub(crate) previous: bool,
    /// End, with exit status 4, where changes may have been missed, instead of beginning again
    #[arg(long)]
    pub(crate) end_on_resync: bool,
    /// End, with exit status 3, when the node that serves the watch loses its leader (strong mode)
    #[arg(long)]
    pub(crate) end_on_leader_lost: bool,
    /// How often to hear that nothing changed, in JSON [default: the node's 5s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) progress: Option<Duration>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: WatchArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let range =
        KeyRange::prefix(&args.prefix).map_err(|error| Failure::usage(error.to_string()))?;
    let mut ends = Ends::listen()?;
    let mut watch = client.watch_with(WatchOptions {
        cursor: args.cursor,
        start_revision: args.from_revision.map(Revision::new),
        previous: args.previous,
        end_on_resync: args.end_on_resync,
        end_on_leader_lost: args.end_on_leader_lost,
        progress_interval: args.progress,
        ..WatchOptions::new(range)
    });
    let mut resync = None;
    loop {
        let item = tokio::select! {
            item = watch.next() => item,
            _ = ends.next() => return Ok(Exit::Done),
        };
        let item = match item {
            Some(item) => item.map_err(Failure::of_read)?,
            None => return resync.map_or(Ok(Exit::Done), |why: String| Err(missed(&why))),
        };
        if let (true, WatchStep::Resync { reason }) = (args.end_on_resync, &item.step) {
            resync = Some(reason_text(reason));
        }
        match args.client.output {
            Output::Json => output::json(&item_json(&item))?,
            Output::Table | Output::Wide => {
                // The end says by itself that changes may have been missed.
                let lines = if resync.is_some() {
                    Vec::new()
                } else {
                    item_lines(&item, args.client.output == Output::Wide)
                };
                for line in lines {
                    output::line(&line)?;
                }
            }
        }
    }
}

fn missed(why: &str) -> Failure {
    let message = format!("the watch ends: changes may have been missed ({why})");
    Failure::new(Exit::Refused, "RESYNC", message)
        .advising("watch again without a cursor and a revision: what is there comes first")
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
                WatchEvent::Put { entry, previous } => {
                    entry_line('+', entry, wide) + &previous_text(previous.as_ref())
                }
                WatchEvent::Deleted {
                    key,
                    version,
                    previous,
                } => {
                    let version = wide.then(|| format!("  {}", version_text(version)));
                    format!(
                        "- {}{}{}",
                        line_text(key.as_str()),
                        version.unwrap_or_default(),
                        previous_text(previous.as_ref())
                    )
                }
            })
            .collect(),
        WatchStep::Resync { reason } => vec![format!(
            "! changes may have been missed ({}); what is there follows again",
            reason_text(reason)
        )],
        WatchStep::Progress => Vec::new(),
    };
    if let (true, Some(cursor)) = (wide, &item.cursor) {
        lines.push(format!("# cursor {}", hex(cursor)));
    }
    lines
}

fn previous_text(previous: Option<&Entry>) -> String {
    let value = previous.map(|entry| value_text(entry.value.as_bytes()));
    value.map_or_else(String::new, |value| format!("  (was {value})"))
}

/// Why changes may have been missed, on one line.
pub(crate) fn reason_text(reason: &ResyncReason) -> String {
    match reason {
        ResyncReason::HistoryGone { oldest } => {
            format!("{}, the oldest revision left is {oldest}", reason.as_str())
        }
        ResyncReason::SlowWatcher
        | ResyncReason::ForeignCursor
        | ResyncReason::EpochChanged
        | ResyncReason::StateReplaced
        | ResyncReason::ContactLost
        | ResyncReason::Other(_) => line_text(reason.as_str()),
    }
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
        WatchStep::Resync { reason } => resync_json(reason),
        WatchStep::Progress => json!({ "progress": true }),
    };
    let mut object = step;
    object["cursor"] = json!(item.cursor.as_ref().map(|cursor| hex(cursor)));
    object["receipt"] = receipt_json(&item.receipt);
    object
}

pub(crate) fn resync_json(reason: &ResyncReason) -> Value {
    match reason {
        ResyncReason::HistoryGone { oldest } => json!({
            "resync": reason.as_str(),
            "oldest_revision": oldest.as_u64(),
        }),
        ResyncReason::SlowWatcher
        | ResyncReason::ForeignCursor
        | ResyncReason::EpochChanged
        | ResyncReason::StateReplaced
        | ResyncReason::ContactLost
        | ResyncReason::Other(_) => json!({ "resync": reason.as_str() }),
    }
}

fn event_json(event: &WatchEvent) -> Value {
    let (mut object, previous) = match event {
        WatchEvent::Put { entry, previous } => (json!({ "put": entry_json(entry) }), previous),
        WatchEvent::Deleted {
            key,
            version,
            previous,
        } => (
            json!({ "deleted": { "key": key.as_str(), "version": version_json(version) } }),
            previous,
        ),
    };
    if let Some(previous) = previous {
        object["previous"] = entry_json(previous);
    }
    object
}
