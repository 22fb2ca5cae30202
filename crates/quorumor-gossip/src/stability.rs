//! When deletes may be forgotten: once everyone has them, agreed by named **cuts**, one at a time.
//!
//! ```text
//! cut n: (id, vector, members)   each member sets its bit once its DURABLE vector covers the cut's; bits are OR-ed by gossip
//! all bits set = stable: everyone has all writes of the cut
//! then: deletes within the cut BEFORE it are collected, with what lost to them and is within THIS cut
//! ```
//! Two cuts, because a write that its writer made before it heard of a delete may still be on its way when everyone has the
//! delete. A member confirms cut n only if that covers whatever it wrote before cut n-1 was stable for it; so when n is
//! stable, everything that could lose to a delete of n-1 is everywhere, and goes with it, everywhere alike.
//!
//! A member confirms one cut of each number, and only one that follows what it has collected itself; who missed more takes a
//! whole state (`transfer.rs`). So nobody collects under a cut that others don't know. The member with the lowest id proposes;
//! that is for peace, not for safety: a cut is stable by its bits alone, and whoever its list forgot is below the floor, and
//! takes whole states too.

use quorumor_core::{MemberState, Mono, NodeId, StreamClass, VersionVector};

use crate::anti_entropy::is_recent;
use crate::message::Part;
use crate::replica::GossipReplica;

/// A cut that isn't stable after so long, or after three of the usual intervals, is given up for a new one, in milliseconds: it may
/// have been made by a node that didn't know all, or have met one that had confirmed another.
const CUT_MS_MIN: u64 = 15_000;
/// Members that are told of the bits in each probe period while a cut is open.
const FANOUT: usize = 2;
/// Bytes of bits in one datagram.
const BITS_BYTES_MAX: usize = 800;
/// A whole state is asked for at most each so many milliseconds.
const WHOLE_PAUSE_MS: u64 = 2_000;
/// A cut is held back by someone if it isn't stable after so long, in milliseconds.
const HELD_MS: u64 = 5_000;

/// Owners of leases whom nobody knows any more are looked for so often, and not earlier after a start, in milliseconds.
const BURY_AFTER_MS: u64 = 120_000;

/// The name of a cut. The default is the one before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CutId {
    pub(crate) number: u64,
    pub(crate) proposer: Option<NodeId>,
    /// Tells cuts of a proposer's different lives apart.
    pub(crate) nonce: u64,
}

/// A cut that everyone has confirmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stable {
    pub(crate) id: CutId,
    /// The stable cut before it, and what that one covered: the deletes that go by this one.
    pub(crate) before: CutId,
    pub(crate) collects: VersionVector,
    pub(crate) vector: VersionVector,
}

/// A cut that is being confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) id: CutId,
    /// The stable cut that it follows.
    pub(crate) base: Stable,
    pub(crate) vector: VersionVector,
    /// Whom it asks, in order of ids.
    pub(crate) members: Vec<NodeId>,
    /// A bit a member, the lowest of a byte first.
    pub(crate) bits: Vec<u8>,
}

impl Cut {
    fn is_set(&self, place: usize) -> bool {
        self.bits[place / 8] & (1 << (place % 8)) != 0
    }

    fn confirm(&mut self, node: NodeId) {
        if let Ok(place) = self.members.binary_search(&node) {
            self.bits[place / 8] |= 1 << (place % 8);
        }
    }

    /// ORs bits in; whether some of the own ones were not among them.
    fn merge(&mut self, offset: usize, bits: &[u8]) -> bool {
        let own = self.bits.iter_mut().skip(offset);
        let mut has_more = false;
        for (mine, theirs) in own.zip(bits) {
            has_more |= *mine & !theirs != 0;
            *mine |= theirs;
        }
        has_more
    }

    fn is_full(&self) -> bool {
        (0..self.members.len()).all(|place| self.is_set(place))
    }

    fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        let places = (0..self.members.len()).filter(|place| !self.is_set(*place));
        places.map(|place| self.members[place])
    }
}

