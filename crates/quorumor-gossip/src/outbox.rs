//! What one step wants to say, gathered by destination, so that what goes to one node shares datagrams.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorumor_core::Destination;

use crate::codec::encode_part;
use crate::message::Part;

/// Parts for one destination.
#[derive(Debug, Default)]
pub(crate) struct Letter {
    pub(crate) parts: Vec<Bytes>,
    /// Whether rumors may ride along: not on mere answers to rumors, or they would never end.
    pub(crate) takes_riders: bool,
    /// How many datagrams of news may go, beyond the parts.
    pub(crate) rounds: usize,
}

/// Letters by destination, in a fixed order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    letters: BTreeMap<Destination, Letter>,
}

impl Outbox {
    /// Adds a part; news may ride on its datagram.
    pub(crate) fn push(&mut self, to: Destination, part: &Part) {
        let letter = self.letters.entry(to).or_default();
        letter.parts.push(encode_part(part));
        letter.takes_riders = true;
    }

    /// Adds a part that by itself takes no news along.
    pub(crate) fn push_bare(&mut self, to: Destination, part: &Part) {
        self.letters
            .entry(to)
            .or_default()
            .parts
            .push(encode_part(part));
    }

    /// Lets news go to a destination, in up to so many datagrams.
    pub(crate) fn invite(&mut self, to: Destination, datagrams: usize) {
        let letter = self.letters.entry(to).or_default();
        letter.takes_riders = true;
        letter.rounds = datagrams;
    }

    pub(crate) fn take(&mut self) -> BTreeMap<Destination, Letter> {
        std::mem::take(&mut self.letters)
    }
}

/// Packs parts into as few datagrams as their order allows. Every part fits a datagram by construction; one that
/// doesn't would be a fault of ours, and is left out rather than sent in pieces.
pub(crate) fn pack(parts: &[Bytes], bytes_max: usize) -> Vec<Vec<u8>> {
    let mut datagrams: Vec<Vec<u8>> = Vec::new();
    for part in parts {
        debug_assert!(part.len() <= bytes_max, "a part of {} bytes", part.len());
        if part.len() > bytes_max {
            continue;
        }
        match datagrams.last_mut() {
            Some(last) if last.len() + part.len() <= bytes_max => last.extend_from_slice(part),
            Some(_) | None => datagrams.push(part.to_vec()),
        }
    }
    datagrams
}
