//! Revision order (strong mode): the second, linear-time check beside the search for a linear order.
//!
//! It holds when every write has a revision of its own; a write that began after another was acknowledged has the
//! higher one; an answer that claims to be linearizable stands at or after every revision acknowledged or shown before it
//! began; and it shows what replaying the writes up to its position gives. A write of unknown outcome has a
//! revision only once somebody saw it; a delete of unknown outcome may explain any absence.

use std::collections::BTreeMap;

use super::order::{KeyHistory, Rank, Sight, Write, by_key};
use super::{Evidence, Finding, Property};
use crate::history::{History, Level, Op};

/// Judges a history of strong mode.
pub fn check(history: &History) -> Finding {
    let keys = by_key(history);
    let mut writes: Vec<(u64, &Write<'_>)> = Vec::new();
    for key in keys.values() {
        writes.extend(
            key.writes
                .iter()
                .filter_map(|write| Some((revision(write.rank)?, write))),
        );
    }
    let mut evidence = Vec::new();
    unique(&mut writes, &mut evidence);
    let sights: Vec<&Sight<'_>> = keys.values().flat_map(|key| &key.sights).collect();
    let acked = Acked::new(&writes, &sights);
    real_time(&writes, &acked, &mut evidence);
    let mut reads = 0u64;
    for key in keys.values() {
        for sight in key.sights.iter().filter(|sight| is_linearizable(sight)) {
            reads += 1;
            evidence.extend(fresh(sight, &acked));
            evidence.extend(replayed(key, sight));
        }
    }
    let summary = format!(
        "{} writes with a revision and {reads} reads: {} contradictions",
        writes.len(),
        evidence.len()
    );
    Finding::from_evidence(Property::RevisionOrder, summary, evidence)
}

fn revision(rank: Option<Rank>) -> Option<u64> {
    match rank? {
        Rank::Strong(revision) => Some(revision),
        Rank::Eventual(..) => None,
    }
}

fn is_linearizable(sight: &Sight<'_>) -> bool {
    sight
        .ret
        .got
        .or(sight.op.invoke.level)
        .unwrap_or(Level::Linearizable)
        == Level::Linearizable
}

fn unique(writes: &mut [(u64, &Write<'_>)], evidence: &mut Vec<Evidence>) {
    writes.sort_by_key(|&(revision, _)| revision);
    for pair in writes.windows(2) {
        if let [(a, first), (b, second)] = pair
            && a == b
        {
            evidence.push(Evidence::new(
                format!("revision {a} was given to two writes"),
                &[first.op, second.op],
            ));
        }
    }
}

/// For any time, the highest revision that was acknowledged, or shown by an answer, before it.
struct Acked<'a> {
    steps: BTreeMap<u64, (u64, &'a Op)>,
}

impl<'a> Acked<'a> {
    fn new(writes: &[(u64, &Write<'a>)], sights: &[&Sight<'a>]) -> Self {
        let mut acks: Vec<(u64, u64, &'a Op)> = writes
            .iter()
            .filter_map(|(revision, write)| Some((write.acked?, *revision, write.op)))
            .collect();
        // What an answer showed was committed by then, whether or not its writer ever heard.
        acks.extend(sights.iter().filter_map(|sight| {
            let position = sight.ret.position.map(|position| position.revision);
            Some((
                sight.ret.at_us,
                revision(sight.rank).max(position)?,
                sight.op,
            ))
        }));
        acks.sort_by_key(|&(acked, revision, _)| (acked, revision));
        let mut steps = BTreeMap::new();
        let mut highest = 0;
        for (acked, revision, op) in acks {
            if revision > highest {
                highest = revision;
                steps.insert(acked, (revision, op));
            }
        }
        Self { steps }
    }

    fn before(&self, at_us: u64) -> Option<(u64, &'a Op)> {
        self.steps.range(..at_us).next_back().map(|(_, &step)| step)
    }
}

fn real_time(writes: &[(u64, &Write<'_>)], acked: &Acked<'_>, evidence: &mut Vec<Evidence>) {
    for &(revision, write) in writes {
        if let Some((earlier, op)) = acked.before(write.op.invoke.at_us)
            && earlier >= revision
        {
            let text = format!(
                "revision {revision} began after revision {earlier} was acknowledged or shown"
            );
            evidence.push(Evidence::new(text, &[op, write.op]));
        }
    }
}

fn fresh(sight: &Sight<'_>, acked: &Acked<'_>) -> Option<Evidence> {
    let position = sight.ret.position?.revision;
    let (earlier, op) = acked.before(sight.op.invoke.at_us)?;
    (earlier > position).then(|| {
        let text = format!(
            "a read at revision {position} began after revision {earlier} was acknowledged"
        );
        Evidence::new(text, &[op, sight.op])
    })
}

fn replayed(key: &KeyHistory<'_>, sight: &Sight<'_>) -> Option<Evidence> {
    let position = sight.ret.position?.revision;
    let upto = key
        .writes
        .iter()
        .filter_map(|write| Some((revision(write.rank)?, write)));
    let last = upto
        .filter(|&(revision, _)| revision <= position)
        .max_by_key(|&(revision, _)| revision);
    let shown = revision(sight.rank);
    let (expected, value) = last.map_or((None, None), |(revision, write)| {
        (Some(revision), write.value)
    });
    let same_value = value == sight.value;
    let same_revision = sight.value.is_none() || shown.is_none() || shown == expected;
    // An unplaced delete or a lease's end explains an absence; an unplaced put would have been placed by its value.
    let unplaced = |write: &Write<'_>| write.value.is_none() && write.rank.is_none();
    let wildcard = sight.value.is_none() && (key.leased || key.writes.iter().any(unplaced));
    if (same_value && same_revision) || wildcard {
        return None;
    }
    let text = format!(
        "at revision {position} the replayed state has {}, the answer {}",
        value.unwrap_or("no entry"),
        sight.value.unwrap_or("no entry")
    );
    let mut ops: Vec<&Op> = last.map(|(_, write)| write.op).into_iter().collect();
    ops.push(sight.op);
    Some(Evidence::new(text, &ops))
}
