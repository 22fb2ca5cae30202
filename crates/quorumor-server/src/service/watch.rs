//! One watch: a snapshot in parts, then changes, with a cursor on each step. The stream does its work when the client takes
//! from it; what waits for it meanwhile lies in the hub, bounded.
//!
//! Changes that were made before the watcher joined the hub come from what is kept of them: in strong mode the view's
//! history, in eventual mode the hub's ring. Progress is told by each watch for itself, from the place up to which the hub
//! has given out everything, and only while nothing waits: it never overtakes an event, and a slow watcher holds up nobody.
//! What ends a watch or makes it start over stands before whatever data wait.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use quorumor_core::{DataEpoch, Error, Key, KeyRange, Mode, Position, Revision};
use quorumor_proto::pb;
use quorumor_proto::pb::watch_response::Step;
use quorumor_proto::request::{parse_millis, parse_range};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::Answers;
use super::asking::{Asking, Reading};
use super::list::{PART_BYTES, PART_ENTRIES, Part};
use crate::auth::Principal;
use crate::metrics;
use crate::watch::cursor::{Cursor, Place};
use crate::watch::{ChangeNumber, Gone, Lost, Subscription};

mod changes;

use changes::{Collected, Events};

/// How long a watch is silent before it says how far it is, if the caller names no time.
const PROGRESS_AFTER: Duration = Duration::from_secs(5);
/// The bounds of that time.
const PROGRESS_MIN: Duration = Duration::from_millis(100);
const PROGRESS_MAX: Duration = Duration::from_secs(3_600);

/// Why a watch starts over, in the words of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Slow,
    /// With the oldest revision left, in strong mode.
    HistoryGone,
    ForeignCursor,
    EpochChanged,
    StateReplaced,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "SLOW_WATCHER",
            Self::HistoryGone => "HISTORY_GONE",
            Self::ForeignCursor => "FOREIGN_CURSOR",
            Self::EpochChanged => "EPOCH_CHANGED",
            Self::StateReplaced => "STATE_REPLACED",
        }
    }
}

#[derive(Debug)]
enum State {
    /// The next step says why the watch starts over.
    Resync(Reason),
    /// The next step reads the state.
    Begin,
    /// A snapshot is under way, its parts up to `after` sent.
    Snapshot {
        reading: Reading,
        after: Option<Key>,
    },
    /// What is kept of past changes is sent; if some are gone, the watch starts over for this reason.
    CatchUp {
        joined: Option<Subscription>,
        gap: Reason,
    },
    /// Changes as they come.
    Live(Subscription),
    Ended,
}

/// What the caller asked for.
struct Wants {
    range: KeyRange,
    previous: bool,
    end_on_resync: bool,
    end_on_leader_lost: bool,
    progress: Duration,
}

struct Watcher {
    asking: Arc<Asking>,
    wants: Wants,
    state: State,
    /// Every change up to here was sent, or doesn't concern the range.
    reached: ChangeNumber,
    /// What is left of a revision that doesn't fit one message. It counts as reached already, and no other step comes between.
    rest: VecDeque<Events>,
    /// The position up to which that is so; unknown behind a cursor of eventual mode until a change comes.
    seen: Option<Position>,
    led: watch::Receiver<bool>,
    /// The data epoch that its cursors are of.
    epoch: DataEpoch,
    progress_at: Instant,
    /// Wakes for the progress that was due when it was set. Later ones don't move it before it rings: most never ring.
    alarm: Pin<Box<Sleep>>,
    /// Resolves when the watch must end, whatever it is at. Kept over all steps, as waiting for it anew costs more than a step.
    ended: Pin<Box<dyn Future<Output = Error> + Send>>,
    _open: Open,
}

/// Resolves when the node stops, or the caller's token goes.
async fn ended(leave: CancellationToken, principal: Principal) -> Error {
    tokio::select! {
        () = leave.cancelled() => Error::Stopping,
        () = principal.gone() => Principal::revoked(),
    }
}

/// Counts the watch for as long as it is open.
struct Open(Mode);

impl Drop for Open {
    fn drop(&mut self) {
        metrics::watchers(self.0, -1.0);
    }
}

