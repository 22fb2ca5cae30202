//! `quorumor digest`: whether nodes hold the same, and if not, which keys differ where.

use std::time::Duration;

use clap::Args;
use quorumor_client::{CallOptions, Client, ClientError, Description, DigestAnswer};
use quorumor_core::{MemberState, NodeId};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{line_text, receipt_json};

mod comparing;

use comparing::{Comparison, Node, Side};

const EXAMPLE: &str = "\
Examples:
  quorumor digest --endpoints 127.0.0.1:7400,127.0.0.1:7410
  quorumor digest --all
  quorumor digest --all --mode eventual -o json

Without --all: what each endpoint holds, as one hash; equal hashes are equal states. With --all: every member that the first
endpoint names is asked at its own client address. Nodes that differ are asked again for --settle, since writes may be under way;
a key counts as different only if what nodes hold differs and stands still between two looks.

An entry that is bound to a lease is hidden where the node that owns the lease is held to be down, and each node judges that for
itself: such keys differ until the nodes agree about that member.

Exit status with --all: 0 all hold the same; 1 they don't; 3 those that answered hold the same, but members that are believed to
be there couldn't be asked. Members that are down or left aren't asked.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct DigestArgs {
    /// Ask every member and compare
    #[arg(long)]
    pub(crate) all: bool,
    /// How long nodes may differ before their keys are compared
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(crate) settle: Duration,
    /// Show at most so many keys
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: DigestArgs) -> Result<Exit, Failure> {
    if args.all {
        all(&args).await
    } else {
        each(&args).await
    }
}

/// What each endpoint holds.
async fn each(args: &DigestArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let mut said: Vec<(String, Result<DigestAnswer, ClientError>)> = Vec::new();
    for endpoint in client.endpoints() {
        let answer = client.digest(&endpoint).await;
        said.push((endpoint, answer));
    }
    match args.client.output {
        Output::Json => {
            let endpoints: Vec<_> = said.iter().map(said_json).collect();
            output::json(&json!({ "endpoints": endpoints }))?;
        }
        Output::Table | Output::Wide => {
            let mut table = output::plain_table([
                "ENDPOINT", "NODE", "MODE", "DIGEST", "KEYS", "DELETED", "WRITES",
            ]);
            for (endpoint, answer) in &said {
                table.add_row(said_row(endpoint, answer));
            }
            output::table(&table)?;
        }
    }
    if said.iter().any(|(_, answer)| answer.is_ok()) {
        return Ok(Exit::Done);
    }
    let failed = said.into_iter().find_map(|(_, answer)| answer.err());
    Err(failed.map_or_else(
        || Failure::usage("there is no endpoint to ask"),
        Failure::of_read,
    ))
}

fn said_row(endpoint: &str, answer: &Result<DigestAnswer, ClientError>) -> [String; 7] {
    match answer {
        Ok(digest) => [
            endpoint.to_owned(),
            digest.receipt.node.to_string(),
            digest.receipt.mode.to_string(),
            format!("{:016x}", digest.root),
            digest.entries.to_string(),
            digest.tombstones.to_string(),
            digest.writes.to_string(),
        ],
        Err(error) => {
            let dash = || "-".to_owned();
            let reason = line_text(error.reason());
            [
                endpoint.to_owned(),
                dash(),
                dash(),
                reason,
                dash(),
                dash(),
                dash(),
            ]
        }
    }
}

fn said_json((endpoint, answer): &(String, Result<DigestAnswer, ClientError>)) -> Value {
    match answer {
        Ok(digest) => {
            let mut object = digest_json(digest);
            object["endpoint"] = json!(endpoint);
            object["receipt"] = receipt_json(&digest.receipt);
            object
        }
        Err(error) => json!({
            "endpoint": endpoint,
            "error": { "reason": error.reason(), "message": error.to_string() },
        }),
    }
}

fn digest_json(digest: &DigestAnswer) -> Value {
    json!({
        "node": digest.receipt.node.as_u64(),
        "digest": format!("{:016x}", digest.root),
        "position": format!("{:016x}", digest.position),
        "keys": digest.entries,
        "tombstones": digest.tombstones,
        "writes": digest.writes,
    })
}

/// A member that should be there and couldn't be asked.
struct Missing {
    node: NodeId,
    why: String,
}

/// Whether all members hold the same.
async fn all(args: &DigestArgs) -> Result<Exit, Failure> {
    let about = described(&args.client.connect()?).await?;
    if let Some(why) = &about.members_missing {
        let message = format!("the members can't be listed now: {why}");
        return Err(Failure::new(Exit::Unavailable, "MEMBERS_MISSING", message));
    }
    let (nodes, mut missing) = members(&about);
    let client = at_members(args, &about, &nodes)?;
    let compared = comparing::compare(&client, nodes, args.settle).await;
    missing.extend(compared.failed.iter().map(|(node, why)| Missing {
        node: *node,
        why: why.clone(),
    }));
    match args.client.output {
        Output::Json => output::json(&comparison_json(&compared, &missing, args.limit))?,
        Output::Table | Output::Wide => show(&compared, &missing, args.limit)?,
    }
    Ok(if !compared.lasting.is_empty() {
        Exit::Broken
    } else if missing.is_empty() {
        Exit::Done
    } else {
        Exit::Unavailable
    })
}

