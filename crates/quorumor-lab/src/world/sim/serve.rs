//! The clients' side of the loop: an operation goes to a node, waits, and its end goes to the history.

use quorumor_core::{CallId, Entry, Error, Input, Key, OperationResult, Position, Reply, View};

use super::Plant;
use super::clients::{self, Planned};
use super::run::{Event, Pending, Run};
use super::staged::calls::STAGED_FROM;
use super::trace::Kind;
use crate::history::{
    Action, Cause, FinalEntry, Level, Op, OpId, Outcome, ProcessId, Return, Version,
};

const MS: u64 = 1_000;
/// Processes of clients are numbered below this; fresh ones count up from it.
const FRESH_PROCESSES: u64 = 1_000_000;

impl Run {
    /// A client sends its next operation, unless the load is over.
    pub(super) fn think(&mut self, index: usize) {
        if self.now_us >= self.load_ends_us {
            return;
        }
        let op = self.next_op();
        let (options, now_us) = (self.options.clone(), self.now_us);
        let mut planned = self.clients[index].plan(&options, op, now_us);
        plant(options.plant, &mut planned);
        self.submit(op, planned, Some(index));
    }

    pub(super) fn next_op(&mut self) -> u64 {
        self.ops += 1;
        self.ops
    }

    pub(super) fn submit(&mut self, op: u64, planned: Planned, client: Option<usize>) {
        let id = planned.invoke.node.0;
        let deadline = self.now_us + planned.invoke.timeout_us;
        self.history.ops.push(Op {
            invoke: planned.invoke.clone(),
            ret: None,
        });
        let request = planned.request.clone();
        let is_local = planned.local;
        let recorded = self.record_plain(&planned);
        self.pending.insert(
            op,
            Pending {
                recorded,
                planned,
                client,
                node: id,
            },
        );
        self.at(deadline, Event::Deadline { op });
        let paused = self.node(id).paused_until_us > self.now_us;
        let Some(running) = &self.node(id).running else {
            self.finish(
                op,
                Ended::failed(Outcome::Fail, Cause::Unreachable, "nobody listens"),
            );
            return;
        };
        let view = running.view();
        let covered = request
            .after
            .as_ref()
            .is_none_or(|after| view.position.covers(after));
        if is_local && covered && !paused {
            let ended = self.read(op, &view);
            self.record_view(op, &view);
            self.finish(op, ended);
        } else {
            let call = CallId::new(op);
            self.at(
                self.now_us,
                Event::Request {
                    node: id,
                    call,
                    request,
                },
            );
        }
    }

    /// The request reaches its node, after a pause if there is one.
    pub(super) fn request(&mut self, id: u64, call: CallId, request: quorumor_core::Request) {
        let staged = call.as_u64() >= STAGED_FROM;
        let is_awaited = if staged {
            self.reaches(id, call)
        } else {
            self.pending.contains_key(&call.as_u64()) || self.awaits(call)
        };
        if is_awaited {
            self.give(id, Input::Request { call, request });
        }
    }

    /// Time is up: the outcome is unknown, and the node is told that nobody waits.
    pub(super) fn deadline(&mut self, op: u64) {
        let Some(pending) = self.pending.get(&op) else {
            return;
        };
        let id = pending.node;
        self.finish(
            op,
            Ended::failed(Outcome::Unknown, Cause::TimedOut, "the deadline passed"),
        );
        let call = CallId::new(op);
        self.at(self.now_us, Event::Cancel { node: id, call });
    }

    /// The node answers.
    pub(super) fn reply(&mut self, call: CallId, result: Result<Reply, Error>) {
        let op = call.as_u64();
        let Some(pending) = self.pending.get(&op) else {
            return;
        };
        let id = pending.node;
        if let Ok(reply) = &result {
            self.record_written(op, reply);
        }
        let ended = match result {
            Ok(Reply::ReadReady { .. }) => {
                let Some(view) = self
                    .node(id)
                    .running
                    .as_ref()
                    .map(super::node::Running::view)
                else {
                    return;
                };
                self.record_view(op, &view);
                self.read(op, &view)
            }
            Ok(Reply::Written {
                results,
                position,
                dot,
            }) => written(results, position, dot),
            Ok(
                Reply::TxnDone { .. }
                | Reply::LeaseGranted { .. }
                | Reply::LeaseKept { .. }
                | Reply::LeaseSeen { .. }
                | Reply::Members { .. }
                | Reply::SessionOpened { .. }
                | Reply::ClusterChanged { .. }
                | Reply::Backup { .. },
            ) => unasked(),
            Err(error) => refused(&error),
        };
        self.trace.note(
            self.now_us,
            id,
            Kind::Replied,
            format!("{op} {:?}", ended.outcome).as_bytes(),
        );
        self.finish(op, ended);
    }

    fn read(&self, op: u64, view: &View) -> Ended {
        let planned = &self.pending[&op].planned;
        let key = Key::parse(&planned.invoke.key).expect("the simulator's keys are short words");
        let entry = view.entry(&key);
        let mut position = view.position.clone();
        if let Some(after) = &planned.request.after {
            position.merge(after);
        }
        Ended {
            got: planned.invoke.level,
            ..Ended::saw(entry.map(AsRef::as_ref), Some(position))
        }
    }

