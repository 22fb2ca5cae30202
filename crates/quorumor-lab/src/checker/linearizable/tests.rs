//! The checker is checked: against every order and every subset of tiny histories, by hand-drawn histories, by
//! mutators that must turn a good history bad, and by its speed.

mod large;

use rand_chacha::ChaCha8Rng;

use super::*;
use crate::history::{Level, OpId};
use crate::rng::{self, Purpose, below, chance_ppm};
use crate::testing::{MS, Story};

fn verdict(story: &Story) -> Verdict {
    check(&story.history, Reads::Claimed, STEP_BUDGET).verdict
}

fn judge(tell: impl FnOnce(&mut Story)) -> Verdict {
    let mut story = Story::new(Mode::Strong);
    tell(&mut story);
    verdict(&story)
}

// The oracle: all orders of the definite operations with all subsets of the unknown ones, on the raw history.

#[derive(Clone)]
struct Single {
    value: Option<String>,
    revision: u64,
}

fn oracle(ops: &[Op]) -> bool {
    let live: Vec<&Op> = ops
        .iter()
        .filter(|op| op.outcome() != Outcome::Fail)
        .collect();
    let start = Single {
        value: None,
        revision: 0,
    };
    extend(&live, &mut vec![false; live.len()], &start)
}

/// True if the operations not yet placed can be placed in some order that agrees with real time.
fn extend(ops: &[&Op], placed: &mut [bool], state: &Single) -> bool {
    if (0..ops.len()).all(|i| placed[i] || ops[i].outcome() == Outcome::Unknown) {
        return true;
    }
    // Whatever is placed next must have begun before any unplaced operation ended.
    let ends = (0..ops.len())
        .filter(|&i| !placed[i])
        .filter_map(|i| ops[i].answer().map(|ret| ret.at_us));
    let deadline = ends.min().unwrap_or(u64::MAX);
    for i in 0..ops.len() {
        if placed[i] || ops[i].invoke.at_us > deadline {
            continue;
        }
        placed[i] = true;
        let fits = single(ops[i], state)
            .iter()
            .any(|next| extend(ops, placed, next));
        placed[i] = false;
        if fits {
            return true;
        }
    }
    false
}

/// What the oracle takes for absence, as the value of a compare-and-set that stands for a lease's end.
const GONE: &str = "gone with its lease";

/// The states that a single copy can be in after the operation gave its answer; none = it could not have.
fn single(op: &Op, state: &Single) -> Vec<Single> {
    let set = |value: Option<String>| match op.answer().and_then(revision) {
        Some(revision) if revision <= state.revision => vec![],
        Some(revision) => vec![Single { value, revision }],
        None => vec![Single {
            value,
            revision: state.revision,
        }],
    };
    let same = |holds: bool| if holds { vec![state.clone()] } else { vec![] };
    match (&op.invoke.action, op.answer()) {
        (Action::Get, None) => same(true),
        (Action::Get, Some(ret)) => same(ret.values.first() == state.value.as_ref()),
        (Action::List | Action::Grant { .. } | Action::KeepAlive | Action::Revoke, _) => same(true),
        (Action::Put(value), _) => set(Some(value.clone())),
        (Action::Delete, Some(ret)) if ret.deleted_nothing() => same(state.value.is_none()),
        (Action::Delete, _) => set(None),
        (Action::Cas(cas), None) => {
            // It may also have changed nothing.
            let mut states = same(true);
            if cas.expected == state.value {
                let value = Some(cas.value.clone()).filter(|value| value != GONE);
                states.extend(set(value));
            }
            states
        }
        (Action::Cas(cas), Some(ret)) if ret.succeeded == Some(true) => {
            if cas.expected == state.value {
                set(Some(cas.value.clone()))
            } else {
                vec![]
            }
        }
        (Action::Cas(cas), Some(ret)) => {
            let showed = !ret.values.is_empty();
            same(
                cas.expected != state.value
                    && (!showed || ret.values.first() == state.value.as_ref()),
            )
        }
    }
}

/// How many random histories: what a build without optimisation does in some seconds, or the whole number.
fn rounds(debug: u64, release: u64) -> u64 {
    if cfg!(debug_assertions) {
        debug
    } else {
        release
    }
}

fn value(rng: &mut ChaCha8Rng) -> String {
    ["", "a", "b", "c"][below(rng, 4) as usize].to_owned()
}

