//! Leases, as clients saw them: never early, bounded late.
//!
//! **Never early.** A key bound to a lease is there until the start of the last good keep-alive (or of the grant) plus the TTL, unless
//! somebody revoked the lease or wrote the key (etcd #15247: a stuck leader revoked all leases). A keep-alive that no longer finds
//! a lease before that time is as bad.
//!
//! **Bounded late.** After an acknowledged revoke the key is gone; and after the end of the last keep-alive that may have worked, plus the
//! TTL, plus [`LATE_SLACK_US`], it is gone too (etcd #9395, #20273: elections that extended leases for ever). While a fault holds nothing
//! can be expired, so the wait counts from its end.
//!
//! Judged are answers that can't be old: strong, linearizable ones; eventual, those of the node that granted the lease, which owns it
//! (elsewhere a key may come late, and is hidden while its owner seems down), if that node wasn't stopped meanwhile. Final states are judged at every
//! node. Keys under a lease are left out of the checkers that explain an absence by deletes alone.

use std::collections::BTreeMap;

use super::disturbed::{Disturbance, disturbances};
use super::{Evidence, Finding, Property, is_linearizable};
use crate::history::{Action, FaultAction, History, Mode, NodeId, Op, Outcome};

/// How long after its time a lease may still show: an election of 2.5 s at most, in which nobody expires anything; 0.5 s for the proposal,
/// its commit and the reads queued before it on a busy machine; and 1 s for the lab's own lag, beyond which a run is void.
pub const LATE_SLACK_US: u64 = 4_000_000;
/// Log time is counted in whole milliseconds, at both ends.
const ROUNDING_US: u64 = 2_000;
/// What of a TTL a clock that drifts may take, in a hundred: drift faults stay below it.
const DRIFT_PERCENT: u64 = 5;

struct Lease<'a> {
    owner: NodeId,
    /// Grants and keep-alives that were acknowledged, and the TTL of each.
    good: Vec<(&'a Op, u64)>,
    /// When the last one that may have worked ended, plus the TTL.
    latest_us: u64,
    revokes: Vec<&'a Op>,
}

/// A write that bound a key.
struct Bound<'a> {
    op: &'a Op,
    acked_us: u64,
    lease: &'a str,
    value: &'a str,
}

/// An answer that shows a key, or its absence.
struct Sight<'a> {
    op: &'a Op,
    to_us: u64,
    value: Option<&'a str>,
    linearizable: bool,
}

/// Judges a history of either mode; none = nobody held a lease.
pub fn check(history: &History) -> Option<Finding> {
    let leases = leases(history);
    if leases.is_empty() {
        return None;
    }
    let bounds = bounds(history);
    let judge = Judge {
        mode: history.header.mode,
        faults: disturbances(history),
        writes: writes(history, &bounds),
        sights: sights(history, &bounds),
        leases,
    };
    let mut evidence = judge.keep_alives(history);
    let mut looked = 0u64;
    for (key, bounds) in &bounds {
        for bound in bounds {
            looked += judge.bound(key, bound, &mut evidence);
        }
    }
    judge.finals(history, &bounds, &mut evidence);
    let renewals: usize = judge.leases.values().map(|lease| lease.good.len()).sum();
    let summary = format!(
        "{} leases renewed {} times, {looked} looks at their keys: {} too early or too late",
        judge.leases.len(),
        renewals - judge.leases.len().min(renewals),
        evidence.len()
    );
    Some(Finding::from_evidence(Property::Leases, summary, evidence))
}

