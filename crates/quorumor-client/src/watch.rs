//! A watch that outlives its connection.
//!
//! It resumes from the cursor of its last step, so that no change is missed or repeated; where that can't be, it says
//! [`WatchStep::Resync`] and begins again with a snapshot. In strong mode a cursor is good at any node; in eventual
//! mode at the node that gave it, so that node is asked first.

use std::time::Duration;

use bytes::Bytes;
use quorumor_core::{Entry, Error, Key, KeyRange, Revision, Version};
use quorumor_proto::entry::entry_from_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::watch_response::Step;
use tonic::{Request, Response, Status, Streaming};

use crate::answer::{Receipt, receipt, required, version};
use crate::client::Client;
use crate::endpoints::Target;
use crate::error::ClientError;
use crate::resume::{Beginning, Resuming, Steps, Told};
use crate::wire::{duration_to_wire, range_to_wire};

pub use crate::resume::ResyncReason;

/// The most that the changes of one revision may weigh together. What it writes is bounded far below that
/// ([`BATCH_BYTES_MAX`](quorumor_core::limits::BATCH_BYTES_MAX)); what it removes or replaces, and with
/// [`WatchOptions::previous`] comes with it, may weigh more.
const PARTS_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A running watch. Nothing happens until [`Watch::next`] is awaited. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    stream: Resuming<KeySteps>,
}

/// What a watch is to show. Make one with [`WatchOptions::new`] and set what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Which keys.
    pub range: KeyRange,
    /// Go on behind this cursor, without a snapshot if the history is still there.
    pub cursor: Option<Bytes>,
    /// No snapshot: the changes from this revision on. Strong mode only; not with a cursor.
    pub start_revision: Option<Revision>,
    /// Whether events carry what they replaced. Strong mode only.
    pub previous: bool,
    /// Whether a resync ends the watch, after its step, instead of starting again with a snapshot.
    pub end_on_resync: bool,
    /// Whether the watch ends, with the error `LEADER_LOST`, when the node that serves it loses its leader, instead of going on
    /// or moving. Strong mode only.
    pub end_on_leader_lost: bool,
    /// How often at most to hear of progress while nothing changes; `None` for the node's 5 s.
    pub progress_interval: Option<Duration>,
}

impl WatchOptions {
    /// A snapshot, then changes.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self {
            range,
            cursor: None,
            start_revision: None,
            previous: false,
            end_on_resync: false,
            end_on_leader_lost: false,
            progress_interval: None,
        }
    }
}

/// One step of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchItem {
    /// The step.
    pub step: WatchStep,
    /// Where to resume behind this step; `None` before the snapshot is complete.
    pub cursor: Option<Bytes>,
    /// What the node says about it.
    pub receipt: Receipt,
}

/// What a step of a watch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchStep {
    /// A part of the snapshot.
    Snapshot {
        /// Entries, in key order.
        entries: Vec<Entry>,
        /// Whether this is the last part.
        complete: bool,
    },
    /// Changes, in order.
    Changes(Vec<WatchEvent>),
    /// Changes may have been missed: forget what was seen; a snapshot follows.
    Resync {
        /// Why.
        reason: ResyncReason,
    },
    /// Nothing changed up to the cursor.
    Progress,
}

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The key has a new entry.
    Put {
        /// The entry.
        entry: Entry,
        /// What the key held before, if [`WatchOptions::previous`] asked for it and there was something.
        previous: Option<Entry>,
    },
    /// The key is gone.
    Deleted {
        /// The key.
        key: Key,
        /// The version of the deletion.
        version: Version,
        /// What the key held before, if [`WatchOptions::previous`] asked for it.
        previous: Option<Entry>,
    },
}