/// The state of the collection.
#[derive(Debug, Default)]
pub(crate) struct Stability {
    /// The last cut under which this node has collected.
    stable: Stable,
    open: Option<Open>,
    /// The last cut that this node confirmed. Durable before anyone hears of it: who confirms two of one number could let both
    /// become stable.
    confirmed: CutId,
    /// The one whose confirmation is being made durable.
    confirming: Option<CutId>,
    /// What this node had written when [`Self::stable`] became so.
    written: VersionVector,
    tried_at: Option<Mono>,
    whole_asked_at: Option<Mono>,
    buried_at: Option<Mono>,
    /// Who keeps cuts from becoming stable, and since when.
    held: Option<(NodeId, Mono)>,
}

#[derive(Debug)]
struct Open {
    cut: Cut,
    since: Mono,
}

impl Stability {
    pub(crate) fn restored(stable: Stable, confirmed: CutId) -> Self {
        Self {
            confirmed: confirmed.max(stable.id),
            stable,
            ..Self::default()
        }
    }

    /// The last cut that this node confirmed, or is about to.
    pub(crate) fn promised(&self) -> CutId {
        self.confirming.unwrap_or(self.confirmed)
    }

    pub(crate) const fn stable(&self) -> &Stable {
        &self.stable
    }

    /// Who holds the collection back, and for how many milliseconds.
    pub(crate) fn held_back_by(&self, now: Mono) -> Option<(NodeId, u64)> {
        let (node, since) = self.held?;
        let ms = now.since_us(since) / 1_000;
        (ms >= HELD_MS).then_some((node, ms))
    }
}

impl GossipReplica {
    /// Once a probe period: goes on with the open cut, or proposes one if there is something to collect.
    pub(crate) fn tick_stability(&mut self) {
        let now = self.now.mono();
        if now.0 > BURY_AFTER_MS * 1_000 && !is_recent(self.stability.buried_at, now, BURY_AFTER_MS)
        {
            self.stability.buried_at = Some(now);
            self.bury_the_unknown();
        }
        self.note_hold_back();
        if let Some(open) = &self.stability.open {
            let is_old =
                now.since_us(open.since) > CUT_MS_MIN.max(3 * self.config.cut_interval_ms) * 1_000;
            self.confirm_cut();
            self.finish_cut();
            self.tell_bits();
            if is_old && self.may_propose() {
                self.propose_cut();
            }
            return;
        }
        let pause_ms = self.config.cut_interval_ms;
        if !self.store.has_to_collect() || is_recent(self.stability.tried_at, now, pause_ms) {
            return;
        }
        self.stability.tried_at = Some(now);
        if self.may_propose() {
            self.propose_cut();
        }
    }

    fn may_propose(&mut self) -> bool {
        let me = self.config.node;
        self.published.health == quorumor_core::Health::Serving
            && self
                .members
                .lowest_present()
                .is_none_or(|lowest| me < lowest)
            && !self.is_isolated()
    }

    fn propose_cut(&mut self) {
        let open = self.stability.open.as_ref().map(|open| open.cut.id.number);
        let number = self
            .stability
            .stable
            .id
            .number
            .max(self.stability.confirmed.number)
            .max(open.unwrap_or(0))
            + 1;
        let members = self.cut_members();
        let cut = Cut {
            id: CutId {
                number,
                proposer: Some(self.config.node),
                nonce: self.me.generation.as_u64(),
            },
            base: self.stability.stable.clone(),
            vector: self.store.known().vector().clone(),
            bits: vec![0; members.len().div_ceil(8)],
            members,
        };
        self.counters.cuts_proposed += 1;
        self.open_cut(cut);
    }

    /// Everyone who may hold writes: who left, or is down for longer than the grace, isn't waited for.
    fn cut_members(&self) -> Vec<NodeId> {
        let now = self.now.mono();
        let grace_us = self.config.gc_grace_ms.saturating_mul(1_000);
        let waited_for = |node: NodeId, state: MemberState| match state {
            MemberState::Alive | MemberState::Suspect => true,
            MemberState::Down => {
                let since = self.members.down_since(node);
                since.is_none_or(|since| now.since_us(since) < grace_us)
            }
            MemberState::Left => false,
        };
        let others = self.members.iter();
        let mut members: Vec<NodeId> = others
            .filter(|(node, record)| waited_for(*node, record.state))
            .map(|(node, _)| node)
            .collect();
        members.push(self.config.node);
        members.sort_unstable();
        members
    }

