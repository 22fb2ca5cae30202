//! Mutators: each breaks a sound history in a known way, and the checker of that property must say so; what is sound stays valid.

mod riders;

use rand_chacha::ChaCha8Rng;

use crate::checker::{Property, Verdict, judge};
use crate::history::{
    Action, Event, EventKind, FinalEntry, History, MemberState, Mode, NodeId, Op, Outcome, Return,
    Staleness, StalenessBasis, Version, WatchStep,
};
use crate::rng::{self, Purpose, below};
use crate::testing::{MS, sound};
use riders::{
    key_resurrected, lease_cut_short, lease_outlived, ledger_entry_dropped, lock_token_reused,
    set_element_late, set_element_lost, stale_fence_accepted, watch_item_doubled,
    watch_item_dropped, watch_items_swapped, watch_value_of_before,
};

/// Breaks a history; none = there is nothing in it that could be broken so.
type Mutator = fn(&mut History, &mut ChaCha8Rng) -> Option<()>;

/// Histories for each mutator: fewer in a build without optimisation.
const SEEDS: u64 = if cfg!(debug_assertions) { 6 } else { 20 };

fn verdict(history: &History, property: Property) -> Verdict {
    let findings = judge(history).findings;
    let finding = findings.iter().find(|finding| finding.property == property);
    finding.map_or(Verdict::Unknown, |finding| finding.verdict)
}

#[test]
fn what_is_sound_is_valid_by_every_checker() {
    for mode in [Mode::Strong, Mode::Eventual] {
        for seed in 0..12 {
            for finding in judge(&sound::history(mode, seed)).findings {
                assert_eq!(
                    finding.verdict,
                    Verdict::Valid,
                    "{mode:?} seed {seed}: {finding:#?}"
                );
            }
        }
    }
}

/// The mutator applies to most of the seeds, and its property is broken each time.
fn breaks(mode: Mode, property: Property, name: &str, mutate: Mutator) {
    let mut applied = 0;
    for seed in 0..SEEDS {
        let mut history = sound::history(mode, seed);
        let mut rng = rng::stream(seed, Purpose::Faults, 78);
        if mutate(&mut history, &mut rng).is_some() {
            applied += 1;
            assert_eq!(
                verdict(&history, property),
                Verdict::Invalid,
                "{name}, {mode:?} seed {seed}"
            );
        }
    }
    assert!(
        applied * 2 >= SEEDS,
        "{name} applied to {applied} of {SEEDS} histories only"
    );
}

fn pick<T>(rng: &mut ChaCha8Rng, mut all: Vec<T>) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(below(rng, all.len() as u64) as usize))
}

fn places(history: &History, wanted: impl Fn(&Op) -> bool) -> Vec<usize> {
    let ops = history.ops.iter().enumerate();
    ops.filter(|(_, op)| wanted(op))
        .map(|(place, _)| place)
        .collect()
}

fn ret(op: &mut Op) -> &mut Return {
    op.ret.as_mut().expect("it was chosen for its return")
}

fn is_load(op: &Op) -> bool {
    op.invoke.key.starts_with("lab/")
}

fn reads(history: &History) -> Vec<usize> {
    places(history, |op| {
        is_load(op) && op.invoke.action == Action::Get && op.answer().is_some()
    })
}

/// A read of the load and an older write of its key that was overwritten before the read began.
fn stale_read(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let mut choices = Vec::new();
    for read in reads(history) {
        let op = &history.ops[read];
        let acked = history.ops.iter().filter(|w| {
            w.invoke.key == op.invoke.key
                && w.is_acked_write()
                && w.returned_us() < Some(op.invoke.at_us)
                && w.invoke.action.written().is_some()
        });
        let acked: Vec<&Op> = acked.collect();
        let overwritten = |w: &&&Op| {
            acked
                .iter()
                .any(|later| later.invoke.at_us > w.returned_us().unwrap())
        };
        if let Some(old) = acked.iter().find(overwritten) {
            let value = old.invoke.action.written()?.to_owned();
            choices.push((read, value, old.ret.clone()?.version));
        }
    }
    let (read, value, version) = pick(rng, choices)?;
    let ret = ret(&mut history.ops[read]);
    ret.values = vec![value];
    ret.version = version;
    Some(())
}

fn lost_write(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let last = history.finals[0]
        .entries
        .iter()
        .filter(|entry| entry.key.starts_with("lab/"));
    let acked = |entry: &&FinalEntry| {
        let same =
            |op: &Op| op.is_acked_write() && op.invoke.action.written() == Some(&entry.values[0]);
        let deleted = |op: &Op| {
            op.invoke.key == entry.key && op.invoke.action == Action::Delete && op.ret.is_none()
        };
        history.ops.iter().any(same) && !history.ops.iter().any(deleted)
    };
    let keys: Vec<String> = last.filter(acked).map(|entry| entry.key.clone()).collect();
    let key = pick(rng, keys)?;
    for state in &mut history.finals {
        state.entries.retain(|entry| entry.key != key);
    }
    Some(())
}

