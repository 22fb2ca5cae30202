//! Where each peer is: an override stands over what the cluster told, which stands over what was configured. Asked at every
//! dial and every send, since a peer may move. Source addresses of what arrives teach nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::RwLock;
use quorumor_core::NodeId;

/// The addresses.
#[derive(Debug)]
pub(crate) struct Book {
    overrides: BTreeMap<NodeId, SocketAddr>,
    known: RwLock<BTreeMap<NodeId, SocketAddr>>,
}

impl Book {
    pub(crate) fn new(
        overrides: BTreeMap<NodeId, SocketAddr>,
        configured: BTreeMap<NodeId, SocketAddr>,
    ) -> Self {
        Self {
            overrides,
            known: RwLock::new(configured),
        }
    }

    pub(crate) fn address(&self, peer: NodeId) -> Option<SocketAddr> {
        if let Some(address) = self.overrides.get(&peer) {
            return Some(*address);
        }
        self.known.read().get(&peer).copied()
    }

    pub(crate) fn learn(&self, peer: NodeId, address: SocketAddr) {
        if self.known.read().get(&peer) != Some(&address) {
            self.known.write().insert(peer, address);
        }
    }
}
