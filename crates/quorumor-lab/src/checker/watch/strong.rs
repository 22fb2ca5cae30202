//! Watches in strong mode: ordered, unique, complete, resumable at any node (etcd's watch guarantees; etcd #17529, #18089).
//!
//! A snapshot is the state at its revision: no key is older there than a write of known revision up to it, none is newer, and none that
//! such a write put is missing. Within a stretch revisions never go back, none is told twice for a key, and none at or below the
//! snapshot's; each shows what was written at it. Every write of known
//! revision under the prefix, from the snapshot's revision to the last that was told, is among the changes. At the end the replay is the
//! state, as far as it was told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Step, Stretch, Told, Watcher, held, leased, writer};
use crate::checker::Evidence;
use crate::checker::order::{KeyHistory, Rank, Write};
use crate::history::{FinalEntry, History, Op, Version};

pub(super) fn judge(
    history: &History,
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    evidence: &mut Vec<Evidence>,
) {
    for stretch in &watcher.stretches {
        snapshot(keys, watcher, stretch, evidence);
        as_written(keys, watcher, stretch, evidence);
        in_order(keys, watcher, stretch, evidence);
        complete(keys, watcher, stretch, evidence);
    }
    if let (Some(stretch), Some(_)) = (watcher.stretches.last(), watcher.open_at) {
        replay(history, keys, watcher, stretch, evidence);
    }
}

pub(super) fn revision(told: &Told<'_>) -> Option<u64> {
    match told.version? {
        Version::Strong { revision } => Some(*revision),
        Version::Eventual { .. } => None,
    }
}

/// The last revision up to which the stretch told everything.
fn told_to(stretch: &Stretch<'_>) -> Option<u64> {
    let steps = stretch.steps.iter().filter_map(|step| match step {
        Step::Change(told) => revision(told),
        Step::Progress { revision, .. } => Some(*revision),
    });
    steps.chain(stretch.from).max()
}

/// The snapshot against the last write of each key up to its revision, as far as revisions are known.
fn snapshot(
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    stretch: &Stretch<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let Some(from) = stretch.from else {
        return;
    };
    let shown: BTreeMap<&str, &FinalEntry> = stretch
        .snapshot
        .iter()
        .filter(|entry| !entry.values.is_empty())
        .map(|entry| (entry.key.as_str(), entry))
        .collect();
    let under = keys.range(watcher.prefix..);
    for (&name, key) in under.take_while(|(name, _)| name.starts_with(watcher.prefix)) {
        let up_to = key.writes.iter().filter(|write| match write.rank {
            Some(Rank::Strong(revision)) => revision <= from,
            Some(Rank::Eventual(..)) | None => false,
        });
        let Some(last) = up_to.max_by_key(|write| write.rank) else {
            continue;
        };
        let entry = shown.get(name);
        let at = entry.and_then(|entry| entry.version.as_ref().map(Rank::of));
        let wrong = match (entry, last.value) {
            // Its lease, or a delete whose revision nobody knows, may have removed it.
            (None, Some(_)) => !key.leased && !key.writes.iter().any(is_blind_delete),
            (None, None) => false,
            (Some(_), _) => at.is_some_and(|at| Some(at) < last.rank),
        };
        if wrong {
            let text = format!(
                "{}: the snapshot of revision {from} shows {name} {}, older than a write up to it",
                watcher.name(),
                entry.map_or("absent", |_| "as it was before")
            );
            evidence.push(Evidence::new(text, &[last.op]));
        }
    }
    for (name, entry) in shown {
        if entry.version.as_ref().map(Rank::of) > Some(Rank::Strong(from)) {
            let text = format!(
                "{}: the snapshot of revision {from} shows {name} as of a later one",
                watcher.name()
            );
            let ops = writer(
                keys,
                name,
                entry.values.first().map(String::as_str).as_ref(),
            );
            evidence.push(Evidence::new(text, &ops));
        }
    }
}

fn is_blind_delete(write: &Write<'_>) -> bool {
    write.value.is_none() && write.rank.is_none()
}

/// What was told at a revision is what was written at it.
fn as_written(
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    stretch: &Stretch<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let mut told: Vec<(&str, u64, Option<&str>)> = Vec::new();
    for entry in stretch.snapshot {
        if let Some(Version::Strong { revision }) = entry.version {
            let value = entry.values.first().map(String::as_str);
            told.push((&entry.key, revision, value));
        }
    }
    for change in stretch.changes() {
        if let Some(revision) = revision(change) {
            let value = change.values.first().map(String::as_str);
            told.push((change.key, revision, value));
        }
    }
    let by_revision: BTreeMap<(&str, Rank), &Write<'_>> = keys
        .range(watcher.prefix..)
        .take_while(|(name, _)| name.starts_with(watcher.prefix))
        .flat_map(|(&name, key)| key.writes.iter().map(move |write| (name, write)))
        .filter_map(|(name, write)| Some(((name, write.rank?), write)))
        .collect();
    for (key, revision, value) in told {
        let written = by_revision.get(&(key, Rank::Strong(revision)));
        if let Some(write) = written.filter(|write| write.value != value) {
            let text = format!(
                "{} was told that {key} is {} at revision {revision}, where {} was written",
                watcher.name(),
                value.unwrap_or("absent"),
                write.value.unwrap_or("its absence")
            );
            evidence.push(Evidence::new(text, &[write.op]));
        }
    }
}

