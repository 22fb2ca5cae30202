//! The lab's real processes under several faults at once: each bites, is on record and ends, and the cluster is whole after it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use quorumor_lab::history::{FaultStep, History, Mode, NodeId, Outcome, WatchStep};
use quorumor_lab::network::{LinkKind, namespaces};
use quorumor_lab::scenario::{
    Breaker, Fault, FaultKind, Flood, FloodClass, Limits, Micros, Scenario, Target, Weather,
};
use quorumor_lab::void::{VoidReason, reasons};
use quorumor_lab::workload::{Riders, Workload};
use quorumor_lab::world::cluster::{self, ClusterOptions, Live, Ran};
use tokio_util::sync::CancellationToken;

use crate::support::binary;

fn fault(kind: FaultKind, start_ms: u64, end_ms: u64) -> Fault {
    Fault {
        kind,
        start_us: start_ms * 1_000,
        end_us: end_ms * 1_000,
    }
}

fn scenario(nodes: u32, duration_ms: u64, faults: Vec<Fault>) -> Scenario {
    let workload = Workload {
        rate: 50,
        riders: Riders {
            watchers: 1,
            leases: 1,
            lockers: 1,
            ..Riders::default()
        },
        ..Workload::usual()
    };
    let whole = Scenario::compare(7, nodes, duration_ms, workload).expect("it is large enough");
    Scenario { faults, ..whole }
}

async fn run(mode: Mode, scenario: &Scenario, out: &Path, links: LinkKind) -> History {
    play(mode, scenario, out, links).await.1
}

async fn play(mode: Mode, scenario: &Scenario, out: &Path, links: LinkKind) -> (Ran, History) {
    let options = ClusterOptions {
        mode,
        program: binary(),
        out: out.to_owned(),
        plant: None,
        links,
    };
    let live = Arc::new(Live::default());
    let ran = cluster::run(&options, scenario, &live, &CancellationToken::new()).await;
    let ran = ran.expect("the run comes to its end");
    assert!(ran.notes.is_empty(), "{:?}", ran.notes);
    let history = History::read(&options.history_path()).expect("a whole history");
    (ran, history)
}

/// Every fault was carried out and ended, and none was without effect.
fn assert_bitten(history: &History) {
    let faults = history.header.scenario.faults.len();
    for index in (0..).take(faults) {
        let records = history.faults.iter().filter(|record| record.fault == index);
        let steps: Vec<FaultStep> = records.map(|record| record.step).collect();
        let wanted = [
            FaultStep::Requested,
            FaultStep::Effective,
            FaultStep::HealRequested,
            FaultStep::Healed,
        ];
        assert_eq!(steps, wanted, "fault {index}");
    }
    let unbitten = |reason: &VoidReason| matches!(reason, VoidReason::FaultNeverBit { .. });
    let void = reasons(history);
    assert!(!void.iter().any(unbitten), "{void:?}");
}

