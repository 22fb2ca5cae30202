//! The order of revisions: the state at each of them, and which request made it.
//!
//! Not a judge. The revision is the witness of the linear order: an answered write names its own, an unknown one is bound
//! to the first revision that shows it, and what no request explains must be the end of a lease.

use std::collections::{BTreeMap, BTreeSet};

use quorumor_core::{
    ChangeEvent, LeaseAction, LeaseId, NodeId, Operation, OperationResult, Revision, Version,
};

use super::model::{self, Effect, State};
use super::record::{Answer, Ask, Finish, Op, Record};

/// The order of one run.
#[derive(Debug)]
pub struct Order<'a> {
    record: &'a Record,
    states: BTreeMap<u64, State>,
    /// For a time, the highest revision that an answer had shown before it.
    shown: BTreeMap<u64, u64>,
    /// The revision that each request made.
    made: BTreeMap<usize, u64>,
    /// The request that made each revision.
    maker: BTreeMap<u64, usize>,
    /// Answered writes that no place in the order explains, and why.
    unexplained: Vec<(usize, String)>,
    /// Revisions that no request explains and the end of these leases does.
    lease_ends: BTreeMap<u64, Vec<LeaseId>>,
    /// Revisions that nothing explains.
    orphans: Vec<u64>,
}

impl<'a> Order<'a> {
    /// Works the order out.
    pub fn new(record: &'a Record) -> Self {
        let mut order = Self {
            record,
            states: states(record),
            shown: shown(record),
            made: BTreeMap::new(),
            maker: BTreeMap::new(),
            unexplained: Vec::new(),
            lease_ends: BTreeMap::new(),
            orphans: Vec::new(),
        };
        order.place_answered();
        order.place_unknown();
        order
    }

