//! Figures as words: durations and counts as people write them, the promises, and three sentences for the whole run.
//!
//! No figure is computed here. Called by the table and the page.

use crate::analyse::{ModeResult, PhaseFigures, Recovery};
use crate::checker::{Finding, Verdict};
use crate::history::Mode;
use crate::scenario::FaultKind;

use super::Comparison;

/// A duration with the unit that suits it.
pub(super) fn duration(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    match us {
        0 => "0".to_owned(),
        1..10_000 => format!("{ms:.1} ms"),
        10_000..999_500 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1_000.0),
    }
}

/// The same for a figure that may be missing.
pub(super) fn maybe(us: Option<u64>) -> String {
    us.map_or("-".to_owned(), duration)
}

/// A count with thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How a phase recovered, in one or two words.
pub(super) fn recovery(recovery: Recovery) -> String {
    match recovery {
        Recovery::NotNeeded => "-".to_owned(),
        Recovery::After(0) => "no pause".to_owned(),
        Recovery::After(us) => duration(us),
        Recovery::OnceHealed(us) => format!("{} *", duration(us)),
        Recovery::Never => "never".to_owned(),
    }
}

/// What an ok answer means in a mode, in a few words: latencies of the two modes buy different things.
pub(super) fn guarantee(mode: Mode) -> &'static str {
    match mode {
        Mode::Strong => "majority",
        Mode::Eventual => "one node",
    }
}

/// What a mode promises, one clause a line.
pub(super) fn promises(mode: Mode) -> [&'static str; 4] {
    match mode {
        Mode::Strong => [
            "An acknowledged write is fsynced on a majority.",
            "A default read is linearizable, at any node.",
            "In a minority partition it refuses, at once and with a typed error.",
            "After the heal there is nothing to do.",
        ],
        Mode::Eventual => [
            "An acknowledged write is in this node's log and spreading.",
            "A default read is this node's view, never older than the caller's session token.",
            "In a minority partition it keeps reading and writing.",
            "After the heal it converges; concurrent writes are resolved by one rule, each discarded value counted.",
        ],
    }
}

/// One word for a mode's run.
pub(super) fn judgement(result: &ModeResult) -> &'static str {
    match (result.verdict, result.void.is_empty()) {
        (Verdict::Invalid, _) => "BROKEN",
        (Verdict::Valid | Verdict::Unknown, false) => "void",
        (Verdict::Unknown, true) => "undecided",
        (Verdict::Valid, true) => "kept",
    }
}

/// Three plain sentences that say what the figures mean: the kill, the partition, the price and the verdict.
/// A scenario without such a fault has fewer.
pub fn sentences(comparison: &Comparison) -> Vec<String> {
    let mut sentences = Vec::new();
    for (fault, planned) in comparison.scenario.faults.iter().enumerate() {
        let phase = comparison.scenario.phase_at(planned.start_us);
        let clause = |result: &ModeResult| {
            let figures = result.phases.get(phase)?;
            let who = result.bands.get(fault).map(|band| band.who.as_str());
            Some(match planned.kind {
                FaultKind::Kill(_) => kill_clause(result.mode, figures, who),
                FaultKind::Partition(_) => partition_clause(result.mode, figures, who),
            })
        };
        let clauses: Vec<String> = comparison.modes.iter().filter_map(clause).collect();
        sentences.push(sentence(&clauses));
    }
    let clauses: Vec<String> = comparison.modes.iter().map(end_clause).collect();
    sentences.push(format!("In the end {}.", clauses.join("; ")));
    sentences
}

fn sentence(clauses: &[String]) -> String {
    let joined = clauses.join("; ");
    let mut letters = joined.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

fn kill_clause(mode: Mode, figures: &PhaseFigures, who: Option<&str>) -> String {
    let name = mode.name();
    let Some(who) = who else {
        return format!("no node of {name} was killed");
    };
    let role = match mode {
        Mode::Strong => "leader",
        Mode::Eventual => "busiest node, as it has no leader",
    };
    let pause = duration(figures.gaps.everywhere_us);
    let after = match figures.recovery {
        Recovery::NotNeeded | Recovery::After(0) => "the other nodes went on as before".to_owned(),
        Recovery::After(us) => format!(
            "no node answered for {pause} and all was well again after {}",
            duration(us)
        ),
        Recovery::OnceHealed(us) => format!(
            "no node answered for {pause} and all was well only once the node was back, after {}",
            duration(us)
        ),
        Recovery::Never => {
            format!("no node answered for {pause} and it did not recover before the end")
        }
    };
    format!("when {who} of {name} was killed (its {role}), {after}")
}

fn partition_clause(mode: Mode, figures: &PhaseFigures, who: Option<&str>) -> String {
    let name = mode.name();
    let Some(who) = who else {
        return format!("no node of {name} was cut off");
    };
    let counts = &figures.counts;
    let failed = counts.total() - counts.ok;
    let rest = match failed {
        0 => String::new(),
        _ => format!(
            ", refused {}, left {} open",
            count(counts.refused + counts.held_back),
            count(counts.unknown)
        ),
    };
    let stale = match figures.stale_reads {
        0 => "gave no stale answer".to_owned(),
        n => format!(
            "gave {} stale answers, the oldest {} behind",
            count(n),
            duration(figures.stale_us_max)
        ),
    };
    format!(
        "with {who} cut off, {name} answered {:.1} % of {} operations{rest} and {stale}",
        counts.ok_percent(),
        count(counts.total())
    )
}

fn end_clause(result: &ModeResult) -> String {
    let name = result.mode.name();
    let fates = &result.fates;
    let acked = fates.visible
        + fates.superseded
        + fates.lost_to_concurrent
        + fates.lost_to_earlier
        + fates.no_successor
        + fates.unjudged;
    let verdict = match judgement(result) {
        "BROKEN" => format!("BROKE a promise ({})", broken(result)),
        "void" => "proved nothing, as the run is void".to_owned(),
        "undecided" => "could not be judged in full".to_owned(),
        _ => "kept its promises".to_owned(),
    };
    let mut price = match result.total.discarded {
        0 => String::new(),
        n => format!(
            ", discarded at least {} for concurrent ones as it says it does",
            count(n)
        ),
    };
    if let Some(listed) = result.ledger.filter(|&listed| listed > 0) {
        price.push_str(&format!(
            " (its conflict ledger lists {}, with those that their own side had replaced by then)",
            count(listed)
        ));
    }
    let converged = match result.converge_us {
        Some(us) => format!("had all nodes equal {} after the heal", duration(us)),
        None => "was not seen equal on all nodes after the heal".to_owned(),
    };
    let (lost, acked) = (count(result.total.lost), count(acked));
    format!(
        "{name} {verdict}: it lost {lost} of {acked} acknowledged writes{price}, and {converged}"
    )
}

/// The properties that did not hold.
fn broken(result: &ModeResult) -> String {
    let broken = |finding: &&Finding| finding.verdict == Verdict::Invalid;
    let names = result.findings.iter().filter(broken);
    let names: Vec<&str> = names.map(|finding| finding.property.name()).collect();
    names.join("; ")
}
