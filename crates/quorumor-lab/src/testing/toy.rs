//! Two toy systems that answer a plan the way strong and eventual mode would, faults included: for the tests of the
//! analysis and the report, without any server. With planted defects, which the checkers must name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand_chacha::ChaCha8Rng;

use super::MS;
use crate::history::{
    Action, Cause, DigestPoll, Dot, Event, EventKind, FaultAction, FaultRecord, FaultStep,
    FinalEntry, FinalState, Footer, Header, History, Invoke, Lag, LinkCounters, Mode, NodeId, Op,
    OpId, Outcome, Position, Return, SessionId, Version, World,
};
use crate::process::Processes;
use crate::rng::{self, Purpose, below};
use crate::scenario::Scenario;
use crate::workload::{Plan, PlannedOp};

/// What is wrong with the toy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    /// Strong: nodes without a quorum answer reads from their own state and call that linearizable.
    LocalReads,
    /// Strong: a killed node comes back without its last second, and takes everybody along.
    Forgets,
    /// Eventual: one node never hears of writes made under the partition.
    NeverConverges,
    /// Eventual: reads go to any node, whatever the session token says.
    IgnoresTokens,
}

const ELECTION_US: u64 = 1_200 * MS;
const START_US: u64 = 500 * MS;
const LEADER: NodeId = NodeId(3);

/// A history of a toy in this mode under the scenario.
pub(crate) fn run(mode: Mode, scenario: &Scenario, defect: Defect) -> History {
    let plan = Plan::new(
        &scenario.workload,
        scenario.nodes,
        scenario.seed,
        scenario.duration_us(),
    );
    let mut header = Header::new(mode, World::Cluster, scenario.clone(), START_US);
    header.fsync = "synced before the acknowledgement".to_owned();
    header.build = "toy".to_owned();
    let mut toy = Toy::new(scenario, header, defect, &plan);
    for (i, op) in (1..).zip(&plan.ops) {
        toy.answer(OpId(i), op);
    }
    toy.finish()
}

/// What a node holds of a key: when the write reached it, its rank, and the value.
type Entry = (u64, NodeId, Option<String>);

struct Toy<'a> {
    scenario: &'a Scenario,
    defect: Defect,
    history: History,
    rng: ChaCha8Rng,
    processes: Processes,
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    tickets: BTreeMap<u64, (crate::process::Ticket, Outcome)>,
    kill: (u64, u64),
    cut: (u64, u64),
    minority: Vec<NodeId>,
    clock: u64,
    stores: BTreeMap<NodeId, BTreeMap<String, Entry>>,
    /// Deliveries to come: when, to whom, key, entry.
    spreading: BinaryHeap<Reverse<(u64, NodeId, String, Entry)>>,
}

impl<'a> Toy<'a> {
    fn new(scenario: &'a Scenario, header: Header, defect: Defect, plan: &Plan) -> Self {
        let mode = header.mode;
        let leader = match mode {
            Mode::Strong => LEADER,
            Mode::Eventual => plan.busiest_node(0, scenario.faults[0].start_us).unwrap(),
        };
        let span = |i: usize| {
            (
                START_US + scenario.faults[i].start_us,
                START_US + scenario.faults[i].end_us,
            )
        };
        let side = scenario.faults[1].kind.target();
        let mut toy = Self {
            scenario,
            defect,
            history: History::new(header),
            rng: rng::stream(scenario.seed, Purpose::Network, mode as u64),
            processes: Processes::new(),
            ends: BinaryHeap::new(),
            tickets: BTreeMap::new(),
            kill: span(0),
            cut: span(1),
            minority: side.resolve(scenario, 1, leader),
            clock: 0,
            stores: scenario
                .node_ids()
                .into_iter()
                .map(|id| (id, BTreeMap::new()))
                .collect(),
            spreading: BinaryHeap::new(),
        };
        toy.faults(leader);
        toy
    }

