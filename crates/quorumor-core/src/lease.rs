//! Leases: entries that are bound to one go when it does.

use imbl::OrdSet;

use crate::id::{LeaseId, NodeId};
use crate::key::Key;
use crate::time::LogTime;

/// A live lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// What it was granted for, in milliseconds.
    pub ttl_ms: u64,
    /// When it may expire at the earliest. Each keep-alive sets it to the log time of that moment and `ttl_ms`.
    pub expires_at: LogTime,
    /// Eventual mode: the node that granted it, which alone knows when it expires. `None` in strong mode.
    pub owner: Option<NodeId>,
    /// The keys of the entries that are bound to it.
    pub keys: OrdSet<Key>,
}

impl Lease {
    /// Milliseconds that are left; 0 if it may expire at any moment.
    #[must_use]
    pub const fn remaining_ms(&self, now: LogTime) -> u64 {
        self.expires_at.since_ms(now)
    }
}
