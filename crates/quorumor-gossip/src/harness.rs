//! A small deterministic world for this crate's own tests: replicas on a virtual network with virtual disks.
//!
//! Not the simulator, which runs over the real log; just enough to tell a story about a few nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytes::Bytes;
use quorumor_core::{
    CallId, Change, Contact, Error, Input, Key, LeaseId, MemberState, Mono, NodeId, Now, Operation,
    PersistToken, Recovered, Replica, Reply, StreamClass, Value, View,
};

pub(crate) mod believer;
mod callers;
mod disk;
mod outputs;

use disk::Disk;

use crate::config::{GossipConfig, cluster_id};
use crate::replica::GossipReplica;
use crate::rng::Rng;

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::try_from(id).unwrap()
}

pub(crate) fn address(id: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], u16::try_from(id).unwrap()))
}

pub(crate) fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

pub(crate) fn value(text: &str) -> Value {
    Value::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

pub(crate) fn put(name: &str, text: &str) -> Operation {
    Operation::Put {
        lease: None,
        key: key(name),
        value: value(text),
        context: None,
    }
}

pub(crate) fn put_under(lease: LeaseId, name: &str, text: &str) -> Operation {
    Operation::Put {
        lease: Some(lease),
        key: key(name),
        value: value(text),
        context: None,
    }
}

pub(crate) fn delete(name: &str) -> Operation {
    Operation::Delete { key: key(name) }
}

#[derive(Debug)]
enum Done {
    Append { batch: u64 },
    Unsynced,
    Compact { batch: u64 },
    Checkpoint { chunks: Vec<Bytes> },
}

#[derive(Debug)]
enum Due {
    Datagram {
        from: NodeId,
        to: NodeId,
        payload: Bytes,
    },
    Stream {
        from: NodeId,
        to: NodeId,
        class: StreamClass,
        payload: Bytes,
    },
    Contact {
        at: NodeId,
        peer: NodeId,
        contact: Contact,
    },
    Disk {
        node: NodeId,
        life: u64,
        token: PersistToken,
        done: Done,
    },
}

pub(crate) struct Node {
    pub(crate) replica: Option<GossipReplica>,
    pub(crate) disk: Disk,
    config: GossipConfig,
    life: u64,
    addresses: BTreeMap<NodeId, SocketAddr>,
    replies: BTreeMap<CallId, Result<Reply, Error>>,
    pub(crate) changes: Vec<Change>,
    skew_ms: i64,
}

pub(crate) struct World {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    now_us: u64,
    due: BTreeMap<(u64, u64), Due>,
    sequence: u64,
    rng: Rng,
    cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) loss_permille: u64,
    /// Datagrams come through, streams don't.
    pub(crate) streams_cut: bool,
    fifo: BTreeMap<(NodeId, NodeId, StreamClass), u64>,
    calls: u64,
    pub(crate) trace: u64,
    pub(crate) datagrams: u64,
    /// Those of them that went to a seed's address.
    pub(crate) seed_calls: u64,
    /// Addresses behind which some node is, beside its own.
    pub(crate) proxies: BTreeMap<SocketAddr, NodeId>,
    /// The longest stream message.
    pub(crate) message_max: usize,
    seed: u64,
    /// Probes and collections come five times as often, so that much of them fits a short story.
    pub(crate) hurried: bool,
    /// Prefixes of keys that keep all their values.
    pub(crate) siblings: Vec<String>,
    pub(crate) reap_ms: Option<u64>,
    pub(crate) grace_ms: Option<u64>,
}

