//! Curves of hand-made columns: what they say at some times, and where they say nothing.

use super::*;
use crate::analyse::{Band, LeaderSeen, RunResult, analyse};
use crate::history::{Level, Mode, NodeId, World};
use crate::scenario::{Fault, FaultKind, Micros, Target};
use crate::testing::toy::{self, Defect};
use crate::workload::{Arrivals, Workload};

/// Five nodes with four clients each; the leader, node 1, is killed from 8 to 15 s and cut off with node 2 from 20 to 32 s.
fn scenario(workload: Workload) -> Scenario {
    let mut scenario = Scenario::compare(1, 5, 40_000, workload).unwrap();
    let kill = FaultKind::Kill { on: Target::Leader };
    let side = Target::LeadersMinority;
    scenario.faults = vec![
        fault(kill, 8, 15),
        fault(FaultKind::Partition { side }, 20, 32),
    ];
    scenario
}

fn fault(kind: FaultKind, from_s: u64, to_s: u64) -> Fault {
    Fault {
        kind,
        start_us: from_s * 1_000_000,
        end_us: to_s * 1_000_000,
    }
}

/// A column in whose run the faults hit these nodes, just when they were planned.
fn column(scenario: &Scenario, mode: Mode, world: World, hit: &[&[u64]]) -> Column {
    let usual = Scenario::compare(1, 5, 40_000, scenario.workload).unwrap();
    let mut run: RunResult = analyse(&toy::run(mode, &usual, Defect::None), &usual);
    let planned = (0..).zip(&scenario.faults).zip(hit);
    let band = |((place, fault), nodes): ((u32, &Fault), &&[u64])| Band {
        fault: place,
        asked_us: fault.start_us,
        from_us: fault.start_us,
        heal_us: fault.end_us,
        to_us: fault.end_us,
        nodes: nodes.iter().copied().map(NodeId).collect(),
        label: String::new(),
    };
    run.bands = planned.map(band).collect();
    run.leaders = vec![LeaderSeen {
        at_us: 0,
        node: NodeId(2),
        leader: Some(NodeId(1)),
        term: 1,
    }];
    Column::new(mode, world, vec![run])
}

fn system(mode: Mode) -> System {
    match mode {
        Mode::Strong => System::Strong,
        Mode::Eventual => System::Eventual,
    }
}

fn drawn(scenario: &Scenario, mode: Mode, hit: &[&[u64]]) -> Option<Prediction> {
    let column = column(scenario, mode, World::Simulated, hit);
    let all = of(scenario, system(mode), &column);
    all.into_iter()
        .find(|one| one.chart == Charted::Availability)
}

/// The shares at these seconds, in percent.
fn shares<const N: usize>(prediction: &Prediction, at: [f64; N]) -> [f64; N] {
    assert!(prediction.points.is_sorted_by(|a, b| a.0 <= b.0));
    at.map(|at| {
        let before = prediction.points.iter().rfind(|point| point.0 <= at);
        (before.unwrap().1 * 1_000.0).round() / 10.0
    })
}

const HIT: [&[u64]; 2] = [&[1], &[1, 2]];

#[test]
fn strong_loses_the_clients_of_who_is_out_and_everyone_until_the_next_leader() {
    let scenario = scenario(Workload::default());
    let strong = drawn(&scenario, Mode::Strong, &HIT).unwrap();
    let at = [4.0, 8.1, 12.0, 16.0, 20.5, 21.2, 25.0, 35.0];
    let expected = [100.0, 0.0, 80.0, 100.0, 0.0, 0.0, 60.0, 100.0];
    assert_eq!(shares(&strong, at), expected);
    assert_eq!(strong.column.as_deref(), Some("strong"));
    assert!(strong.source.contains("quorum") && strong.source.contains("election"));
    // A death is noticed, so its gap is well below an election timeout; silence is waited for.
    assert_eq!(shares(&strong, [8.6, 21.9]), [80.0, 60.0]);
}

#[test]
fn eventual_loses_the_clients_of_a_dead_node_alone() {
    let scenario = scenario(Workload::default());
    let eventual = drawn(&scenario, Mode::Eventual, &HIT).unwrap();
    let at = [4.0, 8.1, 12.0, 16.0, 25.0, 35.0];
    let expected = [100.0, 80.0, 80.0, 100.0, 100.0, 100.0];
    assert_eq!(shares(&eventual, at), expected);
}

#[test]
fn a_follower_costs_no_election_and_a_leader_by_number_does() {
    let mut scenario = scenario(Workload::default());
    let on = |id| FaultKind::Kill {
        on: Target::Nodes(vec![NodeId(id)]),
    };
    scenario.faults = vec![fault(on(3), 8, 15), fault(on(1), 20, 32)];
    let strong = drawn(&scenario, Mode::Strong, &[&[3], &[1]]).unwrap();
    assert_eq!(shares(&strong, [8.1, 20.1, 25.0]), [80.0, 0.0, 80.0]);
}

