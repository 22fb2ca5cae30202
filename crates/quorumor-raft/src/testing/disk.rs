//! A node's disk: what is durable, what is only written, what is still to do.

use bytes::Bytes;
use quorumor_core::{LogRecord, Record};

use crate::RaftReplica;

/// A disk's content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) checkpoint: Option<Vec<Bytes>>,
    pub(crate) records: Vec<Record>,
}

impl Image {
    pub(super) fn append(&mut self, records: Vec<LogRecord>) {
        for record in records {
            match record {
                LogRecord::Put(record) => self.records.push(record),
                LogRecord::TruncateSuffix { kind, from } => self
                    .records
                    .retain(|record| record.kind != kind || record.position < from),
            }
        }
    }
}

/// One thing that a disk still has to do.
#[derive(Debug)]
pub(super) enum Work {
    Append(Vec<LogRecord>, bool),
    Compact(Vec<Record>),
    Checkpoint(Vec<Bytes>),
}

/// One node.
pub(crate) struct Node {
    pub(crate) replica: Option<RaftReplica>,
    pub(crate) boot: u64,
    pub(crate) durable: Image,
    pub(super) written: Image,
    pub(super) disk_free_at: u64,
    /// How long an append takes.
    pub(crate) disk_us: u64,
    /// Completed disk works, over all boots.
    pub(crate) works: u64,
    /// Crash when that many works are complete.
    pub(crate) crash_at: Option<u64>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            replica: None,
            boot: 0,
            durable: Image::default(),
            written: Image::default(),
            disk_free_at: 0,
            disk_us: 500,
            works: 0,
            crash_at: None,
        }
    }
}
