//! Lost acknowledged writes, in five classes that are never summed. At the end an acknowledged write
//!
//! 1. is visible;
//! 2. is superseded, by a write that saw it or began after its acknowledgement;
//! 3. is lost to a write that was concurrent in time;
//! 4. is lost to one that had ended before it began (a clock was wrong);
//! 5. is gone, with nothing that could have replaced it.
//!
//! Strong: 3 to 5 are broken promises; of two writes the one of higher revision saw the other. Eventual: 5 is
//! broken, unless the node that acknowledged lost its disk within [`SPREAD_US`], since the promise is its log and that it
//! spreads; 4 only if the loser had seen the winner; 3 is the documented price, and is counted (that the conflict ledgers list
//! it is [`super::ledger`]'s). Keys under a lease go with it, and are judged by [`super::lease`].

use serde::{Deserialize, Serialize};

use super::order::{KeyHistory, Rank, Write, by_key};
use super::{Evidence, Finding, Property, Verdict};
use crate::history::{
    Dot, FaultAction, FaultRecord, FaultStep, FinalEntry, History, Mode, NodeId, OpId,
};

/// What a node acknowledged may be on its disk alone for so long: rounds of gossip, and of anti-entropy where those were lost.
pub const SPREAD_US: u64 = 3_000_000;

/// What became of an acknowledged write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Class 1.
    Visible,
    /// Class 2.
    Superseded,
    /// Class 3.
    LostToConcurrent,
    /// Class 4.
    LostToEarlier,
    /// Class 5.
    NoSuccessor,
    /// Its version is not known, so nobody can tell.
    Unjudged,
}

/// How many acknowledged writes met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FateCounts {
    /// Class 1.
    pub visible: u64,
    /// Class 2.
    pub superseded: u64,
    /// Class 3.
    pub lost_to_concurrent: u64,
    /// Class 4.
    pub lost_to_earlier: u64,
    /// Class 5.
    pub no_successor: u64,
    /// Version unknown.
    pub unjudged: u64,
}

impl FateCounts {
    /// All of them.
    pub fn acked(&self) -> u64 {
        self.visible
            + self.superseded
            + self.lost_to_concurrent
            + self.lost_to_earlier
            + self.no_successor
            + self.unjudged
    }

    /// Counts one more.
    pub fn add(&mut self, fate: Fate) {
        let counter = match fate {
            Fate::Visible => &mut self.visible,
            Fate::Superseded => &mut self.superseded,
            Fate::LostToConcurrent => &mut self.lost_to_concurrent,
            Fate::LostToEarlier => &mut self.lost_to_earlier,
            Fate::NoSuccessor => &mut self.no_successor,
            Fate::Unjudged => &mut self.unjudged,
        };
        *counter += 1;
    }
}

/// One acknowledged write and its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFate {
    /// The write.
    pub op: OpId,
    /// When it was due.
    pub due_us: u64,
    /// What became of it.
    pub fate: Fate,
    /// Whether that broke a promise of the mode.
    pub broken: bool,
    /// Eventual: whether the conflict rule discarded it for a concurrent write, as the contexts tell.
    pub discarded: bool,
}

/// What became of the acknowledged writes of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fates {
    /// The verdict.
    pub finding: Finding,
    /// All of them.
    pub counts: FateCounts,
    /// Each of them.
    pub writes: Vec<WriteFate>,
    /// Eventual: what the conflict ledgers list as discarded, the most of any node.
    pub ledger: Option<u64>,
}

/// Judges a history of either mode by the final states of its nodes.
pub fn check(history: &History) -> Fates {
    let mode = history.header.mode;
    let ledger = history
        .finals
        .iter()
        .filter_map(|state| state.discarded)
        .max();
    let mut judge = Judge {
        mode,
        disks_lost: disks_lost(history),
        counts: FateCounts::default(),
        writes: Vec::new(),
        evidence: Vec::new(),
    };
    if !history.finals.is_empty() {
        for (key, ops) in by_key(history).into_iter().filter(|(_, key)| !key.leased) {
            let entries: Vec<&FinalEntry> = history
                .finals
                .iter()
                .flat_map(|state| &state.entries)
                .filter(|entry| entry.key == key)
                .collect();
            judge.judge_key(&ops, &entries);
        }
    }
    let counts = judge.counts;
    let acked = judge.writes.len();
    let summary = format!(
        "{acked} acknowledged writes: {} visible, {} superseded, {} lost to a concurrent write, {} to an earlier one, \
         {} gone without a successor, {} not judged",
        counts.visible,
        counts.superseded,
        counts.lost_to_concurrent,
        counts.lost_to_earlier,
        counts.no_successor,
        counts.unjudged
    );
    let mut finding = Finding::from_evidence(Property::Durability, summary, judge.evidence);
    if history.finals.is_empty() {
        finding = Finding::unknown(Property::Durability, "no node was read at the end");
    } else if finding.verdict == Verdict::Valid && counts.unjudged > 0 {
        finding.verdict = Verdict::Unknown;
    }
    Fates {
        finding,
        counts,
        writes: judge.writes,
        ledger,
    }
}

