//! What runs at scale showed, as tables for people.

use quorumor_lab::world::scale::{Outcome, Reached};

use crate::exit::Failure;
use crate::output;

/// A figure's cell, `-` for what wasn't measured.
pub(super) fn cell(figure: Option<f64>, unit: &str) -> String {
    match figure {
        Some(figure) if unit.is_empty() => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.2} {unit}"),
        None => "-".to_owned(),
    }
}

/// Everything that runs showed: one in full, several a line each.
pub(super) fn show(outcomes: &[Outcome]) -> Result<(), Failure> {
    match outcomes {
        [outcome] => show_one(outcome)?,
        several => show_several(several)?,
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.complete) {
        output::line(&format!("BROKEN: {}", outcome.command))?;
        for why in outcome.broken.iter().take(20) {
            output::line(&format!("  {why}"))?;
        }
    }
    Ok(())
}

fn reached(reached: Option<Reached>) -> String {
    match reached {
        Some(reached) => {
            let [half, most, last] =
                [reached.p50, reached.p99, reached.last].map(|at| cell(at, ""));
            format!("{half} / {most} / {last} s")
        }
        None => "-".to_owned(),
    }
}

fn show_one(outcome: &Outcome) -> Result<(), Failure> {
    let mut table = output::plain_table(["FIGURE", "VALUE"]);
    for (figure, value) in seen(outcome).into_iter().filter(|(_, value)| value != "-") {
        table.add_row([figure.to_owned(), value]);
    }
    for (figure, value) in costs(outcome) {
        table.add_row([figure.to_owned(), value]);
    }
    output::table(&table)?;
    for target in &outcome.targets {
        let word = if target.met { "met" } else { "MISSED" };
        output::line(&format!(
            "target {word}: {} is {}, at most {}",
            target.figure,
            cell(target.was, ""),
            target.at_most
        ))?;
    }
    output::line(&format!(
        "trace {}: {}",
        outcome.trace_hash, outcome.command
    ))
}

/// What the scenario is about.
fn seen(outcome: &Outcome) -> [(&'static str, String); 10] {
    let discarded = match (outcome.discarded, outcome.listed) {
        (Some(discarded), Some(listed)) => format!("{discarded}, {listed} of them in a ledger"),
        (_, _) => "-".to_owned(),
    };
    [
        (
            "an update reaches 50 % / 99 % / all",
            reached(outcome.spread_s),
        ),
        (
            "copies of an update a node",
            cell(outcome.copies_per_node, ""),
        ),
        (
            "nodes reached by repair",
            cell(outcome.repaired_percent, "%"),
        ),
        (
            "the last of them after",
            cell(outcome.repair_rounds, "rounds of anti-entropy"),
        ),
        (
            "a crash is first suspected after",
            cell(outcome.first_suspicion_periods, "probe periods"),
        ),
        ("and down everywhere after", cell(outcome.all_down_s, "s")),
        ("50 % / 99 % / all know all after", reached(outcome.join_s)),
        (
            "the sides find each other after",
            cell(outcome.found_s, "s"),
        ),
        ("and are equal after", cell(outcome.equal_s, "s")),
        ("concurrent values discarded", discarded),
    ]
}

/// What every run costs.
fn costs(outcome: &Outcome) -> [(&'static str, String); 4] {
    [
        (
            "running nodes held to be down",
            format!(
                "{} times, {} nodes",
                outcome.false_downs, outcome.falsely_down_nodes
            ),
        ),
        (
            "sent by a node in a second",
            format!(
                "{:.0} bytes, {:.0} of them by stream, in {:.2} datagrams; at most {}",
                outcome.bytes_per_node_s,
                outcome.stream_bytes_per_node_s,
                outcome.datagrams_per_node_s,
                outcome.peak_bytes_per_node_s
            ),
        ),
        (
            "wall time for a virtual second",
            format!(
                "{:.3} s, at most {:.3} s; computing {}",
                outcome.wall_s_per_sim_s,
                outcome.wall_s_per_sim_s_max,
                outcome
                    .cpu_s_per_sim_s
                    .map_or("-".to_owned(), |cpu_s| format!("{cpu_s:.3} s"))
            ),
        ),
        (
            "memory",
            outcome
                .rss_mib
                .map_or("-".to_owned(), |rss| format!("{rss} MiB")),
        ),
    ]
}

fn show_several(outcomes: &[Outcome]) -> Result<(), Failure> {
    let mut table = output::plain_table([
        "SEED",
        "50/99/ALL",
        "COPIES",
        "SUSPECT",
        "DOWN",
        "FALSE",
        "JOIN",
        "EQUAL",
        "B/NODE/S",
        "WALL/S",
        "TRACE",
    ]);
    for outcome in outcomes {
        table.add_row([
            outcome.seed.to_string(),
            reached(outcome.spread_s),
            cell(outcome.copies_per_node, ""),
            cell(outcome.first_suspicion_periods, ""),
            cell(outcome.all_down_s, "s"),
            outcome.false_downs.to_string(),
            cell(outcome.join_s.and_then(|join| join.last), "s"),
            cell(outcome.equal_s, "s"),
            format!("{:.0}", outcome.bytes_per_node_s),
            format!("{:.3}", outcome.wall_s_per_sim_s),
            outcome.trace_hash.clone(),
        ]);
    }
    output::table(&table)?;
    let kept = outcomes.iter().filter(|outcome| outcome.complete).count();
    output::line(&format!(
        "{kept} of {} seeds kept every promise",
        outcomes.len()
    ))
}
