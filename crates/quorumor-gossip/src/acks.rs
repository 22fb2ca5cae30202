//! Writes whose callers wait until so many members hold them.
//!
//! A peer says of each rumor whether it was news; either way it holds it now. Until enough have said so, the write is told to
//! further members, whatever becomes of it as a rumor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorumor_core::{CallId, Destination, Dot, Error, Mono, NodeId, Reply};

use crate::event::Event;
use crate::message::Part;
use crate::replica::GossipReplica;
use crate::spread::{is_inline, offer};
use crate::timers::Timer;

/// Members that didn't say that they hold a write are told again after so many milliseconds.
const TELL_AGAIN_MS: u64 = 150;

/// A write is given up after so long, whatever its caller's deadline: the caller may be another node's, which is gone. In
/// milliseconds.
const HOLDING_MS_MAX: u64 = 60_000;

#[derive(Debug)]
struct Holding {
    since: Mono,
    needed: usize,
    held: BTreeSet<NodeId>,
    events: Vec<Arc<Event>>,
    reply: Reply,
}

/// Such writes.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    holdings: BTreeMap<CallId, Holding>,
    /// The last dot of each.
    by_dot: BTreeMap<Dot, CallId>,
    timer_set: bool,
}

impl Acks {
    pub(crate) fn cancel(&mut self, call: CallId) {
        if let Some(holding) = self.holdings.remove(&call)
            && let Some(last) = holding.events.last()
        {
            self.by_dot.remove(&last.dot);
        }
    }
}

impl GossipReplica {
    /// Whether there are as many members as shall hold a write.
    pub(crate) fn check_acks(&self, acks: u32) -> Result<(), Error> {
        let counts = self.members.counts();
        if acks > counts.alive.max(1) {
            return Err(Error::TooFewMembers {
                needed: acks,
                have: counts.alive,
            });
        }
        Ok(())
    }

    /// A write is durable here: answer once others hold it too.
    pub(crate) fn await_acks(
        &mut self,
        call: CallId,
        acks: u32,
        events: Vec<Arc<Event>>,
        reply: Reply,
    ) {
        let needed = usize::try_from(acks)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        let Some(last) = events.last().filter(|_| needed > 0).map(|event| event.dot) else {
            return self.reply(call, Ok(reply));
        };
        let holding = Holding {
            since: self.now.mono(),
            needed,
            held: BTreeSet::new(),
            events,
            reply,
        };
        self.acks.holdings.insert(call, holding);
        self.acks.by_dot.insert(last, call);
        self.tell_holders(Some(call));
    }

    /// A member holds this write.
    pub(crate) fn note_held(&mut self, dot: Dot, by: NodeId) {
        let Some(call) = self.acks.by_dot.get(&dot).copied() else {
            return;
        };
        let Some(holding) = self.acks.holdings.get_mut(&call) else {
            return;
        };
        holding.held.insert(by);
        if holding.held.len() >= holding.needed {
            self.acks.by_dot.remove(&dot);
            if let Some(holding) = self.acks.holdings.remove(&call) {
                self.reply(call, Ok(holding.reply));
            }
        }
    }

    pub(crate) fn handle_acks_timer(&mut self) {
        self.acks.timer_set = false;
        let now = self.now.mono();
        let is_late = |holding: &Holding| now.since_us(holding.since) > HOLDING_MS_MAX * 1_000;
        let open = self.acks.holdings.iter();
        let late: Vec<CallId> = open
            .filter(|(_, holding)| is_late(holding))
            .map(|(call, _)| *call)
            .collect();
        for call in late {
            self.acks.cancel(call);
            let why = "not enough members have said that they hold the write";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
        self.tell_holders(None);
    }

    /// Tells one such write, or all, to as many further members as are lacking.
    fn tell_holders(&mut self, only: Option<CallId>) {
        let mut letters = Vec::new();
        let holdings = self.acks.holdings.iter();
        for (_, holding) in holdings.filter(|(call, _)| only.is_none_or(|only| only == **call)) {
            let lacking = holding.needed - holding.held.len();
            let some = self
                .members
                .some(lacking + holding.held.len() + 1, None, &mut self.rng);
            let others = some.into_iter().filter(|node| !holding.held.contains(node));
            for node in others.take(lacking + 1) {
                letters.push((node, holding.events.clone()));
            }
        }
        for (node, events) in letters {
            for event in events {
                let config = &self.config;
                let inline = is_inline(
                    config.inline_value_bytes_max,
                    config.datagram_bytes_max,
                    &event,
                );
                let part = if inline {
                    Part::Rumors(vec![event])
                } else {
                    Part::Offers(vec![offer(&event)])
                };
                self.outbox.push_bare(Destination::Node(node), &part);
            }
        }
        if !self.acks.holdings.is_empty() && !self.acks.timer_set {
            self.acks.timer_set = true;
            let at = self.now.mono().after_ms(TELL_AGAIN_MS);
            self.timers.set(at, Timer::Acks);
        }
    }

    /// Nobody is served any more.
    pub(crate) fn give_up_acks(&mut self) {
        self.acks.by_dot.clear();
        for call in std::mem::take(&mut self.acks.holdings).into_keys() {
            let why = "the node stopped before enough members had said that they hold the write";
            self.reply(call, Err(Error::OutcomeUnknown { why }));
        }
    }
}
