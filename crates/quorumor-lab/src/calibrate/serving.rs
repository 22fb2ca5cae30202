//! Who is served while nodes are cut off or down: both modes against quorum arithmetic.

use anyhow::Result;

use super::CalibrateOptions;
use super::row::{Law, Part, Row};
use crate::history::Mode;
use crate::theory::availability::{Place, served_share, serves};
use crate::world::sim::{Placing, Served, serving};

const QUORUMS: &str = "quorum arithmetic: `theory/availability.rs`";

/// A fault, by the side of each node; 9 is down.
const FAULTS: [(&str, &[u32]); 7] = [
    ("3 nodes, all together", &[0, 0, 0]),
    ("3 nodes, 1 cut off", &[0, 0, 1]),
    ("5 nodes, 2 cut off", &[0, 0, 0, 1, 1]),
    ("5 nodes, parted 2, 2 and 1", &[0, 0, 1, 1, 2]),
    ("5 nodes, 2 down", &[0, 0, 0, DOWN, DOWN]),
    ("5 nodes, 3 down", &[0, 0, DOWN, DOWN, DOWN]),
    ("7 nodes, 3 cut off", &[0, 0, 0, 0, 1, 1, 1]),
];
const DOWN: u32 = 9;

pub(super) fn rows(options: &CalibrateOptions) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for mode in [Mode::Strong, Mode::Eventual] {
        for (what, sides) in FAULTS {
            let runs = (0..options.seeds)
                .map(|seed| run(mode, seed, sides))
                .collect::<Result<Vec<_>>>()?;
            rows.push(share(mode, what, sides, &runs));
            if mode == Mode::Strong && what == "5 nodes, 2 cut off" {
                rows.extend(minority(what, sides, &runs));
            }
        }
    }
    Ok(rows)
}

/// The same fault with the nodes turned by the seed, so that the first leader is on every side in turn.
fn run(mode: Mode, seed: u64, sides: &[u32]) -> Result<Vec<Served>> {
    let turned = seed as usize % sides.len();
    let placing = |side: &u32| {
        if *side == DOWN {
            Placing::Down
        } else {
            Placing::Side(*side)
        }
    };
    let mut places: Vec<Placing> = sides.iter().map(placing).collect();
    places.rotate_left(turned);
    let mut served = serving(mode, seed, &places)?;
    served.rotate_right(turned);
    Ok(served)
}

fn places(sides: &[u32]) -> Vec<Place> {
    let place = |side: &u32| {
        if *side == DOWN {
            Place::Down
        } else {
            Place::Side(*side)
        }
    };
    sides.iter().map(place).collect()
}

fn law(what: String, unit: &'static str, expected: f64) -> Law {
    Law {
        part: Part::Serving,
        what,
        source: QUORUMS,
        unit,
        expected,
        allowance: 0.0,
        why: "nothing: once the fault is noticed nobody is served by chance",
        known: None,
    }
}

fn share(mode: Mode, what: &str, sides: &[u32], runs: &[Vec<Served>]) -> Row {
    let places = places(sides);
    let expected = served_share(mode, &places, &vec![1; places.len()]);
    let served = |run: &Vec<Served>| {
        let ok: u64 = run.iter().map(|node| node.ok).sum();
        let all: u64 = run
            .iter()
            .map(|node| node.ok + node.refused + node.unknown)
            .sum();
        ok as f64 / all as f64
    };
    let samples: Vec<f64> = runs.iter().map(served).collect();
    let what = format!("writes served in {} mode, {what}", mode.name());
    law(what, "", expected).of_mean(&samples)
}

/// What the nodes without a quorum do with writes: refuse them, for certain, and soon.
fn minority(what: &str, sides: &[u32], runs: &[Vec<Served>]) -> [Row; 2] {
    let places = places(sides);
    let without: Vec<Served> = runs
        .iter()
        .flat_map(|run| run.iter().enumerate())
        .filter(|(node, _)| !serves(Mode::Strong, &places, *node))
        .map(|(_, served)| *served)
        .collect();
    let refused =
        |node: &Served| node.refused as f64 / (node.ok + node.refused + node.unknown) as f64;
    let shares: Vec<f64> = without.iter().map(refused).collect();
    let waits: Vec<f64> = without
        .iter()
        .map(|node| node.refusal_us_max as f64 / 1_000.0)
        .collect();
    let certain = law(
        format!("the minority's writes that are refused for certain, {what}"),
        "",
        1.0,
    );
    let soon = law(
        format!("the longest that one waits for its refusal, {what}"),
        "ms",
        0.0,
    );
    let soon = Law {
        source: "ARCHITECTURE.md: refused at once",
        allowance: 1.0,
        why: "a millisecond",
        ..soon
    };
    [certain.of_mean(&shares), soon.of_greatest(&waits)]
}
