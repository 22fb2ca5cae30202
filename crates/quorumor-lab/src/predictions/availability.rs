//! Which share of the operations is answered: quorum arithmetic for every span of time, and after a leader's end the time until
//! the next one, in which nothing that needs a leader is answered.
//!
//! Drawn for kills, power cuts, pauses and partitions, in any overlap. Left out where no law holds: other faults; faults so short
//! that whoever is silent may come back unnoticed; closed loops, retries and acknowledgements by several, which make the share of
//! the operations another one than the share of the clients; what a mode refuses anyway. The curve ends where a cluster that had
//! no majority gets one: how long it then takes to elect no law says.

use std::collections::BTreeSet;

use super::about;
use crate::analyse::{Band, LeaderSeen, RunResult};
use crate::contest::System;
use crate::history::{Level, Mode, NodeId};
use crate::report::{Charted, Column, Prediction};
use crate::scenario::{FaultKind, Scenario, Target};
use crate::theory::availability::{Place, served_share, serves};
use crate::theory::election::{Clock, after_crash_ms, after_silence_ms};
use crate::workload::{Arrivals, Workload};

/// Until a dead process's peers know that its connections are closed and refused.
const NOTICED_MS: f64 = 20.0;
/// Two rounds of asking, with the disks.
const VOTE_MS: f64 = 6.0;

const QUORUMS: &str = "quorum arithmetic (Lamport 1998; Ongaro and Ousterhout 2014, 5.1)";
const ELECTIONS: &str =
    "the least of the followers' election timeouts (Ongaro and Ousterhout 2014, 5.2, 9.3)";
const ALIVE: &str = "eventual mode answers wherever a node runs";

/// The curve of a column's shown run, if a law holds.
pub(super) fn of(scenario: &Scenario, system: System, column: &Column) -> Option<Prediction> {
    let arithmetic = Arithmetic::of(scenario, system, column.shown()?)?;
    let source = match (column.mode, arithmetic.gaps.is_empty()) {
        (Mode::Eventual, _) => ALIVE.to_owned(),
        (Mode::Strong, true) => QUORUMS.to_owned(),
        (Mode::Strong, false) => format!("{QUORUMS}; {ELECTIONS}"),
    };
    let chart = Charted::Availability;
    let points = arithmetic.curve();
    Some(about(column, chart, "who can be served", source, points))
}

/// What a fault does to the nodes that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Their processes are gone, which their peers notice.
    Killed,
    /// They are gone without a word.
    Lost,
    /// They stand still, and wake.
    Paused,
    /// They reach each other alone.
    CutOff,
}

