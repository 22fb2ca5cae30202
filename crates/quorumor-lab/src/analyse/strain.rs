//! How the judged load fared while something was wrong, where a scenario is about overload: what its two sides are compared by.
//!
//! Not a verdict: a promise that was broken is a finding. Called by the analysis; [`crate::report`] puts both sides together.

use serde::{Deserialize, Serialize};

use super::figures::{Figures, Recovery};
use crate::checker::availability::{self, Counts};
use crate::checker::kept::kept;
use crate::history::{History, Op};
use crate::scenario::Scenario;

/// What became of the calls of a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FloodCounts {
    /// Calls that were made.
    pub offered: u64,
    /// Answered; of watches, those that were opened.
    pub answered: u64,
    /// Turned away because there were too many.
    pub shed: u64,
    /// Not answered for another reason, such as its deadline.
    pub failed: u64,
}

/// How the leases of the judged load fared over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LeaseCounts {
    /// Granted.
    pub granted: u64,
    /// Keep-alives that were answered.
    pub renewals: u64,
    /// Keep-alives that weren't.
    pub missed: u64,
    /// Leases that were gone though their holders had tried to keep them.
    pub lost: u64,
}

/// The judged load while something was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Strain {
    /// From when, from time zero of the workload, in microseconds.
    pub from_us: u64,
    /// Until when, in microseconds.
    pub to_us: u64,
    /// What became of the operations due in between.
    pub counts: Counts,
    /// Their median latency from when they were due, in microseconds; a timeout enters at its timeout; none = no sample.
    pub p50_us: Option<u64>,
    /// The 99th percentile of the same.
    pub p99_us: Option<u64>,
    /// Those of them that nodes turned away because there was too much to do.
    pub shed: u64,
    /// Those of them that the clients' breakers held back.
    pub held_by_breaker: u64,
    /// From the beginning until all was well for good.
    pub recovery: Recovery,
    /// The leases; none = there were none.
    pub leases: Option<LeaseCounts>,
    /// The flood; none = there was none.
    pub flood: Option<FloodCounts>,
}

/// Of a scenario about overload; none = it isn't.
pub(super) fn strain(
    history: &History,
    scenario: &Scenario,
    figures: &Figures<'_>,
) -> Option<Strain> {
    if scenario.contrast.is_none() && scenario.flood.is_none() {
        return None;
    }
    let (from_us, to_us) = scenario.trouble_us()?;
    let span = figures.span("trouble", from_us, to_us);
    let start_us = history.header.start_us;
    let due = |op: &&Op| (from_us..to_us).contains(&op.invoke.due_us.saturating_sub(start_us));
    let failed_by = |reason: &str| {
        let ops = history.load().filter(due);
        let failed = ops.filter(|op| {
            op.ret
                .as_ref()
                .is_some_and(|ret| ret.reason.as_deref() == Some(reason))
        });
        failed.count() as u64
    };
    let well_us = availability::well_for_good_us(&figures.dues, from_us, scenario.duration_us());
    let recovery = match well_us {
        None => Recovery::Never,
        Some(us) if from_us + us + availability::GOOD_US <= to_us => Recovery::After(us),
        Some(us) => Recovery::OnceHealed(us),
    };
    let kept = kept(history);
    let leases = LeaseCounts {
        granted: kept.leases,
        renewals: kept.renewals,
        missed: kept.missed,
        lost: kept.lost.len() as u64,
    };
    Some(Strain {
        from_us,
        to_us,
        counts: span.counts,
        p50_us: span.p50_us,
        p99_us: span.p99_us,
        shed: failed_by("OVERLOADED"),
        held_by_breaker: failed_by("CIRCUIT_OPEN"),
        recovery,
        leases: (kept.leases > 0).then_some(leases),
        flood: None,
    })
}
