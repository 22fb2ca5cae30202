//! The nemesis in virtual time: what each fault of a scenario does to the nodes, the network and the disks, and what ends it.
//!
//! Faults overlap freely: each undoes only what it did.

use quorumor_core::{ClusterAction, Command, Input};
use quorumor_wal::Disk as _;

use super::super::network::Region;
use super::super::node::{address, node_id};
use super::super::run::{Event, Run};
use super::calls::Who;
use super::{Happening, MS};
use crate::history::{FaultRecord, FaultStep, LinkCounters, Mode, NodeId};
use crate::scenario::{Fault, FaultKind, STARVE_TURN_US, held_links};

/// How long a change of the members that failed waits until it is asked for again.
const RETRY_US: u64 = 400 * MS;
/// How long a node that leaves has to say so.
const LEAVE_US: u64 = 1_500 * MS;
/// Until something else ends it.
const FOR_EVER_US: u64 = u32::MAX as u64 * MS;

/// How far a fault has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    nodes: Vec<u64>,
    links: Vec<(u64, u64)>,
    /// Whether the links are held at the moment.
    holds: bool,
    /// How often it took effect, beside what nodes and network count themselves.
    hits: u64,
    /// What the nodes had counted when it began: events held back by a pause, and slow writes.
    counted: u64,
    slow_before: u64,
    ended: bool,
    change: Change,
}

/// How far the replacement of a member has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    #[default]
    None,
    /// The newcomer is to be added.
    Adding(u64),
    /// The newcomer is to take the place of the old one.
    Replacing(u64),
    /// The newcomer has taken it.
    Done,
}

impl Change {
    const fn is_under_way(self) -> bool {
        matches!(self, Self::Adding(_) | Self::Replacing(_))
    }
}

impl Run {
    fn fault(&mut self, fault: u32) -> Fault {
        self.stage().scenario.faults[fault as usize].clone()
    }

    fn progress(&mut self, fault: u32) -> &mut Progress {
        &mut self.stage().faults[fault as usize]
    }

    /// A fault begins: its target is resolved, once.
    pub(super) fn begin_fault(&mut self, fault: u32) {
        let planned = self.fault(fault);
        let leader = self.target_leader(planned.start_us);
        let founders = self.options.nodes;
        let stage = self.stage();
        let leader = stage.places.place_of(leader);
        let target = planned.kind.target();
        let places = target.resolve(&stage.scenario, fault, leader);
        // Those in whose place others stand by now are hit in their stead.
        let now = |place: NodeId| stage.places.stand_in(place);
        let hit: Vec<NodeId> = places.into_iter().map(now).collect();
        let all: Vec<NodeId> = (1..=founders).map(|id| now(NodeId(id))).collect();
        let nodes: Vec<u64> = hit.iter().map(|node| node.0).collect();
        let (counted, slow_before) = (self.held_back(&nodes), self.slow_writes(&nodes));
        let cut = held_links(&planned.kind, &hit, &all);
        let cut = cut.into_iter().map(|(from, to)| (from.0, to.0)).collect();
        let progress = self.progress(fault);
        (progress.nodes, progress.links) = (nodes.clone(), cut);
        progress.counted = counted;
        progress.slow_before = slow_before;
        self.record(fault, FaultStep::Requested);
        self.inflict_planned(fault, &planned, &nodes);
        self.record(fault, FaultStep::Effective);
    }

