//! No resurrection: a key that was deleted doesn't come back with a value that the delete had seen.
//!
//! A delete that was acknowledged, and removed an entry, saw every write of the key that was acknowledged before it began: in strong mode
//! all of them; in eventual mode those made at the same node, or earlier in the same session under its token. If at the end any node shows such
//! a value, a tombstone was forgotten (Cassandra's zombies; a member that was away past the grace). Values that come back during the
//! run are for the search, in strong mode. Keys under a lease are left to the lease checker.

use std::collections::BTreeMap;

use super::order::{KeyHistory, Write, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{History, Mode, NodeId};

/// Judges a history of either mode; none = nothing was deleted, or no node was read at the end.
pub fn check(history: &History) -> Option<Finding> {
    if history.finals.is_empty() {
        return None;
    }
    let shown = shown(history);
    let (mut deleted, mut evidence) = (0u64, Vec::new());
    for (name, key) in by_key(history) {
        if key.leased {
            continue;
        }
        let is_delete = |write: &&Write<'_>| write.value.is_none() && write.acked.is_some();
        let deletes: Vec<&Write<'_>> = key.writes.iter().filter(is_delete).collect();
        deleted += deletes.len() as u64;
        for (value, node) in shown.get(name).into_iter().flatten() {
            evidence.extend(back(
                history.header.mode,
                name,
                &key,
                &deletes,
                value,
                *node,
            ));
        }
    }
    let summary = format!("{deleted} deletes, {} keys back", evidence.len());
    (deleted > 0).then(|| Finding::from_evidence(Property::NoResurrection, summary, evidence))
}

/// The values that each key shows at the end, and a node that shows each.
fn shown(history: &History) -> BTreeMap<&str, BTreeMap<&str, NodeId>> {
    let mut shown: BTreeMap<&str, BTreeMap<&str, NodeId>> = BTreeMap::new();
    for state in &history.finals {
        for entry in &state.entries {
            let values = shown.entry(&entry.key).or_default();
            for value in &entry.values {
                values.entry(value).or_insert(state.node);
            }
        }
    }
    shown
}

/// A shown value that some delete had seen. One that is written anew is no ghost.
fn back(
    mode: Mode,
    name: &str,
    key: &KeyHistory<'_>,
    deletes: &[&Write<'_>],
    value: &str,
    node: NodeId,
) -> Option<Evidence> {
    let mut writes = key.writes.iter().filter(|write| write.value == Some(value));
    let (write, None) = (writes.next()?, writes.next()) else {
        return None;
    };
    let delete = deletes.iter().find(|delete| saw(mode, delete, write))?;
    let text =
        format!("{name} was deleted after {value} had been seen, and {node} shows it at the end");
    Some(Evidence::new(text, &[write.op, delete.op]))
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
