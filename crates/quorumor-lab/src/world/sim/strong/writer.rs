//! A writer: batches, transactions with every kind of compare, compare-and-sets, deletes of keys and ranges.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorumor_core::{
    Compare, CompareTarget, Entry, Expected, Key, KeyRange, LeaseId, Operation, OperationResult,
    Relation, Revision, Txn, Value, Version,
};
use rand_chacha::ChaCha8Rng;

use super::actor::{MS, Plan, Surroundings, Wish};
use crate::registry::{Answer, Ask, Finish, Op};
use crate::rng;

/// Keys that all writers share.
const KEYS: u64 = 6;

/// A writer.
#[derive(Debug)]
pub(super) struct Writer {
    name: String,
    values: u64,
    /// What it saw last of each key.
    seen: BTreeMap<Key, Option<Entry>>,
}

impl Writer {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            values: 0,
            seen: BTreeMap::new(),
        }
    }

    pub(super) fn plan(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Plan {
        let ask = match rng::below(rng, 100) {
            0..40 => Ask::Txn(self.txn(rng, around)),
            40..60 => Ask::Write(self.operations(rng, around, 4)),
            60..72 => Ask::Write(vec![self.put(rng, around)]),
            72..84 => Ask::Write(vec![self.compare_and_set(rng, around)]),
            84..90 => Ask::Write(vec![Operation::Delete { key: key(rng) }]),
            90..94 => Ask::Write(vec![Operation::DeleteRange { range: range(rng) }]),
            94..96 => return Plan::Nap((1_000 + rng::below(rng, 2_500)) * MS),
            // Some writes go as those of clients without a session: once.
            _ => return Plan::Ask(Wish::once(Ask::Write(self.operations(rng, around, 3)))),
        };
        let mut wish = Wish::numbered(ask, rng);
        if rng::chance_ppm(rng, 200_000) {
            wish.after = Some(Revision::new(around.seen));
        }
        Plan::Ask(wish)
    }

    pub(super) fn learn(&mut self, op: &Op) {
        let Finish::Answered(answer, _) = op.finish() else {
            return;
        };
        let (operations, results): (&[Operation], &[OperationResult]) = match (&op.ask, answer) {
            (Ask::Write(operations), Answer::Written { results, .. }) => (operations, results),
            (
                Ask::Txn(txn),
                Answer::Txn {
                    succeeded, results, ..
                },
            ) => {
                let list = if *succeeded {
                    &txn.success
                } else {
                    &txn.failure
                };
                (list, results)
            }
            _ => return,
        };
        for (operation, result) in operations.iter().zip(results) {
            let Some(key) = operation.key() else { continue };
            let entry = match result {
                OperationResult::Got { entry } | OperationResult::Compared { entry, .. } => {
                    entry.clone()
                }
                OperationResult::Deleted { .. } => None,
                OperationResult::Put { .. } | OperationResult::RangeDeleted { .. } => continue,
            };
            self.seen.insert(key.clone(), entry);
        }
    }

    fn value(&mut self) -> Value {
        self.values += 1;
        value(&format!("{}-{}", self.name, self.values))
    }

    fn put(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Operation {
        Operation::Put {
            key: key(rng),
            value: self.value(),
            context: None,
            lease: lease(rng, around),
        }
    }

    fn operations(
        &mut self,
        rng: &mut ChaCha8Rng,
        around: &Surroundings<'_>,
        most: u64,
    ) -> Vec<Operation> {
        let count = 1 + rng::below(rng, most);
        (0..count)
            .map(|_| match rng::below(rng, 100) {
                0..55 => self.put(rng, around),
                55..70 => Operation::Delete { key: key(rng) },
                70..76 => Operation::DeleteRange { range: range(rng) },
                76..84 => self.compare_and_set(rng, around),
                _ => Operation::Get { key: key(rng) },
            })
            .collect()
    }

    fn compare_and_set(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Operation {
        let key = key(rng);
        let expected = match (self.seen.get(&key), rng::below(rng, 3)) {
            (Some(Some(entry)), 0) => Expected::Value(entry.value.clone()),
            (Some(Some(entry)), _) => Expected::Revision(modified(entry)),
            (Some(None) | None, _) => Expected::Absent,
        };
        Operation::CompareAndSet {
            key,
            expected,
            value: self.value(),
            lease: lease(rng, around),
        }
    }

    fn txn(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Txn {
        let compares = (0..rng::below(rng, 3)).map(|_| self.compare(rng, around));
        let compares = compares.collect();
        let mut failure = self.operations(rng, around, 2);
        failure.push(Operation::Get { key: key(rng) });
        Txn {
            compares,
            success: self.operations(rng, around, 4),
            failure,
        }
    }

    fn compare(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Compare {
        let key = key(rng);
        let seen = self.seen.get(&key).and_then(Option::as_ref);
        let target = match (
            rng::below(rng, 5),
            seen.map(|entry| (entry, &entry.version)),
        ) {
            (0, Some((_, Version::Strong { create, .. }))) => {
                CompareTarget::CreateRevision(*create)
            }
            (0 | 1, None) => CompareTarget::CreateRevision(Revision::ZERO),
            (1, Some((entry, _))) => CompareTarget::ModRevision(modified(entry)),
            (2, Some((_, Version::Strong { count, .. }))) => CompareTarget::Count(*count),
            (3, Some((entry, _))) => CompareTarget::Value(entry.value.clone()),
            (4, _) => CompareTarget::Lease(around.leases.first().copied().unwrap_or_default()),
            _ => CompareTarget::Count(rng::below(rng, 3)),
        };
        let relation = match rng::below(rng, 8) {
            0..5 => Relation::Equal,
            5 => Relation::NotEqual,
            6 => Relation::Greater,
            _ => Relation::Less,
        };
        Compare {
            key,
            relation,
            target,
        }
    }
}

/// One of the shared keys.
pub(super) fn key(rng: &mut ChaCha8Rng) -> Key {
    let number = rng::below(rng, KEYS);
    Key::parse(&format!("t/{number}")).expect("short words are keys")
}

/// A range over some of the shared keys.
pub(super) fn range(rng: &mut ChaCha8Rng) -> KeyRange {
    let from = rng::below(rng, KEYS);
    let to = from + 1 + rng::below(rng, 3);
    KeyRange::between(&format!("t/{from}"), Some(&format!("t/{to}"))).expect("in order")
}

/// A value from text.
pub(super) fn value(text: &str) -> Value {
    Value::parse(Bytes::copy_from_slice(text.as_bytes())).expect("short texts are values")
}

fn modified(entry: &Entry) -> Revision {
    match entry.version {
        Version::Strong { modify, .. } => modify,
        Version::Eventual { .. } => Revision::ZERO,
    }
}

fn lease(rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Option<LeaseId> {
    let count = around.leases.len() as u64;
    if count == 0 || !rng::chance_ppm(rng, 120_000) {
        return None;
    }
    let at = usize::try_from(rng::below(rng, count)).ok()?;
    around.leases.get(at).copied()
}