/// A random tiny history; values repeat, so that few of them are linearizable by accident alone.
fn random_story(rng: &mut ChaCha8Rng, size: u64, unique: bool) -> Story {
    let mut story = Story::new(Mode::Strong);
    for i in 0..size {
        let from = below(rng, 12);
        let to = from + 1 + below(rng, 5);
        let fresh = if unique {
            format!("v{i}")
        } else {
            ["a", "b", "c"][below(rng, 3) as usize].to_owned()
        };
        let seen = if unique && below(rng, 4) > 0 {
            format!("v{}", below(rng, size))
        } else {
            value(rng)
        };
        match below(rng, 10) {
            0..=3 => story.get(from, to, &seen),
            4..=6 => story.put(from, to, &fresh),
            7 => story.delete(from, to),
            _ => story.cas(from, to, [&seen, &fresh], chance_ppm(rng, 600_000)),
        };
        let op = story.history.ops.last_mut().unwrap();
        let ret = op.ret.as_mut().unwrap();
        if ret.succeeded == Some(false) && chance_ppm(rng, 500_000) {
            ret.values = vec![value(rng)]
                .into_iter()
                .filter(|v| !v.is_empty())
                .collect();
        }
        if op.invoke.action == Action::Delete && chance_ppm(rng, 200_000) {
            ret.found = Some(false);
        }
        match below(rng, 8) {
            0 => ret.outcome = Outcome::Unknown,
            1 => op.ret = None,
            2 if chance_ppm(rng, 300_000) => ret.outcome = Outcome::Fail,
            _ => {}
        }
    }
    story
}

#[test]
fn the_search_agrees_with_every_order_and_every_subset_of_tiny_histories() {
    let mut rng = rng::stream(1, Purpose::Operations, 0);
    let (mut valid, mut invalid) = (0, 0);
    for round in 0..rounds(12_000, 100_000) {
        let size = 1 + below(&mut rng, 7);
        let story = random_story(&mut rng, size, round % 2 == 0);
        let expected = oracle(&story.history.ops);
        let found = verdict(&story) == Verdict::Valid;
        let lines: Vec<String> = story.history.ops.iter().map(Op::describe).collect();
        assert_eq!(found, expected, "round {round}:\n{}", lines.join("\n"));
        if expected { valid += 1 } else { invalid += 1 }
    }
    assert!(
        valid > 1_500 && invalid > 1_500,
        "both must be common: {valid} valid, {invalid} invalid"
    );
}

#[test]
fn the_search_agrees_with_the_oracle_where_revisions_pin_the_order() {
    let mut rng = rng::stream(2, Purpose::Operations, 0);
    let (mut valid, mut invalid) = (0, 0);
    for round in 0..rounds(8_000, 100_000) {
        let size = 2 + below(&mut rng, 4);
        let mut story = random_story(&mut rng, size, true);
        for op in story
            .history
            .ops
            .iter_mut()
            .filter(|op| op.is_acked_write())
        {
            let revision = 1 + below(&mut rng, 6);
            let ret = op.ret.as_mut().unwrap();
            ret.version = Some(Version::Strong { revision }).filter(|_| ret.found.is_none());
        }
        let expected = oracle(&story.history.ops);
        assert_eq!(verdict(&story) == Verdict::Valid, expected, "round {round}");
        if expected { valid += 1 } else { invalid += 1 }
    }
    assert!(
        valid > 400 && invalid > 400,
        "both must be common: {valid} valid, {invalid} invalid"
    );
}

#[test]
fn a_witness_is_illegal_and_no_operation_of_it_can_be_spared() {
    let mut rng = rng::stream(3, Purpose::Operations, 0);
    let mut seen = 0;
    while seen < 400 {
        let story = random_story(&mut rng, 7, true);
        let ops: Vec<&Op> = story.history.ops.iter().collect();
        let register = prepare("k", &ops, Mode::Strong, Reads::Claimed);
        if search(&register, STEP_BUDGET) != Answer::Illegal {
            continue;
        }
        seen += 1;
        let smallest = witness::shrink(&register, STEP_BUDGET);
        assert_eq!(search(&smallest, STEP_BUDGET), Answer::Illegal);
        assert!(!smallest.is_empty() && smallest.len() <= register.len());
        for place in 0..smallest.len() {
            let spared = witness::without(&smallest, place..place + 1);
            let still_illegal =
                |rest: &Vec<RegisterOp>| search(rest, STEP_BUDGET) == Answer::Illegal;
            assert!(
                !spared.as_ref().is_some_and(still_illegal),
                "{smallest:?} without {place}"
            );
        }
    }
}

#[test]
fn the_witness_of_a_stale_read_among_thousands_is_three_operations() {
    let mut story = Story::new(Mode::Strong);
    for i in 0..3_000 {
        story.put(4 * i, 4 * i + 1, &format!("v{i}"));
        story.get(4 * i + 2, 4 * i + 3, &format!("v{i}"));
    }
    story.get(12_000, 12_001, "v2000");
    let finding = check(&story.history, Reads::Claimed, STEP_BUDGET);
    assert_eq!(finding.verdict, Verdict::Invalid);
    assert_eq!(finding.evidence[0].ops.len(), 3, "{:?}", finding.evidence);
}

