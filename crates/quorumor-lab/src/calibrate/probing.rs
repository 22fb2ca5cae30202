//! Probes of living members under loss, at rest: how many need help, how many accuse.

use anyhow::Result;

use super::CalibrateOptions;
use super::row::{Law, Part, Row};
use crate::theory::health::{self, Stream};
use crate::theory::swim::{self, Probing};
use crate::world::scale::{self, Options, Scenario};

/// Pings by stream on the simulator's default network: three ways of a millisecond and half a millisecond of jitter, twice.
const STREAM: Stream = Stream {
    both_ways_ms: 7.0,
    retransmission_ms: 200.0,
    losses_max: 6,
};

pub(super) fn rows(options: &CalibrateOptions) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for percent in [5, 10, 20, 30] {
        let counted = at_rest(options, percent)?;
        rows.push(helped(percent, counted));
        rows.push(accused(percent, counted));
    }
    Ok(rows)
}

/// What all nodes of all seeds counted.
fn at_rest(options: &CalibrateOptions, percent: u32) -> Result<scale::Probing> {
    let mut sum = scale::Probing::default();
    for seed in 0..options.seeds {
        let run = Options {
            loss_ppm: percent * 10_000,
            settle_us: 20_000_000,
            duration_us: 60_000_000,
            ..Options::new(Scenario::Idle, 200, seed)
        };
        let probing = scale::run(&run, &mut |_| ())?.probing;
        sum.probes += probing.probes;
        sum.helped += probing.helped;
        sum.suspicions += probing.suspicions;
    }
    Ok(sum)
}

fn law(what: String, source: &'static str, expected: f64) -> Law {
    Law {
        part: Part::Probing,
        what,
        source,
        unit: "of probes",
        expected,
        allowance: 0.0,
        why: "nothing beside chance",
        known: None,
    }
}

fn helped(percent: u32, counted: scale::Probing) -> Row {
    let expected = swim::direct_failure(f64::from(percent) / 100.0);
    let what = format!("probes that aren't answered directly at {percent} % loss");
    let law = law(what, "SWIM (Das 2002), 3.1: 1-q^2", expected);
    law.of_count(counted.helped as f64, counted.probes as f64)
}

fn accused(percent: u32, counted: scale::Probing) -> Row {
    let expected = health::accused(f64::from(percent) / 100.0, Probing::default(), STREAM).share;
    let what = format!("probes that accuse one that lives at {percent} % loss");
    let law = law(what, "derived: `theory/health.rs`", expected);
    Law {
        allowance: 0.1 * expected,
        why: "10 %: the accused stretch their periods too, which the chain leaves out",
        ..law
    }
    .of_count(counted.suspicions as f64, counted.probes as f64)
}
