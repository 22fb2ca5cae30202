//! News about members as bytes.

use quorumor_core::{Generation, Incarnation, MemberState};

use crate::config::CLIENT_ADDRESS_BYTES_MAX;
use crate::message::{BucketLives, Life, Update};
use crate::wire::{Malformed, Reader, Writer, number_bytes};

pub(super) fn encode_life((generation, incarnation): Life, out: &mut Writer) {
    out.number(generation.as_u64());
    out.number(incarnation.as_u64());
}

pub(super) fn decode_life(body: &mut Reader<'_>) -> Result<Life, Malformed> {
    Ok((
        Generation::new(body.number()?),
        Incarnation::new(body.number()?),
    ))
}

/// What an update takes about a member with an IPv4 address and without an address for clients: less only if its id is
/// below 128.
pub(crate) const UPDATE_BYTES_USUAL: usize = 20;

/// How many bytes an update takes.
pub(crate) fn update_bytes(update: &Update) -> usize {
    let client_bytes = update.client_address.as_deref().map_or(0, str::len);
    let ip_bytes = if update.address.is_ipv4() { 4 } else { 16 };
    let numbers = [
        update.node.as_u64(),
        update.generation.as_u64(),
        update.incarnation.as_u64(),
        update.accuser.as_u64(),
        u64::from(update.address.port()),
        client_bytes as u64,
    ];
    // Beside them one byte for the state and one for the kind of address.
    2 + ip_bytes + client_bytes + numbers.into_iter().map(number_bytes).sum::<usize>()
}

pub(super) fn encode_update(update: &Update, out: &mut Writer) {
    out.node(update.node);
    out.byte(match update.state {
        MemberState::Alive => 0,
        MemberState::Suspect if update.refused => 4,
        MemberState::Suspect => 1,
        MemberState::Down => 2,
        MemberState::Left => 3,
    });
    encode_life((update.generation, update.incarnation), out);
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

pub(super) fn decode_update(body: &mut Reader<'_>) -> Result<Update, Malformed> {
    let node = body.node()?;
    let kind = body.byte()?;
    let state = match kind {
        0 => MemberState::Alive,
        1 | 4 => MemberState::Suspect,
        2 => MemberState::Down,
        3 => MemberState::Left,
        _ => return Err(Malformed("a member's state")),
    };
    let (generation, incarnation) = decode_life(body)?;
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
        refused: kind == 4,
        address,
        client_address: (!client_address.is_empty()).then(|| client_address.into()),
    })
}

/// How many bytes a bucket with so many lives takes, at most.
pub(crate) const fn lives_bytes(lives: usize) -> usize {
    // The bucket, and a count that is below 2^21.
    1 + 3 + 4 * lives
}

pub(super) fn encode_lives(lives: &BucketLives, out: &mut Writer) {
    out.byte(lives.bucket);
    out.count(lives.lives.len());
    for life in &lives.lives {
        out.raw(&life.to_le_bytes());
    }
}

/// Lives by bucket, each bucket at most once: so there are no more than 256.
pub(super) fn decode_lives(body: &mut Reader<'_>) -> Result<Vec<BucketLives>, Malformed> {
    let mut buckets: Vec<BucketLives> = Vec::new();
    for _ in 0..body.count(2)? {
        let bucket = body.byte()?;
        if buckets.last().is_some_and(|last| last.bucket >= bucket) {
            return Err(Malformed("buckets that don't grow"));
        }
        let count = body.count(4)?;
        let lives = (0..count)
            .map(|_| body.fixed_u32())
            .collect::<Result<_, _>>()?;
        buckets.push(BucketLives { bucket, lives });
    }
    Ok(buckets)
}
