//! From a verdict to operations: what is written at the destination for one key, and what is written down of it. Pure.

use quorumor_core::{
    Compare, CompareTarget, Entry, Key, LeaseId, Mode, Operation, Relation, Revision, Value,
    Version, VersionVector,
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

    /// What a verdict means at a destination of this mode; `None` if there is nothing to write. A put needs the lease that stands
    /// for the source's.
    pub(super) fn plan(&self, verdict: Verdict, names: &Names, to: Mode) -> Option<Planned> {
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
                let operation = self.put(&source.value, self.lease, to);
                planned.operations.push(operation);
                planned.puts = 1;
                (Kind::Moved, lost)
            }
            Verdict::Delete(lost) => {
                destination = None;
                planned.operations.extend(self.removal(to));
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

    /// Sets the key. In eventual mode the context says what was seen, also that nothing was: without one the put would replace
    /// whatever was written since.
    fn put(&self, value: &Value, lease: Option<LeaseId>, to: Mode) -> Operation {
        let context = match self.destination.as_ref().map(|entry| &entry.version) {
            Some(Version::Eventual { context, .. }) => Some(context.clone()),
            Some(Version::Strong { .. }) => None,
            None => (to == Mode::Eventual).then(VersionVector::new),
        };
        Operation::Put {
            key: self.key.clone(),
            value: value.clone(),
            context,
            lease,
        }
    }

    /// Removes the key. In eventual mode a deletion has no context and takes whatever the node holds: so the value that was seen is
    /// set again before, and one that was written since loses to that, and is listed as a conflict, rather than to the deletion.
    fn removal(&self, to: Mode) -> impl Iterator<Item = Operation> {
        let seen = self.destination.as_ref().filter(|_| to == Mode::Eventual);
        let again = seen.map(|seen| self.put(&seen.value, None, to));
        let key = self.key.clone();
        again.into_iter().chain([Operation::Delete { key }])
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
    context: Option<VersionVector>,
    lease: Option<LeaseId>,
) -> Operation {
    Operation::Put {
        key,
        value,
        context,
        lease,
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::{Dot, LogId, NodeId, Seq, Stamp};

    use super::*;

    fn seen(value: &'static str) -> Entry {
        let writer = NodeId::try_from(1).unwrap();
        let dot = Dot {
            writer,
            log_id: LogId::new(1),
            seq: Seq::new(1),
        };
        let mut context = VersionVector::new();
        context.add_dot(dot);
        Entry {
            key: Key::parse("a").unwrap(),
            value: Value::parse(value.into()).unwrap(),
            version: Version::Eventual {
                dot,
                stamp: Stamp::from_u64(1),
                siblings: 1,
                context,
            },
            writer,
            lease: None,
            siblings: None,
        }
    }

    fn item(source: Option<Entry>, destination: Option<Entry>) -> Item {
        Item {
            key: Key::parse("a").unwrap(),
            source,
            destination,
            record: None,
            lease: None,
        }
    }

    /// The contexts of the puts to the key itself.
    fn contexts(item: &Item, verdict: Verdict, to: Mode) -> Vec<Option<VersionVector>> {
        let planned = item.plan(verdict, &Names::of("m"), to).unwrap();
        let data = planned
            .operations
            .into_iter()
            .filter(|operation| operation.key() == Some(&item.key));
        data.filter_map(|operation| match operation {
            Operation::Put { context, .. } => Some(context),
            Operation::Delete { .. } => None,
            other @ (Operation::DeleteRange { .. }
            | Operation::CompareAndSet { .. }
            | Operation::Get { .. }) => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn in_eventual_mode_a_write_replaces_what_was_seen_and_no_more() {
        let put = || Verdict::Put(Vec::new());
        let (Version::Eventual { context, .. }, at) = (seen("").version, Mode::Eventual) else {
            panic!("it is of eventual mode");
        };
        let nothing = item(Some(seen("new")), None);
        assert_eq!(
            contexts(&nothing, put(), at),
            [Some(VersionVector::new())],
            "nothing was seen"
        );
        let something = item(Some(seen("new")), Some(seen("old")));
        assert_eq!(contexts(&something, put(), at), [Some(context.clone())]);
        let gone = item(None, Some(seen("old")));
        let delete = || Verdict::Delete(Vec::new());
        assert_eq!(contexts(&gone, delete(), at), [Some(context)]);
        // Compares guard strong mode.
        assert_eq!(contexts(&nothing, put(), Mode::Strong), [None]);
        assert_eq!(contexts(&gone, delete(), Mode::Strong), []);
    }
}
