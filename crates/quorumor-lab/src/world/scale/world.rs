//! The loop: one queue of events, virtual time, and what each event does to nodes and network.
//!
//! What is to happen when stands in [`super::script`] and is done in [`super::act`]; what is seen of it goes to [`super::spread`] and [`super::detect`].

use anyhow::Result;
use bytes::Bytes;
use quorumor_core::{
    CallId, ChangeEvent, Contact, Destination, Error, Input, Mono, Output, Replica, Reply,
    StreamClass,
};
use rand_chacha::ChaCha8Rng;

use super::detect::Detection;
use super::join::Acquaintance;
use super::network::Network;
use super::node::{DATAGRAM_OVERHEAD_BYTES, Node, STREAM_OVERHEAD_BYTES, at_address, clock, place};
use super::observe;
use super::options::Options;
use super::queue::Queue;
use super::script::Script;
use super::spread::Spreading;
use super::trace::{Kind, Trace};
use crate::rng::{self, Purpose};

const MS: u64 = 1_000;
/// How long the disk takes for anything.
const FSYNC_US: u64 = MS;
/// After this a stream message that found nobody is reported as dropped.
const UNREACHABLE_US: u64 = 1_000 * MS;
/// A slow node stands still for the first part of each cycle.
const PAUSE_US: u64 = 2_000 * MS;
const PAUSE_CYCLE_US: u64 = 10_000 * MS;

/// What happens at a time.
#[derive(Debug)]
pub(super) enum Event {
    Datagram {
        from: u32,
        to: u32,
        payload: Bytes,
    },
    Stream {
        from: u32,
        to: u32,
        class: StreamClass,
        payload: Bytes,
    },
    Dropped {
        node: u32,
        boot: u32,
        peer: u32,
    },
    Timer {
        node: u32,
        boot: u32,
    },
    Disk {
        node: u32,
        boot: u32,
    },
    Step(usize),
}

/// Everything about a run.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Options,
    pub(super) now_us: u64,
    pub(super) queue: Queue<Event>,
    pub(super) nodes: Vec<Node>,
    pub(super) live: u32,
    pub(super) network: Network,
    pub(super) script: Script,
    pub(super) spread: Spreading,
    pub(super) detection: Detection,
    pub(super) acquaintance: Acquaintance,
    pub(super) trace: Trace,
    pub(super) delivered: u64,
    /// When the first message crossed after the partition had healed.
    pub(super) healed_us: Option<u64>,
    pub(super) found_us: Option<u64>,
    pub(super) fault_rng: ChaCha8Rng,
}

impl World {
    pub(super) fn new(options: &Options) -> Self {
        let seed = options.seed;
        let mut faults = rng::stream(seed, Purpose::Faults, 0);
        let nodes = options.nodes as usize;
        let network = Network::new(options, seed);
        let slow = (u64::from(options.nodes) * u64::from(options.slow_ppm)).div_ceil(1_000_000);
        let mut phases: Vec<Option<u64>> = (0..nodes as u64)
            .map(|node| (node < slow).then(|| rng::below(&mut faults, PAUSE_CYCLE_US)))
            .collect();
        rng::shuffle(&mut faults, &mut phases);
        let script = Script::new(options);
        let mut queue = Queue::new();
        for (step, (at_us, _)) in script.steps.iter().enumerate() {
            queue.push(*at_us, Event::Step(step));
        }
        Self {
            now_us: 0,
            queue,
            nodes: phases.into_iter().map(Node::new).collect(),
            live: 0,
            network,
            spread: Spreading::new(options.nodes),
            detection: Detection::new(options),
            acquaintance: Acquaintance::new(options),
            script,
            trace: Trace::default(),
            delivered: 0,
            healed_us: None,
            found_us: None,
            fault_rng: faults,
            options: options.clone(),
        }
    }

