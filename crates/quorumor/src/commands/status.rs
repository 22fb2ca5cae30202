//! `quorumor status`.

use clap::Args;
use comfy_table::Table;
use quorumor_client::{CallOptions, Client, ClientError, Description, Mode, Progress};
use quorumor_core::Durability;
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{duration_text, line_text, receipt_json};

const EXAMPLE: &str = "\
Examples:
  quorumor status --endpoints 127.0.0.1:7400,127.0.0.1:7410
  quorumor status -o wide
  quorumor status --mode eventual -o json

Exit status 3 if no endpoint answered.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// What one endpoint said in one mode.
struct Said {
    endpoint: String,
    answer: Result<Description, ClientError>,
}

pub(crate) async fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let asked: Vec<_> = client
        .endpoints()
        .into_iter()
        .map(|endpoint| tokio::spawn(ask(client.clone(), endpoint)))
        .collect();
    let mut said = Vec::new();
    for answers in asked {
        said.extend(answers.await.expect("asking doesn't panic"));
    }
    match args.client.output {
        Output::Table => output::table(&table(&said))?,
        Output::Wide => {
            output::table(&table(&said))?;
            for (endpoint, about) in answered(&said) {
                if let Some(line) = progress_line(endpoint, about) {
                    output::line(&line)?;
                }
            }
            for (endpoint, about) in answered(&said) {
                let title = format!(
                    "\nmembers as {endpoint} (node {}) sees them in {} mode:",
                    about.receipt.node, about.receipt.mode
                );
                output::line(&title)?;
                output::table(&members_table(about))?;
            }
        }
        Output::Json => {
            let endpoints: Vec<_> = said.iter().map(said_json).collect();
            output::json(&json!({ "endpoints": endpoints }))?;
        }
    }
    if answered(&said).next().is_some() {
        if args.client.output != Output::Json {
            note_failures(&said);
            note_progress(&said);
            note_alarms(&said);
        }
        return Ok(Exit::Done);
    }
    let failed = said.into_iter().find_map(|said| said.answer.err());
    Err(failed.map_or_else(
        || Failure::usage("there is no endpoint to ask"),
        Failure::of_read,
    ))
}

fn note_failures(said: &[Said]) {
    for Said { endpoint, answer } in said {
        if let Err(error) = answer {
            output::note(&format!("{endpoint}: {}", line_text(&error.to_string())));
        }
    }
}

/// What an operator must look at is told whatever was asked.
fn note_alarms(said: &[Said]) {
    for (endpoint, about) in answered(said) {
        for alarm in &about.alarms {
            output::note(&format!(
                "ALARM {} at {endpoint} (node {}): {}",
                line_text(&alarm.kind),
                about.receipt.node,
                line_text(&alarm.message)
            ));
        }
    }
}

/// What strong mode keeps beside the keys.
fn progress_line(endpoint: &str, about: &Description) -> Option<String> {
    match &about.progress {
        Progress::Strong {
            committed,
            applied,
            oldest_revision,
            kept_revisions,
            leases,
            ..
        } => Some(format!(
            "{endpoint}: index {applied} applied of {committed} committed; {kept_revisions} revisions kept, readable from {oldest_revision} on; {leases} leases"
        )),
        Progress::Eventual {
            tombstones,
            durability,
            leases,
            ..
        } => {
            let durability = durability.map_or("unknown", Durability::as_str);
            Some(format!(
                "{endpoint}: {tombstones} deletions remembered; {leases} leases; a write it acknowledges survives by {durability}"
            ))
        }
    }
}

