//! The replica: its parts, and the dispatch of each input to one of them.
//!
//! Nothing is decided here. Requests go to `requests.rs`, members and probes to `swim.rs`, rumors to `spread.rs`, repair
//! to `anti_entropy.rs`, the disk to `durability.rs`; `status.rs` says what readers see.

use std::collections::VecDeque;
use std::net::SocketAddr;

use quorumor_core::{
    CallId, Change, DiskState, Dot, Error, Generation, History, Incarnation, Input, LogId,
    LogRecord, LogTime, Mono, NodeId, Now, Output, Persist, PersistToken, Position, Record,
    Replica, Reply, Seq, View, WakeReason,
};

use crate::acks::Acks;
use crate::anti_entropy::Repair;
use crate::budget::Bucket;
use crate::config::GossipConfig;
use crate::counters::Counters;
use crate::doubt::Doubt;
use crate::durability::{Durability, Meta};
use crate::event::Event;
use crate::forward::{Forwards, RemoteCalls};
use crate::hlc::Hlc;
use crate::leases::OwnLeases;
use crate::member::Members;
use crate::notice::Notice;
use crate::outbox::Outbox;
use crate::probe::Probes;
use crate::pulls::Pulls;
use crate::reap::Gone;
use crate::requests::Requests;
use crate::rng::Rng;
use crate::rumor::Rumors;
use crate::samples::Samples;
use crate::stability::Stability;
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

/// How much this node sends of what.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Half of what may be told of members: by rumor.
    pub(crate) members: Bucket,
    /// The other half: by tables. Neither leaves the other without.
    pub(crate) tables: Bucket,
    pub(crate) datagrams: Bucket,
    pub(crate) joins: Bucket,
    pub(crate) greetings: Bucket,
    pub(crate) welcomes: Bucket,
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
    /// Lives of this id elsewhere that this node has climbed over.
    pub(crate) duels: u32,
    /// Where another node lives that has this id.
    pub(crate) double: Option<SocketAddr>,
    /// Its life isn't durable before this is: until then it says nothing to anyone.
    pub(crate) silent_until: Option<PersistToken>,
    pub(crate) log_id: LogId,
    /// The last sequence given to a write, durable or not.
    pub(crate) seq: Seq,
    /// Whether a peer may know more of the own log than the disk gave back: until one was heard, writes wait.
    pub(crate) log_doubted: bool,
    /// Whether the last life acknowledged writes that no sync covered.
    pub(crate) log_unsynced: bool,
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
    pub(crate) doubt: Doubt,
    pub(crate) budgets: Budgets,
    pub(crate) pulls: Pulls,
    pub(crate) notices: Vec<Notice>,
    pub(crate) gone: Gone,
    pub(crate) own_leases: OwnLeases,
    pub(crate) forwards: Forwards,
    pub(crate) remote_calls: RemoteCalls,
    pub(crate) acks: Acks,
    pub(crate) samples: Samples,
    pub(crate) stability: Stability,
    pub(crate) member_rumors: Rumors<NodeId, ()>,
    pub(crate) event_rumors: Rumors<Dot, Arc<Event>>,
    pub(crate) gossip_due: Option<Mono>,
    pub(crate) pushed_at: Option<Mono>,
    /// Something is too fresh to wait for the next round.
    pub(crate) push_now: bool,
    pub(crate) sync: Repair,
    pub(crate) durability: Durability,
    pub(crate) flush_due: bool,
    /// Own writes were acknowledged since the last sync.
    pub(crate) unsynced: bool,
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
    /// What happened that no caller sees.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// What happened to members since this was last asked. Empty unless the configuration asks for notices.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// How many other members this node knows, dead or alive.
    #[must_use]
    pub fn members_known(&self) -> usize {
        self.members.len()
    }

    /// How many other members it holds to be alive or suspects.
    #[must_use]
    pub fn present(&self) -> usize {
        self.members.present()
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
            unsynced: !self.syncs_writes() && !self.me.has_left,
        }
    }

    /// Whether own writes are synced before they are acknowledged.
    pub(crate) const fn syncs_writes(&self) -> bool {
        match self.config.durability {
            quorumor_core::Durability::Majority | quorumor_core::Durability::Fsync => true,
            quorumor_core::Durability::Interval | quorumor_core::Durability::Memory => false,
        }
    }

    pub(crate) fn append(&mut self, token: PersistToken, records: Vec<Record>, sync: bool) {
        self.outputs.push_back(Output::Persist(Persist::Append {
            token,
            records: records.into_iter().map(LogRecord::Put).collect(),
            sync,
        }));
    }

    /// What every input ends with: what was merged is persisted, told, shown and answered, in this order.
    pub(crate) fn settle(&mut self) {
        self.absorb_step();
        self.wake_waiting();
        self.absorb_step();
        if !self.disk_full || self.durability.open_count() > 0 {
            self.commit_group();
        }
        self.maybe_checkpoint();
        self.probe_urgently();
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
            self.durability.leave_out();
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
                self.append(token, records, self.syncs_writes());
                self.unsynced |= !self.syncs_writes();
            }
        }
    }

    /// With durability `interval`: what was acknowledged since the last time becomes durable.
    pub(crate) fn handle_sync_timer(&mut self) {
        if std::mem::take(&mut self.unsynced) {
            let record = self.meta().record();
            let (token, records) = self.durability.several(vec![record]);
            self.append(token, records, true);
        }
        let at = self.now.mono().after_ms(self.config.sync_interval_ms);
        self.timers.set(at, Timer::Sync);
    }

    pub(crate) fn flush_lazy(&mut self) {
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
        self.store.set_wall(now.wall_ms);
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
            conflicts: self.store.ledger().conflicts(),
            entries: self.store.entries().clone(),
            position: Position::Eventual(self.store.known().vector().clone()),
            status: self.published.status(),
            history: History::default(),
            leases: self.store.leases().all().clone(),
            log_time: LogTime(self.now.mono_us / 1_000),
        }
    }
}
