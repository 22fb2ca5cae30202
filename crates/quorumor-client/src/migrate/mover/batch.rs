//! What is written together: as many keys as the limits allow, with leases of one node only.

use quorumor_core::limits::{BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX};
use quorumor_core::{Compare, Operation};

use crate::migrate::plan::Planned;

/// What a batch may weigh, less its progress.
const BYTES_MAX: usize = BATCH_BYTES_MAX - 64 * 1024;
/// Operations of a batch, less its progress.
const OPERATIONS_MAX: usize = BATCH_OPERATIONS_MAX - 1;
/// What is written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) operations: Vec<Operation>,
    pub(super) compares: Vec<Compare>,
    bytes: usize,
    /// Whose leases it names: those of one node only can be named together.
    owner: u64,
    pub(super) puts: u64,
    pub(super) deletes: u64,
}

impl Batch {
    pub(super) fn pack(planned: Vec<Planned>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        for planned in planned {
            match batches.last_mut().filter(|batch| batch.takes(&planned)) {
                Some(batch) => batch.add(planned),
                None => {
                    let mut batch = Self::default();
                    batch.add(planned);
                    batches.push(batch);
                }
            }
        }
        batches
    }

    fn takes(&self, planned: &Planned) -> bool {
        let one_owner = self.owner == 0 || planned.owner == 0 || self.owner == planned.owner;
        one_owner
            && self.bytes + planned.bytes() <= BYTES_MAX
            && self.operations.len() + planned.operations.len() <= OPERATIONS_MAX
    }

    fn add(&mut self, planned: Planned) {
        self.bytes += planned.bytes();
        self.owner = self.owner.max(planned.owner);
        self.puts += planned.puts;
        self.deletes += planned.deletes;
        self.operations.extend(planned.operations);
        self.compares.extend(planned.compare);
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::Key;

    use super::*;

    fn planned(operations: usize, owner: u64) -> Planned {
        let delete = |at| Operation::Delete {
            key: Key::parse(&format!("k{at}")).unwrap(),
        };
        Planned {
            operations: (0..operations).map(delete).collect(),
            owner,
            puts: 1,
            ..Planned::default()
        }
    }

    #[test]
    fn a_batch_names_leases_of_one_node_and_stays_within_the_limits() {
        let owners = [1, 0, 1, 2, 0, 1].map(|owner| planned(2, owner));
        let batches = Batch::pack(owners.into());
        let sizes: Vec<_> = batches
            .iter()
            .map(|batch| (batch.owner, batch.puts))
            .collect();
        assert_eq!(sizes, [(1, 3), (2, 2), (1, 1)]);
        let many = (0..100).map(|_| planned(2, 0)).collect();
        let batches = Batch::pack(many);
        assert!(
            batches
                .iter()
                .all(|batch| batch.operations.len() <= OPERATIONS_MAX)
        );
        assert_eq!(batches.iter().map(|batch| batch.puts).sum::<u64>(), 100);
        assert_eq!(batches.len(), 2);
    }
}
