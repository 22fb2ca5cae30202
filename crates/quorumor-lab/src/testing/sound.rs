//! Histories that are right by construction, with everything that the checkers judge: each operation takes effect at one instant between
//! its call and its return, on one copy (strong) or on its node's copy, which spreads (eventual). For mutators to break.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;

use super::{MS, Story};
use crate::history::{
    Action, Dot, Event, EventKind, FaultAction, FaultRecord, FaultStep, FinalEntry, FinalState,
    Footer, History, MemberState, Mode, NodeId, Op, Outcome, Position, ProcessId, Return,
    SessionId, Version, WatchRecord, WatchStep,
};
use crate::rng::{self, Purpose, below, chance_ppm};

mod actors;

const NODES: u64 = 3;
const ACTORS: u64 = 10;
const SLOTS: u64 = 60;
/// Operations begin here; a node was killed and found out before.
const START_US: u64 = 60_000 * MS;
const TTL_MS: u64 = 40;

/// A sound history of this mode.
pub(crate) fn history(mode: Mode, seed: u64) -> History {
    let mut story = Story::new(mode);
    story.history.header.scenario.nodes = NODES as u32;
    let copies = if mode == Mode::Strong { 1 } else { NODES };
    let mut world = Sound {
        mode,
        rng: rng::stream(seed, Purpose::Operations, 77),
        story,
        copies: (0..copies).map(|_| Copy::default()).collect(),
        underway: BTreeMap::new(),
        fifo: BTreeMap::new(),
        leases: BTreeMap::new(),
        actors: BTreeMap::new(),
        fresh: 0,
        fence_seen: 0,
    };
    world.one_death();
    world.run();
    world.finish();
    world.story.history
}

#[derive(Clone)]
struct Entry {
    value: Option<String>,
    version: Version,
    lease: Option<String>,
}

#[derive(Default)]
struct Copy {
    entries: BTreeMap<String, Entry>,
    /// Strong: the revision; eventual: the highest stamp.
    clock: u64,
    vector: BTreeMap<u64, u64>,
    ledger: BTreeSet<Dot>,
}

struct Lease {
    ends_us: u64,
    copy: usize,
}

#[derive(Clone, Default)]
struct Actor {
    session: u64,
    token: Option<String>,
    lease: Option<String>,
    /// The token of the lock, or the number of the key under the lease.
    holds: Option<u64>,
}

struct Sound {
    mode: Mode,
    rng: ChaCha8Rng,
    story: Story,
    copies: Vec<Copy>,
    /// Eventual: what reaches another copy, and when.
    underway: BTreeMap<(u64, u64), (usize, String, Entry)>,
    fifo: BTreeMap<(usize, usize), u64>,
    leases: BTreeMap<String, Lease>,
    actors: BTreeMap<u64, Actor>,
    fresh: u64,
    fence_seen: u64,
}

/// When an operation is called, takes effect and returns.
type Slot = (u64, u64, u64, u64);

impl Sound {
    fn one_death(&mut self) {
        let steps = [(FaultStep::Effective, 1_000), (FaultStep::Healed, 40_000)];
        for (step, at_ms) in steps {
            self.story.history.faults.push(FaultRecord {
                at_us: at_ms * MS,
                fault: 0,
                action: FaultAction::Kill,
                step,
                nodes: vec![NodeId(3)],
                links: Vec::new(),
                hits: 0,
            });
        }
        let beliefs = [
            (6_000, 1, MemberState::Down),
            (7_000, 2, MemberState::Down),
            (41_000, 1, MemberState::Alive),
            (41_500, 2, MemberState::Alive),
        ];
        for (at_ms, node, state) in beliefs {
            let subject = NodeId(3);
            self.story.history.events.push(Event {
                at_us: at_ms * MS,
                node: NodeId(node),
                kind: EventKind::Member { subject, state },
            });
        }
    }

    fn run(&mut self) {
        let mut slots: Vec<Slot> = Vec::new();
        for actor in 0..ACTORS {
            let mut free = START_US;
            for _ in 0..SLOTS {
                let from = free + below(&mut self.rng, 4 * MS);
                let effect = from + 1 + below(&mut self.rng, 2 * MS);
                let to = effect + 1 + below(&mut self.rng, 2 * MS);
                free = to + 1;
                slots.push((effect, actor, from, to));
            }
            let session = actor;
            self.actors.insert(
                actor,
                Actor {
                    session,
                    ..Actor::default()
                },
            );
        }
        slots.sort_unstable();
        for copy in 0..self.copies.len() {
            self.open_watch(copy, START_US);
        }
        for slot in slots {
            self.advance(slot.0);
            self.act(slot);
        }
        self.story
            .history
            .ops
            .sort_by_key(|op| (op.invoke.at_us, op.invoke.op));
    }

