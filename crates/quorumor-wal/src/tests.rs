//! Tests of the log as its callers see it, over the faulty disk and the real one.

mod checkpoints;
mod codec;
mod crashes;
mod damage;
mod full_disk;
mod restarts;

use bytes::Bytes;

use crate::{Disk, Log, LogOptions, Record, Recovered, SimDisk, WalError};

fn record(kind: u8, position: u64, bytes: impl Into<Vec<u8>>) -> Record {
    Record {
        kind,
        position,
        bytes: Bytes::from(bytes.into()),
    }
}

/// A record whose bytes tell it from every other.
fn filled(kind: u8, position: u64, len: usize) -> Record {
    let bytes =
        (0..len).map(|index| (position as usize * 31 + index * 7 + usize::from(kind)) as u8 | 1);
    record(kind, position, bytes.collect::<Vec<_>>())
}

fn open(disk: &SimDisk) -> (Log<SimDisk>, Recovered) {
    try_open(disk).expect("the log opens")
}

/// Opens with a salt seed that no earlier start had.
fn try_open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), WalError> {
    Log::open(disk.clone(), LogOptions::small(disk.operations() + 1))
}

fn records(recovered: &Recovered) -> Vec<Record> {
    recovered
        .records
        .iter()
        .map(|(_, record)| record.clone())
        .collect()
}

fn names(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with(prefix));
    names
}

/// Asserts damage and returns its file, offset and reason.
fn damage<T: std::fmt::Debug>(result: Result<T, WalError>) -> (String, u64, String) {
    match result {
        Err(WalError::Damaged { file, offset, why }) => (file, offset, why),
        other => panic!("expected damage, got {other:?}"),
    }
}
