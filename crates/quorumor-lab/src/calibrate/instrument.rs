//! The network's own dice: what every simulated figure rests on.

use quorumor_core::StreamClass;

use super::CalibrateOptions;
use super::row::{Law, Part, Row};
use crate::world::scale::{Network, Options, Scenario};

/// Datagrams a seed.
const DRAWS: u64 = 100_000;
/// Parts of the jitter's span, for the test of evenness: a multiple of them fits exactly.
const BINS: u64 = 20;
const LATENCY_US: u64 = 1_000;
const JITTER_US: u64 = 999;
/// Between two messages, so that none waits for the one before.
const PAUSE_US: u64 = 10_000_000;
const NOTHING: &str = "nothing beside chance";

pub(super) fn rows(options: &CalibrateOptions) -> Vec<Row> {
    let mut rows = vec![delay(options), evenness(options)];
    rows.extend([1, 5, 10, 20, 30].map(|percent| loss(options, percent)));
    rows.push(pairs(options));
    rows.extend([0, 30].map(|percent| stream(options, percent)));
    rows
}

/// Links of the calibration, with a loss in percent.
pub(super) fn network(seed: u64, percent: u32) -> Network {
    let options = Options {
        latency_us: LATENCY_US,
        jitter_us: JITTER_US,
        loss_ppm: percent * 10_000,
        ..Options::new(Scenario::Spread, 3, seed)
    };
    Network::new(&options, seed)
}

fn law(what: String, unit: &'static str, expected: f64) -> Law {
    Law {
        part: Part::Instrument,
        what,
        source: "its definition",
        unit,
        expected,
        allowance: 0.0,
        why: NOTHING,
        known: None,
    }
}

fn each(options: &CalibrateOptions, of: impl Fn(u64) -> f64) -> Vec<f64> {
    (0..options.seeds).map(of).collect()
}

fn delay(options: &CalibrateOptions) -> Row {
    let expected = (LATENCY_US as f64 + JITTER_US as f64 / 2.0) / 1_000.0;
    let samples = each(options, |seed| {
        let mut network = network(seed, 0);
        let delays = (0..DRAWS).filter_map(|_| network.datagram(0));
        delays.sum::<u64>() as f64 / DRAWS as f64 / 1_000.0
    });
    law(
        "a datagram's mean delay, 1 ms and up to 0.999 ms more".to_owned(),
        "ms",
        expected,
    )
    .of_mean(&samples)
}

/// Pearson's chi-square of the jitter over equal parts of its span: on average one less than the parts.
fn evenness(options: &CalibrateOptions) -> Row {
    let samples = each(options, |seed| {
        let mut network = network(seed, 0);
        let mut bins = [0_u64; BINS as usize];
        for at_us in (0..DRAWS).filter_map(|_| network.datagram(0)) {
            bins[((at_us - LATENCY_US) * BINS / (JITTER_US + 1)) as usize] += 1;
        }
        let even = DRAWS as f64 / BINS as f64;
        bins.iter()
            .map(|count| (*count as f64 - even).powi(2) / even)
            .sum()
    });
    let law = law(
        "evenness of the jitter: chi-square of 20 parts".to_owned(),
        "",
        BINS as f64 - 1.0,
    );
    Law {
        source: "Pearson 1900",
        ..law
    }
    .of_mean(&samples)
}

fn loss(options: &CalibrateOptions, percent: u32) -> Row {
    let samples = each(options, |seed| {
        let mut network = network(seed, percent);
        let lost = (0..DRAWS).filter(|_| network.datagram(0).is_none());
        lost.count() as f64 / DRAWS as f64
    });
    let what = format!("share of datagrams lost at {percent} %");
    law(what, "", f64::from(percent) / 100.0).of_mean(&samples)
}

/// Losses don't follow from each other.
fn pairs(options: &CalibrateOptions) -> Row {
    let samples = each(options, |seed| {
        let mut network = network(seed, 30);
        let both = (0..DRAWS / 2).filter(|_| {
            let (one, two) = (network.datagram(0), network.datagram(0));
            one.is_none() && two.is_none()
        });
        both.count() as f64 / (DRAWS / 2) as f64
    });
    law(
        "share of pairs that are lost both, at 30 %".to_owned(),
        "",
        0.09,
    )
    .of_mean(&samples)
}

/// Three ways, jitter, and 200 ms for each loss of up to six in a row: `0.2 (p + p^2 + ... + p^6)` seconds.
fn stream(options: &CalibrateOptions, percent: u32) -> Row {
    let loss = f64::from(percent) / 100.0;
    let again: f64 = (1..=6).map(|times| loss.powi(times)).sum();
    let expected = 3.0 * LATENCY_US as f64 / 1_000.0 + JITTER_US as f64 / 2_000.0 + 200.0 * again;
    let samples = each(options, |seed| {
        let mut network = network(seed, percent);
        let messages = DRAWS / 10;
        let delay = |message: u64| {
            let now_us = message * PAUSE_US;
            network.stream(now_us, 0, 1, StreamClass::Control) - now_us
        };
        (0..messages).map(delay).sum::<u64>() as f64 / messages as f64 / 1_000.0
    });
    let what = format!("a stream message's mean delay at {percent} % loss");
    law(what, "ms", expected).of_mean(&samples)
}
