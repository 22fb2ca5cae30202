//! The keep-alives that a node gives for an instance which it checks.

use std::convert::Infallible;
use std::time::Duration;

use quorumor_core::{Command, LeaseAction, LeaseId};

use super::{LOOK_MS_MAX, PAUSE_MS_MIN, ask, now_ms};
use crate::handle::Handle;
use crate::registry::stored::Found;

/// A lease is kept alive so many times within its life.
const RENEWALS: u64 = 3;

/// When the lease of the instance's own is kept alive next. One that the caller gave is the caller's: what else lives by it must
/// end with the caller, whatever the checks say.
pub(super) struct Renewal {
    lease: Option<LeaseId>,
    every_ms: u64,
    pub(super) due_ms: u64,
}

impl Renewal {
    pub(super) fn new(found: &Found, now_ms: u64) -> Self {
        let lease = found.lease.filter(|_| found.stored.owns_lease);
        Self {
            due_ms: if lease.is_some() { now_ms } else { u64::MAX },
            lease,
            every_ms: (found.stored.ttl_ms / RENEWALS).max(1),
        }
    }

    pub(super) async fn renew(&mut self, handle: &Handle) {
        let now = now_ms(handle);
        let Some(id) = self.lease.filter(|_| self.due_ms <= now) else {
            return;
        };
        let kept = ask(handle, Command::Lease(LeaseAction::KeepAlive { id })).await;
        // A keep-alive that failed is tried again soon; if the lease is gone, so is the instance, which the next look shows.
        let pause = if kept.is_some() {
            self.every_ms
        } else {
            (self.every_ms / 10).max(PAUSE_MS_MIN)
        };
        self.due_ms = now_ms(handle) + pause;
    }

    pub(super) async fn go_on(&mut self, handle: &Handle) -> Infallible {
        loop {
            let pause = self.due_ms.saturating_sub(now_ms(handle));
            let pause = pause.clamp(PAUSE_MS_MIN, LOOK_MS_MAX);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.renew(handle).await;
        }
    }
}
