//! The one owner of a replica: hands it a turn's inputs, drains its outputs, and carries them out in order.
//!
//! It decides nothing. Inputs wait in lanes of their own, so that a flood of client requests can't hold up peers, finished
//! writes or the timer; every lane gets its share of each round. The view is published before the replies of the
//! same inputs leave. It never blocks: the disk has its own thread, the network its own tasks.

use std::collections::{BTreeSet, HashMap};
use std::pin::{Pin, pin};
use std::time::Duration;

use quorumor_core::{
    CallId, Change, Contact, Error, Input, NodeId, Output, Persist, Replica, Reply,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::handle::{Call, Handle, Published, ReplyTo, Requests, late};
use crate::metrics;
use crate::peers::Peers;
use crate::persist::LogQueue;
use crate::shutdown::Alarm;
use crate::watch::ChangeNumber;

/// How often what is inside a replica is told.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
/// Inputs that are handled between two publications.
const INPUTS_PER_TURN: usize = 256;
/// What each lane gets of a round.
const CONTROL_PER_ROUND: usize = 32;
const DATAGRAMS_PER_ROUND: usize = 32;
const URGENT_PER_ROUND: usize = 32;
const READS_PER_ROUND: usize = 32;
const WRITES_PER_ROUND: usize = 32;
const BULK_PER_ROUND: usize = 4;
/// Waiting messages of peers. A full stream lane holds up the peer's connection; a full datagram lane drops.
const CONTROL_QUEUE_MAX: usize = 1_024;
const DATAGRAM_QUEUE_MAX: usize = 4_096;
const BULK_QUEUE_MAX: usize = 16;

/// Where the peer transport puts what came for one mode.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    pub(crate) control: mpsc::Sender<Input>,
    pub(crate) datagrams: mpsc::Sender<Input>,
    pub(crate) bulk: mpsc::Sender<Input>,
}

/// What the driver takes from peers.
#[derive(Debug)]
pub(crate) struct Arrivals {
    control: mpsc::Receiver<Input>,
    datagrams: mpsc::Receiver<Input>,
    bulk: mpsc::Receiver<Input>,
}

/// The lanes between the peer transport and a driver.
pub(crate) fn lanes() -> (Inbox, Arrivals) {
    let (control, control_taken) = mpsc::channel(CONTROL_QUEUE_MAX);
    let (datagrams, datagrams_taken) = mpsc::channel(DATAGRAM_QUEUE_MAX);
    let (bulk, bulk_taken) = mpsc::channel(BULK_QUEUE_MAX);
    let inbox = Inbox {
        control,
        datagrams,
        bulk,
    };
    let arrivals = Arrivals {
        control: control_taken,
        datagrams: datagrams_taken,
        bulk: bulk_taken,
    };
    (inbox, arrivals)
}

/// What a driver works with beside its replica.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) handle: Handle,
    pub(crate) requests: Requests,
    pub(crate) arrivals: Arrivals,
    /// What the log thread finished. Bounded by what it was asked for.
    pub(crate) finished: mpsc::UnboundedReceiver<Input>,
    pub(crate) log: LogQueue,
    pub(crate) peers: Peers,
}

/// A replica and its one owner.
#[derive(Debug)]
pub(crate) struct Driver<R> {
    replica: R,
    around: Surroundings,
    pending: HashMap<CallId, ReplyTo>,
    replies: Vec<(CallId, Result<Reply, Error>)>,
    changes: Vec<Change>,
    number: ChangeNumber,
    /// Counts the rounds of inputs whose outputs are carried out together.
    turn: u64,
    /// Peers whose messages were dropped: told to the replica at the next turn, so that it can't answer in circles.
    dropped: BTreeSet<NodeId>,
    /// When the replica's inside was told last.
    measured: Instant,
}

enum Wake {
    Stop,
    Leave,
    Input(Input),
    Call(Call),
}

impl<R: Replica> Driver<R> {
    pub(crate) fn new(replica: R, around: Surroundings) -> Self {
        Self {
            replica,
            around,
            pending: HashMap::new(),
            replies: Vec::new(),
            changes: Vec::new(),
            number: 0,
            turn: 0,
            measured: Instant::now(),
            dropped: BTreeSet::new(),
        }
    }

