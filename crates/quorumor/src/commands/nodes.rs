//! `quorumor nodes`: how the nodes stand, as one of them believes.

use clap::Args;
use comfy_table::Table;
use quorumor_client::{NodeState, NodesAnswer};
use quorumor_core::{MemberState, NodeId};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{line_text, receipt_json, receipt_lines, since_text};

const EXAMPLE: &str = "\
Examples:
  quorumor nodes
  quorumor nodes --mode eventual -o wide
  quorumor nodes --endpoints 10.0.0.2:7400 -o json

What the node that answers believes, which waits for no other; to ask a certain one, name its endpoint alone. In eventual mode
each node judges for itself, so nodes may differ for a while; in strong mode the leader says who is there, and the answering node
itself if it follows none. SINCE is by the answering node's clock, and no earlier than its start. Where both modes are served
GOSSIP shows how the answering node reaches each by gossip. `quorumor member list` shows the committed members of strong mode,
`quorumor status` asks every endpoint.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

pub(crate) async fn run(args: NodesArgs) -> Result<Exit, Failure> {
    let client = args.client.connect()?;
    let answer = client.nodes().await.map_err(Failure::of_read)?;
    match args.client.output {
        Output::Table => output::table(&table(&answer))?,
        Output::Wide => {
            output::table(&table(&answer))?;
            output::line(&receipt_lines(&answer.receipt))?;
        }
        Output::Json => output::json(&json!({
            "nodes": answer.nodes.iter().map(node_json).collect::<Vec<_>>(),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

fn table(answer: &NodesAnswer) -> Table {
    let by_gossip = answer.nodes.iter().any(|node| node.gossip_state.is_some());
    let mut table = if by_gossip {
        output::plain_table([
            "NODE", "STATE", "SINCE", "SAID-BY", "CLIENT", "PEER", "GOSSIP",
        ])
    } else {
        output::plain_table(["NODE", "STATE", "SINCE", "SAID-BY", "CLIENT", "PEER"])
    };
    for node in &answer.nodes {
        let mut row = row(node);
        if by_gossip {
            row.push(state_text(node.gossip_state));
        }
        table.add_row(row);
    }
    table
}

fn row(node: &NodeState) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let address = |address: &Option<String>| or_dash(address.as_deref().map(line_text));
    vec![
        node.member.node.to_string(),
        state_text(node.member.state),
        since_text(node.since),
        or_dash(node.said_by.map(|node| node.to_string())),
        address(&node.member.client_address),
        address(&node.member.peer_address),
    ]
}

fn state_text(state: Option<MemberState>) -> String {
    state.map_or("unknown", MemberState::as_str).to_owned()
}

fn node_json(node: &NodeState) -> Value {
    json!({
        "node": node.member.node.as_u64(),
        "state": node.member.state.map(MemberState::as_str),
        "since_wall_ms": node.since.and_then(|since| u64::try_from(since.as_millis()).ok()),
        "said_by": node.said_by.map(NodeId::as_u64),
        "client_address": node.member.client_address,
        "peer_address": node.member.peer_address,
        "gossip_state": node.gossip_state.map(MemberState::as_str),
    })
}
