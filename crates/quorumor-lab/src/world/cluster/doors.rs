//! Where each node serves its clients now, and the connection that each client has there.
//!
//! Client connections are direct: no fault proxy is between a client and its node. A node that comes back after a
//! kill has another port, and its clients then connect anew. The clients of a node that was replaced go to the one that
//! took its place.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use quorumor_client::{Client, ClientError};

use crate::history::{ClientId, NodeId};
use crate::places::Places;

/// The endpoints of all nodes and the connections of all clients.
#[derive(Debug, Default)]
pub(super) struct Doors {
    endpoints: Mutex<BTreeMap<NodeId, String>>,
    clients: Mutex<BTreeMap<(ClientId, NodeId), (String, Client)>>,
    /// Who took whose place.
    places: Mutex<Places>,
}

impl Doors {
    /// The node serves here from now on.
    pub(super) fn set(&self, node: NodeId, endpoint: String) {
        self.endpoints.lock().insert(node, endpoint);
    }

    /// Where the node served last.
    pub(super) fn endpoint(&self, node: NodeId) -> Option<String> {
        self.endpoints.lock().get(&node).cloned()
    }

    /// From now on the clients of `old` go to `new`.
    pub(super) fn replace(&self, old: NodeId, new: NodeId) {
        self.places.lock().replace(old, new);
    }

    /// Who serves the clients of this node now: itself, or whoever took its place.
    pub(super) fn stand_in(&self, node: NodeId) -> NodeId {
        self.places.lock().stand_in(node)
    }

    /// Whose place a node took in the end; itself if nobody's.
    pub(super) fn place_of(&self, node: NodeId) -> NodeId {
        self.places.lock().place_of(node)
    }

    /// The client's own connection to the node, made at the first use and whenever the node has moved.
    pub(super) fn client(&self, client: ClientId, node: NodeId) -> Result<Client, ClientError> {
        let endpoint = self.endpoint(node).unwrap_or_default();
        let mut clients = self.clients.lock();
        if let Some((at, known)) = clients.get(&(client, node))
            && *at == endpoint
        {
            return Ok(known.clone());
        }
        let fresh = Client::pinned(endpoint.clone())?;
        clients.insert((client, node), (endpoint, fresh.clone()));
        Ok(fresh)
    }
}
