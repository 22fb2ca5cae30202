//! What this node believes about every member, and the rule by which news changes a belief.
//!
//! A member's news is ordered by (generation, incarnation, alive < suspect < down < left). Only greater news changes
//! anything: a `down` of an older incarnation is ignored, unlike in the SWIM paper, and as in Go memberlist's `deadNode`.
//! How the members are kept is in `member/table.rs`.

use std::hash::BuildHasherDefault;
use std::net::SocketAddr;
use std::sync::Arc;

use quorumor_core::{Generation, Incarnation, Member, MemberCounts, MemberState, Mono, NodeId};

use crate::message::Update;
use crate::rng::Rng;
use crate::suspicion::Suspicion;
use crate::vector::{Mixer, mix};

mod reaped;
pub(crate) mod table;

use reaped::Reaped;
use table::{BUCKETS, GENERATION_MAX, Row, Table, bucket_of, pack_life};

/// An incarnation this far above the known one is refused: one message at the maximum would evict a node for good
/// (memberlist #358, #359).
const INCARNATION_JUMP_MAX: u64 = 1 << 16;

/// A generation further than this above the local wall clock is refused. One day.
const GENERATION_AHEAD_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// A life has no more refutations: well below the jump that a newcomer accepts, which does not know the life yet.
const LIFE_INCARNATIONS: u64 = INCARNATION_JUMP_MAX / 2;

/// The most members that a node keeps.
const MEMBERS_MAX: usize = 20_000;

/// A belief about one member.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) generation: Generation,
    pub(crate) incarnation: Incarnation,
    pub(crate) state: MemberState,
    pub(crate) address: SocketAddr,
    pub(crate) client_address: Option<Arc<str>>,
    pub(crate) heard_at: Option<Mono>,
}

/// What only some members have.
#[derive(Debug, Default)]
struct Rare {
    client_address: Option<Arc<str>>,
    /// An address that the row has no room for.
    address: Option<SocketAddr>,
    suspicion: Option<Suspicion>,
    down_since: Option<Mono>,
}

impl Rare {
    const fn is_empty(&self) -> bool {
        self.client_address.is_none()
            && self.address.is_none()
            && self.suspicion.is_none()
            && self.down_since.is_none()
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was refused as impossible.
    Refused,
    /// It is known, or says less than what is known of the same life.
    Known,
    /// It is about an older life: whoever says so should hear the newer one.
    Stale,
    /// It would bring back a member that was reaped.
    Ghost,
    /// One more accuser of a known suspicion.
    Confirmed,
    /// The belief changed.
    Changed {
        /// What was believed before; `None` of a new member.
        before: Option<MemberState>,
        /// Whether it can be reached elsewhere than before.
        moved: bool,
    },
}

/// By member. A map in order would miss the cache at each of its levels, for each suspicion in a partition.
#[expect(clippy::disallowed_types, reason = "looked up in and never listed")]
type Aside = std::collections::HashMap<NodeId, Rare, BuildHasherDefault<Mixer>>;

/// Every other member. No operation but listing them all looks at all.
#[derive(Debug)]
pub(crate) struct Members {
    table: Table,
    rare: Aside,
    reaped: Reaped,
    suspects: usize,
    downs: usize,
    /// Over each present member's life, by bucket.
    hashes: Box<[u64; BUCKETS]>,
    hash: u64,
    /// The least id among the present. `None` if it has to be looked for.
    lowest: Option<NodeId>,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            table: Table::default(),
            rare: Aside::default(),
            reaped: Reaped::default(),
            suspects: 0,
            downs: 0,
            hashes: Box::new([0; BUCKETS]),
            hash: 0,
            lowest: None,
        }
    }
}

impl Members {
    fn record_of(&self, row: &Row) -> Record {
        record_with(row, self.rare_of(row))
    }

    fn rare_of(&self, row: &Row) -> Option<&Rare> {
        row.is_rare().then(|| self.rare.get(&row.node())).flatten()
    }

    pub(crate) fn record(&self, node: NodeId) -> Option<Record> {
        self.table.row(node).map(|row| self.record_of(row))
    }

