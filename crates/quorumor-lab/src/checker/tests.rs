//! Hand-drawn histories for the checkers that go by versions: each sound one is valid, each broken one named.

mod drawn;
mod mutation;
mod revisions;
mod timeline;

use super::durability::Fate;
use super::*;
use crate::history::{
    DigestPoll, FaultAction, FaultRecord, FaultStep, Mode, NodeId, Outcome, Staleness,
    StalenessBasis,
};
use crate::testing::{MS, Story};

fn tell(mode: Mode, tell: impl FnOnce(&mut Story)) -> Story {
    let mut story = Story::new(mode);
    tell(&mut story);
    story
}

// Phantoms.

#[test]
fn a_value_that_nobody_wrote_or_only_a_refused_write_is_a_phantom() {
    let verdict = |value: &'static str| {
        let story = tell(Mode::Eventual, |s| {
            s.put(0, 1, "a");
            s.put_refused(0, 1, "refused");
            s.put_unknown(0, 1, "unknown");
            s.put(90, 91, "later");
            s.get(2, 3, value);
        });
        phantom::check(&story.history).verdict
    };
    assert_eq!(verdict("a"), Verdict::Valid);
    assert_eq!(verdict("unknown"), Verdict::Valid);
    assert_eq!(verdict(""), Verdict::Valid);
    assert_eq!(verdict("refused"), Verdict::Invalid);
    assert_eq!(verdict("later"), Verdict::Invalid);
    assert_eq!(verdict("nobody's"), Verdict::Invalid);
}

#[test]
fn a_phantom_at_the_end_is_found() {
    let story = tell(Mode::Strong, |s| {
        s.put(0, 1, "a");
        s.ends_with("b");
    });
    assert_eq!(phantom::check(&story.history).verdict, Verdict::Invalid);
}

// Revisions.

#[test]
fn revisions_must_be_unique_and_agree_with_real_time() {
    let verdict = |first, second| {
        let story = tell(Mode::Strong, |s| {
            s.put(0, 1, "a").revision(first).key("x");
            s.put(2, 3, "b").revision(second).key("y");
        });
        super::revisions::check(&story.history).verdict
    };
    assert_eq!(verdict(1, 2), Verdict::Valid);
    assert_eq!(verdict(2, 2), Verdict::Invalid);
    assert_eq!(verdict(2, 1), Verdict::Invalid);
}

#[test]
fn a_read_stands_at_or_after_what_was_acknowledged_and_shows_the_replayed_state() {
    let verdict = |value: &'static str, revision: u64, position: u64| {
        let story = tell(Mode::Strong, |s| {
            s.put(0, 1, "a").revision(5);
            s.put(2, 3, "b").revision(6);
            s.put(0, 90, "other").revision(7).key("other");
            s.get(4, 5, value).revision(revision).position(position);
        });
        super::revisions::check(&story.history).verdict
    };
    assert_eq!(verdict("b", 6, 6), Verdict::Valid);
    assert_eq!(verdict("b", 6, 7), Verdict::Valid);
    assert_eq!(
        verdict("a", 5, 5),
        Verdict::Invalid,
        "behind an acknowledged revision"
    );
    assert_eq!(
        verdict("a", 5, 6),
        Verdict::Invalid,
        "not the replayed state"
    );
    assert_eq!(
        verdict("b", 5, 6),
        Verdict::Invalid,
        "the value at another revision"
    );
}

#[test]
fn an_unknown_delete_explains_an_absence_in_the_replay_and_an_unknown_write_gets_its_revision_by_sight()
 {
    let story = tell(Mode::Strong, |s| {
        s.put(0, 1, "a").revision(5);
        s.op(2, 3, crate::history::Action::Delete, Outcome::Unknown);
        s.get(4, 5, "").position(6);
    });
    assert_eq!(
        super::revisions::check(&story.history).verdict,
        Verdict::Valid
    );
    let reads = |second: u64| {
        let story = tell(Mode::Strong, |s| {
            s.put_unknown(0, 1, "a");
            s.get(4, 5, "a").revision(5).position(5);
            s.put(6, 7, "b").revision(second);
        });
        super::revisions::check(&story.history).verdict
    };
    assert_eq!(reads(6), Verdict::Valid);
    assert_eq!(reads(4), Verdict::Invalid);
}

