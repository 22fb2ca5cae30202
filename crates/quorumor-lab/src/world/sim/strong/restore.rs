//! What a backup holds: a replica is opened on it, as a restored node would be.

use anyhow::Result;
use quorumor_core::{BackupSource, Entry, Now, Recovered, Replica};
use quorumor_raft::RaftReplica;

use crate::world::sim::Options;
use crate::world::sim::node::strong_config;

/// The entries of a backup, in key order.
pub(super) fn entries(options: &Options, mut source: BackupSource) -> Result<Vec<Entry>> {
    let chunks = std::iter::from_fn(|| source.0.next_chunk()).collect();
    let recovered = Recovered {
        checkpoint: Some(chunks),
        ..Recovered::default()
    };
    let config = strong_config(options, 1, 1)?;
    let now = Now {
        mono_us: 1,
        wall_ms: 1,
    };
    let view = RaftReplica::open(config, recovered, now)?.view();
    Ok(view
        .entries
        .values()
        .map(|entry| (**entry).clone())
        .collect())
}
