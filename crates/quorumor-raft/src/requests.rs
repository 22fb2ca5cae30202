//! Requests that are more than operations: leases and sessions, as they come in and as they are answered.
//!
//! They are checked here, become entries in `forward.rs`, and mean something in `state_machine.rs`.

use quorumor_core::limits::{
    BATCH_OPERATIONS_MAX, DATA_EPOCH_MAX, LEASE_TTL_MS_MAX, SESSION_TTL_MS_MAX, TXN_OPERATIONS_MAX,
};
use quorumor_core::{
    CallId, DiskState, Error, LeaseAction, LeaseId, Mode, NodeId, Plant, SessionAction, StreamClass,
};

use crate::codec::message::{Forward, PeerMessage};
use crate::codec::proposal::{Body, DigestAt, Proposal};
use crate::keep_alives::KEEP_ALIVES_MAX;
use crate::pending::Queued;
use crate::replica::RaftReplica;
use crate::state_machine::Mark;
use crate::state_machine::outcome::{Answer, Outcome};

impl RaftReplica {
    /// A client's request about a lease.
    pub(crate) fn lease(&mut self, call: CallId, action: LeaseAction) -> Result<(), Error> {
        match action {
            LeaseAction::Grant { id, ttl_ms, client } => {
                if id == Some(LeaseId::ZERO) {
                    return Err(Error::invalid("lease_id", "a lease's id is never 0"));
                }
                let ttl_ms = self.ttl("lease_ttl_ms_max", ttl_ms, LEASE_TTL_MS_MAX)?;
                self.propose_for(call, Body::Grant { id, ttl_ms, client })
            }
            LeaseAction::Revoke { id, client } => {
                self.propose_for(call, Body::Revoke { id, client })
            }
            LeaseAction::KeepAlive { id } => self.keep_alive(call, id),
            LeaseAction::Look { .. } => Err(Error::GuaranteeUnavailable {
                mode: Mode::Strong,
                asked: "a lease's time as a reply",
                best_available: "the published view",
            }),
        }
    }

    /// A client's request about a session.
    pub(crate) fn session(&mut self, call: CallId, action: SessionAction) -> Result<(), Error> {
        match action {
            SessionAction::Open { ttl_ms } => {
                let ttl_ms = self.ttl("session_ttl_ms_max", ttl_ms, SESSION_TTL_MS_MAX)?;
                let nonce = self.session_nonce(call);
                self.propose_for(call, Body::OpenSession { ttl_ms, nonce })
            }
            SessionAction::Close { client_id } => {
                self.propose_for(call, Body::CloseSession { client_id })
            }
        }
    }

    /// Bits for a session's id that nobody guesses who doesn't know this start's secrets, not even from ids seen before.
    fn session_nonce(&self, call: CallId) -> u32 {
        let mut secret = blake3::Hasher::new_derive_key("quorumor client session id");
        for number in [self.config.seed(), self.config.boot_nonce(), call.as_u64()] {
            secret.update(&number.to_be_bytes());
        }
        let mut nonce = [0; 4];
        secret.finalize_xof().fill(&mut nonce);
        u32::from_be_bytes(nonce)
    }

    /// A TTL, raised to the cluster's minimum.
    fn ttl(&self, limit: &'static str, ttl_ms: u64, max: u64) -> Result<u64, Error> {
        if ttl_ms > max {
            let words = |ms| usize::try_from(ms).unwrap_or(usize::MAX);
            return Err(Error::too_large(limit, words(max), words(ttl_ms)));
        }
        Ok(ttl_ms.max(self.config.ttl_ms_min()).min(max))
    }

    fn keep_alive(&mut self, call: CallId, lease: LeaseId) -> Result<(), Error> {
        if self.keep_alives.is_full() {
            return Err(Error::Overloaded {
                queue: "pending_keep_alives_max",
                retry_after_ms: 100,
            });
        }
        if self.standing.leads && self.disk == DiskState::Full {
            return Err(Error::DiskFull);
        }
        if self.is_cut_off() {
            return Err(self.unavailable());
        }
        self.keep_alives.wait(call, lease);
        Ok(())
    }