    fn faults(&mut self, leader: NodeId) {
        use FaultAction::{Kill, Partition};
        use FaultStep::{Effective, HealRequested, Healed, Requested};
        let (kill, cut) = (self.kill, self.cut);
        let steps = [
            (Kill, Requested, kill.0),
            (Kill, Effective, kill.0 + 2 * MS),
            (Kill, HealRequested, kill.1),
            (Kill, Healed, kill.1 + 300 * MS),
            (Partition, Requested, cut.0),
            (Partition, Effective, cut.0 + MS),
            (Partition, HealRequested, cut.1),
            (Partition, Healed, cut.1 + MS),
        ];
        for (action, step, at_us) in steps {
            let (fault, nodes) = if action == Kill {
                (0, vec![leader])
            } else {
                (1, self.minority.clone())
            };
            let drops = if at_us < cut.1 { 3 } else { 700 };
            let (from, to) = (NodeId(1), NodeId(2));
            let links = vec![LinkCounters {
                from,
                to,
                bytes: 9,
                messages: 1,
                drops,
                held: 0,
            }];
            let record = FaultRecord {
                at_us,
                fault,
                action,
                step,
                nodes,
                links,
                hits: 0,
            };
            self.history.faults.push(record);
        }
        let kind = EventKind::Leader {
            leader: NodeId(1),
            term: 2,
        };
        self.history.events.push(Event {
            at_us: self.kill.0 + ELECTION_US,
            node: NodeId(1),
            kind,
        });
        self.kill.1 += 300 * MS;
    }

    fn answer(&mut self, id: OpId, planned: &PlannedOp) {
        let due_us = START_US + planned.due_us;
        while self
            .ends
            .peek()
            .is_some_and(|Reverse((end, _))| *end < due_us)
        {
            let Some(Reverse((_, op))) = self.ends.pop() else {
                break;
            };
            let (ticket, outcome) = self.tickets.remove(&op).unwrap();
            let token = (outcome == Outcome::Ok).then(|| "00".to_owned());
            self.processes.end(&ticket, outcome, token);
        }
        let ticket = self.processes.begin(planned.client, planned.lane);
        let at_us = due_us + below(&mut self.rng, 300);
        let fresh = ticket
            .as_ref()
            .map_or_else(|| self.processes.fresh(), |ticket| ticket.process);
        let invoke = Invoke {
            op: id,
            process: fresh,
            client: planned.client,
            session: ticket
                .as_ref()
                .map_or(SessionId(fresh.0), |ticket| ticket.session),
            node: planned.node,
            key: planned.key.clone(),
            action: planned.action.clone(),
            level: None,
            lease: None,
            may_degrade: false,
            token: ticket.as_ref().and_then(|ticket| ticket.token.clone()),
            idempotency: None,
            request_id: format!("toy-{}", id.0),
            due_us,
            at_us,
            timeout_us: self.scenario.workload.timeout_us,
        };
        let ret = match (&ticket, self.history.header.mode) {
            (None, _) => failed(id, at_us, Outcome::Fail, Cause::HeldBack),
            (Some(_), Mode::Strong) => self.strong(&invoke),
            (Some(_), Mode::Eventual) => self.eventual(&invoke),
        };
        if let Some(ticket) = ticket {
            self.ends.push(Reverse((ret.at_us, id.0)));
            self.tickets.insert(id.0, (ticket, ret.outcome));
        }
        self.history.ops.push(Op {
            invoke,
            ret: Some(ret),
        });
    }

    fn travel(&mut self) -> u64 {
        // A long tail, as a real machine has.
        let tail = if below(&mut self.rng, 100) == 0 {
            below(&mut self.rng, 20 * MS)
        } else {
            0
        };
        300 + below(&mut self.rng, 900) + tail
    }

