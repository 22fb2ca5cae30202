//! Scenarios in the simulated world.

use super::*;
use crate::analyse::analyse;
use crate::checker::Verdict;
use crate::history::{FaultAction, History};

fn play(scenario: &Scenario, mode: Mode) -> (Vec<u8>, History, Ran) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let ran = run(scenario, mode, None, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (bytes, History::read(&path).unwrap(), ran)
}

/// A short one with a bit of everything.
fn composite() -> Scenario {
    let text = r#"
        name = "composite"
        teaches = "Faults overlap."
        duration = "9s"
        nodes = 3
        [workload]
        rate = 80
        riders = { watchers = 1, leases = 1, lockers = 2, counters = 1, services = 1 }
        [[fault]]
        kind = "partition"
        side = "leader's minority"
        at = "2s"
        lasts = "3s"
        [[fault]]
        kind = "slow-disk"
        on = "follower"
        sync = "50ms"
        at = "3s"
        lasts = "4s"
        [[fault]]
        kind = "pause"
        on = "leader"
        at = "4s"
        lasts = "500ms"
    "#;
    Scenario::parse(text).unwrap()
}

#[test]
fn a_scenario_is_played_whole_judged_and_the_same_again() {
    for mode in [Mode::Strong, Mode::Eventual] {
        let scenario = composite();
        let (bytes, history, ran) = play(&scenario, mode);
        let result = analyse(&history, &scenario);
        let wrong: Vec<_> = result
            .findings
            .iter()
            .filter(|finding| finding.verdict != Verdict::Valid)
            .collect();
        assert!(
            wrong.is_empty() && result.void.is_empty(),
            "{mode:?} {wrong:?} {:?}",
            result.void
        );
        assert!(result.total.counts.ok > 300, "{:?}", result.total.counts);
        assert!(!history.watches.is_empty());
        assert_eq!(history.fences.is_empty(), mode == Mode::Eventual);
        for action in [
            FaultAction::Partition,
            FaultAction::SlowDisk,
            FaultAction::Pause,
        ] {
            assert_eq!(
                history
                    .faults
                    .iter()
                    .filter(|fault| fault.action == action)
                    .count(),
                4
            );
        }
        let again = play(&scenario, mode);
        assert!(
            (bytes, &ran) == (again.0, &again.2),
            "the same seed gave another history"
        );
        let other = Scenario {
            seed: 2,
            ..scenario
        };
        assert_ne!(play(&other, mode).2.trace, again.2.trace);
    }
}

/// Two faults that want the same node down, or fill its disk, are over when the later one is.
#[test]
fn overlapping_faults_undo_only_what_they_did() {
    let overlap = |kind: &str| {
        format!(
            r#"
            name = "overlap"
            teaches = "The end of one fault leaves what the others want."
            duration = "10s"
            nodes = 3
            [workload]
            rate = 100
            [[fault]]
            kind = "{kind}"
            on = "node 2"
            at = "2s"
            lasts = "2s"
            [[fault]]
            kind = "{kind}"
            on = "node 2"
            at = "3s"
            lasts = "3s"
            "#
        )
    };
    for kind in ["kill", "full-disk"] {
        let scenario = Scenario::parse(&overlap(kind)).unwrap();
        let (_, history, _) = play(&scenario, Mode::Eventual);
        let start_us = history.header.start_us;
        let taken = |from_s: u64, to_s: u64| {
            let during = history.ops.iter().filter(|op| {
                let at = op.invoke.at_us.saturating_sub(start_us);
                op.invoke.node == NodeId(2) && (from_s * 1_000_000..to_s * 1_000_000).contains(&at)
            });
            during.filter(|op| op.is_acked_write()).count()
        };
        assert!(taken(0, 2) > 0, "{kind}: none before");
        // From just after the first one's end to just before the second one's.
        assert_eq!(taken(4, 6), 0, "{kind}: it was over too soon");
        assert!(taken(7, 10) > 0, "{kind}: it is not over");
    }
}

/// Nothing reaches a paused process, not even that its callers gave up: the others hear nothing of it, and elect another leader.
#[test]
fn a_leader_that_stands_still_for_long_is_replaced_meanwhile() {
    let text = r#"
        name = "still"
        teaches = "A leader that stands still leads no longer."
        duration = "14s"
        nodes = 3
        [[fault]]
        kind = "pause"
        on = "leader"
        at = "2s"
        lasts = "8s"
    "#;
    let (_, history, _) = play(&Scenario::parse(text).unwrap(), Mode::Strong);
    let paused = history.faults.first().unwrap();
    let until_us = paused.at_us + 8_000_000;
    let another = history.events.iter().any(|event| {
        let leader = match event.kind {
            EventKind::Leader { leader, .. } => leader,
            EventKind::Member { .. } | EventKind::Out(_) | EventKind::Note(_) => return false,
        };
        (paused.at_us..until_us).contains(&event.at_us) && !paused.nodes.contains(&leader)
    });
    assert!(another, "{:?}", history.events);
}
