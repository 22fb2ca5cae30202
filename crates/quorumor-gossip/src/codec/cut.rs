//! Cuts as bytes.

use quorumor_core::NodeId;

use crate::message::Floor;
use crate::stability::{Cut, CutId, Stable};
use crate::wire::{Malformed, Reader, Writer};

pub(crate) fn encode_cut_id(id: CutId, out: &mut Writer) {
    out.number(id.number);
    out.number(id.proposer.map_or(0, NodeId::as_u64));
    out.number(id.nonce);
}

pub(crate) fn decode_cut_id(body: &mut Reader<'_>) -> Result<CutId, Malformed> {
    Ok(CutId {
        number: body.number()?,
        // Zero is no node's id: the cut before the first.
        proposer: NodeId::try_from(body.number()?).ok(),
        nonce: body.number()?,
    })
}

pub(crate) fn encode_floor(floor: &Floor, out: &mut Writer) {
    encode_stable(&floor.stable, out);
    out.vector(&floor.vector);
}

pub(crate) fn decode_floor(body: &mut Reader<'_>) -> Result<Floor, Malformed> {
    Ok(Floor {
        stable: decode_stable(body)?,
        vector: body.vector()?,
    })
}

pub(super) fn encode_stable(stable: &Stable, out: &mut Writer) {
    encode_cut_id(stable.id, out);
    encode_cut_id(stable.before, out);
    out.vector(&stable.collects);
    out.vector(&stable.vector);
}

pub(super) fn decode_stable(body: &mut Reader<'_>) -> Result<Stable, Malformed> {
    Ok(Stable {
        id: decode_cut_id(body)?,
        before: decode_cut_id(body)?,
        collects: body.vector()?,
        vector: body.vector()?,
    })
}

pub(super) fn encode_cut(cut: &Cut, out: &mut Writer) {
    encode_cut_id(cut.id, out);
    encode_stable(&cut.base, out);
    out.vector(&cut.vector);
    out.count(cut.members.len());
    for member in &cut.members {
        out.node(*member);
    }
    out.bytes(&cut.bits);
}

pub(super) fn decode_cut(body: &mut Reader<'_>) -> Result<Cut, Malformed> {
    let id = decode_cut_id(body)?;
    let base = decode_stable(body)?;
    let vector = body.vector()?;
    let count = body.count(1)?;
    let members: Vec<NodeId> = (0..count).map(|_| body.node()).collect::<Result<_, _>>()?;
    if !members.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(Malformed("a cut's members don't grow"));
    }
    let bits = body.bytes()?.to_vec();
    if bits.len() != members.len().div_ceil(8) {
        return Err(Malformed("a cut's bits are not one a member"));
    }
    Ok(Cut {
        id,
        base,
        vector,
        members,
        bits,
    })
}