    fn inflict_planned(&mut self, fault: u32, planned: &Fault, nodes: &[u64]) {
        let ends_us = self.now_us + (planned.end_us - planned.start_us);
        for &id in nodes {
            match &planned.kind {
                FaultKind::Kill { .. } => self.take_down(id, fault, false),
                FaultKind::PowerCut { .. } => self.take_down(id, fault, true),
                FaultKind::Wipe { .. } => self.wipe(id, fault),
                FaultKind::TearLog { .. } => self.damage(id, fault, tear),
                FaultKind::FlipBit { .. } => self.damage(id, fault, flip),
                FaultKind::Pause { .. } => self.pause(id, ends_us),
                FaultKind::SlowDisk { sync, .. } => self.node(id).sync_us += sync.0,
                FaultKind::FullDisk { .. } => self.fill(id, fault),
                FaultKind::DiskError { .. } => self.node(id).disk.fail_next_sync(1),
                FaultKind::ClockJump { by_ms, .. } => self.node(id).wall_offset_ms += by_ms,
                FaultKind::ClockDrift { by_ppm, .. } => self.drift(id, *by_ppm),
                FaultKind::RollingRestart { .. }
                | FaultKind::Starve { .. }
                | FaultKind::Partition { .. }
                | FaultKind::CutOut { .. }
                | FaultKind::CutIn { .. }
                | FaultKind::Bridge { .. }
                | FaultKind::Ring
                | FaultKind::Flap { .. }
                | FaultKind::Weather { .. }
                | FaultKind::CutClients { .. }
                | FaultKind::Replace { .. } => {}
            }
        }
        self.start_turns(fault, &planned.kind, nodes);
    }

