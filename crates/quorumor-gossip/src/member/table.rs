//! The packed table behind the members: 32 bytes a row, found by hash, in an order that is the probe round and the pool for
//! random choices at once. Ten thousand full views of ten thousand members fit in memory only like this.
//!
//! ```text
//! slots   hash prefix -> row            a bucket of the hash is a run of slots, so a part of the table is read without the rest
//! order   [0..next) probed in this round | [next..present) still to come | [present..) down or left
//! ```
//! Taking the next target from a random place of what is still to come, and swapping it in front, is a shuffled round robin
//! (SWIM section 4.3) without ever shuffling.

use std::net::{IpAddr, SocketAddr};

use quorumor_core::{Generation, Incarnation, MemberState, Mono, NodeId};

use crate::rng::Rng;
use crate::vector::mix;

/// Parts of the hash that are compared and exchanged one by one.
pub(crate) const BUCKETS: usize = 256;
/// No row.
const EMPTY: u32 = u32::MAX;
/// Bits of a life that are the incarnation; the generation has the rest.
const INCARNATION_BITS: u32 = 20;
/// The highest incarnation of a life: whoever needs a higher one begins a new life.
pub(crate) const INCARNATION_MAX: u64 = (1 << INCARNATION_BITS) - 1;
/// The highest generation: milliseconds until the year 2527.
pub(crate) const GENERATION_MAX: u64 = (1 << (64 - INCARNATION_BITS)) - 1;
/// Heard times are kept in units of 64 ms.
const HEARD_SHIFT: u32 = 16;

const STATE_MASK: u16 = 0b11;
const IS_RARE: u16 = 0b100;
const IS_MET: u16 = 0b1000;
const IS_PARTED: u16 = 0b1_0000;

/// One member, packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    node: u64,
    /// Generation and incarnation; their order is the order of lives.
    life: u64,
    /// An IPv4 address; others are kept among the rare.
    ip: u32,
    port: u16,
    flags: u16,
    /// Its place in the order.
    at: u32,
    /// When it was last heard; 0 for never.
    heard: u32,
}

impl Row {
    pub(super) fn new(node: NodeId, life: u64, state: MemberState) -> Self {
        Self {
            node: node.as_u64(),
            life,
            ip: 0,
            port: 0,
            flags: state_bits(state),
            at: 0,
            heard: 0,
        }
    }

    pub(super) fn node(&self) -> NodeId {
        NodeId::try_from(self.node).expect("a row holds a node's id")
    }

    pub(super) const fn life(&self) -> u64 {
        self.life
    }

    pub(super) const fn generation(&self) -> Generation {
        Generation::new(self.life >> INCARNATION_BITS)
    }

    pub(super) const fn incarnation(&self) -> Incarnation {
        Incarnation::new(self.life & INCARNATION_MAX)
    }

    pub(super) const fn state(&self) -> MemberState {
        match self.flags & STATE_MASK {
            0 => MemberState::Alive,
            1 => MemberState::Suspect,
            2 => MemberState::Down,
            _ => MemberState::Left,
        }
    }

    pub(super) const fn is_present(&self) -> bool {
        self.flags & STATE_MASK < 2
    }

    /// Whether something about it is kept aside.
    pub(super) const fn is_rare(&self) -> bool {
        self.flags & IS_RARE != 0
    }

    pub(super) fn set_rare(&mut self, rare: bool) {
        self.flags = if rare {
            self.flags | IS_RARE
        } else {
            self.flags & !IS_RARE
        };
    }

    /// Whether it has shown that it knows this node.
    pub(super) const fn is_met(&self) -> bool {
        self.flags & IS_MET != 0
    }

    /// Whether it may have forgotten this node.
    pub(super) const fn is_parted(&self) -> bool {
        self.flags & IS_PARTED != 0
    }

    pub(super) const fn part(&mut self) {
        self.flags = (self.flags | IS_PARTED) & !IS_MET;
    }

    pub(super) const fn set_met(&mut self, met: bool) {
        self.flags &= !IS_PARTED;
        self.flags = if met {
            self.flags | IS_MET
        } else {
            self.flags & !IS_MET
        };
    }

    /// Its address; `None` if that isn't one of IPv4.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        (self.ip != 0 || self.port != 0)
            .then(|| SocketAddr::new(IpAddr::from(self.ip.to_be_bytes()), self.port))
    }

    /// Keeps an address; `false` if it has to be kept aside.
    pub(super) fn set_address(&mut self, address: SocketAddr) -> bool {
        match address.ip() {
            IpAddr::V4(ip) if !(ip.is_unspecified() && address.port() == 0) => {
                self.ip = u32::from_be_bytes(ip.octets());
                self.port = address.port();
                true
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {
                (self.ip, self.port) = (0, 0);
                false
            }
        }
    }

    pub(super) fn heard_at(&self) -> Option<Mono> {
        (self.heard > 0).then(|| Mono(u64::from(self.heard) << HEARD_SHIFT))
    }
}

