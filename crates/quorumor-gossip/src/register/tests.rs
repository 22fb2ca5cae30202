//! The register's laws, over histories that a few coordinators could have made.

use std::sync::Arc;

use proptest::prelude::*;
use quorumor_core::{Dot, LogId, Seq, Stamp, Value, VersionVector};

use super::{Policy, Register};
use crate::event::Event;
use crate::harness::{key, node};
use crate::vector::Context;

mod values;

const REPLICAS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A put or a delete at a replica whose wall clock says this.
    Write {
        at: usize,
        wall_ms: u64,
        is_delete: bool,
        seen: Seen,
    },
    /// One replica joins another's register.
    Join { to: usize, from: usize },
}

/// What a write replaces.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// All that its coordinator knows.
    Here,
    /// What its caller read at that replica.
    At(usize),
    /// Nothing; only of a put.
    Nothing,
}

fn seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        2 => Just(Seen::Here),
        2 => (0..REPLICAS).prop_map(Seen::At),
        1 => Just(Seen::Nothing),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..REPLICAS, 0..50u64, any::<bool>(), seen()).prop_map(
            |(at, wall_ms, is_delete, seen)| Step::Write {
                at,
                wall_ms,
                is_delete,
                seen
            }
        ),
        (0..REPLICAS, 0..REPLICAS).prop_map(|(to, from)| Step::Join { to, from }),
    ]
}

/// A register, and everything that its node knows.
#[derive(Clone, Debug, Default)]
struct Replica {
    register: Register,
    known: VersionVector,
}

impl Replica {
    fn write(&mut self, event: &Arc<Event>) {
        self.register.merge_event(event);
        self.known.add_dot(event.dot);
    }

    fn join(&mut self, other: &Self) {
        self.register
            .join(&other.register, &self.known, &other.known);
        self.known.merge(&other.known);
    }
}

/// Replicas, and every event.
struct History {
    replicas: Vec<Replica>,
    events: Vec<Arc<Event>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            replicas: vec![Replica::default(); REPLICAS],
            events: Vec::new(),
        }
    }
}

impl History {
    fn play(&mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Write {
                    at,
                    wall_ms,
                    is_delete,
                    seen,
                } => self.write(at, wall_ms, is_delete, seen),
                Step::Join { to, from } => {
                    let from = self.replicas[from].clone();
                    self.replicas[to].join(&from);
                }
            }
        }
    }

    fn write(&mut self, at: usize, wall_ms: u64, is_delete: bool, seen: Seen) {
        // A context read elsewhere holds only what this coordinator has merged too, since it waits for it.
        let context = match seen {
            Seen::At(other) => {
                let from = self.replicas[other].clone();
                self.replicas[at].join(&from);
                from.register.seen()
            }
            Seen::Nothing if !is_delete => Context::default(),
            Seen::Here | Seen::Nothing => self.replicas[at].register.seen(),
        };
        let writer = node(at as u64 + 1);
        let written = self
            .events
            .iter()
            .filter(|event| event.dot.writer == writer);
        let dot = Dot {
            writer,
            log_id: LogId::new(1),
            seq: Seq::new(written.count() as u64 + 1),
        };
        let replica = &mut self.replicas[at];
        let least = replica.register.stamp_max().next();
        let stamp = least.max(Stamp::from_wall_ms(wall_ms));
        let value = (!is_delete).then(Value::default);
        let event = Arc::new(Event::new(dot, stamp, key("k"), (value, None), context));
        replica.write(&event);
        self.events.push(event);
    }
}

/// Plays the steps; returns the replicas and every event.
fn play(steps: &[Step]) -> (Vec<Replica>, Vec<Arc<Event>>) {
    let mut history = History::default();
    history.play(steps);
    (history.replicas, history.events)
}

/// All that a merge depends on and yields.
fn essence(replica: &Replica) -> (Context, Vec<Dot>, Stamp) {
    essence_of(&replica.register)
}

fn essence_of(register: &Register) -> (Context, Vec<Dot>, Stamp) {
    let losers = register.losers().iter().map(|loser| loser.dot);
    let winner = register.winner().map(|winner| winner.dot);
    let dots = losers.chain(winner).collect();
    (register.superseded().clone(), dots, register.stamp_max())
}

fn joined(one: &Replica, two: &Replica) -> Replica {
    let mut one = one.clone();
    one.join(two);
    one
}

