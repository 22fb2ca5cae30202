//! Identifiers and counters, each a type of its own, so that a term can't be passed for an index.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::error::Error;
use crate::limits::{DATA_EPOCH_MAX, REQUEST_ID_BYTES_MAX};

/// A node of the cluster: never zero, never reused for another disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// The id as a number, never zero.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }
}

impl TryFrom<u64> for NodeId {
    type Error = Error;

    fn try_from(id: u64) -> Result<Self, Error> {
        NonZeroU64::new(id)
            .map(Self)
            .ok_or_else(|| Error::invalid("node_id", "a node id is a number from 1 up, not 0"))
    }
}

impl FromStr for NodeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let id: u64 = text.parse().map_err(|_| {
            Error::invalid(
                "node_id",
                format!("a node id is a number from 1 up, not {text:?}"),
            )
        })?;
        Self::try_from(id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The lowest value.
            pub const ZERO: Self = Self(0);

            /// Wraps a number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The plain number.
            #[must_use]
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// The next one up. Saturates, since a counter that came from a wire may be at its end.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A cluster: strong, a hash of its name and founding list; eventual, a hash of its name.
    ClusterId
}
number! {
    /// A data directory, drawn at random when it is made, so that a lost disk can't come back as the old one.
    StoreId
}
number! {
    /// Raft's term.
    Term
}
number! {
    /// A position in Raft's log.
    LogIndex
}
number! {
    /// The count of applied writes in strong mode, as in etcd.
    Revision
}
number! {
    /// The position of a write in its writer's own log (eventual mode), contiguous from 1.
    Seq
}
number! {
    /// A writer's log (eventual mode). Changes only when that log was lost, damaged or not synced at a crash.
    LogId
}
number! {
    /// A member's life (eventual mode): new at each start.
    Generation
}
number! {
    /// A member's refutation counter within one generation (SWIM).
    Incarnation
}
number! {
    /// Changes on restore and on migration; tokens and cursors of another epoch are refused.
    DataEpoch
}
number! {
    /// A client's session for exactly-once writes, given by the cluster when it is opened and never given again.
    ClientId
}
number! {
    /// A lease. Never 0 once granted.
    LeaseId
}
number! {
    /// Ties a reply to its request between one shell and one replica. Never leaves the process.
    CallId
}

impl DataEpoch {
    /// The epoch after raising this one above another, or by one. Never lower; raised again above the same one, no higher; never
    /// beyond [`DATA_EPOCH_MAX`].
    #[must_use]
    pub fn raised(self, above: Option<Self>) -> Self {
        let next = match above {
            None => self.next(),
            Some(above) => above.next().max(self),
        };
        Self(next.0.min(DATA_EPOCH_MAX)).max(self)
    }
}

/// Which consistency model serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Raft-replicated, linearizable.
    Strong,
    /// Gossip, always writable, convergent.
    Eventual,
}

impl Mode {
    /// Both modes, in the order in which people name them.
    pub const ALL: [Self; 2] = [Self::Strong, Self::Eventual];

    /// `strong` or `eventual`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
        }
    }

    /// The strongest read that this mode can give.
    #[must_use]
    pub const fn best_level(self) -> Level {
        match self {
            Self::Strong => Level::Linearizable,
            Self::Eventual => Level::Local,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "strong" => Ok(Self::Strong),
            "eventual" => Ok(Self::Eventual),
            _ => Err(Error::invalid(
                "mode",
                format!("a mode is `strong` or `eventual`, not {text:?}"),
            )),
        }
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// This node's view, never older than the caller's session token.
    Local,
    /// This node's view, once it has everything that so many other members had when they were asked. Eventual mode only.
    Sampled,
    /// This node's view if it is proven to be no older than a bound that the request names. Strong mode only.
    Bounded,
    /// At least every write that was acknowledged anywhere before the read began.
    Linearizable,
}

impl Level {
    /// `local`, `sampled`, `bounded` or `linearizable`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Sampled => "sampled",
            Self::Bounded => "bounded",
            Self::Linearizable => "linearizable",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "local" => Ok(Self::Local),
            "sampled" => Ok(Self::Sampled),
            "bounded" => Ok(Self::Bounded),
            "linearizable" => Ok(Self::Linearizable),
            _ => Err(Error::invalid(
                "level",
                format!("a level is `linearizable`, `bounded`, `sampled` or `local`, not {text:?}"),
            )),
        }
    }
}

/// A caller's name for one request, carried into logs for tracing. At most [`REQUEST_ID_BYTES_MAX`] printable ASCII
/// bytes; empty when the caller gave none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        if text.len() > REQUEST_ID_BYTES_MAX {
            return Err(Error::too_large(
                "request_id_bytes_max",
                REQUEST_ID_BYTES_MAX,
                text.len(),
            ));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(
                "request_id",
                "a request id is printable ASCII without spaces",
            ));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
