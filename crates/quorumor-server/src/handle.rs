//! The front door of one mode: cloneable, what the service holds. Requests go through a bounded queue to the driver; the
//! published view is read directly. A call that is given up on, for whatever reason, is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use quorumor_core::limits::{BATCH_BYTES_MAX, DRIVER_QUEUE_MAX};
use quorumor_core::{
    CallId, Certainty, Command, Error, Health, Mode, NodeId, Reply, Request, Role, Status, View,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::admission::{Class, Limits, Shares};
use crate::clock::Clock;
use crate::metrics;
use crate::standing::Standing;
use crate::watch::{Bounds, ChangeNumber, Hub};
use crate::weight::{Bytes, Weight};

/// Bytes of the requests that one mode has taken on and not answered: 32 of the heaviest.
const QUEUE_BYTES_MAX: usize = 32 * BATCH_BYTES_MAX;
/// Bytes that wait for one log's disk before writes are refused. What peers send may come on top.
pub(crate) const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// When a caller may try again whose request found the queue full: the queue is worth 80 ms of work.
const RETRY_AFTER_MS: u64 = 100;

/// A state as readers and new watchers see it.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) view: View,
    /// The number of the last change that the view includes.
    pub(crate) number: ChangeNumber,
}

/// A request on its way to the driver.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) call: CallId,
    pub(crate) request: Request,
    /// When its caller stops waiting: it isn't begun after that.
    pub(crate) until: Instant,
    pub(crate) reply: ReplyTo,
}

/// An answer on its way to a stream that has many calls under way.
pub(crate) type Answered = (CallId, Result<Reply, Error>);

/// Who waits for a call's answer.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    Caller(oneshot::Sender<Result<Reply, Error>>),
    /// Many calls share it, so that answers that come together wake their stream once.
    Stream(mpsc::UnboundedSender<Answered>),
}

impl ReplyTo {
    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Caller(caller) => caller.is_closed(),
            Self::Stream(stream) => stream.is_closed(),
        }
    }

    /// Answers. A caller who has gone wants no answer.
    pub(crate) fn send(self, call: CallId, result: Result<Reply, Error>) {
        match self {
            Self::Caller(caller) => drop(caller.send(result)),
            Self::Stream(stream) => drop(stream.send((call, result))),
        }
    }
}

/// A call that was handed over for a stream. Cancelled when it is dropped without an answer.
#[derive(Debug)]
pub(crate) struct Submitted {
    shared: Arc<Shared>,
    call: Option<CallId>,
    id: CallId,
    _weight: Weight,
}

impl Submitted {
    /// Its name, as the answer has it.
    pub(crate) const fn call(&self) -> CallId {
        self.id
    }

    /// The answer came: there is nothing to cancel.
    pub(crate) const fn answered(&mut self) {
        self.call = None;
    }
}

impl Drop for Submitted {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            // A driver that is gone has nothing to cancel.
            let _ = self.shared.cancels.send(call);
        }
    }
}

/// What the driver takes from.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Keep-alives, revokes and what operators do: few, and never behind the others.
    pub(crate) urgent: mpsc::Receiver<Call>,
    pub(crate) reads: mpsc::Receiver<Call>,
    pub(crate) writes: mpsc::Receiver<Call>,
    /// Unbounded, but never more than the calls accepted: one cancel each.
    pub(crate) cancels: mpsc::UnboundedReceiver<CallId>,
}

/// Why a call has no answer from the replica.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It was never handed over.
    Refused(Error),
    /// The caller's time is up.
    Deadline,
    /// The replica stopped.
    Stopped,
}

/// The front door. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: Mode,
    node: NodeId,
    clock: Clock,
    shares: Shares,
    urgent: mpsc::Sender<Call>,
    reads: mpsc::Sender<Call>,
    writes: mpsc::Sender<Call>,
    cancels: mpsc::UnboundedSender<CallId>,
    next_call: AtomicU64,
    published: RwLock<Arc<Published>>,
    hub: Arc<Hub>,
    /// Whether a leader is known. Always, in eventual mode.
    led: watch::Sender<bool>,
    /// How many conflicts there were.
    conflicts: watch::Sender<u64>,
    queued_bytes: Bytes,
    log_bytes: Bytes,
    standing: Arc<Standing>,
}

