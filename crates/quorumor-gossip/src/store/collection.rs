//! What whole states and collections do to a store.

use std::collections::BTreeSet;

use quorumor_core::{ChangeEvent, Dot, Key, Plant, VersionVector};

use super::{Store, dot_of};
use crate::register::Register;

/// Where a change stands in its writer's log.
fn place(change: &ChangeEvent) -> Option<Dot> {
    match change {
        ChangeEvent::Put { entry, .. } => dot_of(&entry.version),
        ChangeEvent::Deleted { version, .. } => dot_of(version),
        ChangeEvent::Reset => None,
    }
}

impl Store {
    /// Joins a peer's registers, then everything that it knew: both or nothing, so a prefix of every log is seen. With `whole`
    /// these are all registers that the peer has, `floor` is its own, and what it covers and doesn't have is dropped here.
    pub(crate) fn install(
        &mut self,
        registers: &[Register],
        vector: &VersionVector,
        whole: Option<&VersionVector>,
    ) {
        let mine = self.known.vector().clone();
        for (writer, log_id, seq) in vector.rows() {
            if self.known.raise(writer, log_id, seq) {
                self.log.restart(writer, log_id, seq);
                self.step.raised.push((writer, log_id));
            }
        }
        let mut brought = BTreeSet::new();
        let step = 1 + usize::from(self.planted.is(Plant::HalfInstalled));
        for register in registers.iter().step_by(step) {
            if let Some(key) = register.winner().map(|winner| winner.key.clone()) {
                brought.insert(key.clone());
                self.update(key, |own| own.join(register, &mine, vector));
            }
        }
        if let Some(floor) = whole {
            self.drop_what_lacks(&brought, vector);
            self.floor.merge(floor);
        }
        // Watchers are told each writer's changes in its order, not the keys'.
        self.step.changes.sort_by_key(place);
        for row in self.held.keys().copied().collect::<Vec<_>>() {
            self.release(row);
        }
        self.step.installed = true;
    }

    /// Drops what a peer that knew `vector` doesn't have at all.
    fn drop_what_lacks(&mut self, brought: &BTreeSet<Key>, vector: &VersionVector) {
        let absent: Vec<Key> = self
            .registers
            .iter()
            .filter(|(key, register)| {
                !brought.contains(*key) && register.dots().any(|dot| vector.covers_dot(dot))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in absent {
            self.update(key, |register| register.drop_covered(vector));
        }
    }

    /// Deletes that `everyone` has go, with what lost to them and that `settled` covers. Returns how many keys that concerned.
    pub(crate) fn collect(&mut self, everyone: &VersionVector, settled: &VersionVector) -> usize {
        self.floor.merge(everyone);
        let due: Vec<(Key, bool)> = self
            .registers
            .iter()
            .map(|(key, register)| (key, register, register.has_delete_within(everyone)))
            .filter(|(_, register, collects)| *collects || register.is_wide())
            .map(|(key, _, collects)| (key.clone(), collects))
            .collect();
        for (key, _) in &due {
            let policy = self.policy(key);
            self.update(key.clone(), |register| {
                register.collect(policy, everyone, settled);
            });
        }
        due.iter().filter(|(_, collects)| *collects).count()
    }
}
