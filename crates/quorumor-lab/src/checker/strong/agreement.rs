//! Agreement (state machine safety, Raft 5.4.3): every node applies the same revisions, without a gap; each event says
//! rightly what it replaced and which write of its key it is; at the end all members hold what the order leads to.

use quorumor_core::{ChangeEvent, Entry, Revision, Version};

use crate::checker::{Evidence, Finding, Property};
use crate::registry::model::{self, State};
use crate::registry::{Order, Record};

/// Judges a record.
pub fn check(record: &Record, order: &Order<'_>) -> Finding {
    let mut evidence: Vec<Evidence> = record
        .disagreements
        .iter()
        .map(|text| Evidence::new(text, &[]))
        .collect();
    let mut expected = 1;
    for (revision, shown) in &record.revisions {
        if *revision != expected {
            let text = format!("no node showed revision {expected}; the next one is {revision}");
            evidence.push(Evidence::new(text, &[]));
        }
        expected = revision + 1;
        let mut state = order.state(revision - 1);
        for event in shown.events.iter() {
            if let Some(wrong) = misfit(&state, event, *revision) {
                let text = format!("revision {revision} at node {}: {wrong}", shown.node);
                evidence.push(Evidence::new(text, &[]));
            }
            model::apply(&mut state, event);
        }
    }
    evidence.extend(ends(record, order));
    let summary = format!(
        "{} revisions and {} members at the end: {} contradictions",
        record.revisions.len(),
        record.finals.len(),
        evidence.len()
    );
    Finding::from_evidence(Property::Agreement, summary, evidence)
}

/// What is wrong with an event, given the state before it.
fn misfit(state: &State, event: &ChangeEvent, revision: u64) -> Option<String> {
    let (key, version, previous) = match event {
        ChangeEvent::Put { entry, previous } => (&entry.key, &entry.version, previous),
        ChangeEvent::Deleted {
            key,
            version,
            previous,
        } => (key, version, previous),
        ChangeEvent::Reset => return Some("a reset among the events".to_owned()),
    };
    let before = state.get(key);
    if previous.is_some() && previous.as_ref() != before {
        return Some(format!(
            "{key:?} replaced {before:?}, the event says {previous:?}"
        ));
    }
    let expected = version_after(before.map(AsRef::as_ref), Revision::new(revision));
    (*version != expected)
        .then(|| format!("{key:?} has version {version:?}, it should be {expected:?}"))
}

fn version_after(before: Option<&Entry>, modify: Revision) -> Version {
    let (create, count) = match before.map(|entry| &entry.version) {
        Some(Version::Strong { create, count, .. }) => (*create, count + 1),
        Some(Version::Eventual { .. }) | None => (modify, 1),
    };
    Version::Strong {
        create,
        modify,
        count,
    }
}

fn ends(record: &Record, order: &Order<'_>) -> Vec<Evidence> {
    let last = record.revisions.keys().next_back().copied().unwrap_or(0);
    let expected: Vec<Entry> = order
        .state(last)
        .values()
        .map(|entry| (**entry).clone())
        .collect();
    let wrong =
        |end: &&crate::registry::record::Final| end.revision != last || end.entries != expected;
    record
        .finals
        .iter()
        .filter(wrong)
        .map(|end| {
            let text = format!(
                "node {} ends at revision {} with {} entries, the order leads to revision {last} with {}",
                end.node,
                end.revision,
                end.entries.len(),
                expected.len()
            );
            Evidence::new(text, &[])
        })
        .collect()
}
