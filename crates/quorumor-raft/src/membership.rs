//! Who belongs to the cluster, and whom this node hears.
//!
//! Records are replicated: where a node is reached. Contact is this node's own: when it last heard whom. A follower hears
//! only the leader, so the leader tells its followers whom it hears (a pulse), and they believe that for as long as it is
//! fresh. Consensus rests on none of this.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use quorumor_core::{
    Contact, Generation, Incarnation, Member, MemberCounts, MemberState, Mono, NodeId, StoreId,
};
use raft::eraftpb::ConfState;

use crate::codec::message::{HeardAge, Pulse};
use crate::config::Founder;

/// Where a member is reached, as all replicas know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberRecord {
    /// Its data directory, once it has said so.
    pub(crate) store: Option<StoreId>,
    pub(crate) peer_address: SocketAddr,
    pub(crate) client_address: Option<String>,
}

impl MemberRecord {
    pub(crate) const fn founding(founder: &Founder) -> Self {
        Self {
            store: None,
            peer_address: founder.peer_address,
            client_address: None,
        }
    }
}

/// Who votes, and who only listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Voters {
    /// Ascending. In a joint configuration the incoming half.
    pub(crate) voters: Vec<u64>,
    /// Ascending.
    pub(crate) learners: Vec<u64>,
    /// In a joint configuration the voters that were before, ascending; otherwise none. Raft leaves it by itself.
    pub(crate) outgoing: Vec<u64>,
}

impl Voters {
    /// The configuration that a cluster begins with.
    pub(crate) fn founding(founders: &[Founder]) -> Self {
        let mut voters: Vec<u64> = founders
            .iter()
            .map(|founder| founder.node.as_u64())
            .collect();
        voters.sort_unstable();
        Self {
            voters,
            learners: Vec::new(),
            outgoing: Vec::new(),
        }
    }

    /// As raft has it. Its own order is that of a hash.
    pub(crate) fn from_raft(state: &ConfState) -> Self {
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        Self {
            voters: sorted(&state.voters),
            learners: sorted(&state.learners),
            outgoing: sorted(&state.voters_outgoing),
        }
    }

    /// As raft takes it.
    pub(crate) fn to_raft(&self) -> ConfState {
        ConfState {
            voters: self.voters.clone(),
            learners: self.learners.clone(),
            voters_outgoing: self.outgoing.clone(),
            auto_leave: self.is_joint(),
            ..ConfState::default()
        }
    }

    /// Whether two majorities must agree to everything.
    pub(crate) const fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether this node has a vote.
    pub(crate) fn votes(&self, node: u64) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether this node belongs to the configuration at all.
    pub(crate) fn contains(&self, node: u64) -> bool {
        self.votes(node) || self.learners.contains(&node)
    }
}

/// What is known of members beside their records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    /// Learners that the leader makes voters once they have caught up.
    pub(crate) promoting: BTreeSet<NodeId>,
    /// Ids that were members once. None of them ever is again.
    pub(crate) removed: BTreeSet<NodeId>,
}

/// What the transport and the messages said about one peer.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    at: Option<Mono>,
    /// The stream broke since the peer was last heard.
    closed: bool,
    /// Nobody listened there since the peer was last heard.
    refused: bool,
}

/// Whom this node hears.
#[derive(Debug)]
pub(crate) struct Contacts {
    peers: BTreeMap<NodeId, Heard>,
    opened_at: Mono,
    timeout_us: u64,
    leader_heard_at: Option<Mono>,
    pulse: Option<(Mono, BTreeMap<NodeId, u64>)>,
}

/// What decides how a member is seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standpoint {
    pub(crate) now: Mono,
    pub(crate) node: NodeId,
    pub(crate) leader: Option<NodeId>,
}

