//! The hub's laws: in order, each once, to whom it concerns only, bounded, and a loss is told before anything else.

use quorumor_core::{Key, Revision, Version};

use super::*;

fn deleted(revision: u64, key: &str) -> ChangeEvent {
    ChangeEvent::Deleted {
        key: Key::parse(key).unwrap(),
        version: Version::Strong {
            create: Revision::ZERO,
            modify: Revision::new(revision),
            count: 0,
        },
        previous: None,
    }
}

fn change(revision: u64, keys: &[&str]) -> Change {
    Change {
        position: Position::Strong(Revision::new(revision)),
        events: keys.iter().map(|key| deleted(revision, key)).collect(),
    }
}

fn hub_of(mode: Mode, bounds: Bounds) -> Arc<Hub> {
    Hub::new(1, mode, Position::Strong(Revision::new(10)), bounds)
}

fn hub() -> Arc<Hub> {
    hub_of(Mode::Strong, Bounds::DEFAULT)
}

fn prefix(text: &str) -> KeyRange {
    KeyRange::prefix(text).unwrap()
}

fn give_all(hub: &Hub) {
    while hub.give_out() {}
}

fn revisions(deliveries: &[Arc<Delivery>]) -> Vec<u64> {
    deliveries
        .iter()
        .map(|delivery| match &delivery.position {
            Position::Strong(revision) => revision.as_u64(),
            Position::Eventual(_) => 0,
        })
        .collect()
}

/// What one change of one key of one letter weighs.
const ONE: usize = 2 * EVENT_BYTES + 1;

#[tokio::test]
async fn a_watcher_gets_each_change_of_its_range_once_and_in_order() {
    let hub = hub();
    hub.append(vec![change(11, &["a/0"])]);
    let joined = hub.join(prefix("a/"));
    hub.append(vec![change(12, &["a/1"]), change(13, &["b/1"])]);
    hub.append(vec![change(14, &["b/2", "a/2", "a/3"])]);
    give_all(&hub);
    let taken = joined.take(usize::MAX).unwrap();
    assert_eq!(revisions(&taken), [12, 14]);
    assert_eq!(
        taken[1].events[..],
        [deleted(14, "a/2"), deleted(14, "a/3")]
    );
    assert!(joined.take(usize::MAX).unwrap().is_empty());
    assert_eq!(hub.given().0, 4);
}

#[tokio::test]
async fn keys_find_their_prefixes_singles_and_intervals() {
    let hub = hub();
    let single = |key: &str| KeyRange::between(key, Some(&format!("{key}\u{1}"))).unwrap();
    let all = hub.join(KeyRange::all());
    let long = hub.join(prefix("ä/b"));
    let one = hub.join(single("ä/b"));
    let between = hub.join(KeyRange::between("m", Some("p")).unwrap());
    let open = hub.join(KeyRange::between("z", None).unwrap());
    hub.append(vec![
        change(11, &["ä/b"]),
        change(12, &["ä/bc"]),
        change(13, &["n", "o"]),
        change(14, &["zz", "a"]),
    ]);
    give_all(&hub);
    let got = |joined: &Subscription| revisions(&joined.take(usize::MAX).unwrap());
    assert_eq!(got(&all), [11, 12, 13, 14]);
    assert_eq!(got(&long), [11, 12]);
    assert_eq!(got(&one), [11]);
    assert_eq!(got(&between), [13]);
    assert_eq!(got(&open), [11, 12, 14], "ä is above z");
    drop((all, long, one, between, open));
    assert!(format!("{:?}", hub.given.lock().ranges).contains("groups: {}"));
}

#[tokio::test]
async fn thousands_of_watchers_share_one_delivery() {
    let hub = hub();
    let joined: Vec<_> = (0..2_000).map(|_| hub.join(prefix("a"))).collect();
    hub.append(vec![change(11, &["a"])]);
    give_all(&hub);
    assert_eq!(hub.buffered_bytes(), ONE, "it is counted once");
    let taken: Vec<_> = joined
        .iter()
        .map(|joined| joined.take(usize::MAX).unwrap().remove(0))
        .collect();
    assert!(taken.iter().all(|it| Arc::ptr_eq(it, &taken[0])));
    drop(taken);
    assert_eq!(hub.buffered_bytes(), 0);
}

/// consul #3890, #2216, #6530: a watcher must not be woken for what doesn't concern it.
#[tokio::test]
async fn a_watcher_whose_range_is_not_touched_is_not_woken() {
    let hub = hub();
    let (touched, other) = (hub.join(prefix("a")), hub.join(prefix("b")));
    hub.append((11..500).map(|at| change(at, &["a"])).collect());
    touched.ready().await;
    give_all(&hub);
    let woken = tokio::time::timeout(std::time::Duration::ZERO, other.ready()).await;
    assert!(woken.is_err());
    assert_eq!(touched.take(usize::MAX).unwrap().len(), 489);
}

