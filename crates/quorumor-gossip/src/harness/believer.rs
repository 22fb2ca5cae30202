//! One node by itself, with beliefs that are put into it, and what it wants to say.

use quorumor_core::{Generation, Incarnation, MemberState, Now, Recovered};

use super::{address, node};
use crate::codec::decode;
use crate::config::{GossipConfig, cluster_id};
use crate::message::{Part, Update};
use crate::replica::GossipReplica;

pub(crate) fn about(id: u64, state: MemberState, incarnation: u64) -> Update {
    Update {
        node: node(id),
        state,
        generation: Generation::new(1),
        incarnation: Incarnation::new(incarnation),
        accuser: node(id),
        refused: false,
        address: address(id),
        client_address: None,
    }
}

pub(crate) fn alive(ids: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Update> {
    ids.into_iter().map(|id| about(id, MemberState::Alive, 0))
}

/// A node that has long been up and believes these.
pub(crate) fn believer(id: u64, beliefs: impl IntoIterator<Item = Update>) -> GossipReplica {
    let config = GossipConfig::new(node(id), cluster_id("test"), address(id));
    let now = Now {
        mono_us: 60_000_000,
        wall_ms: 1_000_000,
    };
    let mut replica = GossipReplica::open(config, Recovered::default(), now).unwrap();
    for belief in beliefs {
        replica.merge_news(&belief, belief.node);
    }
    replica.outbox.take();
    replica
}

/// What a node wants to say, in order.
pub(crate) fn said(replica: &mut GossipReplica) -> Vec<Part> {
    let letters = replica.outbox.take().into_values();
    letters
        .flat_map(|letter| letter.parts)
        .flat_map(|part| decode(&part).unwrap().parts)
        .collect()
}
