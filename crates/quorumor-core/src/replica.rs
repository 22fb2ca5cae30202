//! The contract between a mode and whoever drives it: the server's driver, or the simulator.
//!
//! A replica is pure: it reads no clock, opens no socket or file, starts no thread. It is told everything by
//! [`Replica::handle`] and asks for everything by [`Replica::poll_output`]. The rules for the one who drives it:
//!
//! 1. One input or several, then drain the outputs to `None`. Outputs are carried out in order.
//! 2. After the drain, publish [`Replica::view`] **before** any [`Output::Reply`] of that drain leaves, so that a
//!    caller who was answered finds its own write.
//! 3. At [`Replica::poll_timeout`], hand in [`Input::Timer`]. The deadline is asked for again after each drain.
//! 4. [`Persist`]s are carried out in the order in which they came, and their completion is reported in that order. A write that
//!    fails is never reported: the node stops. What was reported survives any crash.
//! 5. Messages may be lost, repeated or reordered; a stream keeps order as long as it is not reported closed.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::Entry;
use crate::error::Error;
use crate::id::{CallId, NodeId};
use crate::key::Key;
use crate::reply::Reply;
use crate::request::Request;
use crate::time::{Mono, Now};
use crate::version::{Position, Version};
use crate::view::View;

/// A mode as a pure state machine. See the [module's rules](self).
pub trait Replica {
    /// Takes one input. Whatever it leads to waits in [`Self::poll_output`]. Never panics on what a peer, a disk or a
    /// caller sent.
    fn handle(&mut self, now: Now, input: Input);

    /// The next effect to carry out; `None` when the effects of all inputs so far are taken. A replica may put work off until
    /// this is asked for, so that inputs that come together share it.
    fn poll_output(&mut self) -> Option<Output>;

    /// When to hand in [`Input::Timer`] if nothing else happens before, and why. A deadline in the past means now.
    fn poll_timeout(&self) -> Option<(Mono, WakeReason)>;

    /// The state as readers may see it. O(1).
    fn view(&self) -> View;

    /// Numbers from its inside, by name, for metrics: how full its queues are, what it keeps. Cheap, but not for every
    /// input.
    fn gauges(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Why a replica wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WakeReason {
    /// Raft's tick: elections and heartbeats.
    Tick,
    /// A SWIM probe begins, or its time is up.
    Probe,
    /// A suspicion runs out.
    Suspicion,
    /// Rumors go out.
    Rumor,
    /// Anti-entropy, or a join that needs another try.
    Sync,
    /// A waiting caller's or transfer's own limit.
    Limit,
}

/// What a replica is told.
#[derive(Debug)]
pub enum Input {
    /// A caller's request. Answered by exactly one [`Output::Reply`] with the same call id, unless cancelled.
    Request {
        /// Ties the reply to the request; never used twice by one shell.
        call: CallId,
        /// The request.
        request: Request,
    },
    /// The caller has gone, or was told that the outcome is unknown: no reply is wanted any more.
    Cancel {
        /// The request's call id.
        call: CallId,
    },
    /// A datagram from a peer. The shell has checked cluster, store and sender.
    Datagram {
        /// The sender.
        from: NodeId,
        /// What it sent.
        payload: Bytes,
    },
    /// A message from a peer's stream. The shell has checked cluster, store and sender.
    Stream {
        /// The sender.
        from: NodeId,
        /// The lane that it came on.
        class: StreamClass,
        /// What it sent.
        payload: Bytes,
    },
    /// What the transport noticed about a peer.
    Contact {
        /// The peer.
        peer: NodeId,
        /// What was noticed.
        contact: Contact,
    },
    /// Every [`Persist::Append`] and [`Persist::Compact`] up to and including this token is done: durable if it asked for
    /// a sync.
    Persisted {
        /// The token.
        token: PersistToken,
    },
    /// The [`Persist::Checkpoint`] of this token is durable and is what the next start will find.
    Checkpointed {
        /// The token.
        token: PersistToken,
    },
    /// The disk ran full, or has space again. While it is full a replica refuses what clients want to write.
    Disk(DiskState),
    /// The deadline of [`Replica::poll_timeout`] has come.
    Timer,
    /// The node shuts down: hand over what can be handed over, say goodbye, answer nobody new.
    Leave,
}

/// Whether the disk takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// There is space.
    Available,
    /// There is none but the reserve.
    Full,
}

/// What the transport noticed about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// A stream to the peer is open and its handshake done.
    Connected,
    /// The stream to the peer broke. Messages that were under way may be lost.
    Closed,
    /// The peer's host answered that nobody listens there: the process is gone.
    Refused,
    /// Messages to the peer were dropped, because its queue is full or there is no connection.
    Dropped,
}

