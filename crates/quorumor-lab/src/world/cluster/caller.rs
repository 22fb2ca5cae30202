//! A client's call from its line in the history to its end: on record before it is sent, and again when it has ended.
//!
//! Not a cluster's client: who carries a call out is an [`Executor`], one for each kind of cluster under test.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::history::{
    Action, Cause, ClientId, HistoryWriter, Invoke, LabClock, Level, NodeId, OpId, Outcome,
    ProcessId, Return, SessionId,
};
use crate::process::{Processes, Ticket};

/// A call under way.
pub(crate) type Executing<'a> = Pin<Box<dyn Future<Output = Return> + Send + 'a>>;

/// Who carries calls out on the cluster under test.
pub(crate) trait Executor: Send + Sync {
    /// Carries out what was invoked, by the deadline, and says how it ended. It is sent once, and again only after a
    /// redirect that certainly applied nothing, or under its number; what nobody knows is [`Outcome::Unknown`].
    fn execute<'a>(&'a self, invoke: &'a Invoke, deadline: Instant) -> Executing<'a>;

    /// Fills in what only it knows, just before the invocation is on record: who serves in the place of the node that was
    /// meant, the number of a write that may be sent again, the time for that.
    fn prepare(&self, _invoke: &mut Invoke) {}
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish<'a> {
    /// Who.
    pub(crate) client: ClientId,
    /// At which node.
    pub(crate) node: NodeId,
    /// On which key.
    pub(crate) key: &'a str,
    /// What.
    pub(crate) action: &'a Action,
    /// The lease that it concerns.
    pub(crate) lease: Option<&'a str>,
    /// The level of a read.
    pub(crate) level: Option<Level>,
    /// When it was meant to start, on the lab's clock; none = whenever it does.
    pub(crate) due_us: Option<u64>,
}

/// What calls are made with.
pub(crate) struct Parts {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) history: HistoryWriter,
    pub(crate) clock: LabClock,
    /// The deadline of each call.
    pub(crate) timeout_us: u64,
    /// Whether calls carry the session token that was received last.
    pub(crate) tokens: bool,
}

/// All clients of a run.
pub(crate) struct Caller {
    parts: Parts,
    processes: Mutex<Processes>,
}

impl Caller {
    pub(crate) fn new(parts: Parts) -> Self {
        let processes = Mutex::new(Processes::new());
        Self { parts, processes }
    }

    /// The lab's clock.
    pub(crate) fn clock(&self) -> LabClock {
        self.parts.clock
    }

    /// The history.
    pub(crate) fn history(&self) -> &HistoryWriter {
        &self.parts.history
    }

    /// The process of a client and lane, unless it is busy.
    pub(crate) fn begin(&self, client: ClientId, lane: u32) -> Option<Ticket> {
        self.processes.lock().begin(client, lane)
    }

    /// Calls as the process of this ticket, which is given back.
    ///
    /// # Errors
    /// When the history can't be written.
    pub(crate) async fn call(&self, wish: &Wish<'_>, ticket: &Ticket) -> io::Result<Return> {
        let id = self.parts.history.next_op();
        let mut invoke = self.invoke(id, wish);
        (invoke.process, invoke.session) = (ticket.process, ticket.session);
        invoke.token = ticket.token.clone().filter(|_| self.parts.tokens);
        self.parts.executor.prepare(&mut invoke);
        self.parts.history.invoke(invoke.clone())?;
        let deadline_us = invoke.at_us + invoke.timeout_us;
        let deadline = Instant::from_std(self.parts.clock.instant(deadline_us));
        let ret = self.parts.executor.execute(&invoke, deadline).await;
        self.parts.history.complete(ret.clone())?;
        let mut processes = self.processes.lock();
        processes.end(ticket, ret.outcome, ret.token.clone());
        Ok(ret)
    }

    /// The client's process is still busy: the operation is on record, and never sent.
    ///
    /// # Errors
    /// When the history can't be written.
    pub(crate) fn hold_back(&self, wish: &Wish<'_>) -> io::Result<()> {
        let process = self.processes.lock().fresh();
        let id = self.parts.history.next_op();
        let mut invoke = self.invoke(id, wish);
        (invoke.process, invoke.session) = (process, SessionId(process.0));
        let mut ret = Return::new(id, invoke.at_us, Outcome::Fail);
        ret.cause = Some(Cause::HeldBack);
        ret.attempts = 0;
        self.parts.history.invoke(invoke)?;
        self.parts.history.complete(ret)
    }

    fn invoke(&self, id: OpId, wish: &Wish<'_>) -> Invoke {
        let at_us = self.parts.clock.now_us();
        Invoke {
            op: id,
            process: ProcessId(0),
            client: wish.client,
            session: SessionId(0),
            node: wish.node,
            key: wish.key.to_owned(),
            action: wish.action.clone(),
            level: wish.level,
            lease: wish.lease.map(str::to_owned),
            may_degrade: false,
            token: None,
            idempotency: None,
            request_id: format!("lab-{}", id.0),
            due_us: wish.due_us.unwrap_or(at_us),
            at_us,
            timeout_us: self.parts.timeout_us,
        }
    }
}