fn phantom(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let read = pick(rng, reads(history))?;
    ret(&mut history.ops[read]).values = vec!["nobody's".to_owned()];
    Some(())
}

fn failed_cas_applied(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let lost = |op: &Op| is_load(op) && op.answer().is_some_and(|ret| ret.succeeded == Some(false));
    let cas = pick(rng, places(history, lost))?;
    let (key, at_us) = (
        history.ops[cas].invoke.key.clone(),
        history.ops[cas].invoke.at_us,
    );
    let value = history.ops[cas].invoke.action.written()?.to_owned();
    let later =
        |op: &usize| history.ops[*op].invoke.key == key && history.ops[*op].invoke.at_us > at_us;
    let read = pick(rng, reads(history).into_iter().filter(later).collect())?;
    ret(&mut history.ops[read]).values = vec![value];
    Some(())
}

fn unknown_called_fail(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let seen = |value: &str| {
        history
            .ops
            .iter()
            .filter_map(Op::answer)
            .any(|ret| ret.values.iter().any(|v| v == value))
    };
    let unknown = |op: &Op| op.ret.is_none() && op.invoke.action.written().is_some_and(seen);
    let op = pick(rng, places(history, unknown))?;
    let (id, at_us) = (history.ops[op].id(), history.ops[op].invoke.at_us + 1);
    history.ops[op].ret = Some(Return::new(id, at_us, Outcome::Fail));
    Some(())
}

/// Two operations of one session on one key of the load, the first of known version.
fn session_pair(
    history: &History,
    first: fn(&Op) -> bool,
    second: fn(&Op) -> bool,
) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let versioned = |op: &Op| op.answer().is_some_and(|ret| ret.version.is_some());
    let load = places(history, |op| is_load(op) && versioned(op));
    for (i, &a) in load.iter().enumerate() {
        let same = |&&b: &&usize| {
            let (a, b) = (&history.ops[a].invoke, &history.ops[b].invoke);
            a.session == b.session && a.key == b.key && b.token.is_some()
        };
        let b = load[i + 1..].iter().find(same);
        pairs.extend(
            b.map(|&b| (a, b))
                .filter(|&(a, b)| first(&history.ops[a]) && second(&history.ops[b])),
        );
    }
    pairs
}

fn is_read(op: &Op) -> bool {
    op.invoke.action == Action::Get
}

fn is_write(op: &Op) -> bool {
    op.is_acked_write()
}

/// A version that is just below.
fn below_version(version: &Version) -> Version {
    match version {
        Version::Strong { revision } => Version::Strong {
            revision: revision - 1,
        },
        Version::Eventual {
            dot,
            stamp,
            context,
        } => Version::Eventual {
            dot: *dot,
            stamp: stamp - 1,
            context: context.clone(),
        },
    }
}

fn order_broken(history: &mut History, rng: &mut ChaCha8Rng, first: fn(&Op) -> bool) -> Option<()> {
    let (a, b) = pick(rng, session_pair(history, first, is_write))?;
    let version = history.ops[a].ret.as_ref()?.version.clone()?;
    ret(&mut history.ops[b]).version = Some(below_version(&version));
    Some(())
}

fn second_write_below(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    order_broken(history, rng, is_write)
}

fn write_below_read(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    order_broken(history, rng, is_read)
}

fn read_below_write(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let (a, b) = pick(rng, session_pair(history, is_write, is_read))?;
    let version = history.ops[a].ret.as_ref()?.version.clone()?;
    let ret = ret(&mut history.ops[b]);
    ret.version = Some(below_version(&version));
    Some(())
}

fn count_lost(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    for state in &mut history.finals {
        let counter = state
            .entries
            .iter_mut()
            .find(|entry| entry.key == "counter/0")?;
        counter.values = vec!["0:lost".to_owned()];
    }
    Some(())
}

fn counted_twice(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    for state in &mut history.finals {
        let counter = state
            .entries
            .iter_mut()
            .find(|entry| entry.key == "counter/0")?;
        counter.values = vec!["1000:twice".to_owned()];
    }
    Some(())
}

fn cas_imitated(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let cas = pick(
        rng,
        places(history, |op| matches!(op.invoke.action, Action::Cas(_))),
    )?;
    let ret = ret(&mut history.ops[cas]);
    ret.outcome = Outcome::Ok;
    ret.succeeded = Some(true);
    Some(())
}

