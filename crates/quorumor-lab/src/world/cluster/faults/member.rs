//! A member that is replaced by a new one, as an operator does it, while everything else goes on.

use std::time::Duration;

use anyhow::Result;
use quorumor_client::{CallOptions, Client, ClientError};
use quorumor_core as core;
use tokio::time::{Instant, sleep};

use super::{Nemesis, Step, Trace};
use crate::history::{FaultStep, Mode, NodeId};
use crate::world::cluster::core_mode;
use crate::world::cluster::processes::Up;

/// How long the whole may take: other faults may hold at the same time.
const REPLACED_WITHIN: Duration = Duration::from_secs(20);
/// How long one call of the operator may take.
const CALL: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a node that was asked to leave may take.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

impl Nemesis {
    /// Replaces the first of the nodes. Hits are the nodes that took a place.
    pub(super) async fn replace(&self, step: &Step) -> Result<()> {
        self.record(step, FaultStep::Requested, Trace::default())?;
        let mut hits = 0;
        if let Some(&old) = step.nodes.first() {
            if self.cluster.mode == Mode::Eventual {
                let left = self.cluster.leave(old, LEAVES_WITHIN).await?;
                let how = if left { "left" } else { "had to be killed" };
                self.note(old, format!("{old} {how}"))?;
                self.cluster.exclude(old, "it was replaced");
            }
            hits = u64::from(self.put_in_place_of(old).await?);
        }
        self.record(step, FaultStep::Effective, Trace::hits(hits))?;
        self.until(step.end_us).await;
        self.record(step, FaultStep::HealRequested, Trace::hits(hits))?;
        self.record(step, FaultStep::Healed, Trace::hits(hits))
    }

    /// Starts a node under a fresh id and gives it the place of this one; says whether it came to that. Strong: it joins as a
    /// learner and, once it has caught up, becomes a voter in the same step in which the old one is removed.
    pub(super) async fn put_in_place_of(&self, old: NodeId) -> Result<bool> {
        let Some(new) = self.cluster.spare() else {
            self.note(old, format!("no id is left to replace {old} by"))?;
            return Ok(false);
        };
        if let Up::Refused(how) = self.cluster.launch_spare(new).await? {
            self.note(new, format!("{new} can't take the place of {old}: {how}"))?;
            return Ok(false);
        }
        if self.cluster.mode == Mode::Strong {
            let promoted = self.promote(new, old).await;
            if let Err(error) = promoted {
                let text = format!("{new} can't take the place of {old}: {}", error.reason());
                self.note(new, text)?;
                self.cluster.retire(new, "it never became a voter").await?;
                return Ok(false);
            }
            self.cluster.retire(old, "it was replaced").await?;
        }
        self.cluster.doors.replace(old, new);
        self.note(new, format!("{new} took the place of {old}"))?;
        Ok(true)
    }

    /// Asks until it is done, or time is up: a learner that hasn't caught up is refused, and so is all while nobody leads.
    async fn promote(&self, new: NodeId, old: NodeId) -> Result<(), ClientError> {
        let (new, old) = (core_id(new), core_id(old));
        let deadline = Instant::now() + REPLACED_WITHIN;
        loop {
            let operator = self.operator()?;
            let asked = operator.promote_member(new, Some(old)).await;
            let Err(error) = asked else {
                return Ok(());
            };
            // One that got lost may have been carried out.
            let members = operator.members().await.map(|told| told.members);
            let done = |member: &quorumor_client::ClusterMember| member.node == new && member.voter;
            if members.is_ok_and(|members| members.iter().any(done)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    fn operator(&self) -> Result<Client, ClientError> {
        let options = CallOptions {
            mode: Some(core_mode(self.cluster.mode)),
            timeout: CALL,
            ..CallOptions::default()
        };
        Client::builder()
            .endpoints(self.cluster.open_doors())
            .options(options)
            .connect()
    }
}

fn core_id(node: NodeId) -> core::NodeId {
    core::NodeId::try_from(node.0).expect("the lab numbers its nodes from 1")
}
