//! Session guarantees: whoever sends the session token of its earlier answers back reads its own writes, and never
//! reads older than before (Terry et al., 1994), at any node.
//!
//! Only the bearer of the token is judged: an operation without one claims nothing. Monotonic writes and
//! writes-follow-reads have files of their own. A refusal (`TokenAhead`, `TokenTooWide`) is no violation.

use std::collections::{BTreeMap, HashMap};

use super::order::{KeyHistory, Rank, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{History, Op, SessionId};

/// What the sessions of a history show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The verdict.
    pub finding: Finding,
    /// Reads that carried a token and were judged.
    pub judged: u64,
    /// Reads that broke a promise.
    pub violations: u64,
    /// Of those, reads that missed a write of their own session; the others went back behind an earlier read.
    pub own_writes_missed: u64,
}

/// The latest that a session knows of a key.
#[derive(Clone, Copy)]
struct Known<'a> {
    rank: Rank,
    op: &'a Op,
}

/// Judges a history of either mode.
pub fn check(history: &History) -> Sessions {
    let mut evidence = Vec::new();
    let mut judged = 0;
    for key in by_key(history).values() {
        judge_key(key, &mut judged, &mut evidence);
    }
    positions(history, &mut evidence);
    let violations = evidence.len() as u64;
    let missed = evidence
        .iter()
        .filter(|one| one.text.starts_with(OWN_WRITE_MISSED));
    let own_writes_missed = missed.count() as u64;
    let summary = format!(
        "{judged} reads with a session token: {own_writes_missed} missed an own write, {} went back",
        violations - own_writes_missed
    );
    Sessions {
        finding: Finding::from_evidence(Property::Session, summary, evidence),
        judged,
        violations,
        own_writes_missed,
    }
}

const OWN_WRITE_MISSED: &str = "a session did not read its own write";

fn judge_key<'a>(key: &KeyHistory<'a>, judged: &mut u64, evidence: &mut Vec<Evidence>) {
    // A session is sequential, so the order of invocation is its order; a sight is judged before it is learned from.
    let mut steps: Vec<(u64, Step<'a>)> = Vec::new();
    for sight in &key.sights {
        let seen = key.rank_seen(sight).ok();
        let absent = sight.rank.is_none();
        let step = |rank| Step::Saw {
            op: sight.op,
            rank,
            absent,
        };
        steps.extend(seen.map(|rank| (sight.op.invoke.at_us, step(rank))));
    }
    for write in &key.writes {
        if let (Some(_), Some(rank)) = (write.acked, write.rank) {
            steps.push((write.op.invoke.at_us, Step::Wrote { op: write.op, rank }));
        }
    }
    steps.sort_by_key(|&(at, _)| at);
    let mut known: HashMap<SessionId, Known<'a>> = HashMap::new();
    for (_, step) in steps {
        let (op, rank) = match step {
            Step::Wrote { op, rank } => (op, Some(rank)),
            Step::Saw { op, rank, absent } => {
                let before = known.get(&op.invoke.session);
                if op.invoke.token.is_some() {
                    *judged += 1;
                    evidence.extend(
                        before
                            .filter(|before| Some(before.rank) > rank)
                            .map(|b| violation(b.op, op)),
                    );
                }
                let learned = if absent {
                    least_deletion_from(key, before.map(|before| before.rank))
                } else {
                    rank
                };
                (op, learned)
            }
        };
        if let Some(rank) = rank {
            let newer = |before: &&Known<'_>| before.rank >= rank;
            if known.get(&op.invoke.session).filter(newer).is_none() {
                known.insert(op.invoke.session, Known { rank, op });
            }
        }
    }
}

enum Step<'a> {
    Wrote {
        op: &'a Op,
        rank: Rank,
    },
    /// The highest version that the answer can stand for.
    Saw {
        op: &'a Op,
        rank: Option<Rank>,
        absent: bool,
    },
}

/// The least that an answer "absent" proves to a session: if it knew of a version, that this or a later one is a deletion.
/// Which one is not known, so only the lowest may be held against later answers.
fn least_deletion_from(key: &KeyHistory<'_>, known: Option<Rank>) -> Option<Rank> {
    let known = known?;
    let deletions = key.writes.iter().filter(|write| write.value.is_none());
    deletions
        .filter_map(|write| write.rank)
        .filter(|rank| *rank >= known)
        .min()
}

fn violation(before: &Op, op: &Op) -> Evidence {
    let promise = if before.invoke.action.is_write() && before.is_acked_write() {
        OWN_WRITE_MISSED
    } else {
        "a session read older than before"
    };
    let place = if before.invoke.node == op.invoke.node {
        "at the same node"
    } else {
        "at another node"
    };
    Evidence::new(format!("{promise}, {place}"), &[before, op])
}

/// Strong: the position of a session's answers never goes back while it carries its token.
fn positions(history: &History, evidence: &mut Vec<Evidence>) {
    let mut ops: Vec<&Op> = history.ops.iter().collect();
    ops.sort_by_key(|op| (op.invoke.at_us, op.id()));
    let mut known: BTreeMap<SessionId, (u64, &Op)> = BTreeMap::new();
    for op in ops {
        let Some(position) = op.answer().and_then(|ret| ret.position) else {
            continue;
        };
        let before = known.get(&op.invoke.session).copied();
        if let Some((highest, earlier)) = before
            && op.invoke.token.is_some()
            && position.revision < highest
        {
            let text = format!(
                "a session's position went back from revision {highest} to {}",
                position.revision
            );
            evidence.push(Evidence::new(text, &[earlier, op]));
        }
        if before.is_none_or(|(highest, _)| position.revision > highest) {
            known.insert(op.invoke.session, (position.revision, op));
        }
    }
}