fn death_not_noticed(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    let down = |event: &Event| {
        matches!(
            event.kind,
            EventKind::Member {
                state: MemberState::Down,
                ..
            }
        )
    };
    history.events.retain(|event| !down(event));
    Some(())
}

fn down_for_good(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    let subject = NodeId(2);
    let kind = EventKind::Member {
        subject,
        state: MemberState::Down,
    };
    history.events.push(Event {
        at_us: 70_000 * MS,
        node: NodeId(1),
        kind,
    });
    Some(())
}

fn revision_given_twice(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let writes = places(history, |op| {
        is_load(op) && op.is_acked_write() && op.ret.as_ref().unwrap().version.is_some()
    });
    let (first, second) = (pick(rng, writes.clone())?, pick(rng, writes)?);
    let version = history.ops[first].ret.as_ref()?.version.clone();
    ret(&mut history.ops[second]).version = version;
    (first != second).then_some(())
}

fn node_differs(history: &mut History, _: &mut ChaCha8Rng) -> Option<()> {
    history.finals[2].entries.pop()?;
    Some(())
}

fn bound_exceeded(history: &mut History, rng: &mut ChaCha8Rng) -> Option<()> {
    let stale = crate::checker::staleness::check(history).stale;
    let read = pick(rng, stale.iter().map(|read| read.op).collect())?;
    let op = history.ops.iter_mut().find(|op| op.id() == read)?;
    ret(op).staleness = Some(Staleness {
        bound_us: 0,
        basis: StalenessBasis::Proven,
    });
    Some(())
}

#[test]
fn every_mutator_is_found_by_the_checker_of_its_property() {
    use Property as P;
    let both: [(P, &str, Mutator); 11] = [
        (P::NoPhantoms, "phantom", phantom),
        (P::NoPhantoms, "unknown called fail", unknown_called_fail),
        (P::Durability, "lost write", lost_write),
        (P::Watches, "watch item dropped", watch_item_dropped),
        (P::Watches, "watch items swapped", watch_items_swapped),
        (P::NoResurrection, "key resurrected", key_resurrected),
        (P::Leases, "lease cut short", lease_cut_short),
        (P::SetFull, "set element lost", set_element_lost),
        (P::Session, "own write not read", read_below_write),
        (P::Counters, "counted twice", counted_twice),
        (P::Convergence, "node differs", node_differs),
    ];
    let strong: [(P, &str, Mutator); 13] = [
        (P::Linearizability, "stale read", stale_read),
        (P::NoPhantoms, "failed compare applied", failed_cas_applied),
        (P::RevisionOrder, "revision twice", revision_given_twice),
        (P::Watches, "watch item doubled", watch_item_doubled),
        (P::Watches, "older value shown", watch_value_of_before),
        (P::Locks, "stale fence accepted", stale_fence_accepted),
        (P::Locks, "lock's token reused", lock_token_reused),
        (P::Leases, "lease outlived", lease_outlived),
        (P::SetFull, "set element late", set_element_late),
        (P::Counters, "count lost", count_lost),
        (
            P::MonotonicWrites,
            "second write below the first",
            second_write_below,
        ),
        (
            P::WritesFollowReads,
            "write below what was read",
            write_below_read,
        ),
        (P::FailureDetection, "down for good", down_for_good),
    ];
    let eventual: [(P, &str, Mutator); 6] = [
        (
            P::MonotonicWrites,
            "second write below the first",
            second_write_below,
        ),
        (
            P::WritesFollowReads,
            "write below what was read",
            write_below_read,
        ),
        (
            P::ConflictAccounting,
            "ledger entry dropped",
            ledger_entry_dropped,
        ),
        (P::NeverImitated, "compare imitated", cas_imitated),
        (P::FailureDetection, "death not noticed", death_not_noticed),
        (P::Staleness, "proven bound exceeded", bound_exceeded),
    ];
    for (property, name, mutate) in both {
        breaks(Mode::Strong, property, name, mutate);
        breaks(Mode::Eventual, property, name, mutate);
    }
    for (property, name, mutate) in strong {
        breaks(Mode::Strong, property, name, mutate);
    }
    for (property, name, mutate) in eventual {
        breaks(Mode::Eventual, property, name, mutate);
    }
}

#[test]
fn what_a_mode_does_not_promise_is_no_violation_there() {
    let near_misses: [(Property, Mutator); 3] = [
        (Property::Watches, watch_item_doubled),
        (Property::SetFull, set_element_late),
        (Property::Counters, count_lost),
    ];
    for (property, mutate) in near_misses {
        let mut history = sound::history(Mode::Eventual, 1);
        let mut rng = rng::stream(1, Purpose::Faults, 79);
        mutate(&mut history, &mut rng).expect("it applies");
        assert_eq!(verdict(&history, property), Verdict::Valid, "{property:?}");
    }
}
