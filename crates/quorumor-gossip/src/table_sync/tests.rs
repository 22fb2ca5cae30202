//! Two tables become equal, by what differs and no more; and what one message can ask for is bounded.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what a test doesn't expect is a failure, whatever it is"
)]

use quorumor_core::{Incarnation, MemberState};

use super::{ANSWER_BYTES_MAX, LIVES_MAX, TABLE_BYTES};
use crate::codec::{decode, encode_part, update_bytes};
use crate::harness::believer::{about, alive, believer, said};
use crate::harness::node;
use crate::message::{BucketLives, Part, Update};
use crate::replica::GossipReplica;

/// Gives one node all that another wants to say. Returns the members that it told of; newcomers are greeted besides.
fn hand_over(from: &mut GossipReplica, to: &mut GossipReplica) -> Vec<Update> {
    let teller = from.config.node;
    let mut told = Vec::new();
    for part in said(from) {
        match part {
            Part::Members(updates) => {
                for update in &updates {
                    to.merge_news(update, teller);
                }
                told.extend(updates);
            }
            Part::TableHeld(held) => to.handle_held(teller, &held),
            Part::TableLacked(lacked) => to.handle_lacked(teller, &lacked),
            Part::Ping { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    told
}

/// What two nodes tell each other of members in one exchange that the first begins: to the first, and to the second.
fn exchange(a: &mut GossipReplica, b: &mut GossipReplica) -> (Vec<Update>, Vec<Update>) {
    let mut told = [Vec::new(), Vec::new()];
    b.handle_table(a.config.node, &a.table_hashes());
    for _ in 0..3 {
        told[0].extend(hand_over(b, a));
        told[1].extend(hand_over(a, b));
    }
    let [to_a, to_b] = told;
    (to_a, to_b)
}

#[test]
fn one_exchange_tells_each_side_what_it_lacks_and_nothing_else() {
    let mut a = believer(1, alive([2].into_iter().chain(10..60)));
    let mut b = believer(2, alive([1].into_iter().chain(40..100)));
    // A life of the other that it has not heard from itself.
    let (me_a, me_b) = (a.my_update(), b.my_update());
    a.merge_news(&me_b, node(2));
    b.merge_news(&me_a, node(1));
    said(&mut a);
    said(&mut b);
    let (to_a, to_b) = exchange(&mut a, &mut b);
    let ids = |updates: &[Update]| {
        let mut ids: Vec<u64> = updates.iter().map(|update| update.node.as_u64()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&to_a), (60..100).collect::<Vec<_>>());
    assert_eq!(ids(&to_b), (10..40).collect::<Vec<_>>());
    assert_eq!(a.summary().members, b.summary().members);
}

#[test]
fn a_newer_life_is_told_and_the_older_one_is_not() {
    let mut a = believer(1, alive([2]).chain([about(3, MemberState::Alive, 5)]));
    let mut b = believer(2, alive([1, 3]));
    let (to_a, to_b) = exchange(&mut a, &mut b);
    let of_3 = |updates: &[Update]| {
        updates
            .iter()
            .filter(|update| update.node == node(3))
            .count()
    };
    assert_eq!((of_3(&to_a), of_3(&to_b)), (0, 1));
    assert_eq!(b.members.life(node(3)).unwrap().1, Incarnation::new(5));
}

#[test]
fn who_is_gone_is_told_to_who_holds_it_to_be_there_and_to_who_never_heard_of_it() {
    let gone = |id| about(id, MemberState::Down, 0);
    // Node 1's own bucket differs too, so the tables are compared even where only the gone are missing.
    for there in [true, false] {
        let mut a = believer(1, alive([2]).chain((3..200).map(gone)));
        let mut b = believer(2, alive(if there { 3..200 } else { 0..0 }));
        for _ in 0..20 {
            exchange(&mut a, &mut b);
            b.now.mono_us += 1_000_000;
            a.now.mono_us += 1_000_000;
        }
        let knows = (3..200).filter(|id| b.members.state(node(*id)) == Some(MemberState::Down));
        assert!(knows.count() > if there { 196 } else { 0 });
    }
}

#[test]
fn an_answer_has_its_limit_whatever_is_asked() {
    let mut a = believer(1, alive(2..3_000));
    let everything: Vec<BucketLives> = (0..=u8::MAX)
        .map(|bucket| BucketLives {
            bucket,
            lives: Vec::new(),
        })
        .collect();
    a.handle_held(node(2), &everything);
    let told: usize = said(&mut a)
        .iter()
        .map(|part| match part {
            Part::Members(updates) => updates.iter().map(update_bytes).sum::<usize>(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(told > 0 && told <= ANSWER_BYTES_MAX, "{told}");
    // Lives without end are asked for in parts that fit.
    let lives: Vec<u32> = (0..5_000).collect();
    let invented = BucketLives { bucket: 7, lives };
    a.now.mono_us += 1_000_000;
    a.handle_held(node(2), &[invented]);
    let asked = said(&mut a).into_iter().find_map(|part| match part {
        Part::TableLacked(lacked) => Some(lacked[0].lives.len()),
        _ => None,
    });
    assert_eq!(asked, Some(LIVES_MAX));
}

#[test]
fn buckets_that_repeat_are_refused() {
    let twice = [3, 3].map(|bucket| BucketLives {
        bucket,
        lives: Vec::new(),
    });
    for part in [
        Part::TableHeld(twice.to_vec()),
        Part::TableLacked(twice.to_vec()),
    ] {
        assert!(decode(&encode_part(&part)).is_err());
    }
}

#[test]
fn without_room_an_exchange_begins_later() {
    let mut a = believer(1, alive(2..10));
    let now = a.now.mono();
    while a.budgets.tables.take(now, TABLE_BYTES) {}
    a.begin_exchange(node(2));
    assert!(said(&mut a).is_empty());
    assert!(a.sync.exchange_due && a.sync.table_sent_at.is_none());
    a.sync.members_news = 1;
    a.now.mono_us += 1_000_000;
    a.handle_exchange_timer();
    assert!(matches!(said(&mut a)[..], [Part::Table(_)]));
    assert!(!a.sync.exchange_due);
}

#[test]
fn of_many_joiners_some_wait_and_one_that_asks_again_takes_nobodys_turn() {
    let mut a = believer(1, alive(2..200));
    let admitted = (2..200).filter(|id| a.admit_joiner(node(*id))).count();
    assert_eq!(admitted as u64, a.config.joins_per_s);
    assert_eq!(a.counters.joins_deferred, 198 - a.config.joins_per_s);
    a.welcome(node(2));
    assert!(a.admit_joiner(node(2)));
    assert!(!a.admit_joiner(node(3)));
    // Who waits is told of, unless it has met this node.
    for (id, is_told_of) in [(3, true), (4, false)] {
        a.member_rumors.remove(node(id));
        if !is_told_of {
            a.members.meet(node(id));
        }
        a.introduce(node(id));
        assert_eq!(a.member_rumors.contains(node(id)), is_told_of);
    }
}
