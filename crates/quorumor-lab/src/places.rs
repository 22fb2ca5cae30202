//! Who stands in whose place: a node that was replaced hands its clients, and the faults that are to hit it, to its successor.

use std::collections::BTreeMap;

use crate::history::NodeId;

/// Replacements, one after the other. An id is given once, so nobody takes a place twice.
#[derive(Debug, Default)]
pub(crate) struct Places {
    next: BTreeMap<NodeId, NodeId>,
}

impl Places {
    /// From now on `new` stands in the place of `old`.
    pub(crate) fn replace(&mut self, old: NodeId, new: NodeId) {
        self.next.insert(old, new);
    }

    /// Who stands in the place of this node now: itself, or whoever took it in the end.
    pub(crate) fn stand_in(&self, node: NodeId) -> NodeId {
        let mut current = node;
        while let Some(&next) = self.next.get(&current) {
            current = next;
        }
        current
    }

    /// Whose place a node took in the beginning; its own if nobody's.
    pub(crate) fn place_of(&self, node: NodeId) -> NodeId {
        let mut current = node;
        while let Some((&before, _)) = self.next.iter().find(|(_, new)| **new == current) {
            current = before;
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_followed_through_each_replacement_and_back() {
        let mut places = Places::default();
        let [one, four, five] = [1, 4, 5].map(NodeId);
        assert_eq!((places.stand_in(one), places.place_of(one)), (one, one));
        places.replace(one, four);
        places.replace(four, five);
        assert_eq!((places.stand_in(one), places.place_of(five)), (five, one));
        assert_eq!(places.stand_in(NodeId(2)), NodeId(2));
    }
}
