//! Writing a history: an append-only file behind a cheap handle that any task may hold.
//!
//! Not asynchronous: a line is a few hundred bytes into the page cache. Called by the world that runs a scenario,
//! which writes an invocation before it sends the request.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::observed::{DigestPoll, Event, FaultRecord, FenceRecord, FinalState, Lag, WatchRecord};
use super::record::{Footer, Header, Invoke, OpId, Record, Return};

/// The bytes that may wait for the operating system; an invocation is handed over at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// The lab's monotonic clock: microseconds since it was made. Clones share the origin.
#[derive(Clone, Copy, Debug)]
pub struct LabClock {
    origin: Instant,
}

impl LabClock {
    /// Starts at zero now.
    #[expect(
        clippy::new_without_default,
        reason = "a clock that starts is an act, not a default"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Microseconds since the start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The instant of a time on this clock, to sleep until.
    pub fn instant(&self, at_us: u64) -> Instant {
        self.origin + std::time::Duration::from_micros(at_us)
    }
}

struct Sink {
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    lines: u64,
    invoked: u64,
    returned: u64,
    /// After a failed write the file is not a history any more: every later call says so.
    broken: bool,
}

impl Sink {
    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier line of the history could not be written",
            ));
        }
        let written = self.write_line(record);
        self.broken = written.is_err();
        written
    }

    fn write_line(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.out.write_all(&line)?;
        self.hasher.update(&line);
        self.lines += 1;
        match record {
            Record::Inv(_) => {
                self.invoked += 1;
                // The invocation must be on record before the request leaves, even if the lab dies next.
                self.out.flush()?;
            }
            Record::Ret(_) => self.returned += 1,
            Record::Header(_)
            | Record::Fault(_)
            | Record::Event(_)
            | Record::Watch(_)
            | Record::Fence(_)
            | Record::Digest(_)
            | Record::Final(_)
            | Record::Lag(_)
            | Record::Footer(_) => {}
        }
        Ok(())
    }
}

/// A handle to the history of one run. Clones write to the same file; lines are never mixed.
#[derive(Clone)]
pub struct HistoryWriter {
    sink: Arc<Mutex<Sink>>,
    next_op: Arc<AtomicU64>,
}

impl HistoryWriter {
    /// Creates the file (an existing one is replaced) and writes the header.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create(path: &Path, header: Header) -> io::Result<Self> {
        let out = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        let mut sink = Sink {
            out,
            hasher: blake3::Hasher::new(),
            lines: 0,
            invoked: 0,
            returned: 0,
            broken: false,
        };
        sink.append(&Record::Header(Box::new(header)))?;
        Ok(Self {
            sink: Arc::new(Mutex::new(sink)),
            next_op: Arc::new(AtomicU64::new(1)),
        })
    }

    /// An operation id that nobody else has.
    pub fn next_op(&self) -> OpId {
        OpId(self.next_op.fetch_add(1, Ordering::Relaxed))
    }

    /// Records that an operation begins; call it before sending.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn invoke(&self, invoke: Invoke) -> io::Result<()> {
        self.append(&Record::Inv(invoke))
    }

    /// Records how an operation ended.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn complete(&self, ret: Return) -> io::Result<()> {
        self.append(&Record::Ret(ret))
    }

    /// Records a step of a fault.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn fault(&self, fault: FaultRecord) -> io::Result<()> {
        self.append(&Record::Fault(fault))
    }

    /// Records something observed.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn event(&self, event: Event) -> io::Result<()> {
        self.append(&Record::Event(event))
    }

    /// Records what a watcher was told.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn watch(&self, watch: WatchRecord) -> io::Result<()> {
        self.append(&Record::Watch(watch))
    }

    /// Records a write to the resource that a lock guards.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn fence(&self, fence: FenceRecord) -> io::Result<()> {
        self.append(&Record::Fence(fence))
    }

    /// Records a polled digest.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn digest(&self, poll: DigestPoll) -> io::Result<()> {
        self.append(&Record::Digest(poll))
    }

    /// Records what a node holds at the end.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn final_state(&self, state: FinalState) -> io::Result<()> {
        self.append(&Record::Final(state))
    }

    /// Records samples of the lab's own lag.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn lag(&self, lag: Lag) -> io::Result<()> {
        self.append(&Record::Lag(lag))
    }

    /// Writes the footer. No line may follow; a history without a footer is incomplete, and its run void.
    ///
    /// # Errors
    /// When this or an earlier line could not be written.
    pub fn finish(&self) -> io::Result<()> {
        let mut sink = self.sink.lock();
        let footer = Footer {
            lines: sink.lines,
            invoked: sink.invoked,
            returned: sink.returned,
            hash: sink.hasher.finalize().to_hex().to_string(),
        };
        sink.append(&Record::Footer(footer))?;
        sink.out.flush()?;
        sink.broken = true;
        Ok(())
    }

    fn append(&self, record: &Record) -> io::Result<()> {
        self.sink.lock().append(record)
    }
}
