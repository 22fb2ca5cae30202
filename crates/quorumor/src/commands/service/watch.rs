//! `quorumor service watch`: the instances of a service, then their changes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use quorumor_client::{
    InstanceName, ServiceChange, ServiceInstance, ServiceStep, ServiceWatchItem,
    ServiceWatchOptions,
};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output, parse_hex};
use crate::commands::watch::{reason_text, resync_json};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{hex, line_text, receipt_json, version_text};
use crate::signals::Ends;

use super::discover::AskedHealth;
use super::shown;

const EXAMPLE: &str = "\
Examples:
  quorumor service watch
  quorumor service watch web --health any
  quorumor service watch web --filter 'version=2' -o json
  quorumor service watch web --cursor $CURSOR

First the instances that there are (`=`), then what changes: `+` an instance came, `~` one changed, `-` one went, or is none
that was asked for any more. A line `!` says that changes may have been missed, and why: forget what was seen, the instances
follow again. Without a service's name all services are shown. Ctrl-C ends it.

Each instance is shown as it is now: of several changes at once only the last is, and none that shows nothing new (JSON tells
those too). An instance that --cursor leaves out is a new one the first time that it changes.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct WatchArgs {
    /// The service [default: all of them]
    #[arg(default_value = "", hide_default_value = true)]
    pub(super) name: String,
    /// What tags and metadata must be, as in `discover`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) filter: String,
    /// Which by health
    #[arg(long, value_enum, default_value_t = AskedHealth::Usable)]
    pub(super) health: AskedHealth,
    /// Go on behind this cursor of an earlier watch, in hexadecimal, without showing what there is
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(super) cursor: Option<Bytes>,
    /// How often to hear that nothing changed, in JSON [default: the node's 5s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) progress: Option<Duration>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(super) async fn run(args: WatchArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let mut ends = Ends::listen()?;
    let mut watch = client.watch_service(ServiceWatchOptions {
        filter: args.filter,
        health: args.health.into(),
        cursor: args.cursor,
        progress_interval: args.progress,
        ..ServiceWatchOptions::new(args.name)
    });
    let mut told = Told {
        wide: args.client.output == Output::Wide,
        seen: BTreeMap::new(),
    };
    loop {
        let item = tokio::select! {
            item = watch.next() => item,
            _ = ends.next() => return Ok(Exit::Done),
        };
        let Some(item) = item else {
            return Ok(Exit::Done);
        };
        let item = item.map_err(Failure::of_read)?;
        match args.client.output {
            Output::Json => output::json(&item_json(&item))?,
            Output::Table | Output::Wide => {
                for line in told.lines(&item) {
                    output::line(&line)?;
                }
                let first = matches!(item.step, ServiceStep::Snapshot { complete: true, .. });
                if first && told.seen.is_empty() {
                    output::note("there is no such instance yet");
                }
            }
        }
    }
}

/// What a person has been told of each instance, to tell new ones from changed ones, and nothing twice: each sign of life of an
/// instance that is waited for is a change, though it mostly shows nothing new.
struct Told {
    wide: bool,
    seen: BTreeMap<InstanceName, String>,
}

impl Told {
    fn lines(&mut self, item: &ServiceWatchItem) -> Vec<String> {
        let mut lines: Vec<String> = match &item.step {
            ServiceStep::Snapshot { instances, .. } => instances
                .iter()
                .map(|found| {
                    let shown = self.text(found);
                    let line = format!("= {shown}");
                    self.seen.insert(InstanceName::of(&found.instance), shown);
                    line
                })
                .collect(),
            ServiceStep::Changes(changes) => {
                let changes = changes.iter();
                changes.filter_map(|change| self.change(change)).collect()
            }
            ServiceStep::Resync { reason } => {
                self.seen.clear();
                vec![format!(
                    "! changes may have been missed ({}); the instances follow again",
                    reason_text(reason)
                )]
            }
            ServiceStep::Progress => Vec::new(),
        };
        if let (true, Some(cursor)) = (self.wide, &item.cursor) {
            lines.push(format!("# cursor {}", hex(cursor)));
        }
        lines
    }

    fn change(&mut self, change: &ServiceChange) -> Option<String> {
        match change {
            ServiceChange::Present(found) => {
                let name = InstanceName::of(&found.instance);
                let shown = self.text(found);
                match self.seen.insert(name, shown.clone()) {
                    None => Some(format!("+ {shown}")),
                    Some(before) if before != shown => Some(format!("~ {shown}")),
                    Some(_) => None,
                }
            }
            ServiceChange::Gone(name) => {
                self.seen.remove(name);
                Some(format!("- {}", shown::name_text(&name.service, &name.id)))
            }
        }
    }

    fn text(&self, found: &ServiceInstance) -> String {
        let instance = &found.instance;
        let mut line = format!(
            "{} {} {}",
            shown::name_text(&instance.service, &instance.id),
            shown::address_text(instance),
            shown::health_text(&found.status)
        );
        if let Some(why) = shown::why_text(&found.status) {
            line += &format!(" ({why})");
        }
        if let Some(zone) = &instance.zone {
            line += &format!(" zone={}", line_text(zone));
        }
        if !instance.tags.is_empty() {
            line += &format!(" tags={}", shown::words(&instance.tags));
        }
        if let (true, Some(version)) = (self.wide, &found.version) {
            line += &format!("  {}", version_text(version));
        }
        line
    }
}

fn item_json(item: &ServiceWatchItem) -> Value {
    let mut object = match &item.step {
        ServiceStep::Snapshot {
            instances,
            complete,
        } => json!({
            "snapshot": instances.iter().map(shown::found_json).collect::<Vec<_>>(),
            "complete": complete,
        }),
        ServiceStep::Changes(changes) => json!({
            "changes": changes.iter().map(change_json).collect::<Vec<_>>(),
        }),
        ServiceStep::Resync { reason } => resync_json(reason),
        ServiceStep::Progress => json!({ "progress": true }),
    };
    object["cursor"] = json!(item.cursor.as_ref().map(|cursor| hex(cursor)));
    object["receipt"] = receipt_json(&item.receipt);
    object
}

fn change_json(change: &ServiceChange) -> Value {
    match change {
        ServiceChange::Present(found) => json!({ "present": shown::found_json(found) }),
        ServiceChange::Gone(name) => json!({
            "gone": { "service": name.service, "instance_id": name.id },
        }),
    }
}
