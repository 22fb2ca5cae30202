//! The peer transport of both modes: who is where, streams that this node dials, streams that it accepted, datagrams.
//!
//! A node dials one stream a peer, class and mode and only writes to it; the peer's own stream brings the answers. Modes
//! share no stream, so that a busy one holds up only itself. What can't be
//! sent is dropped and told, never queued without limit. What came from a stranger, another cluster or another store is
//! refused and counted here, so a replica sees only its own cluster. It knows nothing of what the bytes mean.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_core::{ClusterId, Contact, Destination, Input, Mode, NodeId, StoreId, StreamClass};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::data_dir::{PeerStores, StoreConflict};
use crate::driver::Inbox;
use crate::envelope::Frame;
use crate::key::{ClusterKey, Refused};
use crate::lately::Lately;
use crate::metrics;
use crate::standing::Standing;
use crate::tls::Tls;

mod accept;
mod book;
mod handshake;
mod lane;
mod udp;

pub(crate) use book::Book;
use lane::Lane;

/// How often a node that isn't who it was is told so.
const CONFLICT_TOLD_EVERY: Duration = Duration::from_secs(2);

/// Who this node is, to its peers.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_name: String,
    pub(crate) node: NodeId,
    pub(crate) store: StoreId,
    pub(crate) modes: Vec<(Mode, ClusterId)>,
    /// The peer protocols that it speaks.
    pub(crate) protocol: RangeInclusive<u32>,
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
    pub(crate) guards: Guards,
}

/// What keeps strangers out and what passes between nodes secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guards {
    /// What streams are encrypted with, if there are certificates. Datagrams aren't.
    pub(crate) tls: Option<Arc<Tls>>,
    /// What datagrams are sealed with, and streams where there are no certificates.
    pub(crate) key: Option<Arc<ClusterKey>>,
}

impl Sockets {
    /// Tries at port 0: the number that TCP got may be taken for UDP.
    const TRIES: usize = 32;

    pub(crate) async fn bind(address: SocketAddr, guards: Guards) -> std::io::Result<Self> {
        let mut tries = 0;
        loop {
            let tcp = TcpListener::bind(address).await?;
            match UdpSocket::bind(tcp.local_addr()?).await {
                Ok(udp) => return Ok(Self { tcp, udp, guards }),
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
    lanes: Mutex<BTreeMap<(NodeId, StreamClass, Mode), Lane>>,
    /// Nodes that came with another store than before, and when each was told so: each is logged once.
    conflicts: Mutex<BTreeMap<NodeId, Option<Instant>>>,
    standing: Arc<Standing>,
    accepted: accept::Accepted,
    udp: UdpSocket,
    guards: Guards,
    refused: Refused,
    /// Whose streams were refused for their key, and why.
    key_told: Lately<(IpAddr, &'static str)>,
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
            conflicts: Mutex::new(BTreeMap::new()),
            standing: Arc::new(Standing::default()),
            accepted: accept::Accepted::default(),
            udp: sockets.udp,
            guards: sockets.guards,
            refused: Refused::default(),
            key_told: Lately::default(),
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

    /// Whether other nodes take this one for who it was.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.shared.standing)
    }

    /// Dials strong mode's control lanes of these nodes and keeps them.
    pub(crate) fn keep_connected(&self, members: impl IntoIterator<Item = NodeId>) {
        let mut lanes = self.shared.lanes.lock();
        for peer in members {
            if peer != self.shared.me.node {
                let line = (peer, StreamClass::Control, Mode::Strong);
                lanes.insert(line, lane::spawn(self.clone(), line, lane::Life::Kept));
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
            .entry((to, class, mode))
            .or_insert_with(|| lane::spawn(self.clone(), (to, class, mode), lane::Life::OnUse))
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

    /// Tells a mode what was noticed about a peer.
    async fn contact(&self, mode: Mode, peer: NodeId, contact: Contact) {
        if let Some(inbox) = self.shared.inboxes.get(&mode) {
            // A driver that is gone needs no news.
            let _ = inbox.control.send(Input::Contact { peer, contact }).await;
        }
    }

    /// An accepted stream broke: whoever was at its other end may be gone, and dialling tells.
    fn verify(&self, peer: NodeId) {
        let line = (peer, StreamClass::Control, Mode::Strong);
        if let Some(lane) = self.shared.lanes.lock().get(&line) {
            lane.dial_now();
        }
    }

    /// A datagram came from a node that isn't who it was. It may never dial this one, so it's dialled and told, now and then.
    fn tell_conflict(&self, mode: Mode, peer: NodeId) {
        let now = Instant::now();
        {
            let mut conflicts = self.shared.conflicts.lock();
            let told = conflicts.entry(peer).or_default();
            if told.is_some_and(|told| now - told < CONFLICT_TOLD_EVERY) {
                return;
            }
            *told = Some(now);
        }
        let (peers, stop) = (self.clone(), self.shared.stop.clone());
        self.shared.tasks.spawn(async move {
            let line = (peer, StreamClass::Control, mode);
            // It's refused, which is all that is to be said.
            let _ = stop.run_until_cancelled(lane::connect(&peers, line)).await;
        });
    }
}

impl Shared {
    /// Whether this store is the one that the node always had, after a handshake. A first meeting is remembered.
    fn meet(&self, node: NodeId, store: StoreId) -> Result<(), StoreConflict> {
        let met = self.stores.meet(node, store);
        self.note(&met);
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

    /// The same without a handshake: a datagram proves nothing, so nothing is learned from it.
    fn check(&self, node: NodeId, store: StoreId) -> Result<(), StoreConflict> {
        let checked = self.stores.check(node, store);
        self.note(&checked);
        checked
    }

    fn note<T>(&self, met: &Result<T, StoreConflict>) {
        if let Err(conflict) = met
            && let Entry::Vacant(vacant) = self.conflicts.lock().entry(conflict.node)
        {
            vacant.insert(None);
            tracing::warn!(%conflict, "refused a peer");
        }
    }
}

#[cfg(test)]
mod tests;