fn leases(history: &History) -> BTreeMap<&str, Lease<'_>> {
    let mut leases: BTreeMap<&str, Lease<'_>> = BTreeMap::new();
    for op in &history.ops {
        let (Action::Grant { ttl_ms }, Some(ret)) = (&op.invoke.action, op.answer()) else {
            continue;
        };
        let Some(id) = &ret.lease else { continue };
        let ttl_us = ret.ttl_ms.unwrap_or(*ttl_ms) * 1_000;
        let lease = Lease {
            owner: ret.node.unwrap_or(op.invoke.node),
            good: vec![(op, ttl_us)],
            latest_us: ret.at_us + ttl_us,
            revokes: Vec::new(),
        };
        leases.insert(id, lease);
    }
    for op in &history.ops {
        let Some(lease) = op.invoke.lease.as_deref().and_then(|id| leases.get_mut(id)) else {
            continue;
        };
        match (&op.invoke.action, op.outcome()) {
            (_, Outcome::Fail) => {}
            (Action::KeepAlive, outcome) => {
                let ttl_us = lease.good[0].1;
                let told = op.answer().and_then(|ret| ret.ttl_ms);
                let ttl_us = told.map_or(ttl_us, |ms| ms * 1_000);
                let ended = op
                    .returned_us()
                    .unwrap_or(op.invoke.at_us + op.invoke.timeout_us);
                lease.latest_us = lease.latest_us.max(ended + ttl_us);
                if outcome == Outcome::Ok {
                    lease.good.push((op, ttl_us));
                }
            }
            (Action::Revoke, _) => lease.revokes.push(op),
            (
                Action::Get
                | Action::Put(_)
                | Action::Delete
                | Action::Cas(_)
                | Action::List
                | Action::Grant { .. },
                _,
            ) => {}
        }
    }
    leases
}

fn bounds(history: &History) -> BTreeMap<&str, Vec<Bound<'_>>> {
    let mut bounds: BTreeMap<&str, Vec<Bound<'_>>> = BTreeMap::new();
    for op in history.ops.iter().filter(|op| op.is_acked_write()) {
        let (Some(lease), Some(value), Some(acked_us)) = (
            op.invoke.lease.as_deref(),
            op.invoke.action.written(),
            op.returned_us(),
        ) else {
            continue;
        };
        bounds.entry(&op.invoke.key).or_default().push(Bound {
            op,
            acked_us,
            lease,
            value,
        });
    }
    bounds
}

/// Whatever may have changed a bound key.
fn writes<'a>(
    history: &'a History,
    bounds: &BTreeMap<&'a str, Vec<Bound<'a>>>,
) -> BTreeMap<&'a str, Vec<&'a Op>> {
    let mut writes: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        let changed = op.outcome() == Outcome::Unknown || op.is_acked_write();
        if op.invoke.action.is_write() && changed && bounds.contains_key(op.invoke.key.as_str()) {
            writes.entry(&op.invoke.key).or_default().push(op);
        }
    }
    writes
}

fn sights<'a>(
    history: &'a History,
    bounds: &BTreeMap<&'a str, Vec<Bound<'a>>>,
) -> BTreeMap<&'a str, Vec<Sight<'a>>> {
    let mut sights: BTreeMap<&str, Vec<Sight<'_>>> = BTreeMap::new();
    for op in &history.ops {
        let Some(ret) = op.answer() else { continue };
        let linearizable = is_linearizable(history.header.mode, op, ret);
        let mut saw = |key: &'a str, value: Option<&'a str>| {
            let to_us = ret.at_us;
            sights.entry(key).or_default().push(Sight {
                op,
                to_us,
                value,
                linearizable,
            });
        };
        let (asked, shown) = (op.invoke.key.as_str(), ret.values.first());
        match &op.invoke.action {
            Action::Get => saw(asked, shown.map(String::as_str)),
            // A won compare with absence saw just that; a lost one shows what it found, if anything.
            Action::Cas(cas) if cas.expected.is_none() && ret.succeeded == Some(true) => {
                saw(asked, None);
            }
            Action::Cas(_) if shown.is_some() => saw(asked, shown.map(String::as_str)),
            Action::List => {
                let found: BTreeMap<&str, &str> = ret
                    .entries
                    .iter()
                    .filter_map(|entry| Some((entry.key.as_str(), entry.values.first()?.as_str())))
                    .collect();
                let under = bounds.range(asked..);
                for (key, _) in under.take_while(|(key, _)| key.starts_with(asked)) {
                    saw(key, found.get(key).copied());
                }
            }
            Action::Cas(_)
            | Action::Put(_)
            | Action::Delete
            | Action::Grant { .. }
            | Action::KeepAlive
            | Action::Revoke => {}
        }
    }
    sights
}

