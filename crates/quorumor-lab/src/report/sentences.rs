//! What the figures mean, in plain sentences: for each phase with a fault, and for the whole run.
//!
//! No figure is computed here beyond sums over runs. Works for any fault and any set of columns, because it speaks
//! only of what the history says was done, to whom, and what became of the operations on either side.

use super::words::{capital, count, counted, duration, listed, share};
use super::{Column, Comparison, Judgement};
use crate::analyse::{ByKind, Faulted, PhaseFigures, Recovery, RunResult, nodes_text};
use crate::checker::Verdict;
use crate::checker::availability::Counts;
use crate::history::NodeId;

/// A stretch without any answer that is worth a word.
const GAP_WORTH_US: u64 = 100_000;
/// As many different faults of a phase are named.
const LABELS_NAMED: usize = 3;

/// What was seen in one phase, or in the end: a clause for each column.
pub(super) struct Told {
    /// The phase.
    pub(super) title: String,
    /// The label of the column, and what it did.
    pub(super) clauses: Vec<(String, String)>,
}

/// Plain sentences that say what the figures mean: one for each phase with a fault, and the price and the verdict.
pub fn sentences(comparison: &Comparison) -> Vec<String> {
    let sentence = |told: &Told| {
        let clauses = told.clauses.iter();
        let clauses: Vec<String> = clauses
            .map(|(label, clause)| format!("{label} {clause}"))
            .collect();
        format!("{}: {}.", capital(&told.title), clauses.join("; "))
    };
    told(comparison).iter().map(sentence).collect()
}

/// The same, column by column.
pub(super) fn told(comparison: &Comparison) -> Vec<Told> {
    let mut all = Vec::new();
    for (place, phase) in comparison.scenario.phases.iter().enumerate() {
        let columns = comparison.columns.iter();
        let clauses: Vec<(String, String)> = columns
            .filter_map(|column| Some((column.label.clone(), fault_clause(column, place)?)))
            .collect();
        if !clauses.is_empty() {
            all.push(Told {
                title: phase.name.clone(),
                clauses,
            });
        }
    }
    let columns = comparison.columns.iter();
    all.push(Told {
        title: "in the end".to_owned(),
        clauses: columns
            .map(|column| (column.label.clone(), end_clause(column)))
            .collect(),
    });
    all
}

/// The verdict over all columns, in one sentence.
pub fn verdict_sentence(comparison: &Comparison) -> String {
    let of = |wanted: Judgement| {
        let columns = comparison.columns.iter();
        let columns = columns.filter(move |column| column.judgement() == wanted);
        columns
            .map(|column| column.label.clone())
            .collect::<Vec<String>>()
    };
    let (broken, void, undecided) = (
        of(Judgement::Broken),
        of(Judgement::Void),
        of(Judgement::Undecided),
    );
    if !broken.is_empty() {
        return format!("A promise was broken: by {}.", listed(&broken));
    }
    if !void.is_empty() {
        return format!("Void, so it proves nothing: {}.", listed(&void));
    }
    if !undecided.is_empty() {
        return format!("Not judged in full: {}.", listed(&undecided));
    }
    match comparison.columns.len() {
        0 => "Nothing was run.".to_owned(),
        1 => "It kept its promises.".to_owned(),
        2 => "Both kept their promises.".to_owned(),
        _ => "All kept their promises.".to_owned(),
    }
}

/// What a column comes to, in one line: for an index of many.
pub fn headline(column: &Column) -> String {
    let first_void = column.runs.iter().find_map(|run| run.void.first());
    match (column.judgement(), first_void) {
        (Judgement::Broken, _) => return format!("broke: {}", broken(column)),
        (Judgement::Void, Some(reason)) => return reason.text(),
        (Judgement::Void, None) => return "nothing was run".to_owned(),
        (Judgement::Kept | Judgement::Undecided, _) => {}
    }
    let sums = Sums::of(column, |run| Some(&run.total));
    let mut text = format!("{:.1} % answered", sums.counts.ok_percent());
    for (n, what) in [(sums.stale, "stale reads"), (sums.discarded, "discarded")] {
        if n > 0 {
            text.push_str(&format!(", {} {what}", count(n)));
        }
    }
    let slowest = column
        .counted()
        .iter()
        .filter_map(|run| run.converge_us)
        .max();
    if let Some(us) = slowest {
        text.push_str(&format!(", equal {} after the heal", duration(us)));
    }
    text
}

