//! What this node believes about every member, and the rule by which news changes a belief.
//!
//! A member's news is ordered by (generation, incarnation, alive < suspect < down < left). Only greater news changes
//! anything: a `down` of an older incarnation is ignored, unlike in the SWIM paper, and as in Go memberlist's `deadNode`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use quorumor_core::{Generation, Incarnation, Member, MemberState, Mono, NodeId};

use crate::message::Update;
use crate::suspicion::Suspicion;
use crate::vector::mix;

/// An incarnation this far above the known one is refused: one message at the maximum would evict a node for good
/// (memberlist #358, #359).
const INCARNATION_JUMP_MAX: u64 = 1 << 16;

/// A generation further than this above the local wall clock is refused. One day.
const GENERATION_AHEAD_MS_MAX: u64 = 24 * 3_600 * 1_000;

/// The most members that a node keeps.
const MEMBERS_MAX: usize = 20_000;

/// A belief about one member.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) generation: Generation,
    pub(crate) incarnation: Incarnation,
    pub(crate) belief: Belief,
    pub(crate) address: SocketAddr,
    pub(crate) client_address: Option<Arc<str>>,
    pub(crate) heard_at: Option<Mono>,
}

/// What is believed, with what each state needs.
#[derive(Clone, Debug)]
pub(crate) enum Belief {
    Alive,
    Suspect(Box<Suspicion>),
    Down { since: Mono },
    Left,
}

impl Record {
    pub(crate) const fn state(&self) -> MemberState {
        match self.belief {
            Belief::Alive => MemberState::Alive,
            Belief::Suspect(_) => MemberState::Suspect,
            Belief::Down { .. } => MemberState::Down,
            Belief::Left => MemberState::Left,
        }
    }

    /// Whether it is probed and gossiped to.
    pub(crate) const fn is_present(&self) -> bool {
        matches!(self.belief, Belief::Alive | Belief::Suspect(_))
    }

