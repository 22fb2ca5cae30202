//! Set-full: what became of each element of a grow-only set (Jepsen's `set-full`), the judge that both modes share.
//!
//! An element is a key that is put once, and read by lists of a prefix that it begins with. It is *known* from its acknowledgement
//! or the end of the first read that showed it, whichever came first. Only an absence in a read that began after that counts:
//!
//! - *stable*: no such absence after the last read that showed it. Its **stable latency** is the time from known to the start of the
//!   last read without it, 0 if there was none. *Stale* is what is stable with a latency above 0;
//! - *lost*: the last reads are without it. The final states count as one last read, which shows what any node holds;
//! - *never read*: acknowledged, and no read began later.
//!
//! Lost is broken in both modes (eventual: only by the final states, before which the element may merely be late). Strong: an absence
//! in a linearizable read is broken too, stable later or not. Keys under a lease, and keys that anybody deletes or
//! compares, are no elements.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::{Evidence, Finding, Property, Verdict, is_linearizable};
use crate::history::{Action, History, Mode, Op, OpId, Outcome};

/// What became of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElementFate {
    /// Shown by every read that began after it was known.
    Stable,
    /// Missed by some, then shown.
    Stale,
    /// Missed by the last.
    Lost,
    /// Nobody looked.
    NeverRead,
}

/// One element that was acknowledged or seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// The operation that added it.
    pub add: OpId,
    /// What became of it.
    pub fate: ElementFate,
    /// Stable and stale: the stable latency. Lost: from known to the start of the last read without it.
    pub latency_us: u64,
}

/// All elements of a history, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFigures {
    /// Elements that somebody tried to add.
    pub attempts: u64,
    /// Those acknowledged or seen.
    pub known: u64,
    /// Of those, stable at once.
    pub stable: u64,
    /// Missed by some read, then stable.
    pub stale: u64,
    /// Lost.
    pub lost: u64,
    /// Never read.
    pub never_read: u64,
    /// The median stable latency of the stable and the stale.
    pub latency_p50_us: u64,
    /// The 99th percentile.
    pub latency_p99_us: u64,
    /// The highest.
    pub latency_max_us: u64,
}

/// What the sets of a history show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    /// The verdict.
    pub finding: Finding,
    /// The counts.
    pub figures: SetFigures,
    /// Each element, by key.
    pub elements: Vec<Element>,
}

struct Read<'a> {
    op: &'a Op,
    from_us: u64,
    to_us: u64,
    keys: BTreeSet<&'a str>,
    linearizable: bool,
}

struct Add<'a> {
    op: &'a Op,
    known_us: Option<u64>,
    last_present_us: Option<u64>,
    last_absent: Option<&'a Op>,
    /// Strong: a linearizable read without it.
    broken: Option<&'a Op>,
}

/// Judges a history of either mode; none = it has no set.
pub fn check(history: &History) -> Option<Sets> {
    let reads = reads(history);
    let mut adds = adds(history, &reads);
    if adds.is_empty() {
        return None;
    }
    for read in &reads {
        under(&mut adds, &read.op.invoke.key, |key, add| {
            if read.keys.contains(key) && add.op.outcome() != Outcome::Fail {
                add.known_us = Some(add.known_us.unwrap_or(u64::MAX).min(read.to_us));
                add.last_present_us = add.last_present_us.max(Some(read.from_us));
            }
        });
    }
    for read in &reads {
        under(&mut adds, &read.op.invoke.key, |key, add| {
            let counts = add.known_us.is_some_and(|known| known < read.from_us);
            if !read.keys.contains(key) && counts {
                add.last_absent = Some(read.op);
                if read.linearizable {
                    add.broken = add.broken.or(Some(read.op));
                }
            }
        });
    }
    Some(conclude(history, &adds))
}

/// Lists that were answered, in order of their start.
fn reads(history: &History) -> Vec<Read<'_>> {
    let mut reads: Vec<Read<'_>> = Vec::new();
    for op in &history.ops {
        let (Action::List, Some(ret)) = (&op.invoke.action, op.answer()) else {
            continue;
        };
        let present = ret.entries.iter().filter(|entry| !entry.values.is_empty());
        reads.push(Read {
            op,
            from_us: op.invoke.at_us,
            to_us: ret.at_us,
            keys: present.map(|entry| entry.key.as_str()).collect(),
            linearizable: is_linearizable(history.header.mode, op, ret),
        });
    }
    reads.sort_by_key(|read| (read.from_us, read.op.id()));
    reads
}

