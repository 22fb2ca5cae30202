//! Leases. Each lives at the node that granted it: only there is known when it expires, by that node's monotonic clock, and
//! everything that is to live by it is written there, so that its entries have one writer. When it ends, its owner deletes
//! them, as anyone deletes keys. While its owner is held to be gone they are hidden (`store.rs`), and when the owner is reaped
//! the present member with the lowest id deletes them.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::limits::{LEASE_KEYS_MAX, LEASE_TTL_MS_MAX, LEASES_MAX};
use quorumor_core::{
    CallId, Error, Key, LeaseAction, LeaseId, LogTime, Mono, NodeId, Operation, Plant, Position,
    Reply, Value, VersionVector,
};

use crate::durability::{Answer, OpenWrite};
use crate::forward::Forwarded;
use crate::lease_table::encode_grant;
use crate::register::Policy;
use crate::replica::GossipReplica;
use crate::requests::unavailable;
use crate::system_key::SystemKey;
use crate::timers::Timer;
use crate::vector::{Context, mix};

/// The shortest lease: what a busy machine may take to send a keep-alive. In milliseconds.
const TTL_MS_MIN: u64 = 1_000;

/// The bits of a lease's id behind those that tell its owner.
const TAIL_BITS: u32 = 40;

/// The head of the ids of a node's leases.
fn head_of(node: NodeId) -> u64 {
    mix(node.as_u64()) >> (TAIL_BITS + 1)
}

/// When this node's own leases expire.
#[derive(Debug, Default)]
pub(crate) struct OwnLeases {
    expires: BTreeMap<LeaseId, Mono>,
    due: BTreeSet<(Mono, LeaseId)>,
    granted: u64,
    /// The timer that is set.
    woken_at: Option<Mono>,
    /// Owners that aren't known, and since when.
    unknown: BTreeMap<NodeId, Mono>,
}

impl OwnLeases {
    fn set(&mut self, id: LeaseId, at: Mono) {
        self.forget(id);
        self.expires.insert(id, at);
        self.due.insert((at, id));
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(at) = self.expires.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    fn is_live(&self, id: LeaseId, now: Mono) -> bool {
        self.expires.get(&id).is_some_and(|at| *at > now)
    }
}

impl GossipReplica {
    /// After a start each own lease has its whole time again: nobody can know what was left.
    pub(crate) fn adopt_leases(&mut self) {
        for id in self.store.leases().of_owner(self.config.node) {
            self.renew_lease(id);
        }
    }

    /// Counts a lease's time anew; the TTL, if there is such a lease.
    fn renew_lease(&mut self, id: LeaseId) -> Option<u64> {
        let ttl_ms = self.store.leases().get(id)?.ttl_ms;
        let at = self.now.mono().after_ms(ttl_ms);
        self.own_leases.set(id, at);
        self.store.leases_mut().renew(id, LogTime(at.0 / 1_000));
        self.wake_for_leases();
        Some(ttl_ms)
    }

    fn keep_alive(&mut self, id: LeaseId) -> Option<u64> {
        if self.config.planted.is(Plant::LeaseCutShort) {
            return Some(self.store.leases().get(id)?.ttl_ms);
        }
        self.renew_lease(id)
    }

    /// One timer, for the first that may expire.
    fn wake_for_leases(&mut self) {
        let first = self.own_leases.due.first().map(|(at, _)| *at);
        let is_set = |at| self.own_leases.woken_at.is_some_and(|woken| woken <= at);
        if let Some(at) = first.filter(|at| !is_set(*at)) {
            self.own_leases.woken_at = Some(at);
            self.timers.set(at, Timer::Lease);
        }
    }

    pub(crate) fn is_own_live_lease(&self, id: LeaseId) -> bool {
        self.own_leases.is_live(id, self.now.mono())
    }

    /// What a caller, or another node for its caller, asks about leases.
    pub(crate) fn execute_lease(&mut self, call: CallId, action: LeaseAction) {
        let id = match &action {
            LeaseAction::Grant {
                id: None, ttl_ms, ..
            } => return self.grant(call, *ttl_ms),
            LeaseAction::Grant { id: Some(_), .. } => {
                let refused = unavailable(
                    "a lease id of the caller's choice",
                    "an id of the node's choice",
                );
                return self.reply(call, Err(refused));
            }
            LeaseAction::Revoke { id, .. }
            | LeaseAction::KeepAlive { id }
            | LeaseAction::Look { id } => *id,
        };
        match self.owner_of_lease(id) {
            None => self.reply(call, Err(Error::LeaseNotFound { lease: id })),
            // One hop and no more: whom an id seems to name may not have given it.
            Some(owner) if owner != self.config.node && self.remote_calls.has(call) => {
                self.reply(call, Err(Error::LeaseNotFound { lease: id }));
            }
            Some(owner) if owner != self.config.node => {
                self.forward(call, owner, &Forwarded::Lease(action));
            }
            Some(_) if !self.is_own_live_lease(id) => {
                self.reply(call, Err(Error::LeaseNotFound { lease: id }));
            }
            Some(_) => self.execute_own_lease(call, id, &action),
        }
    }

