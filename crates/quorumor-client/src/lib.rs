//! The Rust client: sessions, retries by certainty, going to the leader.
//!
//! One [`Client`] speaks to a cluster in either consistency mode, with the same calls. It is cheap to clone, and its
//! clones share connections and session. What it promises:
//!
//! - **Every answer carries a [`Receipt`]**: which guarantee was asked and given, from which position, how stale it
//!   can be. Errors carry one too, wherever a node made them.
//! - **A session by default.** The token of each receipt goes with the next request, so that the client reads its own
//!   writes and never goes back, at any node. Where the data were restored or replaced the next call says so (`EPOCH_CHANGED`), and
//!   the session begins anew; leases, registrations and watches go on.
//! - **A write is never applied twice by a retry.** Retries follow [`ClientError::certainty`]: what was *not applied* may be
//!   tried again, elsewhere. In strong mode writes are numbered in a session of the cluster, which is opened before the first
//!   one; so a write whose outcome is *unknown* is sent again, under its number, until its deadline. If the session is gone by
//!   then the caller is told (`SESSION_EXPIRED`, *unknown*), and the next write opens another. Without numbers (eventual mode,
//!   [`ClientBuilder::exactly_once`], [`RetryPolicy::none`]) a write of unknown outcome is returned as such at once.
//! - **No call multiplies an outage.** Retries are bounded by a [`budget`], endpoints that fail too often are left alone
//!   by a [`breaker`], no try is begun without time for it, and each try tells the node how long its caller waits.
//! - **Nothing weaker in silence.** A read falls back on what was seen last ([`memory`]) only if the call allows it, and
//!   its receipt says so.
//! - **Straight to the leader** (strong mode): it learns from receipts and hints which of its endpoints leads.
//!
//! ```no_run
//! use quorumor_client::{Client, Level, Mode};
//!
//! # async fn example() -> Result<(), quorumor_client::ClientError> {
//! let client = Client::builder()
//!     .endpoints(["127.0.0.1:7400", "127.0.0.1:7401"])
//!     .mode(Mode::Strong)
//!     .connect()?;
//! client.put("greeting", "hello").await?;
//! let answer = client.get("greeting").await?;
//! assert_eq!(answer.receipt.got, Level::Linearizable);
//! # Ok(())
//! # }
//! ```
//!
//! Services: [`registered`] (register an instance and keep it), [`discover`], [`service_watch`],
//! [`balance`] (a tonic channel over a service's instances).
//!
//! Beyond keys: [`txn`] (transactions), [`lease`], [`lock`] and [`election`] (recipes, with what they can't do), [`watch`],
//! [`pipeline`] (many operations over one stream), [`cluster`] (members, history, backups), [`conflicts`] and [`digest`] (what
//! eventual mode discarded, and whether nodes hold the same), [`migrate`] (all data from one mode to the other).
//!
//! Reading order: [`client`], `kv` and [`list`] (the calls), [`answer`] (what they give), [`error`] (what can go wrong, and
//! whether the write happened), `call`, `course` and [`retry`] (how a call is carried out), `exactly_once` and `numbers` (the
//! session and its numbers), `resume` (how watches outlive connections), `registered` and its heart, then the rest. The crate's
//! `examples` compile with its tests.

pub mod answer;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod client;
pub mod cluster;
pub mod conflicts;
pub mod describe;
pub mod digest;
pub mod discover;
pub mod election;
pub mod error;
pub mod hedge;
pub mod instance;
pub mod lease;
pub mod list;
pub mod lock;
pub mod memory;
pub mod migrate;
pub mod options;
pub mod pipeline;
pub mod registered;
pub mod retry;
pub mod service_watch;
pub mod tls;
pub mod txn;
mod usual;
pub mod watch;

mod call;
mod clock;
mod course;
mod endpoints;
mod exactly_once;
mod kv;
mod numbers;
mod queue;
mod resume;
mod session;
mod wire;

pub use answer::{
    BatchAnswer, ChangeOrder, CompareAnswer, DeleteAnswer, DeleteRangeAnswer, GetAnswer,
    LeaseGranted, LeaseInfo, LeaseLeft, LeaseListAnswer, LeaseRevoked, ListAnswer, PutAnswer,
    Receipt, SessionAnswer, SessionClosed, TxnAnswer,
};
pub use balance::{
    BalanceOptions, BalanceState, BalancedChannel, InstanceChange, InstanceChanges, WhenEmpty,
};
pub use breaker::{BreakerPolicy, BreakerReport, BreakerState, CallClass};
pub use budget::RetryBudget;
pub use client::Client;
pub use cluster::{
    ClusterChanged, ClusterMember, EpochAdvanced, MembersAnswer, NewMember, SnapshotError,
    SnapshotSaved,
};
pub use conflicts::{Conflict, ConflictsAnswer, ConflictsStep, ConflictsWatch};
pub use describe::{AlarmDescription, Capabilities, Description, MemberDescription, Progress};
pub use digest::{DigestAnswer, DigestKey, DigestKeysAnswer};
pub use discover::{
    DiscoverAnswer, DiscoverQuery, HealthFilter, NodeState, NodesAnswer, ServiceSummary,
    ServicesAnswer, ZoneRule,
};
pub use election::{Leader, Leadership};
pub use error::{CircuitOpen, ClientError, NodeError};
pub use hedge::Hedge;
pub use instance::{
    Check, CheckKind, CheckResult, Health, Instance, InstanceStatus, Registration, ServiceInstance,
};
pub use kv::PutMore;
pub use lease::{Lease, LeaseState, LostReason};
pub use list::{ListPart, ListQuery};
pub use lock::{LockError, LockGuard, LockOptions};
pub use memory::LastKnownLimits;
pub use options::{Bound, CallOptions, ClientBuilder};
pub use pipeline::{Piped, Pipeline};
pub use quorumor_core::{
    Certainty, Compare, CompareTarget, Entry, Expected, Key, KeyRange, LeaseId, Level, Mode,
    Operation, OperationResult, Relation, Revision, Txn, Version,
};
pub use registered::{DeregisterAnswer, RegisterAnswer, Registered, RegistrationState};
pub use retry::RetryPolicy;
pub use service_watch::{
    InstanceName, ServiceChange, ServiceStep, ServiceView, ServiceWatch, ServiceWatchItem,
    ServiceWatchOptions,
};
pub use tls::ClientTls;
pub use txn::{Operations, TxnBuilder};
pub use watch::{ResyncReason, Watch, WatchEvent, WatchItem, WatchOptions, WatchStep};

#[cfg(test)]
mod tests;