    /// Whether it is known, dead or alive.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.table.row(node).is_some()
    }

    /// Its life as far as it is known here.
    pub(crate) fn life(&self, node: NodeId) -> Option<(Generation, Incarnation)> {
        let row = self.table.row(node)?;
        Some((row.generation(), row.incarnation()))
    }

    pub(crate) fn state(&self, node: NodeId) -> Option<MemberState> {
        self.table.row(node).map(Row::state)
    }

    pub(crate) fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.record(node).map(|record| record.address)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, Record)> {
        self.table
            .rows()
            .iter()
            .map(|row| (row.node(), self.record_of(row)))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Members that are alive or suspect, without this node.
    pub(crate) const fn present(&self) -> usize {
        self.table.present()
    }

    /// How many, this node included.
    pub(crate) fn counts(&self) -> MemberCounts {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        MemberCounts {
            alive: count(self.present() - self.suspects + 1),
            suspect: count(self.suspects),
            down: count(self.downs),
        }
    }

    pub(crate) const fn suspects(&self) -> usize {
        self.suspects
    }

    /// Over each other present member's life. Suspicions pass, so they don't count; who is gone doesn't either, since nodes
    /// forget the gone at different times.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    /// The parts of [`Self::hash`].
    pub(crate) const fn hashes(&self) -> &[u64; BUCKETS] {
        &self.hashes
    }

    pub(crate) fn is_present(&self, node: NodeId) -> bool {
        self.table.row(node).is_some_and(Row::is_present)
    }

    /// Whether it is alive and has refuted an accusation in this life.
    pub(crate) fn has_refuted(&self, node: NodeId) -> bool {
        let row = self.table.row(node);
        row.is_some_and(|row| {
            row.state() == MemberState::Alive && row.incarnation() > Incarnation::ZERO
        })
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.state(node) == Some(MemberState::Alive)
    }

    pub(crate) fn heard(&mut self, node: NodeId, at: Mono) {
        self.table.heard(node, at);
    }

    /// Whether it knows this node, as far as that can be told: it has shown it, or this node has been here for so long that
    /// everyone has heard of it and nothing speaks against it.
    pub(crate) fn is_met(&self, node: NodeId, known_by_all: bool) -> bool {
        let row = self.table.row(node);
        row.is_some_and(|row| row.is_met() || (known_by_all && !row.is_parted()))
    }

    /// It has shown that it knows this node.
    pub(crate) fn meet(&mut self, node: NodeId) {
        if let Some(row) = self.table.row_mut(node) {
            row.set_met(true);
        }
    }

    /// It may have forgotten this node: it was restarted, perhaps.
    pub(crate) fn part(&mut self, node: NodeId) {
        if let Some(row) = self.table.row_mut(node) {
            row.part();
        }
    }

    pub(crate) fn suspicion(&self, node: NodeId) -> Option<&Suspicion> {
        self.rare.get(&node)?.suspicion.as_ref()
    }

    pub(crate) fn down_since(&self, node: NodeId) -> Option<Mono> {
        self.rare.get(&node)?.down_since
    }

    /// The least id among the present; `None` if there is nobody else.
    pub(crate) fn lowest_present(&mut self) -> Option<NodeId> {
        if self.lowest.is_none() {
            let present = (0..self.present()).map(|place| self.table.at(place));
            self.lowest = present.min();
        }
        self.lowest
    }

    // ---- choices

    /// The next to probe, and whether a new round begins with it.
    pub(crate) fn next_of_round(&mut self, rng: &mut Rng) -> Option<(NodeId, bool)> {
        self.table.next_of_round(rng)
    }

    /// The next of this node in a ring of all.
    pub(crate) fn successor(&self, me: NodeId) -> Option<NodeId> {
        self.table.successor(me)
    }

    /// Lets a member be probed again in this round.
    pub(crate) fn hasten(&mut self, node: NodeId) {
        self.table.put_back(node);
    }

    /// Up to `count` distinct present members, other than `except`.
    pub(crate) fn some(&self, count: usize, except: Option<NodeId>, rng: &mut Rng) -> Vec<NodeId> {
        let present = self.present();
        if count >= present {
            let all = (0..present).map(|place| self.table.at(place));
            return all.filter(|node| Some(*node) != except).collect();
        }
        let mut chosen = Vec::with_capacity(count);
        for _ in 0..4 * count + 4 {
            if chosen.len() == count {
                break;
            }
            let Some(node) = self.table.some_present(rng) else {
                break;
            };
            if Some(node) != except && !chosen.contains(&node) {
                chosen.push(node);
            }
        }
        chosen
    }

    /// Some member that is held to be down.
    pub(crate) fn some_down(&self, rng: &mut Rng) -> Option<NodeId> {
        let tries = (0..8).filter_map(|_| self.table.some_absent(rng));
        let down = |node: &NodeId| self.state(*node) == Some(MemberState::Down);
        tries.take(8).find(down)
    }

    /// Up to so many that are down or left.
    pub(crate) fn absent(&self, count: usize) -> Vec<NodeId> {
        let last = self.len();
        let from = self.present();
        (from..last.min(from + count))
            .map(|place| self.table.at(place))
            .collect()
    }

    /// Up to so many present members, whichever come first.
    pub(crate) fn first_present(&self, count: usize) -> impl Iterator<Item = NodeId> {
        (0..self.present().min(count)).map(|place| self.table.at(place))
    }

    // ---- news

    /// What to tell others about a member.
    pub(crate) fn update(&self, node: NodeId, me: NodeId) -> Option<Update> {
        self.table.row(node).map(|row| self.update_of(row, me))
    }

    /// What to tell others about the members of a bucket.
    pub(crate) fn bucket(&self, bucket: usize, me: NodeId) -> impl Iterator<Item = Update> {
        self.table
            .bucket(bucket)
            .map(move |row| self.update_of(row, me))
    }

    fn update_of(&self, row: &Row, me: NodeId) -> Update {
        let rare = self.rare_of(row);
        let record = record_with(row, rare);
        let (mut accuser, mut refused) = (me, false);
        if record.state == MemberState::Suspect
            && let Some(suspicion) = rare.and_then(|rare| rare.suspicion.as_ref())
        {
            // One's own accusation is a confirmation for whoever hears it; else the last one heard.
            (accuser, refused) = suspicion.told_by(me);
        }
        Update {
            node: row.node(),
            state: record.state,
            generation: record.generation,
            incarnation: record.incarnation,
            accuser,
            refused,
            address: record.address,
            client_address: record.client_address,
        }
    }

    /// Merges news about another member. `direct` if the member itself says so.
    pub(crate) fn merge(
        &mut self,
        news: &Update,
        direct: bool,
        now: Mono,
        wall_ms: u64,
        rng: &mut Rng,
    ) -> Outcome {
        let Some(life) = pack_life(news.generation, news.incarnation) else {
            return Outcome::Refused;
        };
        let known = self.table.row(news.node).copied();
        if !is_plausible(news, known.as_ref(), wall_ms) {
            return Outcome::Refused;
        }
        let Some(row) = known else {
            return self.merge_new(news, life, direct, now, rng);
        };
        if life < row.life() {
            return Outcome::Stale;
        }
        if life == row.life() && news.state <= row.state() {
            return self.confirm(news, row.state());
        }
        let before = Some(row.state());
        let moved = self.address(news.node) != Some(news.address);
        self.leave_state(&row);
        self.table.set_life(news.node, life);
        self.table.set_state(news.node, news.state, rng);
        self.enter_state(news, now);
        Outcome::Changed { before, moved }
    }

    fn merge_new(
        &mut self,
        news: &Update,
        life: u64,
        direct: bool,
        now: Mono,
        rng: &mut Rng,
    ) -> Outcome {
        if !direct && self.reaped.covers(news.node, news.generation) {
            return Outcome::Ghost;
        }
        if self.len() >= MEMBERS_MAX {
            return Outcome::Refused;
        }
        self.table
            .insert(Row::new(news.node, life, news.state), rng);
        self.enter_state(news, now);
        Outcome::Changed {
            before: None,
            moved: true,
        }
    }

    /// Takes what counted for a state out of the sums.
    fn leave_state(&mut self, row: &Row) {
        match row.state() {
            MemberState::Alive => {}
            MemberState::Suspect => self.suspects -= 1,
            MemberState::Down => self.downs -= 1,
            MemberState::Left => {}
        }
        if row.is_present() {
            self.toggle(row);
            if self.lowest == Some(row.node()) {
                self.lowest = None;
            }
        }
    }

    fn enter_state(&mut self, news: &Update, now: Mono) {
        let node = news.node;
        let mut rare = self.rare.remove(&node).unwrap_or_default();
        rare.client_address.clone_from(&news.client_address);
        (rare.suspicion, rare.down_since) = (None, None);
        match news.state {
            MemberState::Alive => {}
            MemberState::Suspect => {
                self.suspects += 1;
                rare.suspicion = Some(Suspicion::new(now, news.accuser, news.refused));
            }
            MemberState::Down => {
                self.downs += 1;
                rare.down_since = Some(now);
            }
            MemberState::Left => rare.down_since = Some(now),
        }
        let row = self.table.row_mut(node).expect("it was put there");
        rare.address = (!row.set_address(news.address)).then_some(news.address);
        row.set_rare(!rare.is_empty());
        if !row.is_present() {
            // It may come back as one that knows nobody.
            row.part();
        }
        let row = *row;
        if !rare.is_empty() {
            self.rare.insert(node, rare);
        }
        if row.is_present() {
            self.toggle(&row);
            if self.present() == 1 || self.lowest.is_some_and(|lowest| node < lowest) {
                self.lowest = Some(node);
            }
        }
    }

    fn toggle(&mut self, row: &Row) {
        let hash = life_hash(row.node(), row.generation(), row.incarnation());
        self.hash ^= hash;
        self.hashes[bucket_of(row.node())] ^= hash;
    }

    fn confirm(&mut self, news: &Update, state: MemberState) -> Outcome {
        let both_suspect = (state, news.state) == (MemberState::Suspect, MemberState::Suspect);
        let rare = both_suspect
            .then(|| self.rare.get_mut(&news.node))
            .flatten();
        let suspicion = rare.and_then(|rare| rare.suspicion.as_mut());
        if suspicion.is_some_and(|suspicion| suspicion.confirm(news.accuser, news.refused)) {
            Outcome::Confirmed
        } else {
            Outcome::Known
        }
    }

    /// Ends a suspicion of which nobody was told. Whether there was one.
    pub(crate) fn pardon(&mut self, node: NodeId, rng: &mut Rng) -> bool {
        let suspect = |row: &&Row| row.state() == MemberState::Suspect;
        let Some(row) = self.table.row(node).filter(suspect).copied() else {
            return false;
        };
        let mut news = self.update_of(&row, node);
        news.state = MemberState::Alive;
        self.leave_state(&row);
        self.table.set_state(node, MemberState::Alive, rng);
        self.enter_state(&news, Mono(0));
        true
    }

    /// Puts a member of a cluster that stands already into the table, as alive. Tells nobody.
    pub(crate) fn seed(&mut self, news: &Update, now: Mono, rng: &mut Rng) {
        if let Some(life) = pack_life(news.generation, news.incarnation)
            && !self.knows(news.node)
        {
            self.table
                .insert(Row::new(news.node, life, MemberState::Alive), rng);
            self.enter_state(news, now);
            self.meet(news.node);
        }
    }

    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.table.reserve(more);
    }

    /// Forgets a member that is gone, and remembers that it did, so that old news doesn't bring it back (chitchat #155).
    pub(crate) fn reap(&mut self, node: NodeId, now: Mono) {
        let Some(row) = self
            .table
            .row(node)
            .copied()
            .filter(|row| !row.is_present())
        else {
            return;
        };
        self.leave_state(&row);
        self.table.remove(node);
        self.rare.remove(&node);
        self.reaped.remember(node, row.generation(), now);
    }

    /// The members as readers see them, this node among them, by id.
    pub(crate) fn publish(&self, me: Member) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::with_capacity(self.len() + 1);
        members.push(me);
        members.extend(self.iter().map(|(node, record)| Member {
            node,
            state: record.state,
            peer_address: Some(record.address),
            client_address: record.client_address.as_deref().map(str::to_owned),
            voter: false,
            promote: false,
            store: None,
            generation: record.generation,
            incarnation: record.incarnation,
            heard_at: record.heard_at,
        }));
        members.sort_by_key(|member| member.node);
        members
    }
}