#[test]
fn widening_an_interval_never_makes_a_history_invalid() {
    let mut rng = rng::stream(4, Purpose::Operations, 0);
    let mut seen = 0;
    while seen < 2_000 {
        let mut story = random_story(&mut rng, 6, seen % 2 == 0);
        if verdict(&story) != Verdict::Valid {
            continue;
        }
        seen += 1;
        let i = below(&mut rng, 6) as usize;
        let op = &mut story.history.ops[i];
        op.invoke.at_us = op.invoke.at_us.saturating_sub(below(&mut rng, 4) * MS);
        if let Some(ret) = &mut op.ret {
            ret.at_us += below(&mut rng, 4) * MS;
        }
        assert_eq!(verdict(&story), Verdict::Valid);
    }
}

// Hand-drawn histories.

#[test]
fn sequential_reads_and_writes_are_valid() {
    let told = judge(|s| {
        s.get(0, 1, "");
        s.put(2, 3, "a");
        s.get(4, 5, "a");
        s.delete(6, 7);
        s.get(8, 9, "");
    });
    assert_eq!(told, Verdict::Valid);
}

#[test]
fn a_stale_read_is_invalid_and_the_witness_is_three_operations() {
    let mut story = Story::new(Mode::Strong);
    story.put(0, 1, "a");
    story.get(2, 3, "a");
    story.put(4, 5, "b");
    story.get(6, 7, "b");
    story.get(8, 9, "a");
    let finding = check(&story.history, Reads::Claimed, STEP_BUDGET);
    assert_eq!(finding.verdict, Verdict::Invalid);
    assert_eq!(finding.evidence[0].ops, [OpId(1), OpId(3), OpId(5)]);
    assert!(
        finding.evidence[0].lines[2].contains("saw a"),
        "{:?}",
        finding.evidence
    );
}

#[test]
fn a_read_may_see_either_side_of_a_concurrent_write_but_not_go_back() {
    let concurrent = |first: &'static str, second: &'static str| {
        judge(move |s| {
            s.put(0, 1, "a");
            s.put(2, 20, "b");
            s.get(3, 4, first);
            s.get(5, 6, second);
        })
    };
    assert_eq!(concurrent("a", "a"), Verdict::Valid);
    assert_eq!(concurrent("a", "b"), Verdict::Valid);
    assert_eq!(concurrent("b", "b"), Verdict::Valid);
    assert_eq!(concurrent("b", "a"), Verdict::Invalid);
}

#[test]
fn a_lost_write_is_invalid() {
    let told = judge(|s| {
        s.put(0, 1, "a");
        s.get(2, 3, "");
    });
    assert_eq!(told, Verdict::Invalid);
}

#[test]
fn a_phantom_and_the_value_of_a_refused_write_are_invalid() {
    let phantom = judge(|s| {
        s.get(0, 1, "never written");
    });
    assert_eq!(phantom, Verdict::Invalid);
    let refused = judge(|s| {
        s.put_refused(0, 1, "a");
        s.get(2, 3, "a");
    });
    assert_eq!(refused, Verdict::Invalid);
}

#[test]
fn an_unknown_write_may_take_effect_late_or_never_but_not_come_and_go() {
    let reads = |seen: &'static [&'static str]| {
        judge(move |s| {
            s.put(0, 1, "a");
            s.put_unknown(2, 3, "b");
            for (i, value) in (0..).zip(seen) {
                s.get(10 + 2 * i, 11 + 2 * i, value);
            }
        })
    };
    assert_eq!(reads(&["a", "a"]), Verdict::Valid);
    assert_eq!(reads(&["a", "b"]), Verdict::Valid);
    assert_eq!(reads(&["b", "b"]), Verdict::Valid);
    assert_eq!(reads(&["b", "a"]), Verdict::Invalid);
}

#[test]
fn an_unknown_delete_explains_an_absence_and_an_unknown_write_cannot_act_before_it_began() {
    let deleted = judge(|s| {
        s.put(0, 1, "a");
        s.op(2, 3, Action::Delete, Outcome::Unknown);
        s.get(4, 5, "a");
        s.get(6, 7, "");
    });
    assert_eq!(deleted, Verdict::Valid);
    let early = judge(|s| {
        s.get(0, 1, "b");
        s.put_unknown(2, 3, "b");
    });
    assert_eq!(early, Verdict::Invalid);
}

