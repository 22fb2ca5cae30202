//! What this node has asked the disk to hold, and what waits for it: group commit of own writes, lazy batches of others',
//! checkpoints.
//!
//! At most one synced append is under way; whatever comes meanwhile goes into the next one. An own write is shown,
//! spread and acknowledged only after its append is durable, so its sequence is never used again.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use quorumor_core::limits::CHECKPOINT_CHUNK_BYTES;
use quorumor_core::{
    CallId, CheckpointSource, Dot, Generation, Key, LeaseId, LogId, OperationResult, PersistToken,
    Record, Seq, Stamp, VersionVector,
};

use crate::codec::{encode_cut_id, encode_register};
use crate::event::Event;
use crate::register::Register;
use crate::stability::CutId;
use crate::wire::{Malformed, Reader, Writer};

/// The identity of this node's life and log.
pub(crate) const KIND_META: u8 = 1;
/// One event.
pub(crate) const KIND_EVENT: u8 = 2;
/// Own events that never became durable before their log was closed.
pub(crate) const KIND_DISCARD: u8 = 3;

/// Where peers were, to find them again after a start.
pub(crate) const KIND_PEERS: u8 = 4;

/// The last cut that this node confirmed. A later one replaces it.
pub(crate) const KIND_CONFIRMED: u8 = 5;

/// The checkpoint's format.
pub(crate) const CHECKPOINT_FORMAT: u8 = 4;

/// Bytes of own writes in one append, beyond the first write.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A checkpoint's compaction writes again what came after the checkpoint began: beyond so many bytes of it, writes wait
/// for the checkpoint. With one more group and what is lazy the compaction stays under half of a log's largest frame.
const SINCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a node remembers of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) generation: Generation,
    pub(crate) log_id: LogId,
    /// Whether writes may have been acknowledged that no sync covers: after a crash the log isn't continued then.
    pub(crate) unsynced: bool,
}

impl Meta {
    pub(crate) fn record(self) -> Record {
        let mut out = Writer::default();
        out.number(self.generation.as_u64());
        out.number(self.log_id.as_u64());
        out.flag(self.unsynced);
        Record {
            kind: KIND_META,
            position: 0,
            bytes: out.0.into(),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let meta = Self {
            generation: Generation::new(reader.number()?),
            log_id: LogId::new(reader.number()?),
            unsynced: reader.flag()?,
        };
        if reader.is_empty() {
            Ok(meta)
        } else {
            Err(Malformed("bytes after the node's identity"))
        }
    }
}

/// Peers' addresses as a record. A later one replaces it.
pub(crate) fn peers_record(peers: &[SocketAddr]) -> Record {
    let mut out = Writer::default();
    out.count(peers.len());
    for peer in peers {
        out.address(*peer);
    }
    Record {
        kind: KIND_PEERS,
        position: 0,
        bytes: out.0.into(),
    }
}

/// Reads what [`peers_record`] wrote.
pub(crate) fn decode_peers(bytes: &[u8]) -> Result<Vec<SocketAddr>, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(6)?;
    (0..count).map(|_| reader.address()).collect()
}

/// A confirmed cut as a record.
pub(crate) fn confirmed_record(cut: CutId) -> Record {
    let mut out = Writer::default();
    encode_cut_id(cut, &mut out);
    Record {
        kind: KIND_CONFIRMED,
        position: 0,
        bytes: out.0.into(),
    }
}

/// A caller's write that isn't durable yet.
#[derive(Debug)]
pub(crate) struct OpenWrite {
    /// `None` once the caller has gone.
    pub(crate) call: Option<CallId>,
    pub(crate) events: Vec<Arc<Event>>,
    pub(crate) results: Vec<OperationResult>,
    /// What the caller's next token demands.
    pub(crate) position: VersionVector,
    pub(crate) last: Option<(Dot, Stamp)>,
    /// How many members shall hold it before the reply.
    pub(crate) acks: u32,
    pub(crate) answer: Answer,
}

/// What the caller of a write is told when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What its operations did.
    Results,
    /// The lease that it granted.
    Granted { id: LeaseId, ttl_ms: u64 },
    /// That the epoch is raised.
    EpochRaised,
}