    /// Lets leases end and writes arrive up to this time.
    fn advance(&mut self, now_us: u64) {
        let over = |lease: &&Lease| lease.ends_us <= now_us;
        let ended: Vec<String> = self
            .leases
            .iter()
            .filter(|(_, lease)| over(lease))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            let at_us = self.leases[&id].ends_us;
            self.end_lease(&id, at_us);
        }
        while let Some(entry) = self
            .underway
            .first_entry()
            .filter(|first| first.key().0 <= now_us)
        {
            let ((at_us, _), (copy, key, written)) = entry.remove_entry();
            self.merge(copy, &key, &written, at_us);
        }
    }

    fn end_lease(&mut self, id: &str, at_us: u64) {
        let Some(lease) = self.leases.remove(id) else {
            return;
        };
        let copy = lease.copy;
        let bound = |entry: &Entry| entry.lease.as_deref() == Some(id) && entry.value.is_some();
        let entries = self.copies[copy].entries.iter();
        let keys: Vec<String> = entries
            .filter(|(_, entry)| bound(entry))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.write(copy, &key, None, None, at_us);
        }
    }

    fn act(&mut self, slot: Slot) {
        match slot.1 {
            0..=3 => self.load(slot),
            4 | 5 => self.set(slot),
            6 => self.count(slot),
            7 => self.hold_lease(slot),
            _ => self.lock(slot),
        }
    }

    fn copy_of(&self, actor: u64) -> usize {
        (actor % self.copies.len() as u64) as usize
    }

    fn value_of(&self, actor: u64, key: &str) -> Option<String> {
        let entry = self.copies[self.copy_of(actor)].entries.get(key)?;
        entry.value.clone()
    }

    fn next(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    /// Writes to one copy, and sets it under way to the others.
    fn write(
        &mut self,
        copy: usize,
        key: &str,
        value: Option<String>,
        lease: Option<String>,
        at_us: u64,
    ) -> Version {
        let here = &mut self.copies[copy];
        let version = match self.mode {
            Mode::Strong => {
                here.clock += 1;
                Version::Strong {
                    revision: here.clock,
                }
            }
            Mode::Eventual => {
                let context = here.vector.iter();
                let context = context
                    .map(|(&writer, &seq)| Dot {
                        writer,
                        log_id: 1,
                        seq,
                    })
                    .collect();
                let writer = copy as u64 + 1;
                let seq = here.vector.get(&writer).copied().unwrap_or(0) + 1;
                here.clock = (here.clock + 1).max(at_us);
                let dot = Dot {
                    writer,
                    log_id: 1,
                    seq,
                };
                Version::Eventual {
                    dot,
                    stamp: here.clock,
                    context: Some(context),
                }
            }
        };
        let entry = Entry {
            value,
            version: version.clone(),
            lease,
        };
        self.merge(copy, key, &entry, at_us);
        for other in (0..self.copies.len()).filter(|&other| other != copy) {
            let delay = below(&mut self.rng, 30 * MS);
            let last = self.fifo.entry((copy, other)).or_default();
            *last = (*last + 1).max(at_us + delay);
            self.fresh += 1;
            self.underway
                .insert((*last, self.fresh), (other, key.to_owned(), entry.clone()));
        }
        version
    }

    fn merge(&mut self, copy: usize, key: &str, entry: &Entry, at_us: u64) {
        let here = &mut self.copies[copy];
        if let Version::Eventual { dot, stamp, .. } = &entry.version {
            here.vector.insert(dot.writer, dot.seq);
            here.clock = here.clock.max(*stamp);
        }
        let wins = match here.entries.get(key) {
            None => true,
            Some(held) => {
                let wins = rank(&entry.version) > rank(&held.version);
                let (winner, loser) = if wins { (entry, held) } else { (held, entry) };
                here.ledger.extend(discarded(winner, loser));
                wins
            }
        };
        if wins {
            here.entries.insert(key.to_owned(), entry.clone());
            self.tell(copy, key, entry, at_us);
        }
    }

    fn open_watch(&mut self, copy: usize, at_us: u64) {
        let revision = (self.mode == Mode::Strong).then(|| self.copies[copy].clock);
        let entries = present(&self.copies[copy], "");
        self.watch(copy, at_us, WatchStep::Opened { cursor: None });
        self.watch(copy, at_us, WatchStep::Snapshot { entries, revision });
    }

    fn tell(&mut self, copy: usize, key: &str, entry: &Entry, at_us: u64) {
        if self.mode == Mode::Strong && chance_ppm(&mut self.rng, 30_000) {
            let cursor = Some("here".to_owned());
            self.watch(
                copy,
                at_us,
                WatchStep::Closed {
                    reason: "cut".to_owned(),
                },
            );
            self.watch(copy, at_us, WatchStep::Opened { cursor });
        }
        let step = WatchStep::Change {
            key: key.to_owned(),
            values: entry.value.clone().into_iter().collect(),
            version: Some(bare(&entry.version)),
        };
        self.watch(copy, at_us, step);
    }

    fn watch(&mut self, copy: usize, at_us: u64, step: WatchStep) {
        let watch = copy as u64 + 1;
        let (node, prefix) = (NodeId(watch), String::new());
        self.story.history.watches.push(WatchRecord {
            at_us,
            watch,
            node,
            prefix,
            step,
        });
    }

    fn op(&mut self, slot: Slot, key: &str, action: Action, outcome: Outcome) -> &mut Op {
        let (_, actor, from, to) = slot;
        let copy = self.copy_of(actor);
        let (clock, vector) = (self.copies[copy].clock, &self.copies[copy].vector);
        let token = match self.mode {
            Mode::Strong => format!("{clock:04x}"),
            Mode::Eventual => vector
                .iter()
                .map(|(node, seq)| format!("{node:02x}{seq:04x}"))
                .collect(),
        };
        let mode = self.mode;
        self.story.op(0, 0, action, outcome);
        let who = self.actors.get_mut(&actor).unwrap();
        let op = self.story.history.ops.last_mut().unwrap();
        op.invoke.process = ProcessId(op.invoke.op.0);
        op.invoke.session = SessionId(who.session);
        op.invoke.node = NodeId(actor % NODES + 1);
        op.invoke.key = key.to_owned();
        op.invoke.token.clone_from(&who.token);
        op.invoke.at_us = from;
        op.invoke.due_us = from;
        let ret = op.ret.as_mut().unwrap();
        ret.at_us = to;
        if outcome == Outcome::Ok {
            ret.token = Some(token.clone());
            who.token = Some(token);
            let position = Position {
                revision: clock,
                term: 1,
                leader: 1,
            };
            ret.position = (mode == Mode::Strong).then_some(position);
        }
        op
    }

    fn finish(&mut self) {
        let end_us = START_US + 60_000 * MS;
        self.advance(end_us - 1);
        for node in 1..=NODES {
            let copy = self.copy_of(node - 1);
            let held = &self.copies[copy];
            let is_eventual = self.mode == Mode::Eventual;
            self.story.history.finals.push(FinalState {
                at_us: end_us,
                node: NodeId(node),
                digest: "the same".to_owned(),
                entries: present(held, ""),
                ledger: is_eventual.then(|| held.ledger.iter().copied().collect()),
                discarded: is_eventual.then_some(held.ledger.len() as u64),
            });
        }
        self.story.history.footer = Some(Footer {
            lines: 1,
            invoked: self.story.history.ops.len() as u64,
            returned: 0,
            hash: String::new(),
        });
    }
}

