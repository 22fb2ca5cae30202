//! A proxy for every directed link of a cluster, and the faults that concern groups of nodes.
//!
//! Not a cluster: it starts no node. A world starts the mesh first, gives every node its overrides, and tells the
//! mesh where each node listens once it is up.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::{LinkFaults, Proxy, Trouble};
use crate::history::{LinkCounters, NodeId};
use crate::scenario::Link;

/// All links between some nodes.
pub struct Mesh {
    faults: BTreeMap<(NodeId, NodeId), Arc<LinkFaults>>,
    proxies: BTreeMap<(NodeId, NodeId), Proxy>,
}

impl Mesh {
    /// Starts a proxy for each directed link; every target is dead until [`Mesh::node_up`].
    ///
    /// # Errors
    /// When ports run out.
    pub async fn spawn(nodes: &[NodeId], seed: u64) -> io::Result<Self> {
        let pairs = || {
            nodes
                .iter()
                .flat_map(|&i| nodes.iter().filter(move |&&j| j != i).map(move |&j| (i, j)))
        };
        let fault = |pair: (NodeId, NodeId)| {
            let id = pair.0.0.wrapping_mul(1 << 32).wrapping_add(pair.1.0);
            (pair, Arc::new(LinkFaults::new(seed, id)))
        };
        let faults: BTreeMap<_, _> = pairs().map(fault).collect();
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut proxies = BTreeMap::new();
        for (i, j) in pairs() {
            let (Some(forward), Some(back)) = (faults.get(&(i, j)), faults.get(&(j, i))) else {
                continue;
            };
            let proxy = Proxy::spawn(nowhere, Arc::clone(forward), Arc::clone(back)).await?;
            proxy.set_dead(true);
            proxies.insert((i, j), proxy);
        }
        Ok(Self { faults, proxies })
    }

    /// All nodes that it connects.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.faults.keys().map(|&(from, _)| from).collect();
        nodes.dedup();
        nodes
    }

    /// Where `from` must dial and send to reach each other node.
    pub fn overrides(&self, from: NodeId) -> Vec<(NodeId, SocketAddr)> {
        let own = self.proxies.iter().filter(|((i, _), _)| *i == from);
        own.map(|((_, j), proxy)| (*j, proxy.address())).collect()
    }

    /// The node listens for its peers here, from now on.
    pub fn node_up(&self, node: NodeId, peer_address: SocketAddr) {
        for proxy in self.towards(node) {
            proxy.retarget(peer_address);
            proxy.set_dead(false);
        }
    }

    /// The node is gone: connecting to it is refused.
    pub fn node_down(&self, node: NodeId) {
        for proxy in self.towards(node) {
            proxy.set_dead(true);
        }
    }

    /// A fault of the schedule does this to these links from now on, beside what other faults do to them.
    pub fn begin(&self, fault: u32, links: &[Link], trouble: Trouble) {
        for faults in self.among(links) {
            faults.begin(fault, trouble);
        }
    }

    /// A fault does nothing to any link any more; the others go on.
    pub fn end(&self, fault: u32) {
        for faults in self.faults.values() {
            faults.end(fault);
        }
    }

    /// The faults of one directed link.
    pub fn link(&self, from: NodeId, to: NodeId) -> Option<&Arc<LinkFaults>> {
        self.faults.get(&(from, to))
    }

    /// The counters of these links, as the history wants them.
    pub fn counters(&self, links: &[Link]) -> Vec<LinkCounters> {
        let found = links
            .iter()
            .filter_map(|link| Some((link, self.faults.get(link)?)));
        let counters = found.map(|(&(from, to), faults)| {
            let counts = faults.counts();
            LinkCounters {
                from,
                to,
                bytes: counts.bytes,
                messages: counts.messages,
                drops: counts.drops,
                held: counts.held,
            }
        });
        counters.collect()
    }

    /// How often faults did something to what passed these links.
    pub fn hits(&self, links: &[Link]) -> u64 {
        self.among(links).map(|faults| faults.counts().hits()).sum()
    }

    /// Bytes that all links have passed on.
    pub fn bytes(&self) -> u64 {
        self.faults
            .values()
            .map(|faults| faults.counts().bytes)
            .sum()
    }

    /// Stops every proxy and returns once nothing is left running.
    pub async fn shutdown(self) {
        for proxy in self.proxies.into_values() {
            proxy.shutdown().await;
        }
    }

    fn towards(&self, node: NodeId) -> impl Iterator<Item = &Proxy> {
        self.proxies
            .iter()
            .filter(move |((_, j), _)| *j == node)
            .map(|(_, proxy)| proxy)
    }

    fn among<'a>(&'a self, links: &'a [Link]) -> impl Iterator<Item = &'a Arc<LinkFaults>> {
        links.iter().filter_map(|link| self.faults.get(link))
    }
}
