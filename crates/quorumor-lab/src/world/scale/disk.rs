//! A disk in memory: every request is done after a fixed delay, in order; a crash loses the end of what wasn't synced.
//!
//! Not the log that servers write ([`crate::world::sim`] runs over that one, with faults): here it only has to let ten thousand
//! nodes restart.

use std::collections::VecDeque;

use bytes::Bytes;
use quorumor_core::{Input, LogRecord, Persist, PersistToken, Record, Recovered};
use rand_chacha::ChaCha8Rng;

use crate::rng;

/// What is under way, in order.
#[derive(Debug)]
enum Work {
    Append {
        token: PersistToken,
        records: Vec<LogRecord>,
        sync: bool,
    },
    Checkpoint {
        token: PersistToken,
        chunks: Vec<Bytes>,
    },
    Compact {
        token: PersistToken,
        records: Vec<Record>,
    },
}

/// One node's disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    records: Vec<Record>,
    /// So many of them survive any crash.
    synced: usize,
    checkpoint: Option<Vec<Bytes>>,
    work: VecDeque<Work>,
}

impl Disk {
    /// Takes a request. Each must be [`finished`](Self::finish) in turn.
    pub(super) fn begin(&mut self, request: Persist) {
        self.work.push_back(match request {
            Persist::Append {
                token,
                records,
                sync,
            } => Work::Append {
                token,
                records,
                sync,
            },
            Persist::Checkpoint {
                token,
                position: _,
                mut source,
            } => Work::Checkpoint {
                token,
                chunks: std::iter::from_fn(|| source.next_chunk()).collect(),
            },
            Persist::Compact { token, records } => Work::Compact { token, records },
        });
    }

    /// Finishes the oldest request. Returns what to tell the replica.
    pub(super) fn finish(&mut self) -> Option<Input> {
        Some(match self.work.pop_front()? {
            Work::Append {
                token,
                records,
                sync,
            } => {
                for record in records {
                    self.append(record);
                }
                if sync {
                    self.synced = self.records.len();
                }
                Input::Persisted { token }
            }
            Work::Checkpoint { token, chunks } => {
                self.checkpoint = Some(chunks);
                Input::Checkpointed { token }
            }
            Work::Compact { token, records } => {
                self.records = records;
                self.synced = self.records.len();
                Input::Persisted { token }
            }
        })
    }

    fn append(&mut self, record: LogRecord) {
        match record {
            LogRecord::Put(record) => self.records.push(record),
            LogRecord::TruncateSuffix { kind, from } => {
                self.records
                    .retain(|record| record.kind != kind || record.position < from);
                self.synced = self.synced.min(self.records.len());
            }
        }
    }

    /// Loses what was under way, and some of what wasn't synced.
    pub(super) fn crash(&mut self, rng: &mut ChaCha8Rng) {
        self.work.clear();
        let loose = (self.records.len() - self.synced) as u64;
        let kept = rng::below(rng, loose + 1) as usize;
        self.records.truncate(self.synced + kept);
        self.synced = self.records.len();
    }

    /// What a start finds.
    pub(super) fn recovered(&self) -> Recovered {
        Recovered {
            checkpoint: self.checkpoint.clone(),
            records: self.records.clone(),
            torn: false,
        }
    }
}
