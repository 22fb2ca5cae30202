//! Versions: revisions in strong mode; dots, stamps and version vectors in eventual mode.

use std::fmt;

use bytes::Bytes;
use imbl::OrdMap;

use crate::error::Error;
use crate::id::{LogId, NodeId, Revision, Seq};
use crate::limits::TOKEN_ROWS_MAX;
use crate::wire::{put_vector, take_vector};

/// One write of eventual mode: the writer, its log, and the place in that log. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The node that took the write.
    pub writer: NodeId,
    /// Which of that node's logs.
    pub log_id: LogId,
    /// The place in the log, from 1.
    pub seq: Seq,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}.{}", self.writer, self.log_id.as_u64(), self.seq)
    }
}

/// A hybrid logical clock reading (Kulkarni et al. 2014): 48 bits of wall milliseconds, 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// From the packed form, as on the wire.
    #[must_use]
    pub const fn from_u64(packed: u64) -> Self {
        Self(packed)
    }

    /// From a wall clock reading, counter 0.
    #[must_use]
    pub const fn from_wall_ms(wall_ms: u64) -> Self {
        Self(wall_ms << 16)
    }

    /// The packed form. Its order is the order of stamps.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The wall part, milliseconds since the Unix epoch.
    #[must_use]
    pub const fn wall_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The smallest stamp above this one; carries from the counter into the wall part.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.0 & 0xffff)
    }
}

/// Which writes are known: for each writer's log the highest contiguous place. A clone is O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionVector(OrdMap<(NodeId, LogId), Seq>);

impl VersionVector {
    /// Knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The highest contiguous place known of one log; zero if none.
    #[must_use]
    pub fn seq(&self, writer: NodeId, log_id: LogId) -> Seq {
        self.0.get(&(writer, log_id)).copied().unwrap_or_default()
    }

    /// Whether this write is known.
    #[must_use]
    pub fn covers_dot(&self, dot: Dot) -> bool {
        self.seq(dot.writer, dot.log_id) >= dot.seq
    }

    /// Whether everything that `other` knows is known here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|((writer, log_id), seq)| self.seq(*writer, *log_id) >= *seq)
    }

    /// Raises one row to at least `seq`. A zero leaves no row.
    pub fn raise(&mut self, writer: NodeId, log_id: LogId, seq: Seq) {
        if self.seq(writer, log_id) < seq {
            self.0.insert((writer, log_id), seq);
        }
    }

    /// Raises the row of this write to it.
    pub fn add_dot(&mut self, dot: Dot) {
        self.raise(dot.writer, dot.log_id, dot.seq);
    }

    /// The least upper bound, in place: knows what either knew.
    pub fn merge(&mut self, other: &Self) {
        for (writer, log_id, seq) in other.rows() {
            self.raise(writer, log_id, seq);
        }
    }

    /// The rows in order of writer and log.
    pub fn rows(&self) -> impl Iterator<Item = (NodeId, LogId, Seq)> + '_ {
        self.0
            .iter()
            .map(|((writer, log_id), seq)| (*writer, *log_id, *seq))
    }

    /// The vector as bytes, for contexts that clients carry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        put_vector(&mut out, self);
        out.into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// `InvalidArgument` if the bytes are no vector, or one over more logs than [`TOKEN_ROWS_MAX`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Error> {
        take_vector(&mut bytes, TOKEN_ROWS_MAX)
            .filter(|_| bytes.is_empty())
            .ok_or_else(|| Error::invalid("context", "the context is damaged or is none"))
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut vector = Self::new();
        for dot in dots {
            vector.add_dot(dot);
        }
        vector
    }
}

/// Which write an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// As in etcd.
    Strong {
        /// The revision that made the key (again).
        create: Revision,
        /// The revision that wrote this value.
        modify: Revision,
        /// Writes since the key was made, from 1.
        count: u64,
    },
    /// A dotted version.
    Eventual {
        /// The write itself.
        dot: Dot,
        /// Its stored stamp, which orders it among concurrent writes and nothing else.
        stamp: Stamp,
        /// Every write of this key that a reader of this entry has seen. Sent back with a put, it says exactly which
        /// values the put replaces.
        context: VersionVector,
        /// How many concurrent values the key holds, this one included.
        siblings: u32,
    },
}

/// How far a state has come; what a session token demands and a view offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Every write up to this revision.
    Strong(Revision),
    /// Every write that the vector covers.
    Eventual(VersionVector),
}

impl Position {
    /// Whether a state at this position includes all of `needed`. Positions of different modes never cover each other.
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        match (self, needed) {
            (Self::Strong(have), Self::Strong(need)) => have >= need,
            (Self::Eventual(have), Self::Eventual(need)) => have.covers(need),
            (Self::Strong(_), Self::Eventual(_)) | (Self::Eventual(_), Self::Strong(_)) => false,
        }
    }

    /// Raises this position to include `other`. One of another mode changes nothing.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Strong(have), Self::Strong(more)) => *have = (*have).max(*more),
            (Self::Eventual(have), Self::Eventual(more)) => have.merge(more),
            (Self::Strong(_), Self::Eventual(_)) | (Self::Eventual(_), Self::Strong(_)) => {}
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strong(revision) => write!(f, "revision {revision}"),
            Self::Eventual(vector) => {
                f.write_str("vector {")?;
                for (i, (writer, log_id, seq)) in vector.rows().enumerate() {
                    let gap = if i == 0 { "" } else { ", " };
                    write!(f, "{gap}{writer}.{:x}:{seq}", log_id.as_u64())?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
