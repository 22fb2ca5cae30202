//! From an answer or an error of the client to a line of the history.
//!
//! Not a judge. The one rule that matters: an operation is `fail` only if it certainly was not applied, and that
//! the client's error says ([`ClientError::certainty`]); whatever nobody knows is `unknown`.

use std::time::Duration;

use quorumor_client::{
    Certainty, ClientError, CompareAnswer, DeleteAnswer, Entry, GetAnswer, LeaseGranted,
    LeaseRevoked, ListAnswer, PutAnswer, Receipt,
};
use quorumor_core as core;

use crate::history::{
    Cause, Dot, FinalEntry, Level, MemberCounts, NodeId, OpId, Outcome, Position, Return,
    Staleness, StalenessBasis, Version,
};

/// What came back for one operation.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Get(GetAnswer),
    Put(PutAnswer),
    Delete(DeleteAnswer),
    Cas(CompareAnswer),
    List(ListAnswer),
    Granted(LeaseGranted),
    /// What the lease has left; none = there is no such lease.
    KeptAlive(Option<Duration>),
    Revoked(LeaseRevoked),
}

impl Answer {
    /// The receipt; a keep-alive has none.
    pub(super) fn receipt(&self) -> Option<&Receipt> {
        Some(match self {
            Self::Get(answer) => &answer.receipt,
            Self::Put(answer) => &answer.receipt,
            Self::Delete(answer) => &answer.receipt,
            Self::Cas(answer) => &answer.receipt,
            Self::List(answer) => &answer.receipt,
            Self::Granted(answer) => &answer.receipt,
            Self::KeptAlive(_) => return None,
            Self::Revoked(answer) => &answer.receipt,
        })
    }
}

/// How an operation ended.
pub(super) fn of(op: OpId, at_us: u64, kind: Kind, result: &Result<Answer, ClientError>) -> Return {
    match result {
        Ok(answer) => answered(op, at_us, answer),
        Err(error) => failed(op, at_us, kind, error),
    }
}

/// Whether an operation can change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

fn answered(op: OpId, at_us: u64, answer: &Answer) -> Return {
    let mut ret = Return::new(op, at_us, Outcome::Ok);
    if let Some(receipt) = answer.receipt() {
        fill_receipt(&mut ret, receipt);
    }
    match answer {
        Answer::Get(got) => fill_entry(&mut ret, got.entry.as_ref()),
        Answer::Put(put) => ret.version = Some(version(&put.version)),
        Answer::Cas(cas) => {
            ret.succeeded = Some(cas.succeeded);
            fill_entry(&mut ret, cas.entry.as_ref());
        }
        Answer::Delete(delete) => {
            ret.found = Some(delete.previous.is_some());
            ret.version = tombstone(delete);
        }
        Answer::List(list) => ret.entries = list.entries.iter().map(final_entry).collect(),
        Answer::Granted(granted) => {
            ret.lease = Some(granted.lease.as_u64().to_string());
            ret.ttl_ms = Some(millis(granted.ttl));
        }
        Answer::KeptAlive(Some(left)) => ret.ttl_ms = Some(millis(*left)),
        Answer::KeptAlive(None) => {
            ret.outcome = Outcome::Fail;
            ret.cause = Some(Cause::Refused);
            ret.reason = Some("LEASE_NOT_FOUND".to_owned());
        }
        Answer::Revoked(_) => {}
    }
    ret
}

/// The version of a delete: the receipt's dot, which had seen what the removed entry's reader has; or the revision of
/// an answer that removed something.
fn tombstone(delete: &DeleteAnswer) -> Option<Version> {
    if let Some((written, stamp)) = delete.receipt.dot() {
        let removed = delete.previous.as_ref().map(|entry| &entry.version);
        let context = match removed {
            Some(core::Version::Eventual { context, .. }) => Some(rows(context)),
            Some(core::Version::Strong { .. }) | None => None,
        };
        let (dot, stamp) = (dot(written), stamp.as_u64());
        return Some(Version::Eventual {
            dot,
            stamp,
            context,
        });
    }
    let revision = delete.receipt.revision()?.as_u64();
    let removed = delete.previous.as_ref();
    removed.map(|_| Version::Strong { revision })
}

fn failed(op: OpId, at_us: u64, kind: Kind, error: &ClientError) -> Return {
    let cause = cause(error);
    let outcome = match (error.certainty(), kind, cause) {
        // A read that waited in vain was not refused: it got no answer.
        (Certainty::NotApplied, Kind::Read, Cause::TimedOut) => Outcome::Unknown,
        (Certainty::NotApplied, _, _) => Outcome::Fail,
        (Certainty::Unknown, _, _) => Outcome::Unknown,
    };
    let mut ret = Return::new(op, at_us, outcome);
    ret.cause = Some(cause);
    ret.reason = Some(error.reason().to_owned());
    if let Some(receipt) = error.receipt() {
        fill_receipt(&mut ret, receipt);
        // No answer was given, so none of any level was.
        ret.got = None;
    }
    ret
}

