//! Registers as bytes, each with a checksum of its own.

use std::sync::Arc;

use quorumor_core::Stamp;

use super::{decode_dot, encode_dot, encode_list};
use crate::event::{CONTEXT_ROWS_MAX, Event};
use crate::register::{Loser, Register};
use crate::vector::Context;
use crate::wire::{Malformed, Reader, Writer};

/// Encodes registers, as a state transfer and a checkpoint hold them.
pub(crate) fn encode_registers(registers: &[Register], out: &mut Writer) {
    out.count(registers.len());
    for register in registers {
        encode_register(register, out);
    }
}

/// Encodes one register with a checksum of its own. One that nothing was merged into can't be written.
pub(crate) fn encode_register(register: &Register, out: &mut Writer) {
    let mut body = Writer::default();
    body.rows(register.superseded().rows());
    body.number(register.stamp_max().as_u64());
    body.bytes(register.winner().map_or(&[][..], |winner| winner.encoded()));
    encode_list(register.losers(), &mut body, |loser, body| {
        encode_dot(loser.dot, body);
        body.number(loser.stamp.as_u64());
        body.byte(u8::from(loser.counted) + 2 * u8::from(loser.deleted));
        body.bytes(
            loser
                .event
                .as_ref()
                .map_or(&[][..], |event| event.encoded()),
        );
    });
    let crc = crc32c::crc32c(&body.0);
    body.raw(&crc.to_le_bytes());
    out.bytes(&body.0);
}

/// Reads what [`encode_registers`] wrote.
pub(crate) fn decode_registers(body: &mut Reader<'_>) -> Result<Vec<Register>, Malformed> {
    let count = body.count(8)?;
    (0..count).map(|_| decode_register(body.bytes()?)).collect()
}

fn decode_register(bytes: &[u8]) -> Result<Register, Malformed> {
    let len = bytes
        .len()
        .checked_sub(4)
        .ok_or(Malformed("a register ends early"))?;
    let (body, crc) = bytes.split_at(len);
    if crc != crc32c::crc32c(body).to_le_bytes() {
        return Err(Malformed("a register's checksum differs"));
    }
    let mut body = Reader::new(body);
    let rows = body.rows()?;
    if rows.len() > CONTEXT_ROWS_MAX {
        return Err(Malformed("a register's context is too wide"));
    }
    let superseded = Context::from_rows(rows).ok_or(Malformed("a register's context"))?;
    let stamp_max = Stamp::from_u64(body.number()?);
    let winner = Arc::new(Event::decode(body.bytes()?)?);
    let count = body.count(6)?;
    let losers: Vec<Loser> = (0..count)
        .map(|_| decode_loser(&mut body))
        .collect::<Result<_, Malformed>>()?;
    if !body.is_empty() {
        return Err(Malformed("bytes after a register's siblings"));
    }
    let register = Register::from_parts(superseded, winner, losers, stamp_max);
    Ok(register)
}

fn decode_loser(body: &mut Reader<'_>) -> Result<Loser, Malformed> {
    let dot = decode_dot(body)?;
    let stamp = Stamp::from_u64(body.number()?);
    let flags = body.byte()?;
    if flags > 3 {
        return Err(Malformed("a sibling's flags"));
    }
    let event = match body.bytes()? {
        [] => None,
        bytes => Some(Arc::new(Event::decode(bytes)?)),
    };
    let deleted = flags & 2 != 0;
    let fits = |event: &Arc<Event>| {
        event.dot == dot && event.stamp == stamp && event.value.is_none() == deleted
    };
    if !event.as_ref().is_none_or(fits) {
        return Err(Malformed("a sibling that isn't its event"));
    }
    Ok(Loser {
        dot,
        stamp,
        deleted,
        counted: flags & 1 != 0,
        event,
    })
}