proptest! {
    #[test]
    fn joining_is_commutative_associative_and_idempotent(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let (replicas, _) = play(&steps);
        let [a, b, c, _] = &replicas[..] else { unreachable!("four replicas") };
        prop_assert_eq!(essence(&joined(a, b)), essence(&joined(b, a)));
        prop_assert_eq!(essence(&joined(&joined(a, b), c)), essence(&joined(a, &joined(b, c))));
        prop_assert_eq!(essence(&joined(a, a)), essence(a));
        prop_assert_eq!(essence(&joined(&joined(a, b), b)), essence(&joined(a, b)));
    }

    #[test]
    fn any_order_of_events_gives_the_join_of_all(
        (steps, order) in prop::collection::vec(step(), 0..40)
            .prop_flat_map(|steps| {
                let (_, events) = play(&steps);
                (Just(steps), Just((0..events.len()).collect::<Vec<_>>()).prop_shuffle())
            }),
        doubled in any::<prop::sample::Index>(),
    ) {
        let (replicas, events) = play(&steps);
        let mut by_events = Register::default();
        for at in &order {
            by_events.merge_event(&events[*at]);
        }
        if !events.is_empty() {
            by_events.merge_event(&events[doubled.index(events.len())]);
        }
        let all = replicas.iter().fold(Replica::default(), |all, one| joined(&all, one));
        prop_assert_eq!(essence_of(&by_events), essence(&all));
    }

    #[test]
    fn the_highest_stamp_ever_written_wins(steps in prop::collection::vec(step(), 1..40)) {
        let (replicas, events) = play(&steps);
        let all = replicas.iter().fold(Replica::default(), |all, one| joined(&all, one));
        let highest = events.iter().map(|event| event.rank()).max();
        prop_assert_eq!(all.register.winner().map(|winner| winner.rank()), highest);
    }

    #[test]
    fn each_loser_is_counted_once(steps in prop::collection::vec(step(), 0..40)) {
        let (_, events) = play(&steps);
        let mut register = Register::default();
        let mut counted = Vec::new();
        for event in &events {
            register.merge_event(event);
            let nothing = VersionVector::new();
            let lost = register.tidy(Policy::Lww, &nothing);
            counted.extend(lost.iter().map(|lost| lost.loser));
            prop_assert!(register.tidy(Policy::Lww, &nothing).is_empty());
        }
        let all = counted.len();
        counted.sort();
        counted.dedup();
        prop_assert_eq!(all, counted.len());
    }
}

/// Everyone hears from everyone.
fn mix(replicas: &mut [Replica]) {
    let all = replicas
        .iter()
        .fold(Replica::default(), |all, one| joined(&all, one));
    for replica in replicas {
        replica.join(&all);
    }
}

/// Replicas with writes of three times: a vector of the first, which everyone covered before the second began; and one of the
/// second, which everyone covered before the third.
struct Settled {
    replicas: Vec<Replica>,
    everyone: VersionVector,
    settled: VersionVector,
}

fn settle(steps: &[Vec<Step>; 3]) -> Settled {
    let mut history = History::default();
    history.play(&steps[0]);
    let everyone = history.replicas[0].known.clone();
    mix(&mut history.replicas);
    history.play(&steps[1]);
    mix(&mut history.replicas);
    let settled = history.replicas[0].known.clone();
    history.play(&steps[2]);
    Settled {
        replicas: history.replicas,
        everyone,
        settled,
    }
}

fn times() -> impl Strategy<Value = [Vec<Step>; 3]> {
    let steps = || prop::collection::vec(step(), 0..16);
    [steps(), steps(), steps()]
}

fn tidied(replica: &Replica, floor: &VersionVector) -> Replica {
    let mut replica = replica.clone();
    replica.register.tidy(Policy::Lww, floor);
    replica
}

fn collected(replica: &Replica, policy: Policy, settled: &Settled) -> Replica {
    let mut replica = replica.clone();
    let (everyone, settled) = (&settled.everyone, &settled.settled);
    replica.register.collect(policy, everyone, settled);
    replica.register.tidy(policy, everyone);
    replica
}

/// What readers see of a key, and of what.
fn shown(replica: &Replica, policy: Policy) -> Option<Dot> {
    replica.register.shown(policy).map(|event| event.dot)
}

fn values(replica: &Replica) -> Vec<Dot> {
    let events = replica.register.events();
    events
        .filter(|event| event.value.is_some())
        .map(|event| event.dot)
        .collect()
}

proptest! {
    #[test]
    fn what_is_tidied_below_what_everyone_has_joins_alike(times in times()) {
        let settled = settle(&times);
        let floor = &settled.settled;
        let [a, b, c, _] = &settled.replicas[..] else { unreachable!("four replicas") };
        let join = |one: &Replica, two: &Replica| tidied(&joined(one, two), floor);
        let whole = tidied(&joined(&joined(a, b), c), floor);
        let [a, b, c] = [a, b, c].map(|replica| tidied(replica, floor));
        prop_assert_eq!(essence(&join(&join(&a, &b), &c)), essence(&whole));
        prop_assert_eq!(essence(&join(&a, &join(&b, &c))), essence(&whole));
        prop_assert_eq!(essence(&join(&a, &b)), essence(&join(&b, &a)));
        prop_assert_eq!(essence(&join(&join(&a, &b), &b)), essence(&join(&a, &b)));
        prop_assert_eq!(essence(&tidied(&a, floor)), essence(&a));
    }

    #[test]
    fn whoever_collects_first_all_see_the_same_afterwards(times in times()) {
        let settled = settle(&times);
        for policy in [Policy::Lww, Policy::Siblings] {
            let collect = |replica: &Replica| collected(replica, policy, &settled);
            let [a, b, ..] = &settled.replicas[..] else { unreachable!("four replicas") };
            let before = joined(a, b);
            let whole = collect(&before);
            prop_assert_eq!(shown(&whole, policy), shown(&before, policy));
            if policy == Policy::Siblings {
                prop_assert_eq!(values(&whole), values(&before));
            }
            let ways = [
                joined(&collect(a), &collect(b)),
                joined(&collect(b), &collect(a)),
                collect(&joined(&collect(a), b)),
                collect(&joined(a, &collect(b))),
                joined(&joined(&collect(a), &collect(b)), &collect(a)),
            ];
            for way in ways {
                prop_assert_eq!(shown(&way, policy), shown(&whole, policy));
                prop_assert_eq!(&way.known, &whole.known);
                if policy == Policy::Siblings {
                    prop_assert_eq!(values(&way), values(&whole));
                }
                let again = collect(&way);
                prop_assert_eq!(essence(&collect(&again)), essence(&again));
                prop_assert!(!again.register.has_delete_within(&settled.everyone));
            }
        }
    }
}
