//! Each defect is found by the checker that must find it, and without it the same runs break nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use quorumor_core::{
    CallId, Command, Input, LeaseAction, LeaseId, NodeId, Now, Output, Planted, Recovered, Replica,
    Reply, Request, RequestId,
};
use quorumor_gossip::{GossipConfig, GossipReplica};

use super::*;

/// The page that shows the table to people.
const DOCUMENT: &str = include_str!("../../../../docs/lab.md");

/// Hunts every defect of a mode, and runs what it was hunted in again without it.
#[track_caller]
fn check(mode: Mode) {
    let directory = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut sound = BTreeSet::new();
    for case in CASES.iter().filter(|case| case.mode == mode) {
        let (name, by) = (case.plant.name(), case.provoked_by());
        let found = case.hunt(directory.path()).expect("it can be played");
        if found.is_none() {
            let (property, seeds) = (case.property, case.seeds());
            wrong.push(format!("{name}: {property:?} held in {by} over {seeds:?}"));
        }
        for seed in case
            .seeds()
            .take_while(|seed| found.is_some_and(|last| *seed <= last))
        {
            if !sound.insert((by, seed)) {
                continue;
            }
            let findings = case
                .play(seed, None, directory.path())
                .expect("it can be played");
            let broken = findings
                .into_iter()
                .filter(|finding| finding.verdict != Verdict::Valid);
            wrong.extend(
                broken.map(|finding| format!("{by}, seed {seed}, without a defect: {finding:#?}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The row of the page.
fn row(case: &Case) -> String {
    let seeds = case.seeds();
    format!(
        "| `{}` | {} | {} | `{}` | {} |",
        case.plant.name(),
        case.mode.name(),
        case.property.name(),
        case.provoked_by(),
        seeds.end - seeds.start,
    )
}

#[test]
fn the_page_has_a_row_for_every_case() {
    for case in &CASES {
        let row = row(case);
        assert!(DOCUMENT.contains(&row), "docs/lab.md has no row {row}");
        if let Shown::Campaign(_, why) = case.shown {
            assert!(DOCUMENT.contains(why), "docs/lab.md doesn't say: {why}");
        }
    }
}

#[test]
fn every_defect_of_strong_mode_is_found_by_its_checker_in_its_scenario() {
    check(Mode::Strong);
}

#[test]
fn every_defect_of_eventual_mode_is_found_by_its_checker_in_its_scenario() {
    check(Mode::Eventual);
}

#[test]
fn every_defect_has_a_case_in_a_mode_where_it_bites() {
    for plant in Inside::ALL.map(Plant::Inside) {
        assert!(CASES.iter().any(|case| case.plant == plant), "{plant:?}");
    }
    for case in &CASES {
        let mode = match case.mode {
            Mode::Strong => quorumor_core::Mode::Strong,
            Mode::Eventual => quorumor_core::Mode::Eventual,
        };
        if let Plant::Inside(plant) = case.plant {
            assert!(plant.bites_in(mode), "{case:?}");
        }
    }
}

#[test]
fn a_run_with_a_defect_names_it_in_its_command() {
    let plant = Plant::Inside(Inside::ReadIndexSkipped);
    let options = Options {
        duration_ms: 30_000,
        mix: Mix::Isolation,
        plant: Some(plant),
        ..Options::new(Mode::Strong, 3)
    };
    let command = options.command();
    assert_eq!(
        command,
        "quorumor sim --mode strong --seed 3 --nodes 5 --clients 6 --keys 4 --duration 30000ms --mix isolation \
         --plant read-index-skipped"
    );
    assert_eq!(Plant::parse("read-index-skipped"), Some(plant));
}

/// What the ledgers of all nodes list at the end of a run without crashes, in which they forget nothing.
fn listed(plant: Option<Inside>) -> u64 {
    let options = Options {
        mix: Mix::Isolation,
        plant: plant.map(Plant::Inside),
        ..Options::new(Mode::Eventual, 0)
    };
    let outcome = sim::run(&options).expect("the options can be run");
    let finals = &outcome.history.finals;
    assert_eq!(finals.len(), 5);
    finals
        .iter()
        .map(|state| state.discarded.expect("nobody crashed"))
        .sum()
}

#[test]
fn a_silent_ledger_lists_nothing_where_much_was_discarded() {
    assert!(listed(None) > 5);
    assert_eq!(listed(Some(Inside::SilentLedger)), 0);
}

/// One node alone, its disk always at once done.
struct Alone {
    replica: GossipReplica,
    now_us: u64,
    calls: u64,
}

impl Alone {
    fn new(planted: Planted) -> Self {
        let node = NodeId::try_from(1).unwrap();
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let config = GossipConfig {
            planted,
            ..GossipConfig::new(node, quorumor_gossip::cluster_id("alone"), address)
        };
        let now = now(1);
        let replica = GossipReplica::open(config, Recovered::default(), now).unwrap();
        let mut alone = Self {
            replica,
            now_us: 1,
            calls: 0,
        };
        alone.drain();
        alone
    }

    /// Takes outputs until there are none; the replies among them.
    fn drain(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Reply { result, .. } => replies.push(result.unwrap()),
                Output::Persist(quorumor_core::Persist::Append { token, .. }) => {
                    self.replica
                        .handle(now(self.now_us), Input::Persisted { token });
                }
                Output::Persist(_)
                | Output::Changed(_)
                | Output::Datagram { .. }
                | Output::Stream { .. }
                | Output::PeerAddress { .. } => {}
            }
        }
        replies
    }

    fn ask(&mut self, action: LeaseAction) -> Option<Reply> {
        self.calls += 1;
        let request = Request {
            command: Command::Lease(action),
            after: None,
            request_id: RequestId::default(),
        };
        let call = CallId::new(self.calls);
        self.replica
            .handle(now(self.now_us), Input::Request { call, request });
        self.drain().pop()
    }

    /// Lets time go on, a timer at a time.
    fn pass(&mut self, us: u64) {
        let end = self.now_us + us;
        while let Some((at, _)) = self.replica.poll_timeout().filter(|(at, _)| at.0 <= end) {
            self.now_us = self.now_us.max(at.0);
            self.replica.handle(now(self.now_us), Input::Timer);
            self.drain();
        }
        self.now_us = end;
    }
}

fn now(mono_us: u64) -> Now {
    Now {
        mono_us,
        wall_ms: 1_893_456_000_000 + mono_us / 1_000,
    }
}

/// Whether a lease of two seconds that was kept alive after one is there after another one and a half.
fn outlives_its_grant(planted: Planted) -> bool {
    let mut node = Alone::new(planted);
    let grant = LeaseAction::Grant {
        id: None,
        ttl_ms: 2_000,
        client: None,
    };
    let Some(Reply::LeaseGranted { id, .. }) = node.ask(grant) else {
        panic!("no lease was granted");
    };
    node.pass(1_000_000);
    let kept = node.ask(LeaseAction::KeepAlive { id });
    assert!(matches!(kept, Some(Reply::LeaseKept { ttl_ms: 2_000 })));
    node.pass(1_500_000);
    let live = node.replica.view().leases.contains_key(&id);
    assert_ne!(id, LeaseId::ZERO);
    live
}

#[test]
fn a_lease_of_eventual_mode_that_is_cut_short_ends_though_it_was_kept_alive() {
    assert!(outlives_its_grant(Planted::default()));
    assert!(!outlives_its_grant(Inside::LeaseCutShort.into()));
}
