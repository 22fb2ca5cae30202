//! Linearizability, key by key: there is one order of the operations on a key that agrees with real time and in
//! which every answer is what a single copy would have given (Herlihy and Wing, 1990).
//!
//! Judged are all writes, and the reads that were answered as linearizable; a weaker answer that says so is not.
//! Refused operations are left out. A write of unknown outcome may take effect at any time after its call, or never.
//!
//! Three reductions keep the search short; each is exact. A write of unknown outcome that nobody saw is dropped: in
//! any order that has it, nothing is read between it and the next write. One that was seen, and whose value nobody
//! else wrote, took effect before the first read that saw it returned, and at the revision which that read showed. A write of known revision
//! is placed after those of lower revision only.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::search::{Answer, RegisterOp, Step, Value, search};
use super::{EVIDENCE_MAX, Evidence, Finding, Property, Verdict, witness};
use crate::history::{Action, Cas, History, Level, Mode, Op, Outcome, Return, Version};

/// Which reads are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Those that were answered as linearizable.
    Claimed,
    /// All, whatever they claim: what a known-bad history is judged by.
    All,
}

/// Steps for one key, after which the verdict is unknown. A step costs at most one configuration in the memo, about
/// 100 bytes, so a key costs at most 400 MB; a key of this workload takes some hundred steps.
pub const STEP_BUDGET: u64 = 4_000_000;

/// Judges a history, key by key, with at most `budget` steps for each key.
pub fn check(history: &History, reads: Reads, budget: u64) -> Finding {
    let keys = by_key(history);
    let (mut judged, mut undecided, mut illegal) = (0, 0, 0);
    let mut evidence = Vec::new();
    for (key, ops) in &keys {
        let register = prepare(ops, history.header.mode, reads);
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
    for op in &history.ops {
        keys.entry(&op.invoke.key).or_default().push(op);
    }
    keys
}

fn explain(key: &str, ops: &[&Op], register: &[RegisterOp], budget: u64) -> Evidence {
    let smallest = witness::shrink(register, budget);
    let shown: Vec<&Op> = smallest.iter().map(|op| ops[op.id]).collect();
    let text = format!(
        "no linear order for {key}: these {} operations alone contradict each other",
        shown.len()
    );
    Evidence::new(text, &shown)
}

/// The operations on one key as the search wants them; `id` is the place in `ops`.
pub(super) fn prepare(ops: &[&Op], mode: Mode, reads: Reads) -> Vec<RegisterOp> {
    let mut values = Values::default();
    let mut register: Vec<RegisterOp> = Vec::new();
    for (id, op) in ops.iter().enumerate() {
        let Some(step) = step(op, mode, reads, &mut values) else {
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
        let value = self.optional(ret.values.first().map(String::as_str));
        if let (Some(number), Some(revision)) = (value, revision(ret)) {
            self.shown_at.entry(number).or_insert(revision);
        }
        value
    }
}

fn revision(ret: &Return) -> Option<u64> {
    match ret.version {
        Some(Version::Strong { revision }) => Some(revision),
        Some(Version::Eventual { .. }) | None => None,
    }
}

fn is_judged(op: &Op, ret: &Return, mode: Mode, reads: Reads) -> bool {
    let default = match mode {
        Mode::Strong => Level::Linearizable,
        Mode::Eventual => Level::Local,
    };
    match reads {
        Reads::All => true,
        Reads::Claimed => ret.got.or(op.invoke.level).unwrap_or(default) == Level::Linearizable,
    }
}

fn step<'a>(op: &'a Op, mode: Mode, reads: Reads, values: &mut Values<'a>) -> Option<Step> {
    let ok = op.answer();
    match (&op.invoke.action, op.outcome()) {
        (_, Outcome::Fail) | (Action::Get, Outcome::Unknown) => None,
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

fn written(step: Step) -> Value {
    match step {
        Step::Write(value, _) | Step::Swap { value, .. } => value,
        Step::Read(_) | Step::SwapLost(_) | Step::Absurd => None,
    }
}

/// Drops the unknown writes that nobody saw, and pins down those that somebody did.
fn settle_unknown(register: &mut Vec<RegisterOp>, shown_at: &HashMap<u32, u64>) {
    let mut writers: HashMap<u32, u32> = HashMap::new();
    let mut first_seen: HashMap<u32, u64> = HashMap::new();
    let mut touched: HashSet<u32> = shown_at.keys().copied().collect();
    for op in register.iter() {
        if let Some(value) = written(op.step) {
            *writers.entry(value).or_default() += 1;
        }
        let (Step::Read(Some(seen))
        | Step::Swap {
            expected: Some(seen),
            ..
        }
        | Step::SwapLost(Some(seen))) = op.step
        else {
            continue;
        };
        touched.insert(seen);
        if let (Some(ret), Step::Read(_) | Step::Swap { .. }) = (op.ret, op.step) {
            let first = first_seen.entry(seen).or_insert(ret);
            *first = ret.min(*first);
        }
    }
    // A lost compare that showed no entry may have seen any write, so then none is certainly unseen.
    let blind = register
        .iter()
        .any(|op| matches!(op.step, Step::SwapLost(_)));
    let was_seen = |step| written(step).is_none_or(|value| touched.contains(&value));
    register.retain(|op| blind || op.ret.is_some() || was_seen(op.step));
    // A write that is seen before it begins stays unknown, and the search finds that no order explains it.
    for op in register.iter_mut().filter(|op| op.ret.is_none()) {
        let Some(value) = written(op.step).filter(|value| writers.get(value) == Some(&1)) else {
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
        op.ret = first_seen
            .get(&value)
            .copied()
            .filter(|&ret| ret >= op.call);
    }
}

#[cfg(test)]
mod tests;
