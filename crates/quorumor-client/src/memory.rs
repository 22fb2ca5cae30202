//! What a client last saw of keys and services: for reads that may fall back on it while no node can answer.
//!
//! Nothing is kept, or answered, unless the caller allows it ([`CallOptions::allow_last_known`]). An answer from here says so: its
//! receipt is degraded, its level local, and [`Receipt::last_known`] tells how old it can be. It never comes from before a write
//! of the same session to that key. What other clients write, and what goes with its lease, it can't know.
//!
//! [`CallOptions::allow_last_known`]: crate::CallOptions::allow_last_known

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorumor_core::{Entry, Key, KeyRange, Level, Mode, Operation, StalenessBasis};
use tokio::time::Instant;
use tonic::Code;

use crate::answer::{GetAnswer, Receipt};
use crate::client::Client;
use crate::discover::{DiscoverAnswer, DiscoverQuery};
use crate::error::ClientError;

/// How much a session remembers of what it saw. The least recently used goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastKnownLimits {
    /// Keys and queries together.
    pub entries_max: usize,
    /// About what they weigh together.
    pub bytes_max: usize,
}

impl Default for LastKnownLimits {
    /// A thousand, and 16 MiB.
    fn default() -> Self {
        Self {
            entries_max: 1_000,
            bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// What [`Receipt::degraded`] says of an answer from here.
const LAST_KNOWN: &str = "LAST_KNOWN";

impl Receipt {
    /// How old the answer can be, if no node gave it now: the client answered from what it saw last. That is from when it asked,
    /// with what the node then told of its own contact with others. `None` for an answer of a node.
    #[must_use]
    pub fn last_known(&self) -> Option<Duration> {
        let is_last_known = self.degraded.as_deref() == Some(LAST_KNOWN);
        let age = is_last_known.then_some(self.staleness.contact_age_ms)?;
        age.map(Duration::from_millis)
    }

    fn remembered(&self, asked: Option<Level>, age: Duration) -> Self {
        let mut receipt = self.clone();
        receipt.asked = asked.unwrap_or(receipt.asked);
        receipt.got = Level::Local;
        receipt.degraded = Some(LAST_KNOWN.to_owned());
        receipt.staleness.basis = match receipt.staleness.basis {
            // What was current when it was asked for lacks nothing from before.
            StalenessBasis::Exact | StalenessBasis::Proven => StalenessBasis::Proven,
            basis @ (StalenessBasis::Estimated | StalenessBasis::Unknown) => basis,
        };
        receipt.staleness.contact_age_ms = u64::try_from(age.as_millis()).ok();
        receipt.staleness.apply_lag = None;
        receipt
    }
}

impl GetAnswer {
    /// How old the answer can be, if no node gave it now; see [`Receipt::last_known`].
    #[must_use]
    pub fn last_known(&self) -> Option<Duration> {
        self.receipt.last_known()
    }
}

impl DiscoverAnswer {
    /// How old the answer can be, if no node gave it now; see [`Receipt::last_known`].
    #[must_use]
    pub fn last_known(&self) -> Option<Duration> {
        self.receipt.last_known()
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Key(String, Option<Mode>),
    Service(DiscoverQuery, Option<Mode>),
}

/// What can be remembered.
pub(crate) trait Seen: Clone {
    fn into_known(self) -> Known;
    fn of(known: &Known) -> Option<&Self>;
    fn receipt_mut(&mut self) -> &mut Receipt;
}

#[derive(Clone, Debug)]
pub(crate) enum Known {
    Get(Box<GetAnswer>),
    Discover(Box<DiscoverAnswer>),
}

impl Known {
    const fn receipt(&self) -> &Receipt {
        match self {
            Self::Get(answer) => &answer.receipt,
            Self::Discover(answer) => &answer.receipt,
        }
    }

    /// About what it weighs.
    fn bytes(&self) -> usize {
        match self {
            Self::Get(answer) => {
                size_of::<GetAnswer>() + answer.entry.as_ref().map_or(0, Entry::bytes)
            }
            Self::Discover(answer) => answer.instances.iter().map(|it| it.bytes()).sum(),
        }
    }
}

impl Seen for GetAnswer {
    fn into_known(self) -> Known {
        Known::Get(Box::new(self))
    }

    fn of(known: &Known) -> Option<&Self> {
        match known {
            Known::Get(answer) => Some(answer),
            Known::Discover(_) => None,
        }
    }

    fn receipt_mut(&mut self) -> &mut Receipt {
        &mut self.receipt
    }
}

impl Seen for DiscoverAnswer {
    fn into_known(self) -> Known {
        Known::Discover(Box::new(self))
    }

    fn of(known: &Known) -> Option<&Self> {
        match known {
            Known::Discover(answer) => Some(answer),
            Known::Get(_) => None,
        }
    }

    fn receipt_mut(&mut self) -> &mut Receipt {
        &mut self.receipt
    }
}

/// What one session remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Whether anything was ever to be kept: until then writes have nothing to make forgotten.
    used: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_subject: BTreeMap<Subject, Remembered>,
    /// By when it was used last.
    by_use: BTreeMap<u64, Subject>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    known: Known,
    asked: Instant,
    used: u64,
    bytes: usize,
}

/// What a write is about to change. What is remembered of it is forgotten when the write begins and when it ends, since a read may
/// come between.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    memory: &'a Memory,
    keys: Vec<Written>,
}

#[derive(Debug)]
enum Written {
    Key(String),
    Range(KeyRange),
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Writing<'_> {
    fn forget(&self) {
        if !self.keys.is_empty() {
            let mut kept = self.memory.kept.lock();
            self.keys.iter().for_each(|written| kept.forget(written));
        }
    }
}

impl Memory {
    pub(crate) fn writing_key(&self, key: &str) -> Writing<'_> {
        self.writing(|| vec![Written::Key(key.to_owned())])
    }

    pub(crate) fn writing_all<'o>(
        &self,
        operations: impl IntoIterator<Item = &'o Operation>,
    ) -> Writing<'_> {
        self.writing(|| operations.into_iter().filter_map(written).collect())
    }

    fn writing(&self, keys: impl FnOnce() -> Vec<Written>) -> Writing<'_> {
        let used = self.used.load(Ordering::Acquire);
        let writing = Writing {
            memory: self,
            keys: if used { keys() } else { Vec::new() },
        };
        writing.forget();
        writing
    }

    fn keep(&self, subject: Subject, known: Known, asked: Instant, limits: LastKnownLimits) {
        self.kept.lock().keep(subject, known, asked, limits);
    }

    fn find<A: Seen>(&self, subject: &Subject, max_age: Duration) -> Option<(A, Duration)> {
        let mut kept = self.kept.lock();
        let (known, age) = kept.find(subject)?;
        let answer = A::of(known)?.clone();
        (age <= max_age).then_some((answer, age))
    }
}

