//! What a replica asks to persist, carried out on a write-ahead log. Synchronous: the server's log thread and the simulator
//! both call it. It decides nothing about when; it only keeps the contract of [`Persist`].
//!
//! Appends that wait together become one frame. A [`Persist::Compact`] becomes as many frames as it needs, and the log frees
//! whole segments only. So each of its frames begins with a marker record of this file's own kinds, and the last one ends
//! with another: at an open everything before the last whole compaction is left out, and so is one that was broken off.

use std::collections::HashMap;
use std::collections::VecDeque;

use bytes::Bytes;
use quorumor_core as core;
use quorumor_core::{CheckpointSource, Input, LogRecord, Persist, PersistToken, Plant, Planted};
use quorumor_wal::{
    Change, CheckpointDraft, Disk, Log, LogOptions, LogStats, Lsn, RECORD_OVERHEAD, Record,
    WalError,
};

/// The kinds of the markers around what a compaction keeps. Replicas have the kinds below 128.
const COMPACTION_BEGINS: u8 = 255;
const COMPACTION_GOES_ON: u8 = 254;
const COMPACTION_ENDS: u8 = 253;
/// Appends, and the records of a compaction, are gathered into one frame up to about this size.
const FRAME_BYTES: usize = 8 << 20;

/// Something that a replica asked for is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Every append and compaction up to this token.
    Persisted(PersistToken),
    /// The checkpoint of this token.
    Checkpointed(PersistToken),
}

impl From<Completion> for Input {
    fn from(completion: Completion) -> Self {
        match completion {
            Completion::Persisted(token) => Self::Persisted { token },
            Completion::Checkpointed(token) => Self::Checkpointed { token },
        }
    }
}

/// A log as a replica sees it.
#[derive(Debug)]
pub struct Store<D: Disk> {
    log: Log<D>,
    /// What the disk had no room for, in order, to be tried again before anything newer.
    waiting: VecDeque<Persist>,
    checkpoint: Option<Checkpoint>,
    /// The compaction at the front of what waits, if some of its frames are written.
    compaction: Option<Compaction>,
    planted: Planted,
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug)]
struct Compaction {
    /// Its first frame.
    first: Lsn,
    /// Records that are written.
    written: usize,
}

#[derive(Debug)]
struct Checkpoint {
    token: PersistToken,
    position: u64,
    source: Box<dyn CheckpointSource>,
    draft: Option<CheckpointDraft>,
    /// A piece that the disk had no room for.
    piece: Option<Bytes>,
}