impl Contacts {
    /// Nobody heard yet. A peer is alive if it was heard within `timeout_us`.
    pub(crate) const fn new(opened_at: Mono, timeout_us: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            opened_at,
            timeout_us,
            leader_heard_at: None,
            pulse: None,
        }
    }

    /// A message came.
    pub(crate) fn heard(&mut self, peer: NodeId, now: Mono) {
        self.peers.insert(
            peer,
            Heard {
                at: Some(now),
                closed: false,
                refused: false,
            },
        );
    }

    /// A message came from the leader.
    pub(crate) const fn heard_leader(&mut self, now: Mono) {
        self.leader_heard_at = Some(now);
    }

    /// The transport noticed something.
    pub(crate) fn noticed(&mut self, peer: NodeId, contact: Contact) {
        let heard = self.peers.entry(peer).or_default();
        match contact {
            Contact::Connected => {
                heard.closed = false;
                heard.refused = false;
            }
            Contact::Closed => heard.closed = true,
            Contact::Refused => heard.refused = true,
            Contact::Dropped => {}
        }
    }

    /// Whether the peer's process is gone: its stream broke and nobody listens there any more. Either alone may be one
    /// broken link.
    pub(crate) fn is_gone(&self, peer: NodeId) -> bool {
        self.peers
            .get(&peer)
            .is_some_and(|heard| heard.closed && heard.refused)
    }

    /// When the peer was last heard.
    pub(crate) fn heard_at(&self, peer: NodeId) -> Option<Mono> {
        self.peers.get(&peer).and_then(|heard| heard.at)
    }

    /// When the leader was last heard, whoever it was.
    pub(crate) const fn leader_heard_at(&self) -> Option<Mono> {
        self.leader_heard_at
    }

    /// Whether anything was ever noticed of this peer.
    pub(crate) fn knows(&self, peer: NodeId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// The peer is no member any more.
    pub(crate) fn forget(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
    }

    /// Since when a majority of the voters, this node with them, has been heard; `None` if never. In a joint configuration
    /// a majority of each half.
    pub(crate) fn quorum_heard_at(&self, node: NodeId, voters: &Voters, now: Mono) -> Option<Mono> {
        let incoming = self.majority_heard_at(node, &voters.voters, now)?;
        if !voters.is_joint() {
            return Some(incoming);
        }
        let outgoing = self.majority_heard_at(node, &voters.outgoing, now)?;
        Some(incoming.min(outgoing))
    }

    fn majority_heard_at(&self, node: NodeId, voters: &[u64], now: Mono) -> Option<Mono> {
        let mut heard: Vec<Option<Mono>> = voters
            .iter()
            .map(|voter| {
                let voter = NodeId::try_from(*voter).ok()?;
                if voter == node {
                    Some(now)
                } else {
                    self.heard_at(voter)
                }
            })
            .collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        heard.get(voters.len() / 2).copied().flatten()
    }

    /// What this node, as leader, tells its followers.
    pub(crate) fn pulse(&self, term: u64, now: Mono) -> Pulse {
        Pulse {
            term,
            heard: self
                .peers
                .iter()
                .filter_map(|(node, heard)| {
                    Some(HeardAge {
                        node: node.as_u64(),
                        age_ms: now.since_us(heard.at?) / 1_000,
                    })
                })
                .collect(),
        }
    }

    /// What the leader told.
    pub(crate) fn take_pulse(&mut self, pulse: &Pulse, now: Mono) {
        let ages = pulse
            .heard
            .iter()
            .filter_map(|heard| Some((NodeId::try_from(heard.node).ok()?, heard.age_ms)))
            .take(crate::conf_change::MEMBERS_MAX)
            .collect();
        self.pulse = Some((now, ages));
    }

    /// The members as this node sees them.
    pub(crate) fn members(
        &self,
        at: Standpoint,
        records: &BTreeMap<NodeId, MemberRecord>,
        voters: &Voters,
        roster: &Roster,
    ) -> Vec<Member> {
        records
            .iter()
            .map(|(node, record)| Member {
                node: *node,
                state: self.state(*node, at),
                peer_address: Some(record.peer_address),
                client_address: record.client_address.clone(),
                store: record.store,
                promote: roster.promoting.contains(node),
                voter: voters.votes(node.as_u64()),
                generation: Generation::ZERO,
                incarnation: Incarnation::ZERO,
                heard_at: self.heard_at(*node),
            })
            .collect()
    }

    fn state(&self, member: NodeId, at: Standpoint) -> MemberState {
        if member == at.node {
            return MemberState::Alive;
        }
        let own = at
            .now
            .since_us(self.heard_at(member).unwrap_or(self.opened_at));
        let age_us = match self.told(member, at) {
            Some(told) => told.min(own),
            None => own,
        };
        let process_gone = self.is_gone(member);
        if age_us <= self.timeout_us && !process_gone {
            MemberState::Alive
        } else if age_us <= self.timeout_us.saturating_mul(3) {
            MemberState::Suspect
        } else {
            MemberState::Down
        }
    }

    /// How long ago the leader heard this member, while the leader's word is fresh.
    fn told(&self, member: NodeId, at: Standpoint) -> Option<u64> {
        let leader = at.leader?;
        if leader == at.node || leader == member {
            return None;
        }
        let (told_at, ages) = self.pulse.as_ref()?;
        let since = at.now.since_us(*told_at);
        (since <= self.timeout_us.saturating_mul(2))
            .then(|| {
                ages.get(&member)
                    .map(|age_ms| age_ms.saturating_mul(1_000).saturating_add(since))
            })
            .flatten()
    }
}

