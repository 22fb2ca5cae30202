//! What this crate puts on a wire or a disk: its own prost types, written by hand, and nothing of protobuf 2.
//!
//! Bytes from a peer never reach the parser that raft-rs brings along (RUSTSEC-2024-0437). Decoding never panics; what
//! decodes is still only a claim, and `gate.rs` decides what may be stepped.

pub(crate) mod answer;
pub(crate) mod checkpoint;
pub(crate) mod conf_change;
pub(crate) mod message;
pub(crate) mod operation;
pub(crate) mod proposal;
pub(crate) mod record;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// They are not a message of ours.
    #[error("not decodable: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field is missing or breaks a limit.
    #[error("{0}")]
    Invalid(&'static str),
    /// A key, value or id in it is none.
    #[error("{0}")]
    Core(#[from] quorumor_core::Error),
}
