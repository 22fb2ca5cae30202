//! What one node's replica sends to another's. Sender and receiver are the envelope's business, and so are not said again.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb;

use super::CodecError;
use super::conf_change::{Ask, Removed, Told};
use super::record::WireEntry;

/// One message between replicas.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(oneof = "PeerMessage", tags = "1, 2, 3, 4, 5, 6, 16, 17, 18")]
    message: Option<PeerMessage>,
}

/// What it can be.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum PeerMessage {
    /// Consensus.
    #[prost(message, tag = "1")]
    Raft(RaftMessage),
    /// A write that a follower took from a client.
    #[prost(message, tag = "2")]
    Forward(Forward),
    /// A forwarded write that was not proposed.
    #[prost(message, tag = "3")]
    Refused(Refused),
    /// A piece of a snapshot.
    #[prost(message, tag = "4")]
    Chunk(Chunk),
    /// How far a snapshot has come.
    #[prost(message, tag = "5")]
    ChunkAck(ChunkAck),
    /// What the leader knows about who is there.
    #[prost(message, tag = "6")]
    Pulse(Pulse),
    /// A question to the leader about membership or leadership.
    #[prost(message, tag = "16")]
    Ask(Ask),
    /// Its word on it.
    #[prost(message, tag = "17")]
    Told(Told),
    /// The receiver was removed from the cluster.
    #[prost(message, tag = "18")]
    Removed(Removed),
}

impl PeerMessage {
    /// As bytes.
    pub(crate) fn into_bytes(self) -> Bytes {
        Envelope {
            message: Some(self),
        }
        .encode_to_vec()
        .into()
    }

    /// From bytes. Payloads share them.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        Envelope::decode(bytes)?
            .message
            .ok_or(CodecError::Invalid("a message of an unknown kind"))
    }
}

/// Which of raft's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum RaftKind {
    /// None.
    Unspecified = 0,
    Append = 1,
    AppendResponse = 2,
    Vote = 3,
    VoteResponse = 4,
    PreVote = 5,
    PreVoteResponse = 6,
    Heartbeat = 7,
    HeartbeatResponse = 8,
    TimeoutNow = 9,
    ReadIndex = 10,
    ReadIndexResponse = 11,
}

/// One of raft's messages. Snapshots travel as [`Chunk`]s instead.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RaftMessage {
    #[prost(enumeration = "RaftKind", tag = "1")]
    pub(crate) kind: i32,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) log_term: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) index: u64,
    #[prost(message, repeated, tag = "5")]
    pub(crate) entries: Vec<WireEntry>,
    #[prost(uint64, tag = "6")]
    pub(crate) commit: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) commit_term: u64,
    #[prost(bool, tag = "8")]
    pub(crate) reject: bool,
    #[prost(uint64, tag = "9")]
    pub(crate) reject_hint: u64,
    #[prost(bytes = "bytes", tag = "10")]
    pub(crate) context: Bytes,
}

impl RaftMessage {
    /// From raft's own type; `None` for what never leaves a node, and for snapshots.
    pub(crate) fn from_raft(message: eraftpb::Message) -> Option<Self> {
        let kind = kind_of(message.get_msg_type())?;
        Some(Self {
            kind: kind.into(),
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message
                .entries
                .into_iter()
                .map(WireEntry::from_raft)
                .collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context,
        })
    }

    /// To raft's own type, with a sender and receiver; `None` for an unknown kind.
    pub(crate) fn into_raft(self, from: u64, to: u64) -> Option<eraftpb::Message> {
        let kind = raft_type(self.kind())?;
        let mut message = eraftpb::Message {
            from,
            to,
            term: self.term,
            log_term: self.log_term,
            index: self.index,
            commit: self.commit,
            commit_term: self.commit_term,
            reject: self.reject,
            reject_hint: self.reject_hint,
            context: self.context,
            ..eraftpb::Message::default()
        };
        message.set_msg_type(kind);
        let entries: Option<Vec<_>> = self.entries.into_iter().map(WireEntry::into_raft).collect();
        message.set_entries(entries?.into());
        Some(message)
    }
}