/// The elements, by key.
fn adds<'a>(history: &'a History, reads: &[Read<'a>]) -> BTreeMap<&'a str, Add<'a>> {
    let prefixes: BTreeSet<&str> = reads
        .iter()
        .map(|read| read.op.invoke.key.as_str())
        .collect();
    let listed = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let mut others: BTreeSet<&str> = BTreeSet::new();
    let mut adds: BTreeMap<&str, Add<'_>> = BTreeMap::new();
    for op in history.ops.iter().filter(|op| op.invoke.action.is_write()) {
        let key = op.invoke.key.as_str();
        let is_put = matches!(op.invoke.action, Action::Put(_)) && op.invoke.lease.is_none();
        if !is_put || !listed(key) || adds.contains_key(key) {
            others.insert(key);
            continue;
        }
        let known_us = op.answer().map(|ret| ret.at_us);
        let add = Add {
            op,
            known_us,
            last_present_us: None,
            last_absent: None,
            broken: None,
        };
        adds.insert(key, add);
    }
    adds.retain(|key, _| !others.contains(key));
    adds
}

fn under<'a>(
    adds: &mut BTreeMap<&'a str, Add<'a>>,
    prefix: &'a str,
    mut visit: impl FnMut(&str, &mut Add<'a>),
) {
    let from = (Bound::Included(prefix), Bound::Unbounded);
    for (key, add) in adds.range_mut::<str, _>(from) {
        if !key.starts_with(prefix) {
            break;
        }
        visit(key, add);
    }
}

fn conclude(history: &History, adds: &BTreeMap<&str, Add<'_>>) -> Sets {
    let mut figures = SetFigures::default();
    let (mut elements, mut latencies) = (Vec::new(), Vec::new());
    let (mut evidence, mut late) = (Vec::new(), 0u64);
    let held: BTreeSet<&str> = history
        .finals
        .iter()
        .flat_map(|state| &state.entries)
        .filter(|entry| !entry.values.is_empty())
        .map(|entry| entry.key.as_str())
        .collect();
    for (key, add) in adds {
        figures.attempts += 1;
        let Some(known_us) = add.known_us else {
            continue;
        };
        figures.known += 1;
        let end = (!history.finals.is_empty()).then(|| held.contains(key));
        let fate = fate(add, end);
        let missed = add.last_absent.map(|op| op.invoke.at_us);
        let latency_us = missed.map_or(0, |at| at - known_us);
        match fate {
            ElementFate::Stable => figures.stable += 1,
            ElementFate::Stale => figures.stale += 1,
            ElementFate::Lost => figures.lost += 1,
            ElementFate::NeverRead => figures.never_read += 1,
        }
        if matches!(fate, ElementFate::Stable | ElementFate::Stale) {
            latencies.push(latency_us);
        }
        let proven = history.header.mode == Mode::Strong || end == Some(false);
        if fate == ElementFate::Lost && !proven {
            late += 1;
        } else if let Some(text) = broken_text(key, add, fate) {
            let mut ops = vec![add.op];
            ops.extend(add.broken.or(add.last_absent));
            evidence.push(Evidence::new(text, &ops));
        }
        elements.push(Element {
            add: add.op.id(),
            fate,
            latency_us,
        });
    }
    latencies.sort_unstable();
    let at = |percent: usize| {
        let place = (latencies.len() * percent).div_ceil(100).max(1) - 1;
        latencies.get(place).copied().unwrap_or(0)
    };
    figures.latency_p50_us = at(50);
    figures.latency_p99_us = at(99);
    figures.latency_max_us = at(100);
    let mut finding = Finding::from_evidence(Property::SetFull, summary(&figures), evidence);
    let unseen = figures.known > 0 && figures.never_read == figures.known;
    if finding.verdict == Verdict::Valid && (late > 0 || unseen) {
        finding.verdict = Verdict::Unknown;
        finding.summary += if unseen {
            "; nobody read the sets after that"
        } else {
            "; without a final state nobody can tell lost from late"
        };
    }
    Sets {
        finding,
        figures,
        elements,
    }
}

/// `end` says whether any node holds it at the end; none = no node was read then.
fn fate(add: &Add<'_>, end: Option<bool>) -> ElementFate {
    let missed = add.last_absent.map(|op| op.invoke.at_us);
    match (end, missed) {
        (Some(false), _) => ElementFate::Lost,
        (Some(true), None) => ElementFate::Stable,
        (Some(true), Some(_)) => ElementFate::Stale,
        (None, None) if add.last_present_us.is_none() => ElementFate::NeverRead,
        (None, None) => ElementFate::Stable,
        (None, missed) if add.last_present_us > missed => ElementFate::Stale,
        (None, Some(_)) => ElementFate::Lost,
    }
}

fn broken_text(key: &str, add: &Add<'_>, fate: ElementFate) -> Option<String> {
    let lost = fate == ElementFate::Lost;
    let text = match (lost, add.broken) {
        (true, _) => "was known and is lost",
        (false, Some(_)) => "was known, and missed by a linearizable read that began later",
        (false, None) => return None,
    };
    Some(format!("the element {key} {text}"))
}

fn summary(figures: &SetFigures) -> String {
    format!(
        "{} elements known of {} tried: {} stable at once, {} stale, {} lost, {} never read; stable after {} ms at the median, {} ms at most",
        figures.known,
        figures.attempts,
        figures.stable,
        figures.stale,
        figures.lost,
        figures.never_read,
        figures.latency_p50_us / 1_000,
        figures.latency_max_us / 1_000
    )
}
