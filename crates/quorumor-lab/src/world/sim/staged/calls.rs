//! Operations: due, sent to their node, answered, late; and on record from the first to the last.

use quorumor_core::{
    CallId, ClientSeq, Command, Error, Position, Reply, Request, RequestId, SessionAction,
};

use super::super::run::{Event, Run};
use super::super::serve::Ended;
use super::super::trace::Kind;
use super::{Happening, MS, planted, translate};
use crate::history::{
    Cause, ClientId, Invoke, Mode, NodeId, OpId, Outcome, ProcessId, Return, SessionId,
};
use crate::process::Ticket;
use crate::workload::PlannedOp;

/// Calls of a scenario are numbered from here, to tell them from a campaign's.
pub(in crate::world::sim) const STAGED_FROM: u64 = 1 << 50;
/// In a closed loop, between a refusal and the next operation.
const BREATH_US: u64 = 50 * MS;
/// From a client to a node and back.
pub(in crate::world::sim) const ROUND_TRIP_US: u64 = 200;

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// The load.
    Load,
    /// A rider.
    Rider(usize),
    /// Whoever opens the session in which a lane numbers its writes.
    Session(ClientId, u32),
    /// Whoever asks a node for its members.
    Observer,
    /// A fault that changes the members.
    Fault(u32),
}

/// A call that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    who: Who,
    pub(super) node: u64,
    /// What of it is on record; none for what the lab asks itself.
    op: Option<(Invoke, Ticket)>,
    command: Command,
    /// How often it may still be sent, if nobody knows what became of it.
    retries: u32,
    attempts: u32,
}

impl Run {
    /// An operation of the plan is due.
    pub(super) fn due(&mut self, place: usize) {
        let op = self.stage().plan.ops[place].clone();
        self.send_planned(&op);
    }

    /// A closed loop: the lane sends its next operation.
    pub(super) fn next_of_lane(&mut self, client: ClientId, lane: u32, after_us: u64) {
        let now_us = self.now_us;
        let stage = self.stage();
        if now_us >= stage.end_us() {
            return;
        }
        let start_us = stage.start_us;
        let queue = stage.lanes.get_mut(&(client, lane));
        if let Some(mut op) = queue.and_then(std::collections::VecDeque::pop_front) {
            op.due_us = (now_us + after_us).max(start_us) - start_us;
            let place = stage.plan.ops.len();
            let at_us = start_us + op.due_us;
            stage.plan.ops.push(op);
            self.at(at_us, Event::Staged(Happening::Due { place }));
        }
    }

    fn send_planned(&mut self, op: &PlannedOp) {
        let now_us = self.now_us;
        let mode = self.options.mode;
        let stage = self.stage();
        let id = stage.history.next_op();
        let mut invoke = stage.invoke(id, op.client, op.node, now_us);
        invoke.due_us = stage.start_us + op.due_us;
        invoke.key.clone_from(&op.key);
        invoke.action = op.action.clone();
        let workload = stage.scenario.workload;
        invoke.level = op.action.is_read().then(|| workload.level(mode));
        let retries = if mode == Mode::Strong && op.action.is_write() {
            workload.retries
        } else {
            0
        };
        invoke.timeout_us *= u64::from(retries) + 1;
        let Some(ticket) = stage.processes.begin(op.client, op.lane) else {
            return self.hold_back(invoke);
        };
        if retries > 0 && !self.stage().numbered.contains_key(&(op.client, op.lane)) {
            // Its writes need a session first; until it is open, one is sent like any other.
            self.open_session(op.client, op.lane, op.node);
        }
        self.submit_as(Who::Load, invoke, ticket, (op.lane, retries));
    }

    fn open_session(&mut self, client: ClientId, lane: u32, node: NodeId) {
        let action = SessionAction::Open { ttl_ms: 60_000 };
        let who = Who::Session(client, lane);
        let node = self.stage().places.stand_in(node);
        self.ask(who, node.0, Command::Session(action));
    }

    /// The client's process is still busy: the operation is on record, and never sent.
    fn hold_back(&mut self, mut invoke: Invoke) {
        let now_us = self.now_us;
        let stage = self.stage();
        invoke.process = stage.processes.fresh();
        invoke.session = SessionId(invoke.process.0);
        let mut ret = Return::new(invoke.op, now_us, Outcome::Fail);
        (ret.cause, ret.attempts) = (Some(Cause::HeldBack), 0);
        let written = stage.history.invoke(invoke);
        stage.keep(written);
        let written = stage.history.complete(ret);
        stage.keep(written);
    }

