//! Lists of operations at one place of the log: atomic, at one revision, each with its result.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::limits::{DELETE_RANGE_KEYS_MAX, LEASE_KEYS_MAX};
use quorumor_core::{
    Change, ChangeEvent, Entry, Key, KeyRange, LeaseId, NodeId, Operation, OperationResult,
    PastRevision, Plant, Position, Revision, Value, Version,
};

use super::outcome::Denial;
use super::{Results, StateMachine, digest};

/// What a list of operations did: its results if they are wanted, and the change if there is one.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) results: Vec<OperationResult>,
    pub(super) change: Option<Change>,
}

impl StateMachine {
    /// Carries out a list in order, at one revision, unless it names a lease that isn't there or takes too long: then nothing
    /// is done.
    pub(super) fn run_list(
        &mut self,
        writer: NodeId,
        operations: Vec<Operation>,
        results: Results,
    ) -> Result<Done, Denial> {
        let missing = operations
            .iter()
            .filter_map(lease_of)
            .find(|lease| !self.leases.contains(*lease));
        if let Some(lease) = missing {
            return Err(Denial::LeaseNotFound(lease));
        }
        self.check_bounds(&operations)?;
        let mut batch = Batch::new(self, writer);
        let mut out = Vec::new();
        for operation in operations {
            let result = batch.run(operation, results);
            if results == Results::Wanted {
                out.extend(result);
            }
        }
        Ok(Done {
            results: out,
            change: batch.close(),
        })
    }

    /// Whether a list fits in one step. Counted on the state before it, whatever its compares will say.
    fn check_bounds(&self, operations: &[Operation]) -> Result<(), Denial> {
        let mut removed = 0;
        for operation in operations {
            if let Operation::DeleteRange { range } = operation {
                let keys = self.keys_in(range);
                removed += keys.take(DELETE_RANGE_KEYS_MAX + 1).count();
                if removed > DELETE_RANGE_KEYS_MAX {
                    return Err(Denial::DeleteRangeKeysMax);
                }
            }
        }
        for id in operations.iter().filter_map(lease_of) {
            let Some(lease) = self.leases.table().get(&id) else {
                continue;
            };
            if lease.keys.len() + operations.len() <= LEASE_KEYS_MAX {
                continue;
            }
            let new = operations.iter().filter(|operation| {
                let key = operation.key();
                lease_of(operation) == Some(id) && key.is_some_and(|key| !lease.keys.contains(key))
            });
            let new = new.count();
            if new > 0 && lease.keys.len() + new > LEASE_KEYS_MAX {
                return Err(Denial::LeaseKeysMax);
            }
        }
        Ok(())
    }

    fn keys_in<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Key> {
        self.entries
            .range::<_, str>((Bound::Included(range.start()), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| range.contains(key))
    }

    /// Ends a lease and removes its keys, at one revision. `None` if there is no such lease.
    pub(super) fn end_lease(&mut self, writer: NodeId, id: LeaseId) -> Option<Option<Change>> {
        let lease = self.leases.remove(id)?;
        let mut batch = Batch::new(self, writer);
        for key in &lease.keys {
            batch.delete(key);
        }
        Some(batch.close())
    }
}

/// The lease that an operation binds an entry to.
const fn lease_of(operation: &Operation) -> Option<LeaseId> {
    match operation {
        Operation::Put { lease, .. } | Operation::CompareAndSet { lease, .. } => *lease,
        Operation::Delete { .. } | Operation::DeleteRange { .. } | Operation::Get { .. } => None,
    }
}

/// One revision's operations under way.
struct Batch<'a> {
    state: &'a mut StateMachine,
    revision: Revision,
    writer: NodeId,
    events: Vec<ChangeEvent>,
}

impl<'a> Batch<'a> {
    fn new(state: &'a mut StateMachine, writer: NodeId) -> Self {
        Self {
            revision: state.revision.next(),
            state,
            writer,
            events: Vec::new(),
        }
    }

    /// Spends the revision if anything changed.
    fn close(self) -> Option<Change> {
        if self.events.is_empty() {
            return None;
        }
        let events: Arc<[ChangeEvent]> = self.events.into();
        self.state.revision = self.revision;
        self.state.history.push(PastRevision {
            revision: self.revision,
            time: self.state.log_time,
            events: Arc::clone(&events),
        });
        Some(Change {
            position: Position::Strong(self.revision),
            events,
        })
    }