    /// The live entries at a revision.
    pub fn state(&self, revision: u64) -> State {
        let found = self.states.range(..=revision).next_back();
        found.map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// The highest revision that an answer had shown before a time.
    pub fn shown_before(&self, at_us: u64) -> u64 {
        let found = self.shown.range(..at_us).next_back();
        found.map_or(0, |(_, revision)| *revision)
    }

    /// The revision that a request made, if it made one.
    pub fn made_by(&self, op: usize) -> Option<u64> {
        self.made.get(&op).copied()
    }

    /// The request that made a revision.
    pub fn maker(&self, revision: u64) -> Option<usize> {
        self.maker.get(&revision).copied()
    }

    /// Answered writes that no place in the order explains, and why.
    pub fn unexplained(&self) -> &[(usize, String)] {
        &self.unexplained
    }

    /// Revisions that no request explains and the end of these leases does.
    pub fn lease_ends(&self) -> &BTreeMap<u64, Vec<LeaseId>> {
        &self.lease_ends
    }

    /// Revisions that nothing explains.
    pub fn orphans(&self) -> &[u64] {
        &self.orphans
    }

    fn events(&self, revision: u64) -> &[ChangeEvent] {
        let shown = self.record.revisions.get(&revision);
        shown.map_or(&[], |shown| &shown.events)
    }

    /// Those whose answer stands exactly at its revision choose first; of a write that was answered again it may be a later one.
    fn place_answered(&mut self) {
        let (once, again): (Vec<&Op>, Vec<&Op>) = self
            .record
            .ops
            .iter()
            .partition(|op| op.attempts.len() == 1);
        for op in once.into_iter().chain(again) {
            let Finish::Answered(answer, at_us) = op.finish() else {
                continue;
            };
            if !may_change(&op.ask) {
                continue;
            }
            let (Answer::Written { position, .. } | Answer::Txn { position, .. }) = answer else {
                continue;
            };
            let (from, to) = match own_revision(answer) {
                Some(own) => (own, own),
                None => (self.shown_before(op.invoked_us), *position),
            };
            match self.explain(op, answer, from, to) {
                Some(Place::Made(revision)) => self.bind(op.id, revision),
                Some(Place::Nothing) => {}
                None => {
                    let at = at_us as f64 / 1e6;
                    let why = format!(
                        "the answer of {at:.3} s follows from no state between revisions {from} and {to}"
                    );
                    self.unexplained.push((op.id, why));
                }
            }
        }
    }

    fn bind(&mut self, op: usize, revision: u64) {
        if let Some(other) = self.maker.get(&revision).filter(|other| **other != op) {
            let why = format!("revision {revision} was made by request {other} too");
            self.unexplained.push((op, why));
            return;
        }
        self.maker.insert(revision, op);
        self.made.insert(op, revision);
    }

    /// The place in this span that gives just this answer: its end, or else the first.
    fn explain(&self, op: &Op, answer: &Answer, from: u64, to: u64) -> Option<Place> {
        let mut span = std::iter::once(to).chain(from..to);
        span.find_map(|revision| {
            let taken = self.maker.contains_key(&revision);
            let effect = self.effect(op, revision);
            if revision > 0
                && !taken
                && !effect.events.is_empty()
                && self.shows(op, &effect, revision)
                && gives(&effect, answer)
            {
                return Some(Place::Made(revision));
            }
            let after = self.carried_out(op, &self.state(revision), revision);
            (after.events.is_empty() && gives(&after, answer)).then_some(Place::Nothing)
        })
    }

    /// What a request does as the maker of a revision.
    fn effect(&self, op: &Op, revision: u64) -> Effect {
        self.carried_out(op, &self.state(revision.saturating_sub(1)), revision)
    }

    fn carried_out(&self, op: &Op, state: &State, revision: u64) -> Effect {
        let events = self.events(revision);
        let writer = events.iter().find_map(writer).unwrap_or_else(|| {
            let node = op.attempts.first().map_or(1, |attempt| attempt.node);
            NodeId::try_from(node).expect("nodes are numbered from 1")
        });
        let revision = Revision::new(revision);
        match &op.ask {
            Ask::Write(operations) => model::write(state, operations, revision, writer),
            Ask::Txn(txn) => model::txn(state, txn, revision, writer),
            Ask::Lease(LeaseAction::Revoke { id, .. }) => {
                let delete = |key| Operation::Delete { key };
                let deletes: Vec<_> = model::keys_of(state, *id).into_iter().map(delete).collect();
                Effect {
                    results: Vec::new(),
                    ..model::write(state, &deletes, revision, writer)
                }
            }
            Ask::Lease(
                LeaseAction::Grant { .. }
                | LeaseAction::KeepAlive { .. }
                | LeaseAction::Look { .. },
            )
            | Ask::Session(_)
            | Ask::Cluster(_)
            | Ask::Read(_)
            | Ask::Backup => Effect {
                succeeded: true,
                ..Effect::default()
            },
        }
    }

    /// Whether a revision shows just this effect, made by a node that was asked.
    fn shows(&self, op: &Op, effect: &Effect, revision: u64) -> bool {
        let events = self.events(revision);
        let asked = |node: NodeId| {
            op.attempts
                .iter()
                .any(|attempt| attempt.node == node.as_u64())
        };
        let by_asked = events.iter().filter_map(writer).all(asked);
        let same = match op.ask {
            // A lease's keys go in no order that anybody was promised.
            Ask::Lease(_) => keys(events) == keys(&effect.events) && only_deletes(events),
            Ask::Write(_)
            | Ask::Txn(_)
            | Ask::Session(_)
            | Ask::Cluster(_)
            | Ask::Read(_)
            | Ask::Backup => events == effect.events,
        };
        by_asked && same
    }

    /// Binds the revisions that no answered request made: first to unknown requests, then to leases that ended.
    fn place_unknown(&mut self) {
        let open: Vec<u64> = self
            .record
            .revisions
            .keys()
            .copied()
            .filter(|revision| !self.maker.contains_key(revision))
            .collect();
        let unknown: Vec<&Op> = self
            .record
            .ops
            .iter()
            .filter(|op| matches!(op.finish(), Finish::Unknown) && may_change(&op.ask))
            .collect();
        let ends: BTreeMap<u64, Vec<LeaseId>> = open
            .iter()
            .filter_map(|revision| Some((*revision, self.leases_that_end(*revision)?)))
            .collect();
        let candidates: BTreeMap<u64, Vec<usize>> = open
            .iter()
            .map(|revision| (*revision, self.candidates(*revision, &unknown)))
            .collect();
        // Those that only a request explains choose first.
        let (needy, easy): (Vec<u64>, Vec<u64>) = open
            .iter()
            .partition(|revision| !ends.contains_key(*revision));
        let mut matching = Matching {
            candidates,
            revision_of: BTreeMap::new(),
        };
        for revision in needy.iter().chain(&easy) {
            matching.place(*revision, &mut BTreeSet::new());
        }
        for (op, revision) in matching.revision_of {
            self.made.insert(op, revision);
            self.maker.insert(revision, op);
        }
        for revision in open {
            if self.maker.contains_key(&revision) {
                continue;
            }
            match ends.get(&revision) {
                Some(leases) => {
                    self.lease_ends.insert(revision, leases.clone());
                }
                None => self.orphans.push(revision),
            }
        }
    }

    fn candidates(&self, revision: u64, unknown: &[&Op]) -> Vec<usize> {
        let Some(shown) = self.record.revisions.get(&revision) else {
            return Vec::new();
        };
        unknown
            .iter()
            .filter(|op| op.invoked_us <= shown.at_us)
            .filter(|op| touches(&op.ask, &shown.events))
            .filter(|op| {
                let effect = self.effect(op, revision);
                !effect.events.is_empty() && self.shows(op, &effect, revision)
            })
            .map(|op| op.id)
            .collect()
    }

    /// The leases whose end explains a revision: it removed all of their keys, and nothing else.
    fn leases_that_end(&self, revision: u64) -> Option<Vec<LeaseId>> {
        let events = self.events(revision);
        let mut leases = BTreeSet::new();
        for event in events {
            let ChangeEvent::Deleted {
                previous: Some(previous),
                ..
            } = event
            else {
                return None;
            };
            leases.insert(previous.lease?);
        }
        let before = self.state(revision - 1);
        let gone = keys(events);
        let all = leases
            .iter()
            .flat_map(|lease| model::keys_of(&before, *lease));
        let all: BTreeSet<String> = all.map(|key| key.as_str().to_owned()).collect();
        (!leases.is_empty() && all == gone).then(|| leases.into_iter().collect())
    }
}

enum Place {
    Made(u64),
    Nothing,
}

/// Augmenting paths (Kuhn): each revision to an unknown request of its own.
struct Matching {
    candidates: BTreeMap<u64, Vec<usize>>,
    revision_of: BTreeMap<usize, u64>,
}

impl Matching {
    fn place(&mut self, revision: u64, tried: &mut BTreeSet<usize>) -> bool {
        for op in self.candidates.get(&revision).cloned().unwrap_or_default() {
            if !tried.insert(op) {
                continue;
            }
            let holder = self.revision_of.get(&op).copied();
            if holder.is_none_or(|holder| self.place(holder, tried)) {
                self.revision_of.insert(op, revision);
                return true;
            }
        }
        false
    }
}

/// Whether a request can change keys.
pub fn may_change(ask: &Ask) -> bool {
    match ask {
        Ask::Write(_) | Ask::Txn(_) | Ask::Lease(LeaseAction::Revoke { .. }) => true,
        Ask::Lease(
            LeaseAction::Grant { .. } | LeaseAction::KeepAlive { .. } | LeaseAction::Look { .. },
        )
        | Ask::Session(_)
        | Ask::Cluster(_)
        | Ask::Read(_)
        | Ask::Backup => false,
    }
}

/// The revision that an answer says its write made.
pub fn own_revision(answer: &Answer) -> Option<u64> {
    let (Answer::Written { results, .. } | Answer::Txn { results, .. }) = answer else {
        return None;
    };
    let modified = |version: &Version| match version {
        Version::Strong { modify, .. } => Some(modify.as_u64()),
        Version::Eventual { .. } => None,
    };
    results.iter().find_map(|result| match result {
        OperationResult::Put { version } => modified(version),
        OperationResult::Compared {
            succeeded: true,
            entry: Some(entry),
        } => modified(&entry.version),
        OperationResult::Compared { .. }
        | OperationResult::Deleted { .. }
        | OperationResult::RangeDeleted { .. }
        | OperationResult::Got { .. } => None,
    })
}

fn gives(effect: &Effect, answer: &Answer) -> bool {
    match answer {
        Answer::Written { results, .. } => effect.results == *results,
        Answer::Txn {
            succeeded, results, ..
        } => effect.succeeded == *succeeded && effect.results == *results,
        Answer::Granted { .. }
        | Answer::Kept { .. }
        | Answer::Opened { .. }
        | Answer::Changed
        | Answer::Entries { .. }
        | Answer::Backup { .. } => false,
    }
}

/// A quick look whether a request could have made these events at all: by the first value that was put.
fn touches(ask: &Ask, events: &[ChangeEvent]) -> bool {
    let put = events.iter().find_map(|event| match event {
        ChangeEvent::Put { entry, .. } => Some(&entry.value),
        ChangeEvent::Deleted { .. } | ChangeEvent::Reset => None,
    });
    let Some(put) = put else {
        return true;
    };
    let writes = |operations: &[Operation]| {
        operations.iter().any(|operation| match operation {
            Operation::Put { value, .. } | Operation::CompareAndSet { value, .. } => value == put,
            Operation::Delete { .. } | Operation::DeleteRange { .. } | Operation::Get { .. } => {
                false
            }
        })
    };
    match ask {
        Ask::Write(operations) => writes(operations),
        Ask::Txn(txn) => writes(&txn.success) || writes(&txn.failure),
        Ask::Lease(_) | Ask::Session(_) | Ask::Cluster(_) | Ask::Read(_) | Ask::Backup => false,
    }
}

fn writer(event: &ChangeEvent) -> Option<NodeId> {
    match event {
        ChangeEvent::Put { entry, .. } => Some(entry.writer),
        ChangeEvent::Deleted { .. } | ChangeEvent::Reset => None,
    }
}

fn keys(events: &[ChangeEvent]) -> BTreeSet<String> {
    let key = |event: &ChangeEvent| match event {
        ChangeEvent::Put { entry, .. } => Some(entry.key.as_str().to_owned()),
        ChangeEvent::Deleted { key, .. } => Some(key.as_str().to_owned()),
        ChangeEvent::Reset => None,
    };
    events.iter().filter_map(key).collect()
}

fn only_deletes(events: &[ChangeEvent]) -> bool {
    let deleted = |event: &ChangeEvent| matches!(event, ChangeEvent::Deleted { .. });
    events.iter().all(deleted)
}

fn states(record: &Record) -> BTreeMap<u64, State> {
    let mut state = State::new();
    let step = |(revision, shown): (&u64, &super::Shown)| {
        for event in shown.events.iter() {
            model::apply(&mut state, event);
        }
        (*revision, state.clone())
    };
    record.revisions.iter().map(step).collect()
}

/// Every answer shows the revision of the state that it was given from, whoever asked.
fn shown(record: &Record) -> BTreeMap<u64, u64> {
    let mut answers: Vec<(u64, u64)> = record
        .ops
        .iter()
        .flat_map(Op::answers)
        .filter_map(|(answer, at_us)| Some((at_us, answer.position()?)))
        .collect();
    answers.sort_unstable();
    let (mut steps, mut highest) = (BTreeMap::new(), 0);
    for (at_us, revision) in answers {
        if revision > highest {
            highest = revision;
            steps.insert(at_us, highest);
        }
    }
    steps
}
