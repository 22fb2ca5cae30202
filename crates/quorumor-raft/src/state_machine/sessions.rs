//! Clients' sessions (Raft dissertation, 6.3): which of a client's writes were applied, and what was answered. Part of the
//! replicated state; expiry counts in log time and is decided while entries are applied.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use quorumor_core::limits::{
    SESSION_ANSWER_BYTES_MAX, SESSION_ANSWERS_MAX, SESSION_LEAP_MAX, SESSION_TTL_MS_MAX,
    SESSIONS_BYTES_MAX, SESSIONS_MAX,
};
use quorumor_core::{ClientId, ClientSeq, LogTime};

use super::outcome::{Answer, Denial};
use crate::hash::mix;

/// One client's session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) ttl_ms: u64,
    pub(crate) expires_at: LogTime,
    pub(crate) acked_through: u64,
    /// Answers to numbers above that.
    pub(crate) answers: OrdMap<u64, Kept>,
    /// What they weigh.
    pub(crate) bytes: usize,
}

/// The answer to a numbered write, and which write that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What the write said ([`Body::fingerprint`](crate::codec::proposal::Body::fingerprint)); 0 if a checkpoint didn't tell.
    pub(crate) fingerprint: u64,
    pub(crate) answer: Arc<Answer>,
}

/// A write with a number, and what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbered {
    pub(crate) client: ClientSeq,
    pub(crate) fingerprint: u64,
}

/// All sessions, and the order in which they expire. A clone is cheap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    table: OrdMap<ClientId, Arc<Session>>,
    by_expiry: OrdSet<(LogTime, ClientId)>,
    sum: u64,
    /// What all sessions' answers weigh.
    bytes: usize,
}

/// What a session says about a write.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It comes for the first time. Its answer may weigh so much, for this session's sake and for that of all together.
    New { room: usize, room_of_all: usize },
    /// It was applied; this was the answer.
    Repeated(Arc<Answer>),
}

impl Sessions {
    /// The sessions by id.
    pub(crate) const fn table(&self) -> &OrdMap<ClientId, Arc<Session>> {
        &self.table
    }

    /// The sum of the sessions' hashes.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Opens a session under an id of its own; gives the id and the TTL.
    pub(crate) fn open(
        &mut self,
        index: u64,
        nonce: u32,
        ttl_ms: u64,
        now: LogTime,
    ) -> Result<(ClientId, u64), Denial> {
        if self.table.len() >= SESSIONS_MAX {
            return Err(Denial::SessionsMax);
        }
        let client = self.free_id(index, nonce);
        let ttl_ms = ttl_ms.min(SESSION_TTL_MS_MAX);
        self.insert(
            client,
            Session {
                ttl_ms,
                expires_at: now.after_ms(ttl_ms),
                ..Session::default()
            },
        );
        Ok((client, ttl_ms))
    }

    /// An id that no stranger counts up to, and that no session near it in the log was given: below, the place in the log,
    /// which comes again after 2^32 entries; above, 32 bits that only the node that took the request could know. Nobody
    /// guesses one of a live session in less than billions of tries, each of which is an entry and a refusal. That an id ever
    /// comes again takes the same bits at places a multiple of 2^32 apart, and means something only to a client that still
    /// retries under a session that ended so long ago.
    fn free_id(&self, index: u64, nonce: u32) -> ClientId {
        let mut id = u64::from(nonce) << 32 | (index & u64::from(u32::MAX));
        while id == 0 || self.table.contains_key(&ClientId::new(id)) {
            id = mix(&[id, index]);
        }
        ClientId::new(id)
    }

    /// Puts a session in its place, in the table and in the order.
    pub(crate) fn insert(&mut self, client: ClientId, mut session: Session) {
        session.bytes = session
            .answers
            .values()
            .map(|kept| kept.answer.bytes())
            .sum();
        self.bytes += session.bytes;
        self.sum = self.sum.wrapping_add(hash(client, &session));
        self.by_expiry.insert((session.expires_at, client));
        self.table.insert(client, Arc::new(session));
    }

    /// Ends a session.
    pub(crate) fn close(&mut self, client: ClientId) {
        if let Some(session) = self.table.remove(&client) {
            self.by_expiry.remove(&(session.expires_at, client));
            self.bytes -= session.bytes;
            self.sum = self.sum.wrapping_sub(hash(client, &session));
        }
    }

