//! The leases that are known here, whose they are and what lives by them. When they end is their owners' business: see
//! `leases.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use quorumor_core::{Key, Lease, LeaseId, LogTime, NodeId};

use crate::event::Event;
use crate::wire::{Reader, Writer};

/// A grant as the value of its key.
pub(crate) fn encode_grant(ttl_ms: u64) -> Vec<u8> {
    let mut out = Writer::default();
    out.number(ttl_ms);
    out.0
}

/// What a grant's value says; `None` if it is none.
fn decode_grant(value: &[u8]) -> Option<u64> {
    Reader::new(value)
        .number()
        .ok()
        .filter(|ttl_ms| *ttl_ms > 0)
}

/// All leases that are known.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: OrdMap<LeaseId, Arc<Lease>>,
    /// Keys by the owner of what they hold, and by its lease, granted or not.
    bound: BTreeMap<(NodeId, LeaseId), BTreeSet<Key>>,
    /// Owners that are held to be gone.
    hidden: BTreeSet<NodeId>,
}

impl LeaseTable {
    /// As readers see them. O(1).
    pub(crate) const fn all(&self) -> &OrdMap<LeaseId, Arc<Lease>> {
        &self.leases
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<&Arc<Lease>> {
        self.leases.get(&id)
    }

    /// The leases of a node.
    pub(crate) fn of_owner(&self, owner: NodeId) -> Vec<LeaseId> {
        let its = self
            .leases
            .values()
            .filter(|lease| lease.owner == Some(owner));
        its.map(|lease| lease.id).collect()
    }

    /// Who owns leases, or entries that live by one.
    pub(crate) fn owners(&self) -> BTreeSet<NodeId> {
        let granted = self.leases.values().filter_map(|lease| lease.owner);
        granted
            .chain(self.bound.keys().map(|(owner, _)| *owner))
            .collect()
    }

    /// The grant of a lease as it stands now; `None` if there is none.
    pub(super) fn set(&mut self, id: LeaseId, grant: Option<&Arc<Event>>) {
        let grant = grant.and_then(|event| {
            let value = event.value.as_ref()?;
            Some((event.dot.writer, decode_grant(value.as_bytes())?))
        });
        let Some((owner, ttl_ms)) = grant else {
            self.leases.remove(&id);
            return;
        };
        let known = self.leases.get(&id);
        let keys: OrdSet<Key> = match self.bound.get(&(owner, id)) {
            Some(keys) => keys.iter().cloned().collect(),
            None => OrdSet::new(),
        };
        let lease = Lease {
            id,
            ttl_ms,
            expires_at: known.map_or(LogTime(0), |known| known.expires_at),
            owner: Some(owner),
            keys,
        };
        self.leases.insert(id, Arc::new(lease));
    }

    /// The owner counts anew when one of its leases expires.
    pub(crate) fn renew(&mut self, id: LeaseId, expires_at: LogTime) {
        if let Some(lease) = self.leases.get_mut(&id) {
            Arc::make_mut(lease).expires_at = expires_at;
        }
    }

    /// What a key holds lives by another lease than before.
    pub(super) fn rebind(
        &mut self,
        key: &Key,
        before: Option<(NodeId, LeaseId)>,
        after: Option<(NodeId, LeaseId)>,
    ) {
        if before == after {
            return;
        }
        if let Some(place) = before {
            if let Some(keys) = self.bound.get_mut(&place) {
                keys.remove(key);
                if keys.is_empty() {
                    self.bound.remove(&place);
                }
            }
            if let Some(lease) = self.leases.get_mut(&place.1) {
                Arc::make_mut(lease).keys.remove(key);
            }
        }
        if let Some(place) = after {
            self.bound.entry(place).or_default().insert(key.clone());
            if let Some(lease) = self.leases.get_mut(&place.1) {
                Arc::make_mut(lease).keys.insert(key.clone());
            }
        }
    }

    /// The keys whose values live by leases of a node.
    pub(crate) fn keys_of_owner(&self, owner: NodeId) -> Vec<Key> {
        let from = (owner, LeaseId::ZERO);
        self.bound
            .range(from..)
            .take_while(|((its, _), _)| *its == owner)
            .flat_map(|(_, keys)| keys.iter().cloned())
            .collect()
    }

    /// The keys whose values live by this lease of this node.
    pub(crate) fn keys_of(&self, owner: NodeId, id: LeaseId) -> Vec<Key> {
        let keys = self.bound.get(&(owner, id));
        keys.into_iter().flatten().cloned().collect()
    }

    /// Whether that changed anything.
    pub(super) fn hide(&mut self, owner: NodeId) -> bool {
        self.hidden.insert(owner)
    }

    /// Whether that changed anything.
    pub(super) fn show(&mut self, owner: NodeId) -> bool {
        self.hidden.remove(&owner)
    }

    pub(super) fn is_hidden(&self, owner: NodeId) -> bool {
        self.hidden.contains(&owner)
    }
}