/// When which node's disk was emptied or damaged.
fn disks_lost(history: &History) -> Vec<(NodeId, u64)> {
    let damages = |record: &&FaultRecord| {
        let action = record.action;
        let damages = [
            FaultAction::Wipe,
            FaultAction::TearLog,
            FaultAction::FlipBit,
        ];
        record.step == FaultStep::Effective && damages.contains(&action)
    };
    let records = history.faults.iter().filter(damages);
    let lost = records.flat_map(|record| record.nodes.iter().map(|&node| (node, record.at_us)));
    lost.collect()
}

struct Judge {
    mode: Mode,
    disks_lost: Vec<(NodeId, u64)>,
    counts: FateCounts,
    writes: Vec<WriteFate>,
    evidence: Vec<Evidence>,
}

impl Judge {
    fn judge_key(&mut self, key: &KeyHistory<'_>, entries: &[&FinalEntry]) {
        let winner = final_rank(key, entries);
        // A delete without a version found nothing, so it changed nothing that could be lost.
        let changed = |write: &&Write<'_>| write.value.is_some() || write.rank.is_some();
        for write in key
            .writes
            .iter()
            .filter(|write| write.acked.is_some())
            .filter(changed)
        {
            let (fate, other) = fate(self.mode, key, entries, winner, write);
            let broken = match (self.mode, fate) {
                (_, Fate::Visible | Fate::Superseded | Fate::Unjudged) => false,
                (Mode::Eventual, Fate::NoSuccessor) => !self.had_no_time_to_spread(write),
                (Mode::Strong, Fate::NoSuccessor)
                | (Mode::Strong, Fate::LostToConcurrent | Fate::LostToEarlier) => true,
                (Mode::Eventual, Fate::LostToConcurrent) => false,
                (Mode::Eventual, Fate::LostToEarlier) => {
                    other.is_some_and(|other| had_seen(write, other))
                }
            };
            self.counts.add(fate);
            let (op, due_us) = (write.op.id(), write.op.invoke.due_us);
            self.writes.push(WriteFate {
                op,
                due_us,
                fate,
                broken,
                discarded: self.mode == Mode::Eventual && is_discarded(key, write, entries),
            });
            if broken {
                let mut ops = vec![write.op];
                ops.extend(other.map(|other| other.op));
                self.evidence
                    .push(Evidence::new(broken_text(fate, write, entries), &ops));
            }
        }
    }
}

impl Judge {
    /// Whether the disk that held the write was lost soon after the acknowledgement.
    fn had_no_time_to_spread(&self, write: &Write<'_>) -> bool {
        let soon = |lost_us: u64| {
            write
                .acked
                .is_some_and(|acked| (acked..=acked.saturating_add(SPREAD_US)).contains(&lost_us))
        };
        let mut lost = self.disks_lost.iter();
        lost.any(|&(node, lost_us)| node == write.op.invoke.node && soon(lost_us))
    }
}

fn broken_text(fate: Fate, write: &Write<'_>, entries: &[&FinalEntry]) -> String {
    let end = entries
        .iter()
        .find_map(|entry| entry.values.first())
        .map_or("absent", String::as_str);
    let key = &write.op.invoke.key;
    match fate {
        Fate::NoSuccessor => {
            format!("an acknowledged write of {key} is gone: the key is {end} at the end")
        }
        Fate::LostToConcurrent
        | Fate::LostToEarlier
        | Fate::Visible
        | Fate::Superseded
        | Fate::Unjudged => {
            format!("an acknowledged write of {key} lost to one that it should have replaced")
        }
    }
}

/// The highest version that any node shows at the end; for an absent key that of the highest delete.
fn final_rank(key: &KeyHistory<'_>, entries: &[&FinalEntry]) -> Option<Rank> {
    let named = |entry: &&FinalEntry| {
        let value = entry.values.first().map(String::as_str);
        let by_value = || {
            key.writes
                .iter()
                .find(|write| write.value == value)
                .and_then(|write| write.rank)
        };
        entry.version.as_ref().map(Rank::of).or_else(by_value)
    };
    let shown = entries
        .iter()
        .filter(|entry| !entry.values.is_empty())
        .filter_map(named)
        .max();
    let deletes = key
        .writes
        .iter()
        .filter(|write| write.value.is_none())
        .filter_map(|write| write.rank)
        .max();
    shown.or(deletes)
}