    /// Sends an operation that has its process. `numbering` is its lane and how often a write may be repeated.
    pub(super) fn submit_as(
        &mut self,
        who: Who,
        mut invoke: Invoke,
        ticket: Ticket,
        (lane, retries): (u32, u32),
    ) {
        let plant = self.options.plant;
        let stage = self.stage();
        (invoke.process, invoke.session) = (ticket.process, ticket.session);
        let token = stage.scenario.workload.tokens.then_some(ticket.session);
        let after = token.and_then(|session| stage.tokens.get(&session).cloned());
        invoke.token = after.as_ref().map(super::super::clients::hex);
        let number = (retries > 0)
            .then(|| stage.number(invoke.client, lane))
            .flatten();
        if let Some(number) = number {
            let client = number.client_id.as_u64().to_string();
            invoke.idempotency = Some((client, number.seq));
        }
        let acks = stage.scenario.workload.acks;
        let written = stage.history.invoke(invoke.clone());
        stage.keep(written);
        let command = planted::command(plant, translate::command(&invoke, acks, number));
        let pending = Pending {
            who,
            node: invoke.node.0,
            command,
            op: Some((invoke, ticket)),
            retries: if number.is_some() { retries } else { 0 },
            attempts: 1,
        };
        self.call(pending);
    }

    /// Asks a node something that is on nobody's record.
    pub(super) fn ask(&mut self, who: Who, node: u64, command: Command) {
        self.call(Pending {
            who,
            node,
            op: None,
            command,
            retries: 0,
            attempts: 1,
        });
    }

    fn call(&mut self, pending: Pending) {
        let now_us = self.now_us;
        let node = pending.node;
        let heeds = planted::heeds_token(self.options.plant, &pending.command);
        let stage = self.stage();
        stage.calls += 1;
        let number = STAGED_FROM + stage.calls;
        let session = pending.op.as_ref().map(|(_, ticket)| ticket.session);
        let sends_token = stage.scenario.workload.tokens && heeds;
        let after = session
            .filter(|_| sends_token)
            .and_then(|session| stage.tokens.get(&session).cloned());
        let request = Request {
            command: pending.command.clone(),
            after,
            request_id: RequestId::default(),
        };
        let timeout_us = stage.scenario.workload.timeout_us;
        stage.pending.insert(number, pending);
        let deadline = Happening::Deadline { call: number };
        self.at(now_us + timeout_us, Event::Staged(deadline));
        let call = CallId::new(number);
        self.at(
            now_us + ROUND_TRIP_US,
            Event::Request {
                node,
                call,
                request,
            },
        );
    }

    /// The request reaches its node; returns false if nobody waits for the answer any more, or nobody listens.
    pub(in crate::world::sim) fn reaches(&mut self, id: u64, call: CallId) -> bool {
        let number = call.as_u64();
        let Some(stage) = self.staged.as_ref() else {
            return false;
        };
        if !stage.pending.contains_key(&number) {
            return false;
        }
        let listens = self
            .nodes
            .get(id as usize - 1)
            .is_some_and(|node| node.running.is_some() && !stage.leaving.contains(&id));
        if !listens {
            let ended = Ended::failed(Outcome::Fail, Cause::Unreachable, "nobody listens");
            self.close(number, ended);
        }
        listens
    }

    /// The node's time is up.
    pub(super) fn call_is_late(&mut self, number: u64) {
        let Some(pending) = self.stage().pending.get(&number) else {
            return;
        };
        let id = pending.node;
        let late = Ended::failed(Outcome::Unknown, Cause::TimedOut, "the deadline passed");
        self.close(number, late);
        let call = CallId::new(number);
        self.at(self.now_us, Event::Cancel { node: id, call });
    }

    /// A node died: whoever waits for it learns that the connection broke.
    pub(in crate::world::sim) fn break_staged(&mut self, id: u64) {
        let Some(stage) = self.staged.as_ref() else {
            return;
        };
        let waiting = stage.pending.iter().filter(|(_, call)| call.node == id);
        let broken: Vec<u64> = waiting.map(|(number, _)| *number).collect();
        for number in broken {
            let broken = Ended::failed(Outcome::Unknown, Cause::Broken, "the connection broke");
            self.close(number, broken);
        }
        self.lose_watchers(id);
    }

    /// A node answers.
    pub(in crate::world::sim) fn answer_staged(
        &mut self,
        call: CallId,
        result: Result<Reply, Error>,
    ) {
        let number = call.as_u64();
        let Some(pending) = self.stage().pending.get(&number).cloned() else {
            return;
        };
        let Some((invoke, _)) = &pending.op else {
            self.stage().pending.remove(&number);
            return self.told(&pending, result);
        };
        let running = &self.nodes[pending.node as usize - 1].running;
        let Some(view) = running.as_ref().map(super::super::node::Running::view) else {
            return;
        };
        let ended = translate::ended(invoke, result, &view);
        let text = format!("{number} {:?}", ended.outcome);
        let (now_us, id) = (self.now_us, pending.node);
        self.trace.note(now_us, id, Kind::Replied, text.as_bytes());
        self.close(number, ended);
    }

