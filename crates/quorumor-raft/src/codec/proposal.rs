//! What an entry of the replicated log says: a client's request, the leader's own upkeep, or a node's word about itself.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message as _;
use quorumor_core::{
    ClientId, ClientSeq, DataEpoch, LeaseId, LogTime, NodeId, Operation, Revision, StoreId, Txn,
};

use super::CodecError;
use super::operation::{
    Nothing, WireCompare, WireOperation, compare, lease_number, lease_of, operation, wire_compare,
    wire_operation,
};
use crate::membership::MemberRecord;

mod fingerprint;

/// Names a write over all nodes and restarts: the node that took it, that node's start, and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId {
    /// The node that took the write from its client.
    pub(crate) node: NodeId,
    /// That node's start.
    pub(crate) boot_nonce: u64,
    /// Its count within that start.
    pub(crate) counter: u64,
}

/// One entry's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Whose it is.
    pub(crate) id: WriteId,
    /// What it does.
    pub(crate) body: Body,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A client's operations.
    Write {
        operations: Vec<Operation>,
        client: Option<ClientSeq>,
    },
    /// A client's transaction.
    Txn { txn: Txn, client: Option<ClientSeq> },
    /// A new lease.
    Grant {
        id: Option<LeaseId>,
        ttl_ms: u64,
        client: Option<ClientSeq>,
    },
    /// The end of a lease.
    Revoke {
        id: LeaseId,
        client: Option<ClientSeq>,
    },
    /// All keep-alives that waited at one node.
    KeepAlive { leases: Vec<LeaseId> },
    /// The leader's word that these may be over; each ends unless a renewal came before.
    Expire { leases: Vec<LeaseId> },
    /// A new session. The nonce makes its id hard to guess.
    OpenSession { ttl_ms: u64, nonce: u32 },
    /// The end of a session.
    CloseSession { client_id: ClientId },
    /// The end of the history through a revision.
    Compact { through: Revision },
    /// The data's epoch is raised.
    AdvanceEpoch { above: Option<DataEpoch> },
    /// The leader's sign that time goes on, with the digest of the state at an earlier place, for comparing.
    Tick { digest: Option<DigestAt> },
    /// A node says where it is reached.
    Member { node: NodeId, record: MemberRecord },
}

/// The digest of the state at a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DigestAt {
    pub(crate) index: u64,
    pub(crate) digest: u64,
}

/// Log time as an entry carries it, beside its data: the leader adds it when it proposes, whoever made the data.
pub(crate) fn encode_time(time: LogTime) -> Bytes {
    Bytes::copy_from_slice(&time.0.to_be_bytes())
}

/// The log time that an entry carries, if any.
pub(crate) fn decode_time(context: &[u8]) -> Result<Option<LogTime>, CodecError> {
    if context.is_empty() {
        return Ok(None);
    }
    let bytes = context
        .try_into()
        .map_err(|_| CodecError::Invalid("an entry whose log time is none"))?;
    Ok(Some(LogTime(u64::from_be_bytes(bytes))))
}

impl Proposal {
    /// What a tick carries, if this is one.
    pub(crate) const fn tick(&self) -> Option<Option<DigestAt>> {
        match &self.body {
            Body::Tick { digest } => Some(*digest),
            Body::Write { .. }
            | Body::Txn { .. }
            | Body::Grant { .. }
            | Body::Revoke { .. }
            | Body::KeepAlive { .. }
            | Body::Expire { .. }
            | Body::OpenSession { .. }
            | Body::CloseSession { .. }
            | Body::Compact { .. }
            | Body::AdvanceEpoch { .. }
            | Body::Member { .. } => None,
        }
    }

    /// As an entry's data.
    pub(crate) fn encode(&self) -> Bytes {
        WireProposal {
            node: self.id.node.as_u64(),
            boot_nonce: self.id.boot_nonce,
            counter: self.id.counter,
            body: Some(wire_body(&self.body)),
        }
        .encode_to_vec()
        .into()
    }

    /// From an entry's data. Values share its bytes.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let wire = WireProposal::decode(bytes)?;
        let id = WriteId {
            node: NodeId::try_from(wire.node)?,
            boot_nonce: wire.boot_nonce,
            counter: wire.counter,
        };
        let body = wire
            .body
            .ok_or(CodecError::Invalid("an entry of an unknown kind"))?;
        Ok(Self {
            id,
            body: body_of(body)?,
        })
    }
}

