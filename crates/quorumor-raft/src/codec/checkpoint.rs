//! A state as pieces of bytes: what a checkpoint file holds, and what a snapshot sends. The two are the same pieces.
//!
//! The first piece begins with a header, the last one ends with a count, entries are between them. A piece ends once it
//! weighs [`CHECKPOINT_CHUNK_BYTES`]; it is made only when it is asked for.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use prost::Message as _;
use quorumor_core::limits::{CHECKPOINT_CHUNK_BYTES, VOTERS_MAX};
use quorumor_core::{
    CheckpointSource, ClusterId, DataEpoch, Entry, Key, NodeId, Revision, Value, Version,
};

use super::CodecError;
use super::proposal::WireMember;
use crate::membership::{Roster, Voters};
use crate::state_machine::{Mark, StateMachine};

/// The format that this code writes.
const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct WirePiece {
    #[prost(message, optional, tag = "1")]
    header: Option<WireHeader>,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<WireKeyValue>,
    /// In the last piece: how many entries all pieces hold.
    #[prost(uint64, optional, tag = "3")]
    entries_total: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireHeader {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    cluster: u64,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(uint64, tag = "5")]
    term: u64,
    #[prost(uint64, tag = "6")]
    revision: u64,
    #[prost(uint64, repeated, tag = "7")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "8")]
    learners: Vec<u64>,
    #[prost(message, repeated, tag = "9")]
    members: Vec<WireMember>,
    #[prost(uint64, repeated, tag = "10")]
    outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "11")]
    promoting: Vec<u64>,
    #[prost(uint64, repeated, tag = "12")]
    removed: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireKeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
    #[prost(uint64, tag = "3")]
    create: u64,
    #[prost(uint64, tag = "4")]
    modify: u64,
    #[prost(uint64, tag = "5")]
    count: u64,
    #[prost(uint64, tag = "6")]
    writer: u64,
}

/// A state that is written out piece by piece. Holds the map's root, not a copy of it.
pub(crate) struct StateSource {
    header: Option<WireHeader>,
    entries: OrdMap<Key, Arc<Entry>>,
    after: Option<Key>,
    finished: bool,
}

impl StateSource {
    /// The pieces of this state.
    pub(crate) fn new(state: &StateMachine) -> Self {
        Self {
            header: Some(WireHeader {
                format: FORMAT,
                cluster: state.cluster.as_u64(),
                epoch: state.epoch.as_u64(),
                index: state.applied.index,
                term: state.applied.term,
                revision: state.revision.as_u64(),
                voters: state.voters.voters.clone(),
                learners: state.voters.learners.clone(),
                members: state
                    .members
                    .iter()
                    .map(|(node, record)| WireMember::from_record(*node, record))
                    .collect(),
                outgoing: state.voters.outgoing.clone(),
                promoting: numbers(&state.roster.promoting),
                removed: numbers(&state.roster.removed),
            }),
            entries: state.entries.clone(),
            after: None,
            finished: false,
        }
    }
}

impl fmt::Debug for StateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSource")
            .field("entries", &self.entries.len())
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

impl CheckpointSource for StateSource {
    fn next_chunk(&mut self) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        let from = self
            .after
            .as_ref()
            .map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let mut piece = WirePiece {
            header: self.header.take(),
            entries: Vec::new(),
            entries_total: None,
        };
        let mut weight = 0;
        let mut rest = self.entries.range((from, Bound::Unbounded));
        for (key, entry) in rest.by_ref() {
            piece.entries.push(wire_entry(entry));
            self.after = Some(key.clone());
            weight += entry.bytes();
            if weight >= CHECKPOINT_CHUNK_BYTES {
                break;
            }
        }
        if rest.next().is_none() {
            self.finished = true;
            piece.entries_total = Some(self.entries.len() as u64);
        }
        Some(piece.encode_to_vec().into())
    }
}