/// How many of each.
pub(crate) fn count(members: &[Member]) -> MemberCounts {
    let mut counts = MemberCounts::default();
    for member in members {
        match member.state {
            MemberState::Alive => counts.alive += 1,
            MemberState::Suspect => counts.suspect += 1,
            MemberState::Down => counts.down += 1,
            MemberState::Left => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    #[test]
    fn a_process_is_gone_only_when_its_stream_broke_and_nobody_listens() {
        let mut contacts = Contacts::new(Mono(0), 1_000);
        contacts.heard(node(2), Mono(5));
        contacts.noticed(node(2), Contact::Closed);
        assert!(!contacts.is_gone(node(2)));
        contacts.noticed(node(2), Contact::Refused);
        assert!(contacts.is_gone(node(2)));
        contacts.heard(node(2), Mono(6));
        contacts.noticed(node(2), Contact::Refused);
        assert!(!contacts.is_gone(node(2)));
    }

    #[test]
    fn the_quorum_was_heard_when_its_last_member_was() {
        let mut contacts = Contacts::new(Mono(0), 1_000);
        let voters = |voters: &[u64], outgoing: &[u64]| Voters {
            voters: voters.to_vec(),
            learners: Vec::new(),
            outgoing: outgoing.to_vec(),
        };
        let three = voters(&[1, 2, 3], &[]);
        let at = |contacts: &Contacts| contacts.quorum_heard_at(node(1), &three, Mono(100));
        assert_eq!(at(&contacts), None);
        contacts.heard(node(3), Mono(40));
        assert_eq!(at(&contacts), Some(Mono(40)));
        contacts.heard(node(2), Mono(60));
        assert_eq!(at(&contacts), Some(Mono(60)));
        assert_eq!(
            contacts.quorum_heard_at(node(1), &voters(&[1], &[]), Mono(7)),
            Some(Mono(7))
        );
        // In a joint configuration each half must have been heard.
        let joint = voters(&[1, 2, 3], &[1, 4]);
        assert_eq!(contacts.quorum_heard_at(node(1), &joint, Mono(100)), None);
        contacts.heard(node(4), Mono(50));
        let joint_at = contacts.quorum_heard_at(node(1), &joint, Mono(100));
        assert_eq!(joint_at, Some(Mono(50)));
    }

    #[test]
    fn a_follower_believes_a_fresh_pulse_about_nodes_it_never_hears() {
        let mut contacts = Contacts::new(Mono(0), 1_000_000);
        let seen = |contacts: &Contacts, now| {
            let at = Standpoint {
                now: Mono(now),
                node: node(1),
                leader: Some(node(2)),
            };
            contacts.state(node(3), at)
        };
        assert_eq!(seen(&contacts, 9_000_000), MemberState::Down);
        let heard = vec![HeardAge {
            node: 3,
            age_ms: 10,
        }];
        contacts.take_pulse(&Pulse { term: 1, heard }, Mono(9_000_000));
        assert_eq!(seen(&contacts, 9_000_000), MemberState::Alive);
        assert_eq!(seen(&contacts, 12_000_000), MemberState::Down);
    }
}
