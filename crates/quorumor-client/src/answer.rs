//! Answers, typed: what the calls of [`Client`](crate::Client) give back, and the receipt that each carries.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{
    Certainty, ClientId, ClusterId, DataEpoch, Dot, Durability, Entry, Error, Key, LeaderHint,
    LeaseId, Level, MemberCounts, Mode, NodeId, OperationResult, Revision, Staleness,
    StalenessBasis, Stamp, Term, Version, WriteOutcome, WritePosition,
};
use quorumor_proto::entry::{
    dot_from_wire, entry_from_wire, lease_from_wire, level_from_wire, mode_from_wire,
    version_from_wire,
};
use quorumor_proto::pb;
use tonic::Streaming;

use crate::wire::duration_from_wire;

/// What an answer says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The mode that answered.
    pub mode: Mode,
    /// The guarantee asked.
    pub asked: Level,
    /// The guarantee given: weaker than asked only if `degraded` is set.
    pub got: Level,
    /// Why the answer is weaker than asked.
    pub degraded: Option<String>,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that answered.
    pub node: NodeId,
    /// The data epoch.
    pub epoch: DataEpoch,
    /// The position of the answer.
    pub position: WritePosition,
    /// How stale the answer can be.
    pub staleness: Staleness,
    /// How many members the node sees.
    pub members: MemberCounts,
    /// The session token, opaque; empty if the request read and wrote nothing.
    pub token: Bytes,
    /// What became of the write; `None` where the request wrote nothing.
    pub write: Option<WriteOutcome>,
    /// What the applied write survives.
    pub durability: Option<Durability>,
    /// How many members held the write when it was answered, the one that took it included; `None` where no number was asked for.
    pub acks: Option<u32>,
    /// A step of a watch: in which order it gives changes.
    pub change_order: Option<ChangeOrder>,
}

/// In which order a watch gives changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOrder {
    /// Strong mode: each change once, in the order of revisions, the same at every node.
    Revision,
    /// Eventual mode: each writer's changes in its order, at least once; of several writers in the order in which they came to
    /// the node.
    Writer,
}

impl ChangeOrder {
    /// The order's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revision => "revision",
            Self::Writer => "writer",
        }
    }
}

impl Receipt {
    /// The leader that the node knows, in strong mode, and the term that it knows it in.
    #[must_use]
    pub const fn leader(&self) -> Option<(Term, &LeaderHint)> {
        match &self.position {
            WritePosition::Strong {
                term,
                leader: Some(leader),
                ..
            } => Some((*term, leader)),
            WritePosition::Strong { leader: None, .. } | WritePosition::Eventual { .. } => None,
        }
    }

    /// The revision, in strong mode.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        match &self.position {
            WritePosition::Strong { revision, .. } => Some(*revision),
            WritePosition::Eventual { .. } => None,
        }
    }

    /// The write's dot and stamp, in eventual mode.
    #[must_use]
    pub const fn dot(&self) -> Option<(Dot, Stamp)> {
        match &self.position {
            WritePosition::Strong { .. } => None,
            WritePosition::Eventual { write } => *write,
        }
    }

    pub(crate) fn from_wire(receipt: pb::Receipt) -> Result<Self, Error> {
        let position = match required(receipt.position, "receipt.position")? {
            pb::receipt::Position::Strong(strong) => WritePosition::Strong {
                revision: Revision::new(strong.revision),
                term: Term::new(strong.term),
                leader: NodeId::try_from(strong.leader_id)
                    .ok()
                    .map(|node| LeaderHint {
                        node,
                        client_address: some_text(strong.leader_address),
                    }),
            },
            pb::receipt::Position::Eventual(eventual) => WritePosition::Eventual {
                write: match eventual.dot {
                    Some(dot) => Some((dot_from_wire(dot)?, Stamp::from_u64(eventual.stamp))),
                    None => None,
                },
            },
        };
        let members = receipt.members.unwrap_or_default();
        Ok(Self {
            mode: required(mode_from_wire(receipt.mode)?, "receipt.mode")?,
            asked: required(level_from_wire(receipt.asked)?, "receipt.asked")?,
            got: required(level_from_wire(receipt.got)?, "receipt.got")?,
            degraded: some_text(receipt.degraded),
            cluster: ClusterId::new(receipt.cluster_id),
            node: NodeId::try_from(receipt.node_id)?,
            epoch: DataEpoch::new(receipt.data_epoch),
            position,
            staleness: staleness_from_wire(receipt.staleness.unwrap_or_default()),
            members: MemberCounts {
                alive: members.alive,
                suspect: members.suspect,
                down: members.down,
            },
            token: receipt.token,
            write: outcome_from_wire(receipt.write_outcome)?,
            durability: durability_from_wire(receipt.durability),
            acks: (receipt.acks > 0).then_some(receipt.acks),
            change_order: match pb::ChangeOrder::try_from(receipt.change_order) {
                Ok(pb::ChangeOrder::Revision) => Some(ChangeOrder::Revision),
                Ok(pb::ChangeOrder::Writer) => Some(ChangeOrder::Writer),
                Ok(pb::ChangeOrder::Unspecified) | Err(_) => None,
            },
        })
    }
}

