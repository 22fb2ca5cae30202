//! `quorumor snapshot`: backups of a cluster in strong mode.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorumor_client::{SnapshotError, SnapshotSaved};
use serde_json::json;
use tokio::fs::File;

use crate::args::{ClientArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::{receipt_json, receipt_lines};

mod offline;

use offline::{RestoreArgs, StatusArgs};

const EXAMPLE: &str = "\
Examples:
  quorumor snapshot save backup.snapshot
  quorumor snapshot status backup.snapshot
  quorumor snapshot restore backup.snapshot --data-dir ./n1 --node-id 1 --initial-members 1=127.0.0.1:7401

The file is complete once the command is done: it is written aside, synced and renamed. Strong mode only.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SnapshotArgs {
    #[command(subcommand)]
    pub(crate) what: SnapshotCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Write the whole state of a running cluster to a file
    #[command(after_help = EXAMPLE)]
    Save {
        /// The file; it must not exist
        file: PathBuf,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make the data directory of a founding node of a new cluster out of a backup
    Restore(RestoreArgs),
    /// Check a backup, and say what it holds
    Status(StatusArgs),
}

impl SnapshotCommand {
    /// In which form the command answers.
    pub(crate) const fn output(&self) -> Output {
        match self {
            Self::Save { client, .. } => client.output,
            Self::Restore(args) => args.output,
            Self::Status(args) => args.output,
        }
    }
}

pub(crate) async fn run(args: SnapshotArgs) -> Result<Exit, Failure> {
    match args.what {
        SnapshotCommand::Save { file, client } => save(&file, &client).await,
        SnapshotCommand::Restore(args) => offline::restore(args).await,
        SnapshotCommand::Status(args) => offline::status(args).await,
    }
}

async fn save(file: &Path, args: &ClientArgs) -> Result<Exit, Failure> {
    if file.exists() {
        let why = format!("{} exists: a backup never replaces a file", file.display());
        return Err(Failure::usage(why));
    }
    let mut aside = file.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let client = args.connect()?;
    let saved = match write(&client, &aside).await {
        Ok(saved) => saved,
        Err(failure) => {
            // What was written is no backup.
            let _gone = std::fs::remove_file(&aside);
            return Err(failure);
        }
    };
    let renamed = std::fs::rename(&aside, file).and_then(|()| sync_directory(file));
    renamed.map_err(|error| Failure::unavailable("can't write the snapshot", &error))?;
    let revision = saved.receipt.revision().unwrap_or_default();
    let done = format!(
        "ok, revision {revision} in {}, {} bytes",
        file.display(),
        saved.bytes
    );
    match args.output {
        Output::Table => output::line(&done)?,
        Output::Wide => {
            output::line(&done)?;
            output::line(&receipt_lines(&saved.receipt))?;
        }
        Output::Json => output::json(&json!({
            "file": file.display().to_string(),
            "bytes": saved.bytes,
            "revision": revision.as_u64(),
            "receipt": receipt_json(&saved.receipt),
        }))?,
    }
    Ok(Exit::Done)
}

async fn write(client: &quorumor_client::Client, aside: &Path) -> Result<SnapshotSaved, Failure> {
    let cant = |error: &std::io::Error| Failure::unavailable("can't write the snapshot", error);
    let mut out = File::create(aside).await.map_err(|error| cant(&error))?;
    let saved = client.snapshot_save(&mut out).await;
    let saved = saved.map_err(|error| match error {
        SnapshotError::Client(error) => Failure::of_read(error),
        SnapshotError::Write(error) => cant(&error),
    })?;
    out.sync_all().await.map_err(|error| cant(&error))?;
    Ok(saved)
}

fn sync_directory(file: &Path) -> std::io::Result<()> {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