impl<D: Disk> Store<D> {
    /// Opens the log, and reads what a replica starts from.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(disk: D, options: LogOptions) -> Result<(Self, core::Recovered), WalError> {
        let (log, found) = Log::open(disk, options)?;
        let recovered = core::Recovered {
            checkpoint: found.checkpoint.map(|checkpoint| checkpoint.chunks),
            records: needed(found.records),
            torn: found.torn.is_some(),
        };
        let store = Self {
            log,
            waiting: VecDeque::new(),
            checkpoint: None,
            compaction: None,
            planted: Planted::default(),
        };
        Ok((store, recovered))
    }

    /// With a defect, for tests of what finds it.
    #[must_use]
    pub fn with_planted(mut self, planted: Planted) -> Self {
        self.planted = planted;
        self
    }

    /// Carries out a batch with as few syncs as the contract allows. A checkpoint is only begun; [`Self::step`] writes it.
    /// What the disk has no room for waits, with all that comes behind it, for the next call.
    ///
    /// # Errors
    /// A failed write or sync: nothing more can be promised, the node must stop.
    pub fn carry_out(&mut self, batch: Vec<Persist>) -> Result<Vec<Completion>, WalError> {
        self.waiting.extend(batch);
        let mut done = None;
        while let Some(first) = self.waiting.pop_front() {
            match first {
                Persist::Checkpoint {
                    token,
                    position,
                    source,
                } => self.begin(token, position, source)?,
                Persist::Compact { token, records } => {
                    if !self.compact(token, &records)? {
                        self.waiting.push_front(Persist::Compact { token, records });
                        break;
                    }
                    done = Some(token);
                }
                append @ Persist::Append { .. } => {
                    self.waiting.push_front(append);
                    match self.append_front()? {
                        Some(token) => done = Some(token),
                        None if self.give_way() => {}
                        None => break,
                    }
                }
            }
        }
        Ok(done.map(Completion::Persisted).into_iter().collect())
    }

    /// Writes the next piece of the checkpoint that is under way, if there is one and it is ready.
    ///
    /// # Errors
    /// As [`Self::carry_out`]. A full disk is none: the piece is tried again at the next call.
    pub fn step(&mut self) -> Result<Option<Completion>, WalError> {
        let Some(mut checkpoint) = self.checkpoint.take() else {
            return Ok(None);
        };
        if checkpoint.piece.is_none() && !checkpoint.source.is_ready() {
            self.checkpoint = Some(checkpoint);
            return Ok(None);
        }
        match self.step_checkpoint(&mut checkpoint) {
            Ok(true) => Ok(Some(Completion::Checkpointed(checkpoint.token))),
            Ok(false) => {
                self.checkpoint = Some(checkpoint);
                Ok(None)
            }
            Err(WalError::Full { .. })
                if checkpoint.draft.is_some() || checkpoint.piece.is_some() =>
            {
                self.checkpoint = Some(checkpoint);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// [`Self::step`], until the checkpoint is complete, `bytes` of it are written, or there is no room.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn step_by(&mut self, bytes: u64) -> Result<Option<Completion>, WalError> {
        let began = self.checkpoint_bytes();
        loop {
            let before = self.checkpoint_bytes();
            if let Some(done) = self.step()? {
                return Ok(Some(done));
            }
            let now = self.checkpoint_bytes();
            if now <= before || now - began >= bytes {
                return Ok(None);
            }
        }
    }

    /// Bytes of the checkpoint that is under way.
    fn checkpoint_bytes(&self) -> u64 {
        let draft = self
            .checkpoint
            .as_ref()
            .and_then(|checkpoint| checkpoint.draft.as_ref());
        draft.map_or(0, CheckpointDraft::bytes_written)
    }

    /// Whether [`Self::step`] has something to do.
    pub fn is_writing_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Whether something waits for space.
    pub fn is_waiting_for_space(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// As [`Log::renew_floor`].
    ///
    /// # Errors
    /// As [`Log::renew_floor`].
    pub fn renew_floor(&mut self) -> Result<(), WalError> {
        self.log.renew_floor()
    }

    /// What the log did since it was opened.
    pub fn stats(&self) -> LogStats {
        self.log.stats()
    }

    /// Bytes of the log's files.
    pub fn bytes_on_disk(&self) -> u64 {
        self.log.bytes_on_disk()
    }

    fn begin(
        &mut self,
        token: PersistToken,
        position: u64,
        source: Box<dyn CheckpointSource>,
    ) -> Result<(), WalError> {
        // The contract has at most one under way; a newer one takes its place.
        if let Some(draft) = self.checkpoint.take().and_then(|older| older.draft) {
            self.log.discard_checkpoint(draft)?;
        }
        self.checkpoint = Some(Checkpoint {
            token,
            position,
            source,
            draft: None,
            piece: None,
        });
        Ok(())
    }

    /// Whether the checkpoint is complete.
    fn step_checkpoint(&mut self, checkpoint: &mut Checkpoint) -> Result<bool, WalError> {
        if checkpoint.draft.is_none() {
            // A first piece is held ready, so that a full disk leaves something that says "try again".
            if checkpoint.piece.is_none() {
                checkpoint.piece = Some(checkpoint.source.next_chunk().unwrap_or_default());
            }
            checkpoint.draft = Some(self.log.begin_checkpoint(checkpoint.position)?);
        }
        let piece = checkpoint
            .piece
            .take()
            .or_else(|| checkpoint.source.next_chunk());
        match (piece, checkpoint.draft.as_mut()) {
            (Some(piece), Some(draft)) => {
                if let Err(error) = self.log.add_chunk(draft, &piece) {
                    checkpoint.piece = Some(piece);
                    return Err(error);
                }
                Ok(false)
            }
            (None, Some(draft)) => self.log.finish_checkpoint(draft).map(|()| true),
            (None | Some(_), None) => Ok(false),
        }
    }

    /// Writes the appends at the front of the queue as one frame; the last one's token, or `None` if the disk is full.
    fn append_front(&mut self) -> Result<Option<PersistToken>, WalError> {
        let frame_bytes = self.frame_bytes();
        let (mut changes, mut bytes, mut sync, mut taken, mut last) =
            (Vec::new(), 0, false, 0, None);
        for persist in &self.waiting {
            let Persist::Append {
                token,
                records,
                sync: wants_sync,
            } = persist
            else {
                break;
            };
            let more: usize = records.iter().map(record_bytes).sum();
            if taken > 0 && bytes + more > frame_bytes {
                break;
            }
            changes.extend(records.iter().map(change));
            bytes += more;
            sync |= wants_sync;
            taken += 1;
            last = Some(*token);
        }
        match self.log.append_changes(&changes) {
            Ok(_) => {}
            Err(WalError::Full { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        if sync && !self.planted.is(Plant::AckBeforeFsync) {
            self.log.sync()?;
        }
        self.waiting.drain(..taken);
        Ok(last)
    }

    /// What one frame may hold.
    fn frame_bytes(&self) -> usize {
        let limit = usize::try_from(self.log.batch_bytes_max()).unwrap_or(usize::MAX);
        FRAME_BYTES.min(limit.saturating_sub(2 * RECORD_OVERHEAD))
    }

    /// Lets a compaction overtake the appends that found no room, since it frees some: it holds everything that is still
    /// needed of what came before it. Whether there is one.
    fn give_way(&mut self) -> bool {
        let is_compaction = |persist: &Persist| matches!(persist, Persist::Compact { .. });
        let Some(at) = self.waiting.iter().rposition(is_compaction) else {
            return false;
        };
        let behind = self.waiting.split_off(at);
        self.waiting
            .retain(|persist| matches!(persist, Persist::Checkpoint { .. }));
        self.waiting.extend(behind);
        true
    }

    /// Whether there was room. If not, it goes on from there at the next call.
    fn compact(&mut self, token: PersistToken, records: &[core::Record]) -> Result<bool, WalError> {
        loop {
            let written = self.compaction.map_or(0, |compaction| compaction.written);
            let count = self.fitting(&records[written..]);
            let is_last = written + count == records.len();
            let marker = |kind| Record {
                kind,
                position: token.0,
                bytes: Bytes::new(),
            };
            let mut batch = vec![marker(match self.compaction {
                None => COMPACTION_BEGINS,
                Some(_) => COMPACTION_GOES_ON,
            })];
            batch.extend(records[written..written + count].iter().map(record));
            if is_last {
                batch.push(marker(COMPACTION_ENDS));
            }
            let lsn = match self.log.append_from_reserve(&batch) {
                Ok(lsn) => lsn,
                Err(WalError::Full { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            let first = self.compaction.map_or(lsn, |compaction| compaction.first);
            self.compaction = Some(Compaction {
                first,
                written: written + count,
            });
            if is_last {
                self.log.sync()?;
                self.log.release_before(first)?;
                self.compaction = None;
                return Ok(true);
            }
        }
    }

    /// How many of these records go into one frame: at least one, if there are any.
    fn fitting(&self, records: &[core::Record]) -> usize {
        let limit = self.frame_bytes();
        let mut bytes = 0;
        let fits = records.iter().take_while(|record| {
            bytes += record.bytes.len() + RECORD_OVERHEAD;
            bytes <= limit
        });
        fits.count().max(records.len().min(1))
    }
}

fn record_bytes(step: &LogRecord) -> usize {
    match step {
        LogRecord::Put(record) => record.bytes.len() + RECORD_OVERHEAD,
        LogRecord::TruncateSuffix { .. } => RECORD_OVERHEAD,
    }
}

fn record(record: &core::Record) -> Record {
    debug_assert!(record.kind < 128, "replicas have the kinds below 128");
    Record {
        kind: record.kind,
        position: record.position,
        bytes: record.bytes.clone(),
    }
}

fn change(step: &LogRecord) -> Change {
    match step {
        LogRecord::Put(put) => Change::Put(record(put)),
        LogRecord::TruncateSuffix { kind, from } => Change::TruncateSuffix {
            kind: *kind,
            from: *from,
        },
    }
}

/// What stands behind the beginning of the last whole compaction, each kind and position once: the latest. The records of a
/// compaction that was broken off count for nothing.
fn needed(found: Vec<(Lsn, Record)>) -> Vec<core::Record> {
    let mut kept: Vec<Record> = Vec::new();
    // What a compaction holds that hasn't ended yet, and the frame that is being read of it.
    let mut compaction = Vec::new();
    let mut frame = None;
    for (lsn, record) in found {
        match record.kind {
            COMPACTION_BEGINS => {
                compaction.clear();
                frame = Some(lsn);
            }
            COMPACTION_GOES_ON => frame = Some(lsn),
            COMPACTION_ENDS => {
                kept = std::mem::take(&mut compaction);
                frame = None;
            }
            _ if frame == Some(lsn) => compaction.push(record),
            _ => kept.push(record),
        }
    }
    let latest: HashMap<(u8, u64), usize> = kept
        .iter()
        .enumerate()
        .map(|(at, record)| ((record.kind, record.position), at))
        .collect();
    kept.into_iter()
        .enumerate()
        .filter(|(at, record)| latest.get(&(record.kind, record.position)) == Some(at))
        .map(|(_, record)| core::Record {
            kind: record.kind,
            position: record.position,
            bytes: record.bytes,
        })
        .collect()
}

#[cfg(test)]
mod tests;
