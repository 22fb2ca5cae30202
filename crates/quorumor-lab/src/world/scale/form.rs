//! A cluster that is formed already: how a run begins that isn't about joining.

use anyhow::Result;
use quorumor_gossip::Seeded;

use super::node::{address, first_generation, node_id};
use super::world::World;

/// Starts all nodes at time zero, each with all others in its table. Joining one by one would take 10^8 messages at ten
/// thousand nodes.
pub(super) fn form(world: &mut World) -> Result<()> {
    for node in 0..world.options.nodes {
        world.start(node)?;
        let others = (0..world.options.nodes).map(|other| Seeded {
            node: node_id(other),
            generation: first_generation(world.now_us),
            address: address(other),
        });
        if let Some(replica) = &mut world.nodes[node as usize].replica {
            replica.seed_members(others);
        }
        world.drain(node);
    }
    Ok(())
}
