//! What is being told: each item a bounded number of times, least told and newest first (rumor mongering, Demers et al.
//! 1987). Used for writes and for news about members.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::NodeId;

/// Items that are looked at for one datagram beyond those that fit.
const MISFITS_MAX: usize = 8;

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

    /// Begins to tell something, anew if it is being told already, as one that was told so often. When there are too many, the
    /// most told one goes.
    pub(crate) fn add(&mut self, key: K, value: V, from: Option<NodeId>, sends: u64) {
        self.remove(key);
        if self.items.len() >= self.items_max
            && let Some((_, _, most_told)) = self.order.pop_last()
        {
            self.items.remove(&most_told);
        }
        self.born += 1;
        let rumor = Rumor {
            value,
            sends,
            useless: 0,
            born: self.born,
            from,
        };
        self.order.insert((sends, Reverse(self.born), key));
        self.items.insert(key, rumor);
    }

    /// How often the least told one was told.
    pub(crate) fn least_told(&self) -> Option<u64> {
        self.order.first().map(|(sends, _, _)| *sends)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there are nearly as many as are held at a time.
    pub(crate) fn is_crowded(&self) -> bool {
        self.items.len() * 4 >= self.items_max * 3
    }

    /// Takes what fits into `room` bytes for this member and isn't in `told` yet, and counts it as told. What reached its
    /// budget is forgotten. `word` puts an item that was told so often into words, with their weight: hardly
    /// ever less than `bytes_min`, so that with less room nothing is looked at; `None` if there is nothing to say of it.
    pub(crate) fn pick<W>(
        &mut self,
        to: NodeId,
        told: &mut BTreeSet<K>,
        budget: impl Fn(K) -> u64,
        (mut room, bytes_min): (usize, usize),
        word: impl Fn(K, &V, u64) -> Option<(usize, W)>,
    ) -> Vec<W> {
        let (mut picked, mut words) = (Vec::new(), Vec::new());
        let mut misfits = 0;
        for (_, _, key) in &self.order {
            if room < bytes_min || misfits > MISFITS_MAX {
                break;
            }
            if told.contains(key) {
                continue;
            }
            let rumor = self.items.get(key).expect("an ordered rumor exists");
            if rumor.from == Some(to) {
                misfits += 1;
                continue;
            }
            match word(*key, &rumor.value, rumor.sends) {
                Some((bytes, what)) if bytes <= room => {
                    room -= bytes;
                    words.push(what);
                    picked.push(*key);
                }
                Some(_) => misfits += 1,
                None => picked.push(*key),
            }
        }
        for key in picked {
            told.insert(key);
            self.count_send(key, budget(key));
        }
        words
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

    /// Whether it is being told.
    pub(crate) fn contains(&self, key: K) -> bool {
        self.items.contains_key(&key)
    }

    pub(crate) fn remove(&mut self, key: K) {
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

    #[expect(clippy::unnecessary_wraps, reason = "what a rumor set asks for")]
    const fn word(_: u64, letter: &char, _: u64) -> Option<(usize, char)> {
        Some((1, *letter))
    }

    #[test]
    fn the_newest_untold_rumor_goes_first_and_dies_at_its_budget() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', None, 0);
        rumors.add(2, 'b', None, 0);
        let mut one = || rumors.pick(node(9), &mut BTreeSet::new(), |_| 2, (1, 1), word)[0];
        assert_eq!([one(), one(), one(), one()], ['b', 'a', 'b', 'a']);
        assert!(rumors.is_empty());
    }

    #[test]
    fn a_rumor_isnt_told_to_its_teller() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', Some(node(3)), 0);
        assert!(
            rumors
                .pick(node(3), &mut BTreeSet::new(), |_| 4, (100, 1), word)
                .is_empty()
        );
        assert_eq!(
            rumors
                .pick(node(4), &mut BTreeSet::new(), |_| 4, (100, 1), word)
                .len(),
            1
        );
    }

    #[test]
    fn useless_pushes_in_a_row_end_a_rumor() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', None, 0);
        for news in [false, false, true, false, false] {
            rumors.feedback(1, news, 3);
            assert!(!rumors.is_empty());
        }
        rumors.feedback(1, false, 3);
        assert!(rumors.is_empty());
    }

    #[test]
    fn each_item_has_its_own_budget_and_nothing_is_looked_at_without_room() {
        let mut rumors = Rumors::new(10);
        rumors.add(1u64, 'a', None, 0);
        rumors.add(2, 'b', None, 0);
        let budget = |key| if key == 1 { 3 } else { 1 };
        let mut told = |room| {
            rumors.pick(
                node(9),
                &mut BTreeSet::new(),
                budget,
                (room, 5),
                |_, letter, _| Some((5, *letter)),
            )
        };
        assert_eq!(told(4), []);
        assert_eq!(told(10), ['b', 'a']);
        assert_eq!(told(10), ['a']);
        assert_eq!(told(10), ['a']);
        assert_eq!(told(10), []);
    }

    #[test]
    fn a_full_set_drops_the_most_told() {
        let mut rumors = Rumors::new(2);
        rumors.add(1u64, 'a', None, 0);
        rumors.pick(node(9), &mut BTreeSet::new(), |_| 9, (100, 1), word);
        rumors.add(2, 'b', None, 0);
        rumors.add(3, 'c', None, 0);
        let left = rumors.pick(node(9), &mut BTreeSet::new(), |_| 9, (100, 1), word);
        assert_eq!(left, ['c', 'b']);
    }
}
