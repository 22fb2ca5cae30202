//! A state as pieces of bytes: what a checkpoint file holds, and what a snapshot sends. The two are the same pieces.
//!
//! The first piece begins with a header, the last one ends with totals; between them come leases, entries, sessions and the
//! history, in that order. A piece ends once it weighs [`CHECKPOINT_CHUNK_BYTES`]; it is made only when it is asked for.
//! What is read back must have the digest that the header names: a state that rotted in memory or on the way is refused.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use prost::Message as _;
use quorumor_core::limits::CHECKPOINT_CHUNK_BYTES;
use quorumor_core::{CheckpointSource, ClientId, Key, LeaseId, NodeId, Revision};

use super::answer::{WireAnswer, wire_answer};
use super::operation::{WireKeyValue, wire_entry};
use super::proposal::WireMember;
use crate::state_machine::StateMachine;

mod decode;
mod events;

pub(crate) use decode::{Decoder, decode};
use events::{WireEvent, wire_event};

/// The format that this code writes. The first had neither leases, nor sessions, nor a history; it is still read.
const FORMAT: u32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct WirePiece {
    #[prost(message, optional, tag = "1")]
    header: Option<WireHeader>,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<WireKeyValue>,
    /// In the last piece: how many entries all pieces hold.
    #[prost(uint64, optional, tag = "3")]
    entries_total: Option<u64>,
    #[prost(message, repeated, tag = "4")]
    leases: Vec<WireLease>,
    #[prost(message, repeated, tag = "5")]
    sessions: Vec<WireSession>,
    #[prost(message, repeated, tag = "6")]
    events: Vec<WireEvent>,
    /// In the last piece: how many answers all sessions hold.
    #[prost(uint64, tag = "7")]
    answers_total: u64,
    /// In the last piece: how many revisions the history holds.
    #[prost(uint64, tag = "8")]
    history_total: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireHeader {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    cluster: u64,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(uint64, tag = "5")]
    term: u64,
    #[prost(uint64, tag = "6")]
    revision: u64,
    #[prost(uint64, repeated, tag = "7")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "8")]
    learners: Vec<u64>,
    #[prost(message, repeated, tag = "9")]
    members: Vec<WireMember>,
    #[prost(uint64, repeated, tag = "10")]
    outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "11")]
    promoting: Vec<u64>,
    #[prost(uint64, repeated, tag = "12")]
    removed: Vec<u64>,
    #[prost(uint64, tag = "13")]
    log_time: u64,
    /// The oldest revision that can be read.
    #[prost(uint64, tag = "14")]
    oldest: u64,
    /// The state's digest.
    #[prost(fixed64, tag = "15")]
    digest: u64,
}

/// A lease. Its keys say by themselves that they are bound to it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireLease {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    ttl_ms: u64,
    #[prost(uint64, tag = "3")]
    expires_at: u64,
}

/// A session, or one more answer of the session before it.
#[derive(Clone, PartialEq, prost::Message)]
struct WireSession {
    #[prost(uint64, tag = "1")]
    client_id: u64,
    #[prost(uint64, tag = "2")]
    ttl_ms: u64,
    #[prost(uint64, tag = "3")]
    expires_at: u64,
    #[prost(uint64, tag = "4")]
    acked_through: u64,
    #[prost(uint64, tag = "5")]
    seq: u64,
    #[prost(message, optional, tag = "6")]
    answer: Option<WireAnswer>,
    /// The fingerprint of the write that was answered; 0 if it isn't known.
    #[prost(fixed64, tag = "7")]
    fingerprint: u64,
}

/// How far a state has been written out.
#[derive(Clone, Debug)]
enum Place {
    Leases(Option<LeaseId>),
    Entries(Option<Key>),
    /// The last session begun, and its last answer written.
    Sessions(Option<(ClientId, u64)>),
    /// The last revision written whole, and how many events of the next.
    History(Revision, usize),
    End,
}

/// A state that is written out piece by piece. Holds the maps' roots, not a copy of them.
pub(crate) struct StateSource {
    header: Option<WireHeader>,
    state: StateMachine,
    place: Place,
    finished: bool,
}

impl StateSource {
    /// The pieces of this state.
    pub(crate) fn new(state: &StateMachine) -> Self {
        Self {
            header: Some(header(state)),
            state: state.clone(),
            place: Place::Leases(None),
            finished: false,
        }
    }

    /// Takes up where the last piece ended; gives where this one does. Stops when the piece is heavy enough.
    fn fill(&self, piece: &mut WirePiece, place: Place, weight: &mut usize) -> Place {
        match place {
            Place::Leases(after) => self.fill_leases(piece, after, weight),
            Place::Entries(after) => self.fill_entries(piece, after, weight),
            Place::Sessions(after) => self.fill_sessions(piece, after, weight),
            Place::History(after, events) => self.fill_history(piece, after, events, weight),
            Place::End => Place::End,
        }
    }

