//! Reading a state back: whole and the same, or refused.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use prost::Message as _;
use quorumor_core::limits::VOTERS_MAX;
use quorumor_core::{
    ClientId, ClusterId, DataEpoch, History, Lease, LeaseId, LogTime, NodeId, Planted, Revision,
};

use super::events::Events;
use super::{FORMAT, WireHeader, WirePiece, WireSession};
use crate::codec::CodecError;
use crate::codec::answer::answer_of;
use crate::codec::operation::entry_of;
use crate::codec::proposal::WireMember;
use crate::membership::{Roster, Voters};
use crate::state_machine::leases::Leases;
use crate::state_machine::sessions::{Kept, Session, Sessions};
use crate::state_machine::{Mark, StateMachine};

/// A state that is being read.
struct Reading {
    state: StateMachine,
    format: u32,
    digest: u64,
    events: Events,
    /// The session that may still get answers.
    session: Option<(ClientId, Session)>,
    answers: u64,
}

/// Reads pieces as they come, so that no large state is ever read at once.
#[derive(Default)]
pub(crate) struct Decoder {
    reading: Option<Reading>,
    last: Option<[u64; 3]>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.reading.as_ref();
        f.debug_struct("Decoder")
            .field(
                "entries",
                &entries.map(|reading| reading.state.entries.len()),
            )
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Reads the next piece.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<(), CodecError> {
        let mut piece = WirePiece::decode(bytes)?;
        if self.last.is_some() {
            return Err(CodecError::Invalid("a piece after the last"));
        }
        if let Some(header) = piece.header.take() {
            if self.reading.is_some() {
                return Err(CodecError::Invalid("a second header"));
            }
            self.reading = Some(Reading::begin(header)?);
        }
        let reading = self
            .reading
            .as_mut()
            .ok_or(CodecError::Invalid("the first piece has no header"))?;
        if let Some(entries) = piece.entries_total {
            self.last = Some([entries, piece.answers_total, piece.history_total]);
        }
        reading.take(piece)
    }

    /// The state, if its pieces were whole.
    pub(crate) fn finish(self) -> Result<StateMachine, CodecError> {
        let reading = self
            .reading
            .ok_or(CodecError::Invalid("there are no pieces"))?;
        reading.finish(self.last.ok_or(CodecError::Invalid("pieces are missing"))?)
    }
}

/// The state that these pieces make, if they are whole.
pub(crate) fn decode(pieces: &[Bytes]) -> Result<StateMachine, CodecError> {
    let mut decoder = Decoder::default();
    for bytes in pieces {
        decoder.push(bytes.clone())?;
    }
    decoder.finish()
}

impl Reading {
    fn begin(header: WireHeader) -> Result<Self, CodecError> {
        let format = header.format;
        if format > FORMAT {
            return Err(CodecError::Invalid(
                "a format of a later version: this node must be upgraded to read it",
            ));
        }
        if format == 0 {
            return Err(CodecError::Invalid("a format that there never was"));
        }
        let digest = header.digest;
        let oldest = Revision::new(if format == 1 {
            header.revision
        } else {
            header.oldest
        });
        Ok(Self {
            state: state_of(header)?,
            format,
            digest,
            events: Events::starting_at(oldest),
            session: None,
            answers: 0,
        })
    }

    fn take(&mut self, piece: WirePiece) -> Result<(), CodecError> {
        for lease in piece.leases {
            let id = LeaseId::new(lease.id);
            if lease.id == 0 || self.state.leases.contains(id) {
                return Err(CodecError::Invalid("a lease that can't be"));
            }
            self.state.leases.insert(Lease {
                id,
                ttl_ms: lease.ttl_ms,
                expires_at: LogTime(lease.expires_at),
                owner: None,
                keys: imbl::OrdSet::new(),
            });
        }
        for entry in &piece.entries {
            if !self.state.restore(Arc::new(entry_of(entry)?)) {
                return Err(CodecError::Invalid(
                    "an entry that comes twice, or whose lease is gone",
                ));
            }
        }
        for session in piece.sessions {
            self.take_session(session)?;
        }
        for event in piece.events {
            self.events.take(&self.state, event)?;
        }
        Ok(())
    }

