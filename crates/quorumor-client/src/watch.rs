//! A watch that outlives its connection.
//!
//! It resumes from the cursor of its last step, so that no change is missed or repeated; where that can't be, it says
//! [`WatchStep::Resync`] and begins again with a snapshot. In strong mode a cursor is good at any node; in eventual
//! mode at the node that gave it, so that node is asked first.

use std::time::Duration;

use backon::ExponentialBackoff;
use bytes::Bytes;
use quorumor_core::{Entry, Error, Key, KeyRange, Mode, Version};
use quorumor_proto::entry::entry_from_wire;
use quorumor_proto::pb;
use tokio::time::Instant;
use tonic::{Request, Streaming};
use tracing::debug;

use crate::answer::{Receipt, receipt, required, version};
use crate::client::Client;
use crate::endpoints::Place;
use crate::error::ClientError;
use crate::retry::{Kind, RetryPolicy, may_retry};
use crate::wire::range_to_wire;

/// Why a stream began again though no node said so: it broke before its snapshot was complete.
pub const CONTACT_LOST: &str = "CONTACT_LOST";

/// Tries at the node that a cursor belongs to, before another one is asked.
const HOME_TRIES: usize = 3;

/// A running watch. Nothing happens until [`Watch::next`] is awaited. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    range: KeyRange,
    cursor: Option<Bytes>,
    snapshot_begun: bool,
    stream: Option<Open>,
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

/// A time without a stream: since when, who was tried, when to try next.
#[derive(Debug)]
struct Outage {
    since: Instant,
    tried: Vec<Place>,
    home_tries: usize,
    backoff: ExponentialBackoff,
    next_try: Instant,
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
        /// Why: the node's word, or [`CONTACT_LOST`].
        reason: String,
    },
    /// Nothing changed up to the cursor.
    Progress,
}

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The key has a new entry.
    Put(Entry),
    /// The key is gone.
    Deleted {
        /// The key.
        key: Key,
        /// The version of the deletion.
        version: Version,
    },
}

impl Watch {
    pub(crate) const fn new(client: Client, range: KeyRange, cursor: Option<Bytes>) -> Self {
        Self {
            client,
            range,
            cursor,
            snapshot_begun: false,
            stream: None,
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
            return Some(Ok(item));
        }
        loop {
            let (place, error) = match self.step().await {
                Ok(item) => return Some(Ok(item)),
                Err(failed) => failed,
            };
            self.stream = None;
            if let Some(error) = self.survive(place, error) {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// One message, from a stream that is opened first if need be.
    async fn step(&mut self) -> Result<WatchItem, (Place, ClientError)> {
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
        let item = WatchItem::from_wire(message).map_err(|error| {
            let error = ClientError::BadAnswer {
                endpoint: address(),
                why: error.to_string(),
            };
            (place, error)
        })?;
        Ok(self.take(place, item))
    }

    /// Remembers where an item leads. If a snapshot was cut off before, that is told first.
    fn take(&mut self, place: Place, item: WatchItem) -> WatchItem {
        self.client.learn(place, &item.receipt);
        self.home = Some(place);
        let restarted = self.outage.take().is_some() && self.snapshot_begun;
        let cut_off = restarted && self.cursor.is_none();
        let is_resync = matches!(item.step, WatchStep::Resync { .. });
        self.snapshot_begun = !is_resync;
        if !cut_off || is_resync {
            self.cursor.clone_from(&item.cursor);
            return item;
        }
        let resync = WatchItem {
            step: WatchStep::Resync {
                reason: CONTACT_LOST.to_owned(),
            },
            cursor: None,
            receipt: item.receipt.clone(),
        };
        self.queued = Some(item);
        resync
    }

    async fn open(&mut self) -> Result<Open, (Place, ClientError)> {
        if let Some(outage) = &self.outage {
            tokio::time::sleep_until(outage.next_try).await;
        }
        let place = self.pick().map_err(|error| (0, error))?;
        let target = self.client.shared.endpoints.target(place);
        let request = Request::new(pb::WatchRequest {
            header: Some(self.client.header(None)),
            range: Some(range_to_wire(&self.range)),
            cursor: self.cursor.clone().unwrap_or_default(),
            ..pb::WatchRequest::default()
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
        if matches!(error, ClientError::Invalid(_)) {
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
        use pb::watch_response::Step;
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
                reason: resync.reason,
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
    Ok(match required(event.event, "event")? {
        Event::Put(entry) => WatchEvent::Put(entry_from_wire(entry)?),
        Event::Deletion(deletion) => WatchEvent::Deleted {
            key: Key::parse(&deletion.key)?,
            version: version(deletion.version)?,
        },
    })
}
