//! Nodes that come and go: a newcomer has an empty disk, one that was removed is shut down some time later.

use super::actor::MS;
use crate::history::Mode;
use crate::rng;
use crate::world::sim::node::Node;
use crate::world::sim::run::{Event, Run};

impl Run {
    /// Makes a node that asks to join, and starts it a little later.
    pub(in crate::world::sim) fn make_newcomer(&mut self, id: u64) {
        while (self.nodes.len() as u64) < id {
            let next = self.nodes.len() as u64 + 1;
            self.nodes.push(Node::new(next, &self.options));
        }
        let after_us = rng::below(&mut self.fault_rng, 600) * MS;
        self.at(self.now_us + after_us, Event::Start { node: id });
    }

    /// After the heal: whoever is no member by the word of the cluster is shut down for good.
    pub(in crate::world::sim) fn retire(&mut self) {
        if self.options.mode == Mode::Eventual {
            return;
        }
        let members = self.membership();
        if members.is_empty() {
            return;
        }
        for id in 1..=self.nodes.len() as u64 {
            let is_member = members.iter().any(|member| member.node == id);
            let node = self.node(id);
            if !is_member && !node.retired {
                node.retired = true;
                self.crash(id, false, MS);
            }
        }
    }

    /// The nodes that can serve at the end.
    pub(in crate::world::sim) fn serving(&self) -> Vec<u64> {
        let members = self.nodes.iter().filter(|node| !node.retired);
        members.map(|node| node.id).collect()
    }
}