    /// What the lab asked for itself.
    fn told(&mut self, pending: &Pending, result: Result<Reply, Error>) {
        match (&pending.who, result) {
            (Who::Session(client, lane), Ok(Reply::SessionOpened { client_id, .. })) => {
                let lane = (*client, *lane);
                self.stage().numbered.insert(lane, (client_id, 1));
            }
            (Who::Observer, Ok(Reply::Members { members })) => {
                self.saw_members(NodeId(pending.node), &members);
            }
            (Who::Fault(fault), result) => self.members_changed(*fault, result.is_ok()),
            (Who::Load | Who::Rider(_) | Who::Session(..) | Who::Observer, _) => {}
        }
    }

    /// Ends a call: sends it again if that is allowed, or puts its end on record and tells whoever waited.
    fn close(&mut self, number: u64, ended: Ended) {
        let Some(mut pending) = self.stage().pending.remove(&number) else {
            return;
        };
        let Some((invoke, ticket)) = pending.op.clone() else {
            if let Who::Fault(fault) = pending.who {
                self.members_changed(fault, false);
            }
            return;
        };
        let is_open = ended.outcome == Outcome::Unknown || pending.attempts > 1;
        if pending.retries > 0 && ended.outcome != Outcome::Ok && is_open {
            pending.retries -= 1;
            pending.attempts += 1;
            pending.node = pending.node % self.options.nodes + 1;
            planted::repeat(self.options.plant, &mut pending.command);
            return self.call(pending);
        }
        self.put_on_record(&pending, &invoke, &ticket, ended);
    }

    fn put_on_record(&mut self, pending: &Pending, invoke: &Invoke, ticket: &Ticket, ended: Ended) {
        let (now_us, mode) = (self.now_us, self.options.mode);
        let mut ended = ended;
        if pending.attempts > 1 && ended.outcome == Outcome::Fail {
            // An earlier try may still have been applied.
            ended.outcome = Outcome::Unknown;
        }
        let position = ended.position.clone();
        let mut ret = ended.into_return(invoke.op, now_us);
        ret.attempts = pending.attempts;
        ret.node = Some(NodeId(pending.node));
        let running = &self.nodes[pending.node as usize - 1].running;
        if let Some(running) = running
            .as_ref()
            .filter(|_| ret.cause != Some(Cause::TimedOut))
        {
            let answered = match &position {
                Some(Position::Strong(revision)) => Some(*revision),
                Some(Position::Eventual(_)) | None => None,
            };
            translate::receipt(&mut ret, mode, &running.view(), answered);
        }
        let stage = self.stage();
        if let Some(position) = position {
            let token = stage.tokens.entry(ticket.session);
            token
                .and_modify(|mine| mine.merge(&position))
                .or_insert(position);
        }
        stage.processes.end(ticket, ret.outcome, ret.token.clone());
        let written = stage.history.complete(ret.clone());
        stage.keep(written);
        match pending.who {
            Who::Rider(rider) => {
                self.stage().riders[rider].ended(&ret);
                self.at(now_us + 1, Event::Staged(Happening::Ride { rider }));
            }
            Who::Load => {
                // Who was refused takes a breath, as any client does.
                let breath_us = if ret.outcome == Outcome::Ok {
                    0
                } else {
                    BREATH_US
                };
                self.next_of_lane(invoke.client, ticket.lane(), breath_us);
            }
            Who::Session(..) | Who::Observer | Who::Fault(_) => {}
        }
    }
}

impl super::Staged {
    /// An invocation without an action yet.
    pub(super) fn invoke(&self, op: OpId, client: ClientId, node: NodeId, now_us: u64) -> Invoke {
        Invoke {
            op,
            process: ProcessId(0),
            client,
            session: SessionId(0),
            node: self.places.stand_in(node),
            key: String::new(),
            action: crate::history::Action::Get,
            lease: None,
            level: None,
            may_degrade: false,
            token: None,
            idempotency: None,
            request_id: format!("lab-{}", op.0),
            due_us: now_us,
            at_us: now_us,
            timeout_us: self.scenario.workload.timeout_us,
        }
    }

    /// The next number of a lane that has a session.
    fn number(&mut self, client: ClientId, lane: u32) -> Option<ClientSeq> {
        let (client_id, next) = self.numbered.get_mut(&(client, lane))?;
        let seq = *next;
        *next += 1;
        Some(ClientSeq {
            client_id: *client_id,
            seq,
            acked_through: seq - 1,
        })
    }

    /// Whether any operation still waits.
    pub(super) fn waits(&self) -> bool {
        self.pending.values().any(|pending| pending.op.is_some())
    }
}

/// How long after the last operation calls may still be answered.
pub(super) const LAST_CALLS_US: u64 = 5_000 * MS;
