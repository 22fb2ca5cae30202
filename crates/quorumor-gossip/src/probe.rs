//! Whom to probe and whom to tell: shuffled rounds over the members, the probe under way, and the local health
//! (SWIM section 4.3; Lifeguard).

use std::collections::BTreeMap;

use quorumor_core::NodeId;

use crate::member::{Belief, Members};
use crate::rng::Rng;

/// The local health's upper end: periods are stretched up to nine times.
const HEALTH_MAX: u64 = 8;

/// Probes that are made for others at a time.
const RELAYS_MAX: usize = 256;

/// Members in random order, each once a round, so that detection time has a bound.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    order: Vec<NodeId>,
    next: usize,
}

impl Ring {
    /// Adds a member at a random place of the round.
    pub(crate) fn insert(&mut self, node: NodeId, rng: &mut Rng) {
        if self.order.contains(&node) {
            return;
        }
        self.order.push(node);
        let at = rng.index(self.order.len());
        let last = self.order.len() - 1;
        self.order.swap(at, last);
    }

    /// Moves a member to the front of what is left of the round.
    pub(crate) fn hasten(&mut self, node: NodeId) {
        if let Some(at) = self.order.iter().position(|known| *known == node)
            && at > self.next
        {
            self.order.swap(at, self.next);
        }
    }

    /// The next member that is present. Begins a new round, in a new order, when one ends.
    pub(crate) fn next(&mut self, members: &Members, rng: &mut Rng) -> Option<NodeId> {
        for _ in 0..=self.order.len() {
            if self.next >= self.order.len() {
                self.order.retain(|node| members.is_present(*node));
                rng.shuffle(&mut self.order);
                self.next = 0;
            }
            let node = *self.order.get(self.next)?;
            self.next += 1;
            if members.is_present(node) {
                return Some(node);
            }
        }
        None
    }

    /// Up to `count` distinct members, other than `except`.
    pub(crate) fn some(
        &mut self,
        count: usize,
        except: Option<NodeId>,
        members: &Members,
        rng: &mut Rng,
    ) -> Vec<NodeId> {
        let mut chosen = Vec::new();
        if count >= members.present() {
            chosen.extend(
                self.order
                    .iter()
                    .copied()
                    .filter(|node| members.is_present(*node)),
            );
            chosen.retain(|node| Some(*node) != except);
            return chosen;
        }
        for _ in 0..count.saturating_mul(2) + 1 {
            if chosen.len() == count {
                break;
            }
            let Some(node) = self.next(members, rng) else {
                break;
            };
            if Some(node) != except && !chosen.contains(&node) {
                chosen.push(node);
            }
        }
        chosen
    }
}

/// The probe of this period.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) number: u64,
    pub(crate) target: NodeId,
    pub(crate) acked: bool,
    /// How many members were asked to help, and how many of them said that they couldn't reach it either.
    pub(crate) asked: u64,
    pub(crate) nacks: u64,
}

/// A probe on another node's behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay {
    pub(crate) asker: NodeId,
    pub(crate) number: u64,
}

/// The detector's own state.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    pub(crate) ring: Ring,
    pub(crate) current: Option<Probe>,
    relays: BTreeMap<u64, Relay>,
    down: Vec<NodeId>,
    last_number: u64,
    health: u64,
}

impl Probes {
    /// A number that no probe of this life had.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// How many times a period is stretched: 1 for a healthy node, up to 9.
    pub(crate) const fn stretch(&self) -> u64 {
        self.health + 1
    }

    pub(crate) fn worsen(&mut self, by: u64) {
        self.health = (self.health + by).min(HEALTH_MAX);
    }

    pub(crate) fn improve(&mut self) {
        self.health = self.health.saturating_sub(1);
    }

    /// Remembers for whom a probe is made; `false` if there are too many.
    pub(crate) fn relay(&mut self, number: u64, relay: Relay) -> bool {
        if self.relays.len() >= RELAYS_MAX {
            return false;
        }
        self.relays.insert(number, relay);
        true
    }

    pub(crate) fn take_relay(&mut self, number: u64) -> Option<Relay> {
        self.relays.remove(&number)
    }

    /// A member is held to be down: it will be looked after now and then.
    pub(crate) fn watch_down(&mut self, node: NodeId) {
        if !self.down.contains(&node) {
            self.down.push(node);
        }
    }

    /// A random member that is still held to be down.
    pub(crate) fn some_down(&mut self, members: &Members, rng: &mut Rng) -> Option<NodeId> {
        while !self.down.is_empty() {
            let at = rng.index(self.down.len());
            let node = self.down[at];
            let is_down = members
                .record(node)
                .is_some_and(|record| matches!(record.belief, Belief::Down { .. }));
            if is_down {
                return Some(node);
            }
            self.down.swap_remove(at);
        }
        None
    }
}