    fn fill_leases(
        &self,
        piece: &mut WirePiece,
        after: Option<LeaseId>,
        weight: &mut usize,
    ) -> Place {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let leases = self.state.leases.table();
        for (id, lease) in leases.range((from, Bound::Unbounded)) {
            piece.leases.push(WireLease {
                id: id.as_u64(),
                ttl_ms: lease.ttl_ms,
                expires_at: lease.expires_at.0,
            });
            *weight += 24;
            if *weight >= CHECKPOINT_CHUNK_BYTES {
                return Place::Leases(Some(*id));
            }
        }
        Place::Entries(None)
    }

    fn fill_entries(&self, piece: &mut WirePiece, after: Option<Key>, weight: &mut usize) -> Place {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, entry) in self.state.entries.range((from, Bound::Unbounded)) {
            piece.entries.push(wire_entry(entry));
            *weight += entry.bytes() + 24;
            if *weight >= CHECKPOINT_CHUNK_BYTES {
                return Place::Entries(Some(key.clone()));
            }
        }
        Place::Sessions(None)
    }

    fn fill_sessions(
        &self,
        piece: &mut WirePiece,
        after: Option<(ClientId, u64)>,
        weight: &mut usize,
    ) -> Place {
        let from = after.map_or(Bound::Unbounded, |(client, _)| Bound::Included(client));
        let sessions = self.state.sessions.table();
        for (client, session) in sessions.range((from, Bound::Unbounded)) {
            let begun = after.filter(|(begun, _)| begun == client);
            let mut wire = WireSession {
                client_id: client.as_u64(),
                ttl_ms: session.ttl_ms,
                expires_at: session.expires_at.0,
                acked_through: session.acked_through,
                seq: 0,
                answer: None,
                fingerprint: 0,
            };
            if begun.is_none() {
                piece.sessions.push(wire.clone());
                *weight += 40;
            }
            let from = begun.map_or(Bound::Unbounded, |(_, seq)| Bound::Excluded(seq));
            for (seq, kept) in session.answers.range((from, Bound::Unbounded)) {
                wire.seq = *seq;
                wire.answer = Some(wire_answer(&kept.answer));
                wire.fingerprint = kept.fingerprint;
                piece.sessions.push(wire.clone());
                *weight += kept.answer.bytes();
                if *weight >= CHECKPOINT_CHUNK_BYTES {
                    return Place::Sessions(Some((*client, *seq)));
                }
            }
        }
        Place::History(self.state.history.oldest(), 0)
    }

    fn fill_history(
        &self,
        piece: &mut WirePiece,
        after: Revision,
        mut done: usize,
        weight: &mut usize,
    ) -> Place {
        let mut whole = after;
        for past in self.state.history.since(after).into_iter().flatten() {
            let total = past.events.len();
            for (at, event) in past.events.iter().enumerate().skip(done) {
                let (wire, bytes) = wire_event(&self.state, past, event, at + 1 == total);
                piece.events.push(wire);
                *weight += bytes;
                if *weight >= CHECKPOINT_CHUNK_BYTES && at + 1 < total {
                    return Place::History(whole, at + 1);
                }
            }
            done = 0;
            whole = past.revision;
            if *weight >= CHECKPOINT_CHUNK_BYTES {
                return Place::History(whole, 0);
            }
        }
        Place::End
    }
}

fn header(state: &StateMachine) -> WireHeader {
    WireHeader {
        format: FORMAT,
        cluster: state.cluster.as_u64(),
        epoch: state.epoch.as_u64(),
        index: state.applied.index,
        term: state.applied.term,
        revision: state.revision.as_u64(),
        voters: state.voters.voters.clone(),
        learners: state.voters.learners.clone(),
        members: state
            .members
            .iter()
            .map(|(node, record)| WireMember::from_record(*node, record))
            .collect(),
        outgoing: state.voters.outgoing.clone(),
        promoting: numbers(&state.roster.promoting),
        removed: numbers(&state.roster.removed),
        log_time: state.log_time.0,
        oldest: state.history.oldest().as_u64(),
        digest: state.digest(),
    }
}

fn numbers(nodes: &BTreeSet<NodeId>) -> Vec<u64> {
    nodes.iter().map(|node| node.as_u64()).collect()
}

impl fmt::Debug for StateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSource")
            .field("entries", &self.state.entries.len())
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl CheckpointSource for StateSource {
    fn next_chunk(&mut self) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        let mut piece = WirePiece {
            header: self.header.take(),
            ..WirePiece::default()
        };
        let mut weight = 0;
        while weight < CHECKPOINT_CHUNK_BYTES && !matches!(self.place, Place::End) {
            let place = std::mem::replace(&mut self.place, Place::End);
            self.place = self.fill(&mut piece, place, &mut weight);
        }
        if matches!(self.place, Place::End) {
            self.finished = true;
            piece.entries_total = Some(self.state.entries.len() as u64);
            let sessions = self.state.sessions.table().values();
            piece.answers_total = sessions.map(|session| session.answers.len() as u64).sum();
            piece.history_total = self.state.history.len() as u64;
        }
        Some(piece.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests;
