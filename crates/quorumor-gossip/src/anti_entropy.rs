//! Repair: what rumors missed, and what partitions kept apart, is found by comparing and filled from the logs or the state.
//!
//! ```text
//! A --ping, ack or beacon: hash--> B     equal: nothing more
//!                                  B --vector--> A
//! A --delta (events B lacks)-----> B     by datagrams if it is little, else by stream
//! A --vector, if it lacks some---> B     B answers with a delta of its own
//! ```
//! Each leg stands alone: a vector is always answered with what it proves missing. A peer that is behind the logs' ends
//! gets the registers that it lacks, piece by piece, and installs them with the donor's vector at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use quorumor_core::{Destination, Health, LogId, Mono, NodeId, StreamClass, VersionVector};

use crate::codec::{PART_OVERHEAD_BYTES, encode_part, event_bytes};
use crate::event::Event;
use crate::log::Missing;
use crate::message::{Part, Summary};
use crate::replica::{GossipReplica, Via};
use crate::store::Merged;
use crate::timers::Timer;
use crate::transfer::Transfers;

/// One vector to one peer at most each so many milliseconds.
const ASK_PAUSE_MS: u64 = 50;
/// What waiting callers need is asked for again after so many milliseconds.
const FETCH_MS: u64 = 150;
/// Beacons of one node at most each so many milliseconds.
const BEACON_PAUSE_MS: u64 = 100;
/// Comparisons in a row that found a difference before a vector goes by stream.
const UNSETTLED_MAX: u32 = 3;
/// Events of one answer; the peer asks again for more.
const DELTA_BYTES_MAX: usize = 1024 * 1024;
/// So many events of a delta are worth telling others; more are left to beacons, for bulk is never a rumor.
const RETOLD_MAX: usize = 64;
/// The repair's own state.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    pub(crate) peers: BTreeMap<NodeId, PeerSync>,
    pub(crate) transfers: Transfers,
    /// What the first peer knew when this node started.
    pub(crate) start_target: Option<VersionVector>,
    pub(crate) checkpoint_wanted: bool,
    pub(crate) seed_backoff_ms: u64,
    /// When the seeds are called on next: there is one such rhythm, however often it is begun.
    pub(crate) seeds_due: Option<Mono>,
    /// Calls on seeds by number, and who answered at which: a seed's address may be a proxy's.
    pub(crate) seed_calls: BTreeMap<u64, SocketAddr>,
    pub(crate) seed_nodes: BTreeMap<SocketAddr, NodeId>,
    /// Where peers were in an earlier life: called on like seeds.
    pub(crate) remembered: Vec<SocketAddr>,
    /// Whether peers came or moved since they were last written down.
    pub(crate) peers_changed: bool,
    beaconed_at: Option<Mono>,
    beacon_due: bool,
    /// Peers to be asked when the pause since the last question is over.
    wanted: BTreeSet<NodeId>,
    fetch_due: bool,
}

/// What is remembered of the talk with one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerSync {
    unsettled: u32,
    members_unsettled: u32,
    asked_at: Option<Mono>,
    table_sent_at: Option<Mono>,
    pub(crate) welcomed_at: Option<Mono>,
    stream_broken: bool,
}

#[cfg(test)]
impl PeerSync {
    pub(crate) const fn stream_broken(&self) -> bool {
        self.stream_broken
    }
}

pub(crate) fn is_recent(at: Option<Mono>, now: Mono, ms: u64) -> bool {
    at.is_some_and(|at| now.since_us(at) < ms * 1_000)
}

impl GossipReplica {
    // ---- comparing