    /// Runs until `stop`; says goodbye at `leave`. The alarm sounds if it ends in any other way.
    pub(crate) async fn run(
        mut self,
        leave: CancellationToken,
        stop: CancellationToken,
        alarm: Alarm,
    ) {
        let mut left = false;
        // What opening the replica left to be done goes first.
        self.finish();
        let mut timer = pin!(tokio::time::sleep_until(Instant::now()));
        loop {
            let due = self.replica.poll_timeout();
            let due = due.map(|(at, _)| self.around.clock.instant(at));
            if let Some(due) = due
                && due != timer.deadline()
            {
                timer.as_mut().reset(due);
            }
            let tick = due.is_some().then_some(timer.as_mut());
            let woken = self.wake(&leave, &stop, left, tick).await;
            let began = Instant::now();
            match woken {
                Wake::Stop => break,
                Wake::Leave => {
                    left = true;
                    self.step(Input::Leave);
                }
                Wake::Input(input) => self.step(input),
                Wake::Call(call) => self.take_call(call),
            }
            self.take_turn();
            self.finish();
            self.measure(began);
        }
        alarm.disarm();
    }

    /// Tells how long a turn took, and once a second what is inside the replica.
    fn measure(&mut self, began: Instant) {
        let mode = self.around.handle.mode();
        let now = Instant::now();
        metrics::turn(mode, now - began);
        if now - self.measured >= MEASURED_EVERY {
            self.measured = now;
            metrics::inner::set(mode, &self.replica.gauges());
        }
    }

    async fn wake(
        &mut self,
        leave: &CancellationToken,
        stop: &CancellationToken,
        left: bool,
        tick: Option<Pin<&mut Sleep>>,
    ) -> Wake {
        let timer = async {
            match tick {
                Some(tick) => tick.await,
                None => std::future::pending().await,
            }
        };
        let around = &mut self.around;
        tokio::select! {
            biased;
            () = stop.cancelled() => Wake::Stop,
            () = leave.cancelled(), if !left => Wake::Leave,
            Some(input) = around.finished.recv() => Wake::Input(input),
            Some(call) = around.requests.cancels.recv() => Wake::Input(Input::Cancel { call }),
            Some(input) = around.arrivals.control.recv() => Wake::Input(input),
            () = timer => Wake::Input(Input::Timer),
            Some(call) = around.requests.urgent.recv() => Wake::Call(call),
            Some(input) = around.arrivals.datagrams.recv() => Wake::Input(input),
            Some(call) = around.requests.reads.recv() => Wake::Call(call),
            Some(call) = around.requests.writes.recv() => Wake::Call(call),
            // While the disk is behind, what is heavy is left to wait at the peers.
            Some(input) = around.arrivals.bulk.recv(), if !around.log.is_behind() => Wake::Input(input),
        }
    }

    /// Takes more of what waits, a share of each lane a round, until nothing waits or the turn is over.
    fn take_turn(&mut self) {
        for peer in std::mem::take(&mut self.dropped) {
            let contact = Contact::Dropped;
            self.step(Input::Contact { peer, contact });
        }
        let mut taken = 0;
        while taken < INPUTS_PER_TURN {
            let before = taken;
            while let Ok(input) = self.around.finished.try_recv() {
                self.step(input);
                taken += 1;
            }
            while let Ok(call) = self.around.requests.cancels.try_recv() {
                self.step(Input::Cancel { call });
                taken += 1;
            }
            taken += self.take_from(|arrivals| &mut arrivals.control, CONTROL_PER_ROUND);
            taken += self.take_timer();
            taken += self.take_from(|arrivals| &mut arrivals.datagrams, DATAGRAMS_PER_ROUND);
            taken += self.take_calls(|requests| &mut requests.urgent, URGENT_PER_ROUND);
            taken += self.take_calls(|requests| &mut requests.reads, READS_PER_ROUND);
            taken += self.take_calls(|requests| &mut requests.writes, WRITES_PER_ROUND);
            if !self.around.log.is_behind() {
                taken += self.take_from(|arrivals| &mut arrivals.bulk, BULK_PER_ROUND);
            }
            if taken == before {
                break;
            }
        }
    }

