//! The loop: one heap of events, virtual time, and what each event does to nodes, network and clients.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use anyhow::Result;
use bytes::Bytes;
use quorumor_core::{
    CallId, Contact, Destination, DiskState, Input, Output, Persist, Request, StreamClass,
};
use rand_chacha::ChaCha8Rng;

use super::clients::{Client, Planned};
use super::network::{Network, Weather};
use super::node::{Node, address, node_id};
use super::staged::calls::STAGED_FROM;
use super::staged::{self, Staged};
use super::strong::{CALLS_FROM, Happening, Strong};
use super::trace::{Kind, Trace};
use super::{Counts, Options, Outcome, Plant, verdict};
use crate::history::{Header, History, Mode, World};
use crate::rng::{self, Purpose};
use crate::scenario::Scenario;
use crate::workload::Workload;

const MS: u64 = 1_000;
/// How long the load goes on after the heal.
const CALM_US: u64 = 3_000 * MS;
/// After the heal, every node must be useful and equal within this.
pub(super) const RECOVERY_LIMIT_US: u64 = 40_000 * MS;

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    Deliver {
        from: u64,
        to: u64,
        lane: Lane,
        payload: Bytes,
    },
    Contact {
        node: u64,
        peer: u64,
        contact: Contact,
    },
    Timer {
        node: u64,
        boot: u64,
    },
    Write {
        node: u64,
        boot: u64,
    },
    Start {
        node: u64,
    },
    Request {
        node: u64,
        call: CallId,
        request: Request,
    },
    /// Nobody waits for the answer of a call any more.
    Cancel {
        node: u64,
        call: CallId,
    },
    Think {
        client: usize,
    },
    Deadline {
        op: u64,
    },
    NextFault,
    FaultEnds(Vec<(u64, u64)>),
    Disk {
        node: u64,
        boot: u64,
        state: DiskState,
    },
    Strong(Happening),
    Staged(staged::Happening),
    Calm,
    Housekeeping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Datagram,
    Stream(StreamClass),
}

/// An operation that waits for its reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) planned: Planned,
    /// Its place in the record of strong mode.
    pub(super) recorded: Option<usize>,
    /// `None` for the reads of the audit at the end.
    pub(super) client: Option<usize>,
    pub(super) node: u64,
}

/// Everything about a run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) options: Options,
    pub(super) now_us: u64,
    seq: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Operations so far; their ids are their places.
    pub(super) ops: u64,
    pub(super) faults_end_us: u64,
    pub(super) load_ends_us: u64,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    pub(super) history: History,
    pub(super) strong: Strong,
    /// The scenario that is played; none in a random campaign.
    pub(super) staged: Option<Staged>,
    pub(super) fault_rng: ChaCha8Rng,
    pub(super) disk_rng: ChaCha8Rng,
    /// What a node refused to start with, or where a disk gave up: never allowed.
    pub(super) broken_nodes: Vec<String>,
}

/// Runs a simulation to its end.
///
/// # Errors
/// When the options can't be run.
pub fn run(options: &Options) -> Result<Outcome> {
    let mut run = Run::new(options, campaign(options)?)?;
    run.start();
    run.until(run.faults_end_us);
    let healed_us = run.heal();
    run.until(healed_us + CALM_US);
    let mut recovered_us = run.recover(healed_us);
    if options.mode == Mode::Strong && recovered_us.is_some() {
        run.rest();
        let rested_us = run.now_us;
        recovered_us = recovered_us.and(run.recover(rested_us)).and(recovered_us);
    }
    run.audit();
    if options.mode == Mode::Strong {
        run.note_ends();
        run.tally();
    }
    let findings = verdict::judge(&mut run, recovered_us);
    Ok(Outcome {
        trace: run.trace.hash(),
        history: run.history,
        record: run.strong.record,
        findings,
        counts: run.counts,
        recovered_us,
    })
}

