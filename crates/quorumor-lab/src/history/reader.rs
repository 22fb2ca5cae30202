//! Reading a history back: typed operations, or an error that names the line.
//!
//! Not a judge: an incomplete history is read as far as it goes and says so. Called by the analysis and by tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::observed::{
    DigestPoll, Event, EventKind, FaultRecord, FenceRecord, FinalState, Lag, WatchRecord,
};
use super::record::{
    Action, FORMAT_NAME, FORMAT_VERSION, Footer, Header, Invoke, NodeId, OpId, Outcome, ProcessId,
    Record, Return,
};

/// Why a file is not a history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file cannot be read.
    #[error("the history cannot be read")]
    Io(#[from] io::Error),
    /// A line is not a record.
    #[error("line {line}: not a record of a history: {source}")]
    Syntax {
        /// Counted from 1.
        line: u64,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The header is of another format or version.
    #[error(
        "line 1: format {format:?} version {version} is not {FORMAT_NAME:?} version {FORMAT_VERSION}"
    )]
    Format {
        /// What it says it is.
        format: String,
        /// And its version.
        version: u32,
    },
    /// A line contradicts an earlier one.
    #[error("line {line}: {what}")]
    Contradiction {
        /// Counted from 1.
        line: u64,
        /// In what way.
        what: String,
    },
}

/// One operation: its invocation and, if there is one, its return.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// How it began.
    pub invoke: Invoke,
    /// How it ended; none = unknown.
    pub ret: Option<Return>,
}

impl Op {
    /// Its id.
    pub fn id(&self) -> OpId {
        self.invoke.op
    }

    /// How it ended, for a judge: unknown if there is no return.
    pub fn outcome(&self) -> Outcome {
        self.ret
            .as_ref()
            .map_or(Outcome::Unknown, |ret| ret.outcome)
    }

    /// When it returned, if it did.
    pub fn returned_us(&self) -> Option<u64> {
        self.ret.as_ref().map(|ret| ret.at_us)
    }

    /// The return, if the outcome is ok.
    pub fn answer(&self) -> Option<&Return> {
        self.ret.as_ref().filter(|ret| ret.outcome == Outcome::Ok)
    }

    /// True if it certainly changed the key: an ok put or delete, or a compare-and-set that was applied.
    pub fn is_acked_write(&self) -> bool {
        self.answer().is_some_and(|ret| match self.invoke.action {
            Action::Get
            | Action::List
            | Action::Grant { .. }
            | Action::KeepAlive
            | Action::Revoke => false,
            Action::Put(_) => true,
            Action::Delete => !ret.deleted_nothing(),
            Action::Cas(_) => ret.succeeded == Some(true),
        })
    }

    /// What it is, who asked whom and how it ended: one line for a person.
    pub fn describe(&self) -> String {
        let invoke = &self.invoke;
        let action = match &invoke.action {
            Action::Get => format!("get {}", invoke.key),
            Action::Put(value) => format!("put {} = {value}", invoke.key),
            Action::Delete => format!("delete {}", invoke.key),
            Action::Cas(cas) => {
                let expected = cas.expected.as_deref().unwrap_or("absent");
                format!("cas {} {expected} -> {}", invoke.key, cas.value)
            }
            Action::List => format!("list {}", invoke.key),
            Action::Grant { ttl_ms } => format!("grant a lease of {ttl_ms} ms"),
            Action::KeepAlive => format!("keep lease {} alive", invoke.lease()),
            Action::Revoke => format!("revoke lease {}", invoke.lease()),
        };
        let start = seconds(invoke.at_us);
        let end = match &self.ret {
            None => format!("{start} s .. no return: unknown"),
            Some(ret) => format!(
                "{start} s .. {} s: {}",
                seconds(ret.at_us),
                describe_answer(&invoke.action, ret)
            ),
        };
        format!(
            "{}, {} at {}: {action}  [{end}]",
            invoke.op, invoke.process, invoke.node
        )
    }
}

fn describe_answer(action: &Action, ret: &Return) -> String {
    match ret.outcome {
        Outcome::Fail => format!("refused ({})", ret.reason.as_deref().unwrap_or("no reason")),
        Outcome::Unknown => format!("unknown ({})", ret.reason.as_deref().unwrap_or("no reason")),
        Outcome::Ok => {
            let lost = ret.succeeded == Some(false);
            let saw = matches!(action, Action::Get) || lost;
            let mut text = if lost {
                "compare lost".to_owned()
            } else {
                "ok".to_owned()
            };
            if matches!(action, Action::List) {
                text.push_str(&format!(", saw {} entries", ret.entries.len()));
            }
            if saw {
                text.push_str(&format!(
                    ", saw {}",
                    ret.values.first().map_or("absent", String::as_str)
                ));
            }
            if let Some(version) = &ret.version {
                text.push_str(&format!(", {}", describe_version(version)));
            }
            text
        }
    }
}