fn written(operation: &Operation) -> Option<Written> {
    match operation {
        Operation::Put { key, .. }
        | Operation::Delete { key }
        | Operation::CompareAndSet { key, .. } => Some(Written::Key(key.as_str().to_owned())),
        Operation::DeleteRange { range } => Some(Written::Range(range.clone())),
        Operation::Get { .. } => None,
    }
}

impl Kept {
    fn keep(&mut self, subject: Subject, known: Known, asked: Instant, limits: LastKnownLimits) {
        // Answers to reads that ran at the same time come in any order.
        if self
            .by_subject
            .get(&subject)
            .is_some_and(|before| before.asked > asked)
        {
            return;
        }
        self.remove(&subject);
        self.uses += 1;
        let bytes = known.bytes() + 2 * subject.bytes();
        let remembered = Remembered {
            known,
            asked,
            used: self.uses,
            bytes,
        };
        self.bytes += bytes;
        self.by_use.insert(self.uses, subject.clone());
        self.by_subject.insert(subject, remembered);
        while self.by_subject.len() > limits.entries_max || self.bytes > limits.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
    }

    fn find(&mut self, subject: &Subject) -> Option<(&Known, Duration)> {
        let remembered = self.by_subject.get_mut(subject)?;
        self.by_use.remove(&remembered.used);
        self.uses += 1;
        remembered.used = self.uses;
        self.by_use.insert(self.uses, subject.clone());
        let staleness = &remembered.known.receipt().staleness;
        let before = match staleness.basis {
            StalenessBasis::Exact => Duration::ZERO,
            StalenessBasis::Proven | StalenessBasis::Estimated | StalenessBasis::Unknown => {
                Duration::from_millis(staleness.contact_age_ms.unwrap_or_default())
            }
        };
        let age = remembered.asked.elapsed().saturating_add(before);
        Some((&remembered.known, age))
    }

