//! Linearizability, key by key: there is one order of the operations on a key that agrees with real time and in
//! which every answer is what a single copy would have given (Herlihy and Wing, 1990).
//!
//! Judged are all writes, and the reads that were answered as linearizable; a weaker answer that says so is not. A list is a read of
//! each key under its prefix; that it is of one moment is not asked.
//! Refused operations are left out. A write of unknown outcome may take effect at any time after its call, or never.
//!
//! The end of a lease is an unknown compare-and-set from each value that was written under it to absence, at any time after that
//! write began ("not before its time" is the lease checker's).
//!
//! These reductions keep the search short; each is exact. A write of unknown outcome that nobody saw is dropped: in
//! any order that has it, nothing is read between it and the next write (under a lease it becomes a delete: its end is all that anybody
//! may have seen). A delete of unknown outcome goes if nobody saw an absence after it began. An unknown write that was seen, and whose
//! value nobody else wrote, took effect before the first read that saw it returned, and at the revision which that read showed. A write
//! of known revision is placed after those of lower revision only.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::search::{Answer, RegisterOp, Step, Value, search};
use super::{EVIDENCE_MAX, Evidence, Finding, Property, Verdict, is_linearizable, witness};
use crate::history::{Action, Cas, History, Mode, Op, Outcome, Return, Version};

/// Which reads are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Those that were answered as linearizable.
    Claimed,
    /// All, whatever they claim: what a known-bad history is judged by.
    All,
}

/// Steps for one key, after which the verdict is unknown. A step costs at most one configuration in the memo, about
/// 100 bytes (which [`super::search::MEMO_BYTES_MAX`] bounds besides); a key of this workload takes some hundred steps.
pub const STEP_BUDGET: u64 = 4_000_000;

/// Judges a history, key by key, with at most `budget` steps for each key.
pub fn check(history: &History, reads: Reads, budget: u64) -> Finding {
    let keys = by_key(history);
    let (mut judged, mut undecided, mut illegal) = (0, 0, 0);
    let mut evidence = Vec::new();
    for (key, ops) in &keys {
        let register = prepare(key, ops, history.header.mode, reads);
        judged += register.len();
        match search(&register, budget) {
            Answer::Linearizable => {}
            Answer::OutOfSteps => undecided += 1,
            Answer::Illegal => {
                illegal += 1;
                if evidence.len() < EVIDENCE_MAX {
                    evidence.push(explain(key, ops, &register, budget));
                }
            }
        }
    }
    let mut summary = format!(
        "{judged} operations on {} keys, {illegal} keys have no linear order",
        keys.len()
    );
    if undecided > 0 {
        summary.push_str(&format!(
            ", {undecided} were not decided within {budget} steps"
        ));
    }
    let mut finding = Finding::from_evidence(Property::Linearizability, summary, evidence);
    if finding.verdict == Verdict::Valid && undecided > 0 {
        finding.verdict = Verdict::Unknown;
    }
    finding
}

fn by_key(history: &History) -> BTreeMap<&str, Vec<&Op>> {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    let (lists, single): (Vec<&Op>, Vec<&Op>) = history
        .ops
        .iter()
        .partition(|op| op.invoke.action == Action::List);
    for op in single {
        keys.entry(&op.invoke.key).or_default().push(op);
    }
    for list in lists {
        let prefix = list.invoke.key.as_str();
        let under = keys.range_mut(prefix..);
        for (_, ops) in under.take_while(|(key, _)| key.starts_with(prefix)) {
            ops.push(list);
        }
    }
    keys
}

fn explain(key: &str, ops: &[&Op], register: &[RegisterOp], budget: u64) -> Evidence {
    let smallest = witness::shrink(register, budget);
    let mut places: Vec<usize> = smallest.iter().map(|op| op.id).collect();
    // A write and the end of its lease are one operation of the history.
    places.dedup();
    let shown: Vec<&Op> = places.iter().map(|&place| ops[place]).collect();
    let text = format!(
        "no linear order for {key}: these {} operations alone contradict each other",
        shown.len()
    );
    Evidence::new(text, &shown)
}

/// The operations on one key as the search wants them; `id` is the place in `ops`.
pub(super) fn prepare(key: &str, ops: &[&Op], mode: Mode, reads: Reads) -> Vec<RegisterOp> {
    let mut values = Values::default();
    let mut register: Vec<RegisterOp> = Vec::new();
    for (id, op) in ops.iter().enumerate() {
        let Some(step) = step(key, op, mode, reads, &mut values) else {
            continue;
        };
        let ret = if op.outcome() == Outcome::Ok {
            op.returned_us()
        } else {
            None
        };
        register.push(RegisterOp {
            id,
            call: op.invoke.at_us,
            ret,
            step,
        });
        if let (Some(_), Some(value)) = (&op.invoke.lease, written(step)) {
            register.push(RegisterOp {
                id,
                call: op.invoke.at_us,
                ret: None,
                step: lease_end(value),
            });
        }
    }
    settle_unknown(&mut register, &values.shown_at);
    register.sort_by_key(|op| (op.call, op.id));
    register
}