/// Starts a watch: reads its snapshot, or finds the place of its cursor.
pub(super) async fn start(
    asking: Arc<Asking>,
    request: pb::WatchRequest,
    leave: CancellationToken,
) -> Result<Answers<pb::WatchResponse>, Error> {
    let mode = asking.handle().mode();
    let wants = parse(&request, mode)?;
    asking.principal().may_read(&wants.range)?;
    metrics::watchers(mode, 1.0);
    let mut watcher = Watcher {
        state: State::Begin,
        reached: 0,
        rest: VecDeque::new(),
        seen: None,
        led: asking.handle().led(),
        epoch: asking.handle().published().view.status.epoch,
        progress_at: Instant::now() + wants.progress,
        alarm: Box::pin(tokio::time::sleep(wants.progress)),
        ended: Box::pin(ended(leave, asking.principal().clone())),
        wants,
        _open: Open(mode),
        asking,
    };
    watcher.check_led()?;
    if !request.cursor.is_empty() {
        watcher.resume(&request.cursor)?;
    } else if request.start_revision > 0 {
        watcher.seen = Some(Position::Strong(Revision::new(request.start_revision - 1)));
        watcher.catch_up_from(Reason::HistoryGone);
    } else {
        // A read that fails fails the call, and not its stream.
        let reading = watcher.asking.read().await?;
        watcher.show(reading);
    }
    let steps = stream::unfold(watcher, |mut watcher| async move {
        let step = watcher.next().await?;
        Some((step, watcher))
    });
    Ok(Box::pin(steps))
}

fn parse(request: &pb::WatchRequest, mode: Mode) -> Result<Wants, Error> {
    let progress = match request.progress_interval {
        None => PROGRESS_AFTER,
        interval => Duration::from_millis(parse_millis("progress_interval", interval)?)
            .clamp(PROGRESS_MIN, PROGRESS_MAX),
    };
    if !request.cursor.is_empty() && request.start_revision > 0 {
        let why = "a watch starts from a cursor or from a revision";
        return Err(Error::invalid("start_revision", why));
    }
    let strong_only = [
        (request.previous, "previous values in a watch"),
        (request.start_revision > 0, "a watch from a revision"),
        (
            request.end_on_leader_lost,
            "a watch that ends with its leader",
        ),
    ];
    for (wanted, asked) in strong_only {
        if wanted && mode == Mode::Eventual {
            return Err(Error::GuaranteeUnavailable {
                mode,
                asked,
                best_available: "a snapshot, then changes",
            });
        }
    }
    Ok(Wants {
        range: parse_range(request.range.clone())?,
        previous: request.previous,
        end_on_resync: request.end_on_resync,
        end_on_leader_lost: request.end_on_leader_lost,
        progress,
    })
}

impl Watcher {
    fn mode(&self) -> Mode {
        self.asking.handle().mode()
    }

    fn show(&mut self, reading: Reading) {
        self.reached = reading.published.number;
        self.seen = Some(reading.published.view.position.clone());
        self.state = State::Snapshot {
            reading,
            after: None,
        };
    }

    fn catch_up_from(&mut self, gap: Reason) {
        self.state = State::CatchUp { joined: None, gap };
    }