const fn state_bits(state: MemberState) -> u16 {
    match state {
        MemberState::Alive => 0,
        MemberState::Suspect => 1,
        MemberState::Down => 2,
        MemberState::Left => 3,
    }
}

/// A life as one number. `None` if a part of it is beyond its bits.
pub(super) fn pack_life(generation: Generation, incarnation: Incarnation) -> Option<u64> {
    (generation.as_u64() <= GENERATION_MAX && incarnation.as_u64() <= INCARNATION_MAX)
        .then(|| generation.as_u64() << INCARNATION_BITS | incarnation.as_u64())
}

/// The bucket of a node.
pub(crate) fn bucket_of(node: NodeId) -> usize {
    usize::try_from(mix(node.as_u64()) >> 56).expect("eight bits")
}

/// The rows, their index and their order.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Row>,
    slots: Vec<u32>,
    order: Vec<u32>,
    next: usize,
    present: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            slots: vec![EMPTY; BUCKETS],
            order: Vec::new(),
            next: 0,
            present: 0,
        }
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) const fn present(&self) -> usize {
        self.present
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn home(&self, node: u64) -> usize {
        let bits = self.slots.len().trailing_zeros();
        usize::try_from(mix(node) >> (64 - bits)).expect("an index of a table in memory")
    }

    fn find(&self, node: u64) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(node);
        loop {
            match self.slots[slot] {
                EMPTY => return Err(slot),
                row if self.rows[row as usize].node == node => return Ok(slot),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        let slot = self.find(node.as_u64()).ok()?;
        Some(self.slots[slot] as usize)
    }

    pub(super) fn row(&self, node: NodeId) -> Option<&Row> {
        self.index(node).map(|index| &self.rows[index])
    }

    pub(super) fn row_mut(&mut self, node: NodeId) -> Option<&mut Row> {
        let index = self.index(node)?;
        Some(&mut self.rows[index])
    }

    pub(super) fn heard(&mut self, node: NodeId, at: Mono) {
        if let Some(row) = self.row_mut(node) {
            row.heard = u32::try_from((at.0 >> HEARD_SHIFT).max(1)).unwrap_or(u32::MAX);
        }
    }

    /// Makes room for so many rows more, exactly.
    pub(super) fn reserve(&mut self, more: usize) {
        self.rows.reserve_exact(more);
        self.order.reserve_exact(more);
        while (self.rows.len() + more) * 4 > self.slots.len() * 3 {
            self.grow_slots();
        }
    }

    /// Adds a row for a node that has none. One that is present gets a random place of the round.
    pub(super) fn insert(&mut self, row: Row, rng: &mut Rng) {
        if (self.rows.len() + 1) * 4 > self.slots.len() * 3 {
            self.grow_slots();
        }
        if self.rows.len() == self.rows.capacity() {
            // By an eighth: ten thousand tables that double would waste gigabytes.
            let more = (self.rows.len() / 8).max(16);
            self.rows.reserve_exact(more);
            self.order.reserve_exact(more);
        }
        let slot = self.find(row.node).expect_err("a new row is new");
        let index = u32::try_from(self.rows.len()).expect("members are limited");
        self.slots[slot] = index;
        let is_present = row.is_present();
        self.rows.push(row);
        self.order.push(index);
        let last = self.order.len() - 1;
        self.rows[index as usize].at = u32::try_from(last).expect("as above");
        if is_present {
            self.admit(last, rng);
        }
    }

    /// Sets a row's state and keeps the order true.
    pub(super) fn set_state(&mut self, node: NodeId, state: MemberState, rng: &mut Rng) {
        let Some(index) = self.index(node) else {
            return;
        };
        let row = &mut self.rows[index];
        let was_present = row.is_present();
        row.flags = (row.flags & !STATE_MASK) | state_bits(state);
        let (is_present, at) = (row.is_present(), row.at as usize);
        match (was_present, is_present) {
            (false, true) => self.admit(at, rng),
            (true, false) => self.dismiss(at),
            (true, true) | (false, false) => {}
        }
    }

    pub(super) fn set_life(&mut self, node: NodeId, life: u64) {
        if let Some(row) = self.row_mut(node) {
            if row.life >> INCARNATION_BITS != life >> INCARNATION_BITS {
                row.set_met(false);
            }
            row.life = life;
        }
    }

    /// From the absent to a random place among the present.
    fn admit(&mut self, at: usize, rng: &mut Rng) {
        self.swap(at, self.present);
        let new = self.present;
        self.present += 1;
        // Before or behind the round's mark with the chance that a member of old would have.
        let place = rng.index(self.present);
        if place < self.next {
            self.swap(new, self.next);
            self.next += 1;
        }
    }

    fn dismiss(&mut self, at: usize) {
        let mut at = at;
        if at < self.next {
            self.next -= 1;
            self.swap(at, self.next);
            at = self.next;
        }
        self.present -= 1;
        self.swap(at, self.present);
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.order.swap(one, other);
        for at in [one, other] {
            let row = self.order[at] as usize;
            self.rows[row].at = u32::try_from(at).expect("members are limited");
        }
    }

    /// Forgets a node.
    pub(super) fn remove(&mut self, node: NodeId) {
        let Ok(slot) = self.find(node.as_u64()) else {
            return;
        };
        let index = self.slots[slot] as usize;
        if self.rows[index].is_present() {
            self.dismiss(self.rows[index].at as usize);
        }
        let last = self.order.len() - 1;
        self.swap(self.rows[index].at as usize, last);
        self.order.pop();
        self.free_slot(slot);
        let moved = self.rows.len() - 1;
        if index != moved {
            let slot = self
                .find(self.rows[moved].node)
                .expect("each row has its slot");
            let place = u32::try_from(index).expect("members are limited");
            self.slots[slot] = place;
            self.order[self.rows[moved].at as usize] = place;
        }
        self.rows.swap_remove(index);
    }

    /// Empties a slot and moves those behind it that were pushed on by it (backward shift).
    fn free_slot(&mut self, slot: usize) {
        let mask = self.slots.len() - 1;
        let (mut hole, mut at) = (slot, slot);
        loop {
            at = (at + 1) & mask;
            let row = self.slots[at];
            if row == EMPTY {
                break;
            }
            let home = self.home(self.rows[row as usize].node);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = row;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
    }

    fn grow_slots(&mut self) {
        self.slots = vec![EMPTY; self.slots.len() * 2];
        let mask = self.slots.len() - 1;
        for (index, row) in (0u32..).zip(&self.rows) {
            let mut slot = self.home(row.node);
            while self.slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = index;
        }
    }

    // ---- choices

    /// The next of this round; whether a new round began with it.
    pub(super) fn next_of_round(&mut self, rng: &mut Rng) -> Option<(NodeId, bool)> {
        let begins = self.next >= self.present;
        if begins {
            self.next = 0;
        }
        let left = self
            .present
            .checked_sub(self.next)
            .filter(|left| *left > 0)?;
        let at = self.next + rng.index(left);
        self.swap(at, self.next);
        let node = self.rows[self.order[self.next] as usize].node();
        self.next += 1;
        Some((node, begins))
    }

    /// Lets a member be taken again in this round.
    pub(super) fn put_back(&mut self, node: NodeId) {
        let Some(at) = self.row(node).map(|row| row.at as usize) else {
            return;
        };
        if at < self.next {
            self.next -= 1;
            self.swap(at, self.next);
        }
    }

    /// Some present member, each as likely.
    pub(super) fn some_present(&self, rng: &mut Rng) -> Option<NodeId> {
        (self.present > 0).then(|| self.at(rng.index(self.present)))
    }

    /// The present member at a place of the order.
    pub(super) fn at(&self, place: usize) -> NodeId {
        self.rows[self.order[place] as usize].node()
    }

    /// Some member that is down or left.
    pub(super) fn some_absent(&self, rng: &mut Rng) -> Option<NodeId> {
        let absent = self.order.len() - self.present;
        (absent > 0).then(|| self.at(self.present + rng.index(absent)))
    }

    /// The present member that comes next in the order of hashes, as in a ring: for nodes with the same members, each is the
    /// next of exactly one.
    pub(super) fn successor(&self, of: NodeId) -> Option<NodeId> {
        let hash = mix(of.as_u64());
        self.least_above(self.home(of.as_u64()), |other| other > hash)
            .or_else(|| self.least_above(0, |_| true))
    }

    /// Of the present rows from a slot on, the one with the least hash that is fit. Looks no further than the run of slots in
    /// which it finds one: no later run has a lesser hash.
    fn least_above(&self, start: usize, is_fit: impl Fn(u64) -> bool) -> Option<NodeId> {
        let (slots, mut best) = (self.slots.len(), None);
        for step in start..start + slots {
            let row = self.slots[step % slots];
            if row == EMPTY {
                if best.is_some() || step >= slots {
                    break;
                }
                continue;
            }
            let row = &self.rows[row as usize];
            let hash = mix(row.node);
            // At the first slots stand some that were pushed on beyond the last one.
            let is_at_home = self.home(row.node) <= step;
            let is_less = best.is_none_or(|(least, _)| hash < least);
            if row.is_present() && is_at_home && is_fit(hash) && is_less {
                best = Some((hash, row.node()));
            }
        }
        best.map(|(_, node)| node)
    }

    /// The rows of a bucket: no others are looked at but a few that were pushed in between.
    pub(super) fn bucket(&self, bucket: usize) -> impl Iterator<Item = &Row> {
        let width = self.slots.len() / BUCKETS;
        let (start, mask) = (bucket * width, self.slots.len() - 1);
        (0..self.slots.len())
            .map(move |step| (step, self.slots[(start + step) & mask]))
            .take_while(move |(step, row)| *step < width || *row != EMPTY)
            .filter(|(_, row)| *row != EMPTY)
            .map(|(_, row)| &self.rows[row as usize])
            .filter(move |row| bucket_of(row.node()) == bucket)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{BUCKETS, Row, Table};
    use quorumor_core::MemberState;

    use crate::harness::node;
    use crate::rng::Rng as Choices;
    use crate::vector::mix;

    #[test]
    fn a_row_takes_32_bytes() {
        assert_eq!(size_of::<Row>(), 32);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, bool),
        Remove(u64),
        Take,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1u64..600, any::<bool>()).prop_map(|(id, up)| Step::Set(id, up)),
            (1u64..600).prop_map(Step::Remove),
            Just(Step::Take),
        ];
        prop::collection::vec(step, 0..900)
    }

    fn state(up: bool) -> MemberState {
        if up {
            MemberState::Alive
        } else {
            MemberState::Down
        }
    }

    fn check(table: &Table, model: &BTreeMap<u64, bool>) {
        assert_eq!(table.len(), model.len());
        assert_eq!(table.present(), model.values().filter(|up| **up).count());
        for (id, up) in model {
            let row = table.row(node(*id)).unwrap();
            assert_eq!(row.is_present(), *up);
            assert_eq!((row.at as usize) < table.present, *up);
            assert_eq!(table.at(row.at as usize), node(*id));
        }
        let listed: usize = (0..BUCKETS)
            .map(|bucket| table.bucket(bucket).count())
            .sum();
        assert_eq!(listed, model.len());
        for of in 1..600 {
            let hash = |id: &u64| mix(*id);
            let present = || model.iter().filter(|(_, up)| **up).map(|(id, _)| *id);
            let above = present().filter(|id| mix(*id) > mix(of)).min_by_key(hash);
            let next = above.or_else(|| present().min_by_key(hash)).map(node);
            assert_eq!(table.successor(node(of)), next, "after {of}");
        }
    }

    proptest! {
        #[test]
        fn the_table_is_a_map_with_an_order(steps in steps()) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            let mut rng = Choices::new(1);
            for step in steps {
                match step {
                    Step::Set(id, up) => {
                        if model.insert(id, up).is_some() {
                            table.set_state(node(id), state(up), &mut rng);
                        } else {
                            table.insert(Row::new(node(id), 1, state(up)), &mut rng);
                        }
                    }
                    Step::Remove(id) => {
                        model.remove(&id);
                        table.remove(node(id));
                    }
                    Step::Take => {
                        let taken = table.next_of_round(&mut rng);
                        prop_assert_eq!(taken.is_some(), model.values().any(|up| *up));
                    }
                }
            }
            check(&table, &model);
        }
    }

    #[test]
    fn a_round_takes_each_member_once() {
        let mut table = Table::default();
        let mut rng = Choices::new(7);
        for id in 1..=50 {
            table.insert(Row::new(node(id), 1, MemberState::Alive), &mut rng);
        }
        for round in 0..3 {
            let taken: Vec<_> = (0..50)
                .map(|_| table.next_of_round(&mut rng).unwrap())
                .collect();
            let mut nodes: Vec<_> = taken.iter().map(|(node, _)| *node).collect();
            nodes.sort();
            nodes.dedup();
            assert_eq!(nodes.len(), 50);
            let begins = taken.iter().filter(|(_, begins)| *begins).count();
            assert_eq!(begins, 1.min(round), "the first round has begun already");
        }
    }
}
