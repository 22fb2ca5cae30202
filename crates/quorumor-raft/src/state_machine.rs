//! What committed entries mean: a map of keys, a revision, the member records. Deterministic: no clock, no randomness, no
//! unordered map. Equal logs make equal states on every node.
//!
//! Not raft's log, and not who waits for an answer: `ready.rs` applies entries in order and `pending.rs` knows the waiters.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::{
    Change, ChangeEvent, ClusterId, DataEpoch, Entry, Key, NodeId, Operation, OperationResult,
    Position, Revision, Value, Version,
};

use crate::codec::proposal::{Body, Proposal};
use crate::config::RaftConfig;
use crate::membership::{MemberRecord, Roster, Voters};

/// A place in the log with the term of its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// The replicated state. A clone is cheap and no later entry changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateMachine {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: DataEpoch,
    pub(crate) entries: OrdMap<Key, Arc<Entry>>,
    pub(crate) revision: Revision,
    pub(crate) members: BTreeMap<NodeId, MemberRecord>,
    pub(crate) voters: Voters,
    pub(crate) roster: Roster,
    /// The last entry applied.
    pub(crate) applied: Mark,
}

/// What applying one entry led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// One result an operation; empty unless asked for.
    pub(crate) results: Vec<OperationResult>,
    /// What watchers must learn; `None` if no key changed.
    pub(crate) change: Option<Change>,
    /// Whose member record changed.
    pub(crate) member: Option<NodeId>,
}

/// Whether anybody waits for results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Results {
    /// Somebody does.
    Wanted,
    /// Nobody here does.
    Unwanted,
}

impl StateMachine {
    /// The state that every founding node starts from: nothing applied, as if a snapshot at index 1 and term 1 had been
    /// installed, so that a node that joins later gets the configuration with its first snapshot.
    pub(crate) fn founding(config: &RaftConfig) -> Self {
        let founders = config.founders();
        Self {
            cluster: config.identity().cluster,
            epoch: config.identity().epoch,
            entries: OrdMap::new(),
            revision: Revision::ZERO,
            members: founders
                .iter()
                .map(|founder| (founder.node, MemberRecord::founding(founder)))
                .collect(),
            voters: Voters::founding(founders),
            roster: Roster::default(),
            applied: Mark { index: 1, term: 1 },
        }
    }

    /// Applies the next entry. A leader's first entry says nothing, and only moves the place.
    pub(crate) fn apply(
        &mut self,
        at: Mark,
        proposal: Option<Proposal>,
        results: Results,
    ) -> Applied {
        assert_eq!(
            at.index,
            self.applied.index + 1,
            "entries are applied in order"
        );
        self.applied = at;
        match proposal {
            None => Applied::default(),
            Some(Proposal {
                id,
                body: Body::Write { operations, .. },
            }) => self.write(id.node, operations, results),
            Some(Proposal {
                body: Body::Member { node, record },
                ..
            }) => self.announce(node, record),
        }
    }

    /// All operations of one entry that change something share its revision, as in an etcd transaction.
    fn write(&mut self, writer: NodeId, operations: Vec<Operation>, results: Results) -> Applied {
        let mut batch = Batch {
            entries: &mut self.entries,
            revision: self.revision.next(),
            writer,
            events: Vec::new(),
        };
        let mut out = Vec::new();
        for operation in operations {
            let result = batch.run(operation);
            if results == Results::Wanted {
                out.push(result);
            }
        }
        let Batch {
            revision, events, ..
        } = batch;
        let change = (!events.is_empty()).then(|| {
            self.revision = revision;
            Change {
                position: Position::Strong(revision),
                events: events.into(),
            }
        });
        Applied {
            results: out,
            change,
            member: None,
        }
    }

    /// A node's word about itself. A record that names another data directory stands: an id is never reused.
    fn announce(&mut self, node: NodeId, record: MemberRecord) -> Applied {
        let known = self.members.get(&node);
        let other_store =
            known.is_some_and(|known| known.store.is_some() && known.store != record.store);
        if known.is_none() || other_store || known == Some(&record) {
            return Applied::default();
        }
        self.members.insert(node, record);
        Applied {
            member: Some(node),
            ..Applied::default()
        }
    }
}

/// One entry's operations under way.
struct Batch<'a> {
    entries: &'a mut OrdMap<Key, Arc<Entry>>,
    revision: Revision,
    writer: NodeId,
    events: Vec<ChangeEvent>,
}

impl Batch<'_> {
    fn run(&mut self, operation: Operation) -> OperationResult {
        match operation {
            Operation::Put { key, value, .. } => OperationResult::Put {
                version: self.put(key, value).version.clone(),
            },
            Operation::Delete { key } => OperationResult::Deleted {
                previous: self.delete(&key),
            },
            Operation::DeleteRange { range } => {
                let keys: Vec<Key> = self
                    .entries
                    .range::<_, str>((Bound::Included(range.start()), Bound::Unbounded))
                    .map(|(key, _)| key)
                    .take_while(|key| range.contains(key))
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
                lease: _,
            } => {
                let current = self.entries.get(&key).cloned();
                let succeeded = expected.matches(current.as_deref());
                let entry = if succeeded {
                    Some(self.put(key, value))
                } else {
                    current
                };
                OperationResult::Compared {
                    succeeded,
                    entry: entry.map(Arc::unwrap_or_clone),
                }
            }
            Operation::Get { key } => OperationResult::Got {
                entry: self.entries.get(&key).map(|entry| (**entry).clone()),
            },
        }
    }

    fn put(&mut self, key: Key, value: Value) -> Arc<Entry> {
        let (create, count) = self
            .entries
            .get(&key)
            .map_or((self.revision, 0), |entry| strong_parts(&entry.version));
        let previous = self.entries.get(&key).cloned();
        let entry = Arc::new(Entry {
            key: key.clone(),
            value,
            version: Version::Strong {
                create,
                modify: self.revision,
                count: count.saturating_add(1),
            },
            writer: self.writer,
            lease: None,
        });
        self.entries.insert(key, Arc::clone(&entry));
        self.events.push(ChangeEvent::Put {
            entry: Arc::clone(&entry),
            previous,
        });
        entry
    }

    fn delete(&mut self, key: &Key) -> Option<Entry> {
        let previous = self.entries.remove(key)?;
        let (create, count) = strong_parts(&previous.version);
        self.events.push(ChangeEvent::Deleted {
            key: key.clone(),
            version: Version::Strong {
                create,
                modify: self.revision,
                count: count.saturating_add(1),
            },
            previous: Some(Arc::clone(&previous)),
        });
        Some(Arc::unwrap_or_clone(previous))
    }
}

/// When a key was made, and how often it was written.
const fn strong_parts(version: &Version) -> (Revision, u64) {
    match version {
        Version::Strong { create, count, .. } => (*create, *count),
        // No entry of this mode has one.
        Version::Eventual { .. } => (Revision::ZERO, 0),
    }
}

#[cfg(test)]
mod tests;
