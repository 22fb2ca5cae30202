//! Who knows everyone: during a mass join, how soon every pair of nodes knows each other.

use super::options::Options;

/// How far the nodes know each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acquaintance {
    is_watched: bool,
    others: usize,
    knows_all: Vec<bool>,
    /// When each node came to know all others, in order.
    pub(super) arrivals: Vec<u64>,
}

impl Acquaintance {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            is_watched: options.join_us > 0,
            others: options.nodes as usize - 1,
            knows_all: vec![false; options.nodes as usize],
            arrivals: Vec::new(),
        }
    }

    /// Whether it is worth a look at this node.
    pub(super) fn wants(&self, node: u32) -> bool {
        self.is_watched && !self.knows_all[node as usize]
    }

    /// A node knows so many others.
    pub(super) fn knows(&mut self, node: u32, others: usize, now_us: u64) {
        if others >= self.others {
            self.knows_all[node as usize] = true;
            self.arrivals.push(now_us);
        }
    }

    /// A node's process is gone; it doesn't count any more.
    pub(super) fn stopped(&mut self, node: u32) {
        if self.is_watched && !std::mem::replace(&mut self.knows_all[node as usize], true) {
            self.others = self.others.min(self.knows_all.len() - 1);
        }
    }

    /// Whether all know all.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_watched || self.knows_all.iter().all(|knows| *knows)
    }
}
