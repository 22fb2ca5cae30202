//! The peer transport of both modes: who is where, streams that this node dials, streams that it accepted, datagrams.
//!
//! A node dials one stream a peer and class and only writes to it; the peer's own stream brings the answers. What can't be
//! sent is dropped and told, never queued without limit. What came from a stranger, another cluster or another store is
//! refused and counted here, so a replica sees only its own cluster. It knows nothing of what the bytes mean.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_core::{ClusterId, Contact, Destination, Input, Mode, NodeId, StoreId, StreamClass};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::data_dir::{PeerStores, StoreConflict};
use crate::driver::Inbox;
use crate::envelope::Frame;
use crate::metrics;

mod accept;
mod book;
mod handshake;
mod lane;
mod udp;

pub(crate) use book::Book;
use lane::Lane;

/// Who this node is, to its peers.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_name: String,
    pub(crate) node: NodeId,
    pub(crate) store: StoreId,
    pub(crate) modes: Vec<(Mode, ClusterId)>,
}

impl Identity {
    fn cluster(&self, mode: Mode) -> Option<ClusterId> {
        self.modes
            .iter()
            .find(|(served, _)| *served == mode)
            .map(|(_, cluster)| *cluster)
    }
}

/// The sockets, bound to one port.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tcp: TcpListener,
    pub(crate) udp: UdpSocket,
}

impl Sockets {
    /// Tries at port 0: the number that TCP got may be taken for UDP.
    const TRIES: usize = 32;

    pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let mut tries = 0;
        loop {
            let tcp = TcpListener::bind(address).await?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => return Ok(Self { tcp, udp }),
                Err(error) if address.port() == 0 && tries < Self::TRIES => {
                    tracing::debug!(%error, "the port is free for TCP only, trying another");
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The transport. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: Identity,
    book: Book,
    stores: Arc<PeerStores>,
    inboxes: BTreeMap<Mode, Inbox>,
    lanes: Mutex<BTreeMap<(NodeId, StreamClass), Lane>>,
    /// Nodes that came with another store than before: each is logged once.
    conflicts: Mutex<BTreeSet<NodeId>>,
    accepted: accept::Accepted,
    udp: UdpSocket,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Peers {
    /// Starts receiving. `members` are dialled now and for as long as the node lives: strong mode's, on whose broken
    /// connections elections wait.
    pub(crate) fn spawn(
        me: Identity,
        sockets: Sockets,
        book: Book,
        stores: PeerStores,
        inboxes: BTreeMap<Mode, Inbox>,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            me,
            book,
            stores: Arc::new(stores),
            inboxes,
            lanes: Mutex::new(BTreeMap::new()),
            conflicts: Mutex::new(BTreeSet::new()),
            accepted: accept::Accepted::default(),
            udp: sockets.udp,
            tasks: TaskTracker::new(),
            stop,
        });
        let peers = Self { shared };
        peers
            .shared
            .tasks
            .spawn(accept::run(peers.clone(), sockets.tcp));
        peers.shared.tasks.spawn(udp::run(peers.clone()));
        peers
    }

    /// Dials these nodes' control lanes and keeps them.
    pub(crate) fn keep_connected(&self, members: impl IntoIterator<Item = NodeId>) {
        let mut lanes = self.shared.lanes.lock();
        for peer in members {
            if peer != self.shared.me.node {
                let class = StreamClass::Control;
                let lane = lane::spawn(self.clone(), peer, class, lane::Life::Kept);
                lanes.insert((peer, class), lane);
            }
        }
    }

    /// Sends a datagram, or loses it.
    pub(crate) fn datagram(&self, mode: Mode, to: Destination, payload: Bytes) {
        udp::send(&self.shared, mode, to, payload);
    }

    /// Puts a message in line for a peer; `false` says that it was dropped.
    pub(crate) fn stream(
        &self,
        mode: Mode,
        to: NodeId,
        class: StreamClass,
        payload: Bytes,
    ) -> bool {
        if to == self.shared.me.node || self.shared.book.address(to).is_none() {
            metrics::peer_drop(class.into(), "no_address");
            return false;
        }
        let frame = Frame {
            mode,
            class,
            payload,
        };
        self.shared
            .lanes
            .lock()
            .entry((to, class))
            .or_insert_with(|| lane::spawn(self.clone(), to, class, lane::Life::OnUse))
            .send(frame)
    }

    /// Where a peer is from now on, unless overridden.
    pub(crate) fn learn(&self, peer: NodeId, address: SocketAddr) {
        self.shared.book.learn(peer, address);
    }

    /// Waits until every task has ended, after `stop`.
    pub(crate) async fn stopped(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Tells the modes what was noticed about a peer.
    async fn contact(&self, peer: NodeId, contact: Contact) {
        for inbox in self.shared.inboxes.values() {
            // A driver that is gone needs no news.
            let _ = inbox.control.send(Input::Contact { peer, contact }).await;
        }
    }

    /// An accepted stream broke: whoever was at its other end may be gone, and dialling tells.
    fn verify(&self, peer: NodeId) {
        if let Some(lane) = self.shared.lanes.lock().get(&(peer, StreamClass::Control)) {
            lane.dial_now();
        }
    }
}

impl Shared {
    /// Whether this store is the one that the node always had. A first meeting is remembered.
    fn meet(&self, node: NodeId, store: StoreId) -> Result<(), StoreConflict> {
        let met = self.stores.meet(node, store);
        if let Err(conflict) = &met
            && self.conflicts.lock().insert(node)
        {
            tracing::warn!(%conflict, "refused a peer");
        }
        if met? {
            let stores = Arc::clone(&self.stores);
            self.tasks.spawn_blocking(move || {
                if let Err(error) = stores.save() {
                    tracing::warn!(%error, "a peer's store couldn't be remembered on disk");
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