// Sessions.

#[test]
fn a_session_reads_its_own_writes() {
    let violations = |saw: &'static str, stamp: u64| {
        let story = tell(Mode::Eventual, |s| {
            s.put(0, 1, "old").stamp(2, 10);
            s.put(2, 3, "mine").stamp(1, 20).session(7);
            s.put(2, 3, "newer").stamp(2, 30);
            s.get(4, 5, saw).stamp(1, stamp).session(7);
        });
        session::check(&story.history).violations
    };
    assert_eq!(violations("mine", 20), 0);
    assert_eq!(violations("newer", 30), 0);
    assert_eq!(violations("old", 10), 1);
}

#[test]
fn a_session_never_reads_older_than_before_at_any_node() {
    let story = tell(Mode::Eventual, |s| {
        s.put(0, 1, "a").stamp(1, 10);
        s.put(2, 3, "b").stamp(1, 20);
        s.get(4, 5, "b").stamp(1, 20).session(7);
        s.get(6, 7, "a").stamp(1, 10).session(7).at(2);
    });
    let sessions = session::check(&story.history);
    assert_eq!((sessions.judged, sessions.violations), (2, 1));
    assert!(
        sessions.finding.evidence[0]
            .text
            .contains("at another node")
    );
}

#[test]
fn without_a_token_nothing_was_promised_and_other_sessions_are_apart() {
    let story = tell(Mode::Eventual, |s| {
        s.put(0, 1, "a").stamp(1, 10);
        s.put(2, 3, "b").stamp(1, 20).session(7);
        s.get(4, 5, "a").stamp(1, 10).session(8);
        s.get(4, 5, "a").stamp(1, 10).session(7);
    });
    let mut history = story.history;
    history.ops[3].invoke.token = None;
    assert_eq!(session::check(&history).violations, 0);
}

#[test]
fn an_absence_after_a_write_breaks_the_session_unless_a_delete_explains_it() {
    let violations = |deleted: bool| {
        let story = tell(Mode::Eventual, |s| {
            s.put(0, 1, "a").stamp(1, 10).session(7);
            if deleted {
                s.delete(2, 3).stamp(2, 20);
            }
            s.get(4, 5, "").session(7);
        });
        session::check(&story.history).violations
    };
    assert_eq!(violations(false), 1);
    assert_eq!(violations(true), 0);
}

#[test]
fn a_strong_session_never_goes_back_in_position() {
    let story = tell(Mode::Strong, |s| {
        s.put(0, 1, "a").revision(9).position(9).session(7);
        s.get(2, 3, "").position(8).session(7).key("other");
    });
    assert_eq!(
        session::check(&story.history).finding.verdict,
        Verdict::Invalid
    );
}

// Staleness.

#[test]
fn staleness_counts_what_a_read_missed_and_since_when() {
    let story = tell(Mode::Eventual, |s| {
        s.put(0, 1, "a").stamp(1, 10);
        s.put(2, 5, "b").stamp(1, 20);
        s.put(6, 8, "c").stamp(2, 30);
        s.put(6, 50, "not acknowledged in time").stamp(2, 40);
        s.get(20, 21, "a").stamp(1, 10);
        s.get(20, 21, "c").stamp(2, 30);
    });
    let found = staleness::check(&story.history);
    assert_eq!(found.judged, 2);
    let [stale] = found.stale[..] else {
        panic!("one stale read: {:?}", found.stale)
    };
    assert_eq!((stale.k, stale.t_us), (2, 15 * MS));
    assert_eq!(found.finding.verdict, Verdict::Valid);
}

#[test]
fn a_write_that_lost_to_what_was_seen_is_not_missed() {
    let story = tell(Mode::Eventual, |s| {
        s.put(0, 1, "winner").stamp(1, 30);
        s.put(2, 3, "loser").stamp(2, 20);
        s.get(4, 5, "winner").stamp(1, 30);
    });
    assert!(staleness::check(&story.history).stale.is_empty());
}

