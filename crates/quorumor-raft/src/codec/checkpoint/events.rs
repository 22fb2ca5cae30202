//! The history's events as bytes. What the state or an earlier event holds already isn't written again, and what is read
//! back shares it.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorumor_core::{ChangeEvent, Entry, History, Key, LogTime, PastRevision, Revision};

use crate::codec::CodecError;
use crate::codec::operation::{
    WireKeyValue, entry_of, strong_version, version_numbers, wire_entry,
};
use crate::state_machine::StateMachine;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WireEvent {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(uint64, tag = "2")]
    time: u64,
    /// Whether it is the last of its revision.
    #[prost(bool, tag = "3")]
    last: bool,
    #[prost(string, tag = "4")]
    key: String,
    /// What was put. Nothing for a deletion, or if it is the state's own entry.
    #[prost(message, optional, tag = "5")]
    entry: Option<WireKeyValue>,
    /// For a deletion, what its version is.
    #[prost(message, optional, tag = "6")]
    deleted: Option<WireDeletion>,
    /// What it replaced, unless an earlier event put it.
    #[prost(message, optional, tag = "7")]
    previous: Option<WireKeyValue>,
    /// Whether it replaced what the last event of this key put.
    #[prost(bool, tag = "8")]
    replaces_known: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireDeletion {
    #[prost(uint64, tag = "1")]
    create: u64,
    #[prost(uint64, tag = "2")]
    count: u64,
}

/// An event, to bytes, and how many about.
pub(super) fn wire_event(
    state: &StateMachine,
    past: &PastRevision,
    event: &ChangeEvent,
    last: bool,
) -> (WireEvent, usize) {
    let mut wire = WireEvent {
        revision: past.revision.as_u64(),
        time: past.time.0,
        last,
        ..WireEvent::default()
    };
    let mut bytes = 32;
    let previous = match event {
        ChangeEvent::Put { entry, previous } => {
            wire.key = entry.key.as_str().to_owned();
            let live = state.entries.get(&entry.key);
            if !live.is_some_and(|live| Arc::ptr_eq(live, entry)) {
                bytes += entry.bytes();
                wire.entry = Some(wire_entry(entry));
            }
            previous
        }
        ChangeEvent::Deleted {
            key,
            version,
            previous,
        } => {
            let (create, _, count) = version_numbers(version);
            wire.key = key.as_str().to_owned();
            wire.deleted = Some(WireDeletion { create, count });
            previous
        }
        // No history holds one.
        ChangeEvent::Reset => &None,
    };
    bytes += wire.key.len();
    if let Some(previous) = previous {
        let (_, modify, _) = version_numbers(&previous.version);
        if Revision::new(modify) > state.history.oldest() {
            wire.replaces_known = true;
        } else {
            bytes += previous.bytes();
            wire.previous = Some(wire_entry(previous));
        }
    }
    (wire, bytes)
}

/// A history that is being read.
#[derive(Debug)]
pub(super) struct Events {
    history: History,
    /// What the last event of a key put.
    latest: BTreeMap<Key, Arc<Entry>>,
    /// The events of the revision that isn't whole yet.
    open: Vec<ChangeEvent>,
    newest: Revision,
}

impl Events {
    /// The beginning of a history.
    pub(super) fn starting_at(oldest: Revision) -> Self {
        Self {
            history: History::starting_at(oldest),
            latest: BTreeMap::new(),
            open: Vec::new(),
            newest: oldest,
        }
    }

    /// Takes the next event, given the whole of the state's entries.
    pub(super) fn take(&mut self, state: &StateMachine, wire: WireEvent) -> Result<(), CodecError> {
        let revision = Revision::new(wire.revision);
        if revision <= self.newest || revision > state.revision {
            return Err(CodecError::Invalid(
                "a revision of the history out of order",
            ));
        }
        let event = self.event_of(state, revision, &wire)?;
        self.open.push(event);
        if wire.last {
            self.newest = revision;
            self.history.push(PastRevision {
                revision,
                time: LogTime(wire.time),
                events: std::mem::take(&mut self.open).into(),
            });
        }
        Ok(())
    }

    fn event_of(
        &mut self,
        state: &StateMachine,
        revision: Revision,
        wire: &WireEvent,
    ) -> Result<ChangeEvent, CodecError> {
        let missing = CodecError::Invalid("an event of the history that refers to nothing");
        let key = Key::parse(&wire.key)?;
        let previous = match &wire.previous {
            Some(previous) => Some(Arc::new(entry_of(previous)?)),
            None if wire.replaces_known => {
                Some(Arc::clone(self.latest.get(&key).ok_or(missing.clone())?))
            }
            None => None,
        };
        if let Some(deleted) = wire.deleted {
            self.latest.remove(&key);
            let version = strong_version(deleted.create, revision.as_u64(), deleted.count);
            return Ok(ChangeEvent::Deleted {
                key,
                version,
                previous,
            });
        }
        let entry = match &wire.entry {
            Some(entry) => Arc::new(entry_of(entry)?),
            None => Arc::clone(state.entries.get(&key).ok_or(missing)?),
        };
        self.latest.insert(key, Arc::clone(&entry));
        Ok(ChangeEvent::Put { entry, previous })
    }

    /// The whole history.
    pub(super) fn finish(self) -> Result<History, CodecError> {
        if !self.open.is_empty() {
            return Err(CodecError::Invalid(
                "a revision of the history is cut short",
            ));
        }
        Ok(self.history)
    }
}
