//! Stores converge while deletes are collected by cuts, and nothing that was replaced is ever back.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use quorumor_core::{Key, LogId, Stamp, Value, VersionVector};

use super::{NODES, Store, digest, install, issue};
use crate::event::Event;
use crate::harness::{key, node};
use crate::register::Policy;
use crate::vector::Context;

/// The node that may be away for so long that it isn't waited for.
const TRAVELLER: usize = NODES - 1;

#[derive(Clone, Debug)]
enum Step {
    Write {
        at: usize,
        name: u8,
        wall_ms: u64,
        is_delete: bool,
        /// Replaces nothing; only of a put.
        is_blind: bool,
    },
    /// One event of a writer is heard somewhere.
    Tell {
        to: usize,
        pick: usize,
    },
    /// One node hears all that another knows.
    Catch {
        from: usize,
        to: usize,
    },
    /// Everyone does.
    CatchAll {
        from: usize,
    },
    /// One node takes the state of another, and where it must, the whole of it.
    Install {
        from: usize,
        to: usize,
        whole: bool,
    },
    /// What everyone who is there knows becomes stable, if everyone confirms it.
    Cut,
    /// A node collects by the next cut.
    Collect {
        at: usize,
    },
    Leave,
    Return,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..NODES, 0..3u8, 0..100u64, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
            |(at, name, wall_ms, is_delete, is_blind)| {
                Step::Write { at, name, wall_ms, is_delete, is_blind }
            }
        ),
        4 => (0..NODES, 0..1_000usize).prop_map(|(to, pick)| Step::Tell { to, pick }),
        3 => (0..NODES, 0..NODES).prop_map(|(from, to)| Step::Catch { from, to }),
        3 => (0..NODES).prop_map(|from| Step::CatchAll { from }),
        1 => (0..NODES, 0..NODES, any::<bool>())
            .prop_map(|(from, to, whole)| Step::Install { from, to, whole }),
        4 => Just(Step::Cut),
        4 => (0..NODES).prop_map(|at| Step::Collect { at }),
        1 => Just(Step::Leave),
        1 => Just(Step::Return),
    ]
}

/// A cut that is stable: what goes by it, and what everyone had then.
#[derive(Clone, Debug, Default)]
struct Cut {
    collects: VersionVector,
    vector: VersionVector,
}

struct World {
    stores: Vec<Store>,
    told: Vec<Arc<Event>>,
    cuts: Vec<Cut>,
    /// By how many cuts each has collected, and what it had written by then.
    collected: Vec<usize>,
    written: Vec<VersionVector>,
    is_away: bool,
    /// The last stamp that each gave: a writer's stamps grow, whatever its wall clock says.
    stamps: Vec<Stamp>,
}

impl World {
    fn new() -> Self {
        let store = || Store::new(1 << 20, vec!["s".to_owned()]);
        Self {
            stores: (0..NODES).map(|_| store()).collect(),
            told: Vec::new(),
            cuts: Vec::new(),
            collected: vec![0; NODES],
            written: vec![VersionVector::new(); NODES],
            is_away: false,
            stamps: vec![Stamp::default(); NODES],
        }
    }

    fn known(&self, at: usize) -> &VersionVector {
        self.stores[at].known().vector()
    }

