//! One write: its dot, its stamp, what it saw, and what it says. The unit of logs, rumors and deltas.
//!
//! An event carries its own bytes with their CRC-32C, made once where it was written, so that a flipped bit in a node's
//! memory or in a message never spreads (Amazon S3, 2008-07-20).

use bytes::Bytes;
use quorumor_core::limits::VALUE_BYTES_MAX;
use quorumor_core::{Dot, Key, LeaseId, LogId, NodeId, Seq, Stamp, Value};

use crate::vector::Context;
use crate::wire::{Malformed, Reader, Writer};

/// An event's flags.
const HAS_VALUE: u8 = 1;
const HAS_LEASE: u8 = 2;

/// Rows in one event's context: one for each log that ever wrote the key.
pub(crate) const CONTEXT_ROWS_MAX: usize = 4_096;

/// A write, immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) dot: Dot,
    pub(crate) stamp: Stamp,
    pub(crate) key: Key,
    /// `None` is a delete.
    pub(crate) value: Option<Value>,
    /// The lease that the value lives by. The writer is the lease's owner.
    pub(crate) lease: Option<LeaseId>,
    /// The writes of this key that this one replaces. Never covers the own dot.
    pub(crate) context: Context,
    encoded: Bytes,
}

/// What orders concurrent writes: the stored stamp, then the writer. Equal on every node.
pub(crate) type Rank = (Stamp, NodeId, LogId, Seq);

impl Event {
    pub(crate) fn new(
        dot: Dot,
        stamp: Stamp,
        key: Key,
        (value, lease): (Option<Value>, Option<LeaseId>),
        context: Context,
    ) -> Self {
        assert!(!context.covers(dot), "a write can't have seen itself");
        let mut body = Writer::default();
        body.row((dot.writer, dot.log_id, dot.seq));
        body.number(stamp.as_u64());
        body.bytes(key.as_str().as_bytes());
        body.rows(context.rows());
        body.byte(u8::from(value.is_some()) * HAS_VALUE + u8::from(lease.is_some()) * HAS_LEASE);
        if let Some(lease) = lease {
            body.number(lease.as_u64());
        }
        let head = body.0.len();
        if let Some(value) = &value {
            body.raw(value.as_bytes());
        }
        let crc = crc32c::crc32c(&body.0);
        body.raw(&crc.to_le_bytes());
        let encoded = Bytes::from(body.0);
        // The value shares the encoded bytes, so that it is held once.
        let value = value.map(|value| {
            Value::parse(encoded.slice(head..head + value.as_bytes().len()))
                .expect("it was a value before")
        });
        Self {
            dot,
            stamp,
            key,
            value,
            lease,
            context,
            encoded,
        }
    }

    /// The value's bytes; none of a delete.
    pub(crate) fn value_bytes(&self) -> &[u8] {
        self.value.as_ref().map_or(&[], |value| value.as_bytes())
    }

    /// BLAKE3 of the value.
    pub(crate) fn value_hash(&self) -> [u8; 32] {
        *blake3::hash(self.value_bytes()).as_bytes()
    }

    pub(crate) const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    pub(crate) const fn rank(&self) -> Rank {
        (self.stamp, self.dot.writer, self.dot.log_id, self.dot.seq)
    }

    /// Reads an event from exactly these bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let body_len = bytes
            .len()
            .checked_sub(4)
            .ok_or(Malformed("an event ends early"))?;
        let (body, crc) = bytes.split_at(body_len);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(Malformed("an event's checksum differs"));
        }
        let mut reader = Reader::new(body);
        let (writer, log_id, seq) = reader.row()?;
        let dot = Dot {
            writer,
            log_id,
            seq,
        };
        if seq == Seq::ZERO {
            return Err(Malformed("an event with sequence 0"));
        }
        let stamp = Stamp::from_u64(reader.number()?);
        let key = Key::parse(reader.text()?).map_err(|_| Malformed("an event's key"))?;
        let rows = reader.rows()?;
        if rows.len() > CONTEXT_ROWS_MAX {
            return Err(Malformed("an event's context is too wide"));
        }
        let context = Context::from_rows(rows).ok_or(Malformed("an event's context"))?;
        if context.covers(dot) {
            return Err(Malformed("an event that has seen itself"));
        }
        let flags = reader.byte()?;
        if flags & !(HAS_VALUE | HAS_LEASE) != 0 {
            return Err(Malformed("an event's flags"));
        }
        let has_value = flags & HAS_VALUE != 0;
        let lease = if flags & HAS_LEASE != 0 {
            Some(LeaseId::new(reader.number()?)).filter(|lease| *lease != LeaseId::ZERO)
        } else {
            None
        };
        let value_len = reader.len();
        if value_len > VALUE_BYTES_MAX || (!has_value && value_len > 0) {
            return Err(Malformed("an event's value"));
        }
        let encoded = Bytes::copy_from_slice(bytes);
        let value = has_value.then(|| {
            Value::parse(encoded.slice(body_len - value_len..body_len)).expect("checked above")
        });
        Ok(Self {
            dot,
            stamp,
            key,
            value,
            lease,
            context,
            encoded,
        })
    }
}
