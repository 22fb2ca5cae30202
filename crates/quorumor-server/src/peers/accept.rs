//! Streams that peers dialled: a handshake under a timeout, then frames into the mode's inbox until the stream ends.
//! A peer has one accepted stream a class and mode; a newer one takes the place of the older.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use quorumor_core::{Contact, Input, Mode, NodeId, StoreId, StreamClass};
use quorumor_proto::pb;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::handshake::{self, HandshakeError, Refusal};
use super::{Guards, Peers};
use crate::envelope::{EnvelopeError, Frame, Part};
use crate::key::{self, Key};
use crate::metrics;
use crate::tls::{Failure, Port, Side, Stream};

/// A handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Strangers that may be in a handshake at once.
const HANDSHAKES_MAX: usize = 256;
/// What is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Between looks at a first word that came in pieces.
const PEEK_PAUSE: Duration = Duration::from_millis(2);
/// After an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a stream is for.
type Line = (NodeId, StreamClass, Mode);

/// The streams that are open, with what ends each.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    streams: Mutex<BTreeMap<Line, (u64, CancellationToken)>>,
}

impl Accepted {
    /// Makes room for a new stream: the older one is told to end.
    fn replace(&self, line: Line) -> (u64, CancellationToken) {
        let mut streams = self.streams.lock();
        let number = streams.get(&line).map_or(0, |(number, _)| number + 1);
        let end = CancellationToken::new();
        if let Some((_, older)) = streams.insert(line, (number, end.clone())) {
            older.cancel();
        }
        (number, end)
    }

    /// Whether this stream was still the one in use; it no longer is.
    fn ended(&self, line: Line, number: u64) -> bool {
        let streams = self.streams.lock();
        streams
            .get(&line)
            .is_some_and(|(current, _)| *current == number)
    }
}

/// Accepts until the transport stops.
pub(super) async fn run(peers: Peers, listener: TcpListener) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let stop = peers.shared.stop.clone();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a peer");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            metrics::handshake_failed("accepted", "overloaded");
            continue;
        };
        let serving = peers.clone();
        peers.shared.tasks.spawn(async move {
            let stop = serving.shared.stop.clone();
            let served = stop.run_until_cancelled(async {
                let greeted = greet(&serving, stream, from).await;
                drop(permit);
                if let Some((stream, line, protocol)) = greeted {
                    serve(&serving, stream, line, protocol).await;
                }
            });
            served.await.unwrap_or_default();
        });
    }
}

async fn greet(peers: &Peers, stream: TcpStream, from: SocketAddr) -> Option<(Stream, Line, u32)> {
    let greeted = timeout(HANDSHAKE_TIMEOUT, async {
        stream.set_nodelay(true)?;
        let mut stream = secure(peers, stream).await?;
        let (line, protocol) = answer(peers, &mut stream).await?;
        Ok((stream, line, protocol))
    });
    let error = match greeted.await {
        Ok(Ok(greeted)) => return Some(greeted),
        Ok(Err(error)) => error,
        Err(_) => HandshakeError::Io(std::io::ErrorKind::TimedOut.into()),
    };
    metrics::handshake_failed("accepted", error.as_str());
    match &error {
        // Whoever has no key may come for ever.
        HandshakeError::Refused(refusal) if refusal.reason == pb::RefusalReason::Key => {
            if peers.shared.key_told.is_news((from.ip(), "no_key")) {
                tracing::warn!(%from, reason = "no_key", why = refusal.why, "refused a peer's stream");
            }
        }
        HandshakeError::Refused(refusal) => {
            tracing::warn!(reason = refusal.why, %from, "refused a peer's stream");
        }
        HandshakeError::Key(failure) => {
            if peers.shared.key_told.is_news((from.ip(), failure.reason)) {
                tracing::warn!(%from, reason = failure.reason, why = failure.why, "refused a peer's stream");
            }
        }
        HandshakeError::Tls(failure) => match &peers.shared.guards.tls {
            // Each address has many ports, and is told of once.
            Some(tls) => tls.failed(Port::Peer, Side::Accepted, &from.ip().to_string(), failure),
            None => tracing::warn!(%from, why = failure.why, "refused a peer's stream"),
        },
        HandshakeError::Io(_)
        | HandshakeError::Envelope(_)
        | HandshakeError::Malformed(_)
        | HandshakeError::RefusedByPeer(_) => tracing::debug!(%error, "a handshake failed"),
    }
    None
}

/// Encrypts by what this node has: certificates, else the cluster key, else nothing.
async fn secure(peers: &Peers, stream: TcpStream) -> Result<Stream, HandshakeError> {
    let Guards { tls, key } = &peers.shared.guards;
    let tls = match (tls, key) {
        (Some(tls), _) => tls,
        (None, Some(key)) => {
            // Who has no key is heard out, and told why it's refused.
            if !begins_keyed(&stream).await? {
                return Ok(Stream::Plain(stream));
            }
            let sealed = key::accept(stream, &key.ring()).await?;
            return Ok(Stream::Sealed(Box::new(sealed)));
        }
        (None, None) => {
            if begins_keyed(&stream).await? {
                return Err(key::refuse(stream).await.into());
            }
            return Ok(Stream::Plain(stream));
        }
    };
    let encrypted = tls.peer_acceptor().accept(stream).await;
    encrypted
        .map(Stream::from)
        .map_err(|error| HandshakeError::Tls(Failure::of_handshake(&error)))
}