    /// The time at which the cluster decides, if the caller gets that far.
    fn strong(&mut self, invoke: &Invoke) -> Return {
        let (id, at) = (invoke.op, invoke.at_us);
        let dead = |(from, to): (u64, u64)| (from..to).contains(&at);
        if dead(self.kill) && invoke.node == LEADER {
            return failed(id, at + 400, Outcome::Fail, Cause::Unreachable);
        }
        let cut_off = dead(self.cut) && self.minority.contains(&invoke.node);
        if cut_off && self.defect == Defect::LocalReads && invoke.action == Action::Get {
            return self.local_read(invoke);
        }
        if cut_off && at > self.cut.0 + ELECTION_US {
            return failed(id, at + 800, Outcome::Fail, Cause::Refused);
        }
        let stalls = [self.kill.0, self.cut.0].map(|from| (from, from + ELECTION_US));
        let stall = stalls
            .into_iter()
            .find(|&(from, to)| (from..to).contains(&at));
        let decided = stall.map_or(at, |(_, to)| to) + 800 + below(&mut self.rng, 600);
        if cut_off || decided > at + invoke.timeout_us {
            return failed(
                id,
                at + invoke.timeout_us,
                Outcome::Unknown,
                Cause::TimedOut,
            );
        }
        self.clock += 1;
        let revision = self.clock;
        let store = self.stores.get_mut(&NodeId(1)).unwrap();
        let mut ret = Return::new(id, decided.max(at) + 700, Outcome::Ok);
        match &invoke.action {
            Action::List | Action::Grant { .. } | Action::KeepAlive | Action::Revoke => {
                unreachable!("the toy's load has none")
            }
            Action::Get => show(&mut ret, store.get(&invoke.key), Mode::Strong),
            Action::Put(value) => {
                ret.version = Some(Version::Strong { revision });
                store.insert(
                    invoke.key.clone(),
                    (revision, NodeId(1), Some(value.clone())),
                );
            }
            Action::Delete => {
                let found = store
                    .get(&invoke.key)
                    .is_some_and(|entry| entry.2.is_some());
                ret.found = Some(found);
                ret.version = found.then_some(Version::Strong { revision });
                store.insert(invoke.key.clone(), (revision, NodeId(1), None));
            }
            Action::Cas(_) => unreachable!("the default workload has no compare-and-set"),
        }
        ret.position = Some(Position {
            revision,
            term: 1,
            leader: LEADER.0,
        });
        // The toy decides in order of arrival; an answer that would overtake another stays inside its interval.
        ret.at_us += self.travel();
        ret
    }

    fn local_read(&mut self, invoke: &Invoke) -> Return {
        let mut ret = Return::new(invoke.op, invoke.at_us + 500, Outcome::Ok);
        // What it last heard: anything before the cut; the toy shows the newest of that.
        let before =
            |op: &&Op| op.is_acked_write() && op.ret.as_ref().is_some_and(|r| r.at_us < self.cut.0);
        let last = self
            .history
            .ops
            .iter()
            .rev()
            .find(|op| op.invoke.key == invoke.key && before(op));
        if let Some(op) = last {
            ret.values = op
                .invoke
                .action
                .written()
                .map(str::to_owned)
                .into_iter()
                .collect();
            ret.version = op.ret.as_ref().and_then(|r| r.version.clone());
        }
        ret
    }

    fn eventual(&mut self, invoke: &Invoke) -> Return {
        let (id, at) = (invoke.op, invoke.at_us);
        let victim = self.history.faults[0].nodes[0];
        if (self.kill.0..self.kill.1).contains(&at) && invoke.node == victim {
            return failed(id, at + 400, Outcome::Fail, Cause::Unreachable);
        }
        self.deliver(at);
        let node = match self.defect {
            Defect::IgnoresTokens if invoke.action == Action::Get => {
                NodeId(id.0 % u64::from(self.scenario.nodes) + 1)
            }
            Defect::None
            | Defect::LocalReads
            | Defect::Forgets
            | Defect::NeverConverges
            | Defect::IgnoresTokens => invoke.node,
        };
        let mut ret = Return::new(id, at + 200 + self.travel(), Outcome::Ok);
        let value = match &invoke.action {
            Action::List | Action::Grant { .. } | Action::KeepAlive | Action::Revoke => {
                unreachable!("the toy's load has none")
            }
            Action::Get => {
                show(
                    &mut ret,
                    self.stores[&node].get(&invoke.key),
                    Mode::Eventual,
                );
                return ret;
            }
            Action::Put(value) => Some(value.clone()),
            Action::Delete => None,
            Action::Cas(_) => unreachable!("the default workload has no compare-and-set"),
        };
        let known = self.stores[&node]
            .get(&invoke.key)
            .map_or(0, |entry| entry.0);
        let entry = (at.max(known + 1), node, value);
        ret.version = Some(eventual_version(&entry));
        for other in self
            .scenario
            .node_ids()
            .into_iter()
            .filter(|&other| other != node)
        {
            let mut arrives = at + 2 * MS + below(&mut self.rng, 150 * MS);
            if (self.cut.0..self.cut.1).contains(&at)
                && self.minority.contains(&node) != self.minority.contains(&other)
            {
                arrives = self.cut.1 + below(&mut self.rng, 400 * MS);
                if self.defect == Defect::NeverConverges && other == NodeId(1) {
                    continue;
                }
            }
            if other == victim && (self.kill.0..self.kill.1).contains(&arrives) {
                arrives = self.kill.1 + below(&mut self.rng, 300 * MS);
            }
            self.spreading
                .push(Reverse((arrives, other, invoke.key.clone(), entry.clone())));
        }
        self.stores
            .get_mut(&node)
            .unwrap()
            .insert(invoke.key.clone(), entry);
        ret
    }

