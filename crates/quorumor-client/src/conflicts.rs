//! Conflicts of eventual mode: the writes that lost to concurrent ones at a node, listed and watched. Each node counts its own, so
//! numbers mean something at that node only.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Dot, Error, Key, KeyRange, Stamp};
use quorumor_proto::entry::dot_from_wire;
use quorumor_proto::pb;
use tonic::Streaming;

use crate::answer::{self, Answer, Receipt, receipt, required};
use crate::client::Client;
use crate::error::ClientError;
use crate::options::CallOptions;
use crate::retry::Kind;
use crate::wire::range_to_wire;

/// A write that merging discarded in favour of a concurrent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its place in the node's count, from 1.
    pub number: u64,
    /// The key.
    pub key: Key,
    /// The discarded write.
    pub loser: Dot,
    /// Its stored stamp.
    pub loser_stamp: Stamp,
    /// What it wrote; `None` if it was a delete, or if only its dot is known at the node.
    pub value: Option<Bytes>,
    /// The write that won over it.
    pub winner: Dot,
    /// The node's wall clock then, since the Unix epoch.
    pub at: Duration,
}

/// Conflicts, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictsAnswer {
    /// Of the keys asked for.
    pub conflicts: Vec<Conflict>,
    /// How many there were since the data began, of all keys.
    pub count: u64,
    /// How many above the asked number, of all keys, are listed no more.
    pub missed: u64,
    /// The list was looked through up to this number: where the next page goes on.
    pub through: u64,
    /// Whether there are more above it.
    pub more: bool,
    /// What the answer says about itself.
    pub receipt: Receipt,
}

/// One step of a watch on conflicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflictsStep {
    /// Of the keys asked for, oldest first.
    pub conflicts: Vec<Conflict>,
    /// How many of all keys are missing before these.
    pub missed: u64,
    /// Where to go on after a break, at the same node.
    pub through: u64,
    /// What the step says about itself.
    pub receipt: Receipt,
}

/// A running watch on the conflicts of one node. Dropping it ends it. It doesn't outlive its connection: begin anew behind the
/// last step's `through`, at the same node.
#[derive(Debug)]
pub struct ConflictsWatch {
    endpoint: String,
    steps: Streaming<pb::WatchConflictsResponse>,
}

impl ConflictsWatch {
    /// The next step; the first comes at once. `None` at the end.
    ///
    /// # Errors
    /// See [`ClientError`]; the watch is over then.
    pub async fn next(&mut self) -> Result<Option<ConflictsStep>, ClientError> {
        let step = self.steps.message().await;
        let step = step.map_err(|status| ClientError::from_status(&self.endpoint, &status))?;
        let step = step.map(step_from_wire).transpose();
        step.map_err(|error| ClientError::bad_answer(&error.to_string()))
    }
}

fn step_from_wire(mut step: pb::WatchConflictsResponse) -> Result<ConflictsStep, Error> {
    Ok(ConflictsStep {
        receipt: receipt(&mut step.receipt)?,
        conflicts: step
            .conflicts
            .into_iter()
            .map(conflict_from_wire)
            .collect::<Result<_, _>>()?,
        missed: step.missed,
        through: step.through_number,
    })
}

fn conflict_from_wire(conflict: pb::Conflict) -> Result<Conflict, Error> {
    Ok(Conflict {
        number: conflict.number,
        key: Key::parse(&conflict.key)?,
        loser: dot_from_wire(required(conflict.loser, "conflict.loser")?)?,
        loser_stamp: Stamp::from_u64(conflict.loser_stamp),
        value: conflict.value,
        winner: dot_from_wire(required(conflict.winner, "conflict.winner")?)?,
        at: Duration::from_millis(conflict.wall_ms),
    })
}

impl Answer for ConflictsAnswer {
    type Wire = pb::ListConflictsResponse;

    fn from_wire(mut wire: pb::ListConflictsResponse) -> Result<Self, Error> {
        Ok(Self {
            receipt: receipt(&mut wire.receipt)?,
            conflicts: wire
                .conflicts
                .into_iter()
                .map(conflict_from_wire)
                .collect::<Result<_, _>>()?,
            count: wire.count,
            missed: wire.missed,
            through: wire.through_number,
            more: wire.more,
        })
    }

    fn receipt(&self) -> Option<&Receipt> {
        Some(&self.receipt)
    }
}

impl Client {
    /// The same client, asking one endpoint and no other.
    pub(crate) fn at(&self, endpoint: &str) -> Self {
        let options = CallOptions {
            endpoint: Some(endpoint.to_owned()),
            ..self.options.clone()
        };
        self.with(options)
    }

    /// One page of the conflicts that an endpoint lists: those in the range above `after`, at most `limit` (0 for the node's
    /// default). In strong mode there are none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn conflicts(
        &self,
        endpoint: &str,
        range: &KeyRange,
        after: u64,
        limit: u32,
    ) -> Result<ConflictsAnswer, ClientError> {
        self.at(endpoint)
            .call_cluster(Kind::LocalRead, |mut stub, this_try| {
                let request = this_try.request(|header| pb::ListConflictsRequest {
                    header: Some(header),
                    range: Some(range_to_wire(range)),
                    after_number: after,
                    limit,
                });
                async move { stub.list_conflicts(request).await }
            })
            .await
    }

    /// Watches the conflicts of an endpoint: those that it lists in the range above `after`, then each as it comes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn watch_conflicts(
        &self,
        endpoint: &str,
        range: &KeyRange,
        after: u64,
    ) -> Result<ConflictsWatch, ClientError> {
        let stream: answer::Stream<pb::WatchConflictsResponse> = self
            .at(endpoint)
            .call_cluster(Kind::LocalRead, |mut stub, this_try| {
                let request = this_try.stream(|header| pb::WatchConflictsRequest {
                    header: Some(header),
                    range: Some(range_to_wire(range)),
                    after_number: after,
                });
                async move { stub.watch_conflicts(request).await }
            })
            .await?;
        Ok(ConflictsWatch {
            endpoint: endpoint.to_owned(),
            steps: stream.0,
        })
    }
}
