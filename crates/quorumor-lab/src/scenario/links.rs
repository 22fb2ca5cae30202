//! Which directed links a fault holds: the same in every world.

use super::FaultKind;
use crate::history::NodeId;

/// A directed link: from, to.
pub type Link = (NodeId, NodeId);

/// The links, each from one node to another, that a fault on `nodes` holds in a cluster of `all`; none for a fault that holds no
/// link, and none for a ring of fewer than four, where a majority's neighbours are everybody. Of a [`FaultKind::Flap`] these are
/// the links that come and go.
pub fn held_links(kind: &FaultKind, nodes: &[NodeId], all: &[NodeId]) -> Vec<Link> {
    let pairs = between(all);
    let inside = |id: NodeId| nodes.contains(&id);
    match kind {
        FaultKind::Partition { .. } | FaultKind::Flap { .. } => pairs
            .filter(|&(from, to)| inside(from) != inside(to))
            .collect(),
        FaultKind::CutOut { .. } => pairs
            .filter(|&(from, to)| inside(from) && !inside(to))
            .collect(),
        FaultKind::CutIn { .. } => pairs
            .filter(|&(from, to)| !inside(from) && inside(to))
            .collect(),
        FaultKind::Bridge { .. } => {
            let over = nodes.first().copied();
            let others: Vec<NodeId> = all.iter().copied().filter(|id| Some(*id) != over).collect();
            let (left, _) = others.split_at(others.len() / 2);
            pairs
                .filter(|(from, to)| others.contains(from) && others.contains(to))
                .filter(|(from, to)| left.contains(from) != left.contains(to))
                .collect()
        }
        FaultKind::Ring => pairs
            .filter(|&(from, to)| !is_near(from, to, all))
            .collect(),
        FaultKind::Kill { .. }
        | FaultKind::PowerCut { .. }
        | FaultKind::RollingRestart { .. }
        | FaultKind::Wipe { .. }
        | FaultKind::TearLog { .. }
        | FaultKind::FlipBit { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Starve { .. }
        | FaultKind::Weather { .. }
        | FaultKind::SlowDisk { .. }
        | FaultKind::FullDisk { .. }
        | FaultKind::DiskError { .. }
        | FaultKind::ClockJump { .. }
        | FaultKind::ClockDrift { .. }
        | FaultKind::CutClients { .. }
        | FaultKind::Replace { .. } => Vec::new(),
    }
}

/// The links that begin or end at one of these nodes, in a cluster of `all`: those that a [`FaultKind::Weather`] is on.
pub fn touching_links(nodes: &[NodeId], all: &[NodeId]) -> Vec<Link> {
    let touches = |(from, to): &Link| nodes.contains(from) || nodes.contains(to);
    between(all).filter(touches).collect()
}

/// Every link of a cluster.
fn between(all: &[NodeId]) -> impl Iterator<Item = Link> {
    let to = move |&from| all.iter().map(move |&to| (from, to));
    all.iter().flat_map(to).filter(|(from, to)| from != to)
}

/// Whether two nodes reach each other in a ring in which each sees a majority, itself among them.
fn is_near(a: NodeId, b: NodeId, all: &[NodeId]) -> bool {
    let place = |id: NodeId| all.iter().position(|other| *other == id).unwrap_or(0);
    let apart = place(a).abs_diff(place(b));
    let apart = apart.min(all.len() - apart);
    // A majority less oneself, half on each side.
    apart <= (all.len() / 2).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::Target;

    fn nodes(ids: impl IntoIterator<Item = u64>) -> Vec<NodeId> {
        ids.into_iter().map(NodeId).collect()
    }

    fn ids(links: Vec<Link>) -> BTreeSet<(u64, u64)> {
        links.into_iter().map(|(from, to)| (from.0, to.0)).collect()
    }

    /// What a fault on these nodes holds in a cluster of so many.
    fn held(kind: &FaultKind, hit: &[u64], count: u64) -> BTreeSet<(u64, u64)> {
        let links = held_links(kind, &nodes(hit.iter().copied()), &nodes(1..=count));
        ids(links)
    }

    #[test]
    fn cuts_hold_one_way_or_both() {
        let side = || Target::Minority;
        let both = FaultKind::Partition { side: side() };
        let (out, into) = (
            FaultKind::CutOut { side: side() },
            FaultKind::CutIn { side: side() },
        );
        assert_eq!(
            held(&both, &[1, 2], 3),
            [(1, 3), (2, 3), (3, 1), (3, 2)].into()
        );
        assert_eq!(held(&out, &[3], 3), [(3, 1), (3, 2)].into());
        assert_eq!(held(&into, &[3], 3), [(1, 3), (2, 3)].into());
        assert_eq!(held(&both, &[1, 2], 5).len(), 12);
        assert!(held(&FaultKind::Kill { on: side() }, &[1, 2], 5).is_empty());
    }

    #[test]
    fn halves_meet_in_the_bridge_alone() {
        let over = Target::Nodes(vec![NodeId(3)]);
        let cut = held(&FaultKind::Bridge { over }, &[3], 5);
        let halves = [(1, 4), (1, 5), (2, 4), (2, 5)];
        let both: BTreeSet<_> = halves.iter().flat_map(|&(i, j)| [(i, j), (j, i)]).collect();
        assert_eq!(cut, both);
    }

    #[test]
    fn in_the_ring_each_sees_a_majority_and_no_two_the_same() {
        assert!(held(&FaultKind::Ring, &[], 3).is_empty());
        for count in 4..=9 {
            let cut = held(&FaultKind::Ring, &[], count);
            let mut seen = BTreeSet::new();
            for id in 1..=count {
                let open =
                    |other: &u64| !cut.contains(&(id, *other)) && !cut.contains(&(*other, id));
                let sees: Vec<u64> = (1..=count).filter(open).collect();
                let size = sees.len() as u64;
                assert!(
                    size * 2 > count && size < count,
                    "{count}: {id} sees {sees:?}"
                );
                assert!(sees.contains(&id));
                seen.insert(sees);
            }
            assert_eq!(seen.len() as u64, count, "{count}");
        }
    }

    #[test]
    fn weather_is_on_all_links_of_a_node_both_ways() {
        let all = nodes(1..=3);
        let touching = ids(touching_links(&nodes([2]), &all));
        assert_eq!(touching, [(1, 2), (2, 1), (2, 3), (3, 2)].into());
        assert_eq!(
            touching_links(&all, &all).len(),
            6,
            "inside the hit ones too"
        );
    }
}
