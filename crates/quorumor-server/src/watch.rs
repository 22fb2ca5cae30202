//! The watch hub: one bounded ring of recent changes a mode, shared by all its watchers.
//!
//! The driver appends each change under the next number; a watcher pulls from the number it has reached. Nothing is queued
//! per watcher, so a thousand slow ones cost what one costs: one that falls too far behind is told to read the state
//! again. A subscriber starts from the number that was published together with its view, so there is neither a gap nor a
//! repetition between snapshot and changes. `cursor.rs` is what a watcher takes home; `service/watch.rs` the stream.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use quorumor_core::limits::{WATCH_HISTORY_BYTES_MAX, WATCHER_BYTES_MAX};
use quorumor_core::{Change, ChangeEvent, Position, Revision, Version};
use tokio::sync::watch;

pub(crate) mod cursor;

/// What an event weighs beside its key, value and context.
const EVENT_BYTES: usize = 64;
/// What a row of a context weighs as it's sent.
const ROW_BYTES: usize = 32;

/// The number of a change since this hub began, from 1. Zero is before the first.
pub(crate) type ChangeNumber = u64;

/// A change and its place.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) number: ChangeNumber,
    pub(crate) change: Arc<Change>,
    bytes: usize,
}

/// Why a watcher can't go on from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is too far behind what was made since.
    Slow,
    /// The changes that it needs are no longer kept.
    Gone,
}

#[derive(Debug)]
struct Ring {
    changes: VecDeque<Numbered>,
    bytes: usize,
    /// The number of the last change, kept or not.
    last: ChangeNumber,
    /// The position before the oldest change that is kept.
    base: Position,
}

/// The hub of one mode.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Tells this life of the node from others, for cursors.
    id: u64,
    ring: Mutex<Ring>,
    latest: watch::Sender<ChangeNumber>,
    history_bytes_max: usize,
    watcher_bytes_max: usize,
}

impl Hub {
    pub(crate) fn new(id: u64, base: Position) -> Self {
        Self::with_limits(id, base, WATCH_HISTORY_BYTES_MAX, WATCHER_BYTES_MAX)
    }

    fn with_limits(
        id: u64,
        base: Position,
        history_bytes_max: usize,
        watcher_bytes_max: usize,
    ) -> Self {
        Self {
            id,
            ring: Mutex::new(Ring {
                changes: VecDeque::new(),
                bytes: 0,
                last: 0,
                base,
            }),
            latest: watch::Sender::new(0),
            history_bytes_max,
            watcher_bytes_max,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Appends changes and wakes the watchers. Returns nothing: the driver counts along.
    pub(crate) fn append(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut ring = self.ring.lock();
        for change in changes {
            let bytes = weigh(&change);
            ring.last += 1;
            let number = ring.last;
            ring.bytes += bytes;
            ring.changes.push_back(Numbered {
                number,
                change: Arc::new(change),
                bytes,
            });
        }
        while ring.bytes > self.history_bytes_max
            && let Some(oldest) = ring.changes.pop_front()
        {
            ring.bytes -= oldest.bytes;
            ring.base = oldest.change.position.clone();
        }
        let last = ring.last;
        drop(ring);
        self.latest.send_replace(last);
    }

    /// Tells of every number reached.
    pub(crate) fn subscribe(&self) -> watch::Receiver<ChangeNumber> {
        self.latest.subscribe()
    }

    /// The changes behind `after`, up to about `bytes_max`; empty if there are none yet.
    pub(crate) fn after(
        &self,
        after: ChangeNumber,
        bytes_max: usize,
    ) -> Result<Vec<Numbered>, Lost> {
        self.take(after, bytes_max, self.watcher_bytes_max)
    }

    /// The same for a watcher that has just resumed: it may need all that is kept.
    pub(crate) fn catch_up(
        &self,
        after: ChangeNumber,
        bytes_max: usize,
    ) -> Result<Vec<Numbered>, Lost> {
        self.take(after, bytes_max, usize::MAX)
    }

    fn take(
        &self,
        after: ChangeNumber,
        bytes_max: usize,
        behind_max: usize,
    ) -> Result<Vec<Numbered>, Lost> {
        let ring = self.ring.lock();
        let behind = usize::try_from(ring.last.saturating_sub(after)).unwrap_or(usize::MAX);
        let Some(skip) = ring.changes.len().checked_sub(behind) else {
            return Err(Lost::Gone);
        };
        let waiting: usize = ring.changes.iter().skip(skip).map(|kept| kept.bytes).sum();
        // One change alone may weigh more than a watcher's share.
        if waiting > behind_max && behind > 1 {
            return Err(Lost::Slow);
        }
        let mut taken = 0;
        let fits = ring.changes.iter().skip(skip).take_while(|kept| {
            let first = taken == 0;
            taken += kept.bytes;
            first || taken <= bytes_max
        });
        Ok(fits.cloned().collect())
    }

    /// The number behind which everything above this revision stands. Strong mode.
    pub(crate) fn resume(&self, revision: Revision) -> Result<ChangeNumber, Lost> {
        let ring = self.ring.lock();
        let seen = |position: &Position| match position {
            Position::Strong(reached) => *reached <= revision,
            Position::Eventual(_) => false,
        };
        if !seen(&ring.base) {
            return Err(Lost::Gone);
        }
        let unseen = ring
            .changes
            .iter()
            .find(|kept| !seen(&kept.change.position));
        Ok(unseen.map_or(ring.last, |kept| kept.number - 1))
    }

    /// Whether everything behind this number is still kept.
    pub(crate) fn keeps(&self, after: ChangeNumber) -> bool {
        let ring = self.ring.lock();
        after <= ring.last && ring.last - after <= ring.changes.len() as u64
    }
}

fn context_bytes(version: &Version) -> usize {
    match version {
        Version::Strong { .. } => 0,
        Version::Eventual { context, .. } => context.len() * ROW_BYTES,
    }
}

fn weigh(change: &Change) -> usize {
    let event_bytes = |event: &ChangeEvent| match event {
        ChangeEvent::Put { entry, .. } => entry.bytes() + context_bytes(&entry.version),
        ChangeEvent::Deleted { key, version, .. } => key.as_str().len() + context_bytes(version),
        ChangeEvent::Reset => 0,
    };
    change
        .events
        .iter()
        .map(|event| EVENT_BYTES + event_bytes(event))
        .sum::<usize>()
        + EVENT_BYTES
}

#[cfg(test)]
mod tests;
