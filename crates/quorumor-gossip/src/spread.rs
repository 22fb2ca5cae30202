//! Rumors: what goes out in each round, what rides on other datagrams, and what peers say about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorumor_core::{Destination, Dot, MemberState, Mono, NodeId, Output};

use crate::codec::{
    PART_OVERHEAD_BYTES, UPDATE_BYTES_USUAL, encode_part, event_bytes, offer_bytes, update_bytes,
};
use crate::config::GossipConfig;
use crate::event::Event;
use crate::message::{Offer, Part};
use crate::outbox::{Letter, pack};
use crate::replica::GossipReplica;
use crate::store::Merged;
use crate::suspicion::log10_ceil;
use crate::timers::Timer;

/// Datagrams for one member in one round.
const DATAGRAMS_PER_ROUND: usize = 4;
/// The least pause between two rounds, in milliseconds: under load, writes share datagrams.
const ROUND_PAUSE_MS: u64 = 5;
/// The pause until the next round for what was told in fewer rounds than so many, in milliseconds.
const FRESH_PAUSE_MS: u64 = 40;
const FRESH_ROUNDS: u64 = 3;
/// How often news of a member is told while there is nearly more of it than can be told at a time: it reaches most, and
/// the tables do the rest.
const MASS_SENDS: u64 = 2;
/// And how many bytes of it ride on a datagram then.
const MASS_BYTES_MAX: usize = 960;
/// A wider context isn't told as a rumor; anti-entropy carries it.
const RUMOR_ROWS_MAX: usize = 32;
/// What an announced dot takes: three numbers.
const DOT_BYTES_MAX: usize = 30;
/// A part's kind, length and count.
const RIDER_OVERHEAD_BYTES: usize = PART_OVERHEAD_BYTES + 2;
/// Fates in one feedback.
const FATES_MAX: usize = 16;

/// What a letter's datagrams have told already.
#[derive(Debug, Default)]
struct Told {
    members: BTreeSet<NodeId>,
    events: BTreeSet<Dot>,
}

impl GossipReplica {
    /// Begins to tell a write.
    pub(crate) fn spread_event(&mut self, event: Arc<Event>, from: Option<NodeId>) {
        if event.context.rows().len() <= RUMOR_ROWS_MAX && self.members.present() > 0 {
            let config = &self.config;
            if is_inline(
                config.inline_value_bytes_max,
                config.datagram_bytes_max,
                &event,
            ) {
                self.note_recent(&event);
            }
            // In a small cluster its writer has told everyone: what others add is for those whom that didn't reach.
            let told = from.is_some() && self.tells_all();
            let sends = if told { self.config.payload_sends } else { 0 };
            self.event_rumors.add(event.dot, event, from, sends);
            self.schedule_gossip(self.now.mono().after_ms(self.config.gossip_interval_ms));
        }
    }

    pub(crate) fn schedule_gossip(&mut self, at: Mono) {
        if self.gossip_due.is_none_or(|due| at < due) {
            self.gossip_due = Some(at);
            self.timers.set(at, Timer::Gossip);
        }
    }

    pub(crate) fn handle_gossip_timer(&mut self) {
        if self.gossip_due.is_some_and(|due| due <= self.now.mono()) {
            self.gossip_due = None;
            self.push_round();
        }
    }

    /// Something is too fresh to wait for the rhythm.
    pub(crate) fn push_if_due(&mut self) {
        if !std::mem::take(&mut self.push_now) {
            return;
        }
        let soonest = self.pushed_at.map(|at| at.after_ms(ROUND_PAUSE_MS));
        match soonest {
            Some(soonest) if soonest > self.now.mono() => self.schedule_gossip(soonest),
            Some(_) | None => self.push_round(),
        }
    }

    /// Whether the cluster is so small that everyone is told at once.
    const fn tells_all(&self) -> bool {
        self.members.present() <= 2 * self.config.fanout
    }

    /// One round: a few members hear what is told least.
    pub(crate) fn push_round(&mut self) {
        if self.member_rumors.is_empty() && self.event_rumors.is_empty() {
            return;
        }
        let now = self.now.mono();
        if self.budgets.datagrams.left(now) == 0 {
            self.counters.rounds_deferred += 1;
            self.schedule_gossip(now.after_ms(self.config.gossip_interval_ms));
            return;
        }
        self.pushed_at = Some(now);
        let present = self.members.present();
        // A small cluster is told at once.
        let count = if self.tells_all() {
            present
        } else {
            self.config.fanout
        };
        // What was told by a few alone is told again soon: the first wave leaves one in twenty out.
        let fresh_sends = FRESH_ROUNDS * self.config.fanout as u64;
        let least_told = self.event_rumors.least_told();
        let is_fresh = least_told.is_some_and(|sends| sends < fresh_sends);
        let mut peers = self.members.some(count, None, &mut self.rng);
        if least_told.is_some_and(|sends| sends <= self.config.fanout as u64) {
            // Random choices miss some node almost every time; it is the next of one that has heard.
            let next = self.members.successor(self.config.node);
            peers.extend(next.filter(|next| !peers.contains(next)));
        }
        for to in peers {
            self.outbox
                .invite(Destination::Node(to), DATAGRAMS_PER_ROUND);
        }
        let pause_ms = if is_fresh {
            FRESH_PAUSE_MS.min(self.config.gossip_interval_ms)
        } else {
            self.config.gossip_interval_ms
        };
        self.schedule_gossip(now.after_ms(pause_ms));
    }

