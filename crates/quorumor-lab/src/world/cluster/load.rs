//! The load. Open loop: every operation of the plan is sent when it is due, whatever became of those before it. Closed loop:
//! each process sends its next operation when the one before has ended.
//!
//! Not a client: how a call is made is the [`Caller`]'s business.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::caller::{Caller, Wish};
use super::live::Live;
use super::{riders, spawn};
use crate::checker::availability::Fared;
use crate::history::{Level, Mode, Outcome};
use crate::process::Ticket;
use crate::scenario::Scenario;
use crate::workload::rider::Rider;
use crate::workload::{Arrivals, Plan, PlannedOp};

/// The load, and the riders beside it, from time zero until both have ended.
///
/// # Errors
/// When the history can't be written.
pub(crate) async fn load_and_ride(
    caller: &Arc<Caller>,
    live: &Arc<Live>,
    start_us: u64,
    plan: &Plan,
    scenario: &Scenario,
    mode: Mode,
) -> io::Result<()> {
    let (workload, duration_us) = (&scenario.workload, scenario.duration_us());
    // How many operations a closed loop will be nobody knows.
    let total = match workload.arrivals {
        Arrivals::Closed => 0,
        Arrivals::Poisson | Arrivals::Fixed => plan.ops.len() as u64,
    };
    live.begin(total);
    let riders = Rider::all(workload, mode, scenario.nodes, scenario.seed);
    let end_us = start_us + duration_us;
    let riding = spawn(riders::ride(riders, Arc::clone(caller), start_us, end_us));
    let load = Load {
        caller: Arc::clone(caller),
        live: Arc::clone(live),
        start_us,
        level: workload.level(mode),
        failure: Mutex::new(None),
    };
    let load = Arc::new(load);
    load.run(plan, workload.arrivals, duration_us).await?;
    riding.await?
}

/// A load under way.
struct Load {
    caller: Arc<Caller>,
    live: Arc<Live>,
    start_us: u64,
    level: Level,
    failure: Mutex<Option<io::Error>>,
}

impl Load {
    /// Sends everything and returns once every operation has ended.
    ///
    /// # Errors
    /// When the history can't be written.
    async fn run(
        self: Arc<Self>,
        plan: &Plan,
        arrivals: Arrivals,
        duration_us: u64,
    ) -> io::Result<()> {
        let tasks = TaskTracker::new();
        match arrivals {
            Arrivals::Poisson | Arrivals::Fixed => self.open_loop(plan, &tasks).await,
            Arrivals::Closed => self.closed_loop(plan, duration_us, &tasks).await,
        }
        tasks.close();
        tasks.wait().await;
        match self.failure.lock().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn open_loop(self: &Arc<Self>, plan: &Plan, tasks: &TaskTracker) {
        for op in &plan.ops {
            self.until(op.due_us).await;
            match self.caller.begin(op.client, op.lane) {
                Some(ticket) => {
                    let (load, op) = (Arc::clone(self), op.clone());
                    tasks.spawn(async move { load.send(&op, &ticket, Some(op.due_us)).await });
                }
                None => {
                    let held = self.caller.hold_back(&self.wish(op, Some(op.due_us)));
                    self.live.count(Fared::HeldBack);
                    self.note_failure(held);
                }
            }
        }
    }

    async fn closed_loop(self: &Arc<Self>, plan: &Plan, duration_us: u64, tasks: &TaskTracker) {
        self.until(0).await;
        let end_us = self.start_us + duration_us;
        for ((client, lane), ops) in plan.by_lane() {
            let ops: Vec<PlannedOp> = ops.into_iter().cloned().collect();
            let load = Arc::clone(self);
            tasks.spawn(async move {
                for op in &ops {
                    if load.caller.clock().now_us() >= end_us {
                        return;
                    }
                    let ticket = load.caller.begin(client, lane);
                    let ticket = ticket.expect("its last operation has ended");
                    load.send(op, &ticket, None).await;
                }
            });
        }
    }

    async fn until(&self, from_zero_us: u64) {
        let at = self.caller.clock().instant(self.start_us + from_zero_us);
        sleep_until(Instant::from_std(at)).await;
    }

    async fn send(&self, op: &PlannedOp, ticket: &Ticket, due_us: Option<u64>) {
        let called = self.caller.call(&self.wish(op, due_us), ticket).await;
        self.note_failure(called.map(|ret| self.live.count(fared(ret.outcome))));
    }

    fn wish<'a>(&self, op: &'a PlannedOp, due_us: Option<u64>) -> Wish<'a> {
        Wish {
            client: op.client,
            node: op.node,
            key: &op.key,
            action: &op.action,
            lease: None,
            level: op.action.is_read().then_some(self.level),
            due_us: due_us.map(|due_us| self.start_us + due_us),
        }
    }

    fn note_failure(&self, result: io::Result<()>) {
        if let Err(error) = result {
            self.failure.lock().get_or_insert(error);
        }
    }
}

fn fared(outcome: Outcome) -> Fared {
    match outcome {
        Outcome::Ok => Fared::Ok,
        Outcome::Fail => Fared::Refused,
        Outcome::Unknown => Fared::Unknown,
    }
}
