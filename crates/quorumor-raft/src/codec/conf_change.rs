//! Changes of membership as bytes: as entries of the log, and as what a node asks of the leader.
//!
//! raft-rs reads the outline of such an entry when it is proposed, so an entry of ours is its `ConfChangeV2`, field for
//! field, with our own change as the context. What is applied comes from the context alone, and is decoded here: bytes of a
//! peer never reach raft's own parser.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message as _;
use quorumor_core::NodeId;
use raft::eraftpb;

use super::CodecError;
use super::proposal::WriteId;
use crate::conf_change::{MemberChange, Step};

/// The longest entry of this kind: an address, a few numbers and room to spare.
pub(crate) const CHANGE_BYTES_MAX: usize = 1_024;

/// What an entry that changes the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeEntry {
    /// The joint configuration ends. Raft proposes it by itself, as an entry without data.
    Leave,
    /// A member is added, promoted or removed.
    Change {
        /// Who asked for it.
        id: WriteId,
        /// What.
        change: MemberChange,
    },
}

/// raft-rs' `ConfChangeV2`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireConfChange {
    #[prost(int32, tag = "1")]
    transition: i32,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<WireStep>,
    #[prost(bytes = "bytes", tag = "3")]
    context: Bytes,
}

/// raft-rs' `ConfChangeSingle`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireStep {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    node: u64,
}

/// The context of ours.
#[derive(Clone, PartialEq, prost::Message)]
struct WireContext {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    boot_nonce: u64,
    #[prost(uint64, tag = "3")]
    counter: u64,
    #[prost(message, optional, tag = "4")]
    change: Option<WireChange>,
}

/// A change, in entries and in what is asked of the leader.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireChange {
    #[prost(oneof = "WireAct", tags = "1, 2, 3")]
    act: Option<WireAct>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum WireAct {
    #[prost(message, tag = "1")]
    AddLearner(WireAdd),
    #[prost(message, tag = "2")]
    Promote(WirePromote),
    #[prost(uint64, tag = "3")]
    Remove(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAdd {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(string, tag = "2")]
    peer_address: String,
    #[prost(bool, tag = "3")]
    promote: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WirePromote {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, optional, tag = "2")]
    replacing: Option<u64>,
}

impl WireChange {
    pub(crate) fn new(change: &MemberChange) -> Self {
        let act = match change {
            MemberChange::AddLearner {
                node,
                peer_address,
                promote,
            } => WireAct::AddLearner(WireAdd {
                node: node.as_u64(),
                peer_address: peer_address.to_string(),
                promote: *promote,
            }),
            MemberChange::Promote { node, replacing } => WireAct::Promote(WirePromote {
                node: node.as_u64(),
                replacing: replacing.map(NodeId::as_u64),
            }),
            MemberChange::Remove { node } => WireAct::Remove(node.as_u64()),
        };
        Self { act: Some(act) }
    }

    pub(crate) fn into_change(self) -> Result<MemberChange, CodecError> {
        Ok(match self.act.ok_or(UNKNOWN)? {
            WireAct::AddLearner(add) => MemberChange::AddLearner {
                node: NodeId::try_from(add.node)?,
                peer_address: address(&add.peer_address)?,
                promote: add.promote,
            },
            WireAct::Promote(promote) => MemberChange::Promote {
                node: NodeId::try_from(promote.node)?,
                replacing: promote.replacing.map(NodeId::try_from).transpose()?,
            },
            WireAct::Remove(node) => MemberChange::Remove {
                node: NodeId::try_from(node)?,
            },
        })
    }
}

const UNKNOWN: CodecError = CodecError::Invalid("a change of membership of an unknown kind");

fn address(text: &str) -> Result<SocketAddr, CodecError> {
    text.parse()
        .map_err(|_| CodecError::Invalid("a member's peer address is none"))
}

/// A change as an entry's data.
pub(crate) fn encode_change(id: WriteId, change: &MemberChange) -> Bytes {
    let context = WireContext {
        node: id.node.as_u64(),
        boot_nonce: id.boot_nonce,
        counter: id.counter,
        change: Some(WireChange::new(change)),
    };
    let raft = change.to_raft();
    let wire = WireConfChange {
        transition: raft.get_transition() as i32,
        changes: change.steps().iter().map(wire_step).collect(),
        context: context.encode_to_vec().into(),
    };
    wire.encode_to_vec().into()
}