    /// `None` only if nobody wants the result.
    fn run(&mut self, operation: Operation, results: Results) -> Option<OperationResult> {
        match operation {
            Operation::Put {
                key, value, lease, ..
            } => {
                let entry = self.put(key, value, lease);
                (results == Results::Wanted).then(|| OperationResult::Put {
                    version: entry.version.clone(),
                })
            }
            Operation::Delete { key } => {
                let previous = self.delete(&key);
                (results == Results::Wanted).then(|| OperationResult::Deleted {
                    previous: previous.map(Arc::unwrap_or_clone),
                })
            }
            Operation::DeleteRange { range } => Some(OperationResult::RangeDeleted {
                count: self.delete_range(&range),
            }),
            Operation::CompareAndSet {
                key,
                expected,
                value,
                lease,
            } => {
                let current = self.state.entries.get(&key).cloned();
                let succeeded = expected.matches(current.as_deref())
                    || self.state.planted.is(Plant::CompareIgnored);
                let entry = if succeeded {
                    Some(self.put(key, value, lease))
                } else {
                    current
                };
                (results == Results::Wanted).then(|| OperationResult::Compared {
                    succeeded,
                    entry: entry.map(Arc::unwrap_or_clone),
                })
            }
            Operation::Get { key } => (results == Results::Wanted).then(|| OperationResult::Got {
                entry: self.state.entries.get(&key).map(|entry| (**entry).clone()),
            }),
        }
    }

    fn put(&mut self, key: Key, value: Value, lease: Option<LeaseId>) -> Arc<Entry> {
        let value = detached(value);
        let (revision, writer) = (self.revision, self.writer);
        let make = |key: Key, create, count: u64| {
            Arc::new(Entry {
                siblings: None,
                key,
                value,
                version: Version::Strong {
                    create,
                    modify: revision,
                    count: count.saturating_add(1),
                },
                writer,
                lease,
            })
        };
        let (entry, previous) = match self.state.entries.get_mut(&key) {
            Some(place) => {
                let (create, count) = strong_parts(&place.version);
                // The key that is there already is shared rather than the one that came.
                let entry = make(place.key.clone(), create, count);
                let previous = std::mem::replace(place, Arc::clone(&entry));
                (entry, Some(previous))
            }
            None => {
                let entry = make(key.clone(), revision, 0);
                self.state.entries.insert(key, Arc::clone(&entry));
                (entry, None)
            }
        };
        self.rebind(
            &entry.key,
            previous.as_ref().and_then(|entry| entry.lease),
            lease,
        );
        self.state.sum = digest::exchange(self.state.sum, previous.as_deref(), Some(&entry));
        self.events.push(ChangeEvent::Put {
            entry: Arc::clone(&entry),
            previous,
        });
        entry
    }

    fn delete(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let previous = self.state.entries.remove(key)?;
        let (create, count) = strong_parts(&previous.version);
        self.rebind(&previous.key, previous.lease, None);
        self.state.sum = digest::exchange(self.state.sum, Some(&previous), None);
        self.events.push(ChangeEvent::Deleted {
            key: previous.key.clone(),
            version: Version::Strong {
                create,
                modify: self.revision,
                count: count.saturating_add(1),
            },
            previous: Some(Arc::clone(&previous)),
        });
        Some(previous)
    }

    fn delete_range(&mut self, range: &KeyRange) -> u64 {
        let keys: Vec<Key> = self.state.keys_in(range).cloned().collect();
        for key in &keys {
            self.delete(key);
        }
        keys.len() as u64
    }

    /// Moves a key from one lease to another.
    fn rebind(&mut self, key: &Key, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.state.leases.detach(from, key);
        }
        if let Some(to) = to {
            self.state.leases.attach(to, key.clone());
        }
    }
}

/// A value of its own, so that it doesn't keep the whole message in memory that it came in.
fn detached(value: Value) -> Value {
    let copy = Bytes::copy_from_slice(value.as_bytes());
    Value::parse(copy).unwrap_or(value)
}

/// When a key was made, and how often it was written.
pub(super) const fn strong_parts(version: &Version) -> (Revision, u64) {
    match version {
        Version::Strong { create, count, .. } => (*create, *count),
        // No entry of this mode has one.
        Version::Eventual { .. } => (Revision::ZERO, 0),
    }
}