/// Values as numbers, and the revision at which each was first seen.
#[derive(Default)]
struct Values<'a> {
    numbers: HashMap<&'a str, u32>,
    shown_at: HashMap<u32, u64>,
}

impl<'a> Values<'a> {
    fn number(&mut self, value: &'a str) -> Value {
        let next = self.numbers.len() as u32;
        Some(*self.numbers.entry(value).or_insert(next))
    }

    fn optional(&mut self, value: Option<&'a str>) -> Value {
        value.and_then(|value| self.number(value))
    }

    fn seen(&mut self, ret: &'a Return) -> Value {
        self.shown(&ret.values, ret.version.as_ref())
    }

    fn shown(&mut self, values: &'a [String], version: Option<&Version>) -> Value {
        let value = self.optional(values.first().map(String::as_str));
        if let (Some(number), Some(revision)) = (value, version.and_then(of_version)) {
            self.shown_at.entry(number).or_insert(revision);
        }
        value
    }
}

fn revision(ret: &Return) -> Option<u64> {
    ret.version.as_ref().and_then(of_version)
}

fn of_version(version: &Version) -> Option<u64> {
    match version {
        Version::Strong { revision } => Some(*revision),
        Version::Eventual { .. } => None,
    }
}

fn is_judged(op: &Op, ret: &Return, mode: Mode, reads: Reads) -> bool {
    match reads {
        Reads::All => true,
        Reads::Claimed => is_linearizable(mode, op, ret),
    }
}

fn step<'a>(
    key: &str,
    op: &'a Op,
    mode: Mode,
    reads: Reads,
    values: &mut Values<'a>,
) -> Option<Step> {
    let ok = op.answer();
    match (&op.invoke.action, op.outcome()) {
        (_, Outcome::Fail) | (Action::Get | Action::List, Outcome::Unknown) => None,
        (Action::Get, Outcome::Ok) => {
            let ret = ok?;
            let value = values.seen(ret);
            is_judged(op, ret, mode, reads).then_some(Step::Read(value))
        }
        (Action::Put(value), _) => Some(Step::Write(values.number(value), ok.and_then(revision))),
        (Action::Delete, Outcome::Ok) if ok.is_some_and(Return::deleted_nothing) => {
            Some(Step::Read(None))
        }
        (Action::Delete, _) => Some(Step::Write(None, ok.and_then(revision))),
        (Action::Cas(cas), _) => Some(cas_step(cas, ok, values)),
        (Action::List, Outcome::Ok) => {
            let ret = ok?;
            let entry = ret.entries.iter().find(|entry| entry.key == key);
            let value = entry.and_then(|entry| values.shown(&entry.values, entry.version.as_ref()));
            is_judged(op, ret, mode, reads).then_some(Step::Read(value))
        }
        (Action::Grant { .. } | Action::KeepAlive | Action::Revoke, _) => None,
    }
}

fn cas_step<'a>(cas: &'a Cas, ok: Option<&'a Return>, values: &mut Values<'a>) -> Step {
    let expected = values.optional(cas.expected.as_deref());
    let Some(ret) = ok.filter(|ret| ret.succeeded == Some(false)) else {
        return Step::Swap {
            expected,
            value: values.number(&cas.value),
            revision: ok.and_then(revision),
        };
    };
    // An entry without a version is one that the answer did not show.
    let showed = !ret.values.is_empty() || ret.version.is_some();
    let saw = values.seen(ret);
    match (showed, saw == expected) {
        (true, true) => Step::Absurd,
        (true, false) => Step::Read(saw),
        (false, _) => Step::SwapLost(expected),
    }
}

/// What the end of its lease does to a value.
fn lease_end(value: u32) -> Step {
    Step::Swap {
        expected: Some(value),
        value: None,
        revision: None,
    }
}

fn written(step: Step) -> Value {
    match step {
        Step::Write(value, _) | Step::Swap { value, .. } => value,
        Step::Read(_) | Step::SwapLost(_) | Step::Absurd => None,
    }
}

