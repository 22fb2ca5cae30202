//! One directed link on one port number: the listener and the socket, and what they are told at run time.
//!
//! Not the faults themselves ([`super::LinkFaults`]). Started by [`super::Mesh`] or by a test.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::LinkFaults;
use super::{tcp, udp};

/// How often to look for a port that is free for TCP and UDP alike.
const BIND_ATTEMPTS: u32 = 100;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// What both halves of a proxy look at.
pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) target: watch::Sender<Target>,
    pub(super) forward: Arc<LinkFaults>,
    pub(super) back: Arc<LinkFaults>,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Never listens: while the target is dead it keeps the port from everybody else, whom the system would give it.
    _held: TcpSocket,
}

/// Where the far end is, and whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) dead: bool,
}

/// A fault proxy for one directed link. Dropping it stops it.
pub struct Proxy {
    link: Arc<Link>,
}

impl Proxy {
    /// Listens on a free loopback port, for TCP and UDP alike, and passes on to `target`: what the dialler sends
    /// obeys `forward`, what returns on its connections obeys `back`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn spawn(
        target: SocketAddr,
        forward: Arc<LinkFaults>,
        back: Arc<LinkFaults>,
    ) -> io::Result<Self> {
        let (held, socket) = bind_pair().await?;
        let address = held.local_addr()?;
        let listener = listen(address)?;
        let link = Arc::new(Link {
            address,
            target: watch::Sender::new(Target {
                address: target,
                dead: false,
            }),
            forward,
            back,
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _held: held,
        });
        link.tasks.spawn(tcp::run(Arc::clone(&link), listener));
        link.tasks.spawn(udp::run(Arc::clone(&link), socket));
        Ok(Self { link })
    }

    /// Where to dial and send.
    pub fn address(&self) -> SocketAddr {
        self.link.address
    }

    /// Changes where new connections and datagrams go: a restarted node may have another port.
    pub fn retarget(&self, address: SocketAddr) {
        self.link
            .target
            .send_modify(|target| target.address = address);
    }

    /// While the target is dead the listener is closed, so that connecting is refused as it would be without a proxy,
    /// and datagrams are discarded uncounted. Existing connections end when the target's own sockets do.
    pub fn set_dead(&self, dead: bool) {
        self.link.target.send_modify(|target| target.dead = dead);
    }

    /// Stops listening, breaks every connection, and returns once nothing is left running.
    pub async fn shutdown(self) {
        self.link.shutdown.cancel();
        self.link.tasks.close();
        self.link.tasks.wait().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.shutdown.cancel();
    }
}

/// Listens at a port that this process holds already.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}

/// A socket that shares its port with others of this process, and listens only once it is told to.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Holds a port that is free for TCP and UDP alike.
async fn bind_pair() -> io::Result<(TcpSocket, UdpSocket)> {
    let mut last = io::Error::other("no attempt was made");
    for _ in 0..BIND_ATTEMPTS {
        let held = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        match UdpSocket::bind(held.local_addr()?).await {
            Ok(socket) => return Ok((held, socket)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