/// Whether the dialler offers keys. Its first bytes stay where they are.
async fn begins_keyed(stream: &TcpStream) -> Result<bool, HandshakeError> {
    let mut head = [0; 4];
    loop {
        let count = stream.peek(&mut head).await?;
        if count == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        if count == head.len() {
            return Ok(key::begins_keyed(&head));
        }
        // The rest is on its way; the handshake's timeout ends this.
        sleep(PEEK_PAUSE).await;
    }
}

async fn answer(peers: &Peers, stream: &mut Stream) -> Result<(Line, u32), HandshakeError> {
    let shared = &peers.shared;
    let (class, hello) = handshake::read::<pb::Handshake>(stream).await?;
    let unproved = shared.guards.tls.is_none()
        && shared.guards.key.is_some()
        && matches!(stream, Stream::Plain(_));
    let judged = if unproved {
        Err(Refusal::no_key(hello.node_id))
    } else {
        handshake::judge(&shared.me, &hello)
    };
    let judged = judged.and_then(|dialler| {
        if let Some(tls) = &shared.guards.tls {
            let names = stream.names().unwrap_or_default();
            tls.check_peer(&names, dialler.node).map_err(|why| {
                let failure = Failure::wrong_name(why.clone());
                tls.failed(
                    Port::Peer,
                    Side::Accepted,
                    &format!("node {}", dialler.node),
                    &failure,
                );
                Refusal::certificate(why)
            })?;
        }
        shared
            .meet(dialler.node, dialler.store)
            .map_err(Refusal::dialler_store)?;
        Ok(dialler)
    });
    let version = judged.as_ref().map(|dialler| dialler.version);
    handshake::write(stream, class, &handshake::reply(&shared.me, version)).await?;
    match judged {
        Ok(dialler) => Ok(((dialler.node, class, dialler.mode), dialler.version)),
        Err(refusal) => {
            if refusal.reason == pb::RefusalReason::TargetStore {
                note_own_store(peers, &hello);
            }
            Err(HandshakeError::Refused(refusal))
        }
    }
}

/// The dialler remembers this node with another store. It counts unless the dialler itself isn't who it was.
fn note_own_store(peers: &Peers, hello: &pb::Handshake) {
    let shared = &peers.shared;
    if let Ok(dialler) = NodeId::try_from(hello.node_id)
        && shared.check(dialler, StoreId::new(hello.store_id)).is_ok()
    {
        shared
            .standing
            .refused(dialler, shared.me.node, shared.me.store);
    }
}

async fn serve(peers: &Peers, stream: Stream, line: Line, protocol: u32) {
    let (peer, class, mode) = line;
    let _open = metrics::PeerStream::open(protocol);
    let (number, end) = peers.shared.accepted.replace(line);
    let key = stream.key();
    let read = tokio::select! {
        read = end.run_until_cancelled(read(peers, stream, line, protocol)) => read,
        () = gone(peers, key) => {
            tracing::info!(%peer, ?class, "the key of a peer's stream is used no more: it is ended");
            None
        }
    };
    if let Some(Err(error)) = read {
        metrics::envelope_refused("stream", error.as_str());
        tracing::warn!(%peer, ?class, %error, "a peer's stream can't be read on");
    }
    if !peers.shared.accepted.ended(line, number) {
        return;
    }
    // Elections wait for this news; gossip closes idle streams, and its news would say nothing.
    if (class, mode) == (StreamClass::Control, Mode::Strong) {
        peers.contact(mode, peer, Contact::Closed).await;
        peers.verify(peer);
    }
}

/// Resolves when the cluster key that guards a stream isn't used any more.
async fn gone(peers: &Peers, proved: Option<Key>) {
    match (&peers.shared.guards.key, proved) {
        (Some(key), Some(proved)) => key.gone(&proved).await,
        (None, _) | (_, None) => std::future::pending().await,
    }
}

/// Reads until the stream ends.
async fn read(
    peers: &Peers,
    mut stream: Stream,
    (peer, class, mode): Line,
    protocol: u32,
) -> Result<(), EnvelopeError> {
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    loop {
        bytes.reserve(READ_BYTES);
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => metrics::peer_received(class.into(), count),
        }
        while let Some(part) = Frame::decode(&mut bytes, protocol)? {
            let frame = match part {
                Part::Message(frame) => frame,
                Part::About(program) => {
                    let program = String::from_utf8_lossy(&program);
                    tracing::debug!(%peer, %program, protocol, "a peer says what it is");
                    continue;
                }
                Part::Unknown => {
                    metrics::envelope_refused("stream", "unknown_kind");
                    continue;
                }
            };
            if (frame.class, frame.mode) != (class, mode) {
                return Err(EnvelopeError::Kind);
            }
            deliver(peers, peer, frame).await;
        }
    }
}

/// A full inbox holds up this stream, and so its sender.
async fn deliver(peers: &Peers, from: NodeId, frame: Frame) {
    let Some(inbox) = peers.shared.inboxes.get(&frame.mode) else {
        metrics::envelope_refused("stream", "mode_not_served");
        return;
    };
    let lane = match frame.class {
        StreamClass::Control => &inbox.control,
        StreamClass::Bulk => &inbox.bulk,
    };
    let input = Input::Stream {
        from,
        class: frame.class,
        payload: frame.payload,
    };
    // A driver that is gone takes nothing; the node stops.
    let _ = lane.send(input).await;
}
