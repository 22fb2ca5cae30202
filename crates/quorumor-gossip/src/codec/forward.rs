//! What nodes ask each other to do for a caller, and what became of it, as bytes.

use quorumor_core::{
    Entry, Key, LeaseAction, LeaseId, NodeId, Operation, OperationResult, Stamp, Value, Version,
};

use super::{decode_dot, encode_dot, encode_list};
use crate::forward::{Failure, Forwarded, Outcome};
use crate::wire::{Malformed, Reader, Writer};

pub(super) fn encode_forwarded(request: &Forwarded, out: &mut Writer) {
    match request {
        Forwarded::Lease(LeaseAction::Grant { ttl_ms, .. }) => {
            out.byte(0);
            out.number(*ttl_ms);
        }
        Forwarded::Lease(LeaseAction::Revoke { id, .. }) => encode_id(1, *id, out),
        Forwarded::Lease(LeaseAction::KeepAlive { id }) => encode_id(2, *id, out),
        Forwarded::Lease(LeaseAction::Look { id }) => encode_id(3, *id, out),
        Forwarded::Write { operations, acks } => {
            out.byte(4);
            out.number(u64::from(*acks));
            encode_list(operations, out, encode_operation);
        }
    }
}

fn encode_id(kind: u8, id: LeaseId, out: &mut Writer) {
    out.byte(kind);
    out.number(id.as_u64());
}

pub(super) fn decode_forwarded(body: &mut Reader<'_>) -> Result<Forwarded, Malformed> {
    Ok(match body.byte()? {
        1 => Forwarded::Lease(LeaseAction::Revoke {
            id: decode_id(body)?,
            client: None,
        }),
        2 => Forwarded::Lease(LeaseAction::KeepAlive {
            id: decode_id(body)?,
        }),
        3 => Forwarded::Lease(LeaseAction::Look {
            id: decode_id(body)?,
        }),
        4 => {
            let acks = u32::try_from(body.number()?).map_err(|_| Malformed("a number of acks"))?;
            let count = body.count(2)?;
            let operations = (0..count)
                .map(|_| decode_operation(body))
                .collect::<Result<_, _>>()?;
            Forwarded::Write { operations, acks }
        }
        _ => return Err(Malformed("a request that isn't sent on")),
    })
}

fn decode_id(body: &mut Reader<'_>) -> Result<LeaseId, Malformed> {
    Some(LeaseId::new(body.number()?))
        .filter(|id| *id != LeaseId::ZERO)
        .ok_or(Malformed("lease id 0"))
}

/// What is never sent on is encoded as a get of its key, which changes nothing.
fn encode_operation(operation: &Operation, out: &mut Writer) {
    match operation {
        Operation::Put {
            key,
            value,
            context,
            lease,
        } => {
            out.byte(0);
            out.bytes(key.as_str().as_bytes());
            out.bytes(value.as_bytes());
            out.flag(context.is_some());
            if let Some(context) = context {
                out.vector(context);
            }
            out.number(lease.map_or(0, LeaseId::as_u64));
        }
        Operation::Delete { key } => encode_key(1, key, out),
        Operation::Get { key } | Operation::CompareAndSet { key, .. } => encode_key(2, key, out),
        Operation::DeleteRange { range } => {
            out.byte(2);
            out.bytes(range.start().as_bytes());
        }
    }
}

fn encode_key(kind: u8, key: &Key, out: &mut Writer) {
    out.byte(kind);
    out.bytes(key.as_str().as_bytes());
}

fn decode_operation(body: &mut Reader<'_>) -> Result<Operation, Malformed> {
    let kind = body.byte()?;
    let key = Key::parse(body.text()?).map_err(|_| Malformed("an operation's key"))?;
    Ok(match kind {
        0 => Operation::Put {
            key,
            value: decode_value(body)?,
            context: if body.flag()? {
                Some(body.vector()?)
            } else {
                None
            },
            lease: Some(LeaseId::new(body.number()?)).filter(|id| *id != LeaseId::ZERO),
        },
        1 => Operation::Delete { key },
        2 => Operation::Get { key },
        _ => return Err(Malformed("an operation that there isn't")),
    })
}

fn decode_value(body: &mut Reader<'_>) -> Result<Value, Malformed> {
    let bytes = bytes::Bytes::copy_from_slice(body.bytes()?);
    Value::parse(bytes).map_err(|_| Malformed("a value that is too long"))
}

pub(super) fn encode_outcome(outcome: &Outcome, out: &mut Writer) {
    match outcome {
        Outcome::Written {
            results,
            position,
            dot,
        } => {
            out.byte(0);
            encode_list(results, out, encode_result);
            out.vector(position);
            out.flag(dot.is_some());
            if let Some((dot, stamp)) = dot {
                encode_dot(*dot, out);
                out.number(stamp.as_u64());
            }
        }
        Outcome::Kept { ttl_ms } => {
            out.byte(1);
            out.number(*ttl_ms);
        }
        Outcome::Seen {
            ttl_ms,
            remaining_ms,
        } => {
            out.byte(2);
            out.number(*ttl_ms);
            out.number(*remaining_ms);
        }
        Outcome::Failed(failure) => encode_failure(*failure, out),
    }
}

