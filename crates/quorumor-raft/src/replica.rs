//! The strong replica: which input goes where. What raft then wants done is in `ready.rs`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorumor_core::{
    CallId, Command, Contact, DiskState, Error, Health, Input, Mode, Mono, NodeId, Now, Output,
    PersistToken, Plant, Position, Recovered, Replica, Reply, Request, Revision, StreamClass, View,
    WakeReason,
};
use raft::eraftpb::Message;
use raft::{RawNode, ReadOnlyOption, StateRole};
use slog::{Discard, Logger, o};

use crate::append::{APPEND_BYTES_MAX, APPENDS_IN_FLIGHT_MAX};
use crate::asking::{Asking, Changes};
use crate::codec::checkpoint;
use crate::codec::message::{PeerMessage, RaftMessage};
use crate::codec::proposal::Body;
use crate::config::RaftConfig;
use crate::digests::Digests;
use crate::election;
use crate::error::OpenError;
use crate::gate::{self, Campaign, Verdict};
use crate::install::{Checkpointing, Installing};
use crate::keep_alives::KeepAlives;
use crate::leadership::Standing;
use crate::log::Log;
use crate::log_time::{LogClock, Pace};
use crate::membership::Contacts;
use crate::pending::{Seen, Writes};
use crate::reads::Reads;
use crate::ready::Awaiting;
use crate::repeats::Repeats;
use crate::state_machine::StateMachine;
use crate::transfer::{Incoming, Outgoing, Staged};
use crate::upkeep::Upkeep;

/// Entries in the leader's log that no majority has: beyond it raft drops proposals. Writes are refused well before
/// (`leadership.rs`).
const UNCOMMITTED_BYTES_MAX: u64 = 96 * 1024 * 1024;
/// One batch to apply: at 200 MB/s of decoding, 80 ms.
const APPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Strong mode as a pure state machine.
///
/// An acknowledged write is synced on a majority. A linearizable read is confirmed by the leader with a majority, at
/// whatever node it is asked. A node that can't reach a majority refuses.
pub struct RaftReplica {
    pub(crate) config: RaftConfig,
    pub(crate) raw: RawNode<Log>,
    pub(crate) state: StateMachine,
    pub(crate) now: Mono,
    pub(crate) outputs: VecDeque<Output>,
    /// The last token given to a persist.
    pub(crate) token: PersistToken,
    /// Readies whose data isn't durable yet, with the messages that wait for it.
    pub(crate) awaiting: VecDeque<Awaiting>,
    pub(crate) checkpointing: Checkpointing,
    pub(crate) installing: Option<Installing>,
    pub(crate) outgoing: Option<Outgoing>,
    pub(crate) incoming: Option<Incoming>,
    pub(crate) staged: Option<Box<Staged>>,
    pub(crate) transfers: u64,
    pub(crate) writes: Writes,
    pub(crate) seen: Seen,
    pub(crate) reads: Reads,
    pub(crate) keep_alives: KeepAlives,
    /// Log time as this node knows it.
    pub(crate) clock: LogClock,
    pub(crate) upkeep: Upkeep,
    pub(crate) digests: Digests,
    pub(crate) repeats: Repeats,
    pub(crate) changes: Changes,
    /// Whether a member said that this node was removed.
    pub(crate) told_removed: bool,
    /// Removed nodes that still talk, and when each was told so.
    pub(crate) removal_told: BTreeMap<NodeId, Mono>,
    pub(crate) deferred_reads: BTreeMap<NodeId, Message>,
    /// Peers' messages that the gate refused, by reason.
    refusals: BTreeMap<&'static str, u64>,
    pub(crate) contacts: Contacts,
    pub(crate) standing: Standing,
    pub(crate) health: Health,
    /// The commit index of the last run: once it is applied and a leader known, this node has caught up.
    pub(crate) recovered_commit: u64,
    pub(crate) disk: DiskState,
    pub(crate) leaving: Option<Mono>,
    pub(crate) transfer_asked: bool,
    pub(crate) announced_at: Option<Mono>,
    pub(crate) pulse_at: Mono,
    pub(crate) next_tick: Mono,
    pub(crate) view: View,
    /// Whether inputs were taken whose effects aren't worked out yet.
    pub(crate) unsettled: bool,
}