/// A row with what is kept aside of it.
fn record_with(row: &Row, rare: Option<&Rare>) -> Record {
    let aside = rare.and_then(|rare| rare.address);
    Record {
        generation: row.generation(),
        incarnation: row.incarnation(),
        state: row.state(),
        address: row
            .address()
            .or(aside)
            .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        client_address: rare.and_then(|rare| rare.client_address.clone()),
        heard_at: row.heard_at(),
    }
}

fn is_plausible(news: &Update, known: Option<&Row>, wall_ms: u64) -> bool {
    let base = match known {
        Some(row) if row.generation() == news.generation => row.incarnation().as_u64(),
        Some(_) | None => 0,
    };
    let ahead = wall_ms.saturating_add(GENERATION_AHEAD_MS_MAX);
    news.incarnation.as_u64() <= base.saturating_add(INCARNATION_JUMP_MAX)
        && news.generation.as_u64() <= ahead
}

/// The life above this incarnation: a new generation once a life has no higher incarnation.
pub(crate) fn life_above(
    generation: Generation,
    incarnation: Incarnation,
) -> (Generation, Incarnation) {
    if incarnation.as_u64() >= LIFE_INCARNATIONS {
        (generation.next(), Incarnation::ZERO)
    } else {
        (generation, incarnation.next())
    }
}

/// A generation within what others can keep.
pub(crate) fn bounded_generation(generation: Generation) -> Generation {
    generation.min(Generation::new(GENERATION_MAX))
}

/// The hash of one member's life; this node adds its own to that of the others.
pub(crate) fn life_hash(node: NodeId, generation: Generation, incarnation: Incarnation) -> u64 {
    mix(mix(mix(node.as_u64()) ^ generation.as_u64()) ^ incarnation.as_u64())
}

#[cfg(test)]
mod tests;