fn wire_step(step: &Step) -> WireStep {
    WireStep {
        kind: step.kind as i32,
        node: step.node.as_u64(),
    }
}

/// What an entry's data says.
pub(crate) fn decode_change(data: Bytes) -> Result<ChangeEntry, CodecError> {
    if data.len() > CHANGE_BYTES_MAX {
        return Err(CodecError::Invalid(
            "a change of membership that is too long",
        ));
    }
    let wire = WireConfChange::decode(data)?;
    if wire.changes.is_empty() && wire.context.is_empty() {
        return Ok(ChangeEntry::Leave);
    }
    let context = WireContext::decode(wire.context)?;
    Ok(ChangeEntry::Change {
        id: WriteId {
            node: NodeId::try_from(context.node)?,
            boot_nonce: context.boot_nonce,
            counter: context.counter,
        },
        change: context.change.ok_or(UNKNOWN)?.into_change()?,
    })
}

/// What raft takes for the end of a joint configuration.
pub(crate) fn leave_joint() -> eraftpb::ConfChangeV2 {
    eraftpb::ConfChangeV2::default()
}

/// A question to the leader about membership or leadership. It carries the leader's term as its sender knows it, so that a
/// copy that comes late means nothing to a later leader.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) boot_nonce: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) counter: u64,
    /// A change of membership; otherwise the lead is to be handed over.
    #[prost(message, optional, tag = "4")]
    pub(crate) change: Option<WireChange>,
    /// For a removal: even if what stays has no majority in contact.
    #[prost(bool, tag = "5")]
    pub(crate) allow_quorum_loss: bool,
    /// For handing over: to whom, if the asker cares.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) hand_to: Option<u64>,
}

/// What the leader said to an [`Ask`] at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Word {
    /// It isn't the leader (any more).
    NotLeader = 0,
    /// It doesn't do it, for the reason that goes with it.
    Refused = 1,
    /// It is so already.
    Already = 2,
    /// It hears no majority.
    NoQuorum = 3,
    /// Its disk is full.
    DiskFull = 4,
    /// Another change is under way; this one may be asked again.
    Busy = 5,
}

/// The leader's word on an [`Ask`] that doesn't come to anything.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Told {
    #[prost(uint64, tag = "1")]
    pub(crate) boot_nonce: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) counter: u64,
    #[prost(enumeration = "Word", tag = "3")]
    pub(crate) word: i32,
    #[prost(string, tag = "4")]
    pub(crate) why: String,
}

/// A member's word to a node that it was removed.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Removed {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    fn changes() -> Vec<MemberChange> {
        let peer_address = "[::1]:7000".parse().unwrap();
        vec![
            MemberChange::AddLearner {
                node: id(4),
                peer_address,
                promote: true,
            },
            MemberChange::Promote {
                node: id(4),
                replacing: Some(id(1)),
            },
            MemberChange::Promote {
                node: id(4),
                replacing: None,
            },
            MemberChange::Remove { node: id(9) },
        ]
    }

    #[test]
    fn an_entry_says_what_was_asked_and_an_empty_one_leaves() {
        let asker = WriteId {
            node: id(2),
            boot_nonce: 77,
            counter: 5,
        };
        for change in changes() {
            let data = encode_change(asker, &change);
            assert!(data.len() <= CHANGE_BYTES_MAX);
            let entry = ChangeEntry::Change { id: asker, change };
            assert_eq!(decode_change(data), Ok(entry));
        }
        assert_eq!(decode_change(Bytes::new()), Ok(ChangeEntry::Leave));
    }

    #[test]
    fn bytes_that_are_no_change_are_refused() {
        let long = Bytes::from(vec![0; CHANGE_BYTES_MAX + 1]);
        assert!(decode_change(long).is_err());
        assert!(decode_change(Bytes::from_static(b"\x12\x02\x10\x04")).is_err());
        for byte in 0..=255 {
            let _ = decode_change(Bytes::from(vec![byte; 7]));
        }
    }
}
