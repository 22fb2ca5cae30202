//! Building histories by hand, for the tests of the checkers. Times are in milliseconds.

use crate::history::{
    Action, Cas, Cause, ClientId, Dot, FinalEntry, FinalState, Header, History, Invoke, Level,
    Mode, NodeId, Op, OpId, Outcome, Position, ProcessId, Return, SessionId, Version, World,
};
use crate::scenario::Scenario;
use crate::workload::Workload;

pub(crate) mod drawn;
pub(crate) mod sound;
pub(crate) mod toy;

pub(crate) const MS: u64 = 1_000;

/// A history under construction; operations get ids 1, 2, ... and a process of their own.
pub(crate) struct Story {
    pub(crate) history: History,
}

/// The last operation of a story, to be refined.
pub(crate) struct Told<'a>(pub(crate) &'a mut Op);

impl Story {
    pub(crate) fn new(mode: Mode) -> Self {
        let scenario = Scenario::compare(1, 3, 40_000, Workload::default()).unwrap();
        Self {
            history: History::new(Header::new(mode, World::Simulated, scenario, 0)),
        }
    }

    pub(crate) fn op(
        &mut self,
        from_ms: u64,
        to_ms: u64,
        action: Action,
        outcome: Outcome,
    ) -> Told<'_> {
        let id = self.history.ops.len() as u64 + 1;
        let invoke = Invoke {
            op: OpId(id),
            process: ProcessId(id),
            client: ClientId(0),
            session: SessionId(id),
            node: NodeId(1),
            key: "k".to_owned(),
            action,
            level: None,
            lease: None,
            may_degrade: false,
            token: None,
            idempotency: None,
            request_id: format!("r{id}"),
            due_us: from_ms * MS,
            at_us: from_ms * MS,
            timeout_us: 1_000 * MS,
        };
        let ret = Return::new(OpId(id), to_ms * MS, outcome);
        self.history.ops.push(Op {
            invoke,
            ret: Some(ret),
        });
        Told(self.history.ops.last_mut().unwrap())
    }

    pub(crate) fn put(&mut self, from_ms: u64, to_ms: u64, value: &str) -> Told<'_> {
        self.op(from_ms, to_ms, Action::Put(value.to_owned()), Outcome::Ok)
    }

    pub(crate) fn put_unknown(&mut self, from_ms: u64, to_ms: u64, value: &str) -> Told<'_> {
        self.op(
            from_ms,
            to_ms,
            Action::Put(value.to_owned()),
            Outcome::Unknown,
        )
    }

    pub(crate) fn put_refused(&mut self, from_ms: u64, to_ms: u64, value: &str) -> Told<'_> {
        let told = self.op(from_ms, to_ms, Action::Put(value.to_owned()), Outcome::Fail);
        told.0.ret.as_mut().unwrap().cause = Some(Cause::Refused);
        told
    }

    pub(crate) fn delete(&mut self, from_ms: u64, to_ms: u64) -> Told<'_> {
        self.op(from_ms, to_ms, Action::Delete, Outcome::Ok)
    }

    /// A read that saw this value; "" = absent.
    pub(crate) fn get(&mut self, from_ms: u64, to_ms: u64, saw: &str) -> Told<'_> {
        let told = self.op(from_ms, to_ms, Action::Get, Outcome::Ok);
        told.0.ret.as_mut().unwrap().values = values(saw);
        told
    }

    pub(crate) fn cas(
        &mut self,
        from_ms: u64,
        to_ms: u64,
        change: [&str; 2],
        succeeded: bool,
    ) -> Told<'_> {
        let [expected, value] = change.map(str::to_owned);
        let expected = Some(expected).filter(|expected| !expected.is_empty());
        let told = self.op(
            from_ms,
            to_ms,
            Action::Cas(Cas { expected, value }),
            Outcome::Ok,
        );
        told.0.ret.as_mut().unwrap().succeeded = Some(succeeded);
        told
    }

    /// What every node shows of the key at the end; "" = absent.
    pub(crate) fn ends_with(&mut self, value: &str) -> &mut Self {
        for node in self.history.header.scenario.node_ids() {
            self.ends_at(node.0, value);
        }
        self
    }

    pub(crate) fn ends_at(&mut self, node: u64, value: &str) -> &mut Self {
        let entry = FinalEntry {
            key: "k".to_owned(),
            values: values(value),
            version: None,
        };
        let entries = if value.is_empty() {
            Vec::new()
        } else {
            vec![entry]
        };
        let state = FinalState {
            at_us: 100_000_000,
            node: NodeId(node),
            digest: format!("digest of {value}"),
            entries,
            ledger: None,
            discarded: None,
        };
        self.history.finals.push(state);
        self
    }
}

fn values(value: &str) -> Vec<String> {
    if value.is_empty() {
        Vec::new()
    } else {
        vec![value.to_owned()]
    }
}

impl Told<'_> {
    fn ret(&mut self) -> &mut Return {
        self.0.ret.as_mut().unwrap()
    }

    pub(crate) fn revision(mut self, revision: u64) -> Self {
        self.ret().version = Some(Version::Strong { revision });
        self
    }

    pub(crate) fn position(mut self, revision: u64) -> Self {
        self.ret().position = Some(Position {
            revision,
            term: 1,
            leader: 1,
        });
        self
    }

    /// An eventual version: written at this node with this stamp.
    pub(crate) fn stamp(mut self, writer: u64, stamp: u64) -> Self {
        let dot = Dot {
            writer,
            log_id: 1,
            seq: stamp,
        };
        self.ret().version = Some(Version::Eventual {
            dot,
            stamp,
            context: None,
        });
        self
    }

    pub(crate) fn saw(mut self, rows: &[(u64, u64)]) -> Self {
        let seen = rows
            .iter()
            .map(|&(writer, seq)| Dot {
                writer,
                log_id: 1,
                seq,
            })
            .collect();
        if let Some(Version::Eventual { context, .. }) = &mut self.ret().version {
            *context = Some(seen);
        }
        self
    }

    pub(crate) fn at(self, node: u64) -> Self {
        self.0.invoke.node = NodeId(node);
        self
    }

    pub(crate) fn session(self, session: u64) -> Self {
        self.0.invoke.session = SessionId(session);
        self.0.invoke.token = Some("00".to_owned());
        self
    }

    pub(crate) fn got(mut self, level: Level) -> Self {
        self.ret().got = Some(level);
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.0.invoke.key = key.to_owned();
        self
    }
}