    fn remove(&mut self, subject: &Subject) {
        if let Some(removed) = self.by_subject.remove(subject) {
            self.by_use.remove(&removed.used);
            self.bytes -= removed.bytes;
        }
    }

    fn forget(&mut self, written: &Written) {
        let concerned = |subject: &&Subject| match (subject, written) {
            (Subject::Key(seen, _), Written::Key(key)) => seen == key,
            (Subject::Key(seen, _), Written::Range(range)) => {
                Key::parse(seen).is_ok_and(|key| range.contains(&key))
            }
            (Subject::Service(..), _) => false,
        };
        let subjects: Vec<Subject> = match written {
            // In whichever mode; the range is what a search by key looks at.
            Written::Key(key) => {
                let from = Subject::Key(key.clone(), None);
                let same = self.by_subject.range(from..).map(|(subject, _)| subject);
                same.take_while(concerned).cloned().collect()
            }
            Written::Range(_) => {
                let all = self.by_subject.keys();
                all.filter(concerned).cloned().collect()
            }
        };
        for subject in subjects {
            self.remove(&subject);
        }
    }
}

impl Subject {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Key(key, _) => key.len(),
                Self::Service(query, _) => query.service.len() + query.filter.len(),
            }
    }
}

impl Client {
    /// The answer of a read of a key, or what was seen of it last where that is allowed and no node could answer.
    pub(crate) async fn or_last_seen(
        &self,
        key: &str,
        read: impl Future<Output = Result<GetAnswer, ClientError>>,
    ) -> Result<GetAnswer, ClientError> {
        let subject = || Subject::Key(key.to_owned(), self.mode_if_known());
        self.or_last_known(subject, read).await
    }

    /// As [`Self::or_last_seen`], of a discovery.
    pub(crate) async fn or_last_found(
        &self,
        query: &DiscoverQuery,
        read: impl Future<Output = Result<DiscoverAnswer, ClientError>>,
    ) -> Result<DiscoverAnswer, ClientError> {
        let subject = || Subject::Service(query.clone(), self.mode_if_known());
        self.or_last_known(subject, read).await
    }

    async fn or_last_known<A: Seen>(
        &self,
        subject: impl Fn() -> Subject,
        read: impl Future<Output = Result<A, ClientError>>,
    ) -> Result<A, ClientError> {
        let Some(max_age) = self.options.allow_last_known else {
            return read.await;
        };
        let memory = &self.session.memory;
        memory.used.store(true, Ordering::Release);
        let asked = Instant::now();
        match read.await {
            Ok(answer) => {
                let known = answer.clone().into_known();
                memory.keep(subject(), known, asked, self.shared.last_known);
                Ok(answer)
            }
            Err(error) if nobody_could(&error) => {
                let Some((mut answer, age)) = memory.find::<A>(&subject(), max_age) else {
                    return Err(error);
                };
                tracing::debug!(%error, ?age, "answered from what was seen last");
                let receipt = answer.receipt_mut();
                *receipt = receipt.remembered(self.options.level, age);
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether no node could answer, as opposed to one that refuses.
fn nobody_could(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::ContactLost { .. }
        | ClientError::DeadlineExceeded { .. } => true,
        ClientError::Node(node) => matches!(
            node.code,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted
        ),
        ClientError::BadAnswer { .. } | ClientError::Invalid(_) => false,
    }
}

#[cfg(test)]
mod tests;
