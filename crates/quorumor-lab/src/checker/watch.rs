//! Watches, as watchers were told them: a snapshot, then changes, with a cursor to resume from.
//!
//! A *stretch* is what a watcher was told from one snapshot to the next, over every reconnection that named a cursor: within it nothing may be
//! missing. What each mode promises of it is in `watch/strong.rs` and `watch/eventual.rs`. In both, a change shows what somebody
//! wrote, and at the end what the changes add up to is the state, if the stream was still open.

mod eventual;
mod strong;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::order::{KeyHistory, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{
    FinalEntry, FinalState, History, Mode, NodeId, Op, Outcome, Version, WatchRecord, WatchStep,
};

/// One change, and when it was told.
struct Told<'a> {
    at_us: u64,
    key: &'a str,
    values: &'a [String],
    version: Option<&'a Version>,
}

/// From one snapshot to the next.
#[derive(Default)]
struct Stretch<'a> {
    /// When it began.
    at_us: u64,
    /// The revision of the snapshot; none = eventual, or it began with a cursor whose place nobody knows.
    from: Option<u64>,
    snapshot: &'a [FinalEntry],
    /// Changes, and what strong mode says beside them.
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Change(Told<'a>),
    Progress { at_us: u64, revision: u64 },
}

impl<'a> Stretch<'a> {
    fn changes(&self) -> impl Iterator<Item = &Told<'a>> {
        self.steps.iter().filter_map(|step| match step {
            Step::Change(told) => Some(told),
            Step::Progress { .. } => None,
        })
    }

    /// What the snapshot and the changes add up to: for each key its first value.
    fn replay(&self) -> BTreeMap<&'a str, &'a str> {
        let mut state: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in self.snapshot {
            if let Some(value) = entry.values.first() {
                state.insert(&entry.key, value);
            }
        }
        for told in self.changes() {
            match told.values.first() {
                Some(value) => state.insert(told.key, value),
                None => state.remove(told.key),
            };
        }
        state
    }
}

/// What one watcher was told.
struct Watcher<'a> {
    id: u64,
    prefix: &'a str,
    stretches: Vec<Stretch<'a>>,
    /// The node that it watches at when the history ends; none = the stream was closed, or waits for a snapshot.
    open_at: Option<NodeId>,
}

impl Watcher<'_> {
    fn name(&self) -> String {
        format!("watcher {} of {:?}", self.id, self.prefix)
    }
}

/// Judges a history of either mode; none = nobody watched.
pub fn check(history: &History) -> Option<Finding> {
    if history.watches.is_empty() {
        return None;
    }
    let keys = by_key(history);
    let watchers = watchers(history);
    let mut evidence = Vec::new();
    for watcher in &watchers {
        evidence.extend(phantoms(history, watcher));
        match history.header.mode {
            Mode::Strong => strong::judge(history, &keys, watcher, &mut evidence),
            Mode::Eventual => eventual::judge(history, &keys, watcher, &mut evidence),
        }
    }
    let stretches = watchers.iter().flat_map(|watcher| &watcher.stretches);
    let (count, changes) = stretches.fold((0u64, 0), |(count, changes), stretch| {
        (count + 1, changes + stretch.changes().count())
    });
    let opened =
        |record: &&WatchRecord| matches!(record.step, WatchStep::Opened { cursor: Some(_) });
    let resumed = history.watches.iter().filter(opened).count();
    let summary = format!(
        "{} watchers told {changes} changes in {count} stretches, resumed {resumed} times: {} contradictions",
        watchers.len(),
        evidence.len()
    );
    Some(Finding::from_evidence(Property::Watches, summary, evidence))
}

fn watchers(history: &History) -> Vec<Watcher<'_>> {
    let mut records: BTreeMap<u64, Vec<&WatchRecord>> = BTreeMap::new();
    for record in &history.watches {
        records.entry(record.watch).or_default().push(record);
    }
    let all = records.into_iter();
    all.map(|(id, records)| follow(id, &records)).collect()
}