const WALL_START_MS: i64 = 1_700_000_000_000;

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::new(),
            now_us: 0,
            due: BTreeMap::new(),
            sequence: 0,
            rng: Rng::new(seed),
            cut: BTreeSet::new(),
            loss_permille: 0,
            streams_cut: false,
            fifo: BTreeMap::new(),
            calls: 0,
            trace: 0,
            datagrams: 0,
            seed_calls: 0,
            proxies: BTreeMap::new(),
            message_max: 0,
            seed,
            hurried: false,
            siblings: Vec::new(),
            reap_ms: None,
            grace_ms: None,
        }
    }

    /// A cluster of nodes 1..=n that know only node 1's address, settled.
    pub(crate) fn cluster(n: u64, seed: u64) -> Self {
        let mut world = Self::new(seed);
        for id in 1..=n {
            world.start(id);
        }
        world.until("all members known", 10_000, |world| {
            world
                .ids()
                .into_iter()
                .all(|id| world.count(id, MemberState::Alive) == n as usize)
        });
        world
    }

    pub(crate) fn config(&self, id: u64) -> GossipConfig {
        let mut config = GossipConfig::new(node(id), cluster_id("test"), address(id));
        config.seed = self.seed.wrapping_mul(1_000).wrapping_add(id);
        if id != 1 {
            config.seeds = vec![address(1)];
        }
        if self.hurried {
            config.probe_interval_ms = 200;
            config.probe_timeout_ms = 100;
            config.cut_interval_ms = 200;
        }
        config.siblings.clone_from(&self.siblings);
        config.reap_ms = self.reap_ms.unwrap_or(config.reap_ms);
        config.gc_grace_ms = self.grace_ms.unwrap_or(config.gc_grace_ms);
        config.client_address = Some(format!("127.0.0.1:{}", 7_000 + id));
        config
    }

    pub(crate) fn start(&mut self, id: u64) {
        let config = self.config(id);
        self.start_with(config, 0);
    }

    pub(crate) fn start_with(&mut self, config: GossipConfig, skew_ms: i64) {
        let id = config.node;
        let node = Node {
            replica: None,
            disk: Disk::default(),
            config,
            life: 0,
            addresses: BTreeMap::new(),
            replies: BTreeMap::new(),
            changes: Vec::new(),
            skew_ms,
        };
        self.nodes.insert(id, node);
        self.boot(id);
    }

    fn boot(&mut self, id: NodeId) {
        let now = self.now(id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.life += 1;
        node.addresses.clear();
        let replica = GossipReplica::open(node.config.clone(), node.disk.recovered(), now).unwrap();
        node.replica = Some(replica);
        self.drain(id);
    }

    /// Kills the process: what wasn't synced may be gone, what is under way is.
    pub(crate) fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&node(id)).unwrap();
        node.replica = None;
        node.disk.crash(&mut self.rng);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        self.boot(node(id));
    }

    /// Like a new disk in the old node.
    pub(crate) fn wipe(&mut self, id: u64) {
        self.nodes.get_mut(&node(id)).unwrap().disk = Disk::default();
    }

    pub(crate) fn disk_image(&self, id: u64) -> Recovered {
        self.nodes[&node(id)].disk.recovered()
    }

    /// Puts a disk back to an earlier image.
    pub(crate) fn put_back(&mut self, id: u64, image: &Recovered) {
        let disk = &mut self.nodes.get_mut(&node(id)).unwrap().disk;
        disk.checkpoint.clone_from(&image.checkpoint);
        disk.batches = vec![(disk.next + 1, image.records.clone())];
        disk.next += 1;
        disk.synced = disk.next;
    }

    pub(crate) fn jump_clock(&mut self, id: u64, ms: i64) {
        self.nodes.get_mut(&node(id)).unwrap().skew_ms += ms;
    }

    /// Cuts one direction.
    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((node(from), node(to)));
    }

    pub(crate) fn partition(&mut self, left: &[u64], right: &[u64]) {
        for a in left {
            for b in right {
                self.cut(*a, *b);
                self.cut(*b, *a);
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.replica.is_some())
            .map(|(id, _)| id.as_u64())
            .collect()
    }

    pub(crate) fn replica(&self, id: u64) -> &GossipReplica {
        self.nodes[&node(id)].replica.as_ref().unwrap()
    }

    pub(crate) fn view(&self, id: u64) -> View {
        self.replica(id).view()
    }

    pub(crate) fn ms(&self) -> u64 {
        self.now_us / 1_000
    }

    fn now(&self, id: NodeId) -> Now {
        let wall = WALL_START_MS + i64::try_from(self.ms()).unwrap() + self.nodes[&id].skew_ms;
        Now {
            mono_us: self.now_us,
            wall_ms: u64::try_from(wall).unwrap(),
        }
    }

    // ---- time

    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end = self.now_us + ms * 1_000;
        while self.step(end) {}
        self.now_us = end;
    }

    /// Runs until the condition holds; returns how many milliseconds that took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        ms_max: u64,
        condition: impl Fn(&Self) -> bool,
    ) -> u64 {
        let start = self.ms();
        while !condition(self) {
            assert!(
                self.ms() - start < ms_max,
                "seed {}: not within {ms_max} ms: {what}",
                self.seed
            );
            self.run_ms(1);
        }
        self.ms() - start
    }

    fn step(&mut self, end: u64) -> bool {
        let timer = self
            .nodes
            .iter()
            .filter_map(|(id, node)| {
                let (Mono(at), _) = node.replica.as_ref()?.poll_timeout()?;
                Some((at.max(self.now_us), *id))
            })
            .min();
        let due = self.due.first_key_value().map(|(at, _)| at.0);
        match (timer, due) {
            (Some((at, id)), due) if due.is_none_or(|due| at < due) => {
                if at > end {
                    return false;
                }
                self.now_us = at;
                self.give(id, Input::Timer);
            }
            (_, Some(at)) => {
                if at > end {
                    return false;
                }
                self.now_us = at;
                let (_, due) = self.due.pop_first().unwrap();
                self.deliver(due);
            }
            (_, None) => return false,
        }
        true
    }

    fn deliver(&mut self, due: Due) {
        match due {
            Due::Datagram { from, to, payload } => {
                self.note(to, 1, &payload);
                if !self.cut.contains(&(from, to)) {
                    self.give(to, Input::Datagram { from, payload });
                }
            }
            Due::Stream {
                from,
                to,
                class,
                payload,
            } => {
                self.note(to, 2, &payload);
                if self.streams_cut || self.cut.contains(&(from, to)) {
                    self.give(from, contact(to, Contact::Closed));
                } else if self
                    .nodes
                    .get(&to)
                    .is_none_or(|node| node.replica.is_none())
                {
                    self.give(from, contact(to, Contact::Refused));
                } else {
                    self.give(from, contact(to, Contact::Connected));
                    self.give(
                        to,
                        Input::Stream {
                            from,
                            class,
                            payload,
                        },
                    );
                }
            }
            Due::Contact {
                at,
                peer,
                contact: what,
            } => self.give(at, contact(peer, what)),
            Due::Disk {
                node,
                life,
                token,
                done,
            } => self.finish_disk(node, life, token, done),
        }
    }

    fn finish_disk(&mut self, id: NodeId, life: u64, token: PersistToken, done: Done) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.life != life || node.replica.is_none() {
            return;
        }
        let input = match done {
            Done::Append { batch } => {
                node.disk.synced = node.disk.synced.max(batch);
                Input::Persisted { token }
            }
            Done::Unsynced => Input::Persisted { token },
            Done::Compact { batch } => {
                node.disk.synced = node.disk.synced.max(batch);
                node.disk.batches.retain(|(id, _)| *id >= batch);
                Input::Persisted { token }
            }
            Done::Checkpoint { chunks } => {
                node.disk.checkpoint = Some(chunks);
                Input::Checkpointed { token }
            }
        };
        self.give(id, input);
    }

    fn give(&mut self, id: NodeId, input: Input) {
        let now = self.now(id);
        if let Some(replica) = self
            .nodes
            .get_mut(&id)
            .and_then(|node| node.replica.as_mut())
        {
            replica.handle(now, input);
            self.drain(id);
        }
    }

    fn drain(&mut self, id: NodeId) {
        loop {
            let node = self.nodes.get_mut(&id).unwrap();
            let Some(output) = node.replica.as_mut().and_then(Replica::poll_output) else {
                return;
            };
            self.carry_out(id, output);
        }
    }

    fn note(&mut self, id: NodeId, kind: u64, payload: &[u8]) {
        let crc = u64::from(crc32c::crc32c(payload));
        self.trace =
            crate::vector::mix(self.trace ^ self.now_us ^ (id.as_u64() << 40) ^ (kind << 32) ^ crc);
    }
}

fn contact(peer: NodeId, contact: Contact) -> Input {
    Input::Contact { peer, contact }
}
