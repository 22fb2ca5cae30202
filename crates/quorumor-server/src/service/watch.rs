//! One watch: a snapshot in parts, then changes from the hub, with a cursor on each step. Nothing runs in the background:
//! the stream does its work when the client takes from it, so a slow client costs no memory here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use prost::Message;
use quorumor_core::{Change, ChangeEvent, Error, Key, KeyRange, Mode, Position, Revision};
use quorumor_proto::entry::{entry_to_wire, version_to_wire};
use quorumor_proto::pb;
use quorumor_proto::pb::watch_response::Step;
use quorumor_proto::request::parse_range;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::WatchStream;
use super::asking::{Asking, Reading};
use crate::auth::Principal;
use crate::metrics;
use crate::watch::cursor::{Cursor, Place};
use crate::watch::{ChangeNumber, Numbered};

/// Bytes of one part of a snapshot, and of the changes of one message: a client takes 4 MiB by default, and one change
/// may alone weigh 2.
const MESSAGE_BYTES: usize = 1024 * 1024;
const MESSAGE_ENTRIES: usize = 1_000;
/// How long a watch is silent before it says how far it is.
const PROGRESS_AFTER: Duration = Duration::from_secs(5);

/// Why a watch starts over, in the words of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Slow,
    HistoryGone,
    ForeignCursor,
    StateReplaced,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "SLOW_WATCHER",
            Self::HistoryGone => "HISTORY_GONE",
            Self::ForeignCursor => "FOREIGN_CURSOR",
            Self::StateReplaced => "STATE_REPLACED",
        }
    }
}

#[derive(Debug)]
enum State {
    /// The next message is a resync, then a snapshot.
    Resync(Reason),
    /// A snapshot is under way, its parts up to `after` sent.
    Snapshot {
        reading: Reading,
        after: Option<Key>,
    },
    /// Changes.
    Live,
    Ended,
}

struct Watcher {
    asking: Arc<Asking>,
    range: KeyRange,
    state: State,
    /// Everything up to here was sent, or doesn't concern the range.
    reached: ChangeNumber,
    /// The position of `reached`; unknown behind a cursor of eventual mode until a change comes.
    seen: Option<Position>,
    latest: watch::Receiver<ChangeNumber>,
    /// It resumed, and hasn't had all that came before: it may be as far behind as there is history.
    is_catching_up: bool,
    progress_at: Instant,
    leave: CancellationToken,
    open: Open,
}

/// Counts the watch for as long as it is open.
struct Open {
    mode: Mode,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::watchers(self.mode, -1.0);
    }
}

/// Starts a watch: reads its snapshot, or finds the place of its cursor.
pub(super) async fn start(
    asking: Arc<Asking>,
    request: pb::WatchRequest,
    slot: OwnedSemaphorePermit,
    leave: CancellationToken,
) -> Result<WatchStream, Error> {
    let range = parse_range(request.range)?;
    asking.principal().may_read(&range)?;
    let mode = asking.handle().mode();
    metrics::watchers(mode, 1.0);
    let open = Open { mode, _slot: slot };
    let mut watcher = Watcher {
        range,
        state: State::Ended,
        reached: 0,
        seen: None,
        latest: asking.handle().hub().subscribe(),
        is_catching_up: true,
        progress_at: Instant::now() + PROGRESS_AFTER,
        leave,
        open,
        asking,
    };
    if request.cursor.is_empty() {
        let reading = watcher.asking.read().await?;
        watcher.begin(reading);
    } else {
        watcher.resume(&request.cursor)?;
    }
    let steps = stream::unfold(watcher, |mut watcher| async move {
        let step = watcher.next().await?;
        Some((step, watcher))
    });
    Ok(Box::pin(steps))
}

impl Watcher {
    fn begin(&mut self, reading: Reading) {
        self.reached = reading.published.number;
        self.is_catching_up = false;
        self.seen = Some(reading.published.view.position.clone());
        self.state = State::Snapshot {
            reading,
            after: None,
        };
    }

