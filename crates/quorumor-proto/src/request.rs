//! Requests from the wire, parsed, and results for it.

use bytes::Bytes;
use quorumor_core::{
    Bound, ClientId, ClientSeq, Compare, CompareTarget, DataEpoch, Entry, Error, Expected, Key,
    KeyRange, LeaseId, Level, Mode, Operation, OperationResult, Relation, RequestId, Revision, Txn,
    Value, VersionVector,
};

use crate::entry::{
    entry_to_wire, lease_from_wire, level_from_wire, missing, mode_from_wire, version_to_wire,
};
use crate::pb;

/// What a request's header asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The mode; `None` for the node's first.
    pub mode: Option<Mode>,
    /// The level; `None` for the mode's best.
    pub level: Option<Level>,
    /// The session token's bytes; empty for none. They are judged by the mode that serves.
    pub token: Bytes,
    /// Whether a weaker answer will do.
    pub allow_degraded: bool,
    /// The client's number for this write.
    pub client: Option<ClientSeq>,
    /// The data epoch expected.
    pub epoch: Option<DataEpoch>,
    /// For logs.
    pub request_id: RequestId,
    /// What a bounded read demands; [`Bound::NONE`] for other levels.
    pub bound: Bound,
    /// The session, also where no write is numbered: what an exchange's operations are numbered in.
    pub session: Option<ClientId>,
    /// Every number of the session up to this one has been answered.
    pub acked_through: u64,
    /// How many members must hold a write before its answer; 0 and 1 ask for no more than the one that takes it.
    pub acks: u32,
}

/// Parses a header; an absent one asks for nothing in particular.
///
/// # Errors
/// `InvalidArgument` or `TooLarge` naming the field.
pub fn parse_header(header: Option<pb::RequestHeader>) -> Result<Header, Error> {
    let header = header.unwrap_or_default();
    let level = level_from_wire(header.level)?;
    let bound = parse_bound(level, header.bound)?;
    let client = match (header.client_id, header.seq) {
        (0, 0) => None,
        (0, _) => {
            return Err(Error::invalid(
                "header.client_id",
                "a seq needs a client_id other than 0",
            ));
        }
        // Its operations are numbered one by one, or it writes nothing.
        (_, 0) => None,
        (client_id, seq) if header.acked_through < seq => Some(ClientSeq {
            client_id: ClientId::new(client_id),
            seq,
            acked_through: header.acked_through,
        }),
        _ => {
            return Err(Error::invalid(
                "header.acked_through",
                "a seq that was acknowledged can't be sent again",
            ));
        }
    };
    Ok(Header {
        mode: mode_from_wire(header.mode)?,
        level,
        token: header.token,
        allow_degraded: header.allow_degraded,
        client,
        epoch: (header.data_epoch != 0).then(|| DataEpoch::new(header.data_epoch)),
        request_id: RequestId::try_from(header.request_id)?,
        bound,
        session: (header.client_id != 0).then(|| ClientId::new(header.client_id)),
        acked_through: header.acked_through,
        acks: header.acks,
    })
}

/// How old the proof of a bounded read may be where only a lag is named: a heartbeat or a few, on a busy machine.
const BOUND_AGE_US_DEFAULT: u64 = 1_000_000;

fn parse_bound(level: Option<Level>, bound: Option<pb::Bound>) -> Result<Bound, Error> {
    let bound = match (level, bound) {
        (Some(Level::Bounded), bound) => bound.unwrap_or_default(),
        (Some(Level::Sampled), bound) => {
            let members = bound.map_or(0, |bound| bound.members);
            if members == 0 {
                let why = "LEVEL_SAMPLED needs the number of members to ask, from 1";
                return Err(Error::invalid("header.bound.members", why));
            }
            return Ok(Bound {
                members,
                ..Bound::NONE
            });
        }
        (Some(Level::Local | Level::Linearizable) | None, None) => return Ok(Bound::NONE),
        (Some(Level::Local | Level::Linearizable) | None, Some(_)) => {
            let why = "only LEVEL_BOUNDED and LEVEL_SAMPLED take a bound";
            return Err(Error::invalid("header.bound", why));
        }
    };
    if bound.max_lag.is_none() && bound.max_age.is_none() {
        let why = "LEVEL_BOUNDED needs max_lag, max_age or both";
        return Err(Error::invalid("header.bound", why));
    }
    let max_age_us = match bound.max_age {
        // A proof of any age proves nothing about what was committed since.
        None => BOUND_AGE_US_DEFAULT,
        Some(age) => forward(age)
            .and_then(|age| u64::try_from(age.as_micros()).ok())
            .ok_or_else(|| Error::invalid("header.bound.max_age", "an age isn't negative"))?,
    };
    Ok(Bound {
        max_lag: bound.max_lag.unwrap_or(u64::MAX),
        max_age_us,
        members: 0,
    })
}