/// Figures of the counted runs together.
#[derive(Default)]
struct Sums {
    counts: Counts,
    stale: u64,
    stale_us_max: u64,
    lost: u64,
    discarded: u64,
    gap_us: u64,
}

impl Sums {
    fn of<'a>(
        column: &'a Column,
        figures: impl Fn(&'a RunResult) -> Option<&'a PhaseFigures>,
    ) -> Self {
        let mut sums = Self::default();
        for figures in column.counted().into_iter().filter_map(figures) {
            add(&mut sums.counts, figures.counts);
            sums.stale += figures.stale_reads;
            sums.stale_us_max = sums.stale_us_max.max(figures.stale_us_max);
            sums.lost += figures.lost;
            sums.discarded += figures.discarded;
            sums.gap_us = sums.gap_us.max(figures.gaps.everywhere_us);
        }
        sums
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.ok += counts.ok;
    sum.refused += counts.refused;
    sum.unknown += counts.unknown;
    sum.held_back += counts.held_back;
}

fn fault_clause(column: &Column, phase: usize) -> Option<String> {
    let faulted = |run: &'_ &RunResult| run.phases.get(phase)?.faulted.clone();
    let all: Vec<Faulted> = column.counted().iter().filter_map(faulted).collect();
    let shown = column.shown().and_then(|run| faulted(&run));
    let shown = shown.or_else(|| all.first().cloned())?;
    let sums = Sums::of(column, |run| run.phases.get(phase));
    let mut parts = sides(&all, &shown.nodes);
    parts.push(match sums.lost {
        0 => "lost no acknowledged write".to_owned(),
        n => format!(
            "LOST {}",
            counted(n, "acknowledged write", "acknowledged writes")
        ),
    });
    if sums.discarded > 0 {
        parts.push(format!(
            "discarded {} for concurrent ones",
            counted(sums.discarded, "write", "writes")
        ));
    }
    parts.push(match sums.stale {
        0 => "gave no stale read".to_owned(),
        n => format!(
            "gave {}, the oldest {} behind",
            counted(n, "stale read", "stale reads"),
            duration(sums.stale_us_max)
        ),
    });
    if sums.gap_us >= GAP_WORTH_US {
        parts.push(format!(
            "had no answer from any live node for {}",
            duration(sums.gap_us)
        ));
    }
    parts.extend(recovered(column, phase));
    Some(format!(
        "({}{}) {}",
        what(&shown),
        over(column),
        listed(&parts)
    ))
}

fn over(column: &Column) -> String {
    match column.counted().len() {
        0 | 1 => String::new(),
        runs => format!("; {runs} runs together"),
    }
}

/// What was done in a phase.
fn what(faulted: &Faulted) -> String {
    let labels = &faulted.labels;
    let more = labels.len().saturating_sub(LABELS_NAMED);
    let mut named: Vec<String> = labels.iter().take(LABELS_NAMED).cloned().collect();
    if more > 0 {
        named.push(counted(more as u64, "further fault", "further faults"));
    }
    listed(&named)
}

/// What became of the operations while a fault was in force, at the nodes it was aimed at and at the others.
fn sides(all: &[Faulted], nodes: &[NodeId]) -> Vec<String> {
    let (mut hit, mut rest) = (ByKind::default(), ByKind::default());
    for faulted in all {
        for (sum, side) in [(&mut hit, faulted.hit), (&mut rest, faulted.rest)] {
            add(&mut sum.reads, side.reads);
            add(&mut sum.writes, side.writes);
        }
    }
    let total = |side: &ByKind| side.reads.total() + side.writes.total();
    let ok = |side: &ByKind| side.reads.ok + side.writes.ok;
    let (asked, answered) = (total(&hit) + total(&rest), ok(&hit) + ok(&rest));
    if asked == 0 {
        return vec!["had no operation due meanwhile".to_owned()];
    }
    if asked == answered {
        return vec![format!("answered all {} operations", count(asked))];
    }
    let mut parts = Vec::new();
    if total(&hit) > 0 {
        let place = if nodes.is_empty() || total(&rest) == 0 {
            String::new()
        } else {
            format!(" at {}", nodes_text(nodes))
        };
        parts.push(side(&hit) + &place);
    }
    if total(&rest) > 0 {
        let place = if total(&hit) > 0 {
            " at the others"
        } else {
            ""
        };
        parts.push(side(&rest) + place);
    }
    parts
}

/// "refused 61 % of writes and all reads and left 4 open".
fn side(side: &ByKind) -> String {
    let refused = |counts: &Counts| counts.refused + counts.held_back;
    let open = side.reads.unknown + side.writes.unknown;
    let of = |counts: &Counts, noun: &str| match (refused(counts), counts.total()) {
        (0, _) => format!("no {noun}"),
        (part, whole) if part == whole => format!("all {noun}"),
        (part, whole) => format!("{} of {noun}", share(part, whole)),
    };
    let kinds = [(&side.writes, "writes"), (&side.reads, "reads")];
    let kinds: Vec<_> = kinds
        .into_iter()
        .filter(|kind| kind.0.total() > 0)
        .collect();
    let every = |wanted: fn(u64, u64) -> bool| {
        kinds
            .iter()
            .all(|(counts, _)| wanted(refused(counts), counts.total()))
    };
    let mut text = if every(|refused, _| refused == 0) {
        match open {
            0 => return "answered everything".to_owned(),
            _ => "refused nothing".to_owned(),
        }
    } else if every(|refused, total| refused == total) {
        "refused everything".to_owned()
    } else {
        let kinds: Vec<String> = kinds
            .iter()
            .map(|(counts, noun)| of(counts, noun))
            .collect();
        format!("refused {}", listed(&kinds))
    };
    if open > 0 {
        text.push_str(&format!(" (outcome of {} unknown)", count(open)));
    }
    text
}

/// The slowest recovery of the counted runs.
fn recovered(column: &Column, phase: usize) -> Option<String> {
    let phases = column
        .counted()
        .into_iter()
        .filter_map(|run| run.phases.get(phase));
    let slowest = phases.map(|phase| phase.recovery).max()?;
    match slowest {
        Recovery::NotNeeded | Recovery::After(0) => None,
        Recovery::After(us) => Some(format!("was well again after {}", duration(us))),
        Recovery::OnceHealed(us) => Some(format!(
            "was well again only once the fault was over, {} after it began",
            duration(us)
        )),
        Recovery::Never => Some("did not recover before the end".to_owned()),
    }
}

fn end_clause(column: &Column) -> String {
    let sums = Sums::of(column, |run| Some(&run.total));
    let runs = column.counted();
    let acked: u64 = runs.iter().map(|run| run.fates.acked()).sum();
    let verdict = match column.judgement() {
        Judgement::Broken => format!("BROKE a promise ({})", broken(column)),
        Judgement::Void => "proved nothing, as a run is void".to_owned(),
        Judgement::Undecided => "could not be judged in full".to_owned(),
        Judgement::Kept => "kept its promises".to_owned(),
    };
    let mut price = match sums.discarded {
        0 => String::new(),
        n => format!(
            ", discarded at least {} for concurrent ones as it says it does",
            count(n)
        ),
    };
    let listed: u64 = runs.iter().filter_map(|run| run.ledger).sum();
    if listed > 0 {
        price.push_str(&format!(
            " (its conflict ledger lists {}, with those that their own side had replaced by then)",
            count(listed)
        ));
    }
    // After a flood alone nobody looks: it keeps no node from being told.
    let mut bands = runs.iter().flat_map(|run| &run.bands);
    let healed = bands.any(|band| !band.nodes.is_empty());
    let slowest = runs
        .iter()
        .map(|run| run.converge_us)
        .max_by_key(|us| us.unwrap_or(u64::MAX));
    let converged = match slowest.flatten() {
        Some(us) => format!(", and had all nodes equal {} after the heal", duration(us)),
        None if healed => ", and was not seen equal on all nodes after the heal".to_owned(),
        None => String::new(),
    };
    format!(
        "{verdict}: it lost {} of {} acknowledged writes{price}{converged}",
        count(sums.lost),
        count(acked)
    )
}

/// The properties that did not hold in some run.
pub(super) fn broken(column: &Column) -> String {
    let findings = column.runs.iter().flat_map(|run| &run.findings);
    let invalid = findings.filter(|finding| finding.verdict == Verdict::Invalid);
    let mut names: Vec<&str> = invalid.map(|finding| finding.property.name()).collect();
    names.sort_unstable();
    names.dedup();
    names.join("; ")
}
