//! How a call is carried out on etcd: once, at the member that the client talks to.
//!
//! Not a retrying client; etcd itself passes a request on to its leader. Called by the load and the riders, as on our own cluster.

use std::sync::Arc;

use tokio::time::Instant;

use super::executor::{Ask, EtcdExecutor, Reads};
use crate::history::{Invoke, LabClock};
use crate::world::cluster::caller::{Executing, Executor};

/// A cluster of etcd, for a caller.
pub(super) struct EtcdCalls {
    pub(super) executor: Arc<EtcdExecutor>,
    pub(super) reads: Reads,
    pub(super) clock: LabClock,
}

impl Executor for EtcdCalls {
    fn execute<'a>(&'a self, invoke: &'a Invoke, deadline: Instant) -> Executing<'a> {
        Box::pin(async move {
            let ask = Ask {
                client: invoke.client,
                node: invoke.node,
                key: &invoke.key,
                action: &invoke.action,
                lease: invoke.lease.as_deref(),
                reads: self.reads,
            };
            let timeout = deadline.saturating_duration_since(Instant::now());
            self.executor
                .execute(invoke.op, &ask, timeout, self.clock)
                .await
        })
    }

    /// Reads are asked as this column asks them, whatever the workload says.
    fn prepare(&self, invoke: &mut Invoke) {
        invoke.level = invoke.level.map(|_| self.reads.level());
    }
}
