//! Stores that heard the same writes are the same, however they heard them.

use std::sync::Arc;

use proptest::prelude::*;
use quorumor_core::{Dot, LogId, Position, Seq, Stamp, Value, View};

use super::Store;
use crate::event::Event;
use crate::harness::{World, key, node};
use crate::register::Register;

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        name: u8,
        wall_ms: u64,
        is_delete: bool,
    },
    /// One event of a writer goes from one node to another, in the writer's order or ahead of it.
    Tell { to: usize, pick: usize },
    /// One node installs all that another has.
    Install { from: usize, to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NODES, 0..3u8, 0..100u64, any::<bool>()).prop_map(|(at, name, wall_ms, is_delete)| {
            Step::Write { at, name, wall_ms, is_delete }
        }),
        8 => (0..NODES, 0..1_000usize).prop_map(|(to, pick)| Step::Tell { to, pick }),
        1 => (0..NODES, 0..NODES).prop_map(|(from, to)| Step::Install { from, to }),
    ]
}

fn write(store: &mut Store, at: usize, name: u8, wall_ms: u64, is_delete: bool) -> Arc<Event> {
    let key = key(&format!("k{name}"));
    let register = store
        .register(&key)
        .map(|known| Register::clone(known))
        .unwrap_or_default();
    let writer = node(at as u64 + 1);
    let dot = Dot {
        writer,
        log_id: LogId::new(1),
        seq: store.known().seq(writer, LogId::new(1)).next(),
    };
    let stamp = register
        .stamp_max()
        .next()
        .max(Stamp::from_wall_ms(wall_ms));
    let value = (!is_delete).then(Value::default);
    let event = Arc::new(Event::new(dot, stamp, key, value, register.seen()));
    store.merge_event(Arc::clone(&event));
    event
}

fn install(from: &Store, to: &mut Store) {
    let registers: Vec<Register> = from
        .registers()
        .values()
        .map(|register| Register::clone(register))
        .collect();
    to.install(&registers, from.known().vector());
}

fn digest(store: &Store) -> u64 {
    let world = World::cluster(1, 1);
    View {
        entries: store.entries().clone(),
        position: Position::Eventual(store.known().vector().clone()),
        ..world.view(1)
    }
    .digest()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_stores_converge_whatever_the_order(steps in prop::collection::vec(step(), 0..120)) {
        let mut stores: Vec<Store> = (0..NODES).map(|_| Store::new(1 << 20)).collect();
        let mut told: Vec<Arc<Event>> = Vec::new();
        for step in steps {
            match step {
                Step::Write { at, name, wall_ms, is_delete } => {
                    told.push(write(&mut stores[at], at, name, wall_ms, is_delete));
                }
                Step::Tell { to, pick } if !told.is_empty() => {
                    let event = Arc::clone(&told[pick % told.len()]);
                    // A node knows its own log.
                    stores[to].merge_event(event);
                }
                Step::Tell { .. } => {}
                Step::Install { from, to } if from != to => {
                    let [one, two] = stores.get_disjoint_mut([from, to]).unwrap();
                    install(one, two);
                }
                Step::Install { .. } => {}
            }
        }
        for event in told.iter().rev() {
            for store in &mut stores {
                store.merge_event(Arc::clone(event));
            }
        }
        for store in &stores[1..] {
            prop_assert_eq!(store.known().vector(), stores[0].known().vector());
            prop_assert_eq!(store.known().hash(), stores[0].known().hash());
            prop_assert_eq!(store.tombstones(), stores[0].tombstones());
            prop_assert_eq!(digest(store), digest(&stores[0]));
        }
    }
}

#[test]
fn events_wait_for_their_predecessors() {
    let mut writer = Store::new(1 << 20);
    let events: Vec<_> = (0..3).map(|n| write(&mut writer, 0, n, 5, false)).collect();
    let mut store = Store::new(1 << 20);
    store.merge_event(Arc::clone(&events[2]));
    store.merge_event(Arc::clone(&events[1]));
    assert!(
        store.entries().is_empty(),
        "a prefix of the writer's log, or nothing"
    );
    store.merge_event(Arc::clone(&events[0]));
    assert_eq!(store.entries().len(), 3);
    assert_eq!(store.known().seq(node(1), LogId::new(1)), Seq::new(3));
}
