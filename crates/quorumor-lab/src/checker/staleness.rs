//! Staleness: how much a read missed of what was acknowledged before it began.
//!
//! t = start of the read minus the acknowledgement of the oldest write it missed; k = how many it missed. A write is
//! missed if it was acknowledged before the read began and is of a higher version than what the read saw. Broken is
//! only a promise: a receipt that calls its bound exact or proven, and is exceeded. Otherwise staleness is counted.

use serde::{Deserialize, Serialize};

use super::order::{KeyHistory, Rank, Sight, Write, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{History, Level, Mode, Op, OpId, Return, StalenessBasis};

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
    /// How likely a read is fresh, by the time since the write; empty bins are left out.
    pub curve: Vec<FreshBin>,
}

/// Reads that began at some time after the newest acknowledged write of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshBin {
    /// From this long after the acknowledgement.
    pub from_us: u64,
    /// To before this long; [`u64::MAX`] for the last.
    pub to_us: u64,
    /// Reads that began then.
    pub reads: u64,
    /// Of those, reads that showed that write, or a later one.
    pub fresh: u64,
}

/// Where the bins of the curve begin: 1, 2 and 5 of each decade, from 1 ms to 50 s.
const BIN_STARTS_MS: [u64; 15] = [
    0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000,
];

/// Measures a history of either mode.
pub fn check(history: &History) -> Stalenesses {
    let (mut judged, mut undecided) = (0u64, 0u64);
    let (mut stale, mut evidence) = (Vec::new(), Vec::new());
    let mut curve = empty_curve();
    for key in by_key(history).values() {
        let acked = Acked::new(key);
        for sight in &key.sights {
            let Ok(seen) = key.rank_seen(sight) else {
                undecided += 1;
                continue;
            };
            judged += 1;
            let began = sight.op.invoke.at_us;
            let missed = acked.missed(began, seen);
            if let Some(newest) = acked.newest(began) {
                count(&mut curve, began - newest, missed.is_empty());
            }
            let Some(oldest) = missed.iter().min_by_key(|write| write.acked) else {
                continue;
            };
            let missed_acked_us = oldest.acked.unwrap_or(0);
            let read = StaleRead {
                op: sight.op.id(),
                due_us: sight.op.invoke.due_us,
                at_us: began,
                t_us: began - missed_acked_us,
                k: missed.len() as u64,
                missed_acked_us,
            };
            evidence.extend(broken_bound(sight, oldest, read.t_us));
            stale.push(read);
        }
    }
    let mode = history.header.mode;
    let weaker = history
        .ops
        .iter()
        .filter_map(|op| silently_weaker(mode, op));
    let weaker: Vec<Evidence> = weaker.collect();
    stale.sort_by_key(|read| (read.at_us, read.op));
    let summary = format!(
        "{judged} reads judged ({undecided} could not be), {} stale, {} older than an exact or proven bound, {} weaker than asked without leave or word",
        stale.len(),
        evidence.len(),
        weaker.len()
    );
    evidence.extend(weaker);
    curve.retain(|bin| bin.reads > 0);
    Stalenesses {
        finding: Finding::from_evidence(Property::Staleness, summary, evidence),
        judged,
        stale,
        curve,
    }
}

/// The writes of a key whose acknowledgement and version are known, by acknowledgement.
struct Acked<'k, 'a> {
    writes: Vec<(u64, Rank, &'k Write<'a>)>,
    /// For each place the highest rank up to there, and when the write that has it was acknowledged.
    highest: Vec<(Rank, u64)>,
}

impl<'k, 'a> Acked<'k, 'a> {
    fn new(key: &'k KeyHistory<'a>) -> Self {
        let known = |write: &'k Write<'a>| Some((write.acked?, write.rank?, write));
        let mut writes: Vec<_> = key.writes.iter().filter_map(known).collect();
        writes.sort_by_key(|&(acked, rank, _)| (acked, rank));
        let mut highest: Vec<(Rank, u64)> = Vec::with_capacity(writes.len());
        for &(acked, rank, _) in &writes {
            let before = highest.last().copied();
            highest.push(
                before
                    .filter(|before| before.0 > rank)
                    .unwrap_or((rank, acked)),
            );
        }
        Self { writes, highest }
    }

    /// How many were acknowledged before this time.
    fn before(&self, at_us: u64) -> usize {
        self.writes.partition_point(|&(acked, ..)| acked < at_us)
    }

    /// When the newest version of those acknowledged before this time was acknowledged.
    fn newest(&self, at_us: u64) -> Option<u64> {
        let place = self.before(at_us).checked_sub(1)?;
        Some(self.highest[place].1)
    }

    fn missed(&self, at_us: u64, seen: Option<Rank>) -> Vec<&'k Write<'a>> {
        let count = self.before(at_us);
        // Most reads miss nothing; the highest version so far tells.
        let none = count == 0 || seen.is_some_and(|seen| self.highest[count - 1].0 <= seen);
        if none {
            return Vec::new();
        }
        let higher = self.writes[..count]
            .iter()
            .filter(|(_, rank, _)| Some(*rank) > seen);
        higher.map(|&(.., write)| write).collect()
    }
}

fn empty_curve() -> Vec<FreshBin> {
    let ends = BIN_STARTS_MS.iter().skip(1).map(|ms| ms * 1_000);
    let bounds = BIN_STARTS_MS.iter().zip(ends.chain([u64::MAX]));
    bounds
        .map(|(from_ms, to_us)| FreshBin {
            from_us: from_ms * 1_000,
            to_us,
            reads: 0,
            fresh: 0,
        })
        .collect()
}

fn count(curve: &mut [FreshBin], age_us: u64, fresh: bool) {
    let here = |bin: &&mut FreshBin| (bin.from_us..bin.to_us).contains(&age_us);
    if let Some(bin) = curve.iter_mut().find(here) {
        bin.reads += 1;
        bin.fresh += u64::from(fresh);
    }
}

/// An answer that is weaker than what was asked, though that wasn't allowed, or isn't marked.
fn silently_weaker(mode: Mode, op: &Op) -> Option<Evidence> {
    let ret: &Return = op.answer()?;
    let by_default = match mode {
        Mode::Strong => Level::Linearizable,
        Mode::Eventual => Level::Local,
    };
    let (asked, got) = (op.invoke.level.unwrap_or(by_default), ret.got?);
    let strength = |level: Level| match level {
        Level::Linearizable => 2,
        Level::Bounded => 1,
        Level::Local => 0,
    };
    let weaker = op.invoke.action.is_read() && strength(got) < strength(asked);
    let text = match (op.invoke.may_degrade, ret.degraded) {
        (true, true) => return None,
        (false, _) => "an answer is weaker than what was asked, which the request did not allow",
        (true, false) => "an answer is weaker than what was asked, and does not say so",
    };
    weaker.then(|| Evidence::new(text, &[op]))
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
