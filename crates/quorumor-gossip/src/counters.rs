//! Counts of what happens inside, for metrics and tests.

/// What happened that no caller sees: for metrics. All grow from 0 at each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that couldn't be decoded.
    pub malformed: u64,
    /// Parts of messages of a kind that this version doesn't know.
    pub unknown_parts: u64,
    /// News about members that was refused as impossible.
    pub refused_news: u64,
    /// Accusations of this node that it refuted.
    pub refutations: u64,
    /// Probes that began in a period of their own.
    pub probes: u64,
    /// Those of them that weren't answered in time, so that others were asked to help.
    pub probes_helped: u64,
    /// Suspicions of others that began here by a failed probe.
    pub suspicions: u64,
    /// Members that this node held to be down, by its own timer or by hearsay.
    pub downs: u64,
    /// Events that came by rumor and were news.
    pub rumors_new: u64,
    /// Events that came by rumor and were known.
    pub rumors_known: u64,
    /// Events that came by anti-entropy and were news.
    pub deltas_new: u64,
    /// Events that came by anti-entropy and were known.
    pub deltas_known: u64,
    /// Whole states that were installed.
    pub states_installed: u64,
    /// Times this node found its own log cut back and began a new one.
    pub logs_lost: u64,
    /// Times this node couldn't know whether its own log is whole and began a new one.
    pub logs_doubted: u64,
    /// Checkpoints that were made.
    pub checkpoints: u64,
    /// Accusations that were ignored because their accuser makes more than an honest one can.
    pub accusations_ignored: u64,
    /// News that would have brought back a member that was reaped.
    pub ghosts_refused: u64,
    /// Members that were forgotten after they were gone for long.
    pub reaped: u64,
    /// Times another node was met under this node's id.
    pub doubles_met: u64,
    /// Joiners that got no answer because too many came at once: they are told of, and meet others.
    pub joins_deferred: u64,
    /// Joiners that were sent to other members because too many came at once.
    pub welcomes_deferred: u64,
    /// Rounds of rumors that waited because this node had sent its share of bytes.
    pub rounds_deferred: u64,
    /// Contents that came and weren't what had been offered.
    pub wrong_contents: u64,
    /// Own leases that expired.
    pub leases_expired: u64,
    /// Cuts that this node proposed.
    pub cuts_proposed: u64,
    /// Cuts that became stable here.
    pub cuts_stable: u64,
    /// Deletes that were forgotten because everyone has them.
    pub tombstones_collected: u64,
}