/// What the header of a campaign's history says.
pub(super) fn campaign(options: &Options) -> Result<Scenario> {
    let workload = Workload {
        clients: options.clients,
        ..Workload::default()
    };
    let nodes = u32::try_from(options.nodes)?;
    let duration_ms = options.duration_ms.max(4_000);
    Ok(Scenario::compare(
        options.seed,
        nodes,
        duration_ms,
        workload,
    )?)
}

impl Run {
    pub(super) fn new(options: &Options, scenario: Scenario) -> Result<Self> {
        let header = Header::new(options.mode, World::Simulated, scenario, 0);
        let client = |id| {
            Client::new(
                id,
                options,
                rng::stream(options.seed, Purpose::Clients, u64::from(id) + 1),
            )
        };
        Ok(Self {
            now_us: 0,
            seq: 0,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            nodes: (1..=options.nodes)
                .map(|id| Node::new(id, options))
                .collect(),
            network: Network::new(rng::stream(options.seed, Purpose::Network, 0)),
            clients: (0..options.clients).map(client).collect(),
            pending: BTreeMap::new(),
            ops: 0,
            faults_end_us: options.duration_ms * MS,
            load_ends_us: options.duration_ms * MS + CALM_US,
            trace: Trace::default(),
            counts: Counts::default(),
            history: History::new(header),
            strong: Strong::new(options),
            staged: None,
            fault_rng: rng::stream(options.seed, Purpose::Faults, 1),
            disk_rng: rng::stream(options.seed, Purpose::Faults, 2),
            broken_nodes: Vec::new(),
            options: options.clone(),
        })
    }

    pub(super) fn start(&mut self) {
        for id in 1..=self.options.nodes {
            self.at(id * 10 * MS, Event::Start { node: id });
        }
        for client in 0..self.clients.len() {
            self.at(1_000 * MS + client as u64 * MS, Event::Think { client });
        }
        if self.options.faults {
            self.at(2_000 * MS, Event::NextFault);
        }
        self.at(250 * MS, Event::Housekeeping);
        self.start_actors();
    }

    pub(super) fn at(&mut self, at_us: u64, event: Event) {
        self.seq += 1;
        self.heap.push(Reverse((at_us, self.seq)));
        self.events.insert(self.seq, event);
    }

    pub(super) fn until(&mut self, end_us: u64) {
        while let Some(&Reverse((at_us, seq))) = self.heap.peek() {
            if at_us > end_us {
                break;
            }
            self.heap.pop();
            self.now_us = at_us;
            if let Some(event) = self.events.remove(&seq) {
                self.carry_out(event);
            }
        }
        self.now_us = end_us;
    }

    pub(super) fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// A paused process takes its events when it goes on.
    fn postponed(&mut self, event: Event) -> Option<Event> {
        let (Event::Deliver { to: node, .. }
        | Event::Contact { node, .. }
        | Event::Timer { node, .. }
        | Event::Request { node, .. }
        | Event::Cancel { node, .. }
        | Event::Disk { node, .. }
        | Event::Write { node, .. }) = event
        else {
            return Some(event);
        };
        let until = self.node(node).paused_until_us;
        if until > self.now_us {
            self.node(node).postponed += 1;
            self.at(until, event);
            return None;
        }
        Some(event)
    }

    fn carry_out(&mut self, event: Event) {
        let Some(event) = self.postponed(event) else {
            return;
        };
        match event {
            Event::Deliver {
                from,
                to,
                lane,
                payload,
            } => self.deliver(from, to, lane, payload),
            Event::Contact {
                node,
                peer,
                contact,
            } => {
                self.give(
                    node,
                    Input::Contact {
                        peer: node_id(peer),
                        contact,
                    },
                );
            }
            Event::Timer { node, boot } => self.timer(node, boot),
            Event::Write { node, boot } => self.write(node, boot),
            Event::Start { node } => self.start_node(node),
            Event::Request {
                node,
                call,
                request,
            } => self.request(node, call, request),
            Event::Cancel { node, call } => self.give(node, Input::Cancel { call }),
            Event::Disk { node, boot, state } => self.disk_state(node, boot, state),
            Event::Strong(happening) => self.happen(happening),
            Event::Staged(happening) => self.happen_staged(happening),
            Event::Think { client } => self.think(client),
            Event::Deadline { op } => self.deadline(op),
            Event::NextFault => self.next_fault(),
            Event::FaultEnds(cuts) => self.network.uncut(&cuts),
            Event::Calm => self.network.weather = Weather::CALM,
            Event::Housekeeping => self.housekeeping(),
        }
    }

