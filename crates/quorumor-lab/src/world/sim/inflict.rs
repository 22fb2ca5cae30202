//! What a fault does to the run, and what heals it.

use quorumor_core::{Contact, DiskState, Input};

use super::faults::{self, Fault};
use super::network::Weather;
use super::node::{Node, Running};
use super::run::{Event, Run};
use super::serve::Ended;
use super::trace::Kind;
use super::{Mix, Plant, verdict};
use crate::history::{Cause, Mode, Outcome as Ending};
use crate::rng;

const MS: u64 = 1_000;

impl Run {
    pub(super) fn crash(&mut self, id: u64, power: bool, down_us: u64) {
        let now_us = self.now_us;
        if self.node(id).running.is_none() {
            return;
        }
        let mid_write = self
            .node(id)
            .running
            .as_ref()
            .is_some_and(|running| !running.queue.is_empty());
        let operations = 1 + rng::below(&mut self.disk_rng, 4);
        self.node(id).crash(power.then_some(operations));
        self.trace.note(now_us, id, Kind::Crashed, &[]);
        self.counts.crashes += 1;
        self.counts.power_cuts += u64::from(power && mid_write);
        for peer in (1..=self.nodes.len() as u64).filter(|peer| *peer != id) {
            if self.network.break_streams(id, peer) {
                let closed = if power {
                    500 + rng::below(&mut self.fault_rng, 1_000)
                } else {
                    1
                };
                self.at(
                    now_us + closed * MS,
                    Event::Contact {
                        node: peer,
                        peer: id,
                        contact: Contact::Closed,
                    },
                );
            }
            if !power && self.network.can_connect(id, peer) {
                self.at(
                    now_us + 20 * MS,
                    Event::Contact {
                        node: peer,
                        peer: id,
                        contact: Contact::Refused,
                    },
                );
            }
        }
        self.at(now_us + down_us, Event::Start { node: id });
        let lost: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, op)| op.node == id)
            .map(|(op, _)| *op)
            .collect();
        for op in lost {
            self.finish(
                op,
                Ended::failed(Ending::Unknown, Cause::Broken, "the connection broke"),
            );
        }
        self.break_calls(id);
        self.break_staged(id);
    }

    /// A power cut is the more telling in the middle of a write, so an idle disk waits for its next one.
    fn crash_or_doom(&mut self, id: u64, power: bool, down_us: u64) {
        let running = self.node(id).running.as_ref();
        if power && running.is_some_and(|running| running.queue.is_empty()) {
            self.node(id).power_fails_us = Some(down_us);
        } else {
            self.crash(id, power, down_us);
        }
    }

    pub(super) fn next_fault(&mut self) {
        if self.now_us >= self.faults_end_us {
            return;
        }
        let fault = self.draw_fault();
        if self.options.plant == Some(Plant::LeaseEarlyExpiry) {
            self.plant_lease_end();
        }
        self.inflict(fault);
        let next = self.now_us + faults::gap_us(&mut self.fault_rng, self.options.mix);
        self.at(next, Event::NextFault);
    }

    fn draw_fault(&mut self) -> Fault {
        let nodes = self.nodes.len() as u64;
        match (self.options.mix, self.options.mode) {
            (Mix::Every, Mode::Strong) => faults::draw_strong(&mut self.fault_rng, nodes),
            (Mix::Every, Mode::Eventual) => faults::draw(&mut self.fault_rng, nodes),
            (Mix::Isolation, _) => {
                let some = 1 + rng::below(&mut self.fault_rng, nodes);
                let node = self.some_leader().unwrap_or(some);
                faults::isolation(&mut self.fault_rng, node)
            }
            (Mix::PowerCuts, _) => faults::power_cut(&mut self.fault_rng),
        }
    }

    /// A node that takes itself for the leader.
    fn some_leader(&self) -> Option<u64> {
        let leads = |node: &&Node| {
            let view = node.running.as_ref().map(Running::view);
            view.is_some_and(|view| verdict::leader(&view) == Some(node.id))
        };
        self.nodes.iter().find(leads).map(|node| node.id)
    }

    fn inflict(&mut self, fault: Fault) {
        let now_us = self.now_us;
        match fault {
            Fault::Crash {
                node,
                power,
                down_us,
            } => self.crash_or_doom(node, power, down_us),
            Fault::CrashAll { down_us } => {
                for id in 1..=self.nodes.len() as u64 {
                    self.crash(id, true, down_us);
                }
            }
            Fault::Partition { side, lasts_us } => {
                let rest: Vec<u64> = (1..=self.nodes.len() as u64)
                    .filter(|id| !side.contains(id))
                    .collect();
                let both = side
                    .iter()
                    .flat_map(|a| rest.iter().flat_map(move |b| [(*a, *b), (*b, *a)]))
                    .collect();
                self.cut(both, lasts_us);
            }
            Fault::OneWay { from, to, lasts_us } if from != to => {
                self.cut(vec![(from, to)], lasts_us)
            }
            Fault::Reset { a, b } if a != b => {
                if self.network.break_streams(a, b) {
                    self.tell_both(a, b, Contact::Closed, 0);
                }
            }
            Fault::OneWay { .. } | Fault::Reset { .. } => {}
            Fault::Storm { lasts_us } => {
                self.network.weather = Weather::STORM;
                self.at(now_us + lasts_us, Event::Calm);
            }
            Fault::Pause { node, lasts_us } => {
                self.counts.pauses += 1;
                self.node(node).paused_until_us = now_us + lasts_us;
            }
            Fault::ClockJump { node, by_ms } => {
                self.counts.clock_jumps += 1;
                self.node(node).wall_offset_ms = by_ms;
            }
            Fault::SlowDisk { node, lasts_us } => {
                self.counts.slow_disks += 1;
                self.node(node).slow_until_us = now_us + lasts_us;
            }
            Fault::FullDisk { node, lasts_us } => self.fill_disk(node, lasts_us),
        }
    }

    /// The disk runs full while the process goes on, and has space again later.
    pub(super) fn fill_disk(&mut self, id: u64, lasts_us: u64) {
        let now_us = self.now_us;
        let node = self.node(id);
        if node.running.is_none() || node.is_full {
            return;
        }
        node.is_full = true;
        node.disk.set_full(true);
        let boot = node.boot;
        self.counts.full_disks += 1;
        for (at, state) in [
            (now_us, DiskState::Full),
            (now_us + lasts_us, DiskState::Available),
        ] {
            let node = id;
            self.at(at, Event::Disk { node, boot, state });
        }
    }

    /// The node learns how its disk is; when it has space, it has.
    pub(super) fn disk_state(&mut self, id: u64, boot: u64, state: DiskState) {
        if state == DiskState::Available {
            return self.free_disk(id);
        }
        if self.node(id).boot == boot && self.node(id).is_full {
            self.give(id, Input::Disk(state));
        }
    }

    pub(super) fn free_disk(&mut self, id: u64) {
        let node = self.node(id);
        if std::mem::take(&mut node.is_full) {
            node.disk.set_full(false);
            self.give(id, Input::Disk(DiskState::Available));
        }
    }

    fn cut(&mut self, links: Vec<(u64, u64)>, lasts_us: u64) {
        self.counts.cuts += 1;
        for (from, to) in &links {
            self.network.cut(*from, *to);
        }
        self.at(self.now_us + lasts_us, Event::FaultEnds(links));
    }

    pub(super) fn housekeeping(&mut self) {
        for id in 1..=self.nodes.len() as u64 {
            let renewed = self.node(id).running.as_mut().map(Running::renew_floor);
            if let Some(Err(error)) = renewed {
                let text = format!("node {id} can't renew its floor: {error:#}");
                if !self.explains(id, &text) {
                    self.broken_nodes.push(text);
                }
            }
        }
        for (a, b) in self.network.broken_pairs() {
            let run = self.node(a).running.is_some() && self.node(b).running.is_some();
            if run && self.network.can_connect(a, b) && self.network.open_streams(a, b) {
                self.tell_both(a, b, Contact::Connected, 0);
            }
        }
        self.at(self.now_us + 250 * MS, Event::Housekeeping);
    }

    /// Ends every fault and starts every node. Returns the time of it.
    pub(super) fn heal(&mut self) -> u64 {
        self.network.heal();
        for id in 1..=self.nodes.len() as u64 {
            self.node(id).paused_until_us = 0;
            self.node(id).slow_until_us = 0;
            self.node(id).power_fails_us = None;
            self.free_disk(id);
            if self.node(id).running.is_none() {
                self.start_node(id);
            }
        }
        self.now_us
    }
}