    fn meet(&self, one: usize, two: usize) -> bool {
        one != two && !(self.is_away && (one == TRAVELLER || two == TRAVELLER))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write {
                at,
                name,
                wall_ms,
                is_delete,
                is_blind,
            } => self.write(at, name, wall_ms, (is_delete, is_blind)),
            Step::Tell { to, pick } if !self.told.is_empty() => {
                let event = Arc::clone(&self.told[pick % self.told.len()]);
                let heard = (0..NODES)
                    .any(|from| self.meet(from, to) && self.known(from).covers_dot(event.dot));
                if heard {
                    self.stores[to].merge_event(event);
                }
            }
            Step::Catch { from, to } if self.meet(from, to) => self.catch(from, to),
            Step::Install { from, to, whole } if self.meet(from, to) => {
                self.install(from, to, whole);
            }
            Step::Tell { .. } | Step::Catch { .. } | Step::Install { .. } => {}
            Step::CatchAll { from } => {
                for to in (0..NODES)
                    .filter(|to| self.meet(from, *to))
                    .collect::<Vec<_>>()
                {
                    self.catch(from, to);
                }
            }
            Step::Cut => self.cut(),
            Step::Collect { at } => self.collect(at),
            Step::Leave => self.is_away = true,
            Step::Return => self.is_away = false,
        }
    }

    fn write(&mut self, at: usize, name: u8, wall_ms: u64, (is_delete, is_blind): (bool, bool)) {
        let key = keys()[usize::from(name)].clone();
        let register = self.stores[at].register(&key);
        let seen = register.map(|register| register.seen()).unwrap_or_default();
        let is_absent = !self.stores[at].entries().contains_key(&key);
        if is_delete && is_absent {
            return;
        }
        let context = if is_blind && !is_delete {
            Context::default()
        } else {
            seen
        };
        let value = (!is_delete).then(Value::default);
        // The next millisecond is above every stamp of the last one.
        let wall_ms = wall_ms.max((self.stamps[at].as_u64() >> 16) + 1);
        let event = issue(&mut self.stores[at], at, (key, value), wall_ms, context);
        self.stamps[at] = event.stamp;
        self.told.push(event);
    }

    /// By events, unless who would hear them lacks deletes that may be forgotten where they come from.
    fn catch(&mut self, from: usize, to: usize) {
        if !self.known(to).covers(self.stores[from].floor()) {
            return self.install(from, to, true);
        }
        let vector = self.known(from).clone();
        for event in self
            .told
            .iter()
            .filter(|event| vector.covers_dot(event.dot))
        {
            self.stores[to].merge_event(Arc::clone(event));
        }
    }

    fn install(&mut self, from: usize, to: usize, whole: bool) {
        let whole = whole || !self.known(to).covers(self.stores[from].floor());
        let [one, two] = self.stores.get_disjoint_mut([from, to]).unwrap();
        install(one, two, whole);
        if whole && self.collected[from] > self.collected[to] {
            self.collected[to] = self.collected[from];
            self.note_written(to);
        }
    }

    fn note_written(&mut self, at: usize) {
        let (writer, log_id) = (node(at as u64 + 1), LogId::new(1));
        let seq = self.known(at).seq(writer, log_id);
        self.written[at].raise(writer, log_id, seq);
    }

    fn collect(&mut self, at: usize) {
        let Some(cut) = self.cuts.get(self.collected[at]).cloned() else {
            return;
        };
        if (at == TRAVELLER && self.is_away) || !self.known(at).covers(&cut.vector) {
            return;
        }
        self.stores[at].collect(&cut.collects, &cut.vector);
        self.collected[at] += 1;
        self.note_written(at);
    }

    fn cut(&mut self) {
        let here = |at: &usize| !(self.is_away && *at == TRAVELLER);
        let members: Vec<usize> = (0..NODES).filter(here).collect();
        // A cut tells by which one it is preceded.
        for at in &members {
            self.collect(*at);
        }
        let mut vector = VersionVector::new();
        for (writer, log_id, seq) in self.known(members[0]).rows() {
            let known = members.iter().map(|at| self.known(*at).seq(writer, log_id));
            vector.raise(writer, log_id, known.min().unwrap_or(seq));
        }
        let confirms = |at: &usize| {
            self.collected[*at] == self.cuts.len() && vector.covers(&self.written[*at])
        };
        if members.iter().all(confirms) {
            let before = self.cuts.last().map(|cut| cut.vector.clone());
            self.cuts.push(Cut {
                collects: before.unwrap_or_default(),
                vector,
            });
        }
    }

    /// Everyone is there, and hears all.
    fn end(&mut self) {
        self.is_away = false;
        for _ in 0..3 {
            for from in 0..NODES {
                for to in (0..NODES).filter(|to| *to != from) {
                    self.catch(from, to);
                }
            }
            for at in 0..NODES {
                for _ in 0..self.cuts.len() {
                    self.collect(at);
                }
            }
        }
    }
}

fn keys() -> [Key; 3] {
    ["k0", "k1", "s0"].map(key)
}

/// What readers see: the writes that are shown, by the key.
fn shown(store: &Store) -> Vec<(Key, Arc<Event>)> {
    let of = |key: Key| {
        let register = store.register(&key)?;
        let policy = store.policy(&key);
        let events = register.events().filter(|event| event.value.is_some());
        let shown: Vec<_> = match policy {
            Policy::Lww => register.shown(policy).into_iter().cloned().collect(),
            Policy::Siblings => events.cloned().collect(),
        };
        Some(shown.into_iter().map(move |event| (key.clone(), event)))
    };
    keys().into_iter().filter_map(of).flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn stores_converge_and_bring_nothing_back(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.end();
        let first = &world.stores[0];
        for (at, store) in world.stores.iter().enumerate() {
            prop_assert_eq!(world.collected[at], world.cuts.len());
            prop_assert_eq!(store.known().vector(), first.known().vector());
            prop_assert_eq!(shown(store), shown(first));
            prop_assert_eq!(store.tombstones(), first.tombstones());
            prop_assert_eq!(digest(store), digest(first));
        }
        for (key, event) in shown(first) {
            let others = world.told.iter().filter(|other| other.key == key);
            for other in others {
                prop_assert!(!other.context.covers(event.dot), "{:?} is back", event.dot);
            }
        }
        let shown: BTreeSet<_> = shown(first).into_iter().map(|(_, event)| event.dot).collect();
        for key in keys() {
            let writes = world.told.iter().filter(|event| event.key == key);
            let Some(last) = writes.max_by_key(|event| event.rank()) else { continue };
            let is_shown = first.entries().contains_key(&key);
            if last.value.is_some() {
                prop_assert!(shown.contains(&last.dot), "{:?} is gone", last.dot);
            } else if first.policy(&key) == Policy::Lww && world.cuts.is_empty() {
                // Once it was collected its stamp is forgotten, and a later write may have a lower one.
                prop_assert!(!is_shown, "{} was deleted last", key.as_str());
            }
        }
    }
}
