//! `quorumor member`: who belongs to a cluster in strong mode.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use quorumor_client::{ClusterChanged, ClusterMember, MembersAnswer, NewMember};
use quorumor_core::{MemberState, NodeId};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{line_text, receipt_json, receipt_lines};

const EXAMPLE: &str = "\
Examples:
  quorumor member list
  quorumor member add 4 10.0.0.4:7401
  quorumor member promote 4 --replacing 2
  quorumor member transfer-leader 3
  quorumor member remove 2

A new node comes in as a learner, gets the data, and votes by itself once it has caught up (unless --stay-learner). Add it
first, then start it with `quorumor serve --join`. An id is never used twice: a node that lost its disk comes back under a
new one. A removal after which the voters that answer would be no majority is refused.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    pub(crate) what: MemberCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// List the members as they are committed
    #[command(after_help = EXAMPLE)]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take a new node in
    #[command(after_help = EXAMPLE)]
    Add {
        /// An id that was never used
        id: NodeId,
        /// Where it will talk to peers
        peer_address: SocketAddr,
        /// Leave it a learner, which has no vote
        #[arg(long)]
        stay_learner: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a learner that has caught up a voter
    #[command(after_help = EXAMPLE)]
    Promote {
        /// The learner
        id: NodeId,
        /// The voter that goes at the same moment
        #[arg(long, value_name = "ID")]
        replacing: Option<NodeId>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Remove a node for good
    #[command(after_help = EXAMPLE)]
    Remove {
        /// The node
        id: NodeId,
        /// Do it even if the cluster may then stand still for good
        #[arg(long)]
        allow_quorum_loss: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Hand leadership over
    #[command(after_help = EXAMPLE)]
    TransferLeader {
        /// To whom [default: the voter that has caught up best]
        id: Option<NodeId>,
        #[command(flatten)]
        client: ClientArgs,
    },
}

impl MemberCommand {
    pub(crate) const fn client(&self) -> &ClientArgs {
        match self {
            Self::List { client }
            | Self::Add { client, .. }
            | Self::Promote { client, .. }
            | Self::Remove { client, .. }
            | Self::TransferLeader { client, .. } => client,
        }
    }
}

pub(crate) async fn run(args: MemberArgs) -> Result<Exit, Failure> {
    let shown = args.what.client().output;
    let client = args.what.client().connect()?;
    let (done, changed) = match args.what {
        MemberCommand::List { .. } => {
            let answer = client.members().await.map_err(Failure::of_read)?;
            return list(&answer, shown);
        }
        MemberCommand::Add {
            id,
            peer_address,
            stay_learner,
            ..
        } => {
            let new = NewMember {
                node: id,
                peer_address,
                stay_learner,
            };
            let done =
                format!("node {id} is in, as a learner: start it with `quorumor serve --join`");
            (done, client.add_member(new).await)
        }
        MemberCommand::Promote { id, replacing, .. } => (
            format!("node {id} votes"),
            client.promote_member(id, replacing).await,
        ),
        MemberCommand::Remove {
            id,
            allow_quorum_loss,
            ..
        } => (
            format!("node {id} is removed, and its id can't be used again"),
            client.remove_member(id, allow_quorum_loss).await,
        ),
        MemberCommand::TransferLeader { id, .. } => {
            (String::new(), client.transfer_leader(id).await)
        }
    };
    let changed = changed.map_err(Failure::of_write)?;
    tell(done, &changed, shown)?;
    Ok(Exit::Done)
}

fn tell(done: String, changed: &ClusterChanged, shown: Output) -> Result<(), Failure> {
    let leader = changed.receipt.leader().map(|(_, leader)| leader.node);
    let done = if done.is_empty() {
        leader.map_or_else(|| "ok".to_owned(), |leader| format!("node {leader} leads"))
    } else {
        done
    };
    match shown {
        Output::Table => output::line(&done),
        Output::Wide => {
            output::line(&done)?;
            output::line(&receipt_lines(&changed.receipt))
        }
        Output::Json => output::json(&json!({
            "done": done,
            "leader": leader.map(NodeId::as_u64),
            "receipt": receipt_json(&changed.receipt),
        })),
    }
}

fn list(answer: &MembersAnswer, shown: Output) -> Result<Exit, Failure> {
    match shown {
        Output::Table | Output::Wide => {
            let mut table =
                output::plain_table(["NODE", "ROLE", "STATE", "PEERS", "CLIENTS", "STORE"]);
            table.add_rows(answer.members.iter().map(row));
            output::table(&table)?;
            if shown == Output::Wide {
                output::line(&receipt_lines(&answer.receipt))?;
            }
        }
        Output::Json => output::json(&json!({
            "cluster_name": answer.cluster_name,
            "members": answer.members.iter().map(member_json).collect::<Vec<_>>(),
            "receipt": receipt_json(&answer.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

const fn role(member: &ClusterMember) -> &'static str {
    match (member.leader, member.voter, member.promote_when_ready) {
        (true, _, _) => "leader",
        (false, true, _) => "voter",
        (false, false, true) => "learner, will vote",
        (false, false, false) => "learner",
    }
}

fn row(member: &ClusterMember) -> [String; 6] {
    [
        member.node.to_string(),
        role(member).to_owned(),
        member
            .state
            .map_or("unknown", MemberState::as_str)
            .to_owned(),
        line_text(&member.peer_address),
        member
            .client_address
            .as_deref()
            .map_or_else(|| "-".to_owned(), line_text),
        member.store.map_or_else(
            || "-".to_owned(),
            |store| format!("{:016x}", store.as_u64()),
        ),
    ]
}

fn member_json(member: &ClusterMember) -> Value {
    json!({
        "node": member.node.as_u64(),
        "peer_address": member.peer_address,
        "client_address": member.client_address,
        "voter": member.voter,
        "leader": member.leader,
        "state": member.state.map(MemberState::as_str),
        "store": member.store.map(|store| format!("{:016x}", store.as_u64())),
        "promote_when_ready": member.promote_when_ready,
    })
}
