//! A node's beginning: what it makes of its past, and its first steps.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use quorumor_core::{
    Durability as Survives, Generation, Incarnation, LogId, MemberState, NodeId, Now, Plant,
    Record, Recovered,
};

use crate::acks::Acks;
use crate::anti_entropy::Repair;
use crate::budget::Bucket;
use crate::config::GossipConfig;
use crate::counters::Counters;
use crate::doubt::Doubt;
use crate::durability::{Durability, KIND_EVENT};
use crate::event::Event;
use crate::forward::{Forwards, RemoteCalls};
use crate::leases::OwnLeases;
use crate::member::{Members, bounded_generation};
use crate::message::Update;
use crate::outbox::Outbox;
use crate::probe::Probes;
use crate::pulls::Pulls;
use crate::reap::Gone;
use crate::recovery::{OpenError, Past, recover};
use crate::replica::{Budgets, GossipReplica, Me};
use crate::requests::Requests;
use crate::rng::Rng;
use crate::rumor::Rumors;
use crate::samples::Samples;
use crate::stability::Stability;
use crate::status::Published;
use crate::timers::{Timer, Timers};

/// News about so many members is told at a time; of more, the tables tell.
pub(crate) const MEMBER_RUMORS_MAX: usize = 256;

/// New members that are spoken to in a second, beyond the probes.
const GREETINGS_PER_S: u64 = 10;

/// A member of a cluster that stands already.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    /// The member.
    pub node: NodeId,
    /// Its life.
    pub generation: Generation,
    /// Where it talks to peers.
    pub address: SocketAddr,
}

impl Budgets {
    const fn new(config: &GossipConfig) -> Self {
        Self {
            members: Bucket::new(config.member_bytes_per_s / 2, config.member_bytes_per_s / 8),
            tables: Bucket::new(config.member_bytes_per_s / 2, config.member_bytes_per_s / 4),
            datagrams: Bucket::new(config.datagram_bytes_per_s, config.datagram_bytes_per_s / 4),
            greetings: Bucket::new(GREETINGS_PER_S, 2 * GREETINGS_PER_S),
            joins: Bucket::new(config.joins_per_s, config.joins_per_s),
            welcomes: Bucket::new(config.welcomes_per_s, config.welcomes_per_s),
        }
    }
}

impl Me {
    /// The next life of a node with this past.
    fn after(past: &Past, config: &GossipConfig, now: Now) -> Self {
        let before = past.meta.map_or(Generation::ZERO, |meta| meta.generation);
        let log_id = past
            .meta
            .map_or(LogId::new(now.wall_ms.max(1)), |meta| meta.log_id);
        Self {
            // Above every life before, and above those of a disk that was lost.
            generation: bounded_generation(before.next().max(Generation::new(now.wall_ms))),
            incarnation: Incarnation::ZERO,
            client_address: config.client_address.as_deref().map(Arc::from),
            has_left: false,
            duels: 0,
            double: None,
            silent_until: None,
            log_id,
            seq: past.store.known().seq(config.node, log_id),
            // A first life has no log that anyone could know.
            log_doubted: past.meta.is_some() && !config.planted.is(Plant::ReusedSequence),
            log_unsynced: past.meta.is_some_and(|meta| meta.unsynced),
        }
    }
}

/// What the disk gave; with the planted defect, without the last write of this node.
fn without_last_own(config: &GossipConfig, mut recovered: Recovered) -> Recovered {
    let is_own = |record: &Record| {
        let event = (record.kind == KIND_EVENT).then(|| Event::decode(&record.bytes));
        matches!(event, Some(Ok(event)) if event.dot.writer == config.node)
    };
    if config.planted.is(Plant::ReusedSequence)
        && let Some(last) = recovered.records.iter().rposition(is_own)
    {
        recovered.records.remove(last);
    }
    recovered
}

impl GossipReplica {
    /// Starts a node from what its disk holds; nothing on a first start. Drain the outputs once before the first input:
    /// the node's new life is made durable before it says anything.
    ///
    /// # Errors
    /// If the configuration makes no sense, or if the disk's content is not this crate's.
    pub fn open(config: GossipConfig, recovered: Recovered, now: Now) -> Result<Self, OpenError> {
        config.check()?;
        let recovered = without_last_own(&config, recovered);
        let past = recover(
            config.node,
            (
                config.log_bytes_max,
                config.siblings.clone(),
                config.planted,
            ),
            &recovered,
            now,
        )?;
        let me = Me::after(&past, &config, now);
        let mut sync = Repair::default();
        sync.remembered = past.peers;
        sync.remembered.retain(|peer| *peer != config.peer_address);
        let published = Published::new(&config, &me, &past.store);
        let durable = past.store.known().vector().clone();
        let mut rng = Rng::new(config.seed);
        // Unlike an earlier life's, so that old answers answer nothing.
        let first_number = rng.below(1 << 20);
        let mut replica = Self {
            now,
            rng,
            me,
            store: past.store,
            hlc: past.hlc,
            members: Members::default(),
            probes: Probes::starting_at(first_number),
            doubt: Doubt::default(),
            budgets: Budgets::new(&config),
            pulls: Pulls::default(),
            notices: Vec::new(),
            gone: Gone::default(),
            own_leases: OwnLeases::default(),
            forwards: Forwards::default(),
            remote_calls: RemoteCalls::default(),
            acks: Acks::default(),
            samples: Samples::default(),
            stability: Stability::restored(past.stable, past.confirmed),
            member_rumors: Rumors::new(MEMBER_RUMORS_MAX),
            event_rumors: Rumors::new(config.rumors_max),
            gossip_due: None,
            pushed_at: None,
            push_now: false,
            sync,
            durability: Durability::new(past.position, past.log_bytes, durable),
            flush_due: false,
            unsynced: false,
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
        replica.note_written();
        replica.begin_life(recovered.torn);
        replica.settle();
        Ok(replica)
    }

    fn begin_life(&mut self, torn: bool) {
        let now = self.now.mono();
        self.persist_identity();
        if torn || self.me.log_unsynced {
            // The cut, or the crash, may have taken what was acknowledged and told: damage looks the same as a crash.
            self.give_up_doubted_log();
        }
        self.spread_news_of(self.config.node);
        let first_probe = self.rng.below(self.config.probe_interval_ms * 1_000);
        self.timers.set(now.after_us(first_probe), Timer::Probe);
        self.adopt_leases();
        if self.config.durability == Survives::Interval {
            let at = now.after_ms(self.config.sync_interval_ms);
            self.timers.set(at, Timer::Sync);
        }
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
    }

    /// Puts the other members of a cluster that stands already into a replica that was just opened, as if it had always known
    /// them: for simulations of thousands of nodes, which would spend most of their time on joins.
    pub fn seed_members(&mut self, members: impl IntoIterator<Item = Seeded>) {
        let now = self.now.mono();
        let members = members.into_iter();
        self.members.reserve(members.size_hint().0);
        for seeded in members.filter(|seeded| seeded.node != self.config.node) {
            let update = Update {
                node: seeded.node,
                state: MemberState::Alive,
                generation: seeded.generation,
                incarnation: Incarnation::ZERO,
                accuser: self.config.node,
                refused: false,
                address: seeded.address,
                client_address: None,
            };
            self.members.seed(&update, now, &mut self.rng);
        }
        self.member_rumors = Rumors::new(MEMBER_RUMORS_MAX);
        self.config.seeds.clear();
        self.trust_own_log();
        self.serve();
        self.published.changed = true;
        self.refresh_status();
    }
}
