//! The replica: its parts, and the dispatch of each input to one of them.
//!
//! Nothing is decided here. Requests go to `requests.rs`, members and probes to `swim.rs`, rumors to `spread.rs`, repair
//! to `anti_entropy.rs`, the disk to `durability.rs`; `status.rs` says what readers see.

use std::collections::VecDeque;

use imbl::OrdMap;
use quorumor_core::{
    CallId, Change, Contact, DiskState, Dot, Error, Generation, History, Incarnation, Input, LogId,
    LogRecord, LogTime, Mono, NodeId, Now, Output, Persist, PersistToken, Position, Record,
    Recovered, Replica, Reply, Seq, View, WakeReason,
};

use crate::anti_entropy::Repair;
use crate::codec;
use crate::config::GossipConfig;
use crate::durability::{Durability, Meta};
use crate::event::Event;
use crate::hlc::Hlc;
use crate::ledger::Conflict;
use crate::member::Members;
use crate::message::Part;
use crate::outbox::Outbox;
use crate::probe::{Probes, Ring};
use crate::recovery::{OpenError, recover};
use crate::requests::Requests;
use crate::rng::Rng;
use crate::rumor::Rumors;
use crate::status::Published;
use crate::store::Store;
use crate::timers::{Timer, Timers};
use std::sync::Arc;

/// Lazy events are written out when they weigh this much, or after [`FLUSH_MS`].
const LAZY_BYTES_MAX: usize = 256 * 1024;
/// Lazy events that wait for a slow disk weigh at most this: more are left to the next checkpoint.
const LAZY_HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest that a peer's write stays out of this node's log, in milliseconds.
const FLUSH_MS: u64 = 200;

/// What happened that no caller sees: for metrics. All grow from 0 at each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that couldn't be decoded.
    pub malformed: u64,
    /// Parts of messages of a kind that this version doesn't know.
    pub unknown_parts: u64,
    /// News about members that was refused as impossible.
    pub refused_news: u64,
    /// Accusations of this node that it refuted.
    pub refutations: u64,
    /// Suspicions of others that began here by a failed probe.
    pub suspicions: u64,
    /// Members that this node held to be down, by its own timer or by hearsay.
    pub downs: u64,
    /// Events that came by rumor and were news.
    pub rumors_new: u64,
    /// Events that came by rumor and were known.
    pub rumors_known: u64,
    /// Events that came by anti-entropy and were news.
    pub deltas_new: u64,
    /// Events that came by anti-entropy and were known.
    pub deltas_known: u64,
    /// Whole states that were installed.
    pub states_installed: u64,
    /// Times this node found its own log cut back and began a new one.
    pub logs_lost: u64,
    /// Times this node couldn't know whether its own log is whole and began a new one.
    pub logs_doubted: u64,
    /// Checkpoints that were made.
    pub checkpoints: u64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Datagram,
    Stream,
}

/// What this node says of itself.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) generation: Generation,
    pub(crate) incarnation: Incarnation,
    pub(crate) client_address: Option<Arc<str>>,
    pub(crate) has_left: bool,
    /// Its life isn't durable before this is: until then it says nothing to anyone.
    pub(crate) silent_until: Option<PersistToken>,
    pub(crate) log_id: LogId,
    /// The last sequence given to a write, durable or not.
    pub(crate) seq: Seq,
    /// Whether a peer may know more of the own log than the disk gave back: until one was heard, writes wait.
    pub(crate) log_doubted: bool,
}

/// Eventual mode: one node of a gossip cluster. See the [crate's documentation](crate).
#[derive(Debug)]
pub struct GossipReplica {
    pub(crate) config: GossipConfig,
    pub(crate) now: Now,
    pub(crate) rng: Rng,
    pub(crate) me: Me,
    pub(crate) store: Store,
    pub(crate) hlc: Hlc,
    pub(crate) members: Members,
    pub(crate) probes: Probes,
    pub(crate) gossip_ring: Ring,
    pub(crate) member_rumors: Rumors<NodeId, ()>,
    pub(crate) event_rumors: Rumors<Dot, Arc<Event>>,
    pub(crate) gossip_due: Option<Mono>,
    pub(crate) pushed_at: Option<Mono>,
    /// Something is too fresh to wait for the next round.
    pub(crate) push_now: bool,
    pub(crate) sync: Repair,
    pub(crate) durability: Durability,
    pub(crate) flush_due: bool,
    pub(crate) disk_full: bool,
    pub(crate) requests: Requests,
    pub(crate) timers: Timers,
    pub(crate) outbox: Outbox,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) replies: Vec<(CallId, Result<Reply, Error>)>,
    pub(crate) published: Published,
    pub(crate) counters: Counters,
}