#[test]
fn an_answer_older_than_its_proven_bound_is_a_broken_promise_and_a_guess_is_none() {
    let verdict = |basis, bound_ms: u64| {
        let story = tell(Mode::Eventual, |s| {
            s.put(0, 1, "a").stamp(1, 10);
            s.put(2, 5, "b").stamp(1, 20);
            let told = s.get(20, 21, "a").stamp(1, 10);
            told.0.ret.as_mut().unwrap().staleness = Some(Staleness {
                bound_us: bound_ms * MS,
                basis,
            });
        });
        staleness::check(&story.history).finding.verdict
    };
    assert_eq!(verdict(StalenessBasis::Proven, 20), Verdict::Valid);
    assert_eq!(verdict(StalenessBasis::Proven, 10), Verdict::Invalid);
    assert_eq!(verdict(StalenessBasis::Exact, 10), Verdict::Invalid);
    assert_eq!(verdict(StalenessBasis::Estimated, 10), Verdict::Valid);
}

// Durability.

fn fate_of_first(story: &Story) -> (Fate, Verdict) {
    let fates = durability::check(&story.history);
    let first = fates.writes.iter().find(|write| write.op.0 == 1).unwrap();
    (first.fate, fates.finding.verdict)
}

#[test]
fn a_write_is_visible_or_superseded_by_one_that_began_later() {
    let story = |end: &'static str| {
        tell(Mode::Strong, |s| {
            s.put(0, 1, "a").revision(1);
            s.put(2, 3, "b").revision(2);
            s.ends_with(end);
        })
    };
    assert_eq!(
        fate_of_first(&story("b")),
        (Fate::Superseded, Verdict::Valid)
    );
    // The first is there, so the second is gone.
    assert_eq!(
        fate_of_first(&story("a")),
        (Fate::Visible, Verdict::Invalid)
    );
    assert_eq!(
        fate_of_first(&story("")),
        (Fate::NoSuccessor, Verdict::Invalid)
    );
}

#[test]
fn a_write_lost_to_a_concurrent_one_is_counted_in_eventual_mode() {
    let eventual = tell(Mode::Eventual, |s| {
        s.put(0, 10, "a").stamp(1, 10);
        s.put(5, 15, "b").stamp(2, 20);
        s.ends_with("b");
    });
    assert_eq!(
        fate_of_first(&eventual),
        (Fate::LostToConcurrent, Verdict::Valid)
    );
    let saw = tell(Mode::Eventual, |s| {
        s.put(0, 10, "a").stamp(1, 10);
        s.put(5, 15, "b").stamp(2, 20).saw(&[(1, 10)]);
        s.ends_with("b");
    });
    assert_eq!(fate_of_first(&saw).0, Fate::Superseded);
}

#[test]
fn a_write_lost_to_an_earlier_one_is_a_clock_and_broken_only_if_the_loser_had_seen_the_winner() {
    let story = |loser_node: u64| {
        tell(Mode::Eventual, |s| {
            s.put(5, 10, "loser").stamp(2, 20).at(loser_node);
            s.put(0, 1, "winner").stamp(1, 30).at(1);
            s.ends_with("winner");
        })
    };
    assert_eq!(
        fate_of_first(&story(2)),
        (Fate::LostToEarlier, Verdict::Valid)
    );
    assert_eq!(
        fate_of_first(&story(1)),
        (Fate::LostToEarlier, Verdict::Invalid)
    );
}

#[test]
fn a_write_without_any_successor_is_lost_in_both_modes() {
    let eventual = tell(Mode::Eventual, |s| {
        s.put(2, 3, "b").stamp(2, 20);
        s.put(0, 1, "a").stamp(1, 10);
        s.ends_with("a");
    });
    assert_eq!(
        fate_of_first(&eventual),
        (Fate::NoSuccessor, Verdict::Invalid)
    );
}

