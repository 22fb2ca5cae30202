//! A scenario in the simulated world: the plan's operations, the riders, the watchers and the faults of one [`Scenario`], in virtual
//! time, over the same nodes, network and disks that the random campaign breaks.
//!
//! The run leaves a history file like any other world; nothing here judges it. The same scenario, mode and plant give the same
//! file, byte for byte.

pub(super) mod calls;
mod faults;
mod observe;
mod planted;
mod riders;
mod translate;
mod watchers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use quorumor_core::{Health, Role};

use self::calls::Pending;
use self::watchers::Watcher;
use super::run::{Event, Run};
use super::{Options, Plant, Size};
use crate::checker::{Evidence, Finding, Property};
use crate::history::{
    ClientId, Event as Seen, EventKind, Header, HistoryWriter, Mode, NodeId, World,
};
use crate::places::Places;
use crate::process::Processes;
use crate::scenario::{NotCarriedOut, Scenario};
use crate::workload::rider::Rider;
use crate::workload::{Arrivals, Plan, PlannedOp};

const MS: u64 = 1_000;
/// How long a cluster may take until it serves.
const FORM_US: u64 = 30_000 * MS;
/// From the serving cluster to time zero of the workload.
const LEAD_US: u64 = 300 * MS;
/// After the load, every node must hold the same within this, or the history says that it doesn't.
const QUIET_US: u64 = 60_000 * MS;
/// Between two looks at what the nodes hold and believe.
const LOOK_US: u64 = 50 * MS;

/// What a run leaves beside its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// A hash over every delivery, durable write and reply.
    pub trace: u64,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Nodes that refused to start or ended, where no fault of the scenario explains it.
    pub broken: Vec<String>,
}

impl Ran {
    /// What went wrong with nodes beside what their clients saw; none = nothing.
    pub fn finding(&self) -> Option<Finding> {
        let evidence: Vec<Evidence> = self
            .broken
            .iter()
            .map(|what| Evidence::new(what, &[]))
            .collect();
        let summary = "a node refused to start or ended, and no fault explains it".to_owned();
        (!evidence.is_empty())
            .then(|| Finding::from_evidence(Property::Convergence, summary, evidence))
    }
}

/// What happens at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    /// An operation of the plan is due.
    Due { place: usize },
    /// An operation's node has had long enough.
    Deadline { call: u64 },
    /// A rider does its next thing.
    Ride { rider: usize },
    /// A watcher looks for a node.
    Watch { watcher: usize },
    /// A fault begins.
    Begin { fault: u32 },
    /// A fault goes on: the next restart, the next turn.
    Turn { fault: u32, turn: u32 },
    /// A fault ends.
    End { fault: u32 },
    /// Nodes are looked at.
    Look,
}

/// Everything about the scenario of a run. Empty in a random campaign.
pub(super) struct Staged {
    scenario: Scenario,
    plan: Plan,
    history: HistoryWriter,
    start_us: u64,
    processes: Processes,
    pending: BTreeMap<u64, Pending>,
    calls: u64,
    /// The queues of a closed loop.
    lanes: BTreeMap<(ClientId, u32), std::collections::VecDeque<PlannedOp>>,
    /// The sessions in which writes are numbered, and the next number.
    numbered: BTreeMap<(ClientId, u32), (quorumor_core::ClientId, u64)>,
    tokens: BTreeMap<crate::history::SessionId, quorumor_core::Position>,
    riders: Vec<Rider>,
    /// The process in which each rider made its last call.
    holders: BTreeMap<usize, crate::history::ProcessId>,
    /// The highest token that each lock's resource has seen.
    fences: BTreeMap<String, u64>,
    watchers: Vec<Watcher>,
    faults: Vec<faults::Progress>,
    leaders: BTreeMap<NodeId, (u64, u64)>,
    members: BTreeMap<(NodeId, NodeId), crate::history::MemberState>,
    /// Keys whose digests are polled after the last heal.
    retired: BTreeSet<String>,
    /// The faults that want each node down, and that fill its disk.
    down_by: BTreeMap<u64, BTreeSet<u32>>,
    full_by: BTreeMap<u64, BTreeSet<u32>>,
    out: BTreeSet<u64>,
    /// Nodes that say goodbye, and take nothing from clients meanwhile.
    leaving: BTreeSet<u64>,
    /// Newcomers that became members.
    joined: BTreeSet<u64>,
    /// Who took whose place: clients and faults follow.
    places: Places,
    notes: Vec<String>,
    error: Option<std::io::Error>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged")
            .field("scenario", &self.scenario.name)
            .finish_non_exhaustive()
    }
}

/// Runs a scenario in one mode and writes its history to `path`.
///
/// # Errors
/// When the cluster doesn't form, the scenario can't be simulated, or the history can't be written. That is no verdict.
pub fn run(scenario: &Scenario, mode: Mode, plant: Option<Plant>, path: &Path) -> Result<Ran> {
    if let Some(why) = scenario.real_only() {
        bail!(NotCarriedOut(why.to_owned()));
    }
    let options = Options {
        mode,
        seed: scenario.seed,
        nodes: u64::from(scenario.nodes),
        clients: 0,
        keys: 0,
        duration_ms: scenario.duration_us() / MS,
        faults: false,
        size: Size::Scenario {
            snapshot_entries: scenario.snapshot_entries,
        },
        plant,
        ..Options::new(mode, scenario.seed)
    };
    let mut run = Run::new(&options, scenario.clone())?;
    run.start();
    run.form()?;
    let start_us = run.now_us + LEAD_US;
    let staged = Staged::new(scenario, mode, start_us, path)?;
    run.staged = Some(staged);
    run.schedule();
    run.play()
}