    /// Runs up to and including a time.
    pub(super) fn until(&mut self, until_us: u64) -> Result<()> {
        while let Some((at_us, event)) = self.queue.pop(until_us) {
            self.now_us = at_us;
            self.happen(event)?;
        }
        self.now_us = self.now_us.max(until_us);
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        if let Some(resumes_us) = self.paused_until(&event) {
            if let Event::Timer { node, .. } = event {
                self.nodes[node as usize].armed_us = resumes_us;
            }
            self.queue.push(resumes_us, event);
            return Ok(());
        }
        match event {
            Event::Datagram { from, to, payload } => self.arrive(from, to, Lane::Datagram, payload),
            Event::Stream {
                from,
                to,
                class,
                payload,
            } => self.arrive(from, to, Lane::Stream(class), payload),
            Event::Dropped { node, boot, peer } => {
                if self.nodes[node as usize].boot == boot {
                    let contact = Contact::Dropped;
                    let peer = super::node::node_id(peer);
                    self.feed(node, Input::Contact { peer, contact });
                }
            }
            Event::Timer { node, boot } => self.wake(node, boot),
            Event::Disk { node, boot } => self.finish_disk(node, boot),
            Event::Step(step) => self.step(step)?,
        }
        Ok(())
    }

    /// Until when the process that an event concerns stands still.
    fn paused_until(&self, event: &Event) -> Option<u64> {
        if self.options.slow_ppm == 0 || self.now_us < self.options.settle_us {
            return None;
        }
        let node = match event {
            Event::Datagram { to, .. } | Event::Stream { to, .. } => *to,
            Event::Dropped { node, .. } | Event::Timer { node, .. } | Event::Disk { node, .. } => {
                *node
            }
            Event::Step(_) => return None,
        };
        let phase_us = self.nodes[node as usize].pause_phase_us?;
        let into_us = (self.now_us + phase_us) % PAUSE_CYCLE_US;
        (into_us < PAUSE_US).then(|| self.now_us + PAUSE_US - into_us)
    }

    fn arrive(&mut self, from: u32, to: u32, lane: Lane, payload: Bytes) {
        let is_cut = self.network.is_cut(from, to);
        if is_cut || self.nodes[to as usize].replica.is_none() {
            if let Lane::Stream(_) = lane {
                let boot = self.nodes[from as usize].boot;
                let dropped = Event::Dropped {
                    node: from,
                    boot,
                    peer: to,
                };
                self.queue.push(self.now_us + UNREACHABLE_US, dropped);
            }
            return;
        }
        if self.healed_us.is_some() && self.found_us.is_none() && self.network.are_apart(from, to) {
            self.found_us = Some(self.now_us);
        }
        self.delivered += 1;
        let from = super::node::node_id(from);
        let (kind, input) = match lane {
            Lane::Datagram => {
                let payload = payload.clone();
                (Kind::Datagram, Input::Datagram { from, payload })
            }
            Lane::Stream(class) => {
                let payload = payload.clone();
                (
                    Kind::Stream,
                    Input::Stream {
                        from,
                        class,
                        payload,
                    },
                )
            }
        };
        self.trace.note(self.now_us, to, kind, &payload);
        drop(payload);
        self.feed(to, input);
    }

    fn wake(&mut self, node: u32, boot: u32) {
        let sleeper = &mut self.nodes[node as usize];
        // Of several timer events of a life only the earliest counts; it arms the next.
        if sleeper.boot != boot || sleeper.armed_us != self.now_us {
            return;
        }
        sleeper.armed_us = u64::MAX;
        let Some(replica) = &sleeper.replica else {
            return;
        };
        match replica.poll_timeout() {
            Some((Mono(at), _)) if at <= clock(self.now_us).mono_us => {
                self.feed(node, Input::Timer);
            }
            Some(_) | None => self.arm(node),
        }
    }

    fn finish_disk(&mut self, node: u32, boot: u32) {
        let owner = &mut self.nodes[node as usize];
        if owner.boot != boot || owner.replica.is_none() {
            return;
        }
        if let Some(done) = owner.disk.finish() {
            self.trace.note(self.now_us, node, Kind::Disk, &[]);
            self.feed(node, done);
        }
    }

    /// Gives a replica one input and carries out what it wants.
    pub(super) fn feed(&mut self, node: u32, input: Input) {
        let now = clock(self.now_us);
        let Some(replica) = self.nodes[node as usize].replica.as_mut() else {
            return;
        };
        replica.handle(now, input);
        self.drain(node);
    }

