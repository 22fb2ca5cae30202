//! The simulated clients: each has one operation at a time, a session token, and a node that it mostly stays at.

use bytes::Bytes;
use quorumor_core::{
    Bound, ClusterId, Command, DataEpoch, Entry, Expected, Key, Level as CoreLevel, Operation,
    Position, Request, RequestId, Token, Value, VersionVector,
};
use rand_chacha::ChaCha8Rng;

use super::Options;
use crate::history::{
    Action, Cas, ClientId, Dot, Invoke, Level, Mode, NodeId, OpId, Outcome, ProcessId, SessionId,
    Version,
};
use crate::rng;

const MS: u64 = 1_000;

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    process: ProcessId,
    node: u64,
    token: Option<Position>,
    last_seen: Option<(String, Option<String>)>,
    written: u64,
    rng: ChaCha8Rng,
}

/// An operation that is under way.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) invoke: Invoke,
    pub(super) request: Request,
    /// A read at local level that is answered from the view as soon as the view covers the token.
    pub(super) local: bool,
}

impl Client {
    pub(super) fn new(id: u32, options: &Options, rng: ChaCha8Rng) -> Self {
        let node = 1 + u64::from(id) % options.nodes;
        let process = ProcessId(u64::from(id));
        Self {
            id: ClientId(id),
            process,
            node,
            token: None,
            last_seen: None,
            written: 0,
            rng,
        }
    }

    /// How long it thinks before the next operation.
    pub(super) fn think_us(&mut self) -> u64 {
        (5 + rng::below(&mut self.rng, 90)) * MS
    }

    /// The node of its next operation.
    pub(super) fn choose_node(&mut self, nodes: u64) -> u64 {
        if rng::chance_ppm(&mut self.rng, 150_000) {
            self.node = 1 + rng::below(&mut self.rng, nodes);
        }
        self.node
    }

    /// Moves on to another node, as a client does whose node doesn't answer.
    pub(super) fn leave_node(&mut self, nodes: u64) {
        self.node = 1 + self.node % nodes;
    }

    /// Draws the next operation.
    pub(super) fn plan(&mut self, options: &Options, op: u64, now_us: u64) -> Planned {
        let key = format!("k{}", rng::below(&mut self.rng, u64::from(options.keys)));
        let action = self.draw_action(options.mode, &key);
        let linearizable = options.mode == Mode::Strong && !rng::chance_ppm(&mut self.rng, 200_000);
        let is_read = action == Action::Get;
        let level = match (is_read, linearizable) {
            (true, true) => Some(Level::Linearizable),
            (true, false) => Some(Level::Local),
            (false, _) => None,
        };
        let invoke = Invoke {
            op: OpId(op),
            process: self.process,
            client: self.id,
            session: SessionId(u64::from(self.id.0)),
            node: NodeId(self.choose_node(options.nodes)),
            key: key.clone(),
            action: action.clone(),
            level,
            lease: None,
            may_degrade: false,
            token: self.token.as_ref().map(hex),
            idempotency: None,
            request_id: String::new(),
            due_us: now_us,
            at_us: now_us,
            timeout_us: (500 + rng::below(&mut self.rng, 1_500)) * MS,
        };
        let command = command(&key, &action, level);
        let request = Request {
            command,
            after: self.token.clone(),
            request_id: RequestId::default(),
        };
        Planned {
            invoke,
            request,
            local: is_read && !linearizable,
        }
    }

    fn draw_action(&mut self, mode: Mode, key: &str) -> Action {
        let roll = rng::below(&mut self.rng, 100);
        let value = format!("c{}-{}", self.id.0, self.written);
        let action = match (roll, mode) {
            (0..45, _) => return Action::Get,
            (45..53, _) => return Action::Delete,
            (53..65, Mode::Strong) => {
                let seen = self.last_seen.as_ref().filter(|(seen, _)| seen == key);
                Action::Cas(Cas {
                    expected: seen.and_then(|(_, value)| value.clone()),
                    value,
                })
            }
            _ => Action::Put(value),
        };
        self.written += 1;
        action
    }

    /// Learns from how its operation ended. After an unknown outcome a new process goes on with the session.
    pub(super) fn ended(&mut self, outcome: Outcome, fresh: ProcessId, token: Option<Position>) {
        if outcome == Outcome::Unknown {
            self.process = fresh;
        }
        if let Some(token) = token {
            match &mut self.token {
                Some(mine) => mine.merge(&token),
                None => self.token = Some(token),
            }
        }
    }

    /// Remembers what it saw, for its next compare-and-set.
    pub(super) fn saw(&mut self, key: &str, value: Option<String>) {
        self.last_seen = Some((key.to_owned(), value));
    }
}

