//! Requests that only another node can carry out: those about its leases. They go there by stream, one hop, and the answer
//! comes back by the number of the request. If contact is lost, the outcome of what may have been carried out is unknown.

use std::collections::BTreeMap;

use quorumor_core::{
    CallId, Command, Dot, Error, LeaseAction, LeaseId, NodeId, Operation, OperationResult,
    Position, Reply, Stamp, StreamClass, VersionVector,
};

use crate::message::Part;
use crate::replica::GossipReplica;
use crate::requests::{Ask, admit_operation};

/// Calls that came from other nodes have this bit in their ids; the shell counts up from 1.
const REMOTE: u64 = 1 << 63;
/// Requests that wait for other nodes' answers.
const FORWARDS_MAX: usize = 16_384;

/// What is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    Lease(LeaseAction),
    /// Puts under a lease, and what came with them.
    Write {
        operations: Vec<Operation>,
        acks: u32,
    },
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Written {
        results: Vec<OperationResult>,
        position: VersionVector,
        dot: Option<(Dot, Stamp)>,
    },
    Kept {
        ttl_ms: u64,
    },
    Seen {
        ttl_ms: u64,
        remaining_ms: u64,
    },
    Failed(Failure),
}

/// Errors that an owner answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    NotFound(LeaseId),
    Overloaded,
    DiskFull,
    Stopping,
    TooManyKeys,
    TooManySiblings,
    TooFewMembers { needed: u32, have: u32 },
    Unknown,
}

#[derive(Debug)]
struct Waiting {
    call: CallId,
    owner: NodeId,
    writes: bool,
    /// For the error where the lease isn't found.
    lease: LeaseId,
}

/// Requests under way to other nodes.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

impl Forwards {
    fn take(&mut self, number: u64, owner: NodeId) -> Option<Waiting> {
        let fits = self.waiting.get(&number)?.owner == owner;
        fits.then(|| self.waiting.remove(&number)).flatten()
    }

    pub(crate) fn cancel(&mut self, call: CallId) {
        self.waiting.retain(|_, waiting| waiting.call != call);
    }

    fn of_owner(&mut self, owner: NodeId) -> Vec<Waiting> {
        let its = |(number, waiting): (&u64, &Waiting)| (waiting.owner == owner).then_some(*number);
        let numbers: Vec<u64> = self.waiting.iter().filter_map(its).collect();
        numbers
            .iter()
            .filter_map(|number| self.waiting.remove(number))
            .collect()
    }
}

/// A call that came from another node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteCall {
    from: NodeId,
    number: u64,
}

/// Calls of other nodes that are being carried out here.
#[derive(Debug, Default)]
pub(crate) struct RemoteCalls {
    calls: BTreeMap<CallId, RemoteCall>,
    last: u64,
}

impl RemoteCalls {
    fn begin(&mut self, call: RemoteCall) -> CallId {
        self.last += 1;
        let id = CallId::new(REMOTE | self.last);
        self.calls.insert(id, call);
        id
    }

    /// Whether a call came from another node.
    pub(crate) fn has(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    /// Whose call it was, if it was another node's.
    pub(crate) fn end(&mut self, call: CallId) -> Option<RemoteCall> {
        self.calls.remove(&call)
    }
}

impl GossipReplica {
    /// Sends a request on to the owner of a lease.
    pub(crate) fn forward(&mut self, call: CallId, owner: NodeId, request: &Forwarded) {
        if !self.members.is_present(owner) {
            return self.reply(call, Err(Error::OwnerUnreachable { owner }));
        }
        if self.forwards.waiting.len() >= FORWARDS_MAX {
            let error = Error::Overloaded {
                queue: "pending_forwards",
                retry_after_ms: 100,
            };
            return self.reply(call, Err(error));
        }
        self.forwards.last += 1;
        let number = self.forwards.last;
        let waiting = Waiting {
            call,
            owner,
            writes: match request {
                Forwarded::Write { .. } | Forwarded::Lease(LeaseAction::Revoke { .. }) => true,
                Forwarded::Lease(
                    LeaseAction::Grant { .. }
                    | LeaseAction::KeepAlive { .. }
                    | LeaseAction::Look { .. },
                ) => false,
            },
            lease: lease_in(request),
        };
        self.forwards.waiting.insert(number, waiting);
        let part = Part::Forward {
            number,
            request: request.clone(),
        };
        self.send_stream(owner, StreamClass::Control, &[part]);
    }

    /// Another node's caller asks for something that only this node can do.
    pub(crate) fn handle_forward(&mut self, from: NodeId, number: u64, request: Forwarded) {
        let call = self.remote_calls.begin(RemoteCall { from, number });
        let asked = match request {
            Forwarded::Lease(action) => Ok((VersionVector::new(), Ask::Lease(action))),
            Forwarded::Write { operations, acks } => self.admit_forwarded(operations, acks),
        };
        match asked {
            Err(error) => self.reply(call, Err(error)),
            Ok((needed, ask))
                if self.store.known().vector().covers(&needed) && !self.must_wait(&ask) =>
            {
                self.execute(call, ask);
            }
            // The own log may not be continued yet, or what a context names hasn't come here.
            Ok((needed, ask)) => self.wait(call, needed, ask),
        }
    }

