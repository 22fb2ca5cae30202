//! The load: every operation of the plan is sent when it is due, whatever became of those before it.
//!
//! Not a retrying client. An operation is sent once, and once more only if the node said who leads and that it took
//! nothing; so in both modes. It is on record before it is sent.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_client::{CallOptions, Certainty, Client, ClientError, Expected, Level as AskedLevel};
use quorumor_core as core;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::doors::Doors;
use super::live::Live;
use super::observer::Observer;
use super::outcome::{self, Answer, Kind};
use super::{Plant, core_mode};
use crate::checker::availability::Fared;
use crate::history::{
    Action, Cause, HistoryWriter, Invoke, LabClock, Level, Mode, NodeId, OpId, Outcome, Return,
    SessionId,
};
use crate::process::{Processes, Ticket};
use crate::workload::{Plan, PlannedOp};

/// What a load is sent with.
pub(super) struct Parts {
    pub(super) mode: Mode,
    pub(super) plant: Option<Plant>,
    pub(super) history: HistoryWriter,
    pub(super) clock: LabClock,
    pub(super) start_us: u64,
    pub(super) timeout_us: u64,
    pub(super) doors: Arc<Doors>,
    pub(super) observer: Arc<Observer>,
    pub(super) live: Arc<Live>,
}

/// A load under way.
pub(super) struct Load {
    parts: Parts,
    processes: Mutex<Processes>,
    failure: Mutex<Option<io::Error>>,
}

impl Load {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            processes: Mutex::new(Processes::new()),
            failure: Mutex::new(None),
        }
    }

    /// Sends everything and returns once every operation has ended.
    ///
    /// # Errors
    /// When the history can't be written.
    pub(super) async fn run(self: Arc<Self>, plan: &Plan) -> io::Result<()> {
        let tasks = TaskTracker::new();
        for op in &plan.ops {
            let due_us = self.parts.start_us + op.due_us;
            sleep_until(Instant::from_std(self.parts.clock.instant(due_us))).await;
            let ticket = self.processes.lock().begin(op.client, op.lane);
            match ticket {
                Some(ticket) => {
                    let (load, op) = (Arc::clone(&self), op.clone());
                    tasks.spawn(async move {
                        let sent = load.send(&op, &ticket).await;
                        load.note_failure(sent);
                    });
                }
                None => self.note_failure(self.hold_back(op)),
            }
        }
        tasks.close();
        tasks.wait().await;
        match self.failure.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn note_failure(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failure.lock().get_or_insert(error);
        }
    }

    /// The client's process is still busy: the operation is on record, and never sent.
    fn hold_back(&self, op: &PlannedOp) -> io::Result<()> {
        let process = self.processes.lock().fresh();
        let at_us = self.parts.clock.now_us();
        let id = self.parts.history.next_op();
        let mut invoke = self.invoke(id, op, at_us);
        (invoke.process, invoke.session) = (process, SessionId(process.0));
        self.parts.history.invoke(invoke)?;
        let mut ret = Return::new(id, at_us, Outcome::Fail);
        ret.cause = Some(Cause::HeldBack);
        ret.attempts = 0;
        self.parts.live.count(Fared::HeldBack);
        self.parts.history.complete(ret)
    }

    async fn send(&self, op: &PlannedOp, ticket: &Ticket) -> io::Result<()> {
        let id = self.parts.history.next_op();
        let at_us = self.parts.clock.now_us();
        let mut invoke = self.invoke(id, op, at_us);
        (invoke.process, invoke.session) = (ticket.process, ticket.session);
        invoke.token.clone_from(&ticket.token);
        self.parts.history.invoke(invoke)?;

        let deadline = Instant::from_std(self.parts.clock.instant(at_us + self.parts.timeout_us));
        let mut attempts = 1;
        let mut result = self.attempt(op, op.node, ticket, id, deadline).await;
        if let Some(leader) = result.as_ref().err().and_then(redirect)
            && leader != op.node
            && self.parts.doors.endpoint(leader).is_some()
        {
            attempts = 2;
            result = self.attempt(op, leader, ticket, id, deadline).await;
        }
        let kind = if op.action.is_write() {
            Kind::Write
        } else {
            Kind::Read
        };
        let mut ret = outcome::of(id, self.parts.clock.now_us(), kind, &result);
        ret.attempts = attempts;
        if self.is_planted(&op.action) && ret.got.is_some() {
            // The planted defect: a local answer that calls itself linearizable.
            ret.got = Some(Level::Linearizable);
        }
        let receipt = match &result {
            Ok(answer) => Some(answer.receipt()),
            Err(error) => error.receipt(),
        };
        self.parts.observer.saw_receipt(ret.at_us, receipt)?;
        let (ended, token) = (ret.outcome, ret.token.clone());
        self.parts.live.count(fared(ended));
        self.parts.history.complete(ret)?;
        self.processes.lock().end(ticket, ended, token);
        Ok(())
    }

    fn invoke(&self, id: OpId, op: &PlannedOp, at_us: u64) -> Invoke {
        Invoke {
            op: id,
            process: crate::history::ProcessId(0),
            client: op.client,
            session: SessionId(0),
            node: op.node,
            key: op.key.clone(),
            action: op.action.clone(),
            level: match (&op.action, self.parts.mode) {
                (Action::Get, Mode::Strong) => Some(Level::Linearizable),
                (Action::Get, Mode::Eventual)
                | (Action::Put(_) | Action::Delete | Action::Cas(_), _) => None,
            },
            may_degrade: false,
            token: None,
            idempotency: None,
            request_id: request_id(id),
            due_us: self.parts.start_us + op.due_us,
            at_us,
            timeout_us: self.parts.timeout_us,
        }
    }

    fn is_planted(&self, action: &Action) -> bool {
        match (self.parts.plant, action) {
            (Some(Plant::StaleReads), Action::Get) => self.parts.mode == Mode::Strong,
            (Some(Plant::StaleReads), Action::Put(_) | Action::Delete | Action::Cas(_))
            | (None, _) => false,
        }
    }

    /// What is asked for over the wire; with a planted defect less than what is on record.
    fn asked(&self, action: &Action) -> Option<AskedLevel> {
        match (action, self.parts.mode) {
            (Action::Get, Mode::Strong) if self.is_planted(action) => Some(AskedLevel::Local),
            (Action::Get, Mode::Strong) => Some(AskedLevel::Linearizable),
            (Action::Get, Mode::Eventual)
            | (Action::Put(_) | Action::Delete | Action::Cas(_), _) => None,
        }
    }

    async fn attempt(
        &self,
        op: &PlannedOp,
        node: NodeId,
        ticket: &Ticket,
        id: OpId,
        deadline: Instant,
    ) -> Result<Answer, ClientError> {
        let token = ticket
            .token
            .as_deref()
            .and_then(outcome::unhex)
            .unwrap_or_default();
        let options = CallOptions {
            mode: Some(core_mode(self.parts.mode)),
            level: self.asked(&op.action),
            // Empty bytes send none: the session is the ticket's, not the connection's.
            token: Some(Bytes::from(token)),
            timeout: deadline
                .saturating_duration_since(Instant::now())
                .max(MIN_TIMEOUT),
            request_id: Some(request_id(id)),
            ..CallOptions::default()
        };
        let client = self.parts.doors.client(op.client, node)?.with(options);
        call(&client, &op.key, &op.action).await
    }
}

