//! Varints (LEB128) and version vectors, for the few bytes that core itself encodes: tokens and contexts.

use crate::id::{LogId, NodeId, Seq};
use crate::version::VersionVector;

/// Appends a number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits fit") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("seven bits fit"));
}

/// Takes a number off the front; `None` if the bytes end early or hold more than 64 bits.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Appends a vector: the count of its rows, then each row.
pub(crate) fn put_vector(out: &mut Vec<u8>, vector: &VersionVector) {
    put_varint(out, vector.len() as u64);
    for (writer, log_id, seq) in vector.rows() {
        put_varint(out, writer.as_u64());
        put_varint(out, log_id.as_u64());
        put_varint(out, seq.as_u64());
    }
}

/// Takes a vector off the front; `None` if it is damaged or has more rows than allowed.
pub(crate) fn take_vector(bytes: &mut &[u8], rows_max: usize) -> Option<VersionVector> {
    let rows = usize::try_from(take_varint(bytes)?).ok()?;
    if rows > rows_max {
        return None;
    }
    let mut vector = VersionVector::new();
    for _ in 0..rows {
        let writer = NodeId::try_from(take_varint(bytes)?).ok()?;
        let log_id = LogId::new(take_varint(bytes)?);
        vector.raise(writer, log_id, Seq::new(take_varint(bytes)?));
    }
    Some(vector)
}