/// What the first endpoint that answers says.
async fn described(client: &Client) -> Result<Description, Failure> {
    let mut failed = None;
    for endpoint in client.endpoints() {
        match client.describe(&endpoint).await {
            Ok(about) => return Ok(about),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.map_or_else(
        || Failure::usage("there is no endpoint to ask"),
        Failure::of_read,
    ))
}

/// Whom to ask, and who is there by belief but can't be asked.
fn members(about: &Description) -> (Vec<Node>, Vec<Missing>) {
    let (mut nodes, mut missing) = (Vec::new(), Vec::new());
    for member in &about.members {
        match (member.state, &member.client_address) {
            (Some(MemberState::Down | MemberState::Left), _) => {}
            (Some(MemberState::Alive | MemberState::Suspect) | None, Some(address)) => {
                nodes.push(Node {
                    id: member.node,
                    endpoint: address.clone(),
                });
            }
            (Some(MemberState::Alive | MemberState::Suspect) | None, None) => {
                missing.push(Missing {
                    node: member.node,
                    why: "where it serves clients isn't known".to_owned(),
                });
            }
        }
    }
    (nodes, missing)
}

/// A client of all of them, in the mode that was described.
fn at_members(args: &DigestArgs, about: &Description, nodes: &[Node]) -> Result<Client, Failure> {
    if nodes.is_empty() {
        let message = "no member that is there says where it serves clients";
        return Err(Failure::new(Exit::Unavailable, "UNREACHABLE", message));
    }
    let client = ClientArgs {
        endpoints: nodes.iter().map(|node| node.endpoint.clone()).collect(),
        ..args.client.clone()
    };
    let client = client.connect()?;
    let options = CallOptions {
        mode: Some(about.receipt.mode),
        ..client.options().clone()
    };
    Ok(client.with(options))
}

fn show(compared: &Comparison, missing: &[Missing], limit: usize) -> Result<(), Failure> {
    if compared.lasting.is_empty() {
        let count = compared.digests.len();
        let held = compared.digests.first();
        let held =
            held.map(|(_, digest)| format!(": {:016x}, {} keys", digest.root, digest.entries));
        if compared.moving == 0 && count > 0 {
            output::line(&format!(
                "{count} nodes hold the same{}",
                held.unwrap_or_default()
            ))?;
        } else if count > 0 {
            output::line(&format!(
                "{count} nodes hold the same, but for {} keys that changed while they were compared",
                compared.moving
            ))?;
        }
    } else {
        let mut table = output::plain_table(["KEY", "NODES", "HOLD"]);
        for (key, sides) in compared.lasting.iter().take(limit) {
            for side in sides {
                table.add_row([
                    line_text(key.as_str()),
                    nodes_text(&side.nodes),
                    held_text(side),
                ]);
            }
        }
        output::table(&table)?;
        output::note(&match compared.lasting.len() {
            1 => "1 key differs".to_owned(),
            count => format!("{count} keys differ"),
        });
    }
    for Missing { node, why } in missing {
        output::note(&format!(
            "node {node} couldn't be asked: {}",
            line_text(why)
        ));
    }
    Ok(())
}

fn nodes_text(nodes: &[NodeId]) -> String {
    let shown: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    shown.join(",")
}

fn held_text(side: &Side) -> String {
    side.held.as_ref().map_or_else(
        || "absent".to_owned(),
        |(hash, version)| format!("{} (hash {hash:016x})", line_text(version)),
    )
}

fn comparison_json(compared: &Comparison, missing: &[Missing], limit: usize) -> Value {
    let differing: Vec<_> = compared
        .lasting
        .iter()
        .take(limit)
        .map(|(key, sides)| {
            let sides: Vec<_> = sides
                .iter()
                .map(|side| {
                    json!({
                        "nodes": side.nodes.iter().map(|node| node.as_u64()).collect::<Vec<_>>(),
                        "version": side.held.as_ref().map(|(_, version)| version),
                        "hash": side.held.as_ref().map(|(hash, _)| format!("{hash:016x}")),
                    })
                })
                .collect();
            json!({ "key": key.as_str(), "held": sides })
        })
        .collect();
    // Nobody knows while keys change, or where nobody answered.
    let is_known = compared.moving == 0 && !compared.digests.is_empty();
    let same = if compared.lasting.is_empty() {
        is_known.then_some(true)
    } else {
        Some(false)
    };
    json!({
        "same": same,
        "complete": missing.is_empty(),
        "nodes": compared.digests.iter().map(|(_, digest)| digest_json(digest)).collect::<Vec<_>>(),
        "differing_keys": compared.lasting.len(),
        "changing_keys": compared.moving,
        "differing": differing,
        "missing": missing.iter().map(|missing| json!({
            "node": missing.node.as_u64(),
            "why": missing.why,
        })).collect::<Vec<_>>(),
    })
}
