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
use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::{
    Destination, Dot, Error, Health, Key, LogId, Mono, NodeId, Seq, StreamClass, VersionVector,
};

use crate::codec::{PART_OVERHEAD_BYTES, encode_part, event_bytes, update_bytes};
use crate::durability::registers_after;
use crate::event::Event;
use crate::log::Missing;
use crate::message::{Part, StateChunk, Summary, Update};
use crate::register::Register;
use crate::replica::{GossipReplica, Via};
use crate::store::Merged;
use crate::timers::Timer;

/// One vector to one peer at most each so many milliseconds.
const ASK_PAUSE_MS: u64 = 50;
/// What waiting callers need is asked for again after so many milliseconds.
const FETCH_MS: u64 = 150;
/// Beacons of one node at most each so many milliseconds.
const BEACON_PAUSE_MS: u64 = 100;
/// One welcome to one peer at most each so many milliseconds.
const WELCOME_PAUSE_MS: u64 = 500;
/// Comparisons in a row that found a difference before a vector goes by stream.
const UNSETTLED_MAX: u32 = 3;
/// Events of one answer; the peer asks again for more.
const DELTA_BYTES_MAX: usize = 1024 * 1024;
/// So many events of a delta are worth telling others; more are left to beacons, for bulk is never a rumor.
const RETOLD_MAX: usize = 64;
/// State transfers that one node gives at a time.
const DONORS_MAX: usize = 4;
/// A transfer without progress for so long is given up, in milliseconds.
const TRANSFER_MS_MAX: u64 = 5_000;
/// Members in one part of a table.
const TABLE_PART: usize = 500;
/// Bytes of members that are sent by datagrams; more go by stream.
const TABLE_DATAGRAM_BYTES_MAX: usize = 8 * 1024;
/// Members that a joiner hears by datagram, in case that streams are slow.
const WELCOME_MEMBERS: usize = 8;

/// The repair's own state.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    peers: BTreeMap<NodeId, PeerSync>,
    donors: BTreeMap<NodeId, Donor>,
    incoming: Option<Incoming>,
    last_transfer: u64,
    /// What the first peer knew when this node started.
    pub(crate) start_target: Option<VersionVector>,
    pub(crate) checkpoint_wanted: bool,
    pub(crate) seed_backoff_ms: u64,
    beaconed_at: Option<Mono>,
    beacon_due: bool,
    /// Peers to be asked when the pause since the last question is over.
    wanted: BTreeSet<NodeId>,
    fetch_due: bool,
}

/// What is remembered of the talk with one peer.
#[derive(Debug, Default)]
struct PeerSync {
    unsettled: u32,
    members_unsettled: u32,
    asked_at: Option<Mono>,
    table_sent_at: Option<Mono>,
    welcomed_at: Option<Mono>,
    stream_broken: bool,
}

/// A state that a peer is pulling from here.
#[derive(Debug)]
struct Donor {
    transfer: u64,
    registers: OrdMap<Key, Arc<Register>>,
    vector: VersionVector,
    theirs: VersionVector,
    after: Option<Key>,
    index: u64,
    touched: Mono,
}

/// A state that this node is pulling, staged until it is whole.
#[derive(Debug)]
struct Incoming {
    from: NodeId,
    transfer: u64,
    index: u64,
    registers: Vec<Register>,
    touched: Mono,
}

fn is_recent(at: Option<Mono>, now: Mono, ms: u64) -> bool {
    at.is_some_and(|at| now.since_us(at) < ms * 1_000)
}

impl GossipReplica {
    // ---- comparing

