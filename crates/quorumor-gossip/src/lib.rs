//! Eventual mode: a sans-IO replica of SWIM, rumors and anti-entropy.
//!
//! Every node takes writes, alone if it must. A write enters its node's own log as a **dot** (writer, log, sequence), is
//! synced there, and spreads: as a **rumor** at once, and by **anti-entropy** for certain. Concurrent writes to one key
//! are kept apart by what each had seen (its **context**); the highest stored **stamp** wins, and the **ledger** counts
//! who lost. Members watch each other by **probes**; one that doesn't answer is suspected, and may refute.
//!
//! Reading order: `replica.rs` (dispatch), `requests.rs` (what callers ask), `register.rs` (how writes merge),
//! `store.rs`, `spread.rs` (rumors), `anti_entropy.rs` (repair), `transfer.rs` (whole states),
//! `swim.rs`, `join.rs` and `member.rs` (who is there),
//! `durability.rs`, `recovery.rs` and `own_log.rs` (the disk).
//!
//! Promises: a write is acknowledged only when it is durable here; nothing of it is shown or told before. Per writer,
//! every node shows a prefix of its log. Nodes that know the same dots show the same entries, whatever order those came in.

mod anti_entropy;
mod checkpoint;
mod codec;
mod config;
mod durability;
mod event;
mod hlc;
mod join;
mod ledger;
mod log;
mod member;
mod message;
mod outbox;
mod own_log;
mod probe;
mod recovery;
mod register;
mod replica;
mod requests;
mod rng;
mod rumor;
mod spread;
mod status;
mod store;
mod suspicion;
mod swim;
mod timers;
mod transfer;
mod vector;
mod wire;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod stories;

pub use config::{ConfigError, GossipConfig, cluster_id};
pub use ledger::Conflict;
pub use recovery::OpenError;
pub use replica::{Counters, GossipReplica};