fn wire_body(body: &Body) -> WireBody {
    match body {
        Body::Write { operations, client } => WireBody::Write(WireWrite {
            operations: operations.iter().map(wire_operation).collect(),
            client: client.map(WireClient::from),
        }),
        Body::Txn { txn, client } => WireBody::Txn(WireTxn {
            compares: txn.compares.iter().map(wire_compare).collect(),
            success: txn.success.iter().map(wire_operation).collect(),
            failure: txn.failure.iter().map(wire_operation).collect(),
            client: client.map(WireClient::from),
        }),
        Body::Grant { id, ttl_ms, client } => WireBody::Grant(WireLease {
            id: lease_number(*id),
            ttl_ms: *ttl_ms,
            client: client.map(WireClient::from),
        }),
        Body::Revoke { id, client } => WireBody::Revoke(WireLease {
            id: id.as_u64(),
            ttl_ms: 0,
            client: client.map(WireClient::from),
        }),
        Body::KeepAlive { leases } => WireBody::KeepAlive(WireLeases::from_ids(leases)),
        Body::Expire { leases } => WireBody::Expire(WireLeases::from_ids(leases)),
        Body::OpenSession { ttl_ms, nonce } => WireBody::OpenSession(WireOpen {
            ttl_ms: *ttl_ms,
            nonce: *nonce,
        }),
        Body::CloseSession { client_id } => WireBody::CloseSession(client_id.as_u64()),
        Body::Compact { through } => WireBody::Compact(through.as_u64()),
        Body::AdvanceEpoch { above } => WireBody::AdvanceEpoch(WireEpoch {
            above: above.map(DataEpoch::as_u64),
        }),
        Body::Tick { digest: None } => WireBody::Tick(Nothing {}),
        Body::Tick {
            digest: Some(digest),
        } => WireBody::Digest(WireDigest {
            index: digest.index,
            digest: digest.digest,
        }),
        Body::Member { node, record } => WireBody::Member(WireMember::from_record(*node, record)),
    }
}

fn body_of(wire: WireBody) -> Result<Body, CodecError> {
    Ok(match wire {
        WireBody::Write(write) => Body::Write {
            operations: operations_of(write.operations)?,
            client: write.client.map(ClientSeq::from),
        },
        WireBody::Txn(txn) => Body::Txn {
            txn: Txn {
                compares: txn
                    .compares
                    .into_iter()
                    .map(compare)
                    .collect::<Result<_, _>>()?,
                success: operations_of(txn.success)?,
                failure: operations_of(txn.failure)?,
            },
            client: txn.client.map(ClientSeq::from),
        },
        WireBody::Grant(grant) => Body::Grant {
            id: lease_of(grant.id),
            ttl_ms: grant.ttl_ms,
            client: grant.client.map(ClientSeq::from),
        },
        WireBody::Revoke(revoke) => Body::Revoke {
            id: LeaseId::new(revoke.id),
            client: revoke.client.map(ClientSeq::from),
        },
        WireBody::KeepAlive(leases) => Body::KeepAlive {
            leases: leases.into_ids(),
        },
        WireBody::Expire(leases) => Body::Expire {
            leases: leases.into_ids(),
        },
        WireBody::OpenSession(WireOpen { ttl_ms, nonce }) => Body::OpenSession { ttl_ms, nonce },
        WireBody::OpenPlain(ttl_ms) => Body::OpenSession { ttl_ms, nonce: 0 },
        WireBody::CloseSession(client_id) => Body::CloseSession {
            client_id: ClientId::new(client_id),
        },
        WireBody::Compact(through) => Body::Compact {
            through: Revision::new(through),
        },
        WireBody::AdvanceEpoch(WireEpoch { above }) => Body::AdvanceEpoch {
            above: above.map(DataEpoch::new),
        },
        WireBody::Tick(Nothing {}) => Body::Tick { digest: None },
        WireBody::Digest(WireDigest { index, digest }) => Body::Tick {
            digest: Some(DigestAt { index, digest }),
        },
        WireBody::Member(member) => {
            let (node, record) = member.into_record()?;
            Body::Member { node, record }
        }
    })
}