fn command(key: &str, action: &Action, level: Option<Level>) -> Command {
    let key = Key::parse(key).expect("the simulator's keys are short words");
    let value = |text: &str| {
        Value::parse(Bytes::copy_from_slice(text.as_bytes())).expect("the values are short")
    };
    let operation = match action {
        Action::List | Action::Grant { .. } | Action::KeepAlive | Action::Revoke => {
            unreachable!("these clients draw none")
        }
        Action::Get => {
            let level = if level == Some(Level::Linearizable) {
                CoreLevel::Linearizable
            } else {
                CoreLevel::Local
            };
            return Command::ReadBarrier {
                level,
                bound: Bound::NONE,
            };
        }
        Action::Put(text) => Operation::Put {
            key,
            value: value(text),
            context: None,
            lease: None,
        },
        Action::Delete => Operation::Delete { key },
        Action::Cas(cas) => {
            let expected = cas
                .expected
                .as_deref()
                .map_or(Expected::Absent, |text| Expected::Value(value(text)));
            Operation::CompareAndSet {
                key,
                expected,
                value: value(&cas.value),
                lease: None,
            }
        }
    };
    Command::Write {
        acks: 0,
        operations: vec![operation],
        client: None,
    }
}

/// A position as the history has tokens: opaque, in hexadecimal.
pub(super) fn hex(position: &Position) -> String {
    let token = Token {
        cluster: ClusterId::new(1),
        epoch: DataEpoch::ZERO,
        position: position.clone(),
    };
    let bytes = token.encode().unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A version as the history has it.
pub(super) fn version(version: &quorumor_core::Version) -> Version {
    match version {
        quorumor_core::Version::Strong { modify, .. } => Version::Strong {
            revision: modify.as_u64(),
        },
        quorumor_core::Version::Eventual {
            dot: which,
            stamp,
            context,
            siblings: _,
        } => Version::Eventual {
            dot: dot(*which),
            stamp: stamp.as_u64(),
            context: Some(rows(context)),
        },
    }
}

/// A delete as the history has it: it replaced all that whoever asked for it was shown.
pub(super) fn deletion(own: Version, previous: Option<&Entry>) -> Version {
    let seen = previous.map(|entry| version(&entry.version));
    match (own, seen) {
        (Version::Eventual { dot, stamp, .. }, Some(Version::Eventual { context, .. })) => {
            Version::Eventual {
                dot,
                stamp,
                context,
            }
        }
        (own, _) => own,
    }
}

/// A context as the history has it: of each log the last write that it covers.
fn rows(context: &VersionVector) -> Vec<Dot> {
    let rows = context.rows();
    rows.map(|(writer, log_id, seq)| {
        dot(quorumor_core::Dot {
            writer,
            log_id,
            seq,
        })
    })
    .collect()
}

/// A dot as the history has it.
pub(super) fn dot(dot: quorumor_core::Dot) -> Dot {
    Dot {
        writer: dot.writer.as_u64(),
        log_id: dot.log_id.as_u64(),
        seq: dot.seq.as_u64(),
    }
}

/// An entry's value as text.
pub(super) fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(entry.value.as_bytes()).into_owned()
}

/// A read of one key at one node, by nobody's client: what the end of a run looks at.
pub(super) fn audit_read(
    options: &Options,
    op: u64,
    node: u64,
    key: u32,
    process: ProcessId,
    now_us: u64,
) -> Planned {
    let is_local = options.mode == Mode::Eventual;
    let level = if is_local {
        Level::Local
    } else {
        Level::Linearizable
    };
    let who = (op, node, process);
    let what = (format!("k{key}"), Action::Get, Some(level));
    of_nobody(who, what, now_us)
}

/// A write at one node, by nobody's client: what a trial asks every node for.
pub(super) fn trial_put(op: u64, node: u64, process: ProcessId, now_us: u64) -> Planned {
    let what = (format!("k{node}"), Action::Put(format!("t{op}")), None);
    of_nobody((op, node, process), what, now_us)
}

fn of_nobody(
    (op, node, process): (u64, u64, ProcessId),
    (key, action, level): (String, Action, Option<Level>),
    now_us: u64,
) -> Planned {
    let command = command(&key, &action, level);
    let invoke = Invoke {
        op: OpId(op),
        process,
        client: ClientId(u32::MAX),
        session: SessionId(process.0),
        node: NodeId(node),
        key,
        action,
        level,
        lease: None,
        may_degrade: false,
        token: None,
        idempotency: None,
        request_id: String::new(),
        due_us: now_us,
        at_us: now_us,
        timeout_us: 4_000 * MS,
    };
    let request = Request {
        command,
        after: None,
        request_id: RequestId::default(),
    };
    Planned {
        local: level == Some(Level::Local),
        invoke,
        request,
    }
}
