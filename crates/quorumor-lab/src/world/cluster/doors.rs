//! Where each node serves its clients now, and the connection that each client has there.
//!
//! Client connections are direct: no fault proxy is between a client and its node, unless the scenario asks for one ([`Fronts`]). A node that comes back after a
//! kill has another port, and its clients then connect anew. The clients of a node that was replaced go to the one that
//! took its place.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use quorumor_client::{Client, ClientError};

use super::ADMIN;
use super::fronts::Fronts;
use crate::history::{ClientId, NodeId};
use crate::places::Places;
use crate::scenario::Breaker;

/// In the place of a node: all of them.
const EVERYWHERE: NodeId = NodeId(0);

/// The endpoints of all nodes and the connections of all clients.
#[derive(Debug, Default)]
pub(super) struct Doors {
    endpoints: Mutex<BTreeMap<NodeId, String>>,
    clients: Mutex<BTreeMap<(ClientId, NodeId), (String, Client)>>,
    /// Who took whose place.
    places: Mutex<Places>,
    /// What stands between nodes and clients, where anything does.
    fronts: Option<Fronts>,
    /// Clients know every node; with or without their breaker.
    roaming: Option<Breaker>,
}

impl Doors {
    /// Doors behind these fronts; with `roaming` clients know all of them.
    pub(super) fn behind(fronts: Option<Fronts>, roaming: Option<Breaker>) -> Self {
        Self {
            fronts,
            roaming,
            ..Self::default()
        }
    }

    /// What stands between nodes and clients.
    pub(super) fn fronts(&self) -> Option<&Fronts> {
        self.fronts.as_ref()
    }

    /// Whether clients know every node.
    pub(super) fn is_roaming(&self) -> bool {
        self.roaming.is_some()
    }

    /// The node serves here from now on.
    pub(super) fn set(&self, node: NodeId, endpoint: String) {
        if let Some(fronts) = &self.fronts {
            fronts.up(node, &endpoint);
        }
        self.endpoints.lock().insert(node, endpoint);
    }

    /// The node is gone.
    pub(super) fn close(&self, node: NodeId) {
        if let Some(fronts) = &self.fronts {
            fronts.down(node);
        }
    }

    /// Where clients find the node.
    pub(super) fn client_endpoint(&self, node: NodeId) -> Option<String> {
        let front = self
            .fronts
            .as_ref()
            .and_then(|fronts| fronts.endpoint(node));
        front.or_else(|| self.endpoint(node))
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
        if let (Some(breaker), true) = (self.roaming, client != ADMIN) {
            return self.roaming(client, breaker);
        }
        let endpoint = match client {
            ADMIN => self.endpoint(node),
            ClientId(_) => self.client_endpoint(node),
        };
        let endpoint = endpoint.unwrap_or_default();
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

    /// The client's connections to all nodes, made at the first use.
    fn roaming(&self, client: ClientId, breaker: Breaker) -> Result<Client, ClientError> {
        let mut clients = self.clients.lock();
        if let Some((_, known)) = clients.get(&(client, EVERYWHERE)) {
            return Ok(known.clone());
        }
        let nodes: Vec<NodeId> = self.endpoints.lock().keys().copied().collect();
        let endpoints = nodes.iter().filter_map(|&node| self.client_endpoint(node));
        let builder = Client::builder()
            .endpoints(endpoints)
            .follow_hints(false)
            .session(false);
        let fresh = match breaker {
            Breaker::On => builder.connect()?,
            Breaker::Off => builder.without_breaker().connect()?,
        };
        clients.insert((client, EVERYWHERE), (String::new(), fresh.clone()));
        Ok(fresh)
    }
}