    /// Whoever watches while the epoch is raised is told so, as is who comes back with a cursor from before.
    fn check_epoch(&mut self) {
        let epoch = self.asking.handle().published().view.status.epoch;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.state = State::Resync(Reason::EpochChanged);
        }
    }

    fn check_led(&self) -> Result<(), Error> {
        if self.wants.end_on_leader_lost && !*self.led.borrow() {
            return Err(Error::LeaderLost);
        }
        Ok(())
    }

    /// Goes on behind a cursor, or says by a resync why not.
    fn resume(&mut self, bytes: &Bytes) -> Result<(), Error> {
        let cursor = Cursor::decode(bytes)?;
        let published = self.asking.handle().published();
        let status = &published.view.status;
        // A cluster that was made of a backup is another one.
        if cursor.cluster != status.cluster {
            self.state = State::Resync(Reason::ForeignCursor);
            return Ok(());
        }
        if cursor.epoch != status.epoch {
            self.state = State::Resync(Reason::EpochChanged);
            return Ok(());
        }
        let hub = self.asking.handle().hub();
        match (cursor.place, self.mode()) {
            (Place::Revision(revision), Mode::Strong) => {
                self.seen = Some(Position::Strong(revision));
                self.catch_up_from(Reason::HistoryGone);
            }
            (
                Place::Local {
                    node,
                    hub: id,
                    number,
                },
                Mode::Eventual,
            ) if node == status.node => {
                if id == hub.id() && hub.keeps_after(number) {
                    self.reached = number;
                    self.catch_up_from(Reason::HistoryGone);
                } else {
                    self.state = State::Resync(Reason::HistoryGone);
                }
            }
            (Place::Revision(_) | Place::Local { .. }, Mode::Eventual)
            | (Place::Local { .. }, Mode::Strong) => {
                self.state = State::Resync(Reason::ForeignCursor);
            }
        }
        Ok(())
    }

    /// The next step; `None` at the end.
    async fn next(&mut self) -> Option<Result<pb::WatchResponse, tonic::Status>> {
        if matches!(self.state, State::Ended) {
            return None;
        }
        let mut step = self.step().await;
        if let Ok(pb::WatchResponse {
            receipt: Some(receipt),
            ..
        }) = &mut step
        {
            receipt.set_change_order(match self.mode() {
                Mode::Strong => pb::ChangeOrder::Revision,
                Mode::Eventual => pb::ChangeOrder::Writer,
            });
        }
        self.progress_at = Instant::now() + self.wants.progress;
        if step.is_err() {
            self.state = State::Ended;
        }
        Some(step.map_err(|error| self.asking.refuse(&error)))
    }

    async fn step(&mut self) -> Result<pb::WatchResponse, Error> {
        loop {
            if let Some(why) = (&mut self.ended).now_or_never() {
                return Err(why);
            }
            self.check_led()?;
            if let Some(part) = self.rest.pop_front() {
                return self.changes_part(part);
            }
            self.check_epoch();
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Err(Error::Stopping),
                State::Resync(reason) => return self.resync(reason),
                State::Begin => {
                    let reading = self.asking.read_anew().await?;
                    self.show(reading);
                }
                State::Snapshot { reading, after } => return self.part(reading, after.as_ref()),
                State::CatchUp { joined, gap } => {
                    let had_joined = joined.is_some();
                    if let Some(events) = self.catch_up(joined, gap) {
                        return self.changes(events);
                    }
                    if matches!(&self.state, State::CatchUp { joined, .. } if joined.is_some() == had_joined)
                    {
                        // A long history without anything for this range holds up nobody.
                        tokio::task::yield_now().await;
                    }
                }
                State::Live(joined) => {
                    if let Some(step) = self.live(joined).await? {
                        return Ok(step);
                    }
                }
            }
        }
    }

    fn resync(&mut self, reason: Reason) -> Result<pb::WatchResponse, Error> {
        let oldest = self.asking.handle().published().view.history.oldest();
        let oldest_revision = match (reason, self.mode()) {
            (Reason::HistoryGone, Mode::Strong) => oldest.as_u64(),
            (Reason::HistoryGone, Mode::Eventual)
            | (
                Reason::Slow | Reason::ForeignCursor | Reason::EpochChanged | Reason::StateReplaced,
                _,
            ) => 0,
        };
        self.state = if self.wants.end_on_resync {
            State::Ended
        } else {
            State::Begin
        };
        let step = Step::Resync(pb::WatchResync {
            reason: reason.as_str().to_owned(),
            oldest_revision,
        });
        Ok(pb::WatchResponse {
            receipt: Some(self.asking.step_receipt(None)?),
            step: Some(step),
            cursor: Bytes::new(),
        })
    }

    fn part(&mut self, reading: Reading, after: Option<&Key>) -> Result<pb::WatchResponse, Error> {
        let entries = reading.published.view.range(&self.wants.range, after);
        let Part {
            entries,
            last,
            more,
        } = Part::fill(entries.cloned(), true, PART_ENTRIES, PART_BYTES);
        let receipt = self.asking.read_receipt(&reading)?;
        let cursor = if more {
            self.state = State::Snapshot {
                reading,
                after: last,
            };
            Bytes::new()
        } else {
            self.catch_up_from(Reason::Slow);
            self.cursor()
        };
        let complete = !more;
        Ok(pb::WatchResponse {
            receipt: Some(receipt),
            cursor,
            step: Some(Step::Snapshot(pb::WatchSnapshot { entries, complete })),
        })
    }

    /// Takes the next of the changes that are kept. Once there are none left it joins the hub, and looks again.
    fn catch_up(&mut self, joined: Option<Subscription>, gap: Reason) -> Option<Events> {
        let published = self.asking.handle().published();
        let past = match self.mode() {
            Mode::Strong => changes::from_history(
                &published.view,
                self.seen.as_ref(),
                &self.wants.range,
                self.wants.previous,
            ),
            Mode::Eventual => {
                let hub = self.asking.handle().hub();
                changes::from_ring(hub, self.reached, &self.wants.range)
            }
        };
        let Collected {
            events,
            seen,
            number,
            whole,
        } = match past {
            Ok(collected) => collected,
            Err(Gone) => {
                self.state = State::Resync(gap);
                return None;
            }
        };
        self.saw(seen);
        self.reached = self.reached.max(number);
        self.state = match joined {
            Some(joined) if whole => {
                // The view that was looked at was published after joining: what it lacks comes.
                if self.mode() == Mode::Strong {
                    self.reached = published.number;
                }
                State::Live(joined)
            }
            None if whole => State::CatchUp {
                joined: Some(self.asking.handle().hub().join(self.wants.range.clone())),
                gap,
            },
            joined => State::CatchUp { joined, gap },
        };
        (!events.is_empty()).then_some(events)
    }

    /// Waits for changes of the range, for the time of a progress report, or for the end.
    async fn live(&mut self, joined: Subscription) -> Result<Option<pb::WatchResponse>, Error> {
        // What was given out by now is told as progress only if nothing of it waits.
        let due = Instant::now() >= self.progress_at;
        let given = due.then(|| self.asking.handle().hub().given());
        let deliveries = match joined.take(PART_BYTES) {
            Ok(deliveries) => deliveries,
            Err(lost) => {
                self.lost(lost);
                return Ok(None);
            }
        };
        if !deliveries.is_empty() {
            let taken = changes::from_deliveries(
                deliveries,
                self.reached,
                self.seen.as_ref(),
                self.wants.previous,
            );
            self.state = State::Live(joined);
            self.saw(taken.seen);
            self.reached = self.reached.max(taken.number);
            return if taken.events.is_empty() {
                Ok(None)
            } else {
                self.changes(taken.events).map(Some)
            };
        }
        if let Some((number, position)) = given {
            self.state = State::Live(joined);
            self.saw(Some(position));
            self.reached = self.reached.max(number);
            return self
                .response(Step::Progress(pb::WatchProgress {}))
                .map(Some);
        }
        let ends = self.wants.end_on_leader_lost;
        tokio::select! {
            why = &mut self.ended => return Err(why),
            _ = self.led.changed(), if ends => {}
            () = joined.ready() => {}
            () = &mut self.alarm => self.alarm.as_mut().reset(self.progress_at),
        }
        self.state = State::Live(joined);
        Ok(None)
    }

    fn lost(&mut self, lost: Lost) {
        self.state = match (lost, self.mode()) {
            (Lost::Reset, Mode::Eventual) => State::Resync(Reason::StateReplaced),
            // The history came with the state; perhaps it reaches back far enough.
            (Lost::Reset, Mode::Strong) => State::CatchUp {
                joined: None,
                gap: Reason::StateReplaced,
            },
            // What it missed is kept for a while: it starts over only if it is slower than that.
            (Lost::Slow | Lost::Behind, _) => State::CatchUp {
                joined: None,
                gap: Reason::Slow,
            },
        };
    }

    fn saw(&mut self, position: Option<Position>) {
        match (&mut self.seen, position) {
            (_, None) => {}
            (Some(seen), Some(position)) => seen.merge(&position),
            (seen @ None, position @ Some(_)) => *seen = position,
        }
    }

    fn cursor(&self) -> Bytes {
        let published = self.asking.handle().published();
        let status = &published.view.status;
        let place = match (&self.seen, status.mode) {
            (Some(Position::Strong(revision)), Mode::Strong) => Place::Revision(*revision),
            (Some(Position::Strong(_) | Position::Eventual(_)) | None, _) => Place::Local {
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

    fn changes(&mut self, events: Events) -> Result<pb::WatchResponse, Error> {
        self.rest = changes::parts(events);
        let first = self.rest.pop_front().unwrap_or_default();
        self.changes_part(first)
    }

    /// Some changes; with a cursor and a position only if nothing of their revision is left.
    fn changes_part(&self, events: Events) -> Result<pb::WatchResponse, Error> {
        let more = !self.rest.is_empty();
        let step = Step::Changes(pb::WatchChanges { events, more });
        if !more {
            return self.response(step);
        }
        Ok(pb::WatchResponse {
            receipt: Some(self.asking.step_receipt(None)?),
            step: Some(step),
            cursor: Bytes::new(),
        })
    }

    fn response(&self, step: Step) -> Result<pb::WatchResponse, Error> {
        Ok(pb::WatchResponse {
            receipt: Some(self.asking.step_receipt(self.seen.as_ref())?),
            step: Some(step),
            cursor: self.cursor(),
        })
    }
}
