//! Datagrams, both ways, sealed where the nodes share a key. Sending never waits: a socket that can't take one now loses it, as the network may.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use quorumor_core::limits::DATAGRAM_BYTES_MAX;
use quorumor_core::{Destination, Input, Mode};

use super::{Peers, Shared};
use crate::envelope::Datagram;
use crate::key::KeyRing;
use crate::metrics::{self, LaneName};

/// Sends, or loses.
pub(super) fn send(shared: &Shared, mode: Mode, to: Destination, payload: Bytes) {
    let lost = |why| metrics::peer_drop(LaneName::Datagram, why);
    let address = match to {
        Destination::Node(peer) => shared.book.address(peer),
        Destination::Seed(address) => Some(address),
    };
    let (Some(address), Some(cluster)) = (address, shared.me.cluster(mode)) else {
        lost("no_address");
        return;
    };
    let datagram = Datagram {
        mode,
        cluster,
        store: shared.me.store,
        from: shared.me.node,
        payload,
    };
    let Some(bytes) = datagram.encode() else {
        tracing::error!(%mode, "a datagram is over its budget");
        lost("too_long");
        return;
    };
    let Some(bytes) = seal(shared, bytes) else {
        lost("not_sealed");
        return;
    };
    match shared.udp.try_send_to(&bytes, address) {
        Ok(_) => metrics::peer_sent(LaneName::Datagram, 1, bytes.len()),
        Err(_) => lost("socket"),
    }
}

/// As it travels: sealed, where the nodes share a key.
fn seal(shared: &Shared, bytes: Bytes) -> Option<Bytes> {
    match &shared.guards.key {
        Some(key) => key.ring().seal(&bytes),
        None => Some(bytes),
    }
}

/// As it was sent, if by somebody who knows the key; `None` if it was refused for its key, and told so.
fn open(shared: &Shared, bytes: &Bytes, from: SocketAddr) -> Option<Bytes> {
    let refuse = |reason, why| {
        shared.refused.tell(from.ip(), reason, why);
        None
    };
    match (&shared.guards.key, KeyRing::is_sealed(bytes)) {
        (Some(key), true) => key.ring().open(bytes).or_else(|| {
            refuse(
                "wrong_key",
                "they were sealed by another cluster key, or changed on their way",
            )
        }),
        (Some(_), false) => refuse(
            "no_key",
            "they aren't sealed by the cluster key that this node has",
        ),
        (None, true) => refuse(
            "key_not_here",
            "they are sealed by a cluster key, and this node has none (--cluster-key)",
        ),
        (None, false) => Some(bytes.clone()),
    }
}

/// Receives until the transport stops.
pub(super) async fn run(peers: Peers) {
    let stop = peers.shared.stop.clone();
    // One byte more than allowed, so that a longer one is noticed.
    let mut buffer = BytesMut::with_capacity(DATAGRAM_BYTES_MAX + 1);
    loop {
        buffer.clear();
        buffer.reserve(DATAGRAM_BYTES_MAX + 1);
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = peers.shared.udp.recv_buf_from(&mut buffer) => received,
        };
        match received {
            Ok((count, from)) => {
                metrics::peer_received(LaneName::Datagram, count);
                let bytes = buffer.split().freeze();
                if let Some(bytes) = open(&peers.shared, &bytes, from)
                    && let Err(why) = take(&peers, &bytes)
                {
                    metrics::envelope_refused("datagram", why);
                }
            }
            // An earlier send's echo; the socket lives on.
            Err(error) => tracing::debug!(%error, "a datagram couldn't be received"),
        }
    }
}

/// Hands a datagram to its mode, or says why not.
fn take(peers: &Peers, bytes: &Bytes) -> Result<(), &'static str> {
    let shared = &peers.shared;
    let datagram = Datagram::decode(bytes).map_err(|error| error.as_str())?;
    let inbox = shared
        .inboxes
        .get(&datagram.mode)
        .ok_or("mode_not_served")?;
    if shared.me.cluster(datagram.mode) != Some(datagram.cluster) {
        return Err("foreign_cluster");
    }
    if datagram.from == shared.me.node {
        return Err(if datagram.store == shared.me.store {
            "own"
        } else {
            "own_id_used_twice"
        });
    }
    if shared.check(datagram.from, datagram.store).is_err() {
        peers.tell_conflict(datagram.mode, datagram.from);
        return Err("store_conflict");
    }
    let input = Input::Datagram {
        from: datagram.from,
        payload: datagram.payload,
    };
    inbox.datagrams.try_send(input).map_err(|_| "inbox_full")
}