    fn deliver(&mut self, from: u64, to: u64, lane: Lane, payload: Bytes) {
        let is_lost = self.network.is_cut(from, to) || self.node(to).running.is_none();
        let bytes = payload.len() as u64;
        self.network
            .carried
            .entry((from, to))
            .or_default()
            .count(bytes, is_lost);
        if is_lost {
            self.counts.dropped += 1;
            if lane != Lane::Datagram && self.network.break_streams(from, to) {
                let after = rng::below(&mut self.fault_rng, 1_000) * MS;
                self.tell_both(from, to, Contact::Closed, after);
            }
            return;
        }
        self.counts.delivered += 1;
        self.trace.note(self.now_us, to, Kind::Delivered, &payload);
        let from = node_id(from);
        let input = match lane {
            Lane::Datagram => Input::Datagram { from, payload },
            Lane::Stream(class) => Input::Stream {
                from,
                class,
                payload,
            },
        };
        self.give(to, input);
    }

    pub(super) fn tell_both(&mut self, a: u64, b: u64, contact: Contact, after_us: u64) {
        let at = self.now_us + 1 + after_us;
        self.at(
            at,
            Event::Contact {
                node: a,
                peer: b,
                contact,
            },
        );
        self.at(
            at,
            Event::Contact {
                node: b,
                peer: a,
                contact,
            },
        );
    }

    fn timer(&mut self, id: u64, boot: u64) {
        let now_us = self.now_us;
        let node = self.node(id);
        let Some(running) = node.running.as_mut().filter(|_| node.boot == boot) else {
            return;
        };
        running.armed_us = None;
        if running.deadline_us().is_some_and(|at| at <= now_us) {
            self.give(id, Input::Timer);
            self.note_leader(id);
        } else {
            self.arm(id);
        }
    }

    pub(super) fn arm(&mut self, id: u64) {
        let now_us = self.now_us;
        let node = self.node(id);
        let boot = node.boot;
        let Some(running) = &mut node.running else {
            return;
        };
        let Some(at) = running.deadline_us().map(|at| at.max(now_us + 1)) else {
            return;
        };
        if running.armed_us.is_none_or(|armed| at < armed) {
            running.armed_us = Some(at);
            self.at(at, Event::Timer { node: id, boot });
        }
    }

    /// One input, then everything that it leads to.
    pub(super) fn give(&mut self, id: u64, input: Input) {
        let now_us = self.now_us;
        let Some(outputs) = self.node(id).handle(now_us, input) else {
            return;
        };
        for output in outputs {
            self.effect(id, output);
        }
        self.arm(id);
    }

    fn effect(&mut self, id: u64, output: Output) {
        match output {
            Output::Reply { call, result } if call.as_u64() >= STAGED_FROM => {
                self.answer_staged(call, result);
            }
            Output::Reply { call, result } if call.as_u64() >= CALLS_FROM => {
                self.answer(call, result);
            }
            Output::Reply { call, result } => self.reply(call, result),
            Output::Datagram { to, payload } => self.send_datagram(id, to, payload),
            Output::Stream { to, class, payload } => {
                self.send_stream(id, to.as_u64(), class, payload)
            }
            Output::Persist(persist) => self.persist(id, persist),
            Output::Changed(change) => {
                self.changed(id, &change);
                self.tell_staged(id, &change);
            }
            Output::PeerAddress { .. } => {}
        }
    }

    fn send_datagram(&mut self, from: u64, to: Destination, payload: Bytes) {
        let to = match to {
            Destination::Node(node) => node.as_u64(),
            Destination::Seed(seed) => (1..=self.nodes.len() as u64)
                .find(|id| address(*id) == seed)
                .expect("seeds are nodes of the simulation"),
        };
        for at in self.network.datagram(self.now_us, from, to) {
            self.at(
                at,
                Event::Deliver {
                    from,
                    to,
                    lane: Lane::Datagram,
                    payload: payload.clone(),
                },
            );
        }
    }