/// What a replica wants done.
#[derive(Debug)]
pub enum Output {
    /// Answer a caller.
    Reply {
        /// The request's call id.
        call: CallId,
        /// The answer.
        result: Result<Reply, Error>,
    },
    /// Send a datagram: may be lost, never longer than the budget the replica was given.
    Datagram {
        /// To whom.
        to: Destination,
        /// What.
        payload: Bytes,
    },
    /// Send a message on a stream: kept in order within its class, lost only if the stream breaks or its queue is full, which
    /// [`Contact::Closed`] and [`Contact::Dropped`] tell.
    Stream {
        /// To whom.
        to: NodeId,
        /// On which lane.
        class: StreamClass,
        /// What.
        payload: Bytes,
    },
    /// Where a peer can be reached, learned from the cluster. The shell dials this from now on.
    PeerAddress {
        /// The peer.
        peer: NodeId,
        /// Its address.
        address: SocketAddr,
    },
    /// Make something durable.
    Persist(Persist),
    /// The published state changed: for watchers.
    Changed(Change),
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A known node, at the address that the shell has for it.
    Node(NodeId),
    /// An address from the configuration whose node isn't known yet.
    Seed(SocketAddr),
}

/// A lane between two nodes. Lanes don't wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamClass {
    /// Small and urgent: consensus messages, forwarded requests, stream pings.
    Control,
    /// Large: snapshots, anti-entropy, big values.
    Bulk,
}

/// Names a request to persist. Tokens of one replica grow from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistToken(pub u64);

/// A request to make something durable.
#[derive(Debug)]
pub enum Persist {
    /// Append records to the log, atomically. Completion: [`Input::Persisted`].
    Append {
        /// Names this request.
        token: PersistToken,
        /// What to append, in order.
        records: Vec<LogRecord>,
        /// Whether completion must mean durable. Without it completion may come at once, and a crash may lose it.
        sync: bool,
    },
    /// Write a checkpoint aside while appends go on; when it is durable it replaces the one before.
    /// Completion: [`Input::Checkpointed`]. At most one is under way.
    Checkpoint {
        /// Names this request.
        token: PersistToken,
        /// A number that says how far the state goes, kept with the file. Grows.
        position: u64,
        /// What to write.
        source: Box<dyn CheckpointSource>,
    },
    /// Append these records and sync; then forget every record before them. Sent after a checkpoint, with whatever the
    /// checkpoint doesn't hold. Completion: [`Input::Persisted`].
    Compact {
        /// Names this request.
        token: PersistToken,
        /// All records that are still needed.
        records: Vec<Record>,
    },
}

/// A record of the log. At a start records come back in the order of their appending; a later record with the same kind
/// and position replaces the earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is, to the replica that wrote it. Below 128.
    pub kind: u8,
    /// Where it belongs among records of its kind.
    pub position: u64,
    /// What it holds.
    pub bytes: Bytes,
}

/// One step of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// Append a record.
    Put(Record),
    /// Forget every earlier record of this kind from this position on.
    TruncateSuffix {
        /// The kind.
        kind: u8,
        /// The first position that goes.
        from: u64,
    },
}

/// A state that can be written out piece by piece, on another thread, while the replica goes on.
pub trait CheckpointSource: Send + fmt::Debug {
    /// The next piece, of about [`CHECKPOINT_CHUNK_BYTES`](crate::limits::CHECKPOINT_CHUNK_BYTES); `None` at the end.
    fn next_chunk(&mut self) -> Option<Bytes>;

    /// Whether [`Self::next_chunk`] comes without waiting. A source that makes its pieces when they are asked for always is.
    fn is_ready(&mut self) -> bool {
        true
    }
}

/// What a start finds on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The chunks of the newest durable checkpoint, as its source gave them.
    pub checkpoint: Option<Vec<Bytes>>,
    /// The log's records, truncations carried out, in order.
    pub records: Vec<Record>,
    /// Whether the end of the log was cut: a write that was under way at a crash.
    pub torn: bool,
}

/// A step of the published state, for watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The position after the step.
    pub position: Position,
    /// What changed, in order. Events of one strong revision are never split over two changes. Shared by all who keep it.
    pub events: Arc<[ChangeEvent]>,
}

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeEvent {
    /// The key has a new entry.
    Put {
        /// The new entry.
        entry: Arc<Entry>,
        /// What it replaced; `None` if there was nothing, or where the mode doesn't keep it.
        previous: Option<Arc<Entry>>,
    },
    /// The key is gone.
    Deleted {
        /// The key.
        key: Key,
        /// The version of the deletion.
        version: Version,
        /// What was removed; `None` where the mode doesn't keep it.
        previous: Option<Arc<Entry>>,
    },
    /// So much changed at once (a snapshot was installed) that watchers must read the state again.
    Reset,
}
