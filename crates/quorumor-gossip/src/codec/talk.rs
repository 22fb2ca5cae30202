//! Parts that carry what is asked for callers, and what collects deletes.

use super::cut::{decode_cut, decode_stable, encode_cut, encode_stable};
use super::forward::{decode_forwarded, decode_outcome, encode_forwarded, encode_outcome};
use super::{decode_cut_id, decode_summary, encode_cut_id, encode_summary};
use crate::message::Part;
use crate::wire::{Malformed, Reader, Writer};

pub(super) fn encode_talk(part: &Part, out: &mut Writer) {
    if let Part::Forward { number, request } = part {
        out.number(*number);
        encode_forwarded(request, out);
    } else if let Part::Outcome { number, outcome } = part {
        out.number(*number);
        encode_outcome(outcome, out);
    } else if let Part::Catch { number, summary } = part {
        out.number(*number);
        encode_summary(*summary, out);
    } else if let Part::Caught { number, vector } = part {
        out.number(*number);
        out.flag(vector.is_some());
        if let Some(vector) = vector {
            out.vector(vector);
        }
    } else if let Part::Cut(cut) = part {
        encode_cut(cut, out);
    } else if let Part::CutBits { cut, offset, bits } = part {
        encode_cut_id(*cut, out);
        out.number(*offset);
        out.bytes(bits);
    } else if let Part::Whole { vector } = part {
        out.vector(vector);
    } else if let Part::Stable(stable) = part {
        encode_stable(stable, out);
    }
}

pub(super) fn decode_talk(kind: u8, body: &mut Reader<'_>) -> Result<Option<Part>, Malformed> {
    let part = match kind {
        22 => Part::Forward {
            number: body.number()?,
            request: decode_forwarded(body)?,
        },
        23 => Part::Outcome {
            number: body.number()?,
            outcome: decode_outcome(body)?,
        },
        24 => Part::Catch {
            number: body.number()?,
            summary: decode_summary(body)?,
        },
        25 => Part::Caught {
            number: body.number()?,
            vector: if body.flag()? {
                Some(body.vector()?)
            } else {
                None
            },
        },
        26 => Part::Cut(Box::new(decode_cut(body)?)),
        27 => Part::CutBits {
            cut: decode_cut_id(body)?,
            offset: body.number()?,
            bits: body.bytes()?.to_vec(),
        },
        28 => Part::CutAsk,
        30 => Part::Stable(Box::new(decode_stable(body)?)),
        29 => Part::Whole {
            vector: body.vector()?,
        },
        _ => return Ok(None),
    };
    Ok(Some(part))
}
