//! The checkers: one property a file, each with its definition, each giving valid, invalid or unknown with evidence.
//!
//! Not a judge of the lab: whether a run may be judged at all is [`crate::void`]. Called by [`mod@crate::analyse`].

pub mod availability;
mod chains;
pub mod convergence;
pub mod counter;
pub mod detection;
mod disturbed;
pub mod durability;
mod judge;
pub mod kept;
pub mod lease;
pub mod ledger;
pub mod linearizable;
pub mod lock;
pub mod model;
pub mod monotonic_writes;
pub mod order;
pub mod phantom;
pub mod refusal;
pub mod resurrection;
pub mod revisions;
pub mod search;
pub mod session;
pub mod set;
pub mod staleness;
pub mod strong;
pub mod timeline;
pub mod watch;
mod witness;
pub mod writes_follow_reads;

use serde::{Deserialize, Serialize};

use crate::history::{Level, Mode, Op, OpId, Return};

pub use judge::{Judged, judge, judge_reads};

/// What a checker says about one property of one history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Verdict {
    /// The property held, as far as the history reaches.
    Valid,
    /// The checker could not decide, and says why.
    Unknown,
    /// The property was broken; the evidence shows where.
    Invalid,
}

impl Verdict {
    /// The word that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "INVALID",
        }
    }
}

/// Which property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Property {
    /// Operations answered as linearizable have a linear order per key.
    Linearizability,
    /// Revisions agree with real time, and answers with the replayed state.
    RevisionOrder,
    /// No value was read that nobody wrote, or whose write was refused.
    NoPhantoms,
    /// No acknowledged write was lost.
    Durability,
    /// Read your writes and monotonic reads, for the bearer of the token.
    Session,
    /// Answers are no older than their receipts say.
    Staleness,
    /// After the heal, all nodes hold the same.
    Convergence,
    /// What thousands of simulated nodes keep.
    AtScale,
    /// Every node applies the same revisions.
    Agreement,
    /// Answers of writes and transactions follow from the order of revisions.
    Answers,
    /// The order of revisions agrees with real time, for reads of every level.
    Freshness,
    /// A retried write is applied once.
    ExactlyOnce,
    /// Leases live for their time, and no longer for ever.
    Leases,
    /// Reads in the past show the past.
    Past,
    /// Watches are whole, in order, once and without a gap.
    Watches,
    /// A term has one leader, and removed nodes don't serve.
    Leaders,
    /// No element of a set is lost, and in strong mode none is late.
    SetFull,
    /// A session's writes take effect in its order.
    MonotonicWrites,
    /// A session's writes come after what it had read.
    WritesFollowReads,
    /// Every discarded concurrent write is in a ledger.
    ConflictAccounting,
    /// No deleted key comes back.
    NoResurrection,
    /// Locks are granted in order, and the resource takes no stale token.
    Locks,
    /// Counters stand where the acknowledged additions put them.
    Counters,
    /// Eventual mode refuses compare-and-sets.
    NeverImitated,
    /// Stopped nodes are found out, and running ones are not held to be down for good.
    FailureDetection,
    /// A lease whose holder keeps it alive outlives a flood of other calls.
    LeasesKept,
}

impl Property {
    /// The words that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linearizability => "linearizable per key",
            Self::RevisionOrder => "revisions agree with real time",
            Self::NoPhantoms => "no phantom values",
            Self::Durability => "no acknowledged write lost",
            Self::Session => "sessions: read your writes, monotonic reads",
            Self::Staleness => "answers no older than their receipts",
            Self::AtScale => "kept by thousands of nodes",
            Self::Convergence => "nodes equal after the heal",
            Self::Agreement => "nodes agree on every revision",
            Self::Answers => "answers follow from the order of revisions",
            Self::Freshness => "reads as fresh as their level says",
            Self::ExactlyOnce => "retried writes applied once",
            Self::Leases => "leases live for their time",
            Self::Past => "reads in the past show the past",
            Self::Watches => "watches whole, in order, once, without a gap",
            Self::Leaders => "one leader a term, removed nodes silent",
            Self::SetFull => "no element of a set lost",
            Self::MonotonicWrites => "sessions: writes in their order",
            Self::WritesFollowReads => "sessions: writes after what was read",
            Self::ConflictAccounting => "discarded writes are in the ledger",
            Self::NoResurrection => "deleted keys stay deleted",
            Self::Locks => "locks in order, no stale token taken",
            Self::Counters => "counters count every addition",
            Self::NeverImitated => "compare-and-set refused, never imitated",
            Self::FailureDetection => "stopped nodes found, running ones not held down",
            Self::LeasesKept => "leases kept alive through the flood",
        }
    }
}

/// A piece of evidence: a sentence, and the operations that show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Evidence {
    /// What is wrong, for a person.
    pub text: String,
    /// The operations, one line each.
    pub lines: Vec<String>,
    /// Their ids in the history.
    pub ops: Vec<OpId>,
}

impl Evidence {
    /// Evidence from the operations themselves; one that is named twice is shown once.
    pub fn new(text: impl Into<String>, named: &[&Op]) -> Self {
        let mut ops: Vec<&Op> = Vec::new();
        for op in named {
            if ops.iter().all(|other| other.id() != op.id()) {
                ops.push(op);
            }
        }
        Self {
            text: text.into(),
            lines: ops.iter().map(|op| op.describe()).collect(),
            ops: ops.iter().map(|op| op.id()).collect(),
        }
    }
}

/// How many pieces of evidence a finding keeps; the summary has the full count.
pub const EVIDENCE_MAX: usize = 5;

/// A checker's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// About what.
    pub property: Property,
    /// The answer.
    pub verdict: Verdict,
    /// What was judged and found, in one sentence.
    pub summary: String,
    /// The smallest evidence, at most [`EVIDENCE_MAX`] pieces.
    pub evidence: Vec<Evidence>,
}

impl Finding {
    /// A finding that is invalid if there is evidence and valid otherwise.
    pub fn from_evidence(property: Property, summary: String, mut evidence: Vec<Evidence>) -> Self {
        let verdict = if evidence.is_empty() {
            Verdict::Valid
        } else {
            Verdict::Invalid
        };
        evidence.truncate(EVIDENCE_MAX);
        Self {
            property,
            verdict,
            summary,
            evidence,
        }
    }

    /// A finding that cannot be decided, and why.
    pub fn unknown(property: Property, summary: impl Into<String>) -> Self {
        Self {
            property,
            verdict: Verdict::Unknown,
            summary: summary.into(),
            evidence: Vec::new(),
        }
    }
}

/// Whether an answer claims to be linearizable: by what it says, or what was asked, or the mode's default.
fn is_linearizable(mode: Mode, op: &Op, ret: &Return) -> bool {
    let default = match mode {
        Mode::Strong => Level::Linearizable,
        Mode::Eventual => Level::Local,
    };
    ret.got.or(op.invoke.level).unwrap_or(default) == Level::Linearizable
}

#[cfg(test)]
mod tests;
