//! A virtual disk: what was synced survives a crash, of the rest a prefix.

use bytes::Bytes;
use quorumor_core::{Record, Recovered};

use crate::rng::Rng;

/// A disk: batches, of which the first so many are synced.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(super) checkpoint: Option<Vec<Bytes>>,
    pub(super) batches: Vec<(u64, Vec<Record>)>,
    pub(super) synced: u64,
    pub(super) next: u64,
    /// How much longer than usual everything takes.
    pub(crate) stall_us: u64,
    /// Whether the next start is told that the log's end was cut.
    pub(crate) torn: bool,
}

impl Disk {
    pub(super) fn append(&mut self, records: Vec<Record>) -> u64 {
        self.next += 1;
        self.batches.push((self.next, records));
        self.next
    }

    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let lost_from = self.synced + rng.below(self.next - self.synced + 1);
        self.batches.retain(|(id, _)| *id <= lost_from);
        // What a start finds, it finds for good: the log syncs its end when it opens.
        self.next = lost_from.max(self.synced);
        self.synced = self.next;
    }

    pub(super) fn recovered(&self) -> Recovered {
        Recovered {
            checkpoint: self.checkpoint.clone(),
            records: self
                .batches
                .iter()
                .flat_map(|(_, records)| records.clone())
                .collect(),
            torn: self.torn,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batches
            .iter()
            .flat_map(|(_, records)| records)
            .map(|record| record.bytes.len())
            .sum()
    }

    /// The longest piece of the checkpoint.
    pub(crate) fn piece_max(&self) -> usize {
        let pieces = self.checkpoint.iter().flatten();
        pieces.map(Bytes::len).max().unwrap_or_default()
    }

    pub(crate) fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }
}
