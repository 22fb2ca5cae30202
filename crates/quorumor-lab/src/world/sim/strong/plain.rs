//! The plain clients' operations as requests of the record, so that the order of revisions explains theirs too.

use quorumor_core::{Bound, Certainty, Command, Key, Level, Position, Reply, View};

use crate::history::{Level as AskedLevel, Mode, Outcome};
use crate::registry::{Answer, Ask, Attempt, Ended, Failure, Op, Query, Subject};
use crate::world::sim::clients::Planned;
use crate::world::sim::run::{Pending, Run};

impl Run {
    /// Puts the beginning on record; `None` in eventual mode.
    pub(in crate::world::sim) fn record_plain(&mut self, planned: &Planned) -> Option<usize> {
        if self.options.mode == Mode::Eventual {
            return None;
        }
        let invoke = &planned.invoke;
        let ask = match &planned.request.command {
            Command::Write { operations, .. } => Ask::Write(operations.clone()),
            Command::ReadBarrier { .. }
            | Command::Txn { .. }
            | Command::Lease(_)
            | Command::Session(_)
            | Command::Cluster(_)
            | Command::Members
            | Command::Backup => Ask::Read(Query {
                level: match invoke.level {
                    Some(AskedLevel::Local) => Level::Local,
                    Some(AskedLevel::Bounded | AskedLevel::Linearizable) | None => {
                        Level::Linearizable
                    }
                },
                bound: Bound::NONE,
                at: None,
                of: Subject::Key(Key::parse(&invoke.key).ok()?),
            }),
        };
        let after = match planned.request.after {
            Some(Position::Strong(revision)) => Some(revision),
            Some(Position::Eventual(_)) | None => None,
        };
        let id = self.strong.record.ops.len();
        self.strong.record.ops.push(Op {
            id,
            actor: format!("plain client {}", invoke.client.0),
            ask,
            client: None,
            after,
            invoked_us: self.now_us,
            attempts: vec![Attempt {
                node: invoke.node.0,
                sent_us: self.now_us,
                ended: None,
            }],
        });
        Some(id)
    }

    /// Puts the answer of a write on record.
    pub(in crate::world::sim) fn record_written(&mut self, op: u64, reply: &Reply) {
        let Reply::Written {
            results,
            position: Position::Strong(revision),
            ..
        } = reply
        else {
            return;
        };
        let answer = Answer::Written {
            results: results.clone(),
            position: revision.as_u64(),
        };
        self.record_answer(op, answer);
    }

    /// Puts on record what a read is shown.
    pub(in crate::world::sim) fn record_view(&mut self, op: u64, view: &View) {
        let Some(recorded) = self.pending.get(&op).and_then(|pending| pending.recorded) else {
            return;
        };
        let Ask::Read(query) = &self.strong.record.ops[recorded].ask else {
            return;
        };
        let Subject::Key(key) = &query.of else { return };
        let entries = view.entry(key).map(|entry| (**entry).clone());
        let answer = Answer::Entries {
            view: view.revision().unwrap_or_default().as_u64(),
            entries: entries.into_iter().collect(),
        };
        self.record_answer(op, answer);
    }

    fn record_answer(&mut self, op: u64, answer: Answer) {
        let Some(recorded) = self.pending.get(&op).and_then(|pending| pending.recorded) else {
            return;
        };
        if let Some(position) = answer.position() {
            self.strong.seen = self.strong.seen.max(position);
        }
        self.strong.record.ops[recorded].attempts[0].ended = Some(Ended {
            at_us: self.now_us,
            result: Ok(answer),
        });
    }

    /// Puts the end of an operation without an answer on record.
    pub(in crate::world::sim) fn record_end(&mut self, pending: &Pending, outcome: Outcome) {
        let Some(recorded) = pending.recorded else {
            return;
        };
        let at_us = self.now_us;
        let (certainty, reason) = match outcome {
            Outcome::Fail => (Certainty::NotApplied, "REFUSED"),
            Outcome::Ok | Outcome::Unknown => (Certainty::Unknown, "NO_ANSWER"),
        };
        let attempt = &mut self.strong.record.ops[recorded].attempts[0];
        attempt.ended.get_or_insert(Ended {
            at_us,
            result: Err(Failure { certainty, reason }),
        });
    }
}