impl GossipReplica {
    /// Starts a node from what its disk holds; nothing on a first start. Drain the outputs once before the first input:
    /// the node's new life is made durable before it says anything.
    ///
    /// # Errors
    /// If the configuration makes no sense, or if the disk's content is not this crate's.
    pub fn open(config: GossipConfig, recovered: Recovered, now: Now) -> Result<Self, OpenError> {
        config.check()?;
        let past = recover(config.node, config.log_bytes_max, &recovered, now)?;
        let generation = past.meta.map_or(Generation::ZERO, |meta| meta.generation);
        // Above every life before, and above those of a disk that was lost.
        let generation = generation.next().max(Generation::new(now.wall_ms));
        let log_id = past
            .meta
            .map_or(LogId::new(now.wall_ms.max(1)), |meta| meta.log_id);
        let me = Me {
            generation,
            incarnation: Incarnation::ZERO,
            client_address: config.client_address.as_deref().map(Arc::from),
            has_left: false,
            silent_until: None,
            log_id,
            seq: past.store.known().seq(config.node, log_id),
            // A first life has no log that anyone could know.
            log_doubted: past.meta.is_some(),
        };
        let mut sync = Repair::default();
        sync.remembered = past.peers;
        sync.remembered.retain(|peer| *peer != config.peer_address);
        let published = Published::new(&config, &me, &past.store);
        let mut replica = Self {
            now,
            rng: Rng::new(config.seed),
            me,
            store: past.store,
            hlc: past.hlc,
            members: Members::default(),
            probes: Probes::default(),
            gossip_ring: Ring::default(),
            member_rumors: Rumors::new(usize::MAX),
            event_rumors: Rumors::new(config.rumors_max),
            gossip_due: None,
            pushed_at: None,
            push_now: false,
            sync,
            durability: Durability::new(past.position, past.log_bytes),
            flush_due: false,
            disk_full: false,
            requests: Requests::default(),
            timers: Timers::default(),
            outbox: Outbox::default(),
            outputs: VecDeque::new(),
            replies: Vec::new(),
            published,
            counters: Counters::default(),
            config,
        };
        replica.begin_life(recovered.torn);
        replica.settle();
        Ok(replica)
    }