impl std::fmt::Debug for RaftReplica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftReplica")
            .field("node", &self.config.node())
            .field("standing", &self.standing)
            .field("applied", &self.state.applied)
            .finish_non_exhaustive()
    }
}

impl RaftReplica {
    /// Starts from what the disk held: nothing for a new node, which then begins with the founding configuration.
    ///
    /// # Errors
    /// If the disk's content is damaged, incomplete, or of another cluster. Nothing was changed then.
    pub fn open(config: RaftConfig, recovered: Recovered, now: Now) -> Result<Self, OpenError> {
        let state = first_state(&config, recovered.checkpoint.as_deref())?;
        let log = Log::recover(state.applied, &state.voters, &recovered.records)?;
        let recovered_commit = log.hard_state().commit;
        let mut raw = RawNode::new(
            &raft_config(&config, state.applied.index),
            log,
            &Logger::root(Discard, o!()),
        )
        .map_err(|why| OpenError::Raft {
            why: why.to_string(),
        })?;
        election::settle(&mut raw, config.seed(), config.node());
        let mono = now.mono();
        let standing = Standing::new(&raw, mono);
        let contacts = Contacts::new(mono, config.timing().election_timeout_us());
        let view = crate::status::first_view(&config, &state);
        let step_max = config.timing().election_timeout_us();
        let clock = LogClock::recovered(state.log_time, raw.store().iter(), mono, step_max);
        let mut replica = Self {
            keep_alives: KeepAlives::default(),
            clock,
            upkeep: Upkeep::default(),
            digests: Digests::default(),
            reads: Reads::new(config.node(), config.boot_nonce()),
            repeats: Repeats::new(config.timing().heartbeat_interval_us()),
            next_tick: mono.after_us(config.timing().tick_us),
            pulse_at: mono,
            checkpointing: Checkpointing::new(state.applied.index),
            config,
            raw,
            state,
            now: mono,
            outputs: VecDeque::new(),
            token: PersistToken::default(),
            awaiting: VecDeque::new(),
            installing: None,
            outgoing: None,
            incoming: None,
            staged: None,
            transfers: 0,
            writes: Writes::default(),
            seen: Seen::default(),
            changes: Changes::default(),
            told_removed: false,
            removal_told: BTreeMap::new(),
            deferred_reads: BTreeMap::new(),
            refusals: BTreeMap::new(),
            contacts,
            standing,
            health: Health::Starting,
            recovered_commit,
            disk: DiskState::Available,
            leaving: None,
            transfer_asked: false,
            announced_at: None,
            view,
            unsettled: false,
        };
        replica.begin();
        Ok(replica)
    }

    fn begin(&mut self) {
        self.name_peers();
        if self.state.voters.voters == [self.raw.raft.id] && !self.state.voters.is_joint() {
            // Nobody else could lead. Raft refuses only what is already so.
            let _ = self.raw.campaign();
        }
        self.settle();
    }

    /// Works out what the inputs since the last time led to: many that came together share one round of raft, so one
    /// proposal, one append for each follower and one sync.
    fn settle(&mut self) {
        self.unsettled = false;
        self.drive();
        self.refresh_view();
    }

