//! A cluster of foca on the simulator's network and queue.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foca::{Config, Foca, Member, NoCustomBroadcast, Notification, Runtime, Timer};
use quorumor_lab::rng::{self, Purpose, below};
use quorumor_lab::world::scale::{Network, Options, Queue, thread_cpu_s};
use rand_chacha::ChaCha8Rng;

use super::Figures;
use super::identity::{Fixed, Id};

const SECOND: f64 = 1_000_000.0;
/// The headers of IP and UDP.
const OVERHEAD_BYTES: u64 = 28;

type Node = Foca<Id, Fixed, ChaCha8Rng, NoCustomBroadcast>;

#[derive(Debug)]
enum Event {
    Datagram { to: u32, payload: Bytes },
    Timer { node: u32, timer: Timer<Id> },
}

/// What one call into a node led to.
#[derive(Debug, Default)]
struct Effects {
    sent: Vec<(u32, Bytes)>,
    timers: Vec<(u64, Timer<Id>)>,
    down: Vec<u32>,
    /// The node was told that it is down, and took a new life.
    rejoined: u64,
}

impl Runtime<Id> for Effects {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        match notification {
            Notification::MemberDown(member) => self.down.push(member.node),
            Notification::Rejoin(_) => self.rejoined += 1,
            Notification::MemberUp(_)
            | Notification::Rename(_, _)
            | Notification::Active
            | Notification::Idle
            | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        self.sent.push((to.node, Bytes::copy_from_slice(data)));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((after.as_micros() as u64, event));
    }
}

/// The cluster.
pub(crate) struct Fleet {
    nodes: Vec<Option<Node>>,
    queue: Queue<Event>,
    network: Network,
    now_us: u64,
    sent_bytes: u64,
    victim: Option<(u32, u64)>,
    holds_down: Vec<bool>,
    all_down_us: Option<u64>,
    false_downs: u64,
    effects: Effects,
}

impl Fleet {
    /// A cluster in which everyone knows everyone. Foca looks each member up among all, so that this takes the square of
    /// the nodes for each of them, on both cores.
    pub(crate) fn form(options: &Options) -> Self {
        let count = options.nodes;
        let half = count / 2;
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| formed(options, half..count));
            (formed(options, 0..half), other.join().expect("no panic"))
        });
        let mut fleet = Self {
            nodes: Vec::new(),
            queue: Queue::new(),
            network: Network::new(options, options.seed),
            now_us: 0,
            sent_bytes: 0,
            victim: None,
            holds_down: vec![false; count as usize],
            all_down_us: None,
            false_downs: 0,
            effects: Effects::default(),
        };
        let mut phases = rng::stream(options.seed, Purpose::Faults, 1);
        for (node, (foca, mut effects)) in (0u32..).zip(first.into_iter().chain(second)) {
            fleet.nodes.push(Some(foca));
            // Not all in step.
            let phase_us = below(&mut phases, 1_000_000);
            for (after_us, timer) in effects.timers.drain(..) {
                fleet
                    .queue
                    .push(after_us + phase_us, Event::Timer { node, timer });
            }
        }
        fleet
    }

    /// Runs up to a time.
    pub(crate) fn until(&mut self, until_us: u64) {
        while let Some((at_us, event)) = self.queue.pop(until_us) {
            self.now_us = at_us;
            match event {
                Event::Datagram { to, payload } => {
                    if let Some(node) = &mut self.nodes[to as usize] {
                        // What it refuses changes nothing.
                        let _ = node.handle_data(&payload, &mut self.effects);
                    }
                    self.carry_out(to);
                }
                Event::Timer { node, timer } => {
                    if let Some(foca) = &mut self.nodes[node as usize] {
                        let _ = foca.handle_timer(timer, &mut self.effects);
                    }
                    self.carry_out(node);
                }
            }
        }
        self.now_us = until_us;
    }

    /// Loses a node's process.
    pub(crate) fn kill(&mut self) {
        let node = self.nodes.len() as u32 / 3;
        self.nodes[node as usize] = None;
        self.holds_down[node as usize] = true;
        self.victim = Some((node, self.now_us));
    }

    /// Runs up to a time, measuring.
    pub(crate) fn watch(&mut self, until_us: u64) -> Figures {
        let (begun, cpu_s) = (Instant::now(), thread_cpu_s());
        let (from_us, sent) = (self.now_us, self.sent_bytes);
        self.until(until_us);
        let computed = thread_cpu_s().zip(cpu_s).map(|(now, then)| now - then);
        let sim_s = (until_us - from_us) as f64 / SECOND;
        let killed_us = self.victim.map(|(_, at_us)| at_us);
        Figures {
            all_down_s: self
                .all_down_us
                .zip(killed_us)
                .map(|(down, killed)| (down - killed) as f64 / SECOND),
            false_downs: self.false_downs,
            bytes_per_node_s: (self.sent_bytes - sent) as f64 / sim_s / self.nodes.len() as f64,
            cpu_s_per_sim_s: computed.unwrap_or_else(|| begun.elapsed().as_secs_f64()) / sim_s,
        }
    }

    fn carry_out(&mut self, node: u32) {
        for (to, payload) in self.effects.sent.drain(..) {
            self.sent_bytes += payload.len() as u64 + OVERHEAD_BYTES;
            if let Some(at_us) = self.network.datagram(self.now_us) {
                self.queue.push(at_us, Event::Datagram { to, payload });
            }
        }
        for (after_us, timer) in self.effects.timers.drain(..) {
            self.queue
                .push(self.now_us + after_us, Event::Timer { node, timer });
        }
        self.false_downs += std::mem::take(&mut self.effects.rejoined);
        for down in self.effects.down.drain(..) {
            if self.victim.is_some_and(|(victim, _)| victim == down) {
                self.holds_down[node as usize] = true;
                if self.holds_down.iter().all(|holds| *holds) {
                    self.all_down_us.get_or_insert(self.now_us);
                }
            } else {
                self.false_downs += 1;
            }
        }
    }
}

fn formed(options: &Options, nodes: std::ops::Range<u32>) -> Vec<(Node, Effects)> {
    let size = NonZeroU32::new(options.nodes).expect("there are nodes");
    nodes
        .map(|node| {
            let rng = rng::stream(options.seed, Purpose::Clients, u64::from(node));
            let id = |node| Id { node, life: 0 };
            let mut foca = Foca::new(id(node), Config::new_lan(size), rng, Fixed);
            let others = (0..options.nodes).filter(|other| *other != node);
            let mut effects = Effects::default();
            foca.apply_many(
                others.map(|other| Member::alive(id(other))),
                false,
                &mut effects,
            )
            .expect("members can be applied");
            (foca, effects)
        })
        .collect()
}
