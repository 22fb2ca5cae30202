//! What callers ask: writes, batches and read barriers, and the wait for what their session tokens demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorumor_core::limits::{PENDING_READS_MAX, PENDING_WRITES_MAX};
use quorumor_core::{
    CallId, ClusterAction, Command, DataEpoch, Error, Key, LeaseAction, Level, LogId, Mode, NodeId,
    Operation, Plant, Position, Reply, Request, Seq, VersionVector,
};

use crate::event::Event;
use crate::register::Register;
use crate::replica::GossipReplica;
use crate::store::Store;
use crate::system_key::SystemKey;

/// Bytes of writes that may wait for the disk.
const OPEN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of callers that may wait for writes of other nodes, or for the own log.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a waiting caller takes beside what it sent.
const WAITING_OVERHEAD_BYTES: usize = 256;
/// What a row of a vector takes in memory.
const ROW_BYTES: usize = 32;

type Row = (NodeId, LogId);

/// Callers that wait for writes of other nodes, and keys with own writes under way.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: BTreeMap<CallId, Waiting>,
    waiting_bytes: usize,
    /// Each waiting call under one row that it still lacks.
    by_row: BTreeMap<Row, BTreeSet<(Seq, CallId)>>,
    ready: BTreeSet<CallId>,
    /// What the keys will be once the own writes under way are durable.
    pub(crate) overlays: BTreeMap<Key, Overlay>,
}

#[derive(Debug)]
struct Waiting {
    needed: VersionVector,
    ask: Ask,
    bytes: usize,
    /// The row that it waits for; `None` if it lacks nothing.
    under: Option<(Row, Seq)>,
}

/// What of the commands this mode carries out.
#[derive(Debug)]
pub(crate) enum Ask {
    Write {
        operations: Vec<Operation>,
        acks: u32,
    },
    Lease(LeaseAction),
    Barrier,
    Sampled {
        members: u32,
    },
    Members,
    AdvanceEpoch {
        above: Option<DataEpoch>,
    },
}

#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) register: Register,
    pub(crate) open: usize,
}

impl Requests {
    /// Rows that some caller waits for.
    pub(crate) fn wanted_rows(&self) -> Vec<Row> {
        self.by_row.keys().copied().collect()
    }

    /// A peer's write reached a key with own writes under way.
    pub(crate) fn join_overlay(&mut self, event: &Arc<Event>) {
        if let Some(overlay) = self.overlays.get_mut(&event.key) {
            overlay.register.merge_event(event);
        }
    }

    /// A whole state was merged.
    pub(crate) fn join_overlays(&mut self, store: &Store) {
        for (key, overlay) in &mut self.overlays {
            if let Some(register) = store.register(key) {
                let known = store.known().vector();
                overlay
                    .register
                    .join(register, &VersionVector::new(), known);
            }
        }
    }

    /// One own write of a key is durable.
    pub(crate) fn end_overlay(&mut self, key: &Key) {
        if let Some(overlay) = self.overlays.get_mut(key) {
            overlay.open -= 1;
            if overlay.open == 0 {
                self.overlays.remove(key);
            }
        }
    }

    pub(crate) fn clear_overlays(&mut self) {
        self.overlays.clear();
    }

    /// Rows rose: whoever waited for them may be ready.
    pub(crate) fn note_raised(&mut self, raised: &[Row], known: &VersionVector) {
        if self.waiting.is_empty() {
            return;
        }
        for row in raised {
            let Some(calls) = self.by_row.get_mut(row) else {
                continue;
            };
            let have = known.seq(row.0, row.1);
            let later = calls.split_off(&(have.next(), CallId::ZERO));
            let reached = std::mem::replace(calls, later);
            if calls.is_empty() {
                self.by_row.remove(row);
            }
            for (_, call) in reached {
                self.place(call, known);
            }
        }
    }

    /// Puts a waiting call under a row that it lacks, or among the ready ones.
    fn place(&mut self, call: CallId, known: &VersionVector) {
        let Some(waiting) = self.waiting.get_mut(&call) else {
            return;
        };
        match first_lacking(&waiting.needed, known) {
            Some((row, seq)) => {
                waiting.under = Some((row, seq));
                self.by_row.entry(row).or_default().insert((seq, call));
            }
            None => {
                waiting.under = None;
                self.ready.insert(call);
            }
        }
    }

    fn remove(&mut self, call: CallId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&call)?;
        self.waiting_bytes -= waiting.bytes;
        match waiting.under {
            None => {
                self.ready.remove(&call);
            }
            Some((row, seq)) => {
                if let Some(calls) = self.by_row.get_mut(&row) {
                    calls.remove(&(seq, call));
                    if calls.is_empty() {
                        self.by_row.remove(&row);
                    }
                }
            }
        }
        Some(waiting)
    }
}

