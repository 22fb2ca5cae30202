//! The cluster key: a file of keys that all nodes share, which encrypts and authenticates whatever passes between them. Datagrams
//! are sealed one by one (`ring.rs`); a stream begins with both sides proving a common key (`handshake.rs`) and is sealed record by
//! record (`stream.rs`), unless TLS does that. Whoever has the key is taken for a node; it doesn't tell nodes apart, as
//! certificates do, and who gets hold of it can read what was recorded before.
//!
//! The first key of the file seals, each opens: so a new one is added as second on every node, then made the first, and then the old
//! one goes. The file is read again while the node runs. A stream under a key that went is ended by the side that accepted it, and
//! dialled anew.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::lately::Lately;
use crate::metrics;

mod handshake;
mod ring;
mod stream;

pub(crate) use handshake::{KeyFailure, accept, begins_keyed, dial, refuse};
pub(crate) use ring::{Key, KeyRing, SEAL_BYTES};
pub(crate) use stream::{SealedRead, SealedStream, SealedWrite};

/// Why a file is no cluster key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster key `{path}` {why}")]
pub struct ClusterKeyError {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// A node's cluster key as it is now.
pub(crate) struct ClusterKey {
    path: PathBuf,
    live: RwLock<(Vec<u8>, Arc<KeyRing>)>,
    /// Told at each change.
    changed: watch::Sender<()>,
}

impl std::fmt::Debug for ClusterKey {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterKey")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ClusterKey {
    /// Reads the file.
    ///
    /// # Errors
    /// If it can't be read, or holds no keys.
    pub(crate) fn load(path: PathBuf) -> Result<Self, ClusterKeyError> {
        let text = read(&path)?;
        let ring = parse(&path, &text)?;
        Ok(Self {
            path,
            live: RwLock::new((text, ring)),
            changed: watch::Sender::new(()),
        })
    }

    /// Reads the file again; `true` if it holds something new, which is used from now on.
    ///
    /// # Errors
    /// If it is no good; then the older keys stay in use.
    pub(crate) fn reload(&self) -> Result<bool, ClusterKeyError> {
        let text = read(&self.path)?;
        if text == self.live.read().0 {
            return Ok(false);
        }
        let ring = parse(&self.path, &text)?;
        *self.live.write() = (text, ring);
        self.changed.send_replace(());
        Ok(true)
    }

    /// Resolves once this key isn't among them any more.
    pub(crate) async fn gone(&self, key: &Key) {
        let mut changed = self.changed.subscribe();
        while self.ring().keys().contains(key) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The keys.
    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.live.read().1)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClusterKeyError> {
    std::fs::read(path).map_err(|error| ClusterKeyError {
        path: path.display().to_string(),
        why: format!("can't be read: {error}"),
    })
}

fn parse(path: &Path, text: &[u8]) -> Result<Arc<KeyRing>, ClusterKeyError> {
    let ring = KeyRing::parse(text, rand::random());
    ring.map(Arc::new).map_err(|why| ClusterKeyError {
        path: path.display().to_string(),
        why,
    })
}

/// Tells of datagrams that were refused for their key: each sender and reason now and then.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    lately: Lately<(IpAddr, &'static str)>,
}

impl Refused {
    /// Counts a datagram that was refused, and logs it if that is news.
    pub(crate) fn tell(&self, from: IpAddr, reason: &'static str, why: &str) {
        metrics::envelope_refused("datagram", reason);
        if self.lately.is_news((from, reason)) {
            tracing::warn!(%from, reason, why, "refused a peer's datagrams");
        }
    }
}
