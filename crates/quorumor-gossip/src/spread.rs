//! Rumors: what goes out in each round, what rides on other datagrams, and what peers say about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorumor_core::{Destination, Dot, Mono, NodeId, Output};

use crate::codec::{PART_OVERHEAD_BYTES, encode_part, event_bytes, update_bytes};
use crate::event::Event;
use crate::message::Part;
use crate::outbox::{Letter, pack};
use crate::replica::GossipReplica;
use crate::store::Merged;
use crate::suspicion::log10_ceil;
use crate::timers::Timer;

/// Datagrams for one member in one round.
const DATAGRAMS_PER_ROUND: usize = 4;
/// The least pause between two rounds, in milliseconds: under load, writes share datagrams.
const ROUND_PAUSE_MS: u64 = 5;
/// A wider context isn't told as a rumor; anti-entropy carries it.
const RUMOR_ROWS_MAX: usize = 32;
/// What an announced dot takes: three numbers.
const DOT_BYTES_MAX: usize = 30;
/// A part's kind, length and count.
const RIDER_OVERHEAD_BYTES: usize = PART_OVERHEAD_BYTES + 2;
/// What a letter's datagrams have told already.
#[derive(Debug, Default)]
struct Told {
    members: BTreeSet<NodeId>,
    events: BTreeSet<Dot>,
}

/// Fates in one feedback.
const FATES_MAX: usize = 16;

impl GossipReplica {
    /// Begins to tell a write.
    pub(crate) fn spread_event(&mut self, event: Arc<Event>, from: Option<NodeId>) {
        if event.context.rows().len() <= RUMOR_ROWS_MAX && self.members.present() > 0 {
            self.event_rumors.add(event.dot, event, from);
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

    /// One round: a few members hear what is told least.
    pub(crate) fn push_round(&mut self) {
        if self.member_rumors.is_empty() && self.event_rumors.is_empty() {
            return;
        }
        let now = self.now.mono();
        self.pushed_at = Some(now);
        let present = self.members.present();
        // A small cluster is told at once.
        let count = if present <= 2 * self.config.fanout {
            present
        } else {
            self.config.fanout
        };
        for to in self
            .gossip_ring
            .some(count, None, &self.members, &mut self.rng)
        {
            self.outbox
                .invite(Destination::Node(to), DATAGRAMS_PER_ROUND);
        }
        self.schedule_gossip(now.after_ms(self.config.gossip_interval_ms));
    }

    pub(crate) fn handle_rumors(&mut self, from: NodeId, events: Vec<Arc<Event>>) {
        let mut fates = Vec::new();
        for event in events {
            self.check_own_dot(event.dot);
            let dot = event.dot;
            let merged = self.store.merge_event(Arc::clone(&event));
            let news = match merged {
                Merged::New => {
                    self.counters.rumors_new += 1;
                    self.spread_event(event, Some(from));
                    true
                }
                Merged::Known => {
                    self.counters.rumors_known += 1;
                    false
                }
                Merged::Held => {
                    self.spread_event(event, Some(from));
                    self.ask(from, false);
                    true
                }
                Merged::Dropped => {
                    self.ask(from, false);
                    continue;
                }
            };
            fates.push((dot, news));
        }
        for fates in fates.chunks(FATES_MAX) {
            self.outbox
                .push_bare(Destination::Node(from), &Part::Feedback(fates.to_vec()));
        }
    }

    pub(crate) fn handle_announce(&mut self, from: NodeId, dots: &[Dot]) {
        let mut lacking = false;
        let mut fates = Vec::new();
        for dot in dots {
            self.check_own_dot(*dot);
            let news = !self.store.known().vector().covers_dot(*dot);
            lacking |= news;
            fates.push((*dot, news));
        }
        for fates in fates.chunks(FATES_MAX) {
            self.outbox
                .push_bare(Destination::Node(from), &Part::Feedback(fates.to_vec()));
        }
        if lacking {
            self.ask(from, false);
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
            Destination::Node(node) => self.members.record(node).is_some(),
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
            && self.members.record(node).is_some()
            && !self.members.is_alive(node)
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
        let budget = self.config.rumor_multiplier * log10_ceil(self.cluster_size()).max(1);
        if let Some(room) = self.room(datagram) {
            let (members, me) = (&self.members, self.my_update());
            let size = |node: NodeId, (): &()| {
                if node == me.node {
                    update_bytes(&me)
                } else {
                    members
                        .update(node, me.node)
                        .map_or(0, |update| update_bytes(&update))
                }
            };
            let picked = self
                .member_rumors
                .pick(to, &mut told.members, budget, room, size);
            let updates: Vec<_> = picked
                .iter()
                .filter_map(|(node, ())| self.update_about(*node))
                .collect();
            if !updates.is_empty() {
                datagram.extend_from_slice(&encode_part(&Part::Members(updates)));
            }
        }
        if let Some(room) = self.room(datagram) {
            let config = &self.config;
            let size = |_: Dot, event: &Arc<Event>| {
                if is_inline(
                    config.inline_value_bytes_max,
                    config.datagram_bytes_max,
                    event,
                ) {
                    event_bytes(event)
                } else {
                    DOT_BYTES_MAX
                }
            };
            // Two parts may come of it.
            let room = room.saturating_sub(RIDER_OVERHEAD_BYTES);
            let picked = self
                .event_rumors
                .pick(to, &mut told.events, budget, room, size);
            let (inline, large): (Vec<_>, Vec<_>) = picked
                .into_iter()
                .map(|(_, event)| event)
                .partition(|event| {
                    is_inline(
                        config.inline_value_bytes_max,
                        config.datagram_bytes_max,
                        event,
                    )
                });
            if !inline.is_empty() {
                datagram.extend_from_slice(&encode_part(&Part::Rumors(oldest_first(inline))));
            }
            if !large.is_empty() {
                let dots = large.iter().map(|event| event.dot).collect();
                datagram.extend_from_slice(&encode_part(&Part::Announce(dots)));
            }
        }
        datagram.len() > before
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

/// Whether a write is small enough to be told whole.
pub(crate) fn is_inline(value_bytes_max: usize, datagram_bytes_max: usize, event: &Event) -> bool {
    let value_bytes = event
        .value
        .as_ref()
        .map_or(0, |value| value.as_bytes().len());
    value_bytes <= value_bytes_max
        && event_bytes(event) + 2 * RIDER_OVERHEAD_BYTES <= datagram_bytes_max
}
