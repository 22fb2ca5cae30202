//! The table of leases: part of the replicated state. Time is log time only.
//!
//! Whose turn it is to expire one is the leader's business (`upkeep.rs`); what an expiry does is decided here, at its place
//! in the log, by the renewals before it.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use quorumor_core::limits::{LEASE_TTL_MS_MAX, LEASES_MAX};
use quorumor_core::{Key, Lease, LeaseId, LogTime};

use super::outcome::Denial;
use crate::hash::mix;

/// All live leases, and the order in which they may expire. A clone is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    table: OrdMap<LeaseId, Arc<Lease>>,
    by_expiry: OrdSet<(LogTime, LeaseId)>,
    sum: u64,
}

impl Leases {
    /// The leases by id.
    pub(crate) const fn table(&self) -> &OrdMap<LeaseId, Arc<Lease>> {
        &self.table
    }

    /// The sum of the leases' hashes. A lease's keys are hashed with their entries.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether there is such a lease.
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.table.contains_key(&id)
    }

    /// Grants one: with the wanted id, or with one that depends on the place in the log only.
    pub(crate) fn grant(
        &mut self,
        wanted: Option<LeaseId>,
        index: u64,
        ttl_ms: u64,
        now: LogTime,
    ) -> Result<LeaseId, Denial> {
        let id = match wanted {
            Some(id) if self.contains(id) => return Err(Denial::LeaseExists(id)),
            Some(id) => id,
            None => self.free_id(index),
        };
        if self.table.len() >= LEASES_MAX {
            return Err(Denial::LeasesMax);
        }
        let ttl_ms = ttl_ms.min(LEASE_TTL_MS_MAX);
        self.insert(Lease {
            id,
            ttl_ms,
            expires_at: now.after_ms(ttl_ms),
            owner: None,
            keys: OrdSet::new(),
        });
        Ok(id)
    }

    fn free_id(&self, index: u64) -> LeaseId {
        let mut number = index.max(1);
        while self.contains(LeaseId::new(number)) {
            number = (mix(&[number]) >> 1).max(1);
        }
        LeaseId::new(number)
    }

    /// Puts a lease in its place, in the table and in the order.
    pub(crate) fn insert(&mut self, lease: Lease) {
        self.sum = self.sum.wrapping_add(hash(&lease));
        self.by_expiry.insert((lease.expires_at, lease.id));
        self.table.insert(lease.id, Arc::new(lease));
    }

    /// Lets one live for its whole TTL again; gives the TTL.
    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: LogTime) -> Option<u64> {
        let lease = Arc::make_mut(self.table.get_mut(&id)?);
        let expires_at = now.after_ms(lease.ttl_ms);
        if expires_at > lease.expires_at {
            self.by_expiry.remove(&(lease.expires_at, id));
            self.sum = self.sum.wrapping_sub(hash(lease));
            lease.expires_at = expires_at;
            self.sum = self.sum.wrapping_add(hash(lease));
            self.by_expiry.insert((expires_at, id));
        }
        Some(lease.ttl_ms)
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Arc<Lease>> {
        let lease = self.table.remove(&id)?;
        self.by_expiry.remove(&(lease.expires_at, id));
        self.sum = self.sum.wrapping_sub(hash(&lease));
        Some(lease)
    }

    /// Binds a key to a lease. False if there is none.
    pub(crate) fn attach(&mut self, id: LeaseId, key: Key) -> bool {
        let Some(lease) = self.table.get_mut(&id) else {
            return false;
        };
        Arc::make_mut(lease).keys.insert(key);
        true
    }

    /// Frees a key from a lease.
    pub(crate) fn detach(&mut self, id: LeaseId, key: &Key) {
        if let Some(lease) = self.table.get_mut(&id) {
            Arc::make_mut(lease).keys.remove(key);
        }
    }

    /// When the next one may expire.
    pub(crate) fn next_expiry(&self) -> Option<LogTime> {
        self.by_expiry.get_min().map(|(at, _)| *at)
    }

    /// Whether this one may expire now.
    pub(crate) fn is_due(&self, id: LeaseId, now: LogTime) -> bool {
        self.table
            .get(&id)
            .is_some_and(|lease| lease.expires_at <= now)
    }

    /// The leases that may expire now, the oldest first.
    pub(crate) fn due(&self, now: LogTime) -> impl Iterator<Item = LeaseId> + '_ {
        self.by_expiry
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, id)| *id)
    }
}

fn hash(lease: &Lease) -> u64 {
    mix(&[1, lease.id.as_u64(), lease.ttl_ms, lease.expires_at.0])
}
