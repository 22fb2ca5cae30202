//! Who is held to be suspect or down, rightly and falsely: against what the world did to its nodes.

use super::options::Options;

/// News of an earlier life may still be on its way for so long after a start, and of a partition after its heal.
const GRACE_US: u64 = 60_000_000;

/// A node that was killed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) node: u32,
    pub(super) killed_us: u64,
    pub(super) suspected_us: Option<u64>,
    /// When each node came to hold it to be down, in order.
    pub(super) arrivals: Vec<u64>,
    /// Nodes that ran when it was killed.
    pub(super) population: u32,
    holds_down: Vec<bool>,
    /// Nodes that run, and don't hold it to be down.
    missing: u32,
}

impl Victim {
    /// Whether every node that runs holds it to be down.
    pub(super) fn is_down_everywhere(&self) -> bool {
        self.missing == 0
    }
}

/// What members are held to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detection {
    has_partition: bool,
    pub(super) victims: Vec<Victim>,
    /// When each node's life began; `None` while it doesn't run.
    alive_since: Vec<Option<u64>>,
    /// Times that a node held one that ran to be down.
    pub(super) false_downs: u64,
    /// Nodes that were falsely held to be down by anyone.
    pub(super) falsely_down: Vec<bool>,
    /// Times that a node suspected one that ran.
    pub(super) false_suspicions: u64,
}

impl Detection {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            has_partition: options.partition_us > 0,
            victims: Vec::new(),
            alive_since: vec![None; options.nodes as usize],
            false_downs: 0,
            falsely_down: vec![false; options.nodes as usize],
            false_suspicions: 0,
        }
    }

    pub(super) fn started(&mut self, node: u32, now_us: u64) {
        self.alive_since[node as usize] = Some(now_us);
    }

    pub(super) fn stopped(&mut self, node: u32) {
        self.alive_since[node as usize] = None;
        for victim in &mut self.victims {
            // One that doesn't run is waited for no longer; if it starts again, that life isn't counted.
            if !std::mem::replace(&mut victim.holds_down[node as usize], true) {
                victim.missing -= 1;
            }
        }
    }

    /// A node was killed for good; so many others run.
    pub(super) fn killed(&mut self, node: u32, now_us: u64, live: u32) {
        let mut holds_down: Vec<bool> = self.alive_since.iter().map(Option::is_none).collect();
        holds_down[node as usize] = true;
        self.victims.push(Victim {
            node,
            killed_us: now_us,
            suspected_us: None,
            arrivals: Vec::new(),
            population: live,
            holds_down,
            missing: live,
        });
    }

    /// Somebody suspects this node.
    pub(super) fn suspected(&mut self, node: u32, now_us: u64) {
        if let Some(victim) = self.victims.iter_mut().find(|victim| victim.node == node) {
            victim.suspected_us.get_or_insert(now_us);
        } else if self.is_long_alive(node, now_us) {
            self.false_suspicions += 1;
        }
    }

    /// `by` holds this node to be down.
    pub(super) fn downed(&mut self, node: u32, by: u32, now_us: u64) {
        if let Some(victim) = self.victims.iter_mut().find(|victim| victim.node == node) {
            if !std::mem::replace(&mut victim.holds_down[by as usize], true) {
                victim.missing -= 1;
                victim.arrivals.push(now_us);
            }
        } else if self.is_long_alive(node, now_us) {
            self.false_downs += 1;
            self.falsely_down[node as usize] = true;
        }
    }

    /// Whether a node runs for so long that nothing old is said about it. In a run with a partition nobody can say.
    fn is_long_alive(&self, node: u32, now_us: u64) -> bool {
        !self.has_partition
            && self.alive_since[node as usize]
                .is_some_and(|since| since == 0 || now_us >= since + GRACE_US)
    }
}
