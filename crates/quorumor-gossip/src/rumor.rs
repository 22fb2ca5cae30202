//! What is being told: each item a bounded number of times, least told and newest first (rumor mongering, Demers et al.
//! 1987). Used for writes and for news about members.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::NodeId;

/// Items that are looked at for one datagram beyond those that fit.
const MISFITS_MAX: usize = 32;

/// Fewest sends first, then the newest.
type Place<K> = (u64, Reverse<u64>, K);

#[derive(Debug)]
struct Rumor<V> {
    value: V,
    sends: u64,
    useless: u8,
    born: u64,
    /// Who told it here.
    from: Option<NodeId>,
}

/// A bounded set of rumors.
#[derive(Debug)]
pub(crate) struct Rumors<K, V> {
    items: BTreeMap<K, Rumor<V>>,
    order: BTreeSet<Place<K>>,
    born: u64,
    items_max: usize,
}

impl<K: Ord + Copy, V: Clone> Rumors<K, V> {
    pub(crate) fn new(items_max: usize) -> Self {
        Self {
            items: BTreeMap::new(),
            order: BTreeSet::new(),
            born: 0,
            items_max,
        }
    }

    /// Begins to tell something, anew if it is being told already. When there are too many, the most told one goes.
    pub(crate) fn add(&mut self, key: K, value: V, from: Option<NodeId>) {
        self.remove(key);
        if self.items.len() >= self.items_max
            && let Some((_, _, most_told)) = self.order.pop_last()
        {
            self.items.remove(&most_told);
        }
        self.born += 1;
        let rumor = Rumor {
            value,
            sends: 0,
            useless: 0,
            born: self.born,
            from,
        };
        self.order.insert((0, Reverse(self.born), key));
        self.items.insert(key, rumor);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Takes what fits into `room` bytes for this member and isn't in `told` yet, and counts it as told. What reached its
    /// budget is forgotten.
    pub(crate) fn pick(
        &mut self,
        to: NodeId,
        told: &mut BTreeSet<K>,
        budget: u64,
        mut room: usize,
        size: impl Fn(K, &V) -> usize,
    ) -> Vec<(K, V)> {
        let mut picked = Vec::new();
        let mut misfits = 0;
        for (_, _, key) in &self.order {
            if told.contains(key) {
                continue;
            }
            let rumor = self.items.get(key).expect("an ordered rumor exists");
            let bytes = size(*key, &rumor.value);
            if rumor.from == Some(to) || bytes > room {
                misfits += 1;
                if misfits > MISFITS_MAX {
                    break;
                }
                continue;
            }
            room -= bytes;
            picked.push((*key, rumor.value.clone()));
        }
        for (key, _) in &picked {
            told.insert(*key);
            self.count_send(*key, budget);
        }
        picked
    }

    /// Hears whether telling it was news to someone; it dies after `useless_max` times in a row that it wasn't.
    pub(crate) fn feedback(&mut self, key: K, news: bool, useless_max: u8) {
        let Some(rumor) = self.items.get_mut(&key) else {
            return;
        };
        rumor.useless = if news {
            0
        } else {
            rumor.useless.saturating_add(1)
        };
        if rumor.useless >= useless_max {
            self.remove(key);
        }
    }

    fn count_send(&mut self, key: K, budget: u64) {
        let rumor = self.items.get_mut(&key).expect("a picked rumor exists");
        self.order.remove(&(rumor.sends, Reverse(rumor.born), key));
        rumor.sends += 1;
        if rumor.sends >= budget {
            self.items.remove(&key);
        } else {
            self.order.insert((rumor.sends, Reverse(rumor.born), key));
        }
    }

    fn remove(&mut self, key: K) {
        if let Some(rumor) = self.items.remove(&key) {
            self.order.remove(&(rumor.sends, Reverse(rumor.born), key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::try_from(id).unwrap()
    }

    #[test]
    fn the_newest_untold_rumor_goes_first_and_dies_at_its_budget() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', None);
        rumors.add(2, 'b', None);
        let mut one = || rumors.pick(node(9), &mut BTreeSet::new(), 2, 1, |_, _| 1)[0].1;
        assert_eq!([one(), one(), one(), one()], ['b', 'a', 'b', 'a']);
        assert!(rumors.is_empty());
    }

    #[test]
    fn a_rumor_isnt_told_to_its_teller() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', Some(node(3)));
        assert!(
            rumors
                .pick(node(3), &mut BTreeSet::new(), 4, 100, |_, _| 1)
                .is_empty()
        );
        assert_eq!(
            rumors
                .pick(node(4), &mut BTreeSet::new(), 4, 100, |_, _| 1)
                .len(),
            1
        );
    }

    #[test]
    fn useless_pushes_in_a_row_end_a_rumor() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', None);
        for news in [false, false, true, false, false] {
            rumors.feedback(1, news, 3);
            assert!(!rumors.is_empty());
        }
        rumors.feedback(1, false, 3);
        assert!(rumors.is_empty());
    }

    #[test]
    fn a_full_set_drops_the_most_told() {
        let mut rumors = Rumors::new(2);
        rumors.add(1u64, 'a', None);
        rumors.pick(node(9), &mut BTreeSet::new(), 9, 100, |_, _| 1);
        rumors.add(2, 'b', None);
        rumors.add(3, 'c', None);
        let left: Vec<char> = rumors
            .pick(node(9), &mut BTreeSet::new(), 9, 100, |_, _| 1)
            .iter()
            .map(|item| item.1)
            .collect();
        assert_eq!(left, ['c', 'b']);
    }
}
