//! What a replica noticed by itself while it handled an input: beliefs that changed, members that it came to know.

use quorumor_gossip::Notice;

use super::node::place;
use super::world::World;

/// Looks at what a node noticed.
pub(super) fn look(world: &mut World, node: u32) {
    let now_us = world.now_us;
    let Some(replica) = &mut world.nodes[node as usize].replica else {
        return;
    };
    for notice in replica.take_notices() {
        match notice {
            Notice::Suspected { node: suspect } => {
                world.detection.suspected(place(suspect), now_us)
            }
            Notice::Down { node: down } => world.detection.downed(place(down), node, now_us),
            Notice::Joined { .. }
            | Notice::Revived { .. }
            | Notice::Left { .. }
            | Notice::Reaped { .. } => {}
        }
    }
    if world.acquaintance.wants(node) {
        world
            .acquaintance
            .knows(node, replica.members_known(), now_us);
    }
}