#[test]
fn of_two_racing_compare_and_sets_one_wins() {
    let race = |second_wins| {
        judge(move |s| {
            s.put(0, 1, "a");
            s.cas(2, 10, ["a", "b"], true);
            s.cas(2, 10, ["a", "c"], second_wins);
        })
    };
    assert_eq!(race(false), Verdict::Valid);
    assert_eq!(race(true), Verdict::Invalid);
}

#[test]
fn a_weaker_answer_that_says_so_is_not_judged_as_linearizable() {
    let tell = |s: &mut Story| {
        s.put(0, 1, "a");
        s.put(2, 3, "b");
        s.get(4, 5, "a").got(Level::Local);
    };
    assert_eq!(judge(tell), Verdict::Valid);
    let mut story = Story::new(Mode::Strong);
    tell(&mut story);
    assert_eq!(
        check(&story.history, Reads::All, STEP_BUDGET).verdict,
        Verdict::Invalid
    );
}

#[test]
fn revisions_that_contradict_real_time_are_invalid() {
    let told = |first, second| {
        judge(move |s| {
            s.put(0, 1, "a").revision(first);
            s.put(2, 3, "b").revision(second);
        })
    };
    assert_eq!(told(5, 6), Verdict::Valid);
    assert_eq!(told(6, 5), Verdict::Invalid);
}

#[test]
fn a_lease_may_end_at_any_time_but_ends_what_was_written_under_it_alone() {
    let told = |leased: bool, last: &'static str| {
        judge(move |s| {
            let put = s.put(0, 1, "a");
            put.0.invoke.lease = leased.then(|| "L".to_owned());
            s.get(2, 3, "a");
            s.get(4, 5, "");
            s.get(6, 7, last);
        })
    };
    assert_eq!(told(true, ""), Verdict::Valid);
    assert_eq!(told(true, "a"), Verdict::Invalid, "what has ended is back");
    assert_eq!(told(false, ""), Verdict::Invalid);
    let replaced = judge(|s| {
        s.put(0, 1, "a").0.invoke.lease = Some("L".to_owned());
        s.put(2, 3, "b");
        s.get(4, 5, "");
    });
    assert_eq!(
        replaced,
        Verdict::Invalid,
        "the lease's end spares what replaced it"
    );
    let unseen = judge(|s| {
        s.put(0, 1, "a");
        s.put_unknown(2, 3, "b").0.invoke.lease = Some("L".to_owned());
        s.get(4, 5, "a");
        s.get(6, 7, "");
    });
    assert_eq!(unseen, Verdict::Valid, "it came late, and went unseen");
}

#[test]
fn leases_agree_with_an_oracle_that_ends_each_by_an_unknown_compare_and_set() {
    let mut rng = rng::stream(5, Purpose::Operations, 0);
    let (mut valid, mut invalid) = (0, 0);
    for round in 0..rounds(4_000, 30_000) {
        let size = 2 + below(&mut rng, 3);
        let mut story = random_story(&mut rng, size, round % 2 == 0);
        let mut ends = Vec::new();
        for op in &mut story.history.ops {
            let value = op.invoke.action.written().map(str::to_owned);
            let applied = op.outcome() != Outcome::Fail
                && (op.is_acked_write() || op.outcome() == Outcome::Unknown);
            if let Some(value) = value.filter(|_| applied && chance_ppm(&mut rng, 500_000)) {
                op.invoke.lease = Some("L".to_owned());
                ends.push((op.clone(), value));
            }
        }
        let mut ops = story.history.ops.clone();
        for (op, value) in ends {
            // A compare-and-set to a value that stands for absence: the oracle reads it as such.
            let mut end = op;
            end.invoke.action = Action::Cas(Cas {
                expected: Some(value),
                value: GONE.to_owned(),
            });
            end.ret = None;
            ops.push(end);
        }
        let expected = oracle(&ops);
        let lines: Vec<String> = story.history.ops.iter().map(Op::describe).collect();
        assert_eq!(
            verdict(&story) == Verdict::Valid,
            expected,
            "round {round}:\n{}",
            lines.join("\n")
        );
        if expected { valid += 1 } else { invalid += 1 }
    }
    assert!(
        valid > 400 && invalid > 400,
        "{valid} valid, {invalid} invalid"
    );
}

#[test]
fn a_search_that_runs_out_of_steps_is_unknown() {
    let mut story = Story::new(Mode::Strong);
    for i in 0..50 {
        story.put(i, i + 1, &format!("v{i}"));
    }
    assert_eq!(
        check(&story.history, Reads::Claimed, 10).verdict,
        Verdict::Unknown
    );
}

// A generator that is right by construction, and mutators that must break what it made.
