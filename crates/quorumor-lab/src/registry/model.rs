//! The sequential model: what a request does to a state, and what it must answer.
//!
//! Written from the contract in `quorumor_core::request`, not from the replica's code.

use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::{
    ChangeEvent, Entry, Key, LeaseId, NodeId, Operation, OperationResult, Revision, Txn, Version,
};

/// The live entries at one revision.
pub type State = OrdMap<Key, Arc<Entry>>;

/// What a request did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Whether a transaction's compares held; true for any other write.
    pub succeeded: bool,
    /// One an operation that was carried out.
    pub results: Vec<OperationResult>,
    /// What changed, in order.
    pub events: Vec<ChangeEvent>,
}

/// Carries operations out on a state, as one entry that makes this revision if it changes anything.
pub fn write(
    state: &State,
    operations: &[Operation],
    revision: Revision,
    writer: NodeId,
) -> Effect {
    let mut step = Step {
        state: state.clone(),
        revision,
        writer,
        events: Vec::new(),
    };
    let results = operations.iter().map(|one| step.run(one)).collect();
    Effect {
        succeeded: true,
        results,
        events: step.events,
    }
}

/// Carries a transaction out.
pub fn txn(state: &State, txn: &Txn, revision: Revision, writer: NodeId) -> Effect {
    let holds = txn
        .compares
        .iter()
        .all(|compare| compare.holds(state.get(&compare.key).map(AsRef::as_ref)));
    let operations = if holds { &txn.success } else { &txn.failure };
    Effect {
        succeeded: holds,
        ..write(state, operations, revision, writer)
    }
}

/// The keys that go with a lease.
pub fn keys_of(state: &State, lease: LeaseId) -> Vec<Key> {
    state
        .values()
        .filter(|entry| entry.lease == Some(lease))
        .map(|entry| entry.key.clone())
        .collect()
}

/// The state after one event.
pub fn apply(state: &mut State, event: &ChangeEvent) {
    match event {
        ChangeEvent::Put { entry, .. } => {
            state.insert(entry.key.clone(), Arc::clone(entry));
        }
        ChangeEvent::Deleted { key, .. } => {
            state.remove(key);
        }
        ChangeEvent::Reset => {}
    }
}

struct Step {
    state: State,
    revision: Revision,
    writer: NodeId,
    events: Vec<ChangeEvent>,
}

impl Step {
    fn run(&mut self, operation: &Operation) -> OperationResult {
        match operation {
            Operation::Put {
                key, value, lease, ..
            } => OperationResult::Put {
                version: self.put(key, value, *lease).version.clone(),
            },
            Operation::Delete { key } => OperationResult::Deleted {
                previous: self.delete(key).map(Arc::unwrap_or_clone),
            },
            Operation::DeleteRange { range } => {
                let keys: Vec<Key> = self
                    .state
                    .keys()
                    .filter(|key| range.contains(key))
                    .cloned()
                    .collect();
                for key in &keys {
                    self.delete(key);
                }
                OperationResult::RangeDeleted {
                    count: keys.len() as u64,
                }
            }
            Operation::CompareAndSet {
                key,
                expected,
                value,
                lease,
            } => {
                let current = self.state.get(key).cloned();
                let succeeded = expected.matches(current.as_deref());
                let entry = if succeeded {
                    Some(self.put(key, value, *lease))
                } else {
                    current
                };
                OperationResult::Compared {
                    succeeded,
                    entry: entry.map(Arc::unwrap_or_clone),
                }
            }
            Operation::Get { key } => OperationResult::Got {
                entry: self.state.get(key).map(|entry| (**entry).clone()),
            },
        }
    }

    fn put(
        &mut self,
        key: &Key,
        value: &quorumor_core::Value,
        lease: Option<LeaseId>,
    ) -> Arc<Entry> {
        let previous = self.state.get(key).cloned();
        let (create, count) = match previous.as_deref().map(|entry| &entry.version) {
            Some(Version::Strong { create, count, .. }) => (*create, count + 1),
            Some(Version::Eventual { .. }) | None => (self.revision, 1),
        };
        let entry = Arc::new(Entry {
            siblings: None,
            key: key.clone(),
            value: value.clone(),
            version: Version::Strong {
                create,
                modify: self.revision,
                count,
            },
            writer: self.writer,
            lease,
        });
        let event = ChangeEvent::Put {
            entry: Arc::clone(&entry),
            previous,
        };
        apply(&mut self.state, &event);
        self.events.push(event);
        entry
    }

    fn delete(&mut self, key: &Key) -> Option<Arc<Entry>> {
        let previous = self.state.get(key).cloned()?;
        let (create, count) = match &previous.version {
            Version::Strong { create, count, .. } => (*create, count + 1),
            Version::Eventual { .. } => (Revision::ZERO, 0),
        };
        let event = ChangeEvent::Deleted {
            key: key.clone(),
            version: Version::Strong {
                create,
                modify: self.revision,
                count,
            },
            previous: Some(Arc::clone(&previous)),
        };
        apply(&mut self.state, &event);
        self.events.push(event);
        Some(previous)
    }
}
