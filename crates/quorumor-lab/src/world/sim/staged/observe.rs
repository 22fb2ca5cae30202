//! What the lab sees of the nodes: who leads, who believes what of whom, when all hold the same, and what each holds at the end.

use std::collections::BTreeSet;

use quorumor_core::{Command, Health, Member, Role, View};

use super::super::clients;
use super::super::run::{Event, Run};
use super::calls::{LAST_CALLS_US, Who};
use super::{Happening, LOOK_US, QUIET_US, translate};
use crate::history::{DigestPoll, Event as Seen, EventKind, FinalState, MemberState, Mode, NodeId};

/// Every this many looks nodes are asked for their members.
const MEMBERS_EVERY: u64 = 4;
/// The prefixes of all keys that the lab writes.
const PREFIXES: [&str; 6] = ["lab/", "set/", "counter/", "lock/", "lease/", "svc/"];

impl Run {
    /// Looks at the nodes, now and every so often until the load is over.
    pub(super) fn look(&mut self) {
        let now_us = self.now_us;
        for id in 1..=self.nodes.len() as u64 {
            self.look_at(id);
        }
        self.poll_digests();
        if now_us < self.stage().end_us() {
            self.at(now_us + LOOK_US, Event::Staged(Happening::Look));
        }
    }

    fn look_at(&mut self, id: u64) {
        let now_us = self.now_us;
        let node = &self.nodes[id as usize - 1];
        let Some(running) = node
            .running
            .as_ref()
            .filter(|_| node.paused_until_us <= now_us)
        else {
            return;
        };
        let status = running.view().status;
        if let Health::Damaged { why } = &status.health {
            return self.stops(id, why);
        }
        match &status.role {
            Role::Strong {
                term,
                leader: Some(leader),
                ..
            } => self.saw_leader(NodeId(id), term.as_u64(), leader.node.as_u64()),
            Role::Strong { leader: None, .. } => {}
            Role::Eventual { .. } => {
                if now_us / LOOK_US % MEMBERS_EVERY == id % MEMBERS_EVERY {
                    self.ask(Who::Observer, id, Command::Members);
                }
            }
        }
    }

    /// A node says that it lost acknowledged data and must not go on.
    fn stops(&mut self, id: u64, why: &str) {
        if !self.stage().out.contains(&id) && !self.explains(id, why) {
            let (now_us, text) = (self.now_us, format!("it takes itself for damaged: {why}"));
            self.stage().note(now_us, NodeId(id), text);
        }
    }

    fn saw_leader(&mut self, node: NodeId, term: u64, leader: u64) {
        let at_us = self.now_us;
        let stage = self.stage();
        if stage.leaders.insert(node, (term, leader)) == Some((term, leader)) {
            return;
        }
        let leader = NodeId(leader);
        let kind = EventKind::Leader { leader, term };
        let written = stage.history.event(Seen { at_us, node, kind });
        stage.keep(written);
    }

    /// A node's word about its members.
    pub(super) fn saw_members(&mut self, node: NodeId, members: &[Member]) {
        let at_us = self.now_us;
        let stage = self.stage();
        for member in members {
            let subject = NodeId(member.node.as_u64());
            let state = match member.state {
                quorumor_core::MemberState::Alive => MemberState::Alive,
                quorumor_core::MemberState::Suspect => MemberState::Suspect,
                quorumor_core::MemberState::Down => MemberState::Down,
                quorumor_core::MemberState::Left => MemberState::Left,
            };
            let before = stage.members.insert((node, subject), state);
            if subject == node || before.unwrap_or(MemberState::Alive) == state {
                continue;
            }
            let kind = EventKind::Member { subject, state };
            let written = stage.history.event(Seen { at_us, node, kind });
            stage.keep(written);
        }
    }

