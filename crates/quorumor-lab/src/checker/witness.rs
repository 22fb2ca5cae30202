//! The smallest part of an illegal register history that is still illegal, for a person to look at.
//!
//! Every cut keeps a legal history legal, so what remains is a true contradiction. First a prefix in time: operations
//! that would return later become unknown. Then pieces of it are left out, halves first and single operations last
//! (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), until no single one can be spared. A write goes
//! together with everything that saw its value.

use std::collections::BTreeSet;

use super::search::{Answer, RegisterOp, Step, Value, search};

/// Steps for each attempt to leave something out; one that needs more is kept.
const ATTEMPT_BUDGET: u64 = 200_000;
/// Attempts for one witness, which bounds the time that it takes; it may then not be the smallest.
const ATTEMPTS_MAX: usize = 5_000;

/// Shrinks `ops`, which must be illegal.
pub(super) fn shrink(ops: &[RegisterOp], budget: u64) -> Vec<RegisterOp> {
    let mut smallest = first_illegal_prefix(ops, budget);
    let illegal = |ops: &[RegisterOp]| search(ops, budget.min(ATTEMPT_BUDGET)) == Answer::Illegal;
    let mut attempts = 0;
    let mut piece = smallest.len().div_ceil(2).max(1);
    loop {
        let before = smallest.len();
        // From the end: what begins late is more often only an onlooker.
        let mut end = smallest.len();
        while end > 0 && attempts < ATTEMPTS_MAX {
            let start = end.saturating_sub(piece);
            attempts += 1;
            if let Some(without) = without(&smallest, start..end).filter(|ops| illegal(ops)) {
                smallest = without;
            }
            end = start.min(smallest.len());
        }
        if piece == 1 && smallest.len() == before || attempts >= ATTEMPTS_MAX {
            return smallest;
        }
        piece = piece.min(smallest.len()).div_ceil(2).max(1);
    }
}

/// The prefixes of a linearizable history are linearizable, so the first illegal one can be bisected.
fn first_illegal_prefix(ops: &[RegisterOp], budget: u64) -> Vec<RegisterOp> {
    let illegal = |ops: &[RegisterOp]| search(ops, budget) == Answer::Illegal;
    let mut ends: Vec<u64> = ops.iter().filter_map(|op| op.ret).collect();
    ends.sort_unstable();
    let first = ends.partition_point(|&end| !illegal(&prefix(ops, end)));
    let bisected = ends.get(first).map(|&end| prefix(ops, end));
    // A search that ran out of steps may have misled the bisection; then the whole is the beginning.
    let bisected = bisected.filter(|ops| illegal(ops));
    bisected.unwrap_or_else(|| ops.to_vec())
}

fn prefix(ops: &[RegisterOp], end: u64) -> Vec<RegisterOp> {
    let begun = ops.iter().filter(|op| op.call <= end);
    let cut = begun.map(|op| RegisterOp {
        ret: op.ret.filter(|&ret| ret <= end),
        ..*op
    });
    // A read that has not returned has seen nothing yet.
    cut.filter(|op| op.ret.is_some() || !is_sight(op.step))
        .collect()
}

fn is_sight(step: Step) -> bool {
    match step {
        Step::Read(_) | Step::SwapLost(_) | Step::Absurd => true,
        Step::Write(..) | Step::Swap { .. } => false,
    }
}

/// The history without these operations and without all that saw what they wrote; none = that might make a legal
/// history illegal, or nothing is left out.
pub(super) fn without(
    ops: &[RegisterOp],
    piece: std::ops::Range<usize>,
) -> Option<Vec<RegisterOp>> {
    let mut left: Vec<RegisterOp> = ops[..piece.start].to_vec();
    left.extend_from_slice(&ops[piece.end..]);
    let mut gone: BTreeSet<Value> = ops[piece]
        .iter()
        .filter_map(|op| written(op.step))
        .collect();
    loop {
        let before = left.len();
        let mut chained = BTreeSet::new();
        left.retain(|op| {
            let saw = seen(op.step).is_some_and(|value| gone.contains(&value));
            chained.extend(written(op.step).filter(|_| saw));
            !saw
        });
        gone = chained;
        if left.len() == before {
            break;
        }
    }
    // What a lost compare found it doesn't say: it may have been any of the values that are gone.
    let writes_gone = left.len() < ops.len()
        && ops.iter().filter(|op| !is_sight(op.step)).count()
            > left.iter().filter(|op| !is_sight(op.step)).count();
    let blind = left.iter().any(|op| matches!(op.step, Step::SwapLost(_)));
    (left.len() < ops.len() && !(writes_gone && blind)).then_some(left)
}

/// What it writes; the inner none = a delete.
fn written(step: Step) -> Option<Value> {
    match step {
        Step::Write(value, _) | Step::Swap { value, .. } => Some(value),
        Step::Read(_) | Step::SwapLost(_) | Step::Absurd => None,
    }
}

/// What it certainly found.
fn seen(step: Step) -> Option<Value> {
    match step {
        Step::Read(value)
        | Step::Swap {
            expected: value, ..
        } => Some(value),
        Step::Write(..) | Step::SwapLost(_) | Step::Absurd => None,
    }
}
