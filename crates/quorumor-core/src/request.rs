//! What a replica can be asked.
//!
//! Reads never pass through a replica as reads: a [`Command::ReadBarrier`] makes the published [`View`](crate::View)
//! fit for the read, and the shell then reads the view. So one piece of code answers reads in both modes.

use std::net::SocketAddr;

use crate::entry::Entry;
use crate::error::Error;
use crate::id::{ClientId, DataEpoch, LeaseId, Level, LogIndex, NodeId, RequestId, Revision};
use crate::key::{Key, KeyRange};
use crate::limits::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX, TXN_OPERATIONS_MAX};
use crate::time::Mono;
use crate::value::Value;
use crate::version::{Position, Version, VersionVector};
use crate::view::Confirmed;

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
        /// Eventual mode: how many members, this node included, must hold the write before the reply; 0 and 1 ask for no
        /// more than this node.
        acks: u32,
    },
    /// Carry out a transaction. Strong mode only.
    Txn {
        /// What to compare and do.
        txn: Txn,
        /// The client's own number for this write.
        client: Option<ClientSeq>,
    },
    /// Do something to a lease.
    Lease(LeaseAction),
    /// Open or close a client's session. Strong mode only.
    Session(SessionAction),
    /// Change the cluster.
    Cluster(ClusterAction),
    /// Answer once the published view is fit for a read at this level that has seen [`Request::after`].
    ReadBarrier {
        /// The level asked for. A mode that can't give it refuses.
        level: Level,
        /// What [`Level::Bounded`] and [`Level::Sampled`] demand; ignored by other levels.
        bound: Bound,
    },
    /// Name the members as this node believes them. Answered by [`Reply::Members`](crate::Reply::Members). Eventual mode only:
    /// in strong mode the published status lists them.
    Members,
    /// Give the whole state for a backup, confirmed as a linearizable read is. Strong mode only.
    Backup,
}

/// How stale a bounded read may be, and how many members a sampled one asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Entries that were committed when the proof was asked for and may be missing here. `u64::MAX` for any.
    pub max_lag: u64,
    /// How old the proof may be, in microseconds: nothing acknowledged before that may be missing, but for `max_lag`.
    pub max_age_us: u64,
    /// How many other members a sampled read asks.
    pub members: u32,
}

impl Bound {
    /// No bound at all: what other levels carry.
    pub const NONE: Self = Self {
        max_lag: u64::MAX,
        max_age_us: u64::MAX,
        members: 0,
    };

    /// Whether a proof and what is applied here satisfy it.
    #[must_use]
    pub const fn is_met(&self, confirmed: Confirmed, applied: LogIndex, now: Mono) -> bool {
        now.since_us(confirmed.asked_at) <= self.max_age_us
            && confirmed.index.as_u64().saturating_sub(applied.as_u64()) <= self.max_lag
    }
}

/// Compares, then one of two lists of operations, all at one place in the order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of them must hold for `success` to be carried out; none is no condition.
    pub compares: Vec<Compare>,
    /// What to do if they hold.
    pub success: Vec<Operation>,
    /// What to do if one doesn't.
    pub failure: Vec<Operation>,
}

/// One condition of a transaction, as in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Key,
    /// How what the key has must relate to what the target names.
    pub relation: Relation,
    /// What of the key is compared, and with what.
    pub target: CompareTarget,
}

/// How two things must relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are equal.
    Equal,
    /// They differ.
    NotEqual,
    /// The key's is greater.
    Greater,
    /// The key's is less.
    Less,
}

/// What of a key is compared. An absent key has zero for each number, and no value: comparing that never holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The revision that made it.
    CreateRevision(Revision),
    /// The revision that wrote it last.
    ModRevision(Revision),
    /// How often it was written since it was made.
    Count(u64),
    /// Its value, in the order of bytes.
    Value(Value),
    /// Its lease, 0 for none.
    Lease(LeaseId),
}

