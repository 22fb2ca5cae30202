//! The links between the nodes of a cluster of real processes, of either kind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::namespaces::Namespaces;
use super::{Mesh, Trouble};
use crate::history::{LinkCounters, NodeId};
use crate::scenario::Link;

/// What links are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// A userspace proxy on every directed link, over loopback.
    #[default]
    Proxies,
    /// The kernel's, between network namespaces; on Linux, as root.
    Namespaces,
}

/// All links between some nodes.
pub enum Links {
    /// See [`LinkKind::Proxies`].
    Proxies(Mesh),
    /// See [`LinkKind::Namespaces`].
    Namespaces(Namespaces),
}

impl Links {
    /// Makes the links; no node listens yet.
    ///
    /// # Errors
    /// When ports run out, or the system makes no namespaces.
    pub async fn spawn(kind: LinkKind, nodes: &[NodeId], seed: u64) -> Result<Self> {
        Ok(match kind {
            LinkKind::Proxies => {
                let mesh = Mesh::spawn(nodes, seed).await;
                Self::Proxies(mesh.context("no ports for the links")?)
            }
            LinkKind::Namespaces => Self::Namespaces(Namespaces::spawn(nodes).await?),
        })
    }

    /// All nodes that they connect.
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            Self::Proxies(mesh) => mesh.nodes(),
            Self::Namespaces(spaces) => spaces.nodes(),
        }
    }

    /// Where a node is to serve its clients, and to listen for its peers.
    pub fn listen(&self, node: NodeId) -> (String, String) {
        match self {
            Self::Proxies(_) => ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
            Self::Namespaces(spaces) => (
                spaces.client_address(node).to_string(),
                spaces.peer_address(node).to_string(),
            ),
        }
    }

    /// Where `from` must dial and send to reach each other node.
    pub fn overrides(&self, from: NodeId) -> Vec<(NodeId, SocketAddr)> {
        match self {
            Self::Proxies(mesh) => mesh.overrides(from),
            Self::Namespaces(spaces) => {
                let others = spaces.nodes().into_iter().filter(|&node| node != from);
                others
                    .map(|node| (node, spaces.peer_address(node)))
                    .collect()
            }
        }
    }

    /// The program, and what comes before its arguments, that runs a node's program where the node lives.
    pub fn inside(&self, node: NodeId, program: &Path) -> (PathBuf, Vec<String>) {
        match self {
            Self::Proxies(_) => (program.to_owned(), Vec::new()),
            Self::Namespaces(spaces) => spaces.inside(node, program),
        }
    }

    /// The node listens for its peers here, from now on.
    pub fn node_up(&self, node: NodeId, peer_address: SocketAddr) {
        match self {
            Self::Proxies(mesh) => mesh.node_up(node, peer_address),
            // Its own kernel answers for it.
            Self::Namespaces(_) => {}
        }
    }

    /// The node is gone: connecting to it is refused.
    pub fn node_down(&self, node: NodeId) {
        match self {
            Self::Proxies(mesh) => mesh.node_down(node),
            Self::Namespaces(_) => {}
        }
    }

    /// A fault of the schedule does this to these links from now on, beside what other faults do to them.
    ///
    /// # Errors
    /// When the system doesn't let it.
    pub async fn begin(&self, fault: u32, links: &[Link], trouble: Trouble) -> Result<()> {
        match self {
            Self::Proxies(mesh) => {
                mesh.begin(fault, links, trouble);
                Ok(())
            }
            Self::Namespaces(spaces) => spaces.begin(fault, links, trouble).await,
        }
    }

    /// A fault does nothing to any link any more; the others go on.
    ///
    /// # Errors
    /// When the system doesn't let it.
    pub async fn end(&self, fault: u32) -> Result<()> {
        match self {
            Self::Proxies(mesh) => {
                mesh.end(fault);
                Ok(())
            }
            Self::Namespaces(spaces) => spaces.end(fault).await,
        }
    }

    /// The counters of these links, as the history wants them.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn counters(&self, links: &[Link]) -> Result<Vec<LinkCounters>> {
        let spaces = match self {
            Self::Proxies(mesh) => return Ok(mesh.counters(links)),
            Self::Namespaces(spaces) => spaces,
        };
        let counts = spaces.counts(links).await?;
        let counters = counts.into_iter().map(|((from, to), counts)| LinkCounters {
            from,
            to,
            bytes: counts.bytes,
            messages: counts.messages,
            drops: counts.drops,
            held: counts.held,
        });
        Ok(counters.collect())
    }

    /// How often faults did something to what passed these links.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn hits(&self, links: &[Link]) -> Result<u64> {
        match self {
            Self::Proxies(mesh) => Ok(mesh.hits(links)),
            Self::Namespaces(spaces) => {
                let counts = spaces.counts(links).await?;
                Ok(counts.values().map(super::LinkCounts::hits).sum())
            }
        }
    }
}
