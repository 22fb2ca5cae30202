//! The register's laws, over histories that a few coordinators could have made.

use std::sync::Arc;

use proptest::prelude::*;
use quorumor_core::{Dot, LogId, Seq, Stamp, Value};

use super::Register;
use crate::event::Event;
use crate::harness::{key, node};
use crate::vector::Context;

const REPLICAS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A put or a delete at a replica whose wall clock says this.
    Write {
        at: usize,
        wall_ms: u64,
        is_delete: bool,
        seen_at: Option<usize>,
    },
    /// One replica joins another's register.
    Join { to: usize, from: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (
            0..REPLICAS,
            0..50u64,
            any::<bool>(),
            prop::option::of(0..REPLICAS)
        )
            .prop_map(|(at, wall_ms, is_delete, seen_at)| Step::Write {
                at,
                wall_ms,
                is_delete,
                seen_at
            }),
        (0..REPLICAS, 0..REPLICAS).prop_map(|(to, from)| Step::Join { to, from }),
    ]
}

/// Plays the steps; returns the replicas and every event.
fn play(steps: &[Step]) -> (Vec<Register>, Vec<Arc<Event>>) {
    let mut replicas = vec![Register::default(); REPLICAS];
    let mut events: Vec<Arc<Event>> = Vec::new();
    for step in steps {
        match *step {
            Step::Write {
                at,
                wall_ms,
                is_delete,
                seen_at,
            } => {
                // A context read elsewhere holds only what this coordinator has merged too, since it waits for it.
                let context = match seen_at {
                    Some(other) => {
                        let from = replicas[other].clone();
                        replicas[at].merge(&from);
                        from.seen()
                    }
                    None => replicas[at].seen(),
                };
                let seq = events
                    .iter()
                    .filter(|event| event.dot.writer == node(at as u64 + 1))
                    .count();
                let dot = Dot {
                    writer: node(at as u64 + 1),
                    log_id: LogId::new(1),
                    seq: Seq::new(seq as u64 + 1),
                };
                let stamp = replicas[at]
                    .stamp_max()
                    .next()
                    .max(Stamp::from_wall_ms(wall_ms));
                let value = (!is_delete).then(Value::default);
                let event = Arc::new(Event::new(dot, stamp, key("k"), value, context));
                replicas[at].merge_event(&event);
                events.push(event);
            }
            Step::Join { to, from } => {
                let from = replicas[from].clone();
                replicas[to].merge(&from);
            }
        }
    }
    (replicas, events)
}

/// All that a merge depends on and yields.
fn essence(register: &Register) -> (Context, Vec<Dot>, Stamp) {
    let losers = register.losers().iter().map(|loser| loser.dot);
    let winner = register.winner().map(|winner| winner.dot);
    let dots = losers.chain(winner).collect();
    (register.superseded().clone(), dots, register.stamp_max())
}

fn joined(one: &Register, two: &Register) -> Register {
    let mut one = one.clone();
    one.merge(two);
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
        let all = replicas.iter().fold(Register::default(), |all, one| joined(&all, one));
        prop_assert_eq!(essence(&by_events), essence(&all));
    }

    #[test]
    fn the_highest_stamp_ever_written_wins(steps in prop::collection::vec(step(), 1..40)) {
        let (replicas, events) = play(&steps);
        let all = replicas.iter().fold(Register::default(), |all, one| joined(&all, one));
        let highest = events.iter().map(|event| event.rank()).max();
        prop_assert_eq!(all.winner().map(|winner| winner.rank()), highest);
    }

    #[test]
    fn each_loser_is_counted_once(steps in prop::collection::vec(step(), 0..40)) {
        let (_, events) = play(&steps);
        let mut register = Register::default();
        let mut counted = Vec::new();
        for event in &events {
            register.merge_event(event);
            counted.extend(register.count_losers().iter().map(|lost| lost.loser));
            prop_assert!(register.count_losers().is_empty());
        }
        let all = counted.len();
        counted.sort();
        counted.dedup();
        prop_assert_eq!(all, counted.len());
    }
}

#[test]
fn a_register_keeps_one_value_however_many_are_concurrent() {
    let big = Value::parse(vec![7; 100_000].into()).unwrap();
    let mut register = Register::default();
    for seq in 1..=100 {
        let dot = Dot {
            writer: node(1),
            log_id: LogId::new(1),
            seq: Seq::new(seq),
        };
        let stamp = Stamp::from_u64(seq);
        let value = Some(big.clone());
        let event = Event::new(dot, stamp, key("k"), value, Context::default());
        register.merge_event(&Arc::new(event));
    }
    assert_eq!(register.sibling_count(), 100);
    assert!(register.weight() < 110_000, "{} bytes", register.weight());
}
