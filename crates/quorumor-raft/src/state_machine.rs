//! What committed entries mean: a map of keys with its history, leases, clients' sessions, the member records.
//! Deterministic: no clock, no randomness, no unordered map. Equal logs make equal states on every node.
//!
//! Not raft's log, and not who waits for an answer: `ready.rs` applies entries in order and `pending.rs` knows the waiters.

pub(crate) mod digest;
pub(crate) mod leases;
pub(crate) mod operations;
pub(crate) mod outcome;
pub(crate) mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use quorumor_core::limits::{KEY_BYTES_MAX, LEASE_KEYS_MAX, VALUE_BYTES_MAX};
use quorumor_core::{
    Change, ClusterId, DataEpoch, Entry, History, Key, LeaseId, LogTime, NodeId, Operation, Plant,
    Planted, Revision, Txn,
};

use crate::codec::proposal::{Body, Proposal};
use crate::config::RaftConfig;
use crate::membership::{MemberRecord, Roster, Voters};
use leases::Leases;
use operations::Done;
use outcome::{Answer, Applied, Denial, Outcome};
use sessions::{Numbered, Sessions, Verdict};

/// A place in the log with the term of its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

/// The replicated state. A clone is cheap and no later entry changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateMachine {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: DataEpoch,
    pub(crate) entries: OrdMap<Key, Arc<Entry>>,
    pub(crate) revision: Revision,
    pub(crate) members: BTreeMap<NodeId, MemberRecord>,
    pub(crate) voters: Voters,
    pub(crate) roster: Roster,
    /// The last entry applied.
    pub(crate) applied: Mark,
    /// The newest log time that an entry carried.
    pub(crate) log_time: LogTime,
    pub(crate) history: History,
    pub(crate) leases: Leases,
    pub(crate) sessions: Sessions,
    /// The sum of the entries' hashes.
    pub(crate) sum: u64,
    pub(crate) planted: Planted,
}

/// Whether anybody waits for results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Results {
    /// Somebody does.
    Wanted,
    /// Nobody here does.
    Unwanted,
}

/// What a body did.
struct Ran {
    result: Result<Outcome, Denial>,
    changes: Vec<Change>,
    /// The revision of the answer if it was given before.
    answered_at: Option<Revision>,
}

impl From<Result<Outcome, Denial>> for Ran {
    fn from(result: Result<Outcome, Denial>) -> Self {
        Self {
            result,
            changes: Vec::new(),
            answered_at: None,
        }
    }
}

impl Ran {
    fn changing(outcome: Outcome, changes: impl IntoIterator<Item = Change>) -> Self {
        Self {
            result: Ok(outcome),
            changes: changes.into_iter().collect(),
            answered_at: None,
        }
    }
}

impl StateMachine {
    /// The state that every founding node starts from: nothing applied, as if a snapshot at index 1 and term 1 had been
    /// installed, so that a node that joins later gets the configuration with its first snapshot.
    pub(crate) fn founding(config: &RaftConfig) -> Self {
        let founders = config.founders();
        Self {
            cluster: config.identity().cluster,
            epoch: config.identity().epoch,
            entries: OrdMap::new(),
            revision: Revision::ZERO,
            members: founders
                .iter()
                .map(|founder| (founder.node, MemberRecord::founding(founder)))
                .collect(),
            voters: Voters::founding(founders),
            roster: Roster::default(),
            applied: Mark { index: 1, term: 1 },
            log_time: LogTime::default(),
            history: History::default(),
            leases: Leases::default(),
            sessions: Sessions::default(),
            sum: 0,
            planted: config.planted(),
        }
    }

    /// Applies the next entry, with the log time that it carries. A leader's first entry says nothing, and only moves the
    /// place.
    pub(crate) fn apply(
        &mut self,
        at: Mark,
        time: Option<LogTime>,
        proposal: Option<Proposal>,
        results: Results,
    ) -> Applied {
        self.move_to(at, time);
        let mut member = None;
        let ran = match proposal {
            None => Ran::from(Ok(Outcome::Nothing)),
            Some(Proposal {
                body: Body::Member { node, record },
                ..
            }) => {
                member = self.announce(node, record);
                Ok(Outcome::Nothing).into()
            }
            Some(Proposal { id, body }) => self.carry_out(id.node, body, results),
        };
        Applied {
            answer: Answer {
                revision: ran.answered_at.unwrap_or(self.revision),
                result: ran.result,
            },
            changes: ran.changes,
            member,
        }
    }

