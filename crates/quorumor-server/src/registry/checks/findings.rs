//! What the checks found of one instance, and how it gets into the shared state.

use quorumor_core::{Command, Operation};
use quorumor_proto::pb;
use quorumor_proto::pb::InstanceHealth;

use super::ask;
use crate::handle::Handle;
use crate::registry::instance::shortened;
use crate::registry::naming::Part;
use crate::registry::record::Record;
use crate::registry::stored::{Found, value_of};

/// What was found of an instance. Its task is the only writer of that, and knows it before the view does.
pub(super) struct Findings {
    pub(super) record: Record,
}

impl Findings {
    pub(super) fn new(handle: &Handle, found: &Found) -> Self {
        let mut record = found.checks.clone().unwrap_or_default();
        record.said_by = handle.node().as_u64();
        let known = |result: &pb::CheckResult| {
            let mut checks = found.instance.checks.iter();
            checks.any(|check| check.check_id == result.check_id)
        };
        record.checks.retain(known);
        Self { record }
    }

    /// How a check stands; `None` before its first outcome.
    pub(super) fn of(&self, check_id: &str) -> Option<InstanceHealth> {
        let mut checks = self.record.checks.iter();
        let known = checks.find(|known| known.check_id == check_id);
        known.map(pb::CheckResult::health)
    }

    pub(super) fn tell(
        &mut self,
        handle: &Handle,
        check_id: &str,
        health: InstanceHealth,
        output: &str,
    ) {
        let wall_ms = handle.clock().now().wall_ms;
        self.record
            .tell(check_id, health, shortened(output), wall_ms);
    }

    /// Writes it down unless it stands there. What fails is made good by the next step, which sees that it differs.
    pub(super) async fn write(&self, handle: &Handle, found: &Found) {
        let known = found.checks.as_ref();
        let stands = known.map_or(self.record.checks.is_empty(), |known| {
            known.checks == self.record.checks && known.flapping == self.record.flapping
        });
        if stands {
            return;
        }
        let Ok(value) = value_of(&self.record) else {
            return;
        };
        let put = Operation::Put {
            key: found.name.key(Part::Checks),
            value,
            context: None,
            lease: found.lease,
        };
        if let Ok(command) = Command::write(vec![put], None) {
            ask(handle, command).await;
        }
    }
}
