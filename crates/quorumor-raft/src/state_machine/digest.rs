//! A number that tells states apart, kept up with every change at O(1): a sum of one hash an entry.
//!
//! It finds nodes whose applying went different ways. Not rot in memory: it follows every change and is never counted anew from
//! what is there, but when a checkpoint is read. Against bugs and damaged files, not against an adversary. Nodes compare it in the background, and a checkpoint that doesn't
//! make the state it was taken of is refused.

use quorumor_core::{Entry, LeaseId, Version};

use super::StateMachine;
use crate::hash::mix;

/// The sum after an entry was replaced by another.
pub(super) fn exchange(sum: u64, old: Option<&Entry>, new: Option<&Entry>) -> u64 {
    let (old, new) = (old.map_or(0, hash), new.map_or(0, hash));
    sum.wrapping_sub(old).wrapping_add(new)
}

fn hash(entry: &Entry) -> u64 {
    let key = crc32c::crc32c(entry.key.as_str().as_bytes());
    let value = crc32c::crc32c(entry.value.as_bytes());
    let (create, modify, count) = match entry.version {
        Version::Strong {
            create,
            modify,
            count,
        } => (create.as_u64(), modify.as_u64(), count),
        // No entry of this mode has one.
        Version::Eventual { .. } => (0, 0, 0),
    };
    mix(&[
        u64::from(key) << 32 | u64::from(value),
        (entry.key.as_str().len() as u64) << 32 | entry.value.as_bytes().len() as u64,
        create,
        modify,
        count,
        entry.lease.map_or(0, LeaseId::as_u64),
    ])
}

impl StateMachine {
    /// The digest of everything that clients can see: equal on all nodes at the same place of the log.
    pub(crate) fn digest(&self) -> u64 {
        mix(&[
            self.sum,
            self.leases.sum(),
            self.sessions.sum(),
            self.revision.as_u64(),
            self.log_time.0,
            self.history.oldest().as_u64(),
            self.history.len() as u64,
        ])
    }

    /// Takes an entry into a state that is being read from a checkpoint.
    pub(crate) fn restore(&mut self, entry: std::sync::Arc<Entry>) -> bool {
        let bound = entry
            .lease
            .is_none_or(|lease| self.leases.attach(lease, entry.key.clone()));
        self.sum = exchange(self.sum, None, Some(&entry));
        self.entries.insert(entry.key.clone(), entry).is_none() && bound
    }
}