    /// What another node sends on is checked as if a caller had sent it here.
    fn admit_forwarded(
        &self,
        operations: Vec<Operation>,
        acks: u32,
    ) -> Result<(VersionVector, Ask), Error> {
        Command::write_held(operations.clone(), None, acks)?;
        let mut needed = VersionVector::new();
        for operation in &operations {
            admit_operation(operation, &mut needed)?;
        }
        self.admit_write()?;
        self.check_acks(acks)?;
        Ok((needed, Ask::Write { operations, acks }))
    }

    /// Answers another node's caller.
    pub(crate) fn answer_remote(&mut self, to: RemoteCall, result: Result<Reply, Error>) {
        let outcome = match result {
            Ok(Reply::Written {
                results,
                position: Position::Eventual(position),
                dot,
            }) => Outcome::Written {
                results,
                position,
                dot,
            },
            Ok(Reply::LeaseKept { ttl_ms }) => Outcome::Kept { ttl_ms },
            Ok(Reply::LeaseSeen {
                ttl_ms,
                remaining_ms,
                ..
            }) => Outcome::Seen {
                ttl_ms,
                remaining_ms,
            },
            Ok(_) => Outcome::Failed(Failure::Unknown),
            Err(error) => Outcome::Failed(failure(&error)),
        };
        let part = Part::Outcome {
            number: to.number,
            outcome,
        };
        self.send_stream(to.from, StreamClass::Control, &[part]);
    }

    pub(crate) fn handle_outcome(&mut self, from: NodeId, number: u64, outcome: Outcome) {
        let Some(waiting) = self.forwards.take(number, from) else {
            return;
        };
        let result = match outcome {
            Outcome::Written {
                results,
                position,
                dot,
            } => Ok(Reply::Written {
                results,
                position: Position::Eventual(position),
                dot,
            }),
            Outcome::Kept { ttl_ms } => Ok(Reply::LeaseKept { ttl_ms }),
            Outcome::Seen {
                ttl_ms,
                remaining_ms,
            } => Ok(Reply::LeaseSeen {
                ttl_ms,
                remaining_ms,
                position: Position::Eventual(VersionVector::new()),
            }),
            Outcome::Failed(failure) => Err(error(failure, waiting.lease)),
        };
        self.reply(waiting.call, result);
    }

    /// The stream to an owner broke, or the owner is gone.
    pub(crate) fn fail_forwards(&mut self, owner: NodeId, never_sent: bool) {
        for waiting in self.forwards.of_owner(owner) {
            let error = if waiting.writes && !never_sent {
                Error::OutcomeUnknown {
                    why: "contact with the lease's owner was lost",
                }
            } else {
                Error::OwnerUnreachable { owner }
            };
            self.reply(waiting.call, Err(error));
        }
    }
}

/// The lease that these operations name, for an error.
pub(crate) fn lease_of(operations: &[Operation]) -> LeaseId {
    let leases = operations.iter().filter_map(|operation| match operation {
        Operation::Put { lease, .. } => *lease,
        Operation::Delete { .. }
        | Operation::DeleteRange { .. }
        | Operation::CompareAndSet { .. }
        | Operation::Get { .. } => None,
    });
    leases.last().unwrap_or(LeaseId::ZERO)
}

fn lease_in(request: &Forwarded) -> LeaseId {
    match request {
        Forwarded::Lease(LeaseAction::Grant { .. }) => LeaseId::ZERO,
        Forwarded::Lease(
            LeaseAction::Revoke { id, .. }
            | LeaseAction::KeepAlive { id }
            | LeaseAction::Look { id },
        ) => *id,
        Forwarded::Write { operations, .. } => lease_of(operations),
    }
}

fn failure(error: &Error) -> Failure {
    if let Error::LeaseNotFound { lease } = error {
        Failure::NotFound(*lease)
    } else if let Error::Overloaded { .. } = error {
        Failure::Overloaded
    } else if let Error::TooLarge { limit, .. } = error {
        if *limit == "siblings_max" {
            Failure::TooManySiblings
        } else {
            Failure::TooManyKeys
        }
    } else if let Error::TooFewMembers { needed, have } = error {
        Failure::TooFewMembers {
            needed: *needed,
            have: *have,
        }
    } else if matches!(error, Error::DiskFull) {
        Failure::DiskFull
    } else if matches!(error, Error::Stopping) {
        Failure::Stopping
    } else {
        Failure::Unknown
    }
}

fn error(failure: Failure, lease: LeaseId) -> Error {
    use quorumor_core::limits::{LEASE_KEYS_MAX, SIBLINGS_MAX};
    match failure {
        Failure::NotFound(found) if found == LeaseId::ZERO => Error::LeaseNotFound { lease },
        Failure::NotFound(found) => Error::LeaseNotFound { lease: found },
        Failure::Overloaded => Error::Overloaded {
            queue: "pending_writes",
            retry_after_ms: 100,
        },
        Failure::DiskFull => Error::DiskFull,
        Failure::Stopping => Error::Stopping,
        Failure::TooManyKeys => {
            Error::too_large("lease_keys_max", LEASE_KEYS_MAX, LEASE_KEYS_MAX + 1)
        }
        Failure::TooManySiblings => {
            Error::too_large("siblings_max", SIBLINGS_MAX, SIBLINGS_MAX + 1)
        }
        Failure::TooFewMembers { needed, have } => Error::TooFewMembers { needed, have },
        Failure::Unknown => Error::OutcomeUnknown {
            why: "the lease's owner couldn't say what became of it",
        },
    }
}
