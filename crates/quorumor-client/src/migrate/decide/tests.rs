//! The rule by cases, and by a model in which both sides go on changing while keys move.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use quorumor_core::{Key, LeaseId, NodeId, Operation, Revision, Value, Version};

use super::*;
use crate::migrate::plan::Item;
use crate::migrate::progress::Names;

fn entry(key: &str, value: &str, lease: Option<u64>) -> Entry {
    Entry {
        key: Key::parse(key).unwrap(),
        value: Value::parse(Bytes::copy_from_slice(value.as_bytes())).unwrap(),
        version: Version::Strong {
            create: Revision::new(1),
            modify: Revision::new(1),
            count: 1,
        },
        writer: NodeId::try_from(1).unwrap(),
        lease: lease.map(LeaseId::new),
        siblings: None,
    }
}

fn rules(on_conflict: OnConflict, extra: Extra) -> Rules {
    Rules {
        to: Mode::Strong,
        on_conflict,
        extra,
    }
}

const FAIL: Rules = Rules {
    to: Mode::Strong,
    on_conflict: OnConflict::Fail,
    extra: Extra::Keep,
};

/// Both sides, and what is written down.
#[derive(Clone, Debug, Default)]
struct World {
    source: BTreeMap<Key, Entry>,
    destination: BTreeMap<Key, Entry>,
    records: BTreeMap<Key, Record>,
}

impl World {
    fn item(&self, key: &Key) -> Item {
        Item {
            key: key.clone(),
            source: self.source.get(key).cloned(),
            destination: self.destination.get(key).cloned(),
            record: self.records.get(key).cloned(),
            lease: None,
        }
    }

    /// One key's turn; gives the verdict.
    fn turn(&mut self, key: &Key, rules: Rules) -> Verdict {
        let names = Names::of("m");
        let item = self.item(key);
        let verdict = item.decide(rules);
        let planned = item.plan(verdict.clone(), &names, rules.to);
        for operation in planned.into_iter().flat_map(|planned| planned.operations) {
            self.carry_out(key, operation);
        }
        verdict
    }

