//! How an update spreads among the real replicas, hop by hop and in time.

use anyhow::Result;

use super::CalibrateOptions;
use super::row::{Law, Part, Row};
use crate::theory::epidemic::{Push, crossing};
use crate::theory::freshness::fresh_share;
use crate::theory::wave::Wave;
use crate::world::scale::{self, Curve, Options, Outcome, Scenario};

/// The writer's disk: nobody hears of a write before.
const FSYNC_MS: f64 = 1.0;
/// Hops that are followed: those of the first wave, all within the 40 ms before anyone tells again.
const HOPS: usize = 30;
const WAVE: &str = "derived: `theory/wave.rs`, after Demers 1987, 1.4";
const GOSSIP_INTERVAL_S: f64 = 0.2;

pub(super) fn rows(options: &CalibrateOptions) -> Result<Vec<Row>> {
    let sizes: &[u32] = if options.quick {
        &[10, 100, 1_000]
    } else {
        &[10, 30, 100, 300, 1_000, 3_000]
    };
    let mut rows = Vec::new();
    for nodes in sizes {
        for percent in [0, 30] {
            rows.extend(wave(options, *nodes, percent)?);
        }
    }
    rows.extend(in_time(options)?);
    Ok(rows)
}

/// One update of one writer; `jitter_us` is 0 for hops that are all equal.
fn spread(nodes: u32, percent: u32, jitter_us: u64, seed: u64) -> Result<Outcome> {
    let options = Options {
        loss_ppm: percent * 10_000,
        jitter_us,
        writers: 1,
        // Long enough for what is told at the start to have died out.
        settle_us: 8_000_000,
        duration_us: 1_000_000,
        ..Options::new(Scenario::Spread, nodes, seed)
    };
    scale::run(&options, &mut |_| ())
}

fn law(what: String, source: &'static str, unit: &'static str, expected: f64) -> Law {
    Law {
        part: Part::Spreading,
        what,
        source,
        unit,
        expected,
        allowance: 0.0,
        why: "nothing beside chance",
        known: None,
    }
}

fn curves(outcomes: Vec<Outcome>) -> Vec<Curve> {
    let curve = |outcome: Outcome| outcome.spread_curve;
    outcomes.into_iter().filter_map(curve).collect()
}

/// The share that had it by then, as the last point says: between hops nothing happens.
fn by(curve: &Curve, seconds: f64) -> f64 {
    let points = curve.iter().take_while(|(at, _)| *at <= seconds);
    points.last().map_or(0.0, |(_, share)| *share)
}

/// The share after each hop, hops of a millisecond.
fn by_hops(curve: &Curve) -> Vec<f64> {
    let after = |hop: usize| by(curve, (FSYNC_MS + hop as f64 + 0.5) / 1_000.0);
    (0..=HOPS).map(after).collect()
}

/// Hops to half, and what the first wave reaches; without loss, hops to 99 % beside Pittel's and Serf's laws.
fn wave(options: &CalibrateOptions, nodes: u32, percent: u32) -> Result<Vec<Row>> {
    // Small clusters cost next to nothing, large ones much.
    let seeds = match nodes {
        0..=100 => 10 * options.seeds,
        101..=300 => 2 * options.seeds,
        301..=1_000 => options.seeds,
        _ => options.seeds.div_ceil(4),
    };
    let runs = (0..seeds)
        .map(|seed| spread(nodes, percent, 0, seed))
        .collect::<Result<Vec<_>>>()?;
    let hops: Vec<Vec<f64>> = curves(runs).iter().map(by_hops).collect();
    let loss = f64::from(percent) / 100.0;
    let wave = Wave {
        jitter_ms: 0.0,
        ..Wave::of_defaults(nodes, loss)
    };
    let shares: Vec<f64> = wave
        .curve(1.0, HOPS as f64)
        .iter()
        .map(|(_, share)| *share)
        .collect();
    let to =
        |share: f64| -> Vec<f64> { hops.iter().filter_map(|run| crossing(run, share)).collect() };
    let what = format!("hops to half of {nodes} nodes at {percent} % loss");
    let half = law(
        what,
        WAVE,
        "hops",
        crossing(&shares, 0.5).unwrap_or(f64::NAN),
    );
    let half = Law {
        allowance: 0.25,
        why: "the law has no chance in it, and the first hops are a few throws",
        ..half
    };
    let what = format!("share of {nodes} nodes that the first wave reaches at {percent} % loss");
    // Some die out before they have begun, and reach nobody.
    let lives = 1.0 - wave.extinction();
    let reached = law(what, WAVE, "", lives * shares[HOPS]);
    let reached = Law {
        allowance: 0.01,
        why: "one in a hundred: the law is one of many nodes",
        // Seen once enough seeds leave chance no room.
        known: (percent > 0 && nodes <= 30)
            .then_some("a law of many nodes: among few a wave often dies out late, too"),
        ..reached
    };
    let last: Vec<f64> = hops.iter().map(|run| run[HOPS]).collect();
    let mut rows = vec![half.of_mean(&to(0.5)), reached.of_mean(&last)];
    if percent == 0 && nodes == 1_000 {
        rows.extend(beside_published(nodes, &to(0.99), &to(1.0)));
    }
    Ok(rows)
}

