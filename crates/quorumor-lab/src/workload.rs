//! The workload: an open-loop stream of operations, fixed by the seed before anything runs.
//!
//! Not a client: it sends nothing and never waits for an answer. A world makes a [`Plan`] and sends each operation
//! when it is due, so a slow system cannot slow its own load down. Both modes get the same plan.
//!
//! Keys. A client is several logical processes, one outstanding operation each ([`crate::process`]). Its n-th
//! operation belongs to its lane `n mod processes_per_client`; lanes are put into groups of at most
//! [`PROCESSES_PER_KEY`], and a group has one key at a time, so few processes ever meet on a key and the
//! linearizability search stays short. After `ops_per_key` operations the group goes on to a fresh key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{Action, Cas, ClientId, NodeId};
use crate::rng::{self, Purpose};

/// How many processes may share a key: the search for a linear order is exponential in those that overlap.
pub const PROCESSES_PER_KEY: u32 = 10;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// A Poisson process, conditioned on its count: arrivals are independent and uniform over the run.
    Poisson,
    /// At equal distances.
    Fixed,
}

/// What share of the operations does what, in thousandths; the rest are reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Writes of a fresh value.
    pub put: u32,
    /// Removals.
    pub delete: u32,
    /// Compare-and-sets against the value the plan last wrote there. Eventual mode refuses them.
    pub cas: u32,
}

/// The load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Operations per second, over all clients.
    pub rate: u64,
    /// How they are spread.
    pub arrivals: Arrivals,
    /// How many clients; client c talks to node `c mod nodes + 1` and stays there.
    pub clients: u32,
    /// How many operations a client may have in flight.
    pub processes_per_client: u32,
    /// What they do.
    pub mix: Mix,
    /// After how many operations a key is left alone.
    pub ops_per_key: u32,
    /// The deadline of each operation.
    pub timeout_us: u64,
}

impl Default for Workload {
    /// 200 operations per second from 20 clients, half of them writes, one in 50 a delete.
    fn default() -> Self {
        Self {
            rate: 200,
            arrivals: Arrivals::Poisson,
            clients: 20,
            processes_per_client: 8,
            mix: Mix {
                put: 480,
                delete: 20,
                cas: 0,
            },
            ops_per_key: 250,
            timeout_us: 1_000_000,
        }
    }
}

/// One operation to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedOp {
    /// When it is due, from time zero.
    pub due_us: u64,
    /// Who sends it.
    pub client: ClientId,
    /// Which of the client's processes.
    pub lane: u32,
    /// To which node.
    pub node: NodeId,
    /// On which key.
    pub key: String,
    /// What.
    pub action: Action,
}

/// Every operation of a run, in order of `due_us`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The operations.
    pub ops: Vec<PlannedOp>,
    timeout_us: u64,
}

impl Plan {
    /// The plan of a workload over `duration_us` on nodes 1..=`nodes`. The same arguments give the same plan.
    pub fn new(workload: &Workload, nodes: u32, seed: u64, duration_us: u64) -> Self {
        let mut clients = rng::stream(seed, Purpose::Clients, 0);
        let mut planner = Planner::new(workload, seed);
        let ops = arrivals(workload, seed, duration_us)
            .into_iter()
            .map(|due_us| {
                let client = rng::below(&mut clients, u64::from(workload.clients)) as u32;
                planner.plan(due_us, client, nodes)
            })
            .collect();
        Self {
            ops,
            timeout_us: workload.timeout_us,
        }
    }

    /// The node with most operations due in a span of time: what a fault on "the leader" hits in eventual mode.
    /// Of equals, the lowest id.
    pub fn busiest_node(&self, from_us: u64, to_us: u64) -> Option<NodeId> {
        let mut counts: BTreeMap<NodeId, u64> = BTreeMap::new();
        for op in self
            .ops
            .iter()
            .filter(|op| (from_us..to_us).contains(&op.due_us))
        {
            *counts.entry(op.node).or_default() += 1;
        }
        counts
            .into_iter()
            .max_by_key(|&(node, count)| (count, std::cmp::Reverse(node)))
            .map(|(node, _)| node)
    }

    /// The keys whose last operation is over, at the latest, at `at_us`: their data only spreads from then on, so
    /// digests over them show convergence even under load.
    pub fn keys_retired_before(&self, at_us: u64) -> Vec<String> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for op in &self.ops {
            last.insert(&op.key, op.due_us);
        }
        let over = |due: u64| due.saturating_add(self.timeout_us) < at_us;
        last.into_iter()
            .filter(|&(_, due)| over(due))
            .map(|(key, _)| key.to_owned())
            .collect()
    }

    /// Every key of the plan, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.ops.iter().map(|op| op.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn arrivals(workload: &Workload, seed: u64, duration_us: u64) -> Vec<u64> {
    let count = (u128::from(workload.rate) * u128::from(duration_us) / 1_000_000) as u64;
    match workload.arrivals {
        Arrivals::Fixed => (0..count).map(|i| i * 1_000_000 / workload.rate).collect(),
        Arrivals::Poisson => {
            let mut rng = rng::stream(seed, Purpose::Arrivals, 0);
            let mut times: Vec<u64> = (0..count)
                .map(|_| rng::below(&mut rng, duration_us))
                .collect();
            times.sort_unstable();
            times
        }
    }
}

/// The key that a group of lanes is using.
#[derive(Default)]
struct Group {
    key: u32,
    ops: u32,
    written: Option<String>,
}

struct Planner<'a> {
    workload: &'a Workload,
    rng: rand_chacha::ChaCha8Rng,
    sent: Vec<u32>,
    groups: Vec<Group>,
}

impl<'a> Planner<'a> {
    fn new(workload: &'a Workload, seed: u64) -> Self {
        let lanes = workload.clients * workload.processes_per_client;
        let groups = lanes.div_ceil(PROCESSES_PER_KEY).max(1);
        Self {
            workload,
            rng: rng::stream(seed, Purpose::Operations, 0),
            sent: vec![0; workload.clients as usize],
            groups: (0..groups).map(|_| Group::default()).collect(),
        }
    }

    fn plan(&mut self, due_us: u64, client: u32, nodes: u32) -> PlannedOp {
        let number = self.sent[client as usize];
        self.sent[client as usize] += 1;
        let lane = number % self.workload.processes_per_client;
        // Neighbouring clients, hence different nodes, meet in a group.
        let group_index = (lane * self.workload.clients + client) / PROCESSES_PER_KEY;
        let draw = rng::below(&mut self.rng, 1_000) as u32;
        let group = &mut self.groups[group_index as usize];
        if group.ops >= self.workload.ops_per_key {
            *group = Group {
                key: group.key + 1,
                ..Group::default()
            };
        }
        group.ops += 1;
        let action = draw_action(
            self.workload.mix,
            draw,
            format!("c{client}-{number}"),
            group,
        );
        PlannedOp {
            due_us,
            client: ClientId(client),
            lane,
            node: NodeId(u64::from(client % nodes) + 1),
            key: format!("lab/{group_index:03}/{:04}", group.key),
            action,
        }
    }
}

fn draw_action(mix: Mix, draw: u32, value: String, group: &mut Group) -> Action {
    if draw < mix.put {
        group.written = Some(value.clone());
        Action::Put(value)
    } else if draw < mix.put + mix.delete {
        group.written = None;
        Action::Delete
    } else if draw < mix.put + mix.delete + mix.cas {
        let expected = group.written.replace(value.clone());
        Action::Cas(Cas { expected, value })
    } else {
        Action::Get
    }
}

#[cfg(test)]
mod tests;
