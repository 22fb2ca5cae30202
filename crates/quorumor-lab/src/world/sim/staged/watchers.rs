//! Watchers of the load's keys: each at one node at a time, going on at another by its cursor when it loses its node.
//!
//! As the watch hub of a node does: a snapshot, then changes; a cursor of strong mode resumes anywhere, as long as the history
//! reaches back; one of eventual mode only where it was given, so elsewhere a watcher is told to read the state again.

use quorumor_core::{Change, ChangeEvent, Position, Revision, View};

use super::super::clients;
use super::super::run::{Event, Run};
use super::{Happening, MS, planted, translate};
use crate::history::{Mode, NodeId, WatchRecord, WatchStep};

/// What watchers watch.
const PREFIX: &str = "lab/";
/// How long a watcher that lost its node looks for another.
const SEEK_US: u64 = 100 * MS;

/// A watcher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watcher {
    number: u32,
    /// The node that it is at, and its life there.
    at: Option<(u64, u64)>,
    /// The node that it tries next.
    next: u64,
    /// Strong: everything up to this revision was told.
    reached: Option<u64>,
    /// Whether it was ever told the state.
    began: bool,
    /// Changes that it was to be told.
    changes: u64,
}

impl Watcher {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            at: None,
            next: u64::from(number),
            reached: None,
            began: false,
            changes: 0,
        }
    }
}

impl Run {
    /// A watcher without a node looks for one.
    pub(super) fn seek(&mut self, watcher: usize) {
        let now_us = self.now_us;
        let nodes = self.options.nodes;
        let mine = self.stage().watchers[watcher];
        if mine.at.is_some() {
            return;
        }
        let place = mine.next % nodes + 1;
        self.stage().watchers[watcher].next = place;
        let id = self.stage().places.stand_in(NodeId(place)).0;
        let there = &self.nodes[id as usize - 1];
        let view = there
            .running
            .as_ref()
            .map(super::super::node::Running::view);
        let (Some(view), false) = (view, there.paused_until_us > now_us) else {
            return self.at(
                now_us + SEEK_US,
                Event::Staged(Happening::Watch { watcher }),
            );
        };
        let boot = there.boot;
        self.stage().watchers[watcher].at = Some((id, boot));
        self.tell(
            watcher,
            id,
            WatchStep::Opened {
                cursor: mine.reached.map(|at| at.to_string()),
            },
        );
        self.resume(watcher, id, &view);
    }

    /// What a watcher is told first at a node.
    fn resume(&mut self, watcher: usize, id: u64, view: &View) {
        let mine = self.stage().watchers[watcher];
        let here = view.revision().map(Revision::as_u64);
        if let Some(reached) = mine.reached {
            if let Some(past) = view.history.since(Revision::new(reached)) {
                for past in past {
                    self.tell_events(watcher, id, &past.events);
                }
                return self.reached(watcher, here);
            }
            let reason = "the history no longer reaches back to the cursor".to_owned();
            self.tell(watcher, id, WatchStep::Resync { reason });
        } else if mine.began {
            let reason = "the cursor was given by another node".to_owned();
            self.tell(watcher, id, WatchStep::Resync { reason });
        }
        let entries = translate::entries(view, PREFIX);
        self.tell(
            watcher,
            id,
            WatchStep::Snapshot {
                entries,
                revision: here,
            },
        );
        self.stage().watchers[watcher].began = true;
        self.reached(watcher, here);
    }

    fn reached(&mut self, watcher: usize, revision: Option<u64>) {
        let mine = &mut self.stage().watchers[watcher];
        mine.reached = mine.reached.max(revision);
    }

