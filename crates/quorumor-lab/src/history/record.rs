//! The lines of a history: plain serde types, independent of the wire and of the product's own types.
//!
//! Not the checkers' model. Written by [`super::HistoryWriter`], read by [`super::History`]. Every set is closed:
//! an unknown variant or field is an error that names the line, never skipped.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::observed::{
    DigestPoll, Event, FaultRecord, FenceRecord, FinalEntry, FinalState, Lag, WatchRecord,
};
use crate::scenario::Scenario;

/// The `format` of every header.
pub const FORMAT_NAME: &str = "quorumor-history";
/// The version of this format; another version is refused by the reader.
pub const FORMAT_VERSION: u32 = 3;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One operation of the history, from its invocation to its return.
    OpId, u64, "op "
);
id!(
    /// One logical process: it has at most one operation outstanding, and is retired after an unknown outcome.
    ProcessId, u64, "process "
);
id!(
    /// One simulated user, who may run several processes at once.
    ClientId, u32, "client "
);
id!(
    /// One session: a chain of operations that hand the session token on.
    SessionId, u64, "session "
);
id!(
    /// One node of the cluster, by its configured id.
    NodeId, u64, "node "
);

/// Which of the two consistency modes was running.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Mode {
    /// Raft-replicated.
    #[default]
    Strong,
    /// Gossip.
    Eventual,
}

impl Mode {
    /// The word that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
        }
    }
}

/// How strong an answer is, from strongest to weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As if there were one copy.
    Linearizable,
    /// This node's view, proven to be no older than a bound that the request named.
    Bounded,
    /// This node's view, never older than the caller's session token.
    Local,
}

/// Where the run took place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum World {
    /// Child processes on loopback, real time.
    #[default]
    Cluster,
    /// The simulator, virtual time.
    Simulated,
}

/// Whose cluster was running.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// Ours.
    #[default]
    Quorumor,
    /// etcd, over its v3 gRPC.
    Etcd,
    /// Another, whose history was brought here to be checked.
    Other,
}

/// The first line: what was run, on what, from which seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`FORMAT_NAME`].
    pub format: String,
    /// Always [`FORMAT_VERSION`].
    pub version: u32,
    /// Whose cluster was running.
    #[serde(default)]
    pub system: System,
    /// The mode that was running; of another system the one whose promises it is judged by.
    #[serde(default)]
    pub mode: Mode,
    /// Where it was running.
    #[serde(default)]
    pub world: World,
    /// The whole scenario, seed included; of a history from elsewhere an empty one.
    #[serde(default)]
    pub scenario: Scenario,
    /// When the workload's time zero was, on the lab's clock. Every `due` is at or after it.
    #[serde(default)]
    pub start_us: u64,
    /// What the nodes were told about syncing their log, for people.
    #[serde(default)]
    pub fsync: String,
    /// Version and commit of the build under test.
    #[serde(default)]
    pub build: String,
    /// Further settings of the nodes, for people.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

impl Header {
    /// A header of this format for one run; `fsync`, `build` and `config` are empty.
    pub fn new(mode: Mode, world: World, scenario: Scenario, start_us: u64) -> Self {
        Self {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            system: System::Quorumor,
            mode,
            world,
            scenario,
            start_us,
            fsync: String::new(),
            build: String::new(),
            config: BTreeMap::new(),
        }
    }
}

/// A compare-and-set by value: the lab's values are unique, so a value names exactly one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cas {
    /// The value that must be there; none = the key must be absent.
    pub expected: Option<String>,
    /// The value to set.
    pub value: String,
}

/// What an operation asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Read the key.
    Get,
    /// Write this value.
    Put(String),
    /// Remove the key.
    Delete,
    /// Write if the key holds what is expected.
    Cas(Cas),
    /// Read every key that begins with the operation's key.
    List,
    /// Open a lease; the key is empty.
    Grant {
        /// How long it lives without a keep-alive.
        ttl_ms: u64,
    },
    /// Renew [`Invoke::lease`]; the key is empty.
    KeepAlive,
    /// End [`Invoke::lease`] and with it every key that is bound to it; the key is empty.
    Revoke,
}

impl Action {
    /// The value it would write, if it writes one.
    pub fn written(&self) -> Option<&str> {
        match self {
            Self::Get
            | Self::Delete
            | Self::List
            | Self::Grant { .. }
            | Self::KeepAlive
            | Self::Revoke => None,
            Self::Put(value) => Some(value),
            Self::Cas(cas) => Some(&cas.value),
        }
    }

    /// True if it can change its own key. What a lease's end removes is not its own.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Put(_) | Self::Delete | Self::Cas(_) => true,
            Self::Get | Self::List | Self::Grant { .. } | Self::KeepAlive | Self::Revoke => false,
        }
    }

    /// True if it only reads.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Get | Self::List => true,
            Self::Put(_)
            | Self::Delete
            | Self::Cas(_)
            | Self::Grant { .. }
            | Self::KeepAlive
            | Self::Revoke => false,
        }
    }
}

/// An operation begins. Written before the request is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoke {
    /// Unique in the history.
    pub op: OpId,
    /// Who asks; one outstanding operation at a time.
    pub process: ProcessId,
    /// The user that the process belongs to.
    #[serde(default)]
    pub client: ClientId,
    /// The chain of session tokens that the operation belongs to.
    #[serde(default)]
    pub session: SessionId,
    /// The node dialled.
    #[serde(default)]
    pub node: NodeId,
    /// The key.
    #[serde(default)]
    pub key: String,
    /// What is asked for.
    pub action: Action,
    /// The lease that a write binds its entry to, or that is renewed or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The level asked; none = the mode's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Whether a weaker answer was allowed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_degrade: bool,
    /// The session token sent, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The idempotency pair sent, if any: client id and sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<(String, u64)>,
    /// The request id sent.
    #[serde(default)]
    pub request_id: String,
    /// When it was meant to start.
    #[serde(default)]
    pub due_us: u64,
    /// When it did start.
    pub at_us: u64,
    /// The caller's deadline, counted from `at_us`.
    #[serde(default)]
    pub timeout_us: u64,
}

