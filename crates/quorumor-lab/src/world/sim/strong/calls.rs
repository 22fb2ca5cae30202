//! The actors' side of the loop: a request is sent, once or again, and each of its tries ends.

use quorumor_core::{
    CallId, Certainty, ClientSeq, ClusterAction, Command, Error, LeaseAction, Reply, Request,
    RequestId, Revision, View,
};

use super::actor::{Kind, MS, Plan, Surroundings, Wish};
use super::{CALLS_FROM, Call, Happening, restore};
use crate::registry::{Answer, Ask, Attempt, Ended, Failure, Finish, Op, Query, Subject};
use crate::rng;
use crate::world::sim::Plant;
use crate::world::sim::run::{Event, Run};
use crate::world::sim::trace::Kind as Traced;

/// Answers after which another try can't help.
const FINAL: [&str; 9] = [
    "SESSION_EXPIRED",
    "LEASE_NOT_FOUND",
    "LEASE_EXISTS",
    "HISTORY_GONE",
    "FUTURE_REVISION",
    "MEMBERSHIP_REFUSED",
    "GUARANTEE_UNAVAILABLE",
    "INVALID_ARGUMENT",
    "TOO_STALE",
];

/// How often a request may still be sent, and whether it was repeated on purpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    actor: usize,
    left: u32,
    repeats: u32,
}

impl Run {
    pub(in crate::world::sim) fn start_actors(&mut self) {
        for actor in 0..self.strong.actors.len() {
            let at = (1_200 + 40 * actor as u64) * MS;
            self.at(at, Event::Strong(Happening::Act { actor }));
        }
        for watcher in 0..self.strong.watchers.len() {
            let at = (1_000 + 30 * watcher as u64) * MS;
            self.at(at, Event::Strong(Happening::Watch { watcher }));
        }
    }

