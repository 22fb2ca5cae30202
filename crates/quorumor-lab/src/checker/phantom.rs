//! No phantoms: every value that was read, also at the end, was written by somebody before the read returned, and
//! not by an operation that was refused as certainly not applied.
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
        if all.iter().all(|op| op.outcome() == Outcome::Fail) {
            return Some(("only a refused operation wrote", all.clone()));
        }
        let later = all.iter().all(|op| op.invoke.at_us > by_us);
        later.then(|| ("was written only later:", all.clone()))
    };
    let (mut seen, mut evidence) = (0u64, Vec::new());
    for op in &history.ops {
        let Some(ret) = op.answer() else { continue };
        for value in &ret.values {
            seen += 1;
            if let Some((what, mut ops)) = wrong(&op.invoke.key, value, ret.at_us) {
                ops.push(op);
                evidence.push(Evidence::new(
                    format!("{value} was read, which {what}"),
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
