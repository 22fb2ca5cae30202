//! To whom news goes, and how often.

use std::sync::Arc;

use quorumor_core::{Destination, Dot, LogId, MemberState, Seq, Stamp};

use super::{MASS_SENDS, Told};
use crate::event::Event;
use crate::harness::believer::{about, alive, believer};
use crate::harness::{key, node, value};
use crate::opening::MEMBER_RUMORS_MAX;
use crate::vector::Context;

#[test]
fn what_is_fresh_goes_to_the_next_of_the_ring_beside_the_random_choices() {
    for id in 1..40 {
        let mut replica = believer(id, alive((1..100).filter(|other| *other != id)));
        let dot = Dot {
            writer: node(id),
            log_id: LogId::new(1),
            seq: Seq::new(1),
        };
        let content = (Some(value("v")), None);
        let stamp = Stamp::from_u64(1);
        let event = Event::new(dot, stamp, key("k"), content, Context::default());
        replica.spread_event(Arc::new(event), None);
        replica.push_round();
        let letters = replica.outbox.take();
        let next = replica.members.successor(node(id)).unwrap();
        assert!(letters.contains_key(&Destination::Node(next)));
        let fanout = replica.config.fanout;
        assert!((fanout..=fanout + 1).contains(&letters.len()));
    }
}

#[test]
fn when_very_many_come_at_once_a_rumor_just_gets_about_but_a_refutation_goes_on() {
    let newcomers = 2..2 + MEMBER_RUMORS_MAX as u64 - 1;
    let refuted = newcomers.end;
    let mut replica = believer(1, alive(newcomers));
    replica.merge_news(&about(refuted, MemberState::Alive, 7), node(refuted));
    assert!(replica.member_rumors.is_crowded());
    // Told to one after the other, as long as there are so many.
    for to in 1_000.. {
        let mut told = Told::default();
        replica.ride(node(to), &mut Vec::new(), &mut told);
        replica.now.mono_us += 100_000;
        if !replica.member_rumors.is_crowded() {
            break;
        }
    }
    let gone = (2..refuted).filter(|id| !replica.member_rumors.contains(node(*id)));
    assert!(gone.count() > 0, "after {MASS_SENDS} sends");
    assert!(replica.member_rumors.contains(node(refuted)));
}