    /// How many of the peers' messages were refused since the start, by reason: for metrics. None in a healthy cluster but
    /// for read indexes that reach a node which has just lost the lead.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.refusals.iter().map(|(why, count)| (*why, *count))
    }

    fn request(&mut self, call: CallId, request: Request) {
        if let Err(error) = self.serve(call, request) {
            self.reply(call, Err(error));
        }
    }

    /// Takes a request on, or says why not.
    fn serve(&mut self, call: CallId, request: Request) -> Result<(), Error> {
        if let Health::Damaged { why } = &self.health {
            return Err(Error::Damaged { why: why.clone() });
        }
        if self.leaving.is_some() {
            return Err(Error::Stopping);
        }
        if self.awaits_snapshot() {
            return Err(Error::Starting);
        }
        if let Health::Damaged { why } = self.shown_health() {
            return Err(Error::Damaged { why });
        }
        let after = match request.after {
            Some(Position::Strong(_)) if self.config.planted().is(Plant::TokenIgnored) => {
                Revision::ZERO
            }
            Some(Position::Strong(revision)) => revision,
            None => Revision::ZERO,
            Some(Position::Eventual(_)) => {
                return Err(Error::invalid("token", "the token is of eventual mode"));
            }
        };
        match request.command {
            // A write comes after everything that was ever acknowledged, and so after what its token has seen.
            Command::Write {
                operations,
                client,
                acks: _,
            } => self.propose_for(call, Body::Write { operations, client }),
            Command::Txn { txn, client } => self.propose_for(call, Body::Txn { txn, client }),
            Command::Lease(action) => self.lease(call, action),
            Command::Session(action) => self.session(call, action),
            Command::ReadBarrier { level, bound } => self.read(call, level, bound, after),
            Command::Backup => self.back_up(call, after),
            Command::Members => Err(Error::GuaranteeUnavailable {
                mode: Mode::Strong,
                asked: "the members as a reply",
                best_available: "the published status",
            }),
            Command::Cluster(action) => match Asking::of(&action) {
                Ok(asking) => self.change_cluster(call, asking),
                Err(body) => self.propose_for(call, body),
            },
        }
    }

    fn stream(&mut self, from: NodeId, payload: Bytes) {
        let Ok(message) = PeerMessage::decode(payload) else {
            return;
        };
        if !self.hears(from) {
            return;
        }
        self.contacts.heard(from, self.now);
        if self.standing.leader == Some(from) {
            self.contacts.heard_leader(self.now);
        }
        match message {
            PeerMessage::Raft(message) => self.step_peer(from, message),
            PeerMessage::Forward(forward) => self.take_forward(from, forward),
            PeerMessage::Refused(refused) => self.take_refused(from, &refused),
            PeerMessage::Chunk(chunk) => self.take_chunk(from, chunk),
            PeerMessage::ChunkAck(ack) => self.take_chunk_ack(from, &ack),
            PeerMessage::Ask(ask) => self.take_ask(from, ask),
            PeerMessage::Told(told) => self.take_told(from, told),
            PeerMessage::Removed(_) => self.take_removed(from),
            PeerMessage::Pulse(pulse) => {
                if self.standing.leader == Some(from) && pulse.term == self.raw.raft.term {
                    self.contacts.take_pulse(&pulse, self.now);
                }
            }
        }
    }

    fn step_peer(&mut self, from: NodeId, message: RaftMessage) {
        // Raft's place in the log is between two states while a snapshot is being installed: what comes now is lost, as
        // messages may be.
        if self.installing.is_some() {
            return;
        }
        let held = self.awaiting.iter().flat_map(|awaiting| &awaiting.held);
        let campaign = if gate::holds_vote_request(held) {
            Campaign::Held
        } else {
            Campaign::Sent
        };
        match gate::admit(message, from, &self.raw.raft, campaign) {
            Verdict::Step(message) => {
                // A response of an unknown peer is the only thing that it still refuses.
                let _ = self.raw.step(message);
                election::settle(&mut self.raw, self.config.seed(), self.config.node());
            }
            Verdict::Defer(message) => {
                self.deferred_reads.insert(from, message);
            }
            Verdict::Refuse(why) => *self.refusals.entry(why).or_default() += 1,
            Verdict::Damaged(why) => self.damaged(why),
        }
    }

    fn contact(&mut self, peer: NodeId, contact: Contact) {
        self.contacts.noticed(peer, contact);
        match contact {
            Contact::Connected => {}
            Contact::Closed | Contact::Refused | Contact::Dropped => {
                self.lose_forwards(peer);
                self.lose_asked(peer);
                self.fail_transfer_to(peer);
                self.repeats.forget(peer.as_u64());
                self.raw.report_unreachable(peer.as_u64());
            }
        }
        self.doubt_leader();
    }

    /// Once the leader's process is surely gone, this follower neither ignores votes nor waits out its timeout; what is left
    /// of its jitter still passes, and pre-vote still asks the others.
    fn doubt_leader(&mut self) {
        let follows = self.raw.raft.state == StateRole::Follower;
        let gone = self
            .standing
            .leader
            .is_some_and(|leader| self.contacts.is_gone(leader));
        if follows && gone && self.installing.is_none() {
            let timeout = self.raw.raft.election_timeout();
            let elapsed = &mut self.raw.raft.election_elapsed;
            *elapsed = (*elapsed).max(timeout);
        }
    }

    fn persisted(&mut self, token: PersistToken) {
        let durable = |first: &Awaiting| first.token <= token;
        while self.awaiting.front().is_some_and(durable) {
            let Some(done) = self.awaiting.pop_front() else {
                break;
            };
            self.raw.on_persist_ready(done.number);
            self.send_all(done.held);
        }
        self.installed(token);
    }

    /// Runs the ticks that are due. After a pause of the whole process only a few are made up for, so that messages that
    /// wait outside are seen before anyone is deposed.
    fn timer(&mut self) {
        let timing = *self.config.timing();
        let mut left = timing.heartbeat_ticks;
        while self.next_tick <= self.now && left > 0 {
            if self.installing.is_none() && !self.rest() {
                self.raw.tick();
                election::settle(&mut self.raw, self.config.seed(), self.config.node());
            }
            self.next_tick = self.next_tick.after_us(timing.tick_us);
            left -= 1;
        }
        if self.next_tick <= self.now {
            self.next_tick = self.now.after_us(timing.tick_us);
        }
        let half = timing.election_timeout_us() / 2;
        self.reads.ask_again_after(self.now, half);
        // Whatever loses a round tells so; this is for what nobody thought of. Sooner, and a slow disk would lose each round.
        self.keep_alives
            .ask_again_after(self.now, half.saturating_mul(8));
        if self.now.since_us(self.pulse_at) >= half {
            self.pulse_at = self.now;
            self.persist_commit();
            self.send_pulse();
            self.tend_members();
            self.tell_staged();
        }
        self.give_up_stuck_transfers();
        self.give_up_handovers();
        self.give_up_bounded_reads();
        self.settle_clock();
    }

    /// Log time goes on while somebody leads a majority and can write.
    fn settle_clock(&mut self) {
        let stuck = self.disk == DiskState::Full || self.leads_without_quorum();
        self.clock.go(match self.standing.leader {
            Some(_) if !self.standing.leads => Pace::Following,
            Some(_) if !stuck => Pace::Leading,
            Some(_) | None => Pace::Still,
        });
    }

    pub(crate) fn damaged(&mut self, why: String) {
        for call in self.writes.finish_where(|_| true) {
            self.reply(
                call,
                Err(Error::OutcomeUnknown {
                    why: "this node was found damaged",
                }),
            );
        }
        let mut calls = self.reads.take_all();
        calls.extend(self.keep_alives.take_all());
        for call in calls {
            self.reply(call, Err(Error::Damaged { why: why.clone() }));
        }
        self.forget_asked("this node was found damaged");
        self.health = Health::Damaged { why };
    }

    pub(crate) const fn is_damaged(&self) -> bool {
        matches!(self.health, Health::Damaged { .. })
    }

    pub(crate) fn reply(&mut self, call: CallId, result: Result<Reply, Error>) {
        self.outputs.push_back(Output::Reply { call, result });
    }

    pub(crate) fn send(&mut self, to: NodeId, class: StreamClass, message: PeerMessage) {
        self.outputs.push_back(Output::Stream {
            to,
            class,
            payload: message.into_bytes(),
        });
    }

    pub(crate) const fn next_token(&mut self) -> PersistToken {
        self.token = PersistToken(self.token.0 + 1);
        self.token
    }
}

