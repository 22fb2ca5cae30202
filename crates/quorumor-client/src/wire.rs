//! Requests for the wire: ranges, operations and compares. What comes back is read in `answer`.

use std::time::Duration;

use quorumor_core::{
    Compare, CompareTarget, Expected, KeyRange, LeaseId, Operation, Relation, VersionVector,
};
use quorumor_proto::pb;

pub(crate) fn range_to_wire(range: &KeyRange) -> pb::KeyRange {
    use pb::key_range::Range;
    pb::KeyRange {
        range: Some(match range {
            KeyRange::Prefix(prefix) => Range::Prefix(prefix.to_string()),
            KeyRange::Between { start, end } => Range::Interval(pb::KeyInterval {
                start: start.to_string(),
                end: end.as_ref().map(ToString::to_string).unwrap_or_default(),
            }),
        }),
    }
}

pub(crate) fn expected_to_wire(expected: &Expected) -> pb::Expected {
    use pb::expected::Expected as Wire;
    pb::Expected {
        expected: Some(match expected {
            Expected::Absent => Wire::Absent(true),
            Expected::Revision(revision) => Wire::ModRevision(revision.as_u64()),
            Expected::Value(value) => Wire::Value(value.as_bytes().clone()),
        }),
    }
}

pub(crate) fn lease_to_wire(lease: Option<LeaseId>) -> u64 {
    lease.map_or(0, LeaseId::as_u64)
}

pub(crate) fn operation_to_wire(operation: &Operation) -> pb::BatchOperation {
    use pb::batch_operation::Operation as Wire;
    pb::BatchOperation {
        operation: Some(match operation {
            Operation::Put {
                key,
                value,
                context,
                lease,
            } => Wire::Put(pb::PutOperation {
                key: key.as_str().to_owned(),
                value: value.as_bytes().clone(),
                context: context
                    .as_ref()
                    .map(VersionVector::encode)
                    .unwrap_or_default(),
                lease_id: lease_to_wire(*lease),
            }),
            Operation::Delete { key } => Wire::Delete(pb::DeleteOperation {
                key: key.as_str().to_owned(),
            }),
            Operation::DeleteRange { range } => Wire::DeleteRange(pb::DeleteRangeOperation {
                range: Some(range_to_wire(range)),
            }),
            Operation::CompareAndSet {
                key,
                expected,
                value,
                lease,
            } => Wire::CompareAndSet(pb::CompareAndSetOperation {
                key: key.as_str().to_owned(),
                expected: Some(expected_to_wire(expected)),
                value: value.as_bytes().clone(),
                lease_id: lease_to_wire(*lease),
            }),
            Operation::Get { key } => Wire::Get(pb::GetOperation {
                key: key.as_str().to_owned(),
            }),
        }),
    }
}

pub(crate) fn compare_to_wire(compare: &Compare) -> pb::Compare {
    use pb::compare::Target;
    let relation = match compare.relation {
        Relation::Equal => pb::Relation::Equal,
        Relation::NotEqual => pb::Relation::NotEqual,
        Relation::Greater => pb::Relation::Greater,
        Relation::Less => pb::Relation::Less,
    };
    pb::Compare {
        key: compare.key.as_str().to_owned(),
        relation: relation.into(),
        target: Some(match &compare.target {
            CompareTarget::CreateRevision(revision) => Target::CreateRevision(revision.as_u64()),
            CompareTarget::ModRevision(revision) => Target::ModRevision(revision.as_u64()),
            CompareTarget::Count(count) => Target::Count(*count),
            CompareTarget::Value(value) => Target::Value(value.as_bytes().clone()),
            CompareTarget::Lease(lease) => Target::LeaseId(lease.as_u64()),
        }),
    }
}

/// A duration for the wire; one that is too long for it is the longest there.
pub(crate) fn duration_to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}

/// A duration from the wire; a negative one is none.
pub(crate) fn duration_from_wire(duration: Option<prost_types::Duration>) -> Option<Duration> {
    duration.and_then(|duration| Duration::try_from(duration).ok())
}
