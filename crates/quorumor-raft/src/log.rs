//! Raft's log in memory, as raft-rs reads it, and as records for the write-ahead log.
//!
//! Entries before `start` are gone; `start` itself is known by its term only. What is durable is not known here: raft is
//! told by `ready.rs` once records are synced.

use std::cell::Cell;
use std::collections::VecDeque;

use quorumor_core::{LogRecord, Record};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::codec::record::{decode_entry, decode_hard_state, encode_entry, encode_hard_state};
use crate::error::OpenError;
use crate::membership::Voters;
use crate::state_machine::Mark;

/// The kind of records that hold log entries; their position is the index.
pub(crate) const KIND_ENTRY: u8 = 1;
/// The kind of the record that holds the hard state, at position 0.
pub(crate) const KIND_HARD_STATE: u8 = 2;

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    start: Mark,
    entries: VecDeque<Entry>,
    bytes: u64,
    hard_state: HardState,
    /// Whether the newest hard state isn't among the records yet.
    hard_state_unwritten: bool,
    conf_state: ConfState,
    /// The state that a snapshot could be taken of; `None` while one is under way. Taken by the first that asks.
    offer: Cell<Option<Mark>>,
    /// Records from here on may still be on the disk and must be truncated with the next append.
    truncate_from: Option<u64>,
}

impl Log {
    /// The log that goes with a checkpoint: what the recovered records say beyond it, and a tail before it.
    ///
    /// # Errors
    /// If records don't decode, or acknowledged entries are missing.
    pub(crate) fn recover(
        checkpoint: Mark,
        voters: &Voters,
        records: &[Record],
    ) -> Result<Self, OpenError> {
        let mut hard_state = HardState::default();
        let mut entries: VecDeque<Entry> = VecDeque::new();
        for record in records {
            match record.kind {
                KIND_ENTRY => recover_entry(&mut entries, checkpoint, record)?,
                KIND_HARD_STATE => {
                    hard_state = decode_hard_state(record.bytes.clone())
                        .map_err(|why| OpenError::record(record, why))?;
                }
                kind => return Err(OpenError::UnknownRecord { kind }),
            }
        }
        let mut log = Self {
            start: checkpoint,
            entries: VecDeque::new(),
            bytes: 0,
            hard_state,
            hard_state_unwritten: false,
            conf_state: voters.to_raft(),
            offer: Cell::new(None),
            truncate_from: None,
        };
        log.adopt(checkpoint, entries)?;
        log.settle_hard_state(checkpoint)?;
        Ok(log)
    }

    /// Takes the recovered entries as far as they go with the checkpoint.
    fn adopt(&mut self, checkpoint: Mark, mut entries: VecDeque<Entry>) -> Result<(), OpenError> {
        let Some(first) = entries.front().map(|entry| entry.index) else {
            return Ok(());
        };
        if first > checkpoint.index + 1 {
            return Err(OpenError::Gap {
                after: checkpoint.index,
                next: first,
            });
        }
        let fits = first == checkpoint.index + 1
            || entries
                .get(offset(checkpoint.index, first))
                .is_some_and(|entry| entry.term == checkpoint.term);
        if !fits {
            // The checkpoint came from a leader whose log overruled these entries.
            self.truncate_from = Some(first);
            return Ok(());
        }
        if first <= checkpoint.index {
            let dummy = entries.pop_front().expect("there is a first entry");
            self.start = mark(&dummy);
        }
        self.bytes = entries.iter().map(weight).sum();
        self.entries = entries;
        Ok(())
    }

    /// A checkpoint is committed state: the hard state can't be behind it. Commits beyond the log mean lost entries.
    fn settle_hard_state(&mut self, checkpoint: Mark) -> Result<(), OpenError> {
        if self.hard_state.term < checkpoint.term {
            self.hard_state.term = checkpoint.term;
            self.hard_state.vote = 0;
        }
        self.hard_state.commit = self.hard_state.commit.max(checkpoint.index);
        let last = self.last();
        if self.hard_state.commit > last {
            return Err(OpenError::CommitBeyondLog {
                commit: self.hard_state.commit,
                last,
            });
        }
        Ok(())
    }

    /// The last index, 0 never.
    pub(crate) fn last(&self) -> u64 {
        self.entries
            .back()
            .map_or(self.start.index, |entry| entry.index)
    }

    /// The first index that is still here.
    pub(crate) fn first(&self) -> u64 {
        self.start.index + 1
    }

    /// The entries that are here.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The newest hard state.
    pub(crate) const fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Bytes of the entries in memory.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a hard state.
    pub(crate) fn set_hard_state(&mut self, state: HardState) {
        self.hard_state = state;
        self.hard_state_unwritten = true;
    }

    /// The record of the newest hard state, if it wasn't given before.
    pub(crate) fn unwritten_hard_state(&mut self) -> Option<LogRecord> {
        std::mem::take(&mut self.hard_state_unwritten)
            .then(|| LogRecord::Put(self.hard_state_record()))
    }

    /// Takes entries, over the ones that they overrule, and gives the records.
    pub(crate) fn append(&mut self, entries: &[Entry], records: &mut Vec<LogRecord>) {
        let Some(first) = entries.first().map(|entry| entry.index) else {
            return;
        };
        assert!(
            self.first() <= first && first <= self.last() + 1,
            "raft appends without a gap and never below what it compacted"
        );
        let overwrites = (first <= self.last()).then_some(first);
        let from = [overwrites, self.truncate_from.take()]
            .into_iter()
            .flatten()
            .min();
        if let Some(from) = from {
            records.push(LogRecord::TruncateSuffix {
                kind: KIND_ENTRY,
                from,
            });
        }
        self.cut_from(first);
        for entry in entries {
            records.push(LogRecord::Put(entry_record(entry)));
            self.bytes += weight(entry);
            self.entries.push_back(entry.clone());
        }
    }