fn describe_version(version: &super::Version) -> String {
    match version {
        super::Version::Strong { revision } => format!("revision {revision}"),
        super::Version::Eventual { dot, stamp, .. } => {
            format!(
                "dot {}/{}/{} stamp {stamp}",
                dot.writer, dot.log_id, dot.seq
            )
        }
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// A whole history in memory.
#[derive(Clone, Debug)]
pub struct History {
    /// The first line.
    pub header: Header,
    /// In order of invocation.
    pub ops: Vec<Op>,
    /// In order of the file.
    pub faults: Vec<FaultRecord>,
    /// In order of the file.
    pub events: Vec<Event>,
    /// What watchers were told, in order of the file.
    pub watches: Vec<WatchRecord>,
    /// Writes to the resources that locks guard, in order of the file.
    pub fences: Vec<FenceRecord>,
    /// In order of the file.
    pub digests: Vec<DigestPoll>,
    /// In order of the file.
    pub finals: Vec<FinalState>,
    /// In order of the file.
    pub lag: Vec<Lag>,
    /// The last line; none = the run was cut short.
    pub footer: Option<Footer>,
}

impl History {
    /// An empty history with this header; what tests and the simulator fill in memory.
    pub fn new(header: Header) -> Self {
        Self {
            header,
            ops: Vec::new(),
            faults: Vec::new(),
            events: Vec::new(),
            watches: Vec::new(),
            fences: Vec::new(),
            digests: Vec::new(),
            finals: Vec::new(),
            lag: Vec::new(),
            footer: None,
        }
    }

    /// Reads a history file.
    ///
    /// A torn last line and a missing footer are read as an incomplete history ([`History::is_complete`]).
    ///
    /// # Errors
    /// When the file cannot be read, is of another format, or contradicts itself; the line is named.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        Self::parse(BufReader::new(File::open(path)?))
    }

    /// As [`History::read`], from any source of lines.
    ///
    /// # Errors
    /// See [`History::read`].
    pub fn parse(mut source: impl BufRead) -> Result<Self, HistoryError> {
        let mut reading = Reading::default();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if source.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            if !bytes.ends_with(b"\n") {
                // The lab died while writing; what is torn was never relied upon.
                break;
            }
            reading.line += 1;
            let record = serde_json::from_slice(&bytes).map_err(|source| HistoryError::Syntax {
                line: reading.line,
                source,
            })?;
            reading.take(record)?;
            reading.hasher.update(&bytes);
        }
        reading.history.ok_or_else(|| HistoryError::Contradiction {
            line: 1,
            what: "the file ends before its header".to_owned(),
        })
    }

    /// The operations of the load, without those of the riders beside it: what is counted as available, and timed.
    pub fn load(&self) -> impl Iterator<Item = &Op> {
        let scenario = &self.header.scenario;
        // A history from elsewhere has no riders.
        let clients = if scenario.name.is_empty() {
            u32::MAX
        } else {
            scenario.workload.clients
        };
        self.ops
            .iter()
            .filter(move |op| op.invoke.client.0 < clients)
    }

    /// The nodes that were put out of the cluster for good, and rightly.
    pub fn out(&self) -> BTreeSet<NodeId> {
        let out = |event: &Event| match event.kind {
            EventKind::Out(_) => Some(event.node),
            EventKind::Leader { .. } | EventKind::Member { .. } | EventKind::Note(_) => None,
        };
        self.events.iter().filter_map(out).collect()
    }

    /// The founding nodes that are expected to serve at the end; of a history from elsewhere those that it tells of.
    pub fn standing(&self) -> Vec<NodeId> {
        let out = self.out();
        let mut nodes = self.header.scenario.node_ids();
        if nodes.is_empty() {
            let told = self.finals.iter().map(|state| state.node);
            let told = told.chain(self.digests.iter().map(|poll| poll.node));
            nodes = told.collect::<BTreeSet<_>>().into_iter().collect();
        }
        nodes.retain(|node| !out.contains(node));
        nodes
    }

    /// True if the run reached its end and the file was not changed since.
    pub fn is_complete(&self) -> bool {
        self.footer.is_some()
    }
}

/// No time in a history is later, nor longer: sums of some can't overflow.
const TIME_MAX_US: u64 = 1 << 52;
/// No cluster whose operations are on record is larger.
const NODES_MAX: u32 = 1_000;

/// The latest time, or longest span, that a line names.
fn latest_us(record: &Record) -> u64 {
    let span = |ms: Option<u64>| ms.unwrap_or(0).saturating_mul(1_000);
    match record {
        Record::Inv(invoke) => {
            let ttl_us = match invoke.action {
                Action::Grant { ttl_ms } => span(Some(ttl_ms)),
                Action::Get
                | Action::Put(_)
                | Action::Delete
                | Action::Cas(_)
                | Action::List
                | Action::KeepAlive
                | Action::Revoke => 0,
            };
            let times = [invoke.due_us, invoke.at_us, invoke.timeout_us, ttl_us];
            times.into_iter().max().unwrap_or(0)
        }
        Record::Ret(ret) => ret.at_us.max(span(ret.ttl_ms)),
        Record::Fault(fault) => fault.at_us,
        Record::Event(event) => event.at_us,
        Record::Watch(watch) => watch.at_us,
        Record::Fence(fence) => fence.at_us,
        Record::Digest(poll) => poll.at_us,
        Record::Final(state) => state.at_us,
        Record::Lag(lag) => lag.at_us,
        Record::Header(_) | Record::Footer(_) => 0,
    }
}

