//! Replicas on a virtual network with virtual time and disks that lose what was not synced. For this crate's own stories;
//! the lab's simulator does the same over the real log.

mod digest;
mod disk;
mod lanes;
mod requests;
mod seeing;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use quorumor_core::{
    CallId, ClusterId, Command, Contact, DataEpoch, Error, Input, Now, Operation, Output, Persist,
    PersistToken, Position, Recovered, Replica, Reply, Request, RequestId, Revision, StoreId,
    StreamClass, View,
};

use digest::digest;
use disk::{Node, Work};
use lanes::Lanes;
pub(crate) use words::{cas, id, key, put, value};

use crate::hash::mix;
use crate::{Compaction, Founder, HistoryWindow, Identity, RaftConfig, RaftReplica, cluster_id};

#[derive(Debug)]
enum Event {
    Deliver {
        from: u64,
        to: u64,
        class: StreamClass,
        payload: Bytes,
    },
    Contact {
        at: u64,
        peer: u64,
        contact: Contact,
    },
    Disk {
        node: u64,
        boot: u64,
        token: PersistToken,
        work: Work,
    },
}

/// A virtual cluster.
pub(crate) struct Net {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(crate) cuts: BTreeSet<(u64, u64)>,
    pub(crate) answers: BTreeMap<CallId, Result<Reply, Error>>,
    /// What was ever answered.
    answered: BTreeSet<CallId>,
    /// The view as it was published when a call was answered.
    pub(crate) views: BTreeMap<CallId, View>,
    pub(crate) changes: BTreeMap<u64, Vec<quorumor_core::Change>>,
    calls: u64,
    pub(crate) founders: Vec<Founder>,
    /// The cluster and its data epoch, if they are not those of the founders.
    pub(crate) cluster: Option<(ClusterId, DataEpoch)>,
    pub(crate) compaction: Compaction,
    pub(crate) seed: u64,
    pub(crate) trace: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    pub(crate) lanes: Lanes,
    /// Whether some messages come twice, the second time late.
    pub(crate) repeats: bool,
    /// Who led in each term.
    led: BTreeMap<u64, u64>,
    /// Processes that are stopped, with what came for them meanwhile.
    paused: BTreeMap<u64, Vec<Event>>,
    /// How far the wall clocks are off.
    pub(crate) wall_offset_ms: i64,
    pub(crate) history: HistoryWindow,
}

impl Net {
    pub(crate) fn new(nodes: u64, seed: u64) -> Self {
        let founders: Vec<Founder> = (1..=nodes)
            .map(|node| Founder {
                node: id(node),
                peer_address: SocketAddr::from(([127, 0, 0, 1], 7_000 + node as u16)),
            })
            .collect();
        let mut net = Self {
            nodes: BTreeMap::new(),
            now: 1_000,
            queue: BTreeMap::new(),
            sequence: 0,
            cuts: BTreeSet::new(),
            answers: BTreeMap::new(),
            answered: BTreeSet::new(),
            views: BTreeMap::new(),
            changes: BTreeMap::new(),
            calls: 0,
            founders,
            cluster: None,
            compaction: Compaction::default(),
            seed,
            trace: 0,
            sent: 0,
            lanes: Lanes::default(),
            repeats: false,
            led: BTreeMap::new(),
            paused: BTreeMap::new(),
            wall_offset_ms: 0,
            history: HistoryWindow::default(),
        };
        for node in 1..=nodes {
            net.machine(node);
        }
        net
    }

    /// A cluster that has started, with a leader.
    pub(crate) fn started(nodes: u64, seed: u64) -> Self {
        let mut net = Self::new(nodes, seed);
        net.start_all();
        net.await_leader();
        net
    }

    /// An empty machine for a node that joins. It isn't started.
    pub(crate) fn machine(&mut self, node: u64) {
        self.nodes.insert(node, Node::default());
    }

    pub(crate) fn start_all(&mut self) {
        let nodes: Vec<u64> = self.nodes.keys().copied().collect();
        for node in nodes {
            self.start(node);
        }
    }

