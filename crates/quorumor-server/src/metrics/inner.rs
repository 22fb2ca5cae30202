//! What a replica tells of its inside, as metrics.

use metrics::{counter, describe_counter, describe_gauge, gauge};
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

/// What eventual mode's replica counts since its start: its word, the metric, and what it says.
const COUNTED: [(&str, &str, &str); 17] = [
    (
        "malformed",
        "quorumor_eventual_malformed_total",
        "Messages that couldn't be read",
    ),
    (
        "unknown_parts",
        "quorumor_eventual_unknown_parts_total",
        "Parts of messages of a kind that this version doesn't know, which were skipped",
    ),
    (
        "refused_news",
        "quorumor_eventual_refused_news_total",
        "News about members that was refused as impossible",
    ),
    (
        "refutations",
        "quorumor_eventual_refutations_total",
        "Accusations of this node that it refuted",
    ),
    (
        "suspicions",
        "quorumor_eventual_suspicions_total",
        "Suspicions of others that began here by a failed probe",
    ),
    (
        "downs",
        "quorumor_eventual_downs_total",
        "Members that came to be held to be down",
    ),
    (
        "reaped",
        "quorumor_eventual_reaped_total",
        "Members that were forgotten",
    ),
    (
        "rumors_new",
        "quorumor_eventual_rumors_new_total",
        "Writes that came by rumor and were news",
    ),
    (
        "rumors_known",
        "quorumor_eventual_rumors_known_total",
        "Writes that came by rumor and were known",
    ),
    (
        "deltas_new",
        "quorumor_eventual_deltas_new_total",
        "Writes that came by anti-entropy and were news",
    ),
    (
        "states_installed",
        "quorumor_eventual_states_installed_total",
        "Whole states that were taken from another node",
    ),
    (
        "wrong_contents",
        "quorumor_eventual_wrong_contents_total",
        "Large values that came and weren't what had been offered",
    ),
    (
        "rounds_deferred",
        "quorumor_eventual_rounds_deferred_total",
        "Rounds of rumors that waited because the node had sent its share of bytes",
    ),
    (
        "joins_deferred",
        "quorumor_eventual_joins_deferred_total",
        "Joiners that got no answer because too many came at once",
    ),
    (
        "welcomes_deferred",
        "quorumor_eventual_welcomes_deferred_total",
        "Joiners that were sent to others because too many came at once",
    ),
    (
        "leases_expired",
        "quorumor_eventual_leases_expired_total",
        "Leases of this node that expired",
    ),
    (
        "tombstones_collected",
        "quorumor_eventual_tombstones_collected_total",
        "Deletions that were forgotten because every member has them",
    ),
];

pub(super) fn describe() {
    for (_, metric, says) in INNER {
        describe_gauge!(metric, says);
    }
    for (_, metric, says) in COUNTED {
        describe_counter!(metric, says);
    }
}

/// Sets what the replica of a mode has told.
pub(crate) fn set(mode: Mode, told: &[(&'static str, u64)]) {
    for (word, metric, _) in INNER {
        if let Some((_, number)) = told.iter().find(|(known, _)| *known == word) {
            gauge!(metric, "mode" => mode.as_str()).set(float(*number));
        }
    }
    for (word, metric, _) in COUNTED {
        if let Some((_, number)) = told.iter().find(|(known, _)| *known == word) {
            counter!(metric).absolute(*number);
        }
    }
}