fn follow<'a>(id: u64, records: &[&'a WatchRecord]) -> Watcher<'a> {
    let mut watcher = Watcher {
        id,
        prefix: &records[0].prefix,
        stretches: Vec::new(),
        open_at: None,
    };
    for record in records {
        let at_us = record.at_us;
        match &record.step {
            WatchStep::Opened { cursor } => {
                // Without a cursor, or before any snapshot, nothing said earlier reaches over.
                if cursor.is_none() || watcher.stretches.is_empty() {
                    watcher.stretches.push(Stretch::default());
                }
                watcher.open_at = Some(record.node);
            }
            WatchStep::Snapshot { entries, revision } => {
                watcher.stretches.push(Stretch {
                    at_us,
                    from: *revision,
                    snapshot: entries,
                    steps: Vec::new(),
                });
                watcher.open_at = Some(record.node);
            }
            WatchStep::Change {
                key,
                values,
                version,
            } => {
                let told = Told {
                    at_us,
                    key,
                    values,
                    version: version.as_ref(),
                };
                last(&mut watcher.stretches).steps.push(Step::Change(told));
            }
            WatchStep::Progress { revision } => {
                let revision = *revision;
                let step = Step::Progress { at_us, revision };
                last(&mut watcher.stretches).steps.push(step);
            }
            WatchStep::Resync { .. } => {
                watcher.stretches.push(Stretch::default());
                watcher.open_at = None;
            }
            WatchStep::Closed { .. } => watcher.open_at = None,
        }
    }
    watcher
}

fn last<'s, 'a>(stretches: &'s mut Vec<Stretch<'a>>) -> &'s mut Stretch<'a> {
    if stretches.is_empty() {
        stretches.push(Stretch::default());
    }
    let place = stretches.len() - 1;
    &mut stretches[place]
}

/// Values in a snapshot or a change that nobody had begun to write, or whose write was refused.
fn phantoms(history: &History, watcher: &Watcher<'_>) -> Vec<Evidence> {
    let mut begun: HashMap<(&str, &str), u64> = HashMap::new();
    for op in history
        .ops
        .iter()
        .filter(|op| op.outcome() != Outcome::Fail)
    {
        if let Some(value) = op.invoke.action.written() {
            let first = begun.entry((&op.invoke.key, value)).or_insert(u64::MAX);
            *first = op.invoke.at_us.min(*first);
        }
    }
    let mut found = Vec::new();
    let mut told = |at_us: u64, key: &str, values: &[String]| {
        let unwritten = |value: &&String| {
            let first = begun.get(&(key, value.as_str()));
            first.is_none_or(|&first| first > at_us)
        };
        if let Some(value) = values.iter().find(unwritten) {
            let name = watcher.name();
            let text = format!("{name} was told {key} = {value}, which nobody had written");
            found.push(Evidence::new(text, &[]));
        }
    };
    for stretch in &watcher.stretches {
        for entry in stretch.snapshot {
            told(stretch.at_us, &entry.key, &entry.values);
        }
        for change in stretch.changes() {
            told(change.at_us, change.key, change.values);
        }
    }
    found
}

/// What a node holds at the end under a prefix: for each key its first value and the version.
fn held<'a>(
    state: &'a FinalState,
    prefix: &str,
) -> BTreeMap<&'a str, (&'a str, Option<&'a Version>)> {
    let under = state
        .entries
        .iter()
        .filter(|entry| entry.key.starts_with(prefix));
    under
        .filter_map(|entry| {
            let value = entry.values.first()?;
            Some((entry.key.as_str(), (value.as_str(), entry.version.as_ref())))
        })
        .collect()
}

/// Keys that come and go with a lease: they change without an operation, and in eventual mode hide and show again.
fn leased<'a>(keys: &BTreeMap<&'a str, KeyHistory<'a>>) -> BTreeSet<&'a str> {
    let leased = keys.iter().filter(|(_, key)| key.leased);
    leased.map(|(&name, _)| name).collect()
}

/// Who wrote this value, for evidence.
fn writer<'a>(
    keys: &BTreeMap<&str, KeyHistory<'a>>,
    key: &str,
    value: Option<&&str>,
) -> Vec<&'a Op> {
    let writes = keys.get(key).map(|key| key.writes.iter());
    let of_value = writes
        .into_iter()
        .flatten()
        .find(|write| write.value == value.copied());
    of_value.map(|write| write.op).into_iter().collect()
}
