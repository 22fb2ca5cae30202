//! The series of the analysis, over small histories told by hand.

use super::*;
use crate::checker::Property;
use crate::checker::availability::Fared;
use crate::history::{
    Event, EventKind, FaultAction, FaultRecord, FaultStep, MemberState, NodeId, ProcessId,
};
use crate::testing::{MS, Story};

fn fault(story: &mut Story, fault: u32, action: FaultAction, nodes: &[u64], times_ms: [u64; 4]) {
    use FaultStep::{Effective, HealRequested, Healed, Requested};
    let nodes: Vec<NodeId> = nodes.iter().map(|&id| NodeId(id)).collect();
    let steps = [Requested, Effective, HealRequested, Healed];
    for (step, at_ms) in steps.into_iter().zip(times_ms) {
        story.history.faults.push(FaultRecord {
            at_us: at_ms * MS,
            fault,
            action,
            step,
            nodes: nodes.clone(),
            links: Vec::new(),
            hits: 0,
        });
    }
}

fn analysed(story: &Story) -> RunResult {
    analyse(&story.history, &story.history.header.scenario)
}

#[test]
fn nodes_are_named_and_faults_have_words() {
    let nodes = |ids: &[u64]| ids.iter().map(|&id| NodeId(id)).collect::<Vec<_>>();
    assert_eq!(
        fault_label(FaultAction::Kill, &nodes(&[3])),
        "node 3 killed"
    );
    assert_eq!(
        fault_label(FaultAction::Partition, &nodes(&[1, 2, 5])),
        "nodes 1, 2 and 5 cut off"
    );
    assert_eq!(nodes_text(&nodes(&[1, 2, 3, 4, 5, 6, 7, 8])), "8 nodes");
    assert_eq!(nodes_text(&[]), "the network");
}

#[test]
fn operations_under_a_fault_are_counted_by_side_and_kind() {
    let mut story = Story::new(Mode::Strong);
    // The phase "minority cut off" lasts from 20 s to 32 s.
    fault(
        &mut story,
        0,
        FaultAction::Partition,
        &[2],
        [20_000, 20_001, 30_000, 30_001],
    );
    story.put_refused(21_000, 21_001, "a").at(2);
    story.put(21_000, 21_001, "b").at(1);
    story.get(22_000, 22_001, "b").at(2);
    // Once it is over, and in another phase: not under the fault.
    story.put(31_000, 31_001, "c").at(2);
    story.put(5_000, 5_001, "d").at(2);
    let run = analysed(&story);
    let faulted = run.phases[2].faulted.as_ref().unwrap();
    assert_eq!(faulted.labels, ["node 2 cut off"]);
    assert_eq!(
        (faulted.hit.writes.refused, faulted.hit.writes.total()),
        (1, 1)
    );
    assert_eq!((faulted.hit.reads.ok, faulted.rest.writes.ok), (1, 1));
    assert_eq!(faulted.rest.reads.total(), 0);
    assert!(run.phases[0].faulted.is_none() && run.total.faulted.is_none());
    assert_eq!(run.bands[0].label, "node 2 cut off");
    assert_eq!(
        (run.bands[0].from_us, run.bands[0].to_us),
        (20_001 * MS, 30_001 * MS)
    );
}

#[test]
fn a_fault_over_several_phases_belongs_to_each_that_it_fills() {
    let mut story = Story::new(Mode::Strong);
    fault(
        &mut story,
        0,
        FaultAction::Partition,
        &[2],
        [8_000, 8_001, 39_000, 39_001],
    );
    let run = analysed(&story);
    let has = |phase: usize| run.phases[phase].faulted.is_some();
    assert_eq!([has(0), has(1), has(2), has(3)], [false, true, true, true]);
}

#[test]
fn freshness_counts_reads_by_the_age_of_the_newest_write() {
    let mut story = Story::new(Mode::Eventual);
    story.put(0, 10, "a").stamp(1, 1);
    story.put(90, 100, "b").stamp(1, 2);
    story.get(103, 104, "a").stamp(1, 1); // 3 ms after the newest: it missed it
    story.get(104, 105, "b").stamp(1, 2); // 4 ms: fresh
    story.get(400, 401, "b").stamp(1, 2); // 300 ms: fresh
    story.get(5, 6, ""); // before any acknowledgement: no age
    let fresh = analysed(&story).freshness;
    let bin = |from_ms: u64, to_ms: u64, fresh: u64, reads: u64| FreshBin {
        from_us: from_ms * MS,
        to_us: to_ms * MS,
        fresh,
        reads,
    };
    assert_eq!(fresh.calm, [bin(2, 5, 1, 2), bin(200, 500, 1, 1)]);
    assert_eq!(fresh.faulted, []);
}