    /// Carries out what a replica wants, and looks at what it noticed.
    pub(super) fn drain(&mut self, node: u32) {
        while let Some(output) = self.nodes[node as usize]
            .replica
            .as_mut()
            .and_then(Replica::poll_output)
        {
            self.carry_out(node, output);
        }
        observe::look(self, node);
        self.arm(node);
    }

    fn carry_out(&mut self, node: u32, output: Output) {
        match output {
            Output::Datagram { to, payload } => self.send_datagram(node, to, payload),
            Output::Stream { to, class, payload } => {
                let to = place(to);
                let sent = &mut self.nodes[node as usize].sent;
                sent.stream_messages += 1;
                sent.stream_bytes += payload.len() as u64 + STREAM_OVERHEAD_BYTES;
                let at_us = self.network.stream(self.now_us, node, to, class);
                let event = Event::Stream {
                    from: node,
                    to,
                    class,
                    payload,
                };
                self.queue.push(at_us, event);
            }
            Output::Persist(request) => {
                let owner = &mut self.nodes[node as usize];
                owner.disk.begin(request);
                let boot = owner.boot;
                self.queue
                    .push(self.now_us + FSYNC_US, Event::Disk { node, boot });
            }
            Output::Reply { call, result } => self.answered(node, call, result),
            Output::Changed(change) => {
                let owner = &mut self.nodes[node as usize];
                let by_repair = owner.was_repaired();
                let who = (node, owner.started_us);
                for event in change.events.iter() {
                    match event {
                        ChangeEvent::Put { entry, .. } => {
                            self.spread.arrived(who, self.now_us, &entry.key, by_repair);
                        }
                        ChangeEvent::Deleted { .. } => {}
                        ChangeEvent::Reset => self.look_at_all(node),
                    }
                }
            }
            // Here a node lives where its id says.
            Output::PeerAddress { .. } => {}
        }
    }

    fn send_datagram(&mut self, node: u32, to: Destination, payload: Bytes) {
        let sent = &mut self.nodes[node as usize].sent;
        sent.datagrams += 1;
        sent.datagram_bytes += payload.len() as u64 + DATAGRAM_OVERHEAD_BYTES;
        let to = match to {
            Destination::Node(id) => Some(place(id)),
            Destination::Seed(address) => at_address(address),
        };
        let Some(to) = to.filter(|to| *to < self.options.nodes && *to != node) else {
            return;
        };
        if let Some(at_us) = self.network.datagram(self.now_us) {
            let event = Event::Datagram {
                from: node,
                to,
                payload,
            };
            self.queue.push(at_us, event);
        }
    }

    fn answered(&mut self, node: u32, call: CallId, result: Result<Reply, Error>) {
        let dot = match result {
            Ok(Reply::Written { dot, .. }) => dot.map(|(dot, _)| dot),
            Ok(_) | Err(_) => None,
        };
        self.trace.note(
            self.now_us,
            node,
            Kind::Replied,
            &call.as_u64().to_le_bytes(),
        );
        self.script.answered(call, dot);
    }

    /// So much changed at once that every update is looked for.
    fn look_at_all(&mut self, node: u32) {
        let entity = &self.nodes[node as usize];
        let Some(replica) = &entity.replica else {
            return;
        };
        self.spread
            .look_at(node, entity.started_us, self.now_us, &replica.view());
    }

    /// Puts the replica's deadline into the queue, unless an earlier timer event will look at it anyway.
    fn arm(&mut self, node: u32) {
        let sleeper = &mut self.nodes[node as usize];
        let Some((Mono(at), _)) = sleeper.replica.as_ref().and_then(Replica::poll_timeout) else {
            return;
        };
        let at_us = at.saturating_sub(1).max(self.now_us);
        if at_us < sleeper.armed_us {
            sleeper.armed_us = at_us;
            let boot = sleeper.boot;
            self.queue.push(at_us, Event::Timer { node, boot });
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Datagram,
    Stream(StreamClass),
}
