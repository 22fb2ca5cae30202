//! The lab against a real etcd: that a partition of its links bites, and that the checkers pass what is known to be right and
//! flag what is known to be weak.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::checker::linearizable::{self, STEP_BUDGET};
use crate::checker::{
    Verdict, convergence, counter, durability, lease, lock, phantom, revisions, staleness,
};
use crate::history::{
    Action, Cas, Cause, ClientId, FaultAction, FaultStep, History, Level, OpId, Outcome, Return,
    Version,
};
use crate::network::Trouble;
use crate::scenario::{Fault, FaultKind, Micros, Target, Weather, held_links};
use crate::void;
use crate::workload::{Riders, Workload};

const PATIENCE: Duration = Duration::from_secs(20);

/// The binary to test against. Without one nothing is tested, and that is said; in CI it must be there.
fn program() -> Option<PathBuf> {
    let found = find_program();
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must test against etcd: QUORUMOR_TEST_ETCD names no binary"
        );
        #[expect(
            clippy::print_stderr,
            reason = "a test that checks nothing must say so"
        )]
        {
            eprintln!("skipped: no etcd binary (ETCD, QUORUMOR_TEST_ETCD, the path)");
        }
    }
    found
}

async fn cluster(program: PathBuf, dir: &Path, nodes: u64) -> EtcdCluster {
    let plan = EtcdPlan {
        program,
        data_dir: dir.join("data"),
        log_dir: dir.join("logs"),
        nodes: (1..=nodes).map(NodeId).collect(),
        seed: 1,
        election_timeout_ms: 1_000,
    };
    let cluster = EtcdCluster::prepare(&plan).await.unwrap();
    cluster.start().await.unwrap();
    cluster
}

/// One client of one cluster.
struct Caller<'a> {
    cluster: &'a EtcdCluster,
    clock: LabClock,
}