fn show(ret: &mut Return, entry: Option<Entry>) {
    let Some(entry) = entry else { return };
    if entry.value.is_some() {
        ret.version = Some(bare(&entry.version));
    }
    ret.values = entry.value.into_iter().collect();
}

fn present(copy: &Copy, prefix: &str) -> Vec<FinalEntry> {
    let under = copy
        .entries
        .iter()
        .filter(|(key, _)| key.starts_with(prefix));
    under
        .filter_map(|(key, entry)| {
            Some(FinalEntry {
                key: key.clone(),
                values: vec![entry.value.clone()?],
                version: Some(bare(&entry.version)),
            })
        })
        .collect()
}

/// A version as a reader is told it: without what the write had seen.
fn bare(version: &Version) -> Version {
    match version {
        Version::Strong { revision } => Version::Strong {
            revision: *revision,
        },
        Version::Eventual { dot, stamp, .. } => Version::Eventual {
            dot: *dot,
            stamp: *stamp,
            context: None,
        },
    }
}

fn rank(version: &Version) -> crate::checker::order::Rank {
    crate::checker::order::Rank::of(version)
}

/// The loser's dot, if the winner hadn't seen it.
fn discarded(winner: &Entry, loser: &Entry) -> Option<Dot> {
    let (Version::Eventual { context, .. }, Version::Eventual { dot, .. }) =
        (&winner.version, &loser.version)
    else {
        return None;
    };
    let seen = context
        .iter()
        .flatten()
        .any(|row| row.writer == dot.writer && row.seq >= dot.seq);
    (!seen).then_some(*dot)
}
