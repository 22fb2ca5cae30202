//! The data directory: who this node is, remembered, and one lock.
//!
//! `node.toml` holds format, cluster, node, store id and modes; `strong/` and `eventual/` hold the logs; `peers.toml` the
//! store id of each peer met; `lock` is held while the process lives. A contradiction between what is remembered and
//! what was configured is refused here, before a log is touched.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use quorumor_core::{ClusterId, Mode, NodeId, StoreId};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::origin::{Origin, OriginFile};

const FORMAT: u32 = 1;
const NODE_FILE: &str = "node.toml";
const PEERS_FILE: &str = "peers.toml";

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("`{path}` is in use by another process")]
    Locked {
        /// The directory.
        path: String,
    },
    /// The operating system refused.
    #[error("can't {operation} `{path}`: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file isn't what this program writes.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A file is of a format that this program doesn't know.
    #[error(
        "`{path}` has format {found}, this program reads {FORMAT}; start the version that wrote it"
    )]
    Format {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
    },
    /// What was configured isn't what is remembered.
    #[error(
        "the data directory is of {what} {remembered}, and the configuration says {configured}; {remedy}"
    )]
    Contradiction {
        /// What differs.
        what: &'static str,
        /// What the directory says.
        remembered: String,
        /// What the configuration says.
        configured: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A mode's log is gone, though the directory remembers that it was there.
    #[error(
        "the log in `{path}` is gone, though this node wrote one: acknowledged data is lost; \
         restore it, or start with an empty data directory under a new node id"
    )]
    LogLost {
        /// Where it was.
        path: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NodeFile {
    format: u32,
    cluster: String,
    node: u64,
    store_id: String,
    #[serde(default)]
    modes: BTreeMap<String, ModeFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ModeFile {
    cluster_id: String,
    /// Whether the log was made: from then on a missing one is a loss.
    has_log: bool,
    /// Strong mode: how the node came, if it is no founder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<OriginFile>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Who a node is, as configured.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) node: NodeId,
    pub(crate) modes: &'a [(Mode, ClusterId)],
    /// How the node came to its strong cluster, if it is no founder.
    pub(crate) origin: Option<&'a Origin>,
    /// The store id of a directory that is made now.
    pub(crate) new_store: StoreId,
}

/// An open data directory. The lock goes with it.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    node: NodeFile,
    store: StoreId,
    _lock: File,
}

impl DataDir {
    /// Takes the lock, and makes or checks `node.toml`.
    pub(crate) fn open(path: &Path, wanted: &Wanted<'_>) -> Result<Self, DataDirError> {
        std::fs::create_dir_all(path).map_err(|source| failed("make", path, source))?;
        let lock = take_lock(path)?;
        let file = path.join(NODE_FILE);
        let remembered = read_node(&file)?;
        let mut node = match &remembered {
            Some(node) => {
                check(node, wanted)?;
                node.clone()
            }
            None if wanted
                .modes
                .iter()
                .any(|(mode, _)| has_files(&path.join(mode.as_str()))) =>
            {
                let why = "it is missing, but there is a log: restore it, or move the log away";
                return Err(damaged(&file, why.to_owned()));
            }
            None => NodeFile {
                format: FORMAT,
                cluster: wanted.cluster.to_owned(),
                node: wanted.node.as_u64(),
                store_id: hex(wanted.new_store.as_u64()),
                modes: BTreeMap::new(),
            },
        };
        for (mode, cluster) in wanted.modes {
            node.modes
                .entry(mode.to_string())
                .or_insert_with(|| ModeFile {
                    cluster_id: hex(cluster.as_u64()),
                    has_log: false,
                    origin: match mode {
                        Mode::Strong => wanted.origin.map(OriginFile::new),
                        Mode::Eventual => None,
                    },
                });
        }
        let store = parse_hex(&node.store_id).map(StoreId::new).ok_or_else(|| {
            damaged(
                &file,
                format!("store-id {:?} is no hexadecimal number", node.store_id),
            )
        })?;
        let opened = Self {
            path: path.to_owned(),
            node,
            store,
            _lock: lock,
        };
        if remembered.as_ref() != Some(&opened.node) {
            opened.write_node()?;
        }
        opened.check_logs(wanted)?;
        Ok(opened)
    }

    /// Whether there is a directory that was in use. Reads nothing of it.
    pub(crate) fn is_made(path: &Path) -> bool {
        path.join(NODE_FILE).exists()
    }

    /// How the node of this directory came to its strong cluster; `None` for a founder, and for a new directory. Takes no
    /// lock: what it says doesn't change once it is written.
    pub(crate) fn origin(path: &Path) -> Result<Option<Origin>, DataDirError> {
        let file = path.join(NODE_FILE);
        let Some(node) = read_node(&file)? else {
            return Ok(None);
        };
        let Some(mode) = node.modes.get(Mode::Strong.as_str()) else {
            return Ok(None);
        };
        let Some(origin) = &mode.origin else {
            return Ok(None);
        };
        let cluster = parse_hex(&mode.cluster_id).map(ClusterId::new);
        let read = cluster
            .ok_or_else(|| format!("cluster-id {:?} is no hexadecimal number", mode.cluster_id))
            .and_then(|cluster| origin.read(cluster));
        read.map(Some).map_err(|why| damaged(&file, why))
    }

    /// The directory of a mode's log.
    pub(crate) fn log_dir(&self, mode: Mode) -> PathBuf {
        self.path.join(mode.as_str())
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    /// Remembers that the logs of these modes are there now.
    pub(crate) fn remember_logs(&mut self, modes: &[Mode]) -> Result<(), DataDirError> {
        let before = self.node.clone();
        for mode in modes {
            if let Some(file) = self.node.modes.get_mut(mode.as_str()) {
                file.has_log = true;
            }
        }
        if self.node == before {
            return Ok(());
        }
        self.write_node()
    }

    /// The stores of the peers met so far.
    pub(crate) fn peer_stores(&self) -> Result<PeerStores, DataDirError> {
        PeerStores::open(&self.path)
    }

    fn check_logs(&self, wanted: &Wanted<'_>) -> Result<(), DataDirError> {
        for (mode, _) in wanted.modes {
            let had_log = self
                .node
                .modes
                .get(mode.as_str())
                .is_some_and(|file| file.has_log);
            let dir = self.log_dir(*mode);
            if had_log && !has_files(&dir) {
                return Err(DataDirError::LogLost {
                    path: dir.display().to_string(),
                });
            }
        }
        Ok(())
    }

    fn write_node(&self) -> Result<(), DataDirError> {
        replace(&self.path, NODE_FILE, &self.node)
    }
}

fn has_files(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn take_lock(path: &Path) -> Result<File, DataDirError> {
    let name = path.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|source| failed("open", &name, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Err(DataDirError::Locked {
            path: path.display().to_string(),
        }),
        Err(error) => Err(failed("lock", &name, error.into())),
    }
}

fn read_node(file: &Path) -> Result<Option<NodeFile>, DataDirError> {
    let Some(text) = read(file)? else {
        return Ok(None);
    };
    let FormatOnly { format } =
        toml::from_str(&text).map_err(|error| damaged(file, error.to_string()))?;
    if format != FORMAT {
        return Err(DataDirError::Format {
            path: file.display().to_string(),
            found: format,
        });
    }
    let node: NodeFile = toml::from_str(&text).map_err(|error| damaged(file, error.to_string()))?;
    Ok(Some(node))
}

fn check(node: &NodeFile, wanted: &Wanted<'_>) -> Result<(), DataDirError> {
    let contradiction = |what, remembered: String, configured: String, remedy| {
        Err(DataDirError::Contradiction {
            what,
            remembered,
            configured,
            remedy,
        })
    };
    if node.cluster != wanted.cluster {
        return contradiction(
            "cluster",
            format!("{:?}", node.cluster),
            format!("{:?}", wanted.cluster),
            "name the directory's cluster, or another --data-dir",
        );
    }
    if node.node != wanted.node.as_u64() {
        return contradiction(
            "node",
            node.node.to_string(),
            wanted.node.to_string(),
            "start it under its own --node-id, or name another --data-dir",
        );
    }
    for (mode, cluster) in wanted.modes {
        let configured = hex(cluster.as_u64());
        match node.modes.get(mode.as_str()) {
            Some(remembered) if remembered.cluster_id != configured => {
                return contradiction(
                    "cluster id",
                    format!("{} ({mode})", remembered.cluster_id),
                    format!("{configured} ({mode})"),
                    "the id comes from the cluster's name and its founders: give the same --initial-members as at the \
                     first start, or name another --data-dir",
                );
            }
            Some(_) | None => {}
        }
    }
    let left_out = node
        .modes
        .keys()
        .find(|name| wanted.modes.iter().all(|(mode, _)| mode.as_str() != *name));
    if left_out.is_some() {
        let remembered: Vec<_> = node.modes.keys().cloned().collect();
        let configured: Vec<_> = wanted
            .modes
            .iter()
            .map(|(mode, _)| mode.to_string())
            .collect();
        return contradiction(
            "mode",
            remembered.join(","),
            configured.join(","),
            "a mode can be added, not left out: name them all, or another --data-dir",
        );
    }
    Ok(())
}

/// A store id that isn't the one remembered for its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} came with store {found:016x}, it is remembered with store {remembered:016x}: \
     it lost its disk or its id is used twice; give it a new node id"
)]
pub(crate) struct StoreConflict {
    pub(crate) node: NodeId,
    pub(crate) found: u64,
    pub(crate) remembered: u64,
}

/// Stores that are remembered: far more than nodes that a cluster ever had, so that strangers can't fill the disk.
const STORES_MAX: usize = 4_096;

/// The store id of each peer met, kept in `peers.toml`.
#[derive(Debug)]
pub(crate) struct PeerStores {
    path: PathBuf,
    known: Mutex<BTreeMap<NodeId, StoreId>>,
    /// Serialises writers of the file, who hold `known` only for a moment.
    writing: Mutex<()>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PeersFile {
    format: u32,
    #[serde(default)]
    stores: BTreeMap<String, String>,
}

impl PeerStores {
    fn open(path: &Path) -> Result<Self, DataDirError> {
        let file = path.join(PEERS_FILE);
        let mut known = BTreeMap::new();
        if let Some(text) = read(&file)? {
            let peers: PeersFile =
                toml::from_str(&text).map_err(|error| damaged(&file, error.to_string()))?;
            if peers.format != FORMAT {
                return Err(DataDirError::Format {
                    path: file.display().to_string(),
                    found: peers.format,
                });
            }
            for (node, store) in peers.stores {
                let pair = node.parse::<NodeId>().ok().zip(parse_hex(&store));
                let (node, store) =
                    pair.ok_or_else(|| damaged(&file, format!("{node} = {store:?} is no store")))?;
                known.insert(node, StoreId::new(store));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            known: Mutex::new(known),
            writing: Mutex::new(()),
        })
    }

    /// Whether this store is the node's, after a handshake. The first one met is; `true` says that it is new and must be
    /// saved. When there are too many, a new one is taken but not remembered.
    pub(crate) fn meet(&self, node: NodeId, store: StoreId) -> Result<bool, StoreConflict> {
        let mut known = self.known.lock();
        let is_full = known.len() >= STORES_MAX;
        match known.entry(node) {
            Entry::Vacant(_) if is_full => Ok(false),
            Entry::Vacant(vacant) => {
                vacant.insert(store);
                Ok(true)
            }
            Entry::Occupied(remembered) => {
                same_store(node, store, *remembered.get()).map(|()| false)
            }
        }
    }

    /// Whether this store can be the node's. Learns nothing.
    pub(crate) fn check(&self, node: NodeId, store: StoreId) -> Result<(), StoreConflict> {
        match self.remembered(node) {
            Some(remembered) => same_store(node, store, remembered),
            None => Ok(()),
        }
    }

    /// The store that a node was first met with.
    pub(crate) fn remembered(&self, node: NodeId) -> Option<StoreId> {
        self.known.lock().get(&node).copied()
    }

    /// Writes the file. Blocks on the disk.
    pub(crate) fn save(&self) -> Result<(), DataDirError> {
        let _writing = self.writing.lock();
        let stores = self
            .known
            .lock()
            .iter()
            .map(|(node, store)| (node.to_string(), hex(store.as_u64())))
            .collect();
        replace(
            &self.path,
            PEERS_FILE,
            &PeersFile {
                format: FORMAT,
                stores,
            },
        )
    }
}

fn same_store(node: NodeId, found: StoreId, remembered: StoreId) -> Result<(), StoreConflict> {
    if found == remembered {
        return Ok(());
    }
    Err(StoreConflict {
        node,
        found: found.as_u64(),
        remembered: remembered.as_u64(),
    })
}

/// Writes a file aside, makes it durable, and puts it in the place of the old one.
fn replace(dir: &Path, name: &str, contents: &impl Serialize) -> Result<(), DataDirError> {
    let path = dir.join(name);
    let aside = dir.join(format!("{name}.new"));
    let text = toml::to_string(contents).map_err(|error| damaged(&path, error.to_string()))?;
    let write = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| failed("write", &path, source))
}

fn read(path: &Path) -> Result<Option<String>, DataDirError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io {
        operation,
        path: path.display().to_string(),
        source,
    }
}

fn damaged(path: &Path, why: String) -> DataDirError {
    DataDirError::Damaged {
        path: path.display().to_string(),
        why,
    }
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

fn parse_hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests;
