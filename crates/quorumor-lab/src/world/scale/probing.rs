//! What probes came to while the run was watched: how many began, needed help, ended in a suspicion.

use serde::Serialize;

use super::world::World;

/// Probes of the nodes that run; what lives that crashed had counted is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probing {
    /// Probes that began.
    pub probes: u64,
    /// Those that weren't answered directly in time.
    pub helped: u64,
    /// Suspicions that a failed probe began, rightly or falsely.
    pub suspicions: u64,
}

impl Probing {
    /// What all nodes that run have counted so far.
    pub(super) fn of(world: &World) -> Self {
        let mut sum = Self::default();
        for replica in world.nodes.iter().filter_map(|node| node.replica.as_ref()) {
            let counters = replica.counters();
            sum.probes += counters.probes;
            sum.helped += counters.probes_helped;
            sum.suspicions += counters.suspicions;
        }
        sum
    }

    /// What was counted since an earlier sum; nothing where crashes took away more than came.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            probes: self.probes.saturating_sub(earlier.probes),
            helped: self.helped.saturating_sub(earlier.helped),
            suspicions: self.suspicions.saturating_sub(earlier.suspicions),
        }
    }
}
