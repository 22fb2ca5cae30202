//! An actor: what it wants next, its client session, and how it takes an answer.

use quorumor_core::{ClientId, ClientSeq, LeaseId, NodeId, Revision, SessionAction};
use rand_chacha::ChaCha8Rng;

use super::holder::Holder;
use super::operator::Operator;
use super::reader::Reader;
use super::writer::Writer;
use crate::registry::{Answer, Ask, Finish, Op};
use crate::rng;

pub(super) const MS: u64 = 1_000;

/// An actor.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: String,
    pub(super) rng: ChaCha8Rng,
    pub(super) kind: Kind,
    node: u64,
    session: Option<Session>,
    /// The request that it waits for.
    pub(super) current: Option<usize>,
}

/// What an actor does.
#[derive(Debug)]
pub(super) enum Kind {
    /// Writes, in a session.
    Writer(Writer),
    /// Holds leases.
    Holder(Holder),
    /// Reads.
    Reader(Reader),
    /// Compacts, backs up, moves the leader, changes the members.
    Operator(Operator),
}

/// A client session.
#[derive(Clone, Copy, Debug)]
struct Session {
    client_id: ClientId,
    next_seq: u64,
}

/// What an actor knows of the rest of the run.
pub(super) struct Surroundings<'a> {
    pub(super) now_us: u64,
    /// The highest revision that any actor was shown.
    pub(super) seen: u64,
    /// Leases that somebody holds.
    pub(super) leases: &'a [LeaseId],
    /// Nodes that were ever made.
    pub(super) nodes: u64,
    /// The members and what can be done with them.
    pub(super) members: &'a [super::super::node::Membership],
}

/// What an actor wants next.
pub(super) enum Plan {
    /// A request.
    Ask(Wish),
    /// Nothing, for so long.
    Nap(u64),
}

/// A request to be sent.
pub(super) struct Wish {
    pub(super) ask: Ask,
    /// Whether it goes under a number of the session.
    pub(super) numbered: bool,
    /// The revision that the caller has seen.
    pub(super) after: Option<Revision>,
    /// How often it is sent at most while nobody answers.
    pub(super) tries: u32,
    /// Whether it is sent to two nodes at once.
    pub(super) twice: bool,
}

impl Wish {
    /// A request that is sent once.
    pub(super) fn once(ask: Ask) -> Self {
        Self {
            ask,
            numbered: false,
            after: None,
            tries: 1,
            twice: false,
        }
    }

    /// A write that is sent until it is answered.
    pub(super) fn numbered(ask: Ask, rng: &mut ChaCha8Rng) -> Self {
        Self {
            ask,
            numbered: true,
            after: None,
            tries: 12,
            twice: rng::chance_ppm(rng, 120_000),
        }
    }
}

impl Actor {
    fn new(name: String, kind: Kind, mut rng: ChaCha8Rng) -> Self {
        let node = 1 + rng::below(&mut rng, 3);
        Self {
            name,
            rng,
            kind,
            node,
            session: None,
            current: None,
        }
    }

    pub(super) fn writer(place: u32, rng: ChaCha8Rng) -> Self {
        let name = format!("writer-{place}");
        Self::new(name.clone(), Kind::Writer(Writer::new(name)), rng)
    }

    pub(super) fn holder(place: u32, rng: ChaCha8Rng) -> Self {
        let name = format!("holder-{place}");
        Self::new(name.clone(), Kind::Holder(Holder::new(name)), rng)
    }

    pub(super) fn reader(place: u32, rng: ChaCha8Rng) -> Self {
        Self::new(
            format!("reader-{place}"),
            Kind::Reader(Reader::default()),
            rng,
        )
    }

    pub(super) fn operator(rng: ChaCha8Rng, moves: bool) -> Self {
        Self::new(
            "operator".to_owned(),
            Kind::Operator(Operator::new(moves)),
            rng,
        )
    }

    /// How long until its next request.
    pub(super) fn think_us(&mut self) -> u64 {
        let (least, more) = match self.kind {
            Kind::Writer(_) => (10, 160),
            Kind::Holder(_) => (20, 200),
            Kind::Reader(_) => (10, 120),
            Kind::Operator(_) => (150, 900),
        };
        (least + rng::below(&mut self.rng, more)) * MS
    }

    /// What it wants next. One without a session that needs one opens it first.
    pub(super) fn plan(&mut self, around: &Surroundings<'_>) -> Plan {
        let needs_session = match &self.kind {
            Kind::Writer(_) | Kind::Holder(_) => true,
            Kind::Reader(_) | Kind::Operator(_) => false,
        };
        if needs_session && self.session.is_none() {
            // Some live so short that their owner is away for longer now and then.
            let ttl_ms = if rng::chance_ppm(&mut self.rng, 300_000) {
                1_600 + rng::below(&mut self.rng, 1_000)
            } else {
                60_000
            };
            let open = SessionAction::Open { ttl_ms };
            return Plan::Ask(Wish::once(Ask::Session(open)));
        }
        let rng = &mut self.rng;
        match &mut self.kind {
            Kind::Writer(writer) => writer.plan(rng, around),
            Kind::Holder(holder) => holder.plan(rng, around),
            Kind::Reader(reader) => reader.plan(rng, around),
            Kind::Operator(operator) => operator.plan(rng, around),
        }
    }

    /// The number of its next write. Everything before it has been answered or given up.
    pub(super) fn number(&mut self) -> Option<ClientSeq> {
        let session = self.session.as_mut()?;
        let seq = session.next_seq;
        session.next_seq += 1;
        Some(ClientSeq {
            client_id: session.client_id,
            seq,
            acked_through: seq - 1,
        })
    }

    /// The node of its next try; mostly the one before.
    pub(super) fn choose_node(&mut self, nodes: u64) -> u64 {
        if self.node > nodes || rng::chance_ppm(&mut self.rng, 150_000) {
            self.node = 1 + rng::below(&mut self.rng, nodes);
        }
        self.node
    }

    /// Goes to another node.
    pub(super) fn leave_node(&mut self, nodes: u64) {
        self.node = 1 + self.node % nodes;
    }

    /// Takes the end of its request.
    pub(super) fn learn(&mut self, op: &Op, now_us: u64) {
        self.current = None;
        let finish = op.finish();
        if let Finish::Answered(Answer::Opened { client_id }, _) = finish {
            self.session = Some(Session {
                client_id: *client_id,
                next_seq: 1,
            });
        }
        let expired = op.attempts.iter().any(|attempt| {
            let ended = attempt.ended.as_ref();
            ended.is_some_and(
                |ended| matches!(ended.result, Err(failure) if failure.reason == "SESSION_EXPIRED"),
            )
        });
        if expired {
            self.session = None;
        }
        match &mut self.kind {
            Kind::Writer(writer) => writer.learn(op),
            Kind::Holder(holder) => holder.learn(op, now_us),
            Kind::Reader(reader) => reader.learn(op),
            Kind::Operator(operator) => operator.learn(op),
        }
    }
}

/// A core id for a node's number.
pub(super) fn node_id(id: u64) -> NodeId {
    super::super::node::node_id(id)
}
