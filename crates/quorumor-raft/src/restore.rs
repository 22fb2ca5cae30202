//! Out of a backup: what is in one, and the state that a new cluster begins with from it.
//!
//! A restored cluster is another cluster with the same keys. Its data epoch is new, so that tokens and cursors of the old one
//! are refused; no session and no history survives; every founder begins with the very same bytes. Pure: whoever calls this
//! reads and writes the files.

use bytes::Bytes;
use quorumor_core::{CheckpointSource, ClusterId, DataEpoch, History, Lease, LogTime, Revision};

use crate::codec::checkpoint::{StateSource, decode};
use crate::config::{ConfigError, Founder, check_founders};
use crate::membership::{MemberRecord, Roster, Voters};
use crate::state_machine::sessions::Sessions;
use crate::state_machine::{Mark, StateMachine};

/// How far a restored log begins behind the backup's. Sessions and granted leases are named by their place in the log: what
/// the old cluster named after the backup was taken must not be named again, or a client's old retry could be taken for a new
/// write of another. At a million entries a second, the old one was that far after twelve days. The half of 2^32 beside it keeps
/// sessions' ids apart, whose lower half is a place in the log modulo 2^32.
const INDEX_STEP: u64 = (1 << 40) + (1 << 31);

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// The data epoch.
    pub epoch: DataEpoch,
    /// The revision of its last change.
    pub revision: Revision,
    /// The oldest revision that its history goes back to.
    pub oldest: Revision,
    /// The last log entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Its log time.
    pub log_time: LogTime,
    /// The keys.
    pub keys: u64,
    /// The bytes of keys and values.
    pub bytes: u64,
    /// The leases.
    pub leases: u64,
    /// The clients' sessions.
    pub sessions: u64,
    /// The members at the time.
    pub members: Vec<Founder>,
    /// The digest of the state, equal for equal states.
    pub digest: u64,
}

/// The cluster that a backup is to become.
#[derive(Clone, Copy, Debug)]
pub struct Restoration<'a> {
    /// Its id. Another one than the old cluster's, so that no node of the old one can talk to it.
    pub cluster: ClusterId,
    /// Its data epoch, greater than the backup's.
    pub epoch: DataEpoch,
    /// Its first members.
    pub founders: &'a [Founder],
    /// By how much its revisions begin above the backup's: greater than the number of changes since the backup was taken,
    /// fencing tokens never go back for those whom they guard against. 0 keeps the revision.
    pub revision_step: u64,
}

/// What every founder of a restored cluster finds on its disk: a checkpoint, and no log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The checkpoint, piece by piece.
    pub chunks: Vec<Bytes>,
    /// Its position, as [`Persist::Checkpoint`](quorumor_core::Persist::Checkpoint) names it.
    pub position: u64,
}

/// Why a backup can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It doesn't decode, isn't whole, or isn't what was written.
    #[error("the backup is damaged: {why}")]
    Damaged {
        /// What was found.
        why: String,
    },
    /// Old tokens and cursors would be taken for the new cluster's.
    #[error("the new data epoch is {asked}, it must be above the backup's, which is {found}")]
    Epoch {
        /// The new epoch.
        asked: DataEpoch,
        /// The backup's.
        found: DataEpoch,
    },
    /// Nodes of the old cluster would take the new one for theirs.
    #[error("the new cluster has the id of the old one, {cluster}")]
    SameCluster {
        /// The id.
        cluster: ClusterId,
    },
    /// The first members can't be.
    #[error(transparent)]
    Founders(#[from] ConfigError),
}

/// The id of the cluster that a backup becomes with these options: never the old one's. Never zero.
///
/// It covers what the new cluster begins with, the digest of the data and the revision included: founders that were made from
/// different files or with different options never take each other for members of one cluster. The same file with the same
/// options gives the same id, however often; a second cluster of one backup needs a higher epoch.
///
/// # Errors
/// If the backup is damaged.
pub fn restored_cluster_id(
    chunks: &[Bytes],
    epoch: DataEpoch,
    founders: &[Founder],
    revision_step: u64,
) -> Result<ClusterId, RestoreError> {
    let mut state = read(chunks)?;
    let old = state.cluster;
    renew(&mut state, revision_step);
    let digest = state.digest();
    let index = state.applied.index;
    let name = format!("{old} restored in epoch {epoch} at {index} with {digest:016x}");
    Ok(crate::config::cluster_id(&name, founders))
}

/// What is in a backup, all of which is read and checked.
///
/// # Errors
/// If it is damaged.
pub fn inspect(chunks: &[Bytes]) -> Result<BackupSummary, RestoreError> {
    let state = read(chunks)?;
    Ok(BackupSummary {
        cluster: state.cluster,
        epoch: state.epoch,
        revision: state.revision,
        oldest: state.history.oldest(),
        index: state.applied.index,
        term: state.applied.term,
        log_time: state.log_time,
        keys: state.entries.len() as u64,
        bytes: state
            .entries
            .values()
            .map(|entry| entry.bytes() as u64)
            .sum(),
        leases: state.leases.table().len() as u64,
        sessions: state.sessions.table().len() as u64,
        members: state
            .members
            .iter()
            .map(|(node, record)| Founder {
                node: *node,
                peer_address: record.peer_address,
            })
            .collect(),
        digest: state.digest(),
    })
}

/// The checkpoint that every founder of the restored cluster starts from: the same bytes for each. Keys keep their values,
/// revisions and leases; leases get their whole TTL again; reads of the past and watches from before find that history gone;
/// clients' sessions have expired.
///
/// # Errors
/// If the backup is damaged, or what it is to become can't be.
pub fn restore(chunks: &[Bytes], to: &Restoration<'_>) -> Result<Restored, RestoreError> {
    let mut state = read(chunks)?;
    if to.epoch <= state.epoch {
        return Err(RestoreError::Epoch {
            asked: to.epoch,
            found: state.epoch,
        });
    }
    if to.cluster == state.cluster {
        let cluster = to.cluster;
        return Err(RestoreError::SameCluster { cluster });
    }
    let founders = check_founders(to.founders)?;
    state.cluster = to.cluster;
    state.epoch = to.epoch;
    renew(&mut state, to.revision_step);
    state.members = founders
        .iter()
        .map(|founder| (founder.node, MemberRecord::founding(founder)))
        .collect();
    state.voters = Voters::founding(&founders);
    state.roster = Roster::default();
    state.applied = Mark {
        index: state.applied.index.saturating_add(INDEX_STEP),
        term: 1,
    };
    let mut source = StateSource::new(&state);
    Ok(Restored {
        position: state.applied.index,
        chunks: std::iter::from_fn(|| source.next_chunk()).collect(),
    })
}

/// What a client of the new cluster sees of the old one's state.
fn renew(state: &mut StateMachine, revision_step: u64) {
    state.revision = Revision::new(state.revision.as_u64().saturating_add(revision_step));
    state.history = History::starting_at(state.revision);
    state.sessions = Sessions::default();
    renew_leases(state);
}

fn renew_leases(state: &mut StateMachine) {
    let leases: Vec<_> = state.leases.table().values().cloned().collect();
    for lease in leases {
        state.leases.remove(lease.id);
        state.leases.insert(Lease {
            expires_at: state.log_time.after_ms(lease.ttl_ms),
            ..Lease::clone(&lease)
        });
    }
}

fn read(chunks: &[Bytes]) -> Result<StateMachine, RestoreError> {
    decode(chunks).map_err(|why| RestoreError::Damaged {
        why: why.to_string(),
    })
}

#[cfg(test)]
mod tests;
