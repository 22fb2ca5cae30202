//! How likely a read is fresh: always, where a system promises linearizable reads; else as likely as its node has been told.
//!
//! Who has been told is known in the simulated world, whose delays are known, while no fault is in force.

use super::about;
use crate::analyse::{FreshBin, Freshness};
use crate::contest::System;
use crate::history::{Level, World};
use crate::report::{Charted, Column, Prediction};
use crate::scenario::Scenario;
use crate::theory::freshness::fresh_share;
use crate::theory::wave::Wave;
use crate::world::sim::{CALM_DELAY_MS, CALM_JITTER_MS, READ_TRAVELS_MS};

/// The reads of a chart.
type BinsOf = fn(&Freshness) -> &Vec<FreshBin>;

/// Up to so many nodes a writer tells all others at once: its fanout twice, and itself.
const TOLD_AT_ONCE_MAX: u32 = 7;
/// The curve is drawn over so long: everyone has been told long before.
const UNTIL_MS: f64 = 20.0;
/// How finely a wave is followed and drawn.
const STEP_MS: f64 = 0.1;

pub(super) fn of(scenario: &Scenario, system: System, column: &Column) -> Vec<Prediction> {
    match (system, scenario.workload.level(column.mode)) {
        (System::Strong | System::Etcd, Level::Linearizable) => {
            let charts: [(Charted, BinsOf); 2] = [
                (Charted::Freshness, |all| &all.calm),
                (Charted::FreshnessFaulted, |all| &all.faulted),
            ];
            let drawn = charts.map(|(chart, of)| always(column, chart, of));
            drawn.into_iter().flatten().collect()
        }
        (System::Eventual, Level::Local) if column.world == World::Simulated => {
            vec![told(scenario.nodes, column)]
        }
        (System::Strong | System::Etcd | System::Eventual | System::EtcdSerializable, _) => {
            Vec::new()
        }
    }
}

/// As far as there are reads: a longer line would only make the chart wider.
fn always(column: &Column, chart: Charted, of: BinsOf) -> Option<Prediction> {
    let runs = column.counted().into_iter();
    let last_us = runs
        .flat_map(|run| of(&run.freshness))
        .map(|bin| bin.from_us)
        .max()?;
    let source = "linearizability (Herlihy and Wing 1990)".to_owned();
    let points = vec![(0.5, 1.0), ((last_us as f64 / 1_000.0).max(1.0), 1.0)];
    let label = "a linearizable read is fresh";
    Some(about(column, chart, label, source, points))
}

fn told(nodes: u32, column: &Column) -> Prediction {
    let (spread, law) = if nodes <= TOLD_AT_ONCE_MAX {
        (at_once(nodes), "all are told at once")
    } else {
        (
            wave(nodes).curve(STEP_MS, UNTIL_MS),
            "a wave of fanout and ring",
        )
    };
    let fresh = |step: u32| {
        let since = f64::from(step) * STEP_MS;
        (since, fresh_share(&spread, READ_TRAVELS_MS, since))
    };
    let points = (1..=(UNTIL_MS / STEP_MS) as u32).map(fresh).collect();
    let source = format!(
        "a read is fresh where its node has been told (Bailis 2012); {law}, over the simulator's delays"
    );
    let label = "a random node has been told";
    about(column, Charted::Freshness, label, source, points)
}

/// Who has been told, by milliseconds: the writer, and the others a link's delay later.
fn at_once(nodes: u32) -> Vec<(f64, f64)> {
    let alone = 1.0 / f64::from(nodes);
    let last = CALM_DELAY_MS + CALM_JITTER_MS;
    vec![(0.0, alone), (CALM_DELAY_MS, alone), (last, 1.0)]
}

const fn wave(nodes: u32) -> Wave {
    Wave {
        delay_ms: CALM_DELAY_MS,
        jitter_ms: CALM_JITTER_MS,
        ..Wave::of_defaults(nodes, 0.0)
    }
}