fn first_lacking(needed: &VersionVector, known: &VersionVector) -> Option<(Row, Seq)> {
    needed
        .rows()
        .find(|(writer, log_id, seq)| known.seq(*writer, *log_id) < *seq)
        .map(|(writer, log_id, seq)| ((writer, log_id), seq))
}

impl GossipReplica {
    pub(crate) fn handle_request(&mut self, call: CallId, request: Request) {
        match self.admit(request) {
            Err(error) => self.reply(call, Err(error)),
            Ok((needed, ask))
                if self.store.known().vector().covers(&needed) && !self.must_wait(&ask) =>
            {
                self.execute(call, ask);
            }
            Ok((needed, ask)) => self.wait(call, needed, ask),
        }
    }

    /// Nobody wants the answer any more. Nothing of a call that still waits was done, and nothing will be.
    pub(crate) fn cancel(&mut self, call: CallId) {
        if self.requests.remove(call).is_none() {
            self.durability.cancel(call);
            self.forwards.cancel(call);
            self.acks.cancel(call);
            self.samples.cancel(call);
        }
    }

    pub(crate) fn reply(&mut self, call: CallId, result: Result<Reply, Error>) {
        match self.remote_calls.end(call) {
            Some(remote) => self.answer_remote(remote, result),
            None => self.replies.push((call, result)),
        }
    }

    /// Refuses what this mode or this moment can't do; else what the state must cover first, and what to do then.
    fn admit(&self, request: Request) -> Result<(VersionVector, Ask), Error> {
        if self.me.has_left {
            return Err(Error::Stopping);
        }
        let mut needed = match &request.after {
            None => VersionVector::new(),
            Some(Position::Eventual(_)) if self.config.planted.is(Plant::TokenIgnored) => {
                VersionVector::new()
            }
            Some(Position::Eventual(vector)) => vector.clone(),
            Some(Position::Strong(_)) => {
                return Err(Error::invalid(
                    "token",
                    "the session token is of strong mode",
                ));
            }
        };
        let ask = match request.command {
            Command::ReadBarrier {
                level: Level::Local,
                ..
            } => Ask::Barrier,
            Command::ReadBarrier {
                level: Level::Sampled,
                bound,
            } => Ask::Sampled {
                members: bound.members,
            },
            Command::ReadBarrier {
                level: level @ (Level::Bounded | Level::Linearizable),
                ..
            } => {
                return Err(Error::level_unavailable(Mode::Eventual, level));
            }
            Command::Txn { .. } => return Err(unavailable("transaction", "batch")),
            Command::Lease(action) => Ask::Lease(action),
            Command::Session(_) => return Err(unavailable("exactly_once", "idempotent puts")),
            Command::Cluster(ClusterAction::AdvanceEpoch { above }) => {
                self.admit_write()?;
                Ask::AdvanceEpoch { above }
            }
            Command::Cluster(action) => return Err(no_cluster_action(&action)),
            Command::Backup => return Err(unavailable("backup", "list")),
            Command::Members => Ask::Members,
            Command::Write {
                operations, acks, ..
            } => {
                for operation in &operations {
                    admit_operation(operation, &mut needed)?;
                }
                self.admit_write()?;
                self.check_acks(acks)?;
                Ask::Write { operations, acks }
            }
        };
        Ok((needed, ask))
    }

    pub(crate) fn admit_write(&self) -> Result<(), Error> {
        if self.disk_full {
            return Err(Error::DiskFull);
        }
        if let Some(other) = self
            .me
            .double
            .filter(|other| self.config.peer_address < *other)
        {
            let why = format!("another node, at {other}, has this node's id");
            return Err(Error::Damaged { why });
        }
        if self.durability.open_count() >= PENDING_WRITES_MAX
            || self.durability.queued_bytes() >= OPEN_BYTES_MAX
        {
            return Err(overloaded("pending_writes"));
        }
        Ok(())
    }

    pub(crate) fn wait(&mut self, call: CallId, needed: VersionVector, ask: Ask) {
        let bytes = ask_bytes(&ask) + needed.len() * ROW_BYTES;
        if self.requests.waiting.len() >= PENDING_READS_MAX
            || self.requests.waiting_bytes + bytes > WAITING_BYTES_MAX
        {
            self.reply(call, Err(overloaded("pending_reads")));
            return;
        }
        self.requests.waiting_bytes += bytes;
        let known = self.store.known().vector().clone();
        let lacking = first_lacking(&needed, &known);
        let waiting = Waiting {
            needed,
            ask,
            bytes,
            under: None,
        };
        self.requests.waiting.insert(call, waiting);
        self.requests.place(call, &known);
        if let Some((row, _)) = lacking {
            self.fetch(row);
        }
    }

    /// Whether the own log can't take this yet.
    pub(crate) const fn must_wait(&self, ask: &Ask) -> bool {
        self.me.log_doubted
            && matches!(
                ask,
                Ask::Write { .. } | Ask::Lease(_) | Ask::AdvanceEpoch { .. }
            )
    }