fn operations_of(wire: Vec<WireOperation>) -> Result<Vec<Operation>, CodecError> {
    wire.into_iter().map(operation).collect()
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireProposal {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    boot_nonce: u64,
    #[prost(uint64, tag = "3")]
    counter: u64,
    #[prost(
        oneof = "WireBody",
        tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17"
    )]
    body: Option<WireBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireBody {
    #[prost(message, tag = "4")]
    Write(WireWrite),
    #[prost(message, tag = "5")]
    Member(WireMember),
    #[prost(message, tag = "6")]
    Txn(WireTxn),
    #[prost(message, tag = "7")]
    Grant(WireLease),
    #[prost(message, tag = "8")]
    Revoke(WireLease),
    #[prost(message, tag = "9")]
    KeepAlive(WireLeases),
    #[prost(message, tag = "10")]
    Expire(WireLeases),
    /// A session whose id is its place in the log. Still read, no longer written.
    #[prost(uint64, tag = "11")]
    OpenPlain(u64),
    #[prost(uint64, tag = "12")]
    CloseSession(u64),
    #[prost(uint64, tag = "13")]
    Compact(u64),
    #[prost(message, tag = "14")]
    Tick(Nothing),
    #[prost(message, tag = "15")]
    Digest(WireDigest),
    #[prost(message, tag = "16")]
    OpenSession(WireOpen),
    #[prost(message, tag = "17")]
    AdvanceEpoch(WireEpoch),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireWrite {
    #[prost(message, repeated, tag = "1")]
    operations: Vec<WireOperation>,
    #[prost(message, optional, tag = "2")]
    client: Option<WireClient>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireTxn {
    #[prost(message, repeated, tag = "1")]
    compares: Vec<WireCompare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<WireOperation>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<WireOperation>,
    #[prost(message, optional, tag = "4")]
    client: Option<WireClient>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireLease {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    ttl_ms: u64,
    #[prost(message, optional, tag = "3")]
    client: Option<WireClient>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireOpen {
    #[prost(uint64, tag = "1")]
    ttl_ms: u64,
    #[prost(fixed32, tag = "2")]
    nonce: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireEpoch {
    #[prost(uint64, optional, tag = "1")]
    above: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireLeases {
    #[prost(uint64, repeated, tag = "1")]
    ids: Vec<u64>,
}

impl WireLeases {
    fn from_ids(leases: &[LeaseId]) -> Self {
        Self {
            ids: leases.iter().copied().map(LeaseId::as_u64).collect(),
        }
    }

    fn into_ids(self) -> Vec<LeaseId> {
        self.ids.into_iter().map(LeaseId::new).collect()
    }
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireDigest {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(fixed64, tag = "2")]
    digest: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireClient {
    #[prost(uint64, tag = "1")]
    client_id: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint64, tag = "3")]
    acked_through: u64,
}

impl From<ClientSeq> for WireClient {
    fn from(client: ClientSeq) -> Self {
        Self {
            client_id: client.client_id.as_u64(),
            seq: client.seq,
            acked_through: client.acked_through,
        }
    }
}

impl From<WireClient> for ClientSeq {
    fn from(wire: WireClient) -> Self {
        Self {
            client_id: ClientId::new(wire.client_id),
            seq: wire.seq,
            acked_through: wire.acked_through,
        }
    }
}

/// A member record, in entries and in checkpoints.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireMember {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, optional, tag = "2")]
    store: Option<u64>,
    #[prost(string, tag = "3")]
    peer_address: String,
    #[prost(string, optional, tag = "4")]
    client_address: Option<String>,
}

impl WireMember {
    pub(crate) fn from_record(node: NodeId, record: &MemberRecord) -> Self {
        Self {
            node: node.as_u64(),
            store: record.store.map(StoreId::as_u64),
            peer_address: record.peer_address.to_string(),
            client_address: record.client_address.clone(),
        }
    }

    pub(crate) fn into_record(self) -> Result<(NodeId, MemberRecord), CodecError> {
        let peer_address: SocketAddr = self
            .peer_address
            .parse()
            .map_err(|_| CodecError::Invalid("a member's peer address is none"))?;
        let record = MemberRecord {
            store: self.store.map(StoreId::new),
            peer_address,
            client_address: self.client_address,
        };
        Ok((NodeId::try_from(self.node)?, record))
    }
}
