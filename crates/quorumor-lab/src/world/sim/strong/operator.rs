//! The operator: compacts the history, backs up, hands leadership over, takes nodes in and out.

use quorumor_core::{ClusterAction, Revision};
use rand_chacha::ChaCha8Rng;

use super::actor::{Plan, Surroundings, Wish, node_id};
use crate::registry::{Ask, Finish, Op};
use crate::rng;
use crate::world::sim::node::address;

/// Ids that are ever given out, beyond the founders'.
const NEWCOMERS: u64 = 4;
/// Voters that always stay.
const VOTERS_MIN: usize = 3;

/// The operator.
#[derive(Debug)]
pub(super) struct Operator {
    /// Whether it moves leaders and members; without faults nothing is to be refused.
    moves: bool,
    founders: u64,
    newcomers: u64,
}

impl Operator {
    pub(super) const fn new(moves: bool) -> Self {
        Self {
            moves,
            founders: 0,
            newcomers: 0,
        }
    }

    pub(super) fn plan(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> Plan {
        if self.founders == 0 {
            self.founders = around.nodes;
        }
        let kinds = if self.moves { 100 } else { 45 };
        let change = match rng::below(rng, kinds) {
            0..25 => {
                let keep = rng::below(rng, 80);
                ClusterAction::CompactHistory {
                    through: Revision::new(around.seen.saturating_sub(keep)),
                }
            }
            25..45 => return Plan::Ask(Wish::once(Ask::Backup)),
            45..65 => {
                let to = 1 + rng::below(rng, around.nodes);
                ClusterAction::TransferLeader {
                    to: rng::chance_ppm(rng, 600_000).then(|| node_id(to)),
                }
            }
            _ => self.membership(rng, around),
        };
        Plan::Ask(Wish {
            tries: 4,
            ..Wish::once(Ask::Cluster(change))
        })
    }

    fn membership(&mut self, rng: &mut ChaCha8Rng, around: &Surroundings<'_>) -> ClusterAction {
        let voters: Vec<u64> = around
            .members
            .iter()
            .filter(|member| member.voter)
            .map(|member| member.node)
            .collect();
        let learner = around.members.iter().find(|member| !member.voter);
        let some_voter = |rng: &mut ChaCha8Rng| {
            let at = rng::below(rng, voters.len() as u64) as usize;
            voters.get(at).copied().unwrap_or(1)
        };
        if let Some(learner) = learner {
            if rng::chance_ppm(rng, 150_000) {
                return remove(learner.node);
            }
            let replacing = rng::chance_ppm(rng, 500_000).then(|| node_id(some_voter(rng)));
            return ClusterAction::Promote {
                node: node_id(learner.node),
                replacing,
            };
        }
        let may_remove = voters.len() > VOTERS_MIN;
        let may_add = self.newcomers < NEWCOMERS && around.members.len() <= 5;
        if may_remove && (!may_add || rng::chance_ppm(rng, 350_000)) {
            return remove(some_voter(rng));
        }
        if !may_add {
            return ClusterAction::TransferLeader { to: None };
        }
        self.newcomers += 1;
        let id = self.founders + self.newcomers;
        ClusterAction::AddLearner {
            node: node_id(id),
            peer_address: address(id),
            promote: rng::chance_ppm(rng, 500_000),
        }
    }

    /// An id that was certainly not taken is tried again.
    pub(super) fn learn(&mut self, op: &Op) {
        if let (Ask::Cluster(ClusterAction::AddLearner { .. }), Finish::Failed(_)) =
            (&op.ask, op.finish())
        {
            self.newcomers -= 1;
        }
    }
}

fn remove(node: u64) -> ClusterAction {
    ClusterAction::Remove {
        node: node_id(node),
        allow_quorum_loss: false,
    }
}