    pub(in crate::world::sim) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Act { actor } => self.act(actor),
            Happening::Resend { op } => self.send(op),
            Happening::Deadline { call } => self.call_deadline(call),
            Happening::Watch { watcher } => self.watch(watcher),
        }
    }

    fn act(&mut self, actor: usize) {
        if self.now_us >= self.load_ends_us {
            return;
        }
        let operates = matches!(self.strong.actors[actor].kind, Kind::Operator(_));
        let members = if operates {
            self.membership()
        } else {
            Vec::new()
        };
        let nodes = self.nodes.len() as u64;
        let strong = &mut self.strong;
        let around = Surroundings {
            now_us: self.now_us,
            seen: strong.seen,
            leases: &strong.leases,
            nodes,
            members: &members,
        };
        match strong.actors[actor].plan(&around) {
            Plan::Nap(us) => {
                self.list_leases(actor);
                let at = self.now_us + us;
                self.at(at, Event::Strong(Happening::Act { actor }));
            }
            Plan::Ask(wish) => self.begin(actor, wish),
        }
    }

    fn begin(&mut self, actor: usize, wish: Wish) {
        let strong = &mut self.strong;
        let id = strong.record.ops.len();
        let client = if wish.numbered {
            strong.actors[actor].number()
        } else {
            None
        };
        strong.record.ops.push(Op {
            id,
            actor: strong.actors[actor].name.clone(),
            ask: numbered(wish.ask, client),
            client,
            after: wish.after,
            invoked_us: self.now_us,
            attempts: Vec::new(),
        });
        strong.actors[actor].current = Some(id);
        let repeats =
            u32::from(client.is_some() && rng::chance_ppm(&mut strong.actors[actor].rng, 150_000));
        strong.tries.insert(
            id,
            Tries {
                actor,
                left: wish.tries,
                repeats,
            },
        );
        if let Ask::Cluster(ClusterAction::AddLearner { node, .. }) = &strong.record.ops[id].ask {
            let node = node.as_u64();
            self.make_newcomer(node);
        }
        self.send(id);
        if wish.twice {
            self.send(id);
        }
    }

    /// Sends a request to the node that its actor is at.
    fn send(&mut self, op: usize) {
        let Some(tries) = self.strong.tries.get_mut(&op) else {
            return;
        };
        tries.left = tries.left.saturating_sub(1);
        let actor = tries.actor;
        let nodes = self.nodes.len() as u64;
        let asker = &mut self.strong.actors[actor];
        let node = asker.choose_node(nodes);
        if self.strong.record.ops[op].attempts.len() == 1 {
            // The second of two at once goes elsewhere.
            asker.leave_node(nodes);
        }
        let timeout_us = (300 + rng::below(&mut asker.rng, 1_400)) * MS;
        self.strong.calls_made += 1;
        let call = CALLS_FROM + self.strong.calls_made;
        let asked = &mut self.strong.record.ops[op];
        let attempt = asked.attempts.len();
        asked.attempts.push(Attempt {
            node,
            sent_us: self.now_us,
            ended: None,
        });
        let is_repeat = attempt > 0;
        let request = request(asked, is_repeat, self.options.plant);
        self.strong.calls.insert(call, Call { op, attempt, node });
        if self.node(node).running.is_none() {
            return self.end_call(call, Err(refusal("UNREACHABLE")));
        }
        let deadline = self.now_us + timeout_us;
        self.at(deadline, Event::Strong(Happening::Deadline { call }));
        let now_us = self.now_us;
        self.at(
            now_us,
            Event::Request {
                node,
                call: CallId::new(call),
                request,
            },
        );
    }

    pub(in crate::world::sim) fn awaits(&self, call: CallId) -> bool {
        self.strong.calls.contains_key(&call.as_u64())
    }

    /// Whether no actor waits for anything.
    pub(in crate::world::sim) fn actors_rest(&self) -> bool {
        self.strong.calls.is_empty() && self.strong.tries.is_empty()
    }

    fn call_deadline(&mut self, call: u64) {
        let Some(Call { node, .. }) = self.strong.calls.get(&call).copied() else {
            return;
        };
        self.end_call(call, Err(UNKNOWN));
        let call = CallId::new(call);
        self.at(self.now_us, Event::Cancel { node, call });
    }

    /// The node of these tries is gone.
    pub(in crate::world::sim) fn break_calls(&mut self, node: u64) {
        let calls = self.strong.calls.iter();
        let broken = calls.filter(|(_, call)| call.node == node);
        let broken: Vec<u64> = broken.map(|(call, _)| *call).collect();
        for call in broken {
            self.end_call(call, Err(UNKNOWN));
        }
        self.leave_watchers(node);
    }

    /// The node answers an actor.
    pub(in crate::world::sim) fn answer(&mut self, call: CallId, result: Result<Reply, Error>) {
        let call = call.as_u64();
        let Some(Call { op, node, .. }) = self.strong.calls.get(&call).copied() else {
            return;
        };
        let result = match result {
            Ok(reply) => self.read_reply(op, node, reply),
            Err(error) => Err(Failure {
                certainty: error.certainty(),
                reason: error.reason(),
            }),
        };
        let what = format!("{op} {result:?}");
        self.trace
            .note(self.now_us, node, Traced::Replied, what.as_bytes());
        self.end_call(call, result);
    }

    fn read_reply(&self, op: usize, node: u64, reply: Reply) -> Result<Answer, Failure> {
        let revision = |position: &quorumor_core::Position| match position {
            quorumor_core::Position::Strong(revision) => revision.as_u64(),
            quorumor_core::Position::Eventual(_) => 0,
        };
        Ok(match reply {
            Reply::Written {
                results, position, ..
            } => Answer::Written {
                results,
                position: revision(&position),
            },
            Reply::TxnDone {
                succeeded,
                results,
                position,
            } => Answer::Txn {
                succeeded,
                results,
                position: revision(&position),
            },
            Reply::LeaseGranted { id, ttl_ms, .. } => Answer::Granted { id, ttl_ms },
            Reply::LeaseKept { ttl_ms } => Answer::Kept { ttl_ms },
            Reply::SessionOpened { client_id, .. } => Answer::Opened { client_id },
            Reply::LeaseSeen { .. } | Reply::Members { .. } => return Err(UNKNOWN),
            Reply::ClusterChanged { .. } => Answer::Changed,
            Reply::ReadReady { .. } => {
                let running = &self.nodes[node as usize - 1].running;
                let view = running.as_ref().ok_or(UNKNOWN)?.view();
                let Ask::Read(query) = &self.strong.record.ops[op].ask else {
                    return Err(UNKNOWN);
                };
                read(&view, query, self.options.plant)?
            }
            Reply::Backup { source, position } => Answer::Backup {
                position: revision(&position),
                entries: restore::entries(&self.options, source).map_err(|_| refusal("BACKUP"))?,
            },
        })
    }

    fn end_call(&mut self, call: u64, result: Result<Answer, Failure>) {
        let Some(Call { op, attempt, node }) = self.strong.calls.remove(&call) else {
            return;
        };
        if let Ok(answer) = &result {
            self.note_answer(op, node, answer);
        }
        let (now_us, nodes) = (self.now_us, self.nodes.len() as u64);
        let failed = result.is_err();
        let asked = &mut self.strong.record.ops[op];
        asked.attempts[attempt].ended = Some(Ended {
            at_us: now_us,
            result,
        });
        let waits = asked.attempts.iter().any(|attempt| attempt.ended.is_none());
        let Some(tries) = self.strong.tries.get_mut(&op) else {
            return;
        };
        let actor = tries.actor;
        if failed {
            self.strong.actors[actor].leave_node(nodes);
        }
        if waits {
            return;
        }
        if may_go_on(&self.strong.record.ops[op], tries) {
            let pause_us = (5 + rng::below(&mut self.strong.actors[actor].rng, 250)) * MS;
            self.at(now_us + pause_us, Event::Strong(Happening::Resend { op }));
            return;
        }
        self.strong.tries.remove(&op);
        self.strong.actors[actor].learn(&self.strong.record.ops[op], now_us);
        self.list_leases(actor);
        let next = now_us + self.strong.actors[actor].think_us();
        self.at(next, Event::Strong(Happening::Act { actor }));
    }

    /// What follows from an answer for the rest of the run.
    fn note_answer(&mut self, op: usize, node: u64, answer: &Answer) {
        let strong = &mut self.strong;
        if let Some(position) = answer.position() {
            strong.seen = strong.seen.max(position);
        }
        if let Answer::Granted { ttl_ms, .. } = answer {
            strong.ttl_ms_max = strong.ttl_ms_max.max(*ttl_ms);
        }
        let removed = match (&strong.record.ops[op].ask, answer) {
            (Ask::Cluster(ClusterAction::Remove { node, .. }), Answer::Changed) => Some(*node),
            (Ask::Cluster(ClusterAction::Promote { replacing, .. }), Answer::Changed) => *replacing,
            _ => None,
        };
        let is_change = matches!(answer, Answer::Changed);
        self.counts.cluster_changes += u64::from(is_change);
        self.counts.answers += 1;
        let _ = node;
        if let Some(removed) = removed {
            let now_us = self.now_us;
            let record = &mut self.strong.record;
            record.removed.entry(removed.as_u64()).or_insert(now_us);
        }
    }
}