/// What to do to a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseAction {
    /// Grant one. Answered by [`Reply::LeaseGranted`](crate::Reply::LeaseGranted).
    Grant {
        /// The id that the caller wants; `None` for one of the cluster's choice.
        id: Option<LeaseId>,
        /// For how long, in milliseconds. Raised to the cluster's minimum.
        ttl_ms: u64,
        /// The client's own number for this write.
        client: Option<ClientSeq>,
    },
    /// End one, and remove its keys. Answered by [`Reply::Written`](crate::Reply::Written) without results.
    Revoke {
        /// Which.
        id: LeaseId,
        /// The client's own number for this write.
        client: Option<ClientSeq>,
    },
    /// Let one live for its whole TTL again. Answered by [`Reply::LeaseKept`](crate::Reply::LeaseKept) once it is replicated.
    KeepAlive {
        /// Which.
        id: LeaseId,
    },
    /// Tell what one has left. Answered by [`Reply::LeaseSeen`](crate::Reply::LeaseSeen). Eventual mode only, where its owner alone
    /// knows: in strong mode the published view says it.
    Look {
        /// Which.
        id: LeaseId,
    },
}

/// What to do to a client's session (Raft dissertation, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// Open one. Answered by [`Reply::SessionOpened`](crate::Reply::SessionOpened).
    Open {
        /// How long it outlives its last write, in milliseconds.
        ttl_ms: u64,
    },
    /// Close one. Closing one that is gone is no error. Answered by [`Reply::Written`](crate::Reply::Written) without results.
    Close {
        /// Which.
        client_id: ClientId,
    },
}

/// A change of the cluster. But for the last one, strong mode only. Answered by [`Reply::ClusterChanged`](crate::Reply::ClusterChanged).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterAction {
    /// Take a new node in as a learner. Its id must never have been used.
    AddLearner {
        /// The node.
        node: NodeId,
        /// Where it talks to peers.
        peer_address: SocketAddr,
        /// Whether to make it a voter by itself once it has caught up.
        promote: bool,
    },
    /// Make a learner that has caught up a voter.
    Promote {
        /// The learner.
        node: NodeId,
        /// The voter that goes at the same moment (by joint consensus).
        replacing: Option<NodeId>,
    },
    /// Remove a node for good.
    Remove {
        /// The node.
        node: NodeId,
        /// Whether to do it even if the voters that answer are no majority of those that stay.
        allow_quorum_loss: bool,
    },
    /// Hand leadership over.
    TransferLeader {
        /// To whom; `None` for the voter that has caught up best.
        to: Option<NodeId>,
    },
    /// Forget the history through this revision.
    CompactHistory {
        /// The revision; reads at it stay possible.
        through: Revision,
    },
    /// Raise the epoch of the data: tokens and cursors from before are refused. Both modes.
    AdvanceEpoch {
        /// It must be above this one, so that a repeated request does no more; `None` for one above what it is.
        above: Option<DataEpoch>,
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
        /// The lease that the entry lives by. Strong mode: a put without one frees the entry from its old one.
        lease: Option<LeaseId>,
    },
    /// Remove a key. Removing an absent key is no error.
    Delete {
        /// The key.
        key: Key,
    },
    /// Remove every key of a range. Strong mode only.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
    /// Set a key if it is as expected. Strong mode only.
    CompareAndSet {
        /// The key.
        key: Key,
        /// What must hold.
        expected: Expected,
        /// The new value.
        value: Value,
        /// The lease that the new entry lives by.
        lease: Option<LeaseId>,
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
    /// The key that it concerns; `None` if it concerns a range.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Put { key, .. }
            | Self::Delete { key }
            | Self::CompareAndSet { key, .. }
            | Self::Get { key } => Some(key),
            Self::DeleteRange { .. } => None,
        }
    }

    /// Whether it can change anything.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Put { .. }
            | Self::Delete { .. }
            | Self::DeleteRange { .. }
            | Self::CompareAndSet { .. } => true,
            Self::Get { .. } => false,
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
            Self::DeleteRange { range } => range.bytes(),
            Self::Delete { .. } | Self::Get { .. } => 0,
        };
        self.key().map_or(0, |key| key.as_str().len()) + rest
    }
}