/// A duration that isn't negative. The conversion of the generated types negates the others, which the least of them can't bear.
fn forward(duration: prost_types::Duration) -> Option<std::time::Duration> {
    let duration = duration.normalized();
    let seconds = u64::try_from(duration.seconds).ok()?;
    Some(std::time::Duration::new(
        seconds,
        u32::try_from(duration.nanos).ok()?,
    ))
}

/// Parses a duration that must be positive, in milliseconds, rounded up.
///
/// # Errors
/// `InvalidArgument` naming the field, for one that is absent, zero or negative.
pub fn parse_millis(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<u64, Error> {
    let duration = duration.ok_or_else(|| missing(field))?;
    forward(duration)
        .and_then(|duration| u64::try_from(duration.as_nanos().div_ceil(1_000_000)).ok())
        .filter(|ms| *ms > 0)
        .ok_or_else(|| Error::invalid(field, "must be longer than nothing"))
}

/// Parses a put.
///
/// # Errors
/// `InvalidArgument` or `TooLarge` naming the field.
pub fn parse_put(key: &str, value: Bytes, context: &Bytes, lease: u64) -> Result<Operation, Error> {
    let context = if context.is_empty() {
        None
    } else {
        Some(VersionVector::decode(context)?)
    };
    Ok(Operation::Put {
        key: Key::parse(key)?,
        value: Value::parse(value)?,
        context,
        lease: lease_from_wire(lease),
    })
}

/// Parses a compare-and-set.
///
/// # Errors
/// `InvalidArgument` or `TooLarge` naming the field.
pub fn parse_compare_and_set(
    key: &str,
    expected: Option<pb::Expected>,
    value: Bytes,
    lease: u64,
) -> Result<Operation, Error> {
    use pb::expected::Expected as Wire;
    let expected = match expected
        .and_then(|expected| expected.expected)
        .ok_or_else(|| missing("expected"))?
    {
        Wire::Absent(true) => Expected::Absent,
        Wire::Absent(false) => {
            return Err(Error::invalid(
                "expected.absent",
                "must be true; name a revision or a value to expect a key",
            ));
        }
        Wire::ModRevision(0) => {
            return Err(Error::invalid(
                "expected.mod_revision",
                "revisions begin at 1; to expect no key say absent",
            ));
        }
        Wire::ModRevision(revision) => Expected::Revision(Revision::new(revision)),
        Wire::Value(value) => Expected::Value(Value::parse(value)?),
    };
    Ok(Operation::CompareAndSet {
        key: Key::parse(key)?,
        expected,
        value: Value::parse(value)?,
        lease: lease_from_wire(lease),
    })
}

/// Parses one operation of a batch.
///
/// # Errors
/// `InvalidArgument` or `TooLarge` naming the field.
pub fn parse_operation(operation: pb::BatchOperation) -> Result<Operation, Error> {
    use pb::batch_operation::Operation as Wire;
    match operation.operation.ok_or_else(|| missing("operation"))? {
        Wire::Put(put) => parse_put(&put.key, put.value, &put.context, put.lease_id),
        Wire::Delete(delete) => Ok(Operation::Delete {
            key: Key::parse(&delete.key)?,
        }),
        Wire::CompareAndSet(cas) => {
            parse_compare_and_set(&cas.key, cas.expected, cas.value, cas.lease_id)
        }
        Wire::DeleteRange(delete) => Ok(Operation::DeleteRange {
            // Nobody deletes everything by leaving a field out.
            range: match delete.range {
                None => return Err(missing("delete_range.range")),
                range => parse_range(range)?,
            },
        }),
        Wire::Get(get) => Ok(Operation::Get {
            key: Key::parse(&get.key)?,
        }),
    }
}

/// Parses a transaction. Its limits are checked by [`quorumor_core::Command::txn`].
///
/// # Errors
/// `InvalidArgument` or `TooLarge` naming the field.
pub fn parse_txn(
    compares: Vec<pb::Compare>,
    success: Vec<pb::BatchOperation>,
    failure: Vec<pb::BatchOperation>,
) -> Result<Txn, Error> {
    let operations = |operations: Vec<pb::BatchOperation>| {
        let operations = operations.into_iter().map(parse_operation);
        operations.collect::<Result<Vec<_>, _>>()
    };
    let compares = compares.into_iter().map(parse_compare);
    Ok(Txn {
        compares: compares.collect::<Result<_, _>>()?,
        success: operations(success)?,
        failure: operations(failure)?,
    })
}

fn parse_compare(compare: pb::Compare) -> Result<Compare, Error> {
    use pb::compare::Target as Wire;
    let relation = match pb::Relation::try_from(compare.relation) {
        Ok(pb::Relation::Unspecified | pb::Relation::Equal) => Relation::Equal,
        Ok(pb::Relation::NotEqual) => Relation::NotEqual,
        Ok(pb::Relation::Greater) => Relation::Greater,
        Ok(pb::Relation::Less) => Relation::Less,
        Err(_) => {
            let why = format!("there is no relation {}", compare.relation);
            return Err(Error::invalid("compare.relation", why));
        }
    };
    let target = match compare.target.ok_or_else(|| missing("compare.target"))? {
        Wire::CreateRevision(revision) => CompareTarget::CreateRevision(Revision::new(revision)),
        Wire::ModRevision(revision) => CompareTarget::ModRevision(Revision::new(revision)),
        Wire::Count(count) => CompareTarget::Count(count),
        Wire::Value(value) => CompareTarget::Value(Value::parse(value)?),
        Wire::LeaseId(lease) => CompareTarget::Lease(LeaseId::new(lease)),
    };
    Ok(Compare {
        key: Key::parse(&compare.key)?,
        relation,
        target,
    })
}

/// Parses a range; an absent one is every key.
///
/// # Errors
/// `InvalidArgument` or `TooLarge` naming the field.
pub fn parse_range(range: Option<pb::KeyRange>) -> Result<KeyRange, Error> {
    use pb::key_range::Range as Wire;
    match range.and_then(|range| range.range) {
        None => Ok(KeyRange::all()),
        Some(Wire::Prefix(prefix)) => KeyRange::prefix(&prefix),
        Some(Wire::Interval(interval)) => {
            let end = (!interval.end.is_empty()).then_some(interval.end.as_str());
            KeyRange::between(&interval.start, end)
        }
    }
}

/// One result of a batch for the wire.
#[must_use]
pub fn result_to_wire(result: &OperationResult) -> pb::BatchResult {
    use pb::batch_result::Result as Wire;
    pb::BatchResult {
        result: Some(match result {
            OperationResult::Put { version } => Wire::Put(pb::PutResult {
                version: Some(version_to_wire(version)),
            }),
            OperationResult::Deleted { previous } => Wire::Delete(pb::DeleteResult {
                found: previous.is_some(),
                previous: optional_entry(previous.as_ref()),
            }),
            OperationResult::RangeDeleted { count } => {
                Wire::DeleteRange(pb::DeleteRangeResult { count: *count })
            }
            OperationResult::Compared { succeeded, entry } => {
                Wire::CompareAndSet(pb::CompareAndSetResult {
                    succeeded: *succeeded,
                    entry: optional_entry(entry.as_ref()),
                })
            }
            OperationResult::Got { entry } => Wire::Get(pb::GetResult {
                found: entry.is_some(),
                entry: optional_entry(entry.as_ref()),
            }),
        }),
    }
}

/// An entry, if there is one, for the wire.
#[must_use]
pub fn optional_entry(entry: Option<&Entry>) -> Option<pb::Entry> {
    entry.map(|entry| entry_to_wire(entry, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(header: pb::RequestHeader, field: &str) {
        match parse_header(Some(header)) {
            Err(Error::InvalidArgument { field: named, .. }) => assert_eq!(named, field),
            other => panic!("expected a refusal of {field}, got {other:?}"),
        }
    }

    #[test]
    fn a_bad_header_is_refused_by_field() {
        let header = pb::RequestHeader::default;
        refused(
            pb::RequestHeader {
                mode: 9,
                ..header()
            },
            "mode",
        );
        refused(
            pb::RequestHeader {
                level: 9,
                ..header()
            },
            "level",
        );
        refused(pb::RequestHeader { seq: 1, ..header() }, "header.client_id");
        refused(
            pb::RequestHeader {
                level: pb::Level::Bounded.into(),
                ..header()
            },
            "header.bound",
        );
        refused(
            pb::RequestHeader {
                bound: Some(pb::Bound::default()),
                ..header()
            },
            "header.bound",
        );
        refused(
            pb::RequestHeader {
                client_id: 1,
                seq: 2,
                acked_through: 2,
                ..header()
            },
            "header.acked_through",
        );
        refused(
            pb::RequestHeader {
                request_id: "a b".into(),
                ..header()
            },
            "request_id",
        );
    }

    #[test]
    fn an_absent_header_asks_for_nothing_in_particular() {
        let header = parse_header(None).unwrap();
        assert_eq!(
            (header.mode, header.level, header.client, header.epoch),
            (None, None, None, None)
        );
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_refused() {
        let interval = pb::KeyInterval {
            start: "b".into(),
            end: "a".into(),
        };
        let range = pb::KeyRange {
            range: Some(pb::key_range::Range::Interval(interval)),
        };
        assert_eq!(
            parse_range(Some(range)),
            Err(Error::invalid("range_end", "a range ends after it starts"))
        );
    }

    #[test]
    fn a_value_over_the_limit_is_refused_with_the_limits_name() {
        let value = Bytes::from(vec![0; quorumor_core::limits::VALUE_BYTES_MAX + 1]);
        let error = parse_put("k", value, &Bytes::new(), 0).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLarge {
                    limit: "value_bytes_max",
                    ..
                }
            ),
            "{error}"
        );
    }
}
