//! A backup file made into the data directory of a founding node of a new cluster, and a look into one. Offline: no node runs
//! on the directory, and none is asked.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorumor_core::{
    CheckpointSource, ClusterId, DataEpoch, Mode, NodeId, Persist, PersistToken, StoreId,
};
use quorumor_raft::{BackupSummary, Founder, Restoration, Restored, restored_cluster_id};
use quorumor_wal::{LogOptions, RealDisk, WalError};

use crate::backup::{BackupError, BackupHeader, BackupReader, BackupTotals};
use crate::data_dir::{DataDir, DataDirError, Wanted};
use crate::origin::{Origin, Way};
use crate::store::Store;

/// What to restore, and as what.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The backup.
    pub file: PathBuf,
    /// The data directory to make. It must not hold one.
    pub data_dir: PathBuf,
    /// The node whose directory it will be.
    pub node: NodeId,
    /// The name of the new cluster; `None` keeps the backup's.
    pub cluster: Option<String>,
    /// Every founding voter of the new cluster; the same list for each of them.
    pub members: BTreeMap<NodeId, SocketAddr>,
    /// The new data epoch; `None` for the one behind the backup's. The same for each founder, and another one if the same backup
    /// is restored a second time.
    pub epoch: Option<DataEpoch>,
    /// By how much the new cluster's revisions begin above the backup's, so that none is given twice.
    pub revision_step: u64,
}

/// What a directory was made into.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The new cluster's name.
    pub cluster_name: String,
    /// The new cluster.
    pub cluster: ClusterId,
    /// Its data epoch.
    pub epoch: DataEpoch,
    /// What it begins with.
    pub summary: BackupSummary,
}

/// What a backup file says and holds.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// Its header.
    pub header: BackupHeader,
    /// How much it holds.
    pub totals: BackupTotals,
    /// What that is.
    pub summary: BackupSummary,
}

/// Why a backup can't be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file can't be opened.
    #[error("can't open `{path}`: {source}")]
    Open {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file isn't a whole backup.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: BackupError,
    },
    /// Its content can't become this cluster.
    #[error(transparent)]
    Content(#[from] quorumor_raft::RestoreError),
    /// The node isn't among the founders.
    #[error("node {node} is not among the initial members")]
    NotAMember {
        /// The node.
        node: NodeId,
    },
    /// The directory is in use, or was.
    #[error("`{path}` holds the data of a node already: name an empty --data-dir")]
    Occupied {
        /// The directory.
        path: String,
    },
    /// The directory can't be made.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The disk is full.
    #[error("there is no room for the restored state in `{path}`")]
    NoRoom {
        /// The directory.
        path: String,
    },
    /// The directory can't be opened.
    #[error("can't make the log's directory: {0}")]
    Disk(#[from] std::io::Error),
    /// The checkpoint can't be written.
    #[error("can't write the restored state: {0}")]
    Log(#[from] WalError),
}

/// Reads a whole backup, checks all of it, and says what it holds.
///
/// # Errors
/// If it isn't a whole backup.
pub fn inspect_backup(file: &Path) -> Result<BackupReport, RestoreError> {
    let (header, totals, chunks) = read(file)?;
    Ok(BackupReport {
        header,
        totals,
        summary: quorumor_raft::inspect(&chunks)?,
    })
}

/// Makes the data directory of one founding node of a new cluster. Each founder gets its own and is then started without a
/// list of members: the directory remembers it.
///
/// Every founder needs the same file and the same options but for its own id and directory: the cluster's id covers all of
/// them, so others never find each other. A second restore of one backup with the same options gives the same id again, and
/// must be told apart by a higher epoch.
///
/// # Errors
/// If the backup is damaged, the options can't be, or the disk refuses. A directory that was begun is of no use then.
pub fn restore_backup(options: &RestoreOptions) -> Result<RestoreReport, RestoreError> {
    if !options.members.contains_key(&options.node) {
        return Err(RestoreError::NotAMember { node: options.node });
    }
    if DataDir::is_made(&options.data_dir) {
        return Err(RestoreError::Occupied {
            path: options.data_dir.display().to_string(),
        });
    }
    let (header, _, chunks) = read(&options.file)?;
    let founders: Vec<Founder> = options
        .members
        .iter()
        .map(|(node, peer_address)| Founder {
            node: *node,
            peer_address: *peer_address,
        })
        .collect();
    let epoch = options.epoch.unwrap_or(header.epoch.next());
    let cluster = restored_cluster_id(&chunks, epoch, &founders, options.revision_step)?;
    let restored = quorumor_raft::restore(
        &chunks,
        &Restoration {
            cluster,
            epoch,
            founders: &founders,
            revision_step: options.revision_step,
        },
    )?;
    drop(chunks);
    let summary = quorumor_raft::inspect(&restored.chunks)?;
    let cluster_name = options.cluster.clone().unwrap_or(header.cluster_name);
    let origin = Origin {
        way: Way::Restored,
        cluster,
        epoch,
        members: options.members.clone(),
    };
    write(options, &cluster_name, &origin, restored)?;
    Ok(RestoreReport {
        cluster_name,
        cluster,
        epoch,
        summary,
    })
}

fn read(file: &Path) -> Result<(BackupHeader, BackupTotals, Vec<Bytes>), RestoreError> {
    let path = || file.display().to_string();
    let opened = File::open(file).map_err(|source| RestoreError::Open {
        path: path(),
        source,
    })?;
    let refused = |source| RestoreError::File {
        path: path(),
        source,
    };
    let mut reader = BackupReader::open(BufReader::new(opened)).map_err(refused)?;
    let mut chunks = Vec::new();
    while let Some(piece) = reader.next_piece().map_err(refused)? {
        chunks.push(piece);
    }
    Ok((reader.header().clone(), reader.totals(), chunks))
}

fn write(
    options: &RestoreOptions,
    cluster_name: &str,
    origin: &Origin,
    restored: Restored,
) -> Result<(), RestoreError> {
    let modes = [(Mode::Strong, origin.cluster)];
    let wanted = Wanted {
        cluster: cluster_name,
        node: options.node,
        modes: &modes,
        origin: Some(origin),
        new_store: StoreId::new(rand::random_range(1..u64::MAX)),
    };
    let mut data_dir = DataDir::open(&options.data_dir, &wanted)?;
    let disk = RealDisk::open(&data_dir.log_dir(Mode::Strong))?;
    let (mut store, _) = Store::open(disk, LogOptions::new(rand::random()))?;
    store.carry_out(vec![Persist::Checkpoint {
        token: PersistToken(1),
        position: restored.position,
        source: Box::new(Pieces(restored.chunks.into())),
    }])?;
    // A step that finds no room changes nothing: two in a row that change nothing have found none.
    let mut idle = 0;
    while store.is_writing_checkpoint() {
        let before = store.bytes_on_disk();
        store.step()?;
        idle = if store.bytes_on_disk() == before {
            idle + 1
        } else {
            0
        };
        if idle > 2 && store.is_writing_checkpoint() {
            return Err(RestoreError::NoRoom {
                path: options.data_dir.display().to_string(),
            });
        }
    }
    store.renew_floor()?;
    data_dir.remember_logs(&[Mode::Strong])?;
    Ok(())
}

/// A checkpoint that is in memory already.
#[derive(Debug)]
struct Pieces(VecDeque<Bytes>);

impl CheckpointSource for Pieces {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }
}