fn encode_failure(failure: Failure, out: &mut Writer) {
    let (kind, first, second) = match failure {
        Failure::NotFound(lease) => (3, lease.as_u64(), 0),
        Failure::Overloaded => (4, 0, 0),
        Failure::DiskFull => (5, 0, 0),
        Failure::Stopping => (6, 0, 0),
        Failure::TooManyKeys => (7, 0, 0),
        Failure::TooManySiblings => (8, 0, 0),
        Failure::TooFewMembers { needed, have } => (9, u64::from(needed), u64::from(have)),
        Failure::Unknown => (10, 0, 0),
    };
    out.byte(kind);
    out.number(first);
    out.number(second);
}

pub(super) fn decode_outcome(body: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    Ok(match body.byte()? {
        0 => {
            let count = body.count(2)?;
            let results = (0..count)
                .map(|_| decode_result(body))
                .collect::<Result<_, _>>()?;
            Outcome::Written {
                results,
                position: body.vector()?,
                dot: if body.flag()? {
                    Some((decode_dot(body)?, Stamp::from_u64(body.number()?)))
                } else {
                    None
                },
            }
        }
        1 => Outcome::Kept {
            ttl_ms: body.number()?,
        },
        2 => Outcome::Seen {
            ttl_ms: body.number()?,
            remaining_ms: body.number()?,
        },
        kind => Outcome::Failed(decode_failure(kind, body)?),
    })
}

fn decode_failure(kind: u8, body: &mut Reader<'_>) -> Result<Failure, Malformed> {
    let (first, second) = (body.number()?, body.number()?);
    let small = |number| u32::try_from(number).map_err(|_| Malformed("a number of members"));
    Ok(match kind {
        3 => Failure::NotFound(LeaseId::new(first)),
        4 => Failure::Overloaded,
        5 => Failure::DiskFull,
        6 => Failure::Stopping,
        7 => Failure::TooManyKeys,
        8 => Failure::TooManySiblings,
        9 => Failure::TooFewMembers {
            needed: small(first)?,
            have: small(second)?,
        },
        _ => Failure::Unknown,
    })
}

fn encode_result(result: &OperationResult, out: &mut Writer) {
    match result {
        OperationResult::Put { version } => {
            out.byte(0);
            encode_version(version, out);
        }
        OperationResult::Deleted { previous } => {
            out.byte(1);
            encode_entry(previous.as_ref(), out);
        }
        OperationResult::Got { entry } | OperationResult::Compared { entry, .. } => {
            out.byte(2);
            encode_entry(entry.as_ref(), out);
        }
        OperationResult::RangeDeleted { .. } => {
            out.byte(2);
            encode_entry(None, out);
        }
    }
}

fn decode_result(body: &mut Reader<'_>) -> Result<OperationResult, Malformed> {
    Ok(match body.byte()? {
        0 => OperationResult::Put {
            version: decode_version(body)?,
        },
        1 => OperationResult::Deleted {
            previous: decode_entry(body)?,
        },
        2 => OperationResult::Got {
            entry: decode_entry(body)?,
        },
        _ => return Err(Malformed("a result that there isn't")),
    })
}

fn encode_version(version: &Version, out: &mut Writer) {
    match version {
        Version::Eventual {
            dot,
            stamp,
            context,
            siblings,
        } => {
            out.flag(true);
            encode_dot(*dot, out);
            out.number(stamp.as_u64());
            out.vector(context);
            out.number(u64::from(*siblings));
        }
        Version::Strong { .. } => out.flag(false),
    }
}

fn decode_version(body: &mut Reader<'_>) -> Result<Version, Malformed> {
    if !body.flag()? {
        return Err(Malformed("a version of strong mode"));
    }
    Ok(Version::Eventual {
        dot: decode_dot(body)?,
        stamp: Stamp::from_u64(body.number()?),
        context: body.vector()?,
        siblings: u32::try_from(body.number()?).unwrap_or(u32::MAX),
    })
}

/// The other values beside an entry's own stay at their node: a caller who wants them reads the key.
fn encode_entry(entry: Option<&Entry>, out: &mut Writer) {
    out.flag(entry.is_some());
    if let Some(entry) = entry {
        out.bytes(entry.key.as_str().as_bytes());
        out.bytes(entry.value.as_bytes());
        encode_version(&entry.version, out);
        out.node(entry.writer);
        out.number(entry.lease.map_or(0, LeaseId::as_u64));
    }
}

fn decode_entry(body: &mut Reader<'_>) -> Result<Option<Entry>, Malformed> {
    if !body.flag()? {
        return Ok(None);
    }
    Ok(Some(Entry {
        key: Key::parse(body.text()?).map_err(|_| Malformed("an entry's key"))?,
        value: decode_value(body)?,
        version: decode_version(body)?,
        writer: decode_node(body)?,
        lease: Some(LeaseId::new(body.number()?)).filter(|id| *id != LeaseId::ZERO),
        siblings: None,
    }))
}

fn decode_node(body: &mut Reader<'_>) -> Result<NodeId, Malformed> {
    body.node()
}
