//! When the log is long, the state is written aside and the log cut, so that disk and start-up stay bounded.

use quorumor_core::{Output, Persist, PersistToken};

use crate::durability::{Snapshot, confirmed_record, peers_record};
use crate::recovery::encode_header;
use crate::replica::GossipReplica;

impl GossipReplica {
    /// Begins a checkpoint if one is due and none is under way.
    pub(crate) fn maybe_checkpoint(&mut self) {
        let is_due = self.sync.checkpoint_wanted
            || self.durability.log_bytes >= self.config.checkpoint_bytes;
        if !is_due || self.disk_full || self.durability.is_checkpointing() {
            return;
        }
        self.sync.checkpoint_wanted = false;
        let token = self
            .durability
            .begin_checkpoint(self.store.known().vector());
        let position = self.durability.position();
        let header = encode_header(
            &self.store,
            self.stability.stable(),
            self.meta(),
            self.hlc,
            position,
        );
        let source = Snapshot {
            header: Some(header),
            registers: self.store.registers().clone(),
            after: None,
        };
        self.outputs.push_back(Output::Persist(Persist::Checkpoint {
            token,
            position,
            source: Box::new(source),
        }));
    }

    /// The checkpoint is what the next start finds: the log before it can go.
    pub(crate) fn handle_checkpointed(&mut self, token: PersistToken) {
        let Some(since) = self.durability.checkpointed(token) else {
            return;
        };
        self.counters.checkpoints += 1;
        let mut records = vec![
            self.meta().record(),
            peers_record(&self.peer_addresses()),
            confirmed_record(self.stability.promised()),
        ];
        records.extend(since);
        let token = self.durability.token();
        self.outputs
            .push_back(Output::Persist(Persist::Compact { token, records }));
        // Only now: a compaction forgets what was appended before it.
        self.handle_durable();
    }

    /// Lets everything that is known become durable: what a cut is to be confirmed for.
    pub(crate) fn make_durable(&mut self) {
        if self.disk_full {
            return;
        }
        if self.durability.needs_checkpoint() {
            self.sync.checkpoint_wanted = true;
            return;
        }
        let cut = self.stability.promised();
        if let Some((token, records)) = self.durability.promise(self.store.known().vector(), cut) {
            self.append(token, records, true);
        }
    }
}
