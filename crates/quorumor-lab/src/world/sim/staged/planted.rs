//! The defects outside the replicas, as a scenario plays them: what clients and watchers do wrong, while the history says that they
//! do it right.
//!
//! A lying disk is the disk's own. Leases that somebody ends and reads in the past have no clients here.

use quorumor_core::{Command, Level};

use super::super::Plant;

/// A watcher is left without one in so many changes.
const GAP_EVERY: u64 = 20;

/// What is asked of a node in place of what is on record.
pub(super) fn command(plant: Option<Plant>, mut command: Command) -> Command {
    if let (Some(Plant::StaleReads), Command::ReadBarrier { level, .. }) = (plant, &mut command) {
        *level = Level::Local;
    }
    command
}

/// Whether the session's token goes with this.
pub(super) fn heeds_token(plant: Option<Plant>, command: &Command) -> bool {
    let is_read = matches!(command, Command::ReadBarrier { .. });
    plant != Some(Plant::TokensIgnored) || !is_read
}

/// What of a command that is sent again is left out: its client's number.
pub(super) fn repeat(plant: Option<Plant>, command: &mut Command) {
    if let (Some(Plant::DoubleApply), Command::Write { client, .. }) = (plant, command) {
        *client = None;
    }
}

/// Whether a watcher isn't told its so-manieth change.
pub(super) fn leaves_out(plant: Option<Plant>, change: u64) -> bool {
    plant == Some(Plant::WatchGap) && change.is_multiple_of(GAP_EVERY)
}
