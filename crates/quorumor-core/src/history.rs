//! Past revisions of strong mode, within a window: for reads at a revision and for watchers that resume.
//!
//! It is part of the replicated state, so that every node has the same window. A clone is O(1). Each kept revision holds its
//! events with what they replaced; an older value of a key is found by going back from change to change of that key.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::entry::Entry;
use crate::id::Revision;
use crate::key::{Key, KeyRange};
use crate::replica::ChangeEvent;
use crate::time::LogTime;
use crate::version::Version;

/// What one past revision changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRevision {
    /// The revision.
    pub revision: Revision,
    /// The log time of the entry that made it.
    pub time: LogTime,
    /// Its events, in order, with what each replaced.
    pub events: Arc<[ChangeEvent]>,
}

impl PastRevision {
    /// The bytes of keys and values that it holds: the new ones, since the old ones are counted where they were new.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events
            .iter()
            .map(|event| match event {
                ChangeEvent::Put { entry, .. } => entry.bytes(),
                ChangeEvent::Deleted { key, .. } => key.as_str().len(),
                ChangeEvent::Reset => 0,
            })
            .sum()
    }
}

/// Past revisions, contiguous in what they hold: every revision above the oldest that changed anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    revisions: OrdMap<Revision, Arc<PastRevision>>,
    /// Keys that are absent now and were present within the window, with the revision that removed them last.
    deleted: OrdMap<Key, Revision>,
    /// For a key that was made again within the window: where it was made, and where it had been removed before.
    reborn: OrdMap<(Key, Revision), Revision>,
    compacted: Revision,
    bytes: usize,
}

impl History {
    /// A history that begins behind a revision: what a state without its past has.
    #[must_use]
    pub fn starting_at(revision: Revision) -> Self {
        Self {
            compacted: revision,
            ..Self::default()
        }
    }

    /// The oldest revision that can still be read. A watch can resume behind it.
    #[must_use]
    pub const fn oldest(&self) -> Revision {
        self.compacted
    }

    /// How many revisions are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.revisions.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// The bytes of keys and values that are kept.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest change that is kept.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<PastRevision>> {
        self.revisions.get_min().map(|(_, past)| past)
    }

    /// Adds the newest revision. Revisions come in growing order.
    pub fn push(&mut self, past: PastRevision) {
        for event in past.events.iter() {
            match event {
                ChangeEvent::Put { entry, .. } => {
                    if let Some(removed) = self.deleted.remove(&entry.key)
                        && removed < past.revision
                    {
                        let made = (entry.key.clone(), past.revision);
                        self.reborn.insert(made, removed);
                    }
                }
                ChangeEvent::Deleted { key, .. } => {
                    self.deleted.insert(key.clone(), past.revision);
                }
                ChangeEvent::Reset => {}
            }
        }
        self.bytes += past.bytes();
        self.revisions.insert(past.revision, Arc::new(past));
    }

    /// Forgets what lies at or below a revision, except that the state at that very revision can still be read.
    pub fn compact(&mut self, through: Revision) {
        while let Some((revision, past)) = self.revisions.get_min().cloned() {
            if revision > through {
                break;
            }
            self.revisions.remove(&revision);
            self.bytes = self.bytes.saturating_sub(past.bytes());
            for event in past.events.iter() {
                self.forget(event, revision);
            }
        }
        self.compacted = self.compacted.max(through);
    }

    fn forget(&mut self, event: &ChangeEvent, revision: Revision) {
        match event {
            ChangeEvent::Put { entry, .. } => {
                self.reborn.remove(&(entry.key.clone(), revision));
            }
            ChangeEvent::Deleted { key, .. } if self.deleted.get(key) == Some(&revision) => {
                self.deleted.remove(key);
            }
            ChangeEvent::Deleted { key, .. } => {
                // Where the key was made again, if it was: nothing is known any more of what was before.
                let next = self.reborn.range((key.clone(), revision)..).next();
                let made = next.filter(|((of, _), removed)| of == key && **removed == revision);
                if let Some((made, _)) = made.map(|(made, removed)| (made.clone(), *removed)) {
                    self.reborn.remove(&made);
                }
            }
            ChangeEvent::Reset => {}
        }
    }

    /// The changes above a revision, in order; `None` if some of them are gone.
    #[must_use]
    pub fn since(
        &self,
        revision: Revision,
    ) -> Option<impl Iterator<Item = &Arc<PastRevision>> + use<'_>> {
        (revision >= self.compacted).then(|| {
            self.revisions
                .range((Bound::Excluded(revision), Bound::Unbounded))
                .map(|(_, past)| past)
        })
    }

    /// All kept revisions, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PastRevision>> {
        self.revisions.values()
    }

    /// The keys of a range that are absent now and were present within the window, in order.
    pub(crate) fn deleted<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a Key> + use<'a> {
        let from = match after {
            Some(after) if after.as_str() >= range.start() => Bound::Excluded(after.as_str()),
            Some(_) | None => Bound::Included(range.start()),
        };
        self.deleted
            .range::<_, str>((from, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| range.contains(key))
    }

    /// What a key held at a revision that is within the window, given what it holds now.
    pub(crate) fn entry_at(
        &self,
        key: &Key,
        current: Option<&Arc<Entry>>,
        revision: Revision,
    ) -> Option<Arc<Entry>> {
        // The change of this key to go back from: the first one above the revision is what counts.
        let mut at = match current {
            Some(entry) if modified(entry) <= revision => return Some(Arc::clone(entry)),
            Some(entry) => modified(entry),
            None => *self.deleted.get(key)?,
        };
        while at > revision {
            at = match self.before(key, at) {
                Some(entry) if modified(&entry) <= revision => return Some(entry),
                Some(entry) => modified(&entry),
                None => *self.reborn.get(&(key.clone(), at))?,
            };
        }
        None
    }

    /// What the first event of a key at a revision replaced.
    fn before(&self, key: &Key, at: Revision) -> Option<Arc<Entry>> {
        self.revisions
            .get(&at)?
            .events
            .iter()
            .find_map(|event| replaced(event, key))
            .flatten()
    }
}

/// What this event replaced, if it is one of this key.
fn replaced(event: &ChangeEvent, of: &Key) -> Option<Option<Arc<Entry>>> {
    match event {
        ChangeEvent::Put { entry, previous } if entry.key == *of => Some(previous.clone()),
        ChangeEvent::Deleted { key, previous, .. } if key == of => Some(previous.clone()),
        ChangeEvent::Put { .. } | ChangeEvent::Deleted { .. } | ChangeEvent::Reset => None,
    }
}

/// When an entry was written.
fn modified(entry: &Entry) -> Revision {
    match entry.version {
        Version::Strong { modify, .. } => modify,
        // No entry with a history has one.
        Version::Eventual { .. } => Revision::ZERO,
    }
}

#[cfg(test)]
mod tests;
