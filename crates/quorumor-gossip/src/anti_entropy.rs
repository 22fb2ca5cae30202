//! Repair: what rumors missed, and what partitions kept apart, is found by comparing and filled from the logs or the state.
//!
//! ```text
//! A --ping, ack or beacon: hash--> B     equal: nothing more
//!                                  B --vector--> A      or, if it is wider than a datagram, two halves of bucket hashes,
//!                                                       which A answers with its rows of the buckets that differ
//! A --delta (events B lacks)-----> B     by datagrams if it is little, else by stream
//! A --vector, if it lacks some---> B     B answers with a delta of its own
//! ```
//! Each leg stands alone: a vector, or some of its rows, is always answered with what it proves missing. A peer that is behind the logs' ends
//! gets the registers that it lacks, piece by piece, and installs them with the donor's vector at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use crate::vector::bucket_of;

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
/// Writes that are sent at once to a peer that differs: how many are kept, how many go at a time, and how fresh they are, in
/// milliseconds.
const RECENT_KEPT: usize = 8;
const RECENT_SENT: usize = 2;
const RECENT_MS: u64 = 10_000;
/// Peers of which something is remembered.
const PEERS_MAX: usize = 64;
/// What a row takes on the wire, about: a writer's id, a log's id and a sequence.
const ROW_BYTES_MAX: usize = 16;
/// Buckets in one datagram of rows, and datagrams in one answer.
const ROWS_BUCKETS: usize = 32;
const ROWS_DATAGRAMS: usize = 4;
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
    /// Comparisons of members in a row that differed, with whomever.
    pub(crate) members_unsettled: u32,
    /// News about members since the tables were last compared.
    pub(crate) members_news: u64,
    pub(crate) table_sent_at: Option<Mono>,
    /// The last message of an exchange of tables that was sent or heard.
    pub(crate) exchanged_at: Option<Mono>,
    /// A timer for the next exchange is set.
    pub(crate) exchange_due: bool,
    pub(crate) peers_written_at: Option<Mono>,
    /// Where peers were in an earlier life: called on like seeds.
    pub(crate) remembered: Vec<SocketAddr>,
    /// Whether peers came or moved since they were last written down.
    pub(crate) peers_changed: bool,
    /// The last small writes that were learned.
    recent: VecDeque<(Mono, Arc<Event>)>,
    beaconed_at: Option<Mono>,
    beacon_due: bool,
    /// Peers to be asked when the pause since the last question is over.
    wanted: BTreeSet<NodeId>,
    fetch_due: bool,
}

impl Repair {
    /// What is remembered of a peer. Only the last few are: nodes talk to thousands.
    pub(crate) fn peer(&mut self, peer: NodeId, now: Mono) -> &mut PeerSync {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.touched);
            if let Some(oldest) = oldest.map(|(node, _)| *node) {
                self.peers.remove(&oldest);
            }
        }
        let peer = self.peers.entry(peer).or_default();
        peer.touched = now;
        peer
    }
}

/// What is remembered of the talk with one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerSync {
    unsettled: u32,
    asked_at: Option<Mono>,
    touched: Mono,
    pub(crate) welcomed_at: Option<Mono>,
    stream_broken: bool,
}

#[cfg(test)]
impl PeerSync {
    pub(crate) const fn stream_broken(&self) -> bool {
        self.stream_broken
    }
}

/// The buckets of one half.
fn half_of(half: bool) -> std::ops::RangeInclusive<u8> {
    if half { 128..=255 } else { 0..=127 }
}

pub(crate) fn is_recent(at: Option<Mono>, now: Mono, ms: u64) -> bool {
    at.is_some_and(|at| now.since_us(at) < ms * 1_000)
}

impl GossipReplica {
    // ---- comparing

    /// Notes whether a peer agrees; repairs the members' table if it doesn't for long.
    pub(crate) fn note_summary(&mut self, from: NodeId, summary: Summary) {
        self.compare_members(from, summary.members);
        let mine = self.summary();
        if summary.state == mine.state {
            // The same vector, and so the same of this node's log.
            self.trust_own_log();
        }
        if summary.state != mine.state {
            let now = self.now.mono();
            let peer = self.sync.peer(from, now);
            peer.unsettled = peer.unsettled.saturating_add(1);
            self.send_recent(from);
        } else if let Some(peer) = self.sync.peers.get_mut(&from) {
            peer.unsettled = 0;
        }
    }

    /// Sends what this node learned last to a peer that differs, since it is likely what that one lacks: under loss, one leg
    /// comes through where four don't.
    fn send_recent(&mut self, to: NodeId) {
        let now = self.now.mono();
        let recent = self.sync.recent.iter().rev();
        let events: Vec<Arc<Event>> = recent
            .filter(|(at, _)| is_recent(Some(*at), now, RECENT_MS))
            .map(|(_, event)| Arc::clone(event))
            .take(RECENT_SENT)
            .collect();
        for event in events {
            self.outbox
                .push_bare(Destination::Node(to), &Part::Rumors(vec![event]));
        }
    }