#[test]
fn a_delete_may_replace_a_write_and_an_unknown_one_too() {
    let deleted = tell(Mode::Strong, |s| {
        s.put(0, 1, "a").revision(1);
        s.delete(2, 3).revision(2);
        s.ends_with("");
    });
    assert_eq!(fate_of_first(&deleted), (Fate::Superseded, Verdict::Valid));
    let unknown = tell(Mode::Strong, |s| {
        s.put(0, 1, "a").revision(1);
        s.op(2, 3, crate::history::Action::Delete, Outcome::Unknown);
        s.ends_with("");
    });
    assert_eq!(fate_of_first(&unknown), (Fate::Superseded, Verdict::Valid));
}

#[test]
fn an_unknown_write_seen_at_the_end_replaces_what_it_overwrote() {
    let mut story = tell(Mode::Strong, |s| {
        s.put(0, 1, "a").revision(1);
        s.put_unknown(2, 3, "b");
        s.ends_with("b");
    });
    for state in &mut story.history.finals {
        state.entries[0].version = Some(crate::history::Version::Strong { revision: 2 });
    }
    assert_eq!(fate_of_first(&story), (Fate::Superseded, Verdict::Valid));
}

#[test]
fn without_a_final_read_durability_is_unknown() {
    let story = tell(Mode::Strong, |s| {
        s.put(0, 1, "a").revision(1);
    });
    assert_eq!(
        durability::check(&story.history).finding.verdict,
        Verdict::Unknown
    );
}

#[test]
fn a_conflict_ledger_that_hides_a_discarded_write_is_found() {
    let verdict = |listed| {
        let mut story = tell(Mode::Eventual, |s| {
            s.put(0, 10, "a").stamp(1, 10).saw(&[]);
            s.put(5, 15, "b").stamp(2, 20).saw(&[]);
            s.ends_with("b");
        });
        for state in &mut story.history.finals {
            state.discarded = Some(listed);
        }
        let fates = durability::check(&story.history);
        ledger::check(&story.history, &fates).unwrap().verdict
    };
    assert_eq!(verdict(1), Verdict::Valid);
    assert_eq!(verdict(0), Verdict::Invalid);
}

// Convergence.

fn healed(story: &mut Story, at_ms: u64) {
    let (action, step) = (FaultAction::Partition, FaultStep::Healed);
    let record = FaultRecord {
        at_us: at_ms * MS,
        fault: 0,
        action,
        step,
        nodes: vec![NodeId(3)],
        links: vec![],
        hits: 0,
    };
    story.history.faults.push(record);
}

#[test]
fn nodes_that_differ_at_the_end_have_not_converged() {
    let story = tell(Mode::Eventual, |s| {
        s.put(0, 1, "a").stamp(1, 10);
        s.put(0, 1, "b").stamp(1, 20);
        s.ends_at(1, "a").ends_at(2, "a").ends_at(3, "b");
    });
    let found = convergence::check(&story.history, &[]);
    assert_eq!(found.finding.verdict, Verdict::Invalid);
    assert!(
        found.finding.evidence[0].text.contains("k is a and b"),
        "{:?}",
        found.finding
    );
}

#[test]
fn a_node_that_was_not_read_at_the_end_leaves_convergence_unknown() {
    let story = tell(Mode::Eventual, |s| {
        s.ends_at(1, "a").ends_at(2, "a");
    });
    let found = convergence::check(&story.history, &[]).finding;
    assert_eq!(found.verdict, Verdict::Unknown);
    assert!(found.summary.contains("node 3"));
}