/// The least that a second attempt is given.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

async fn call(client: &Client, key: &str, action: &Action) -> Result<Answer, ClientError> {
    match action {
        Action::Get => client.get(key).await.map(Answer::Get),
        Action::Put(value) => client.put(key, value.clone()).await.map(Answer::Put),
        Action::Delete => client.delete(key).await.map(Answer::Delete),
        Action::Cas(cas) => {
            let expected = match &cas.expected {
                None => Expected::Absent,
                Some(value) => {
                    let value = core::Value::parse(Bytes::from(value.clone()));
                    Expected::Value(value.map_err(ClientError::Invalid)?)
                }
            };
            let compared = client.compare_and_set(key, &expected, cas.value.clone());
            compared.await.map(Answer::Cas)
        }
    }
}

/// The leader, if a node named one and took nothing.
fn redirect(error: &ClientError) -> Option<NodeId> {
    match error {
        ClientError::Node(node) if node.certainty == Certainty::NotApplied => {
            node.leader.as_ref().map(|(id, _)| NodeId(*id))
        }
        ClientError::Node(_)
        | ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. }
        | ClientError::BadAnswer { .. }
        | ClientError::Invalid(_) => None,
    }
}

fn fared(outcome: Outcome) -> Fared {
    match outcome {
        Outcome::Ok => Fared::Ok,
        Outcome::Fail => Fared::Refused,
        Outcome::Unknown => Fared::Unknown,
    }
}

fn request_id(op: OpId) -> String {
    format!("lab-{}", op.0)
}