impl OpenWrite {
    pub(crate) fn new(call: Option<CallId>) -> Self {
        Self {
            call,
            events: Vec::new(),
            results: Vec::new(),
            position: VersionVector::new(),
            last: None,
            acks: 0,
            answer: Answer::Results,
        }
    }

    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.encoded().len()).sum()
    }
}

/// The disk's side of a replica.
#[derive(Debug)]
pub(crate) struct Durability {
    last_token: u64,
    position: u64,
    queued: VecDeque<OpenWrite>,
    queued_bytes: usize,
    in_flight: Option<(PersistToken, Vec<OpenWrite>)>,
    /// The calls of open writes whose callers are still there.
    callers: BTreeSet<CallId>,
    /// The last append of lazy events alone, until it is done.
    lazy_in_flight: Option<PersistToken>,
    lazy: Vec<Arc<Event>>,
    lazy_bytes: usize,
    /// Bytes of records since the last checkpoint.
    pub(crate) log_bytes: u64,
    checkpoint: Option<Checkpoint>,
    /// What survives any crash.
    durable: VersionVector,
    /// What will, once this append is.
    promised: Option<(PersistToken, VersionVector, CutId)>,
    /// The confirmation that came with the last such append.
    durable_cut: Option<CutId>,
    /// Lazy events went into the checkpoint under way instead of the log.
    in_checkpoint: bool,
    /// Lazy events were left out of the log: only a checkpoint makes all durable again.
    left_out: bool,
}

/// A checkpoint under way.
#[derive(Debug)]
struct Checkpoint {
    token: PersistToken,
    /// What was appended since it began, and what was under way then.
    since: Vec<Record>,
    since_bytes: usize,
    /// What the checkpoint covers.
    covers: VersionVector,
}

impl Durability {
    pub(crate) fn new(position: u64, log_bytes: u64, durable: VersionVector) -> Self {
        Self {
            last_token: 0,
            position,
            queued: VecDeque::new(),
            queued_bytes: 0,
            in_flight: None,
            callers: BTreeSet::new(),
            lazy_in_flight: None,
            lazy: Vec::new(),
            lazy_bytes: 0,
            log_bytes,
            checkpoint: None,
            durable,
            promised: None,
            durable_cut: None,
            in_checkpoint: false,
            left_out: false,
        }
    }

    pub(crate) fn token(&mut self) -> PersistToken {
        self.last_token += 1;
        PersistToken(self.last_token)
    }

    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn queue(&mut self, write: OpenWrite) {
        self.queued_bytes += write.bytes();
        self.callers.extend(write.call);
        self.queued.push_back(write);
    }

    /// Writes that aren't durable yet.
    pub(crate) fn open_count(&self) -> usize {
        self.queued.len()
            + self
                .in_flight
                .as_ref()
                .map_or(0, |(_, writes)| writes.len())
    }

    pub(crate) const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(crate) const fn lazy_bytes(&self) -> usize {
        self.lazy_bytes
    }

    pub(crate) fn add_lazy(&mut self, event: Arc<Event>) {
        self.lazy_bytes += event.encoded().len();
        self.lazy.push(event);
    }

    /// Whether all that the vector covers survives any crash.
    pub(crate) fn is_durable(&self, vector: &VersionVector) -> bool {
        self.durable.covers(vector)
    }

    /// Lets a synced append make durable what is known now. `None` if one is under way that does, or if only a checkpoint can.
    pub(crate) fn promise(
        &mut self,
        known: &VersionVector,
        cut: CutId,
    ) -> Option<(PersistToken, Vec<Record>)> {
        let awaits = self.in_checkpoint || self.must_await_checkpoint();
        if self.promised.is_some() || self.left_out || awaits {
            return None;
        }
        let mut records = self.take_lazy();
        records.push(confirmed_record(cut));
        let token = self.token();
        self.promised = Some((token, known.clone(), cut));
        Some((token, self.note(records)))
    }

    /// Whether an append is under way that makes all durable that was known at its beginning.
    pub(crate) const fn is_promised(&self) -> bool {
        self.promised.is_some()
    }

