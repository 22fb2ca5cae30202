//! Who has which update since when: learned from what replicas say that they changed, never by asking them all.

use quorumor_core::{Key, View};

const PREFIX: &str = "update/";

/// One update on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) key: Key,
    pub(super) written_us: u64,
    /// Nodes that ran when it was written, and didn't stop before they had it.
    pub(super) population: u32,
    /// When each of those that ran when it was written got it, in order.
    pub(super) arrivals: Vec<u64>,
    /// When the last of those got it that rumors missed.
    pub(super) repaired_us: Option<u64>,
    has: Vec<bool>,
}

impl Update {
    /// Microseconds from the request until so many in a million of the nodes had it; `None` if that was never so.
    pub(super) fn reached_us(&self, ppm: u64) -> Option<u64> {
        let count = (u64::from(self.population) * ppm)
            .div_ceil(1_000_000)
            .max(1);
        let at_us = self.arrivals.get(count as usize - 1)?;
        Some(at_us - self.written_us)
    }
}

/// All updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spreading {
    nodes: u32,
    /// By their number; in the order in which they were written.
    pub(super) updates: Vec<Update>,
    /// Each update's place in the list, by the number in its key.
    places: Vec<Option<usize>>,
}

impl Spreading {
    pub(super) fn new(nodes: u32) -> Self {
        Self {
            nodes,
            updates: Vec::new(),
            places: Vec::new(),
        }
    }

    /// An update is about to be written.
    pub(super) fn written(&mut self, key: Key, now_us: u64, population: u32) {
        let Some(number) = number(&key) else {
            return;
        };
        if self.places.len() <= number {
            self.places.resize(number + 1, None);
        }
        self.places[number] = Some(self.updates.len());
        self.updates.push(Update {
            key,
            written_us: now_us,
            population,
            arrivals: Vec::new(),
            repaired_us: None,
            has: vec![false; self.nodes as usize],
        });
    }

    /// A node that runs since `since_us` has a new entry, by repair or by rumor.
    pub(super) fn arrived(
        &mut self,
        (node, since_us): (u32, u64),
        now_us: u64,
        key: &Key,
        by_repair: bool,
    ) {
        let place = number(key).and_then(|number| self.places.get(number).copied().flatten());
        if let Some(place) = place {
            let update = &mut self.updates[place];
            update.note(node, since_us, now_us);
            if by_repair && since_us <= update.written_us {
                update.repaired_us = Some(now_us);
            }
        }
    }

    /// A node that ran since `since_us` is gone: it isn't waited for.
    pub(super) fn stopped(&mut self, node: u32, since_us: u64) {
        for update in &mut self.updates {
            if since_us <= update.written_us && !update.has[node as usize] {
                update.population -= 1;
            }
        }
    }

    /// Looks for every update in a node's view.
    pub(super) fn look_at(&mut self, node: u32, since_us: u64, now_us: u64, view: &View) {
        for update in &mut self.updates {
            if view.entry(&update.key).is_some() {
                update.note(node, since_us, now_us);
            }
        }
    }
}

impl Update {
    fn note(&mut self, node: u32, since_us: u64, now_us: u64) {
        if std::mem::replace(&mut self.has[node as usize], true) {
            return;
        }
        // One that started later got it with everything else: that is no spreading.
        if since_us <= self.written_us {
            self.arrivals.push(now_us);
        }
    }
}

fn number(key: &Key) -> Option<usize> {
    key.as_str().strip_prefix(PREFIX)?.parse().ok()
}