    /// A small write was learned.
    pub(crate) fn note_recent(&mut self, event: &Arc<Event>) {
        if self.sync.recent.len() == RECENT_KEPT {
            self.sync.recent.pop_front();
        }
        let now = self.now.mono();
        self.sync.recent.push_back((now, Arc::clone(event)));
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
        let peer = self.sync.peer(to, now);
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

    pub(crate) fn send_vector(&mut self, to: NodeId, reply: bool, via: Via) {
        let vector = self.store.known().vector();
        if via == Via::Datagram && vector.len() * ROW_BYTES_MAX > self.config.datagram_bytes_max {
            self.send_buckets(to);
            return;
        }
        let part = Part::Vector {
            reply,
            vector: vector.clone(),
        };
        if via == Via::Datagram {
            self.outbox.push_bare(Destination::Node(to), &part);
        } else {
            self.send_stream(to, StreamClass::Bulk, &[part]);
        }
    }

    /// The hashes of a vector that is wider than a datagram, in two datagrams that stand alone.
    fn send_buckets(&mut self, to: NodeId) {
        for half in [false, true] {
            let known = self.store.known();
            let hashes = half_of(half)
                .map(|bucket| known.bucket_hash(bucket))
                .collect();
            let part = Part::Buckets { half, hashes };
            self.outbox.push_bare(Destination::Node(to), &part);
        }
    }

    pub(crate) fn handle_buckets(&mut self, from: NodeId, half: bool, theirs: &[u64]) {
        let known = self.store.known();
        let differing: Vec<u8> = half_of(half)
            .zip(theirs)
            .filter(|(bucket, hash)| known.bucket_hash(*bucket) != **hash)
            .map(|(bucket, _)| bucket)
            .collect();
        self.send_rows(from, &differing, true);
    }

    /// All rows of some buckets: in a datagram as far as that goes, for the next comparison tells of the rest.
    fn send_rows(&mut self, to: NodeId, buckets: &[u8], reply: bool) {
        let room = self.config.datagram_bytes_max - PART_OVERHEAD_BYTES;
        for some in buckets.chunks(ROWS_BUCKETS).take(ROWS_DATAGRAMS) {
            let mut some = some.to_vec();
            while !some.is_empty() {
                let part = Part::Rows {
                    reply,
                    vector: self.store.known().rows_in(&some),
                    buckets: some.clone(),
                };
                if encode_part(&part).len() <= room {
                    self.outbox.push_bare(Destination::Node(to), &part);
                    break;
                }
                some.truncate(some.len() / 2);
            }
        }
    }

    /// Whether all rows of some buckets show that their sender lacks deletes that may be forgotten here.
    fn is_below_floor(&self, buckets: &[u8], theirs: &VersionVector) -> bool {
        let mut floor = self.store.floor().rows();
        floor.any(|(writer, log_id, seq)| {
            buckets.binary_search(&bucket_of(writer, log_id)).is_ok()
                && theirs.seq(writer, log_id) < seq
        })
    }

    pub(crate) fn handle_rows(
        &mut self,
        from: NodeId,
        buckets: &[u8],
        theirs: &VersionVector,
        reply: bool,
    ) {
        self.check_own_seq(theirs.seq(self.config.node, self.me.log_id));
        let mine = self.store.known().rows_in(buckets);
        if self.is_below_floor(buckets, theirs) {
            // Below the floor: only its whole vector says what to send.
            self.send_vector(from, true, Via::Stream);
            return;
        }
        match self.store.log().missing(&mine, theirs, DELTA_BYTES_MAX) {
            Missing::Nothing => {}
            Missing::Events { events, more } => {
                self.send_delta(from, &events, more, Via::Datagram);
            }
            // Only the whole vector says what of the state it lacks.
            Missing::TooOld => self.send_vector(from, true, Via::Stream),
        }
        if !mine.covers(theirs) {
            if reply {
                self.send_rows(from, buckets, false);
            } else {
                self.ask(from, false);
            }
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
        self.hear_of_own_log(theirs.seq(self.config.node, self.me.log_id));
        if self.published.health == Health::Starting && self.sync.start_target.is_none() {
            self.sync.start_target = Some(theirs.clone());
        }
        if !theirs.covers(self.store.floor()) {
            // Deletes that it lacks may be forgotten here.
            self.donate(from, theirs, true);
            if reply && !self.store.known().vector().covers(theirs) {
                self.send_vector(from, false, via);
            }
            return;
        }
        match self
            .store
            .log()
            .missing(self.store.known().vector(), theirs, DELTA_BYTES_MAX)
        {
            Missing::Nothing => {}
            Missing::Events { events, more } => self.send_delta(from, &events, more, via),
            Missing::TooOld => self.donate(from, theirs, false),
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
        let mut fates = Vec::new();
        for event in events {
            if self.forgets(event.dot) {
                continue;
            }
            self.check_own_dot(event.dot);
            if !self.pulls.end(&event) {
                self.counters.wrong_contents += 1;
                continue;
            }
            let dot = event.dot;
            match self.store.merge_event(Arc::clone(&event)) {
                Merged::New => {
                    fates.push((dot, true));
                    news.push(event);
                }
                Merged::Known => {
                    fates.push((dot, false));
                    self.counters.deltas_known += 1;
                }
                Merged::Held | Merged::Dropped => {}
            }
        }
        self.counters.deltas_new += news.len() as u64;
        if fates.len() <= RETOLD_MAX {
            // Whoever waits for its writes to be held hears of it.
            self.send_fates(from, &fates);
        }
        if more && !news.is_empty() {
            let now = self.now.mono();
            self.sync.peer(from, now).asked_at = Some(now);
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
        for to in self.members.some(count, None, &mut self.rng) {
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
            self.members.some(1, None, &mut self.rng).first().copied()
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
        if broken {
            let now = self.now.mono();
            self.sync.peer(peer, now).stream_broken = true;
            self.sync.transfers.break_off(peer);
            self.pulls.forget_times();
        } else if let Some(peer) = self.sync.peers.get_mut(&peer) {
            peer.stream_broken = false;
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