fn cause(error: &ClientError) -> Cause {
    match error {
        ClientError::Node(node) => match (node.reason.as_str(), node.certainty) {
            ("DEADLINE_EXCEEDED", _) => Cause::TimedOut,
            (_, Certainty::NotApplied) => Cause::Refused,
            // A node lost contact on the caller's behalf.
            (_, Certainty::Unknown) => Cause::Broken,
        },
        ClientError::Unreachable { .. } => Cause::Unreachable,
        ClientError::ContactLost { .. } | ClientError::BadAnswer { .. } => Cause::Broken,
        ClientError::DeadlineExceeded { .. } => Cause::TimedOut,
        ClientError::Invalid(_) => Cause::Refused,
    }
}

fn fill_receipt(ret: &mut Return, receipt: &Receipt) {
    ret.got = Some(match receipt.got {
        core::Level::Linearizable => Level::Linearizable,
        core::Level::Bounded => Level::Bounded,
        core::Level::Local | core::Level::Sampled => Level::Local,
    });
    ret.degraded = receipt.degraded.is_some();
    ret.position = position(receipt);
    ret.staleness = staleness(receipt.staleness);
    ret.members = Some(MemberCounts {
        alive: receipt.members.alive,
        suspect: receipt.members.suspect,
        down: receipt.members.down,
    });
    ret.token = (!receipt.token.is_empty()).then(|| hex(&receipt.token));
    ret.node = Some(NodeId(receipt.node.as_u64()));
}

fn position(receipt: &Receipt) -> Option<Position> {
    match &receipt.position {
        core::WritePosition::Strong {
            revision,
            term,
            leader,
        } => Some(Position {
            revision: revision.as_u64(),
            term: term.as_u64(),
            leader: leader.as_ref().map_or(0, |leader| leader.node.as_u64()),
        }),
        core::WritePosition::Eventual { .. } => None,
    }
}

/// An exact answer is not stale at all; a proven one at most as old as the contact that it rests on.
fn staleness(staleness: core::Staleness) -> Option<Staleness> {
    let contact_us = staleness.contact_age_ms.map(|ms| ms.saturating_mul(1_000));
    match staleness.basis {
        core::StalenessBasis::Exact => Some(Staleness {
            bound_us: 0,
            basis: StalenessBasis::Exact,
        }),
        core::StalenessBasis::Proven => contact_us.map(|bound_us| Staleness {
            bound_us,
            basis: StalenessBasis::Proven,
        }),
        core::StalenessBasis::Estimated => contact_us.map(|bound_us| Staleness {
            bound_us,
            basis: StalenessBasis::Estimated,
        }),
        core::StalenessBasis::Unknown => None,
    }
}

fn fill_entry(ret: &mut Return, entry: Option<&Entry>) {
    ret.values = entry.map(text).into_iter().collect();
    ret.version = entry.map(|entry| version(&entry.version));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An entry as the history lists it.
pub(super) fn final_entry(entry: &Entry) -> FinalEntry {
    FinalEntry {
        key: entry.key.as_str().to_owned(),
        values: vec![text(entry)],
        version: Some(version(&entry.version)),
    }
}

/// An entry's value as text; the lab writes nothing else.
pub(super) fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(entry.value.as_bytes()).into_owned()
}

/// A version as the history has it.
pub(super) fn version(version: &core::Version) -> Version {
    match version {
        core::Version::Strong { modify, .. } => Version::Strong {
            revision: modify.as_u64(),
        },
        core::Version::Eventual {
            dot: written,
            stamp,
            context,
            ..
        } => Version::Eventual {
            dot: dot(*written),
            stamp: stamp.as_u64(),
            context: Some(rows(context)),
        },
    }
}

fn rows(context: &core::VersionVector) -> Vec<Dot> {
    let row = |(writer, log_id, seq)| {
        dot(core::Dot {
            writer,
            log_id,
            seq,
        })
    };
    context.rows().map(row).collect()
}

/// A dot as the history has it.
pub(super) fn dot(dot: core::Dot) -> Dot {
    Dot {
        writer: dot.writer.as_u64(),
        log_id: dot.log_id.as_u64(),
        seq: dot.seq.as_u64(),
    }
}

/// Bytes in hexadecimal, as the history has tokens.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of what [`hex`] wrote; none = it is no such text.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | d))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