/// What a person must know of eventual mode that no column has room for.
fn note_progress(said: &[Said]) {
    for (endpoint, about) in answered(said) {
        if let Some(why) = &about.members_missing {
            output::note(&format!(
                "{endpoint} can't list its members now: {}",
                line_text(why)
            ));
        }
        let Progress::Eventual {
            held_back_by,
            isolated,
            ..
        } = &about.progress
        else {
            continue;
        };
        if let Some((node, time)) = held_back_by {
            output::note(&format!(
                "{endpoint}: collection held back by node {node} for {}",
                duration_text(*time)
            ));
        }
        if *isolated {
            output::note(&format!(
                "{endpoint} takes itself for the one that is cut off: it forgets no member and no deletion"
            ));
        }
    }
}

fn answered(said: &[Said]) -> impl Iterator<Item = (&str, &Description)> {
    said.iter()
        .filter_map(|said| Some((said.endpoint.as_str(), said.answer.as_ref().ok()?)))
}

/// Asks an endpoint about the mode that was named, or else about each mode that it serves.
async fn ask(client: Client, endpoint: String) -> Vec<Said> {
    let first = client.describe(&endpoint).await;
    let modes = match (&first, client.options().mode) {
        (Ok(about), None) => about.modes.clone(),
        (Ok(_) | Err(_), _) => Vec::new(),
    };
    let mut said = vec![Said {
        endpoint: endpoint.clone(),
        answer: first,
    }];
    for mode in modes.into_iter().skip(1) {
        let options = CallOptions {
            mode: Some(mode),
            ..client.options().clone()
        };
        let answer = client.with(options).describe(&endpoint).await;
        said.push(Said {
            endpoint: endpoint.clone(),
            answer,
        });
    }
    said
}

fn table(said: &[Said]) -> Table {
    let mut table = output::plain_table([
        "ENDPOINT", "NODE", "MODE", "HEALTH", "LEADER", "POSITION", "KEYS", "ALIVE", "SUSPECT",
        "DOWN",
    ]);
    for Said { endpoint, answer } in said {
        match answer {
            Ok(about) => {
                let members = about.receipt.members;
                table.add_row([
                    endpoint.clone(),
                    about.receipt.node.to_string(),
                    about.receipt.mode.to_string(),
                    health_text(about),
                    leader_text(about),
                    position_text(about),
                    about.keys.to_string(),
                    members.alive.to_string(),
                    members.suspect.to_string(),
                    members.down.to_string(),
                ]);
            }
            Err(error) => {
                let dash = || "-".to_owned();
                let reason = line_text(error.reason());
                let mut row = vec![endpoint.clone(), dash(), dash(), reason];
                row.resize_with(10, dash);
                table.add_row(row);
            }
        }
    }
    table
}

/// A strong node that knows no leader is up, and can serve nothing but local reads.
fn health_text(about: &Description) -> String {
    let leaderless = about.receipt.mode == Mode::Strong && about.receipt.leader().is_none();
    if leaderless && about.health == "serving" {
        return "no leader".to_owned();
    }
    line_text(&about.health)
}

fn leader_text(about: &Description) -> String {
    match (about.receipt.mode, about.receipt.leader()) {
        (Mode::Eventual, _) => "-".to_owned(),
        (Mode::Strong, None) => "none known".to_owned(),
        (Mode::Strong, Some((_, leader))) if leader.node == about.receipt.node => {
            "this node".to_owned()
        }
        (Mode::Strong, Some((_, leader))) => format!("node {}", leader.node),
    }
}

fn position_text(about: &Description) -> String {
    use quorumor_core::WritePosition;
    match (&about.receipt.position, &about.progress) {
        (WritePosition::Strong { revision, term, .. }, _) => {
            format!("revision {revision}, term {term}")
        }
        (
            WritePosition::Eventual { .. },
            Progress::Eventual {
                conflicts, vector, ..
            },
        ) => {
            let writes: u64 = vector.iter().map(|dot| dot.seq.as_u64()).sum();
            format!("{writes} writes, {conflicts} conflicts")
        }
        (WritePosition::Eventual { .. }, Progress::Strong { .. }) => "-".to_owned(),
    }
}

