//! Everything that this node has merged: registers, the entries that readers see, the vector, the logs' ends, the ledger.
//!
//! Nothing here knows of peers, disks or time: events and states go in, in any order that per-writer logs allow, and
//! equal sets of them give equal stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::{ChangeEvent, Entry, Key, LogId, NodeId, Seq, VersionVector};

use crate::event::Event;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::register::Register;
use crate::vector::Known;

/// Events that came before their predecessors and wait for them.
const HELD_MAX: usize = 4_096;

/// Bytes that the held events may weigh.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Changes of one step beyond which watchers are told to read again instead.
const CHANGES_MAX: usize = 16_384;

type Row = (NodeId, LogId);

/// What became of an event that was merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It was news.
    New,
    /// It was known, or waits already. A covered dot is never merged again.
    Known,
    /// Its predecessors are missing; it waits for them.
    Held,
    /// Its predecessors are missing and there is no room to wait.
    Dropped,
}

/// What happened since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Events applied one by one, in order.
    pub(crate) applied: Vec<Arc<Event>>,
    /// Whether a whole state was installed.
    pub(crate) installed: bool,
    /// Rows that rose.
    pub(crate) raised: Vec<Row>,
    /// What readers see otherwise than before.
    pub(crate) changes: Vec<ChangeEvent>,
}

/// The merged state.
#[derive(Debug)]
pub(crate) struct Store {
    registers: OrdMap<Key, Arc<Register>>,
    entries: OrdMap<Key, Arc<Entry>>,
    known: Known,
    log: Log,
    held: BTreeMap<Row, BTreeMap<Seq, Arc<Event>>>,
    held_count: usize,
    held_bytes: usize,
    ledger: Ledger,
    tombstones: u64,
    step: Step,
}

impl Store {
    pub(crate) fn new(log_bytes_max: usize) -> Self {
        Self {
            registers: OrdMap::new(),
            entries: OrdMap::new(),
            known: Known::default(),
            log: Log::new(log_bytes_max),
            held: BTreeMap::new(),
            held_count: 0,
            held_bytes: 0,
            ledger: Ledger::default(),
            tombstones: 0,
            step: Step::default(),
        }
    }

    pub(crate) const fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(crate) const fn tombstones(&self) -> u64 {
        self.tombstones
    }

    pub(crate) fn entries(&self) -> &OrdMap<Key, Arc<Entry>> {
        &self.entries
    }

    pub(crate) fn registers(&self) -> &OrdMap<Key, Arc<Register>> {
        &self.registers
    }

    pub(crate) fn register(&self, key: &Key) -> Option<&Arc<Register>> {
        self.registers.get(key)
    }

    pub(crate) fn take_step(&mut self) -> Step {
        std::mem::take(&mut self.step)
    }

    /// Merges an event if all before it in its writer's log are merged; keeps it for later if not.
    pub(crate) fn merge_event(&mut self, event: Arc<Event>) -> Merged {
        let row = (event.dot.writer, event.dot.log_id);
        let known = self.known.seq(row.0, row.1);
        if event.dot.seq <= known {
            return Merged::Known;
        }
        if event.dot.seq > known.next() {
            return self.hold(event);
        }
        self.apply(event);
        self.release(row);
        Merged::New
    }

    /// Joins a peer's registers and then everything that it knew: both or nothing, so a prefix of every log is seen.
    pub(crate) fn install(&mut self, registers: &[Register], vector: &VersionVector) {
        for register in registers {
            let Some(key) = register.winner().map(|winner| winner.key.clone()) else {
                continue;
            };
            self.update(key, |mine| mine.merge(register));
        }
        for (writer, log_id, seq) in vector.rows() {
            if self.known.raise(writer, log_id, seq) {
                self.log.restart(writer, log_id, seq);
                self.step.raised.push((writer, log_id));
            }
        }
        for row in self.held.keys().copied().collect::<Vec<_>>() {
            self.release(row);
        }
        self.step.installed = true;
    }

