//! Messages as bytes and back.
//!
//! A message is a row of parts, each `kind, length, body`; a kind that this version doesn't know is skipped and counted.
//! Decoding refuses what makes no sense and never panics, whatever the bytes are.

use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::{Dot, Generation, Incarnation, MemberState, NodeId, Seq, Stamp};

use crate::config::CLIENT_ADDRESS_BYTES_MAX;
use crate::event::{CONTEXT_ROWS_MAX, Event};
use crate::message::{Part, StateChunk, Summary, Update};
use crate::register::{Loser, Register};
use crate::vector::Context;
use crate::wire::{Malformed, Reader, Writer, number_bytes};

/// Kind and length in front of a part's body, at most.
pub(crate) const PART_OVERHEAD_BYTES: usize = 4;

/// A decoded message.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) parts: Vec<Part>,
    /// Parts of a kind that isn't known here.
    pub(crate) unknown: u64,
}

/// Encodes one part, with its kind and length.
pub(crate) fn encode_part(part: &Part) -> Bytes {
    let mut body = Writer::default();
    let kind = encode_body(part, &mut body);
    let mut out = Writer::default();
    out.byte(kind);
    out.bytes(&body.0);
    out.0.into()
}

/// Decodes a whole message: all of its parts, or none.
pub(crate) fn decode(payload: &[u8]) -> Result<Decoded, Malformed> {
    let mut reader = Reader::new(payload);
    let mut decoded = Decoded::default();
    while !reader.is_empty() {
        let kind = reader.byte()?;
        let mut body = Reader::new(reader.bytes()?);
        match decode_body(kind, &mut body)? {
            Some(part) => decoded.parts.push(part),
            None => decoded.unknown += 1,
        }
    }
    Ok(decoded)
}

fn encode_body(part: &Part, out: &mut Writer) -> u8 {
    match part {
        Part::Ping { .. }
        | Part::Ack { .. }
        | Part::IndirectPing { .. }
        | Part::IndirectAck { .. }
        | Part::Nack { .. } => return encode_probe(part, out),
        Part::Members(updates) => encode_list(updates, out, encode_update),
        Part::Rumors(events) => encode_list(events, out, encode_event),
        Part::Announce(dots) => encode_list(dots, out, |dot, out| encode_dot(*dot, out)),
        Part::Feedback(fates) => encode_list(fates, out, |(dot, news), out| {
            encode_dot(*dot, out);
            out.flag(*news);
        }),
        Part::Beacon(summary) => encode_summary(*summary, out),
        Part::Vector { reply, vector } => {
            out.flag(*reply);
            out.vector(vector);
        }
        Part::Delta { more, events } => {
            out.flag(*more);
            encode_list(events, out, encode_event);
        }
        Part::State(chunk) => encode_state(chunk, out),
        Part::StatePull { transfer, index } => {
            out.number(*transfer);
            out.number(*index);
        }
    }
    kind(part)
}

/// The parts that ask whether someone is there, and their answers.
fn encode_probe(part: &Part, out: &mut Writer) -> u8 {
    match part {
        Part::Ping {
            number,
            target,
            join,
            summary,
            me,
        } => {
            out.number(*number);
            out.number(target.map_or(0, NodeId::as_u64));
            out.flag(*join);
            encode_summary(*summary, out);
            encode_update(me, out);
        }
        Part::Ack {
            number,
            summary,
            me,
        } => {
            out.number(*number);
            encode_summary(*summary, out);
            encode_update(me, out);
        }
        Part::IndirectPing { number, target } => {
            out.number(*number);
            out.node(*target);
        }
        Part::IndirectAck { number } | Part::Nack { number } => out.number(*number),
        Part::Members(_)
        | Part::Rumors(_)
        | Part::Announce(_)
        | Part::Feedback(_)
        | Part::Beacon(_)
        | Part::Vector { .. }
        | Part::Delta { .. }
        | Part::State(_)
        | Part::StatePull { .. } => {}
    }
    kind(part)
}

const fn kind(part: &Part) -> u8 {
    match part {
        Part::Ping { .. } => 1,
        Part::Ack { .. } => 2,
        Part::IndirectPing { .. } => 3,
        Part::IndirectAck { .. } => 4,
        Part::Nack { .. } => 5,
        Part::Members(_) => 6,
        Part::Rumors(_) => 7,
        Part::Announce(_) => 8,
        Part::Feedback(_) => 9,
        Part::Beacon(_) => 10,
        Part::Vector { .. } => 11,
        Part::Delta { .. } => 12,
        Part::State(_) => 13,
        Part::StatePull { .. } => 14,
    }
}

fn decode_body(kind: u8, body: &mut Reader<'_>) -> Result<Option<Part>, Malformed> {
    let Some(part) = decode_kind(kind, body)? else {
        return Ok(None);
    };
    if body.is_empty() {
        Ok(Some(part))
    } else {
        Err(Malformed("bytes after a part's end"))
    }
}

