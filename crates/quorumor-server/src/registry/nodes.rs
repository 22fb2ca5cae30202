//! Since when a node's members stand as they do. Beliefs change in the replica, which keeps no wall time; so it is written down
//! here when the change is seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quorumor_core::{Generation, Member, MemberState, NodeId};

/// A belief that differs by any of these is another one.
type Belief = (MemberState, Generation);

/// Since when, for one mode of a node. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Since {
    known: Arc<Mutex<BTreeMap<NodeId, (Belief, u64)>>>,
}

impl Since {
    /// Notes what is believed now.
    pub(crate) fn note(&self, members: &[Member], wall_ms: u64) {
        let mut known = self.known.lock();
        let seen: BTreeMap<NodeId, (Belief, u64)> = members
            .iter()
            .map(|member| {
                let belief = (member.state, member.generation);
                let since = match known.get(&member.node) {
                    Some((before, since)) if *before == belief => *since,
                    _ => wall_ms,
                };
                (member.node, (belief, since))
            })
            .collect();
        *known = seen;
    }

    /// Since when a node stands as was noted last, by the wall clock in milliseconds.
    pub(crate) fn of(&self, node: NodeId) -> Option<u64> {
        self.known.lock().get(&node).map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use quorumor_core::Incarnation;

    use super::*;

    fn member(node: u64, state: MemberState, generation: u64) -> Member {
        Member {
            node: NodeId::try_from(node).unwrap(),
            state,
            peer_address: None,
            client_address: None,
            voter: false,
            promote: false,
            store: None,
            generation: Generation::new(generation),
            incarnation: Incarnation::new(0),
            heard_at: None,
        }
    }

    #[test]
    fn a_belief_has_its_time_until_it_changes() {
        let since = Since::default();
        let node = NodeId::try_from(1_u64).unwrap();
        assert_eq!(since.of(node), None);
        let alive = member(1, MemberState::Alive, 1);
        since.note(std::slice::from_ref(&alive), 10);
        since.note(&[alive], 20);
        assert_eq!(since.of(node), Some(10));
        since.note(&[member(1, MemberState::Down, 1)], 30);
        assert_eq!(since.of(node), Some(30));
        since.note(&[member(1, MemberState::Down, 2)], 40);
        assert_eq!(since.of(node), Some(40));
        since.note(&[], 50);
        assert_eq!(since.of(node), None);
    }
}