    /// Notes whether a peer agrees; repairs the members' table if it doesn't for long.
    pub(crate) fn note_summary(&mut self, from: NodeId, summary: Summary) {
        let mine = self.summary();
        if summary.state == mine.state {
            // The same vector, and so the same of this node's log.
            self.trust_own_log();
        }
        let now = self.now.mono();
        let pause_ms = 1_000.max(10 * self.members.len() as u64);
        let peer = self.sync.peers.entry(from).or_default();
        peer.unsettled = if summary.state == mine.state {
            0
        } else {
            peer.unsettled.saturating_add(1)
        };
        if summary.members == mine.members {
            peer.members_unsettled = 0;
            return;
        }
        peer.members_unsettled += 1;
        if peer.members_unsettled >= 2 && !is_recent(peer.table_sent_at, now, pause_ms) {
            peer.members_unsettled = 0;
            peer.table_sent_at = Some(now);
            self.send_table(from);
        }
    }

    /// Compares with a peer, and asks it if the states differ.
    pub(crate) fn compare(&mut self, from: NodeId, summary: Summary) {
        self.note_summary(from, summary);
        if summary.state != self.store.known().hash() {
            self.ask(from, true);
        }
    }

    /// Sends the own vector to a peer, now or when the pause is over. With `reply` the peer answers with its own.
    pub(crate) fn ask(&mut self, to: NodeId, reply: bool) {
        let now = self.now.mono();
        let peer = self.sync.peers.entry(to).or_default();
        if is_recent(peer.asked_at, now, ASK_PAUSE_MS) {
            self.sync.wanted.insert(to);
            self.schedule_fetch(ASK_PAUSE_MS);
            return;
        }
        peer.asked_at = Some(now);
        let by_stream = peer.unsettled >= UNSETTLED_MAX && !peer.stream_broken;
        self.send_vector(
            to,
            reply,
            if by_stream {
                Via::Stream
            } else {
                Via::Datagram
            },
        );
    }

    fn send_vector(&mut self, to: NodeId, reply: bool, via: Via) {
        let part = Part::Vector {
            reply,
            vector: self.store.known().vector().clone(),
        };
        let fits = encode_part(&part).len() <= self.config.datagram_bytes_max;
        if via == Via::Datagram && fits {
            self.outbox.push_bare(Destination::Node(to), &part);
        } else {
            self.send_stream(to, StreamClass::Bulk, &[part]);
        }
    }

    // ---- answering

    pub(crate) fn handle_vector(
        &mut self,
        from: NodeId,
        theirs: &VersionVector,
        reply: bool,
        via: Via,
    ) {
        self.check_own_seq(theirs.seq(self.config.node, self.me.log_id));
        self.trust_own_log();
        if self.published.health == Health::Starting && self.sync.start_target.is_none() {
            self.sync.start_target = Some(theirs.clone());
        }
        match self
            .store
            .log()
            .missing(self.store.known().vector(), theirs, DELTA_BYTES_MAX)
        {
            Missing::Nothing => {}
            Missing::Events { events, more } => self.send_delta(from, &events, more, via),
            Missing::TooOld => self.donate(from, theirs),
        }
        if reply && !self.store.known().vector().covers(theirs) {
            self.send_vector(from, false, via);
        }
    }

    fn send_delta(&mut self, to: NodeId, events: &[Arc<Event>], more: bool, via: Via) {
        let room = self.config.datagram_bytes_max - PART_OVERHEAD_BYTES - 4;
        let mut bytes = 0;
        let few = events
            .iter()
            .take_while(|event| {
                bytes += event_bytes(event);
                event_bytes(event) <= room && bytes <= self.config.datagram_sync_bytes_max
            })
            .count();
        let all_fit = few == events.len();
        let stream_broken = self
            .sync
            .peers
            .get(&to)
            .is_some_and(|peer| peer.stream_broken);
        if few > 0 && ((all_fit && via == Via::Datagram) || stream_broken) {
            for part in delta_parts(&events[..few], more || !all_fit, room) {
                self.outbox.push_bare(Destination::Node(to), &part);
            }
        } else {
            for part in delta_parts(events, more, self.config.stream_chunk_bytes) {
                self.send_stream(to, StreamClass::Bulk, &[part]);
            }
        }
    }