impl Handle {
    /// A front door to a replica whose state is `view` now. `hub_id` tells this life of the node from others.
    pub(crate) fn new(
        mode: Mode,
        clock: Clock,
        view: View,
        hub_id: u64,
        log_bytes: Bytes,
        standing: Arc<Standing>,
        limits: Limits,
    ) -> (Self, Requests) {
        let (urgent, urgent_taken) = mpsc::channel(DRIVER_QUEUE_MAX);
        let (reads, reads_taken) = mpsc::channel(DRIVER_QUEUE_MAX);
        let (writes, writes_taken) = mpsc::channel(DRIVER_QUEUE_MAX);
        // A drop can't wait for room. There is at most one cancel a call, and the calls are bounded.
        let (cancels, cancels_taken) = mpsc::unbounded_channel();
        let shared = Shared {
            mode,
            node: view.status.node,
            clock,
            shares: Shares::new(mode, limits),
            urgent,
            reads,
            writes,
            cancels,
            next_call: AtomicU64::new(1),
            hub: Hub::new(hub_id, mode, view.position.clone(), Bounds::DEFAULT),
            led: watch::Sender::new(is_led(&view.status)),
            conflicts: watch::Sender::new(view.conflicts.count),
            published: RwLock::new(Arc::new(Published { view, number: 0 })),
            queued_bytes: Bytes::default(),
            log_bytes,
            standing,
        };
        let handle = Self {
            shared: Arc::new(shared),
        };
        let requests = Requests {
            urgent: urgent_taken,
            reads: reads_taken,
            writes: writes_taken,
            cancels: cancels_taken,
        };
        (handle, requests)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.shared.mode
    }