/// etcd #17529, #16839: a slow watcher must be told, before anything else, and hold no more than its share.
#[tokio::test]
async fn a_slow_watcher_is_emptied_and_told_and_a_fast_one_goes_on() {
    let bounds = Bounds {
        mailbox: 3 * ONE,
        ..Bounds::DEFAULT
    };
    let hub = hub_of(Mode::Strong, bounds);
    let (slow, fast) = (hub.join(prefix("a")), hub.join(prefix("a")));
    let mut seen = Vec::new();
    for revision in 11..21 {
        hub.append(vec![change(revision, &["a"])]);
        give_all(&hub);
        seen.extend(revisions(&fast.take(usize::MAX).unwrap()));
        assert!(hub.buffered_bytes() <= 4 * ONE);
    }
    assert_eq!(seen, (11..21).collect::<Vec<_>>());
    assert_eq!(slow.take(usize::MAX).unwrap_err(), Lost::Slow);
    assert_eq!(hub.buffered_bytes(), 0);
}

#[tokio::test]
async fn all_mailboxes_together_are_bounded_too() {
    let bounds = Bounds {
        buffered: 20 * ONE,
        ..Bounds::DEFAULT
    };
    let hub = hub_of(Mode::Strong, bounds);
    let keys: Vec<String> = ('a'..='j').map(String::from).collect();
    let joined: Vec<_> = keys.iter().map(|key| hub.join(prefix(key))).collect();
    for revision in 11..200 {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        hub.append(vec![change(revision, &keys)]);
        give_all(&hub);
        assert!(hub.buffered_bytes() <= (20 + keys.len()) * ONE);
    }
    assert!(joined.iter().all(|it| it.take(1).is_err()));
}

#[tokio::test]
async fn a_replaced_state_is_told_to_all() {
    let hub = hub();
    let joined = hub.join(prefix("a"));
    hub.append(vec![change(11, &["a"])]);
    hub.append(vec![Change {
        position: Position::Strong(Revision::new(40)),
        events: [ChangeEvent::Reset].into(),
    }]);
    give_all(&hub);
    assert_eq!(joined.take(usize::MAX).unwrap_err(), Lost::Reset);
}

#[tokio::test]
async fn who_joins_after_a_pause_without_watchers_lost_nothing() {
    let hub = hub();
    drop(hub.join(prefix("a")));
    hub.append((11..500).map(|at| change(at, &["a"])).collect());
    let joined = hub.join(prefix("a"));
    hub.append(vec![change(500, &["a"])]);
    give_all(&hub);
    assert_eq!(revisions(&joined.take(usize::MAX).unwrap()), [500]);
}

#[tokio::test]
async fn what_comes_faster_than_it_can_be_given_out_is_bounded_and_told() {
    let bounds = Bounds {
        ring: 5 * ONE,
        ..Bounds::DEFAULT
    };
    let hub = hub_of(Mode::Strong, bounds);
    let joined = hub.join(prefix("a"));
    hub.append((11..21).map(|at| change(at, &["a"])).collect());
    assert!(hub.ring.lock().bytes <= 5 * ONE);
    give_all(&hub);
    assert_eq!(joined.take(usize::MAX).unwrap_err(), Lost::Behind);
    assert_eq!(hub.given().0, 10);
}

#[tokio::test]
async fn eventual_mode_keeps_its_last_changes_for_who_resumes() {
    let bounds = Bounds {
        ring: 3 * ONE,
        ..Bounds::DEFAULT
    };
    let hub = hub_of(Mode::Eventual, bounds);
    hub.append((11..21).map(|at| change(at, &["a"])).collect());
    let numbers = |kept: Vec<Numbered>| kept.iter().map(|it| it.number).collect::<Vec<_>>();
    assert_eq!(hub.kept_after(6, usize::MAX).unwrap_err(), Gone);
    assert_eq!(numbers(hub.kept_after(7, usize::MAX).unwrap()), [8, 9, 10]);
    assert_eq!(numbers(hub.kept_after(7, 1).unwrap()), [8]);
    assert!(hub.keeps_after(7) && !hub.keeps_after(6) && !hub.keeps_after(11));
    let joined = hub.join(prefix("a"));
    hub.append(vec![change(21, &["a"])]);
    give_all(&hub);
    assert_eq!(revisions(&joined.take(usize::MAX).unwrap()), [21]);
}
