//! How long it took until nodes were equal after the heal, and until every later read saw a write.
//!
//! Both are samples, for a cumulative curve. The second is Jepsen's stable latency (its set-full checker): from a
//! write's acknowledgement to the start of the last read that missed it. Not a verdict. Called by the analysis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::checker::order::{KeyHistory, Rank, by_key};
use crate::history::{History, NodeId};

/// A run has at most so many samples of writes in its report; their quantiles are evenly spread over all.
const QUANTILES: usize = 200;

/// The samples of a run, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Converging {
    /// For each node that came to hold what all hold: how long after the last heal, in microseconds.
    pub nodes_us: Vec<u64>,
    /// Nodes that were asked after the last heal.
    pub nodes: u64,
    /// Quantiles of how long after its acknowledgement a write was last missed, in microseconds; 0 = never missed.
    pub writes_us: Vec<u64>,
    /// Acknowledged writes that they stand for.
    pub writes: u64,
}

/// Of a history, whose last heal was at `healed_us` on the lab's clock.
pub(super) fn converging(history: &History, healed_us: Option<u64>) -> Converging {
    let (nodes_us, nodes) = healed_us.map_or((Vec::new(), 0), |at| nodes(history, at));
    let mut writes_us: Vec<u64> = by_key(history).values().flat_map(last_missed).collect();
    writes_us.sort_unstable();
    Converging {
        nodes_us,
        nodes,
        writes: writes_us.len() as u64,
        writes_us: quantiles(writes_us),
    }
}

/// When each node's digest became, for good, the one that most nodes ended with.
fn nodes(history: &History, healed_us: u64) -> (Vec<u64>, u64) {
    let mut polls: Vec<_> = history.digests.iter().collect();
    polls.retain(|poll| poll.at_us >= healed_us);
    polls.sort_by_key(|poll| poll.at_us);
    // Of each node: its digest, and since when.
    let mut latest: BTreeMap<NodeId, (&str, u64)> = BTreeMap::new();
    for poll in polls {
        let held = latest
            .entry(poll.node)
            .or_insert((&poll.digest, poll.at_us));
        if held.0 != poll.digest {
            *held = (&poll.digest, poll.at_us);
        }
    }
    let mut ended: BTreeMap<&str, usize> = BTreeMap::new();
    for (digest, _) in latest.values() {
        *ended.entry(digest).or_default() += 1;
    }
    let common = ended.into_iter().max_by_key(|&(_, count)| count);
    let common = common.map(|(digest, _)| digest);
    let equal = latest
        .values()
        .filter(|(digest, _)| Some(*digest) == common);
    let mut times: Vec<u64> = equal.map(|(_, at_us)| at_us - healed_us).collect();
    times.sort_unstable();
    (times, latest.len() as u64)
}

/// For each acknowledged write of a key: from its acknowledgement to the start of the last read that missed it.
fn last_missed(key: &KeyHistory<'_>) -> Vec<u64> {
    let sights = key.sights.iter();
    let mut seen: Vec<(Option<Rank>, u64)> = sights
        .filter_map(|sight| Some((key.rank_seen(sight).ok()?, sight.op.invoke.at_us)))
        .collect();
    seen.sort_unstable();
    // The latest start among the reads that saw this version or a lower one.
    let mut latest = 0;
    for sight in &mut seen {
        latest = latest.max(sight.1);
        sight.1 = latest;
    }
    let missed = |(acked, rank): (u64, Rank)| {
        let lower = seen.partition_point(|&(seen, _)| seen < Some(rank));
        let last = lower.checked_sub(1).map_or(0, |place| seen[place].1);
        last.saturating_sub(acked)
    };
    let writes = key.writes.iter();
    let writes = writes.filter_map(|write| Some((write.acked?, write.rank?)));
    writes.map(missed).collect()
}

/// At most [`QUANTILES`] of sorted samples, the least and the greatest among them.
fn quantiles(samples: Vec<u64>) -> Vec<u64> {
    let Some(last) = samples.len().checked_sub(1) else {
        return samples;
    };
    if last < QUANTILES {
        return samples;
    }
    let place = |i: usize| samples[last * i / (QUANTILES - 1)];
    (0..QUANTILES).map(place).collect()
}
