//! No resurrection: a key that was deleted doesn't come back with a value that the delete had seen.
//!
//! A delete that was acknowledged, and removed an entry, saw every write of the key that was acknowledged before it began: in strong mode
//! all of them; in eventual mode those made at the same node, or earlier in the same session under its token. If at the end any node shows such
//! a value, a tombstone was forgotten (Cassandra's zombies; a member that was away past the grace). Values that come back during the
//! run are for the search, in strong mode. Keys under a lease are left to the lease checker.

use super::order::{KeyHistory, Write, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{FinalState, History, Mode};

/// Judges a history of either mode; none = nothing was deleted, or no node was read at the end.
pub fn check(history: &History) -> Option<Finding> {
    if history.finals.is_empty() {
        return None;
    }
    let (mut deleted, mut evidence) = (0u64, Vec::new());
    for (name, key) in by_key(history) {
        if key.leased {
            continue;
        }
        let is_delete = |write: &&Write<'_>| write.value.is_none() && write.acked.is_some();
        for delete in key.writes.iter().filter(is_delete) {
            deleted += 1;
            evidence.extend(back(history, name, &key, delete));
        }
    }
    let summary = format!("{deleted} deletes, {} keys back", evidence.len());
    (deleted > 0).then(|| Finding::from_evidence(Property::NoResurrection, summary, evidence))
}

fn back(
    history: &History,
    name: &str,
    key: &KeyHistory<'_>,
    delete: &Write<'_>,
) -> Option<Evidence> {
    let shows = |state: &&FinalState, value: Option<&str>| {
        let here = state.entries.iter().filter(|entry| entry.key == name);
        let mut values = here.flat_map(|entry| &entry.values);
        values.any(|shown| Some(shown.as_str()) == value)
    };
    let seen =
        |write: &&Write<'_>| write.value.is_some() && saw(history.header.mode, delete, write);
    for write in key.writes.iter().filter(seen) {
        // A value that is written anew is no ghost.
        let again =
            |other: &Write<'_>| other.value == write.value && other.op.id() != write.op.id();
        if key.writes.iter().any(again) {
            continue;
        }
        if let Some(state) = history
            .finals
            .iter()
            .find(|state| shows(state, write.value))
        {
            let text = format!(
                "{name} was deleted after {} had been seen, and {} shows it at the end",
                write.value.unwrap_or("nothing"),
                state.node
            );
            return Some(Evidence::new(text, &[write.op, delete.op]));
        }
    }
    None
}

fn saw(mode: Mode, delete: &Write<'_>, write: &Write<'_>) -> bool {
    let (late, early) = (&delete.op.invoke, &write.op.invoke);
    let same_session = late.session == early.session && late.token.is_some();
    let near = match mode {
        Mode::Strong => true,
        Mode::Eventual => late.node == early.node || same_session,
    };
    near && delete.began_after(write)
}
