//! Textbook protocols on the simulator's network and queue: whether the instrument shows what the literature says of them.
//!
//! Nothing of ours runs here but network, queue and dice. Where the real replicas differ from these laws, this tells the
//! instrument's part from the protocol's.

use rand_chacha::ChaCha8Rng;

use super::CalibrateOptions;
use super::instrument::network;
use super::row::{Law, Part, Row};
use crate::rng::{self, Purpose};
use crate::theory::epidemic::{Push, crossing};
use crate::theory::swim;
use crate::world::scale::Queue;

/// A round, longer than any delay.
const ROUND_US: u64 = 10_000;
const ROUNDS_MAX: u32 = 200;
/// Crashes, and probes, a seed.
const TRIALS: u32 = 2_000;
const DEMERS: &str = "Demers 1987, 1.3; Karp 2000";
const PITTEL: &str = "Pittel 1987; Doerr, Huber, Levavi 2013";
const SWIM: &str = "SWIM (Das 2002), 3.1";

pub(super) fn rows(options: &CalibrateOptions) -> Vec<Row> {
    let sizes: &[u32] = if options.quick {
        &[10, 100, 1_000]
    } else {
        &[10, 100, 1_000, 3_000]
    };
    let mut rows = Vec::new();
    for (fanout, percent) in [(1, 0), (3, 0), (3, 30)] {
        for nodes in sizes {
            let push = Push {
                nodes: *nodes,
                fanout,
                loss: f64::from(percent) / 100.0,
            };
            rows.extend(spread(options, push, percent));
        }
    }
    rows.extend([10, 100].map(|members| first_choice(options, members)));
    rows.extend([5, 10, 20, 30].map(|percent| false_suspicion(options, percent)));
    rows
}

fn law(what: String, source: &'static str, unit: &'static str, expected: f64) -> Law {
    Law {
        part: Part::Reference,
        what,
        source,
        unit,
        expected,
        allowance: 0.0,
        why: "nothing beside chance",
        known: None,
    }
}

/// Rounds to half of the nodes by the recurrence, and to the last by Pittel's law.
fn spread(options: &CalibrateOptions, push: Push, percent: u32) -> [Row; 2] {
    // Small ones cost next to nothing.
    let seeds = options.seeds * if push.nodes <= 100 { 10 } else { 1 };
    let runs: Vec<Vec<f64>> = (0..seeds).map(|seed| rounds(push, percent, seed)).collect();
    let to = |share: f64| -> Vec<f64> {
        let reached = runs.iter().filter_map(|shares| crossing(shares, share));
        reached.collect()
    };
    let who = format!(
        "{} nodes, {} each a round, {percent} % loss",
        push.nodes, push.fanout
    );
    let half = law(
        format!("plain push: rounds to half of {who}"),
        DEMERS,
        "rounds",
        push.rounds_to(0.5).unwrap_or(f64::NAN),
    );
    let half = Law {
        allowance: 0.15,
        why: "the recurrence has no chance in it, and the first rounds are a few throws",
        ..half
    };
    let last = law(
        format!("plain push: rounds to the last of {who}"),
        PITTEL,
        "rounds",
        push.rounds_to_last(),
    );
    let last = Law {
        allowance: 2.8,
        why: "the law's O(1): -1.2 to +2.8 for one call (Doerr and Künnemann 2014)",
        ..last
    };
    let lasts: Vec<f64> = to(1.0).iter().map(|rounds| rounds.ceil()).collect();
    [half.of_mean(&to(0.5)), last.of_mean(&lasts)]
}

/// The share that knows it after each round, until all do.
fn rounds(push: Push, percent: u32, seed: u64) -> Vec<f64> {
    let n = push.nodes as usize;
    let mut network = network(seed, percent);
    let mut dice = rng::stream(seed, Purpose::Operations, u64::from(push.nodes));
    let mut queue = Queue::new();
    let mut knows = vec![false; n];
    knows[0] = true;
    let mut shares = vec![1.0 / n as f64];
    for round in 0..u64::from(ROUNDS_MAX) {
        let tellers = (0..n as u32).filter(|node| knows[*node as usize]);
        for teller in tellers {
            for to in others(&mut dice, push, teller) {
                if let Some(at_us) = network.datagram(round * ROUND_US) {
                    queue.push(at_us, to);
                }
            }
        }
        while let Some((_, to)) = queue.pop((round + 1) * ROUND_US - 1) {
            knows[to as usize] = true;
        }
        let known = knows.iter().filter(|knows| **knows).count();
        shares.push(known as f64 / n as f64);
        if known == n {
            break;
        }
    }
    shares
}

/// Distinct others, at random.
fn others(dice: &mut ChaCha8Rng, push: Push, teller: u32) -> Vec<u32> {
    let mut chosen = Vec::new();
    while chosen.len() < push.fanout as usize {
        let other = rng::below(dice, u64::from(push.nodes)) as u32;
        if other != teller && !chosen.contains(&other) {
            chosen.push(other);
        }
    }
    chosen
}

/// Everyone chooses one other at random a period: when is a given one chosen?
fn first_choice(options: &CalibrateOptions, members: u32) -> Row {
    let sample = |seed: u64| {
        let mut dice = rng::stream(seed, Purpose::Faults, u64::from(members));
        let others = u64::from(members) - 1;
        let mut periods = 0_u64;
        for _ in 0..TRIALS {
            periods += 1;
            while (0..others).all(|_| rng::below(&mut dice, others) != 0) {
                periods += 1;
            }
        }
        periods as f64 / f64::from(TRIALS)
    };
    let samples: Vec<f64> = (0..options.seeds).map(sample).collect();
    let what = format!("random choice: periods until a crashed one of {members} is chosen");
    law(what, SWIM, "periods", swim::first_choice_periods(members)).of_mean(&samples)
}

/// A ping with its ack, and three times four messages by way of others: does none come through?
fn false_suspicion(options: &CalibrateOptions, percent: u32) -> Row {
    let helpers = 3;
    let mut accused = 0_u64;
    let trials = options.seeds * 50 * u64::from(TRIALS);
    let mut network = network(percent.into(), percent);
    for _ in 0..trials {
        // As SWIM counts, every message is sent, whatever became of the one before.
        let mut arrive =
            |messages: u32| (0..messages).fold(true, |all, _| network.datagram(0).is_some() && all);
        let direct = arrive(2);
        let indirect = (0..helpers).fold(false, |any, _| arrive(4) || any);
        accused += u64::from(!direct && !indirect);
    }
    let loss = f64::from(percent) / 100.0;
    let what =
        format!("a probe by datagrams alone accuses one that lives, 3 helpers, {percent} % loss");
    law(
        what,
        SWIM,
        "of probes",
        swim::false_suspicion(loss, helpers),
    )
    .of_count(accused as f64, trials as f64)
}
