//! A watch that outlives its connection.
//!
//! It resumes from the cursor of its last step, so that no change is missed or repeated; where that can't be, it says
//! [`WatchStep::Resync`] and begins again with a snapshot. In strong mode a cursor is good at any node; in eventual
//! mode at the node that gave it, so that node is asked first.

use std::time::Duration;

use backon::ExponentialBackoff;
use bytes::Bytes;
use quorumor_core::{Entry, Error, Key, KeyRange, Mode, Revision, Version};
use quorumor_proto::entry::entry_from_wire;
use quorumor_proto::pb;
use quorumor_proto::pb::watch_response::Step;
use tokio::time::Instant;
use tonic::{Request, Streaming};
use tracing::debug;

use crate::answer::{Receipt, receipt, required, version};
use crate::client::Client;
use crate::endpoints::Place;
use crate::error::ClientError;
use crate::retry::{Kind, RetryPolicy, may_retry};
use crate::wire::{duration_to_wire, range_to_wire};

/// Tries at the node that a cursor belongs to, before another one is asked.
const HOME_TRIES: usize = 3;

/// The most that the changes of one revision may weigh together. What it writes is bounded far below that
/// ([`BATCH_BYTES_MAX`](quorumor_core::limits::BATCH_BYTES_MAX)); what it removes or replaces, and with
/// [`WatchOptions::previous`] comes with it, may weigh more.
const PARTS_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A running watch. Nothing happens until [`Watch::next`] is awaited. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    options: WatchOptions,
    cursor: Option<Bytes>,
    /// The newest revision that was handed over as a change: nothing at or below it is handed over again.
    seen: Revision,
    snapshot_begun: bool,
    stream: Option<Open>,
    /// The changes so far of a revision that comes in several messages: handed over once it is whole.
    parts: Parts,
    queued: Option<WatchItem>,
    home: Option<Place>,
    outage: Option<Outage>,
    ended: bool,
}

#[derive(Debug)]
struct Open {
    place: Place,
    messages: Streaming<pb::WatchResponse>,
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

    /// The item with all of its revision; `None` while more of that follows.
    fn join(&mut self, mut item: WatchItem, more: bool) -> Result<Option<WatchItem>, Error> {
        if let WatchStep::Changes(events) = &mut item.step {
            let Some(whole) = self.add(std::mem::take(events), more)? else {
                return Ok(None);
            };
            *events = whole;
        } else {
            // A revision that something else comes into was never whole.
            self.clear();
        }
        Ok(Some(item))
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

/// A time without a stream: since when, who was tried, when to try next.
#[derive(Debug)]
struct Outage {
    since: Instant,
    tried: Vec<Place>,
    home_tries: usize,
    backoff: ExponentialBackoff,
    next_try: Instant,
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

/// Why a watch can't go on without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResyncReason {
    /// This watcher took its events so slowly that its buffer at the node was full.
    SlowWatcher,
    /// The changes from the cursor or the start revision on are no longer kept.
    HistoryGone {
        /// The oldest revision left.
        oldest: Revision,
    },
    /// The cursor is another cluster's, or (eventual mode) another node's.
    ForeignCursor,
    /// The data was restored or replaced since the cursor was given.
    EpochChanged,
    /// The node took over a whole state from another node.
    StateReplaced,
    /// No node said so: the connection broke before the snapshot was complete.
    ContactLost,
    /// A reason that this client doesn't know.
    Other(String),
}

impl ResyncReason {
    /// The reason's word, as on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::SlowWatcher => "SLOW_WATCHER",
            Self::HistoryGone { .. } => "HISTORY_GONE",
            Self::ForeignCursor => "FOREIGN_CURSOR",
            Self::EpochChanged => "EPOCH_CHANGED",
            Self::StateReplaced => "STATE_REPLACED",
            Self::ContactLost => "CONTACT_LOST",
            Self::Other(reason) => reason,
        }
    }