impl Replica for RaftReplica {
    fn handle(&mut self, now: Now, input: Input) {
        let together = matches!(
            input,
            Input::Request { .. }
                | Input::Cancel { .. }
                | Input::Stream { .. }
                | Input::Persisted { .. }
        );
        if self.unsettled && !together {
            self.settle();
        }
        self.now = self.now.max(now.mono());
        self.clock.advance(self.now);
        self.unsettled = true;
        match input {
            Input::Request { call, request } => self.request(call, request),
            Input::Cancel { call } => {
                let own = (self.config.node(), self.config.boot_nonce());
                self.writes.cancel(call, own);
                self.reads.cancel(call);
                self.keep_alives.cancel(call);
                self.changes.cancel(call);
            }
            // This mode sends none.
            Input::Datagram { .. } => {}
            Input::Stream { from, payload, .. } if !self.is_damaged() => self.stream(from, payload),
            Input::Contact { peer, contact } if !self.is_damaged() => self.contact(peer, contact),
            Input::Persisted { token } if !self.is_damaged() => self.persisted(token),
            Input::Checkpointed { token } if !self.is_damaged() => self.checkpointed(token),
            Input::Timer if self.is_damaged() => {
                self.next_tick = self
                    .now
                    .after_us(self.config.timing().election_timeout_us());
            }
            Input::Timer => self.timer(),
            Input::Disk(state) => {
                self.disk = state;
                self.settle_clock();
            }
            Input::Leave => self.leaving = self.leaving.or(Some(self.now)),
            Input::Stream { .. }
            | Input::Contact { .. }
            | Input::Persisted { .. }
            | Input::Checkpointed { .. } => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        if self.unsettled {
            self.settle();
        }
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(Mono, WakeReason)> {
        Some((self.next_tick, WakeReason::Tick))
    }

    fn view(&self) -> View {
        self.view.clone()
    }

    fn gauges(&self) -> Vec<(&'static str, u64)> {
        self.numbers()
    }
}

/// The state to start from: the checkpoint's, or that of a founder, or of a node that joins.
fn first_state(config: &RaftConfig, pieces: Option<&[Bytes]>) -> Result<StateMachine, OpenError> {
    let state = match pieces {
        Some(pieces) => checkpoint::decode(pieces).map_err(|why| OpenError::Checkpoint {
            why: why.to_string(),
        })?,
        None if config.joins() => StateMachine::joining(config),
        None => StateMachine::founding(config),
    };
    if state.cluster == config.identity().cluster {
        let planted = config.planted();
        return Ok(StateMachine { planted, ..state });
    }
    Err(OpenError::OtherCluster {
        found: state.cluster,
        expected: config.identity().cluster,
    })
}

fn raft_config(config: &RaftConfig, applied: u64) -> raft::Config {
    raft::Config {
        id: config.node().as_u64(),
        election_tick: config.timing().election_ticks as usize,
        heartbeat_tick: config.timing().heartbeat_ticks as usize,
        applied,
        max_size_per_msg: APPEND_BYTES_MAX,
        max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
        check_quorum: !config.planted().is(Plant::ReadIndexSkipped),
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        batch_append: true,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_committed_size_per_ready: APPLY_BYTES_MAX,
        ..raft::Config::default()
    }
}

/// The mode of this crate.
pub(crate) const MODE: Mode = Mode::Strong;
