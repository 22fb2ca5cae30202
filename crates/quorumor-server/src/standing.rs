//! Whether the peers take this node for who it was. Peers remember each node's data directory; one that comes back with
//! another has lost what it acknowledged, or its id is used twice. `peers/` finds out, `handle.rs` refuses requests.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use quorumor_core::{NodeId, StoreId};

/// The peers that refuse this node's data directory.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Whether any peer does: asked at each request.
    is_refused: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    refused_by: BTreeSet<NodeId>,
    told: bool,
}

impl Standing {
    /// A peer refuses this node, `me`, for its store.
    pub(crate) fn refused(&self, by: NodeId, me: NodeId, store: StoreId) {
        let mut state = self.state.lock();
        state.refused_by.insert(by);
        self.is_refused.store(true, Ordering::Release);
        if !std::mem::replace(&mut state.told, true) {
            tracing::error!(
                node = %me,
                store = format!("{:016x}", store.as_u64()),
                refused_by = %by,
                "peers remember this node with another store: it lost its disk, or its id is used twice; nothing that is \
                 written here would spread, so requests are refused; stop it; in strong mode remove its id at another node \
                 (`quorumor member remove {me}`) and add a new one (`quorumor member add`); start it with an empty data \
                 directory under the new node id"
            );
        }
    }

    /// A peer takes this node as it is.
    pub(crate) fn accepted(&self, by: NodeId) {
        let mut state = self.state.lock();
        state.refused_by.remove(&by);
        let is_refused = !state.refused_by.is_empty();
        self.is_refused.store(is_refused, Ordering::Release);
    }

    /// Why requests are refused, if any peer refuses this node.
    pub(crate) fn damage(&self) -> Option<String> {
        if !self.is_refused.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state.lock();
        let by = state.refused_by.first()?;
        Some(format!(
            "node {by} remembers this node with another store: it lost its disk, or its id is used twice; stop it, in \
             strong mode remove its id (`quorumor member remove`) and add a new one (`quorumor member add`), and start it \
             with an empty data directory under the new node id"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_refused_until_the_last_peer_that_refused_it_takes_it() {
        let node = |id: u64| NodeId::try_from(id).unwrap();
        let standing = Standing::default();
        assert_eq!(standing.damage(), None);
        for peer in [1, 2] {
            standing.refused(node(peer), node(3), StoreId::new(30));
        }
        standing.accepted(node(1));
        assert!(standing.damage().unwrap().contains("node 2"));
        standing.accepted(node(2));
        assert_eq!(standing.damage(), None);
    }
}