fn staleness_from_wire(staleness: pb::Staleness) -> Staleness {
    let basis = match staleness.basis() {
        pb::StalenessBasis::Exact => StalenessBasis::Exact,
        pb::StalenessBasis::Proven => StalenessBasis::Proven,
        pb::StalenessBasis::Estimated => StalenessBasis::Estimated,
        pb::StalenessBasis::Unspecified | pb::StalenessBasis::Unknown => StalenessBasis::Unknown,
    };
    let age = staleness
        .contact_age
        .and_then(|age| Duration::try_from(age).ok());
    Staleness {
        basis,
        contact_age_ms: age.and_then(|age| u64::try_from(age.as_millis()).ok()),
        apply_lag: staleness.apply_lag,
    }
}

/// A kind that this client doesn't know is none.
pub(crate) fn durability_from_wire(durability: i32) -> Option<Durability> {
    match pb::Durability::try_from(durability).ok()? {
        pb::Durability::Unspecified => None,
        pb::Durability::Majority => Some(Durability::Majority),
        pb::Durability::Fsync => Some(Durability::Fsync),
        pb::Durability::Interval => Some(Durability::Interval),
        pb::Durability::Memory => Some(Durability::Memory),
    }
}

fn outcome_from_wire(outcome: i32) -> Result<Option<WriteOutcome>, Error> {
    match pb::WriteOutcome::try_from(outcome) {
        Ok(pb::WriteOutcome::Unspecified) => Ok(None),
        Ok(pb::WriteOutcome::Applied) => Ok(Some(WriteOutcome::Applied)),
        Ok(pb::WriteOutcome::NotApplied) => Ok(Some(WriteOutcome::Failed(Certainty::NotApplied))),
        Ok(pb::WriteOutcome::Unknown) => Ok(Some(WriteOutcome::Failed(Certainty::Unknown))),
        Err(_) => Err(Error::invalid(
            "receipt.write_outcome",
            format!("there is no outcome {outcome}"),
        )),
    }
}

/// An answer that can be read from its wire form.
pub(crate) trait Answer: Sized {
    type Wire;

    fn from_wire(wire: Self::Wire) -> Result<Self, Error>;

    /// The receipt; `None` for a stream, whose parts have theirs.
    fn receipt(&self) -> Option<&Receipt>;
}

macro_rules! answer {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* } from $wire:ident |$w:ident| $from:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// What the answer says about itself.
            pub receipt: Receipt,
        }

        impl Answer for $name {
            type Wire = pb::$wire;

            fn from_wire(mut $w: pb::$wire) -> Result<Self, Error> {
                let receipt = receipt(&mut $w.receipt)?;
                let ($($field,)*) = $from;
                Ok(Self { $($field,)* receipt })
            }

            fn receipt(&self) -> Option<&Receipt> {
                Some(&self.receipt)
            }
        }
    };
}

answer! {
    /// The key is set.
    PutAnswer {
        /// The entry's version.
        version: Version,
    } from PutResponse |wire| (version(wire.version)?,)
}

answer! {
    /// What a key holds.
    GetAnswer {
        /// Its entry; `None` if it is absent.
        entry: Option<Entry>,
    } from GetResponse |wire| (entry_if(wire.found, wire.entry)?,)
}

answer! {
    /// The key is absent now.
    DeleteAnswer {
        /// The entry that was removed; `None` if there was none.
        previous: Option<Entry>,
    } from DeleteResponse |wire| (entry_if(wire.found, wire.previous)?,)
}

answer! {
    /// One page of a listing. Each page is a view of its own: between pages keys may come and go.
    ListAnswer {
        /// The entries, in key order.
        entries: Vec<Entry>,
        /// Sent back, it gives the next page; `None` on the last.
        next_page: Option<Bytes>,
    } from ListResponse |wire| (
        wire.entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
        (!wire.next_page_token.is_empty()).then_some(wire.next_page_token),
    )
}

answer! {
    /// The compare was made.
    CompareAnswer {
        /// Whether it held, and so the value was set.
        succeeded: bool,
        /// The key's entry now; `None` if it is absent.
        entry: Option<Entry>,
    } from CompareAndSetResponse |wire| (wire.succeeded, optional_entry(wire.entry)?)
}

answer! {
    /// A session is open.
    SessionAnswer {
        /// Its id, for [`ClientSeq::client_id`](quorumor_core::ClientSeq).
        client: ClientId,
        /// How long it outlives its last write.
        ttl: Duration,
    } from OpenSessionResponse |wire| (
        ClientId::new(wire.client_id),
        duration_from_wire(wire.ttl).unwrap_or_default(),
    )
}

answer! {
    /// The session is closed.
    SessionClosed {} from CloseSessionResponse |wire| ()
}

answer! {
    /// The transaction was carried out.
    TxnAnswer {
        /// Whether the compares held, and so the `then` list was carried out, not the `otherwise` list.
        succeeded: bool,
        /// One result an operation of that list, in order.
        results: Vec<OperationResult>,
    } from TxnResponse |wire| (
        wire.succeeded,
        wire.results.into_iter().map(result_from_wire).collect::<Result<_, _>>()?,
    )
}