fn beside_published(nodes: u32, most: &[f64], all: &[f64]) -> [Row; 2] {
    let push = Push {
        nodes,
        fanout: 3,
        loss: 0.0,
    };
    let serf = law(
        format!("hops to 99 % of {nodes} nodes, against Serf's model in rounds"),
        "Serf's convergence simulator",
        "hops",
        push.serf_rounds_to(0.99),
    );
    let serf = Law {
        why: "nothing beside chance",
        known: Some(
            "Serf's model counts half of the contacts, and knows no ring: it promises less",
        ),
        ..serf
    };
    let pittel = law(
        format!("hops to the last of {nodes} nodes, against plain push in rounds"),
        "Pittel 1987",
        "hops",
        push.rounds_to_last(),
    );
    let pittel = Law {
        allowance: 2.8,
        why: "the law's O(1), as above",
        ..pittel
    };
    let all: Vec<f64> = all.iter().map(|hops| hops.ceil()).collect();
    [serf.of_mean(most), pittel.of_mean(&all)]
}

/// With jitter: the probability of a fresh read by time since the acknowledgement, and what Serf's rhythm would take.
fn in_time(options: &CalibrateOptions) -> Result<Vec<Row>> {
    let nodes = 1_000;
    let runs = (0..options.seeds)
        .map(|seed| spread(nodes, 0, 1_000, seed))
        .collect::<Result<Vec<_>>>()?;
    let most: Vec<f64> = runs.iter().filter_map(|run| run.spread_s?.p99).collect();
    let runs = curves(runs);
    let predicted = Wave::of_defaults(nodes, 0.0).curve(0.1, 30.0);
    let mut rows = Vec::new();
    for since_ms in [4.0, 5.0, 6.0, 7.0, 9.0] {
        let fresh: Vec<f64> = runs
            .iter()
            .map(|curve| by(curve, (FSYNC_MS + since_ms) / 1_000.0))
            .collect();
        let what = format!(
            "P(a read elsewhere is fresh) {since_ms} ms after the acknowledgement, {nodes} nodes"
        );
        let law = law(
            what,
            "PBS (Bailis 2012), on `theory/wave.rs`",
            "",
            fresh_share(&predicted, 0.0, since_ms),
        );
        let law = Law {
            allowance: 0.06,
            why: "a quarter of a hop, where the curve is steepest",
            ..law
        };
        rows.push(law.of_mean(&fresh));
    }
    let push = Push {
        nodes,
        fanout: 3,
        loss: 0.0,
    };
    let what = format!("seconds to 99 % of {nodes} nodes, against Serf's model at 200 ms a round");
    let serf = law(
        what,
        "Serf's convergence simulator",
        "s",
        push.serf_rounds_to(0.99) * GOSSIP_INTERVAL_S,
    );
    let serf = Law {
        known: Some("our first tellings go out at once, not in the rhythm of 200 ms"),
        ..serf
    };
    rows.push(serf.of_mean(&most));
    Ok(rows)
}
