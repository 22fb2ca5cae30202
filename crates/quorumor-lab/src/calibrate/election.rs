//! How long nobody leads in strong mode, by how the leader ended.

use anyhow::Result;

use super::CalibrateOptions;
use super::row::{Law, Part, Row};
use crate::theory::election::{Clock, after_crash_ms, after_silence_ms};
use crate::world::sim::{Ending, succession};

/// Runs of each, for one seed.
const RUNS: u64 = 10;
/// Two rounds of asking, each there and back at 0.6 ms a way and a disk of 1.55 ms at each end, on the simulator's calm network; half a
/// millisecond of looking.
const VOTE_MS: f64 = 2.0 * (2.0 * 0.6 + 1.55) + 0.5;
/// When the simulator tells a dead process's peers that connections are closed and refused.
const NOTICED_MS: f64 = 20.0;

pub(super) fn rows(options: &CalibrateOptions) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for nodes in [3, 5, 7] {
        for ending in [Ending::Cut, Ending::PowerCut, Ending::Crash] {
            rows.push(gap(options, nodes, ending)?);
        }
    }
    Ok(rows)
}

fn gap(options: &CalibrateOptions, nodes: u32, ending: Ending) -> Result<Row> {
    let gaps = (0..RUNS * options.seeds)
        .map(|seed| succession(nodes.into(), seed, ending))
        .collect::<Result<Vec<Option<u64>>>>()?;
    let gaps: Vec<f64> = gaps
        .iter()
        .flatten()
        .map(|us| *us as f64 / 1_000.0)
        .collect();
    let clock = Clock::from(quorumor_raft::Timing::default());
    let (how, expected) = match ending {
        Ending::Cut => ("is cut off", after_silence_ms(clock, nodes, VOTE_MS)),
        Ending::PowerCut => ("loses power", after_silence_ms(clock, nodes, VOTE_MS)),
        Ending::Crash => (
            "dies, connections refused",
            after_crash_ms(clock, nodes, NOTICED_MS, VOTE_MS),
        ),
    };
    let law = Law {
        part: Part::Election,
        what: format!("nobody leads {nodes} nodes after the leader {how}"),
        source: "Raft (Ongaro 2014), 5.2; derived: `theory/election.rs`",
        unit: "ms",
        expected,
        allowance: 25.0,
        why: "a tick, for split votes and for disks",
        known: None,
    };
    Ok(law.of_mean(&gaps))
}
