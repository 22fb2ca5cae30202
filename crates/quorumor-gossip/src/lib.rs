//! Eventual mode: a sans-IO replica of SWIM, rumors and anti-entropy.
//!
//! Every node takes writes, alone if it must. A write enters its node's own log as a **dot** (writer, log, sequence), is
//! synced there, and spreads: as a **rumor** at once, and by **anti-entropy** for certain. Concurrent writes to one key
//! are kept apart by what each had seen (its **context**); the highest stored **stamp** wins, and the **ledger** counts
//! who lost. Members watch each other by **probes**; one that doesn't answer is suspected, and may refute.
//!
//! Reading order: `replica.rs` and `dispatch.rs`, `requests.rs` and `writes.rs` (what callers ask), `register.rs` (how writes
//! merge), `store.rs`, `spread.rs` and `pulls.rs` (rumors), `anti_entropy.rs` (repair), `transfer.rs` (whole states),
//! `stability.rs` (when deletes are forgotten), `swim.rs`, `beliefs.rs`, `doubt.rs`, `member.rs` and `table_sync.rs` (who is
//! there), `join.rs` and `reap.rs` (coming and going), `leases.rs` and `forward.rs`, `acks.rs` and `samples.rs` (for who wants
//! more than local), `durability.rs`, `recovery.rs` and `own_log.rs` (the disk).
//!
//! Promises: a write is acknowledged only when it is durable here; nothing of it is shown or told before. Per writer,
//! every node shows a prefix of its log. Nodes that know the same dots show the same entries, whatever order those came in.

mod acks;
mod anti_entropy;
mod beliefs;
mod budget;
mod checkpoint;
mod codec;
mod config;
mod counters;
mod dispatch;
mod doubt;
mod durability;
mod epoch;
mod event;
mod forward;
mod hlc;
mod join;
mod lease_table;
mod leases;
mod ledger;
mod log;
mod member;
mod message;
mod notice;
mod opening;
mod outbox;
mod own_log;
mod probe;
mod pulls;
mod reap;
mod recovery;
mod register;
mod replica;
mod requests;
mod rng;
mod rumor;
mod samples;
mod spread;
mod stability;
mod status;
mod store;
mod suspicion;
mod swim;
mod system_key;
mod table_sync;
mod timers;
mod transfer;
mod vector;
mod wire;
mod writes;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod stories;

pub use config::{ConfigError, GossipConfig, cluster_id};
pub use counters::Counters;
pub use notice::Notice;
pub use opening::Seeded;
pub use recovery::OpenError;
pub use replica::GossipReplica;