    /// Carries out what waited and can go on now.
    pub(crate) fn wake_waiting(&mut self) {
        for call in std::mem::take(&mut self.requests.ready) {
            let Some(waiting) = self.requests.waiting.get(&call) else {
                continue;
            };
            if self.must_wait(&waiting.ask) {
                self.requests.ready.insert(call);
                continue;
            }
            let Some(waiting) = self.requests.remove(call) else {
                continue;
            };
            let is_write = matches!(waiting.ask, Ask::Write { .. } | Ask::AdvanceEpoch { .. });
            match self.admit_write() {
                Err(error) if is_write => self.reply(call, Err(error)),
                Err(_) | Ok(()) => self.execute(call, waiting.ask),
            }
        }
    }

    /// Nobody is served any more.
    pub(crate) fn refuse_waiting(&mut self) {
        self.requests.by_row.clear();
        self.requests.ready.clear();
        self.requests.waiting_bytes = 0;
        for call in std::mem::take(&mut self.requests.waiting).into_keys() {
            self.reply(call, Err(Error::Stopping));
        }
    }

    pub(crate) fn execute(&mut self, call: CallId, ask: Ask) {
        match ask {
            Ask::Barrier => {
                let position = Position::Eventual(self.store.known().vector().clone());
                self.reply(call, Ok(Reply::ReadReady { position }));
            }
            Ask::Sampled { members } => {
                self.begin_sample(call, members, VersionVector::new());
            }
            Ask::Members => {
                let members = self.list_members();
                self.reply(call, Ok(Reply::Members { members }));
            }
            Ask::Lease(action) => self.execute_lease(call, action),
            Ask::AdvanceEpoch { above } => self.advance_epoch(call, above),
            Ask::Write { operations, acks } => self.execute_write(call, operations, acks),
        }
    }
}

/// Whether this mode has such an operation, and what must be known here before it.
pub(crate) fn admit_operation(
    operation: &Operation,
    needed: &mut VersionVector,
) -> Result<(), Error> {
    if operation.key().is_some_and(SystemKey::is_reserved) {
        let why = "a key doesn't begin with U+0001 in eventual mode: those are the cluster's own";
        return Err(Error::invalid("key", why));
    }
    match operation {
        Operation::CompareAndSet { .. } => Err(unavailable("compare_and_set", "put")),
        Operation::DeleteRange { .. } => Err(unavailable("delete_range", "delete")),
        // A put replaces only what this node knows, so that its stamp can exceed it.
        Operation::Put {
            context: Some(context),
            ..
        } => {
            needed.merge(context);
            Ok(())
        }
        Operation::Put { context: None, .. } | Operation::Delete { .. } | Operation::Get { .. } => {
            Ok(())
        }
    }
}

/// What an ask takes while it waits.
fn ask_bytes(ask: &Ask) -> usize {
    let operations = match ask {
        Ask::Barrier
        | Ask::Members
        | Ask::Lease(_)
        | Ask::Sampled { .. }
        | Ask::AdvanceEpoch { .. } => {
            return WAITING_OVERHEAD_BYTES;
        }
        Ask::Write { operations, .. } => operations,
    };
    let each = operations.iter().map(|operation| match operation {
        Operation::Put {
            key,
            value,
            context,
            lease: _,
        } => {
            let rows = context.as_ref().map_or(0, VersionVector::len);
            key.as_str().len() + value.as_bytes().len() + rows * ROW_BYTES
        }
        Operation::CompareAndSet { key, value, .. } => key.as_str().len() + value.as_bytes().len(),
        Operation::Delete { key } | Operation::Get { key } => key.as_str().len(),
        Operation::DeleteRange { range } => range.bytes(),
    });
    WAITING_OVERHEAD_BYTES + each.sum::<usize>() + operations.len() * ROW_BYTES
}

pub(crate) const fn unavailable(asked: &'static str, best_available: &'static str) -> Error {
    Error::GuaranteeUnavailable {
        mode: Mode::Eventual,
        asked,
        best_available,
    }
}

/// There is no leader here that could carry these out, and no history.
fn no_cluster_action(action: &ClusterAction) -> Error {
    match action {
        ClusterAction::CompactHistory { .. } => {
            unavailable("compaction", "nothing: it keeps no history")
        }
        ClusterAction::TransferLeader { .. } => {
            unavailable("leader_transfer", "nothing: it has no leader")
        }
        ClusterAction::AdvanceEpoch { .. } => unreachable!("admitted before"),
        ClusterAction::AddLearner { .. }
        | ClusterAction::Promote { .. }
        | ClusterAction::Remove { .. } => unavailable("membership_change", "joining by a seed"),
    }
}

const fn overloaded(queue: &'static str) -> Error {
    Error::Overloaded {
        queue,
        retry_after_ms: 100,
    }
}
