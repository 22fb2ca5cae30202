//! Watches in eventual mode: at least once, in the order of each writer, and in the end what the changes add up to is the state.
//!
//! Within a stretch a change of a writer's log that wasn't told before never comes after a later one of that log. The same change may be told
//! again, and what lost before it was told never is. Keys under a lease hide and show with their owner's state, so they are left
//! out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Stretch, Watcher, held, leased, writer};
use crate::checker::Evidence;
use crate::checker::order::KeyHistory;
use crate::history::{Dot, FinalEntry, History, Version};

pub(super) fn judge(
    history: &History,
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let leased = leased(keys);
    for stretch in &watcher.stretches {
        in_order(keys, &leased, watcher, stretch, evidence);
    }
    let (Some(stretch), Some(node)) = (watcher.stretches.last(), watcher.open_at) else {
        return;
    };
    let Some(state) = history.finals.iter().find(|state| state.node == node) else {
        return;
    };
    let held = held(state, watcher.prefix);
    let replay = stretch.replay();
    let names: BTreeSet<&str> = held.keys().chain(replay.keys()).copied().collect();
    for key in names.difference(&leased) {
        let (told, holds) = (replay.get(key), held.get(key).map(|(value, _)| value));
        if told != holds {
            let text = format!(
                "{}: by what it was told {key} is {}, and {node} holds {} at the end",
                watcher.name(),
                told.unwrap_or(&"absent"),
                holds.unwrap_or(&"nothing")
            );
            let ops = writer(keys, key, holds.or(told));
            evidence.push(Evidence::new(text, &ops));
        }
    }
}

fn dot(version: Option<&Version>) -> Option<Dot> {
    match version? {
        Version::Eventual { dot, .. } => Some(*dot),
        Version::Strong { .. } => None,
    }
}

fn in_order(
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    leased: &BTreeSet<&str>,
    watcher: &Watcher<'_>,
    stretch: &Stretch<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let known = |entry: &FinalEntry| dot(entry.version.as_ref());
    let mut seen: BTreeSet<Dot> = stretch.snapshot.iter().filter_map(known).collect();
    let mut highest: BTreeMap<(u64, u64), Dot> = BTreeMap::new();
    for told in stretch.changes() {
        let Some(dot) = dot(told.version).filter(|_| !leased.contains(told.key)) else {
            continue;
        };
        let is_new = seen.insert(dot);
        let before = highest.entry((dot.writer, dot.log_id)).or_insert(dot);
        if is_new && before.seq > dot.seq {
            let text = format!(
                "{}: {}'s write {} of node {} was told after its write {}",
                watcher.name(),
                told.key,
                dot.seq,
                dot.writer,
                before.seq
            );
            let value = told.values.first().map(String::as_str);
            let ops = writer(keys, told.key, value.as_ref());
            evidence.push(Evidence::new(text, &ops));
        }
        if before.seq < dot.seq {
            *before = dot;
        }
    }
}
