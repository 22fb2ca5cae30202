//! Everything that this node has merged: registers, the entries that readers see, the vector, the logs' ends, the ledger.
//!
//! Nothing here knows of peers, disks or time: events and states go in, in any order that per-writer logs allow, and
//! equal sets of them give equal stores.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::{
    ChangeEvent, DataEpoch, Entry, Key, LogId, NodeId, Plant, Planted, Seq, VersionVector,
};

use crate::event::Event;
use crate::lease_table::LeaseTable;
use crate::ledger::Ledger;
use crate::log::Log;
use crate::register::{Policy, Register};
use crate::system_key::SystemKey;
use crate::vector::Known;

mod collection;

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
    leases: LeaseTable,
    /// The highest that was ever merged.
    epoch: DataEpoch,
    /// Prefixes of keys that keep all their concurrent values.
    siblings: Vec<String>,
    tombstones: u64,
    /// Keys whose context is so wide that it should be looked through.
    wide: u64,
    /// Everyone whom a cut asked has what this covers, and deletes within it are collected: a peer that lacks any of it takes
    /// whole states.
    floor: VersionVector,
    /// This node's wall clock, for the ledger alone.
    wall_ms: u64,
    planted: Planted,
    step: Step,
}

impl Store {
    pub(crate) fn new(log_bytes_max: usize, siblings: Vec<String>) -> Self {
        Self {
            registers: OrdMap::new(),
            entries: OrdMap::new(),
            known: Known::default(),
            log: Log::new(log_bytes_max),
            held: BTreeMap::new(),
            held_count: 0,
            held_bytes: 0,
            ledger: Ledger::default(),
            leases: LeaseTable::default(),
            epoch: DataEpoch::ZERO,
            siblings,
            tombstones: 0,
            wide: 0,
            floor: VersionVector::new(),
            wall_ms: 0,
            planted: Planted::default(),
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

    pub(crate) const fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// The epoch that the data has reached, as far as is known here; zero where nobody raised it.
    pub(crate) const fn epoch(&self) -> DataEpoch {
        self.epoch
    }

    pub(crate) const fn leases_mut(&mut self) -> &mut LeaseTable {
        &mut self.leases
    }

    pub(crate) const fn floor(&self) -> &VersionVector {
        &self.floor
    }

    /// The time that conflicts found from now on are listed with.
    pub(crate) const fn set_wall(&mut self, wall_ms: u64) {
        self.wall_ms = wall_ms;
    }

    /// With a defect, for tests of what finds it.
    pub(crate) const fn with_planted(mut self, planted: Planted) -> Self {
        self.planted = planted;
        self
    }

    /// What a key does with concurrent values.
    pub(crate) fn policy(&self, key: &Key) -> Policy {
        let keeps = |prefix: &String| key.as_str().starts_with(prefix.as_str());
        if self.siblings.iter().any(keeps) {
            Policy::Siblings
        } else {
            Policy::Lww
        }
    }

    /// Whether cuts have something to collect: deletes, or what contexts needn't say any more.
    pub(crate) const fn has_to_collect(&self) -> bool {
        self.tombstones > 0 || self.wide > 0
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

    /// Puts back what a checkpoint held, counted marks included. Only before anything else was merged.
    pub(crate) fn restore(
        &mut self,
        registers: Vec<Register>,
        vector: &VersionVector,
        floor: VersionVector,
        ledger: Ledger,
    ) {
        for (writer, log_id, seq) in vector.rows() {
            self.known.raise(writer, log_id, seq);
            self.log.restart(writer, log_id, seq);
        }
        self.floor = floor;
        for register in registers {
            if let Some(key) = register.winner().map(|winner| winner.key.clone()) {
                self.put_register(key, register);
            }
        }
        // The registers of a checkpoint have lost nothing since.
        self.ledger = ledger;
    }

    /// A node is held to be gone: the entries of its leases are hidden at once.
    pub(crate) fn hide_owner(&mut self, owner: NodeId) {
        if self.leases.hide(owner) {
            self.republish(owner);
        }
    }

    /// A node is back: the entries of its leases are shown.
    pub(crate) fn show_owner(&mut self, owner: NodeId) {
        if self.leases.show(owner) {
            self.republish(owner);
        }
    }

    fn republish(&mut self, owner: NodeId) {
        for key in self.leases.keys_of_owner(owner) {
            if let Some(register) = self.registers.get(&key).map(Arc::clone) {
                self.publish(&key, &register);
            }
        }
    }

    fn apply(&mut self, event: Arc<Event>) {
        self.known
            .raise(event.dot.writer, event.dot.log_id, event.dot.seq);
        self.update(event.key.clone(), |register| register.merge_event(&event));
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
        merge(&mut register);
        self.put_register(key, register);
    }

    /// Takes a register's new content in, wherever something of it is kept.
    fn put_register(&mut self, key: Key, mut register: Register) {
        let policy = self.policy(&key);
        for lost in register.tidy(policy, &self.floor) {
            if !self.planted.is(Plant::SilentLedger) {
                self.ledger.add(lost, self.wall_ms);
            }
        }
        if self.planted.is(Plant::DroppedTombstone) && register.is_tombstone() {
            register = Register::default();
        }
        let before = self.registers.get(&key);
        let bound = |register: &Register| {
            let shown = register.shown(policy)?;
            Some((shown.dot.writer, shown.lease?))
        };
        let was_bound = before.and_then(|before| bound(before));
        self.tombstones -= u64::from(before.is_some_and(|before| before.is_tombstone()));
        self.tombstones += u64::from(register.is_tombstone());
        self.wide -= u64::from(before.is_some_and(|before| before.is_wide()));
        self.wide += u64::from(register.is_wide());
        self.leases.rebind(&key, was_bound, bound(&register));
        self.publish(&key, &register);
        if register.is_empty() {
            self.registers.remove(&key);
        } else {
            self.registers.insert(key, Arc::new(register));
        }
    }

    fn publish(&mut self, key: &Key, register: &Register) {
        let policy = self.policy(key);
        match SystemKey::of(key) {
            Some(SystemKey::Lease(lease)) => {
                return self.leases.set(lease, register.shown(policy));
            }
            Some(SystemKey::Epoch(epoch)) => {
                if register.shown(policy).is_some() {
                    self.epoch = self.epoch.max(epoch);
                }
                return;
            }
            // One that a later version knows.
            None if SystemKey::is_reserved(key) => return,
            None => {}
        }
        let is_hidden = register
            .shown(policy)
            .is_some_and(|shown| shown.lease.is_some() && self.leases.is_hidden(shown.dot.writer));
        let entry = register.entry(policy).filter(|_| !is_hidden).map(Arc::new);
        let before = match &entry {
            Some(entry) => self.entries.insert(key.clone(), Arc::clone(entry)),
            None => self.entries.remove(key),
        };
        let changed = match (&before, &entry) {
            (None, None) => false,
            (Some(before), Some(entry)) => {
                dot_of(&before.version) != dot_of(&entry.version)
                    || before.siblings != entry.siblings
            }
            (None, Some(_)) | (Some(_), None) => true,
        };
        if changed {
            self.note_change(key, register, before, entry);
        }
    }

    fn note_change(
        &mut self,
        key: &Key,
        register: &Register,
        before: Option<Arc<Entry>>,
        entry: Option<Arc<Entry>>,
    ) {
        if self.step.changes.len() >= CHANGES_MAX {
            self.step.changes = vec![ChangeEvent::Reset];
        }
        if self.step.changes == [ChangeEvent::Reset] {
            return;
        }
        let deleted_by = || match register.winner() {
            Some(winner) => Some(register.version(winner)),
            // Dropped with a whole state: what went is all that is known.
            None => before.as_ref().map(|before| before.version.clone()),
        };
        self.step.changes.push(match entry {
            Some(entry) => ChangeEvent::Put {
                entry,
                previous: None,
            },
            None => match deleted_by() {
                Some(version) => ChangeEvent::Deleted {
                    key: key.clone(),
                    version,
                    previous: None,
                },
                None => ChangeEvent::Reset,
            },
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
