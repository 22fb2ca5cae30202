//! `quorumor snapshot restore` and `snapshot status`: backups as files, without a cluster.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::Args;
use quorumor_core::{DataEpoch, NodeId};
use quorumor_server::{BackupReport, RestoreError, RestoreOptions, RestoreReport};
use serde_json::json;

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::output;

const RESTORE_EXAMPLE: &str = "\
Example, on each founding node of the new cluster, with its own --node-id and --data-dir:
  quorumor snapshot restore shop.backup --data-dir ./n1 --node-id 1 \\
      --initial-members 1=127.0.0.1:7401,2=127.0.0.1:7411,3=127.0.0.1:7421
  quorumor serve --mode strong --cluster shop --node-id 1 --data-dir ./n1 --listen ... --peer-listen 127.0.0.1:7401

The new cluster has the same keys, a new id and a new data epoch: tokens, cursors and sessions of the old one are refused.
Leases get their whole TTL again. Revisions begin --revision-step above the backup's, so that no fencing token is given
twice.

All founding nodes need the same file and the same options, but for --node-id and --data-dir: the new cluster's id is made of
them and of the data, and nodes restored from another file or with other options never find each other. A second restore of
this very backup needs a higher --epoch, the same on each node: with the same options it would be the same cluster again.";

const STATUS_EXAMPLE: &str = "\
Example:
  quorumor snapshot status shop.backup --output json";

#[derive(Args, Clone, Debug)]
#[command(after_help = RESTORE_EXAMPLE)]
pub(crate) struct RestoreArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The node whose directory it will be
    #[arg(long, value_name = "N")]
    pub(crate) node_id: NodeId,
    /// Every founding voter of the new cluster, id=address,id=address; the same list on each
    #[arg(long, value_name = "MEMBERS")]
    pub(crate) initial_members: String,
    /// The new cluster's name [default: the backup's]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The new data epoch; higher again if this backup was restored before [default: the one after the backup's]
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<u64>,
    /// By how much revisions begin above the backup's
    #[arg(long, value_name = "N", default_value_t = 1_000_000_000)]
    pub(crate) revision_step: u64,
    /// How to report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = STATUS_EXAMPLE)]
pub(crate) struct StatusArgs {
    /// The backup
    pub(crate) file: PathBuf,
    /// How to report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Makes a data directory out of a backup.
pub(crate) async fn restore(args: RestoreArgs) -> Result<Exit, Failure> {
    let options = RestoreOptions {
        file: args.file,
        data_dir: args.data_dir.clone(),
        node: args.node_id,
        cluster: args.cluster,
        members: members(&args.initial_members)?,
        epoch: args.epoch.map(DataEpoch::new),
        revision_step: args.revision_step,
    };
    let made = away(move || quorumor_server::restore_backup(&options)).await?;
    match args.output {
        Output::Table | Output::Wide => {
            output::line(&restored(&made, &args.data_dir.display().to_string()))?
        }
        Output::Json => output::json(&json!({
            "cluster": made.cluster_name,
            "cluster_id": format!("{:016x}", made.cluster.as_u64()),
            "data_epoch": made.epoch.as_u64(),
            "revision": made.summary.revision.as_u64(),
            "keys": made.summary.keys,
            "leases": made.summary.leases,
            "data_dir": args.data_dir,
        }))?,
    }
    Ok(Exit::Done)
}

/// Checks a backup and says what it holds.
pub(crate) async fn status(args: StatusArgs) -> Result<Exit, Failure> {
    let file = args.file.clone();
    let report = away(move || quorumor_server::inspect_backup(&file)).await?;
    match args.output {
        Output::Table | Output::Wide => output::line(&described(&report))?,
        Output::Json => output::json(&json!({
            "cluster": report.header.cluster_name,
            "cluster_id": format!("{:016x}", report.summary.cluster.as_u64()),
            "data_epoch": report.summary.epoch.as_u64(),
            "revision": report.summary.revision.as_u64(),
            "oldest_revision": report.summary.oldest.as_u64(),
            "keys": report.summary.keys,
            "bytes": report.summary.bytes,
            "leases": report.summary.leases,
            "sessions": report.summary.sessions,
            "members": report.summary.members.iter().map(|member| json!({
                "node": member.node.as_u64(),
                "peer_address": member.peer_address.to_string(),
            })).collect::<Vec<_>>(),
            "made_by": report.header.node.as_u64(),
            "made_at_ms": report.header.made_at_ms,
            "pieces": report.totals.pieces,
            "digest": format!("{:016x}", report.summary.digest),
        }))?,
    }
    Ok(Exit::Done)
}

/// Files are read and written on a thread of their own.
async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RestoreError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::unavailable("the restore broke off", &error))?;
    done.map_err(|error| Failure::new(Exit::Refused, "BACKUP", error.to_string()))
}

fn members(text: &str) -> Result<BTreeMap<NodeId, SocketAddr>, Failure> {
    let mut members = BTreeMap::new();
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        let bad = || Failure::usage(format!("--initial-members: {item:?} is not id=host:port"));
        let (id, address) = item.split_once('=').ok_or_else(bad)?;
        let id: NodeId = id.parse().map_err(|_| bad())?;
        let address = address
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next());
        if members.insert(id, address.ok_or_else(bad)?).is_some() {
            return Err(Failure::usage(format!(
                "--initial-members: node {id} is named twice"
            )));
        }
    }
    Ok(members)
}

fn restored(made: &RestoreReport, data_dir: &str) -> String {
    format!(
        "restored {keys} keys and {leases} leases into {data_dir}\n\
         cluster {name} ({cluster:016x}), data epoch {epoch}, revision {revision}",
        keys = made.summary.keys,
        leases = made.summary.leases,
        name = made.cluster_name,
        cluster = made.cluster.as_u64(),
        epoch = made.epoch,
        revision = made.summary.revision,
    )
}

fn described(report: &BackupReport) -> String {
    let summary = &report.summary;
    let members: Vec<_> = summary
        .members
        .iter()
        .map(|member| format!("{}={}", member.node, member.peer_address))
        .collect();
    format!(
        "a whole backup, every checksum right\n\
         cluster     {name} ({cluster:016x}), data epoch {epoch}\n\
         revision    {revision} (history from {oldest})\n\
         keys        {keys}, {bytes} bytes\n\
         leases      {leases}\n\
         members     {members}\n\
         made by     node {node}\n\
         digest      {digest:016x}",
        name = report.header.cluster_name,
        cluster = summary.cluster.as_u64(),
        epoch = summary.epoch,
        revision = summary.revision,
        oldest = summary.oldest,
        keys = summary.keys,
        bytes = summary.bytes,
        leases = summary.leases,
        members = members.join(", "),
        node = report.header.node,
        digest = summary.digest,
    )
}