    /// Moves to the next place in the log.
    pub(crate) fn move_to(&mut self, at: Mark, time: Option<LogTime>) {
        assert_eq!(
            at.index,
            self.applied.index + 1,
            "entries are applied in order"
        );
        self.applied = at;
        if let Some(time) = time.filter(|time| *time > self.log_time) {
            self.log_time = time;
            self.sessions.expire(time);
        }
    }

    fn carry_out(&mut self, writer: NodeId, body: Body, results: Results) -> Ran {
        let index = self.applied.index;
        let numbered = numbered(&body);
        match body {
            Body::Write { operations, .. } => {
                let weighs = most_bytes(&operations);
                self.once(numbered, weighs, results, |state, results| {
                    state.write(writer, operations, results)
                })
            }
            Body::Txn { txn, .. } => {
                let weighs = most_bytes(&txn.success).max(most_bytes(&txn.failure));
                self.once(numbered, weighs, results, |state, results| {
                    state.txn(writer, txn, results)
                })
            }
            Body::Grant { id, ttl_ms, .. } => self.once(numbered, 0, results, |state, _| {
                let granted = state.leases.grant(id, index, ttl_ms, state.log_time);
                granted.map(|id| Outcome::Granted { id, ttl_ms }).into()
            }),
            Body::Revoke { id, .. } => self.once(numbered, 0, results, |state, _| {
                match state.end_lease(writer, id) {
                    Some(change) => Ran::changing(Outcome::Written(Vec::new()), change),
                    None => Err(Denial::LeaseNotFound(id)).into(),
                }
            }),
            Body::KeepAlive { leases } => {
                let now = self.renewed_from();
                let kept = leases
                    .into_iter()
                    .map(|id| (id, self.leases.keep_alive(id, now)))
                    .collect();
                Ok(Outcome::Kept(kept)).into()
            }
            Body::Expire { leases } => {
                Ran::changing(Outcome::Nothing, self.expire(writer, &leases))
            }
            Body::OpenSession { ttl_ms, nonce } => {
                let opened = self.sessions.open(index, nonce, ttl_ms, self.log_time);
                opened
                    .map(|(client_id, ttl_ms)| Outcome::Opened { client_id, ttl_ms })
                    .into()
            }
            Body::CloseSession { client_id } => {
                self.sessions.close(client_id);
                Ok(Outcome::Written(Vec::new())).into()
            }
            Body::Compact { through } => self.compact_history(through).into(),
            Body::AdvanceEpoch { above } => {
                self.epoch = self.epoch.raised(above);
                Ok(Outcome::ClusterChanged).into()
            }
            Body::Tick { .. } | Body::Member { .. } => Ok(Outcome::Nothing).into(),
        }
    }

    /// Carries out a write of a client's session once, however often it comes; without a session, whenever it comes.
    fn once(
        &mut self,
        numbered: Option<Numbered>,
        weighs: usize,
        results: Results,
        run: impl FnOnce(&mut Self, Results) -> Ran,
    ) -> Ran {
        let is_forgotten = self.planted.is(Plant::AppliedTwice);
        let Some(write) = numbered.filter(|_| !is_forgotten) else {
            return run(self, results);
        };
        let (room, room_of_all) = match self.sessions.judge(write, self.log_time) {
            Ok(Verdict::New { room, room_of_all }) => (room, room_of_all),
            Ok(Verdict::Repeated(answer)) => {
                return Ran {
                    result: answer.result.clone(),
                    changes: Vec::new(),
                    answered_at: Some(answer.revision),
                };
            }
            Err(denial) => return Err(denial).into(),
        };
        // An answer with entries in it may outgrow what there is room for, which is known only afterwards. Most can't.
        let least = room.min(room_of_all);
        let before = (weighs > least).then(|| self.clone());
        let ran = run(self, Results::Wanted);
        let answer = Answer {
            revision: self.revision,
            result: ran.result.clone(),
        };
        let bytes = answer.bytes();
        if let Some(before) = before.filter(|_| bytes > least) {
            *self = before;
            let denial = if bytes > quorumor_core::limits::SESSION_ANSWER_BYTES_MAX {
                Denial::AnswerTooLarge(bytes)
            } else if bytes > room_of_all {
                Denial::SessionsBytesMax
            } else {
                Denial::SessionAnswersMax
            };
            return Err(denial).into();
        }
        self.sessions.keep(write, answer);
        ran
    }

