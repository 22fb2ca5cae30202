//! The riders of a workload in real time: each in a task of its own, and the resource that their lock guards.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::caller::{Caller, Wish};
use crate::history::{FenceRecord, ProcessId};
use crate::workload::rider::{Call, Rider, Step};

/// The lab's own resource: it takes a write only under a fencing token that is no lower than the highest it has seen.
#[derive(Debug, Default)]
struct Resource {
    highest: Mutex<BTreeMap<String, u64>>,
}

impl Resource {
    /// A write under this token; it is on record in the order in which the resource took or refused it.
    fn write(
        &self,
        caller: &Caller,
        lock: String,
        token: u64,
        holder: ProcessId,
    ) -> io::Result<()> {
        let mut highest = self.highest.lock();
        let seen = highest.entry(lock.clone()).or_default();
        let accepted = token >= *seen;
        *seen = token.max(*seen);
        caller.history().fence(FenceRecord {
            at_us: caller.clock().now_us(),
            lock,
            holder,
            token,
            accepted,
        })
    }
}

/// Lets all riders ride from time zero until the end, and returns once the last call of each has ended.
///
/// # Errors
/// When the history can't be written.
pub(crate) async fn ride(
    riders: Vec<Rider>,
    caller: Arc<Caller>,
    start_us: u64,
    end_us: u64,
) -> io::Result<()> {
    let (tasks, failure) = (TaskTracker::new(), Arc::new(Mutex::new(None)));
    let resource = Arc::new(Resource::default());
    for rider in riders {
        let (caller, resource) = (Arc::clone(&caller), Arc::clone(&resource));
        let failure = Arc::clone(&failure);
        tasks.spawn(async move {
            until(&caller, start_us).await;
            if let Err(error) = ride_one(rider, &caller, &resource, end_us).await {
                failure.lock().get_or_insert(error);
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    let failed = failure.lock().take();
    failed.map_or(Ok(()), Err)
}

async fn ride_one(
    mut rider: Rider,
    caller: &Caller,
    resource: &Resource,
    end_us: u64,
) -> io::Result<()> {
    let mut holder = ProcessId(0);
    loop {
        let now_us = caller.clock().now_us();
        if now_us >= end_us {
            return Ok(());
        }
        match rider.next(now_us) {
            Step::WaitUntil(at_us) => until(caller, at_us.min(end_us)).await,
            Step::Fence { lock, token } => resource.write(caller, lock, token, holder)?,
            Step::Call(call) => {
                let ticket = caller.begin(rider.client(), 0);
                let ticket = ticket.expect("a rider makes one call at a time");
                holder = ticket.process;
                let ret = caller.call(&wish(&rider, &call), &ticket).await?;
                rider.ended(&ret);
            }
        }
    }
}

fn wish<'a>(rider: &Rider, call: &'a Call) -> Wish<'a> {
    Wish {
        client: rider.client(),
        node: call.node,
        key: &call.key,
        action: &call.action,
        lease: call.lease.as_deref(),
        level: call.level,
        due_us: None,
    }
}

async fn until(caller: &Caller, at_us: u64) {
    sleep_until(Instant::from_std(caller.clock().instant(at_us))).await;
}