fn kind_of(kind: eraftpb::MessageType) -> Option<RaftKind> {
    use eraftpb::MessageType as M;
    match kind {
        M::MsgAppend => Some(RaftKind::Append),
        M::MsgAppendResponse => Some(RaftKind::AppendResponse),
        M::MsgRequestVote => Some(RaftKind::Vote),
        M::MsgRequestVoteResponse => Some(RaftKind::VoteResponse),
        M::MsgRequestPreVote => Some(RaftKind::PreVote),
        M::MsgRequestPreVoteResponse => Some(RaftKind::PreVoteResponse),
        M::MsgHeartbeat => Some(RaftKind::Heartbeat),
        M::MsgHeartbeatResponse => Some(RaftKind::HeartbeatResponse),
        M::MsgTimeoutNow => Some(RaftKind::TimeoutNow),
        M::MsgReadIndex => Some(RaftKind::ReadIndex),
        M::MsgReadIndexResp => Some(RaftKind::ReadIndexResponse),
        M::MsgHup
        | M::MsgBeat
        | M::MsgPropose
        | M::MsgSnapshot
        | M::MsgUnreachable
        | M::MsgSnapStatus
        | M::MsgCheckQuorum
        | M::MsgTransferLeader => None,
    }
}

fn raft_type(kind: RaftKind) -> Option<eraftpb::MessageType> {
    use eraftpb::MessageType as M;
    match kind {
        RaftKind::Unspecified => None,
        RaftKind::Append => Some(M::MsgAppend),
        RaftKind::AppendResponse => Some(M::MsgAppendResponse),
        RaftKind::Vote => Some(M::MsgRequestVote),
        RaftKind::VoteResponse => Some(M::MsgRequestVoteResponse),
        RaftKind::PreVote => Some(M::MsgRequestPreVote),
        RaftKind::PreVoteResponse => Some(M::MsgRequestPreVoteResponse),
        RaftKind::Heartbeat => Some(M::MsgHeartbeat),
        RaftKind::HeartbeatResponse => Some(M::MsgHeartbeatResponse),
        RaftKind::TimeoutNow => Some(M::MsgTimeoutNow),
        RaftKind::ReadIndex => Some(M::MsgReadIndex),
        RaftKind::ReadIndexResponse => Some(M::MsgReadIndexResp),
    }
}

/// A write on its way to the leader. It carries the leader's term as its sender knows it, so that a copy that comes late
/// can't be proposed a second time by a leader of a later term.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Forward {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    /// A `Proposal`, encoded, with the sender's own write id in it.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) proposal: Bytes,
}

/// Why a forwarded write was not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Refusal {
    /// The receiver isn't the leader (any more).
    NotLeader = 0,
    /// Its queue is full.
    Overloaded = 1,
    /// Its disk is full.
    DiskFull = 2,
    /// It shuts down.
    Stopping = 3,
    /// It hears no majority.
    NoQuorum = 4,
}

/// The leader's word that a forwarded write was not proposed and never will be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Refused {
    #[prost(uint64, tag = "1")]
    pub(crate) boot_nonce: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) counter: u64,
    #[prost(enumeration = "Refusal", tag = "3")]
    pub(crate) refusal: i32,
    /// The leader, as the receiver knows it; 0 if it knows none.
    #[prost(uint64, tag = "4")]
    pub(crate) leader: u64,
}

/// A piece of a snapshot: the same bytes as a piece of a checkpoint.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Chunk {
    /// Which transfer, in the sender's own count.
    #[prost(uint64, tag = "1")]
    pub(crate) transfer: u64,
    /// The leader's term.
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
    /// From 0.
    #[prost(uint64, tag = "3")]
    pub(crate) seq: u64,
    #[prost(bool, tag = "4")]
    pub(crate) last: bool,
    #[prost(fixed32, tag = "5")]
    pub(crate) crc: u32,
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) bytes: Bytes,
}

/// What became of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum TransferState {
    /// It goes on.
    Going = 0,
    /// It is installed, or wasn't needed.
    Done = 1,
    /// It was refused, or broke.
    Failed = 2,
}

/// The receiver's answer to a chunk.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ChunkAck {
    #[prost(uint64, tag = "1")]
    pub(crate) transfer: u64,
    /// Every chunk below this one has come.
    #[prost(uint64, tag = "2")]
    pub(crate) received: u64,
    #[prost(enumeration = "TransferState", tag = "3")]
    pub(crate) state: i32,
}

/// Whom the leader heard, and how long ago: followers don't hear each other.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Pulse {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) heard: Vec<HeardAge>,
}

/// When the leader heard one node.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct HeardAge {
    #[prost(uint64, tag = "1")]
    pub(crate) node: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) age_ms: u64,
}