#[test]
fn the_time_to_converge_is_the_later_of_equal_digests_and_the_last_stale_read() {
    let mut story = tell(Mode::Eventual, |s| {
        s.put(10, 11, "a").stamp(1, 10);
        s.put(20, 21, "b").stamp(1, 20);
        s.get(1_250, 1_251, "a").stamp(1, 10).at(3);
        s.ends_with("b");
    });
    healed(&mut story, 1_000);
    let stale = staleness::check(&story.history).stale;
    assert_eq!(
        convergence::check(&story.history, &stale).after_heal_us,
        Some(250 * MS)
    );
    for (at_ms, digests) in [(1_100, ["x", "x", "y"]), (1_400, ["x", "x", "x"])] {
        for (node, digest) in (1..).zip(digests) {
            let poll = DigestPoll {
                at_us: at_ms * MS,
                node: NodeId(node),
                digest: digest.to_owned(),
            };
            story.history.digests.push(poll);
        }
    }
    assert_eq!(
        convergence::check(&story.history, &stale).after_heal_us,
        Some(400 * MS)
    );
}

// Availability.

#[test]
fn a_gap_lasts_from_the_first_operation_without_an_answer_to_the_next_answer() {
    use super::availability::{Due, Fared, gaps};
    let due = |due_ms: u64, answered_ms: Option<u64>| Due {
        due_us: due_ms * MS,
        node: NodeId(1),
        fared: if answered_ms.is_some() {
            Fared::Ok
        } else {
            Fared::Refused
        },
        answered_us: answered_ms.map(|ms| ms * MS),
        live: true,
    };
    let gap = |dues: &[Due]| gaps(dues, 0, 10_000 * MS).everywhere_us / MS;
    assert_eq!(gap(&[]), 0);
    assert_eq!(
        gap(&[due(0, Some(2)), due(500, Some(503)), due(900, Some(901))]),
        3
    );
    assert_eq!(
        gap(&[
            due(0, Some(2)),
            due(100, None),
            due(200, None),
            due(900, Some(901))
        ]),
        801
    );
    assert_eq!(
        gap(&[
            due(0, Some(2)),
            due(100, Some(1_200)),
            due(300, Some(1_201))
        ]),
        1_100
    );
    assert_eq!(gap(&[due(0, Some(2)), due(9_000, None)]), 1_000);
    let dead = Due {
        live: false,
        ..due(100, None)
    };
    assert_eq!(gap(&[due(0, Some(2)), dead]), 2);
}

#[test]
fn recovery_is_the_start_of_the_first_good_second() {
    use super::availability::{Due, Fared, recovery_us};
    let dues: Vec<Due> = (0..100)
        .map(|i| {
            let due_us = i * 100 * MS;
            let fared = if (20..35).contains(&i) {
                Fared::Unknown
            } else {
                Fared::Ok
            };
            let answered_us = (fared == Fared::Ok).then_some(due_us + MS);
            Due {
                due_us,
                node: NodeId(1),
                fared,
                answered_us,
                live: true,
            }
        })
        .collect();
    assert_eq!(recovery_us(&dues, 0, 10_000 * MS), Some(0));
    assert_eq!(
        recovery_us(&dues, 2_000 * MS, 10_000 * MS),
        Some(1_500 * MS)
    );
    assert_eq!(recovery_us(&dues[..35], 2_000 * MS, 10_000 * MS), None);
}

#[test]
fn a_write_is_discarded_if_a_concurrent_one_beat_it_before_anyone_had_replaced_it() {
    // (writer, seq) of the test's stamps: `stamp(writer, seq)` makes the dot (writer, 1, seq).
    let discarded = |third_saw: &[(u64, u64)]| {
        let history = tell(Mode::Eventual, |s| {
            s.put(0, 10, "a").stamp(1, 10).saw(&[(1, 10)]);
            s.put(20, 30, "b").stamp(2, 20).saw(&[(2, 20)]);
            s.put(40, 50, "c").stamp(3, 30).saw(third_saw);
            s.ends_with("c");
        });
        let fates = durability::check(&history.history);
        fates
            .writes
            .iter()
            .map(|write| write.discarded)
            .collect::<Vec<_>>()
    };
    // The third saw both: the first had lost to the second, though the second began after its acknowledgement.
    assert_eq!(
        discarded(&[(1, 10), (2, 20), (3, 30)]),
        [true, false, false]
    );
    // The third saw only the first, and replaced it; the second lost to the third.
    assert_eq!(discarded(&[(1, 10), (3, 30)]), [false, true, false]);
}