    /// The cut whose confirmation has become durable.
    pub(crate) const fn durable_cut(&self) -> Option<CutId> {
        self.durable_cut
    }

    /// Whether only a checkpoint can make all durable.
    pub(crate) const fn needs_checkpoint(&self) -> bool {
        self.left_out
    }

    /// Something is known that no append holds: a checkpoint that begins from now on will.
    pub(crate) const fn leave_out(&mut self) {
        self.left_out = true;
    }

    pub(crate) fn forget_lazy(&mut self) {
        self.left_out |= !self.lazy.is_empty();
        self.lazy.clear();
        self.lazy_bytes = 0;
    }

    /// The next synced append, if own writes wait and none is under way. Lazy events go with it.
    pub(crate) fn next_group(&mut self) -> Option<(PersistToken, Vec<Record>)> {
        if self.in_flight.is_some() || self.queued.is_empty() || self.must_await_checkpoint() {
            return None;
        }
        let mut records = self.take_lazy();
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(write) = self.queued.pop_front() {
            if bytes > 0 && bytes + write.bytes() > GROUP_BYTES_MAX {
                self.queued.push_front(write);
                break;
            }
            bytes += write.bytes();
            for event in &write.events {
                records.push(self.event_record(event));
            }
            group.push(write);
        }
        self.queued_bytes -= bytes;
        let token = self.token();
        self.in_flight = Some((token, group));
        Some((token, self.note(records)))
    }

    /// Everything lazy as an append without a sync, if none is under way: a slow disk isn't given more and more.
    pub(crate) fn next_lazy(&mut self) -> Option<(PersistToken, Vec<Record>)> {
        if self.lazy.is_empty() || self.lazy_in_flight.is_some() || self.must_await_checkpoint() {
            return None;
        }
        let records = self.take_lazy();
        let token = self.token();
        self.lazy_in_flight = Some(token);
        Some((token, self.note(records)))
    }

