//! The workload: an open-loop stream of operations, fixed by the seed before anything runs.
//!
//! Not a client: it sends nothing and never waits for an answer. A world makes a [`Plan`] and sends each operation
//! when it is due, so a slow system cannot slow its own load down. Both modes get the same plan.
//!
//! Keys. A client is several logical processes, one outstanding operation each ([`crate::process`]). Its n-th
//! operation belongs to its lane `n mod processes_per_client`; lanes are put into groups of at most
//! [`PROCESSES_PER_KEY`], and a group has one key at a time, so few processes ever meet on a key and the
//! linearizability search stays short. After `ops_per_key` operations the group goes on to a fresh key.

pub mod rider;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::history::{Action, Cas, ClientId, Level, Mode, NodeId};
use crate::rng::{self, Purpose};
use crate::scenario::Breaker;

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
    /// A closed loop: a process sends its next operation when the one before has ended. A slow system slows its load down,
    /// so latencies hide what it couldn't take (coordinated omission).
    Closed,
}

/// What share of the operations does what, in thousandths; the rest are reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Writes of a fresh value.
    pub put: u32,
    /// Removals.
    pub delete: u32,
    /// Compare-and-sets against the value the plan last wrote there. Eventual mode refuses them.
    pub cas: u32,
    /// Additions of a unique element to a set: a put of a key of its own under the set's prefix.
    pub add: u32,
    /// Reads of a whole set.
    pub list: u32,
}

/// Who rides along with the load, each in a loop of its own. Their operations and what they are told are in the history too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Riders {
    /// Watchers of the load's keys, who resume at another node when their stream ends.
    pub watchers: u32,
    /// Holders of a lease with a key bound to it, who keep it alive for a while and then let it run out.
    pub leases: u32,
    /// Contenders for one lock, who write to a resource under its fencing token. Eventual mode must refuse them.
    pub lockers: u32,
    /// Clients that count by read and compare-and-set (eventual: by read and put, which loses counts).
    pub counters: u32,
    /// Service instances that register, are kept alive, and vanish without a word.
    pub services: u32,
    /// Holders of one lease for the whole run, who try again at once when it isn't kept alive.
    pub keepers: u32,
}

/// The load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default = "Workload::usual")]
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
    /// How unevenly keys are used: 0 = each group of processes its own key; else the exponent of a Zipf distribution over
    /// the groups' keys, in hundredths (99 = 0.99).
    pub skew_percent: u32,
    /// How many of the clients go to another node with each operation.
    pub wanderers: u32,
    /// Whether clients send the session token that they were given last.
    pub tokens: bool,
    /// The level of reads; none = linearizable in strong mode, local in eventual mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_level: Option<Level>,
    /// Eventual: how many members must hold a write before it is acknowledged; 0 = this node alone.
    pub acks: u32,
    /// How many times a write whose outcome is unknown is sent again; in strong mode under its number in a session, so that it is
    /// applied once. Its history is one operation.
    pub retries: u32,
    /// Real processes only. None: a client is at one node. Else it knows every node, starts at any, and goes elsewhere and tries again
    /// as the product's client does by default, with or without its circuit breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Who rides along.
    pub riders: Riders,
    /// The deadline of each operation.
    #[serde(rename = "timeout", with = "span")]
    pub timeout_us: u64,
}

/// A deadline, in files as text such as `1s`.
mod span {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::scenario::Micros;

    pub(super) fn serialize<S: Serializer>(us: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        Micros(*us).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        Micros::deserialize(deserializer).map(|span| span.0)
    }
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
                ..Mix::default()
            },
            ops_per_key: 250,
            skew_percent: 0,
            wanderers: 0,
            tokens: true,
            read_level: None,
            acks: 0,
            retries: 0,
            breaker: None,
            riders: Riders::default(),
            timeout_us: 1_000_000,
        }
    }
}

impl Workload {
    /// What a scenario file begins with: the default rate, sets beside the registers, a client that changes nodes, and riders.
    pub fn usual() -> Self {
        Self {
            mix: Mix {
                put: 330,
                delete: 20,
                cas: 0,
                add: 100,
                list: 30,
            },
            ops_per_key: 60,
            wanderers: 1,
            riders: Riders {
                watchers: 1,
                leases: 1,
                lockers: 2,
                counters: 0,
                services: 0,
                keepers: 0,
            },
            ..Self::default()
        }
    }

