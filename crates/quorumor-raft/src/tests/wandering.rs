//! Members come and go at random, from a seed, while nodes crash, links break and the lead wanders: nothing acknowledged is
//! lost, and in the end everybody agrees.

use std::net::SocketAddr;

use quorumor_core::{CallId, ClusterAction, Command, Health, NodeId, Reply};

use crate::hash::mix;
use crate::testing::{Net, id};

struct Walk {
    net: Net,
    seed: u64,
    drawn: u64,
    next_id: u64,
    writes: Vec<(CallId, String)>,
    changes: Vec<CallId>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut net = Net::new(3, seed);
        net.compaction.entries_max = 16;
        net.compaction.keep_entries = 4;
        net.repeats = seed.is_multiple_of(2);
        net.start_all();
        net.await_leader();
        Self {
            net,
            seed,
            drawn: 0,
            next_id: 4,
            writes: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.drawn += 1;
        mix(&[self.seed, 77, self.drawn]) % below
    }

    fn pick(&mut self, of: &[u64]) -> Option<u64> {
        let length = u64::try_from(of.len()).unwrap();
        (length > 0).then(|| of[usize::try_from(self.draw(length)).unwrap()])
    }

    fn up(&self) -> Vec<u64> {
        let up = self.net.nodes.keys().copied();
        up.filter(|node| self.net.is_up(*node)).collect()
    }

    /// The members as the one who has applied most knows them.
    fn members(&self) -> Vec<u64> {
        let up = self.up();
        let ahead = up
            .iter()
            .max_by_key(|node| self.net.replica(**node).state.applied.index);
        ahead.map_or_else(Vec::new, |node| {
            let members = self.net.replica(*node).state.members.keys();
            members.map(|node| node.as_u64()).collect()
        })
    }

    fn change(&mut self, action: ClusterAction) {
        let up = self.up();
        if let Some(at) = self.pick(&up) {
            let call = self.net.call(at, Command::Cluster(action), None);
            self.changes.push(call);
        }
    }

    fn step(&mut self) {
        let (up, members) = (self.up(), self.members());
        let member = self.pick(&members).map_or_else(|| id(1), id);
        let other: Option<NodeId> = self.pick(&members).map(id);
        match self.draw(16) {
            0 if self.next_id < 9 => {
                let node = self.next_id;
                self.next_id += 1;
                self.net.machine(node);
                self.net.start(node);
                let promote = self.draw(2) == 0;
                self.change(ClusterAction::AddLearner {
                    node: id(node),
                    peer_address: SocketAddr::from(([127, 0, 0, 1], 7_000 + node as u16)),
                    promote,
                });
            }
            1 | 2 => {
                let replacing = other.filter(|other| *other != member);
                let replacing = replacing.filter(|_| member.as_u64().is_multiple_of(2));
                self.change(ClusterAction::Promote {
                    node: member,
                    replacing,
                });
            }
            3 if members.len() > 3 => self.change(ClusterAction::Remove {
                node: member,
                allow_quorum_loss: false,
            }),
            4 | 5 => {
                let to = Some(member).filter(|_| member.as_u64().is_multiple_of(2));
                self.change(ClusterAction::TransferLeader { to });
            }
            6 => {
                if let Some(node) = self.pick(&up).filter(|_| up.len() > 2) {
                    self.net.crash(node);
                }
            }
            7 | 8 => self.start_one(),
            9 => {
                if let Some(node) = self.pick(&up) {
                    self.net.isolate(&[node]);
                }
            }
            10 => self.net.cuts.clear(),
            _ => {
                for _ in 0..4 {
                    if let Some(at) = self.pick(&up).filter(|node| self.net.is_up(*node)) {
                        let key = format!("k{}", self.writes.len());
                        let call = self.net.put(at, &key, "v");
                        self.writes.push((call, key));
                    }
                }
            }
        }
        let pause = [3, 30, 300, 1_500][usize::try_from(self.draw(4)).unwrap()];
        self.net.run_for_ms(pause);
    }

    fn start_one(&mut self) {
        let down = self.net.nodes.keys().copied();
        let down: Vec<u64> = down.filter(|node| !self.net.is_up(*node)).collect();
        if let Some(node) = self.pick(&down) {
            self.net.start(node);
        }
    }

    fn come_to_rest(&mut self) -> Vec<u64> {
        self.net.cuts.clear();
        let all: Vec<u64> = self.net.nodes.keys().copied().collect();
        for node in all {
            if !self.net.is_up(node) {
                self.net.start(node);
            }
        }
        self.net.run_until("members agree", |net| {
            let Some(leader) = net.leader() else {
                return false;
            };
            let state = &net.replica(leader).state;
            !state.voters.is_joint()
                && state.roster.promoting.is_empty()
                && state
                    .members
                    .keys()
                    .all(|member| net.replica(member.as_u64()).state == *state)
        });
        self.members()
    }
}

/// How many walks: two dozen, or `QUORUMOR_WALKS`.
fn seeds() -> u64 {
    let wanted = std::env::var("QUORUMOR_WALKS").ok();
    wanted.and_then(|walks| walks.parse().ok()).unwrap_or(24)
}

#[test]
fn nothing_acknowledged_is_lost_while_members_come_and_go() {
    let (mut acknowledged, mut changed, mut removed) = (0, 0, 0);
    for seed in 0..seeds() {
        let mut walk = Walk::new(seed);
        for _ in 0..70 {
            walk.step();
        }
        let members = walk.come_to_rest();
        for (call, key) in &walk.writes {
            if matches!(walk.net.answers.get(call), Some(Ok(_))) {
                acknowledged += 1;
                for node in &members {
                    let found = walk.net.value(*node, key);
                    assert!(found.is_some(), "seed {seed}: {key} is lost at node {node}");
                }
            }
        }
        let done = |call: &&CallId| {
            matches!(
                walk.net.answers.get(call),
                Some(Ok(Reply::ClusterChanged { .. }))
            )
        };
        changed += walk.changes.iter().filter(done).count();
        for node in walk.up() {
            if members.contains(&node) {
                assert_eq!(
                    walk.net.health(node),
                    Health::Serving,
                    "seed {seed}: {node}"
                );
            } else if walk.net.replica(node).is_removed() {
                removed += 1;
            }
        }
    }
    assert!(acknowledged > 1_000, "only {acknowledged} writes");
    assert!(changed > 150, "only {changed} changes");
    assert!(removed > 10, "only {removed} removed nodes");
}
