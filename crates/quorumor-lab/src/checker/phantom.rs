//! No phantoms: every value that was read, also at the end, was written by somebody before the read returned, and
//! not by an operation that certainly wasn't applied: one that was refused, or a compare that was lost.
//!
//! The order of values is not judged here. Holds for both modes.

use std::collections::HashMap;

use super::{Evidence, Finding, Property};
use crate::history::{History, Op, Outcome};

/// Judges a history.
pub fn check(history: &History) -> Finding {
    let mut writers: HashMap<(&str, &str), Vec<&Op>> = HashMap::new();
    for op in &history.ops {
        if let Some(value) = op.invoke.action.written() {
            writers.entry((&op.invoke.key, value)).or_default().push(op);
        }
    }
    let wrong = |key: &str, value: &str, by_us: u64| -> Option<(&'static str, Vec<&Op>)> {
        let Some(all) = writers.get(&(key, value)) else {
            return Some(("nobody wrote", Vec::new()));
        };
        if all.iter().all(|op| is_void(op)) {
            return Some(("only a refused or lost operation wrote", all.clone()));
        }
        let later = all.iter().all(|op| op.invoke.at_us > by_us);
        later.then(|| ("was written only later:", all.clone()))
    };
    let (mut seen, mut evidence) = (0u64, Vec::new());
    for op in &history.ops {
        let Some(ret) = op.answer() else { continue };
        let own = ret.values.iter().map(|value| (&op.invoke.key, value));
        let listed = ret.entries.iter();
        let listed = listed.flat_map(|entry| entry.values.iter().map(|value| (&entry.key, value)));
        for (key, value) in own.chain(listed) {
            seen += 1;
            if let Some((what, mut ops)) = wrong(key, value, ret.at_us) {
                ops.push(op);
                evidence.push(Evidence::new(
                    format!("{key} = {value} was read, which {what}"),
                    &ops,
                ));
            }
        }
    }
    for state in &history.finals {
        for entry in &state.entries {
            for value in &entry.values {
                seen += 1;
                if let Some((what, ops)) = wrong(&entry.key, value, state.at_us) {
                    let text = format!(
                        "{} holds {} = {value} at the end, which {what}",
                        state.node, entry.key
                    );
                    evidence.push(Evidence::new(text, &ops));
                }
            }
        }
    }
    let summary = format!("{seen} values seen, {} of them phantoms", evidence.len());
    Finding::from_evidence(Property::NoPhantoms, summary, evidence)
}

/// True if it certainly changed nothing.
fn is_void(op: &Op) -> bool {
    let lost = op.answer().is_some_and(|ret| ret.succeeded == Some(false));
    op.outcome() == Outcome::Fail || lost
}