    /// Begins a round of keep-alives, before anything else that waits; says whether there was one to begin.
    pub(crate) fn send_keep_alives(&mut self) -> bool {
        if !self.keep_alives.is_ready(self.now) {
            return false;
        }
        let Some(leader) = self.standing.leader else {
            return false;
        };
        let id = self.next_write_id();
        let leases = self.keep_alives.begin(id.counter, self.now);
        let body = Body::KeepAlive { leases };
        let data = Proposal { id, body }.encode();
        if self.standing.leads {
            self.writes.enqueue_first(Queued { id, data });
        } else {
            let forward = Forward {
                term: self.standing.term,
                proposal: data,
            };
            self.send(leader, StreamClass::Control, PeerMessage::Forward(forward));
        }
        true
    }

    /// The round under way wasn't proposed: it is asked again a moment later, by when somebody else may lead.
    pub(crate) fn keep_alives_refused(&mut self) {
        let pause = self.config.timing().heartbeat_interval_us();
        self.keep_alives.ask_again_at(self.now.after_us(pause));
    }

    /// An entry of this node was applied: whoever waits is answered.
    pub(crate) fn answer_own(&mut self, counter: u64, answer: Answer) {
        self.upkeep.applied(counter);
        if let Some(call) = self.writes.finish(counter) {
            let reply = if self.denies(counter) {
                Err(Error::NotLeader { hint: None })
            } else {
                answer.into_reply()
            };
            self.reply(call, reply);
        } else if let Ok(Outcome::Kept(kept)) = answer.result {
            for (call, result) in self.keep_alives.finish(counter, &kept) {
                self.reply(call, result);
            }
        }
    }

    const fn denies(&self, counter: u64) -> bool {
        self.config.planted().is(Plant::RefusalApplied) && counter.is_multiple_of(8)
    }

    /// Notes an applied entry; a tick's place is one where digests are compared.
    pub(crate) fn watch_digests(&mut self, at: Mark, tick: Option<Option<DigestAt>>) {
        match tick {
            Some(leaders) => {
                let own = DigestAt {
                    index: at.index,
                    digest: self.state.digest(),
                };
                self.digests.tick(own, leaders);
            }
            None => self.digests.changed(),
        }
    }
}

impl Body {
    /// Whether it goes before writes, and is refused by no load of them.
    pub(crate) const fn is_urgent(&self) -> bool {
        match self {
            Self::Revoke { .. }
            | Self::KeepAlive { .. }
            | Self::Expire { .. }
            | Self::Compact { .. }
            | Self::AdvanceEpoch { .. }
            | Self::CloseSession { .. }
            | Self::Tick { .. } => true,
            Self::Write { .. }
            | Self::Txn { .. }
            | Self::Grant { .. }
            | Self::OpenSession { .. }
            | Self::Member { .. } => false,
        }
    }

    /// Whether this peer may have it proposed, and it is within the limits.
    pub(crate) fn is_sound_from(&self, from: NodeId) -> bool {
        match self {
            Self::Write { operations, .. } => {
                (1..=BATCH_OPERATIONS_MAX).contains(&operations.len())
            }
            Self::Txn { txn, .. } => {
                let lengths = [txn.compares.len(), txn.success.len(), txn.failure.len()];
                lengths.iter().all(|length| *length <= TXN_OPERATIONS_MAX)
            }
            Self::Grant { ttl_ms, .. } => *ttl_ms <= LEASE_TTL_MS_MAX,
            Self::OpenSession { ttl_ms, .. } => *ttl_ms <= SESSION_TTL_MS_MAX,
            Self::KeepAlive { leases } => leases.len() <= KEEP_ALIVES_MAX,
            Self::Revoke { .. } | Self::CloseSession { .. } | Self::Compact { .. } => true,
            Self::AdvanceEpoch { above } => {
                above.is_none_or(|above| above.as_u64() < DATA_EPOCH_MAX)
            }
            Self::Member { node, .. } => *node == from,
            // A leader's own.
            Self::Expire { .. } | Self::Tick { .. } => false,
        }
    }
}