impl Staged {
    fn new(scenario: &Scenario, mode: Mode, start_us: u64, path: &Path) -> Result<Self> {
        let mut header = Header::new(mode, World::Simulated, scenario.clone(), start_us);
        header.build = format!("quorumor {}", env!("CARGO_PKG_VERSION"));
        header.fsync = "fsync before every acknowledgement, on a simulated disk".to_owned();
        let history = HistoryWriter::create(path, header)
            .with_context(|| format!("can't write `{}`", path.display()))?;
        let workload = &scenario.workload;
        let duration_us = scenario.duration_us();
        let watchers = (0..workload.riders.watchers).map(Watcher::new).collect();
        Ok(Self {
            plan: Plan::new(workload, scenario.nodes, scenario.seed, duration_us),
            history,
            start_us,
            processes: Processes::new(),
            pending: BTreeMap::new(),
            calls: 0,
            lanes: BTreeMap::new(),
            numbered: BTreeMap::new(),
            tokens: BTreeMap::new(),
            riders: Rider::all(workload, mode, scenario.nodes, scenario.seed),
            holders: BTreeMap::new(),
            fences: BTreeMap::new(),
            watchers,
            faults: scenario
                .faults
                .iter()
                .map(|_| faults::Progress::default())
                .collect(),
            leaders: BTreeMap::new(),
            members: BTreeMap::new(),
            retired: BTreeSet::new(),
            down_by: BTreeMap::new(),
            full_by: BTreeMap::new(),
            out: BTreeSet::new(),
            leaving: BTreeSet::new(),
            joined: BTreeSet::new(),
            places: Places::default(),
            notes: Vec::new(),
            error: None,
            scenario: scenario.clone(),
        })
    }

    /// Remembers the first failure to write the history.
    fn keep(&mut self, written: std::io::Result<()>) {
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
    }

    fn note(&mut self, at_us: u64, node: NodeId, text: String) {
        let kind = EventKind::Note(text.clone());
        let written = self.history.event(Seen { at_us, node, kind });
        self.keep(written);
        self.notes.push(text);
    }

    /// When the load ends.
    fn end_us(&self) -> u64 {
        self.start_us + self.scenario.duration_us()
    }
}

impl Run {
    /// The scenario's part of the run.
    fn stage(&mut self) -> &mut Staged {
        self.staged.as_mut().expect("a scenario is being played")
    }

    /// Runs until every node serves and, in strong mode, knows the leader.
    fn form(&mut self) -> Result<()> {
        while !self.serves() {
            ensure!(
                self.now_us < FORM_US,
                "the cluster did not serve within {} s",
                FORM_US / MS / 1_000
            );
            self.until(self.now_us + 50 * MS);
        }
        Ok(())
    }

    fn serves(&self) -> bool {
        let nodes = self.options.nodes;
        self.nodes.iter().all(|node| {
            let Some(running) = &node.running else {
                return false;
            };
            let status = running.view().status;
            let all = match &status.role {
                Role::Strong { leader, .. } => leader.is_some(),
                Role::Eventual { .. } => u64::from(status.counts.alive) == nodes,
            };
            all && status.health == Health::Serving
        })
    }

    fn schedule(&mut self) {
        let stage = self.stage();
        let start_us = stage.start_us;
        let closed = stage.scenario.workload.arrivals == Arrivals::Closed;
        if closed {
            stage.lanes = stage
                .plan
                .by_lane()
                .into_iter()
                .map(|(lane, ops)| (lane, ops.into_iter().cloned().collect()))
                .collect();
        }
        let due: Vec<u64> = stage.plan.ops.iter().map(|op| op.due_us).collect();
        let faults = stage.scenario.faults.clone();
        let (riders, watchers) = (stage.riders.len(), stage.watchers.len());
        let lanes: Vec<(ClientId, u32)> = stage.lanes.keys().copied().collect();
        let at = |run: &mut Self, at_us: u64, happening| {
            run.at(start_us + at_us, Event::Staged(happening));
        };
        for (fault, planned) in (0..).zip(&faults) {
            at(self, planned.start_us, Happening::Begin { fault });
            at(self, planned.end_us, Happening::End { fault });
        }
        for rider in 0..riders {
            at(self, rider as u64 * 37 * MS, Happening::Ride { rider });
        }
        for watcher in 0..watchers {
            at(self, 0, Happening::Watch { watcher });
        }
        at(self, 0, Happening::Look);
        if !closed {
            for (place, due_us) in due.into_iter().enumerate() {
                at(self, due_us, Happening::Due { place });
            }
        }
        for (client, lane) in lanes {
            self.next_of_lane(client, lane, 0);
        }
    }

    fn play(mut self) -> Result<Ran> {
        let end_us = self.stage().end_us();
        self.until(end_us);
        self.heal();
        self.come_to_rest();
        self.read_finals();
        let trace = self.trace.hash();
        let broken = std::mem::take(&mut self.broken_nodes);
        let staged = self.stage();
        if let Some(error) = staged.error.take() {
            return Err(error).context("the history can't be written");
        }
        staged.history.finish()?;
        Ok(Ran {
            trace,
            notes: std::mem::take(&mut staged.notes),
            broken,
        })
    }

    pub(super) fn happen_staged(&mut self, happening: Happening) {
        match happening {
            Happening::Due { place } => self.due(place),
            Happening::Deadline { call } => self.call_is_late(call),
            Happening::Ride { rider } => self.ride(rider),
            Happening::Watch { watcher } => self.seek(watcher),
            Happening::Begin { fault } => self.begin_fault(fault),
            Happening::Turn { fault, turn } => self.turn(fault, turn),
            Happening::End { fault } => self.end_fault(fault),
            Happening::Look => self.look(),
        }
    }
}

#[cfg(test)]
mod tests;
