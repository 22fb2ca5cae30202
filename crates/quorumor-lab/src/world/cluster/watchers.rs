//! Watchers of the load's keys: each goes on at another node, with its cursor, when its stream ends or fails, and everything
//! that it is told is in the history.
//!
//! Not a judge. Each keeps what the changes come to, so that a run can wait until its watchers have caught up.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorumor_client::{
    CallOptions, Client, ClientError, Entry, KeyRange, Watch, WatchEvent, WatchItem, WatchOptions,
    WatchStep as Told,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::core_mode;
use super::doors::Doors;
use super::outcome::{final_entry, hex, text, version};
use crate::history::{HistoryWriter, LabClock, Mode, NodeId, WatchRecord, WatchStep};

/// What is watched: the load's keys.
pub(super) const PREFIX: &str = "lab/";
/// How often at most a quiet node tells how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// How long a node may take to begin.
const OPENS_WITHIN: Duration = Duration::from_secs(2);
/// Between the end of a stream and the next one.
const PAUSE: Duration = Duration::from_millis(50);

/// What watchers are run with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) mode: Mode,
    pub(super) history: HistoryWriter,
    pub(super) clock: LabClock,
    pub(super) doors: Arc<Doors>,
    pub(super) founders: Vec<NodeId>,
}

/// Where a watcher is, and what it was told comes to.
#[derive(Debug, Default)]
struct Standing {
    node: NodeId,
    state: BTreeMap<String, String>,
}

/// All watchers of a run. Dropping it ends them.
pub(super) struct Watchers {
    standing: Vec<Arc<Mutex<Standing>>>,
    tasks: JoinSet<io::Result<()>>,
    stop: CancellationToken,
}

impl Watchers {
    /// Starts so many.
    pub(super) fn start(count: u32, parts: &Parts) -> Self {
        let stop = CancellationToken::new();
        let mut watchers = Self {
            standing: Vec::new(),
            tasks: JoinSet::new(),
            stop,
        };
        for number in 0..u64::from(count) {
            let standing = Arc::new(Mutex::new(Standing::default()));
            watchers.standing.push(Arc::clone(&standing));
            let watcher = Watcher {
                parts: parts.clone(),
                number,
                standing,
                parts_of_snapshot: Vec::new(),
                cursor: None,
            };
            let stop = watchers.stop.clone();
            watchers.tasks.spawn(watcher.run(stop));
        }
        watchers
    }

    /// Which of them, and at which node, don't hold what `held` says that the node holds.
    pub(super) fn behind(
        &self,
        held: &BTreeMap<NodeId, BTreeMap<String, String>>,
    ) -> Vec<(usize, NodeId)> {
        let numbered = self.standing.iter().enumerate();
        numbered
            .filter_map(|(number, standing)| {
                let standing = standing.lock();
                let caught_up = held.get(&standing.node) == Some(&standing.state);
                (!caught_up).then_some((number, standing.node))
            })
            .collect()
    }

    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Ends them.
    ///
    /// # Errors
    /// When the history could not be written.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

struct Watcher {
    parts: Parts,
    number: u64,
    standing: Arc<Mutex<Standing>>,
    parts_of_snapshot: Vec<Entry>,
    cursor: Option<Bytes>,
}

impl Watcher {
    async fn run(mut self, stop: CancellationToken) -> io::Result<()> {
        let count = self.parts.founders.len() as u64;
        for turn in self.number.. {
            // Another node each time, and whoever took its place.
            let place = usize::try_from(turn % count.max(1)).unwrap_or(0);
            let founder = self.parts.founders.get(place).copied().unwrap_or_default();
            let node = self.parts.doors.stand_in(founder);
            self.standing.lock().node = node;
            let ended = tokio::select! {
                () = stop.cancelled() => "the run is over".to_owned(),
                ended = self.follow(node) => ended?,
            };
            self.record(node, WatchStep::Closed { reason: ended })?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(PAUSE) => {}
            }
        }
        Ok(())
    }

    /// Watches at a node until the stream ends; why it did.
    async fn follow(&mut self, node: NodeId) -> io::Result<String> {
        let cursor = self.cursor.as_deref().map(hex);
        self.record(node, WatchStep::Opened { cursor })?;
        self.parts_of_snapshot.clear();
        let mut watch = match self.open(node) {
            Ok(watch) => watch,
            Err(error) => return Ok(error.to_string()),
        };
        loop {
            match watch.next().await {
                Some(Ok(item)) => self.take(node, item)?,
                Some(Err(error)) => return Ok(error.to_string()),
                None => return Ok("the node ended the stream".to_owned()),
            }
        }
    }

    fn open(&self, node: NodeId) -> Result<Watch, ClientError> {
        let endpoint = self.parts.doors.endpoint(node).unwrap_or_default();
        let options = CallOptions {
            mode: Some(core_mode(self.parts.mode)),
            timeout: OPENS_WITHIN,
            token: Some(Bytes::new()),
            ..CallOptions::default()
        };
        let client = Client::pinned(endpoint)?.with(options);
        Ok(client.watch_with(WatchOptions {
            cursor: self.cursor.clone(),
            progress_interval: Some(PROGRESS_INTERVAL),
            ..WatchOptions::new(KeyRange::Prefix(PREFIX.into()))
        }))
    }

    fn take(&mut self, node: NodeId, item: WatchItem) -> io::Result<()> {
        self.cursor = item.cursor;
        let revision = item.receipt.revision().map(|revision| revision.as_u64());
        match item.step {
            Told::Snapshot { entries, complete } => {
                self.parts_of_snapshot.extend(entries);
                if complete {
                    self.take_snapshot(node, revision)?;
                }
                Ok(())
            }
            Told::Changes(events) => events
                .into_iter()
                .try_for_each(|event| self.take_change(node, event)),
            Told::Resync { reason } => {
                self.parts_of_snapshot.clear();
                let reason = reason.as_str().to_owned();
                self.record(node, WatchStep::Resync { reason })
            }
            Told::Progress => match revision {
                Some(revision) => self.record(node, WatchStep::Progress { revision }),
                None => Ok(()),
            },
        }
    }

    fn take_snapshot(&mut self, node: NodeId, revision: Option<u64>) -> io::Result<()> {
        let whole = std::mem::take(&mut self.parts_of_snapshot);
        let pair = |entry: &Entry| (entry.key.as_str().to_owned(), text(entry));
        self.standing.lock().state = whole.iter().map(pair).collect();
        let entries = whole.iter().map(final_entry).collect();
        self.record(node, WatchStep::Snapshot { entries, revision })
    }

    fn take_change(&self, node: NodeId, event: WatchEvent) -> io::Result<()> {
        let (key, value, version) = match event {
            WatchEvent::Put { entry, .. } => {
                let value = Some(text(&entry));
                (entry.key, value, version(&entry.version))
            }
            WatchEvent::Deleted {
                key, version: at, ..
            } => (key, None, version(&at)),
        };
        let key = key.as_str().to_owned();
        let mut standing = self.standing.lock();
        match &value {
            Some(value) => standing.state.insert(key.clone(), value.clone()),
            None => standing.state.remove(&key),
        };
        drop(standing);
        let change = WatchStep::Change {
            key,
            values: value.into_iter().collect(),
            version: Some(version),
        };
        self.record(node, change)
    }

    fn record(&self, node: NodeId, step: WatchStep) -> io::Result<()> {
        self.parts.history.watch(WatchRecord {
            at_us: self.parts.clock.now_us(),
            watch: self.number,
            node,
            prefix: PREFIX.to_owned(),
            step,
        })
    }
}