    /// Goes on behind a cursor, or says by a resync why not.
    fn resume(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let cursor = Cursor::decode(bytes)?;
        let published = self.asking.handle().published();
        let status = &published.view.status;
        if cursor.cluster != status.cluster {
            return Err(Error::invalid("cursor", "the cursor is of another cluster"));
        }
        if cursor.epoch != status.epoch {
            self.state = State::Resync(Reason::StateReplaced);
            return Ok(());
        }
        let hub = self.asking.handle().hub();
        self.state = match (cursor.place, self.open.mode) {
            (Place::Revision(revision), Mode::Strong) => match hub.resume(revision) {
                Ok(number) => {
                    self.reached = number;
                    self.seen = Some(Position::Strong(revision));
                    State::Live
                }
                Err(_) => State::Resync(Reason::HistoryGone),
            },
            (Place::Local { node, .. }, Mode::Eventual) if node != status.node => {
                State::Resync(Reason::ForeignCursor)
            }
            (
                Place::Local {
                    hub: id, number, ..
                },
                Mode::Eventual,
            ) => {
                if id == hub.id() && hub.keeps(number) {
                    self.reached = number;
                    State::Live
                } else {
                    State::Resync(Reason::HistoryGone)
                }
            }
            (Place::Revision(_), Mode::Eventual) | (Place::Local { .. }, Mode::Strong) => {
                return Err(Error::invalid("cursor", "the cursor is of the other mode"));
            }
        };
        Ok(())
    }

