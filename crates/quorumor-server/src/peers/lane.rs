//! One stream that this node dials: a bounded queue, and a task that connects, writes, and connects again.
//!
//! While there is no connection, messages are dropped and told rather than kept: what a mode repeats is fresher.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use quorumor_core::limits::STREAM_MESSAGE_BYTES_MAX;
use quorumor_core::{Contact, Mode, NodeId, StreamClass};
use quorumor_proto::pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::handshake::{self, HandshakeError, Refusal};
use super::{Guards, Peers};
use crate::envelope::{Frame, KINDS_SINCE};
use crate::key;
use crate::metrics;
use crate::tls::{Failure, Port, ReadHalf, Side, Stream, WriteHalf};

/// Messages that wait for one peer.
const QUEUE_MAX: usize = 4_096;
/// Bytes that wait for one peer: four of the longest messages.
const QUEUE_BYTES_MAX: usize = 4 * STREAM_MESSAGE_BYTES_MAX;
/// Messages and bytes of one write.
const WRITE_MESSAGES_MAX: usize = 128;
/// Connecting and the handshake, together: a one-way cut lets connects succeed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A write that makes no progress for this long breaks the stream.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream opened on use is closed after so long without any.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a dial: from the first failure to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived this long has proved itself: the next dial comes at once.
const LIVED: Duration = Duration::from_secs(1);

/// What a lane is for.
pub(super) type Line = (NodeId, StreamClass, Mode);

/// How long a lane holds its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// From the start, always.
    Kept,
    /// From the first message, until it is idle.
    OnUse,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Lane {
    class: StreamClass,
    queue: mpsc::Sender<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    dial: Arc<Notify>,
}

impl Lane {
    /// Puts a message in line; `false` says that there was no room.
    pub(super) fn send(&self, frame: Frame) -> bool {
        let bytes = frame.payload.len();
        if bytes > STREAM_MESSAGE_BYTES_MAX {
            tracing::error!(bytes, "a message is longer than stream_message_bytes_max");
            metrics::peer_drop(self.class.into(), "too_long");
            return false;
        }
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued + bytes <= QUEUE_BYTES_MAX && self.queue.try_send(frame).is_ok() {
            return true;
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        metrics::peer_drop(self.class.into(), "queue_full");
        false
    }

    /// Cuts a pause short.
    pub(super) fn dial_now(&self) {
        self.dial.notify_waiters();
    }
}

/// Starts a lane.
pub(super) fn spawn(peers: Peers, line: Line, life: Life) -> Lane {
    let (peer, class, mode) = line;
    let (queue, queued) = mpsc::channel(QUEUE_MAX);
    let lane = Lane {
        class,
        queue,
        queued_bytes: Arc::new(AtomicUsize::new(0)),
        dial: Arc::new(Notify::new()),
    };
    let task = Task {
        peer,
        class,
        mode,
        life,
        queued,
        queued_bytes: Arc::clone(&lane.queued_bytes),
        dial: Arc::clone(&lane.dial),
        failures: 0,
        told: None,
        peers: peers.clone(),
    };
    peers.shared.tasks.spawn(task.run());
    lane
}

struct Task {
    peers: Peers,
    peer: NodeId,
    class: StreamClass,
    mode: Mode,
    life: Life,
    queued: mpsc::Receiver<Frame>,
    queued_bytes: Arc<AtomicUsize>,
    dial: Arc<Notify>,
    failures: u32,
    /// The last failure that was logged, so that each is logged once.
    told: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no address is known")]
    NoAddress,
    #[error("nobody listens there")]
    Refused,
    #[error("no answer in {DIAL_TIMEOUT:?}")]
    Timeout,
    #[error(transparent)]
    Failed(#[from] HandshakeError),
}

/// Why a connection ended.
enum End {
    Broken,
    Idle,
    Stopped,
}

impl Task {
    async fn run(mut self) {
        let stop = self.peers.shared.stop.clone();
        // The stop wins wherever the task is; a message half written is lost with the connection.
        let () = stop
            .run_until_cancelled_owned(async {
                loop {
                    let first = match self.life {
                        Life::Kept => None,
                        Life::OnUse => match self.queued.recv().await {
                            Some(frame) => Some(frame),
                            None => return,
                        },
                    };
                    self.connection(first).await;
                }
            })
            .await
            .unwrap_or_default();
    }