    pub(crate) fn config(&self, node: u64, boot: u64) -> RaftConfig {
        let (cluster, epoch) = self
            .cluster
            .unwrap_or_else(|| (cluster_id("test", &self.founders), DataEpoch::new(1)));
        let identity = Identity {
            node: id(node),
            cluster,
            epoch,
            store: StoreId::new(1_000 + node),
        };
        let founds = self.founders.iter().any(|founder| founder.node == id(node));
        let config = if founds {
            RaftConfig::new(identity, &self.founders, self.seed, boot).unwrap()
        } else {
            RaftConfig::joining(identity, self.seed, boot)
        };
        config
            .with_client_address(Some(format!("node{node}:8000")))
            .with_compaction(self.compaction)
            .with_history(self.history)
    }

    pub(crate) fn start(&mut self, node: u64) {
        let at = self.at();
        let boot = self.nodes[&node].boot + 1;
        let config = self.config(node, boot);
        let entry = self.nodes.get_mut(&node).unwrap();
        entry.boot = boot;
        entry.written = entry.durable.clone();
        entry.disk_free_at = self.now;
        let recovered = Recovered {
            checkpoint: entry.durable.checkpoint.clone(),
            records: entry.durable.records.clone(),
            torn: false,
        };
        entry.replica = Some(RaftReplica::open(config, recovered, at).unwrap());
        self.drain(node);
        for peer in self.others(node) {
            self.schedule(
                500,
                Event::Contact {
                    at: peer,
                    peer: node,
                    contact: Contact::Connected,
                },
            );
        }
    }

    fn others(&self, node: u64) -> Vec<u64> {
        self.nodes
            .keys()
            .copied()
            .filter(|peer| *peer != node)
            .collect()
    }

    /// `kill -9` with the power cut: what was not synced is gone.
    pub(crate) fn crash(&mut self, node: u64) {
        self.crash_told(node, &[Contact::Closed, Contact::Refused]);
    }

    pub(crate) fn crash_told(&mut self, node: u64, contacts: &[Contact]) {
        self.nodes.get_mut(&node).unwrap().replica = None;
        for peer in self.others(node) {
            for (i, contact) in contacts.iter().enumerate() {
                self.schedule(
                    1_000 * (i as u64 + 1),
                    Event::Contact {
                        at: peer,
                        peer: node,
                        contact: *contact,
                    },
                );
            }
        }
    }

    fn at(&self) -> Now {
        Now {
            mono_us: self.now,
            wall_ms: (1_000_000_000_000 + self.now / 1_000)
                .saturating_add_signed(self.wall_offset_ms),
        }
    }

    fn schedule(&mut self, delay_us: u64, event: Event) {
        self.sequence += 1;
        self.queue
            .insert((self.now + delay_us, self.sequence), event);
    }

    pub(crate) fn replica(&self, node: u64) -> &RaftReplica {
        self.nodes[&node].replica.as_ref().unwrap()
    }