impl WatchEvent {
    /// The key that changed.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Deleted { key, .. } => key,
        }
    }

    /// About what it weighs.
    fn bytes(&self) -> usize {
        let (key, previous) = match self {
            Self::Put { entry, previous } => (entry.bytes(), previous),
            Self::Deleted { key, previous, .. } => (key.as_str().len(), previous),
        };
        size_of::<Self>() + key + previous.as_ref().map_or(0, Entry::bytes)
    }

    /// The revision of the change; `None` in eventual mode.
    #[must_use]
    pub const fn revision(&self) -> Option<Revision> {
        let (Self::Put {
            entry: Entry { version, .. },
            ..
        }
        | Self::Deleted { version, .. }) = self;
        match version {
            Version::Strong { modify, .. } => Some(*modify),
            Version::Eventual { .. } => None,
        }
    }
}

impl Client {
    /// Watches a range: a snapshot, then its changes in order. Resumes by itself where no change can be missed, and says so
    /// where one could.
    #[must_use]
    pub fn watch(&self, range: KeyRange) -> Watch {
        self.watch_with(WatchOptions::new(range))
    }

    /// Watches a range from a cursor on, without a snapshot if the history is still there.
    #[must_use]
    pub fn watch_from(&self, range: KeyRange, cursor: Bytes) -> Watch {
        self.watch_with(WatchOptions {
            cursor: Some(cursor),
            ..WatchOptions::new(range)
        })
    }

    /// Watches as the options say.
    #[must_use]
    pub fn watch_with(&self, options: WatchOptions) -> Watch {
        Watch::new(self.clone(), options)
    }
}

impl Watch {
    fn new(client: Client, mut options: WatchOptions) -> Self {
        let cursor = options.cursor.take();
        let steps = KeySteps {
            options,
            seen: Revision::ZERO,
            parts: Parts::default(),
        };
        Self {
            stream: Resuming::new(client, steps, cursor),
        }
    }

    /// Where to resume behind the last step; `None` before a snapshot is complete.
    #[must_use]
    pub const fn cursor(&self) -> Option<&Bytes> {
        self.stream.cursor()
    }

    /// The next step. After an error there are no more: `None`. Safe to drop before it is ready; nothing is lost.
    ///
    /// # Errors
    /// See [`ClientError`]: an error that a retry can't help, or an outage longer than the client's watch patience.
    pub async fn next(&mut self) -> Option<Result<WatchItem, ClientError>> {
        let told = self.stream.next().await?;
        Some(told.map(|told| WatchItem {
            step: told.step,
            cursor: told.cursor,
            receipt: told.receipt,
        }))
    }
}

/// The steps of a watch of keys.
#[derive(Debug)]
struct KeySteps {
    options: WatchOptions,
    /// The newest revision that was handed over as a change: nothing at or below it is handed over again.
    seen: Revision,
    /// The changes so far of a revision that comes in several messages: handed over once it is whole.
    parts: Parts,
}

impl KeySteps {
    /// A start revision is for the first stream only: behind it there are cursors, or a snapshot.
    fn start_revision(&self, begun: bool) -> Revision {
        let start = self.options.start_revision.filter(|_| !begun);
        start.unwrap_or_default()
    }
}

impl Steps for KeySteps {
    type Message = pb::WatchResponse;
    type Step = WatchStep;

    async fn open(
        &self,
        target: &Target,
        header: pb::RequestHeader,
        place: Beginning<'_>,
    ) -> Result<Response<Streaming<pb::WatchResponse>>, Status> {
        let request = Request::new(pb::WatchRequest {
            header: Some(header),
            range: Some(range_to_wire(&self.options.range)),
            cursor: place.cursor.cloned().unwrap_or_default(),
            previous: self.options.previous,
            start_revision: self.start_revision(place.begun).as_u64(),
            end_on_resync: self.options.end_on_resync,
            end_on_leader_lost: self.options.end_on_leader_lost,
            progress_interval: self.options.progress_interval.map(duration_to_wire),
        });
        target.stub().watch(request).await
    }

    fn read(&mut self, message: pb::WatchResponse) -> Result<Option<Told<WatchStep>>, Error> {
        let more = matches!(&message.step, Some(Step::Changes(changes)) if changes.more);
        let told = told_from_wire(message)?;
        let step = self.parts.join(told.step, more)?;
        Ok(step.map(|step| Told { step, ..told }))
    }