fn wire_entry(entry: &Entry) -> WireKeyValue {
    let (create, modify, count) = match entry.version {
        Version::Strong {
            create,
            modify,
            count,
        } => (create.as_u64(), modify.as_u64(), count),
        // No entry of this mode has one.
        Version::Eventual { .. } => (0, 0, 0),
    };
    WireKeyValue {
        key: entry.key.as_str().to_owned(),
        value: entry.value.as_bytes().clone(),
        create,
        modify,
        count,
        writer: entry.writer.as_u64(),
    }
}

/// The state that these pieces make, if they are whole.
pub(crate) fn decode(pieces: &[Bytes]) -> Result<StateMachine, CodecError> {
    let mut state = None;
    let mut total = None;
    for bytes in pieces {
        let piece = WirePiece::decode(bytes.clone())?;
        if total.is_some() {
            return Err(CodecError::Invalid("a piece after the last"));
        }
        total = piece.entries_total;
        if let Some(header) = piece.header {
            if state.is_some() {
                return Err(CodecError::Invalid("a second header"));
            }
            state = Some(state_of(header)?);
        }
        let state = state
            .as_mut()
            .ok_or(CodecError::Invalid("the first piece has no header"))?;
        for entry in piece.entries {
            let entry = entry_of(entry)?;
            state.entries.insert(entry.key.clone(), Arc::new(entry));
        }
    }
    let state = state.ok_or(CodecError::Invalid("there are no pieces"))?;
    if total != Some(state.entries.len() as u64) {
        return Err(CodecError::Invalid("pieces are missing"));
    }
    Ok(state)
}

fn state_of(header: WireHeader) -> Result<StateMachine, CodecError> {
    if header.format != FORMAT {
        return Err(CodecError::Invalid("a format that this node doesn't read"));
    }
    if !(1..u64::MAX / 4).contains(&header.index) || !(1..u64::MAX / 4).contains(&header.term) {
        return Err(CodecError::Invalid("an index or term out of range"));
    }
    Ok(StateMachine {
        cluster: ClusterId::new(header.cluster),
        epoch: DataEpoch::new(header.epoch),
        entries: OrdMap::new(),
        revision: Revision::new(header.revision),
        members: header
            .members
            .into_iter()
            .map(WireMember::into_record)
            .collect::<Result<_, _>>()?,
        voters: voters_of(Voters {
            voters: header.voters,
            learners: header.learners,
            outgoing: header.outgoing,
        })?,
        roster: Roster {
            promoting: nodes(&header.promoting)?,
            removed: nodes(&header.removed)?,
        },
        applied: Mark {
            index: header.index,
            term: header.term,
        },
    })
}

fn numbers(nodes: &BTreeSet<NodeId>) -> Vec<u64> {
    nodes.iter().map(|node| node.as_u64()).collect()
}

fn nodes(numbers: &[u64]) -> Result<BTreeSet<NodeId>, CodecError> {
    let nodes = numbers.iter().map(|number| NodeId::try_from(*number));
    Ok(nodes.collect::<Result<_, _>>()?)
}

/// A configuration that raft can restore: it asserts on anything else.
fn voters_of(mut voters: Voters) -> Result<Voters, CodecError> {
    let halves = [&voters.voters, &voters.outgoing];
    let sound = !voters.voters.is_empty()
        && halves.iter().all(|half| {
            half.len() <= VOTERS_MAX && are_distinct(half.iter().chain(&voters.learners))
        });
    if !sound {
        return Err(CodecError::Invalid("a configuration that is none"));
    }
    for ids in [
        &mut voters.voters,
        &mut voters.learners,
        &mut voters.outgoing,
    ] {
        ids.sort_unstable();
    }
    Ok(voters)
}

fn are_distinct<'a>(ids: impl Iterator<Item = &'a u64>) -> bool {
    let mut seen = BTreeSet::from([0]);
    ids.into_iter().all(|id| seen.insert(*id))
}

fn entry_of(wire: WireKeyValue) -> Result<Entry, CodecError> {
    Ok(Entry {
        key: Key::parse(&wire.key)?,
        value: Value::parse(wire.value)?,
        version: Version::Strong {
            create: Revision::new(wire.create),
            modify: Revision::new(wire.modify),
            count: wire.count,
        },
        writer: NodeId::try_from(wire.writer)?,
        lease: None,
    })
}

#[cfg(test)]
mod tests;