    pub(crate) fn is_up(&self, node: u64) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.replica.is_some())
    }

    pub(crate) fn view(&self, node: u64) -> View {
        self.replica(node).view()
    }

    pub(crate) fn input(&mut self, node: u64, input: Input) {
        let at = self.at();
        if let Some(replica) = &mut self.nodes.get_mut(&node).unwrap().replica {
            replica.handle(at, input);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: u64) {
        let mut outputs = VecDeque::new();
        let replica = self.nodes.get_mut(&node).unwrap().replica.as_mut().unwrap();
        while let Some(output) = replica.poll_output() {
            outputs.push_back(output);
        }
        let view = replica.view();
        if replica.standing.leads {
            let first = *self.led.entry(replica.standing.term).or_insert(node);
            assert_eq!(first, node, "two leaders in one term");
        }
        for output in outputs {
            self.trace = mix(&[self.trace, self.now, digest(node, &output)]);
            self.carry_out(node, output, &view);
        }
    }

    fn carry_out(&mut self, node: u64, output: Output, view: &View) {
        match output {
            Output::Reply { call, result } => {
                assert!(self.answered.insert(call), "{call} was answered twice");
                self.answers.insert(call, result);
                self.views.insert(call, view.clone());
            }
            Output::Datagram { .. } => panic!("strong mode sends no datagrams"),
            Output::Stream { to, class, payload } => {
                self.transmit(node, to.as_u64(), class, payload)
            }
            Output::PeerAddress { .. } => {}
            Output::Persist(persist) => self.persist(node, persist),
            Output::Changed(change) => self.changes.entry(node).or_default().push(change),
        }
    }

    fn transmit(&mut self, from: u64, to: u64, class: StreamClass, payload: Bytes) {
        self.sent += 1;
        if !self.is_up(to) || !self.lanes.enter((from, to, class), payload.len()) {
            let contact = Contact::Dropped;
            self.schedule(
                10,
                Event::Contact {
                    at: from,
                    peer: to,
                    contact,
                },
            );
            return;
        }
        let dice = mix(&[self.seed, self.sent]);
        if self.repeats && dice.is_multiple_of(16) {
            let again = Event::Deliver {
                from,
                to,
                class,
                payload: payload.clone(),
            };
            self.schedule(1_000 + dice / 16 % 500_000, again);
        }
        let lane = match class {
            StreamClass::Control => 400,
            StreamClass::Bulk => 900,
        };
        self.schedule(
            lane,
            Event::Deliver {
                from,
                to,
                class,
                payload,
            },
        );
    }

    fn persist(&mut self, node: u64, persist: Persist) {
        let entry = self.nodes.get_mut(&node).unwrap();
        let boot = entry.boot;
        let (token, work, delay) = match persist {
            Persist::Append {
                token,
                records,
                sync,
            } => (token, Work::Append(records, sync), entry.disk_us),
            Persist::Compact { token, records } => (token, Work::Compact(records), entry.disk_us),
            Persist::Checkpoint {
                token, mut source, ..
            } => {
                let pieces = std::iter::from_fn(|| source.next_chunk()).collect();
                (token, Work::Checkpoint(pieces), 20_000)
            }
        };
        let delay = if matches!(work, Work::Checkpoint(_)) {
            delay
        } else {
            entry.disk_free_at = entry.disk_free_at.max(self.now) + delay;
            entry.disk_free_at - self.now
        };
        self.schedule(
            delay,
            Event::Disk {
                node,
                boot,
                token,
                work,
            },
        );
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.hold(event) else {
            return;
        };
        match event {
            Event::Deliver {
                from,
                to,
                class,
                payload,
            } => {
                self.lanes.leave((from, to, class), payload.len());
                if !self.cuts.contains(&(from, to)) && self.is_up(from) {
                    let from = id(from);
                    self.input(
                        to,
                        Input::Stream {
                            from,
                            class,
                            payload,
                        },
                    );
                }
            }
            Event::Contact { at, peer, contact } => {
                let peer = id(peer);
                self.input(at, Input::Contact { peer, contact });
            }
            Event::Disk {
                node,
                boot,
                token,
                work,
            } => self.disk_done(node, boot, token, work),
        }
    }

    fn disk_done(&mut self, node: u64, boot: u64, token: PersistToken, work: Work) {
        let entry = self.nodes.get_mut(&node).unwrap();
        if entry.boot != boot || entry.replica.is_none() {
            return;
        }
        entry.works += 1;
        if entry.crash_at == Some(entry.works) {
            entry.crash_at = None;
            self.crash(node);
            return;
        }
        let input = match work {
            Work::Append(records, sync) => {
                entry.written.append(records);
                if sync {
                    entry.durable.records.clone_from(&entry.written.records);
                }
                Input::Persisted { token }
            }
            Work::Compact(records) => {
                entry.written.records.clone_from(&records);
                entry.durable.records = records;
                Input::Persisted { token }
            }
            Work::Checkpoint(pieces) => {
                entry.durable.checkpoint = Some(pieces);
                Input::Checkpointed { token }
            }
        };
        self.input(node, input);
    }

    /// Does the next thing that happens, at its time.
    pub(crate) fn step(&mut self) {
        let timer = self
            .nodes
            .iter()
            .filter(|(node, _)| !self.paused.contains_key(node))
            .filter_map(|(node, entry)| {
                let (at, _) = entry.replica.as_ref()?.poll_timeout()?;
                Some((at.0, *node))
            })
            .min();
        let event = self.queue.keys().next().copied();
        match (timer, event) {
            (Some((at, node)), event) if event.is_none_or(|(due, _)| at < due) => {
                self.now = self.now.max(at);
                self.input(node, Input::Timer);
            }
            (_, Some(due)) => {
                let event = self.queue.remove(&due).unwrap();
                self.now = self.now.max(due.0);
                self.happen(event);
            }
            // Every node is down.
            (_, None) => self.now += 1_000,
        }
    }

    pub(crate) fn run_for_ms(&mut self, ms: u64) {
        let end = self.now + ms * 1_000;
        while self.now < end {
            self.step();
        }
    }

    /// Runs until something holds, for a minute at most.
    pub(crate) fn run_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = self.now + 60_000_000;
        while !holds(self) {
            assert!(self.now < end, "a minute went by without: {what}");
            self.step();
        }
    }

    /// The leader that a majority follows.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = |node: &u64| {
            let replica = self.replica(*node);
            replica.standing.leads && replica.raw.raft.commit_to_current_term()
        };
        let up = self.nodes.keys().copied().filter(|node| self.is_up(*node));
        up.filter(leads)
            .max_by_key(|node| self.replica(*node).standing.term)
    }

    pub(crate) fn await_leader(&mut self) -> u64 {
        self.run_until("a leader", |net| {
            net.leader().is_some_and(|leader| {
                let followers = net.nodes.keys().filter(|node| {
                    net.is_up(**node) && net.replica(**node).standing.leader == Some(id(leader))
                });
                followers.count() * 2 > net.nodes.len()
            })
        });
        self.leader().unwrap()
    }

    /// Lets a node that has just started find the leader.
    pub(crate) fn await_follows(&mut self, node: u64) {
        self.run_until("it follows", |net| {
            net.replica(node).standing.leader.is_some()
        });
    }

    /// Some node that follows.
    pub(crate) fn follower(&self) -> u64 {
        let leader = self.leader().unwrap();
        *self
            .nodes
            .keys()
            .find(|node| **node != leader && self.is_up(**node))
            .unwrap()
    }

    pub(crate) fn isolate(&mut self, side: &[u64]) {
        for a in side {
            for b in self.nodes.keys().filter(|b| !side.contains(b)) {
                self.cuts.insert((*a, *b));
                self.cuts.insert((*b, *a));
            }
        }
    }

    pub(crate) fn call(&mut self, node: u64, command: Command, after: Option<Revision>) -> CallId {
        self.calls += 1;
        let call = CallId::new(self.calls);
        let request = Request {
            command,
            after: after.map(Position::Strong),
            request_id: RequestId::default(),
        };
        self.input(node, Input::Request { call, request });
        call
    }

    pub(crate) fn write(&mut self, node: u64, operations: Vec<Operation>) -> CallId {
        let command = Command::write(operations, None).unwrap();
        self.call(node, command, None)
    }

    pub(crate) fn put(&mut self, node: u64, k: &str, v: &str) -> CallId {
        self.write(node, vec![put(k, v)])
    }

    pub(crate) fn read(&mut self, node: u64) -> CallId {
        self.call(node, Command::linearizable(), None)
    }

    /// An answer, which is forgotten by that.
    pub(crate) fn answer(&mut self, call: CallId) -> Result<Reply, Error> {
        self.run_until("an answer", |net| net.answers.contains_key(&call));
        self.answers.remove(&call).unwrap()
    }

    /// Writes until it is acknowledged.
    pub(crate) fn put_acked(&mut self, node: u64, k: &str, v: &str) -> Revision {
        let call = self.put(node, k, v);
        match self.answer(call) {
            Ok(Reply::Written {
                position: Position::Strong(revision),
                ..
            }) => revision,
            other => panic!("{k} was not written: {other:?}"),
        }
    }

    /// Lets all nodes come to the same state and checks that they did.
    pub(crate) fn await_equal(&mut self) {
        self.run_until("equal states", |net| {
            let mut states = net
                .nodes
                .keys()
                .filter(|node| net.is_up(**node))
                .map(|node| &net.replica(*node).state);
            let first = states.next().unwrap();
            states.all(|state| state == first)
        });
    }
}