    /// The next step; `None` at the end.
    async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        let step = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return None,
            State::Resync(reason) => self.resync(reason).await,
            State::Snapshot { reading, after } => self.snapshot_part(reading, after.as_ref()),
            State::Live => self.live().await,
        };
        self.progress_at = Instant::now() + PROGRESS_AFTER;
        if step.is_err() {
            self.state = State::Ended;
        }
        Some(step.map_err(|error| self.asking.refuse(&error)))
    }

    async fn resync(&mut self, reason: Reason) -> Result<pb::WatchResponse, Error> {
        let reading = self.asking.read_anew().await?;
        self.begin(reading);
        let reason = reason.as_str().to_owned();
        self.response(Step::Resync(pb::WatchResync {
            reason,
            oldest_revision: 0,
        }), None)
    }

    fn snapshot_part(
        &mut self,
        reading: Reading,
        after: Option<&Key>,
    ) -> Result<pb::WatchResponse, Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        let mut complete = true;
        for entry in reading.published.view.range(&self.range, after) {
            let wire = entry_to_wire(entry, true);
            let weight = wire.encoded_len();
            let full = entries.len() >= MESSAGE_ENTRIES || bytes + weight > MESSAGE_BYTES;
            if full && !entries.is_empty() {
                complete = false;
                break;
            }
            bytes += weight;
            last = Some(entry.key.clone());
            entries.push(wire);
        }
        let receipt = self.asking.read_receipt(&reading)?;
        let cursor = if complete {
            self.state = State::Live;
            self.cursor()
        } else {
            self.state = State::Snapshot {
                reading,
                after: last,
            };
            Bytes::new()
        };
        Ok(pb::WatchResponse {
            receipt: Some(receipt),
            cursor,
            step: Some(Step::Snapshot(pb::WatchSnapshot { entries, complete })),
        })
    }

    /// Waits for changes of the range, for the time of a progress report, or for the end.
    async fn live(&mut self) -> Result<pb::WatchResponse, Error> {
        loop {
            // Marked before looking, so that what comes after the look wakes.
            self.latest.borrow_and_update();
            let hub = self.asking.handle().hub();
            let kept = if self.is_catching_up {
                hub.catch_up(self.reached, MESSAGE_BYTES)
            } else {
                hub.after(self.reached, MESSAGE_BYTES)
            };
            let Ok(changes) = kept else {
                return self.resync(Reason::Slow).await;
            };
            if !changes.is_empty() {
                match self.take(&changes) {
                    Taken::Nothing => continue,
                    Taken::Events(events) => {
                        self.state = State::Live;
                        let step = Step::Changes(pb::WatchChanges { events });
                        return self.response(step, Some(self.cursor()));
                    }
                    Taken::Reset => return self.resync(Reason::StateReplaced).await,
                }
            }
            self.is_catching_up = false;
            tokio::select! {
                () = self.leave.cancelled() => return Err(Error::Stopping),
                () = self.asking.principal().gone() => return Err(Principal::revoked()),
                changed = self.latest.changed() => {
                    if changed.is_err() {
                        return Err(Error::Stopping);
                    }
                }
                () = tokio::time::sleep_until(self.progress_at) => {
                    self.state = State::Live;
                    let step = Step::Progress(pb::WatchProgress {});
                    return self.response(step, Some(self.cursor()));
                }
            }
        }
    }

    fn take(&mut self, changes: &[Numbered]) -> Taken {
        let mut events = Vec::new();
        for kept in changes {
            self.reached = kept.number;
            if self.has_seen(&kept.change) {
                continue;
            }
            for event in kept.change.events.iter() {
                match event {
                    ChangeEvent::Reset => return Taken::Reset,
                    ChangeEvent::Put { entry, .. } if self.range.contains(&entry.key) => {
                        let entry = entry_to_wire(entry, true);
                        events.push(wire(pb::watch_event::Event::Put(entry)));
                    }
                    ChangeEvent::Deleted { key, version, .. } if self.range.contains(key) => {
                        let deletion = pb::WatchDeletion {
                            key: key.as_str().to_owned(),
                            version: Some(version_to_wire(version)),
                        };
                        events.push(wire(pb::watch_event::Event::Deletion(deletion)));
                    }
                    ChangeEvent::Put { .. } | ChangeEvent::Deleted { .. } => {}
                }
            }
            self.seen = Some(kept.change.position.clone());
        }
        if events.is_empty() {
            Taken::Nothing
        } else {
            Taken::Events(events)
        }
    }

    /// A cursor from a node that is ahead: its changes come here later, and were seen there.
    fn has_seen(&self, change: &Change) -> bool {
        match (&self.seen, &change.position) {
            (Some(Position::Strong(seen)), Position::Strong(at)) => {
                at <= seen && *at > Revision::ZERO && !is_reset(change)
            }
            (
                None | Some(Position::Strong(_) | Position::Eventual(_)),
                Position::Strong(_) | Position::Eventual(_),
            ) => false,
        }
    }

    fn cursor(&self) -> Bytes {
        let published = self.asking.handle().published();
        let status = &published.view.status;
        let place = match &self.seen {
            Some(Position::Strong(revision)) => Place::Revision(*revision),
            Some(Position::Eventual(_)) | None => Place::Local {
                node: status.node,
                hub: self.asking.handle().hub().id(),
                number: self.reached,
            },
        };
        Cursor {
            cluster: status.cluster,
            epoch: status.epoch,
            place,
        }
        .encode()
    }

    fn response(&self, step: Step, cursor: Option<Bytes>) -> Result<pb::WatchResponse, Error> {
        Ok(pb::WatchResponse {
            receipt: Some(self.asking.step_receipt(self.seen.as_ref())?),
            step: Some(step),
            cursor: cursor.unwrap_or_default(),
        })
    }
}

enum Taken {
    Nothing,
    Events(Vec<pb::WatchEvent>),
    Reset,
}

fn is_reset(change: &Change) -> bool {
    change.events.contains(&ChangeEvent::Reset)
}

fn wire(event: pb::watch_event::Event) -> pb::WatchEvent {
    pb::WatchEvent {
        event: Some(event),
        previous: None,
    }
}