    fn from_wire(resync: pb::WatchResync) -> Self {
        match resync.reason.as_str() {
            "SLOW_WATCHER" => Self::SlowWatcher,
            "HISTORY_GONE" => Self::HistoryGone {
                oldest: Revision::new(resync.oldest_revision),
            },
            "FOREIGN_CURSOR" => Self::ForeignCursor,
            "EPOCH_CHANGED" => Self::EpochChanged,
            "STATE_REPLACED" => Self::StateReplaced,
            _ => Self::Other(resync.reason),
        }
    }
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
        Self {
            client,
            cursor: options.cursor.take(),
            options,
            seen: Revision::ZERO,
            snapshot_begun: false,
            stream: None,
            parts: Parts::default(),
            queued: None,
            home: None,
            outage: None,
            ended: false,
        }
    }

    /// Where to resume behind the last step; `None` before a snapshot is complete.
    #[must_use]
    pub const fn cursor(&self) -> Option<&Bytes> {
        self.cursor.as_ref()
    }

    /// The next step. After an error there are no more: `None`. Safe to drop before it is ready; nothing is lost.
    ///
    /// # Errors
    /// See [`ClientError`]: an error that a retry can't help, or an outage longer than the client's watch patience.
    pub async fn next(&mut self) -> Option<Result<WatchItem, ClientError>> {
        if self.ended {
            return None;
        }
        if let Some(item) = self.queued.take() {
            self.cursor.clone_from(&item.cursor);
            if let Some(item) = self.new_in(item) {
                return Some(Ok(item));
            }
        }
        loop {
            let (place, error) = match self.step().await {
                Ok(Some(item)) => return Some(Ok(item)),
                Ok(None) => continue,
                Err(failed) => failed,
            };
            self.stream = None;
            self.parts.clear();
            if let Some(error) = self.survive(place, error) {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// One message, from a stream that is opened first if need be; `None` if it held nothing new.
    async fn step(&mut self) -> Result<Option<WatchItem>, (Place, ClientError)> {
        let open = match &mut self.stream {
            Some(open) => open,
            None => {
                let open = self.open().await?;
                self.stream.insert(open)
            }
        };
        let place = open.place;
        let address = || self.client.shared.endpoints.target(place).address.clone();
        let message = match open.messages.message().await {
            Ok(Some(message)) => message,
            Ok(None) => {
                let error = ClientError::ContactLost {
                    endpoint: address(),
                    why: "the node ended the stream".to_owned(),
                };
                return Err((place, error));
            }
            Err(status) => return Err((place, ClientError::from_status(&address(), &status))),
        };
        let more = matches!(&message.step, Some(Step::Changes(changes)) if changes.more);
        let whole = WatchItem::from_wire(message)
            .and_then(|item| self.parts.join(item, more))
            .map_err(|error| {
                let endpoint = self.client.shared.endpoints.target(place).address.clone();
                let why = error.to_string();
                (place, ClientError::BadAnswer { endpoint, why })
            })?;
        Ok(whole.and_then(|item| self.take(place, item)))
    }

    /// Remembers where an item leads. If a snapshot was cut off before, that is told first.
    fn take(&mut self, place: Place, item: WatchItem) -> Option<WatchItem> {
        self.client.learn(place, &item.receipt);
        self.home = Some(place);
        let restarted = self.outage.take().is_some() && self.snapshot_begun;
        let cut_off = restarted && self.cursor.is_none();
        let is_resync = matches!(item.step, WatchStep::Resync { .. });
        self.snapshot_begun = !is_resync;
        if is_resync {
            self.seen = Revision::ZERO;
            self.ended = self.options.end_on_resync;
        }
        if !cut_off || is_resync {
            self.cursor.clone_from(&item.cursor);
            return self.new_in(item);
        }
        let resync = WatchItem {
            step: WatchStep::Resync {
                reason: ResyncReason::ContactLost,
            },
            cursor: None,
            receipt: item.receipt.clone(),
        };
        self.seen = Revision::ZERO;
        self.ended = self.options.end_on_resync;
        self.queued = Some(item);
        Some(resync)
    }

    /// The item without changes that were handed over before: a node that resumes a watch may begin too early, never too late.
    fn new_in(&mut self, mut item: WatchItem) -> Option<WatchItem> {
        let WatchStep::Changes(events) = &mut item.step else {
            return Some(item);
        };
        let seen = self.seen;
        events.retain(|event| event.revision().is_none_or(|revision| revision > seen));
        let newest = events.iter().filter_map(WatchEvent::revision).max();
        self.seen = seen.max(newest.unwrap_or_default());
        (!events.is_empty()).then_some(item)
    }

    async fn open(&mut self) -> Result<Open, (Place, ClientError)> {
        if let Some(outage) = &self.outage {
            tokio::time::sleep_until(outage.next_try).await;
        }
        let place = self.pick().map_err(|error| (0, error))?;
        let target = self.client.shared.endpoints.target(place);
        let request = Request::new(pb::WatchRequest {
            header: Some(self.client.header(None)),
            range: Some(range_to_wire(&self.options.range)),
            cursor: self.cursor.clone().unwrap_or_default(),
            previous: self.options.previous,
            start_revision: self.start_revision().as_u64(),
            end_on_resync: self.options.end_on_resync,
            end_on_leader_lost: self.options.end_on_leader_lost,
            progress_interval: self.options.progress_interval.map(duration_to_wire),
        });
        let mut stub = target.stub();
        let timeout = self.client.options.timeout;
        match tokio::time::timeout(timeout, stub.watch(request)).await {
            Ok(Ok(response)) => Ok(Open {
                place,
                messages: response.into_inner(),
            }),
            Ok(Err(status)) => Err((place, ClientError::from_status(&target.address, &status))),
            Err(_) => {
                let endpoint = target.address.clone();
                Err((place, ClientError::DeadlineExceeded { endpoint }))
            }
        }
    }

    /// A start revision is for the first stream only: behind it there are cursors, or a snapshot.
    fn start_revision(&self) -> Revision {
        let begun = self.cursor.is_some() || self.snapshot_begun;
        let start = self.options.start_revision.filter(|_| !begun);
        start.unwrap_or_default()
    }

    fn pick(&mut self) -> Result<Place, ClientError> {
        let endpoints = &self.client.shared.endpoints;
        if let Some(address) = &self.client.options.endpoint {
            return endpoints.place(address).map_err(ClientError::Invalid);
        }
        let want_leader = self.client.read_kind() == Kind::LinearizableRead;
        let Some(outage) = &mut self.outage else {
            return Ok(endpoints.next(want_leader, &[]).unwrap_or(0));
        };
        let portable = self.client.mode_if_known() != Some(Mode::Eventual);
        if let (Some(home), Some(_), false) = (self.home, &self.cursor, portable)
            && outage.home_tries < HOME_TRIES
        {
            outage.home_tries += 1;
            return Ok(home);
        }
        let place = endpoints.next(want_leader, &outage.tried);
        let place = place.unwrap_or_else(|| {
            outage.tried.clear();
            endpoints.next(want_leader, &[]).unwrap_or(0)
        });
        outage.tried.push(place);
        Ok(place)
    }

    /// Plans the next try; gives the error back if there is to be none.
    fn survive(&mut self, place: Place, error: ClientError) -> Option<ClientError> {
        let shared = &self.client.shared;
        let told = self.options.end_on_leader_lost && error.reason() == "LEADER_LOST";
        if told || matches!(error, ClientError::Invalid(_)) {
            return Some(error);
        }
        shared.endpoints.leave(place);
        self.client.learn_from_error(place, &error);
        if shared.retries.attempts_max <= 1 || !may_retry(&error, Kind::LocalRead) {
            return Some(error);
        }
        let now = Instant::now();
        let outage = self.outage.get_or_insert_with(|| Outage {
            since: now,
            tried: Vec::new(),
            home_tries: 0,
            backoff: patient(shared.retries).backoff(),
            next_try: now,
        });
        let pause = outage.backoff.next().unwrap_or(shared.retries.delay_max);
        if now + pause > outage.since + shared.watch_patience {
            return Some(error);
        }
        debug!(reason = error.reason(), %error, ?pause, "resuming the watch");
        outage.next_try = now + pause;
        None
    }
}

/// A watch is bounded by its patience, not by a count of tries.
const fn patient(retries: RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        attempts_max: usize::MAX,
        unreachable_max: retries.unreachable_max,
        delay_min: if retries.delay_min.is_zero() {
            Duration::from_millis(1)
        } else {
            retries.delay_min
        },
        delay_max: retries.delay_max,
    }
}

impl WatchItem {
    fn from_wire(mut message: pb::WatchResponse) -> Result<Self, Error> {
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
        Ok(Self {
            step,
            cursor: (!message.cursor.is_empty()).then_some(message.cursor),
            receipt: receipt(&mut message.receipt)?,
        })
    }
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