struct Judge<'a> {
    mode: Mode,
    faults: Vec<Disturbance>,
    leases: BTreeMap<&'a str, Lease<'a>>,
    writes: BTreeMap<&'a str, Vec<&'a Op>>,
    sights: BTreeMap<&'a str, Vec<Sight<'a>>>,
}

impl<'a> Judge<'a> {
    /// One write under a lease and all that looked at it later; how many looks were judged.
    fn bound(&self, key: &str, bound: &Bound<'a>, evidence: &mut Vec<Evidence>) -> u64 {
        let Some(lease) = self.leases.get(bound.lease) else {
            return 0;
        };
        let mut looked = 0;
        let later = self.sights.get(key).into_iter().flatten();
        for sight in later.filter(|sight| sight.op.invoke.at_us > bound.acked_us) {
            if !self.is_current(lease, bound, sight) {
                continue;
            }
            looked += 1;
            let found = if sight.value.is_none() {
                self.early(key, lease, bound, sight)
            } else if sight.value == Some(bound.value) {
                self.late(key, lease, bound, sight)
            } else {
                None
            };
            evidence.extend(found);
        }
        looked
    }

    /// Whether the answer can't be an old one.
    fn is_current(&self, lease: &Lease<'_>, bound: &Bound<'_>, sight: &Sight<'_>) -> bool {
        match self.mode {
            Mode::Strong => sight.linearizable,
            Mode::Eventual => {
                let owner = lease.owner;
                let at_owner = sight.op.invoke.node == owner && bound.op.invoke.node == owner;
                at_owner && !self.stopped(owner, bound.op.invoke.at_us, sight.to_us)
            }
        }
    }

    fn stopped(&self, node: NodeId, from_us: u64, to_us: u64) -> bool {
        let stops = |fault: &&Disturbance| fault.stops() && fault.nodes.contains(&node);
        self.faults
            .iter()
            .filter(stops)
            .any(|fault| fault.overlaps(from_us, to_us))
    }

    /// The promise that an end at this time breaks.
    fn promise(&self, lease: &Lease<'a>, at_us: u64) -> Option<(&'a Op, u64)> {
        let revoked = lease.revokes.iter().any(|op| op.invoke.at_us <= at_us);
        let until = |&(op, ttl_us): &(&'a Op, u64)| {
            let drift = self.faults.iter().any(|fault| {
                fault.action == FaultAction::ClockDrift && fault.overlaps(op.invoke.at_us, at_us)
            });
            let drifted = if drift {
                ttl_us * DRIFT_PERCENT / 100
            } else {
                0
            };
            let until_us = op.invoke.at_us + ttl_us - drifted;
            (op, until_us.saturating_sub(ROUNDING_US))
        };
        let last = lease
            .good
            .iter()
            .map(until)
            .max_by_key(|&(_, until)| until)?;
        (!revoked && at_us < last.1).then_some(last)
    }

    fn early(
        &self,
        key: &str,
        lease: &Lease<'a>,
        bound: &Bound<'a>,
        sight: &Sight<'a>,
    ) -> Option<Evidence> {
        let (promise, until_us) = self.promise(lease, sight.to_us)?;
        let before_bound = |op: &Op| {
            let ended = op.answer().map(|ret| ret.at_us);
            ended.is_some_and(|ended| ended < bound.op.invoke.at_us)
        };
        let changes = |op: &Op| {
            let own = [bound.op.id(), sight.op.id()].contains(&op.id());
            !own && op.invoke.at_us <= sight.to_us && !before_bound(op)
        };
        if self.writes.get(key)?.iter().any(|op| changes(op)) {
            return None;
        }
        let text = format!(
            "{key} was gone {} ms before its lease {} could end",
            (until_us - sight.to_us) / 1_000,
            bound.lease
        );
        Some(Evidence::new(text, &[promise, bound.op, sight.op]))
    }