    fn must_await_checkpoint(&self) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(|checkpoint| checkpoint.since_bytes >= SINCE_BYTES_MAX)
    }

    /// Records for an append of their own.
    pub(crate) fn several(&mut self, records: Vec<Record>) -> (PersistToken, Vec<Record>) {
        (self.token(), self.note(records))
    }

    /// The writes that are durable now that this token is.
    pub(crate) fn persisted(&mut self, token: PersistToken) -> Vec<OpenWrite> {
        self.lazy_in_flight = self.lazy_in_flight.filter(|waiting| *waiting > token);
        if let Some((_, known, cut)) = self.promised.take_if(|(waiting, ..)| *waiting <= token) {
            self.durable.merge(&known);
            self.durable_cut = Some(cut);
        }
        match self.in_flight.take() {
            Some((waiting, writes)) if waiting <= token => self.without_the_gone(writes),
            other => {
                self.in_flight = other;
                Vec::new()
            }
        }
    }

    /// Gives up every open write: its log is closed.
    pub(crate) fn abandon(&mut self) -> Vec<OpenWrite> {
        self.queued_bytes = 0;
        let mut writes = self
            .in_flight
            .take()
            .map(|(_, writes)| writes)
            .unwrap_or_default();
        writes.extend(self.queued.drain(..));
        self.without_the_gone(writes)
    }

    /// Forgets the calls of these writes whose callers have gone.
    fn without_the_gone(&mut self, mut writes: Vec<OpenWrite>) -> Vec<OpenWrite> {
        for write in &mut writes {
            write.call = write.call.filter(|call| self.callers.remove(call));
        }
        writes
    }

    pub(crate) fn cancel(&mut self, call: CallId) {
        self.callers.remove(&call);
    }

    pub(crate) const fn is_checkpointing(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Begins a checkpoint of a state that holds everything but the writes under way.
    pub(crate) fn begin_checkpoint(&mut self, known: &VersionVector) -> PersistToken {
        self.in_checkpoint = !self.lazy.is_empty() || self.left_out;
        self.lazy.clear();
        self.lazy_bytes = 0;
        self.left_out = false;
        let events: Vec<Arc<Event>> = self
            .in_flight
            .iter()
            .flat_map(|(_, writes)| writes.iter())
            .flat_map(|write| write.events.iter().cloned())
            .collect();
        let since: Vec<Record> = events
            .iter()
            .map(|event| self.event_record(event))
            .collect();
        let token = self.token();
        self.checkpoint = Some(Checkpoint {
            token,
            since_bytes: since.iter().map(|record| record.bytes.len()).sum(),
            since,
            covers: known.clone(),
        });
        token
    }

    /// What the log must still hold after this checkpoint, beside the node's identity.
    pub(crate) fn checkpointed(&mut self, token: PersistToken) -> Option<Vec<Record>> {
        match self.checkpoint.take() {
            Some(checkpoint) if checkpoint.token == token => {
                self.log_bytes = checkpoint.since_bytes as u64;
                self.durable.merge(&checkpoint.covers);
                self.in_checkpoint = false;
                Some(checkpoint.since)
            }
            other => {
                self.checkpoint = other;
                None
            }
        }
    }

    pub(crate) fn discard_record(&mut self, log_id: LogId, seq: Seq) -> Record {
        let mut out = Writer::default();
        out.number(log_id.as_u64());
        out.number(seq.as_u64());
        self.record(KIND_DISCARD, out.0.into())
    }

    fn take_lazy(&mut self) -> Vec<Record> {
        self.lazy_bytes = 0;
        let lazy = std::mem::take(&mut self.lazy);
        lazy.iter().map(|event| self.event_record(event)).collect()
    }

    fn event_record(&mut self, event: &Event) -> Record {
        self.record(KIND_EVENT, event.encoded().clone())
    }

    fn record(&mut self, kind: u8, bytes: Bytes) -> Record {
        self.position += 1;
        Record {
            kind,
            position: self.position,
            bytes,
        }
    }

    /// Counts records, and keeps them for the compaction if a checkpoint without them is under way.
    fn note(&mut self, records: Vec<Record>) -> Vec<Record> {
        self.log_bytes += records
            .iter()
            .map(|record| record.bytes.len() as u64 + 32)
            .sum::<u64>();
        if let Some(checkpoint) = &mut self.checkpoint {
            // Identity, peers and the confirmed cut are written again anyway.
            let needed = records
                .iter()
                .filter(|record| matches!(record.kind, KIND_EVENT | KIND_DISCARD));
            for record in needed {
                checkpoint.since_bytes += record.bytes.len();
                checkpoint.since.push(record.clone());
            }
        }
        records
    }
}

/// The state as chunks: a header, then registers.
pub(crate) struct Snapshot {
    pub(crate) header: Option<Bytes>,
    pub(crate) registers: OrdMap<Key, Arc<Register>>,
    pub(crate) after: Option<Key>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("registers", &self.registers.len())
            .finish_non_exhaustive()
    }
}

impl CheckpointSource for Snapshot {
    fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(header) = self.header.take() {
            return Some(header);
        }
        let registers = registers_after(
            &self.registers,
            &mut self.after,
            CHECKPOINT_CHUNK_BYTES,
            |_| true,
        );
        if registers.is_empty() {
            return None;
        }
        let mut out = Writer::default();
        out.count(registers.len());
        for register in registers {
            encode_register(&register, &mut out);
        }
        Some(out.0.into())
    }
}

/// The next registers above `after` that pass the filter, about `bytes_max` of them, at least one if there is one.
pub(crate) fn registers_after(
    registers: &OrdMap<Key, Arc<Register>>,
    after: &mut Option<Key>,
    bytes_max: usize,
    wanted: impl Fn(&Register) -> bool,
) -> Vec<Arc<Register>> {
    let from = match after {
        Some(key) => std::ops::Bound::Excluded(key.clone()),
        None => std::ops::Bound::Unbounded,
    };
    let mut chosen = Vec::new();
    let mut bytes = 0;
    for (key, register) in registers.range((from, std::ops::Bound::Unbounded)) {
        if wanted(register) {
            let weight = register.weight();
            if bytes > 0 && bytes + weight > bytes_max {
                return chosen;
            }
            bytes += weight;
            chosen.push(Arc::clone(register));
        }
        *after = Some(key.clone());
    }
    chosen
}

#[cfg(test)]
mod tests;
