//! A stream of steps that outlives its connection: what the watch of keys and the watch of a service share.
//!
//! It resumes from the cursor of its last step. Where a cursor can't tell how to go on, since the connection broke before there
//! was one, it says [`ResyncReason::ContactLost`] itself. What the steps are, and how the stream is asked for, a [`Steps`] says.

use std::fmt;
use std::sync::Arc;

use backon::ExponentialBackoff;
use bytes::Bytes;
use quorumor_core::{Error, Mode, Revision};
use quorumor_proto::pb;
use tokio::time::Instant;
use tonic::{Response, Status, Streaming};
use tracing::debug;

use crate::answer::Receipt;
use crate::breaker::{CallClass, Waited};
use crate::client::Client;
use crate::endpoints::{Place, Target};
use crate::error::ClientError;
use crate::retry::{Kind, RetryPolicy, may_retry};

/// Tries at the node that a cursor belongs to, before another one is asked.
const HOME_TRIES: usize = 3;

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

    pub(crate) fn from_wire(resync: pb::WatchResync) -> Self {
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

/// What comes over a stream, and how it is asked for.
pub(crate) trait Steps: fmt::Debug + Send {
    /// A message of the wire.
    type Message: fmt::Debug + Send + 'static;
    /// What it says.
    type Step: fmt::Debug + Send;

    /// Asks a node for the stream, from a cursor on if there is one.
    fn open(
        &self,
        target: &Target,
        header: pb::RequestHeader,
        place: Beginning<'_>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Message>>, Status>> + Send;

    /// Reads a message; `None` while more of what it says follows.
    fn read(&mut self, message: Self::Message) -> Result<Option<Told<Self::Step>>, Error>;

    /// The step without what was handed over before; `None` if nothing is left.
    fn new_in(&mut self, step: Self::Step) -> Option<Self::Step>;

    /// Whether the step says that there is a gap.
    fn is_resync(step: &Self::Step) -> bool;

    /// A step that says so.
    fn resync(reason: ResyncReason) -> Self::Step;

    /// Nothing that was handed over counts any more.
    fn forget(&mut self);

    /// The stream broke: what came in part will come again.
    fn broke(&mut self);

    /// Whether a resync ends the watch, after its step.
    fn ends_on_resync(&self) -> bool;

    /// Whether this error is what the watcher waits for, and so ends the watch.
    fn ends_with(&self, error: &ClientError) -> bool;
}

/// Where a stream is to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<'a> {
    /// Behind this cursor.
    pub(crate) cursor: Option<&'a Bytes>,
    /// Something was shown before.
    pub(crate) begun: bool,
    /// The mode that serves it, if that is known.
    pub(crate) mode: Option<Mode>,
}

/// A step with what comes along.
#[derive(Debug)]
pub(crate) struct Told<S> {
    pub(crate) step: S,
    pub(crate) cursor: Option<Bytes>,
    pub(crate) receipt: Receipt,
}

/// A stream that resumes.
#[derive(Debug)]
pub(crate) struct Resuming<S: Steps> {
    client: Client,
    steps: S,
    cursor: Option<Bytes>,
    snapshot_begun: bool,
    stream: Option<Open<S::Message>>,
    queued: Option<Told<S::Step>>,
    home: Option<Place>,
    outage: Option<Outage>,
    /// Whether it goes on without the session's token, which this watch's data have outlived.
    without_token: bool,
    ended: bool,
}

#[derive(Debug)]
struct Open<M> {
    place: Place,
    messages: Streaming<M>,
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

impl<S: Steps> Resuming<S> {
    pub(crate) const fn new(client: Client, steps: S, cursor: Option<Bytes>) -> Self {
        Self {
            client,
            steps,
            cursor,
            snapshot_begun: false,
            stream: None,
            queued: None,
            home: None,
            outage: None,
            without_token: false,
            ended: false,
        }
    }

    /// Where to resume behind the last step; `None` before a snapshot is complete.
    pub(crate) const fn cursor(&self) -> Option<&Bytes> {
        self.cursor.as_ref()
    }

    /// The next step. After an error there are no more: `None`. Safe to drop before it is ready; nothing is lost.
    pub(crate) async fn next(&mut self) -> Option<Result<Told<S::Step>, ClientError>> {
        if self.ended {
            return None;
        }
        if let Some(told) = self.queued.take() {
            self.cursor.clone_from(&told.cursor);
            if let Some(told) = self.new_in(told) {
                return Some(Ok(told));
            }
        }
        loop {
            let (place, error) = match self.step().await {
                Ok(Some(told)) => return Some(Ok(told)),
                Ok(None) => continue,
                Err(failed) => failed,
            };
            if self.stream.take().is_some() {
                let target = self.client.shared.endpoints.target(place);
                target
                    .breakers
                    .failed(CallClass::Watch, &error, Waited::LONG);
            }
            self.steps.broke();
            if let Some(error) = self.survive(place, error) {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// One message, from a stream that is opened first if need be; `None` if it held nothing new.
    async fn step(&mut self) -> Result<Option<Told<S::Step>>, (Place, ClientError)> {
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
        let whole = self.steps.read(message).map_err(|error| {
            let endpoint = self.client.shared.endpoints.target(place).address.clone();
            let why = error.to_string();
            (place, ClientError::BadAnswer { endpoint, why })
        })?;
        Ok(whole.and_then(|told| self.take(place, told)))
    }

    /// Remembers where a step leads. If a snapshot was cut off before, that is told first.
    fn take(&mut self, place: Place, told: Told<S::Step>) -> Option<Told<S::Step>> {
        self.client.learn(place, &told.receipt);
        self.home = Some(place);
        let restarted = self.outage.take().is_some() && self.snapshot_begun;
        let cut_off = restarted && self.cursor.is_none();
        let is_resync = S::is_resync(&told.step);
        self.snapshot_begun = !is_resync;
        if is_resync {
            self.steps.forget();
            self.ended = self.steps.ends_on_resync();
        }
        if !cut_off || is_resync {
            self.cursor.clone_from(&told.cursor);
            return self.new_in(told);
        }
        let resync = Told {
            step: S::resync(ResyncReason::ContactLost),
            cursor: None,
            receipt: told.receipt.clone(),
        };
        self.steps.forget();
        self.ended = self.steps.ends_on_resync();
        self.queued = Some(told);
        Some(resync)
    }

    fn new_in(&mut self, told: Told<S::Step>) -> Option<Told<S::Step>> {
        let step = self.steps.new_in(told.step)?;
        Some(Told { step, ..told })
    }

    async fn open(&mut self) -> Result<Open<S::Message>, (Place, ClientError)> {
        if let Some(outage) = &self.outage {
            tokio::time::sleep_until(outage.next_try).await;
        }
        let place = self.pick().map_err(|error| (0, error))?;
        let beginning = Beginning {
            cursor: self.cursor.as_ref(),
            begun: self.has_begun(),
            mode: self.client.mode_if_known(),
        };
        match self.open_at(place, beginning).await {
            // Only now it is known which mode serves it, and what may be asked of that.
            Err(error) if beginning.mode.is_none() && error.reason() == "GUARANTEE_UNAVAILABLE" => {
                self.client.learn_from_error(place, &error);
                let mode = self.client.mode_if_known();
                self.open_at(place, Beginning { mode, ..beginning }).await
            }
            opened => opened,
        }
        .map_err(|error| (place, error))
    }

    fn has_begun(&self) -> bool {
        self.cursor.is_some() || self.snapshot_begun
    }

    async fn open_at(
        &self,
        place: Place,
        beginning: Beginning<'_>,
    ) -> Result<Open<S::Message>, ClientError> {
        let target = self.client.shared.endpoints.target(place);
        // In strong mode a cursor says all that the session's token could. In eventual mode another node can't go on from it,
        // and its snapshot must not be older than what was seen.
        let is_told = beginning.cursor.is_some() && beginning.mode == Some(Mode::Strong);
        let header = if self.without_token || is_told {
            self.client.without_token().header(None)
        } else {
            self.client.header(None)
        };
        let permit = target.breakers.admit_anyway(CallClass::Watch);
        let opening = self.steps.open(&target, header, beginning);
        let opened = match tokio::time::timeout(self.client.options.timeout, opening).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(status)) => Err(ClientError::from_status(&target.address, &status)),
            Err(_) => Err(ClientError::DeadlineExceeded {
                endpoint: target.address.clone(),
            }),
        };
        let waited = (self.client).waited(CallClass::Watch, self.client.options.timeout);
        permit.done(opened.as_ref().err(), waited);
        opened.map(|response| Open {
            place,
            messages: response.into_inner(),
        })
    }

    fn pick(&mut self) -> Result<Place, ClientError> {
        let endpoints = &self.client.shared.endpoints;
        if let Some(address) = &self.client.options.endpoint {
            return endpoints.place(address).map_err(ClientError::Invalid);
        }
        let want_leader = self.client.read_kind() == Kind::LinearizableRead;
        let Some(outage) = &mut self.outage else {
            return Ok(endpoints.next_anyway(CallClass::Watch, want_leader, &mut Vec::new()));
        };
        let portable = self.client.mode_if_known() != Some(Mode::Eventual);
        if let (Some(home), Some(_), false) = (self.home, &self.cursor, portable)
            && outage.home_tries < HOME_TRIES
        {
            outage.home_tries += 1;
            return Ok(home);
        }
        Ok(endpoints.next_anyway(CallClass::Watch, want_leader, &mut outage.tried))
    }

    /// Plans the next try; gives the error back if there is to be none.
    fn survive(&mut self, place: Place, error: ClientError) -> Option<ClientError> {
        if self.steps.ends_with(&error) || matches!(error, ClientError::Invalid(_)) {
            return Some(error);
        }
        let now = Instant::now();
        if self.outlives_session(&error) {
            debug!(reason = error.reason(), %error, "resuming the watch without the session's token");
            self.without_token = true;
            self.outage_from(now).next_try = now;
            return None;
        }
        let shared = Arc::clone(&self.client.shared);
        shared.endpoints.leave(place);
        self.client.heed(place, &error);
        if shared.retries.attempts_max <= 1 || !may_retry(&error, Kind::LocalRead) {
            return Some(error);
        }
        let outage = self.outage_from(now);
        let pause = outage.backoff.next().unwrap_or(shared.retries.delay_max);
        if now + pause > outage.since + shared.watch_patience {
            return Some(error);
        }
        debug!(reason = error.reason(), %error, ?pause, "resuming the watch");
        outage.next_try = now + pause;
        None
    }
}

impl<S: Steps> Resuming<S> {
    fn outage_from(&mut self, now: Instant) -> &mut Outage {
        let retries = self.client.shared.retries;
        self.outage.get_or_insert_with(|| Outage {
            since: now,
            tried: Vec::new(),
            home_tries: 0,
            backoff: patient(retries).backoff(),
            next_try: now,
        })
    }

    /// Whether only the session's token keeps a watch from going on that has shown something before: its data were replaced, or no
    /// node that can be reached has what the session saw. The watch says so itself, by a resync.
    fn outlives_session(&self, error: &ClientError) -> bool {
        if self.without_token || self.client.options.token.is_some() || !self.has_begun() {
            return false;
        }
        let patience = self.client.shared.watch_patience / 2;
        let waited = |outage: &Outage| outage.since.elapsed() >= patience;
        error.is_of_other_data()
            || (error.reason() == "TOKEN_AHEAD" && self.outage.as_ref().is_some_and(waited))
    }
}

/// A watch is bounded by its patience, not by a count of tries.
const fn patient(retries: RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        attempts_max: usize::MAX,
        unreachable_max: retries.unreachable_max,
        delay_min: if retries.delay_min.is_zero() {
            std::time::Duration::from_millis(1)
        } else {
            retries.delay_min
        },
        delay_max: retries.delay_max,
    }
}
