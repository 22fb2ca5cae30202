//! What waits for one watcher: deliveries up to a bound in bytes, or the word that some were lost, which stands before them all.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use quorumor_core::{ChangeEvent, KeyRange, Position};
use tokio::sync::Notify;

use super::{ChangeNumber, Hub};
use crate::weight::Weight;

/// The events of one change within one range: shared by all its watchers, and so is whatever is made of them once.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) number: ChangeNumber,
    pub(crate) position: Position,
    pub(crate) events: Arc<[ChangeEvent]>,
    pub(crate) bytes: usize,
    /// Its part of what the hub holds.
    _weight: Weight,
}

impl Delivery {
    pub(super) const fn new(
        number: ChangeNumber,
        position: Position,
        events: Arc<[ChangeEvent]>,
        bytes: usize,
        weight: Weight,
    ) -> Self {
        Self {
            number,
            position,
            events,
            bytes,
            _weight: weight,
        }
    }
}

/// Why a watcher can't just go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It took too slowly, and its mailbox was emptied.
    Slow,
    /// The hub itself was too slow, or the changes came before it could see them.
    Behind,
    /// The state was replaced.
    Reset,
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Arc<Delivery>>,
    bytes: usize,
    lost: Option<Lost>,
}

impl Mailbox {
    /// Adds a delivery; empties the mailbox if it would hold more than `bytes_max`. One delivery alone may weigh more.
    pub(super) fn push(&self, delivery: &Arc<Delivery>, bytes_max: usize) {
        let mut inner = self.inner.lock();
        if inner.lost.is_some() {
            return;
        }
        if !inner.queue.is_empty() && inner.bytes + delivery.bytes > bytes_max {
            inner.lose(Lost::Slow);
            drop(inner);
            self.ready.notify_one();
            return;
        }
        let was_empty = inner.queue.is_empty();
        inner.bytes += delivery.bytes;
        inner.queue.push_back(Arc::clone(delivery));
        drop(inner);
        // Who has something to take already was told.
        if was_empty {
            self.ready.notify_one();
        }
    }

    pub(super) fn lose(&self, lost: Lost) {
        let mut inner = self.inner.lock();
        if inner.lost.is_none() {
            inner.lose(lost);
        }
        drop(inner);
        self.ready.notify_one();
    }
}

impl Inner {
    fn lose(&mut self, lost: Lost) {
        // What waited is worth nothing any more.
        self.queue = VecDeque::new();
        self.bytes = 0;
        self.lost = Some(lost);
    }
}

/// A watcher's end of its mailbox. It leaves the hub when this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    range: KeyRange,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    pub(super) const fn new(
        hub: Arc<Hub>,
        range: KeyRange,
        id: u64,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        Self {
            hub,
            range,
            id,
            mailbox,
        }
    }

    /// Takes what waits, whole deliveries up to about `bytes_max`; nothing if nothing waits.
    pub(crate) fn take(&self, bytes_max: usize) -> Result<Vec<Arc<Delivery>>, Lost> {
        let mut inner = self.mailbox.inner.lock();
        if let Some(lost) = inner.lost {
            return Err(lost);
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(first) = inner.queue.front() {
            bytes += first.bytes;
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.extend(inner.queue.pop_front());
        }
        let gone: usize = taken.iter().map(|delivery| delivery.bytes).sum();
        inner.bytes -= gone;
        Ok(taken)
    }

    /// Resolves when there may be something to take.
    pub(crate) async fn ready(&self) {
        self.mailbox.ready.notified().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.range, self.id);
    }
}