    /// What concerns all nodes of the fault together, or goes on in turns.
    fn start_turns(&mut self, fault: u32, kind: &FaultKind, nodes: &[u64]) {
        if let FaultKind::Weather { does, .. } = kind {
            let (nodes, weather) = (nodes.iter().copied().collect(), *does);
            self.network.regions.push(Region {
                fault,
                nodes,
                weather,
                hits: 0,
            });
        }
        if !self.progress(fault).links.is_empty() {
            self.hold(fault, true);
        }
        let progress = self.progress(fault);
        match kind {
            FaultKind::ClockJump { .. } | FaultKind::ClockDrift { .. } => {
                progress.hits += nodes.len() as u64;
            }
            FaultKind::RollingRestart { .. }
            | FaultKind::Starve { .. }
            | FaultKind::Flap { .. } => {
                self.turn(fault, 0);
            }
            FaultKind::Replace { .. } => self.replace(fault, nodes),
            FaultKind::Kill { .. }
            | FaultKind::PowerCut { .. }
            | FaultKind::Wipe { .. }
            | FaultKind::TearLog { .. }
            | FaultKind::FlipBit { .. }
            | FaultKind::Pause { .. }
            | FaultKind::Partition { .. }
            | FaultKind::CutOut { .. }
            | FaultKind::CutIn { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring
            | FaultKind::Weather { .. }
            | FaultKind::SlowDisk { .. }
            | FaultKind::FullDisk { .. }
            | FaultKind::DiskError { .. }
            | FaultKind::CutClients { .. } => {}
        }
    }

    /// The node stays down until this fault, and every other one that wants it down, lets it up.
    fn take_down(&mut self, id: u64, fault: u32, power: bool) {
        self.stage().down_by.entry(id).or_default().insert(fault);
        self.crash(id, power, FOR_EVER_US);
    }

    /// This fault wants the node down no more.
    fn bring_up(&mut self, id: u64, fault: u32) {
        let wanted = self.stage().down_by.entry(id).or_default();
        wanted.remove(&fault);
        if wanted.is_empty() {
            self.start_node(id);
        }
    }

    /// The disk of a node that runs is full until this fault, and every other one that fills it, lets go of it.
    fn fill(&mut self, id: u64, fault: u32) {
        if self.node(id).running.is_none() {
            return;
        }
        self.stage().full_by.entry(id).or_default().insert(fault);
        self.fill_disk(id, FOR_EVER_US);
        self.progress(fault).hits += 1;
    }

    /// This fault fills the disk no more.
    fn empty(&mut self, id: u64, fault: u32) {
        let wanted = self.stage().full_by.entry(id).or_default();
        if wanted.remove(&fault) && wanted.is_empty() {
            self.free_disk(id);
        }
    }

    fn hold(&mut self, fault: u32, hold: bool) {
        let progress = self.progress(fault);
        if progress.holds == hold {
            return;
        }
        progress.holds = hold;
        let links = progress.links.clone();
        if hold {
            self.network.hold(&links);
        } else {
            self.network.release(&links);
        }
    }

    fn pause(&mut self, id: u64, until_us: u64) {
        let node = self.node(id);
        node.paused_until_us = node.paused_until_us.max(until_us);
    }

    fn drift(&mut self, id: u64, by_ppm: i64) {
        let now_us = self.now_us;
        let rate = self.node(id).rate_ppm + by_ppm;
        self.node(id).set_rate(now_us, rate);
        // The replica's deadline comes at another time now.
        self.arm(id);
    }

    /// A turn of a fault that goes on and on.
    pub(super) fn turn(&mut self, fault: u32, turn: u32) {
        let planned = self.fault(fault);
        // A replacement that was begun is carried through.
        let goes_on = matches!(planned.kind, FaultKind::Replace { .. });
        if self.progress(fault).ended && !goes_on {
            return;
        }
        let nodes = self.progress(fault).nodes.clone();
        let next_us = match &planned.kind {
            FaultKind::RollingRestart { .. } => {
                let share_us = (planned.end_us - planned.start_us) / nodes.len().max(1) as u64;
                let Some(&id) = nodes.get(turn as usize / 2) else {
                    return;
                };
                // Down for two thirds of its share; the rest is for coming back.
                let down_us = share_us * 2 / 3;
                if turn.is_multiple_of(2) {
                    self.take_down(id, fault, false);
                    down_us
                } else {
                    self.bring_up(id, fault);
                    share_us - down_us
                }
            }
            FaultKind::Starve { cpu_percent, .. } => {
                let runs_us = STARVE_TURN_US * u64::from(*cpu_percent) / 100;
                let at = self.now_us + STARVE_TURN_US - runs_us;
                nodes.iter().for_each(|id| self.pause(*id, at));
                STARVE_TURN_US
            }
            FaultKind::Flap { period, .. } => {
                self.hold(fault, turn.is_multiple_of(2));
                period.0 / 2
            }
            FaultKind::Replace { .. } => return self.change_members(fault),
            FaultKind::Kill { .. }
            | FaultKind::PowerCut { .. }
            | FaultKind::Wipe { .. }
            | FaultKind::TearLog { .. }
            | FaultKind::FlipBit { .. }
            | FaultKind::Pause { .. }
            | FaultKind::Partition { .. }
            | FaultKind::CutOut { .. }
            | FaultKind::CutIn { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring
            | FaultKind::Weather { .. }
            | FaultKind::SlowDisk { .. }
            | FaultKind::FullDisk { .. }
            | FaultKind::DiskError { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::CutClients { .. } => return,
        };
        let turn = turn + 1;
        self.at(
            self.now_us + next_us.max(1),
            Event::Staged(Happening::Turn { fault, turn }),
        );
    }

    /// A fault ends: what it did is undone.
    pub(super) fn end_fault(&mut self, fault: u32) {
        let planned = self.fault(fault);
        let nodes = self.progress(fault).nodes.clone();
        self.record(fault, FaultStep::HealRequested);
        self.progress(fault).ended = true;
        self.hold(fault, false);
        self.network.regions.retain(|region| region.fault != fault);
        for id in nodes {
            self.undo(id, fault, &planned.kind);
        }
        if !self.progress(fault).change.is_under_way() {
            self.record(fault, FaultStep::Healed);
        }
    }

    /// A newcomer is a member in place of the old node.
    fn take_place(&mut self, fault: u32, newcomer: u64, old: u64, why: &str) {
        let stage = self.stage();
        stage.joined.insert(newcomer);
        stage.places.replace(NodeId(old), NodeId(newcomer));
        self.put_out(old, why);
        self.crash(old, false, FOR_EVER_US);
        if self.progress(fault).ended {
            self.record(fault, FaultStep::Healed);
        }
    }

    fn undo(&mut self, id: u64, fault: u32, kind: &FaultKind) {
        if let FaultKind::SlowDisk { sync, .. } = kind {
            self.node(id).sync_us -= sync.0;
        } else if let FaultKind::ClockJump { by_ms, .. } = kind {
            self.node(id).wall_offset_ms -= by_ms;
        } else if let FaultKind::ClockDrift { by_ppm, .. } = kind {
            self.drift(id, -by_ppm);
        } else if let FaultKind::FullDisk { .. } = kind {
            self.empty(id, fault);
        } else if let FaultKind::DiskError { .. } = kind {
            // A sync that didn't come while the fault was in force doesn't fail after it.
            self.node(id).disk.fail_next_sync(u64::MAX);
            self.bring_up(id, fault);
        } else if kind.action().kills() {
            self.bring_up(id, fault);
        }
    }

    fn wipe(&mut self, id: u64, fault: u32) {
        self.take_down(id, fault, false);
        let seed = self.options.seed ^ (u64::from(fault) + 1).rotate_left(32) ^ id;
        self.node(id).disk = quorumor_wal::SimDisk::new(seed);
        // Peers remember the store that they met the node with, and refuse another under its id.
        self.put_out(
            id,
            "its disk is empty: its peers refuse its new store under its old id",
        );
    }

    fn damage(&mut self, id: u64, fault: u32, damage: fn(&quorumor_wal::SimDisk)) {
        self.take_down(id, fault, false);
        damage(&self.node(id).disk);
    }

    /// A node refuses to start, or ended by itself. Returns whether a fault of the scenario explains it.
    pub(in crate::world::sim) fn explains(&mut self, id: u64, why: &str) -> bool {
        if self.staged.is_none() {
            return false;
        }
        let stage = self.stage();
        let mut faults = stage.faults.iter().zip(&stage.scenario.faults);
        let place = faults.position(|(progress, planned)| {
            let damages = matches!(
                planned.kind,
                FaultKind::TearLog { .. } | FaultKind::FlipBit { .. }
            );
            // What its disk does after the fault's end is no doing of the fault's.
            let fails = matches!(planned.kind, FaultKind::DiskError { .. }) && !progress.ended;
            (damages || fails) && progress.nodes.contains(&id)
        });
        let Some(place) = place else {
            return false;
        };
        let now_us = self.now_us;
        let stage = self.stage();
        stage.faults[place].hits += 1;
        if let FaultKind::DiskError { .. } = stage.scenario.faults[place].kind {
            stage.note(now_us, NodeId(id), why.to_owned());
            self.take_down(id, place as u32, false);
        } else {
            self.put_out(id, why);
        }
        true
    }

    /// Strong: the leader that a majority names. Eventual has none: the node with most client traffic so far.
    fn target_leader(&mut self, start_us: u64) -> NodeId {
        let busiest = self.stage().plan.busiest_node(0, start_us.max(1));
        let busiest = busiest.unwrap_or(NodeId(1));
        let named: Vec<u64> = (1..=self.nodes.len() as u64)
            .filter_map(|id| super::super::verdict::leader(&self.view_of(id)?))
            .collect();
        let majority = self.options.nodes as usize / 2;
        let count = |id: u64| named.iter().filter(|named| **named == id).count();
        let led = named.iter().find(|id| count(**id) > majority);
        match self.options.mode {
            Mode::Strong => led.map_or(busiest, |id| NodeId(*id)),
            Mode::Eventual => busiest,
        }
    }

    fn held_back(&self, nodes: &[u64]) -> u64 {
        let counts = nodes
            .iter()
            .map(|id| self.nodes[*id as usize - 1].postponed);
        counts.sum()
    }

    fn record(&mut self, fault: u32, step: FaultStep) {
        let at_us = self.now_us;
        let planned = self.fault(fault);
        let progress = self.progress(fault).clone();
        let region = self
            .network
            .regions
            .iter()
            .find(|region| region.fault == fault);
        let met = region.map_or(0, |region| region.hits);
        let held_back = self.held_back(&progress.nodes) - progress.counted;
        let is_slow = matches!(planned.kind, FaultKind::SlowDisk { .. });
        let slow = self.slow_writes(&progress.nodes) - progress.slow_before;
        let carried = |&(from, to): &(u64, u64)| {
            let carried = self.network.carried.get(&(from, to)).copied();
            let carried = carried.unwrap_or_default();
            LinkCounters {
                from: NodeId(from),
                to: NodeId(to),
                bytes: carried.bytes,
                messages: carried.messages,
                drops: carried.drops,
                held: 0,
            }
        };
        let record = FaultRecord {
            at_us,
            fault,
            action: planned.kind.action(),
            step,
            nodes: progress.nodes.iter().map(|id| NodeId(*id)).collect(),
            links: progress.links.iter().map(carried).collect(),
            hits: progress.hits + met + held_back + if is_slow { slow } else { 0 },
        };
        let stage = self.stage();
        let written = stage.history.fault(record);
        stage.keep(written);
    }

    /// Writes that a slow disk held up.
    fn slow_writes(&self, nodes: &[u64]) -> u64 {
        let counts = nodes
            .iter()
            .map(|id| self.nodes[*id as usize - 1].slow_writes);
        counts.sum()
    }

    /// Strong: a newcomer takes a member's place. Eventual: the member leaves, and a newcomer joins.
    fn replace(&mut self, fault: u32, nodes: &[u64]) {
        let Some(&old) = nodes.first() else {
            return;
        };
        let newcomer = self.nodes.len() as u64 + 1;
        self.make_newcomer(newcomer);
        if self.options.mode == Mode::Strong {
            self.progress(fault).change = Change::Adding(newcomer);
            return self.change_members(fault);
        }
        self.stage().leaving.insert(old);
        self.give(old, Input::Leave);
        self.progress(fault).hits += 1;
        self.progress(fault).change = Change::Replacing(newcomer);
        let turn = 1;
        self.at(
            self.now_us + LEAVE_US,
            Event::Staged(Happening::Turn { fault, turn }),
        );
    }

    fn change_members(&mut self, fault: u32) {
        let progress = self.progress(fault).clone();
        let Some(&old) = progress.nodes.first() else {
            return;
        };
        if self.options.mode == Mode::Eventual {
            if let Change::Replacing(newcomer) = progress.change {
                self.progress(fault).change = Change::Done;
                let why = "it left, and another node joined in its place";
                self.take_place(fault, newcomer, old, why);
            }
            return;
        }
        let action = match progress.change {
            Change::Adding(newcomer) => ClusterAction::AddLearner {
                node: node_id(newcomer),
                peer_address: address(newcomer),
                promote: false,
            },
            Change::Replacing(newcomer) => ClusterAction::Promote {
                node: node_id(newcomer),
                replacing: Some(node_id(old)),
            },
            Change::None | Change::Done => return,
        };
        // Any node that runs, but the one that is to go, takes the request to the leader.
        let takes = |id: &u64| *id != old && self.nodes[*id as usize - 1].running.is_some();
        let at = (1..=self.options.nodes).find(takes).unwrap_or(1);
        self.ask(Who::Fault(fault), at, Command::Cluster(action));
    }

    /// How a change of the members ended.
    pub(super) fn members_changed(&mut self, fault: u32, done: bool) {
        let progress = self.progress(fault);
        let old = progress.nodes.first().copied();
        match (progress.change, old, done) {
            (Change::Adding(newcomer), _, true) => progress.change = Change::Replacing(newcomer),
            (Change::Replacing(newcomer), Some(old), true) => {
                progress.change = Change::Done;
                progress.hits += 1;
                return self.take_place(fault, newcomer, old, "it was replaced as a member");
            }
            (Change::None | Change::Adding(_) | Change::Replacing(_) | Change::Done, _, _) => {}
        }
        let turn = 1;
        self.at(
            self.now_us + RETRY_US,
            Event::Staged(Happening::Turn { fault, turn }),
        );
    }
}

/// The name of the newest segment of a node's log, and its length.
fn newest(disk: &quorumor_wal::SimDisk) -> Option<(String, u64)> {
    let mut names = disk.list().ok()?;
    names.retain(|name| name.starts_with(SEGMENTS));
    names.sort_unstable();
    let name = names.pop()?;
    let length = disk.contents(&name).len() as u64;
    Some((name, length))
}

/// What the names of the log's segments begin with.
const SEGMENTS: &str = "segment-";

/// The last bytes that were written are gone, as after a write that the power cut short.
fn tear(disk: &quorumor_wal::SimDisk) {
    if let Some((name, _)) = newest(disk) {
        let contents = disk.contents(&name);
        let written = contents
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let from = written.saturating_sub(8);
        disk.corrupt(&name, from as u64, &vec![0; written - from]);
    }
}

/// A bit in the middle of what was written is flipped.
fn flip(disk: &quorumor_wal::SimDisk) {
    if let Some((name, _)) = newest(disk) {
        let contents = disk.contents(&name);
        let written = contents
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        disk.flip_bit(&name, written as u64 / 2);
    }
}
