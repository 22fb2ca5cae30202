//! Requests about leases, sessions and transactions, and processes that are stopped for a while.

use quorumor_core::{
    CallId, ClientId, ClientSeq, Command, Error, Lease, LeaseAction, LeaseId, Operation, Reply,
    SessionAction,
};

use super::{Event, Net, put};

impl Net {
    /// Grants a lease through this node.
    pub(crate) fn grant(&mut self, node: u64, ttl_ms: u64) -> LeaseId {
        let command = Command::Lease(LeaseAction::Grant {
            id: None,
            ttl_ms,
            client: None,
        });
        let call = self.call(node, command, None);
        match self.answer(call) {
            Ok(Reply::LeaseGranted { id, .. }) => id,
            other => panic!("no lease: {other:?}"),
        }
    }

    pub(crate) fn keep_alive(&mut self, node: u64, id: LeaseId) -> CallId {
        self.call(node, Command::Lease(LeaseAction::KeepAlive { id }), None)
    }

    /// Keeps a lease alive and waits until that is replicated.
    pub(crate) fn kept_alive(&mut self, node: u64, id: LeaseId) -> Result<u64, Error> {
        let call = self.keep_alive(node, id);
        let answer = self.answer(call)?;
        let Reply::LeaseKept { ttl_ms } = answer else {
            panic!("an answer to something else: {answer:?}");
        };
        Ok(ttl_ms)
    }

    /// Writes an entry that lives by a lease.
    pub(crate) fn put_leased(&mut self, node: u64, k: &str, id: LeaseId) -> Result<Reply, Error> {
        let Operation::Put {
            key,
            value,
            context,
            ..
        } = put(k, "leased")
        else {
            unreachable!("a put is one");
        };
        let lease = Some(id);
        let operation = Operation::Put {
            key,
            value,
            context,
            lease,
        };
        let call = self.write(node, vec![operation]);
        self.answer(call)
    }

    /// The lease as this node has it.
    pub(crate) fn lease(&self, node: u64, id: LeaseId) -> Option<Lease> {
        self.view(node)
            .leases
            .get(&id)
            .map(|lease| (**lease).clone())
    }

    /// What is left of a lease, as this node knows it.
    pub(crate) fn remaining_ms(&self, node: u64, id: LeaseId) -> Option<u64> {
        let now = self.view(node).log_time;
        self.lease(node, id).map(|lease| lease.remaining_ms(now))
    }

    /// Opens a session through this node.
    pub(crate) fn open_session(&mut self, node: u64, ttl_ms: u64) -> ClientId {
        let command = Command::Session(SessionAction::Open { ttl_ms });
        let call = self.call(node, command, None);
        match self.answer(call) {
            Ok(Reply::SessionOpened { client_id, .. }) => client_id,
            other => panic!("no session: {other:?}"),
        }
    }

    /// A numbered write.
    pub(crate) fn write_once(
        &mut self,
        node: u64,
        operations: Vec<Operation>,
        client: ClientSeq,
    ) -> CallId {
        let command = Command::write(operations, Some(client)).unwrap();
        self.call(node, command, None)
    }

    /// Stops a process, as a debugger or a busy host would: it neither runs nor loses anything.
    pub(crate) fn pause(&mut self, node: u64) {
        self.paused.entry(node).or_default();
    }

    /// Lets it go on: everything that came meanwhile is there at once, and so is its timer.
    pub(crate) fn resume(&mut self, node: u64) {
        for event in self.paused.remove(&node).unwrap_or_default() {
            self.schedule(0, event);
        }
    }

    /// Holds an event back if it is for a process that is stopped.
    pub(super) fn hold(&mut self, event: Event) -> Option<Event> {
        let node = match &event {
            Event::Deliver { to, .. } => *to,
            Event::Contact { at, .. } => *at,
            Event::Disk { node, .. } => *node,
        };
        match self.paused.get_mut(&node) {
            Some(held) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }
}
