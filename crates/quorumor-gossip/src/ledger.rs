//! The conflict ledger: every write that lost to a concurrent one, counted once, and the last of them listed with what they
//! had written.

use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::{Conflict, Conflicts, Dot, Key, Stamp, Value};

use crate::wire::{Malformed, Reader, Writer};

/// How many losers are listed; the count goes on beyond.
const LISTED_MAX: usize = 1_024;
/// Bytes of their values: beyond, the oldest go.
const LISTED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of the list that a checkpoint keeps: the last of it, so that the checkpoint's first chunk stays small.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// What a loser takes besides its key and value, at most: eight numbers.
const HEAD_BYTES: usize = 8 * 10;
/// And at least.
const HEAD_BYTES_MIN: usize = 10;

/// Counts distinct loser dots. A register counts each of its siblings at most once, and a dot never comes back.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    conflicts: Conflicts,
    bytes: usize,
}

impl Ledger {
    /// For a checkpoint: the count, and the last losers as far as [`KEPT_BYTES_MAX`] reaches.
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.number(self.conflicts.count);
        let mut kept = 0;
        let fits = |conflict: &&Arc<Conflict>| {
            kept += bytes(conflict) + HEAD_BYTES;
            kept <= KEPT_BYTES_MAX
        };
        let listed: Vec<&Arc<Conflict>> = self
            .conflicts
            .listed
            .iter()
            .rev()
            .take_while(fits)
            .collect();
        out.count(listed.len());
        for conflict in listed.into_iter().rev() {
            encode_conflict(conflict, out);
        }
    }

    /// What [`encode`](Self::encode) wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut ledger = Self::default();
        ledger.conflicts.count = reader.number()?;
        for _ in 0..reader.count(HEAD_BYTES_MIN)? {
            let conflict = decode_conflict(reader)?;
            ledger.bytes += bytes(&conflict);
            ledger.conflicts.listed.push_back(Arc::new(conflict));
        }
        Ok(ledger)
    }

    pub(crate) fn add(&mut self, mut conflict: Conflict, wall_ms: u64) {
        self.conflicts.count += 1;
        conflict.number = self.conflicts.count;
        conflict.wall_ms = wall_ms;
        self.bytes += bytes(&conflict);
        self.conflicts.listed.push_back(Arc::new(conflict));
        while self.conflicts.listed.len() > LISTED_MAX || self.bytes > LISTED_BYTES_MAX {
            if let Some(oldest) = self.conflicts.listed.pop_front() {
                self.bytes -= bytes(&oldest);
            }
        }
    }

    pub(crate) const fn count(&self) -> u64 {
        self.conflicts.count
    }

    /// The list and the count. O(1).
    pub(crate) fn conflicts(&self) -> Conflicts {
        self.conflicts.clone()
    }
}

fn bytes(conflict: &Conflict) -> usize {
    let value = conflict.value.as_ref();
    conflict.key.as_str().len() + value.map_or(0, |value| value.as_bytes().len())
}

fn encode_conflict(conflict: &Conflict, out: &mut Writer) {
    out.number(conflict.number);
    out.bytes(conflict.key.as_str().as_bytes());
    for dot in [conflict.loser, conflict.winner] {
        out.row((dot.writer, dot.log_id, dot.seq));
    }
    out.number(conflict.loser_stamp.as_u64());
    out.number(conflict.wall_ms);
    out.flag(conflict.value.is_some());
    if let Some(value) = &conflict.value {
        out.bytes(value.as_bytes());
    }
}

fn decode_conflict(reader: &mut Reader<'_>) -> Result<Conflict, Malformed> {
    let number = reader.number()?;
    let key = Key::parse(reader.text()?).map_err(|_| Malformed("no key of the ledger"))?;
    let (loser, winner) = (dot(reader)?, dot(reader)?);
    let loser_stamp = Stamp::from_u64(reader.number()?);
    let wall_ms = reader.number()?;
    let value = if reader.flag()? {
        let bytes = Bytes::copy_from_slice(reader.bytes()?);
        Some(Value::parse(bytes).map_err(|_| Malformed("no value of the ledger"))?)
    } else {
        None
    };
    Ok(Conflict {
        number,
        key,
        loser,
        loser_stamp,
        value,
        winner,
        wall_ms,
    })
}

fn dot(reader: &mut Reader<'_>) -> Result<Dot, Malformed> {
    let (writer, log_id, seq) = reader.row()?;
    Ok(Dot {
        writer,
        log_id,
        seq,
    })
}

#[cfg(test)]
mod tests {
    use quorumor_core::{LogId, NodeId, Seq};

    use super::*;

    fn lost(seq: u64, value: Option<Vec<u8>>) -> Conflict {
        let dot = |writer: u64| Dot {
            writer: NodeId::try_from(writer).unwrap(),
            log_id: LogId::new(7),
            seq: Seq::new(seq),
        };
        Conflict {
            number: 0,
            key: Key::parse("k").unwrap(),
            loser: dot(1),
            loser_stamp: Stamp::from_u64(99 + seq),
            value: value.map(|value| Value::parse(value.into()).unwrap()),
            winner: dot(2),
            wall_ms: 0,
        }
    }

    fn again(ledger: &Ledger) -> Ledger {
        let mut out = Writer::default();
        ledger.encode(&mut out);
        let mut reader = Reader::new(&out.0);
        let decoded = Ledger::decode(&mut reader).unwrap();
        assert!(reader.is_empty());
        decoded
    }

    #[test]
    fn a_checkpoint_keeps_the_count_and_what_is_listed() {
        let mut ledger = Ledger::default();
        ledger.add(lost(1, Some(b"v".to_vec())), 5);
        ledger.add(lost(2, None), 6);
        let mut decoded = again(&ledger);
        assert_eq!(decoded.count(), 2);
        assert_eq!(decoded.conflicts().listed, ledger.conflicts().listed);
        decoded.add(lost(3, None), 7);
        assert_eq!(decoded.conflicts().listed.last().unwrap().number, 3);
    }

    #[test]
    fn of_a_list_that_is_too_long_a_checkpoint_keeps_the_last() {
        let mut ledger = Ledger::default();
        for seq in 0..10 {
            ledger.add(lost(seq, Some(vec![0; 60 * 1024])), seq);
        }
        let decoded = again(&ledger);
        assert_eq!(decoded.count(), 10);
        let numbers: Vec<u64> = decoded
            .conflicts()
            .listed
            .iter()
            .map(|conflict| conflict.number)
            .collect();
        assert_eq!(numbers, [7, 8, 9, 10]);
    }
}
