//! Leases kept alive through a flood.
//!
//! **Kept.** While the nodes hold classes of calls apart, a lease whose holder sends its keep-alives in time lives, whatever flood of other
//! calls there is. A keep-alive that finds no lease broke that, unless somebody revoked the lease, a fault was in force, or the
//! holder itself was late: from one try to the next, or to the miss, more than half of the TTL.
//!
//! Judged only where there was a flood and the limits weren't disabled: without them nothing is promised, and what was lost is a figure
//! (`lost`), no verdict. That a lease isn't gone before its time is another property ([`super::lease`]).

use std::collections::BTreeMap;

use super::disturbed::disturbances;
use super::{Evidence, Finding, Property};
use crate::history::{Action, History, Op};
use crate::scenario::Limits;

/// A lease that was gone though its holder had tried to keep it.
#[derive(Clone, Copy, Debug)]
pub struct Lost<'a> {
    /// The last that was known good: the grant, or a keep-alive.
    pub good: &'a Op,
    /// The keep-alive that found none.
    pub miss: &'a Op,
    /// Whether the holder was never late in between.
    pub in_time: bool,
}

/// How the leases of a history fared.
#[derive(Clone, Debug, Default)]
pub struct Kept<'a> {
    /// Leases that were granted.
    pub leases: u64,
    /// Keep-alives that were answered.
    pub renewals: u64,
    /// Keep-alives that weren't, those that found no lease among them.
    pub missed: u64,
    /// In order of time.
    pub lost: Vec<Lost<'a>>,
}

/// One lease on its way.
struct Held<'a> {
    ttl_us: u64,
    good: &'a Op,
    /// When the last try began.
    tried_us: u64,
    in_time: bool,
    revoked: bool,
    lost: bool,
}

/// Judges a history; none = there was no flood, no lease, or no limits.
pub fn check(history: &History) -> Option<Finding> {
    let scenario = &history.header.scenario;
    if scenario.flood.is_none() || scenario.limits == Some(Limits::Disabled) {
        return None;
    }
    let kept = kept(history);
    if kept.leases == 0 {
        return None;
    }
    let faults = disturbances(history);
    let healthy = |lost: &&Lost<'_>| {
        let from_us = lost.good.invoke.at_us;
        let to_us = lost.miss.returned_us().unwrap_or(u64::MAX);
        lost.in_time && !faults.iter().any(|fault| fault.overlaps(from_us, to_us))
    };
    let broken = kept.lost.iter().filter(healthy);
    let evidence: Vec<Evidence> = broken
        .map(|lost| {
            let text = format!(
                "lease {} was lost though its holder tried to keep it alive in time",
                lost.miss.invoke.lease()
            );
            Evidence::new(text, &[lost.good, lost.miss])
        })
        .collect();
    let summary = format!(
        "{} leases, {} keep-alives answered and {} not: {} leases lost, {} of them in spite of their holders and without a fault",
        kept.leases,
        kept.renewals,
        kept.missed,
        kept.lost.len(),
        evidence.len()
    );
    Some(Finding::from_evidence(
        Property::LeasesKept,
        summary,
        evidence,
    ))
}

/// How leases fared over a whole history.
pub fn kept(history: &History) -> Kept<'_> {
    let mut kept = Kept::default();
    let mut held: BTreeMap<&str, Held<'_>> = BTreeMap::new();
    for op in &history.ops {
        match &op.invoke.action {
            Action::Grant { ttl_ms } => {
                let Some(ret) = op.answer() else { continue };
                let Some(id) = &ret.lease else { continue };
                kept.leases += 1;
                let lease = Held {
                    ttl_us: ret.ttl_ms.unwrap_or(*ttl_ms) * 1_000,
                    good: op,
                    tried_us: ret.at_us,
                    in_time: true,
                    revoked: false,
                    lost: false,
                };
                held.insert(id, lease);
            }
            Action::KeepAlive => {
                let lease = op.invoke.lease.as_deref().and_then(|id| held.get_mut(id));
                lease.into_iter().for_each(|lease| kept.tried(op, lease));
            }
            Action::Revoke => {
                let lease = op.invoke.lease.as_deref().and_then(|id| held.get_mut(id));
                lease.into_iter().for_each(|lease| lease.revoked = true);
            }
            Action::Get | Action::Put(_) | Action::Delete | Action::Cas(_) | Action::List => {}
        }
    }
    kept
}

impl<'a> Kept<'a> {
    /// A keep-alive, in order of invocation: a holder makes one at a time.
    fn tried(&mut self, op: &'a Op, lease: &mut Held<'a>) {
        let late = op.invoke.at_us.saturating_sub(lease.tried_us) > lease.ttl_us / 2;
        lease.in_time &= !late;
        lease.tried_us = op.returned_us().unwrap_or(op.invoke.at_us);
        if op.answer().is_some() {
            self.renewals += 1;
            (lease.good, lease.in_time) = (op, true);
            return;
        }
        self.missed += 1;
        let gone = op.ret.as_ref().is_some_and(|ret| ret.is_lease_gone());
        if gone && !lease.revoked && !std::mem::replace(&mut lease.lost, true) {
            self.lost.push(Lost {
                good: lease.good,
                miss: op,
                in_time: lease.in_time,
            });
        }
    }
}

#[cfg(test)]
mod tests;
