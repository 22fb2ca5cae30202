//! Writes: what becomes of operations here, from the next place in the own log to the answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorumor_core::limits::SIBLINGS_MAX;
use quorumor_core::{
    CallId, Dot, Error, Key, LeaseId, Operation, OperationResult, Plant, Position, Reply, Stamp,
    Value, VersionVector,
};

use crate::durability::{Answer, OpenWrite};
use crate::event::{CONTEXT_ROWS_MAX, Event};
use crate::forward::{Forwarded, lease_of};
use crate::register::Register;
use crate::replica::GossipReplica;
use crate::requests::Overlay;
use crate::store::Merged;
use crate::vector::Context;

impl GossipReplica {
    /// Carries a write out here, or at the owner of the lease that it names.
    pub(crate) fn execute_write(&mut self, call: CallId, operations: Vec<Operation>, acks: u32) {
        match self.owner_of(&operations) {
            Err(error) => return self.reply(call, Err(error)),
            // One hop and no more.
            Ok(Some(owner)) if owner != self.config.node && self.remote_calls.has(call) => {
                let lease = lease_of(&operations);
                return self.reply(call, Err(Error::LeaseNotFound { lease }));
            }
            Ok(Some(owner)) if owner != self.config.node => {
                let request = Forwarded::Write { operations, acks };
                return self.forward(call, owner, &request);
            }
            Ok(Some(_) | None) => {}
        }
        let checked = self
            .check_leases(&operations)
            .and_then(|()| self.check_siblings(&operations));
        if let Err(error) = checked {
            self.reply(call, Err(error));
            return;
        }
        let mut write = OpenWrite::new(Some(call));
        write.acks = acks;
        for operation in operations {
            let result = self.execute_operation(&mut write, operation);
            write.results.push(result);
        }
        self.durability.queue(write);
    }

    fn execute_operation(
        &mut self,
        write: &mut OpenWrite,
        operation: Operation,
    ) -> OperationResult {
        match operation {
            Operation::Put {
                key,
                value,
                context,
                lease,
            } => self.execute_put(write, key, (value, lease), context.as_ref()),
            Operation::Delete { key } => self.execute_delete(write, key),
            Operation::Get { key } => {
                let register = self.working(&key);
                write.position.merge(&register.seen().to_vector());
                OperationResult::Got {
                    entry: register.entry(self.store.policy(&key)),
                }
            }
            Operation::CompareAndSet { .. } | Operation::DeleteRange { .. } => {
                unreachable!("the whole batch was refused when it was admitted")
            }
        }
    }

    /// Refuses puts that would keep too many values of a key side by side: only a context that leaves some out can.
    fn check_siblings(&self, operations: &[Operation]) -> Result<(), Error> {
        for key in operations.iter().filter_map(Operation::key) {
            let rows = self.working(key).seen().rows().len();
            if rows >= CONTEXT_ROWS_MAX {
                return Err(Error::too_large(
                    "context_rows_max",
                    CONTEXT_ROWS_MAX,
                    rows + 1,
                ));
            }
        }
        let mut added: BTreeMap<&Key, usize> = BTreeMap::new();
        for operation in operations {
            if let Operation::Put {
                key,
                context: Some(context),
                ..
            } = operation
            {
                let added = added.entry(key).or_default();
                *added += 1;
                let siblings = self.working(key).left_by(context) + *added;
                if siblings > SIBLINGS_MAX {
                    return Err(Error::too_large("siblings_max", SIBLINGS_MAX, siblings));
                }
            }
        }
        Ok(())
    }

    fn execute_put(
        &mut self,
        write: &mut OpenWrite,
        key: Key,
        (value, lease): (Value, Option<LeaseId>),
        context: Option<&VersionVector>,
    ) -> OperationResult {
        let register = self.working(&key);
        let context = context.map_or_else(|| register.seen(), Context::from_vector);
        let event = self.issue(
            write,
            register.stamp_max(),
            key.clone(),
            (Some(value), lease),
            context,
        );
        OperationResult::Put {
            version: self.working(&key).version(&event),
        }
    }

    fn execute_delete(&mut self, write: &mut OpenWrite, key: Key) -> OperationResult {
        let register = self.working(&key);
        let previous = register.entry(self.store.policy(&key));
        if previous.is_some() {
            self.issue(
                write,
                register.stamp_max(),
                key,
                (None, None),
                register.seen(),
            );
        } else {
            write.position.merge(&register.seen().to_vector());
        }
        OperationResult::Deleted { previous }
    }

