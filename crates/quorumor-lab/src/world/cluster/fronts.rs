//! What stands between nodes and the clients of the workload, where a scenario asks for it: a proxy in front of each node's door.
//!
//! It keeps a node's address the same for all of its lives, so that clients can know every node, and it can be cut while the peers of
//! the node notice nothing. Not on the lab's own way to a node, nor on the flood's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::history::NodeId;
use crate::network::{LinkFaults, Proxy, Trouble};

/// Beyond every link between nodes, whose numbers draw from the same seed.
const STREAM: u64 = 1 << 40;
/// Nobody is there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// The proxies in front of all nodes.
pub(super) struct Fronts(BTreeMap<NodeId, Front>);

struct Front {
    proxy: Proxy,
    inwards: Arc<LinkFaults>,
    outwards: Arc<LinkFaults>,
}

impl Fronts {
    /// Puts one in front of each node; the nodes aren't there yet.
    pub(super) async fn spawn(nodes: &[NodeId], seed: u64) -> Result<Self> {
        let mut fronts = BTreeMap::new();
        for &node in nodes {
            let stream = |way| Arc::new(LinkFaults::new(seed, STREAM + 2 * node.0 + way));
            let (inwards, outwards) = (stream(0), stream(1));
            let proxy = Proxy::spawn(NOWHERE, Arc::clone(&inwards), Arc::clone(&outwards)).await;
            let proxy = proxy.context("no proxy can stand in front of a node")?;
            proxy.set_dead(true);
            let front = Front {
                proxy,
                inwards,
                outwards,
            };
            fronts.insert(node, front);
        }
        Ok(Self(fronts))
    }

    /// Where clients reach the node.
    pub(super) fn endpoint(&self, node: NodeId) -> Option<String> {
        let front = self.0.get(&node)?;
        Some(front.proxy.address().to_string())
    }

    /// The node serves here from now on.
    pub(super) fn up(&self, node: NodeId, endpoint: &str) {
        if let (Some(front), Ok(address)) = (self.0.get(&node), endpoint.parse()) {
            front.proxy.retarget(address);
            front.proxy.set_dead(false);
        }
    }

    /// The node is gone: connecting to it is refused.
    pub(super) fn down(&self, node: NodeId) {
        if let Some(front) = self.0.get(&node) {
            front.proxy.set_dead(true);
        }
    }

    /// From now on nothing passes between these nodes and their clients, for this fault.
    pub(super) fn cut(&self, fault: u32, nodes: &[NodeId]) {
        for front in self.of(nodes) {
            front.inwards.begin(fault, Trouble::CUT);
            front.outwards.begin(fault, Trouble::CUT);
        }
    }

    /// This fault cuts them no more.
    pub(super) fn end(&self, fault: u32, nodes: &[NodeId]) {
        for front in self.of(nodes) {
            front.inwards.end(fault);
            front.outwards.end(fault);
        }
    }

    /// How often something was held back so far.
    pub(super) fn held(&self, nodes: &[NodeId]) -> u64 {
        let held = |front: &Front| front.inwards.counts().held + front.outwards.counts().held;
        self.of(nodes).map(held).sum()
    }

    fn of<'a>(&'a self, nodes: &'a [NodeId]) -> impl Iterator<Item = &'a Front> {
        nodes.iter().filter_map(|node| self.0.get(node))
    }
}

impl std::fmt::Debug for Fronts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