    /// A node's state changed: its watchers are told.
    pub(in crate::world::sim) fn tell_staged(&mut self, id: u64, change: &Change) {
        let Some(stage) = self.staged.as_ref() else {
            return;
        };
        let boot = self.nodes[id as usize - 1].boot;
        let here: Vec<usize> = (0..stage.watchers.len())
            .filter(|watcher| stage.watchers[*watcher].at == Some((id, boot)))
            .collect();
        let revision = match &change.position {
            Position::Strong(revision) => Some(revision.as_u64()),
            Position::Eventual(_) => None,
        };
        for watcher in here {
            let is_known = self.stage().watchers[watcher].reached >= revision;
            let is_reset = change
                .events
                .iter()
                .any(|event| matches!(event, ChangeEvent::Reset));
            if is_reset {
                let reason = "so much changed at once that it can't be told one by one".to_owned();
                self.tell(watcher, id, WatchStep::Resync { reason });
                self.snapshot(watcher, id);
            } else if revision.is_none() || !is_known {
                self.tell_events(watcher, id, &change.events);
                self.reached(watcher, revision);
            }
        }
    }

    fn snapshot(&mut self, watcher: usize, id: u64) {
        let running = &self.nodes[id as usize - 1].running;
        if let Some(view) = running.as_ref().map(super::super::node::Running::view) {
            let revision = view.revision().map(Revision::as_u64);
            let entries = translate::entries(&view, PREFIX);
            self.tell(watcher, id, WatchStep::Snapshot { entries, revision });
            self.reached(watcher, revision);
        }
    }

    fn tell_events(&mut self, watcher: usize, id: u64, events: &[ChangeEvent]) {
        for event in events {
            let (key, values, version) = match event {
                ChangeEvent::Put { entry, .. } => {
                    (&entry.key, vec![clients::text(entry)], &entry.version)
                }
                ChangeEvent::Deleted { key, version, .. } => (key, Vec::new(), version),
                ChangeEvent::Reset => continue,
            };
            if key.as_str().starts_with(PREFIX) && !self.leaves_out(watcher) {
                let version = Some(clients::version(version));
                let key = key.as_str().to_owned();
                self.tell(
                    watcher,
                    id,
                    WatchStep::Change {
                        key,
                        values,
                        version,
                    },
                );
            }
        }
    }

    /// Whether a planted defect keeps the next change from a watcher.
    fn leaves_out(&mut self, watcher: usize) -> bool {
        let plant = self.options.plant;
        let changes = &mut self.stage().watchers[watcher].changes;
        *changes += 1;
        planted::leaves_out(plant, *changes)
    }

    fn tell(&mut self, watcher: usize, id: u64, step: WatchStep) {
        let at_us = self.now_us;
        let stage = self.stage();
        let watch = u64::from(stage.watchers[watcher].number);
        let written = stage.history.watch(WatchRecord {
            at_us,
            watch,
            node: NodeId(id),
            prefix: PREFIX.to_owned(),
            step,
        });
        stage.keep(written);
    }

    /// The watchers of a node that died look for another.
    pub(super) fn lose_watchers(&mut self, id: u64) {
        let now_us = self.now_us;
        for watcher in 0..self.stage().watchers.len() {
            let lost = self.stage().watchers[watcher]
                .at
                .is_some_and(|(at, _)| at == id);
            if lost {
                self.stage().watchers[watcher].at = None;
                let reason = "the connection broke".to_owned();
                self.tell(watcher, id, WatchStep::Closed { reason });
                self.at(
                    now_us + SEEK_US,
                    Event::Staged(Happening::Watch { watcher }),
                );
            }
        }
    }

    /// The watchers end, having been told what there was.
    pub(super) fn end_watches(&mut self) {
        for watcher in 0..self.stage().watchers.len() {
            let Some((id, _)) = self.stage().watchers[watcher].at else {
                continue;
            };
            if self.options.mode == Mode::Strong
                && let Some(revision) = self.stage().watchers[watcher].reached
            {
                self.tell(watcher, id, WatchStep::Progress { revision });
            }
            let reason = "the run is over".to_owned();
            self.tell(watcher, id, WatchStep::Closed { reason });
        }
    }
}
