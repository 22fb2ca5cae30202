//! Which watchers a key concerns. Watchers of the same range stand together, and a key finds its ranges without looking at
//! the others: prefixes by their length, single keys by name. Only ranges between two bounds are looked at one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use quorumor_core::{ChangeEvent, Key, KeyRange};

use super::mailbox::{Lost, Mailbox};

type GroupId = u64;

/// The watchers of one range.
#[derive(Debug)]
struct Group {
    range: KeyRange,
    members: HashMap<u64, Arc<Mailbox>>,
}

/// All ranges that are watched.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    groups: HashMap<GroupId, Group>,
    prefixes: HashMap<Arc<str>, GroupId>,
    /// How many prefixes have each length.
    lengths: BTreeMap<usize, usize>,
    singles: HashMap<Arc<str>, GroupId>,
    /// The others.
    between: Vec<GroupId>,
    next: u64,
}

/// The one key that a range covers, if it covers no more: from it to what comes next.
fn single(range: &KeyRange) -> Option<&Arc<str>> {
    match range {
        KeyRange::Between {
            start,
            end: Some(end),
        } => {
            // No key holds a NUL, so this is the next one.
            let rest = end.strip_prefix(&**start)?;
            (rest == "\u{1}" || rest == "\0").then_some(start)
        }
        KeyRange::Between { end: None, .. } | KeyRange::Prefix(_) => None,
    }
}

impl Ranges {
    /// Adds a watcher of a range; gives its number.
    pub(super) fn add(&mut self, range: &KeyRange, mailbox: Arc<Mailbox>) -> u64 {
        self.next += 1;
        let id = self.next;
        let group = self.find(range).unwrap_or_else(|| self.found(range, id));
        if let Some(group) = self.groups.get_mut(&group) {
            group.members.insert(id, mailbox);
        }
        id
    }

    /// Removes a watcher, and its range if it was the last one there.
    pub(super) fn remove(&mut self, range: &KeyRange, id: u64) {
        let Some(found) = self.find(range) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&found) else {
            return;
        };
        group.members.remove(&id);
        if !group.members.is_empty() {
            return;
        }
        self.groups.remove(&found);
        match (range, single(range)) {
            (_, Some(key)) => {
                self.singles.remove(key);
            }
            (KeyRange::Prefix(prefix), None) => {
                self.prefixes.remove(prefix);
                if let Some(count) = self.lengths.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.lengths.remove(&prefix.len());
                    }
                }
            }
            (KeyRange::Between { .. }, None) => self.between.retain(|group| *group != found),
        }
    }

    fn find(&self, range: &KeyRange) -> Option<GroupId> {
        match (range, single(range)) {
            (_, Some(key)) => self.singles.get(key).copied(),
            (KeyRange::Prefix(prefix), None) => self.prefixes.get(prefix).copied(),
            (KeyRange::Between { .. }, None) => self
                .between
                .iter()
                .copied()
                .find(|group| self.groups.get(group).is_some_and(|it| it.range == *range)),
        }
    }

    fn found(&mut self, range: &KeyRange, group: GroupId) -> GroupId {
        match (range, single(range)) {
            (_, Some(key)) => {
                self.singles.insert(Arc::clone(key), group);
            }
            (KeyRange::Prefix(prefix), None) => {
                self.prefixes.insert(Arc::clone(prefix), group);
                *self.lengths.entry(prefix.len()).or_default() += 1;
            }
            (KeyRange::Between { .. }, None) => self.between.push(group),
        }
        let founded = Group {
            range: range.clone(),
            members: HashMap::new(),
        };
        self.groups.insert(group, founded);
        group
    }

    /// Tells every watcher that it lost something.
    pub(super) fn lose_all(&self, lost: Lost) {
        for group in self.groups.values() {
            for mailbox in group.members.values() {
                mailbox.lose(lost);
            }
        }
    }

    /// Calls `give` once for each range that any of the events touches, with the events that do and its watchers.
    pub(super) fn each_touched(
        &self,
        events: &Arc<[ChangeEvent]>,
        mut give: impl FnMut(Arc<[ChangeEvent]>, &mut dyn Iterator<Item = &Arc<Mailbox>>),
    ) {
        let mut touched: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            if let Some(key) = key_of(event) {
                self.each_covering(key, |group| touched.entry(group).or_default().push(at));
            }
        }
        for (group, at) in touched {
            let Some(group) = self.groups.get(&group) else {
                continue;
            };
            let shared = if at.len() == events.len() {
                Arc::clone(events)
            } else {
                at.into_iter()
                    .filter_map(|at| events.get(at).cloned())
                    .collect()
            };
            give(shared, &mut group.members.values());
        }
    }

    fn each_covering(&self, key: &Key, mut found: impl FnMut(GroupId)) {
        let text = key.as_str();
        for length in self
            .lengths
            .keys()
            .take_while(|length| **length <= text.len())
        {
            // A length in the midst of a character is that of no prefix of this key.
            let prefix = text.get(..*length);
            if let Some(group) = prefix.and_then(|prefix| self.prefixes.get(prefix)) {
                found(*group);
            }
        }
        if let Some(group) = self.singles.get(text) {
            found(*group);
        }
        for group in &self.between {
            if self
                .groups
                .get(group)
                .is_some_and(|it| it.range.contains(key))
            {
                found(*group);
            }
        }
    }
}

/// The key that an event is about.
pub(super) fn key_of(event: &ChangeEvent) -> Option<&Key> {
    match event {
        ChangeEvent::Put { entry, .. } => Some(&entry.key),
        ChangeEvent::Deleted { key, .. } => Some(key),
        ChangeEvent::Reset => None,
    }
}