#[test]
fn faults_that_overlap_add_up_and_without_a_majority_only_local_reads_are_answered() {
    let mut scenario = scenario(Workload {
        read_level: Some(Level::Local),
        ..Workload::default()
    });
    let side = Target::Minority;
    let (kill, cut) = (
        FaultKind::Kill {
            on: Target::Follower,
        },
        FaultKind::Partition { side },
    );
    scenario.faults = vec![fault(kill, 8, 20), fault(cut, 12, 16)];
    let strong = drawn(&scenario, Mode::Strong, &[&[5], &[3, 4]]).unwrap();
    // Half of the operations are reads, which the four living nodes answer.
    assert_eq!(shares(&strong, [10.0, 14.0]), [80.0, 40.0]);
    let last = strong.points.last().unwrap();
    assert_eq!(last.0, 16.0, "how long the next election takes no law says");
    let eventual = drawn(&scenario, Mode::Eventual, &[&[5], &[3, 4]]).unwrap();
    assert_eq!(shares(&eventual, [14.0, 39.0]), [80.0, 100.0]);
}

#[test]
fn a_client_that_wanders_is_everywhere_for_a_part() {
    let scenario = scenario(Workload {
        clients: 5,
        wanderers: 1,
        ..Workload::default()
    });
    // Of five clients one wanders, so at node 1 there is a fifth of a client; at node 2 a whole one and a fifth.
    let eventual = |node: u64| drawn(&scenario, Mode::Eventual, &[&[node]]).unwrap();
    assert_eq!(shares(&eventual(1), [12.0]), [96.0]);
    assert_eq!(shares(&eventual(2), [12.0]), [76.0]);
}

#[test]
fn etcd_waits_for_a_dead_leader_by_its_own_clock() {
    let scenario = scenario(Workload::default());
    let column = column(&scenario, Mode::Strong, World::Cluster, &HIT);
    let all = of(&scenario, System::Etcd, &column);
    let drawn = all.iter().find(|one| one.chart == Charted::Availability);
    assert_eq!(shares(drawn.unwrap(), [8.9, 9.5, 12.0]), [0.0, 80.0, 80.0]);
}

#[test]
fn where_no_law_holds_nothing_is_drawn() {
    let workload = Workload::default();
    for without in [
        Workload {
            arrivals: Arrivals::Closed,
            rate: 1,
            ..workload
        },
        Workload {
            retries: 1,
            ..workload
        },
        Workload {
            read_level: Some(Level::Bounded),
            ..workload
        },
    ] {
        let mut scenario = scenario(workload);
        let column = column(&scenario, Mode::Strong, World::Simulated, &HIT);
        scenario.workload = without;
        assert!(availability::of(&scenario, System::Strong, &column).is_none());
    }
    let mut scenario = scenario(workload);
    let on = || Target::Leader;
    let sync = Micros::millis(5);
    for kind in [
        FaultKind::SlowDisk { on: on(), sync },
        FaultKind::CutOut { side: on() },
        // Shorter than two election timeouts: it may still lead when it wakes.
        FaultKind::Pause { on: on() },
    ] {
        scenario.faults = vec![fault(kind, 8, 10)];
        assert_eq!(drawn(&scenario, Mode::Strong, &[&[1]]), None);
    }
    scenario.workload.acks = 2;
    scenario.faults.clear();
    assert_eq!(drawn(&scenario, Mode::Eventual, &[]), None);
}

#[test]
fn linearizable_reads_are_fresh_and_eventual_ones_where_the_news_has_come() {
    let scenario = scenario(Workload::default());
    let fresh = |system, mode, world| -> Vec<Prediction> {
        let column = column(&scenario, mode, world, &HIT);
        freshness::of(&scenario, system, &column)
    };
    let strong = fresh(System::Strong, Mode::Strong, World::Cluster);
    assert_eq!(strong.len(), 2);
    let always = |one: &Prediction| one.points.iter().all(|(_, share)| *share == 1.0);
    assert!(strong.iter().all(always));
    let eventual = fresh(System::Eventual, Mode::Eventual, World::Simulated);
    let [eventual] = eventual.as_slice() else {
        panic!("calm times alone have a law: {eventual:?}");
    };
    // The delays of a link are even from 0.2 to 1 ms, and a read travels for 0.2 ms: at 0.4 ms half of the other four have it.
    assert_eq!(
        shares(eventual, [0.11, 0.41, 0.91, 15.0]),
        [30.0, 60.0, 100.0, 100.0]
    );
    assert!(fresh(System::Eventual, Mode::Eventual, World::Cluster).is_empty());
    assert!(fresh(System::EtcdSerializable, Mode::Strong, World::Cluster).is_empty());
}

#[test]
fn in_a_large_cluster_the_news_comes_in_a_wave() {
    let mut scenario = scenario(Workload::default());
    let column = column(&scenario, Mode::Eventual, World::Simulated, &HIT);
    scenario.nodes = 100;
    let wave = freshness::of(&scenario, System::Eventual, &column);
    let [early, late] = shares(&wave[0], [1.0, 15.0]);
    assert!(early < 30.0 && late > 95.0, "{early} {late}");
}
