//! How each node of a run is started: the founders, and those that take the place of others later.
//!
//! Not the processes. All ids are known before the first node starts, because each node is told at its start through which
//! proxies it reaches the others, later ones too.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

use super::ClusterOptions;
use super::hooks::Hooks;
use super::node::{self, Place, Recipe};
use crate::history::{Mode, NodeId};
use crate::network::Links;
use crate::scenario::{FaultKind, Limits, Scenario};

/// The ids that a run may need beyond the founders': one for each node that a fault replaces or whose disk it takes, since no
/// node that lost its disk ever comes back under its id.
pub(super) fn spares(scenario: &Scenario) -> Vec<NodeId> {
    let count = |index: u32, kind: &FaultKind| match kind {
        FaultKind::Replace { .. } => 1,
        FaultKind::Wipe { on } => on.resolve(scenario, index, NodeId(1)).len() as u64,
        FaultKind::Kill { .. }
        | FaultKind::PowerCut { .. }
        | FaultKind::RollingRestart { .. }
        | FaultKind::TearLog { .. }
        | FaultKind::FlipBit { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Starve { .. }
        | FaultKind::Partition { .. }
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
        | FaultKind::CutClients { .. } => 0,
    };
    let faults = (0..).zip(&scenario.faults);
    let wanted: u64 = faults.map(|(index, fault)| count(index, &fault.kind)).sum();
    let first = u64::from(scenario.nodes) + 1;
    (first..first + wanted).map(NodeId).collect()
}

/// Whether any fault needs the nodes to follow a fault file.
pub(super) fn needs_hooks(scenario: &Scenario) -> bool {
    scenario.faults.iter().any(|fault| match fault.kind {
        FaultKind::SlowDisk { .. }
        | FaultKind::FullDisk { .. }
        | FaultKind::DiskError { .. }
        | FaultKind::ClockJump { .. }
        | FaultKind::ClockDrift { .. } => true,
        FaultKind::Kill { .. }
        | FaultKind::PowerCut { .. }
        | FaultKind::RollingRestart { .. }
        | FaultKind::Wipe { .. }
        | FaultKind::TearLog { .. }
        | FaultKind::FlipBit { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Starve { .. }
        | FaultKind::Partition { .. }
        | FaultKind::CutOut { .. }
        | FaultKind::CutIn { .. }
        | FaultKind::Bridge { .. }
        | FaultKind::Ring
        | FaultKind::Flap { .. }
        | FaultKind::Weather { .. }
        | FaultKind::CutClients { .. }
        | FaultKind::Replace { .. } => false,
    })
}

/// What every recipe of a run is made from.
#[derive(Clone, Debug)]
pub(super) struct Kitchen {
    mode: Mode,
    seed: u64,
    founders: Vec<NodeId>,
    program: PathBuf,
    logs: PathBuf,
    data: PathBuf,
    hooks: bool,
    snapshot_entries: Option<u64>,
    limits: Option<Limits>,
}

impl Kitchen {
    /// Makes the folder for the logs too.
    pub(super) fn new(options: &ClusterOptions, scenario: &Scenario, data: &Path) -> Result<Self> {
        let logs = options.out.join("logs");
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("can't make `{}`", logs.display()))?;
        Ok(Self {
            mode: options.mode,
            seed: scenario.seed,
            founders: scenario.node_ids(),
            program: options.program.clone(),
            logs,
            data: data.to_owned(),
            hooks: needs_hooks(scenario),
            snapshot_entries: scenario.snapshot_entries,
            limits: scenario.limits,
        })
    }

    /// Where a node keeps its data.
    pub(super) fn data_dir(&self, node: NodeId) -> PathBuf {
        self.data.join(format!("node-{}", node.0))
    }

    /// The recipes of all founders, with empty logs.
    pub(super) fn founders(
        &self,
        links: &Links,
        hooks: &Hooks,
    ) -> Result<BTreeMap<NodeId, Recipe>> {
        let recipe = |&node: &NodeId| Ok((node, self.recipe(node, None, links, hooks)?));
        self.founders.iter().map(recipe).collect()
    }

    /// The recipe of one node, with an empty log. In strong mode one that is no founder joins by `doors`.
    pub(super) fn recipe(
        &self,
        node: NodeId,
        doors: Option<&str>,
        links: &Links,
        hooks: &Hooks,
    ) -> Result<Recipe> {
        let (mode, fault_file) = (self.mode.name(), hooks.path(node));
        let place = Place {
            mode: self.mode,
            cluster: &format!("compare-{mode}"),
            seed: self.seed,
            nodes: &self.founders,
            data_dir: &self.data_dir(node),
            join: doors,
            snapshot_entries: self.snapshot_entries,
            limits: self.limits,
            fault_file: self.hooks.then_some(fault_file.as_path()),
            overrides: &links.overrides(node),
            listen: links.listen(node),
        };
        let log = self.logs.join(format!("{mode}-node-{}.log", node.0));
        std::fs::write(&log, "").with_context(|| format!("can't write `{}`", log.display()))?;
        let (program, mut words) = links.inside(node, &self.program);
        words.push("serve".to_owned());
        words.extend(node::flags(node, &place));
        Ok(Recipe {
            node,
            program,
            words,
            log,
        })
    }
}

/// A port below the range that the system gives to outgoing connections, so that a restarted node finds its own free.
pub(super) fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 27_000 + u16::try_from(std::process::id() % 50)? * 100;
    for _ in 0..100 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {base} up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Fault, Target};
    use crate::workload::Workload;

    #[test]
    fn a_run_has_an_id_for_whoever_takes_the_place_of_another() {
        let mut scenario = Scenario::compare(1, 5, 40_000, Workload::default()).unwrap();
        assert!(spares(&scenario).is_empty());
        let fault = |kind| Fault {
            kind,
            start_us: 1,
            end_us: 2,
        };
        let who = Target::Follower;
        let on = Target::Minority;
        scenario.faults = vec![
            fault(FaultKind::Replace { who }),
            fault(FaultKind::Wipe { on }),
        ];
        assert_eq!(spares(&scenario), [NodeId(6), NodeId(7), NodeId(8)]);
    }
}
