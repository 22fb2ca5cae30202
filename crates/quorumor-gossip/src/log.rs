//! The recent end of every writer's log, whole, so that a peer that lacks a little gets exactly the writes it lacks.
//!
//! Bounded by bytes over all writers: the oldest go first. What a peer lacks beyond that end is sent as state.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quorumor_core::{Dot, LogId, NodeId, Seq, VersionVector};

use crate::event::Event;

/// What an event weighs beside its bytes: its key, its context and the places that refer to it.
const EVENT_OVERHEAD_BYTES: usize = 256;

type Row = (NodeId, LogId);

/// What a peer with a given vector lacks.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Nothing that this node has.
    Nothing,
    /// These events, oldest first within a writer, the most-behind writer first. `more` if they are not all.
    Events { events: Vec<Arc<Event>>, more: bool },
    /// More than the logs reach back.
    TooOld,
}

/// The logs' recent ends.
#[derive(Debug)]
pub(crate) struct Log {
    windows: BTreeMap<Row, Window>,
    /// Rows in the order in which their events came, to find the oldest.
    order: VecDeque<Row>,
    bytes: usize,
    bytes_max: usize,
}

/// The events right above `base`.
#[derive(Debug, Default)]
struct Window {
    base: Seq,
    events: VecDeque<Arc<Event>>,
}

impl Log {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            windows: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Appends the next event of its writer's log.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        let row = (event.dot.writer, event.dot.log_id);
        let window = self.windows.entry(row).or_default();
        let end = window.base.as_u64() + window.events.len() as u64;
        assert_eq!(event.dot.seq.as_u64(), end + 1, "logs have no gaps");
        self.bytes += weight(&event);
        window.events.push_back(event);
        self.order.push_back(row);
        while self.bytes > self.bytes_max {
            self.trim();
        }
    }

    /// Begins a writer's window anew: everything up to `seq` is known, but not as events.
    pub(crate) fn restart(&mut self, writer: NodeId, log_id: LogId, seq: Seq) {
        let window = self.windows.entry((writer, log_id)).or_default();
        self.bytes -= window
            .events
            .iter()
            .map(|event| weight(event))
            .sum::<usize>();
        *window = Window {
            base: seq,
            events: VecDeque::new(),
        };
    }

    fn trim(&mut self) {
        let Some(row) = self.order.pop_front() else {
            return;
        };
        let window = self
            .windows
            .get_mut(&row)
            .expect("a row in order has a window");
        if let Some(event) = window.events.pop_front() {
            window.base = event.dot.seq;
            self.bytes -= weight(&event);
        }
    }

    /// A write, if the logs reach back to it.
    pub(crate) fn find(&self, dot: Dot) -> Option<&Arc<Event>> {
        let window = self.windows.get(&(dot.writer, dot.log_id))?;
        let behind = dot.seq.as_u64().checked_sub(window.base.as_u64() + 1)?;
        window.events.get(usize::try_from(behind).ok()?)
    }

    /// What `theirs` lacks of `ours`, at most about `bytes_max` of it, but at least one event.
    pub(crate) fn missing(
        &self,
        ours: &VersionVector,
        theirs: &VersionVector,
        bytes_max: usize,
    ) -> Missing {
        let mut behind = Vec::new();
        for (writer, log_id, seq) in ours.rows() {
            let known = theirs.seq(writer, log_id);
            if known >= seq {
                continue;
            }
            match self.windows.get(&(writer, log_id)) {
                Some(window) if window.base <= known => {
                    behind.push((seq.as_u64() - known.as_u64(), window, known));
                }
                Some(_) | None => return Missing::TooOld,
            }
        }
        if behind.is_empty() {
            return Missing::Nothing;
        }
        behind.sort_by_key(|(lag, _, _)| std::cmp::Reverse(*lag));
        let mut bytes = 0;
        let mut events = Vec::new();
        for (_, window, known) in behind {
            let skip = known.as_u64() - window.base.as_u64();
            for event in window
                .events
                .iter()
                .skip(usize::try_from(skip).unwrap_or(usize::MAX))
            {
                if bytes > 0 && bytes + event.encoded().len() > bytes_max {
                    return Missing::Events { events, more: true };
                }
                bytes += event.encoded().len();
                events.push(Arc::clone(event));
            }
        }
        Missing::Events {
            events,
            more: false,
        }
    }
}

fn weight(event: &Event) -> usize {
    event.encoded().len() + EVENT_OVERHEAD_BYTES
}
