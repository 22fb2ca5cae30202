//! The words and the contract that both consistency modes share.
//!
//! Quorumor keeps the shared state of a cluster in one of two ways: **strong** (a Raft-replicated registry) or
//! **eventual** (a gossip registry). Each is a [`Replica`]: a pure state machine that is given time, requests, bytes
//! from peers and finished writes as arguments, and gives back effects as values. No clock, socket, file, thread or
//! async lives behind that trait, so the code that serves clients is the code that the simulator runs from a seed.
//!
//! Reading order: [`replica`] (the contract), [`request`] and [`reply`] (what can be asked, and what is answered), [`view`] (what readers see),
//! [`receipt`] and [`token`] (what every answer says about itself), [`error`] (what went wrong, and whether the write
//! happened), [`limits`] (every bound, with its sum).
//!
//! # The drain rule
//!
//! Give a replica **one** input, then take outputs until there are none. The order of the outputs is meaningful:
//!
//! ```
//! use quorumor_core::{Input, Now, Output, Replica};
//!
//! fn step(replica: &mut dyn Replica, now: Now, input: Input) -> Vec<Output> {
//!     replica.handle(now, input);
//!     std::iter::from_fn(|| replica.poll_output()).collect()
//! }
//! ```

pub mod entry;
pub mod error;
pub mod history;
pub mod id;
pub mod key;
pub mod lease;
pub mod limits;
pub mod plant;
pub mod receipt;
pub mod replica;
pub mod reply;
pub mod request;
pub mod time;
pub mod token;
pub mod value;
pub mod version;
pub mod view;

mod wire;

pub use entry::{Entry, Sibling};
pub use error::{Certainty, Error, LeaderHint};
pub use history::{History, PastRevision};
pub use id::{
    CallId, ClientId, ClusterId, DataEpoch, Generation, Incarnation, LeaseId, Level, LogId,
    LogIndex, Mode, NodeId, RequestId, Revision, Seq, StoreId, Term,
};
pub use key::{Key, KeyRange};
pub use lease::Lease;
pub use plant::{Plant, Planted};
pub use receipt::{
    Degraded, Durability, MemberCounts, Receipt, Staleness, StalenessBasis, WriteOutcome,
    WritePosition,
};
pub use replica::{
    Change, ChangeEvent, CheckpointSource, Contact, Destination, DiskState, Input, LogRecord,
    Output, Persist, PersistToken, Record, Recovered, Replica, StreamClass, WakeReason,
};
pub use reply::{BackupSource, OperationResult, Reply};
pub use request::{
    Bound, ClientSeq, ClusterAction, Command, Compare, CompareTarget, Expected, LeaseAction,
    Operation, Relation, Request, SessionAction, Txn,
};
pub use time::{LogTime, Mono, Now};
pub use token::{Token, TokenError};
pub use value::Value;
pub use version::{Dot, Position, Stamp, Version, VersionVector};
pub use view::{
    Alarm, Confirmed, Conflict, Conflicts, Health, Member, MemberState, Role, Status, View,
};
