//! `quorumor elect`: stands for election and leads, or follows who leads.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use quorumor_client::{Client, Leader, Leadership};
use serde_json::json;

use crate::args::{ClientArgs, Output};
use crate::commands::held::{self, Ended};
use crate::commands::lock::{failure, strong_only};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{hex, line_text, value_text};
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  quorumor elect scheduler node-a -- ./scheduler
  quorumor elect scheduler node-a
  quorumor elect scheduler --observe
  quorumor elect scheduler --leader

Waits until the election is won, then runs the command, or leads until Ctrl-C. The command gets QUORUMOR_LEADER_KEY and
QUORUMOR_FENCING_TOKEN in its environment; the exit status is the command's. If the leadership is lost the command is ended,
by SIGTERM and after --grace by SIGKILL, and the exit status is 3. The limits of `quorumor lock --help` hold here too.
Strong mode only.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ElectArgs {
    /// The election's name; its keys lie under NAME/
    pub(crate) name: String,
    /// What the leader proclaims: its name or address
    #[arg(required_unless_present_any = ["observe", "leader"])]
    pub(crate) value: Option<String>,
    /// Show who leads, and every change, until Ctrl-C
    #[arg(long, conflicts_with_all = ["value", "leader", "command"])]
    pub(crate) observe: bool,
    /// Show who leads now
    #[arg(long, conflicts_with_all = ["value", "command"])]
    pub(crate) leader: bool,
    /// How long a leadership outlives a leader that dies
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
    /// How long the command has to end itself when the leadership is lost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// The command to run while leading
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

pub(crate) async fn run(args: ElectArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let mut ends = Ends::listen()?;
    if args.observe {
        return observe(&client, &args, &mut ends).await;
    }
    if args.leader {
        let leader = client
            .leader(&args.name)
            .await
            .map_err(Failure::of_read)
            .map_err(strong_only)?;
        show(leader.as_ref(), args.client.output)?;
        return Ok(Exit::Done);
    }
    let value = args.value.clone().unwrap_or_default();
    let mut interrupted = false;
    let give_up = async {
        ends.next().await;
        interrupted = true;
    };
    let won = client
        .campaign_unless(&args.name, value, args.ttl, give_up)
        .await
        .map_err(failure)?;
    let Some(leadership) = won else {
        return Ok(Exit::Done);
    };
    let ended = lead(&args, &leadership, &mut ends).await;
    if let Err(error) = leadership.resign().await {
        let why = line_text(&error.to_string());
        output::note(&format!("another leads when the TTL has passed: {why}"));
    }
    ended?.exit("LEADERSHIP_LOST")
}

async fn lead(
    args: &ElectArgs,
    leadership: &Leadership,
    ends: &mut Ends,
) -> Result<Ended, Failure> {
    let key = leadership.key().as_str();
    let token = leadership.fencing_token();
    if args.command.is_empty() {
        match args.client.output {
            Output::Table | Output::Wide => output::line(&format!(
                "elected as {}, fencing token {token}; Ctrl-C resigns",
                line_text(key)
            ))?,
            Output::Json => output::json(&json!({ "key": key, "fencing_token": token }))?,
        }
        return Ok(tokio::select! {
            why = leadership.lost() => Ended::Lost(why),
            _ = ends.next() => Ended::Done,
        });
    }
    let environment = [
        ("QUORUMOR_LEADER_KEY", key.to_owned()),
        ("QUORUMOR_FENCING_TOKEN", token.to_string()),
    ];
    held::run(
        &args.command,
        environment,
        args.grace,
        leadership.lost(),
        ends,
    )
    .await
}

async fn observe(client: &Client, args: &ElectArgs, ends: &mut Ends) -> Result<Exit, Failure> {
    let mut leaders = client
        .observe(&args.name)
        .map_err(Failure::of_read)
        .map_err(strong_only)?;
    loop {
        let leader = tokio::select! {
            leader = leaders.next() => leader,
            _ = ends.next() => return Ok(Exit::Done),
        };
        match leader {
            Some(leader) => {
                let leader = leader.map_err(Failure::of_read).map_err(strong_only)?;
                show(leader.as_ref(), args.client.output)?;
            }
            None => return Ok(Exit::Done),
        }
    }
}

fn show(leader: Option<&Leader>, shown: Output) -> Result<(), Failure> {
    match (shown, leader) {
        (Output::Json, leader) => output::json(&json!({
            "leader": leader.map(|leader| json!({
                "key": leader.key.as_str(),
                "value": std::str::from_utf8(&leader.value).ok(),
                "value_hex": hex(&leader.value),
                "fencing_token": leader.revision.as_u64(),
            })),
        })),
        (Output::Table, Some(leader)) => output::line(&value_text(&leader.value)),
        (Output::Wide, Some(leader)) => output::line(&format!(
            "{}  {}  fencing token {}",
            value_text(&leader.value),
            line_text(leader.key.as_str()),
            leader.revision
        )),
        (Output::Table | Output::Wide, None) => {
            output::note("nobody leads");
            Ok(())
        }
    }
}
