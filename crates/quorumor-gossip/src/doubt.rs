//! When a node doubts others' accusations, and when it doubts itself.
//!
//! A node that is half cut off accuses everyone (consul #5567, #5928): so each accuser's suspicions are counted, and those
//! beyond what an honest one can find are ignored. And a node that suspects most of its view, or that hears no answers from
//! anyone, takes itself for the one that is cut off: it forgets nobody and collects nothing until that has passed.

use std::collections::BTreeMap;

use quorumor_core::{Mono, NodeId};

/// Accusations are counted over this time, in milliseconds: ten probe periods.
const ACCUSATIONS_MS: u64 = 10_000;
/// Accusations that one accuser may always make in that time.
const ACCUSATIONS_MIN: usize = 10;
/// Losses of members are counted over twice this time, in milliseconds.
const LOSSES_MS: u64 = 30_000;

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    accusations: BTreeMap<NodeId, usize>,
    accusations_since: Mono,
    losses: usize,
    losses_before: usize,
    losses_since: Mono,
}

impl Doubt {
    /// Whether one more accusation by this member is believed, in a cluster of so many.
    pub(crate) fn believes(&mut self, accuser: NodeId, members: usize, now: Mono) -> bool {
        if now.since_us(self.accusations_since) > ACCUSATIONS_MS * 1_000 {
            self.accusations.clear();
            self.accusations_since = now;
        }
        let count = self.accusations.entry(accuser).or_default();
        *count += 1;
        *count <= ACCUSATIONS_MIN.max(members / 20)
    }

    /// A member stopped being alive.
    pub(crate) fn lose(&mut self, now: Mono) {
        self.turn(now);
        self.losses += 1;
    }

    /// How many did so lately.
    pub(crate) fn losses(&mut self, now: Mono) -> usize {
        self.turn(now);
        self.losses + self.losses_before
    }

    fn turn(&mut self, now: Mono) {
        let age_us = now.since_us(self.losses_since);
        if age_us > LOSSES_MS * 1_000 {
            let old = age_us > 2 * LOSSES_MS * 1_000;
            self.losses_before = if old { 0 } else { self.losses };
            self.losses = 0;
            self.losses_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::node;

    #[test]
    fn one_accuser_is_believed_so_often_and_no_more() {
        let mut doubt = Doubt::default();
        let believed = (0..100)
            .filter(|_| doubt.believes(node(1), 400, Mono(1)))
            .count();
        assert_eq!(believed, 20);
        assert!(doubt.believes(node(2), 400, Mono(1)));
        assert!(doubt.believes(node(1), 400, Mono(0).after_ms(11_000)));
    }

    #[test]
    fn losses_are_forgotten_after_a_minute() {
        let mut doubt = Doubt::default();
        doubt.lose(Mono(0).after_ms(1_000));
        assert_eq!(doubt.losses(Mono(0).after_ms(29_000)), 1);
        assert_eq!(doubt.losses(Mono(0).after_ms(45_000)), 1);
        assert_eq!(doubt.losses(Mono(0).after_ms(120_000)), 0);
    }
}
