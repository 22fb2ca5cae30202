//! The record of one run: each request with all its tries, what watchers were given, what the nodes showed.
//!
//! Not a judge, and not the simulator's own state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorumor_core::{
    Bound, Certainty, ChangeEvent, ClientId, ClientSeq, ClusterAction, Entry, Key, KeyRange,
    LeaseAction, LeaseId, Level, Operation, OperationResult, Revision, SessionAction, Txn,
};

/// Everything about one run.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The requests, in order of their first try.
    pub ops: Vec<Op>,
    /// Each revision as the first node showed it that applied it.
    pub revisions: BTreeMap<u64, Shown>,
    /// Where a node showed a revision differently from the first one, in words.
    pub disagreements: Vec<String>,
    /// The watches.
    pub watches: Vec<Watched>,
    /// Who led each term, by its own word.
    pub leaders: BTreeMap<u64, BTreeSet<u64>>,
    /// Nodes that were removed, and when the removal was acknowledged.
    pub removed: BTreeMap<u64, u64>,
    /// What each member holds at the end.
    pub finals: Vec<Final>,
    /// When the load had ended for so long that no lease may be left.
    pub leases_over_us: Option<u64>,
}

/// A revision as a node showed it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// When.
    pub at_us: u64,
    /// Which node.
    pub node: u64,
    /// What changed, in order.
    pub events: Arc<[ChangeEvent]>,
}

/// A request, with all its tries.
#[derive(Clone, Debug)]
pub struct Op {
    /// Its place in the record.
    pub id: usize,
    /// Who asks.
    pub actor: String,
    /// For what.
    pub ask: Ask,
    /// The client's own number for it, the same in every try.
    pub client: Option<ClientSeq>,
    /// The revision that the caller has seen.
    pub after: Option<Revision>,
    /// When it began.
    pub invoked_us: u64,
    /// Its tries, in the order of sending.
    pub attempts: Vec<Attempt>,
}

/// One try.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The node asked.
    pub node: u64,
    /// When it was sent.
    pub sent_us: u64,
    /// How it ended; `None` if it hasn't.
    pub ended: Option<Ended>,
}

/// How a try ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// When.
    pub at_us: u64,
    /// With what.
    pub result: Result<Answer, Failure>,
}

/// A try without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether it may have happened.
    pub certainty: Certainty,
    /// The stable reason.
    pub reason: &'static str,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Operations in order.
    Write(Vec<Operation>),
    /// A transaction.
    Txn(Txn),
    /// Something of a lease.
    Lease(LeaseAction),
    /// Something of a session.
    Session(SessionAction),
    /// A change of the cluster.
    Cluster(ClusterAction),
    /// A read.
    Read(Query),
    /// The whole state.
    Backup,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// How fresh.
    pub level: Level,
    /// What a bounded read demands.
    pub bound: Bound,
    /// At which past revision; `None` for the newest.
    pub at: Option<Revision>,
    /// Of what.
    pub of: Subject,
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One key.
    Key(Key),
    /// A page of a range.
    Range {
        /// The range.
        range: KeyRange,
        /// The last key of the page before.
        after: Option<Key>,
        /// Entries at most.
        limit: usize,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a write, or of a lease's end.
    Written {
        /// One a operation.
        results: Vec<OperationResult>,
        /// A state that includes it.
        position: u64,
    },
    /// Of a transaction.
    Txn {
        /// Whether the compares held.
        succeeded: bool,
        /// One an operation.
        results: Vec<OperationResult>,
        /// A state that includes it.
        position: u64,
    },
    /// A lease is granted.
    Granted {
        /// Its id.
        id: LeaseId,
        /// For how long.
        ttl_ms: u64,
    },
    /// A lease is kept.
    Kept {
        /// For how long.
        ttl_ms: u64,
    },
    /// A session is open.
    Opened {
        /// Its id.
        client_id: ClientId,
    },
    /// The cluster is changed.
    Changed,
    /// Of a read.
    Entries {
        /// The revision of the view that answered.
        view: u64,
        /// What was found, in key order.
        entries: Vec<Entry>,
    },
    /// Of a backup, restored.
    Backup {
        /// What it covers.
        position: u64,
        /// What it holds.
        entries: Vec<Entry>,
    },
}