    fn open_cut(&mut self, cut: Cut) {
        let since = self.now.mono();
        self.stability.open = Some(Open { cut, since });
        self.confirm_cut();
        self.finish_cut();
        self.tell_bits();
    }

    /// Sets the own bit, if all that the cut covers is durable here, and the cut covers what this node wrote before it had
    /// collected by the cut before.
    fn confirm_cut(&mut self) {
        let Some(open) = &mut self.stability.open else {
            return;
        };
        let cut = &mut open.cut;
        let promised = self
            .stability
            .confirming
            .unwrap_or(self.stability.confirmed);
        let may = cut.id == promised || cut.id.number > promised.number;
        if !may
            || !self.store.known().vector().covers(&cut.vector)
            || !cut.vector.covers(&self.stability.written)
        {
            return;
        }
        // The disk may remember a confirmation for which it lacks something: a compaction writes down what is promised.
        if self.stability.confirmed == cut.id && self.durability.is_durable(&cut.vector) {
            cut.confirm(self.config.node);
        } else if self.stability.confirming != Some(cut.id) {
            self.stability.confirming = Some(cut.id);
            self.make_durable();
        } else if !self.durability.is_promised() {
            self.make_durable();
        }
    }

    /// Everything that was known when a confirmation was begun is durable, and so is the confirmation.
    pub(crate) fn handle_durable(&mut self) {
        let covered = self
            .stability
            .open
            .as_ref()
            .is_some_and(|open| self.durability.is_durable(&open.cut.vector));
        let on_disk = self.durability.durable_cut();
        if covered
            && let Some(confirmed) = self
                .stability
                .confirming
                .take_if(|cut| on_disk == Some(*cut))
        {
            self.stability.confirmed = confirmed;
        }
        self.confirm_cut();
        self.finish_cut();
    }

    /// Collects, once everyone has confirmed.
    fn finish_cut(&mut self) {
        let is_due = self.stability.open.as_ref().is_some_and(|open| {
            open.cut.is_full() && self.store.known().vector().covers(&open.cut.vector)
        });
        let Some(open) = self.stability.open.take_if(|_| is_due) else {
            return;
        };
        let stable = Stable {
            id: open.cut.id,
            before: open.cut.base.id,
            collects: open.cut.base.vector.clone(),
            vector: open.cut.vector.clone(),
        };
        self.collect_by(stable);
    }

    fn collect_by(&mut self, stable: Stable) {
        let collected = self.store.collect(&stable.collects, &stable.vector);
        self.counters.tombstones_collected += collected as u64;
        self.counters.cuts_stable += 1;
        // With the next checkpoint the disk knows both, or neither.
        self.sync.checkpoint_wanted |= collected > 0;
        self.adopt_stable(stable);
    }

    /// Every later cut must cover what this node has written up to now, durable or not.
    pub(crate) fn note_written(&mut self) {
        self.stability.written = self.own_rows();
    }

    /// Goes on from a stable cut.
    pub(crate) fn adopt_stable(&mut self, stable: Stable) {
        self.stability.confirmed = self.stability.confirmed.max(stable.id);
        self.stability.stable = stable;
        self.note_written();
        self.stability.held = None;
        let stale = |open: &mut Open| open.cut.base.id != self.stability.stable.id;
        drop(self.stability.open.take_if(stale));
        self.published.changed = true;
    }

    fn own_rows(&self) -> VersionVector {
        let mut own = VersionVector::new();
        for (writer, log_id, seq) in self.store.known().vector().rows() {
            if writer == self.config.node {
                own.raise(writer, log_id, seq);
            }
        }
        own.raise(self.config.node, self.me.log_id, self.me.seq);
        own
    }

    // ---- talk

    fn tell_bits(&mut self) {
        let some = self.members.some(FANOUT, None, &mut self.rng);
        for to in some {
            self.send_bits(to);
        }
    }

