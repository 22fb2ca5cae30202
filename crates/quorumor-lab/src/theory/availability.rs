//! Quorum arithmetic: which share of the clients a cluster can serve while nodes are down or cut off.
//!
//! Strong mode serves where a majority of all voters can talk to each other (Lamport, "The Part-Time Parliament", 1998; Ongaro and
//! Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, section 5.1); eventual mode wherever a node runs. Settled
//! states only: an election or a timeout that is still under way is [`super::election`]'s.

use crate::history::Mode;

/// Where a node is while a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It runs, on this side of a partition: nodes of one side reach each other, those of two sides don't.
    Side(u32),
    /// It doesn't run.
    Down,
}

/// How many of so many voters are a majority.
#[must_use]
pub const fn majority(voters: u32) -> u32 {
    voters / 2 + 1
}

/// All of so many nodes on one side but these, which are cut off together on another. Nodes count from 0.
#[must_use]
pub fn cut(nodes: u32, off: &[u32]) -> Vec<Place> {
    let side = |node| u32::from(off.contains(&node));
    (0..nodes).map(|node| Place::Side(side(node))).collect()
}

/// All of so many nodes together, but these, which don't run. Nodes count from 0.
#[must_use]
pub fn down(nodes: u32, dead: &[u32]) -> Vec<Place> {
    let place = |node| {
        if dead.contains(&node) {
            Place::Down
        } else {
            Place::Side(0)
        }
    };
    (0..nodes).map(place).collect()
}

/// Whether a node can serve: writes and linearizable reads in strong mode, anything in eventual mode.
#[must_use]
pub fn serves(mode: Mode, places: &[Place], node: usize) -> bool {
    let Place::Side(_) = places[node] else {
        return false;
    };
    match mode {
        Mode::Eventual => true,
        Mode::Strong => {
            let together = places.iter().filter(|place| **place == places[node]);
            together.count() >= majority(places.len() as u32) as usize
        }
    }
}

/// The share of the clients that are served, from 0 to 1, if each stays at its node. `clients` says how many are at each.
///
/// ```
/// use quorumor_lab::history::Mode;
/// use quorumor_lab::theory::availability::{cut, served_share};
///
/// let two_of_five_are_cut_off = cut(5, &[3, 4]);
/// assert_eq!(served_share(Mode::Strong, &two_of_five_are_cut_off, &[1; 5]), 0.6);
/// assert_eq!(served_share(Mode::Eventual, &two_of_five_are_cut_off, &[1; 5]), 1.0);
/// ```
///
/// # Panics
/// If there aren't as many counts as nodes, or no clients at all.
#[must_use]
pub fn served_share(mode: Mode, places: &[Place], clients: &[u32]) -> f64 {
    assert_eq!(places.len(), clients.len(), "each node has its clients");
    let all: u32 = clients.iter().sum();
    assert!(all > 0, "a share of nobody is none");
    let served = (0..places.len()).filter(|node| serves(mode, places, *node));
    let served: u32 = served.map(|node| clients[node]).sum();
    f64::from(served) / f64::from(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majorities_are_as_everyone_knows_them() {
        assert_eq!([1, 2, 3, 4, 5, 7].map(majority), [1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn a_cluster_serves_through_the_loss_of_a_minority_and_no_more() {
        for nodes in 1..=7 {
            for dead in 0..=nodes {
                let ids: Vec<u32> = (0..dead).collect();
                let places = down(nodes, &ids);
                let clients = vec![1; nodes as usize];
                let alive = f64::from(nodes - dead) / f64::from(nodes);
                let survives = dead < majority(nodes) && nodes - dead >= majority(nodes);
                let strong = served_share(Mode::Strong, &places, &clients);
                assert_eq!(strong, if survives { alive } else { 0.0 });
                assert_eq!(served_share(Mode::Eventual, &places, &clients), alive);
            }
        }
    }

    /// Every way of giving each of five nodes one of three sides: at most one side serves, and all of it or none.
    #[test]
    fn no_partition_lets_two_sides_serve() {
        for way in 0..3_u32.pow(5) {
            let side = |node: u32| way / 3_u32.pow(node) % 3;
            let places: Vec<Place> = (0..5).map(|node| Place::Side(side(node))).collect();
            let serving: Vec<u32> = (0..5)
                .filter(|node| serves(Mode::Strong, &places, *node as usize))
                .map(side)
                .collect();
            assert!(serving.iter().all(|of| *of == serving[0]), "{places:?}");
            let largest = (0..3).map(|of| (0..5).filter(|node| side(*node) == of).count());
            let largest = largest.max().unwrap();
            assert_eq!(serving.len(), if largest >= 3 { largest } else { 0 });
        }
    }

    #[test]
    fn clients_count_where_they_are() {
        let places = cut(3, &[0]);
        assert_eq!(served_share(Mode::Strong, &places, &[8, 1, 1]), 0.2);
        assert_eq!(served_share(Mode::Strong, &places, &[0, 1, 1]), 1.0);
    }
}
