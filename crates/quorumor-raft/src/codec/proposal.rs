//! What an entry of the replicated log says: a write of a client, or a node's word about itself.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message as _;
use quorumor_core::{
    ClientId, ClientSeq, Expected, Key, KeyRange, NodeId, Operation, Revision, StoreId, Value,
};

use super::CodecError;
use crate::membership::MemberRecord;

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
        /// The operations.
        operations: Vec<Operation>,
        /// The client's own number.
        client: Option<ClientSeq>,
    },
    /// A node says where it is reached.
    Member {
        /// The node.
        node: NodeId,
        /// What it says.
        record: MemberRecord,
    },
}

impl Proposal {
    /// As an entry's data.
    pub(crate) fn encode(&self) -> Bytes {
        let body = match &self.body {
            Body::Write { operations, client } => WireBody::Write(WireWrite {
                operations: operations.iter().map(wire_operation).collect(),
                client: client.map(|client| WireClient {
                    client_id: client.client_id.as_u64(),
                    seq: client.seq,
                    acked_through: client.acked_through,
                }),
            }),
            Body::Member { node, record } => {
                WireBody::Member(WireMember::from_record(*node, record))
            }
        };
        WireProposal {
            node: self.id.node.as_u64(),
            boot_nonce: self.id.boot_nonce,
            counter: self.id.counter,
            body: Some(body),
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
        let body = match wire
            .body
            .ok_or(CodecError::Invalid("an entry of an unknown kind"))?
        {
            WireBody::Write(write) => Body::Write {
                operations: write
                    .operations
                    .into_iter()
                    .map(operation)
                    .collect::<Result<_, _>>()?,
                client: write.client.map(|client| ClientSeq {
                    client_id: ClientId::new(client.client_id),
                    seq: client.seq,
                    acked_through: client.acked_through,
                }),
            },
            WireBody::Member(member) => {
                let (node, record) = member.into_record()?;
                Body::Member { node, record }
            }
        };
        Ok(Self { id, body })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireProposal {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    boot_nonce: u64,
    #[prost(uint64, tag = "3")]
    counter: u64,
    #[prost(oneof = "WireBody", tags = "4, 5")]
    body: Option<WireBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireBody {
    #[prost(message, tag = "4")]
    Write(WireWrite),
    #[prost(message, tag = "5")]
    Member(WireMember),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireWrite {
    #[prost(message, repeated, tag = "1")]
    operations: Vec<WireOperation>,
    #[prost(message, optional, tag = "2")]
    client: Option<WireClient>,
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

#[derive(Clone, PartialEq, prost::Message)]
struct WireOperation {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(oneof = "WireAct", tags = "2, 3, 4, 5, 6")]
    act: Option<WireAct>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireAct {
    #[prost(bytes = "bytes", tag = "2")]
    Put(Bytes),
    #[prost(message, tag = "3")]
    Delete(Nothing),
    #[prost(message, tag = "4")]
    CompareAndSet(WireCompare),
    #[prost(message, tag = "5")]
    Get(Nothing),
    #[prost(message, tag = "6")]
    DeleteRange(WireRange),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct WireCompare {
    #[prost(bytes = "bytes", tag = "1")]
    value: Bytes,
    #[prost(oneof = "WireExpected", tags = "2, 3, 4")]
    expected: Option<WireExpected>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireExpected {
    #[prost(message, tag = "2")]
    Absent(Nothing),
    #[prost(uint64, tag = "3")]
    Revision(u64),
    #[prost(bytes = "bytes", tag = "4")]
    Value(Bytes),
}

fn wire_operation(operation: &Operation) -> WireOperation {
    let act = match operation {
        Operation::Put { value, .. } => WireAct::Put(value.as_bytes().clone()),
        Operation::Delete { .. } => WireAct::Delete(Nothing {}),
        Operation::CompareAndSet {
            expected, value, ..
        } => WireAct::CompareAndSet(WireCompare {
            value: value.as_bytes().clone(),
            expected: Some(match expected {
                Expected::Absent => WireExpected::Absent(Nothing {}),
                Expected::Revision(revision) => WireExpected::Revision(revision.as_u64()),
                Expected::Value(value) => WireExpected::Value(value.as_bytes().clone()),
            }),
        }),
        Operation::Get { .. } => WireAct::Get(Nothing {}),
        Operation::DeleteRange { range } => WireAct::DeleteRange(wire_range(range)),
    };
    WireOperation {
        key: operation
            .key()
            .map_or_else(String::new, |key| key.as_str().to_owned()),
        act: Some(act),
    }
}

fn operation(wire: WireOperation) -> Result<Operation, CodecError> {
    let act = wire
        .act
        .ok_or(CodecError::Invalid("an operation of an unknown kind"))?;
    if let WireAct::DeleteRange(range) = act {
        return Ok(Operation::DeleteRange {
            range: range_of(range)?,
        });
    }
    let key = Key::parse(&wire.key)?;
    Ok(match act {
        WireAct::Put(value) => Operation::Put {
            key,
            value: Value::parse(value)?,
            context: None,
            lease: None,
        },
        WireAct::Delete(Nothing {}) => Operation::Delete { key },
        WireAct::CompareAndSet(compare) => Operation::CompareAndSet {
            key,
            expected: match compare
                .expected
                .ok_or(CodecError::Invalid("a compare without an expectation"))?
            {
                WireExpected::Absent(Nothing {}) => Expected::Absent,
                WireExpected::Revision(revision) => Expected::Revision(Revision::new(revision)),
                WireExpected::Value(value) => Expected::Value(Value::parse(value)?),
            },
            value: Value::parse(compare.value)?,
            lease: None,
        },
        WireAct::Get(Nothing {}) => Operation::Get { key },
        WireAct::DeleteRange(_) => return Err(CodecError::Invalid("a range with a key")),
    })
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireRange {
    /// Whether `start` is a prefix.
    #[prost(bool, tag = "1")]
    prefix: bool,
    #[prost(string, tag = "2")]
    start: String,
    #[prost(string, optional, tag = "3")]
    end: Option<String>,
}

fn wire_range(range: &KeyRange) -> WireRange {
    let (prefix, end) = match range {
        KeyRange::Prefix(_) => (true, None),
        KeyRange::Between { end, .. } => (false, end.as_deref().map(str::to_owned)),
    };
    WireRange {
        prefix,
        start: range.start().to_owned(),
        end,
    }
}

fn range_of(wire: WireRange) -> Result<KeyRange, CodecError> {
    Ok(if wire.prefix {
        KeyRange::prefix(&wire.start)?
    } else {
        KeyRange::between(&wire.start, wire.end.as_deref())?
    })
}