/// These nodes, and no other, were read at the end, and hold the same.
fn assert_whole(history: &History, nodes: &[u64]) {
    let read: BTreeSet<NodeId> = history.finals.iter().map(|state| state.node).collect();
    let wanted: BTreeSet<NodeId> = nodes.iter().copied().map(NodeId).collect();
    assert_eq!(read, wanted);
    let digests: BTreeSet<&String> = history.finals.iter().map(|state| &state.digest).collect();
    assert_eq!(digests.len(), 1, "{digests:?}");
    let entries = &history.finals[0].entries;
    for prefix in ["lab/", "set/"] {
        assert!(
            entries.iter().any(|entry| entry.key.starts_with(prefix)),
            "{prefix}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_that_overlap_bite_each_on_its_own_and_leave_a_whole_cluster() {
    let weather = Weather {
        delay: Micros::millis(10),
        jitter: Micros::millis(10),
        loss_percent: 10,
        ..Weather::default()
    };
    let third = || Target::Nodes(vec![NodeId(3)]);
    let faults = vec![
        fault(FaultKind::Pause { on: third() }, 1_500, 3_000),
        fault(
            FaultKind::Weather {
                on: Target::All,
                does: weather,
            },
            2_000,
            5_000,
        ),
        fault(
            FaultKind::SlowDisk {
                on: third(),
                sync: Micros::millis(50),
            },
            3_500,
            5_500,
        ),
        fault(
            FaultKind::ClockJump {
                on: Target::Nodes(vec![NodeId(1)]),
                by_ms: 300_000,
            },
            4_000,
            5_000,
        ),
    ];
    let scenario = scenario(3, 7_000, faults);
    for mode in [Mode::Strong, Mode::Eventual] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let history = run(mode, &scenario, folder.path(), LinkKind::Proxies).await;
        assert_bitten(&history);
        assert_whole(&history, &[1, 2, 3]);
        let told = |wanted: fn(&WatchStep) -> bool| {
            history
                .watches
                .iter()
                .filter(|record| wanted(&record.step))
                .count()
        };
        assert_eq!(told(|step| matches!(step, WatchStep::Snapshot { .. })), 1);
        assert!(told(|step| matches!(step, WatchStep::Change { .. })) > 20);
        let fences = history.fences.iter();
        let tokens: Vec<u64> = fences
            .filter(|write| write.accepted)
            .map(|write| write.token)
            .collect();
        assert!(tokens.is_sorted(), "{tokens:?}");
        assert_eq!(tokens.is_empty(), mode == Mode::Eventual, "it has no locks");
        let ledgers = history.finals.iter().filter(|state| state.ledger.is_some());
        let expected = if mode == Mode::Eventual { 3 } else { 0 };
        assert_eq!(ledgers.count(), expected);
        let granted = |op: &&quorumor_lab::history::Op| {
            op.ret
                .as_ref()
                .is_some_and(|ret| ret.lease.is_some() && ret.outcome == Outcome::Ok)
        };
        assert!(history.ops.iter().filter(granted).count() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_replaced_a_broken_disk_is_changed_and_a_damaged_log_refused() {
    let node = |id| Target::Nodes(vec![NodeId(id)]);
    let faults = vec![
        fault(FaultKind::Replace { who: node(2) }, 1_500, 2_500),
        fault(FaultKind::DiskError { on: node(3) }, 4_500, 6_000),
        fault(FaultKind::FlipBit { on: node(4) }, 7_500, 8_000),
    ];
    let scenario = scenario(5, 9_000, faults);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let history = run(Mode::Strong, &scenario, folder.path(), LinkKind::Proxies).await;
    assert_bitten(&history);
    // Six took the place of two; four stays down, and is right to.
    assert_whole(&history, &[1, 3, 5, 6]);
    let served = history.ops.iter().filter(|op| op.invoke.node == NodeId(6));
    let ok = |op: &&quorumor_lab::history::Op| {
        op.ret
            .as_ref()
            .is_some_and(|ret| ret.outcome == Outcome::Ok)
    };
    assert!(
        served.filter(ok).count() > 0,
        "clients follow to the new member"
    );
}

#[tokio::test]
async fn a_power_cut_is_refused_with_its_reason() {
    let faults = vec![fault(FaultKind::PowerCut { on: Target::All }, 1_000, 2_000)];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ClusterOptions {
        mode: Mode::Strong,
        program: "nothing is started".into(),
        out: folder.path().to_owned(),
        plant: None,
        links: LinkKind::Proxies,
    };
    let live = Arc::new(Live::default());
    let scenario = scenario(3, 4_000, faults);
    let ran = cluster::run(&options, &scenario, &live, &CancellationToken::new()).await;
    let error = ran.expect_err("only the simulator has such a disk");
    assert!(
        error.to_string().contains("needs the simulated disk"),
        "{error}"
    );
}

/// Streams lose packets here, so that strong mode feels the loss too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernels_own_links_are_cut_and_lose_packets_of_both_modes() {
    let gate = std::env::var_os("QUORUMOR_TEST_NAMESPACES").is_some();
    let why = namespaces::unavailable();
    if !gate || why.is_some() {
        assert!(!gate, "{why:?}");
        let why = why.unwrap_or("QUORUMOR_TEST_NAMESPACES is not set");
        println!("skipped: {why}");
        return;
    }
    let lossy = Weather {
        loss_percent: 10,
        ..Weather::default()
    };
    let third = || Target::Nodes(vec![NodeId(3)]);
    let faults = vec![
        fault(
            FaultKind::Weather {
                on: Target::All,
                does: lossy,
            },
            1_500,
            4_500,
        ),
        fault(FaultKind::Partition { side: third() }, 2_000, 4_000),
    ];
    let scenario = scenario(3, 7_000, faults);
    for mode in [Mode::Strong, Mode::Eventual] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let history = run(mode, &scenario, folder.path(), LinkKind::Namespaces).await;
        assert_bitten(&history);
        assert_whole(&history, &[1, 2, 3]);
    }
}

/// A node that its peers reach and its clients don't, and calls of others that are counted apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_know_every_node_go_on_elsewhere_and_a_flood_is_counted_apart() {
    let on = Target::Nodes(vec![NodeId(2)]);
    let cut = fault(FaultKind::CutClients { on }, 1_500, 4_500);
    let mut scenario = scenario(3, 6_000, vec![cut]);
    scenario.workload.breaker = Some(Breaker::On);
    scenario.limits = Some(Limits::Disabled);
    scenario.flood = Some(Flood {
        class: FloodClass::Write,
        in_flight: Some(6),
        rate: None,
        at: Micros::secs(2),
        lasts: Micros::secs(2),
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ran, history) = play(Mode::Eventual, &scenario, folder.path(), LinkKind::Proxies).await;
    assert_bitten(&history);
    assert_whole(&history, &[1, 2, 3]);
    let flood = ran.flood.expect("there was a flood");
    assert!(
        flood.answered > 0 && flood.answered <= flood.offered,
        "{flood:?}"
    );
    let keys = history.finals.iter().flat_map(|state| &state.entries);
    assert!(
        keys.into_iter()
            .all(|entry| !entry.key.starts_with("flood/"))
    );
    // Nobody is at one node: those who began there are answered by another while it holds.
    let start_us = history.header.start_us;
    let answered = history.load().filter(|op| {
        let due_us = op.invoke.due_us.saturating_sub(start_us);
        (2_500_000..4_500_000).contains(&due_us) && op.outcome() == Outcome::Ok
    });
    let by: BTreeSet<NodeId> = answered
        .filter(|op| {
            op.returned_us()
                .is_some_and(|at_us| at_us < start_us + 4_500_000)
        })
        .filter_map(|op| op.answer().and_then(|ret| ret.node))
        .collect();
    assert!(!by.is_empty() && !by.contains(&NodeId(2)), "{by:?}");
}
