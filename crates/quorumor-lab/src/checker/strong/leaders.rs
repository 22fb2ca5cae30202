//! Leaders and members: a term has one leader (election safety, Raft 5.2), and a node whose removal was acknowledged gives no
//! linearizable answer to whoever asks it afterwards.

use quorumor_core::Level;

use super::evidence;
use crate::checker::{Evidence, Finding, Property};
use crate::registry::{Answer, Ask, Record};

/// Judges a record.
pub fn check(record: &Record) -> Finding {
    let mut found: Vec<Evidence> = record
        .leaders
        .iter()
        .filter(|(_, nodes)| nodes.len() > 1)
        .map(|(term, nodes)| {
            Evidence::new(format!("term {term} was led by each of {nodes:?}"), &[])
        })
        .collect();
    for op in &record.ops {
        let Ask::Read(query) = &op.ask else { continue };
        if query.level != Level::Linearizable || query.at.is_some() {
            continue;
        }
        for attempt in &op.attempts {
            let removed = record.removed.get(&attempt.node);
            let answered = attempt
                .ended
                .as_ref()
                .is_some_and(|ended| matches!(ended.result, Ok(Answer::Entries { .. })));
            if answered && removed.is_some_and(|at| *at < attempt.sent_us) {
                let text = format!("node {} was removed and still serves", attempt.node);
                found.push(evidence(text, &[op]));
            }
        }
    }
    let summary = format!(
        "{} terms with a leader, {} nodes removed: {} contradictions",
        record.leaders.len(),
        record.removed.len(),
        found.len()
    );
    Finding::from_evidence(Property::Leaders, summary, found)
}
