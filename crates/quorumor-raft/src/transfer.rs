//! Snapshots on their way: a leader's to a follower that is too far behind, and one that comes in.
//!
//! The leader sends a window of pieces and waits for acknowledgements. What got lost on the way is sent again, so a broken
//! stream costs a window and not the snapshot; without any word it gives up, and raft is always told how it ended, or it
//! would never send that follower anything again (etcd #10225). One at a time each way. What comes in is decoded piece by
//! piece, made durable as this node's checkpoint, and only then shown to raft.

use std::collections::VecDeque;

use bytes::Bytes;
use quorumor_core::{CheckpointSource, Mono, NodeId, PersistToken};

use crate::codec::checkpoint::{Decoder, StateSource};
use crate::codec::message::{Chunk, ChunkAck, TransferState};
use crate::state_machine::StateMachine;

/// Pieces that may be on their way without an acknowledgement: four of about 1 MiB.
const WINDOW: usize = 4;
/// What a snapshot may weigh in all. The state is held in memory, so a larger one fits no node.
const SNAPSHOT_BYTES_MAX: usize = 16 * 1024 * 1024 * 1024;
/// A single piece: one weighs about 1 MiB, and one large entry, event or answer more.
const PIECE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// A snapshot that this leader sends.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: NodeId,
    transfer: u64,
    term: u64,
    source: StateSource,
    /// The next piece to send, made early to know which is the last.
    next: Option<Bytes>,
    sent: u64,
    /// Sent, and not acknowledged yet.
    under_way: VecDeque<Chunk>,
    /// Whether some of that is surely lost: the stream broke, or a later piece came. On a slow link silence alone is none.
    lost: bool,
    progress_at: Mono,
    sent_again_at: Mono,
}

impl Outgoing {
    /// Begins to send a state.
    pub(crate) fn new(
        to: NodeId,
        transfer: u64,
        term: u64,
        state: &StateMachine,
        now: Mono,
    ) -> Self {
        let mut source = StateSource::new(state);
        let next = source.next_chunk();
        Self {
            to,
            transfer,
            term,
            source,
            next,
            sent: 0,
            under_way: VecDeque::new(),
            lost: false,
            progress_at: now,
            sent_again_at: now,
        }
    }

    /// The next piece that may leave.
    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        if self.under_way.len() >= WINDOW {
            return None;
        }
        let bytes = self.next.take()?;
        self.next = self.source.next_chunk();
        let chunk = Chunk {
            transfer: self.transfer,
            term: self.term,
            seq: self.sent,
            last: self.next.is_none(),
            crc: crc32c::crc32c(&bytes),
            bytes,
        };
        self.sent += 1;
        self.under_way.push_back(chunk.clone());
        Some(chunk)
    }

    /// The stream broke.
    pub(crate) const fn lose(&mut self) {
        self.lost = true;
    }

    /// The pieces under way once more, if some are lost and nothing was heard of them for so long.
    pub(crate) fn send_again(&mut self, now: Mono, patience_us: u64) -> Vec<Chunk> {
        let since = self.progress_at.max(self.sent_again_at);
        if !self.lost || now.since_us(since) < patience_us {
            return Vec::new();
        }
        self.sent_again_at = now;
        self.lost = false;
        self.under_way.iter().cloned().collect()
    }

    /// Takes an acknowledgement; gives how the transfer stands, if it concerns this one.
    pub(crate) fn acked(&mut self, ack: &ChunkAck, now: Mono) -> Option<TransferState> {
        if ack.transfer != self.transfer {
            return None;
        }
        let before = self.under_way.len();
        self.under_way.retain(|chunk| chunk.seq >= ack.received);
        self.lost |= before > 0 && self.under_way.len() == before;
        self.progress_at = now;
        Some(ack.state())
    }

    /// Whether nothing was heard of it for so long.
    pub(crate) fn is_stuck(&self, now: Mono, patience_us: u64) -> bool {
        now.since_us(self.progress_at) > patience_us
    }
}

/// A snapshot that comes in.
#[derive(Debug)]
pub(crate) struct Incoming {
    from: NodeId,
    transfer: u64,
    term: u64,
    pieces: Vec<Bytes>,
    decoder: Decoder,
    bytes: usize,
    progress_at: Mono,
}

impl Incoming {
    /// How many pieces have come.
    #[cfg(test)]
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.len()
    }
}

/// A whole snapshot that waits to become this node's checkpoint.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) from: NodeId,
    pub(crate) transfer: u64,
    pub(crate) term: u64,
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) state: StateMachine,
    /// The checkpoint that is being written of it.
    pub(crate) token: Option<PersistToken>,
}

/// What a piece led to.
#[derive(Debug)]
pub(crate) enum Received {
    /// More must come; so many have.
    Going(u64),
    /// It was the last.
    Whole(Box<Staged>),
    /// The transfer is broken.
    Broken,
}

/// Takes a piece into the transfer under way, or begins a new one with it.
pub(crate) fn receive(
    incoming: &mut Option<Incoming>,
    from: NodeId,
    chunk: Chunk,
    now: Mono,
) -> Received {
    if chunk.bytes.len() > PIECE_BYTES_MAX || crc32c::crc32c(&chunk.bytes) != chunk.crc {
        return Received::Broken;
    }
    let goes_on = incoming
        .as_ref()
        .is_some_and(|incoming| incoming.from == from && incoming.transfer == chunk.transfer);
    if chunk.seq == 0 && !goes_on {
        *incoming = Some(Incoming {
            from,
            transfer: chunk.transfer,
            term: chunk.term,
            pieces: Vec::new(),
            decoder: Decoder::default(),
            bytes: 0,
            progress_at: now,
        });
    }
    let Some(transfer) = incoming
        .as_mut()
        .filter(|incoming| incoming.from == from && incoming.transfer == chunk.transfer)
    else {
        return Received::Broken;
    };
    let expected = transfer.pieces.len() as u64;
    if chunk.seq != expected {
        // It came before, or one before it was lost and will be sent again.
        return Received::Going(expected);
    }
    transfer.bytes = transfer.bytes.saturating_add(chunk.bytes.len());
    let sound =
        transfer.bytes <= SNAPSHOT_BYTES_MAX && transfer.decoder.push(chunk.bytes.clone()).is_ok();
    if !sound {
        *incoming = None;
        return Received::Broken;
    }
    transfer.progress_at = now;
    transfer.pieces.push(chunk.bytes);
    if !chunk.last {
        return Received::Going(expected + 1);
    }
    incoming.take().map_or(Received::Broken, assemble)
}

fn assemble(incoming: Incoming) -> Received {
    match incoming.decoder.finish() {
        Ok(state) => Received::Whole(Box::new(Staged {
            from: incoming.from,
            transfer: incoming.transfer,
            term: incoming.term,
            pieces: incoming.pieces,
            state,
            token: None,
        })),
        Err(_) => Received::Broken,
    }
}

/// Forgets a transfer whose sender fell silent.
pub(crate) fn forget_stuck(incoming: &mut Option<Incoming>, now: Mono, patience_us: u64) {
    let is_stuck = |incoming: &mut Incoming| now.since_us(incoming.progress_at) > patience_us;
    incoming.take_if(is_stuck);
}

/// Pieces that came whole, to be written as they are.
#[derive(Debug)]
pub(crate) struct Pieces(pub(crate) std::vec::IntoIter<Bytes>);

impl CheckpointSource for Pieces {
    fn next_chunk(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}