    fn late(
        &self,
        key: &str,
        lease: &Lease<'a>,
        bound: &Bound<'a>,
        sight: &Sight<'a>,
    ) -> Option<Evidence> {
        let from_us = sight.op.invoke.at_us;
        let gone = |op: &&&Op| op.answer().is_some_and(|ret| ret.at_us < from_us);
        if let Some(revoke) = lease.revokes.iter().find(gone) {
            let text = format!(
                "{key} outlived its lease {}, which was revoked",
                bound.lease
            );
            return Some(Evidence::new(text, &[bound.op, revoke, sight.op]));
        }
        let deadline_us = self.deadline_us(lease, from_us);
        (from_us > deadline_us).then(|| {
            let text = format!(
                "{key} outlived its lease {} by {} ms, {} ms more than the slack",
                bound.lease,
                (from_us - lease.latest_us) / 1_000,
                (from_us - deadline_us) / 1_000
            );
            Evidence::new(
                text,
                &[lease.good[lease.good.len() - 1].0, bound.op, sight.op],
            )
        })
    }

    /// When the lease must have ended, as asked at this time.
    fn deadline_us(&self, lease: &Lease<'_>, asked_us: u64) -> u64 {
        let ttl_us = lease.good[0].1;
        let granted_us = lease.good[0].0.invoke.at_us;
        let held = self
            .faults
            .iter()
            .filter(|fault| fault.overlaps(granted_us, asked_us));
        let healed_us = held.map(|fault| fault.to_us).max().unwrap_or(0);
        let from_faults = healed_us.saturating_add(ttl_us);
        lease
            .latest_us
            .max(from_faults)
            .saturating_add(LATE_SLACK_US)
    }

    /// Keep-alives that found no lease, though nobody revoked it and its time wasn't up.
    fn keep_alives(&self, history: &'a History) -> Vec<Evidence> {
        let mut found = Vec::new();
        for op in &history.ops {
            let (Action::KeepAlive, Some(ret)) = (&op.invoke.action, &op.ret) else {
                continue;
            };
            let missed = ret.is_lease_gone();
            let lease = op
                .invoke
                .lease
                .as_deref()
                .and_then(|id| self.leases.get(id));
            let Some(lease) = lease.filter(|_| missed) else {
                continue;
            };
            let owner = lease.owner;
            let elsewhere = self.mode == Mode::Eventual
                && (op.invoke.node != owner
                    || self.stopped(owner, lease.good[0].0.invoke.at_us, ret.at_us));
            if elsewhere {
                continue;
            }
            if let Some((promise, until_us)) = self.promise(lease, ret.at_us) {
                let text = format!(
                    "lease {} was gone {} ms before its time",
                    op.invoke.lease(),
                    (until_us - ret.at_us) / 1_000
                );
                found.push(Evidence::new(text, &[promise, op]));
            }
        }
        found
    }

    /// Entries that a node still holds at the end, though their lease is long over.
    fn finals(
        &self,
        history: &History,
        bounds: &BTreeMap<&str, Vec<Bound<'a>>>,
        evidence: &mut Vec<Evidence>,
    ) {
        for state in &history.finals {
            for entry in &state.entries {
                let bounds = bounds
                    .get(entry.key.as_str())
                    .map_or(&[][..], Vec::as_slice);
                let holds = |bound: &&Bound<'_>| {
                    entry.values.first().map(String::as_str) == Some(bound.value)
                };
                let Some(bound) = bounds.iter().rfind(holds) else {
                    continue;
                };
                let Some(lease) = self.leases.get(bound.lease) else {
                    continue;
                };
                if state.at_us > self.deadline_us(lease, state.at_us) {
                    let text = format!(
                        "{} still holds {} at the end, long after its lease {}",
                        state.node, entry.key, bound.lease
                    );
                    evidence.push(Evidence::new(text, &[bound.op]));
                }
            }
        }
    }
}