impl Command {
    /// A write, checked against the limits.
    ///
    /// # Errors
    /// `InvalidArgument` for no operations, `TooLarge` for too many or too heavy ones.
    pub fn write(operations: Vec<Operation>, client: Option<ClientSeq>) -> Result<Self, Error> {
        Self::write_held(operations, client, 0)
    }

    /// As [`Self::write`], held by so many members before the reply.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_held(
        operations: Vec<Operation>,
        client: Option<ClientSeq>,
        acks: u32,
    ) -> Result<Self, Error> {
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
        Ok(Self::Write {
            operations,
            client,
            acks,
        })
    }

    /// A transaction, checked against the limits.
    ///
    /// # Errors
    /// `TooLarge` for too many or too heavy parts.
    pub fn txn(txn: Txn, client: Option<ClientSeq>) -> Result<Self, Error> {
        let longest = txn
            .compares
            .len()
            .max(txn.success.len())
            .max(txn.failure.len());
        if longest > TXN_OPERATIONS_MAX {
            let limit = "txn_operations_max";
            return Err(Error::too_large(limit, TXN_OPERATIONS_MAX, longest));
        }
        let bytes = txn.bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::too_large("batch_bytes_max", BATCH_BYTES_MAX, bytes));
        }
        Ok(Self::Txn { txn, client })
    }

    /// A linearizable read barrier.
    #[must_use]
    pub const fn linearizable() -> Self {
        Self::ReadBarrier {
            level: Level::Linearizable,
            bound: Bound::NONE,
        }
    }

    /// The bytes of keys and values that it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Write { operations, .. } => operations.iter().map(Operation::bytes).sum(),
            Self::Txn { txn, .. } => txn.bytes(),
            Self::Lease(_)
            | Self::Session(_)
            | Self::Cluster(_)
            | Self::ReadBarrier { .. }
            | Self::Members
            | Self::Backup => 0,
        }
    }
}

impl Txn {
    /// The bytes of keys and values that it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let operations = self.success.iter().chain(&self.failure);
        let compares = self.compares.iter().map(|compare| {
            let value = match &compare.target {
                CompareTarget::Value(value) => value.as_bytes().len(),
                CompareTarget::CreateRevision(_)
                | CompareTarget::ModRevision(_)
                | CompareTarget::Count(_)
                | CompareTarget::Lease(_) => 0,
            };
            compare.key.as_str().len() + value
        });
        operations.map(Operation::bytes).sum::<usize>() + compares.sum::<usize>()
    }
}

impl Compare {
    /// Whether it holds for what the key has now.
    #[must_use]
    pub fn holds(&self, entry: Option<&Entry>) -> bool {
        let (create, modify, count) = match entry.map(|entry| &entry.version) {
            Some(Version::Strong {
                create,
                modify,
                count,
            }) => (*create, *modify, *count),
            Some(Version::Eventual { .. }) | None => (Revision::ZERO, Revision::ZERO, 0),
        };
        let order = match &self.target {
            CompareTarget::CreateRevision(revision) => create.cmp(revision),
            CompareTarget::ModRevision(revision) => modify.cmp(revision),
            CompareTarget::Count(number) => count.cmp(number),
            CompareTarget::Lease(lease) => entry
                .and_then(|entry| entry.lease)
                .unwrap_or_default()
                .cmp(lease),
            CompareTarget::Value(value) => match entry {
                Some(entry) => entry.value.as_bytes().cmp(value.as_bytes()),
                None => return false,
            },
        };
        match self.relation {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
        }
    }
}
