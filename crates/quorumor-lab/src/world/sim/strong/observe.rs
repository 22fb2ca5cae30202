//! What the lab sees of the nodes from outside: each revision as it is applied, who leads, who is a member.

use std::sync::Arc;

use quorumor_core::{Change, Position, Role};

use super::actor::MS;
use super::{Happening, actor::Kind};
use crate::history::Mode;
use crate::registry::Shown;
use crate::registry::record::Final;
use crate::rng;
use crate::world::sim::node::Membership;
use crate::world::sim::run::{Event, Run};

impl Run {
    /// A node applied a revision, or took in a whole state.
    pub(in crate::world::sim) fn changed(&mut self, node: u64, change: &Change) {
        let Position::Strong(revision) = change.position else {
            return;
        };
        let revision = revision.as_u64();
        let is_reset = change
            .events
            .iter()
            .any(|event| matches!(event, quorumor_core::ChangeEvent::Reset));
        self.counts.installs += u64::from(is_reset);
        if !is_reset {
            self.note_revision(node, revision, &change.events);
        }
        self.tell_watchers(node, revision, &change.events, is_reset);
    }

    fn note_revision(
        &mut self,
        node: u64,
        revision: u64,
        events: &Arc<[quorumor_core::ChangeEvent]>,
    ) {
        let record = &mut self.strong.record;
        match record.revisions.get(&revision) {
            None => {
                let shown = Shown {
                    at_us: self.now_us,
                    node,
                    events: Arc::clone(events),
                };
                record.revisions.insert(revision, shown);
            }
            Some(first) if first.events != *events => {
                let text = format!(
                    "revision {revision}: node {} showed {:?}, node {node} {events:?}",
                    first.node, first.events
                );
                record.disagreements.push(text);
            }
            Some(_) => {}
        }
    }

    /// Notes who leads, by its own word.
    pub(in crate::world::sim) fn note_leader(&mut self, id: u64) {
        if self.options.mode == Mode::Eventual {
            return;
        }
        let Some(running) = &self.nodes[id as usize - 1].running else {
            return;
        };
        let view = running.view();
        if let Role::Strong {
            term,
            leader: Some(leader),
            ..
        } = &view.status.role
            && leader.node.as_u64() == id
        {
            let leaders = &mut self.strong.record.leaders;
            leaders.entry(term.as_u64()).or_default().insert(id);
        }
    }

    /// The members by the word of the node that has applied most.
    pub(in crate::world::sim) fn membership(&self) -> Vec<Membership> {
        let views = self
            .nodes
            .iter()
            .filter_map(|node| Some(node.running.as_ref()?.view()));
        let applied = |view: &quorumor_core::View| match &view.status.role {
            Role::Strong { applied, .. } => applied.as_u64(),
            Role::Eventual { .. } => 0,
        };
        let Some(view) = views.max_by_key(applied) else {
            return Vec::new();
        };
        let member = |member: &quorumor_core::Member| Membership {
            node: member.node.as_u64(),
            voter: member.voter,
        };
        view.status.members.iter().map(member).collect()
    }

    /// Keeps the list of leases that others may bind keys to.
    pub(super) fn list_leases(&mut self, actor: usize) {
        let strong = &mut self.strong;
        let Kind::Holder(holder) = &mut strong.actors[actor].kind else {
            return;
        };
        if let Some(gone) = holder.let_go.take() {
            strong.leases.retain(|lease| *lease != gone);
        }
        if let Some(held) = holder.holds()
            && !strong.leases.contains(&held)
        {
            strong.leases.push(held);
        }
    }

    /// The planted defect: somebody ends a lease that is kept alive.
    pub(in crate::world::sim) fn plant_lease_end(&mut self) {
        let Some(lease) = self.strong.leases.first().copied() else {
            return;
        };
        let node = 1 + rng::below(&mut self.fault_rng, self.options.nodes);
        if self.node(node).running.is_none() {
            return;
        }
        let request = quorumor_core::Request {
            command: quorumor_core::Command::Lease(quorumor_core::LeaseAction::Revoke {
                id: lease,
                client: None,
            }),
            after: None,
            request_id: quorumor_core::RequestId::default(),
        };
        self.strong.calls_made += 1;
        let call = quorumor_core::CallId::new(super::CALLS_FROM + self.strong.calls_made);
        self.give(node, quorumor_core::Input::Request { call, request });
    }

    /// Leaves the load's last leases the time to end, then lets each watcher see the end.
    pub(in crate::world::sim) fn rest(&mut self) {
        let ttl_us = self.strong.ttl_ms_max * MS;
        self.until(self.now_us + ttl_us + LEASE_SLACK_US);
        self.strong.record.leases_over_us = Some(self.now_us);
    }

    /// Puts what each member holds at the end on record.
    pub(in crate::world::sim) fn note_ends(&mut self) {
        for watcher in 0..self.strong.watchers.len() {
            self.at(self.now_us, Event::Strong(Happening::Watch { watcher }));
        }
        self.until(self.now_us);
        let end = |node: &crate::world::sim::node::Node| {
            let view = node.running.as_ref()?.view();
            Some(Final {
                node: node.id,
                revision: view.revision()?.as_u64(),
                entries: view
                    .entries
                    .values()
                    .map(|entry| (**entry).clone())
                    .collect(),
                leases: view.leases.keys().copied().collect(),
            })
        };
        let finals = self
            .nodes
            .iter()
            .filter(|node| !node.retired)
            .filter_map(end);
        self.strong.record.finals = finals.collect();
    }
}

/// How long after its TTL a lease may still be there while a leader is stable.
const LEASE_SLACK_US: u64 = 2_500 * MS;
