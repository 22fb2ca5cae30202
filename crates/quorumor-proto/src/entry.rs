//! Entries, versions and dots, both ways.

use std::sync::Arc;

use bytes::Bytes;
use quorumor_core as core;
use quorumor_core::{
    Dot, Entry, Error, Key, LeaseId, LogId, NodeId, Revision, Seq, Sibling, Stamp, Value, Version,
    VersionVector,
};

use crate::pb;
use crate::receipt::millis;

/// An entry for the wire. `with_value` false leaves the value out.
#[must_use]
pub fn entry_to_wire(entry: &Entry, with_value: bool) -> pb::Entry {
    pb::Entry {
        key: entry.key.as_str().to_owned(),
        value: if with_value {
            entry.value.as_bytes().clone()
        } else {
            Bytes::new()
        },
        version: Some(version_to_wire(&entry.version)),
        writer: entry.writer.as_u64(),
        lease_id: entry.lease.map_or(0, LeaseId::as_u64),
        siblings: entry
            .siblings
            .iter()
            .flat_map(|siblings| siblings.iter())
            .map(|sibling| pb::Sibling {
                dot: Some(dot_to_wire(sibling.dot)),
                stamp: sibling.stamp.as_u64(),
                value: if with_value {
                    sibling.value.as_bytes().clone()
                } else {
                    Bytes::new()
                },
            })
            .collect(),
    }
}

/// An entry from the wire.
///
/// # Errors
/// `InvalidArgument` naming the field that is missing or bad.
pub fn entry_from_wire(entry: pb::Entry) -> Result<Entry, Error> {
    Ok(Entry {
        key: Key::parse(&entry.key)?,
        value: Value::parse(entry.value)?,
        version: version_from_wire(entry.version.ok_or_else(|| missing("entry.version"))?)?,
        writer: NodeId::try_from(entry.writer)?,
        lease: lease_from_wire(entry.lease_id),
        siblings: siblings_from_wire(entry.siblings)?,
    })
}

fn siblings_from_wire(siblings: Vec<pb::Sibling>) -> Result<Option<Arc<[Sibling]>>, Error> {
    if siblings.is_empty() {
        return Ok(None);
    }
    let each = siblings.into_iter().map(|sibling| {
        let dot = sibling.dot.ok_or_else(|| missing("entry.siblings.dot"))?;
        Ok(Sibling {
            dot: dot_from_wire(dot)?,
            stamp: Stamp::from_u64(sibling.stamp),
            value: Value::parse(sibling.value)?,
        })
    });
    each.collect::<Result<Arc<[_]>, Error>>().map(Some)
}

/// A version for the wire.
#[must_use]
pub fn version_to_wire(version: &Version) -> pb::Version {
    use pb::version::Version as Wire;
    pb::Version {
        version: Some(match version {
            Version::Strong {
                create,
                modify,
                count,
            } => Wire::Strong(pb::StrongVersion {
                create_revision: create.as_u64(),
                mod_revision: modify.as_u64(),
                count: *count,
            }),
            Version::Eventual {
                dot,
                stamp,
                context,
                siblings,
            } => Wire::Eventual(pb::EventualVersion {
                dot: Some(dot_to_wire(*dot)),
                stamp: stamp.as_u64(),
                context: context.encode(),
                siblings: *siblings,
            }),
        }),
    }
}

/// A version from the wire.
///
/// # Errors
/// `InvalidArgument` naming the field that is missing or bad.
pub fn version_from_wire(version: pb::Version) -> Result<Version, Error> {
    use pb::version::Version as Wire;
    Ok(match version.version.ok_or_else(|| missing("version"))? {
        Wire::Strong(strong) => Version::Strong {
            create: Revision::new(strong.create_revision),
            modify: Revision::new(strong.mod_revision),
            count: strong.count,
        },
        Wire::Eventual(eventual) => Version::Eventual {
            dot: dot_from_wire(eventual.dot.ok_or_else(|| missing("version.dot"))?)?,
            stamp: Stamp::from_u64(eventual.stamp),
            context: VersionVector::decode(&eventual.context)?,
            siblings: eventual.siblings,
        },
    })
}

/// A lease id from the wire, where 0 is none.
#[must_use]
pub fn lease_from_wire(lease: u64) -> Option<LeaseId> {
    (lease != 0).then(|| LeaseId::new(lease))
}

/// A lease for the wire, with what it has left if that is known; its keys only if asked for.
#[must_use]
pub fn lease_to_wire(
    lease: &core::Lease,
    remaining_ms: Option<u64>,
    include_keys: bool,
) -> pb::Lease {
    let keys = if include_keys {
        lease
            .keys
            .iter()
            .map(|key| key.as_str().to_owned())
            .collect()
    } else {
        Vec::new()
    };
    pb::Lease {
        lease_id: lease.id.as_u64(),
        granted_ttl: Some(millis(lease.ttl_ms)),
        remaining_ttl: remaining_ms.map(millis),
        keys,
        key_count: lease.keys.len() as u64,
        owner_node_id: lease.owner.map_or(0, NodeId::as_u64),
    }
}