impl Effect {
    /// None where no law says what a fault does to those who serve.
    const fn of(kind: &FaultKind) -> Option<Self> {
        match kind {
            FaultKind::Kill { .. } => Some(Self::Killed),
            FaultKind::PowerCut { .. } => Some(Self::Lost),
            FaultKind::Pause { .. } => Some(Self::Paused),
            FaultKind::Partition { .. } => Some(Self::CutOff),
            FaultKind::RollingRestart { .. }
            | FaultKind::Wipe { .. }
            | FaultKind::TearLog { .. }
            | FaultKind::FlipBit { .. }
            | FaultKind::Starve { .. }
            | FaultKind::CutOut { .. }
            | FaultKind::CutIn { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring
            | FaultKind::Flap { .. }
            | FaultKind::Weather { .. }
            | FaultKind::SlowDisk { .. }
            | FaultKind::FullDisk { .. }
            | FaultKind::DiskError { .. }
            | FaultKind::ClockJump { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::CutClients { .. }
            | FaultKind::Replace { .. } => None,
        }
    }
}

/// A run as the laws see it. Times are in microseconds from time zero.
struct Arithmetic<'a> {
    mode: Mode,
    nodes: u32,
    duration_us: u64,
    /// The share of the operations that any running node answers, whoever leads.
    local: f64,
    clients: Vec<u32>,
    held: Vec<(&'a Band, Effect)>,
    /// When nobody leads though a majority is together.
    gaps: Vec<(u64, u64)>,
}

impl<'a> Arithmetic<'a> {
    fn of(scenario: &Scenario, system: System, run: &'a RunResult) -> Option<Self> {
        let local = local_share(&scenario.workload, run.mode)?;
        let effect = |band: &'a Band| {
            let fault = scenario.faults.get(band.fault as usize)?;
            Some((band, Effect::of(&fault.kind)?))
        };
        let held = run.bands.iter().map(effect).collect::<Option<Vec<_>>>()?;
        let mut arithmetic = Self {
            mode: run.mode,
            nodes: scenario.nodes,
            duration_us: run.duration_us,
            local,
            clients: clients(&scenario.workload, scenario.nodes),
            held,
            gaps: Vec::new(),
        };
        let clock = clock(scenario, system);
        if arithmetic
            .held
            .iter()
            .any(|held| may_go_unnoticed(*held, clock))
        {
            return None;
        }
        arithmetic.gaps = match run.mode {
            Mode::Strong => arithmetic.elections(scenario, system, &run.leaders)?,
            Mode::Eventual => Vec::new(),
        };
        Some(arithmetic)
    }

    /// When nobody leads after a fault took the leader; none = nobody can say whom a fault took.
    fn elections(
        &self,
        scenario: &Scenario,
        system: System,
        leaders: &[LeaderSeen],
    ) -> Option<Vec<(u64, u64)>> {
        let mut gaps = Vec::new();
        for (band, effect) in &self.held {
            let target = scenario.faults.get(band.fault as usize)?.kind.target();
            if !takes_leader(target, band, leaders)? {
                continue;
            }
            let clock = clock(scenario, system);
            let together = self.largest_side(band.from_us);
            let is_noticed = *effect == Effect::Killed && is_ours(system);
            let gap_ms = match together {
                0 => continue,
                others if is_noticed => after_crash_ms(clock, others + 1, NOTICED_MS, VOTE_MS),
                others => after_silence_ms(clock, others + 1, VOTE_MS),
            };
            gaps.push((band.from_us, band.from_us + (gap_ms * 1_000.0) as u64));
        }
        Some(gaps)
    }

    /// How many nodes of those that can serve there are at a time.
    fn largest_side(&self, at_us: u64) -> u32 {
        let places = self.places(at_us);
        let serving = (0..places.len()).filter(|&node| serves(self.mode, &places, node));
        serving.count() as u32
    }

    /// Where the nodes are: two are on one side if no partition divides them.
    fn places(&self, at_us: u64) -> Vec<Place> {
        let in_force = |(band, _): &&(&Band, Effect)| (band.from_us..band.to_us).contains(&at_us);
        let held: Vec<_> = self.held.iter().filter(in_force).collect();
        let place = |node: u32| {
            let id = NodeId(u64::from(node) + 1);
            let mut side = 0;
            for (place, (band, effect)) in (0_u32..).zip(&held) {
                match (band.nodes.contains(&id), effect) {
                    (true, Effect::Killed | Effect::Lost | Effect::Paused) => return Place::Down,
                    (true, Effect::CutOff) => side |= 1 << (place % 32),
                    (false, _) => {}
                }
            }
            Place::Side(side)
        };
        (0..self.nodes).map(place).collect()
    }

    /// The share of the operations that is answered at a time.
    fn share(&self, at_us: u64) -> f64 {
        let places = self.places(at_us);
        let nobody_leads = self
            .gaps
            .iter()
            .any(|(from, to)| (*from..*to).contains(&at_us));
        let agreed = if nobody_leads {
            0.0
        } else {
            served_share(self.mode, &places, &self.clients)
        };
        let running = served_share(Mode::Eventual, &places, &self.clients);
        self.local * running + (1.0 - self.local) * agreed
    }

    /// Seconds and shares, as steps.
    fn curve(&self) -> Vec<(f64, f64)> {
        let mut times = BTreeSet::from([0, self.duration_us]);
        times.extend(
            self.held
                .iter()
                .flat_map(|(band, _)| [band.from_us, band.to_us]),
        );
        times.extend(self.gaps.iter().flat_map(|(from, to)| [*from, *to]));
        times.retain(|at| *at <= self.duration_us);
        let times: Vec<u64> = times.into_iter().collect();
        let seconds = |us: u64| us as f64 / 1e6;
        let mut points = Vec::new();
        let mut had_majority = true;
        for span in times.windows(2) {
            let has_majority = self.largest_side(span[0]) > 0;
            if has_majority && !had_majority && self.mode == Mode::Strong {
                break;
            }
            had_majority = has_majority;
            let share = self.share(span[0]);
            points.extend([(seconds(span[0]), share), (seconds(span[1]), share)]);
        }
        points
    }
}

/// The share of the operations that any running node answers, whoever leads; none = the share of the operations that are
/// answered doesn't follow from who can be served.
fn local_share(workload: &Workload, mode: Mode) -> Option<f64> {
    let is_open = match workload.arrivals {
        Arrivals::Poisson | Arrivals::Fixed => true,
        Arrivals::Closed => false,
    };
    if !is_open || workload.retries > 0 {
        return None;
    }
    let mix = workload.mix;
    let writes = f64::from(mix.put + mix.delete + mix.cas + mix.add) / 1_000.0;
    match (mode, workload.level(mode)) {
        (Mode::Strong, Level::Linearizable) => Some(0.0),
        (Mode::Strong, Level::Local) => Some(1.0 - writes),
        (Mode::Eventual, Level::Local) if mix.cas == 0 && workload.acks == 0 => Some(1.0),
        (Mode::Eventual, Level::Local | Level::Linearizable) | (_, Level::Bounded) => None,
    }
}

/// How many of the clients are at each node, times the nodes: one that wanders is everywhere for an equal part.
fn clients(workload: &Workload, nodes: u32) -> Vec<u32> {
    let wanderers = workload.wanderers.min(workload.clients);
    let mut clients = vec![wanderers; nodes as usize];
    for client in wanderers..workload.clients {
        clients[(client % nodes) as usize] += nodes;
    }
    clients
}

const fn is_ours(system: System) -> bool {
    match system {
        System::Strong | System::Eventual => true,
        System::Etcd | System::EtcdSerializable => false,
    }
}

/// etcd's tick is its heartbeat, a tenth of its election timeout.
fn clock(scenario: &Scenario, system: System) -> Clock {
    if is_ours(system) {
        Clock::from(quorumor_raft::Timing::default())
    } else {
        Clock {
            tick_ms: scenario.election_timeout_ms as f64 / 10.0,
            heartbeat_ticks: 1,
            election_ticks: 10,
        }
    }
}

/// Whether someone who is silent for so short may still have been waited for when heard again.
fn may_go_unnoticed((band, effect): (&Band, Effect), clock: Clock) -> bool {
    let timeout_us = f64::from(2 * clock.election_ticks) * clock.tick_ms * 1_000.0;
    match effect {
        Effect::Killed | Effect::Lost => false,
        Effect::Paused | Effect::CutOff => ((band.to_us - band.from_us) as f64) < timeout_us,
    }
}

/// Whether a fault hits the leader; of nodes by number that depends on who was seen to lead.
fn takes_leader(target: &Target, band: &Band, leaders: &[LeaderSeen]) -> Option<bool> {
    match target {
        Target::Leader | Target::LeadersMinority | Target::Majority | Target::All => Some(true),
        Target::Follower | Target::Minority | Target::Half => Some(false),
        Target::Nodes(_) => {
            let before = leaders.iter().filter(|seen| seen.at_us <= band.asked_us);
            let newest = before.filter(|seen| seen.leader.is_some());
            let leader = newest.max_by_key(|seen| seen.term)?.leader?;
            Some(band.nodes.contains(&leader))
        }
    }
}