#[test]
fn a_write_converges_when_the_last_read_that_misses_it_begins() {
    let mut story = Story::new(Mode::Eventual);
    story.put(0, 10, "a").stamp(1, 1);
    story.put(90, 100, "b").stamp(1, 2);
    story.get(130, 131, "a").stamp(1, 1);
    story.get(150, 151, "b").stamp(1, 2);
    let converging = analysed(&story).converging;
    assert_eq!(
        (converging.writes_us, converging.writes),
        (vec![0, 30 * MS], 2)
    );
}

#[test]
fn nodes_converge_when_they_hold_for_good_what_most_end_with() {
    let mut story = Story::new(Mode::Eventual);
    fault(
        &mut story,
        0,
        FaultAction::Partition,
        &[1],
        [20_000, 20_000, 30_000, 30_000],
    );
    let polls = [
        (1, 30_010, "x"),
        (2, 30_020, "y"),
        (3, 30_030, "z"),
        (1, 30_100, "y"),
        (2, 30_110, "y"),
    ];
    for (node, at_ms, digest) in polls {
        story.history.digests.push(crate::history::DigestPoll {
            at_us: at_ms * MS,
            node: NodeId(node),
            digest: digest.to_owned(),
        });
    }
    let converging = analysed(&story).converging;
    assert_eq!(
        converging.nodes_us,
        [20 * MS, 100 * MS],
        "node 3 never came to it"
    );
    assert_eq!(converging.nodes, 3);
}

#[test]
fn beliefs_and_leaders_are_kept_as_changes() {
    let mut story = Story::new(Mode::Strong);
    let mut tell = |at_ms: u64, node: u64, kind: EventKind| {
        story.history.events.push(Event {
            at_us: at_ms * MS,
            node: NodeId(node),
            kind,
        });
    };
    let member = |state| EventKind::Member {
        subject: NodeId(2),
        state,
    };
    tell(10, 1, member(MemberState::Alive));
    tell(20, 1, member(MemberState::Alive));
    tell(30, 1, member(MemberState::Suspect));
    let leader = |leader, term| EventKind::Leader {
        leader: NodeId(leader),
        term,
    };
    tell(40, 1, leader(3, 5));
    tell(50, 1, leader(2, 4)); // an older term that came late
    tell(60, 1, leader(2, 6));
    let run = analysed(&story);
    let states: Vec<_> = run
        .beliefs
        .iter()
        .map(|belief| (belief.at_us, belief.state))
        .collect();
    assert_eq!(
        states,
        [
            (10 * MS, MemberState::Alive),
            (30 * MS, MemberState::Suspect)
        ]
    );
    let reigns: Vec<_> = run
        .leaders
        .iter()
        .map(|seen| (seen.leader, seen.term))
        .collect();
    assert_eq!(reigns, [(Some(NodeId(3)), 5), (Some(NodeId(2)), 6)]);
}

#[test]
fn a_witness_has_the_intervals_of_its_operations() {
    use crate::history::Level;
    let mut story = Story::new(Mode::Strong);
    story.put(10, 20, "a").revision(1);
    story.put(30, 40, "b").revision(2);
    story.get(50, 60, "a").revision(1).got(Level::Linearizable);
    let run = analysed(&story);
    let witness = run
        .witnesses
        .iter()
        .find(|witness| witness.property == Property::Linearizability);
    let witness = witness.unwrap();
    let bars: Vec<_> = witness.lanes.iter().flat_map(|lane| &lane.bars).collect();
    let read = bars.iter().find(|bar| bar.label == "get: a").unwrap();
    assert_eq!(
        (read.from_us, read.to_us, read.fared),
        (50 * MS, Some(60 * MS), Fared::Ok)
    );
    assert!(bars.iter().any(|bar| bar.label == "put b"));
    assert_eq!(witness.lanes[0].process, ProcessId(bars[0].op.0));
    let figure = crate::report::timeline::svg(witness);
    assert!(
        figure.contains("get: a @1") && figure.contains("process 3"),
        "{figure}"
    );
}
