//! Watchers: each follows one range, at one node at a time, and goes on at another by its cursor.

use std::sync::Arc;

use quorumor_core::{ChangeEvent, KeyRange, Revision, View};
use rand_chacha::ChaCha8Rng;

use super::Happening;
use super::actor::MS;
use crate::checker::strong::watches::seen;
use crate::registry::{Delivery, Watched};
use crate::rng;
use crate::world::sim::Plant;
use crate::world::sim::run::{Event, Run};

/// A watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    rng: ChaCha8Rng,
    /// The node that it is at.
    node: Option<u64>,
    /// Its watch in the record, and everything up to where it was given.
    watch: Option<(usize, u64)>,
}

impl Watcher {
    pub(super) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            node: None,
            watch: None,
        }
    }

    fn range(&mut self) -> KeyRange {
        let prefix = match rng::below(&mut self.rng, 4) {
            0 => "",
            1 => "l/",
            2 => "k",
            _ => "t/",
        };
        KeyRange::prefix(prefix).expect("a short prefix")
    }
}

impl Run {
    /// A watcher goes to a node, with its cursor if it has one.
    pub(super) fn watch(&mut self, watcher: usize) {
        let nodes = self.nodes.len() as u64;
        let (now_us, load_ends_us) = (self.now_us, self.load_ends_us);
        let follower = &mut self.strong.watchers[watcher];
        let stay_us = (200 + rng::below(&mut follower.rng, 2_500)) * MS;
        if now_us < load_ends_us {
            self.at(
                now_us + stay_us,
                Event::Strong(Happening::Watch { watcher }),
            );
        }
        let follower = &mut self.strong.watchers[watcher];
        let node = 1 + rng::below(&mut follower.rng, nodes);
        let begins_anew = now_us < load_ends_us && rng::chance_ppm(&mut follower.rng, 80_000);
        if begins_anew {
            follower.watch = None;
        }
        let there = &self.nodes[node as usize - 1];
        if there.paused_until_us > now_us || there.retired {
            return;
        }
        let Some(view) = there
            .running
            .as_ref()
            .map(super::super::node::Running::view)
        else {
            return;
        };
        let here = view.revision().unwrap_or_default().as_u64();
        let follower = &mut self.strong.watchers[watcher];
        follower.node = Some(node);
        if follower.watch.is_none() {
            let range = follower.range();
            let record = &mut self.strong.record;
            follower.watch = Some((record.watches.len(), here));
            record.watches.push(Watched {
                range,
                from: here,
                deliveries: Vec::new(),
                reached: here,
                moves: 1,
            });
            return;
        }
        if let Some((watch, _)) = follower.watch {
            self.strong.record.watches[watch].moves += 1;
        }
        self.catch_up(watcher, &view);
    }

    /// Gives a watcher what it lacks of a view's past, or tells it to read the state.
    fn catch_up(&mut self, watcher: usize, view: &View) {
        let Some((watch, cursor)) = self.strong.watchers[watcher].watch else {
            return;
        };
        let here = view.revision().unwrap_or_default().as_u64();
        match view.history.since(Revision::new(cursor)) {
            Some(past) => {
                for past in past {
                    self.hand(watcher, past.revision.as_u64(), &past.events);
                }
                self.reach(watcher, here);
            }
            None => {
                let delivery = Delivery::Resync { revision: here };
                self.strong.record.watches[watch].deliveries.push(delivery);
                self.counts.resyncs += 1;
                self.reach(watcher, here);
            }
        }
    }

    pub(super) fn tell_watchers(
        &mut self,
        node: u64,
        revision: u64,
        events: &Arc<[ChangeEvent]>,
        is_reset: bool,
    ) {
        let here: Vec<usize> = (0..self.strong.watchers.len())
            .filter(|watcher| self.strong.watchers[*watcher].node == Some(node))
            .collect();
        for watcher in here {
            if !is_reset {
                self.hand(watcher, revision, events);
                self.reach(watcher, revision);
                continue;
            }
            let running = &self.nodes[node as usize - 1].running;
            if let Some(view) = running.as_ref().map(super::super::node::Running::view) {
                self.catch_up(watcher, &view);
            }
        }
    }

    /// Gives a watcher one revision, if it hasn't had it.
    fn hand(&mut self, watcher: usize, revision: u64, events: &[ChangeEvent]) {
        let strong = &mut self.strong;
        let follower = &mut strong.watchers[watcher];
        let Some((watch, cursor)) = follower.watch else {
            return;
        };
        let watched = &mut strong.record.watches[watch];
        let events = seen(&watched.range, events);
        if revision <= cursor || events.is_empty() {
            return;
        }
        // The planted defect: now and then one is left out.
        let left_out = self.options.plant == Some(Plant::WatchGap)
            && rng::chance_ppm(&mut follower.rng, 50_000);
        if !left_out {
            watched
                .deliveries
                .push(Delivery::Events { revision, events });
            self.counts.watched += 1;
        }
    }

    fn reach(&mut self, watcher: usize, revision: u64) {
        let strong = &mut self.strong;
        if let Some((watch, cursor)) = &mut strong.watchers[watcher].watch {
            *cursor = revision.max(*cursor);
            strong.record.watches[*watch].reached = *cursor;
        }
    }

    /// The watchers of a node that died go elsewhere later.
    pub(super) fn leave_watchers(&mut self, node: u64) {
        for watcher in &mut self.strong.watchers {
            if watcher.node == Some(node) {
                watcher.node = None;
            }
        }
    }
}
