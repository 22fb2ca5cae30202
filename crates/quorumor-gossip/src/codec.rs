//! Messages as bytes and back.
//!
//! A message is a row of parts, each `kind, length, body`; a kind that this version doesn't know is skipped and counted.
//! Decoding refuses what makes no sense and never panics, whatever the bytes are.

use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::{Dot, Key, NodeId, Seq, Stamp};

use crate::event::Event;
use crate::member::table::BUCKETS;
use crate::message::{Offer, Part, StateChunk, Summary, Update};
use crate::wire::{Malformed, Reader, Writer, number_bytes};

mod cut;
mod forward;
mod register;
mod talk;
mod update;

pub(crate) use cut::{decode_cut_id, decode_floor, encode_cut_id, encode_floor};
use talk::{decode_talk, encode_talk};

pub(crate) use register::{decode_registers, encode_register, encode_registers};
pub(crate) use update::{UPDATE_BYTES_USUAL, lives_bytes, update_bytes};
use update::{decode_life, decode_lives, decode_update, encode_life, encode_lives, encode_update};

/// A ping's and an ack's flags.
const JOIN: u8 = 1;
const WITH_ME: u8 = 2;

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
        Part::Who => {}
        Part::Offers(offers) => encode_list(offers, out, encode_offer),
        Part::Pull(dots) => encode_list(dots, out, |dot, out| encode_dot(*dot, out)),
        Part::Table(hashes) => {
            for hash in hashes.iter() {
                out.raw(&hash.to_le_bytes());
            }
        }
        Part::TableHeld(buckets) | Part::TableLacked(buckets) => {
            encode_list(buckets, out, encode_lives);
        }
        Part::Buckets { half, hashes } => {
            out.flag(*half);
            for hash in hashes {
                out.raw(&hash.to_le_bytes());
            }
        }
        Part::Rows {
            reply,
            buckets,
            vector,
        } => {
            out.flag(*reply);
            out.bytes(buckets);
            out.vector(vector);
        }
        Part::Forward { .. }
        | Part::Outcome { .. }
        | Part::Catch { .. }
        | Part::Caught { .. }
        | Part::Cut(_)
        | Part::CutBits { .. }
        | Part::CutAsk
        | Part::Whole { .. }
        | Part::Stable(_) => encode_talk(part, out),
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
            life,
            me,
        } => {
            out.number(*number);
            out.number(target.map_or(0, NodeId::as_u64));
            out.byte(u8::from(*join) * JOIN + u8::from(me.is_some()) * WITH_ME);
            encode_summary(*summary, out);
            encode_life(*life, out);
            if let Some(me) = me {
                encode_update(me, out);
            }
        }
        Part::Ack {
            number,
            summary,
            life,
            me,
        } => {
            out.number(*number);
            out.byte(u8::from(me.is_some()) * WITH_ME);
            encode_summary(*summary, out);
            encode_life(*life, out);
            if let Some(me) = me {
                encode_update(me, out);
            }
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
        | Part::StatePull { .. }
        | Part::Who
        | Part::Offers(_)
        | Part::Pull(_)
        | Part::Table(_)
        | Part::TableHeld(_)
        | Part::TableLacked(_)
        | Part::Buckets { .. }
        | Part::Rows { .. }
        | Part::Forward { .. }
        | Part::Outcome { .. }
        | Part::Catch { .. }
        | Part::Caught { .. }
        | Part::Cut(_)
        | Part::CutBits { .. }
        | Part::CutAsk
        | Part::Whole { .. }
        | Part::Stable(_) => {}
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
        Part::Who => 15,
        Part::Offers(_) => 16,
        Part::Pull(_) => 17,
        Part::Table(_) => 18,
        Part::Buckets { .. } => 20,
        Part::Rows { .. } => 21,
        Part::Forward { .. } => 22,
        Part::Outcome { .. } => 23,
        Part::Catch { .. } => 24,
        Part::Caught { .. } => 25,
        Part::Cut(_) => 26,
        Part::CutBits { .. } => 27,
        Part::CutAsk => 28,
        Part::Whole { .. } => 29,
        Part::Stable(_) => 30,
        Part::TableLacked(_) => 31,
        Part::TableHeld(_) => 32,
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
        1 => {
            let (number, target, flags) = (body.number()?, decode_target(body)?, body.byte()?);
            Part::Ping {
                number,
                target,
                join: flags & JOIN != 0,
                summary: decode_summary(body)?,
                life: decode_life(body)?,
                me: decode_me(flags, body)?,
            }
        }
        2 => {
            let (number, flags) = (body.number()?, body.byte()?);
            Part::Ack {
                number,
                summary: decode_summary(body)?,
                life: decode_life(body)?,
                me: decode_me(flags, body)?,
            }
        }
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
        6 => Part::Members(decode_list(body, 8, decode_update)?),
        7 => Part::Rumors(decode_events(body)?),
        8 => Part::Announce(decode_list(body, 3, decode_dot)?),
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
        13..=21 | 31 | 32 => return decode_later_kind(kind, body),
        22..=30 => return decode_talk(kind, body),
        _ => return Ok(None),
    };
    Ok(Some(part))
}

