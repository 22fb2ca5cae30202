//! How a member of etcd is made to reach each other member over the lab's own link.
//!
//! A member tells all others one and the same peer address, so an override for each link isn't possible. Instead each member has
//! an HTTP proxy of its own, a front, and is told of it by `HTTP_PROXY`; its peers have addresses that no proxy but this
//! can reach ([`peer_url`], reserved for documentation), so that nothing passes beside the lab. A front knows who asks, and reads
//! from the request's first line who is asked; it dials the proxy of that directed link in the [`crate::network::Mesh`], where
//! all faults are. Not a general HTTP proxy: each connection carries one request, which is also how long a stream of raft lives.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::history::NodeId;

/// Of a request's first lines; etcd's are below 1 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A member that connects says at once what it wants.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Every node's peer address begins with this: TEST-NET-1 (RFC 5737), which no network routes.
const NETWORK: &str = "192.0.2.";
/// etcd's usual port for peers. Nobody listens there.
const PORT: u16 = 2380;
/// So many nodes have an address.
pub(super) const NODES_MAX: u64 = 254;

/// The peer address that all members know a node by.
pub(super) fn peer_url(node: NodeId) -> String {
    format!("http://{NETWORK}{}:{PORT}", node.0)
}

/// One member's way to all others. Dropping it breaks its connections.
pub(super) struct Front {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Front {
    /// Listens on a free loopback port and dials `routes`, the link to each other node.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) async fn spawn(routes: Vec<(NodeId, SocketAddr)>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let routes = Arc::new(routes.into_iter().collect());
        let accepting = tokio::spawn(accept(listener, routes));
        Ok(Self {
            address,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// What the member's `HTTP_PROXY` must be.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

type Routes = BTreeMap<NodeId, SocketAddr>;

async fn accept(listener: TcpListener, routes: Arc<Routes>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((member, _)) = accepted {
                    let routes = Arc::clone(&routes);
                    connections.spawn(async move { serve(member, &routes).await });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request and its answer. A failure closes the connection, as a peer that can't be reached would.
async fn serve(mut member: TcpStream, routes: &Routes) -> io::Result<()> {
    let bytes = timeout(HEAD_WITHIN, read_head(&mut member)).await??;
    let request = route(&bytes).ok_or(io::ErrorKind::InvalidData)?;
    let link = routes.get(&request.to).ok_or(io::ErrorKind::NotFound)?;
    let mut link = TcpStream::connect(link).await?;
    // Small messages must not wait for each other.
    member.set_nodelay(true)?;
    link.set_nodelay(true)?;
    link.write_all(&request.bytes).await?;
    let gave_up = {
        let (mut from_member, mut to_member) = member.split();
        let (mut from_link, mut to_link) = link.split();
        tokio::select! {
            _ = copy(&mut from_member, &mut to_link) => true,
            _ = copy(&mut from_link, &mut to_member) => false,
        }
    };
    if gave_up {
        // A reset, not an end: a request that a cut holds back must not arrive after the heal when nobody waits for it any more.
        link.set_zero_linger()?;
    }
    Ok(())
}

/// Reads up to the end of the request's head, and perhaps some of its body.
async fn read_head(member: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while head_end(&bytes).is_none() {
        if bytes.len() >= HEAD_BYTES_MAX || member.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(bytes)
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n")
}

/// Whom a request is for, and the bytes to send there.
#[derive(Debug, PartialEq, Eq)]
struct Routed {
    to: NodeId,
    bytes: Vec<u8>,
}

/// Reads the first line, `GET http://192.0.2.3:2380/path HTTP/1.1`, and puts it as the peer itself wants it: the path
/// alone, and one request a connection. None = it isn't for a peer.
fn route(bytes: &[u8]) -> Option<Routed> {
    let line_end = bytes.windows(2).position(|window| window == b"\r\n")?;
    let (line, rest) = bytes.split_at(line_end);
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, url, version) = (words.next()?, words.next()?, words.next()?);
    let host = url.strip_prefix("http://")?;
    let (authority, path) = host.split_once('/')?;
    let number = authority
        .strip_prefix(NETWORK)?
        .strip_suffix(&format!(":{PORT}"))?;
    let to = NodeId(number.parse().ok()?);
    let mut routed = format!("{method} /{path} {version}\r\nConnection: close").into_bytes();
    routed.extend_from_slice(rest);
    Some(Routed { to, bytes: routed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_routed_by_its_first_line_and_keeps_its_headers_and_body() {
        let asked = b"POST http://192.0.2.3:2380/raft HTTP/1.1\r\nHost: 192.0.2.3:2380\r\nX-Server-From: ab\r\n\r\nbody\r\n";
        let routed = route(asked).unwrap();
        let sent = b"POST /raft HTTP/1.1\r\nConnection: close\r\nHost: 192.0.2.3:2380\r\nX-Server-From: ab\r\n\r\nbody\r\n";
        assert_eq!(routed.to, NodeId(3));
        assert_eq!(routed.bytes, sent);
        assert_eq!(peer_url(NodeId(3)), "http://192.0.2.3:2380");
    }

    #[test]
    fn what_is_not_for_a_peer_goes_nowhere() {
        for line in [
            "GET /raft HTTP/1.1",
            "GET http://127.0.0.1:2380/raft HTTP/1.1",
            "GET http://192.0.2.3:2379/raft HTTP/1.1",
            "GET http://192.0.2.x:2380/raft HTTP/1.1",
            "CONNECT 192.0.2.3:2380 HTTP/1.1",
            "",
        ] {
            assert_eq!(route(format!("{line}\r\n\r\n").as_bytes()), None, "{line}");
        }
        assert_eq!(route(b"GET http://192.0.2.3:2380/ra"), None);
    }

    #[tokio::test]
    async fn a_front_passes_a_request_to_its_link_and_resets_it_when_the_member_gives_up() {
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let routes = vec![(NodeId(2), peer.local_addr().unwrap())];
        let front = Front::spawn(routes).await.unwrap();
        let mut member = TcpStream::connect(front.address).await.unwrap();
        let asked = b"GET http://192.0.2.2:2380/version HTTP/1.1\r\n\r\n";
        // In two pieces: a head may be cut anywhere.
        member.write_all(&asked[..20]).await.unwrap();
        member.write_all(&asked[20..]).await.unwrap();
        let (mut link, _) = peer.accept().await.unwrap();
        let sent = b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n";
        let mut got = vec![0; sent.len()];
        link.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        link.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        member.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        drop(member);
        let ended = link.read(&mut got).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
