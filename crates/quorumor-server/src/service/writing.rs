//! What changes something: a command goes to the replica, and its answer gets a receipt.

use std::time::Instant;

use quorumor_core::{
    Certainty, ClientSeq, Command, Dot, Error, LeaseAction, Mode, Operation, OperationResult,
    Position, Receipt, Reply, Request, Stamp, Txn, WriteOutcome,
};
use quorumor_proto::pb;
use quorumor_proto::receipt::receipt_to_wire;

use super::asking::{Asking, misfit, position_revision};
use super::receipts::Said;
use crate::handle::Unanswered;

/// Whether any operation was one that writes and was carried out. A lost compare and a get wrote nothing.
pub(super) fn wrote(results: &[OperationResult]) -> Option<WriteOutcome> {
    let wrote = results.iter().any(|result| match result {
        OperationResult::Put { .. }
        | OperationResult::Deleted { .. }
        | OperationResult::RangeDeleted { .. } => true,
        OperationResult::Compared { succeeded, .. } => *succeeded,
        OperationResult::Got { .. } => false,
    });
    wrote.then_some(WriteOutcome::Applied)
}

impl Asking {
    /// The client's own number for this write.
    pub(super) const fn client(&self) -> Option<ClientSeq> {
        self.header.client
    }

    /// Gives a command to the replica and waits for its answer, if the caller may give it.
    pub(super) async fn ask(&self, command: Command) -> Result<Reply, Error> {
        self.ask_until(command, self.began + self.timeout).await
    }

    /// As [`Self::ask`], with another deadline.
    pub(super) async fn ask_until(&self, command: Command, until: Instant) -> Result<Reply, Error> {
        self.principal().may(&command)?;
        self.check_acks(&command)?;
        let request = Request {
            command,
            after: self.after.clone(),
            request_id: self.header.request_id.clone(),
        };
        let answer = self.handle().call(request, until.into()).await;
        answer.map_err(|unanswered| match unanswered {
            Unanswered::Refused(error) => error,
            Unanswered::Deadline => Error::DeadlineExceeded {
                what: "the outcome was known",
                certainty: Certainty::Unknown,
            },
            Unanswered::Stopped => Error::OutcomeUnknown {
                why: "the node stopped",
            },
        })?
    }

    /// A write with what the header demands of it.
    pub(super) fn write_command(
        &self,
        operations: Vec<Operation>,
        client: Option<ClientSeq>,
    ) -> Result<Command, Error> {
        Command::write_held(operations, client, self.header.acks)
    }

    /// Refuses a number of members that a command can't be held to.
    pub(super) fn check_acks(&self, command: &Command) -> Result<(), Error> {
        let mode = self.handle().mode();
        let unavailable = |asked, best_available| {
            Err(Error::GuaranteeUnavailable {
                mode,
                asked,
                best_available,
            })
        };
        match (command, mode) {
            _ if self.header.acks <= 1 => Ok(()),
            // What writes nothing is held by nobody.
            (
                Command::ReadBarrier { .. }
                | Command::Members
                | Command::Backup
                | Command::Lease(LeaseAction::Look { .. }),
                _,
            )
            | (Command::Write { .. }, Mode::Eventual) => Ok(()),
            (
                Command::Write { .. }
                | Command::Txn { .. }
                | Command::Lease(_)
                | Command::Session(_)
                | Command::Cluster(_),
                Mode::Strong,
            ) => unavailable("acks", "a majority, always"),
            (
                Command::Txn { .. } | Command::Lease(_) | Command::Session(_) | Command::Cluster(_),
                Mode::Eventual,
            ) => unavailable("acks", "acks of puts, deletes and batches"),
        }
    }

    /// Carries out operations in order.
    pub(super) async fn write(
        &self,
        operations: Vec<Operation>,
    ) -> Result<(Vec<OperationResult>, pb::Receipt), Error> {
        let count = operations.len();
        let command = self.write_command(operations, self.client())?;
        let Reply::Written {
            results,
            position,
            dot,
        } = self.ask(command).await?
        else {
            return Err(misfit());
        };
        if results.len() != count {
            return Err(misfit());
        }
        let receipt = self.done(Some(&position), dot, wrote(&results))?;
        Ok((results, receipt))
    }

    /// Carries out one operation.
    pub(super) async fn write_one(
        &self,
        operation: Operation,
    ) -> Result<(OperationResult, pb::Receipt), Error> {
        let (results, receipt) = self.write(vec![operation]).await?;
        let result = results.into_iter().next().ok_or_else(misfit)?;
        Ok((result, receipt))
    }

    /// Carries out a transaction: whether its compares held, and what was done.
    pub(super) async fn transact(
        &self,
        txn: Txn,
    ) -> Result<(bool, Vec<OperationResult>, pb::Receipt), Error> {
        let (then, otherwise) = (txn.success.len(), txn.failure.len());
        let command = Command::txn(txn, self.client())?;
        let Reply::TxnDone {
            succeeded,
            results,
            position,
        } = self.ask(command).await?
        else {
            return Err(misfit());
        };
        if results.len() != if succeeded { then } else { otherwise } {
            return Err(misfit());
        }
        let receipt = self.done(Some(&position), None, wrote(&results))?;
        Ok((succeeded, results, receipt))
    }

    /// The receipt of something that was done, and is part of this position if one is known.
    pub(super) fn done(
        &self,
        position: Option<&Position>,
        dot: Option<(Dot, Stamp)>,
        write: Option<WriteOutcome>,
    ) -> Result<pb::Receipt, Error> {
        let best = self.handle().mode().best_level();
        let receipt = self.receipt(
            &self.handle().published(),
            Said {
                asked: best,
                got: best,
                degraded: None,
                revision: position.and_then(position_revision),
                dot,
                token: position.map(|position| self.merged(position)),
                write,
                acks: self.header.acks,
            },
        );
        // It stands, whatever becomes of its token.
        receipt_to_wire(&receipt).or_else(|_| {
            receipt_to_wire(&Receipt {
                token: None,
                ..receipt
            })
        })
    }
}