fn decode_later_kind(kind: u8, body: &mut Reader<'_>) -> Result<Option<Part>, Malformed> {
    let part = match kind {
        13 => Part::State(decode_state(body)?),
        14 => Part::StatePull {
            transfer: body.number()?,
            index: body.number()?,
        },
        15 => Part::Who,
        16 => Part::Offers(decode_list(body, 40, decode_offer)?),
        17 => Part::Pull(decode_list(body, 3, decode_dot)?),
        18 => {
            let mut hashes = Box::new([0; BUCKETS]);
            for hash in hashes.iter_mut() {
                *hash = body.fixed_u32()?;
            }
            Part::Table(hashes)
        }
        31 => Part::TableLacked(decode_lives(body)?),
        32 => Part::TableHeld(decode_lives(body)?),
        20 => Part::Buckets {
            half: body.flag()?,
            hashes: (0..BUCKETS / 2)
                .map(|_| body.fixed_u64())
                .collect::<Result<_, _>>()?,
        },
        21 => Part::Rows {
            reply: body.flag()?,
            buckets: decode_buckets(body)?,
            vector: body.vector()?,
        },
        _ => return Ok(None),
    };
    Ok(Some(part))
}

fn decode_me(flags: u8, body: &mut Reader<'_>) -> Result<Option<Update>, Malformed> {
    (flags & WITH_ME != 0)
        .then(|| decode_update(body))
        .transpose()
}

/// Numbers of buckets, each at most once.
fn decode_buckets(body: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let buckets = body.bytes()?;
    if !buckets.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(Malformed("buckets that don't grow"));
    }
    Ok(buckets.to_vec())
}

fn encode_offer(offer: &Offer, out: &mut Writer) {
    encode_dot(offer.dot, out);
    out.bytes(offer.key.as_str().as_bytes());
    out.number(offer.stamp.as_u64());
    out.number(offer.bytes);
    out.raw(&offer.hash);
}

fn decode_offer(body: &mut Reader<'_>) -> Result<Offer, Malformed> {
    Ok(Offer {
        dot: decode_dot(body)?,
        key: Key::parse(body.text()?).map_err(|_| Malformed("an offer's key"))?,
        stamp: Stamp::from_u64(body.number()?),
        bytes: body.number()?,
        hash: body
            .take(32)?
            .try_into()
            .map_err(|_| Malformed("a hash of 32 bytes"))?,
    })
}

/// How many bytes an offer takes.
pub(crate) fn offer_bytes(event: &Event) -> usize {
    // Three numbers, a stamp and a length of at most ten bytes each, the key with its length, the hash.
    50 + event.key.as_str().len() + 2 + 32
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

/// How many bytes an event takes within a part.
pub(crate) fn event_bytes(event: &Event) -> usize {
    let len = event.encoded().len();
    len + number_bytes(len as u64)
}

fn encode_list<T>(items: &[T], out: &mut Writer, encode: impl Fn(&T, &mut Writer)) {
    out.count(items.len());
    for item in items {
        encode(item, out);
    }
}

/// A list of items that take at least `least` bytes each.
fn decode_list<T>(
    body: &mut Reader<'_>,
    least: usize,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let count = body.count(least)?;
    (0..count).map(|_| decode(body)).collect()
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
    out.flag(chunk.floor.is_some());
    if let Some(floor) = &chunk.floor {
        encode_floor(floor, out);
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
        floor: if body.flag()? {
            Some(decode_floor(body)?)
        } else {
            None
        },
    })
}

#[cfg(test)]
mod tests;