    /// Notes whether a peer agrees; repairs the members' table if it doesn't for long.
    pub(crate) fn note_summary(&mut self, from: NodeId, summary: Summary) {
        let mine = self.summary();
        let now = self.now.mono();
        let pause_ms = 1_000.max(10 * self.members.len() as u64);
        let peer = self.sync.peers.entry(from).or_default();
        peer.unsettled =
            if summary.state == mine.state { 0 } else { peer.unsettled.saturating_add(1) };
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
        self.send_vector(to, reply, if by_stream { Via::Stream } else { Via::Datagram });
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
        let own = theirs.seq(self.config.node, self.me.log_id);
        if own > self.me.seq {
            self.lose_log();
        }
        if self.published.health == Health::Starting && self.sync.start_target.is_none() {
            self.sync.start_target = Some(theirs.clone());
        }
        match self.store.log().missing(self.store.known().vector(), theirs, DELTA_BYTES_MAX) {
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
        let stream_broken = self.sync.peers.get(&to).is_some_and(|peer| peer.stream_broken);
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

    // ---- whole states

    /// Offers the registers that a peer lacks; it pulls them piece by piece.
    fn donate(&mut self, to: NodeId, theirs: &VersionVector) {
        let now = self.now.mono();
        self.sync.donors.retain(|_, donor| now.since_us(donor.touched) < TRANSFER_MS_MAX * 1_000);
        if self.sync.donors.contains_key(&to) || self.sync.donors.len() >= DONORS_MAX {
            return;
        }
        self.sync.last_transfer += 1;
        let donor = Donor {
            // Unlike a number of an earlier life.
            transfer: self.me.generation.as_u64().wrapping_add(self.sync.last_transfer),
            registers: self.store.registers().clone(),
            vector: self.store.known().vector().clone(),
            theirs: theirs.clone(),
            after: None,
            index: 0,
            touched: now,
        };
        self.sync.donors.insert(to, donor);
        self.send_chunk(to);
    }

    fn send_chunk(&mut self, to: NodeId) {
        let now = self.now.mono();
        let bytes_max = self.config.stream_chunk_bytes;
        let Some(donor) = self.sync.donors.get_mut(&to) else {
            return;
        };
        let theirs = &donor.theirs;
        let registers = registers_after(&donor.registers, &mut donor.after, bytes_max, |register| {
            !register.is_within(theirs)
        });
        let is_last = registers.is_empty();
        let chunk = StateChunk {
            transfer: donor.transfer,
            index: donor.index,
            registers: registers.iter().map(|register| Register::clone(register)).collect(),
            vector: is_last.then(|| donor.vector.clone()),
        };
        donor.index += 1;
        donor.touched = now;
        if is_last {
            self.sync.donors.remove(&to);
        }
        self.send_stream(to, StreamClass::Bulk, &[Part::State(chunk)]);
    }

    pub(crate) fn handle_state_pull(&mut self, from: NodeId, transfer: u64, index: u64) {
        let is_next = self
            .sync
            .donors
            .get(&from)
            .is_some_and(|donor| donor.transfer == transfer && donor.index == index);
        if is_next {
            self.send_chunk(from);
        }
    }

    pub(crate) fn handle_state(&mut self, from: NodeId, chunk: StateChunk) {
        let now = self.now.mono();
        let expected = match self.sync.incoming.take() {
            Some(incoming) if incoming.from == from && incoming.transfer == chunk.transfer => {
                Some(incoming)
            }
            Some(other) if is_recent(Some(other.touched), now, TRANSFER_MS_MAX) => {
                self.sync.incoming = Some(other);
                return;
            }
            Some(_) | None => (chunk.index == 0).then(|| Incoming {
                from,
                transfer: chunk.transfer,
                index: 0,
                registers: Vec::new(),
                touched: now,
            }),
        };
        let Some(mut incoming) = expected.filter(|incoming| incoming.index == chunk.index) else {
            return;
        };
        incoming.registers.extend(chunk.registers);
        incoming.index += 1;
        incoming.touched = now;
        if let Some(vector) = chunk.vector {
            self.store.install(&incoming.registers, &vector);
            self.counters.states_installed += 1;
            self.schedule_beacon();
        } else {
            let part = Part::StatePull {
                transfer: incoming.transfer,
                index: incoming.index,
            };
            self.sync.incoming = Some(incoming);
            self.send_stream(from, StreamClass::Bulk, &[part]);
        }
    }

    // ---- telling that there is more

    fn schedule_beacon(&mut self) {
        if std::mem::replace(&mut self.sync.beacon_due, true) {
            return;
        }
        let now = self.now.mono();
        let at = self.sync.beaconed_at.map_or(now, |at| at.after_ms(BEACON_PAUSE_MS).max(now));
        self.timers.set(at, Timer::Beacon);
    }

    /// A few members compare themselves with this node, which has learned much at once.
    pub(crate) fn handle_beacon_timer(&mut self) {
        self.sync.beacon_due = false;
        self.sync.beaconed_at = Some(self.now.mono());
        let beacon = Part::Beacon(self.summary());
        let count = self.config.fanout;
        for to in self.gossip_ring.some(count, None, &self.members, &mut self.rng) {
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

    // ---- members' tables

    /// A joiner hears who is here and what is known here.
    pub(crate) fn welcome(&mut self, to: NodeId) {
        let now = self.now.mono();
        let peer = self.sync.peers.entry(to).or_default();
        if is_recent(peer.welcomed_at, now, WELCOME_PAUSE_MS) {
            return;
        }
        peer.welcomed_at = Some(now);
        let table = self.table();
        let few = table.iter().take(WELCOME_MEMBERS).cloned().collect();
        self.push_table(to, few);
        let mut parts: Vec<Part> =
            table.chunks(TABLE_PART).map(|chunk| Part::Members(chunk.to_vec())).collect();
        parts.push(Part::Vector {
            reply: true,
            vector: self.store.known().vector().clone(),
        });
        self.send_stream(to, StreamClass::Bulk, &parts);
    }

    fn send_table(&mut self, to: NodeId) {
        let table = self.table();
        if table.iter().map(update_bytes).sum::<usize>() <= TABLE_DATAGRAM_BYTES_MAX {
            self.push_table(to, table);
        } else {
            let parts: Vec<Part> =
                table.chunks(TABLE_PART).map(|chunk| Part::Members(chunk.to_vec())).collect();
            self.send_stream(to, StreamClass::Bulk, &parts);
        }
    }

    fn push_table(&mut self, to: NodeId, updates: Vec<Update>) {
        // One part a member, so that they pack into datagrams.
        for update in updates {
            self.outbox.push_bare(Destination::Node(to), &Part::Members(vec![update]));
        }
    }

    fn table(&self) -> Vec<Update> {
        let others = self.members.iter().filter_map(|(node, _)| self.update_about(node));
        std::iter::once(self.my_update()).chain(others).collect()
    }

    pub(crate) fn note_stream(&mut self, peer: NodeId, broken: bool) {
        self.sync.peers.entry(peer).or_default().stream_broken = broken;
        if broken && self.sync.incoming.as_ref().is_some_and(|incoming| incoming.from == peer) {
            self.sync.incoming = None;
        }
        if broken {
            self.sync.donors.remove(&peer);
        }
    }

    pub(crate) fn forget_peer(&mut self, peer: NodeId) {
        self.sync.peers.remove(&peer);
        self.sync.donors.remove(&peer);
        self.sync.wanted.remove(&peer);
    }

    // ---- the own log

    /// A peer knows a write of this node's log that this node doesn't: the disk was put back to an earlier state.
    pub(crate) fn check_own_dot(&mut self, dot: Dot) {
        if dot.writer == self.config.node
            && dot.log_id == self.me.log_id
            && dot.seq > self.me.seq
        {
            self.lose_log();
        }
    }

    /// Goes on in a new log, so that no dot is used twice; the rest of the old one is pulled like anyone's.
    fn lose_log(&mut self) {
        self.counters.logs_lost += 1;
        let old = self.me.log_id;
        let kept = self.store.known().seq(self.config.node, old);
        for write in self.durability.abandon() {
            if let Some(call) = write.call {
                let why = "this node's log was found cut back";
                self.reply(call, Err(Error::OutcomeUnknown { why }));
            }
        }
        self.requests.clear_overlays();
        self.me.log_id = old.next().max(LogId::new(self.now.wall_ms));
        self.me.seq = Seq::ZERO;
        let discard = self.durability.discard_record(old, kept);
        let (token, records) = self.durability.several(vec![discard, self.meta().record()]);
        self.append(token, records, true);
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
