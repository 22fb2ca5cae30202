//! Who was forgotten, so that old news from third parties doesn't create it anew (chitchat #155 and its PR #108, quickwit
//! #5135). Bounded: the oldest are dropped; a ghost that comes back then is found dead again by probes.

use std::collections::{BTreeMap, VecDeque};

use quorumor_core::{Generation, Mono, NodeId};

/// Reaped members that are remembered.
const REAPED_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Reaped {
    generations: BTreeMap<NodeId, Generation>,
    order: VecDeque<(Mono, NodeId)>,
}

impl Reaped {
    pub(super) fn remember(&mut self, node: NodeId, generation: Generation, now: Mono) {
        self.generations.insert(node, generation);
        self.order.push_back((now, node));
        if self.order.len() > REAPED_MAX
            && let Some((_, oldest)) = self.order.pop_front()
            && !self.order.iter().any(|(_, node)| *node == oldest)
        {
            self.generations.remove(&oldest);
        }
    }

    /// Whether news of this life is older than what was forgotten.
    pub(super) fn covers(&self, node: NodeId, generation: Generation) -> bool {
        let reaped = self.generations.get(&node);
        reaped.is_some_and(|reaped| generation <= *reaped)
    }
}