    fn execute_own_lease(&mut self, call: CallId, id: LeaseId, action: &LeaseAction) {
        match action {
            LeaseAction::Grant { .. } => unreachable!("grants name no lease"),
            LeaseAction::Revoke { .. } => {
                if let Err(error) = self.admit_write() {
                    return self.reply(call, Err(error));
                }
                self.end_lease(Some(call), id);
            }
            LeaseAction::KeepAlive { .. } => {
                let kept = self.keep_alive(id);
                let reply = kept.map(|ttl_ms| Reply::LeaseKept { ttl_ms });
                self.reply(call, reply.ok_or(Error::LeaseNotFound { lease: id }));
            }
            LeaseAction::Look { .. } => {
                let reply = self.look_at(id);
                self.reply(call, reply.ok_or(Error::LeaseNotFound { lease: id }));
            }
        }
    }

    fn look_at(&self, id: LeaseId) -> Option<Reply> {
        let expires = self.own_leases.expires.get(&id)?;
        Some(Reply::LeaseSeen {
            ttl_ms: self.store.leases().get(id)?.ttl_ms,
            remaining_ms: expires.since_us(self.now.mono()) / 1_000,
            position: Position::Eventual(VersionVector::new()),
        })
    }

    fn grant(&mut self, call: CallId, ttl_ms: u64) {
        let ttl_ms = ttl_ms.clamp(TTL_MS_MIN, LEASE_TTL_MS_MAX);
        if self.own_leases.expires.len() >= LEASES_MAX {
            let error =
                Error::too_large("leases_max", LEASES_MAX, self.own_leases.expires.len() + 1);
            return self.reply(call, Err(error));
        }
        if let Err(error) = self.admit_write() {
            return self.reply(call, Err(error));
        }
        let id = self.new_lease_id();
        let mut write = OpenWrite::new(Some(call));
        write.answer = Answer::Granted { id, ttl_ms };
        let value = Value::parse(encode_grant(ttl_ms).into()).expect("a grant is short");
        self.issue_alone(&mut write, SystemKey::Lease(id).key(), Some(value));
        self.durability.queue(write);
    }

    /// An id that no other node gives, nor this one in another life. Its head tells whose it is.
    fn new_lease_id(&mut self) -> LeaseId {
        loop {
            self.own_leases.granted += 1;
            let life = mix(self.config.node.as_u64() ^ self.me.generation.as_u64());
            let tail = mix(life ^ self.own_leases.granted) & ((1 << TAIL_BITS) - 1);
            let id = LeaseId::new(head_of(self.config.node) << TAIL_BITS | tail);
            if id != LeaseId::ZERO && self.store.leases().get(id).is_none() {
                return id;
            }
        }
    }

    /// Whose lease it is: by its grant, or, if that hasn't come here yet, by its id.
    fn owner_of_lease(&self, id: LeaseId) -> Option<NodeId> {
        if let Some(lease) = self.store.leases().get(id) {
            return lease.owner;
        }
        let head = id.as_u64() >> TAIL_BITS;
        let present = self.members.first_present(self.members.present());
        let mut others = present.filter(|node| head_of(*node) == head);
        others.next()
    }

    /// The grant is durable: its time begins.
    pub(crate) fn begin_lease(&mut self, id: LeaseId) {
        self.renew_lease(id);
    }

    /// Deletes what lives by a lease, and the lease.
    fn end_lease(&mut self, call: Option<CallId>, id: LeaseId) {
        self.own_leases.forget(id);
        let mut keys = self.store.leases().keys_of(self.config.node, id);
        keys.push(SystemKey::Lease(id).key());
        let mut write = OpenWrite::new(call);
        for key in keys {
            self.issue_end(&mut write, key, id);
        }
        self.durability.queue(write);
    }

    /// Deletes what lives by a lease under a key, and where all values are kept, nothing else there.
    fn issue_end(&mut self, write: &mut OpenWrite, key: Key, id: LeaseId) {
        let is_lww = self.store.policy(&key) == Policy::Lww;
        if is_lww || SystemKey::is_reserved(&key) {
            let seen = self.working(&key).seen();
            return self.issue_end_of(write, key, seen);
        }
        let register = self.working(&key);
        let mut under = Context::default();
        for event in register.events().filter(|event| event.lease == Some(id)) {
            under.add_dot(event.dot);
        }
        self.issue_end_of(write, key, under);
    }

