//! Never imitated (eventual mode): a compare-and-set, and so a lock, is refused with a typed error that says so.
//!
//! An answer, won or lost, is broken: no node can know that nobody else wrote. So is a fencing token that anybody came to hold. A timeout
//! or an unreachable node says nothing. Strong mode isn't judged by it.

use super::{Evidence, Finding, Property};
use crate::history::{Action, Cause, History, Mode, Op, Outcome};

/// Judges a history; none = strong mode, or nobody asked.
pub fn check(history: &History) -> Option<Finding> {
    if history.header.mode != Mode::Eventual {
        return None;
    }
    let is_cas = |op: &&Op| matches!(op.invoke.action, Action::Cas(_));
    let asked: Vec<&Op> = history.ops.iter().filter(is_cas).collect();
    if asked.is_empty() && history.fences.is_empty() {
        return None;
    }
    let mut evidence = Vec::new();
    let (mut refused, mut silent) = (0u64, 0u64);
    for op in &asked {
        let ret = op.ret.as_ref();
        let typed = ret.is_some_and(|ret| ret.reason.is_some());
        let by_node = ret.is_some_and(|ret| ret.cause == Some(Cause::Refused));
        match op.outcome() {
            Outcome::Ok => evidence.push(Evidence::new("a compare-and-set was imitated", &[op])),
            Outcome::Fail if by_node && !typed => {
                evidence.push(Evidence::new("a refusal without a reason", &[op]));
            }
            Outcome::Fail if by_node => refused += 1,
            Outcome::Fail | Outcome::Unknown => silent += 1,
        }
    }
    for fence in &history.fences {
        let text = format!(
            "{} holds {} with token {}",
            fence.holder, fence.lock, fence.token
        );
        evidence.push(Evidence::new(text, &[]));
    }
    let summary = format!(
        "{} compare-and-sets asked for: {refused} refused with a reason, {silent} not answered, {} imitated",
        asked.len(),
        evidence.len()
    );
    Some(Finding::from_evidence(
        Property::NeverImitated,
        summary,
        evidence,
    ))
}
