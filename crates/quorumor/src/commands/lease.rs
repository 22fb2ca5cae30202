//! `quorumor lease`: grants, ends, watches over leases.

use std::time::Duration;

use clap::{Args, Subcommand};
use quorumor_client::{Client, LeaseId, LeaseInfo};
use serde_json::{Value, json};

use crate::args::{ClientArgs, Output, parse_lease};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{duration_text, line_text, receipt_json, receipt_lines};
use crate::signals::Ends;

const EXAMPLE: &str = "\
Examples:
  LEASE=$(quorumor lease grant 30s)
  quorumor put service/web/1 10.0.0.1:80 --lease $LEASE
  quorumor lease keep-alive $LEASE
  quorumor lease ttl $LEASE --keys
  quorumor lease list
  quorumor lease revoke $LEASE

Keys that are put under a lease go when it does. In eventual mode a lease lives at the node that granted it, which alone
knows how long it has left; other nodes pass calls on to it, and say OWNER_UNREACHABLE if they can't. Its keys are hidden
where that node is held to be down.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct LeaseArgs {
    #[command(subcommand)]
    pub(crate) what: LeaseCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Grant a lease and print its id
    #[command(after_help = EXAMPLE)]
    Grant {
        /// For how long; raised to the cluster's minimum
        #[arg(value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// The id to grant it under (strong mode) [default: one of the cluster's choice]
        #[arg(long, value_name = "ID", value_parser = parse_lease)]
        id: Option<LeaseId>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// End a lease and remove its keys
    #[command(after_help = EXAMPLE)]
    Revoke {
        /// Which
        #[arg(value_parser = parse_lease)]
        id: LeaseId,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Keep a lease alive until Ctrl-C
    #[command(after_help = EXAMPLE)]
    KeepAlive {
        /// Which
        #[arg(value_parser = parse_lease)]
        id: LeaseId,
        /// Only once
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show how long a lease has left
    #[command(after_help = EXAMPLE)]
    Ttl {
        /// Which
        #[arg(value_parser = parse_lease)]
        id: LeaseId,
        /// Name its keys
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the live leases
    #[command(after_help = EXAMPLE)]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
}

impl LeaseCommand {
    pub(crate) const fn client(&self) -> &ClientArgs {
        match self {
            Self::Grant { client, .. }
            | Self::Revoke { client, .. }
            | Self::KeepAlive { client, .. }
            | Self::Ttl { client, .. }
            | Self::List { client } => client,
        }
    }
}

pub(crate) async fn run(args: LeaseArgs) -> Result<Exit, Failure> {
    let shown = args.what.client().output;
    let client = args.what.client().connect()?;
    match args.what {
        LeaseCommand::Grant { ttl, id, .. } => grant(&client, ttl, id, shown).await,
        LeaseCommand::Revoke { id, .. } => {
            let answer = client.revoke_lease(id).await.map_err(Failure::of_write)?;
            match shown {
                Output::Table => output::line("ok, the lease and its keys are gone")?,
                Output::Wide => output::line(&receipt_lines(&answer.receipt))?,
                Output::Json => output::json(&json!({ "receipt": receipt_json(&answer.receipt) }))?,
            }
            Ok(Exit::Done)
        }
        LeaseCommand::KeepAlive { id, once: true, .. } => {
            let left = client
                .keep_alive_once(id)
                .await
                .map_err(Failure::of_write)?;
            let Some(left) = left else {
                return Err(gone(id));
            };
            match shown {
                Output::Table | Output::Wide => {
                    output::line(&format!("kept, {} left", duration_text(left)))?;
                }
                Output::Json => output::json(&json!({ "remaining_ttl_ms": millis(left) }))?,
            }
            Ok(Exit::Done)
        }
        LeaseCommand::KeepAlive { id, .. } => keep_alive(&client, id, shown).await,
        LeaseCommand::Ttl { id, keys, .. } => left(&client, id, keys, shown).await,
        LeaseCommand::List { .. } => list(&client, shown).await,
    }
}

async fn grant(
    client: &Client,
    ttl: Duration,
    id: Option<LeaseId>,
    shown: Output,
) -> Result<Exit, Failure> {
    let granted = match id {
        Some(id) => client.grant_lease_as(id, ttl).await,
        None => client.grant_lease(ttl).await,
    };
    let granted = granted.map_err(Failure::of_write)?;
    match shown {
        Output::Table => {
            output::line(&granted.lease.to_string())?;
            if granted.ttl != ttl {
                output::note(&format!("the TTL is {}", duration_text(granted.ttl)));
            }
        }
        Output::Wide => {
            output::line(&format!(
                "lease {}, TTL {}",
                granted.lease,
                duration_text(granted.ttl)
            ))?;
            output::line(&receipt_lines(&granted.receipt))?;
        }
        Output::Json => output::json(&json!({
            "lease": granted.lease.as_u64(),
            "ttl_ms": millis(granted.ttl),
            "receipt": receipt_json(&granted.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

async fn keep_alive(client: &Client, id: LeaseId, shown: Output) -> Result<Exit, Failure> {
    let mut ends = Ends::listen()?;
    let lease = client.adopt_lease(id).await;
    let lease = lease.map_err(|error| match error.reason() {
        "LEASE_NOT_FOUND" => gone(id),
        _ => Failure::of_write(error),
    })?;
    match shown {
        Output::Table | Output::Wide => output::line(&format!(
            "keeping lease {id} alive, TTL {}; Ctrl-C ends it",
            duration_text(lease.ttl())
        ))?,
        Output::Json => output::json(&json!({
            "lease": id.as_u64(),
            "ttl_ms": millis(lease.ttl()),
        }))?,
    }
    tokio::select! {
        why = lease.lost() => {
            Err(Failure::new(Exit::Unavailable, "LEASE_LOST", why.to_string()))
        }
        _ = ends.next() => Ok(Exit::Done),
    }
}

async fn left(client: &Client, id: LeaseId, keys: bool, shown: Output) -> Result<Exit, Failure> {
    let answer = client
        .lease_left(id, keys)
        .await
        .map_err(Failure::of_read)?;
    match (shown, &answer.lease) {
        (Output::Json, lease) => output::json(&json!({
            "found": lease.is_some(),
            "lease": lease.as_ref().map(|lease| lease_json(lease, keys)),
            "receipt": receipt_json(&answer.receipt),
        }))?,
        (Output::Table | Output::Wide, Some(lease)) => {
            output::line(&format!(
                "{} left of {}, {} {}",
                left_text(lease),
                duration_text(lease.granted_ttl),
                lease.key_count,
                if lease.key_count == 1 { "key" } else { "keys" }
            ))?;
            for key in &lease.keys {
                output::line(&line_text(key.as_str()))?;
            }
            if shown == Output::Wide {
                output::line(&receipt_lines(&answer.receipt))?;
            }
        }
        (Output::Table | Output::Wide, None) => {
            output::note(&format!("absent: there is no lease {id}"));
        }
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, shown: Output) -> Result<Exit, Failure> {
    let mut leases: Vec<LeaseInfo> = Vec::new();
    let receipt = loop {
        let after = leases.last().map(|lease| lease.id);
        let page = client.leases(after, 0).await.map_err(Failure::of_read)?;
        let ended = !page.more || page.leases.is_empty();
        leases.extend(page.leases);
        if ended {
            break page.receipt;
        }
    };
    match shown {
        Output::Table | Output::Wide => {
            let mut table = output::plain_table(["LEASE", "LEFT", "TTL", "KEYS", "OWNER"]);
            table.add_rows(leases.iter().map(|lease| {
                [
                    lease.id.to_string(),
                    left_text(lease),
                    duration_text(lease.granted_ttl),
                    lease.key_count.to_string(),
                    owner_text(lease),
                ]
            }));
            output::table(&table)?;
            if shown == Output::Wide {
                output::line(&receipt_lines(&receipt))?;
            }
        }
        Output::Json => output::json(&json!({
            "leases": leases.iter().map(|lease| lease_json(lease, false)).collect::<Vec<_>>(),
            "receipt": receipt_json(&receipt),
        }))?,
    }
    Ok(Exit::Done)
}

fn gone(id: LeaseId) -> Failure {
    let message = format!("there is no lease {id}");
    Failure::new(Exit::Refused, "LEASE_NOT_FOUND", message)
}

/// A lease, and its keys where they were asked for.
fn lease_json(lease: &LeaseInfo, keys: bool) -> Value {
    let mut object = json!({
        "lease": lease.id.as_u64(),
        "granted_ttl_ms": millis(lease.granted_ttl),
        "remaining_ttl_ms": lease.remaining_ttl.map(millis),
        "key_count": lease.key_count,
        "owner": lease.owner.map(quorumor_core::NodeId::as_u64),
    });
    if keys {
        object["keys"] = lease.keys.iter().map(|key| key.as_str()).collect();
    }
    object
}

/// What is left, where the node that answered knows.
fn left_text(lease: &LeaseInfo) -> String {
    lease
        .remaining_ttl
        .map_or_else(|| "-".to_owned(), duration_text)
}

fn owner_text(lease: &LeaseInfo) -> String {
    let owner = lease.owner.map(|owner| format!("node {owner}"));
    owner.unwrap_or_else(|| "-".to_owned())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
