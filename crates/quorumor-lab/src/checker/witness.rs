//! The smallest part of an illegal register history that is still illegal, for a person to look at.
//!
//! Every cut keeps a legal history legal, so what remains is a true contradiction: a prefix in time (operations
//! that would return later become unknown), then without reads, then without writes that nobody saw.

use super::search::{Answer, RegisterOp, Step, search};

/// Beyond this many operations the greedy pass would take too long; the prefix alone is shown.
const GREEDY_MAX: usize = 600;
/// Steps for each attempt to leave an operation out; one that needs more is kept.
const GREEDY_BUDGET: u64 = 200_000;

/// Shrinks `ops`, which must be illegal.
pub(super) fn shrink(ops: &[RegisterOp], budget: u64) -> Vec<RegisterOp> {
    let illegal = |ops: &[RegisterOp]| search(ops, budget) == Answer::Illegal;
    let mut ends: Vec<u64> = ops.iter().filter_map(|op| op.ret).collect();
    ends.sort_unstable();
    // The prefixes of a linearizable history are linearizable, so the first illegal one can be bisected.
    let first = ends.partition_point(|&end| !illegal(&prefix(ops, end)));
    let bisected = ends.get(first).map(|&end| prefix(ops, end));
    // A search that ran out of steps may have misled the bisection; then the whole is the witness.
    let mut smallest = bisected
        .filter(|ops| illegal(ops))
        .unwrap_or_else(|| ops.to_vec());
    if smallest.len() > GREEDY_MAX {
        return smallest;
    }
    let illegal = |ops: &[RegisterOp]| search(ops, budget.min(GREEDY_BUDGET)) == Answer::Illegal;
    for place in (0..smallest.len()).rev() {
        if !may_drop(&smallest, place) {
            continue;
        }
        let mut without = smallest.clone();
        without.remove(place);
        if illegal(&without) {
            smallest = without;
        }
    }
    smallest
}

fn prefix(ops: &[RegisterOp], end: u64) -> Vec<RegisterOp> {
    let begun = ops.iter().filter(|op| op.call <= end);
    let cut = begun.map(|op| RegisterOp {
        ret: op.ret.filter(|&ret| ret <= end),
        ..*op
    });
    // A read that has not returned has seen nothing yet.
    cut.filter(|op| {
        op.ret.is_some() || !matches!(op.step, Step::Read(_) | Step::SwapLost(_) | Step::Absurd)
    })
    .collect()
}

/// True if leaving the operation out keeps a legal history legal.
fn may_drop(ops: &[RegisterOp], place: usize) -> bool {
    match ops[place].step {
        Step::Read(_) | Step::SwapLost(_) | Step::Absurd => true,
        Step::Swap { .. } if ops[place].ret.is_some() => false,
        Step::Write(value, _) | Step::Swap { value, .. } => ops.iter().all(|op| match op.step {
            Step::Read(seen) => seen != value,
            Step::Swap { expected, .. } => expected != value,
            // It saw something that is not `expected`; that may have been this value.
            Step::SwapLost(_) => false,
            Step::Write(..) | Step::Absurd => true,
        }),
    }
}
