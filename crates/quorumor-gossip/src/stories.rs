//! Stories about a few nodes, told through the replica's contract alone.

mod acks;
mod chaos;
mod epoch;
mod forwarding;
mod guards;
mod leases;
mod members;
mod own_log;
mod repair;
mod told;
mod writes;

use crate::harness::World;

fn everyone_reads(world: &World, name: &str, text: Option<&str>) -> bool {
    world
        .ids()
        .into_iter()
        .all(|id| world.read(id, name).as_deref() == text)
}
