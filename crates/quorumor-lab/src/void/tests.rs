//! A run that says nothing is void, and the reason names what was missing.

use super::*;
use crate::history::{Lag, Op};
use crate::scenario::Scenario;
use crate::testing::toy::{self, Defect};
use crate::workload::Workload;

fn sound(mode: Mode) -> History {
    let scenario = Scenario::compare(5, 3, 8_000, Workload::default()).unwrap();
    toy::run(mode, &scenario, Defect::None)
}

#[test]
fn a_sound_run_is_not_void() {
    assert_eq!(reasons(&sound(Mode::Strong)), []);
    assert_eq!(reasons(&sound(Mode::Eventual)), []);
}

#[test]
fn too_little_traffic_before_the_first_fault_is_void() {
    let mut history = sound(Mode::Strong);
    history.ops.truncate(30);
    let found = reasons(&history);
    assert!(
        found.contains(&VoidReason::TooLittleTraffic {
            rate: 18,
            floor: 50
        }),
        "{found:?}"
    );
}

#[test]
fn a_kill_that_nobody_noticed_is_void() {
    let mut history = sound(Mode::Strong);
    history
        .faults
        .retain(|record| record.action != FaultAction::Kill || record.step != FaultStep::Effective);
    assert!(reasons(&history)[0].text().contains("no node was killed"));
    let mut history = sound(Mode::Eventual);
    let answered = |op: &mut Op| {
        if let Some(ret) = &mut op.ret {
            ret.outcome = crate::history::Outcome::Ok;
            ret.cause = None;
        }
    };
    history.ops.iter_mut().for_each(answered);
    assert!(
        reasons(&history)[0]
            .text()
            .contains("no client of the killed node noticed")
    );
}

#[test]
fn a_partition_that_dropped_nothing_is_void() {
    let mut history = sound(Mode::Strong);
    for link in history
        .faults
        .iter_mut()
        .flat_map(|record| &mut record.links)
    {
        link.drops = 3;
    }
    let missing = "the cut links had nothing to drop".to_owned();
    assert_eq!(
        reasons(&history),
        [VoidReason::FaultNeverBit { fault: 1, missing }]
    );
}

#[test]
fn a_lab_that_was_late_is_void() {
    let mut history = sound(Mode::Strong);
    history.lag = vec![Lag {
        at_us: 1,
        overshoot_us: vec![25_000; 100],
    }];
    assert_eq!(
        reasons(&history),
        [VoidReason::LabOverslept {
            p99_us: 25_000,
            max_us: 25_000
        }]
    );
    let mut samples = vec![100; 10_000];
    samples.push(600_000);
    history.lag = vec![Lag {
        at_us: 1,
        overshoot_us: samples,
    }];
    assert_eq!(
        reasons(&history),
        [VoidReason::LabOverslept {
            p99_us: 100,
            max_us: 600_000
        }]
    );
    history.lag.clear();
    assert_eq!(reasons(&history), [VoidReason::LagNotMeasured]);
    let mut history = sound(Mode::Strong);
    for op in &mut history.ops {
        op.invoke.at_us = op.invoke.due_us + 15_000;
    }
    assert!(reasons(&history).contains(&VoidReason::LabSentLate { p99_us: 15_000 }));
    history.header.world = World::Simulated;
    assert_eq!(reasons(&history), []);
}
