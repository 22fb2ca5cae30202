//! Crashes in eventual mode: how soon somebody suspects, and how soon all know.

use anyhow::Result;

use super::CalibrateOptions;
use super::row::{Law, Part, Row};
use crate::theory::detection::down_everywhere_ms;
use crate::theory::swim::{self, Probing};
use crate::world::scale::{self, Options, Outcome, Scenario};

/// The request for help and the last answer to it, two delays of 1 to 2 ms each: the greatest of three sums.
pub(super) const NACK_WAYS_MS: f64 = 3.4;
const ROUND_ROBIN: &str = "derived: `theory/swim.rs`";

pub(super) fn rows(options: &CalibrateOptions) -> Result<Vec<Row>> {
    let sizes: &[u32] = if options.quick {
        &[5, 10, 100]
    } else {
        &[5, 10, 30, 100, 1_000]
    };
    let mut rows = Vec::new();
    for members in sizes {
        let more = if *members <= 100 { 5 } else { 1 };
        let crashes = (0..more * options.seeds)
            .map(|seed| crash(*members, seed))
            .collect::<Result<Vec<Outcome>>>()?;
        let first: Vec<f64> = crashes
            .iter()
            .filter_map(|run| run.first_suspicion_periods)
            .collect();
        rows.push(first_suspicion(*members, &first));
        if *members <= 10 {
            rows.push(worst_case(*members, &first));
        }
        if *members == 100 {
            rows.push(swims_constant(&first));
        }
        if *members >= 10 {
            let all: Vec<f64> = crashes.iter().filter_map(|run| run.all_down_s).collect();
            rows.push(all_down(*members, &all));
        }
    }
    Ok(rows)
}

/// One dies in silence, at no particular time of anyone's round.
fn crash(members: u32, seed: u64) -> Result<Outcome> {
    let options = Options {
        settle_us: 20_000_000 + seed % 40 * 1_370_000,
        duration_us: 10_000_000,
        ..Options::new(Scenario::Crash, members, seed)
    };
    scale::run(&options, &mut |_| ())
}

fn law(what: String, source: &'static str, unit: &'static str, expected: f64) -> Law {
    Law {
        part: Part::Detection,
        what,
        source,
        unit,
        expected,
        allowance: 0.0,
        why: "nothing beside chance",
        known: None,
    }
}

fn first_suspicion(members: u32, samples: &[f64]) -> Row {
    let expected = swim::first_suspicion_periods(members, Probing::default(), NACK_WAYS_MS);
    let what = format!("first suspicion of a crash among {members}, targets in turn");
    let law = law(what, ROUND_ROBIN, "periods", expected);
    Law {
        allowance: 0.01,
        why: "acks under way at the crash, a few ms in a period",
        ..law
    }
    .of_mean(samples)
}

fn worst_case(members: u32, samples: &[f64]) -> Row {
    let bound = f64::from(swim::worst_case_periods(members)) + 1.0;
    let what = format!("the latest of those first suspicions, among {members}");
    let law = law(what, "SWIM (Das 2002), 4.3", "periods", bound);
    Law {
        why: "nothing: it is a bound, 2(n-1)-1, and the period of the probe itself",
        ..law
    }
    .of_greatest(samples)
}

fn swims_constant(samples: &[f64]) -> Row {
    let expected = swim::first_choice_periods(100);
    let what = "first suspicion of a crash among 100, against SWIM's random choice".to_owned();
    let law = law(what, "SWIM (Das 2002), 3.1: e/(e-1)", "periods", expected);
    Law {
        why: "nothing beside chance",
        known: Some("SWIM counts whole periods that all begin together; ours begin at any time, and the probe itself takes 0.9 of one"),
        ..law
    }
    .of_mean(samples)
}

fn all_down(members: u32, samples: &[f64]) -> Row {
    let expected = down_everywhere_ms(members, NACK_WAYS_MS, 0.0) / 1_000.0;
    let what = format!("a crash among {members} known to all");
    let law = law(what, "Lifeguard (2018), IV-B; Pittel 1987", "s", expected);
    Law {
        allowance: 0.1 * expected,
        why: "10 %: an estimate, news rides on probes too",
        ..law
    }
    .of_mean(samples)
}
