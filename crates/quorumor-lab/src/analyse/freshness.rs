//! How likely a read is fresh, by the time since the newest acknowledged write to its key.
//!
//! After Bailis et al., "Probabilistically Bounded Staleness" (VLDB 2012), section 3: t-visibility. A read is fresh if it saw
//! every write that was acknowledged before it began, or something newer. Not a verdict: eventual mode promises no bound.

use serde::{Deserialize, Serialize};

use super::bands::Band;
use crate::checker::order::{KeyHistory, Rank, by_key};
use crate::history::History;

/// The reads whose newest acknowledged write was between `from_us` and `to_us` old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FreshBin {
    /// From this age on, in microseconds.
    pub from_us: u64,
    /// Below this age, in microseconds.
    pub to_us: u64,
    /// How many of the reads were fresh.
    pub fresh: u64,
    /// How many there were.
    pub reads: u64,
}

/// The curve of a run, with and without a fault in force when the read began. Bins without a read are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Freshness {
    /// No fault was in force.
    pub calm: Vec<FreshBin>,
    /// A fault was in force.
    pub faulted: Vec<FreshBin>,
}

/// Counts the reads of a history that can be judged.
pub(super) fn freshness(history: &History, bands: &[Band]) -> Freshness {
    let start = history.header.start_us;
    let in_force = |at_us: u64| {
        let at_us = at_us.saturating_sub(start);
        bands
            .iter()
            .any(|band| (band.from_us..band.to_us).contains(&at_us))
    };
    let (mut calm, mut faulted) = (bins(), bins());
    for key in by_key(history).values() {
        let acked = Acked::of(key);
        for sight in &key.sights {
            let began = sight.op.invoke.at_us;
            let (Ok(seen), Some((acked_us, newest))) = (key.rank_seen(sight), acked.before(began))
            else {
                continue;
            };
            let bins = if in_force(began) {
                &mut faulted
            } else {
                &mut calm
            };
            let age = began - acked_us;
            let place = bins.partition_point(|bin| bin.to_us <= age);
            if let Some(bin) = bins.get_mut(place) {
                bin.reads += 1;
                bin.fresh += u64::from(seen >= Some(newest));
            }
        }
    }
    for bins in [&mut calm, &mut faulted] {
        bins.retain(|bin| bin.reads > 0);
    }
    Freshness { calm, faulted }
}

/// 1, 2, 5, 10, ... from 1 ms to 1,000 s; one bin below and none above.
fn bins() -> Vec<FreshBin> {
    let decades = (3..9).flat_map(|exponent| [1, 2, 5].map(|n| n * 10u64.pow(exponent)));
    let mut from_us = 0;
    let bin = |to_us: u64| {
        let bin = FreshBin {
            from_us,
            to_us,
            fresh: 0,
            reads: 0,
        };
        from_us = to_us;
        bin
    };
    decades.chain([1_000_000_000]).map(bin).collect()
}

/// The acknowledged writes of a key in order of their acknowledgement, each with the highest version so far.
struct Acked(Vec<(u64, Rank)>);

impl Acked {
    fn of(key: &KeyHistory<'_>) -> Self {
        let acked = key.writes.iter();
        let mut acked: Vec<(u64, Rank)> = acked
            .filter_map(|write| Some((write.acked?, write.rank?)))
            .collect();
        acked.sort_unstable();
        for i in 1..acked.len() {
            acked[i].1 = acked[i].1.max(acked[i - 1].1);
        }
        Self(acked)
    }

    /// When the last acknowledgement before `at_us` was, and the highest version acknowledged by then.
    fn before(&self, at_us: u64) -> Option<(u64, Rank)> {
        let count = self.0.partition_point(|&(acked, _)| acked < at_us);
        self.0.get(count.checked_sub(1)?).copied()
    }
}