    fn deliver(&mut self, until: u64) {
        while self
            .spreading
            .peek()
            .is_some_and(|Reverse((at, ..))| *at <= until)
        {
            let Some(Reverse((_, node, key, entry))) = self.spreading.pop() else {
                break;
            };
            let store = self.stores.get_mut(&node).unwrap();
            if store
                .get(&key)
                .is_none_or(|held| (held.0, held.1) < (entry.0, entry.1))
            {
                store.insert(key, entry);
            }
        }
    }

    fn finish(mut self) -> History {
        let end = START_US + self.scenario.duration_us() + 2_000 * MS;
        self.deliver(u64::MAX);
        if self.history.header.mode == Mode::Strong {
            let mut store = self.stores[&NodeId(1)].clone();
            if self.defect == Defect::Forgets {
                self.forget(&mut store);
            }
            self.stores = self
                .scenario
                .node_ids()
                .into_iter()
                .map(|id| (id, store.clone()))
                .collect();
        }
        let mode = self.history.header.mode;
        for (node, store) in &self.stores {
            let entries: Vec<FinalEntry> = store
                .iter()
                .filter_map(|(key, entry)| final_entry(mode, key, entry))
                .collect();
            let digest = blake3::hash(format!("{entries:?}").as_bytes()).to_hex()[..16].to_owned();
            let healed = self.cut.1 + MS;
            for (at_us, digest) in [
                (healed + 10 * MS, format!("{node}")),
                (healed + 450 * MS, digest.clone()),
            ] {
                self.history.digests.push(DigestPoll {
                    at_us,
                    node: *node,
                    digest,
                });
            }
            let discarded = (mode == Mode::Eventual).then_some(31);
            self.history.finals.push(FinalState {
                at_us: end,
                node: *node,
                digest,
                entries,
                ledger: None,
                discarded,
            });
        }
        self.history.lag.push(Lag {
            at_us: end,
            overshoot_us: vec![120; 4_000],
        });
        let invoked = self.history.ops.len() as u64;
        self.history.footer = Some(Footer {
            lines: 0,
            invoked,
            returned: invoked,
            hash: String::new(),
        });
        self.history
    }

    /// The writes of the second before the kill are gone, as if nothing had been synced.
    fn forget(&self, store: &mut BTreeMap<String, Entry>) {
        let span = self.kill.0 - 1_000 * MS..self.kill.0;
        let lost: BTreeSet<&str> = self
            .history
            .ops
            .iter()
            .filter(|op| op.is_acked_write() && span.contains(&op.invoke.at_us))
            .filter_map(|op| op.invoke.action.written())
            .collect();
        let mut newest = lost.into_iter();
        let victim = newest.next().map(str::to_owned);
        let key = self
            .history
            .ops
            .iter()
            .find(|op| op.invoke.action.written() == victim.as_deref())
            .unwrap();
        store.remove(&key.invoke.key);
    }
}

fn failed(op: OpId, at_us: u64, outcome: Outcome, cause: Cause) -> Return {
    Return {
        cause: Some(cause),
        reason: Some(format!("{cause:?}").to_uppercase()),
        ..Return::new(op, at_us, outcome)
    }
}

fn eventual_version(entry: &Entry) -> Version {
    Version::Eventual {
        dot: Dot {
            writer: entry.1.0,
            log_id: 1,
            seq: entry.0,
        },
        stamp: entry.0,
        context: None,
    }
}

fn show(ret: &mut Return, entry: Option<&Entry>, mode: Mode) {
    let Some(entry) = entry else { return };
    ret.values = entry.2.clone().into_iter().collect();
    ret.version = match mode {
        Mode::Strong => entry
            .2
            .as_ref()
            .map(|_| Version::Strong { revision: entry.0 }),
        Mode::Eventual => Some(eventual_version(entry)),
    };
}

fn final_entry(mode: Mode, key: &str, entry: &Entry) -> Option<FinalEntry> {
    let mut ret = Return::new(OpId(0), 0, Outcome::Ok);
    show(&mut ret, Some(entry), mode);
    entry.2.as_ref()?;
    Some(FinalEntry {
        key: key.to_owned(),
        values: ret.values,
        version: ret.version,
    })
}
