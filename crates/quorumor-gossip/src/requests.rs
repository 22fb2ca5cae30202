//! What callers ask: writes, batches and read barriers, and the wait for what their session tokens demand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorumor_core::limits::{PENDING_READS_MAX, PENDING_WRITES_MAX, SIBLINGS_MAX};
use quorumor_core::{
    CallId, ClusterAction, Command, Dot, Error, Key, Level, LogId, Mode, NodeId, Operation,
    OperationResult, Position, Reply, Request, Seq, Stamp, Value, VersionVector,
};

use crate::durability::OpenWrite;
use crate::event::Event;
use crate::register::Register;
use crate::replica::GossipReplica;
use crate::store::{Merged, Store};
use crate::vector::Context;

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
    overlays: BTreeMap<Key, Overlay>,
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
enum Ask {
    Write(Vec<Operation>),
    Barrier,
}

#[derive(Debug)]
struct Overlay {
    register: Register,
    open: usize,
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
                overlay.register.merge(register);
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
        }
    }

    pub(crate) fn reply(&mut self, call: CallId, result: Result<Reply, Error>) {
        self.replies.push((call, result));
    }

    /// Refuses what this mode or this moment can't do; else what the state must cover first, and what to do then.
    fn admit(&self, request: Request) -> Result<(VersionVector, Ask), Error> {
        if self.me.has_left {
            return Err(Error::Stopping);
        }
        let mut needed = match &request.after {
            None => VersionVector::new(),
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
                level: level @ (Level::Bounded | Level::Linearizable),
                ..
            } => {
                return Err(Error::level_unavailable(Mode::Eventual, level));
            }
            Command::Txn { .. } => return Err(unavailable("transaction", "batch")),
            Command::Lease(_) => return Err(unavailable("lease", "put and delete")),
            Command::Session(_) => return Err(unavailable("exactly_once", "idempotent puts")),
            Command::Cluster(action) => return Err(no_cluster_action(&action)),
            Command::Backup => return Err(unavailable("backup", "list")),
            Command::Write { operations, .. } => {
                for operation in &operations {
                    match operation {
                        Operation::CompareAndSet { .. } => {
                            return Err(unavailable("compare_and_set", "put"));
                        }
                        Operation::DeleteRange { .. } => {
                            return Err(unavailable("delete_range", "delete"));
                        }
                        Operation::Put { lease: Some(_), .. } => {
                            return Err(unavailable("lease", "put and delete"));
                        }
                        // A put replaces only what this node knows, so that its stamp can exceed it.
                        Operation::Put {
                            context: Some(context),
                            ..
                        } => needed.merge(context),
                        Operation::Put { context: None, .. }
                        | Operation::Delete { .. }
                        | Operation::Get { .. } => {}
                    }
                }
                self.admit_write()?;
                Ask::Write(operations)
            }
        };
        Ok((needed, ask))
    }

    fn admit_write(&self) -> Result<(), Error> {
        if self.disk_full {
            return Err(Error::DiskFull);
        }
        if self.durability.open_count() >= PENDING_WRITES_MAX
            || self.durability.queued_bytes() >= OPEN_BYTES_MAX
        {
            return Err(overloaded("pending_writes"));
        }
        Ok(())
    }

    fn wait(&mut self, call: CallId, needed: VersionVector, ask: Ask) {
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
    const fn must_wait(&self, ask: &Ask) -> bool {
        self.me.log_doubted && matches!(ask, Ask::Write(_))
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
            let is_write = matches!(waiting.ask, Ask::Write(_));
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

    fn execute(&mut self, call: CallId, ask: Ask) {
        match ask {
            Ask::Barrier => {
                let position = Position::Eventual(self.store.known().vector().clone());
                self.reply(call, Ok(Reply::ReadReady { position }));
            }
            Ask::Write(operations) => self.execute_write(call, operations),
        }
    }

    fn execute_write(&mut self, call: CallId, operations: Vec<Operation>) {
        if let Err(error) = self.check_siblings(&operations) {
            self.reply(call, Err(error));
            return;
        }
        let mut write = OpenWrite {
            call: Some(call),
            events: Vec::new(),
            results: Vec::new(),
            position: VersionVector::new(),
            last: None,
        };
        for operation in operations {
            let result = match operation {
                Operation::Put {
                    key,
                    value,
                    context,
                    lease: _,
                } => self.execute_put(&mut write, key, value, context.as_ref()),
                Operation::Delete { key } => self.execute_delete(&mut write, key),
                Operation::Get { key } => {
                    let register = self.working(&key);
                    write.position.merge(&register.seen().to_vector());
                    OperationResult::Got {
                        entry: register.entry(),
                    }
                }
                Operation::CompareAndSet { .. } | Operation::DeleteRange { .. } => {
                    unreachable!("the whole batch was refused when it was admitted")
                }
            };
            write.results.push(result);
        }
        self.durability.queue(write);
    }

    /// Refuses puts that would keep too many values of a key side by side: only a context that leaves some out can.
    fn check_siblings(&self, operations: &[Operation]) -> Result<(), Error> {
        let mut added: BTreeMap<&Key, usize> = BTreeMap::new();
        for operation in operations {
            if let Operation::Put {
                key,
                context: Some(context),
                ..
            } = operation
            {
                let added = added.entry(key).or_default();
                *added += 1;
                let siblings = self.working(key).left_by(context) + *added;
                if siblings > SIBLINGS_MAX {
                    return Err(Error::too_large("siblings_max", SIBLINGS_MAX, siblings));
                }
            }
        }
        Ok(())
    }

    fn execute_put(
        &mut self,
        write: &mut OpenWrite,
        key: Key,
        value: Value,
        context: Option<&VersionVector>,
    ) -> OperationResult {
        let register = self.working(&key);
        let context = context.map_or_else(|| register.seen(), Context::from_vector);
        let event = self.issue(
            write,
            register.stamp_max(),
            key.clone(),
            Some(value),
            context,
        );
        OperationResult::Put {
            version: self.working(&key).version(&event),
        }
    }

    fn execute_delete(&mut self, write: &mut OpenWrite, key: Key) -> OperationResult {
        let register = self.working(&key);
        let previous = register.entry();
        if previous.is_some() {
            self.issue(write, register.stamp_max(), key, None, register.seen());
        } else {
            write.position.merge(&register.seen().to_vector());
        }
        OperationResult::Deleted { previous }
    }

    /// Makes the next event of this node's log. It counts for later writes at once, for everyone else when it is durable.
    fn issue(
        &mut self,
        write: &mut OpenWrite,
        seen: Stamp,
        key: Key,
        value: Option<Value>,
        context: Context,
    ) -> Arc<Event> {
        self.me.seq = self.me.seq.next();
        let dot = Dot {
            writer: self.config.node,
            log_id: self.me.log_id,
            seq: self.me.seq,
        };
        let stamp = self.hlc.stamp(self.now.wall_ms, seen);
        let mut register = self.working(&key);
        let event = Arc::new(Event::new(dot, stamp, key.clone(), value, context));
        register.merge_event(&event);
        let overlay = self
            .requests
            .overlays
            .entry(key)
            .or_insert_with(|| Overlay {
                register: Register::default(),
                open: 0,
            });
        overlay.register = register;
        overlay.open += 1;
        write.position.add_dot(dot);
        write.last = Some((dot, stamp));
        write.events.push(Arc::clone(&event));
        event
    }

    /// A key as this node's next write finds it: own writes under way included.
    fn working(&self, key: &Key) -> Register {
        match self.requests.overlays.get(key) {
            Some(overlay) => overlay.register.clone(),
            None => self
                .store
                .register(key)
                .map(|known| Register::clone(known))
                .unwrap_or_default(),
        }
    }

    /// A write is durable: show it, spread it, answer.
    pub(crate) fn finish_write(&mut self, write: OpenWrite) {
        let mut is_own = true;
        for event in write.events {
            if let Some(overlay) = self.requests.overlays.get_mut(&event.key) {
                overlay.open -= 1;
                if overlay.open == 0 {
                    self.requests.overlays.remove(&event.key);
                }
            }
            let merged = self.store.merge_event(Arc::clone(&event));
            if merged != Merged::New {
                // Its dot was taken by another write of an earlier life: this one can't be told to anyone.
                is_own = false;
                if event.dot.log_id == self.me.log_id {
                    self.counters.logs_lost += 1;
                    self.begin_log();
                }
                continue;
            }
            self.spread_event(event, None);
            self.push_now = true;
        }
        if let Some(call) = write.call {
            if !is_own {
                let why = "this node's log was found cut back";
                self.reply(call, Err(Error::OutcomeUnknown { why }));
                return;
            }
            let reply = Reply::Written {
                results: write.results,
                position: Position::Eventual(write.position),
                dot: write.last,
            };
            self.reply(call, Ok(reply));
        }
    }
}

/// What an ask takes while it waits.
fn ask_bytes(ask: &Ask) -> usize {
    let operations = match ask {
        Ask::Barrier => return WAITING_OVERHEAD_BYTES,
        Ask::Write(operations) => operations,
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

const fn unavailable(asked: &'static str, best_available: &'static str) -> Error {
    Error::GuaranteeUnavailable {
        mode: Mode::Eventual,
        asked,
        best_available,
    }
}

/// There is no leader here that could carry these out, and no history.
const fn no_cluster_action(action: &ClusterAction) -> Error {
    match action {
        ClusterAction::CompactHistory { .. } => {
            unavailable("compaction", "nothing: it keeps no history")
        }
        ClusterAction::TransferLeader { .. } => {
            unavailable("leader_transfer", "nothing: it has no leader")
        }
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