    /// Ends the sessions whose time has come.
    pub(crate) fn expire(&mut self, now: LogTime) {
        while let Some((at, client)) = self.by_expiry.get_min().copied() {
            if at > now {
                break;
            }
            self.close(client);
        }
    }

    /// Judges a write of a client, and takes note that the client lives and of what it has seen. A write whose number can't be
    /// its own leaves the session as it is.
    pub(crate) fn judge(&mut self, write: Numbered, now: LogTime) -> Result<Verdict, Denial> {
        let client = write.client.client_id;
        let session = self.table.get(&client);
        session.map_or(Ok(()), |session| session.admits(write))?;
        let write = write.client;
        let before = self.bytes;
        self.change(client, |session| {
            let others = before - session.bytes;
            session.acknowledge(write.acked_through);
            session.expires_at = session.expires_at.max(now.after_ms(session.ttl_ms));
            if write.seq <= session.acked_through {
                return Err(Denial::SessionAcknowledged(client));
            }
            if let Some(kept) = session.answers.get(&write.seq) {
                return Ok(Verdict::Repeated(Arc::clone(&kept.answer)));
            }
            let full = session.answers.len() >= SESSION_ANSWERS_MAX
                || session.bytes >= SESSION_ANSWER_BYTES_MAX;
            if full {
                return Err(Denial::SessionAnswersMax);
            }
            let room_of_all = SESSIONS_BYTES_MAX.saturating_sub(others + session.bytes);
            if room_of_all == 0 {
                return Err(Denial::SessionsBytesMax);
            }
            Ok(Verdict::New {
                room: SESSION_ANSWER_BYTES_MAX - session.bytes,
                room_of_all,
            })
        })
        .unwrap_or(Err(Denial::SessionGone(client)))
    }

    /// Keeps the answer to a write that was new.
    pub(crate) fn keep(&mut self, write: Numbered, answer: Answer) {
        self.change(write.client.client_id, |session| {
            session.bytes += answer.bytes();
            let kept = Kept {
                fingerprint: write.fingerprint,
                answer: Arc::new(answer),
            };
            session.answers.insert(write.client.seq, kept);
        });
    }

    /// Changes one session, with the order and the sum.
    fn change<T>(&mut self, client: ClientId, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let session = Arc::make_mut(self.table.get_mut(&client)?);
        let (old_sum, old_at) = (hash(client, session), session.expires_at);
        let old_bytes = session.bytes;
        let done = act(session);
        let (new_sum, new_at) = (hash(client, session), session.expires_at);
        self.sum = self.sum.wrapping_sub(old_sum).wrapping_add(new_sum);
        self.bytes = self.bytes - old_bytes + session.bytes;
        if new_at != old_at {
            self.by_expiry.remove(&(old_at, client));
            self.by_expiry.insert((new_at, client));
        }
        Some(done)
    }
}

impl Session {
    /// Whether the number can be this write's: another write hasn't it, it is above what the write itself acknowledges, and
    /// near enough to the numbers before that the session isn't spent by it.
    fn admits(&self, write: Numbered) -> Result<(), Denial> {
        let ClientSeq {
            client_id: client,
            seq,
            acked_through,
        } = write.client;
        let newest = self.answers.get_max().map_or(0, |(newest, _)| *newest);
        let reach = newest
            .max(self.acked_through)
            .saturating_add(SESSION_LEAP_MAX);
        if acked_through >= seq || seq > reach {
            return Err(Denial::SequenceLeap { seq });
        }
        match self.answers.get(&seq) {
            Some(kept) if kept.fingerprint != 0 && kept.fingerprint != write.fingerprint => {
                Err(Denial::SequenceReused { client, seq })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn acknowledge(&mut self, through: u64) {
        self.acked_through = self.acked_through.max(through);
        while let Some((seq, kept)) = self.answers.get_min().cloned() {
            if seq > self.acked_through {
                break;
            }
            self.answers.remove(&seq);
            self.bytes = self.bytes.saturating_sub(kept.answer.bytes());
        }
    }
}

fn hash(client: ClientId, session: &Session) -> u64 {
    mix(&[
        2,
        client.as_u64(),
        session.ttl_ms,
        session.expires_at.0,
        session.acked_through,
        session.answers.len() as u64,
    ])
}
