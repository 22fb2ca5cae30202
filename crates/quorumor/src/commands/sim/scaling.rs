//! `quorumor sim --scenario scaling`: the hops that an update takes, from ten nodes to ten thousand, beside the logarithm.

use std::path::Path;

use quorumor_lab::report::chart::{Axis, Chart, Line, Scale, Stroke};
use quorumor_lab::world::scale::{Options, Outcome, Reached};

use super::SimArgs;
use super::plots::write;
use super::scale::{as_json, exit, options, simulate};
use super::tables::cell;
use crate::args::Report;
use crate::exit::{Exit, Failure};
use crate::output;

const SIZES: [u64; 7] = [10, 30, 100, 300, 1_000, 3_000, 10_000];
/// With fanout 3 the informed can at best become four times as many with a hop.
const GROWTH: f64 = 4.0;

/// Runs every size up to `--nodes` with every seed.
pub(super) fn series(args: &SimArgs) -> Result<Exit, Failure> {
    let most = args.nodes.unwrap_or(10_000);
    let hop_s = hop_s(&options(args, 0)?);
    let mut outcomes = Vec::new();
    for nodes in SIZES.into_iter().filter(|nodes| *nodes <= most) {
        for seed in args.seeds(3) {
            let sized = SimArgs {
                nodes: Some(nodes),
                ..args.clone()
            };
            let outcome = simulate(&options(&sized, seed)?)?;
            if args.output == Report::Json {
                output::json(&as_json(&outcome)?)?;
            }
            outcomes.push(outcome);
        }
    }
    if args.output == Report::Text {
        show(&outcomes, hop_s)?;
    }
    let directory = args.scale.out.as_deref();
    write(
        directory.unwrap_or(Path::new(".")),
        "scaling.svg",
        &chart(&outcomes, hop_s),
    )?;
    Ok(exit(&outcomes))
}

/// What is fresh is told on at once, so that a round of its wave is the mean delay of a link, in seconds.
fn hop_s(options: &Options) -> f64 {
    let mean_us = options.latency_us + options.jitter_us / 2;
    mean_us.max(1) as f64 / 1_000_000.0
}

fn show(outcomes: &[Outcome], hop_s: f64) -> Result<(), Failure> {
    let mut table = output::plain_table([
        "NODES",
        "SEED",
        "HOPS TO 99 %",
        "TO ALL",
        "LOG4(N)",
        "COPIES",
        "WALL/S",
        "TRACE",
    ]);
    for outcome in outcomes {
        let hops = |at: fn(Reached) -> Option<f64>| {
            cell(outcome.spread_s.and_then(at).map(|s| s / hop_s), "")
        };
        table.add_row([
            outcome.nodes.to_string(),
            outcome.seed.to_string(),
            hops(|spread| spread.p99),
            hops(|spread| spread.last),
            format!("{:.2}", f64::from(outcome.nodes).log(GROWTH)),
            cell(outcome.copies_per_node, ""),
            format!("{:.3}", outcome.wall_s_per_sim_s),
            outcome.trace_hash.clone(),
        ]);
    }
    output::table(&table)
}

/// Hops against nodes, the mean of the seeds, with the logarithm beside them.
fn chart(outcomes: &[Outcome], hop_s: f64) -> Chart {
    let mut sizes: Vec<u32> = outcomes.iter().map(|outcome| outcome.nodes).collect();
    sizes.dedup();
    let line = |name: &str, at: fn(Reached) -> Option<f64>| Line {
        name: name.to_owned(),
        stroke: Stroke::Dotted,
        points: sizes
            .iter()
            .filter_map(|nodes| {
                let all: Option<Vec<f64>> = outcomes
                    .iter()
                    .filter(|outcome| outcome.nodes == *nodes)
                    .map(|outcome| outcome.spread_s.and_then(at))
                    .collect();
                let all = all?;
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                Some((f64::from(*nodes), mean / hop_s))
            })
            .collect(),
    };
    let logarithm = Line {
        name: "log4 of the nodes".to_owned(),
        stroke: Stroke::Reference,
        points: sizes
            .iter()
            .map(|nodes| (f64::from(*nodes), f64::from(*nodes).log(GROWTH)))
            .collect(),
    };
    let loss = outcomes.first().map_or(0.0, |outcome| outcome.loss);
    Chart {
        title: "Hops until an update has spread".to_owned(),
        subtitle: format!(
            "a hop is the mean delay of a link, {} ms; fanout 3, {loss} % loss; the slowest update, mean of the seeds",
            hop_s * 1_000.0
        ),
        x: Axis {
            label: "nodes".to_owned(),
            scale: Scale::Log,
            range: None,
        },
        y: Axis {
            label: "hops".to_owned(),
            scale: Scale::Linear,
            range: None,
        },
        lines: vec![
            line("all nodes", |spread| spread.last),
            line("99 % of the nodes", |spread| spread.p99),
            logarithm,
        ],
    }
}