    /// One connection's life, with the pause before the next.
    async fn connection(&mut self, first: Option<Frame>) {
        match connect(&self.peers, (self.peer, self.class, self.mode)).await {
            Ok((stream, protocol)) => {
                self.told = None;
                tracing::debug!(peer = %self.peer, class = ?self.class, "connected");
                self.contact(Contact::Connected).await;
                let began = Instant::now();
                match self.pump(stream, protocol, first).await {
                    End::Idle | End::Stopped => return,
                    End::Broken => {}
                }
                tracing::info!(peer = %self.peer, class = ?self.class, "the stream broke");
                self.contact(Contact::Closed).await;
                if began.elapsed() >= LIVED {
                    self.failures = 0;
                    return;
                }
            }
            Err(error) => self.failed(error, first).await,
        }
        self.pause().await;
    }

    async fn failed(&mut self, error: DialError, first: Option<Frame>) {
        let shown = error.to_string();
        if self.told.as_ref() != Some(&shown) {
            tracing::warn!(peer = %self.peer, class = ?self.class, error = shown, "can't reach a peer");
            self.told = Some(shown);
        }
        let mut dropped = usize::from(first.is_some());
        if let Some(frame) = first {
            self.forget(&frame);
        }
        dropped += self.discard();
        match error {
            DialError::Refused => self.contact(Contact::Refused).await,
            DialError::Failed(error) => metrics::handshake_failed("dialled", error.as_str()),
            DialError::NoAddress | DialError::Timeout => {}
        }
        if dropped > 0 {
            self.contact(Contact::Dropped).await;
        }
    }

    async fn contact(&self, contact: Contact) {
        self.peers.contact(self.mode, self.peer, contact).await;
    }

    async fn pump(&mut self, stream: Stream, protocol: u32, first: Option<Frame>) -> End {
        let (mut read, mut write) = stream.into_split();
        let mut frames: Vec<Frame> = first.into_iter().collect();
        let mut out = BytesMut::new();
        if protocol >= KINDS_SINCE {
            Frame::encode_about(self.mode, self.class, &mut out);
            if !write_out(&mut write, &mut read, &mut out).await {
                return End::Broken;
            }
        }
        loop {
            if frames.is_empty() {
                let idle = async {
                    match self.life {
                        Life::Kept => std::future::pending().await,
                        Life::OnUse => sleep(IDLE_TIMEOUT).await,
                    }
                };
                tokio::select! {
                    count = self.queued.recv_many(&mut frames, WRITE_MESSAGES_MAX) => {
                        if count == 0 {
                            return End::Stopped;
                        }
                    }
                    () = ended(&mut read) => return End::Broken,
                    () = idle => return End::Idle,
                }
            }
            for frame in &frames {
                frame.encode(&mut out);
                self.forget(frame);
            }
            metrics::peer_sent(self.class.into(), frames.len(), out.len());
            frames.clear();
            if !write_out(&mut write, &mut read, &mut out).await {
                return End::Broken;
            }
        }
    }

    /// Waits before the next dial, and drops what comes meanwhile.
    async fn pause(&mut self) {
        let grown = BACKOFF_MIN.saturating_mul(1 << self.failures.min(8));
        self.failures = self.failures.saturating_add(1);
        let jitter = rand::random_range(0.5..1.0);
        let pause = sleep(grown.min(BACKOFF_MAX).mul_f64(jitter));
        let dial = Arc::clone(&self.dial);
        let poked = dial.notified();
        tokio::pin!(pause, poked);
        let mut told = false;
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = &mut poked => return,
                frame = self.queued.recv() => {
                    let Some(frame) = frame else { return };
                    self.forget(&frame);
                    metrics::peer_drop(self.class.into(), "no_connection");
                    if !told {
                        told = true;
                        self.contact(Contact::Dropped).await;
                    }
                }
            }
        }
    }

    /// Drops what waits; how much it was.
    fn discard(&mut self) -> usize {
        let mut dropped = 0;
        while let Ok(frame) = self.queued.try_recv() {
            self.forget(&frame);
            metrics::peer_drop(self.class.into(), "no_connection");
            dropped += 1;
        }
        dropped
    }

