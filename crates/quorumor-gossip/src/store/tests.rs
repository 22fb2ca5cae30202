//! Stores that heard the same writes are the same, however they heard them.

use std::sync::Arc;

use proptest::prelude::*;
use quorumor_core::{Dot, Key, LogId, Position, Seq, Stamp, Value, View};

use super::Store;
use crate::event::Event;
use crate::harness::{World, key, node};
use crate::register::Register;
use crate::vector::Context;

mod collecting;

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
    Install { from: usize, to: usize, whole: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..NODES, 0..3u8, 0..100u64, any::<bool>()).prop_map(|(at, name, wall_ms, is_delete)| {
            Step::Write { at, name, wall_ms, is_delete }
        }),
        8 => (0..NODES, 0..1_000usize).prop_map(|(to, pick)| Step::Tell { to, pick }),
        1 => (0..NODES, 0..NODES, any::<bool>())
            .prop_map(|(from, to, whole)| Step::Install { from, to, whole }),
    ]
}

fn write(store: &mut Store, at: usize, name: u8, wall_ms: u64, is_delete: bool) -> Arc<Event> {
    let key = key(&format!("k{name}"));
    let seen = store.register(&key).map(|register| register.seen());
    let value = (!is_delete).then(Value::default);
    issue(store, at, (key, value), wall_ms, seen.unwrap_or_default())
}

/// The next write of a node whose clock says this.
fn issue(
    store: &mut Store,
    at: usize,
    (key, value): (Key, Option<Value>),
    wall_ms: u64,
    context: Context,
) -> Arc<Event> {
    let register = store.register(&key);
    let above = register.map_or(Stamp::default(), |register| register.stamp_max());
    let stamp = above.next().max(Stamp::from_wall_ms(wall_ms));
    let writer = node(at as u64 + 1);
    let dot = Dot {
        writer,
        log_id: LogId::new(1),
        seq: store.known().seq(writer, LogId::new(1)).next(),
    };
    let event = Arc::new(Event::new(dot, stamp, key, (value, None), context));
    store.merge_event(Arc::clone(&event));
    event
}

fn install(from: &Store, to: &mut Store, whole: bool) {
    let registers: Vec<Register> = from
        .registers()
        .values()
        .map(|register| Register::clone(register))
        .collect();
    let floor = whole.then(|| from.floor());
    to.install(&registers, from.known().vector(), floor);
}

/// All siblings of all keys.
fn dots(store: &Store) -> Vec<Dot> {
    let registers = store.registers().values();
    registers.flat_map(|register| register.dots()).collect()
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
        let mut stores: Vec<Store> = (0..NODES).map(|_| Store::new(1 << 20, Vec::new())).collect();
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
                Step::Install { from, to, whole } if from != to => {
                    let [one, two] = stores.get_disjoint_mut([from, to]).unwrap();
                    install(one, two, whole);
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
            prop_assert_eq!(dots(store), dots(&stores[0]));
        }
    }
}

#[test]
fn events_wait_for_their_predecessors() {
    let mut writer = Store::new(1 << 20, Vec::new());
    let events: Vec<_> = (0..3).map(|n| write(&mut writer, 0, n, 5, false)).collect();
    let mut store = Store::new(1 << 20, Vec::new());
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

#[test]
fn a_state_that_is_installed_is_told_in_the_order_of_each_writer() {
    let mut from = Store::new(1 << 20, Vec::new());
    for name in [3, 1, 2, 0] {
        write(&mut from, 0, name, 1_000, false);
    }
    let mut to = Store::new(1 << 20, Vec::new());
    install(&from, &mut to, true);
    let seqs: Vec<u64> = to
        .take_step()
        .changes
        .iter()
        .map(|change| match change {
            quorumor_core::ChangeEvent::Put { entry, .. } => {
                crate::store::dot_of(&entry.version).unwrap().seq.as_u64()
            }
            quorumor_core::ChangeEvent::Deleted { .. } | quorumor_core::ChangeEvent::Reset => {
                panic!("nothing was deleted")
            }
        })
        .collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[test]
fn a_key_of_the_clusters_own_that_only_a_later_version_knows_is_kept_and_shown_to_nobody() {
    let mut store = Store::new(1 << 20, Vec::new());
    let unknown = key("\u{1}later/1");
    let value = Some(Value::default());
    issue(
        &mut store,
        0,
        (unknown.clone(), value),
        1,
        Context::default(),
    );
    assert!(store.entries().is_empty() && store.leases().all().is_empty());
    assert!(store.register(&unknown).is_some());
    assert!(store.take_step().changes.is_empty());
}