    fn take_session(&mut self, wire: WireSession) -> Result<(), CodecError> {
        let client = ClientId::new(wire.client_id);
        let Some(answer) = wire.answer else {
            self.close_session()?;
            let session = Session {
                ttl_ms: wire.ttl_ms,
                expires_at: LogTime(wire.expires_at),
                acked_through: wire.acked_through,
                ..Session::default()
            };
            self.session = Some((client, session));
            return Ok(());
        };
        let kept = Kept {
            fingerprint: wire.fingerprint,
            answer: Arc::new(answer_of(answer)?),
        };
        let open = self.session.as_mut().filter(|(open, _)| *open == client);
        let (_, session) = open.ok_or(CodecError::Invalid("an answer without its session"))?;
        session.answers.insert(wire.seq, kept);
        self.answers += 1;
        Ok(())
    }

    fn close_session(&mut self) -> Result<(), CodecError> {
        if let Some((client, session)) = self.session.take() {
            if self.state.sessions.table().contains_key(&client) {
                return Err(CodecError::Invalid("a session that comes twice"));
            }
            self.state.sessions.insert(client, session);
        }
        Ok(())
    }

    fn finish(
        mut self,
        [entries, answers, revisions]: [u64; 3],
    ) -> Result<StateMachine, CodecError> {
        self.close_session()?;
        self.state.history = self.events.finish()?;
        let whole = entries == self.state.entries.len() as u64
            && answers == self.answers
            && revisions == self.state.history.len() as u64;
        if !whole {
            return Err(CodecError::Invalid("pieces are missing"));
        }
        if self.format > 1 && self.state.digest() != self.digest {
            return Err(CodecError::Invalid(
                "the state has another digest than when it was written",
            ));
        }
        Ok(self.state)
    }
}

fn state_of(header: WireHeader) -> Result<StateMachine, CodecError> {
    if !(1..u64::MAX / 4).contains(&header.index) || !(1..u64::MAX / 4).contains(&header.term) {
        return Err(CodecError::Invalid("an index or term out of range"));
    }
    if header.oldest > header.revision {
        return Err(CodecError::Invalid("a history that begins after its end"));
    }
    Ok(StateMachine {
        cluster: ClusterId::new(header.cluster),
        epoch: DataEpoch::new(header.epoch),
        entries: OrdMap::new(),
        revision: Revision::new(header.revision),
        members: header
            .members
            .into_iter()
            .map(WireMember::into_record)
            .collect::<Result<_, _>>()?,
        voters: voters_of(Voters {
            voters: header.voters,
            learners: header.learners,
            outgoing: header.outgoing,
        })?,
        roster: Roster {
            promoting: nodes(&header.promoting)?,
            removed: nodes(&header.removed)?,
        },
        applied: Mark {
            index: header.index,
            term: header.term,
        },
        log_time: LogTime(header.log_time),
        history: History::default(),
        leases: Leases::default(),
        sessions: Sessions::default(),
        sum: 0,
        planted: Planted::default(),
    })
}

fn nodes(numbers: &[u64]) -> Result<BTreeSet<NodeId>, CodecError> {
    let nodes = numbers.iter().map(|number| NodeId::try_from(*number));
    Ok(nodes.collect::<Result<_, _>>()?)
}

/// A configuration that raft can restore: it asserts on anything else.
fn voters_of(mut voters: Voters) -> Result<Voters, CodecError> {
    let halves = [&voters.voters, &voters.outgoing];
    let sound = !voters.voters.is_empty()
        && halves.iter().all(|half| {
            half.len() <= VOTERS_MAX && are_distinct(half.iter().chain(&voters.learners))
        });
    if !sound {
        return Err(CodecError::Invalid("a configuration that is none"));
    }
    for ids in [
        &mut voters.voters,
        &mut voters.learners,
        &mut voters.outgoing,
    ] {
        ids.sort_unstable();
    }
    Ok(voters)
}

fn are_distinct<'a>(ids: impl Iterator<Item = &'a u64>) -> bool {
    let mut seen = BTreeSet::from([0]);
    ids.into_iter().all(|id| seen.insert(*id))
}