    /// Sets or removes a key that nobody asked for, replacing all that is known of it.
    pub(crate) fn issue_alone(&mut self, write: &mut OpenWrite, key: Key, value: Option<Value>) {
        let register = self.working(&key);
        let seen = register.seen();
        self.issue(write, register.stamp_max(), key, (value, None), seen);
    }

    /// Makes the next event of this node's log. It counts for later writes at once, for everyone else when it is durable.
    pub(crate) fn issue(
        &mut self,
        write: &mut OpenWrite,
        seen: Stamp,
        key: Key,
        value: (Option<Value>, Option<LeaseId>),
        context: Context,
    ) -> Arc<Event> {
        let (stamp, context) = self.place(seen, context);
        self.issue_at(write, stamp, key, value, context)
    }

    /// Removes what lives by a lease that has ended. Its stamp is just above what it removes: whatever was written since by
    /// somebody who doesn't know of this end, such as the holder of the next lease, stays. A writer's stamps of one key still
    /// grow, which collection relies on: a delete that was forgotten must not come to be replaced by something weaker.
    pub(crate) fn issue_end_of(&mut self, write: &mut OpenWrite, key: Key, context: Context) {
        let stamp = self.working(&key).stamp_max().next();
        self.issue_at(write, stamp, key, (None, None), context);
    }

    /// As [`issue`](Self::issue), with a stamp of its own.
    fn issue_at(
        &mut self,
        write: &mut OpenWrite,
        stamp: Stamp,
        key: Key,
        value: (Option<Value>, Option<LeaseId>),
        context: Context,
    ) -> Arc<Event> {
        self.me.seq = self.next_own_seq(&context);
        let dot = Dot {
            writer: self.config.node,
            log_id: self.me.log_id,
            seq: self.me.seq,
        };
        let mut register = self.working(&key);
        let event = Arc::new(Event::new(dot, stamp, key.clone(), value, context));
        register.merge_event(&event);
        let overlay = self
            .requests
            .overlays
            .entry(key)
            .or_insert_with(|| Overlay {
                register: Register::default(),
                open: 0,
            });
        overlay.register = register;
        overlay.open += 1;
        write.position.add_dot(dot);
        write.last = Some((dot, stamp));
        write.events.push(Arc::clone(&event));
        event
    }

    /// The stamp and the context of a write that had seen these.
    fn place(&mut self, seen: Stamp, context: Context) -> (Stamp, Context) {
        if self.config.planted.is(Plant::WallClockOrder) {
            return (Stamp::from_wall_ms(self.now.wall_ms), Context::default());
        }
        // Two above what it has seen: the end of a lease may take the one between, and must not outrank this by its writer's id.
        (self.hlc.stamp(self.now.wall_ms, seen.next()), context)
    }

    /// A key as this node's next write finds it: own writes under way included.
    pub(crate) fn working(&self, key: &Key) -> Register {
        match self.requests.overlays.get(key) {
            Some(overlay) => overlay.register.clone(),
            None => self
                .store
                .register(key)
                .map(|known| Register::clone(known))
                .unwrap_or_default(),
        }
    }

    /// A write is durable: show it, spread it, answer.
    pub(crate) fn finish_write(&mut self, write: OpenWrite) {
        let mut is_own = true;
        let mut told = Vec::new();
        for event in write.events {
            self.requests.end_overlay(&event.key);
            let merged = self.store.merge_event(Arc::clone(&event));
            if merged != Merged::New {
                // Its dot was taken by another write of an earlier life: this one can't be told to anyone.
                is_own = false;
                if event.dot.log_id == self.me.log_id {
                    self.counters.logs_lost += 1;
                    self.begin_log();
                }
                continue;
            }
            if event
                .lease
                .is_some_and(|lease| !self.is_own_live_lease(lease))
            {
                self.delete_orphan(event.key.clone());
            }
            told.push(Arc::clone(&event));
            self.spread_event(event, None);
            self.push_now = true;
        }
        if let Answer::Granted { id, .. } = write.answer {
            self.begin_lease(id);
        }
        let Some(call) = write.call else {
            return;
        };
        if !is_own {
            let why = "this node's log was found cut back";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
            return;
        }
        if self.config.planted.is(Plant::RefusalApplied) && call.as_u64().is_multiple_of(8) {
            self.reply(call, Err(Error::Stopping));
            return;
        }
        let position = Position::Eventual(write.position);
        let reply = match write.answer {
            Answer::Granted { id, ttl_ms } => Reply::LeaseGranted {
                id,
                ttl_ms,
                position,
            },
            Answer::EpochRaised => Reply::ClusterChanged { position },
            Answer::Results => Reply::Written {
                results: write.results,
                position,
                dot: write.last,
            },
        };
        self.await_acks(call, write.acks, told, reply);
    }
}