impl Invoke {
    /// The lease that it concerns, for people.
    pub fn lease(&self) -> &str {
        self.lease.as_deref().unwrap_or("none")
    }
}

/// How an operation ended, for a judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered. An absent key and a lost compare are answers.
    Ok,
    /// Certainly not applied.
    Fail,
    /// Nobody knows: a timeout, a broken connection after sending.
    Unknown,
}

/// Why an operation did not end in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The node answered with a typed refusal.
    Refused,
    /// The node could not be reached at all.
    Unreachable,
    /// The connection broke after the request was sent.
    Broken,
    /// The deadline passed.
    TimedOut,
    /// Never sent: the client's own bound on operations in flight was reached.
    HeldBack,
}

/// The identity of one eventual write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dot {
    /// The node that coordinated the write.
    pub writer: u64,
    /// That node's log.
    pub log_id: u64,
    /// Its place in the log.
    pub seq: u64,
}

/// The version of one entry (for a delete: of its tombstone).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Version {
    /// The revision that wrote the entry.
    Strong {
        /// Its modify revision.
        revision: u64,
    },
    /// The dot that wrote the entry.
    Eventual {
        /// Who wrote it.
        dot: Dot,
        /// The stored hybrid-clock stamp, as one ordered number.
        stamp: u64,
        /// What the write had seen, if it is known: for each writer and log, everything up to `seq`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<Vec<Dot>>,
    },
}

/// Where the answering node stood (strong): its receipt's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The revision of the store that answered.
    pub revision: u64,
    /// Its term.
    pub term: u64,
    /// The leader it knew, 0 = none.
    pub leader: u64,
}

/// On what the receipt's staleness rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StalenessBasis {
    /// It is exactly this.
    Exact,
    /// It is at most this, by proof.
    Proven,
    /// A guess.
    Estimated,
    /// No idea.
    Unknown,
}

/// How old the receipt said that the answer can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staleness {
    /// The bound.
    pub bound_us: u64,
    /// What it rests on.
    pub basis: StalenessBasis,
}

/// How many members the answering node saw in each state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberCounts {
    /// Alive, itself included.
    pub alive: u32,
    /// Suspected.
    pub suspect: u32,
    /// Held to be down.
    pub down: u32,
}

/// An operation ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Return {
    /// Which one.
    pub op: OpId,
    /// When.
    pub at_us: u64,
    /// How, for a judge.
    pub outcome: Outcome,
    /// Why, unless it is ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The stable reason of the typed error, or the client's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The level of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub got: Option<Level>,
    /// Whether the answer is weaker than what was asked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub degraded: bool,
    /// A compare-and-set: whether it was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
    /// A delete: whether there was an entry to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<bool>,
    /// A read or a lost compare: the entry's values, the winner first; empty = absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// The version of the entry read or written (of the tombstone, where a node tells it). A delete that found nothing leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// A list: every entry found, by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<FinalEntry>,
    /// A grant: the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// A grant or a keep-alive: how long the lease lives from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Strong: where the answering node stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The receipt's staleness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness: Option<Staleness>,
    /// The receipt's member counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<MemberCounts>,
    /// The next session token, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The node that answered, if the answer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// How many times it was sent: more than one only after a redirect that certainly was not applied.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub attempts: u32,
}

impl Return {
    /// A bare return; the caller fills in what the answer carried.
    pub fn new(op: OpId, at_us: u64, outcome: Outcome) -> Self {
        Self {
            op,
            at_us,
            outcome,
            cause: None,
            reason: None,
            got: None,
            degraded: false,
            succeeded: None,
            found: None,
            values: Vec::new(),
            version: None,
            entries: Vec::new(),
            lease: None,
            ttl_ms: None,
            position: None,
            staleness: None,
            members: None,
            token: None,
            node: None,
            attempts: 1,
        }
    }

    /// True if it says that a lease isn't there.
    pub fn is_lease_gone(&self) -> bool {
        self.reason.as_deref() == Some("LEASE_NOT_FOUND")
    }

    /// True if it answers a delete that found no entry and left no tombstone: it only saw that the key was absent.
    pub fn deleted_nothing(&self) -> bool {
        self.found == Some(false) && self.version.is_none()
    }
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footer {
    /// Lines before this one, the header included.
    pub lines: u64,
    /// Invocations among them.
    pub invoked: u64,
    /// Returns among them.
    pub returned: u64,
    /// BLAKE3 of every byte before this line, in hexadecimal; left out (by whoever brings a history from elsewhere) it isn't checked.
    #[serde(default)]
    pub hash: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first.
    Header(Box<Header>),
    /// An operation begins.
    Inv(Invoke),
    /// An operation ends.
    Ret(Return),
    /// A step of a fault.
    Fault(FaultRecord),
    /// Something observed.
    Event(Event),
    /// A step of a watch.
    Watch(WatchRecord),
    /// A write to the resource that a lock guards.
    Fence(FenceRecord),
    /// A digest polled.
    Digest(DigestPoll),
    /// What a node holds at the end.
    Final(FinalState),
    /// The lab's own lag.
    Lag(Lag),
    /// The last.
    Footer(Footer),
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn one() -> u32 {
    1
}

fn is_one(n: &u32) -> bool {
    *n == 1
}