    /// Whether anything could be sent within a run of so long, and no more than memory holds.
    ///
    /// # Errors
    /// What is wrong, and what is allowed.
    pub fn check(&self, duration_us: u64) -> Result<(), String> {
        let (mix, riders) = (&self.mix, &self.riders);
        let limits = [
            ("rate", self.rate, 1, 20_000),
            ("clients", self.clients.into(), 1, 1_000),
            (
                "processes_per_client",
                self.processes_per_client.into(),
                1,
                1_000,
            ),
            ("ops_per_key", self.ops_per_key.into(), 1, 1_000_000),
            ("skew_percent", self.skew_percent.into(), 0, 300),
            ("wanderers", self.wanderers.into(), 0, self.clients.into()),
            ("acks", self.acks.into(), 0, 9),
            ("retries", self.retries.into(), 0, 100),
            ("timeout", self.timeout_us, 1_000, 60_000_000),
            ("watchers", riders.watchers.into(), 0, 100),
            ("leases", riders.leases.into(), 0, 100),
            ("lockers", riders.lockers.into(), 0, 100),
            ("counters", riders.counters.into(), 0, 100),
            ("services", riders.services.into(), 0, 100),
            ("keepers", riders.keepers.into(), 0, 100),
        ];
        for (name, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                return Err(format!(
                    "workload: `{name}` is {value}: {least} to {most} are allowed"
                ));
            }
        }
        if self.breaker.is_some() && self.retries > 0 {
            let what = "clients with a `breaker` send again by themselves";
            return Err(format!("workload: {what}: leave `retries` out"));
        }
        let parts = [mix.put, mix.delete, mix.cas, mix.add, mix.list];
        let sum: u64 = parts.into_iter().map(u64::from).sum();
        if sum > 1_000 {
            return Err(format!(
                "workload: `mix` adds up to {sum}, in thousandths: at most 1000; the rest are reads"
            ));
        }
        let per_second = match self.arrivals {
            Arrivals::Poisson | Arrivals::Fixed => self.rate,
            Arrivals::Closed => CLOSED_OPS_PER_SECOND_MAX as u64,
        };
        let operations = per_second.saturating_mul(duration_us / 1_000_000);
        if operations > OPERATIONS_MAX {
            return Err(format!(
                "workload: {operations} operations in a run: at most {OPERATIONS_MAX} are kept; shorten `duration` or lower `rate`"
            ));
        }
        Ok(())
    }

    /// The level at which a mode's reads are asked.
    pub fn level(&self, mode: Mode) -> Level {
        self.read_level.unwrap_or(match mode {
            Mode::Strong => Level::Linearizable,
            Mode::Eventual => Level::Local,
        })
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

/// Every operation of a run, in order of `due_us`. Of a closed loop these are more than can be sent, all due at the start, each
/// lane's in the order in which the lane sends them.
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

    /// The operations of a closed loop, for each client and lane.
    pub fn by_lane(&self) -> BTreeMap<(ClientId, u32), Vec<&PlannedOp>> {
        let mut lanes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for op in &self.ops {
            lanes.entry((op.client, op.lane)).or_default().push(op);
        }
        lanes
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

/// Each is planned before the run and kept in its history: some hundred bytes each.
const OPERATIONS_MAX: u64 = 2_000_000;
/// More than any cluster here answers in a second.
const CLOSED_OPS_PER_SECOND_MAX: usize = 20_000;

fn arrivals(workload: &Workload, seed: u64, duration_us: u64) -> Vec<u64> {
    let count = (u128::from(workload.rate) * u128::from(duration_us) / 1_000_000) as u64;
    match workload.arrivals {
        Arrivals::Closed => vec![0; CLOSED_OPS_PER_SECOND_MAX * (duration_us / 1_000_000) as usize],
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

/// How often, of a million, each rank of a Zipf distribution with this exponent is drawn at most: cumulative weights.
fn zipf(ranks: usize, skew_percent: u32) -> Vec<u64> {
    let exponent = f64::from(skew_percent) / 100.0;
    let mut sum = 0.0;
    let weights: Vec<f64> = (1..=ranks)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    // Rounded to a millionth, so that the last bits of `powf` decide nothing.
    weights
        .into_iter()
        .map(|weight| (weight / sum * 1e6).round() as u64)
        .collect()
}

struct Planner<'a> {
    workload: &'a Workload,
    rng: rand_chacha::ChaCha8Rng,
    sent: Vec<u32>,
    groups: Vec<Group>,
    /// With a skew: the groups' cumulative weights, in a million.
    weights: Vec<u64>,
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
            weights: if workload.skew_percent == 0 {
                Vec::new()
            } else {
                zipf(groups as usize, workload.skew_percent)
            },
        }
    }

    fn plan(&mut self, due_us: u64, client: u32, nodes: u32) -> PlannedOp {
        let number = self.sent[client as usize];
        self.sent[client as usize] += 1;
        let lane = number % self.workload.processes_per_client;
        // Neighbouring clients, hence different nodes, meet in a group.
        let own = (lane * self.workload.clients + client) / PROCESSES_PER_KEY;
        let group_index = self.skewed().unwrap_or(own);
        let draw = rng::below(&mut self.rng, 1_000) as u32;
        let group = &mut self.groups[group_index as usize];
        if group.ops >= self.workload.ops_per_key {
            *group = Group {
                key: group.key + 1,
                ..Group::default()
            };
        }
        group.ops += 1;
        let (mix, value) = (self.workload.mix, format!("c{client}-{number}"));
        let set = format!("set/{group_index:03}/{:04}/", group.key);
        let (key, action) = if draw < mix.add {
            (format!("{set}{value}"), Action::Put(value))
        } else if draw < mix.add + mix.list {
            (set, Action::List)
        } else {
            let draw = draw - mix.add - mix.list;
            let key = format!("lab/{group_index:03}/{:04}", group.key);
            (key, draw_action(mix, draw, value, group))
        };
        let wanders = client < self.workload.wanderers;
        let hop = if wanders { client + number } else { client };
        PlannedOp {
            due_us,
            client: ClientId(client),
            lane,
            node: NodeId(u64::from(hop % nodes) + 1),
            key,
            action,
        }
    }

    /// The group that a skewed draw falls on; none = the workload has no skew.
    fn skewed(&mut self) -> Option<u32> {
        let total = *self.weights.last()?;
        let draw = rng::below(&mut self.rng, total);
        let rank = self.weights.partition_point(|&weight| weight <= draw);
        u32::try_from(rank).ok()
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