    fn cut_from(&mut self, first: u64) {
        while self.last() >= first {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= weight(&entry);
            } else {
                return;
            }
        }
    }

    /// Becomes the empty log after an installed snapshot.
    pub(crate) fn install(&mut self, at: Mark, voters: &Voters) {
        self.truncate_from = Some(self.first().min(at.index + 1));
        self.start = at;
        self.entries.clear();
        self.bytes = 0;
        self.conf_state = voters.to_raft();
        self.offer.set(None);
    }

    /// Forgets entries up to the checkpoint, but for a tail of so many entries and bytes at most.
    pub(crate) fn compact(&mut self, checkpoint: u64, keep_entries: u64, keep_bytes: u64) {
        let mut kept = checkpoint.saturating_sub(self.start.index);
        let mut kept_bytes: u64 = self
            .entries
            .iter()
            .take_while(|entry| entry.index <= checkpoint)
            .map(weight)
            .sum();
        while kept > keep_entries || kept_bytes > keep_bytes {
            let Some(entry) = self.entries.front() else {
                return;
            };
            if entry.index > checkpoint {
                return;
            }
            kept = kept.saturating_sub(1);
            kept_bytes -= weight(entry);
            self.bytes -= weight(entry);
            self.start = mark(entry);
            self.entries.pop_front();
        }
    }

    /// Every record that a restart needs beside the checkpoint at this index.
    pub(crate) fn records(&self, checkpoint: u64) -> Vec<Record> {
        let mut records = vec![self.hard_state_record()];
        if self.start.index < checkpoint {
            // A restart takes the first entry as the known place before the log, so the tail begins one later.
            records.extend(self.entries.iter().map(entry_record));
        } else {
            records.extend(
                self.entries
                    .iter()
                    .filter(|entry| entry.index > checkpoint)
                    .map(entry_record),
            );
        }
        records
    }

    fn hard_state_record(&self) -> Record {
        Record {
            kind: KIND_HARD_STATE,
            position: 0,
            bytes: encode_hard_state(&self.hard_state),
        }
    }

    /// The configuration changed: snapshots from here on carry the new one.
    pub(crate) fn set_voters(&mut self, voters: &Voters) {
        self.conf_state = voters.to_raft();
    }

    /// Offers the applied state for a snapshot, or withdraws the offer.
    pub(crate) fn set_offer(&self, offer: Option<Mark>) {
        self.offer.set(offer);
    }

    /// The term of an index, if it is known here.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.first() {
            return None;
        }
        self.entries
            .get(offset(index, self.first()))
            .map(|entry| entry.term)
    }
}

fn recover_entry(
    entries: &mut VecDeque<Entry>,
    checkpoint: Mark,
    record: &Record,
) -> Result<(), OpenError> {
    let entry = decode_entry(record.bytes.clone()).map_err(|why| OpenError::record(record, why))?;
    if entry.index != record.position {
        return Err(OpenError::Misplaced {
            position: record.position,
            index: entry.index,
        });
    }
    let first = entries.front().map(|entry| entry.index);
    let last = entries.back().map(|entry| entry.index);
    match (first, last) {
        (Some(first), Some(_)) if entry.index < first => entries.clear(),
        (Some(first), Some(last)) if entry.index <= last => {
            let place = offset(entry.index, first);
            if entries.get(place).map(|entry| entry.term) == Some(entry.term) {
                // The same entry again, from a compaction. What follows it stands (log matching, Raft 5.3).
                return Ok(());
            }
            entries.truncate(place);
        }
        (Some(_), Some(last)) if entry.index > last + 1 => {
            if entry.index > checkpoint.index + 1 {
                return Err(OpenError::Gap {
                    after: last,
                    next: entry.index,
                });
            }
            // What a snapshot replaced, not forgotten yet.
            entries.clear();
        }
        (Some(_), Some(_)) | (None, _) | (_, None) => {}
    }
    entries.push_back(entry);
    Ok(())
}

fn entry_record(entry: &Entry) -> Record {
    Record {
        kind: KIND_ENTRY,
        position: entry.index,
        bytes: encode_entry(entry),
    }
}

fn mark(entry: &Entry) -> Mark {
    Mark {
        index: entry.index,
        term: entry.term,
    }
}

/// What an entry costs in memory, about.
pub(crate) fn weight(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len() + 64) as u64
}

fn offset(index: u64, first: u64) -> usize {
    usize::try_from(index - first).expect("a log in memory fits its machine's words")
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let range = offset(low, self.first())..offset(high, self.first());
        let within = |entry: &&Entry| {
            let first = size == 0;
            size += weight(entry);
            first || size <= max_size
        };
        Ok(self
            .entries
            .range(range)
            .take_while(within)
            .cloned()
            .collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.start.index {
            return Err(StorageError::Compacted.into());
        }
        self.term_at(index)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Any other error than this one is fatal to raft, and so is an empty snapshot.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let offered = self.offer.take().filter(|mark| mark.index >= request_index);
        let Some(mark) = offered else {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        };
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = mark.index;
        metadata.term = mark.term;
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests;
