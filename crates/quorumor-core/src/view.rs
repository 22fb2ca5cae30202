//! What readers see: an immutable map, its position, and what the node believes about its cluster.

use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, Vector};

use crate::entry::Entry;
use crate::error::{Error, LeaderHint};
use crate::history::History;
use crate::id::{
    ClusterId, DataEpoch, Generation, Incarnation, LeaseId, LogIndex, Mode, NodeId, Revision,
    StoreId, Term,
};
use crate::key::{Key, KeyRange};
use crate::lease::Lease;
use crate::receipt::{Durability, MemberCounts};
use crate::time::{LogTime, Mono};
use crate::value::Value;
use crate::version::{Dot, Position, Stamp, Version};

/// A state at one position. A clone is O(1), and no later write changes it.
#[derive(Clone, Debug)]
pub struct View {
    /// The live entries.
    pub entries: OrdMap<Key, Arc<Entry>>,
    /// How far this state has come.
    pub position: Position,
    /// What the node believes about itself and its cluster.
    pub status: Arc<Status>,
    /// Past revisions, as far as they are kept. Empty in eventual mode.
    pub history: History,
    /// The live leases.
    pub leases: OrdMap<LeaseId, Arc<Lease>>,
    /// Strong: log time, as this node knows it; never ahead of the leader's. Eventual: this node's own monotonic time, by which
    /// the leases that it owns expire.
    pub log_time: LogTime,
    /// Eventual: the last writes that lost to concurrent ones at this node. Empty in strong mode.
    pub conflicts: Conflicts,
}

/// The last conflicts, oldest first, and how many there were since the data began. A clone is O(1).
#[derive(Clone, Debug, Default)]
pub struct Conflicts {
    /// Distinct discarded writes since the data began, those beyond the list included.
    pub count: u64,
    /// The last of them.
    pub listed: Vector<Arc<Conflict>>,
}

/// A write that merging discarded in favour of a concurrent one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its place in this node's count, from 1.
    pub number: u64,
    /// The key.
    pub key: Key,
    /// The discarded write.
    pub loser: Dot,
    /// Its stored stamp.
    pub loser_stamp: Stamp,
    /// What it wrote; `None` if it was a delete, or if only its dot is known here.
    pub value: Option<Value>,
    /// The write that won over it at that moment.
    pub winner: Dot,
    /// This node's wall clock at that moment, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
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
    /// Strong: the members, by id. Eventual: empty, since there may be thousands; [`Command::Members`](crate::Command) lists
    /// them.
    pub members: Arc<[Member]>,
    /// What an operator must look at. Empty on a healthy node.
    pub alarms: Arc<[Alarm]>,
}

/// What an operator must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// This node's state differs from the leader's at the same place of the log: one of the two is corrupt.
    Diverged {
        /// The place.
        index: LogIndex,
    },
    /// The disk is full: writes are refused until there is space.
    DiskFull,
    /// Tombstones can't be collected because this member hasn't confirmed that it has them.
    CollectionHeldBack {
        /// The member.
        node: NodeId,
    },
    /// Another node uses this node's id: writes are refused until one of the two is gone.
    DuplicateId {
        /// Where the other is.
        address: SocketAddr,
    },
}

impl Alarm {
    /// Every word that [`Self::as_str`] gives.
    pub const KINDS: [&'static str; 4] = [
        "diverged",
        "disk_full",
        "collection_held_back",
        "duplicate_id",
    ];

    /// The alarm's word, for metrics and listings.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Diverged { .. } => "diverged",
            Self::DiskFull => "disk_full",
            Self::CollectionHeldBack { .. } => "collection_held_back",
            Self::DuplicateId { .. } => "duplicate_id",
        }
    }
}

/// A read index that a leader confirmed with a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// When this node asked: whatever was acknowledged before is at or below the index.
    pub asked_at: Mono,
    /// The index.
    pub index: LogIndex,
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
        /// The last read index that was confirmed to this node: the proof behind bounded reads.
        confirmed: Option<Confirmed>,
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
        /// What a write that this node acknowledges survives.
        durability: Durability,
        /// Who keeps tombstones from being collected, and for how long in milliseconds; `None` if nobody does.
        held_back_by: Option<(NodeId, u64)>,
        /// Whether this node takes itself for the one that is cut off: it then reaps nobody and collects nothing.
        isolated: bool,
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
    /// Strong: whether this learner becomes a voter by itself once it has caught up.
    pub promote: bool,
    /// Its data directory; `None` if it isn't known.
    pub store: Option<StoreId>,
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

    /// The entry of a key as of a past revision.
    ///
    /// # Errors
    /// `HistoryGone` below the oldest revision left, `FutureRevision` above the newest.
    pub fn entry_at(&self, key: &Key, revision: Revision) -> Result<Option<Arc<Entry>>, Error> {
        self.check_revision(revision)?;
        Ok(self.history.entry_at(key, self.entries.get(key), revision))
    }

    /// The entries in a range as of a past revision, in key order, from the first key above `after` if one is given.
    ///
    /// # Errors
    /// `HistoryGone` below the oldest revision left, `FutureRevision` above the newest.
    pub fn range_at<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a Key>,
        revision: Revision,
    ) -> Result<impl Iterator<Item = Arc<Entry>> + use<'a>, Error> {
        self.check_revision(revision)?;
        let mut live = self.range(range, after).peekable();
        let mut gone = self.history.deleted(range, after).peekable();
        let keys = std::iter::from_fn(move || match (live.peek(), gone.peek()) {
            (Some(entry), Some(deleted)) if entry.key.as_str() > deleted.as_str() => {
                gone.next().map(|key| (key, None))
            }
            (None, Some(_)) => gone.next().map(|key| (key, None)),
            (Some(_), _) => live.next().map(|entry| (&entry.key, Some(entry))),
            (None, None) => None,
        });
        Ok(keys.filter_map(move |(key, current)| self.history.entry_at(key, current, revision)))
    }

    fn check_revision(&self, asked: Revision) -> Result<(), Error> {
        let current = self.revision().unwrap_or_default();
        if asked > current {
            return Err(Error::FutureRevision { asked, current });
        }
        let oldest = self.history.oldest();
        if asked < oldest {
            return Err(Error::HistoryGone { oldest });
        }
        Ok(())
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
            hash.number(entry.lease.map_or(0, LeaseId::as_u64));
            for sibling in entry.siblings.iter().flat_map(|siblings| siblings.iter()) {
                hash.number(sibling.dot.writer.as_u64());
                hash.number(sibling.dot.log_id.as_u64());
                hash.number(sibling.dot.seq.as_u64());
            }
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
                    // How many are remembered as lost differs for a while after a collection, and nobody sees it.
                    siblings: _,
                    context: _,
                } => {
                    hash.number(dot.writer.as_u64());
                    hash.number(dot.log_id.as_u64());
                    hash.number(dot.seq.as_u64());
                    hash.number(stamp.as_u64());
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
