//! Raft's log entries and hard state as bytes: on the wire and in the write-ahead log.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb;

use super::CodecError;

/// A log entry.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireEntry {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) index: u64,
    /// 0 normal; 1 and 2 are raft's two configuration changes.
    #[prost(uint32, tag = "3")]
    pub(crate) kind: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) context: Bytes,
}

impl WireEntry {
    /// From raft's own type. Moves.
    pub(crate) fn from_raft(entry: eraftpb::Entry) -> Self {
        let kind = match entry.get_entry_type() {
            eraftpb::EntryType::EntryNormal => 0,
            eraftpb::EntryType::EntryConfChange => 1,
            eraftpb::EntryType::EntryConfChangeV2 => 2,
        };
        Self {
            term: entry.term,
            index: entry.index,
            kind,
            data: entry.data,
            context: entry.context,
        }
    }

    /// To raft's own type; `None` for an unknown kind. The data is copied out of what it came in: a value that is kept for
    /// years must not keep a whole message of its neighbours, or a whole segment of the log.
    pub(crate) fn into_raft(self) -> Option<eraftpb::Entry> {
        let kind = match self.kind {
            0 => eraftpb::EntryType::EntryNormal,
            1 => eraftpb::EntryType::EntryConfChange,
            2 => eraftpb::EntryType::EntryConfChangeV2,
            _ => return None,
        };
        let mut entry = eraftpb::Entry {
            term: self.term,
            index: self.index,
            data: Bytes::copy_from_slice(&self.data),
            context: Bytes::copy_from_slice(&self.context),
            ..eraftpb::Entry::default()
        };
        entry.set_entry_type(kind);
        Some(entry)
    }
}

/// An entry as a log record's bytes.
pub(crate) fn encode_entry(entry: &eraftpb::Entry) -> Bytes {
    WireEntry::from_raft(entry.clone()).encode_to_vec().into()
}

/// An entry from a log record's bytes.
pub(crate) fn decode_entry(bytes: Bytes) -> Result<eraftpb::Entry, CodecError> {
    WireEntry::decode(bytes)?
        .into_raft()
        .ok_or(CodecError::Invalid("an entry of an unknown kind"))
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireHardState {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    vote: u64,
    #[prost(uint64, tag = "3")]
    commit: u64,
}

/// A hard state as a log record's bytes.
pub(crate) fn encode_hard_state(state: &eraftpb::HardState) -> Bytes {
    WireHardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
    }
    .encode_to_vec()
    .into()
}

/// A hard state from a log record's bytes.
pub(crate) fn decode_hard_state(bytes: Bytes) -> Result<eraftpb::HardState, CodecError> {
    let wire = WireHardState::decode(bytes)?;
    Ok(eraftpb::HardState {
        term: wire.term,
        vote: wire.vote,
        commit: wire.commit,
        ..eraftpb::HardState::default()
    })
}