    fn take_from(
        &mut self,
        lane: impl Fn(&mut Arrivals) -> &mut mpsc::Receiver<Input>,
        count: usize,
    ) -> usize {
        for taken in 0..count {
            match lane(&mut self.around.arrivals).try_recv() {
                Ok(input) => self.step(input),
                Err(_) => return taken,
            }
        }
        count
    }

    fn take_calls(
        &mut self,
        lane: impl Fn(&mut Requests) -> &mut mpsc::Receiver<Call>,
        count: usize,
    ) -> usize {
        for taken in 0..count {
            match lane(&mut self.around.requests).try_recv() {
                Ok(call) => self.take_call(call),
                Err(_) => return taken,
            }
        }
        count
    }

    fn take_timer(&mut self) -> usize {
        let now = self.around.clock.mono();
        match self.replica.poll_timeout() {
            Some((at, _)) if at <= now => {
                self.step(Input::Timer);
                1
            }
            Some(_) | None => 0,
        }
    }

    fn take_call(&mut self, call: Call) {
        let Call {
            call,
            request,
            until,
            reply,
        } = call;
        // Its caller has gone while it waited: it was never begun.
        if reply.is_closed() {
            return;
        }
        if until <= Instant::now() {
            reply.send(call, Err(late()));
            return;
        }
        // What the requests of one turn make the replica do is told under the turn's number: their append to the log, for one.
        let request_id = request.request_id.as_str();
        tracing::debug!(%call, request_id, turn = self.turn, "takes a request");
        self.pending.insert(call, reply);
        self.step(Input::Request { call, request });
    }

    fn step(&mut self, input: Input) {
        if let Input::Cancel { call } = &input {
            // Nothing to cancel if it was answered, or never begun.
            if self.pending.remove(call).is_none() {
                return;
            }
        }
        self.replica.handle(self.around.clock.now(), input);
    }

    fn drain(&mut self) {
        while let Some(output) = self.replica.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let mode = self.around.handle.mode();
        match output {
            Output::Reply { call, result } => self.replies.push((call, result)),
            Output::Datagram { to, payload } => self.around.peers.datagram(mode, to, payload),
            Output::Stream { to, class, payload } => {
                if !self.around.peers.stream(mode, to, class, payload) {
                    self.dropped.insert(to);
                }
            }
            Output::PeerAddress { peer, address } => self.around.peers.learn(peer, address),
            Output::Persist(persist) => {
                let (turn, token) = (self.turn, token_of(&persist));
                tracing::debug!(%mode, turn, token, "hands over to the log");
                self.around.log.push(persist);
            }
            Output::Changed(change) => self.changes.push(change),
        }
    }

    /// Carries out what the turn led to, publishes, then tells the watchers, then answers.
    fn finish(&mut self) {
        self.drain();
        self.turn += 1;
        self.number += self.changes.len() as u64;
        self.around.handle.publish(Published {
            view: self.replica.view(),
            number: self.number,
        });
        let changes = std::mem::take(&mut self.changes);
        self.around.handle.hub().append(changes);
        for (call, result) in self.replies.drain(..) {
            if let Some(reply) = self.pending.remove(&call) {
                reply.send(call, result);
            }
        }
    }
}

/// What the log thread tells of it when it is done.
const fn token_of(persist: &Persist) -> u64 {
    match persist {
        Persist::Append { token, .. }
        | Persist::Checkpoint { token, .. }
        | Persist::Compact { token, .. } => token.0,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Lanes whose other ends are in a test's hands.

    use super::*;

    type Lane = mpsc::Receiver<Input>;

    /// An inbox, and what comes for control, datagrams and bulk.
    pub(crate) fn lanes() -> (Inbox, Lane, Lane, Lane) {
        let (inbox, arrivals) = super::lanes();
        (inbox, arrivals.control, arrivals.datagrams, arrivals.bulk)
    }
}

#[cfg(test)]
mod tests;
