//! Operations, compares and their results as bytes: inside entries, and inside the answers that sessions keep.

use bytes::Bytes;
use quorumor_core::{
    Compare, CompareTarget, Entry, Expected, Key, KeyRange, LeaseId, NodeId, Operation, Relation,
    Revision, Value, Version,
};

use super::CodecError;

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireOperation {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(oneof = "WireAct", tags = "2, 3, 4, 5, 6")]
    act: Option<WireAct>,
    /// The lease of a new entry; 0 for none.
    #[prost(uint64, tag = "7")]
    lease: u64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireAct {
    #[prost(bytes = "bytes", tag = "2")]
    Put(Bytes),
    #[prost(message, tag = "3")]
    Delete(Nothing),
    #[prost(message, tag = "4")]
    CompareAndSet(WireCompareAndSet),
    #[prost(message, tag = "5")]
    Get(Nothing),
    #[prost(message, tag = "6")]
    DeleteRange(WireRange),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireCompareAndSet {
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

/// An operation, to bytes.
pub(crate) fn wire_operation(operation: &Operation) -> WireOperation {
    let (act, lease) = match operation {
        Operation::Put { value, lease, .. } => (WireAct::Put(value.as_bytes().clone()), *lease),
        Operation::Delete { .. } => (WireAct::Delete(Nothing {}), None),
        Operation::DeleteRange { range } => (WireAct::DeleteRange(wire_range(range)), None),
        Operation::CompareAndSet {
            expected,
            value,
            lease,
            ..
        } => {
            let compare = WireCompareAndSet {
                value: value.as_bytes().clone(),
                expected: Some(wire_expected(expected)),
            };
            (WireAct::CompareAndSet(compare), *lease)
        }
        Operation::Get { .. } => (WireAct::Get(Nothing {}), None),
    };
    WireOperation {
        key: operation
            .key()
            .map_or_else(String::new, |key| key.as_str().to_owned()),
        act: Some(act),
        lease: lease_number(lease),
    }
}

fn wire_expected(expected: &Expected) -> WireExpected {
    match expected {
        Expected::Absent => WireExpected::Absent(Nothing {}),
        Expected::Revision(revision) => WireExpected::Revision(revision.as_u64()),
        Expected::Value(value) => WireExpected::Value(value.as_bytes().clone()),
    }
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

/// An operation, from bytes.
pub(crate) fn operation(wire: WireOperation) -> Result<Operation, CodecError> {
    let act = wire
        .act
        .ok_or(CodecError::Invalid("an operation of an unknown kind"))?;
    let lease = lease_of(wire.lease);
    let key = || Key::parse(&wire.key);
    Ok(match act {
        WireAct::Put(value) => Operation::Put {
            key: key()?,
            value: Value::parse(value)?,
            context: None,
            lease,
        },
        WireAct::Delete(Nothing {}) => Operation::Delete { key: key()? },
        WireAct::DeleteRange(range) => Operation::DeleteRange {
            range: range_of(&range)?,
        },
        WireAct::CompareAndSet(compare) => Operation::CompareAndSet {
            key: key()?,
            expected: match compare
                .expected
                .ok_or(CodecError::Invalid("a compare without an expectation"))?
            {
                WireExpected::Absent(Nothing {}) => Expected::Absent,
                WireExpected::Revision(revision) => Expected::Revision(Revision::new(revision)),
                WireExpected::Value(value) => Expected::Value(Value::parse(value)?),
            },
            value: Value::parse(compare.value)?,
            lease,
        },
        WireAct::Get(Nothing {}) => Operation::Get { key: key()? },
    })
}

fn range_of(wire: &WireRange) -> Result<KeyRange, CodecError> {
    Ok(if wire.prefix {
        KeyRange::prefix(&wire.start)?
    } else {
        KeyRange::between(&wire.start, wire.end.as_deref())?
    })
}

/// A lease id as a number, 0 for none.
pub(crate) fn lease_number(lease: Option<LeaseId>) -> u64 {
    lease.map_or(0, LeaseId::as_u64)
}

/// A lease id from a number.
pub(crate) fn lease_of(number: u64) -> Option<LeaseId> {
    (number != 0).then(|| LeaseId::new(number))
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireCompare {
    #[prost(string, tag = "1")]
    key: String,
    /// 1 equal, 2 not equal, 3 greater, 4 less.
    #[prost(uint32, tag = "2")]
    relation: u32,
    #[prost(oneof = "WireTarget", tags = "3, 4, 5, 6, 7")]
    target: Option<WireTarget>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireTarget {
    #[prost(uint64, tag = "3")]
    Create(u64),
    #[prost(uint64, tag = "4")]
    Modify(u64),
    #[prost(uint64, tag = "5")]
    Count(u64),
    #[prost(bytes = "bytes", tag = "6")]
    Value(Bytes),
    #[prost(uint64, tag = "7")]
    Lease(u64),
}

/// A compare, to bytes.
pub(crate) fn wire_compare(compare: &Compare) -> WireCompare {
    WireCompare {
        key: compare.key.as_str().to_owned(),
        relation: match compare.relation {
            Relation::Equal => 1,
            Relation::NotEqual => 2,
            Relation::Greater => 3,
            Relation::Less => 4,
        },
        target: Some(match &compare.target {
            CompareTarget::CreateRevision(revision) => WireTarget::Create(revision.as_u64()),
            CompareTarget::ModRevision(revision) => WireTarget::Modify(revision.as_u64()),
            CompareTarget::Count(count) => WireTarget::Count(*count),
            CompareTarget::Value(value) => WireTarget::Value(value.as_bytes().clone()),
            CompareTarget::Lease(lease) => WireTarget::Lease(lease.as_u64()),
        }),
    }
}

/// A compare, from bytes.
pub(crate) fn compare(wire: WireCompare) -> Result<Compare, CodecError> {
    Ok(Compare {
        key: Key::parse(&wire.key)?,
        relation: match wire.relation {
            1 => Relation::Equal,
            2 => Relation::NotEqual,
            3 => Relation::Greater,
            4 => Relation::Less,
            _ => return Err(CodecError::Invalid("a compare of an unknown relation")),
        },
        target: match wire
            .target
            .ok_or(CodecError::Invalid("a compare of an unknown target"))?
        {
            WireTarget::Create(revision) => CompareTarget::CreateRevision(Revision::new(revision)),
            WireTarget::Modify(revision) => CompareTarget::ModRevision(Revision::new(revision)),
            WireTarget::Count(count) => CompareTarget::Count(count),
            WireTarget::Value(value) => CompareTarget::Value(Value::parse(value)?),
            WireTarget::Lease(lease) => CompareTarget::Lease(LeaseId::new(lease)),
        },
    })
}

/// An entry of the state.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireKeyValue {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
    #[prost(uint64, tag = "3")]
    create: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) modify: u64,
    #[prost(uint64, tag = "5")]
    count: u64,
    #[prost(uint64, tag = "6")]
    writer: u64,
    /// 0 for none.
    #[prost(uint64, tag = "7")]
    lease: u64,
}

/// An entry, to bytes.
pub(crate) fn wire_entry(entry: &Entry) -> WireKeyValue {
    let (create, modify, count) = version_numbers(&entry.version);
    WireKeyValue {
        key: entry.key.as_str().to_owned(),
        value: entry.value.as_bytes().clone(),
        create,
        modify,
        count,
        writer: entry.writer.as_u64(),
        lease: lease_number(entry.lease),
    }
}

/// An entry, from bytes. Its value is a copy, so that it doesn't keep all those bytes in memory.
pub(crate) fn entry_of(wire: &WireKeyValue) -> Result<Entry, CodecError> {
    Ok(Entry {
        siblings: None,
        key: Key::parse(&wire.key)?,
        value: Value::parse(Bytes::copy_from_slice(&wire.value))?,
        version: strong_version(wire.create, wire.modify, wire.count),
        writer: NodeId::try_from(wire.writer)?,
        lease: lease_of(wire.lease),
    })
}

/// Create, modify, count.
pub(crate) const fn version_numbers(version: &Version) -> (u64, u64, u64) {
    match version {
        Version::Strong {
            create,
            modify,
            count,
        } => (create.as_u64(), modify.as_u64(), *count),
        // No entry of this mode has one.
        Version::Eventual { .. } => (0, 0, 0),
    }
}

/// A version of this mode.
pub(crate) const fn strong_version(create: u64, modify: u64, count: u64) -> Version {
    Version::Strong {
        create: Revision::new(create),
        modify: Revision::new(modify),
        count,
    }
}
