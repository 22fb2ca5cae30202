//! What a replica can be asked, and what it answers.
//!
//! Reads never pass through a replica as reads: a [`Command::ReadBarrier`] makes the published [`View`](crate::View)
//! fit for the read, and the shell then reads the view. So one piece of code answers reads in both modes.

use crate::entry::Entry;
use crate::id::{ClientId, Level, RequestId};
use crate::key::Key;
use crate::limits::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX};
use crate::value::Value;
use crate::version::{Position, Version, VersionVector};
use crate::{Error, Revision};

/// A client's place in its own sequence of writes: the same pair is the same write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSeq {
    /// The client.
    pub client_id: ClientId,
    /// Its number for this write, growing from 1.
    pub seq: u64,
    /// Every number up to this one has been answered; its results may be forgotten.
    pub acked_through: u64,
}

/// One request to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// What the caller has already seen (its token's position). The replica acts only on a state that covers it.
    pub after: Option<Position>,
    /// For logs.
    pub request_id: RequestId,
}

/// What a replica does for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Carry out these operations in order, as one unit of replication. They are not a transaction: each has a result
    /// of its own, and one that does nothing undoes no other.
    Write {
        /// 1 to [`BATCH_OPERATIONS_MAX`] operations.
        operations: Vec<Operation>,
        /// The client's own number for this write.
        client: Option<ClientSeq>,
    },
    /// Answer once the published view is fit for a read at this level that has seen [`Request::after`].
    ReadBarrier {
        /// The level asked for. A mode that can't give it refuses.
        level: Level,
    },
}

/// One operation of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Set a key.
    Put {
        /// The key.
        key: Key,
        /// Its new value.
        value: Value,
        /// Eventual mode: the writes that this one replaces, from the entry that the caller read. Without it the put
        /// replaces what this node holds. Ignored in strong mode, where order alone decides.
        context: Option<VersionVector>,
    },
    /// Remove a key. Removing an absent key is no error.
    Delete {
        /// The key.
        key: Key,
    },
    /// Set a key if it is as expected. Strong mode only.
    CompareAndSet {
        /// The key.
        key: Key,
        /// What must hold.
        expected: Expected,
        /// The new value.
        value: Value,
    },
    /// Read a key at this place in the batch.
    Get {
        /// The key.
        key: Key,
    },
}

/// What a compare-and-set expects of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The key is absent.
    Absent,
    /// The key was last written by this revision.
    Revision(Revision),
    /// The key holds this value.
    Value(Value),
}

impl Expected {
    /// Whether an entry, or the absence of one, is as expected.
    #[must_use]
    pub fn matches(&self, entry: Option<&Entry>) -> bool {
        match (self, entry) {
            (Self::Absent, None) => true,
            (
                Self::Revision(expected),
                Some(Entry {
                    version: Version::Strong { modify, .. },
                    ..
                }),
            ) => modify == expected,
            (Self::Value(expected), Some(entry)) => entry.value == *expected,
            (Self::Absent, Some(_))
            | (
                Self::Revision(_),
                None
                | Some(Entry {
                    version: Version::Eventual { .. },
                    ..
                }),
            )
            | (Self::Value(_), None) => false,
        }
    }
}

impl Operation {
    /// The key that it concerns.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::CompareAndSet { key, .. }
            | Self::Get { key } => key,
        }
    }

    /// The bytes that it carries: key, value and expected value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rest = match self {
            Self::Put { value, .. } => value.as_bytes().len(),
            Self::CompareAndSet {
                value, expected, ..
            } => {
                let expected = match expected {
                    Expected::Value(value) => value.as_bytes().len(),
                    Expected::Absent | Expected::Revision(_) => 0,
                };
                value.as_bytes().len() + expected
            }
            Self::Delete { .. } | Self::Get { .. } => 0,
        };
        self.key().as_str().len() + rest
    }
}

impl Command {
    /// A write, checked against the limits.
    ///
    /// # Errors
    /// `InvalidArgument` for no operations, `TooLarge` for too many or too heavy ones.
    pub fn write(operations: Vec<Operation>, client: Option<ClientSeq>) -> Result<Self, Error> {
        if operations.is_empty() {
            return Err(Error::invalid(
                "operations",
                "a batch holds at least one operation",
            ));
        }
        if operations.len() > BATCH_OPERATIONS_MAX {
            return Err(Error::too_large(
                "batch_operations_max",
                BATCH_OPERATIONS_MAX,
                operations.len(),
            ));
        }
        let bytes = operations.iter().map(Operation::bytes).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::too_large("batch_bytes_max", BATCH_BYTES_MAX, bytes));
        }
        Ok(Self::Write { operations, client })
    }
}

/// A replica's answer to a request that it carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The published view is fit for the read.
    ReadReady {
        /// What the view at least covers.
        position: Position,
    },
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
