//! What a start makes of what it finds on the disk.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quorumor_core::{LogId, NodeId, Now, Planted, Recovered, Seq, Stamp};

use crate::codec::{decode_cut_id, decode_floor, decode_registers, encode_floor};
use crate::config::ConfigError;
use crate::durability::{
    CHECKPOINT_FORMAT, KIND_CONFIRMED, KIND_DISCARD, KIND_EVENT, KIND_META, KIND_PEERS, Meta,
    decode_peers,
};
use crate::event::Event;
use crate::hlc::Hlc;
use crate::ledger::Ledger;
use crate::message::Floor;
use crate::stability::{CutId, Stable};
use crate::store::Store;
use crate::wire::{Malformed, Reader, Writer};

/// Why a replica can't start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the disk gave isn't what was written, though its checksums hold: another program's data, or another
    /// version's.
    #[error("damaged {part}: {why}")]
    Damaged {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A node's past.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) store: Store,
    /// The last cut under which the state was collected.
    pub(crate) stable: Stable,
    /// The last cut that this node confirmed.
    pub(crate) confirmed: CutId,
    pub(crate) hlc: Hlc,
    /// `None` on a first start, or if the disk was lost.
    pub(crate) meta: Option<Meta>,
    /// Where peers were.
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) position: u64,
    pub(crate) log_bytes: u64,
}

/// The state besides its registers, as the first chunk of a checkpoint.
pub(crate) fn encode_header(
    store: &Store,
    stable: &Stable,
    meta: Meta,
    hlc: Hlc,
    position: u64,
) -> Bytes {
    let mut out = Writer::default();
    out.byte(CHECKPOINT_FORMAT);
    out.number(meta.generation.as_u64());
    out.number(meta.log_id.as_u64());
    out.flag(meta.unsynced);
    out.number(hlc.last().as_u64());
    store.ledger().encode(&mut out);
    out.number(position);
    out.vector(store.known().vector());
    let floor = Floor {
        vector: store.floor().clone(),
        stable: stable.clone(),
    };
    encode_floor(&floor, &mut out);
    let crc = crc32c::crc32c(&out.0);
    out.raw(&crc.to_le_bytes());
    out.0.into()
}

/// Reads a checkpoint and the records behind it.
///
/// A torn end of the log is no damage: what was torn was neither acknowledged nor told to anyone.
pub(crate) fn recover(
    node: NodeId,
    (log_bytes_max, siblings, planted): (usize, Vec<String>, Planted),
    recovered: &Recovered,
    now: Now,
) -> Result<Past, OpenError> {
    let mut past = Past {
        store: Store::new(log_bytes_max, siblings).with_planted(planted),
        stable: Stable::default(),
        confirmed: CutId::default(),
        hlc: Hlc::default(),
        meta: None,
        peers: Vec::new(),
        position: 0,
        log_bytes: 0,
    };
    if let Some(chunks) = &recovered.checkpoint {
        read_checkpoint(&mut past, chunks).map_err(|Malformed(why)| OpenError::Damaged {
            part: "checkpoint",
            why,
        })?;
    }
    read_records(&mut past, node, recovered, now)
        .map_err(|Malformed(why)| OpenError::Damaged { part: "log", why })?;
    // Nobody is heard of yet: what lives by others' leases is hidden until their owners are.
    for owner in past.store.leases().owners() {
        if owner != node {
            past.store.hide_owner(owner);
        }
    }
    // Watchers and peers hear nothing of what was known before.
    drop(past.store.take_step());
    Ok(past)
}

fn read_checkpoint(past: &mut Past, chunks: &[Bytes]) -> Result<(), Malformed> {
    let (header, rest) = chunks.split_first().ok_or(Malformed("no header"))?;
    let len = header
        .len()
        .checked_sub(4)
        .ok_or(Malformed("a short header"))?;
    let (body, crc) = header.split_at(len);
    if crc != crc32c::crc32c(body).to_le_bytes() {
        return Err(Malformed("the header's checksum differs"));
    }
    let mut reader = Reader::new(body);
    if reader.byte()? != CHECKPOINT_FORMAT {
        return Err(Malformed("a format that this version doesn't read"));
    }
    past.meta = Some(Meta {
        generation: quorumor_core::Generation::new(reader.number()?),
        log_id: LogId::new(reader.number()?),
        unsynced: reader.flag()?,
    });
    past.hlc.restore(Stamp::from_u64(reader.number()?));
    let ledger = Ledger::decode(&mut reader)?;
    past.position = reader.number()?;
    let vector = reader.vector()?;
    let floor = decode_floor(&mut reader)?;
    let mut registers = Vec::new();
    for chunk in rest {
        let mut reader = Reader::new(chunk);
        registers.extend(decode_registers(&mut reader)?);
        if !reader.is_empty() {
            return Err(Malformed("bytes after a chunk's registers"));
        }
    }
    past.store.restore(registers, &vector, floor.vector, ledger);
    past.stable = floor.stable;
    Ok(())
}

fn read_records(
    past: &mut Past,
    node: NodeId,
    recovered: &Recovered,
    now: Now,
) -> Result<(), Malformed> {
    let discards = read_discards(recovered)?;
    for (at, record) in recovered.records.iter().enumerate() {
        past.position = past.position.max(record.position);
        past.log_bytes += record.bytes.len() as u64;
        match record.kind {
            KIND_META => past.meta = Some(Meta::decode(&record.bytes)?),
            KIND_EVENT => {
                let event = Event::decode(&record.bytes)?;
                let dot = event.dot;
                let is_void = dot.writer == node
                    && discards.iter().any(|&(discarded_at, log_id, seq)| {
                        at < discarded_at && dot.log_id == log_id && dot.seq > seq
                    });
                if is_void {
                    continue;
                }
                if dot.writer == node {
                    past.hlc.restore(event.stamp);
                }
                past.hlc.observe(now.wall_ms, event.stamp);
                past.store.merge_event(Arc::new(event));
            }
            KIND_PEERS => past.peers = decode_peers(&record.bytes)?,
            KIND_CONFIRMED => past.confirmed = decode_cut_id(&mut Reader::new(&record.bytes))?,
            KIND_DISCARD => {}
            _ => {
                return Err(Malformed(
                    "a record of a kind that this version doesn't read",
                ));
            }
        }
    }
    Ok(())
}

fn read_discards(recovered: &Recovered) -> Result<Vec<(usize, LogId, Seq)>, Malformed> {
    let mut discards = Vec::new();
    for (at, record) in recovered.records.iter().enumerate() {
        if record.kind == KIND_DISCARD {
            let mut reader = Reader::new(&record.bytes);
            discards.push((at, LogId::new(reader.number()?), Seq::new(reader.number()?)));
        }
    }
    Ok(discards)
}
