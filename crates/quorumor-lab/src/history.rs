//! The history: everything that happened in one run of one mode, as JSON lines, and the only input of the checkers.
//!
//! Not a log of the system's internals: only what a client, the fault schedule and the lab itself could see.
//! Worlds write it through [`HistoryWriter`]; checkers and the report read it through [`History::read`].
//!
//! The first line is the [`Header`], the last the [`Footer`] with counts and a hash. Times are microseconds on the
//! lab's own monotonic clock ([`LabClock`]); the clocks of the nodes never order anything. An operation whose
//! invocation has no return is unknown by construction.

mod observed;
mod reader;
mod record;
mod writer;

pub use observed::{
    DigestPoll, Event, EventKind, FaultAction, FaultRecord, FaultStep, FenceRecord, FinalEntry,
    FinalState, Lag, LinkCounters, MemberState, WatchRecord, WatchStep,
};
pub use reader::{History, HistoryError, Op};
pub use record::{
    Action, Cas, Cause, ClientId, Dot, FORMAT_NAME, FORMAT_VERSION, Footer, Header, Invoke, Level,
    MemberCounts, Mode, NodeId, OpId, Outcome, Position, ProcessId, Record, Return, SessionId,
    Staleness, StalenessBasis, System, Version, World,
};
pub use writer::{HistoryWriter, LabClock};

#[cfg(test)]
mod tests;