    fn life(&self) -> (Generation, Incarnation) {
        (self.generation, self.incarnation)
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was refused as impossible.
    Refused,
    /// It is known, or says less than what is known of the same life.
    Known,
    /// It is about an older life: whoever says so should hear the newer one.
    Stale,
    /// One more accuser of a known suspicion.
    Confirmed,
    /// The belief changed.
    Changed {
        /// What was believed before; `None` of a new member.
        before: Option<MemberState>,
        /// Whether it can be reached elsewhere than before.
        moved: bool,
    },
}

/// Every other member.
#[derive(Debug, Default)]
pub(crate) struct Members {
    records: BTreeMap<NodeId, Record>,
    present: usize,
    hash: u64,
}

impl Members {
    pub(crate) fn record(&self, node: NodeId) -> Option<&Record> {
        self.records.get(&node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Record)> {
        self.records.iter().map(|(node, record)| (*node, record))
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Members that are alive or suspect, without this node.
    pub(crate) const fn present(&self) -> usize {
        self.present
    }

    /// Over each other member's life and whether it is gone. Suspicions pass, so they don't count.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn is_present(&self, node: NodeId) -> bool {
        self.records.get(&node).is_some_and(Record::is_present)
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.records
            .get(&node)
            .is_some_and(|record| matches!(record.belief, Belief::Alive))
    }

    pub(crate) fn heard(&mut self, node: NodeId, at: Mono) {
        if let Some(record) = self.records.get_mut(&node) {
            record.heard_at = Some(at);
        }
    }

    /// What to tell others about a member.
    pub(crate) fn update(&self, node: NodeId, me: NodeId) -> Option<Update> {
        let record = self.records.get(&node)?;
        let accuser = match &record.belief {
            // One's own accusation is a confirmation for whoever hears it; else the last one heard.
            Belief::Suspect(suspicion) if suspicion.accusers.contains(&me) => me,
            Belief::Suspect(suspicion) => *suspicion.accusers.last().unwrap_or(&me),
            Belief::Alive | Belief::Down { .. } | Belief::Left => me,
        };
        Some(Update {
            node,
            state: record.state(),
            generation: record.generation,
            incarnation: record.incarnation,
            accuser,
            address: record.address,
            client_address: record.client_address.clone(),
        })
    }

    /// Merges news about another member.
    pub(crate) fn merge(&mut self, news: &Update, now: Mono, wall_ms: u64) -> Outcome {
        let known = self.records.get(&news.node);
        if !is_plausible(news, known, wall_ms) || (known.is_none() && self.len() >= MEMBERS_MAX) {
            return Outcome::Refused;
        }
        let life = (news.generation, news.incarnation);
        if let Some(record) = known {
            if life < record.life() {
                return Outcome::Stale;
            }
            if life == record.life() && news.state <= record.state() {
                return self.confirm(news);
            }
        }
        self.replace(news, now)
    }

    fn confirm(&mut self, news: &Update) -> Outcome {
        let Some(record) = self.records.get_mut(&news.node) else {
            return Outcome::Known;
        };
        match (&mut record.belief, news.state) {
            (Belief::Suspect(suspicion), MemberState::Suspect) => {
                if suspicion.confirm(news.accuser) {
                    Outcome::Confirmed
                } else {
                    Outcome::Known
                }
            }
            (
                Belief::Alive | Belief::Suspect(_) | Belief::Down { .. } | Belief::Left,
                MemberState::Alive | MemberState::Suspect | MemberState::Down | MemberState::Left,
            ) => Outcome::Known,
        }
    }

    fn replace(&mut self, news: &Update, now: Mono) -> Outcome {
        let before = self.records.remove(&news.node);
        if let Some(record) = &before {
            self.present -= usize::from(record.is_present());
            self.hash ^= record_hash(news.node, record);
        }
        let belief = match news.state {
            MemberState::Alive => Belief::Alive,
            MemberState::Suspect => Belief::Suspect(Box::new(Suspicion::new(now, news.accuser))),
            MemberState::Down => Belief::Down { since: now },
            MemberState::Left => Belief::Left,
        };
        let record = Record {
            generation: news.generation,
            incarnation: news.incarnation,
            belief,
            address: news.address,
            client_address: news.client_address.clone(),
            heard_at: before.as_ref().and_then(|record| record.heard_at),
        };
        self.present += usize::from(record.is_present());
        self.hash ^= record_hash(news.node, &record);
        self.records.insert(news.node, record);
        Outcome::Changed {
            before: before.as_ref().map(Record::state),
            moved: before.is_none_or(|record| record.address != news.address),
        }
    }

    /// The members as readers see them, this node among them, by id.
    pub(crate) fn publish(&self, me: Member) -> Arc<[Member]> {
        let mut members: Vec<Member> = Vec::with_capacity(self.records.len() + 1);
        members.extend(self.iter().map(|(node, record)| Member {
            node,
            state: record.state(),
            peer_address: Some(record.address),
            client_address: record.client_address.as_deref().map(str::to_owned),
            voter: false,
            promote: false,
            store: None,
            generation: record.generation,
            incarnation: record.incarnation,
            heard_at: record.heard_at,
        }));
        let at = members.partition_point(|member| member.node < me.node);
        members.insert(at, me);
        members.into()
    }
}

fn is_plausible(news: &Update, known: Option<&Record>, wall_ms: u64) -> bool {
    let base = match known {
        Some(record) if record.generation == news.generation => record.incarnation.as_u64(),
        Some(_) | None => 0,
    };
    let ahead = wall_ms.saturating_add(GENERATION_AHEAD_MS_MAX);
    news.incarnation.as_u64() <= base.saturating_add(INCARNATION_JUMP_MAX)
        && news.generation.as_u64() <= ahead
}

fn record_hash(node: NodeId, record: &Record) -> u64 {
    let gone = match record.belief {
        Belief::Alive | Belief::Suspect(_) => 0,
        Belief::Down { .. } => 1,
        Belief::Left => 2,
    };
    life_hash(node, record.generation, record.incarnation, gone)
}

/// The hash of one member's life; this node adds its own to that of the others.
pub(crate) fn life_hash(
    node: NodeId,
    generation: Generation,
    incarnation: Incarnation,
    gone: u64,
) -> u64 {
    mix(mix(mix(node.as_u64()) ^ generation.as_u64()) ^ (incarnation.as_u64() << 2 | gone))
}

#[cfg(test)]
mod tests;
