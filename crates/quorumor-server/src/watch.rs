//! The watch hub of one mode: takes changes from the driver, and gives each to the watchers whose range it touches.
//!
//! The driver puts a change into the ring and goes on. A task of the hub's own takes it from there, finds the ranges that it
//! touches (`ranges.rs`) and puts one shared copy into the mailboxes of their watchers (`mailbox.rs`), so that a watcher
//! whose range isn't touched isn't woken, and thousands of the same range share what is delivered. A mailbox is bounded in
//! bytes; one that overflows is emptied and says so. What came before a watcher joined is not here: in strong mode it's in the
//! view's history, the same on each node; in eventual mode the ring keeps the last changes.
//!
//! Nothing falls between: a watcher joins, then looks at the published view, and skips deliveries that the view includes.
//! `cursor.rs` is what a watcher takes home; `service/watch.rs` the stream.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use quorumor_core::limits::{WATCH_HISTORY_BYTES_MAX, WATCHER_BYTES_MAX};
use quorumor_core::{Change, ChangeEvent, KeyRange, Mode, Position, Version};
use tokio::sync::Notify;

use crate::weight;

pub(crate) mod cursor;
mod mailbox;
mod ranges;

use mailbox::Mailbox;
pub(crate) use mailbox::{Delivery, Lost, Subscription};
use ranges::Ranges;

/// What an event weighs beside its key, value and context.
const EVENT_BYTES: usize = 64;
/// What a row of a context weighs as it's sent.
const ROW_BYTES: usize = 32;
/// Changes that are given out before others may run.
const CHANGES_PER_TURN: usize = 256;
/// Bytes of deliveries, each counted once however many share it, beyond which the mailboxes that hold most are emptied.
const BUFFERED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The number of a change since this hub began, from 1. Zero is before the first.
pub(crate) type ChangeNumber = u64;

/// A change and its place.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) number: ChangeNumber,
    pub(crate) change: Change,
    bytes: usize,
}

/// The changes that are needed for what was not reached are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of the ring.
    pub(crate) ring: usize,
    /// Bytes of one mailbox.
    pub(crate) mailbox: usize,
    /// Bytes of all deliveries.
    pub(crate) buffered: usize,
}

impl Bounds {
    pub(crate) const DEFAULT: Self = Self {
        ring: WATCH_HISTORY_BYTES_MAX,
        mailbox: WATCHER_BYTES_MAX,
        buffered: BUFFERED_BYTES_MAX,
    };
}

#[derive(Debug)]
struct Ring {
    changes: VecDeque<Numbered>,
    bytes: usize,
    /// The number of the last change, kept or not.
    last: ChangeNumber,
    watchers: usize,
    has_dispatcher: bool,
}

/// What was given out, and to whom.
#[derive(Debug)]
struct Given {
    ranges: Ranges,
    /// The last change that was given to all whom it concerns.
    number: ChangeNumber,
    position: Position,
}

/// The hub of one mode.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Tells this life of the node from others, for cursors.
    id: u64,
    /// Whether the ring keeps what was given out, for watchers that resume: where the view has no history.
    keeps: bool,
    bounds: Bounds,
    ring: Mutex<Ring>,
    arrived: Arc<Notify>,
    given: Mutex<Given>,
    buffered: weight::Bytes,
}

impl Hub {
    pub(crate) fn new(id: u64, mode: Mode, base: Position, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            id,
            keeps: mode == Mode::Eventual,
            bounds,
            ring: Mutex::new(Ring {
                changes: VecDeque::new(),
                bytes: 0,
                last: 0,
                watchers: 0,
                has_dispatcher: false,
            }),
            arrived: Arc::default(),
            given: Mutex::new(Given {
                ranges: Ranges::default(),
                number: 0,
                position: base,
            }),
            buffered: weight::Bytes::default(),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Takes changes from the driver, after the view that includes them was published. It doesn't wait for any watcher.
    pub(crate) fn append(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut ring = self.ring.lock();
        if ring.watchers == 0 && !self.keeps {
            // Who joins later looks at the view.
            ring.last += changes.len() as u64;
            return;
        }
        for change in changes {
            let bytes = weigh(&change.events);
            ring.last += 1;
            let number = ring.last;
            ring.bytes += bytes;
            ring.changes.push_back(Numbered {
                number,
                change,
                bytes,
            });
        }
        while ring.bytes > self.bounds.ring {
            ring.forget_oldest();
        }
        let is_awaited = ring.watchers > 0;
        drop(ring);
        if is_awaited {
            self.arrived.notify_one();
        }
    }

    /// Joins a watcher: it gets the changes of its range from here on, and perhaps some that the published view has already.
    pub(crate) fn join(self: &Arc<Self>, range: KeyRange) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        let mut given = self.given.lock();
        let mut ring = self.ring.lock();
        if ring.watchers == 0 {
            // Nobody missed what came while nobody watched.
            given.number = ring.last;
        }
        ring.watchers += 1;
        let starts = !std::mem::replace(&mut ring.has_dispatcher, true);
        drop(ring);
        let id = given.ranges.add(&range, Arc::clone(&mailbox));
        drop(given);
        if starts {
            let arrived = Arc::clone(&self.arrived);
            tokio::spawn(dispatch(Arc::downgrade(self), arrived));
        }
        Subscription::new(Arc::clone(self), range, id, mailbox)
    }

