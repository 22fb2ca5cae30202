//! What readers see: an immutable map, its position, and what the node believes about its cluster.

use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::entry::Entry;
use crate::error::LeaderHint;
use crate::id::{
    ClusterId, DataEpoch, Generation, Incarnation, LogIndex, Mode, NodeId, Revision, Term,
};
use crate::key::{Key, KeyRange};
use crate::receipt::MemberCounts;
use crate::time::Mono;
use crate::version::{Position, Version};

/// A state at one position. A clone is O(1), and no later write changes it.
#[derive(Clone, Debug)]
pub struct View {
    /// The live entries.
    pub entries: OrdMap<Key, Arc<Entry>>,
    /// How far this state has come.
    pub position: Position,
    /// What the node believes about itself and its cluster.
    pub status: Arc<Status>,
}

/// What a node believes about itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The mode.
    pub mode: Mode,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The data epoch.
    pub epoch: DataEpoch,
    /// Whether the node can serve.
    pub health: Health,
    /// What the mode knows about its own progress.
    pub role: Role,
    /// Whom this node sees.
    pub counts: MemberCounts,
    /// When others were last heard: strong, the leader; eventual, the least recently heard live member. `None` if
    /// never. A leader is in contact with itself for as long as a quorum confirms it.
    pub contact_at: Option<Mono>,
    /// The members, by id.
    pub members: Arc<[Member]>,
}

/// Whether a node can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It catches up since its start. Local reads may be older than before the restart.
    Starting,
    /// It serves.
    Serving,
    /// It lost acknowledged data and must not go on.
    Damaged {
        /// What was found.
        why: String,
    },
}

/// What the mode knows about its own progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Strong mode.
    Strong {
        /// Raft's term.
        term: Term,
        /// The leader, if one is known.
        leader: Option<LeaderHint>,
        /// Whether this node votes.
        voter: bool,
        /// The highest index known as committed.
        committed: LogIndex,
        /// The highest index applied here.
        applied: LogIndex,
    },
    /// Eventual mode.
    Eventual {
        /// This node's life.
        generation: Generation,
        /// Its refutations in this life.
        incarnation: Incarnation,
        /// Concurrent values that merging discarded here: distinct dots, since the data began.
        conflicts: u64,
        /// Deleted keys that are still remembered.
        tombstones: u64,
    },
}

/// A node as this node believes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// What is believed.
    pub state: MemberState,
    /// Where it talks to peers.
    pub peer_address: Option<SocketAddr>,
    /// Where it serves clients.
    pub client_address: Option<String>,
    /// Strong: whether it votes. Eventual: false.
    pub voter: bool,
    /// Eventual: its life.
    pub generation: Generation,
    /// Eventual: its refutations.
    pub incarnation: Incarnation,
    /// When this node last heard it directly; `None` if never, or if it is this node.
    pub heard_at: Option<Mono>,
}

/// What is believed of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It didn't answer, and may still refute.
    Suspect,
    /// It is held to be dead.
    Down,
    /// It said goodbye.
    Left,
}

impl MemberState {
    /// The state's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

impl View {
    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, key: &Key) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// The entries in a range, in key order, from the first key above `after` if one is given.
    pub fn range<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        let from = match after {
            Some(after) if after.as_str() >= range.start() => Bound::Excluded(after.as_str()),
            Some(_) | None => Bound::Included(range.start()),
        };
        self.entries
            .range::<_, str>((from, Bound::Unbounded))
            .map(|(_, entry)| entry)
            .take_while(|entry| range.contains(&entry.key))
    }

    /// The revision, in strong mode.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        match self.position {
            Position::Strong(revision) => Some(revision),
            Position::Eventual(_) => None,
        }
    }

    /// A hash (FNV-1a, 64 bit) over every live entry and its version. Equal states have equal digests on every node,
    /// whatever order their writes came in. Costs a pass over all entries.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Fnv::new();
        for entry in self.entries.values() {
            hash.sized(entry.key.as_str().as_bytes());
            hash.sized(entry.value.as_bytes());
            match &entry.version {
                Version::Strong {
                    create,
                    modify,
                    count,
                } => {
                    hash.number(create.as_u64());
                    hash.number(modify.as_u64());
                    hash.number(*count);
                }
                Version::Eventual {
                    dot,
                    stamp,
                    siblings,
                    context: _,
                } => {
                    hash.number(dot.writer.as_u64());
                    hash.number(dot.log_id.as_u64());
                    hash.number(dot.seq.as_u64());
                    hash.number(stamp.as_u64());
                    hash.number(u64::from(*siblings));
                }
            }
        }
        hash.0
    }
}

struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes(bytes);
    }
}