answer! {
    /// The lease is granted.
    LeaseGranted {
        /// Its id.
        lease: LeaseId,
        /// What it was granted for: at least what was asked.
        ttl: Duration,
    } from LeaseGrantResponse |wire| (
        some_lease(wire.lease_id)?,
        required(duration_from_wire(wire.ttl), "ttl")?,
    )
}

answer! {
    /// The lease and its keys are gone.
    LeaseRevoked {} from LeaseRevokeResponse |wire| ()
}

answer! {
    /// How long a lease has left.
    LeaseLeft {
        /// The lease; `None` if there is no such lease.
        lease: Option<LeaseInfo>,
    } from LeaseTimeToLiveResponse |wire| (
        if wire.found {
            Some(LeaseInfo::from_wire(required(wire.lease, "lease")?)?)
        } else {
            None
        },
    )
}

answer! {
    /// Live leases, by id.
    LeaseListAnswer {
        /// The leases, without their keys.
        leases: Vec<LeaseInfo>,
        /// Whether there are more above the last one.
        more: bool,
    } from LeaseListResponse |wire| (
        wire.leases.into_iter().map(LeaseInfo::from_wire).collect::<Result<_, _>>()?,
        wire.more,
    )
}

/// The keys of a range are absent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRangeAnswer {
    /// How many there were.
    pub count: u64,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// A live lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its id.
    pub id: LeaseId,
    /// What it was granted for.
    pub granted_ttl: Duration,
    /// What it has left at least: it can't expire before. `None` in a list of eventual mode where only its owner knows.
    pub remaining_ttl: Option<Duration>,
    /// Its keys, if they were asked for.
    pub keys: Vec<Key>,
    /// How many keys it has.
    pub key_count: u64,
    /// Eventual mode: the node that granted it.
    pub owner: Option<NodeId>,
}

impl LeaseInfo {
    fn from_wire(lease: pb::Lease) -> Result<Self, Error> {
        Ok(Self {
            id: some_lease(lease.lease_id)?,
            granted_ttl: duration_from_wire(lease.granted_ttl).unwrap_or_default(),
            remaining_ttl: duration_from_wire(lease.remaining_ttl),
            keys: lease
                .keys
                .iter()
                .map(|key| Key::parse(key))
                .collect::<Result<_, _>>()?,
            key_count: lease.key_count,
            owner: NodeId::try_from(lease.owner_node_id).ok(),
        })
    }
}

fn some_lease(id: u64) -> Result<LeaseId, Error> {
    required(lease_from_wire(id), "lease_id")
}

answer! {
    /// What the operations of a batch did.
    BatchAnswer {
        /// One result an operation, in order.
        results: Vec<OperationResult>,
    } from BatchResponse |wire| (
        wire.results.into_iter().map(result_from_wire).collect::<Result<_, _>>()?,
    )
}

pub(crate) fn result_from_wire(result: pb::BatchResult) -> Result<OperationResult, Error> {
    use pb::batch_result::Result as Wire;
    Ok(match required(result.result, "result")? {
        Wire::Put(put) => OperationResult::Put {
            version: version(put.version)?,
        },
        Wire::Delete(delete) => OperationResult::Deleted {
            previous: entry_if(delete.found, delete.previous)?,
        },
        Wire::CompareAndSet(compared) => OperationResult::Compared {
            succeeded: compared.succeeded,
            entry: optional_entry(compared.entry)?,
        },
        Wire::Get(got) => OperationResult::Got {
            entry: entry_if(got.found, got.entry)?,
        },
        Wire::DeleteRange(deleted) => OperationResult::RangeDeleted {
            count: deleted.count,
        },
    })
}

/// A stream that has begun.
pub(crate) struct Stream<M>(pub(crate) Streaming<M>);

impl<M> Answer for Stream<M> {
    type Wire = Streaming<M>;

    fn from_wire(wire: Streaming<M>) -> Result<Self, Error> {
        Ok(Self(wire))
    }

    fn receipt(&self) -> Option<&Receipt> {
        None
    }
}

pub(crate) fn receipt(receipt: &mut Option<pb::Receipt>) -> Result<Receipt, Error> {
    Receipt::from_wire(required(receipt.take(), "receipt")?)
}

pub(crate) fn version(version: Option<pb::Version>) -> Result<Version, Error> {
    version_from_wire(required(version, "version")?)
}

fn optional_entry(entry: Option<pb::Entry>) -> Result<Option<Entry>, Error> {
    entry.map(entry_from_wire).transpose()
}

fn entry_if(found: bool, entry: Option<pb::Entry>) -> Result<Option<Entry>, Error> {
    if found {
        Ok(Some(entry_from_wire(required(entry, "entry")?)?))
    } else {
        Ok(None)
    }
}

pub(crate) fn required<T>(field: Option<T>, name: &'static str) -> Result<T, Error> {
    field.ok_or_else(|| Error::invalid(name, "the field is missing"))
}

pub(crate) fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