impl Caller<'_> {
    async fn call(&self, node: NodeId, action: Action, reads: Reads) -> Return {
        self.bound(node, "k", action, None, reads).await
    }

    async fn bound(
        &self,
        node: NodeId,
        key: &str,
        action: Action,
        lease: Option<&str>,
        reads: Reads,
    ) -> Return {
        let ask = Ask {
            client: ClientId(1),
            node,
            key,
            action: &action,
            lease,
            reads,
        };
        let timeout = Duration::from_secs(2);
        let executor = &self.cluster.executor;
        executor.execute(OpId(1), &ask, timeout, self.clock).await
    }

    async fn put(&self, node: NodeId, value: &str) -> Return {
        let put = Action::Put(value.to_owned());
        self.call(node, put, Reads::Linearizable).await
    }

    /// What the member itself holds of the key.
    async fn holds(&self, node: NodeId) -> Vec<String> {
        self.call(node, Action::Get, Reads::Serializable)
            .await
            .values
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_serves_only_stale_reads_and_catches_up_after_the_heal() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(program, dir.path(), 3).await;
    let caller = Caller {
        cluster: &cluster,
        clock: LabClock::new(),
    };
    let old = cluster.leader().await.unwrap();
    assert_eq!(caller.put(old, "before").await.outcome, Outcome::Ok);
    let side = Target::Leader;
    let links = held_links(&FaultKind::Partition { side }, &[old], &cluster.nodes);
    cluster.mesh.begin(0, &links, Trouble::CUT);

    let others: Vec<NodeId> = cluster
        .nodes
        .iter()
        .copied()
        .filter(|&id| id != old)
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while caller.put(others[0], "after").await.outcome != Outcome::Ok {
        assert!(Instant::now() < deadline, "the majority elects a leader");
    }
    let read = caller.call(old, Action::Get, Reads::Linearizable).await;
    assert_ne!(read.outcome, Outcome::Ok, "{read:?}");
    let write = caller.put(old, "lost").await;
    assert_eq!(write.outcome, Outcome::Unknown, "{write:?}");
    assert_eq!(caller.holds(old).await, ["before"]);
    assert_eq!(caller.holds(others[0]).await, ["after"]);
    let held = cluster.mesh.counters(&links);
    assert!(held.iter().all(|link| link.held > 0), "{held:?}");

    cluster.mesh.end(0);
    let deadline = Instant::now() + PATIENCE;
    while caller.holds(old).await != caller.holds(others[1]).await
        || caller.holds(old).await == ["before"]
    {
        assert!(Instant::now() < deadline, "the old leader catches up");
        sleep(Duration::from_millis(50)).await;
    }
    cluster.kill_all().await.unwrap();
    // The first call may still go out on the connection that is just breaking, and nobody knows what becomes of it.
    let deadline = Instant::now() + PATIENCE;
    let gone = loop {
        let gone = caller.put(old, "nobody").await;
        assert_ne!(gone.outcome, Outcome::Ok, "{gone:?}");
        if gone.outcome == Outcome::Fail || Instant::now() > deadline {
            break gone;
        }
    };
    assert_eq!(
        (gone.outcome, gone.cause),
        (Outcome::Fail, Some(Cause::Unreachable))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_on_a_key_are_answered_as_the_history_has_them() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(program, dir.path(), 1).await;
    let caller = Caller {
        cluster: &cluster,
        clock: LabClock::new(),
    };
    let (node, exact) = (NodeId(1), Reads::Linearizable);
    let absent = caller.call(node, Action::Get, exact).await;
    assert_eq!(
        (absent.values.len(), absent.got),
        (0, Some(Level::Linearizable))
    );
    let put = caller.put(node, "a").await;
    let revision = put.position.unwrap().revision;
    assert_eq!(put.version, Some(Version::Strong { revision }));
    let local = caller.call(node, Action::Get, Reads::Serializable).await;
    assert_eq!(
        (local.got, &local.version),
        (Some(Level::Local), &put.version)
    );
    let cas = |expected: Option<&str>, value: &str| {
        Action::Cas(Cas {
            expected: expected.map(str::to_owned),
            value: value.to_owned(),
        })
    };
    let lost = caller.call(node, cas(Some("x"), "b"), exact).await;
    assert_eq!(
        (lost.succeeded, lost.values),
        (Some(false), vec!["a".to_owned()])
    );
    let won = caller.call(node, cas(Some("a"), "b"), exact).await;
    assert_eq!(won.succeeded, Some(true));
    assert_eq!(
        won.version,
        Some(Version::Strong {
            revision: revision + 1
        })
    );
    let taken = caller.call(node, cas(None, "c"), exact).await;
    assert_eq!(taken.succeeded, Some(false));
    let deleted = caller.call(node, Action::Delete, exact).await;
    assert_eq!(
        (deleted.found, deleted.version.is_some()),
        (Some(true), true)
    );
    let nothing = caller.call(node, Action::Delete, exact).await;
    assert!(nothing.deleted_nothing());
    assert_eq!(
        caller.call(node, cas(None, "c"), exact).await.succeeded,
        Some(true)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_granted_kept_and_revoked_with_its_keys() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(program, dir.path(), 1).await;
    let caller = Caller {
        cluster: &cluster,
        clock: LabClock::new(),
    };
    let (node, exact) = (NodeId(1), Reads::Linearizable);
    let grant = Action::Grant { ttl_ms: 60_000 };
    let granted = caller.bound(node, "", grant, None, exact).await;
    let lease = granted.lease.clone().unwrap();
    assert_eq!(granted.ttl_ms, Some(60_000));
    for key in ["set/1", "set/2"] {
        let put = Action::Put(key.to_owned());
        let bound = caller.bound(node, key, put, Some(&lease), exact).await;
        assert_eq!(bound.outcome, Outcome::Ok);
    }
    let list = || caller.bound(node, "set/", Action::List, None, exact);
    let keys: Vec<String> = list().await.entries.into_iter().map(|e| e.key).collect();
    assert_eq!(keys, ["set/1", "set/2"]);
    let kept = caller
        .bound(node, "", Action::KeepAlive, Some(&lease), exact)
        .await;
    assert_eq!((kept.outcome, kept.ttl_ms), (Outcome::Ok, Some(60_000)));
    let revoked = caller
        .bound(node, "", Action::Revoke, Some(&lease), exact)
        .await;
    assert_eq!(revoked.outcome, Outcome::Ok);
    assert!(list().await.entries.is_empty());
    for action in [
        Action::KeepAlive,
        Action::Revoke,
        Action::Put("z".to_owned()),
    ] {
        let refused = caller.bound(node, "z", action, Some(&lease), exact).await;
        assert_eq!(
            (refused.outcome, refused.cause),
            (Outcome::Fail, Some(Cause::Refused)),
            "{refused:?}"
        );
    }
}

/// What is missing for a verdict on the order of operations. That the lab was late, beside other tests on a busy machine, spoils the
/// figures and not the order.
fn missing(history: &History) -> Vec<void::VoidReason> {
    let mut reasons = void::reasons(history);
    reasons.retain(|reason| match reason {
        void::VoidReason::Incomplete
        | void::VoidReason::NoFlood
        | void::VoidReason::TooLittleTraffic { .. }
        | void::VoidReason::FaultNeverBit { .. }
        | void::VoidReason::LagNotMeasured => true,
        void::VoidReason::LabOverslept { .. } | void::VoidReason::LabSentLate { .. } => false,
    });
    reasons
}

/// A run in which every fault bit. Where a machine is too busy for that, it is tried again.
async fn judged(options: &EtcdOptions, scenario: &Scenario) -> History {
    let mut reasons = Vec::new();
    for _ in 0..3 {
        let live = Arc::new(Live::default());
        let interrupt = CancellationToken::new();
        let ran = run(options, scenario, &live, &interrupt).await;
        let notes = ran.unwrap();
        assert_eq!(notes, Vec::<String>::new());
        let history = History::read(&options.history_path()).unwrap();
        reasons = missing(&history);
        if reasons.is_empty() {
            return history;
        }
    }
    panic!("three void runs: {reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linearizable_reads_pass_and_serializable_ones_judged_as_linearizable_do_not() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let scenario = Scenario::compare(5, 3, 12_000, Workload::default()).unwrap();
    let options = |reads| EtcdOptions {
        program: program.clone(),
        out: dir.path().to_owned(),
        reads,
    };

    let right = judged(&options(Reads::Linearizable), &scenario).await;
    assert_eq!(right.header.system, System::Etcd);
    assert!(
        right.header.build.starts_with("etcd 3."),
        "{}",
        right.header.build
    );
    let stale = staleness::check(&right);
    for finding in [
        linearizable::check(&right, linearizable::Reads::All, STEP_BUDGET),
        revisions::check(&right),
        phantom::check(&right),
        durability::check(&right).finding,
        convergence::check(&right, &stale.stale).finding,
    ] {
        assert_eq!(finding.verdict, Verdict::Valid, "{finding:?}");
    }
    assert_eq!(stale.stale.len(), 0);

    let weak = judged(&options(Reads::Serializable), &scenario).await;
    let claimed = linearizable::check(&weak, linearizable::Reads::Claimed, STEP_BUDGET);
    assert_eq!(claimed.verdict, Verdict::Valid, "{claimed:?}");
    let all = linearizable::check(&weak, linearizable::Reads::All, STEP_BUDGET);
    assert_eq!(all.verdict, Verdict::Invalid, "{all:?}");
    let witness = all.evidence.first().expect("a witness");
    assert!(witness.ops.len() >= 2, "{witness:?}");
    assert!(!staleness::check(&weak).stale.is_empty());
}

/// What rides along is judged as it is on our own cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_leases_and_counters_of_etcd_are_judged_like_ours() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let riders = Riders {
        leases: 1,
        lockers: 2,
        counters: 2,
        ..Riders::default()
    };
    let workload = Workload {
        riders,
        ..Workload::default()
    };
    let scenario = Scenario::compare(3, 3, 12_000, workload).unwrap();
    let options = EtcdOptions {
        program,
        out: dir.path().to_owned(),
        reads: Reads::Linearizable,
    };
    let history = judged(&options, &scenario).await;
    let taken = history.fences.iter().filter(|fence| fence.accepted);
    assert!(taken.count() > 0, "nobody held the lock");
    for finding in [
        lock::check(&history).expect("there were lockers"),
        lease::check(&history).expect("there were leases"),
        counter::check(&history)
            .expect("there were counters")
            .finding,
        linearizable::check(&history, linearizable::Reads::All, STEP_BUDGET),
    ] {
        assert_eq!(finding.verdict, Verdict::Valid, "{finding:?}");
    }
}

/// One short run of every other kind of fault that is carried out, at four nodes, in a closed loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_that_is_carried_out_leaves_its_trace() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let workload = Workload {
        arrivals: crate::workload::Arrivals::Closed,
        clients: 4,
        processes_per_client: 1,
        ..Workload::default()
    };
    let mut scenario = Scenario::compare(7, 4, 9_000, workload).unwrap();
    let on = || Target::Follower;
    let (side, does) = (
        on,
        Weather {
            delay: Micros::millis(5),
            jitter: Micros::millis(5),
            ..Weather::default()
        },
    );
    let kinds = [
        FaultKind::Pause { on: on() },
        FaultKind::Starve {
            on: on(),
            cpu_percent: 50,
        },
        FaultKind::CutOut { side: side() },
        FaultKind::CutIn { side: side() },
        FaultKind::Bridge { over: on() },
        FaultKind::Ring,
        FaultKind::Flap {
            side: side(),
            period: Micros::millis(400),
        },
        FaultKind::Weather { on: on(), does },
        FaultKind::RollingRestart {
            on: Target::Nodes(vec![NodeId(1), NodeId(2)]),
        },
    ];
    scenario.faults = (1..)
        .zip(kinds)
        .map(|(turn, kind)| Fault {
            kind,
            start_us: turn * 800_000,
            end_us: turn * 800_000 + 700_000,
        })
        .collect();
    let options = EtcdOptions {
        program,
        out: dir.path().to_owned(),
        reads: Reads::Linearizable,
    };
    let history = judged(&options, &scenario).await;
    assert_eq!(history.finals.len(), 4);
    let healed: Vec<FaultAction> = history
        .faults
        .iter()
        .filter(|record| record.step == FaultStep::Healed)
        .map(|record| record.action)
        .collect();
    assert_eq!(healed.len(), scenario.faults.len(), "{healed:?}");
    let lin = linearizable::check(&history, linearizable::Reads::All, STEP_BUDGET);
    assert_eq!(lin.verdict, Verdict::Valid, "{lin:?}");
}

#[tokio::test]
async fn a_scenario_that_needs_the_inside_of_a_node_is_not_carried_out_and_says_why() {
    let mut scenario = Scenario::compare(1, 3, 12_000, Workload::default()).unwrap();
    scenario.faults.push(Fault {
        kind: FaultKind::ClockJump {
            on: Target::Leader,
            by_ms: 60_000,
        },
        start_us: 9_600_000,
        end_us: 10_000_000,
    });
    let dir = tempfile::tempdir().unwrap();
    let options = EtcdOptions {
        program: "/nowhere/etcd".into(),
        out: dir.path().to_owned(),
        reads: Reads::Linearizable,
    };
    let (live, interrupt) = (Arc::new(Live::default()), CancellationToken::new());
    let refused = run(&options, &scenario, &live, &interrupt)
        .await
        .unwrap_err();
    let why = refused.downcast_ref::<NotCarriedOut>().expect("a reason");
    assert_eq!(
        why.to_string(),
        "not carried out: fault 3: the lab's faulty clock is only in its own nodes"
    );
}
