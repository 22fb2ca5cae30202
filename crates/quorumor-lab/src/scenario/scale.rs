//! What a scenario shows of eventual mode at scale, where a few nodes show nothing: thousands of simulated nodes.
//!
//! The names of [`crate::world::scale`], whose runs they are; its options are set by [`Scale::options`].

use serde::{Deserialize, Serialize};

use super::Micros;
use crate::world::scale;

/// What happens to the many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Script {
    /// All start within seconds, knowing three seeds.
    Join,
    /// Some die at once, in silence.
    Crash,
    /// Half of them can't reach the others, both sides write and delete; then it heals.
    Partition,
    /// Nothing but a few updates, under the loss that is asked for.
    Spread,
}

/// A run at scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// What happens.
    pub script: Script,
    /// To how many nodes.
    pub nodes: u32,
    /// Datagrams lost, in a hundred.
    #[serde(default)]
    pub loss_percent: u32,
    /// For [`Script::Crash`]: how many of the nodes die, in a hundred.
    #[serde(default)]
    pub crash_percent: u32,
    /// For [`Script::Partition`]: how long it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Micros>,
}

impl Scale {
    /// Whether it can be run.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub(super) fn check(&self, seed: u64) -> Result<(), String> {
        if self.loss_percent > 90 || self.crash_percent > 50 {
            return Err("loss is at most 90 %, and at most 50 % of the nodes die".to_owned());
        }
        if self.nodes > scale::NODES_MAX {
            return Err(format!("at most {} nodes", scale::NODES_MAX));
        }
        self.options(seed).check()
    }

    /// The options of the run.
    pub fn options(&self, seed: u64) -> scale::Options {
        let script = match self.script {
            Script::Join => scale::Scenario::Join,
            Script::Crash => scale::Scenario::Crash,
            Script::Partition => scale::Scenario::Partition,
            Script::Spread => scale::Scenario::Spread,
        };
        let mut options = scale::Options::new(script, self.nodes, seed);
        options.loss_ppm = self.loss_percent * 10_000;
        if self.script == Script::Crash {
            options.crashes = (self.nodes * self.crash_percent / 100).max(1);
            options.crash_gap_us = 0;
        }
        if let Some(Micros(us)) = self.partition {
            (options.partition_us, options.duration_us) = (us, us);
        }
        options
    }
}