#[derive(Default)]
struct Reading {
    line: u64,
    history: Option<History>,
    places: BTreeMap<OpId, usize>,
    outstanding: BTreeMap<ProcessId, OpId>,
    returned: u64,
    hasher: blake3::Hasher,
}

impl Reading {
    fn contradiction(&self, what: String) -> HistoryError {
        HistoryError::Contradiction {
            line: self.line,
            what,
        }
    }

    fn take(&mut self, record: Record) -> Result<(), HistoryError> {
        let Some(mut history) = self.history.take() else {
            return self.take_header(record);
        };
        if history.footer.is_some() {
            return Err(self.contradiction("a line after the footer".to_owned()));
        }
        match record {
            Record::Header(_) => return Err(self.contradiction("a second header".to_owned())),
            record if latest_us(&record) > TIME_MAX_US => {
                let what = format!("a time beyond {TIME_MAX_US} us");
                return Err(self.contradiction(what));
            }
            Record::Inv(invoke) => self.take_invoke(&mut history, invoke)?,
            Record::Ret(ret) => self.take_return(&mut history, ret)?,
            Record::Fault(fault) => history.faults.push(fault),
            Record::Event(event) => history.events.push(event),
            Record::Watch(watch) => history.watches.push(watch),
            Record::Fence(fence) => history.fences.push(fence),
            Record::Digest(poll) => history.digests.push(poll),
            Record::Final(state) => history.finals.push(state),
            Record::Lag(lag) => history.lag.push(lag),
            Record::Footer(footer) => {
                self.check_footer(&history, &footer)?;
                history.footer = Some(footer);
            }
        }
        self.history = Some(history);
        Ok(())
    }

    fn take_header(&mut self, record: Record) -> Result<(), HistoryError> {
        let Record::Header(header) = record else {
            return Err(self.contradiction("the first line is not a header".to_owned()));
        };
        if header.format != FORMAT_NAME || header.version != FORMAT_VERSION {
            return Err(HistoryError::Format {
                format: header.format,
                version: header.version,
            });
        }
        let nodes = header.scenario.nodes;
        if nodes > NODES_MAX || header.start_us > TIME_MAX_US {
            let what = format!(
                "at most {NODES_MAX} nodes and a start up to {TIME_MAX_US} us, not {nodes} nodes from {} us",
                header.start_us
            );
            return Err(self.contradiction(what));
        }
        self.history = Some(History::new(*header));
        Ok(())
    }

    fn take_invoke(&mut self, history: &mut History, invoke: Invoke) -> Result<(), HistoryError> {
        if self.places.insert(invoke.op, history.ops.len()).is_some() {
            return Err(self.contradiction(format!("{} is invoked twice", invoke.op)));
        }
        if let Some(other) = self.outstanding.insert(invoke.process, invoke.op) {
            let what = format!(
                "{} invokes {} while {other} is outstanding",
                invoke.process, invoke.op
            );
            return Err(self.contradiction(what));
        }
        history.ops.push(Op { invoke, ret: None });
        Ok(())
    }

    fn take_return(&mut self, history: &mut History, ret: Return) -> Result<(), HistoryError> {
        let place = self.places.get(&ret.op).copied();
        let Some(op) = place.and_then(|place| history.ops.get_mut(place)) else {
            return Err(self.contradiction(format!("{} returns but was never invoked", ret.op)));
        };
        if op.ret.is_some() {
            return Err(self.contradiction(format!("{} returns twice", ret.op)));
        }
        let is_cas = matches!(op.invoke.action, Action::Cas(_));
        if is_cas && ret.outcome == Outcome::Ok && ret.succeeded.is_none() {
            let what = format!("{} is an ok compare-and-set without `succeeded`", ret.op);
            return Err(self.contradiction(what));
        }
        if ret.at_us < op.invoke.at_us {
            return Err(self.contradiction(format!("{} returns before it was invoked", ret.op)));
        }
        if ret.outcome != Outcome::Unknown {
            // After an unknown outcome the process stays outstanding for ever: it must be retired.
            self.outstanding.remove(&op.invoke.process);
        }
        self.returned += 1;
        op.ret = Some(ret);
        Ok(())
    }

    fn check_footer(&self, history: &History, footer: &Footer) -> Result<(), HistoryError> {
        let lines = self.line - 1;
        let invoked = history.ops.len() as u64;
        if (footer.lines, footer.invoked, footer.returned) != (lines, invoked, self.returned) {
            let what = format!(
                "the footer counts {} lines, {} invocations, {} returns; the file has {lines}, {invoked}, {}",
                footer.lines, footer.invoked, footer.returned, self.returned
            );
            return Err(self.contradiction(what));
        }
        if !footer.hash.is_empty() && footer.hash != self.hasher.finalize().to_hex().as_str() {
            return Err(self
                .contradiction("the hash differs: the file was changed after the run".to_owned()));
        }
        Ok(())
    }
}