    /// A node that resumes a watch may begin too early, never too late.
    fn new_in(&mut self, mut step: WatchStep) -> Option<WatchStep> {
        let WatchStep::Changes(events) = &mut step else {
            return Some(step);
        };
        let seen = self.seen;
        events.retain(|event| event.revision().is_none_or(|revision| revision > seen));
        let newest = events.iter().filter_map(WatchEvent::revision).max();
        self.seen = seen.max(newest.unwrap_or_default());
        (!events.is_empty()).then_some(step)
    }

    fn is_resync(step: &WatchStep) -> bool {
        matches!(step, WatchStep::Resync { .. })
    }

    fn resync(reason: ResyncReason) -> WatchStep {
        WatchStep::Resync { reason }
    }

    fn forget(&mut self) {
        self.seen = Revision::ZERO;
    }

    fn broke(&mut self) {
        self.parts.clear();
    }

    fn ends_on_resync(&self) -> bool {
        self.options.end_on_resync
    }

    fn ends_with(&self, error: &ClientError) -> bool {
        self.options.end_on_leader_lost && error.reason() == "LEADER_LOST"
    }
}

/// What came of one revision, bounded.
#[derive(Debug, Default)]
struct Parts {
    events: Vec<WatchEvent>,
    bytes: usize,
}

impl Parts {
    fn clear(&mut self) {
        *self = Self::default();
    }

    /// The step with all of its revision; `None` while more of that follows.
    fn join(&mut self, mut step: WatchStep, more: bool) -> Result<Option<WatchStep>, Error> {
        if let WatchStep::Changes(events) = &mut step {
            let Some(whole) = self.add(std::mem::take(events), more)? else {
                return Ok(None);
            };
            *events = whole;
        } else {
            // A revision that something else comes into was never whole.
            self.clear();
        }
        Ok(Some(step))
    }

    /// Adds a message's changes: with all that came before if the revision is whole now.
    fn add(
        &mut self,
        events: Vec<WatchEvent>,
        more: bool,
    ) -> Result<Option<Vec<WatchEvent>>, Error> {
        if !more && self.events.is_empty() {
            return Ok(Some(events));
        }
        self.bytes += events.iter().map(WatchEvent::bytes).sum::<usize>();
        if self.bytes > PARTS_BYTES_MAX {
            let limit = "watch_revision_bytes_max";
            return Err(Error::too_large(limit, PARTS_BYTES_MAX, self.bytes));
        }
        self.events.extend(events);
        Ok((!more).then(|| std::mem::take(self).events))
    }
}

fn told_from_wire(mut message: pb::WatchResponse) -> Result<Told<WatchStep>, Error> {
    let step = match required(message.step, "step")? {
        Step::Snapshot(snapshot) => WatchStep::Snapshot {
            entries: snapshot
                .entries
                .into_iter()
                .map(entry_from_wire)
                .collect::<Result<_, _>>()?,
            complete: snapshot.complete,
        },
        Step::Changes(changes) => WatchStep::Changes(
            changes
                .events
                .into_iter()
                .map(event_from_wire)
                .collect::<Result<_, _>>()?,
        ),
        Step::Resync(resync) => WatchStep::Resync {
            reason: ResyncReason::from_wire(resync),
        },
        Step::Progress(pb::WatchProgress {}) => WatchStep::Progress,
    };
    Ok(Told {
        step,
        cursor: (!message.cursor.is_empty()).then_some(message.cursor),
        receipt: receipt(&mut message.receipt)?,
    })
}

fn event_from_wire(event: pb::WatchEvent) -> Result<WatchEvent, Error> {
    use pb::watch_event::Event;
    let previous = event.previous.map(entry_from_wire).transpose()?;
    Ok(match required(event.event, "event")? {
        Event::Put(entry) => WatchEvent::Put {
            entry: entry_from_wire(entry)?,
            previous,
        },
        Event::Deletion(deletion) => WatchEvent::Deleted {
            key: Key::parse(&deletion.key)?,
            version: version(deletion.version)?,
            previous,
        },
    })
}