    /// After the last heal: digests over the keys whose operations were over before it.
    fn poll_digests(&mut self) {
        let at_us = self.now_us;
        let stage = self.stage();
        let last = stage.scenario.faults.iter().map(|fault| fault.end_us).max();
        let Some(healed_us) = last.map(|end| stage.start_us + end) else {
            return;
        };
        if at_us < healed_us {
            return;
        }
        if stage.retired.is_empty() {
            let keys = stage.plan.keys_retired_before(healed_us - stage.start_us);
            stage.retired = keys.into_iter().collect();
        }
        let keys = stage.retired.clone();
        for id in self.standing() {
            let Some(view) = self.view_of(id) else {
                continue;
            };
            let digest = digest(&view, |key| keys.contains(key));
            let node = NodeId(id);
            let stage = self.stage();
            let written = stage.history.digest(DigestPoll {
                at_us,
                node,
                digest,
            });
            stage.keep(written);
        }
    }

    /// The nodes that are expected to serve in the end: founders that weren't put out, and newcomers that became members.
    pub(super) fn standing(&mut self) -> Vec<u64> {
        let stage = self.stage();
        let (out, joined) = (stage.out.clone(), stage.joined.clone());
        let founders = self.options.nodes;
        let nodes = self.nodes.iter().map(|node| node.id);
        nodes
            .filter(|id| !out.contains(id) && (*id <= founders || joined.contains(id)))
            .collect()
    }

    pub(super) fn view_of(&self, id: u64) -> Option<View> {
        let node = self.nodes.get(id as usize - 1)?;
        node.running.as_ref().map(super::super::node::Running::view)
    }

    /// A node is out of the cluster for good, and rightly: nobody expects it at the end.
    pub(super) fn put_out(&mut self, id: u64, why: &str) {
        let at_us = self.now_us;
        self.node(id).retired = true;
        let stage = self.stage();
        let node = NodeId(id);
        stage.out.insert(id);
        let kind = EventKind::Out(why.to_owned());
        let written = stage.history.event(Seen { at_us, node, kind });
        stage.keep(written);
        stage.notes.push(format!("{node}: {why}"));
    }

    /// Runs on until every call has ended and all nodes hold the same, or for as long as that may take.
    pub(super) fn come_to_rest(&mut self) {
        let quiet_us = self.now_us;
        while self.stage().waits() && self.now_us < quiet_us + LAST_CALLS_US {
            self.until(self.now_us + LOOK_US);
        }
        while self.now_us < quiet_us + QUIET_US {
            self.look();
            if self.holds_the_same() {
                break;
            }
            self.until(self.now_us + LOOK_US);
        }
        self.end_watches();
    }

    fn holds_the_same(&mut self) -> bool {
        let standing = self.standing();
        let views: Vec<View> = standing.iter().filter_map(|id| self.view_of(*id)).collect();
        let serve = |view: &View| view.status.health == Health::Serving;
        let digests: BTreeSet<u64> = views.iter().map(View::digest).collect();
        views.len() == standing.len() && digests.len() == 1 && views.iter().all(serve)
    }

    /// Puts on record what each node holds.
    pub(super) fn read_finals(&mut self) {
        let (at_us, mode) = (self.now_us, self.options.mode);
        for id in self.standing() {
            let Some(view) = self.view_of(id) else {
                continue;
            };
            let (ledger, discarded) = match mode {
                Mode::Strong => (None, None),
                Mode::Eventual => {
                    let listed = view.conflicts.listed.iter();
                    let dots = listed
                        .map(|conflict| clients::dot(conflict.loser))
                        .collect();
                    (Some(dots), Some(view.conflicts.count))
                }
            };
            let entries = PREFIXES
                .iter()
                .flat_map(|prefix| translate::entries(&view, prefix))
                .collect();
            let state = FinalState {
                at_us,
                node: NodeId(id),
                digest: format!("{:016x}", view.digest()),
                entries,
                ledger,
                discarded,
            };
            let stage = self.stage();
            let written = stage.history.final_state(state);
            stage.keep(written);
        }
    }
}

/// A digest over the entries of some keys.
fn digest(view: &View, wanted: impl Fn(&str) -> bool) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in view
        .entries
        .values()
        .filter(|entry| wanted(entry.key.as_str()))
    {
        hasher.update(entry.key.as_str().as_bytes());
        hasher.update(&[0]);
        hasher.update(entry.value.as_bytes());
        hasher.update(&[0]);
    }
    let hash = hasher.finalize().to_hex();
    hash.as_str()[..16].to_owned()
}
