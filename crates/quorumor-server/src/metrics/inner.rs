//! What a replica tells of its inside, as metrics.

use metrics::{describe_gauge, gauge};
use quorumor_core::Mode;

use super::float;

const PENDING_WRITES: &str = "quorumor_pending_writes";
const QUEUED_WRITES: &str = "quorumor_raft_queued_writes";
const PENDING_READS: &str = "quorumor_pending_reads";
const PENDING_KEEP_ALIVES: &str = "quorumor_pending_keep_alives";
const SESSIONS: &str = "quorumor_sessions";
const UNCOMMITTED: &str = "quorumor_raft_uncommitted_bytes";
const RAFT_LOG_BYTES: &str = "quorumor_raft_log_bytes";
const RAFT_LOG_ENTRIES: &str = "quorumor_raft_log_entries";
const UNSYNCED: &str = "quorumor_raft_unsynced_appends";
const REFUSED_PEERS: &str = "quorumor_raft_messages_refused";

/// A replica's word, the metric, and what it says.
const INNER: [(&str, &str, &str); 10] = [
    (
        "pending_writes",
        PENDING_WRITES,
        "Writes that a replica holds open: proposed or forwarded, not answered",
    ),
    (
        "queued_writes",
        QUEUED_WRITES,
        "Writes that wait to be proposed",
    ),
    (
        "pending_reads",
        PENDING_READS,
        "Reads that wait for a confirmation by the leader",
    ),
    (
        "pending_keep_alives",
        PENDING_KEEP_ALIVES,
        "Keep-alives of leases that wait to be committed",
    ),
    ("sessions", SESSIONS, "Clients' sessions that are open"),
    (
        "uncommitted_bytes",
        UNCOMMITTED,
        "Bytes of the leader's log that no majority has yet",
    ),
    (
        "log_bytes",
        RAFT_LOG_BYTES,
        "Bytes of the part of raft's log that is in memory",
    ),
    (
        "log_entries",
        RAFT_LOG_ENTRIES,
        "Entries of the part of raft's log that is in memory",
    ),
    (
        "unsynced_appends",
        UNSYNCED,
        "Appends that were given to the disk and aren't durable yet",
    ),
    (
        "peer_messages_refused",
        REFUSED_PEERS,
        "Messages of peers that the gate refused since the start",
    ),
];

pub(super) fn describe() {
    for (_, metric, says) in INNER {
        describe_gauge!(metric, says);
    }
}

/// Sets what the replica of a mode has told.
pub(crate) fn set(mode: Mode, told: &[(&'static str, u64)]) {
    for (word, metric, _) in INNER {
        if let Some((_, number)) = told.iter().find(|(known, _)| *known == word) {
            gauge!(metric, "mode" => mode.as_str()).set(float(*number));
        }
    }
}