    /// Ends an operation: in the history, and for its client.
    pub(super) fn finish(&mut self, op: u64, ended: Ended) {
        let Some(pending) = self.pending.remove(&op) else {
            return;
        };
        self.record_end(&pending, ended.outcome);
        match ended.outcome {
            Outcome::Ok => self.counts.ok += 1,
            Outcome::Fail => self.counts.refused += 1,
            Outcome::Unknown => self.counts.unknown += 1,
        }
        let fresh = ProcessId(FRESH_PROCESSES + op);
        if let Some(index) = pending.client {
            let client = &mut self.clients[index];
            client.ended(ended.outcome, fresh, ended.position.clone());
            if ended.outcome == Outcome::Ok && pending.planned.invoke.action == Action::Get {
                client.saw(&pending.planned.invoke.key, ended.values.first().cloned());
            }
            if ended.outcome != Outcome::Ok {
                client.leave_node(self.options.nodes);
            }
            let next = self.now_us + client.think_us();
            self.at(next, Event::Think { client: index });
        }
        let ret = ended.into_return(OpId(op), self.now_us);
        self.history.ops[op as usize - 1].ret = Some(ret);
    }

    /// At the end every key is read at every node: linearizably in strong mode.
    pub(super) fn audit(&mut self) {
        for id in self.serving() {
            for key in 0..self.options.keys {
                let op = self.next_op();
                let process = ProcessId(FRESH_PROCESSES * 2 + op);
                let planned = clients::audit_read(&self.options, op, id, key, process, self.now_us);
                self.submit(op, planned, None);
            }
        }
        self.until(self.now_us + 5_000 * MS);
    }
}

/// Bends an operation as the planted defect would.
fn plant(plant: Option<Plant>, planned: &mut Planned) {
    let is_read = planned.invoke.action == Action::Get;
    match plant {
        Some(Plant::StaleReads) => planned.local |= is_read,
        Some(Plant::TokensIgnored) if is_read => planned.request.after = None,
        Some(
            Plant::TokensIgnored
            | Plant::LyingDisk
            | Plant::DoubleApply
            | Plant::LeaseEarlyExpiry
            | Plant::WatchGap
            | Plant::StaleHistory,
        )
        | None => {}
        #[cfg(feature = "plant")]
        Some(Plant::Inside(_)) => {}
    }
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    cause: Option<Cause>,
    reason: Option<&'static str>,
    pub(super) got: Option<Level>,
    succeeded: Option<bool>,
    values: Vec<String>,
    version: Option<Version>,
    pub(super) position: Option<Position>,
    pub(super) entries: Vec<FinalEntry>,
    pub(super) lease: Option<String>,
    pub(super) ttl_ms: Option<u64>,
}

impl Ended {
    const OK: Self = Self {
        outcome: Outcome::Ok,
        cause: None,
        reason: None,
        got: None,
        succeeded: None,
        values: Vec::new(),
        version: None,
        position: None,
        entries: Vec::new(),
        lease: None,
        ttl_ms: None,
    };

    pub(super) fn failed(outcome: Outcome, cause: Cause, reason: &'static str) -> Self {
        Self {
            outcome,
            cause: Some(cause),
            reason: Some(reason),
            ..Self::OK
        }
    }

    /// Done, without anything to show.
    pub(super) fn done(position: Option<Position>) -> Self {
        Self {
            position,
            ..Self::OK
        }
    }

    pub(super) fn saw(entry: Option<&Entry>, position: Option<Position>) -> Self {
        Self {
            values: entry.map(clients::text).into_iter().collect(),
            version: entry.map(|entry| clients::version(&entry.version)),
            position,
            ..Self::OK
        }
    }

    pub(super) fn into_return(self, op: OpId, at_us: u64) -> Return {
        Return {
            cause: self.cause,
            reason: self.reason.map(str::to_owned),
            got: self.got,
            succeeded: self.succeeded,
            values: self.values,
            version: self.version,
            entries: self.entries,
            lease: self.lease,
            ttl_ms: self.ttl_ms,
            token: self.position.as_ref().map(clients::hex),
            ..Return::new(op, at_us, self.outcome)
        }
    }
}

pub(super) fn refused(error: &Error) -> Ended {
    let (outcome, cause) = match error.certainty() {
        quorumor_core::Certainty::NotApplied => (Outcome::Fail, Cause::Refused),
        quorumor_core::Certainty::Unknown => (Outcome::Unknown, Cause::Broken),
    };
    Ended::failed(outcome, cause, error.reason())
}

pub(super) fn written(
    results: Vec<OperationResult>,
    position: Position,
    dot: Option<(quorumor_core::Dot, quorumor_core::Stamp)>,
) -> Ended {
    let own = match (&position, dot) {
        (Position::Strong(revision), _) => Some(Version::Strong {
            revision: revision.as_u64(),
        }),
        (Position::Eventual(_), Some((dot, stamp))) => Some(Version::Eventual {
            dot: clients::dot(dot),
            stamp: stamp.as_u64(),
            context: None,
        }),
        (Position::Eventual(_), None) => None,
    };
    let position = Some(position);
    match results.into_iter().next() {
        Some(OperationResult::Put { version }) => Ended {
            version: Some(clients::version(&version)),
            position,
            ..Ended::OK
        },
        Some(OperationResult::Deleted { previous }) => {
            let version = own
                .filter(|own| previous.is_some() || matches!(own, Version::Eventual { .. }))
                .map(|own| clients::deletion(own, previous.as_ref()));
            Ended {
                version,
                position,
                ..Ended::OK
            }
        }
        Some(OperationResult::Compared {
            succeeded: true,
            entry,
        }) => Ended {
            succeeded: Some(true),
            version: entry.map(|entry| clients::version(&entry.version)),
            position,
            ..Ended::OK
        },
        Some(OperationResult::Compared {
            succeeded: false,
            entry,
        }) => Ended {
            succeeded: Some(false),
            ..Ended::saw(entry.as_ref(), position)
        },
        Some(OperationResult::Got { .. } | OperationResult::RangeDeleted { .. }) | None => {
            unasked()
        }
    }
}

pub(super) fn unasked() -> Ended {
    Ended::failed(
        Outcome::Unknown,
        Cause::Broken,
        "the replica answered something else",
    )
}
