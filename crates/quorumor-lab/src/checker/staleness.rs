//! Staleness: how much a read missed of what was acknowledged before it began.
//!
//! t = start of the read minus the acknowledgement of the oldest write it missed; k = how many it missed. A write is
//! missed if it was acknowledged before the read began and is of a higher version than what the read saw. Broken is
//! only a promise: a receipt that calls its bound exact or proven, and is exceeded. Otherwise staleness is counted.

use super::order::{KeyHistory, Sight, Write, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{History, OpId, StalenessBasis};

/// A read that missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleRead {
    /// The read.
    pub op: OpId,
    /// When it was due.
    pub due_us: u64,
    /// When it began.
    pub at_us: u64,
    /// How old its answer was.
    pub t_us: u64,
    /// How many writes it missed.
    pub k: u64,
    /// When the oldest write that it missed was acknowledged.
    pub missed_acked_us: u64,
}

/// What the reads of a history show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalenesses {
    /// The verdict on the receipts.
    pub finding: Finding,
    /// Reads that could be judged.
    pub judged: u64,
    /// Those that missed something, in order of their start.
    pub stale: Vec<StaleRead>,
}

/// Measures a history of either mode.
pub fn check(history: &History) -> Stalenesses {
    let (mut judged, mut undecided) = (0u64, 0u64);
    let (mut stale, mut evidence) = (Vec::new(), Vec::new());
    for key in by_key(history).values() {
        for sight in &key.sights {
            let Ok(missed) = missed(key, sight) else {
                undecided += 1;
                continue;
            };
            judged += 1;
            let Some(oldest) = missed.iter().min_by_key(|write| write.acked) else {
                continue;
            };
            let read = StaleRead {
                op: sight.op.id(),
                due_us: sight.op.invoke.due_us,
                at_us: sight.op.invoke.at_us,
                t_us: sight.op.invoke.at_us - oldest.acked.unwrap_or(0),
                k: missed.len() as u64,
                missed_acked_us: oldest.acked.unwrap_or(0),
            };
            evidence.extend(broken_bound(sight, oldest, read.t_us));
            stale.push(read);
        }
    }
    stale.sort_by_key(|read| (read.at_us, read.op));
    let summary = format!(
        "{judged} reads judged ({undecided} could not be), {} stale, {} older than an exact or proven bound",
        stale.len(),
        evidence.len()
    );
    Stalenesses {
        finding: Finding::from_evidence(Property::Staleness, summary, evidence),
        judged,
        stale,
    }
}

fn missed<'k, 'a>(
    key: &'k KeyHistory<'a>,
    sight: &Sight<'a>,
) -> Result<Vec<&'k Write<'a>>, super::order::Undecided> {
    let seen = key.rank_seen(sight)?;
    let began = sight.op.invoke.at_us;
    let acked_before = key
        .writes
        .iter()
        .filter(|write| write.acked.is_some_and(|acked| acked < began));
    Ok(acked_before
        .filter(|write| write.rank.is_some() && write.rank > seen)
        .collect())
}

fn broken_bound(sight: &Sight<'_>, oldest: &Write<'_>, t_us: u64) -> Option<Evidence> {
    let receipt = sight.ret.staleness?;
    let promised = match receipt.basis {
        StalenessBasis::Exact | StalenessBasis::Proven => true,
        StalenessBasis::Estimated | StalenessBasis::Unknown => false,
    };
    (promised && t_us > receipt.bound_us).then(|| {
        let text = format!(
            "an answer {t_us} us old promised at most {} us",
            receipt.bound_us
        );
        Evidence::new(text, &[oldest.op, sight.op])
    })
}
