//! What a leader does by itself: end leases that ran out, keep the history in its window, carry log time on.
//!
//! Each is an entry like any other and is decided where it is applied, the same on every node. A lease is ended in two
//! steps: once its time has come, a majority must confirm that this node still leads; only then does it propose the end, in
//! its own term, and a renewal that came before in the log still counts. So a leader that was stopped, and doesn't know yet
//! that it was deposed, ends nothing (etcd #15247).

use bytes::Bytes;
use quorumor_core::{DiskState, History, LeaseId, LogTime, Mono, Revision};

use crate::codec::proposal::{Body, Proposal, WriteId};
use crate::config::HistoryWindow;
use crate::pending::Queued;
use crate::replica::RaftReplica;

/// Leases that one entry ends.
const EXPIRE_MAX: usize = 1_024;
/// While something lives by log time, the log carries it on at least so often.
const TICK_MS: u64 = 1_000;
/// While something changes, digests are compared so often.
const DIGEST_US: u64 = 5_000_000;
/// Marks the contexts of these reads, so that none is ever the same as one of `reads.rs`.
const CONTEXT_MARK: u64 = 1 << 63;

/// How far the end of leases has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Expiry {
    #[default]
    Idle,
    /// A majority is asked whether this node leads.
    Asked {
        context: Bytes,
        /// The log time when it was asked: what ran out before may end.
        time: LogTime,
        at: Mono,
    },
    /// It does.
    Confirmed { time: LogTime },
    /// The end is proposed.
    Proposed(UnderWay),
}

/// An entry of this leader that isn't applied yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnderWay {
    counter: u64,
    at: Mono,
}

/// One leader's upkeep, of one term.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    term: u64,
    /// Numbers contexts, over all terms.
    asked: u64,
    expiry: Expiry,
    compaction: Option<UnderWay>,
    tick: Option<UnderWay>,
    ticked_at: Mono,
    /// When to look again.
    look_at: Mono,
}

impl Upkeep {
    fn begin_term(&mut self, term: u64, now: Mono) {
        *self = Self {
            term,
            asked: self.asked,
            ticked_at: now,
            ..Self::default()
        };
    }

    /// A majority confirmed a context.
    pub(crate) fn confirm(&mut self, context: &[u8]) {
        if let Expiry::Asked {
            context: asked,
            time,
            ..
        } = &self.expiry
            && asked == context
        {
            self.expiry = Expiry::Confirmed { time: *time };
            self.look_at = Mono::default();
        }
    }

    /// An entry of this node was applied.
    pub(crate) fn applied(&mut self, counter: u64) {
        let done = |under_way: &mut UnderWay| under_way.counter == counter;
        self.compaction.take_if(done);
        self.tick.take_if(done);
        if matches!(self.expiry, Expiry::Proposed(under_way) if under_way.counter == counter) {
            self.expiry = Expiry::Idle;
            self.look_at = Mono::default();
        }
    }

    /// Gives up what takes too long: it was dropped on the way.
    fn give_up(&mut self, now: Mono, patience_us: u64) {
        let late = |at: Mono| now.since_us(at) >= patience_us;
        self.compaction.take_if(|under_way| late(under_way.at));
        self.tick.take_if(|under_way| late(under_way.at));
        if let Expiry::Asked { at, .. } | Expiry::Proposed(UnderWay { at, .. }) = &self.expiry
            && late(*at)
        {
            self.expiry = Expiry::Idle;
        }
    }
}

impl RaftReplica {
    /// Does what is due, if this node leads; says whether there was anything.
    pub(crate) fn keep_up(&mut self) -> bool {
        let leads = self.standing.leads && self.raw.raft.commit_to_current_term();
        if !leads || self.now < self.upkeep.look_at || self.disk == DiskState::Full {
            return false;
        }
        if self.upkeep.term != self.standing.term {
            self.upkeep.begin_term(self.standing.term, self.now);
        }
        let timing = *self.config.timing();
        self.upkeep.look_at = self.now.after_us(timing.tick_us);
        self.upkeep.give_up(self.now, timing.election_timeout_us());
        let expired = self.expire_leases();
        let compacted = self.compact_history();
        let ticked = self.carry_time_on();
        expired || compacted || ticked
    }

