//! From a verdict to operations: what is written at the destination for one key, and what is written down of it. Pure.

use quorumor_core::{
    Compare, CompareTarget, Entry, Key, LeaseId, Operation, Relation, Revision, Value, Version,
};

use super::decide::{Rules, Seen, Verdict, decide};
use super::progress::Names;
use super::record::{Digest, Kind, Lost, Record};

/// What is to be written for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Planned {
    /// To the data and to what is written down.
    pub(super) operations: Vec<Operation>,
    /// What the destination must still hold, in strong mode.
    pub(super) compare: Option<Compare>,
    /// The node that owns the lease that the entry is bound to; 0 for none.
    pub(super) owner: u64,
    pub(super) puts: u64,
    pub(super) deletes: u64,
}

impl Planned {
    pub(super) fn bytes(&self) -> usize {
        self.operations.iter().map(Operation::bytes).sum()
    }
}

/// What one pass over the keys has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Keys that the source has.
    pub(super) keys: u64,
    pub(super) puts: u64,
    pub(super) deletes: u64,
    pub(super) keeps: u64,
    /// Conflicts that nobody has decided.
    pub(super) open: u64,
    /// Keys that the destination has changed since they were moved.
    pub(super) ahead: u64,
    /// Keys that only the destination has.
    pub(super) extra: u64,
    /// Values beside the one of a key, each discarded.
    pub(super) siblings: u64,
    /// Of all keys and values of the source.
    pub(super) source: Digest,
    /// Of the same keys with the destination's values.
    pub(super) destination: Digest,
}

impl Counts {
    /// Whether nothing had to be written to the data.
    pub(super) const fn is_quiet(&self) -> bool {
        self.puts == 0 && self.deletes == 0 && self.keeps == 0
    }

    /// Counts a key of the source.
    pub(super) fn see(&mut self, seen: Seen<'_>) {
        let Some(source) = seen.source else { return };
        let pair = |entry: &Entry| Digest::of_pair(entry.key.as_str(), entry.value.as_bytes());
        self.keys += 1;
        self.siblings += source
            .siblings
            .as_ref()
            .map_or(0, |siblings| siblings.len() as u64);
        self.source = self.source.and(pair(source));
        if let Some(destination) = seen.destination {
            self.destination = self.destination.and(pair(destination));
        }
    }

    pub(super) fn judge(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Settled | Verdict::Note(_) | Verdict::Forget => {}
            Verdict::Extra => self.extra += 1,
            Verdict::Ahead => self.ahead += 1,
            Verdict::Open | Verdict::StillOpen => self.open += 1,
            Verdict::Put(_) => self.puts += 1,
            Verdict::Delete(_) => self.deletes += 1,
            Verdict::Keep(_) => self.keeps += 1,
        }
    }
}

/// What both sides hold of a key, and what is written down, by value.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) source: Option<Entry>,
    pub(super) destination: Option<Entry>,
    pub(super) record: Option<Record>,
    /// The lease that stands for the source's at the destination, if the entry has one and it lives.
    pub(super) lease: Option<LeaseId>,
}

impl Item {
    pub(super) fn seen(&self) -> Seen<'_> {
        let bound = self
            .source
            .as_ref()
            .is_some_and(|source| source.lease.is_some());
        Seen {
            source: self.source.as_ref(),
            destination: self.destination.as_ref(),
            record: self.record.as_ref(),
            lease_lives: !bound || self.lease.is_some(),
        }
    }

    pub(super) fn decide(&self, rules: Rules) -> Verdict {
        decide(self.seen(), rules)
    }

    /// What a verdict means; `None` if there is nothing to write. A put needs the lease that stands for the source's.
    pub(super) fn plan(&self, verdict: Verdict, names: &Names) -> Option<Planned> {
        let mut planned = Planned::default();
        let source = self.source.as_ref().map(Digest::of_entry);
        let mut destination = self.destination.as_ref().map(Digest::of_entry);
        let (kind, lost) = match verdict {
            Verdict::Settled | Verdict::Extra | Verdict::Ahead | Verdict::StillOpen => return None,
            Verdict::Forget => {
                let key = names.record(&self.key);
                planned.operations.push(Operation::Delete { key });
                return Some(planned);
            }
            Verdict::Put(lost) => {
                let source = self.source.as_ref()?;
                destination = Some(Digest::of_value(&source.value, self.lease));
                planned.operations.push(self.put(source));
                planned.puts = 1;
                (Kind::Moved, lost)
            }
            Verdict::Delete(lost) => {
                destination = None;
                let key = self.key.clone();
                planned.operations.push(Operation::Delete { key });
                planned.deletes = 1;
                (Kind::Moved, lost)
            }
            Verdict::Note(lost) => (Kind::Moved, lost),
            Verdict::Keep(lost) => (Kind::Kept, lost),
            Verdict::Open => (Kind::Open, Vec::new()),
        };
        planned.compare = Some(self.unchanged());
        let record = self.record_after(kind, (source, destination), lost);
        let key = names.record(&self.key);
        let is_over = record.destination.is_none() && source.is_none() && record.lost.is_empty();
        planned.operations.push(if is_over {
            Operation::Delete { key }
        } else {
            let value = Value::parse(record.encode()).ok()?;
            put(key, value, None, None)
        });
        Some(planned)
    }

    fn put(&self, source: &Entry) -> Operation {
        let context = match self.destination.as_ref().map(|entry| &entry.version) {
            Some(Version::Eventual { context, .. }) => Some(context.clone()),
            Some(Version::Strong { .. }) | None => None,
        };
        Operation::Put {
            key: self.key.clone(),
            value: source.value.clone(),
            context,
            lease: self.lease,
        }
    }

    fn record_after(
        &self,
        kind: Kind,
        (source, destination): (Option<Digest>, Option<Digest>),
        lost: Vec<Lost>,
    ) -> Record {
        let before = self.record.as_ref();
        let mut record = Record {
            key: self.key.clone(),
            kind,
            source,
            destination,
            lost: before.map(|record| record.lost.clone()).unwrap_or_default(),
            unlisted: before.map_or(0, |record| record.unlisted),
        };
        record.lose(lost);
        record
    }

    /// That the destination holds what was seen.
    fn unchanged(&self) -> Compare {
        modified_at(self.key.clone(), self.destination.as_ref())
    }
}

/// That a key of strong mode was last written as this entry says.
pub(super) fn modified_at(key: Key, entry: Option<&Entry>) -> Compare {
    let revision = match entry.map(|entry| &entry.version) {
        Some(Version::Strong { modify, .. }) => *modify,
        Some(Version::Eventual { .. }) | None => Revision::ZERO,
    };
    Compare {
        key,
        relation: Relation::Equal,
        target: CompareTarget::ModRevision(revision),
    }
}

/// A put of a record of the migration's own.
pub(super) const fn put(
    key: Key,
    value: Value,
    context: Option<quorumor_core::VersionVector>,
    lease: Option<LeaseId>,
) -> Operation {
    Operation::Put {
        key,
        value,
        context,
        lease,
    }
}
