//! What a replica answers.

use crate::entry::Entry;
use crate::id::{ClientId, LeaseId};
use crate::replica::CheckpointSource;
use crate::version::{Position, Version};
use crate::view::Member;

/// A replica's answer to a request that it carried out.
#[derive(Debug, PartialEq)]
pub enum Reply {
    /// The write was applied (strong) or merged and made durable here (eventual).
    Written {
        /// One result an operation, in order.
        results: Vec<OperationResult>,
        /// A state that includes the write: the caller's next token demands it.
        position: Position,
        /// Eventual mode: the last dot that the write made, with its stamp. `None` if it changed nothing, and in
        /// strong mode.
        dot: Option<(crate::Dot, crate::Stamp)>,
    },
    /// The transaction was carried out.
    TxnDone {
        /// Whether the compares held, and so `success` was carried out.
        succeeded: bool,
        /// One result an operation of the list that was carried out, in order.
        results: Vec<OperationResult>,
        /// A state that includes it.
        position: Position,
    },
    /// The lease is granted.
    LeaseGranted {
        /// Its id.
        id: LeaseId,
        /// What it was granted for, in milliseconds.
        ttl_ms: u64,
        /// A state that includes it.
        position: Position,
    },
    /// The lease lives for its whole TTL again.
    LeaseKept {
        /// Its TTL, in milliseconds, from a moment after the keep-alive came in.
        ttl_ms: u64,
    },
    /// What the lease has left at its owner.
    LeaseSeen {
        /// What it was granted for, in milliseconds.
        ttl_ms: u64,
        /// What it has left at least, in milliseconds.
        remaining_ms: u64,
        /// A state that includes its grant.
        position: Position,
    },
    /// The members, by id, this node among them.
    Members {
        /// As this node believes them.
        members: Vec<Member>,
    },
    /// The session is open.
    SessionOpened {
        /// Its id.
        client_id: ClientId,
        /// How long it outlives its last write, in milliseconds.
        ttl_ms: u64,
        /// A state that includes it.
        position: Position,
    },
    /// The change of the cluster is done: committed, or, for a transfer, the new leader known.
    ClusterChanged {
        /// A state that includes it.
        position: Position,
    },
    /// The published view is fit for the read.
    ReadReady {
        /// What the view at least covers.
        position: Position,
    },
    /// The whole state.
    Backup {
        /// The state, piece by piece, in the form of a checkpoint.
        source: BackupSource,
        /// What it covers.
        position: Position,
    },
}

/// A state to be written out piece by piece.
#[derive(Debug)]
pub struct BackupSource(pub Box<dyn CheckpointSource>);

impl PartialEq for BackupSource {
    /// What is yet to come of two sources can't be compared: none equals another.
    fn eq(&self, _other: &Self) -> bool {
        false
    }
}

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationResult {
    /// The put is the key's entry now.
    Put {
        /// Its version.
        version: Version,
    },
    /// The key is absent now.
    Deleted {
        /// What was removed; `None` if there was nothing.
        previous: Option<Entry>,
    },
    /// The keys of the range are absent now.
    RangeDeleted {
        /// How many there were.
        count: u64,
    },
    /// The compare was made.
    Compared {
        /// Whether it held, and so the value was set.
        succeeded: bool,
        /// The key's entry after the operation.
        entry: Option<Entry>,
    },
    /// The key was read.
    Got {
        /// Its entry.
        entry: Option<Entry>,
    },
}