fn in_order(
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    stretch: &Stretch<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let mut highest = stretch.from.unwrap_or(0);
    let mut progress = highest;
    let mut seen: BTreeSet<(u64, &str)> = BTreeSet::new();
    for step in &stretch.steps {
        let (at_us, key, revision) = match step {
            Step::Progress { at_us, revision } => {
                progress = progress.max(*revision);
                (*at_us, None, *revision)
            }
            Step::Change(told) => match revision(told) {
                Some(revision) => (told.at_us, Some(told.key), revision),
                None => continue,
            },
        };
        let wrong = match key {
            None if revision < highest => Some("progress went back"),
            Some(key) if !seen.insert((revision, key)) => Some("told twice"),
            Some(_) if revision < highest => Some("told after a higher one"),
            Some(_) if revision <= progress => Some("told after all up to it had been"),
            None | Some(_) => None,
        };
        if let Some(what) = wrong {
            let text = format!(
                "{}: revision {revision}{} at {} ms: {what} (it stood at {highest})",
                watcher.name(),
                key.map(|key| format!(" of {key}")).unwrap_or_default(),
                at_us / 1_000
            );
            let writer = key.and_then(|key| at_revision(keys, key, revision));
            let ops: Vec<&Op> = writer.into_iter().collect();
            evidence.push(Evidence::new(text, &ops));
        }
        highest = highest.max(revision);
    }
}

fn at_revision<'a>(
    keys: &BTreeMap<&str, KeyHistory<'a>>,
    key: &str,
    revision: u64,
) -> Option<&'a Op> {
    let writes = &keys.get(key)?.writes;
    let at = writes
        .iter()
        .find(|write| write.rank == Some(Rank::Strong(revision)));
    at.map(|write| write.op)
}

fn complete(
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    stretch: &Stretch<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let (Some(from), Some(to)) = (stretch.from, told_to(stretch)) else {
        return;
    };
    let seen: BTreeSet<(u64, &str)> = stretch
        .changes()
        .filter_map(|told| Some((revision(told)?, told.key)))
        .collect();
    let unversioned: BTreeSet<&str> = stretch
        .changes()
        .filter(|told| told.version.is_none())
        .map(|told| told.key)
        .collect();
    let under = keys.range(watcher.prefix..);
    for (&name, key) in under.take_while(|(name, _)| name.starts_with(watcher.prefix)) {
        for write in &key.writes {
            let Some(Rank::Strong(revision)) = write.rank else {
                continue;
            };
            let expected = from < revision && revision <= to;
            if expected && !seen.contains(&(revision, name)) && !unversioned.contains(name) {
                let text = format!(
                    "{} was told everything from revision {from} to {to} but revision {revision} of {name}",
                    watcher.name()
                );
                evidence.push(Evidence::new(text, &[write.op]));
            }
        }
    }
}

fn replay(
    history: &History,
    keys: &BTreeMap<&str, KeyHistory<'_>>,
    watcher: &Watcher<'_>,
    stretch: &Stretch<'_>,
    evidence: &mut Vec<Evidence>,
) {
    let (Some(state), Some(to), Some(_)) = (history.finals.first(), told_to(stretch), stretch.from)
    else {
        return;
    };
    let (replay, held, leased) = (stretch.replay(), held(state, watcher.prefix), leased(keys));
    for (&key, &(value, version)) in &held {
        let told = matches!(version, Some(Version::Strong { revision }) if *revision <= to);
        if told && replay.get(key) != Some(&value) {
            let text = format!(
                "{}: by what it was told up to revision {to} {key} is {}, and at the end it is {value}",
                watcher.name(),
                replay.get(key).unwrap_or(&"absent")
            );
            evidence.push(Evidence::new(text, &writer(keys, key, Some(&value))));
        }
    }
    let later_delete = |key: &str| {
        keys.get(key).is_some_and(|key| {
            let deletes = key.writes.iter().filter(|write| write.value.is_none());
            deletes
                .into_iter()
                .any(|write| write.rank.is_none_or(|rank| rank > Rank::Strong(to)))
        })
    };
    for (&key, &value) in &replay {
        if !held.contains_key(key) && !leased.contains(key) && !later_delete(key) {
            let text = format!(
                "{}: by what it was told {key} is {value}, and at the end it is absent",
                watcher.name()
            );
            evidence.push(Evidence::new(text, &writer(keys, key, Some(&value))));
        }
    }
}