fn members_table(about: &Description) -> Table {
    let mut table = output::plain_table(["NODE", "STATE", "CLIENTS", "PEERS", "HEARD", "ROLE"]);
    let or_dash =
        |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| line_text(text));
    for member in &about.members {
        let role = match (about.receipt.mode, member.voter) {
            (Mode::Strong, true) => "voter".to_owned(),
            (Mode::Strong, false) => "learner".to_owned(),
            (Mode::Eventual, _) => format!(
                "generation {}, incarnation {}",
                member.generation, member.incarnation
            ),
        };
        let heard = member
            .contact_age
            .map(|age| format!("{} ago", duration_text(age)));
        table.add_row([
            member.node.to_string(),
            member
                .state
                .map_or("unknown", |state| state.as_str())
                .to_owned(),
            or_dash(member.client_address.as_ref()),
            or_dash(member.peer_address.as_ref()),
            heard.unwrap_or_else(|| "-".to_owned()),
            role,
        ]);
    }
    table
}

fn said_json(said: &Said) -> Value {
    match &said.answer {
        Ok(about) => {
            let mut object = about_json(about);
            object["endpoint"] = json!(said.endpoint);
            object
        }
        Err(error) => json!({
            "endpoint": said.endpoint,
            "error": { "reason": error.reason(), "message": error.to_string() },
        }),
    }
}

fn about_json(about: &Description) -> Value {
    let members: Vec<_> = about
        .members
        .iter()
        .map(|member| {
            json!({
                "node": member.node.as_u64(),
                "state": member.state.map(quorumor_core::MemberState::as_str),
                "peer_address": member.peer_address,
                "client_address": member.client_address,
                "voter": member.voter,
                "generation": member.generation,
                "incarnation": member.incarnation,
                "contact_age_ms": member.contact_age.map(|age| u64::try_from(age.as_millis()).ok()),
            })
        })
        .collect();
    let limits: serde_json::Map<_, _> = about
        .limits
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({
        "modes": about.modes.iter().map(|mode| mode.as_str()).collect::<Vec<_>>(),
        "cluster_name": about.cluster_name,
        "health": about.health,
        "damage": about.damage,
        "keys": about.keys,
        "members": members,
        "members_missing": about.members_missing,
        "progress": progress_json(&about.progress),
        "limits": limits,
        "capabilities": {
            "levels": about.capabilities.levels.iter().map(|level| level.as_str()).collect::<Vec<_>>(),
            "compare_and_set": about.capabilities.compare_and_set,
            "writes_in_minority": about.capabilities.writes_in_minority,
            "exactly_once": about.capabilities.exactly_once,
            "portable_cursors": about.capabilities.portable_cursors,
            "transactions": about.capabilities.transactions,
        },
        "alarms": about.alarms.iter().map(|alarm| json!({
            "kind": alarm.kind,
            "message": alarm.message,
        })).collect::<Vec<_>>(),
        "version": about.version,
        "receipt": receipt_json(&about.receipt),
    })
}

fn progress_json(progress: &Progress) -> Value {
    match progress {
        Progress::Strong {
            committed,
            applied,
            voter,
            oldest_revision,
            kept_revisions,
            leases,
        } => json!({
            "committed_index": committed,
            "applied_index": applied,
            "voter": voter,
            "oldest_revision": oldest_revision.as_u64(),
            "kept_revisions": kept_revisions,
            "leases": leases,
        }),
        Progress::Eventual {
            generation,
            incarnation,
            conflicts,
            tombstones,
            vector,
            durability,
            held_back_by,
            isolated,
            leases,
        } => json!({
            "generation": generation,
            "incarnation": incarnation,
            "conflicts": conflicts,
            "tombstones": tombstones,
            "vector": vector.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "durability": durability.map(Durability::as_str),
            "held_back_by": held_back_by.map(|(node, time)| json!({
                "node": node.as_u64(),
                "ms": u64::try_from(time.as_millis()).ok(),
            })),
            "isolated": isolated,
            "leases": leases,
        }),
    }
}