    pub(crate) fn handle_rumors(&mut self, from: NodeId, events: Vec<Arc<Event>>) {
        let mut fates = Vec::new();
        for event in events {
            if self.forgets(event.dot) {
                continue;
            }
            self.check_own_dot(event.dot);
            let dot = event.dot;
            let merged = self.store.merge_event(Arc::clone(&event));
            let news = match merged {
                Merged::New => {
                    self.counters.rumors_new += 1;
                    self.spread_event(event, Some(from));
                    // The first hops make the wave: they don't wait for the rhythm.
                    self.push_now |= !self.tells_all();
                    true
                }
                Merged::Known => {
                    self.counters.rumors_known += 1;
                    false
                }
                Merged::Held => {
                    self.spread_event(event, Some(from));
                    self.ask(from, false);
                    continue;
                }
                Merged::Dropped => {
                    self.ask(from, false);
                    continue;
                }
            };
            fates.push((dot, news));
        }
        self.send_fates(from, &fates);
    }

    pub(crate) fn send_fates(&mut self, to: NodeId, fates: &[(Dot, bool)]) {
        for fates in fates.chunks(FATES_MAX) {
            self.outbox
                .push_bare(Destination::Node(to), &Part::Feedback(fates.to_vec()));
        }
    }

    /// Sends everything that this step gathered, with news on every datagram that has room.
    pub(crate) fn flush_outbox(&mut self) {
        let letters = self.outbox.take();
        if self.me.silent_until.is_some() {
            return;
        }
        for (to, letter) in letters {
            if !self.is_reachable(to) {
                continue;
            }
            for payload in self.write_datagrams(to, letter) {
                let now = self.now.mono();
                self.budgets.datagrams.spend(now, payload.len() as u64);
                self.outputs.push_back(Output::Datagram {
                    to,
                    payload: payload.into(),
                });
            }
        }
    }

    /// Whether the shell can know where to send: a peer may speak before its record has come.
    fn is_reachable(&self, to: Destination) -> bool {
        match to {
            Destination::Node(node) => self.members.knows(node),
            Destination::Seed(_) => true,
        }
    }

    fn write_datagrams(&mut self, to: Destination, letter: Letter) -> Vec<Vec<u8>> {
        let bytes_max = self.config.datagram_bytes_max;
        let Destination::Node(node) = to else {
            return pack(&letter.parts, bytes_max);
        };
        let mut parts = letter.parts;
        if letter.takes_riders
            && self
                .members
                .state(node)
                .is_some_and(|state| state != MemberState::Alive)
            && !self.probes.quiet.contains(&node)
            && let Some(update) = self.update_about(node)
        {
            // The accused hears it first, and can refute.
            parts.insert(0, encode_part(&Part::Members(vec![update])));
        }
        let mut datagrams = pack(&parts, bytes_max);
        if !letter.takes_riders {
            return datagrams;
        }
        let mut last = datagrams.pop().unwrap_or_default();
        let mut told = Told::default();
        for _ in 0..letter.rounds.max(1) {
            if !self.ride(node, &mut last, &mut told) {
                break;
            }
            if letter.rounds > 1 {
                datagrams.push(std::mem::take(&mut last));
            }
        }
        if !last.is_empty() {
            datagrams.push(last);
        }
        datagrams
    }

    /// Fills a datagram with news: members first, then writes. Whether there was any.
    fn ride(&mut self, to: NodeId, datagram: &mut Vec<u8>, told: &mut Told) -> bool {
        let before = datagram.len();
        // ceil(log10(n + 1)) times a factor, as memberlist's retransmit limit.
        // And two rounds at least.
        let budget = (self.config.rumor_multiplier * log10_ceil(self.cluster_size()).max(1))
            .max(2 * (self.config.fanout as u64 + 1));
        if let Some(room) = self.room(datagram) {
            self.ride_members(to, datagram, told, budget, room);
        }
        if let Some(room) = self.room(datagram) {
            self.ride_events(to, datagram, told, budget, room);
        }
        datagram.len() > before
    }