    /// The node that it belongs to.
    pub(crate) fn node(&self) -> NodeId {
        self.shared.node
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// Tells whether a leader is known, and of each change of that.
    pub(crate) fn led(&self) -> watch::Receiver<bool> {
        self.shared.led.subscribe()
    }

    /// Tells how many conflicts there were, and of each change of that, once the view has them.
    pub(crate) fn conflict_counts(&self) -> watch::Receiver<u64> {
        self.shared.conflicts.subscribe()
    }

    /// The newest state. A node that its peers refuse is damaged, whatever its replica knows.
    pub(crate) fn published(&self) -> Arc<Published> {
        let published = Arc::clone(&self.shared.published.read());
        let status = &published.view.status;
        let Some(why) = self.shared.standing.damage() else {
            return published;
        };
        if matches!(status.health, Health::Damaged { .. }) {
            return published;
        }
        let mut view = published.view.clone();
        view.status = Arc::new(Status {
            health: Health::Damaged { why },
            ..(**status).clone()
        });
        let number = published.number;
        Arc::new(Published { view, number })
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        let lanes = [&self.shared.urgent, &self.shared.reads, &self.shared.writes];
        lanes
            .iter()
            .map(|lane| lane.max_capacity() - lane.capacity())
            .sum()
    }

    /// The places of each class of calls.
    pub(crate) fn shares(&self) -> &Shares {
        &self.shared.shares
    }

    /// Called by the driver, before the replies of the same drain leave.
    pub(crate) fn publish(&self, published: Published) {
        let led = is_led(&published.view.status);
        let conflicts = published.view.conflicts.count;
        *self.shared.published.write() = Arc::new(published);
        if *self.shared.led.borrow() != led {
            self.shared.led.send_replace(led);
        }
        if *self.shared.conflicts.borrow() != conflicts {
            self.shared.conflicts.send_replace(conflicts);
        }
    }

    /// Finds room for a request's bytes until it is answered; a write needs some in front of the log too.
    fn weigh(&self, request: &Request) -> Result<Weight, Error> {
        let appends = match &request.command {
            Command::Write { .. } | Command::Txn { .. } => true,
            Command::Lease(_)
            | Command::Session(_)
            | Command::Cluster(_)
            | Command::ReadBarrier { .. }
            | Command::Members
            | Command::Backup => false,
        };
        if appends && self.shared.log_bytes.get() >= LOG_BYTES_MAX {
            return Err(overloaded("log_queue_bytes_max"));
        }
        let bytes = request.command.bytes();
        let weight = self.shared.queued_bytes.try_add(bytes, QUEUE_BYTES_MAX);
        weight.ok_or_else(|| overloaded("driver_queue_bytes_max"))
    }

    /// Puts a request in the driver's queue.
    fn hand_over(
        &self,
        request: Request,
        until: Instant,
        reply: ReplyTo,
    ) -> Result<(CallId, Weight), Error> {
        if let Some(why) = self.shared.standing.damage() {
            return Err(Error::Damaged { why });
        }
        if until <= Instant::now() {
            return Err(late());
        }
        let class = Class::of(&request.command);
        let shed = |error| {
            metrics::shed(self.shared.mode, class);
            error
        };
        let weight = self.weigh(&request).map_err(shed)?;
        let call = CallId::new(self.shared.next_call.fetch_add(1, Ordering::Relaxed));
        let sent = self.shared.lane(class).try_send(Call {
            call,
            request,
            until,
            reply,
        });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => shed(overloaded("driver_queue_max")),
            mpsc::error::TrySendError::Closed(_) => Error::Stopping,
        })?;
        Ok((call, weight))
    }

    /// Hands a request over whose answer goes to a stream. Who holds the stream watches the deadline.
    pub(crate) fn submit(
        &self,
        request: Request,
        until: Instant,
        answers: &mpsc::UnboundedSender<Answered>,
    ) -> Result<Submitted, Error> {
        let reply = ReplyTo::Stream(answers.clone());
        let (call, weight) = self.hand_over(request, until, reply)?;
        Ok(Submitted {
            shared: Arc::clone(&self.shared),
            call: Some(call),
            id: call,
            _weight: weight,
        })
    }

    /// Hands a request over and waits for its answer until the deadline.
    pub(crate) async fn call(
        &self,
        request: Request,
        until: Instant,
    ) -> Result<Result<Reply, Error>, Unanswered> {
        let (reply, answered) = oneshot::channel();
        let (call, _weight) = self
            .hand_over(request, until, ReplyTo::Caller(reply))
            .map_err(Unanswered::Refused)?;
        let mut cancel = CancelOnDrop {
            shared: &self.shared,
            call: Some(call),
        };
        let answer = tokio::time::timeout_at(until, answered).await;
        match answer {
            Ok(answer) => {
                cancel.call = None;
                answer.map_err(|_| Unanswered::Stopped)
            }
            Err(_) => Err(Unanswered::Deadline),
        }
    }
}

impl Shared {
    const fn lane(&self, class: Class) -> &mpsc::Sender<Call> {
        match class {
            Class::KeepAlive | Class::Admin => &self.urgent,
            Class::LinearizableRead | Class::LocalRead | Class::Watch => &self.reads,
            Class::Write => &self.writes,
        }
    }
}

/// Whether the node follows a leader or is one.
fn is_led(status: &Status) -> bool {
    match &status.role {
        Role::Strong { leader, .. } => leader.is_some(),
        Role::Eventual { .. } => true,
    }
}

/// What a request hears whose time was up before it was begun.
pub(crate) const fn late() -> Error {
    Error::DeadlineExceeded {
        what: "the request was begun",
        certainty: Certainty::NotApplied,
    }
}

fn overloaded(queue: &'static str) -> Error {
    Error::Overloaded {
        queue,
        retry_after_ms: RETRY_AFTER_MS,
    }
}

/// Tells the driver that nobody waits any more, also when the caller's future is dropped.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    call: Option<CallId>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            // A driver that is gone has nothing to cancel.
            let _ = self.shared.cancels.send(call);
        }
    }
}