    fn send_stream(&mut self, from: u64, to: u64, class: StreamClass, payload: Bytes) {
        match self.network.stream(self.now_us, from, to, class) {
            Some(at) => self.at(
                at,
                Event::Deliver {
                    from,
                    to,
                    lane: Lane::Stream(class),
                    payload,
                },
            ),
            None => {
                self.counts.dropped += 1;
                let at = self.now_us + MS;
                self.at(
                    at,
                    Event::Contact {
                        node: from,
                        peer: to,
                        contact: Contact::Dropped,
                    },
                );
            }
        }
    }

    fn persist(&mut self, id: u64, persist: Persist) {
        if let Some(running) = &mut self.node(id).running {
            running.queue.push(persist);
        }
        self.wake_disk(id);
    }

    fn wake_disk(&mut self, id: u64) {
        let now_us = self.now_us;
        let mut at = now_us + 100 + rng::below(&mut self.disk_rng, 2_900);
        at += self.node(id).sync_us;
        if self.node(id).slow_until_us > now_us {
            at += (100 + rng::below(&mut self.disk_rng, 1_500)) * MS;
        }
        let node = self.node(id);
        let boot = node.boot;
        let Some(running) = &mut node.running else {
            return;
        };
        if running.has_to_write() && !running.is_writing {
            running.is_writing = true;
            node.slow_writes += u64::from(node.sync_us > 0);
            if running.waits_for_space() {
                at += 50 * MS;
            }
            self.at(at, Event::Write { node: id, boot });
        }
    }

    fn write(&mut self, id: u64, boot: u64) {
        let now_us = self.now_us;
        if self.node(id).boot == boot
            && let Some(down_us) = self.node(id).power_fails_us.take()
        {
            return self.crash(id, true, down_us);
        }
        let lies = self.options.plant == Some(Plant::LyingDisk);
        let node = self.node(id);
        if lies && node.boot == boot {
            node.begin_lie();
        }
        let Some(running) = node.running.as_mut().filter(|_| node.boot == boot) else {
            return;
        };
        match running.write() {
            Ok(inputs) => {
                self.trace.note(
                    now_us,
                    id,
                    Kind::Durable,
                    &(inputs.len() as u64).to_le_bytes(),
                );
                for input in inputs {
                    self.counts.checkpoints +=
                        u64::from(matches!(input, Input::Checkpointed { .. }));
                    self.give(id, input);
                }
                self.wake_disk(id);
            }
            Err(error) => {
                let text = format!("node {id} can't write: {error:#}");
                if !self.explains(id, &text) {
                    self.broken_nodes.push(text);
                }
            }
        }
    }

    pub(super) fn start_node(&mut self, id: u64) {
        let (options, now_us) = (self.options.clone(), self.now_us);
        let node = self.node(id);
        if node.running.is_some() || node.retired {
            return;
        }
        match node.start(&options, now_us) {
            Ok(torn) => self.counts.torn_tails += u64::from(torn),
            Err(error) => {
                let text = format!("{error:#}");
                if !self.explains(id, &text) {
                    self.broken_nodes.push(text);
                }
                return;
            }
        }
        self.trace.note(now_us, id, Kind::Started, &[]);
        for peer in (1..=self.nodes.len() as u64).filter(|peer| *peer != id) {
            self.network.break_streams(id, peer);
        }
        // The replica may have had something to say when it was opened.
        self.give(id, Input::Timer);
    }

    /// Runs on until the cluster is useful and equal. Returns how long that took since the heal.
    fn recover(&mut self, healed_us: u64) -> Option<u64> {
        while self.now_us < healed_us + RECOVERY_LIMIT_US {
            self.retire();
            if self.pending.is_empty() && self.actors_rest() && verdict::is_equal(self) {
                return Some(self.now_us - healed_us);
            }
            self.until(self.now_us + 100 * MS);
        }
        None
    }
}