    fn send_bits(&mut self, to: NodeId) {
        let Some(open) = &self.stability.open else {
            return;
        };
        let chunks = open.cut.bits.len().div_ceil(BITS_BYTES_MAX);
        let chunk = self.rng.index(chunks.max(1));
        let offset = chunk * BITS_BYTES_MAX;
        let bits = open.cut.bits.iter().skip(offset).take(BITS_BYTES_MAX);
        let part = Part::CutBits {
            cut: open.cut.id,
            offset: offset as u64,
            bits: bits.copied().collect(),
        };
        self.outbox
            .push_bare(quorumor_core::Destination::Node(to), &part);
    }

    pub(crate) fn handle_cut_bits(&mut self, from: NodeId, cut: CutId, offset: u64, bits: &[u8]) {
        if cut.number <= self.stability.stable.id.number {
            self.send_stable(from);
            return;
        }
        match &mut self.stability.open {
            Some(open) if open.cut.id == cut => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                if open.cut.merge(offset, bits) {
                    self.send_bits(from);
                }
                self.finish_cut();
            }
            Some(_) | None => {
                let part = Part::CutAsk;
                self.outbox
                    .push_bare(quorumor_core::Destination::Node(from), &part);
            }
        }
    }

    /// Tells a peer the open cut, or else the last one that is stable.
    pub(crate) fn send_cut(&mut self, to: NodeId) {
        match self.stability.open.as_ref().map(|open| open.cut.clone()) {
            Some(cut) => {
                let part = Part::Cut(Box::new(cut));
                self.send_stream(to, StreamClass::Bulk, &[part]);
            }
            None => self.send_stable(to),
        }
    }

    /// A peer lags: it hears by which cut it can collect.
    fn send_stable(&mut self, to: NodeId) {
        let part = Part::Stable(Box::new(self.stability.stable.clone()));
        self.send_stream(to, StreamClass::Bulk, &[part]);
    }

    pub(crate) fn handle_stable(&mut self, from: NodeId, stable: Stable) {
        if stable.id <= self.stability.stable.id {
            return;
        }
        if stable.before != self.stability.stable.id {
            self.ask_whole(from);
        } else if self.store.known().vector().covers(&stable.vector) {
            self.collect_by(stable);
        } else {
            self.ask(from, true);
        }
    }

    pub(crate) fn handle_cut(&mut self, from: NodeId, cut: Cut) {
        let own = self.stability.stable.id;
        if cut.base.id != own {
            if cut.base.id < own {
                self.send_stable(from);
                return;
            }
            self.handle_stable(from, cut.base.clone());
            if cut.base.id != self.stability.stable.id {
                return;
            }
        }
        if cut.id.number <= self.stability.stable.id.number {
            return;
        }
        let replaces = match &mut self.stability.open {
            Some(open) if open.cut.id == cut.id => {
                open.cut.merge(0, &cut.bits);
                false
            }
            // The later one, or of two at once the lower id, unless this node is bound already.
            Some(open) => {
                let is_bound = self.stability.confirmed == open.cut.id;
                cut.id.number > open.cut.id.number || (cut.id < open.cut.id && !is_bound)
            }
            None => true,
        };
        if replaces {
            self.open_cut(cut);
        } else {
            self.confirm_cut();
            self.finish_cut();
        }
    }

    /// This node missed so much that only a whole state tells what was collected.
    fn ask_whole(&mut self, from: NodeId) {
        let now = self.now.mono();
        if is_recent(self.stability.whole_asked_at, now, WHOLE_PAUSE_MS) {
            return;
        }
        self.stability.whole_asked_at = Some(now);
        let part = Part::Whole {
            vector: self.store.known().vector().clone(),
        };
        self.send_stream(from, StreamClass::Bulk, &[part]);
    }

    fn note_hold_back(&mut self) {
        let now = self.now.mono();
        let Some(open) = &self.stability.open else {
            return;
        };
        // Those who are gone first: they are why.
        let mut missing: Option<NodeId> = None;
        for node in open.cut.missing() {
            if !self.members.is_present(node) && node != self.config.node {
                missing = Some(node);
                break;
            }
            missing = missing.or(Some(node));
        }
        self.stability.held = match (missing, self.stability.held) {
            (Some(node), Some((held, since))) if node == held => Some((held, since)),
            (Some(node), _) => Some((node, open.since.min(now))),
            (None, _) => None,
        };
    }
}

#[cfg(test)]
mod tests;