    pub(crate) fn handle_delta(&mut self, from: NodeId, events: Vec<Arc<Event>>, more: bool) {
        let mut news = Vec::new();
        for event in events {
            self.check_own_dot(event.dot);
            match self.store.merge_event(Arc::clone(&event)) {
                Merged::New => news.push(event),
                Merged::Known => self.counters.deltas_known += 1,
                Merged::Held | Merged::Dropped => {}
            }
        }
        self.counters.deltas_new += news.len() as u64;
        if more && !news.is_empty() {
            self.sync.peers.entry(from).or_default().asked_at = Some(self.now.mono());
            self.send_vector(from, false, Via::Stream);
        }
        if news.len() > RETOLD_MAX {
            self.schedule_beacon();
        } else {
            for event in news {
                self.spread_event(event, Some(from));
            }
        }
    }

    // ---- telling that there is more

    pub(crate) fn schedule_beacon(&mut self) {
        if std::mem::replace(&mut self.sync.beacon_due, true) {
            return;
        }
        let now = self.now.mono();
        let at = self
            .sync
            .beaconed_at
            .map_or(now, |at| at.after_ms(BEACON_PAUSE_MS).max(now));
        self.timers.set(at, Timer::Beacon);
    }

    /// A few members compare themselves with this node, which has learned much at once.
    pub(crate) fn handle_beacon_timer(&mut self) {
        self.sync.beacon_due = false;
        self.sync.beaconed_at = Some(self.now.mono());
        let beacon = Part::Beacon(self.summary());
        let count = self.config.fanout;
        for to in self
            .gossip_ring
            .some(count, None, &self.members, &mut self.rng)
        {
            self.outbox.push(Destination::Node(to), &beacon);
        }
    }

    // ---- fetching for callers

    fn schedule_fetch(&mut self, ms: u64) {
        if !std::mem::replace(&mut self.sync.fetch_due, true) {
            self.timers.set(self.now.mono().after_ms(ms), Timer::Fetch);
        }
    }

    /// Asks for one writer's log: the writer itself if it is there, else anyone.
    pub(crate) fn fetch(&mut self, (writer, _): (NodeId, LogId)) {
        let peer = if self.members.is_alive(writer) {
            Some(writer)
        } else {
            self.gossip_ring.next(&self.members, &mut self.rng)
        };
        if let Some(peer) = peer {
            self.ask(peer, false);
        }
        self.schedule_fetch(FETCH_MS);
    }

    pub(crate) fn handle_fetch_timer(&mut self) {
        self.sync.fetch_due = false;
        for peer in std::mem::take(&mut self.sync.wanted) {
            self.ask(peer, false);
        }
        for row in self.requests.wanted_rows() {
            self.fetch(row);
        }
    }

    // ---- the transport

    pub(crate) fn note_stream(&mut self, peer: NodeId, broken: bool) {
        self.sync.peers.entry(peer).or_default().stream_broken = broken;
        if broken {
            self.sync.transfers.break_off(peer);
        }
    }

    pub(crate) fn forget_peer(&mut self, peer: NodeId) {
        self.sync.peers.remove(&peer);
        self.sync.transfers.break_off(peer);
        self.sync.wanted.remove(&peer);
    }
}

/// Events in order, in parts of at most about `bytes_max`; the last one says whether there are more.
fn delta_parts(events: &[Arc<Event>], more: bool, bytes_max: usize) -> Vec<Part> {
    let mut parts: Vec<Vec<Arc<Event>>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        match parts.last_mut() {
            Some(last) if bytes + event_bytes(event) <= bytes_max => last.push(Arc::clone(event)),
            Some(_) | None => {
                bytes = 0;
                parts.push(vec![Arc::clone(event)]);
            }
        }
        bytes += event_bytes(event);
    }
    let last = parts.len().saturating_sub(1);
    parts
        .into_iter()
        .enumerate()
        .map(|(at, events)| Part::Delta {
            more: more && at == last,
            events,
        })
        .collect()
}
