//! What becomes of one key: from what both sides hold now and what is written down of it. Pure.
//!
//! The rule: a side that still holds what was written down has changed nothing, and the other side's change stands. Only where both
//! changed, or where the destination held something before, is there a conflict, which the caller's choice decides.

use quorumor_core::{Entry, Mode};

use super::record::{Digest, Kind, Lost, LostSide, Record};
use super::{Extra, OnConflict};

/// What both sides hold of a key, and what is written down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) source: Option<&'a Entry>,
    pub(super) destination: Option<&'a Entry>,
    pub(super) record: Option<&'a Record>,
    /// Whether the lease that stands for the source's at the destination is there; true without one.
    pub(super) lease_lives: bool,
}

/// What the caller chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) to: Mode,
    pub(super) on_conflict: OnConflict,
    pub(super) extra: Extra,
}

impl Rules {
    /// The same once the cut-over has begun: what only the destination has may be what clients write at their new home.
    pub(super) const fn after_cut_over(self) -> Self {
        Self {
            extra: Extra::Keep,
            ..self
        }
    }
}

/// What to do with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: it is as written down, or only the destination has it.
    Settled,
    /// Nothing: only the destination has it, and that was so before.
    Extra,
    /// Nothing: the destination has changed since the source's was moved.
    Ahead,
    /// Nothing more: nobody has said which is to stand, and it is listed.
    StillOpen,
    /// Set it to the source's.
    Put(Vec<Lost>),
    /// Write down that it is there already.
    Note(Vec<Lost>),
    /// Remove it.
    Delete(Vec<Lost>),
    /// Leave the destination's, and write down what the source's was.
    Keep(Vec<Lost>),
    /// List it.
    Open,
    /// Forget what was written down: both sides are rid of it.
    Forget,
}

pub(super) fn decide(seen: Seen<'_>, rules: Rules) -> Verdict {
    if let Some(source) = seen.source
        && !is_movable(source.key.as_str(), rules.to)
    {
        return open(seen);
    }
    match seen.record {
        Some(record) if record.kind != Kind::Open => known(seen, record, rules),
        Some(_) | None => unknown(seen, rules),
    }
}

/// Whether the other mode can have such a key.
pub(super) fn is_movable(key: &str, to: Mode) -> bool {
    to == Mode::Strong || !key.starts_with('\u{1}')
}

fn digests(seen: Seen<'_>) -> (Option<Digest>, Option<Digest>) {
    (
        seen.source.map(Digest::of_entry),
        seen.destination.map(Digest::of_entry),
    )
}

fn siblings(seen: Seen<'_>) -> Vec<Lost> {
    seen.source.map(Lost::siblings).unwrap_or_default()
}

/// One that nothing was done about yet.
fn unknown(seen: Seen<'_>, rules: Rules) -> Verdict {
    match (seen.source, seen.destination) {
        (None, None) if seen.record.is_some() => Verdict::Forget,
        (None, None) => Verdict::Settled,
        (Some(_), None) => match seen.record {
            // The destination had removed it when the source had changed it.
            Some(record) if record.destination.is_none() => conflict(seen, rules),
            Some(_) | None => Verdict::Put(siblings(seen)),
        },
        (None, Some(destination)) => match (rules.extra, seen.record) {
            // The source had removed it when the destination had changed it.
            (_, Some(record)) if record.source.is_none() => conflict(seen, rules),
            (Extra::Keep, Some(_)) => Verdict::Forget,
            (Extra::Keep, None) => Verdict::Extra,
            (Extra::Delete, _) => {
                Verdict::Delete(vec![Lost::entry(LostSide::Destination, destination)])
            }
        },
        (Some(source), Some(destination)) => {
            if source.value != destination.value {
                return conflict(seen, rules);
            }
            if source.lease.is_none() && destination.lease.is_none() {
                Verdict::Note(siblings(seen))
            } else {
                // Nothing is lost but by what it lived.
                Verdict::Put(siblings(seen))
            }
        }
    }
}

/// One that is written down.
fn known(seen: Seen<'_>, record: &Record, rules: Rules) -> Verdict {
    let (source, destination) = digests(seen);
    let source_changed = source != record.source;
    let destination_changed = destination != record.destination;
    match (source_changed, destination_changed) {
        (false, false) => Verdict::Settled,
        (false, true) => {
            let expired = record.kind == Kind::Moved
                && seen.destination.is_none()
                && !seen.lease_lives
                && seen.source.is_some_and(|source| source.lease.is_some());
            if expired {
                Verdict::Put(siblings(seen))
            } else {
                Verdict::Ahead
            }
        }
        (true, _) if seen.source.is_none() && seen.destination.is_none() => {
            if record.lost.is_empty() && record.unlisted == 0 {
                Verdict::Forget
            } else {
                Verdict::Note(Vec::new())
            }
        }
        (true, false) if record.kind == Kind::Moved => match seen.source {
            Some(_) => Verdict::Put(siblings(seen)),
            None => Verdict::Delete(Vec::new()),
        },
        (true, _) => {
            let same = match (seen.source, seen.destination) {
                (Some(source), Some(destination)) => {
                    source.value == destination.value && source.lease.is_none()
                }
                (None | Some(_), None) | (None, Some(_)) => false,
            };
            if same {
                Verdict::Note(siblings(seen))
            } else {
                conflict(seen, rules)
            }
        }
    }
}

/// Both sides have something to say.
fn conflict(seen: Seen<'_>, rules: Rules) -> Verdict {
    let beaten = |side, entry: Option<&Entry>| entry.map(|entry| Lost::entry(side, entry));
    match rules.on_conflict {
        OnConflict::Fail => open(seen),
        OnConflict::SourceWins => {
            let mut lost = siblings(seen);
            lost.extend(beaten(LostSide::Destination, seen.destination));
            match seen.source {
                Some(_) => Verdict::Put(lost),
                None => Verdict::Delete(lost),
            }
        }
        OnConflict::DestinationWins => {
            let mut lost = siblings(seen);
            match (seen.source, seen.destination) {
                (Some(source), _) => lost.push(Lost::entry(LostSide::Source, source)),
                (None, Some(destination)) => lost.push(Lost {
                    side: LostSide::SourceDeletion,
                    digest: Digest::of_pair(destination.key.as_str(), b""),
                    version: "a deletion".to_owned(),
                }),
                (None, None) => {}
            }
            Verdict::Keep(lost)
        }
    }
}

/// Lists it, unless that is done.
fn open(seen: Seen<'_>) -> Verdict {
    let (source, destination) = digests(seen);
    let listed = seen.record.is_some_and(|record| {
        record.kind == Kind::Open && (record.source, record.destination) == (source, destination)
    });
    if listed {
        Verdict::StillOpen
    } else {
        Verdict::Open
    }
}

#[cfg(test)]
mod tests;
