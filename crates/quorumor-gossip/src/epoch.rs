//! The epoch of the data: raised by whoever asks, the highest that anybody raised it to wins.
//!
//! Each epoch is a key of the cluster's own, which spreads, is kept and is repaired as all keys are. The key of the one before is
//! removed behind it in the same log, so whoever lacks the lower one has the higher.

use quorumor_core::{CallId, DataEpoch, Position, Reply, Value};

use crate::durability::{Answer, OpenWrite};
use crate::replica::GossipReplica;
use crate::system_key::SystemKey;

impl GossipReplica {
    /// What readers are told: what the data has reached, but no less than what this node was configured with.
    pub(crate) fn epoch(&self) -> DataEpoch {
        self.config.epoch.max(self.store.epoch())
    }

    /// Raises the epoch here; the others hear of it as of any write.
    pub(crate) fn advance_epoch(&mut self, call: CallId, above: Option<DataEpoch>) {
        let (epoch, before) = (self.epoch().raised(above), self.store.epoch());
        if epoch == self.epoch() {
            let position = Position::Eventual(self.store.known().vector().clone());
            return self.reply(call, Ok(Reply::ClusterChanged { position }));
        }
        let mut write = OpenWrite::new(Some(call));
        write.answer = Answer::EpochRaised;
        let reached = Value::parse(bytes::Bytes::new()).expect("nothing is within the limit");
        self.issue_alone(&mut write, SystemKey::Epoch(epoch).key(), Some(reached));
        let known = SystemKey::Epoch(before).key();
        if self
            .working(&known)
            .entry(self.store.policy(&known))
            .is_some()
        {
            self.issue_alone(&mut write, known, None);
        }
        self.durability.queue(write);
    }
}
