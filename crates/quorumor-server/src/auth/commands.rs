//! What each command of a replica needs. Matched without a wildcard, so that a new command must say it.

use quorumor_core::{Command, Error, LeaseAction, Operation, Txn};

use super::Principal;

impl Principal {
    /// Whether it may give this command. A read barrier shows nothing by itself: whoever reads the view behind it asks
    /// [`Self::may_read`] first.
    ///
    /// # Errors
    /// `PermissionDenied`, counted and recorded.
    pub(crate) fn may(&self, command: &Command) -> Result<(), Error> {
        match command {
            Command::Write { operations, .. } => self.may_all(operations),
            Command::Txn { txn, .. } => self.may_txn(txn),
            Command::Lease(LeaseAction::Look { .. }) => self.may_read_something(),
            // A lease and a session have no key; the puts that use them have.
            Command::Lease(
                LeaseAction::Grant { .. }
                | LeaseAction::Revoke { .. }
                | LeaseAction::KeepAlive { .. },
            )
            | Command::Session(_) => self.may_write_something(),
            Command::Cluster(_) | Command::Backup => self.may_admin(),
            // Whom a node sees is no secret, as in the counts of every receipt.
            Command::ReadBarrier { .. } | Command::Members => Ok(()),
        }
    }

    fn may_txn(&self, txn: &Txn) -> Result<(), Error> {
        for compare in &txn.compares {
            self.may_read_key(&compare.key)?;
        }
        self.may_all(&txn.success)?;
        self.may_all(&txn.failure)
    }

    /// Whether it may carry out all of these.
    ///
    /// # Errors
    /// As [`Self::may`].
    pub(crate) fn may_all(&self, operations: &[Operation]) -> Result<(), Error> {
        operations.iter().try_for_each(|operation| match operation {
            Operation::Put { key, .. }
            | Operation::Delete { key }
            | Operation::CompareAndSet { key, .. } => self.may_write(key),
            Operation::DeleteRange { range } => self.may_write_range(range),
            Operation::Get { key } => self.may_read_key(key),
        })
    }
}