fn fate<'k, 'a>(
    mode: Mode,
    key: &'k KeyHistory<'a>,
    entries: &[&FinalEntry],
    winner: Option<Rank>,
    write: &Write<'a>,
) -> (Fate, Option<&'k Write<'a>>) {
    let holds = |entry: &&&FinalEntry| {
        entry
            .values
            .iter()
            .any(|value| Some(value.as_str()) == write.value)
    };
    let absent = entries.iter().all(|entry| entry.values.is_empty());
    if entries.iter().any(|entry| holds(&entry)) || (write.value.is_none() && absent) {
        return (Fate::Visible, None);
    }
    let Some(rank) = write.rank else {
        return (Fate::Unjudged, None);
    };
    // A delete whose version nobody knows may have removed it.
    let blind_delete = |other: &Write<'_>| {
        other.value.is_none() && other.rank.is_none() && !write.began_after(other)
    };
    if absent && key.writes.iter().any(blind_delete) {
        return (
            Fate::Superseded,
            key.writes.iter().find(|other| blind_delete(other)),
        );
    }
    if winner.is_none_or(|winner| winner < rank) {
        return (Fate::NoSuccessor, None);
    }
    let higher = || {
        key.writes
            .iter()
            .filter(move |other| other.rank.is_some_and(|other| other > rank))
    };
    let ended_before = |other: &Write<'_>| write.began_after(other);
    let saw = |other: &Write<'_>| match mode {
        Mode::Strong => !ended_before(other),
        Mode::Eventual => covers(other.context(), write.dot()),
    };
    if let Some(other) = higher().find(|other| saw(other) || other.began_after(write)) {
        return (Fate::Superseded, Some(other));
    }
    if let Some(other) = higher().find(|other| !ended_before(other)) {
        return (Fate::LostToConcurrent, Some(other));
    }
    let class = if higher().next().is_some() {
        Fate::LostToEarlier
    } else {
        Fate::NoSuccessor
    };
    (
        class,
        higher()
            .find(|other| had_seen(write, other))
            .or_else(|| higher().next()),
    )
}

fn covers(context: Option<&[Dot]>, dot: Option<Dot>) -> bool {
    let (Some(context), Some(dot)) = (context, dot) else {
        return false;
    };
    context
        .iter()
        .any(|row| (row.writer, row.log_id) == (dot.writer, dot.log_id) && row.seq >= dot.seq)
}

/// True if the loser certainly had seen the winner: by its context, by its session's token, or at the same node.
fn had_seen(loser: &Write<'_>, winner: &Write<'_>) -> bool {
    let same_session =
        loser.op.invoke.session == winner.op.invoke.session && loser.op.invoke.token.is_some();
    let same_node = loser.op.invoke.node == winner.op.invoke.node;
    covers(loser.context(), winner.dot())
        || (loser.began_after(winner) && (same_session || same_node))
}

/// Whether a write was beaten by a concurrent one of higher rank before anyone replaced it: whoever's context covers
/// it covers the winner too. Where a context is not on record the write counts as replaced, so this never says too much.
fn is_discarded(key: &KeyHistory<'_>, write: &Write<'_>, entries: &[&FinalEntry]) -> bool {
    let visible = entries.iter().any(|entry| {
        let mut values = entry.values.iter();
        values.any(|value| Some(value.as_str()) == write.value)
    });
    let sees = |one: &Write<'_>, other: &Write<'_>| covers(one.context(), other.dot());
    // A deletion that everybody knew is forgotten, and then no later context names it.
    let forgotten = |winner: &Write<'_>| write.value.is_none() && winner.began_after(write);
    let beats = |winner: &&Write<'_>| {
        winner.rank > write.rank
            && winner.context().is_some()
            && !forgotten(winner)
            && !sees(winner, write)
            && !sees(write, winner)
    };
    // A write whose context nobody knows may have replaced it.
    let blind = |other: &Write<'_>| {
        other.context().is_none() && other.rank.is_none_or(|rank| Some(rank) > write.rank)
    };
    let replaces = |other: &Write<'_>, winner: &Write<'_>| {
        let replaced = blind(other) || (sees(other, write) && !sees(other, winner));
        other.op.id() != write.op.id() && replaced
    };
    let replaced_before =
        |winner: &Write<'_>| key.writes.iter().any(|other| replaces(other, winner));
    let mut winners = key.writes.iter().filter(beats);
    !visible && write.context().is_some() && winners.any(|winner| !replaced_before(winner))
}