fn decode_kind(kind: u8, body: &mut Reader<'_>) -> Result<Option<Part>, Malformed> {
    let part = match kind {
        1 => Part::Ping {
            number: body.number()?,
            target: decode_target(body)?,
            join: body.flag()?,
            summary: decode_summary(body)?,
            me: decode_update(body)?,
        },
        2 => Part::Ack {
            number: body.number()?,
            summary: decode_summary(body)?,
            me: decode_update(body)?,
        },
        3 => Part::IndirectPing {
            number: body.number()?,
            target: body.node()?,
        },
        4 => Part::IndirectAck {
            number: body.number()?,
        },
        5 => Part::Nack {
            number: body.number()?,
        },
        6 => {
            let count = body.count(8)?;
            Part::Members(
                (0..count)
                    .map(|_| decode_update(body))
                    .collect::<Result<_, _>>()?,
            )
        }
        7 => Part::Rumors(decode_events(body)?),
        8 => {
            let count = body.count(3)?;
            Part::Announce(
                (0..count)
                    .map(|_| decode_dot(body))
                    .collect::<Result<_, _>>()?,
            )
        }
        9 => {
            let count = body.count(4)?;
            let fate = |_| Ok((decode_dot(body)?, body.flag()?));
            Part::Feedback((0..count).map(fate).collect::<Result<_, Malformed>>()?)
        }
        10 => Part::Beacon(decode_summary(body)?),
        11 => Part::Vector {
            reply: body.flag()?,
            vector: body.vector()?,
        },
        12 => Part::Delta {
            more: body.flag()?,
            events: decode_events(body)?,
        },
        13 => Part::State(decode_state(body)?),
        14 => Part::StatePull {
            transfer: body.number()?,
            index: body.number()?,
        },
        _ => return Ok(None),
    };
    Ok(Some(part))
}

fn decode_target(body: &mut Reader<'_>) -> Result<Option<NodeId>, Malformed> {
    // Zero is no node's id.
    Ok(NodeId::try_from(body.number()?).ok())
}

fn encode_summary(summary: Summary, out: &mut Writer) {
    out.raw(&summary.state.to_le_bytes());
    out.raw(&summary.members.to_le_bytes());
}

fn decode_summary(body: &mut Reader<'_>) -> Result<Summary, Malformed> {
    Ok(Summary {
        state: body.fixed_u64()?,
        members: body.fixed_u64()?,
    })
}

fn encode_dot(dot: Dot, out: &mut Writer) {
    out.row((dot.writer, dot.log_id, dot.seq));
}

fn decode_dot(body: &mut Reader<'_>) -> Result<Dot, Malformed> {
    let (writer, log_id, seq) = body.row()?;
    if seq == Seq::ZERO {
        return Err(Malformed("a dot with sequence 0"));
    }
    Ok(Dot {
        writer,
        log_id,
        seq,
    })
}

/// How many bytes an update takes.
pub(crate) fn update_bytes(update: &Update) -> usize {
    let mut out = Writer::default();
    encode_update(update, &mut out);
    out.0.len()
}

/// How many bytes an event takes within a part.
pub(crate) fn event_bytes(event: &Event) -> usize {
    let len = event.encoded().len();
    len + number_bytes(len as u64)
}

fn encode_update(update: &Update, out: &mut Writer) {
    out.node(update.node);
    out.byte(match update.state {
        MemberState::Alive => 0,
        MemberState::Suspect => 1,
        MemberState::Down => 2,
        MemberState::Left => 3,
    });
    out.number(update.generation.as_u64());
    out.number(update.incarnation.as_u64());
    out.node(update.accuser);
    out.address(update.address);
    out.bytes(
        update
            .client_address
            .as_deref()
            .unwrap_or_default()
            .as_bytes(),
    );
}

fn decode_update(body: &mut Reader<'_>) -> Result<Update, Malformed> {
    let node = body.node()?;
    let state = match body.byte()? {
        0 => MemberState::Alive,
        1 => MemberState::Suspect,
        2 => MemberState::Down,
        3 => MemberState::Left,
        _ => return Err(Malformed("a member's state")),
    };
    let generation = Generation::new(body.number()?);
    let incarnation = Incarnation::new(body.number()?);
    let accuser = body.node()?;
    let address = body.address()?;
    let client_address = body.text()?;
    if client_address.len() > CLIENT_ADDRESS_BYTES_MAX
        || !client_address.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(Malformed("a client address"));
    }
    Ok(Update {
        node,
        state,
        generation,
        incarnation,
        accuser,
        address,
        client_address: (!client_address.is_empty()).then(|| client_address.into()),
    })
}

fn encode_list<T>(items: &[T], out: &mut Writer, encode: impl Fn(&T, &mut Writer)) {
    out.count(items.len());
    for item in items {
        encode(item, out);
    }
}

fn encode_event(event: &Arc<Event>, out: &mut Writer) {
    out.bytes(event.encoded());
}

fn decode_events(body: &mut Reader<'_>) -> Result<Vec<Arc<Event>>, Malformed> {
    let count = body.count(5)?;
    (0..count)
        .map(|_| Event::decode(body.bytes()?).map(Arc::new))
        .collect()
}

fn encode_state(chunk: &StateChunk, out: &mut Writer) {
    out.number(chunk.transfer);
    out.number(chunk.index);
    encode_registers(&chunk.registers, out);
    out.flag(chunk.vector.is_some());
    if let Some(vector) = &chunk.vector {
        out.vector(vector);
    }
}

fn decode_state(body: &mut Reader<'_>) -> Result<StateChunk, Malformed> {
    Ok(StateChunk {
        transfer: body.number()?,
        index: body.number()?,
        registers: decode_registers(body)?,
        vector: if body.flag()? {
            Some(body.vector()?)
        } else {
            None
        },
    })
}

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
        body.flag(loser.counted);
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
    let count = body.count(5)?;
    let loser = |_| {
        Ok(Loser {
            dot: decode_dot(&mut body)?,
            stamp: Stamp::from_u64(body.number()?),
            counted: body.flag()?,
        })
    };
    let losers: Vec<Loser> = (0..count).map(loser).collect::<Result<_, Malformed>>()?;
    if !body.is_empty() {
        return Err(Malformed("bytes after a register's siblings"));
    }
    let register = Register::from_parts(superseded, winner, losers, stamp_max);
    Ok(register)
}

#[cfg(test)]
mod tests;
