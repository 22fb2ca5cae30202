//! A history against a naive one that keeps every state whole.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::{ClusterId, DataEpoch, Mode, NodeId, Term};
use crate::receipt::MemberCounts;
use crate::value::Value;
use crate::version::Position;
use crate::view::{Health, Role, Status, View};
use crate::{Error, LogIndex};

type States = BTreeMap<Revision, BTreeMap<Key, Arc<Entry>>>;

struct World {
    view: View,
    states: States,
}

impl World {
    fn new() -> Self {
        let revision = Revision::ZERO;
        let status = Status {
            mode: Mode::Strong,
            cluster: ClusterId::new(1),
            node: NodeId::try_from(1).unwrap(),
            epoch: DataEpoch::new(1),
            health: Health::Serving,
            role: Role::Strong {
                term: Term::new(1),
                leader: None,
                voter: true,
                committed: LogIndex::ZERO,
                applied: LogIndex::ZERO,
                confirmed: None,
            },
            counts: MemberCounts::default(),
            contact_at: None,
            members: Arc::from([]),
            alarms: Arc::from([]),
        };
        let view = View {
            conflicts: crate::Conflicts::default(),
            entries: OrdMap::new(),
            position: Position::Strong(revision),
            status: Arc::new(status),
            history: History::starting_at(revision),
            leases: OrdMap::new(),
            log_time: LogTime(0),
        };
        Self {
            view,
            states: [(revision, BTreeMap::new())].into(),
        }
    }

    /// One revision: puts and deletes of these keys, in order.
    fn write(&mut self, steps: &[(u8, bool)]) {
        let revision = self.view.revision().unwrap().next();
        let mut events = Vec::new();
        for (name, put) in steps {
            let key = Key::parse(&format!("k{name}")).unwrap();
            let previous = self.view.entries.get(&key).cloned();
            let version = Version::Strong {
                create: revision,
                modify: revision,
                count: 1,
            };
            if *put {
                let entry = Arc::new(Entry {
                    siblings: None,
                    key: key.clone(),
                    value: Value::parse(vec![events.len() as u8].into()).unwrap(),
                    version,
                    writer: NodeId::try_from(1).unwrap(),
                    lease: None,
                });
                self.view.entries.insert(key, Arc::clone(&entry));
                events.push(ChangeEvent::Put { entry, previous });
            } else if previous.is_some() {
                self.view.entries.remove(&key);
                events.push(ChangeEvent::Deleted {
                    key,
                    version,
                    previous,
                });
            }
        }
        if events.is_empty() {
            return;
        }
        self.view.position = Position::Strong(revision);
        self.view.history.push(PastRevision {
            revision,
            time: LogTime(revision.as_u64()),
            events: events.into(),
        });
        let state = self.view.entries.iter();
        let state = state.map(|(key, entry)| (key.clone(), Arc::clone(entry)));
        self.states.insert(revision, state.collect());
    }
}

proptest! {
    #[test]
    fn every_revision_in_the_window_reads_as_it_was(
        writes in prop::collection::vec(prop::collection::vec((0..5u8, any::<bool>()), 1..4), 1..60),
        compacted in 0..60u64,
    ) {
        let mut world = World::new();
        for steps in &writes {
            world.write(steps);
        }
        let newest = world.view.revision().unwrap();
        let compacted = Revision::new(compacted.min(newest.as_u64()));
        world.view.history.compact(compacted);
        let all = KeyRange::all();
        for (revision, state) in &world.states {
            let listed = world.view.range_at(&all, None, *revision);
            if *revision < compacted {
                prop_assert_eq!(listed.err(), Some(Error::HistoryGone { oldest: compacted }));
                continue;
            }
            let listed: Vec<_> = listed.unwrap().collect();
            prop_assert_eq!(listed, state.values().cloned().collect::<Vec<_>>());
            for name in 0..5 {
                let key = Key::parse(&format!("k{name}")).unwrap();
                prop_assert_eq!(world.view.entry_at(&key, *revision).unwrap(), state.get(&key).cloned());
            }
        }
        let kept: Vec<_> = world.view.history.since(compacted).unwrap().map(|past| past.revision).collect();
        let made: Vec<_> = world.states.keys().filter(|at| **at > compacted).copied().collect();
        prop_assert_eq!(kept, made);
    }

    #[test]
    fn a_compaction_of_everything_leaves_nothing_behind(
        writes in prop::collection::vec(prop::collection::vec((0..3u8, any::<bool>()), 1..4), 1..30),
    ) {
        let mut world = World::new();
        for steps in &writes {
            world.write(steps);
        }
        let newest = world.view.revision().unwrap();
        world.view.history.compact(newest);
        prop_assert_eq!(&world.view.history, &History::starting_at(newest));
    }
}

#[test]
fn a_revision_that_has_not_come_is_refused_and_the_newest_named() {
    let mut world = World::new();
    world.write(&[(1, true)]);
    let key = Key::parse("k1").unwrap();
    assert_eq!(
        world.view.entry_at(&key, Revision::new(9)),
        Err(Error::FutureRevision {
            asked: Revision::new(9),
            current: Revision::new(1),
        })
    );
}

#[test]
fn changes_below_the_window_are_said_to_be_gone() {
    let mut world = World::new();
    world.write(&[(1, true)]);
    world.write(&[(1, false)]);
    world.view.history.compact(Revision::new(1));
    assert!(world.view.history.since(Revision::ZERO).is_none());
    assert_eq!(
        world.view.history.since(Revision::new(1)).unwrap().count(),
        1
    );
}