    /// A value became durable after its lease had ended: it goes too.
    pub(crate) fn delete_orphan(&mut self, key: Key) {
        let mut write = OpenWrite::new(None);
        let seen = self.working(&key).seen();
        self.issue_end_of(&mut write, key, seen);
        self.durability.queue(write);
    }

    /// Whether this node may write by itself now.
    fn may_issue(&self) -> bool {
        !self.me.log_doubted && self.admit_write().is_ok()
    }

    pub(crate) fn handle_lease_timer(&mut self) {
        let now = self.now.mono();
        // A timer that another one replaced has no effect.
        if self.own_leases.woken_at.is_none_or(|at| at > now) {
            return;
        }
        self.own_leases.woken_at = None;
        while let Some((at, id)) = self.own_leases.due.first().copied() {
            if at > now {
                break;
            }
            if !self.may_issue() {
                // A full disk, or a long queue: nobody takes the lease for live meanwhile.
                let again = now.after_ms(500);
                self.own_leases.woken_at = Some(again);
                self.timers.set(again, Timer::Lease);
                return;
            }
            self.counters.leases_expired += 1;
            self.end_lease(None, id);
        }
        self.wake_for_leases();
    }

    /// Who owns the leases that these operations name; `None` if they name none.
    ///
    /// # Errors
    /// `LeaseNotFound`; `InvalidArgument` for leases of several owners in one batch.
    pub(crate) fn owner_of(&self, operations: &[Operation]) -> Result<Option<NodeId>, Error> {
        let mut owner = None;
        for operation in operations {
            let Operation::Put {
                lease: Some(id), ..
            } = operation
            else {
                continue;
            };
            let its = self
                .owner_of_lease(*id)
                .ok_or(Error::LeaseNotFound { lease: *id })?;
            if owner.is_some_and(|owner| owner != its) {
                let why = "the leases of one batch must be of one owner";
                return Err(Error::invalid("lease_id", why));
            }
            owner = Some(its);
        }
        Ok(owner)
    }

    /// Whether what these operations put may live by the own leases that they name.
    pub(crate) fn check_leases(&self, operations: &[Operation]) -> Result<(), Error> {
        for operation in operations {
            let Operation::Put {
                lease: Some(id), ..
            } = operation
            else {
                continue;
            };
            if !self.is_own_live_lease(*id) {
                return Err(Error::LeaseNotFound { lease: *id });
            }
            let keys = self
                .store
                .leases()
                .get(*id)
                .map_or(0, |lease| lease.keys.len());
            if keys + operations.len() > LEASE_KEYS_MAX {
                return Err(Error::too_large(
                    "lease_keys_max",
                    LEASE_KEYS_MAX,
                    keys + operations.len(),
                ));
            }
        }
        Ok(())
    }

    /// A node is forgotten: its leases and what lived by them go, deleted by whoever has the lowest id.
    pub(crate) fn bury(&mut self, owner: NodeId) {
        let lowest = self.members.lowest_present();
        if lowest.is_some_and(|lowest| lowest < self.config.node) || !self.may_issue() {
            return;
        }
        let mut keys = self.store.leases().keys_of_owner(owner);
        let leases = self.store.leases().of_owner(owner);
        keys.extend(leases.into_iter().map(|id| SystemKey::Lease(id).key()));
        for some in keys.chunks(LEASE_KEYS_MAX) {
            let mut write = OpenWrite::new(None);
            for key in some {
                let seen = self.working(key).seen();
                self.issue_end_of(&mut write, key.clone(), seen);
            }
            self.durability.queue(write);
        }
    }

    /// Hides what lives by the leases of owners whom this node doesn't know, and buries those whom it hasn't known for as long as
    /// a member may be away: whoever should have done it went too.
    pub(crate) fn bury_the_unknown(&mut self) {
        let now = self.now.mono();
        let mut unknown = std::mem::take(&mut self.own_leases.unknown);
        let owners = self.store.leases().owners();
        unknown.retain(|owner, _| owners.contains(owner) && !self.members.knows(*owner));
        for owner in owners {
            if owner == self.config.node || self.members.knows(owner) {
                continue;
            }
            self.store.hide_owner(owner);
            let since = *unknown.entry(owner).or_insert(now);
            if now.since_us(since) >= self.config.reap_ms.saturating_mul(1_000)
                && !self.is_isolated()
            {
                self.bury(owner);
            }
        }
        self.own_leases.unknown = unknown;
    }
}
