//! What is judged of a history, in which mode: the one list of all checkers.
//!
//! A property that nothing in the history concerns (no watch, no lock) has no finding. What strong mode promises beyond single keys is
//! judged by [`super::strong`] from the simulator's own record.

use super::convergence::{self, Convergence};
use super::counter::{self, Counters};
use super::detection::{self, Detection};
use super::durability::{self, Fates};
use super::linearizable::{self, Reads, STEP_BUDGET};
use super::session::{self, Sessions};
use super::set::{self, Sets};
use super::staleness::{self, Stalenesses};
use super::{
    Finding, kept, lease, ledger, lock, monotonic_writes, phantom, refusal, resurrection,
    revisions, watch, writes_follow_reads,
};
use crate::history::{History, Mode};

/// All that the checkers say about one history: the verdicts, and the measures behind them for the report.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Every verdict.
    pub findings: Vec<Finding>,
    /// How stale reads were.
    pub stale: Stalenesses,
    /// What became of the acknowledged writes.
    pub fates: Fates,
    /// Whether and when the nodes came to hold the same.
    pub convergence: Convergence,
    /// What the sessions show.
    pub sessions: Sessions,
    /// Eventual or strong: what became of each element of a set, if there was one.
    pub sets: Option<Sets>,
    /// Where the counters stand, if there was one.
    pub counters: Option<Counters>,
    /// How stopped nodes were found out, if beliefs are on record.
    pub detection: Option<Detection>,
}

/// Judges everything that the history has, by what its mode promises.
pub fn judge(history: &History) -> Judged {
    judge_reads(history, Reads::Claimed)
}

/// As [`judge`]; with [`Reads::All`] every read is judged as if it had claimed to be linearizable, in either mode.
pub fn judge_reads(history: &History, reads: Reads) -> Judged {
    let stale = staleness::check(history);
    let fates = durability::check(history);
    let convergence = convergence::check(history, &stale.stale);
    let sessions = session::check(history);
    let sets = set::check(history);
    let counters = counter::check(history);
    let detection = detection::check(history);
    let strong = history.header.mode == Mode::Strong;
    let mut findings = Vec::new();
    if strong || reads == Reads::All {
        findings.push(linearizable::check(history, reads, STEP_BUDGET));
    }
    if strong {
        findings.push(revisions::check(history));
    }
    findings.push(phantom::check(history));
    findings.push(fates.finding.clone());
    findings.extend(resurrection::check(history));
    findings.extend(ledger::check(history, &fates));
    findings.extend(sets.as_ref().map(|sets| sets.finding.clone()));
    findings.extend(counters.as_ref().map(|counters| counters.finding.clone()));
    findings.push(sessions.finding.clone());
    findings.extend(monotonic_writes::check(history));
    findings.extend(writes_follow_reads::check(history));
    findings.push(stale.finding.clone());
    findings.extend(watch::check(history));
    findings.extend(lease::check(history));
    findings.extend(kept::check(history));
    findings.extend(lock::check(history));
    findings.extend(refusal::check(history));
    findings.extend(
        detection
            .as_ref()
            .map(|detection| detection.finding.clone()),
    );
    findings.push(convergence.finding.clone());
    Judged {
        findings,
        stale,
        fates,
        convergence,
        sessions,
        sets,
        counters,
        detection,
    }
}
