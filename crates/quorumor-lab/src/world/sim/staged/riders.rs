//! The riders in virtual time, and the resource that their locks guard.

use super::super::run::{Event, Run};
use super::Happening;
use super::calls::Who;
use crate::history::{FenceRecord, ProcessId};
use crate::workload::rider::Step;

impl Run {
    /// A rider does its next thing, until the load is over.
    pub(super) fn ride(&mut self, rider: usize) {
        let now_us = self.now_us;
        while now_us < self.stage().end_us() {
            match self.stage().riders[rider].next(now_us) {
                Step::WaitUntil(at) => {
                    return self.at(at, Event::Staged(Happening::Ride { rider }));
                }
                Step::Fence { lock, token } => self.fence(rider, lock, token),
                Step::Call(call) => {
                    let stage = self.stage();
                    let client = stage.riders[rider].client();
                    let Some(ticket) = stage.processes.begin(client, 0) else {
                        return;
                    };
                    stage.holders.insert(rider, ticket.process);
                    let op = stage.history.next_op();
                    let mut invoke = stage.invoke(op, client, call.node, now_us);
                    (invoke.key, invoke.action) = (call.key, call.action);
                    (invoke.lease, invoke.level) = (call.lease, call.level);
                    return self.submit_as(Who::Rider(rider), invoke, ticket, (0, 0));
                }
            }
        }
    }

    /// The resource takes the write, unless it has seen a higher token.
    fn fence(&mut self, rider: usize, lock: String, token: u64) {
        let at_us = self.now_us;
        let stage = self.stage();
        let seen = stage.fences.entry(lock.clone()).or_default();
        let accepted = token >= *seen;
        *seen = token.max(*seen);
        let holder = stage.holders.get(&rider).copied().unwrap_or(ProcessId(0));
        let written = stage.history.fence(FenceRecord {
            at_us,
            lock,
            holder,
            token,
            accepted,
        });
        stage.keep(written);
    }
}
