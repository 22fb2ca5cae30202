//! What the source has and doesn't show: in eventual mode the entries of leases whose owners are held to be gone. They don't move, and
//! only the leases tell how many there are.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::{LeaseId, MemberState, Mode, NodeId};

use super::HiddenLease;
use super::sides::Side;
use crate::error::ClientError;

/// Leases whose entries weren't shown. Bounded as leases are.
#[derive(Debug, Default)]
pub(super) struct Hidden(BTreeMap<LeaseId, HiddenLease>);

impl Hidden {
    /// Those of now.
    pub(super) async fn look(side: &Side) -> Result<Self, ClientError> {
        let mut hidden = Self::default();
        let (Mode::Eventual, Some(endpoint)) = (side.mode, &side.client.options.endpoint) else {
            return Ok(hidden);
        };
        let about = side.client.describe(endpoint).await?;
        let there = about.members.iter().filter(|member| match member.state {
            Some(MemberState::Alive | MemberState::Suspect) => true,
            Some(MemberState::Down | MemberState::Left) | None => false,
        });
        let mut there: BTreeSet<NodeId> = there.map(|member| member.node).collect();
        there.insert(about.receipt.node);
        let mut after = None;
        loop {
            let page = side.client.leases(after, 0).await?;
            after = page.leases.last().map(|lease| lease.id);
            for lease in page.leases.iter().filter(|lease| lease.key_count > 0) {
                if let Some(owner) = lease.owner.filter(|owner| !there.contains(owner)) {
                    hidden.add(HiddenLease {
                        lease: lease.id,
                        owner,
                        keys: lease.key_count,
                    });
                }
            }
            if !page.more || after.is_none() {
                return Ok(hidden);
            }
        }
    }

    fn add(&mut self, lease: HiddenLease) {
        let known = self.0.entry(lease.lease).or_insert(lease);
        known.keys = known.keys.max(lease.keys);
    }

    /// Those of either look.
    pub(super) fn and(mut self, other: Self) -> Self {
        for lease in other.0.into_values() {
            self.add(lease);
        }
        self
    }

    /// By lease.
    pub(super) fn leases(&self) -> Vec<HiddenLease> {
        self.0.values().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_either_look_found_counts_once_and_at_its_most() {
        let lease = |id, keys| HiddenLease {
            lease: LeaseId::new(id),
            owner: NodeId::try_from(2).unwrap(),
            keys,
        };
        let of = |leases: &[HiddenLease]| {
            let mut hidden = Hidden::default();
            leases.iter().for_each(|lease| hidden.add(*lease));
            hidden
        };
        let both = of(&[lease(1, 3), lease(2, 1)]).and(of(&[lease(1, 2), lease(3, 4)]));
        assert_eq!(both.leases(), [lease(1, 3), lease(2, 1), lease(3, 4)]);
    }
}