const UNKNOWN: Failure = Failure {
    certainty: Certainty::Unknown,
    reason: "NO_ANSWER",
};

fn refusal(reason: &'static str) -> Failure {
    Failure {
        certainty: Certainty::NotApplied,
        reason,
    }
}

/// Whether a request whose tries have all ended is sent again.
fn may_go_on(op: &Op, tries: &mut Tries) -> bool {
    let is_final = op.attempts.iter().any(|attempt| {
        let ended = attempt.ended.as_ref();
        ended.is_some_and(
            |ended| matches!(ended.result, Err(failure) if FINAL.contains(&failure.reason)),
        )
    });
    match op.finish() {
        // A repetition on purpose: the same answer is due.
        Finish::Answered(..) if tries.repeats > 0 => {
            tries.repeats -= 1;
            true
        }
        Finish::Answered(..) => false,
        _ if is_final || tries.left == 0 => false,
        Finish::Failed(_) => true,
        Finish::Unknown => op.client.is_some(),
    }
}

/// Puts the client's number where the request has its place for it.
fn numbered(ask: Ask, number: Option<ClientSeq>) -> Ask {
    match ask {
        Ask::Lease(LeaseAction::Grant { id, ttl_ms, .. }) => Ask::Lease(LeaseAction::Grant {
            id,
            ttl_ms,
            client: number,
        }),
        Ask::Lease(LeaseAction::Revoke { id, .. }) => {
            Ask::Lease(LeaseAction::Revoke { id, client: number })
        }
        other @ (Ask::Write(_)
        | Ask::Txn(_)
        | Ask::Lease(LeaseAction::KeepAlive { .. } | LeaseAction::Look { .. })
        | Ask::Session(_)
        | Ask::Cluster(_)
        | Ask::Read(_)
        | Ask::Backup) => other,
    }
}

fn request(op: &Op, is_repeat: bool, plant: Option<Plant>) -> Request {
    // The planted defect: a second try goes without its number.
    let forgets = is_repeat && plant == Some(Plant::DoubleApply);
    let client = op.client.filter(|_| !forgets);
    let command = match &op.ask {
        Ask::Write(operations) => Command::Write {
            acks: 0,
            operations: operations.clone(),
            client,
        },
        Ask::Txn(txn) => Command::Txn {
            txn: txn.clone(),
            client,
        },
        Ask::Lease(action) => Command::Lease(action.clone()),
        Ask::Session(action) => Command::Session(*action),
        Ask::Cluster(action) => Command::Cluster(action.clone()),
        Ask::Read(query) => Command::ReadBarrier {
            level: query.level,
            bound: query.bound,
        },
        Ask::Backup => Command::Backup,
    };
    Request {
        command,
        after: op.after.map(quorumor_core::Position::Strong),
        request_id: RequestId::default(),
    }
}

/// Reads a view, as the service does.
fn read(view: &View, query: &Query, plant: Option<Plant>) -> Result<Answer, Failure> {
    // The planted defect: the revision before the one that was asked for.
    let stale = u64::from(plant == Some(Plant::StaleHistory));
    let at = query
        .at
        .map(|at| Revision::new(at.as_u64().saturating_sub(stale)));
    let gone = |error: Error| refusal(error.reason());
    let entries = match (&query.of, at) {
        (Subject::Key(key), None) => view.entry(key).cloned().into_iter().collect(),
        (Subject::Key(key), Some(at)) => {
            view.entry_at(key, at).map_err(gone)?.into_iter().collect()
        }
        (
            Subject::Range {
                range,
                after,
                limit,
            },
            None,
        ) => view
            .range(range, after.as_ref())
            .take(*limit)
            .cloned()
            .collect::<Vec<_>>(),
        (
            Subject::Range {
                range,
                after,
                limit,
            },
            Some(at),
        ) => view
            .range_at(range, after.as_ref(), at)
            .map_err(gone)?
            .take(*limit)
            .collect(),
    };
    Ok(Answer::Entries {
        view: view.revision().unwrap_or_default().as_u64(),
        entries: entries.iter().map(|entry| (**entry).clone()).collect(),
    })
}
