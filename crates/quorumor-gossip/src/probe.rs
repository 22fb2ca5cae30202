//! The probe under way, probes on others' behalf, and the local health (SWIM section 4; Lifeguard).

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::{Mono, NodeId};

/// The local health's upper end: periods are stretched up to nine times.
const HEALTH_MAX: u64 = 8;

/// From this health on a node takes itself for the one that is cut off.
const UNWELL: u64 = 4;

/// Probes that are made for others at a time.
const RELAYS_MAX: usize = 256;

/// The probe of this period.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) number: u64,
    pub(crate) target: NodeId,
    pub(crate) acked: bool,
    /// Whether the target's host said that nobody listens there.
    pub(crate) refused: bool,
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
    pub(crate) current: Option<Probe>,
    /// A member to look for beside the rounds, and the one that is looked for.
    pub(crate) urgent: Option<NodeId>,
    pub(crate) looking_for: Option<NodeId>,
    pub(crate) looked_at: Option<Mono>,
    /// Members that this node alone suspects, and has told nobody.
    pub(crate) quiet: BTreeSet<NodeId>,
    relays: BTreeMap<u64, Relay>,
    /// When this round and the one before it began: everyone who is present was probed since the latter.
    round: Option<Mono>,
    round_before: Option<Mono>,
    last_number: u64,
    health: u64,
}

impl Probes {
    /// Numbers its probes from here.
    pub(crate) fn starting_at(number: u64) -> Self {
        Self {
            last_number: number,
            ..Self::default()
        }
    }

    /// A number that no probe of this life had.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// How many times a period is stretched: 1 for a healthy node, up to 9.
    pub(crate) const fn stretch(&self) -> u64 {
        self.health + 1
    }

    /// Whether this node hears so little that it should doubt itself.
    pub(crate) const fn is_unwell(&self) -> bool {
        self.health >= UNWELL
    }

    pub(crate) fn begin_round(&mut self, now: Mono) {
        self.round_before = self.round.replace(now);
    }

    /// Since when everyone who is present was probed at least once; `None` in the first rounds.
    pub(crate) const fn all_probed_since(&self) -> Option<Mono> {
        self.round_before
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
}