    /// What happened that no caller sees.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The last writes that lost to concurrent ones at this node, oldest first. The count in the status goes on where
    /// this list ends.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.store.ledger().listed()
    }

    fn begin_life(&mut self, torn: bool) {
        let now = self.now.mono();
        self.persist_identity();
        if torn {
            // The cut may have taken what was acknowledged and told: damage looks the same as a crash.
            self.give_up_doubted_log();
        }
        self.spread_news_of(self.config.node);
        let first_probe = self.rng.below(self.config.probe_interval_ms * 1_000);
        self.timers.set(now.after_us(first_probe), Timer::Probe);
        let first_down = self.rng.below(self.config.down_probe_interval_ms * 1_000);
        self.timers.set(now.after_us(first_down), Timer::DownProbe);
        self.config
            .seeds
            .retain(|seed| *seed != self.config.peer_address);
        if self.config.seeds.is_empty() && self.sync.remembered.is_empty() {
            // There is nobody who could know more.
            self.trust_own_log();
            self.serve();
        } else {
            self.timers
                .set(now.after_ms(self.config.starting_ms_max), Timer::Starting);
        }
        self.timers.set(now.after_ms(1_000), Timer::Status);
    }

    /// Makes this life durable. Until then nothing is sent.
    pub(crate) fn persist_identity(&mut self) {
        let meta = self.meta();
        let (token, records) = self.durability.several(vec![meta.record()]);
        self.me.silent_until = Some(token);
        self.append(token, records, true);
    }

    pub(crate) const fn meta(&self) -> Meta {
        Meta {
            generation: self.me.generation,
            log_id: self.me.log_id,
        }
    }

    pub(crate) fn append(&mut self, token: PersistToken, records: Vec<Record>, sync: bool) {
        self.outputs.push_back(Output::Persist(Persist::Append {
            token,
            records: records.into_iter().map(LogRecord::Put).collect(),
            sync,
        }));
    }

    fn handle_message(&mut self, from: NodeId, payload: &[u8], via: Via) {
        if from == self.config.node || self.me.has_left {
            return;
        }
        let Ok(decoded) = codec::decode(payload) else {
            self.counters.malformed += 1;
            return;
        };
        self.counters.unknown_parts += decoded.unknown;
        for part in decoded.parts {
            self.handle_part(from, part, via);
        }
        self.members.heard(from, self.now.mono());
    }

    fn handle_part(&mut self, from: NodeId, part: Part, via: Via) {
        match part {
            Part::Ping {
                number,
                target,
                join,
                summary,
                me,
            } => {
                if target.is_none_or(|target| target == self.config.node) {
                    self.handle_ping(from, number, &me, via);
                    self.compare(from, summary);
                    if join {
                        self.welcome(from);
                    }
                }
            }
            Part::Ack {
                number,
                summary,
                me,
            } => {
                self.handle_ack(from, number, &me);
                self.note_summary(from, summary);
            }
            Part::IndirectPing { number, target } => {
                self.handle_indirect_ping(from, number, target)
            }
            Part::IndirectAck { number } => self.handle_probe_success(number),
            Part::Nack { number } => self.handle_nack(number),
            Part::Members(updates) => {
                for update in &updates {
                    self.merge_news(update, from);
                }
            }
            Part::Rumors(events) => self.handle_rumors(from, events),
            Part::Announce(dots) => self.handle_announce(from, &dots),
            Part::Feedback(fates) => {
                for (dot, news) in fates {
                    self.event_rumors
                        .feedback(dot, news, self.config.rumor_useless_max);
                }
            }
            Part::Beacon(summary) => self.compare(from, summary),
            Part::Vector { reply, vector } => self.handle_vector(from, &vector, reply, via),
            Part::Delta { more, events } => self.handle_delta(from, events, more),
            Part::State(chunk) => self.handle_state(from, chunk),
            Part::StatePull { transfer, index } => self.handle_state_pull(from, transfer, index),
        }
    }

    fn handle_timers(&mut self) {
        while let Some(timer) = self.timers.pop(self.now.mono()) {
            if self.me.has_left {
                continue;
            }
            match timer {
                Timer::Probe => self.begin_probe(),
                Timer::ProbeAck(number) => self.probe_indirectly(number),
                Timer::Relay(number) => self.end_relay(number),
                Timer::Suspicion(node) => self.judge_suspicion(node),
                Timer::Gossip => self.handle_gossip_timer(),
                Timer::DownProbe => self.probe_down(),
                Timer::Seed => self.handle_seed_timer(),
                Timer::Flush => self.flush_lazy(),
                Timer::Fetch => self.handle_fetch_timer(),
                Timer::Starting => {
                    self.give_up_doubted_log();
                    self.serve();
                }
                Timer::Beacon => self.handle_beacon_timer(),
                Timer::Status => self.refresh_contact(),
            }
        }
    }

    fn handle_contact(&mut self, peer: NodeId, contact: Contact) {
        let broken = match contact {
            Contact::Connected => false,
            Contact::Refused => {
                // Nobody listens there: worth a look soon, but no proof that the member is gone.
                self.probes.ring.hasten(peer);
                true
            }
            Contact::Closed => true,
            Contact::Dropped => {
                // Something was lost, but the stream may be as good as before: a queue was full.
                self.sync.transfers.break_off(peer);
                return;
            }
        };
        self.note_stream(peer, broken);
    }

    fn handle_persisted(&mut self, token: PersistToken) {
        if self.me.silent_until.is_some_and(|waiting| waiting <= token) {
            self.me.silent_until = None;
            self.schedule_seeds(self.now.mono());
        }
        for write in self.durability.persisted(token) {
            self.finish_write(write);
        }
    }

    /// What every input ends with: what was merged is persisted, told, shown and answered, in this order.
    fn settle(&mut self) {
        self.absorb_step();
        self.wake_waiting();
        self.absorb_step();
        if !self.disk_full || self.durability.open_count() > 0 {
            self.commit_group();
        }
        self.maybe_checkpoint();
        self.push_if_due();
        self.flush_outbox();
        self.refresh_status();
        for (call, result) in std::mem::take(&mut self.replies) {
            self.outputs.push_back(Output::Reply { call, result });
        }
    }

    fn absorb_step(&mut self) {
        let step = self.store.take_step();
        for event in &step.applied {
            if event.dot.writer != self.config.node || event.dot.log_id != self.me.log_id {
                self.hlc.observe(self.now.wall_ms, event.stamp);
                self.durability.add_lazy(Arc::clone(event));
                self.requests.join_overlay(event);
            }
        }
        if step.installed {
            self.requests.join_overlays(&self.store);
            self.sync.checkpoint_wanted = true;
        }
        self.requests
            .note_raised(&step.raised, self.store.known().vector());
        if !step.changes.is_empty() {
            self.outputs.push_back(Output::Changed(Change {
                position: Position::Eventual(self.store.known().vector().clone()),
                events: step.changes.into(),
            }));
        }
        if self.durability.lazy_bytes() > LAZY_BYTES_MAX {
            self.flush_lazy();
        } else if self.durability.lazy_bytes() > 0 && !self.flush_due {
            self.flush_due = true;
            self.timers
                .set(self.now.mono().after_ms(FLUSH_MS), Timer::Flush);
        }
        self.check_started();
    }

    fn commit_group(&mut self) {
        while let Some((token, records)) = self.durability.next_group() {
            if records.is_empty() {
                // Reads in batches, behind writes that are durable by now.
                for write in self.durability.persisted(token) {
                    self.finish_write(write);
                }
            } else {
                self.append(token, records, true);
            }
        }
    }

    fn flush_lazy(&mut self) {
        self.flush_due = false;
        if self.disk_full {
            // They can be pulled again; a full disk is left alone.
            self.durability.forget_lazy();
        } else if let Some((token, records)) = self.durability.next_lazy() {
            self.append(token, records, false);
        } else if self.durability.lazy_bytes() > LAZY_HELD_BYTES_MAX {
            // A crash before it loses them here; they are pulled again.
            self.durability.forget_lazy();
            self.sync.checkpoint_wanted = true;
        }
    }
}