    /// Puts back what a checkpoint held, counted marks included. Only before anything else was merged.
    pub(crate) fn restore(
        &mut self,
        registers: Vec<Register>,
        vector: &VersionVector,
        conflicts: u64,
    ) {
        for register in registers {
            let Some(winner) = register.winner() else {
                continue;
            };
            let key = winner.key.clone();
            if let Some(entry) = register.entry() {
                self.entries.insert(key.clone(), Arc::new(entry));
            }
            self.tombstones += u64::from(register.is_tombstone());
            self.registers.insert(key, Arc::new(register));
        }
        for (writer, log_id, seq) in vector.rows() {
            self.known.raise(writer, log_id, seq);
            self.log.restart(writer, log_id, seq);
        }
        self.ledger.restore(conflicts);
    }

    fn apply(&mut self, event: Arc<Event>) {
        self.update(event.key.clone(), |register| register.merge_event(&event));
        self.known
            .raise(event.dot.writer, event.dot.log_id, event.dot.seq);
        self.log.push(Arc::clone(&event));
        self.step.raised.push((event.dot.writer, event.dot.log_id));
        self.step.applied.push(event);
    }

    fn update(&mut self, key: Key, merge: impl FnOnce(&mut Register)) {
        let mut register = self
            .registers
            .get(&key)
            .map(|known| Register::clone(known))
            .unwrap_or_default();
        let was_tombstone = register.is_tombstone();
        merge(&mut register);
        for lost in register.count_losers() {
            self.ledger.add(&lost);
        }
        self.tombstones += u64::from(register.is_tombstone());
        self.tombstones -= u64::from(was_tombstone);
        self.publish(&key, &register);
        self.registers.insert(key, Arc::new(register));
    }

    fn publish(&mut self, key: &Key, register: &Register) {
        let before = self.entries.get(key).map(|entry| entry.version.clone());
        let entry = register.entry().map(Arc::new);
        let changed = match (&before, &entry) {
            (None, None) => false,
            (Some(before), Some(entry)) => dot_of(before) != dot_of(&entry.version),
            (None, Some(_)) | (Some(_), None) => true,
        };
        match &entry {
            Some(entry) => self.entries.insert(key.clone(), Arc::clone(entry)),
            None => self.entries.remove(key),
        };
        if changed {
            self.note_change(key, register, entry);
        }
    }

    fn note_change(&mut self, key: &Key, register: &Register, entry: Option<Arc<Entry>>) {
        if self.step.changes.len() >= CHANGES_MAX {
            self.step.changes = vec![ChangeEvent::Reset];
        }
        if self.step.changes == [ChangeEvent::Reset] {
            return;
        }
        self.step.changes.push(match (entry, register.winner()) {
            (Some(entry), _) => ChangeEvent::Put {
                entry,
                previous: None,
            },
            (None, Some(winner)) => ChangeEvent::Deleted {
                key: key.clone(),
                version: register.version(winner),
                previous: None,
            },
            (None, None) => ChangeEvent::Reset,
        });
    }

    fn hold(&mut self, event: Arc<Event>) -> Merged {
        let row = (event.dot.writer, event.dot.log_id);
        if self
            .held
            .get(&row)
            .is_some_and(|waiting| waiting.contains_key(&event.dot.seq))
        {
            return Merged::Known;
        }
        let bytes = event.encoded().len();
        if self.held_count >= HELD_MAX || self.held_bytes + bytes > HELD_BYTES_MAX {
            return Merged::Dropped;
        }
        self.held_count += 1;
        self.held_bytes += bytes;
        self.held
            .entry(row)
            .or_default()
            .insert(event.dot.seq, event);
        Merged::Held
    }

    /// Applies the held events of a row that are next, forgets those that are known.
    fn release(&mut self, row: Row) {
        while let Some(waiting) = self.held.get_mut(&row) {
            let next = self.known.seq(row.0, row.1).next();
            let Some(first) = waiting.first_entry().filter(|first| *first.key() <= next) else {
                return;
            };
            let event = first.remove();
            if waiting.is_empty() {
                self.held.remove(&row);
            }
            self.held_count -= 1;
            self.held_bytes -= event.encoded().len();
            if event.dot.seq == next {
                self.apply(event);
            }
        }
    }
}

fn dot_of(version: &quorumor_core::Version) -> Option<quorumor_core::Dot> {
    match version {
        quorumor_core::Version::Eventual { dot, .. } => Some(*dot),
        quorumor_core::Version::Strong { .. } => None,
    }
}

#[cfg(test)]
mod tests;