    fn expire_leases(&mut self) -> bool {
        let now = self.clock.now();
        match self.upkeep.expiry {
            Expiry::Idle => {
                let due = self.state.leases.next_expiry().is_some_and(|at| at <= now);
                if due {
                    self.ask_whether_leading(now);
                }
                due
            }
            Expiry::Confirmed { time } => {
                let leases: Vec<LeaseId> = self.state.leases.due(time).take(EXPIRE_MAX).collect();
                self.upkeep.expiry = if leases.is_empty() {
                    Expiry::Idle
                } else {
                    Expiry::Proposed(self.propose_own(Body::Expire { leases }))
                };
                true
            }
            Expiry::Asked { .. } | Expiry::Proposed(_) => false,
        }
    }

    fn ask_whether_leading(&mut self, time: LogTime) {
        self.upkeep.asked += 1;
        let numbers = [
            self.config.node().as_u64(),
            self.config.boot_nonce(),
            self.upkeep.asked | CONTEXT_MARK,
        ];
        let context: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
        self.upkeep.expiry = Expiry::Asked {
            context: context.clone().into(),
            time,
            at: self.now,
        };
        self.raw.read_index(context);
    }

    fn compact_history(&mut self) -> bool {
        if self.upkeep.compaction.is_some() {
            return false;
        }
        let window = self.config.history();
        let Some(through) = overdue(&self.state.history, window, self.clock.now()) else {
            return false;
        };
        self.upkeep.compaction = Some(self.propose_own(Body::Compact { through }));
        true
    }

    fn carry_time_on(&mut self) -> bool {
        let lives = !self.state.leases.is_empty() || !self.state.sessions.is_empty();
        let late = self.clock.now().since_ms(self.state.log_time) >= TICK_MS;
        let compare =
            self.digests.is_owed() && self.now.since_us(self.upkeep.ticked_at) >= DIGEST_US;
        if self.upkeep.tick.is_some() || !(lives && late || compare) {
            return false;
        }
        self.upkeep.ticked_at = self.now;
        let digest = self.digests.last();
        self.upkeep.tick = Some(self.propose_own(Body::Tick { digest }));
        true
    }

    fn propose_own(&mut self, body: Body) -> UnderWay {
        let id = self.next_write_id();
        let data = Proposal { id, body }.encode();
        self.writes.enqueue_urgent(Queued { id, data });
        UnderWay {
            counter: id.counter,
            at: self.now,
        }
    }

    pub(crate) const fn next_write_id(&mut self) -> WriteId {
        WriteId {
            node: self.config.node(),
            boot_nonce: self.config.boot_nonce(),
            counter: self.writes.next_counter(),
        }
    }
}

/// The revision through which a history has outgrown its window. By count and bytes only once it is a tenth above, so that a
/// compaction drops many revisions.
fn overdue(history: &History, window: HistoryWindow, now: LogTime) -> Option<Revision> {
    let first = history.first()?;
    let too_old = LogTime(now.0.saturating_sub(window.age_ms));
    let (count, bytes) = (history.len() as u64, history.bytes() as u64);
    let too_many = count > window.revisions.saturating_add(window.revisions / 10);
    let too_heavy = bytes > window.bytes.saturating_add(window.bytes / 10);
    // A second of slack, for the same reason.
    if !too_many && !too_heavy && first.time.0.saturating_add(TICK_MS) >= too_old.0 {
        return None;
    }
    let (mut count, mut bytes) = (count, bytes);
    let mut through = None;
    for past in history.iter() {
        if count <= window.revisions && bytes <= window.bytes && past.time >= too_old {
            break;
        }
        through = Some(past.revision);
        count -= 1;
        bytes = bytes.saturating_sub(past.bytes() as u64);
    }
    through
}