impl Replica for GossipReplica {
    fn handle(&mut self, now: Now, input: Input) {
        self.now = Now {
            mono_us: now.mono_us.max(self.now.mono_us),
            wall_ms: now.wall_ms,
        };
        match input {
            Input::Request { call, request } => self.handle_request(call, request),
            Input::Cancel { call } => self.cancel(call),
            Input::Datagram { from, payload } => self.handle_message(from, &payload, Via::Datagram),
            Input::Stream {
                from,
                class: _,
                payload,
            } => self.handle_message(from, &payload, Via::Stream),
            Input::Contact { peer, contact } => self.handle_contact(peer, contact),
            Input::Persisted { token } => self.handle_persisted(token),
            Input::Checkpointed { token } => self.handle_checkpointed(token),
            Input::Disk(state) => self.disk_full = state == DiskState::Full,
            Input::Timer => self.handle_timers(),
            Input::Leave => self.leave(),
        }
        self.settle();
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Mono, WakeReason)> {
        self.timers.next()
    }

    fn view(&self) -> View {
        View {
            entries: self.store.entries().clone(),
            position: Position::Eventual(self.store.known().vector().clone()),
            status: self.published.status(),
            history: History::default(),
            leases: OrdMap::new(),
            log_time: LogTime::default(),
        }
    }
}