    fn forget(&self, frame: &Frame) {
        self.queued_bytes
            .fetch_sub(frame.payload.len(), Ordering::Relaxed);
    }
}

/// Dials a peer and shakes hands: the stream, and the protocol to speak on it.
pub(super) async fn connect(peers: &Peers, line: Line) -> Result<(Stream, u32), DialError> {
    let (peer, ..) = line;
    let address = peers
        .shared
        .book
        .address(peer)
        .ok_or(DialError::NoAddress)?;
    let dial = async {
        let stream = TcpStream::connect(address).await.map_err(|error| {
            if error.kind() == io::ErrorKind::ConnectionRefused {
                DialError::Refused
            } else {
                DialError::Failed(error.into())
            }
        })?;
        stream.set_nodelay(true).map_err(HandshakeError::from)?;
        let mut stream = secure(peers, peer, stream).await?;
        let protocol = greet(peers, line, &mut stream).await?;
        Ok((stream, protocol))
    };
    let dialled = timeout(DIAL_TIMEOUT, dial)
        .await
        .map_err(|_| DialError::Timeout)?;
    if let (Some(tls), Err(DialError::Failed(HandshakeError::Tls(failure)))) =
        (&peers.shared.guards.tls, &dialled)
    {
        let with = format!("node {peer} at {address}");
        tls.failed(Port::Peer, Side::Dialled, &with, failure);
    }
    dialled
}

/// The peer proves that it is this node of this cluster, and this node that it is itself; or both that they have the cluster key.
async fn secure(peers: &Peers, peer: NodeId, stream: TcpStream) -> Result<Stream, HandshakeError> {
    let Guards { tls, key } = &peers.shared.guards;
    let tls = match (tls, key) {
        (Some(tls), _) => tls,
        (None, Some(key)) => {
            let sealed = key::dial(stream, &key.ring(), peers.shared.me.node.as_u64()).await;
            return Ok(Stream::Sealed(Box::new(sealed?)));
        }
        (None, None) => return Ok(Stream::Plain(stream)),
    };
    let (connector, name) = tls.peer_connector(peer);
    let encrypted = connector.connect(name, stream).await;
    encrypted
        .map(Stream::from)
        .map_err(|error| HandshakeError::Tls(Failure::of_handshake(&error)))
}

async fn greet(
    peers: &Peers,
    (peer, class, mode): Line,
    stream: &mut Stream,
) -> Result<u32, HandshakeError> {
    let shared = &peers.shared;
    let hello = handshake::handshake(&shared.me, mode, peer, shared.stores.remembered(peer));
    handshake::write(stream, class, &hello).await?;
    let (_, reply) = handshake::read::<pb::HandshakeReply>(stream).await?;
    let store = handshake::judge_reply(&shared.me, peer, &reply).inspect_err(|error| {
        if let HandshakeError::RefusedByPeer(refusal) = error
            && refusal.reason == pb::RefusalReason::DiallerStore
        {
            shared
                .standing
                .refused(peer, shared.me.node, shared.me.store);
        }
    })?;
    shared
        .meet(peer, store)
        .map_err(|conflict| HandshakeError::Refused(Refusal::target_store(conflict)))?;
    shared.standing.accepted(peer);
    Ok(reply.version)
}

/// Writes everything, unless the stream breaks or stands still.
async fn write_out(write: &mut WriteHalf, read: &mut ReadHalf, out: &mut BytesMut) -> bool {
    while !out.is_empty() {
        let written = tokio::select! {
            written = timeout(WRITE_TIMEOUT, write.write_buf(out)) => written,
            () = ended(read) => return false,
        };
        if !matches!(written, Ok(Ok(count)) if count > 0) {
            return false;
        }
    }
    match write {
        WriteHalf::Plain(_) => true,
        // What was encrypted may wait for the socket still.
        WriteHalf::Tls(_) | WriteHalf::Sealed(_) => tokio::select! {
            flushed = timeout(WRITE_TIMEOUT, write.flush()) => matches!(flushed, Ok(Ok(()))),
            () = ended(read) => false,
        },
    }
}

/// Waits until the other side closes. It has nothing to say on this stream; if it speaks, the stream is done for.
async fn ended(read: &mut ReadHalf) {
    let mut byte = [0; 1];
    // Whatever comes, bytes, an end or an error, means the same.
    let _ = read.read(&mut byte).await;
}