    fn carry_out(&mut self, key: &Key, operation: Operation) {
        match operation {
            Operation::Put { key: at, value, .. } if at == *key => {
                let text = std::str::from_utf8(value.as_bytes()).unwrap().to_owned();
                self.destination
                    .insert(at, entry(key.as_str(), &text, None));
            }
            Operation::Put { value, .. } => {
                let record = Record::decode(value.as_bytes()).unwrap();
                self.records.insert(key.clone(), record);
            }
            Operation::Delete { key: at } if at == *key => {
                self.destination.remove(&at);
            }
            Operation::Delete { .. } => {
                self.records.remove(key);
            }
            other @ (Operation::DeleteRange { .. }
            | Operation::CompareAndSet { .. }
            | Operation::Get { .. }) => panic!("{other:?}"),
        }
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self
            .source
            .keys()
            .chain(self.destination.keys())
            .cloned()
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn pass(&mut self, rules: Rules) -> Vec<Verdict> {
        self.keys()
            .iter()
            .map(|key| self.turn(key, rules))
            .collect()
    }
}

#[test]
fn a_key_moves_once_follows_its_source_and_goes_with_it() {
    let mut world = World::default();
    let key = Key::parse("a").unwrap();
    world.source.insert(key.clone(), entry("a", "1", None));
    assert_eq!(world.turn(&key, FAIL), Verdict::Put(Vec::new()));
    assert_eq!(world.turn(&key, FAIL), Verdict::Settled);
    world.source.insert(key.clone(), entry("a", "2", None));
    assert_eq!(world.turn(&key, FAIL), Verdict::Put(Vec::new()));
    world.source.remove(&key);
    assert_eq!(world.turn(&key, FAIL), Verdict::Delete(Vec::new()));
    assert!(world.destination.is_empty() && world.records.is_empty());
}

#[test]
fn what_the_destination_changed_after_the_move_stands() {
    let mut world = World::default();
    let key = Key::parse("a").unwrap();
    world.source.insert(key.clone(), entry("a", "1", None));
    world.turn(&key, FAIL);
    world
        .destination
        .insert(key.clone(), entry("a", "newer", None));
    assert_eq!(world.turn(&key, FAIL), Verdict::Ahead);
    world.destination.remove(&key);
    assert_eq!(world.turn(&key, FAIL), Verdict::Ahead);
}

#[test]
fn a_conflict_is_listed_until_somebody_decides_and_what_was_discarded_after() {
    let key = Key::parse("a").unwrap();
    let world = World {
        source: [(key.clone(), entry("a", "1", None))].into(),
        destination: [(key.clone(), entry("a", "2", None))].into(),
        records: BTreeMap::new(),
    };
    let mut open = world.clone();
    assert_eq!(open.turn(&key, FAIL), Verdict::Open);
    assert_eq!(open.turn(&key, FAIL), Verdict::StillOpen);
    assert_eq!(open.destination, world.destination);
    let mut kept = open.clone();
    kept.turn(&key, rules(OnConflict::DestinationWins, Extra::Keep));
    assert_eq!(kept.destination, world.destination);
    let lost = &kept.records[&key].lost;
    assert_eq!(lost[0].side, LostSide::Source);
    assert_eq!(lost[0].digest, Digest::of_pair("a", b"1"));
    assert_eq!(kept.turn(&key, FAIL), Verdict::Settled);
    open.turn(&key, rules(OnConflict::SourceWins, Extra::Keep));
    assert_eq!(open.destination[&key].value, open.source[&key].value);
    assert_eq!(
        open.records[&key].lost[0].digest,
        Digest::of_pair("a", b"2")
    );
    // It stays listed, whatever becomes of the key.
    open.source.remove(&key);
    open.turn(&key, FAIL);
    assert!(open.destination.is_empty());
    assert_eq!(open.records[&key].lost.len(), 1);
}

#[test]
fn a_deletion_against_a_change_is_a_conflict_like_any_other() {
    let key = Key::parse("a").unwrap();
    let mut world = World::default();
    world.source.insert(key.clone(), entry("a", "1", None));
    world.turn(&key, FAIL);
    world.source.remove(&key);
    world.destination.insert(key.clone(), entry("a", "2", None));
    assert_eq!(world.turn(&key, FAIL), Verdict::Open);
    assert_eq!(world.turn(&key, FAIL), Verdict::StillOpen);
    let mut kept = world.clone();
    kept.turn(&key, rules(OnConflict::DestinationWins, Extra::Keep));
    assert_eq!(kept.records[&key].lost[0].side, LostSide::SourceDeletion);
    assert_eq!(kept.turn(&key, FAIL), Verdict::Settled);
    world.turn(&key, rules(OnConflict::SourceWins, Extra::Keep));
    assert!(world.destination.is_empty());
    assert_eq!(
        world.records[&key].lost[0].digest,
        Digest::of_pair("a", b"2")
    );
    // The other way round.
    let mut world = World::default();
    world.source.insert(key.clone(), entry("a", "1", None));
    world.turn(&key, FAIL);
    world.destination.remove(&key);
    world.source.insert(key.clone(), entry("a", "2", None));
    assert_eq!(world.turn(&key, FAIL), Verdict::Open);
    assert_eq!(world.turn(&key, FAIL), Verdict::StillOpen);
    world.turn(&key, rules(OnConflict::DestinationWins, Extra::Keep));
    assert!(world.destination.is_empty());
    assert_eq!(world.records[&key].lost[0].side, LostSide::Source);
}

#[test]
fn an_entry_whose_new_lease_ran_out_is_armed_again() {
    let source = entry("a", "1", Some(7));
    let record = Record {
        key: source.key.clone(),
        kind: Kind::Moved,
        source: Some(Digest::of_entry(&source)),
        destination: Some(Digest::of_entry(&entry("a", "1", Some(9)))),
        lost: Vec::new(),
        unlisted: 0,
    };
    let seen = |lease_lives| Seen {
        source: Some(&source),
        destination: None,
        record: Some(&record),
        lease_lives,
    };
    assert_eq!(decide(seen(false), FAIL), Verdict::Put(Vec::new()));
    assert_eq!(decide(seen(true), FAIL), Verdict::Ahead);
}

#[test]
fn what_only_the_destination_has_is_removed_until_the_cut_over() {
    let key = Key::parse("orders/9").unwrap();
    let mut world = World {
        destination: [(key.clone(), entry("orders/9", "1", None))].into(),
        ..World::default()
    };
    let before = rules(OnConflict::SourceWins, Extra::Delete);
    assert_eq!(world.turn(&key, before.after_cut_over()), Verdict::Extra);
    assert!(matches!(world.turn(&key, before), Verdict::Delete(_)));
    assert!(world.destination.is_empty());
}

#[test]
fn what_the_other_mode_cannot_hold_is_listed_and_stays() {
    let source = entry("\u{1}a", "1", None);
    let seen = Seen {
        source: Some(&source),
        destination: None,
        record: None,
        lease_lives: true,
    };
    let to = Mode::Eventual;
    for on_conflict in [OnConflict::Fail, OnConflict::SourceWins] {
        let rules = Rules {
            to,
            ..rules(on_conflict, Extra::Keep)
        };
        assert_eq!(decide(seen, rules), Verdict::Open);
    }
    assert_eq!(decide(seen, FAIL), Verdict::Put(Vec::new()));
}

/// One step of the model: which key, whose turn, which value.
type Step = (u8, u8, u8);

fn step(world: &mut World, (key, whose, value): Step, rules: Rules) {
    let text = format!("k{key}");
    let name = Key::parse(&text).unwrap();
    let held = entry(&text, &value.to_string(), None);
    match whose {
        0 => drop(world.source.insert(name, held)),
        1 => drop(world.source.remove(&name)),
        2 => drop(world.destination.insert(name, held)),
        3 => drop(world.destination.remove(&name)),
        _ => drop(world.turn(&name, rules)),
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..3_u8, 0..8_u8, 0..4_u8), 0..60)
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let on_conflict = prop::sample::select(vec![
        OnConflict::SourceWins,
        OnConflict::DestinationWins,
        OnConflict::Fail,
    ]);
    let extra = prop::sample::select(vec![Extra::Keep, Extra::Delete]);
    (on_conflict, extra).prop_map(|(on_conflict, extra)| rules(on_conflict, extra))
}

