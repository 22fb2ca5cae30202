//! Requests that read, as they come in. Who waits for what is in `reads.rs`.

use quorumor_core::{Bound, CallId, Error, Level, Mode, Plant, Position, Reply, Revision};

use crate::replica::RaftReplica;

/// Election timeouts that a bounded read waits for a proof: as long as finding a new leader takes at worst, about.
const PATIENCE: u64 = 2;

impl RaftReplica {
    /// A read at one of the levels.
    pub(crate) fn read(
        &mut self,
        call: CallId,
        level: Level,
        bound: Bound,
        after: Revision,
    ) -> Result<(), Error> {
        self.check_room_for_read()?;
        match level {
            Level::Local => self.reads.wait_local(call, after),
            Level::Linearizable if self.config.planted().is(Plant::StaleRead) => {
                self.reads.wait_local(call, after);
            }
            Level::Sampled => {
                return Err(Error::level_unavailable(Mode::Strong, Level::Sampled));
            }
            Level::Bounded => return self.read_bounded(call, bound, after),
            Level::Linearizable => {
                if self.is_cut_off() {
                    return Err(self.unavailable());
                }
                self.reads.wait(call, after);
            }
        }
        Ok(())
    }

    /// A read within a bound: at once if what this node has is proven fresh enough, else with the next proof.
    fn read_bounded(&mut self, call: CallId, bound: Bound, after: Revision) -> Result<(), Error> {
        let applied = self.state.applied.index;
        if after <= self.state.revision && self.reads.is_proven(bound, applied, self.now) {
            let position = Position::Strong(self.state.revision);
            self.reply(call, Ok(Reply::ReadReady { position }));
            return Ok(());
        }
        if self.is_cut_off() {
            return Err(self.too_stale());
        }
        self.reads.wait_bounded(call, after, bound, self.now);
        Ok(())
    }

    /// The whole state, as fresh as a linearizable read.
    pub(crate) fn back_up(&mut self, call: CallId, after: Revision) -> Result<(), Error> {
        self.check_room_for_read()?;
        if self.is_cut_off() {
            return Err(self.unavailable());
        }
        self.reads.wait_backup(call, after);
        Ok(())
    }

    fn check_room_for_read(&self) -> Result<(), Error> {
        if self.reads.is_full() {
            return Err(Error::Overloaded {
                queue: "pending_reads_max",
                retry_after_ms: 100,
            });
        }
        Ok(())
    }

    /// Bounded reads whose proof doesn't come: this node is cut off, or it takes too long.
    pub(crate) fn give_up_bounded_reads(&mut self) {
        let patience = if self.is_cut_off() {
            0
        } else {
            self.config.timing().election_timeout_us() * PATIENCE
        };
        self.refuse_bounded_reads(patience);
    }

    /// Refuses the bounded reads that have waited for so long.
    pub(crate) fn refuse_bounded_reads(&mut self, patience_us: u64) {
        let late = self.reads.take_late(self.now, patience_us);
        if late.is_empty() {
            return;
        }
        let error = self.too_stale();
        for call in late {
            self.reply(call, Err(error.clone()));
        }
    }

    fn too_stale(&self) -> Error {
        let contact = if self.is_cut_off() {
            "this node has no contact with a leader"
        } else {
            "the leader's word doesn't come, or is too old when it does"
        };
        let last = match self.reads.last_confirmed() {
            Some(confirmed) => {
                let age_ms = self.now.since_us(confirmed.asked_at) / 1_000;
                let applied = self.state.applied.index;
                let lag = confirmed.index.as_u64().saturating_sub(applied);
                format!(
                    "the last proof is {age_ms} ms old, and {lag} entries of it are not applied here"
                )
            }
            None => "it has had no proof since its start".to_owned(),
        };
        Error::TooStale {
            why: format!("{contact}; {last}"),
        }
    }
}