impl Answer {
    /// The revision up to which the answer shows the state, if it shows one.
    pub fn position(&self) -> Option<u64> {
        match self {
            Self::Written { position, .. }
            | Self::Txn { position, .. }
            | Self::Backup { position, .. } => Some(*position),
            Self::Entries { view, .. } => Some(*view),
            Self::Granted { .. } | Self::Kept { .. } | Self::Opened { .. } | Self::Changed => None,
        }
    }
}

/// How a request ended, all its tries taken together.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// A try was answered: the first answer, and when it came.
    Answered(&'a Answer, u64),
    /// No try was answered, and none can have been applied.
    Failed(&'static str),
    /// Nobody knows.
    Unknown,
}

impl Op {
    /// How it ended.
    pub fn finish(&self) -> Finish<'_> {
        if let Some((answer, at_us)) = self.answers().min_by_key(|(_, at_us)| *at_us) {
            return Finish::Answered(answer, at_us);
        }
        let mut reason = "never sent";
        for attempt in &self.attempts {
            match &attempt.ended {
                Some(Ended {
                    result: Err(failure),
                    ..
                }) if failure.certainty == Certainty::NotApplied => reason = failure.reason,
                Some(_) | None => return Finish::Unknown,
            }
        }
        Finish::Failed(reason)
    }

    /// Every answer with its time.
    pub fn answers(&self) -> impl Iterator<Item = (&Answer, u64)> {
        self.attempts.iter().filter_map(|attempt| {
            let ended = attempt.ended.as_ref()?;
            Some((ended.result.as_ref().ok()?, ended.at_us))
        })
    }

    /// One line for a person.
    pub fn describe(&self) -> String {
        let tries: Vec<String> = self.attempts.iter().map(Attempt::describe).collect();
        format!(
            "request {} of {}: {} [{}]",
            self.id,
            self.actor,
            short(&format!("{:?}", self.ask)),
            tries.join("; ")
        )
    }
}

impl Attempt {
    fn describe(&self) -> String {
        let sent = self.sent_us as f64 / 1e6;
        match &self.ended {
            None => format!("node {} {sent:.3} s ..", self.node),
            Some(ended) => {
                let at = ended.at_us as f64 / 1e6;
                let what = match &ended.result {
                    Ok(answer) => short(&format!("{answer:?}")),
                    Err(failure) => format!("{} {}", failure.certainty.as_str(), failure.reason),
                };
                format!("node {} {sent:.3}..{at:.3} s: {what}", self.node)
            }
        }
    }
}

fn short(text: &str) -> String {
    const LONGEST: usize = 700;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A watch, over all the nodes that it went to.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What it watches.
    pub range: KeyRange,
    /// The revision that it began behind.
    pub from: u64,
    /// What it was given, in order.
    pub deliveries: Vec<Delivery>,
    /// Everything up to here was offered to it.
    pub reached: u64,
    /// Nodes that it has been at.
    pub moves: u64,
}

/// What a watcher was given.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The events of a revision that lie in its range.
    Events {
        /// The revision.
        revision: u64,
        /// The events, in order.
        events: Vec<ChangeEvent>,
    },
    /// It was told that changes are missing, and to read the state at this revision.
    Resync {
        /// The revision.
        revision: u64,
    },
}

/// What a member holds at the end.
#[derive(Clone, Debug)]
pub struct Final {
    /// The member.
    pub node: u64,
    /// Its revision.
    pub revision: u64,
    /// Its entries, in key order.
    pub entries: Vec<Entry>,
    /// The leases that live.
    pub leases: Vec<LeaseId>,
}
