//! Strong mode: a replicated state machine over raft-rs, as a [`Replica`](quorumor_core::Replica).
//!
//! [`RaftReplica::open`] takes a [`RaftConfig`] and what the disk held; from then on the contract of
//! [`quorumor_core::replica`] is all there is: no clock, socket, file, thread or async in here, and the same inputs give the
//! same outputs, byte for byte. This is the only crate that names `raft::`.
//!
//! Reading order: `replica.rs` (which input goes where), `ready.rs` (what raft wants done, and in which order disk and network
//! see it), `state_machine.rs` (what committed entries mean), `pending.rs` and `reads.rs` (who waits for what), `forward.rs`
//! (writes taken by a node that doesn't lead), `requests.rs` and `keep_alives.rs` (leases and sessions as they come in),
//! `log_time.rs` and `upkeep.rs` (the time that they live by, and what a leader does by itself), `gate.rs` (what a peer may
//! make raft do), `log.rs` and `transfer.rs` (the log, its compaction, snapshots), `append.rs` (how heavy a message may be).
//! Members: `conf_change.rs` (the rules), `asking.rs` and `changing.rs` (who asks, who carries out), `transfer_leader.rs`,
//! `removal.rs`, `joining.rs`. Backups: `restore.rs`.

mod append;
mod asking;
mod changing;
mod codec;
mod conf_change;
mod config;
mod digests;
mod election;
mod error;
mod forward;
mod gate;
mod hash;
mod install;
mod joining;
mod keep_alives;
mod leadership;
mod log;
mod log_time;
mod membership;
mod pending;
mod reading;
mod reads;
mod ready;
mod removal;
mod repeats;
mod replica;
mod requests;
mod restore;
mod state_machine;
mod status;
mod transfer;
mod transfer_leader;
mod upkeep;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use config::{
    Compaction, ConfigError, Founder, HistoryWindow, Identity, RaftConfig, Timing, cluster_id,
};
pub use error::OpenError;
pub use replica::RaftReplica;
pub use restore::{
    BackupSummary, Restoration, RestoreError, Restored, inspect, restore, restored_cluster_id,
};