    fn ride_members(
        &mut self,
        to: NodeId,
        datagram: &mut Vec<u8>,
        told: &mut Told,
        budget: u64,
        room: usize,
    ) {
        if self.member_rumors.is_empty() {
            return;
        }
        let now = self.now.mono();
        let left = self.budgets.members.left(now);
        let allowed = usize::try_from(left).unwrap_or(usize::MAX);
        let (members, me) = (&self.members, self.my_update());
        // When very many come or go, a rumor just has to get about; but nobody is to miss a refutation.
        let (mass_sends, allowed) = if self.member_rumors.is_crowded() {
            (MASS_SENDS, allowed.min(MASS_BYTES_MAX))
        } else {
            (budget, allowed)
        };
        let budget = |node: NodeId| {
            if node == me.node || members.has_refuted(node) {
                budget
            } else {
                mass_sends
            }
        };
        let word = |node: NodeId, (): &(), _: u64| {
            let update = if node == me.node {
                me.clone()
            } else {
                members.update(node, me.node)?
            };
            Some((update_bytes(&update), update))
        };
        let room = (room.min(allowed), UPDATE_BYTES_USUAL);
        let updates = self
            .member_rumors
            .pick(to, &mut told.members, budget, room, word);
        if !updates.is_empty() {
            let part = encode_part(&Part::Members(updates));
            self.budgets.members.spend(now, part.len() as u64);
            datagram.extend_from_slice(&part);
        }
    }

    fn ride_events(
        &mut self,
        to: NodeId,
        datagram: &mut Vec<u8>,
        told: &mut Told,
        budget: u64,
        room: usize,
    ) {
        if self.event_rumors.is_empty() {
            return;
        }
        let form = Form::new(&self.config);
        // Up to three parts may come of it.
        let room = room.saturating_sub(2 * RIDER_OVERHEAD_BYTES);
        let word = |_: Dot, event: &Arc<Event>, sends: u64| {
            let told_as = (form.of(event, sends), Arc::clone(event));
            Some((form.bytes(event, sends), told_as))
        };
        let room = (room, DOT_BYTES_MAX);
        let picked = self
            .event_rumors
            .pick(to, &mut told.events, |_| budget, room, word);
        let (mut whole, mut named, mut offered) = (Vec::new(), Vec::new(), Vec::new());
        for (telling, event) in picked {
            match telling {
                Telling::Whole => whole.push(event),
                Telling::Named => named.push(event.dot),
                Telling::Offered => offered.push(offer(&event)),
            }
        }
        let parts = [
            (!whole.is_empty()).then(|| Part::Rumors(oldest_first(whole))),
            (!named.is_empty()).then_some(Part::Announce(named)),
            (!offered.is_empty()).then_some(Part::Offers(offered)),
        ];
        for part in parts.into_iter().flatten() {
            datagram.extend_from_slice(&encode_part(&part));
        }
    }

    fn room(&self, datagram: &[u8]) -> Option<usize> {
        self.config
            .datagram_bytes_max
            .checked_sub(datagram.len() + RIDER_OVERHEAD_BYTES)
    }
}

/// Picked newest first, sent oldest first, so that they apply in order.
fn oldest_first(mut events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
    events.sort_by_key(|event| event.dot);
    events
}

/// How a write is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// With its value.
    Whole,
    /// By its dot: most know it by now.
    Named,
    /// By its dot and what it is, for it is too large for a datagram.
    Offered,
}

/// What decides how a write is told.
#[derive(Clone, Copy, Debug)]
struct Form {
    value_bytes_max: usize,
    datagram_bytes_max: usize,
    payload_sends: u64,
}

impl Form {
    const fn new(config: &GossipConfig) -> Self {
        Self {
            value_bytes_max: config.inline_value_bytes_max,
            datagram_bytes_max: config.datagram_bytes_max,
            payload_sends: config.payload_sends,
        }
    }

    fn of(self, event: &Event, sends: u64) -> Telling {
        if !is_inline(self.value_bytes_max, self.datagram_bytes_max, event) {
            Telling::Offered
        } else if sends < self.payload_sends {
            Telling::Whole
        } else {
            Telling::Named
        }
    }

    fn bytes(self, event: &Event, sends: u64) -> usize {
        match self.of(event, sends) {
            Telling::Whole => event_bytes(event),
            Telling::Named => DOT_BYTES_MAX,
            Telling::Offered => offer_bytes(event),
        }
    }
}

pub(crate) fn offer(event: &Event) -> Offer {
    Offer {
        dot: event.dot,
        key: event.key.clone(),
        stamp: event.stamp,
        bytes: event.value_bytes().len() as u64,
        hash: event.value_hash(),
    }
}

/// Whether a write is small enough to be told whole.
pub(crate) fn is_inline(value_bytes_max: usize, datagram_bytes_max: usize, event: &Event) -> bool {
    event.value_bytes().len() <= value_bytes_max
        && event_bytes(event) + 3 * RIDER_OVERHEAD_BYTES <= datagram_bytes_max
}

#[cfg(test)]
mod tests;