/// A dot for the wire.
#[must_use]
pub fn dot_to_wire(dot: Dot) -> pb::Dot {
    pb::Dot {
        writer: dot.writer.as_u64(),
        log_id: dot.log_id.as_u64(),
        seq: dot.seq.as_u64(),
    }
}

/// A dot from the wire.
///
/// # Errors
/// `InvalidArgument` if its writer is 0.
pub fn dot_from_wire(dot: pb::Dot) -> Result<Dot, Error> {
    Ok(Dot {
        writer: NodeId::try_from(dot.writer)?,
        log_id: LogId::new(dot.log_id),
        seq: Seq::new(dot.seq),
    })
}

/// A mode for the wire.
#[must_use]
pub const fn mode_to_wire(mode: core::Mode) -> pb::Mode {
    match mode {
        core::Mode::Strong => pb::Mode::Strong,
        core::Mode::Eventual => pb::Mode::Eventual,
    }
}

/// A mode from the wire; `None` where none was named.
///
/// # Errors
/// `InvalidArgument` for a number that is no mode.
pub fn mode_from_wire(mode: i32) -> Result<Option<core::Mode>, Error> {
    match pb::Mode::try_from(mode) {
        Ok(pb::Mode::Unspecified) => Ok(None),
        Ok(pb::Mode::Strong) => Ok(Some(core::Mode::Strong)),
        Ok(pb::Mode::Eventual) => Ok(Some(core::Mode::Eventual)),
        Err(_) => Err(Error::invalid("mode", format!("there is no mode {mode}"))),
    }
}

/// A level for the wire.
#[must_use]
pub const fn level_to_wire(level: core::Level) -> pb::Level {
    match level {
        core::Level::Local => pb::Level::Local,
        core::Level::Sampled => pb::Level::Sampled,
        core::Level::Bounded => pb::Level::Bounded,
        core::Level::Linearizable => pb::Level::Linearizable,
    }
}

/// A level from the wire; `None` where none was named.
///
/// # Errors
/// `InvalidArgument` for a number that is no level.
pub fn level_from_wire(level: i32) -> Result<Option<core::Level>, Error> {
    match pb::Level::try_from(level) {
        Ok(pb::Level::Unspecified) => Ok(None),
        Ok(pb::Level::Local) => Ok(Some(core::Level::Local)),
        Ok(pb::Level::Sampled) => Ok(Some(core::Level::Sampled)),
        Ok(pb::Level::Bounded) => Ok(Some(core::Level::Bounded)),
        Ok(pb::Level::Linearizable) => Ok(Some(core::Level::Linearizable)),
        Err(_) => Err(Error::invalid(
            "level",
            format!("there is no level {level}"),
        )),
    }
}

pub(crate) fn missing(field: &'static str) -> Error {
    Error::invalid(field, "the field is missing")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_version() -> impl Strategy<Value = Version> {
        let strong =
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(create, modify, count)| {
                Version::Strong {
                    create: Revision::new(create),
                    modify: Revision::new(modify),
                    count,
                }
            });
        let dots = prop::collection::vec((1..9u64, any::<u64>(), 1..99u64), 1..6);
        let eventual = (dots, any::<u64>(), 1..9u32).prop_map(|(dots, stamp, siblings)| {
            let dots: Vec<Dot> = dots
                .into_iter()
                .map(|(writer, log_id, seq)| Dot {
                    writer: NodeId::try_from(writer).unwrap(),
                    log_id: LogId::new(log_id),
                    seq: Seq::new(seq),
                })
                .collect();
            Version::Eventual {
                dot: dots[0],
                stamp: Stamp::from_u64(stamp),
                context: dots.into_iter().collect(),
                siblings,
            }
        });
        prop_oneof![strong, eventual]
    }

    proptest! {
            #[test]
            fn an_entry_comes_back_as_it_was(
                key in "[a-z/]{1,20}",
                value in prop::collection::vec(any::<u8>(), 0..64),
                version in any_version(),
                writer in 1..u64::MAX,
                lease in 0..3u64,
            ) {
                let entry = Entry {
    siblings: None,
                    key: Key::parse(&key).unwrap(),
                    value: Value::parse(value.into()).unwrap(),
                    version,
                    writer: NodeId::try_from(writer).unwrap(),
                    lease: lease_from_wire(lease),
                };
                prop_assert_eq!(entry_from_wire(entry_to_wire(&entry, true)), Ok(entry));
            }
        }

    #[test]
    fn an_entry_without_a_version_is_refused_by_name() {
        let entry = pb::Entry {
            key: "k".into(),
            writer: 1,
            ..pb::Entry::default()
        };
        let error = entry_from_wire(entry).unwrap_err();
        assert_eq!(
            error,
            Error::invalid("entry.version", "the field is missing")
        );
    }
}
