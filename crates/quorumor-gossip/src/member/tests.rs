//! Which news changes a belief.

use proptest::prelude::*;
use quorumor_core::{Generation, Incarnation, MemberState, Mono};

use super::{Members, Outcome};
use crate::harness::{address, node};
use crate::message::Update;
use crate::rng::Rng;

const WALL_MS: u64 = 1_000_000;

fn news(state: MemberState, generation: u64, incarnation: u64) -> Update {
    Update {
        node: node(7),
        state,
        generation: Generation::new(generation),
        incarnation: Incarnation::new(incarnation),
        accuser: node(1),
        refused: false,
        address: address(7),
        client_address: None,
    }
}

fn merge(members: &mut Members, update: &Update) -> Outcome {
    members.merge(update, false, Mono(0), WALL_MS, &mut Rng::new(1))
}

#[test]
fn an_old_down_beats_nothing_newer() {
    let mut members = Members::default();
    merge(&mut members, &news(MemberState::Alive, 5, 3));
    assert_eq!(
        merge(&mut members, &news(MemberState::Down, 5, 2)),
        Outcome::Stale
    );
    assert_eq!(
        merge(&mut members, &news(MemberState::Suspect, 4, 9)),
        Outcome::Stale
    );
    assert!(members.is_alive(node(7)));
    merge(&mut members, &news(MemberState::Down, 5, 3));
    assert!(!members.is_present(node(7)));
    assert_eq!(
        merge(&mut members, &news(MemberState::Suspect, 5, 3)),
        Outcome::Known
    );
    merge(&mut members, &news(MemberState::Alive, 6, 0));
    assert!(members.is_alive(node(7)));
}

#[test]
fn impossible_lives_are_refused() {
    let mut members = Members::default();
    let day_ms = 24 * 3_600 * 1_000;
    assert_eq!(
        merge(
            &mut members,
            &news(MemberState::Alive, WALL_MS + day_ms + 1, 0)
        ),
        Outcome::Refused
    );
    merge(&mut members, &news(MemberState::Alive, 5, 3));
    assert_eq!(
        merge(&mut members, &news(MemberState::Down, 5, u64::MAX)),
        Outcome::Refused
    );
    assert_eq!(
        merge(&mut members, &news(MemberState::Down, 6, 1 << 20)),
        Outcome::Refused
    );
    assert!(members.is_alive(node(7)));
}

#[test]
fn confirmations_count_distinct_accusers() {
    let mut members = Members::default();
    merge(&mut members, &news(MemberState::Suspect, 5, 0));
    assert_eq!(
        merge(&mut members, &news(MemberState::Suspect, 5, 0)),
        Outcome::Known
    );
    let mut other = news(MemberState::Suspect, 5, 0);
    other.accuser = node(2);
    assert_eq!(merge(&mut members, &other), Outcome::Confirmed);
    assert_eq!(merge(&mut members, &other), Outcome::Known);
}

fn state() -> impl Strategy<Value = MemberState> {
    prop_oneof![
        Just(MemberState::Alive),
        Just(MemberState::Suspect),
        Just(MemberState::Down),
        Just(MemberState::Left),
    ]
}

proptest! {
    #[test]
    fn beliefs_depend_on_the_set_of_news_not_on_its_order(
        (news_heard, shuffled) in prop::collection::vec((state(), 1..4u64, 0..4u64), 1..20)
            .prop_flat_map(|news| (Just(news.clone()), Just(news).prop_shuffle())),
    ) {
        let hear = |heard: &[(MemberState, u64, u64)]| {
            let mut members = Members::default();
            for (state, generation, incarnation) in heard {
                merge(&mut members, &news(*state, *generation, *incarnation));
            }
            let record = members.record(node(7)).unwrap();
            (record.generation, record.incarnation, record.state, members.hash(), members.present())
        };
        prop_assert_eq!(hear(&news_heard), hear(&shuffled));
    }

    #[test]
    fn an_accepted_refutation_cancels_every_suspicion_below_it(
        incarnation in 1..100u64,
        below in prop::collection::vec((state(), 0..100u64), 0..10),
    ) {
        let mut members = Members::default();
        merge(&mut members, &news(MemberState::Suspect, 5, incarnation - 1));
        merge(&mut members, &news(MemberState::Alive, 5, incarnation));
        for (state, lower) in below {
            merge(&mut members, &news(state, 5, lower % incarnation));
        }
        prop_assert!(members.is_alive(node(7)));
    }
}