    /// From when a lease that is kept alive has its whole time again.
    fn renewed_from(&self) -> LogTime {
        if self.planted.is(Plant::LeaseCutShort) {
            return LogTime::default();
        }
        self.log_time
    }

    fn write(&mut self, writer: NodeId, operations: Vec<Operation>, results: Results) -> Ran {
        match self.run_list(writer, operations, results) {
            Ok(Done { results, change }) => Ran::changing(Outcome::Written(results), change),
            Err(denial) => Err(denial).into(),
        }
    }

    /// Compares with the state before, then the list that they chose.
    fn txn(&mut self, writer: NodeId, txn: Txn, results: Results) -> Ran {
        let succeeded = txn.compares.iter().all(|compare| {
            let entry = self.entries.get(&compare.key);
            compare.holds(entry.map(|entry| &**entry))
        });
        let list = if succeeded { txn.success } else { txn.failure };
        match self.run_list(writer, list, results) {
            Ok(Done { results, change }) => {
                Ran::changing(Outcome::TxnDone { succeeded, results }, change)
            }
            Err(denial) => Err(denial).into(),
        }
    }

    /// Ends those of these leases that were not renewed before this place in the log, as many as one step may have keys of.
    /// The others are due still, and the leader names them again.
    fn expire(&mut self, writer: NodeId, leases: &[LeaseId]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut keys = 0;
        for id in leases {
            if !self.leases.is_due(*id, self.log_time) {
                continue;
            }
            let lease = self.leases.table().get(id);
            keys += lease.map_or(0, |lease| lease.keys.len());
            if keys > LEASE_KEYS_MAX && !changes.is_empty() {
                break;
            }
            changes.extend(self.end_lease(writer, *id).flatten());
        }
        changes
    }

    fn compact_history(&mut self, through: Revision) -> Result<Outcome, Denial> {
        let oldest = self.history.oldest();
        if through > self.revision {
            return Err(Denial::FutureRevision {
                asked: through,
                current: self.revision,
            });
        }
        if through < oldest {
            return Err(Denial::HistoryGone { oldest });
        }
        self.history.compact(through);
        Ok(Outcome::ClusterChanged)
    }

    /// A node's word about itself. A record that names another data directory stands: an id is never reused.
    fn announce(&mut self, node: NodeId, record: MemberRecord) -> Option<NodeId> {
        let known = self.members.get(&node)?;
        let other_store = known.store.is_some() && known.store != record.store;
        if other_store || *known == record {
            return None;
        }
        self.members.insert(node, record);
        Some(node)
    }
}

/// A body's number, if it has one, and what it says.
fn numbered(body: &Body) -> Option<Numbered> {
    match body {
        Body::Write { client, .. }
        | Body::Txn { client, .. }
        | Body::Grant { client, .. }
        | Body::Revoke { client, .. } => client.map(|client| Numbered {
            client,
            fingerprint: body.fingerprint(),
        }),
        Body::KeepAlive { .. }
        | Body::Expire { .. }
        | Body::OpenSession { .. }
        | Body::CloseSession { .. }
        | Body::Compact { .. }
        | Body::AdvanceEpoch { .. }
        | Body::Tick { .. }
        | Body::Member { .. } => None,
    }
}

/// The most that the answer to a list of operations may weigh, whatever the entries are; 0 if no entry can be in it.
fn most_bytes(operations: &[Operation]) -> usize {
    let entries = operations.iter().filter(|operation| match operation {
        Operation::Put { .. } | Operation::DeleteRange { .. } => false,
        Operation::Delete { .. } | Operation::CompareAndSet { .. } | Operation::Get { .. } => true,
    });
    match entries.count() {
        0 => 0,
        entries => operations.len() * RESULT_BYTES + entries * ENTRY_BYTES_MOST,
    }
}

/// What a result weighs without its entry, with a share of its answer.
const RESULT_BYTES: usize = 128;

/// What no entry in a result outweighs: the longest key, the longest value, and the version.
const ENTRY_BYTES_MOST: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 256;

#[cfg(test)]
mod tests;