    fn leave(&self, range: &KeyRange, id: u64) {
        self.given.lock().ranges.remove(range, id);
        let mut ring = self.ring.lock();
        ring.watchers -= 1;
        if ring.watchers == 0 && !self.keeps {
            ring.changes = VecDeque::new();
            ring.bytes = 0;
        }
    }

    /// The last change that every watcher whom it concerns has in its mailbox.
    pub(crate) fn given(&self) -> (ChangeNumber, Position) {
        let given = self.given.lock();
        (given.number, given.position.clone())
    }

    /// Eventual mode: the changes behind a number, up to about `bytes_max`; empty if there are none yet.
    pub(crate) fn kept_after(
        &self,
        after: ChangeNumber,
        bytes_max: usize,
    ) -> Result<Vec<Numbered>, Gone> {
        let ring = self.ring.lock();
        let behind = usize::try_from(ring.last.saturating_sub(after)).unwrap_or(usize::MAX);
        let skip = ring.changes.len().checked_sub(behind).ok_or(Gone)?;
        let mut taken = 0;
        let fits = ring.changes.iter().skip(skip).take_while(|kept| {
            let first = taken == 0;
            taken += kept.bytes;
            first || taken <= bytes_max
        });
        Ok(fits.cloned().collect())
    }

    /// Eventual mode: whether everything behind this number is still kept.
    pub(crate) fn keeps_after(&self, after: ChangeNumber) -> bool {
        let ring = self.ring.lock();
        after <= ring.last && ring.last - after <= ring.changes.len() as u64
    }

    /// Bytes of all deliveries that wait, each counted once.
    #[cfg(test)]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered.get()
    }

    /// Gives out some of what arrived; `false` if there was nothing.
    fn give_out(&self) -> bool {
        let mut given = self.given.lock();
        let mut ring = self.ring.lock();
        let behind = usize::try_from(ring.last - given.number).unwrap_or(usize::MAX);
        if behind == 0 {
            return false;
        }
        let watchers = ring.watchers;
        let Some(skip) = ring.changes.len().checked_sub(behind) else {
            // Some came faster than they could be given out: who waits for them must look at the view again.
            given.number = ring.last - ring.changes.len() as u64;
            drop(ring);
            given.ranges.lose_all(Lost::Behind);
            return true;
        };
        let batch: Vec<Numbered> = ring
            .changes
            .iter()
            .skip(skip)
            .take(CHANGES_PER_TURN)
            .cloned()
            .collect();
        if !self.keeps {
            for _ in 0..skip + batch.len() {
                ring.forget_oldest();
            }
        }
        drop(ring);
        for numbered in batch {
            self.give(&mut given, &numbered, watchers);
        }
        true
    }

    fn give(&self, given: &mut Given, numbered: &Numbered, watchers: usize) {
        let Numbered { number, change, .. } = numbered;
        if change.events.contains(&ChangeEvent::Reset) {
            given.ranges.lose_all(Lost::Reset);
        } else {
            let share = if self.buffered.get() > self.bounds.buffered {
                self.bounds.buffered / watchers.max(1)
            } else {
                self.bounds.mailbox
            };
            given.ranges.each_touched(&change.events, |events, boxes| {
                let bytes = weigh(&events);
                let delivery = Arc::new(Delivery::new(
                    *number,
                    change.position.clone(),
                    events,
                    bytes,
                    self.buffered.add(bytes),
                ));
                for mailbox in boxes {
                    mailbox.push(&delivery, share.min(self.bounds.mailbox));
                }
            });
        }
        given.number = *number;
        given.position = change.position.clone();
    }
}

impl Ring {
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.changes.pop_front() {
            self.bytes -= oldest.bytes;
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.arrived.notify_one();
    }
}

/// Gives out what arrives, for as long as there is a hub.
async fn dispatch(hub: Weak<Hub>, arrived: Arc<Notify>) {
    loop {
        {
            let Some(hub) = hub.upgrade() else {
                return;
            };
            if hub.give_out() {
                drop(hub);
                tokio::task::yield_now().await;
                continue;
            }
        }
        arrived.notified().await;
    }
}

fn context_bytes(version: &Version) -> usize {
    match version {
        Version::Strong { .. } => 0,
        Version::Eventual { context, .. } => context.len() * ROW_BYTES,
    }
}

/// What these events weigh together, what they replaced included.
pub(crate) fn weigh(events: &[ChangeEvent]) -> usize {
    let event_bytes = |event: &ChangeEvent| match event {
        ChangeEvent::Put { entry, previous } => {
            let replaced = previous.as_ref().map_or(0, |entry| entry.bytes());
            entry.bytes() + context_bytes(&entry.version) + replaced
        }
        ChangeEvent::Deleted {
            key,
            version,
            previous,
        } => {
            let removed = previous.as_ref().map_or(0, |entry| entry.bytes());
            key.as_str().len() + context_bytes(version) + removed
        }
        ChangeEvent::Reset => 0,
    };
    events
        .iter()
        .map(|event| EVENT_BYTES + event_bytes(event))
        .sum::<usize>()
        + EVENT_BYTES
}

#[cfg(test)]
mod tests;