proptest! {
    /// Once both sides stand still one pass does all that there is to do.
    #[test]
    fn a_second_pass_finds_nothing(steps in steps(), rules in any_rules()) {
        let mut world = World::default();
        for at in steps {
            step(&mut world, at, rules);
        }
        world.pass(rules);
        let before = world.clone();
        for verdict in world.pass(rules) {
            prop_assert!(matches!(
                verdict,
                Verdict::Settled | Verdict::Extra | Verdict::Ahead | Verdict::StillOpen
            ), "{verdict:?}");
        }
        prop_assert_eq!(&world.destination, &before.destination);
    }

    /// Where nobody writes at the destination it is the source's equal after a pass, and nothing was discarded.
    #[test]
    fn an_untouched_destination_becomes_equal(steps in steps(), rules in any_rules()) {
        let mut world = World::default();
        for at in steps {
            if !(2..4).contains(&at.1) {
                step(&mut world, at, rules);
            }
        }
        world.pass(rules);
        prop_assert_eq!(&world.destination, &world.source);
        prop_assert!(world.records.values().all(|record| record.lost.is_empty()));
    }

    /// A turn takes a value of the destination's away only if it was the source's at the turn before, is the source's now, or is
    /// listed.
    #[test]
    fn nothing_of_the_destinations_is_lost_without_being_listed(steps in steps(), rules in any_rules()) {
        let mut world = World::default();
        let mut seen: BTreeMap<Key, Value> = BTreeMap::new();
        for at in steps {
            let key = Key::parse(&format!("k{}", at.0)).unwrap();
            let held = world.destination.get(&key).cloned();
            step(&mut world, at, rules);
            if at.1 < 4 {
                continue;
            }
            let source = world.source.get(&key).map(|source| source.value.clone());
            if let Some(held) = held.filter(|held| world.destination.get(&key) != Some(held)) {
                let digest = Digest::of_pair(key.as_str(), held.value.as_bytes());
                let record = world.records.get(&key);
                let listed = record.is_some_and(|record| {
                    record.lost.iter().any(|lost| lost.digest == digest)
                });
                let was_sources = [seen.get(&key), source.as_ref()].contains(&Some(&held.value));
                prop_assert!(listed || was_sources, "{key} lost {held:?}");
            }
            match source {
                Some(source) => drop(seen.insert(key, source)),
                None => drop(seen.remove(&key)),
            }
        }
    }
}
