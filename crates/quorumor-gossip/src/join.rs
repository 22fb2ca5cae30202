//! Coming and going: seeds, the welcome of a joiner, tables of members, the goodbye.

use std::net::SocketAddr;

use quorumor_core::{Destination, Mono, NodeId, StreamClass};

use crate::anti_entropy::is_recent;
use crate::codec::update_bytes;
use crate::durability::peers_record;
use crate::message::{Part, Update};
use crate::replica::GossipReplica;
use crate::timers::Timer;

/// The first and the longest pause between calls on seeds that don't answer, in milliseconds.
const SEED_BACKOFF_MS: (u64, u64) = (100, 2_000);
/// Calls on seeds whose answer is still waited for.
const SEED_CALLS_MAX: usize = 64;
/// Peers that are written down.
const REMEMBERED_MAX: usize = 64;
/// Up to so many members, each seed is looked for among them.
const SMALL_CLUSTER: usize = 64;
/// Seeds called on at a time.
const SEEDS_AT_ONCE: usize = 3;
/// Members that hear a goodbye by datagram, and by stream.
const GOODBYES: (usize, usize) = (32, 4);
/// One welcome to one peer at most each so many milliseconds.
const WELCOME_PAUSE_MS: u64 = 500;
/// Members in one part of a table.
const TABLE_PART: usize = 500;
/// Bytes of members that are sent by datagrams; more go by stream.
const TABLE_DATAGRAM_BYTES_MAX: usize = 8 * 1024;
/// Members that a joiner hears by datagram, in case that streams are slow.
const WELCOME_MEMBERS: usize = 8;

impl GossipReplica {
    /// Calls on the seeds: often while some aren't found among the members, now and then afterwards.
    fn call_seeds(&mut self) {
        if self.me.silent_until.is_some() {
            return;
        }
        let mut seeds = self.unanswered_seeds();
        let alone = self.members.present() == 0;
        let unanswered = !seeds.is_empty();
        if !unanswered {
            seeds.clone_from(&self.config.seeds);
        }
        self.rng.shuffle(&mut seeds);
        let count = if alone { SEEDS_AT_ONCE } else { 1 };
        for seed in seeds.into_iter().take(count) {
            let number = self.probes.number();
            let ping = self.ping(number, None, unanswered);
            self.outbox.push_bare(Destination::Seed(seed), &ping);
            self.sync.seed_calls.insert(number, seed);
            if self.sync.seed_calls.len() > SEED_CALLS_MAX {
                self.sync.seed_calls.pop_first();
            }
        }
        let pause_ms = if unanswered {
            let pause_ms = self.sync.seed_backoff_ms.max(SEED_BACKOFF_MS.0);
            self.sync.seed_backoff_ms = (pause_ms * 2).min(SEED_BACKOFF_MS.1);
            pause_ms
        } else {
            self.sync.seed_backoff_ms = SEED_BACKOFF_MS.0;
            self.config.seed_interval_ms
        };
        let jitter = self.rng.below(pause_ms * 500);
        self.schedule_seeds(self.now.mono().after_us(pause_ms * 750 + jitter));
    }

    pub(crate) fn schedule_seeds(&mut self, at: Mono) {
        self.sync.seeds_due = Some(at);
        self.timers.set(at, Timer::Seed);
    }

    pub(crate) fn handle_seed_timer(&mut self) {
        // A timer that another one replaced has no effect.
        if self
            .sync
            .seeds_due
            .is_some_and(|due| due <= self.now.mono())
        {
            self.sync.seeds_due = None;
            self.call_seeds();
        }
    }

    /// Seeds, and peers of an earlier life, where no present member is: perhaps another island after a partition in which
    /// everyone restarted. In a large cluster only while alone; there, someone always remembers.
    fn unanswered_seeds(&self) -> Vec<SocketAddr> {
        let mut unanswered = self.config.seeds.clone();
        unanswered.extend(
            self.sync
                .remembered
                .iter()
                .filter(|peer| !self.config.seeds.contains(peer)),
        );
        if self.members.len() > SMALL_CLUSTER {
            if self.members.present() > 0 {
                unanswered.clear();
            }
            return unanswered;
        }
        for (_, record) in self
            .members
            .iter()
            .filter(|(_, record)| record.is_present())
        {
            unanswered.retain(|seed| *seed != record.address);
        }
        unanswered
    }

    /// An answer came; if it was to a call on a seed, that is who is there.
    pub(crate) fn note_seed(&mut self, from: NodeId, number: u64) {
        if let Some(seed) = self.sync.seed_calls.remove(&number) {
            self.sync.seed_nodes.insert(seed, from);
        }
    }

    /// Where peers are, to be found there after a restart.
    pub(crate) fn peer_addresses(&self) -> Vec<SocketAddr> {
        let present = self
            .members
            .iter()
            .filter(|(_, record)| record.is_present());
        present
            .map(|(_, record)| record.address)
            .take(REMEMBERED_MAX)
            .collect()
    }

    /// Notes the peers on the disk if they changed, so that a node whose seeds are away finds the others after a restart.
    pub(crate) fn write_down_peers(&mut self) {
        if self.disk_full || !std::mem::take(&mut self.sync.peers_changed) {
            return;
        }
        let record = peers_record(&self.peer_addresses());
        let (token, records) = self.durability.several(vec![record]);
        self.append(token, records, true);
    }

    /// Says goodbye, and tells nobody's writes but those that wait for their disk.
    pub(crate) fn leave(&mut self) {
        if self.me.has_left {
            return;
        }
        self.push_round();
        self.flush_outbox();
        self.me.has_left = true;
        self.published.members_changed = true;
        let goodbye = Part::Members(vec![self.my_update()]);
        let peers = self
            .gossip_ring
            .some(GOODBYES.0, None, &self.members, &mut self.rng);
        for (count, peer) in peers.into_iter().enumerate() {
            self.outbox.push_bare(Destination::Node(peer), &goodbye);
            if count < GOODBYES.1 {
                self.send_stream(peer, StreamClass::Control, std::slice::from_ref(&goodbye));
            }
        }
        self.refuse_waiting();
    }

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
        let mut parts: Vec<Part> = table
            .chunks(TABLE_PART)
            .map(|chunk| Part::Members(chunk.to_vec()))
            .collect();
        parts.push(Part::Vector {
            reply: true,
            vector: self.store.known().vector().clone(),
        });
        self.send_stream(to, StreamClass::Bulk, &parts);
    }

    pub(crate) fn send_table(&mut self, to: NodeId) {
        let table = self.table();
        if table.iter().map(update_bytes).sum::<usize>() <= TABLE_DATAGRAM_BYTES_MAX {
            self.push_table(to, table);
        } else {
            let parts: Vec<Part> = table
                .chunks(TABLE_PART)
                .map(|chunk| Part::Members(chunk.to_vec()))
                .collect();
            self.send_stream(to, StreamClass::Bulk, &parts);
        }
    }

    fn push_table(&mut self, to: NodeId, updates: Vec<Update>) {
        // One part a member, so that they pack into datagrams.
        for update in updates {
            self.outbox
                .push_bare(Destination::Node(to), &Part::Members(vec![update]));
        }
    }

    fn table(&self) -> Vec<Update> {
        let others = self
            .members
            .iter()
            .filter_map(|(node, _)| self.update_about(node));
        std::iter::once(self.my_update()).chain(others).collect()
    }
}