/// Drops the unknown writes that nobody saw, and pins down those that somebody did.
fn settle_unknown(register: &mut Vec<RegisterOp>, shown_at: &HashMap<u32, u64>) {
    let seen = Seen::of(register, shown_at);
    drop_unseen(register, &seen);
    // A write that is seen before it begins stays unknown, and the search finds that no order explains it.
    for op in register.iter_mut().filter(|op| op.ret.is_none()) {
        let Some(value) = written(op.step).filter(|value| seen.writers.get(value) == Some(&1))
        else {
            continue;
        };
        let shown = shown_at.get(&value).copied();
        op.step = match op.step {
            Step::Write(value, _) => Step::Write(value, shown),
            Step::Swap {
                expected, value, ..
            } => Step::Swap {
                expected,
                value,
                revision: shown,
            },
            Step::Read(_) | Step::SwapLost(_) | Step::Absurd => op.step,
        };
        let first = seen.first.get(&value).copied();
        op.ret = first.filter(|&ret| ret >= op.call);
    }
}

/// What the operations of a key show of each other.
#[derive(Default)]
struct Seen {
    /// How many wrote each value.
    writers: HashMap<u32, u32>,
    /// When the first answer that certainly showed the value returned.
    first: HashMap<u32, u64>,
    /// Values that somebody saw or compared with.
    touched: HashSet<u32>,
    /// When the last answer that may have shown an absence returned; none = there is none.
    absent: Option<u64>,
    /// Whether a lost compare showed no entry: then it may have been any, and no write is certainly unseen.
    blind: bool,
}

impl Seen {
    fn of(register: &[RegisterOp], shown_at: &HashMap<u32, u64>) -> Self {
        let touched = shown_at.keys().copied().collect();
        let mut seen = Self {
            touched,
            ..Self::default()
        };
        // An unknown compare-and-set may have found what it expected at any time.
        for op in register {
            let ret = op.ret.unwrap_or(u64::MAX);
            if let Some(value) = written(op.step) {
                *seen.writers.entry(value).or_default() += 1;
            }
            match op.step {
                Step::Read(Some(value))
                | Step::Swap {
                    expected: Some(value),
                    ..
                } if op.step != lease_end(value) || op.ret.is_some() => {
                    seen.touched.insert(value);
                    if op.ret.is_some() {
                        let first = seen.first.entry(value).or_insert(ret);
                        *first = ret.min(*first);
                    }
                }
                Step::Read(None) | Step::Swap { expected: None, .. } => {
                    seen.absent = seen.absent.max(Some(ret));
                }
                Step::SwapLost(value) => {
                    seen.touched.extend(value);
                    seen.absent = seen.absent.max(Some(ret));
                    seen.blind = true;
                }
                Step::Read(Some(_)) | Step::Swap { .. } | Step::Write(..) | Step::Absurd => {}
            }
        }
        seen
    }
}

/// Leaves out what no order needs, and turns an unseen write under a lease into the delete that its end is.
fn drop_unseen(register: &mut Vec<RegisterOp>, seen: &Seen) {
    if seen.blind {
        return;
    }
    let mut ended: HashSet<u32> = HashSet::new();
    for op in register.iter().filter(|op| op.ret.is_none()) {
        if let Step::Swap {
            expected: Some(value),
            value: None,
            ..
        } = op.step
        {
            ended.insert(value);
        }
    }
    // Where several writes share a value, nobody can tell whose end it was.
    let shared = |value: u32| ended.contains(&value) && seen.writers.get(&value) != Some(&1);
    let unseen = |value: u32| !seen.touched.contains(&value) && !shared(value);
    let mut unknown: HashSet<u32> = HashSet::new();
    for op in register.iter_mut().filter(|op| op.ret.is_none()) {
        let Some(value) = written(op.step).filter(|&value| unseen(value)) else {
            continue;
        };
        unknown.insert(value);
        if ended.contains(&value) {
            op.step = match op.step {
                Step::Swap { expected, .. } => Step::Swap {
                    expected,
                    value: None,
                    revision: None,
                },
                Step::Write(..) | Step::Read(_) | Step::SwapLost(_) | Step::Absurd => {
                    Step::Write(None, None)
                }
            };
        }
    }
    let absence_seen = |op: &RegisterOp| seen.absent.is_some_and(|last| last >= op.call);
    let needed = |op: &RegisterOp| match op.step {
        // The end of a write that became its own end.
        Step::Swap {
            expected: Some(value),
            value: None,
            ..
        } if unknown.contains(&value) => false,
        // It changes nothing.
        Step::Swap {
            expected: None,
            value: None,
            ..
        } => false,
        Step::Write(None, _) | Step::Swap { value: None, .. } => absence_seen(op),
        Step::Write(Some(value), _)
        | Step::Swap {
            value: Some(value), ..
        } => !unseen(value),
        Step::Read(_) | Step::SwapLost(_) | Step::Absurd => true,
    };
    register.retain(|op| op.ret.is_some() || needed(op));
}

#[cfg(test)]
mod tests;
